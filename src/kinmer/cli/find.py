"""The command search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.options import Ids, Metric, Threads, advanced, argument, command, note, option
from kinmer.cli.output import screen

__all__ = ["register"]

Format = Literal["tsv", "json", "jsonl", "blast", "calls", "krona", "lineage"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    command(app, "search", "kinmer search contigs.fna --db my.db --format calls -o calls.tsv", "Find")(search)


def search(
    db: Annotated[Path, option("Index to search.", "--db", metavar="INDEX")],
    queries: Annotated[Path | None, argument("FASTA, plain or compressed (- is stdin), or profiles.")] = None,
    form: Annotated[Format, option("calls, tsv, json … (default: tsv)", "--format", metavar="NAME")] = "tsv",
    output: Annotated[
        Path | None, option("File to write (default: stdout).", "--output", "-o", metavar="FILE")
    ] = None,
    k: Annotated[int, option("Hits per query (default: 10).", "-k", min=1, metavar="N")] = 10,
    by: Annotated[
        Literal["sequence", "genome"], option("Hits: sequence, or genome.", "--by", metavar="WHAT")
    ] = "sequence",
    min_probability: Annotated[
        float | None, option("Least probability of a name.", "--min-probability", min=0, max=1, metavar="P")
    ] = None,
    evidence: Annotated[bool, option("Also align with the best hits.", "--evidence")] = False,
    where: Annotated[
        str | None, option("Only hits that meet a condition.", "--where", metavar="TEXT")
    ] = None,
    threads: Threads = None,
    force: Annotated[bool, advanced("Replace an output that exists.", "--force")] = False,
    entries: Annotated[
        list[str] | None, advanced("Search with an entry of the index: id, or genome:id.", "--id")
    ] = None,
    metric: Annotated[Metric | None, advanced("Distance (default: the index's).", "--metric")] = None,
    facets: Annotated[
        list[str] | None,
        advanced("Also list the nearest of this molecule: chromosome, plasmid, virus.", "--facet"),
    ] = None,
    max_distance: Annotated[
        float | None, advanced("Do not show hits that are farther away.", "--max-distance", min=0)
    ] = None,
    rank_by_evidence: Annotated[
        bool, advanced("Show hits that align first (aligns with the 50 nearest).", "--rank-by-evidence")
    ] = False,
    min_length: Annotated[int, advanced("Leave out queries of fewer bases.", "--min-length", min=0)] = 0,
    exclude_self: Annotated[bool, advanced("Do not show the query's own id.", "--exclude-self")] = False,
    ids: Ids = None,
) -> None:
    """Find the nearest relatives of each query, with verdict and probabilities."""
    from kinmer.errors import UsageError
    from kinmer.files import replaced_text
    from kinmer.folders import check_output
    from kinmer.queries import search as find
    from kinmer.queries import search_ids, writer_of

    if (queries is None) == (not entries):
        raise UsageError("give a file of queries or --id, one of the two")
    if output is not None:
        check_output(output, force=force, stream=True)
    wanted = {
        "k": k,
        "metric": metric,
        "merge": by,
        "where": where,
        "facets": facets or (),
        "max_distance": max_distance,
        "min_probability": min_probability,
        "threads": threads,
        "log": note,
    }
    aligned = evidence or rank_by_evidence
    write = writer_of(form, evidence=aligned, facets=bool(facets))
    if form == "blast" and not aligned:
        note("without --evidence nothing is aligned: identities and aligned lengths are 0")
    if entries:
        if aligned:
            raise UsageError("alignment needs the sequences of the queries", check="give them as FASTA")
        results = search_ids(db, entries, **wanted)  # type: ignore[arg-type]
    else:
        assert queries is not None
        results = find(
            queries,
            db,
            evidence=aligned,
            rank_by_evidence=rank_by_evidence,
            exclude_self=exclude_self,
            min_length=min_length,
            ids=ids,
            **wanted,  # type: ignore[arg-type]
        )
    if output is None:
        write(results, screen)
        screen.flush()
        return
    with replaced_text(output) as file:
        write(results, file)
