"""A process that runs one command of kinmer and is killed before a certain change of a file."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numba  # noqa: F401 (loaded once, in the server that these processes are forked from)
import usearch.index  # noqa: F401

import kinmer.cli
import kinmer.counting
import kinmer.embedding
import kinmer.index
import kinmer.maps
import kinmer.plots
import kinmer.queries
import kinmer.reports
import kinmer.training

__all__ = ["act"]

# What Python tells of before it opens, renames or removes something.
EVENTS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.chmod"}


def act(folder: Path, argv: list[str], kill: int | None, number: int, pipe: Connection) -> None:
    """Run a command in `folder`; sends its exit code, what it said, and how many events there were.

    kill : end by signal `number` at this event, from 1; None: at none.
    """
    os.chdir(folder)
    inside, count = str(folder), 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in EVENTS or not given or not isinstance(given[0], str | os.PathLike):
            return
        path = str(Path(given[0]).absolute())
        if not path.startswith(inside) or (event == "open" and not _writes(given)):
            return
        count += 1
        if count == kill:
            os.kill(os.getpid(), number)

    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        sys.addaudithook(hook)
        code = kinmer.cli.run(argv)
    pipe.send((code, said.getvalue(), count))


def _writes(given: tuple[Any, ...]) -> bool:
    """Whether an event ``open`` (path, mode, flags) is of a file that is to be changed."""
    flags = given[2] if len(given) > 2 and isinstance(given[2], int) else 0
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)) or any(one in str(given[1]) for one in "wax+")
