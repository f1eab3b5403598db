"""Options that several commands share, and what they print with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinmer.cli.output import complain

__all__ = [
    "Force",
    "Ids",
    "KeepSequences",
    "MetadataTable",
    "MinLength",
    "NoCalibration",
    "Pieces",
    "Prefix",
    "Profiles",
    "SampleFromFile",
    "Seed",
    "TaxdumpFolder",
    "Threads",
    "Where",
    "note",
    "parse_length",
    "set_quiet",
]

Profiles = Annotated[
    Path, typer.Argument(help="Profile store (*.zarr) or k-mer table (*.npy).", show_default=False)
]
Ids = Annotated[
    Path | None, typer.Option("--ids", help="Ids of a .npy table, one a line (default: found beside it).")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Threads = Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads (default: all cores).")]
MetadataTable = Annotated[
    Path | None, typer.Option("--metadata", help="TSV: id or genome, and any columns, such as taxonomy.")
]
TaxdumpFolder = Annotated[
    Path | None, typer.Option("--taxdump", help="NCBI taxdump folder, for a column of taxids.")
]
MinLength = Annotated[int, typer.Option(min=0, help="Leave out shorter sequences of FASTA files.")]
Prefix = Annotated[
    str,
    typer.Option(
        "--prefix", help="Put before the ids of FASTA files, such as S1: or S1C.", show_default=False
    ),
]
SampleFromFile = Annotated[
    bool,
    typer.Option("--sample-from-file", help="Put each FASTA file's name before its ids: SAMPLE:contig."),
]
Where = Annotated[
    str | None,
    typer.Option("--where", help="Condition, such as 'molecule == \"plasmid\" and length > 50000'."),
]
NoCalibration = Annotated[
    bool, typer.Option("--calibrate/--no-calibrate", help="Learn how far answers can be trusted.")
]
Pieces = Annotated[
    str | None,
    typer.Option(
        "--pieces",
        help="Lengths of pieces that sequences are also indexed in (default: 10000,20000,50000; 0: none).",
    ),
]
KeepSequences = Annotated[
    bool,
    typer.Option(
        "--keep-sequences/--no-keep-sequences", help="Keep the letters, two bits each, for search --evidence."
    ),
]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers in a text such as ``1,2,3``; UsageError that names the option for another."""
    from kinmer.errors import UsageError

    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes whole numbers with commas between, not {text!r}") from None


def stem(path: Path) -> Path:
    """The stem of outputs whose names are made from it; UsageError for one that has no name."""
    from kinmer.errors import UsageError

    if path.name in ("", ".."):
        raise UsageError(f"{str(path)!r} is no name for outputs", check="give one, such as results/first")
    return path


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Keep notes back from now on, or no longer."""
    global _quiet
    _quiet = quiet


def note(line: str) -> None:
    """A line for the person, on stderr; results go to stdout."""
    if not _quiet:
        complain(line)


def parse_length(text: str) -> int | tuple[int, int]:
    """Bases of fragments: a number, or (low, high)."""
    from kinmer.errors import UsageError

    try:
        low, *high = (int(part) for part in text.split("-"))
    except ValueError:
        low, high = 0, [0, 0]
    if len(high) > 1:
        raise UsageError(f"--length takes a number or low-high, such as 1000-100000, not {text!r}")
    return (low, high[0]) if high else low
