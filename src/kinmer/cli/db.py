"""Commands of an index: reference, index, and db add … calibrate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinmer.cli.options import (
    Engine,
    Force,
    Group,
    Ids,
    KeepSequences,
    MetadataTable,
    Metric,
    MinLength,
    NoCalibration,
    Pieces,
    Prefix,
    SampleFromFile,
    TaxdumpFolder,
    Threads,
    Where,
    advanced,
    argument,
    command,
    note,
    option,
    whole_numbers,
)
from kinmer.cli.output import say, screen

db = typer.Typer(
    name="db", cls=Group, help="Add to an index, change it, look into it, check it.", no_args_is_help=True
)

Index = Annotated[Path, argument("Index (*.db).")]
Wait = Annotated[float, advanced("Seconds to wait for another writer.", "--wait", min=0, show_default=True)]
Genome = Annotated[str | None, option("All sequences of the FASTA files are of this genome.", "--genome")]
Sources = Annotated[list[Path] | None, argument("FASTA files, or a profile store or table.")]
AnEncoder = Annotated[
    Path | None, option("Folder or name of an encoder (default: kinmer's own).", "--encoder", "-e")
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    command(app, "reference", "kinmer reference genomes/ -o my.db --metadata taxonomy.tsv", "Database")(
        reference
    )
    command(app, "index", "kinmer index contigs.fna -o contigs.db --metadata labels.tsv", "Database")(index)
    app.add_typer(db, rich_help_panel="Database")


def reference(
    source: Annotated[Path, argument("Folder of genome files, or a manifest (TSV with path or url).")],
    output: Annotated[Path, option("Index to write, or to add to (*.db).", "--output", "-o")],
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    encoder: AnEncoder = None,
    download: Annotated[
        Path | None, option("Folder for downloads (default: beside the output).", "--download")
    ] = None,
    pieces: Pieces = None,
    keep_sequences: KeepSequences = True,
    compact: Annotated[
        bool, option("A small index: vectors of 8 bits a number, no sequences.", "--compact")
    ] = False,
    min_length: MinLength = 1000,
    calibrate: NoCalibration = True,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Build an index of genomes, each file one genome. Run again, it adds new files."""
    from kinmer.library import build_reference

    with build_reference(
        source,
        output,
        metadata=metadata,
        taxdump=taxdump,
        encoder=encoder,
        download=download,
        pieces=_pieces(pieces, compact=compact),
        keep_sequences=keep_sequences,
        compact=compact,
        min_length=min_length,
        calibrate=calibrate,
        threads=threads,
        force=force,
        log=note,
    ) as kin:
        note(f"{output}: {len(kin):,} entries of {kin.table.state['genomes']:,} genomes")


