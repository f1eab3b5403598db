"""Progress of long steps on stderr: drawn by rich on a terminal, silent elsewhere and in the Python face."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

# Seconds between two looks of the terminal at a step.
PAUSE = 0.05

_T = TypeVar("_T")
_shown = False
# The lines on the terminal, where a step runs.
_running: Progress | None = None


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

    def __init__(
        self, progress: Progress | None = None, total: float | None = None, description: str = ""
    ) -> None:
        self._progress, self._done, self._drawn = progress, 0.0, 0.0
        self._task = progress.add_task(_plain(description), total=total, note="") if progress else None

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Add `amount` to what is done, in the units of the step's total."""
        self._done += amount
        if self._progress is None or self._task is None:
            return
        if note is not None or time.monotonic() - self._drawn > PAUSE:
            self._progress.update(self._task, completed=self._done)
            self._drawn = time.monotonic()
        if note is not None:
            self._progress.update(self._task, note=_plain(note))

    def reach(self, done: float, note: str | None = None) -> None:
        """So much is done in all."""
        self.advance(done - self._done, note)

    def end(self) -> None:
        """Take the step's line away."""
        if self._progress is not None and self._task is not None:
            self._progress.remove_task(self._task)


def _plain(text: str) -> str:
    return printable(" ".join(text.split()))


@contextmanager
def step(description: str, total: float | None = None) -> Iterator[Step]:
    """A step of `total` units (unknown: a spinner) while the block runs; within another, a line below it."""
    global _running
    if _running is not None:
        inner = Step(_running, total, description)
        try:
            yield inner
        finally:
            inner.end()
        return
    progress = _bars() if _shown else None
    if progress is None:
        yield Step()
        return
    with progress as _running:
        try:
            yield Step(_running, total, description)
        finally:
            _running = None


def _bars() -> Progress | None:
    """Room for bars on the terminal; None where stderr is none."""
    from rich.console import Console

    console = Console(stderr=True)
    if not console.is_terminal:
        return None
    from rich.progress import (
        BarColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    return Progress(*columns, console=console, transient=True)


def counted(items: Iterable[_T], description: str, total: float | None = None) -> Iterator[_T]:
    """The items one by one, with a step that counts them; the total: their number, where they have one."""
    known = len(items) if total is None and isinstance(items, Sized) else total
    with step(description, known) as bar:
        for item in items:
            yield item
            bar.advance()
