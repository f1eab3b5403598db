"""Commands that find kin: index, reference, search, verify, demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.options import (
    Force,
    Ids,
    KeepSequences,
    MetadataTable,
    MinLength,
    NoCalibration,
    Pieces,
    Prefix,
    SampleFromFile,
    Seed,
    TaxdumpFolder,
    Threads,
    Where,
    note,
    stem,
    whole_numbers,
)
from kinmer.cli.output import say, screen

__all__ = ["register"]


Metric = Literal["cosine", "l2"]
Engine = Literal["hnsw", "chroma", "exact"]
Format = Literal["tsv", "json", "jsonl", "blast", "calls", "krona", "lineage"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("index")(index)
    app.command("reference")(reference)
    app.command("search")(search)
    app.command("verify")(verify)
    app.command("demo")(demo)


def index(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            help="FASTA files, or an embedded profile store, or a k-mer table with --encoder.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Index to write (*.db).")] = None,
    encoder: Annotated[
        Path | None,
        typer.Option(
            "--encoder", "-e", help="Folder or name (default: the one that embedded, or kinmer's own)."
        ),
    ] = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    pieces: Pieces = None,
    keep_sequences: KeepSequences = False,
    min_length: MinLength = 1000,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    calibrate: NoCalibration = True,
    engine: Annotated[Engine | None, typer.Option(help="Vector engine (default: hnsw).")] = None,
    metric: Annotated[Metric | None, typer.Option(help="Distance (default: cosine).")] = None,
    rebuild: Annotated[
        Path | None,
        typer.Option("--rebuild", help="Rebuild this index's engine from its embeddings, as is given."),
    ] = None,
    ids: Ids = None,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Build an index, or rebuild one's engine; killed and called again, it goes on."""
    from kinmer.errors import UsageError
    from kinmer.library import KinIndex, build_index

    if (rebuild is None) == (not sources) or (sources and output is None):
        raise UsageError("give a store or FASTA files and --output, or --rebuild INDEX")
    if rebuild is not None:
        with KinIndex.open(rebuild, log=note, threads=threads) as kin:
            kin.rebuild(engine=engine, metric=metric)
            note(f"{rebuild}: {len(kin):,} entries, {kin.engine}, {kin.metric}")
        return
    assert sources
    assert output is not None
    with build_index(
        sources[0] if len(sources) == 1 else sources,
        output,
        encoder=encoder,
        engine=engine or "hnsw",
        metric=metric or "cosine",
        metadata=metadata,
        taxdump=taxdump,
        ids=ids,
        pieces=_pieces(pieces),
        keep_sequences=keep_sequences,
        min_length=min_length,
        prefix=prefix,
        sample_from_file=sample_from_file,
        calibrate=calibrate,
        threads=threads,
        force=force,
        log=note,
    ) as kin:
        note(f"{output}: {len(kin):,} entries, {kin.engine}, {kin.metric}")


def _pieces(text: str | None) -> tuple[int, ...]:
    from kinmer.index.pieces import PIECE_LENGTHS

    return PIECE_LENGTHS if text is None else whole_numbers(text, "--pieces")


