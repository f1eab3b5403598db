"""Commands around sequences and profiles: count, info, import, export, fragment, demo."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from kinmer.cli.options import (
    Force,
    Ids,
    MinLength,
    Prefix,
    Profiles,
    SampleFromFile,
    Seed,
    Threads,
    advanced,
    argument,
    command,
    note,
    option,
    parse_code,
    parse_length,
    whole_numbers,
)
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.costs import Command

BENCHMARK = "With --benchmark"


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    tools = "Tools"
    command(app, "info", "kinmer info contigs.zarr", tools)(info)
    command(app, "estimate", "kinmer estimate genomes/ --for reference", tools)(estimate)
    command(app, "fragment", "kinmer fragment *.fna -o pieces.fna --number 1000", tools)(fragment)
    command(app, "import", "kinmer import table.npy ids.txt -o contigs.zarr", tools)(import_table)
    command(app, "export", "kinmer export contigs.zarr table.npy ids.txt", tools)(export_table)
    command(app, "demo", "kinmer demo", tools)(demo)


def count(
    files: Annotated[list[str], argument("FASTA files, plain or compressed (- is stdin).")],
    output: Annotated[Path, option("Profile store to write (*.zarr).", "--output", "-o")],
    max_k: Annotated[
        int,
        option("Largest k. All smaller ones are counted too.", "--max-k", min=1, max=8, show_default=True),
    ] = 6,
    coding: Annotated[
        bool, option("Also count codons, and 4-mers by codon position, in reading frames.", "--coding")
    ] = False,
    genetic_code: Annotated[
        Literal["auto", "11", "4"],
        advanced("Code of the reading frames. auto: the one that fits.", "--genetic-code", show_default=True),
    ] = "auto",
    min_length: Annotated[
        int, option("Leave out sequences of fewer bases.", "--min-length", min=0, show_default=True)
    ] = 1000,
    prefix: Prefix = "",
    sample_from_file: SampleFromFile = False,
    append: Annotated[bool, option("Add to an existing store.", "--append")] = False,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Count the k-mers of each sequence into a profile store. Resumes if run again."""
    from kinmer.counting import count_files

    report = count_files(
        files,
        output,
        max_k=max_k,
        coding=coding,
        genetic_code=parse_code(genetic_code),
        min_length=min_length,
        prefix=prefix,
        sample_from_file=sample_from_file,
        threads=threads,
        append=append,
        force=force,
    )
    note(report.summary())


def info(
    source: Annotated[Path, argument("Profile store, k-mer table, encoder or index.")],
    ids: Ids = None,
    as_json: Annotated[bool, option("As JSON.", "--json")] = False,
) -> None:
    """Say what a store, a table, an encoder or an index holds."""
    facts, text = _facts(source, ids)
    say(json.dumps(facts, indent=2) if as_json else text)


def _facts(source: Path, ids: Path | None) -> tuple[dict[str, Any], str]:
    """What is known of a folder or file, as numbers and as text."""
    from kinmer.box import located
    from kinmer.inputs import kind_of

    if kind_of(source) == "index":
        from kinmer.library import describe_index

        index = describe_index(source)
        return index.to_dict(), index.text()
    if kind_of(located(source)) == "encoder":
        from kinmer.encoder import Encoder

        encoder = Encoder.load(source)
        facts = {
            "encoder": encoder.name or str(source),
            "features": encoder.layout.width,
            "dimensions": encoder.dim,
            "network": type(encoder.network).__name__,
            "fingerprint": encoder.fingerprint,
            "versions": encoder.versions,
        }
        lines = [f"{name:12}  {value}" for name, value in facts.items() if name != "versions"]
        return facts, "\n".join([*lines, "", encoder.card]).rstrip()
    from kinmer.profiles import info as describe
    from kinmer.profiles import open_profiles

    profiles = describe(open_profiles(source, ids=ids))
    return profiles.to_dict(), profiles.text()


def estimate(
    inputs: Annotated[list[Path], argument("FASTA files, a folder of genomes, a profile store or an index.")],
    commands: Annotated[
        list[str] | None,
        option(
            "count, embed, index, reference, map, cluster or search. Repeatable. Default: the usual ones.",
            "--for",
            metavar="COMMAND",
        ),
    ] = None,
    coding: Annotated[
        bool, option("Count reading frames too.", "--coding/--no-coding", show_default=True)
    ] = True,
    compact: Annotated[
        bool | None, option("A compact reference, or a full one (default: both).", "--compact/--full")
    ] = None,
    db: Annotated[
        Path | None, option("Index that is searched (default: kin-ref-1).", "--db", metavar="INDEX")
    ] = None,
    min_length: MinLength = 1000,
    output: Annotated[Path, option("Where the output is to be (default: here).", "--output", "-o")] = Path(),
    threads: Threads = None,
    as_json: Annotated[bool, option("As JSON.", "--json")] = False,
) -> None:
    """Say what commands will take, before they begin: time, memory and disk."""
    from kinmer.box.reference import REFERENCE
    from kinmer.costs import estimate as estimated

    made = estimated(
        inputs[0] if len(inputs) == 1 else inputs,
        cast("list[Command]", commands),
        coding=coding,
        compact=compact,
        db=db or REFERENCE,
        min_length=min_length,
        output=output,
        threads=threads,
    )
    say(json.dumps(made.to_dict(), indent=2) if as_json else made.text())


