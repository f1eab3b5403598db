"""Options that several commands share, and what they print with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Force", "Ids", "Profiles", "Seed", "Threads", "note", "set_quiet"]

Profiles = Annotated[
    Path, typer.Argument(help="Profile store (*.zarr) or k-mer table (*.npy).", show_default=False)
]
Ids = Annotated[
    Path | None, typer.Option("--ids", help="Ids of a .npy table, one a line (default: found beside it).")
]
Force = Annotated[bool, typer.Option("--force", help="Replace an output that exists.")]
Threads = Annotated[int | None, typer.Option("--threads", "-t", min=1, help="Threads (default: all cores).")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]


_quiet = False


def set_quiet(quiet: bool) -> None:
    """Keep notes back from now on, or no longer."""
    global _quiet
    _quiet = quiet


def note(line: str) -> None:
    """A line for the person, on stderr; results go to stdout."""
    if not _quiet:
        typer.echo(line, err=True)
