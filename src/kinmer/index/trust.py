"""Which files of an index were found whole: one with the same size and time of change is not read again.

A copy has other times of change; it is read through once, by whoever opens it first.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kinmer.errors import FormatError
from kinmer.files import read_json, write_json

__all__ = ["Trust"]

NAME = "checked.json"


class Trust:
    """The files of the index in `folder` that were found whole."""

    def __init__(self, folder: Path, *, blind: bool = False) -> None:
        """blind : forget what was found before, and note nothing."""
        self._folder, self._blind = folder, blind
        self._seen: dict[str, list[int] | None] = {}
        if blind:
            return
        try:
            self._seen = dict(read_json(folder / NAME))
        except (FormatError, OSError, TypeError, ValueError):
            return

    def has(self, paths: Iterable[Path]) -> bool:
        """Whether all these files are as they were when they were found whole."""
        return all(self._seen.get(self._name(path)) == _stamp(path) for path in paths)

    def note(self, paths: Iterable[Path]) -> None:
        """Remember that these files are whole now; forget files that are gone. Needs no right to write."""
        if self._blind:
            return
        seen = {name: stamp for name, stamp in self._seen.items() if (self._folder / name).is_file()}
        seen |= {self._name(path): _stamp(path) for path in paths}
        if seen == self._seen:
            return
        self._seen = seen
        try:
            write_json(self._folder / NAME, seen)
        except OSError:
            return

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _stamp(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns]