def import_table(
    table: Annotated[Path, argument("K-mer table: .npy of 2,773 or 10,965 columns.")],
    ids_file: Annotated[Path, argument("Ids, one a line, in the order of the rows.")],
    output: Annotated[Path, option("Profile store to write (*.zarr).", "--output", "-o")],
    max_k: Annotated[int | None, option("Leave out larger k-mers.", "--max-k", min=1, max=7)] = None,
    force: Force = False,
) -> None:
    """Turn an .npy table with ids into a profile store."""
    from kinmer.npy import import_profiles

    store = import_profiles(table, ids_file, output, max_k=max_k, force=force)
    note(f"{len(store):,} profiles written to {output}")


def export_table(
    source: Profiles,
    table: Annotated[Path, argument("K-mer table to write: .npy of 2,773 columns.")],
    ids_file: Annotated[Path, argument("Ids to write, one a line.")],
    force: Force = False,
) -> None:
    """Turn a profile store into an .npy table with ids."""
    from kinmer.npy import export_profiles

    rows = export_profiles(source, table, ids_file, force=force)
    note(f"{rows:,} profiles written to {table}")


def _bench(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    return option(help, *names, rich_help_panel=BENCHMARK, **more)


Files = Annotated[list[Path], argument("FASTA files, plain or compressed.")]
Output = Annotated[Path, option("FASTA to write (*.gz is compressed), or benchmark.", "--output", "-o")]
Length = Annotated[
    str | None,
    option("Bases: a number, or low-high drawn log-uniformly (default: 1000-100000).", "--length"),
]
PerSequence = Annotated[int | None, option("Fragments of each sequence.", "--per-sequence", min=1)]
Number = Annotated[int | None, option("Fragments in all, shared out by length.", "--number", min=1)]
Group = Annotated[str | None, option("Column of the labels to share out evenly by.", "--group")]
Labels = Annotated[Path | None, option("Table (TSV) with sequence_id and any columns.", "--labels")]
LeaveOut = Annotated[
    list[str] | None,
    option("Leave out sequences with this label. Repeatable.", "--leave-out", metavar="COLUMN=VALUE"),
]
OneStrand = Annotated[bool, option("Cut from the given strand only.", "--one-strand")]
Benchmark = Annotated[
    bool, option("Make a test set for kinmer evaluate: database, queries, folds.", "--benchmark")
]
Split = Annotated[
    Literal["species", "genome"] | None, _bench("What no two folds share (default: species).", "--split")
]
Folds = Annotated[int | None, _bench("Folds (default: 5).", "--folds", min=1)]
FoldSeed = Annotated[int | None, _bench("Seed of the folds alone (default: 0).", "--fold-seed", min=0)]
Lengths = Annotated[
    str | None, _bench("Bases of the queries (default: 1000,2000,5000,10000,50000).", "--lengths")
]
PerLength = Annotated[
    int | None, _bench("Queries of a genome and length (default: 12).", "--per-length", min=1)
]
Piece = Annotated[int | None, _bench("Longest piece of the database (default: 100000).", "--piece", min=1)]


def fragment(
    files: Files,
    output: Output,
    length: Length = None,
    per_sequence: PerSequence = None,
    number: Number = None,
    group: Group = None,
    labels: Labels = None,
    leave_out: LeaveOut = None,
    one_strand: OneStrand = False,
    benchmark: Benchmark = False,
    split: Split = None,
    folds: Folds = None,
    fold_seed: FoldSeed = None,
    lengths: Lengths = None,
    per_length: PerLength = None,
    piece: Piece = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Cut random fragments with their labels out of FASTA, or make a benchmark of them."""
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

    pairs_of: dict[str, list[str]] = {}
    for pair in pairs:
        column, equals, value = pair.partition("=")
        if not (column and equals):
            raise UsageError(f"--leave-out takes COLUMN=VALUE, such as fold=2, not {pair!r}")
        pairs_of.setdefault(column, []).append(value)
    return pairs_of


def demo(
    folder: Annotated[
        Path | None, argument("Folder of the outputs (default: demo-output, or demo-original).")
    ] = None,
    original: Annotated[
        bool, option("Train the network of the original pipeline instead (needs PyTorch).", "--original")
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
