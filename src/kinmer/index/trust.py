"""Which files of an index are known to be whole, so that they are not read through at every opening.

A file counts as the same while its size, its inode and its times of modification and of change are the same.
The time of change (ctime) is what makes this safe: whoever writes to a file can set its time of modification
back (``cp -a``, ``touch -r``), but not that one. A copy is another file and is read through once, by whoever
opens it first. Only a disk that rots without a write goes unseen until ``kinmer db check``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from kinmer.errors import FormatError
from kinmer.files import read_json, settle, write_json

__all__ = ["Trust"]

NAME = "checked.json"
# File systems count time in ticks of up to 10 ms: a second change within the tick of the first would leave
# the same time. A file is noted only when its last tick is over.
TICK = 0.02


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
        paths = list(paths)
        _let_pass(paths)
        seen = {name: stamp for name, stamp in self._seen.items() if (self._folder / name).is_file()}
        seen |= {self._name(path): _stamp(path) for path in paths}
        if seen == self._seen:
            return
        self._seen = seen
        try:
            # What a search that was killed here has left.
            settle(self._folder / NAME)
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
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _let_pass(paths: Iterable[Path]) -> None:
    """Wait until the next change of any of these files would have a time of its own."""
    latest = max((stamp[2] for path in paths if (stamp := _stamp(path))), default=0) / 1e9
    time.sleep(min(TICK, max(0.0, latest + TICK - time.time())))
