"""Commands of an index that lives: db add, update, delete, list, info, check, compact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinmer.cli.options import (
    Ids,
    MetadataTable,
    MinLength,
    NoCalibration,
    Prefix,
    SampleFromFile,
    TaxdumpFolder,
    Threads,
    Where,
    note,
)
from kinmer.cli.output import say, screen

__all__ = ["register"]

db = typer.Typer(name="db", help="Change an index, look into it, prove it whole.", no_args_is_help=True)

Index = Annotated[Path, typer.Argument(help="Index (*.db).", show_default=False)]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for another writer.")]
OfGenome = Annotated[
    str | None, typer.Option("--genome", help="All sequences of the FASTA files are of this genome.")
]
Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="FASTA files, or a profile store or table.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.add_typer(db)


@db.callback()
def options() -> None:
    """Change an index, look into it, prove it whole."""


@db.command("add")
def add(
    index: Index,
    sources: Sources = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    ids: Ids = None,
    min_length: MinLength = 1000,
    genome: OfGenome = None,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    calibrate: NoCalibration = True,
    wait: Wait = 0.2,
    threads: Threads = None,
) -> None:
    """Add sequences; killed and called again, it goes on."""
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


@db.command("update")
def update(
    index: Index,
    sources: Sources = None,
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    ids: Ids = None,
    min_length: MinLength = 1000,
    genome: OfGenome = None,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    by_id: Annotated[
        bool, typer.Option("--by-id", help="Replace entries of the same ids, whatever file they came from.")
    ] = False,
    calibrate: NoCalibration = True,
    wait: Wait = 0.2,
    threads: Threads = None,
) -> None:
    """Replace what came from the same file; without sequences only metadata, such as the taxonomy."""
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


@db.command("delete")
def delete(
    index: Index,
    ids: Annotated[list[str] | None, typer.Argument(help="Ids, or genome:id.", show_default=False)] = None,
    genomes: Annotated[
        list[str] | None,
        typer.Option("--genome", help="All sequences of this genome, or those of the ids given."),
    ] = None,
    where: Where = None,
    listed: Annotated[Path | None, typer.Option("--ids-from", help="File of ids, one a line.")] = None,
    wait: Wait = 0.2,
) -> None:
    """Delete entries by id, by genome or by a condition, all in one commit."""
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


@db.command("list")
def list_entries(
    index: Index,
    where: Where = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write (default: stdout).")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """The entries as a table: id, genome, length, GC, number of vectors, metadata."""
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


@db.command("info")
def info(
    index: Index,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Entries, vectors, engine, encoder, metadata, calibration."""
    import json

    from kinmer.library import describe_index

    told = describe_index(index)
    say(json.dumps(told.to_dict(), indent=2) if as_json else told.text())


@db.command("check")
def check(index: Index) -> None:
    """Read all of an index and prove it whole; exit 1 where it is not."""
    from kinmer.library import check_index

    report = check_index(index)
    say(report.text())
    if not report.whole:
        raise typer.Exit(1)


@db.command("compact")
def compact(index: Index, wait: Wait = 0.2, threads: Threads = None) -> None:
    """Write the files anew without what was deleted, and bring the engine up to date."""
    from kinmer.library import compact_index, describe_index

    before = describe_index(index)
    compact_index(index, wait=wait, threads=threads, log=note)
    after = describe_index(index)
    note(f"{index}: {before.bytes_on_disk / 1e6:,.1f} MB before, {after.bytes_on_disk / 1e6:,.1f} MB now")


@db.command("calibrate")
def calibrate(index: Index, wait: Wait = 0.2, threads: Threads = None) -> None:
    """Learn anew from the references how far an answer can be trusted."""
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