def index(
    sources: Annotated[list[Path] | None, argument("FASTA files, a profile store, or a k-mer table.")] = None,
    output: Annotated[Path | None, option("Index to write (*.db).", "--output", "-o")] = None,
    encoder: AnEncoder = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    pieces: Pieces = None,
    keep_sequences: KeepSequences = False,
    min_length: MinLength = 1000,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    calibrate: NoCalibration = True,
    engine: Annotated[Engine | None, option("Vector engine (default: hnsw).", "--engine")] = None,
    metric: Annotated[Metric | None, option("Distance (default: cosine).", "--metric")] = None,
    rebuild: Annotated[
        Path | None, advanced("Build the engine of this index again from its vectors.", "--rebuild")
    ] = None,
    ids: Ids = None,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Build an index of sequences: contigs, plasmids, or a store with embeddings. Resumes if run again."""
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


def _pieces(text: str | None, *, compact: bool = False) -> tuple[int, ...]:
    from kinmer.index.pieces import COMPACT_PIECES, PIECE_LENGTHS

    if text is None:
        return COMPACT_PIECES if compact else PIECE_LENGTHS
    return whole_numbers(text, "--pieces")


@db.callback()
def options() -> None:
    """Add to an index, change it, look into it, check it."""


@command(db, "add", "kinmer db add my.db new.fna --genome GCF_1")
def add(
    index: Index,
    sources: Sources = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    ids: Ids = None,
    min_length: MinLength = 1000,
    genome: Genome = None,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    calibrate: NoCalibration = True,
    wait: Wait = 0.2,
    threads: Threads = None,
) -> None:
    """Add new sequences. Resumes if run again."""
    from kinmer.errors import UsageError
    from kinmer.library import add_to_index

    if not sources:
        raise UsageError("there is nothing to add", check="give FASTA files or a profile store")
    added = add_to_index(
        index,
        _source(sources),
        metadata=metadata,
        taxdump=taxdump,
        ids=ids,
        min_length=min_length,
        genome=genome,
        prefix=prefix,
        sample_from_file=sample_from_file,
        calibrate=calibrate,
        wait=wait,
        threads=threads,
        log=note,
    )
    note(f"{index}: {added:,} entries added")


@command(db, "update", "kinmer db update my.db --metadata better.tsv")
def update(
    index: Index,
    sources: Sources = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    ids: Ids = None,
    min_length: MinLength = 1000,
    genome: Genome = None,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    by_id: Annotated[bool, option("Replace entries with the same ids, from any file.", "--by-id")] = False,
    calibrate: NoCalibration = True,
    wait: Wait = 0.2,
    threads: Threads = None,
) -> None:
    """Replace what came from the same file. Without sequences: take new metadata, such as a taxonomy."""
    from kinmer.library import update_index

    changed = update_index(
        index,
        _source(sources) if sources else None,
        metadata=metadata,
        taxdump=taxdump,
        ids=ids,
        min_length=min_length,
        genome=genome,
        prefix=prefix,
        sample_from_file=sample_from_file,
        by_id=by_id,
        calibrate=calibrate,
        wait=wait,
        threads=threads,
        log=note,
    )
    note(f"{index}: {changed:,} entries updated")


@command(db, "delete", "kinmer db delete my.db --where 'species == \"Vibrio cholerae\"'")
def delete(
    index: Index,
    ids: Annotated[list[str] | None, argument("Ids, or genome:id.")] = None,
    genomes: Annotated[
        list[str] | None,
        option("All sequences of this genome, or only the given ids of it.", "--genome"),
    ] = None,
    where: Where = None,
    listed: Annotated[Path | None, option("File of ids, one a line.", "--ids-from")] = None,
    wait: Wait = 0.2,
) -> None:
    """Delete entries by id, genome or condition, all at once."""
    from kinmer.library import delete_from_index

    names = [*(ids or ()), *(_listed(listed) if listed is not None else ())]
    gone = delete_from_index(
        index,
        ids=names,
        genomes=genomes or (),
        where=where,
        wait=wait,
        log=note,
    )
    note(f"{index}: {gone:,} entries deleted")


@command(db, "list", "kinmer db list my.db -o entries.tsv")
def list_entries(
    index: Index,
    where: Where = None,
    output: Annotated[Path | None, option("File to write (default: stdout).", "--output", "-o")] = None,
    force: Annotated[bool, option("Replace an output that exists.", "--force")] = False,
) -> None:
    """List entries: id, genome, length, GC, number of vectors, metadata."""
    from kinmer.files import replaced_text
    from kinmer.folders import check_output
    from kinmer.library import index_rows
    from kinmer.queries import write_rows

    if output is not None:
        check_output(output, force=force, stream=True)
    rows = index_rows(index, where)
    if output is None:
        write_rows(rows, screen)
        screen.flush()
        return
    with replaced_text(output) as file:
        write_rows(rows, file)


@command(db, "info", "kinmer db info my.db")
def info(
    index: Index,
    as_json: Annotated[bool, option("As JSON.", "--json")] = False,
) -> None:
    """Say what an index holds, and what needs attention."""
    import json

    from kinmer.library import describe_index

    facts = describe_index(index)
    say(json.dumps(facts.to_dict(), indent=2) if as_json else facts.text())


@command(db, "check", "kinmer db check my.db")
def check(index: Index) -> None:
    """Read everything and compare it with its checksums. Exit 1 if something is damaged."""
    from kinmer.library import check_index

    report = check_index(index)
    say(report.text())
    if not report.whole:
        raise typer.Exit(1)


@command(db, "compact", "kinmer db compact my.db")
def compact(index: Index, wait: Wait = 0.2, threads: Threads = None) -> None:
    """Write the files again without deleted entries, and give back their space."""
    from kinmer.library import compact_index, describe_index

    before = describe_index(index)
    compact_index(index, wait=wait, threads=threads, log=note)
    after = describe_index(index)
    note(f"{index}: {before.bytes_on_disk / 1e6:,.1f} MB before, {after.bytes_on_disk / 1e6:,.1f} MB now")


@command(db, "merge", "kinmer db merge a.db b.db -o both.db")
def merge(
    indexes: Annotated[list[Path], argument("Indexes (*.db) of one encoder, two or more.")],
    output: Annotated[Path, option("Index to write (*.db).", "--output", "-o")],
    calibrate: NoCalibration = True,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Make a new index of all entries of several. Nothing is embedded again. Resumes if run again."""
    from kinmer.merge import merge_indexes

    with merge_indexes(
        indexes, output, calibrate=calibrate, threads=threads, force=force, log=note
    ) as merged:
        note(f"{output}: {len(merged):,} entries of {len(indexes)} indexes")


@command(db, "calibrate", "kinmer db calibrate my.db")
def calibrate(index: Index, wait: Wait = 0.2, threads: Threads = None) -> None:
    """Learn again from the references how far answers can be trusted."""
    from kinmer.library import calibrate_index, describe_index

    calibrate_index(index, wait=wait, threads=threads, log=note)
    note(f"{index}: {describe_index(index).calibrated}")


def _source(sources: list[Path]) -> Path | list[Path]:
    """One source of any kind, or several FASTA files."""
    return sources[0] if len(sources) == 1 else sources


def _listed(path: Path) -> list[str]:
    from kinmer.errors import InputError
    from kinmer.inputs import read_lines

    try:
        return [text for _, line in read_lines(path, longest=1 << 16) if (text := line.decode().strip())]
    except UnicodeDecodeError as error:
        raise InputError("the ids are no UTF-8 text", str(error), place=path) from error
