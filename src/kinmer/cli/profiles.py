"""Commands around profiles: count, info, import, export, fragment."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kinmer.cli.options import (
    Force,
    Ids,
    Prefix,
    Profiles,
    SampleFromFile,
    Seed,
    Threads,
    note,
    parse_length,
    whole_numbers,
)
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.layout import GeneticCode

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("count")(count)
    app.command("info")(info)
    app.command("import")(import_table)
    app.command("export")(export_table)
    app.command("fragment")(fragment)


def count(
    files: Annotated[list[str], typer.Argument(help="FASTA files, plain or compressed; - is stdin.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Profile store to write (*.zarr).")],
    max_k: Annotated[int, typer.Option(min=1, max=8, help="Largest k; all smaller ones come with it.")] = 6,
    coding: Annotated[
        bool,
        typer.Option("--coding", help="Count codons and 4-mers by codon position in reading frames too."),
    ] = False,
    genetic_code: Annotated[
        Literal["auto", "11", "4"],
        typer.Option(help="By which frames are found; auto: the one that fits the sequence."),
    ] = "auto",
    min_length: Annotated[int, typer.Option(min=0, help="Leave out shorter sequences.")] = 1000,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    append: Annotated[bool, typer.Option("--append", help="Add to a store that exists.")] = False,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Count canonical k-mers of every sequence; killed and called again, it goes on."""
    from kinmer.counting import count_files

    codes: dict[str, GeneticCode] = {"auto": "auto", "11": 11, "4": 4}
    report = count_files(
        files,
        output,
        max_k=max_k,
        coding=coding,
        genetic_code=codes[genetic_code],
        min_length=min_length,
        prefix=prefix,
        sample_from_file=sample_from_file,
        threads=threads,
        append=append,
        force=force,
    )
    note(report.summary())


def info(
    source: Profiles,
    ids: Ids = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Tell what a store or table holds."""
    from kinmer.profiles import info as describe
    from kinmer.profiles import open_profiles

    facts = describe(open_profiles(source, ids=ids))
    if as_json:
        say(json.dumps(facts.to_dict(), indent=2))
    else:
        say(facts.text())


def import_table(
    table: Annotated[Path, typer.Argument(help="K-mer table: .npy of 2,773 or 10,965 columns.")],
    ids_file: Annotated[Path, typer.Argument(help="Ids, one a line, in the order of the rows.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Profile store to write (*.zarr).")],
    max_k: Annotated[int | None, typer.Option(min=1, max=7, help="Leave out larger k-mers.")] = None,
    force: Force = False,
) -> None:
    """Turn an .npy table and its ids into a profile store."""
    from kinmer.npy import import_profiles

    store = import_profiles(table, ids_file, output, max_k=max_k, force=force)
    note(f"{len(store):,} profiles written to {output}")


def export_table(
    source: Profiles,
    table: Annotated[Path, typer.Argument(help="K-mer table to write: .npy of 2,773 columns.")],
    ids_file: Annotated[Path, typer.Argument(help="Ids to write, one a line.")],
    force: Force = False,
) -> None:
    """Turn a profile store into an .npy table and its ids."""
    from kinmer.npy import export_profiles

    rows = export_profiles(source, table, ids_file, force=force)
    note(f"{rows:,} profiles written to {table}")


def fragment(
    files: Annotated[list[Path], typer.Argument(help="FASTA files, plain or compressed.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="FASTA to write (gzip where it ends in .gz), or benchmark."),
    ],
    length: Annotated[
        str | None,
        typer.Option(help="Bases: a number, or low-high drawn log-uniformly (default: 1000-100000)."),
    ] = None,
    per_sequence: Annotated[int | None, typer.Option(min=1, help="Fragments of every sequence.")] = None,
    number: Annotated[int | None, typer.Option(min=1, help="Fragments in all, shared out by length.")] = None,
    group: Annotated[str | None, typer.Option(help="Column of the labels to share out evenly by.")] = None,
    labels: Annotated[
        Path | None, typer.Option(help="TSV with sequence_id and any columns to hand on.")
    ] = None,
    leave_out: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=VALUE", help="Leave out what is labelled so; repeatable."),
    ] = None,
    one_strand: Annotated[bool, typer.Option("--one-strand", help="Cut from the given strand only.")] = False,
    benchmark: Annotated[
        bool, typer.Option("--benchmark", help="Make a benchmark of retrieval: database, queries, folds.")
    ] = False,
    split: Annotated[
        Literal["species", "genome"] | None,
        typer.Option(help="Benchmark: what no two folds share (default: species)."),
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Benchmark: folds (default: 5).")] = None,
    fold_seed: Annotated[
        int | None, typer.Option(min=0, help="Benchmark: seed of the folds alone (default: 0).")
    ] = None,
    lengths: Annotated[
        str | None,
        typer.Option(help="Benchmark: bases of the queries (default: 1000,2000,5000,10000,50000)."),
    ] = None,
    per_length: Annotated[
        int | None, typer.Option(min=1, help="Benchmark: queries of a genome and length (default: 12).")
    ] = None,
    piece: Annotated[
        int | None, typer.Option(min=1, help="Benchmark: longest piece of the database (default: 100000).")
    ] = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Cut labelled fragments out of FASTA, the same ones for the same seed, or make a benchmark of it."""
    from kinmer.errors import UsageError
    from kinmer.fragments import benchmark as make
    from kinmer.fragments import fragment as cut

    given = {"split": split, "folds": folds, "fold_seed": fold_seed, "per_length": per_length, "piece": piece}
    more: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if lengths is not None:
        more["lengths"] = whole_numbers(lengths, "--lengths")
    if benchmark:
        if labels is None or one_strand or any((length, per_sequence, number, group, leave_out)):
            raise UsageError("a benchmark takes --labels, and none of the options of fragments")
        note(make(files, output, labels=labels, seed=seed, force=force, **more).summary())
        return
    if more:
        name = next(iter(more)).replace("_", "-")
        raise UsageError(f"--{name} is an option of benchmarks", check="give --benchmark too")
    report = cut(
        files,
        output,
        length=parse_length(length or "1000-100000"),
        per_sequence=per_sequence,
        number=number,
        group=group,
        labels=labels,
        leave_out=_left_out(leave_out or []),
        both_strands=not one_strand,
        seed=seed,
        force=force,
    )
    note(report.summary())


def _left_out(pairs: list[str]) -> dict[str, list[str]]:
    from kinmer.errors import UsageError

    found: dict[str, list[str]] = {}
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not (column and equals):
            raise UsageError(f"--leave-out takes COLUMN=VALUE, such as fold=2, not {pair!r}")
        found.setdefault(column, []).append(value)
    return found
