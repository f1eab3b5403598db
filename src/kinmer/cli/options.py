"""Options that several commands share, how commands are registered, and what they print with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperCommand, TyperGroup

from kinmer.cli.output import complain

ADVANCED = "Advanced"
HELP_ALL = "--help-all"
# Old names of options, which still work with a warning.
RENAMED = {"--store": "--keep", "--no-store": "--no-keep", "--reference-clr": "--original-clr"}


def argument(help: str, **more: Any) -> Any:  # noqa: A002
    """An argument of a command, without a default in its help."""
    return typer.Argument(help=help, show_default=False, **more)


def option(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option of a command; `show_default` if its default says something."""
    return typer.Option(*names, help=help, show_default=more.pop("show_default", False), **more)


def advanced(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option that only ``--help-all`` shows."""
    return option(help, *names, rich_help_panel=ADVANCED, **more)


class Command(TyperCommand):
    """A command that shows its advanced options by ``--help-all``, and reads old names of options."""

    everything = False

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if HELP_ALL in args:
            self.everything = True
            args = ["--help"]
        for old in RENAMED.keys() & set(args):
            note(f"warning: {old} is an old name · write {RENAMED[old]}")
        args = [RENAMED.get(argument, argument) for argument in args]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        rest = [one for one in self.params if getattr(one, "rich_help_panel", None) == ADVANCED]
        shown = [one for one in rest if not getattr(one, "hidden", False)]
        if shown and not self.everything:
            for one in shown:
                one.hidden = True  # type: ignore[attr-defined]
            self.epilog = f"{self.epilog or ''}\n\n{len(shown)} more options: {ctx.command_path} {HELP_ALL}"
        super().format_help(ctx, formatter)


class Group(TyperGroup):
    """A group of commands, which answers ``--help-all`` with its help."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, ["--help"] if args[:1] == [HELP_ALL] else args)


def command(
    app: typer.Typer, name: str, example: str, panel: str | None = None, **more: Any
) -> Callable[..., Any]:
    """Register a command with an example of its use, in a group of the list of commands."""
    return app.command(name, epilog=f"Example: {example}", rich_help_panel=panel, **{"cls": Command, **more})


Metric = Literal["cosine", "l2"]
Engine = Literal["hnsw", "chroma", "exact"]
Profiles = Annotated[Path, argument("Profile store (*.zarr), AnnData, or k-mer table (*.npy).")]
Ids = Annotated[Path | None, advanced("Ids of a .npy table, one a line (default: beside it).", "--ids")]
Force = Annotated[bool, option("Replace an output that exists.", "--force")]
Threads = Annotated[
    int | None, option("Threads (default: all cores).", "--threads", "-t", min=1, metavar="N")
]
MetadataTable = Annotated[
    Path | None, option("Table (TSV): id or genome, and any columns, such as taxonomy.", "--metadata")
]
TaxdumpFolder = Annotated[
    Path | None, option("Folder of NCBI's taxdump, for a column of taxids.", "--taxdump")
]
MinLength = Annotated[
    int, option("Leave out FASTA sequences of fewer bases.", "--min-length", min=0, show_default=True)
]
Prefix = Annotated[str, advanced("Put this before the ids of FASTA files, such as S1: or S1C.", "--prefix")]
SampleFromFile = Annotated[
    bool, advanced("Put each FASTA file's name before its ids: SAMPLE:contig.", "--sample-from-file")
]
Where = Annotated[
    str | None,
    option("Condition, such as 'molecule == \"plasmid\" and length > 50000'.", "--where", metavar="TEXT"),
]
NoCalibration = Annotated[
    bool, option("Learn how far answers can be trusted.", "--calibrate/--no-calibrate", show_default=True)
]
Pieces = Annotated[
    str | None,
    advanced(
        "Lengths of pieces that long sequences are also indexed in (default: 10000,20000,50000, 0: none).",
        "--pieces",
    ),
]
KeepSequences = Annotated[
    bool,
    option(
        "Keep the sequences, two bits a base, for search --evidence.",
        "--keep-sequences/--no-keep-sequences",
        show_default=True,
    ),
]
Seed = Annotated[int, advanced("Seed of everything random.", "--seed", min=0, show_default=True)]


def whole_numbers(text: str, option: str) -> tuple[int, ...]:
    """The numbers in a text such as ``1,2,3``; UsageError that names the option for another."""
    from kinmer.errors import UsageError

    try:
        return tuple(int(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes whole numbers with commas between, not {text!r}") from None


def shares(text: str, option: str) -> tuple[float, ...]:
    """The numbers in a text such as ``1.0,0.6``; UsageError that names the option for another."""
    from kinmer.errors import UsageError

    try:
        return tuple(float(one) for one in text.split(","))
    except ValueError:
        raise UsageError(f"{option} takes numbers with commas between, not {text!r}") from None


def stem(path: Path) -> Path:
    """The stem of outputs whose names are made from it; UsageError for one that has no name."""
    from kinmer.errors import UsageError

    if path.name in ("", ".."):
        raise UsageError(
            f"{str(path)!r} is not a valid name for outputs", check="give one, such as results/first"
        )
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


def parse_code(text: str) -> Any:
    """The genetic code of reading frames: ``auto``, or a number."""
    return text if text == "auto" else int(text)


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
