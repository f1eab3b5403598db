"""Progress of long steps on stderr: drawn by rich on a terminal, silent elsewhere and in the Python face."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_shown = False


def show_progress(shown: bool) -> None:
    """Switch the bars on or off for this process (off at first)."""
    global _shown
    _shown = shown


def printable(text: str) -> str:
    """`text` as a terminal may have it.

    Line feeds and tabs stay. Controls, directions of writing, what has no width and what is no letter at all
    are escaped as in Python (``\\x1b``).
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else letter.encode("unicode_escape").decode()
        for letter in text
    )


class Step:
    """One running step; `advance` it, with a short note such as ``"412 Mbp/s"`` where there is one."""

    def __init__(self, progress: Progress | None, total: float | None, description: str) -> None:
        self._progress = progress
        self._task = progress.add_task(_plain(description), total=total, note="") if progress else None

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Add `amount` to what is done, in the units of the step's total."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, amount)
            if note is not None:
                self._progress.update(self._task, note=_plain(note))


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


@contextmanager
def step(description: str, total: float | None = None) -> Iterator[Step]:
    """A step of `total` units (unknown: a spinner) while the block runs."""
    console = Console(stderr=True)
    if not (_shown and console.is_terminal):
        yield Step(None, total, description)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Step(progress, total, description)
