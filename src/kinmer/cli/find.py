"""The command search."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kinmer.cli.options import Ids, Metric, Threads, advanced, argument, command, note, option
from kinmer.cli.output import screen
from kinmer.progress import show_progress

Format = Literal["tsv", "json", "jsonl", "blast", "calls", "krona", "lineage"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    command(app, "search", "kinmer search contigs.fna --db my.db --format calls -o calls.tsv", "Find")(search)


Db = Annotated[
    list[Path] | None,
    option("Index; several are searched as one (default: kin-ref-1, kinmer's own).", "--db", metavar="INDEX"),
]
Queries = Annotated[Path | None, argument("FASTA, plain or compressed (- is stdin), or profiles.")]
Form = Annotated[Format, option("calls, tsv, json … (default: tsv)", "--format", metavar="NAME")]
Output = Annotated[Path | None, option("File to write (default: stdout).", "--output", "-o", metavar="FILE")]
Nearest = Annotated[int, option("Hits per query (default: 10).", "-k", min=1, metavar="N")]
By = Annotated[Literal["sequence", "genome"], option("Hits: sequence, or genome.", "--by", metavar="WHAT")]
MinProbability = Annotated[
    float | None, option("Least probability of a name.", "--min-probability", min=0, max=1, metavar="P")
]
Fdr = Annotated[
    float | None,
    option("Share of the names given that may be wrong, such as 0.05.", "--fdr", metavar="RATE"),
]
PriorShares = Annotated[
    str,
    advanced(
        "How many queries are known: sample (as they say), usual, or shares of known species, new species"
        " and farther; or how many are of a molecule, such as plasmid=0.1.",
        "--prior",
        show_default=True,
        metavar="WHAT",
    ),
]
Evidence = Annotated[bool, option("Also align with the best hits.", "--evidence")]
Where = Annotated[str | None, option("Only hits that meet a condition.", "--where", metavar="TEXT")]
Force = Annotated[bool, advanced("Replace an output that exists.", "--force")]
Entries = Annotated[
    list[str] | None, advanced("Search with an entry of the index: id, or genome:id.", "--id")
]
SearchMetric = Annotated[Metric | None, advanced("Distance (default: the index's).", "--metric")]
Facets = Annotated[
    list[str] | None,
    advanced("Also list the nearest of this molecule: chromosome, plasmid, virus …", "--facet"),
]
MaxDistance = Annotated[
    float | None, advanced("Do not show hits that are farther away.", "--max-distance", min=0)
]
RankByEvidence = Annotated[
    bool, advanced("Show hits that align first (aligns with the 50 nearest).", "--rank-by-evidence")
]
Windows = Annotated[
    int | None,
    option(
        "Also say where long queries differ, as by a prophage: window, such as 10000.",
        "--windows",
        metavar="BASES",
    ),
]
MinLength = Annotated[int, advanced("Leave out queries of fewer bases.", "--min-length", min=0)]
ExcludeSelf = Annotated[bool, advanced("Do not show the query's own id.", "--exclude-self")]


def search(
    queries: Queries = None,
    db: Db = None,
    form: Form = "tsv",
    output: Output = None,
    k: Nearest = 10,
    by: By = "sequence",
    min_probability: MinProbability = None,
    evidence: Evidence = False,
    where: Where = None,
    threads: Threads = None,
    force: Force = False,
    entries: Entries = None,
    fdr: Fdr = None,
    prior: PriorShares = "sample",
    metric: SearchMetric = None,
    facets: Facets = None,
    max_distance: MaxDistance = None,
    rank_by_evidence: RankByEvidence = False,
    min_length: MinLength = 0,
    exclude_self: ExcludeSelf = False,
    ids: Ids = None,
    windows: Windows = None,
) -> None:
    """Find the nearest relatives of each query, with verdict and probabilities."""
    from kinmer.box.reference import REFERENCE
    from kinmer.errors import UsageError
    from kinmer.folders import check_output
    from kinmer.queries import search as find
    from kinmer.queries import search_ids

    if (queries is None) == (not entries):
        raise UsageError("give a file of queries or --id, one of the two")
    if output is not None:
        check_output(output, force=force, stream=True)
    aligned = evidence or rank_by_evidence
    wanted: Any = {
        "k": k,
        "metric": metric,
        "by": by,
        "where": where,
        "facets": facets or (),
        "max_distance": max_distance,
        "min_probability": min_probability,
        "prior": _prior(prior),
        "fdr": fdr,
        "windows": windows,
        "n_jobs": threads,
        "log": note,
    }
    _check(form, entries=bool(entries), aligned=aligned, windows=windows is not None)
    if entries:
        results = search_ids(db or REFERENCE, entries, **wanted)
    else:
        assert queries is not None
        wanted |= {"evidence": aligned, "rank_by_evidence": rank_by_evidence, "ids": ids}
        results = find(queries, db or REFERENCE, exclude_self=exclude_self, min_length=min_length, **wanted)
    _no_bar_between_rows(output)
    results.write(screen if output is None else output, form, force=force)
    screen.flush()


def _no_bar_between_rows(output: Path | None) -> None:
    if output is None and screen.isatty():
        show_progress(False)


def _check(form: Format, *, entries: bool, aligned: bool, windows: bool) -> None:
    """Tell what a format does not show, and what entries cannot have."""
    from kinmer.errors import UsageError

    if form == "blast" and not aligned:
        note("without --evidence nothing is aligned: identities and aligned lengths are 0")
    if windows and form not in ("calls", "json", "jsonl"):
        raise UsageError(f"the format {form} does not show windows", check="use calls, json or jsonl")
    if entries and aligned:
        raise UsageError("alignment needs the sequences of the queries", check="give them as FASTA")


def _prior(text: str) -> Any:
    """What --prior says: a word, three shares, or shares of molecules."""
    from kinmer.errors import UsageError

    if text in ("sample", "usual"):
        return text
    parts = [part.partition("=") for part in text.split(",")]
    try:
        if all(sign for _, sign, _ in parts):
            return {name.strip(): float(share) for name, _, share in parts}
        return tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(
            f"the prior is sample, usual, three shares or shares of molecules, not {text!r}",
            check="such as 0.5,0.25,0.25 or plasmid=0.1",
        ) from None