def reference(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of genome files, or a manifest (TSV: path or url, …).", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Index to write, or to add to (*.db).", show_default=False)
    ],
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    encoder: Annotated[
        Path | None, typer.Option("--encoder", "-e", help="Folder or name (default: kinmer's own).")
    ] = None,
    download: Annotated[
        Path | None, typer.Option("--download", help="Folder for downloads (default: beside the output).")
    ] = None,
    pieces: Pieces = None,
    keep_sequences: KeepSequences = True,
    min_length: MinLength = 1000,
    calibrate: NoCalibration = True,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Build an index of genome files, every file a genome; called again, it adds what is new."""
    from kinmer.library import build_reference

    with build_reference(
        source,
        output,
        metadata=metadata,
        taxdump=taxdump,
        encoder=encoder,
        download=download,
        pieces=_pieces(pieces),
        keep_sequences=keep_sequences,
        min_length=min_length,
        calibrate=calibrate,
        threads=threads,
        force=force,
        log=note,
    ) as kin:
        note(f"{output}: {len(kin):,} entries of {kin.table.state['genomes']:,} genomes")


def search(
    db: Annotated[Path, typer.Option("--db", help="Index to search.", show_default=False)],
    queries: Annotated[
        Path | None,
        typer.Argument(help="FASTA, plain or compressed (- is stdin), or profiles.", show_default=False),
    ] = None,
    entries: Annotated[
        list[str] | None, typer.Option("--id", help="Search with an entry of the index: id, or genome:id.")
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of every query.")] = 10,
    metric: Annotated[Metric | None, typer.Option(help="Distance (default: the index's).")] = None,
    merge: Annotated[Literal["sequence", "genome"], typer.Option("--by", help="What a hit is.")] = "sequence",
    where: Where = None,
    facets: Annotated[
        list[str] | None,
        typer.Option(
            "--facet", help="The nearest chromosomes, plasmids or viruses too, as a list of their own."
        ),
    ] = None,
    max_distance: Annotated[
        float | None, typer.Option(min=0, help="Leave out hits that are farther.")
    ] = None,
    min_probability: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Name no rank less probable (default: the index's own choice)."),
    ] = None,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="Align with the best hits: identity and aligned fraction.")
    ] = False,
    rank_by_evidence: Annotated[
        bool, typer.Option("--rank-by-evidence", help="Put hits that align first (with --evidence).")
    ] = False,
    form: Annotated[Format, typer.Option("--format", help="Of the results.")] = "tsv",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: stdout).")
    ] = None,
    min_length: Annotated[int, typer.Option(min=0, help="Leave out shorter queries.")] = 0,
    exclude_self: Annotated[
        bool, typer.Option("--exclude-self", help="No hit of the query's own id.")
    ] = False,
    ids: Ids = None,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Find the nearest relatives of every query, and what they say of it."""
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
        "merge": merge,
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
            raise UsageError("evidence needs the queries' letters", check="give them as FASTA")
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


def verify(
    source: Annotated[Path, typer.Argument(help="Embedded profile store, or k-mer table with --encoder.")],
    encoder: Annotated[
        Path | None,
        typer.Option("--encoder", "-e", help="Its transform, and its validation rows as queries."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stem of .json, .tsv and pictures to write.")
    ] = None,
    sample: Annotated[int, typer.Option(min=2, help="Sequences among which neighbours are sought.")] = 10_000,
    queries: Annotated[int, typer.Option(min=1, help="Queries.")] = 1000,
    neighbours: Annotated[int, typer.Option("-k", min=1, help="Neighbours of every query.")] = 50,
    bootstrap: Annotated[int, typer.Option(min=2, help="Resamples of the queries for the intervals.")] = 1000,
    reference: Annotated[
        bool, typer.Option("--reference-clr", help="Joint CLR with 1e-6, whatever the encoder.")
    ] = False,
    ids: Ids = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Does latent distance mean k-mer distance? Correlations, MSE by rank, random pairs."""
    from kinmer.clr import REFERENCE_CLR
    from kinmer.evaluate.locality import LocalityReport
    from kinmer.evaluate.locality import verify as hold
    from kinmer.folders import check_output

    if output is not None:
        stem(output)
        for path in LocalityReport.outputs(output):
            check_output(path, force=force)
    report = hold(
        source,
        encoder=encoder,
        clr=REFERENCE_CLR if reference else None,
        ids=ids,
        sample=sample,
        queries=queries,
        neighbours=neighbours,
        bootstrap=bootstrap,
        seed=seed,
    )
    say(report.table())
    if output is not None:
        for path in report.write(output):
            note(f"written: {path}")


def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of the outputs (default: demo-output, or demo-original).", show_default=False
        ),
    ] = None,
    original: Annotated[
        bool,
        typer.Option("--original", help="Train the network of the original pipeline instead (needs torch)."),
    ] = False,
    threads: Threads = None,
    seed: Seed = 0,
) -> None:
    """Name the contigs of a simulated community: reference, verdicts, map and report, in a few minutes."""
    if original:
        from kinmer.demo.original import run_original_demo as run
    else:
        from kinmer.demo import run_demo as run  # type: ignore[assignment]
    folder = folder or Path("demo-original" if original else "demo-output")
    say(run(folder, seed=seed, threads=threads, log=note).table())
