"""The engine of an index: derived from the kept vectors, stamped with what of them it holds.

An engine covers the rows 0 … covered - 1 that were alive when it was brought up to date. Rows behind them are
looked at one by one, and rows that have died since are passed over, so that a change of the index costs
nothing here until there are many of them.

Files that were found whole are trusted (`Trust`), so that they are not read through at every opening. A file
counts as the same while its size, its inode and its times of modification and of change are the same. The
time of change (ctime) is what makes this safe: whoever writes to a file can set its time of modification
back (``cp -a``, ``touch -r``), but not that one. A copy is another file and is read through once, by whoever
opens it first. Only a disk that rots without a write goes unseen until ``kinmer db check``.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.files import built_aside, file_checksum, settle, write_json
from kinmer.inputs import read_json
from kinmer.progress import step
from kinmer.stores import VectorStore, engine

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


STAMP = "stamp.json"
# Rows handed to the engine together: 100 MB at 384 dimensions.
ENGINE_ROWS = 1 << 16

Bools = NDArray[np.bool_]
Vectors = NDArray[np.float32]


class EngineBehindError(FormatError):
    """An engine of an earlier state of the index, or none: nothing is damaged, the next search builds it."""


@dataclass(frozen=True)
class EngineFiles:
    """The files of one engine of the index in the folder `index`.

    stamp : what the engine must have been built from, its metric and dim among it. threads : None for all
    cores.
    """

    index: Path
    name: str
    stamp: Mapping[str, Any]
    threads: int | None = None

    @property
    def folder(self) -> Path:
        """Where they stand."""
        return self.index / f"engine-{self.name}"

    def open(self, rows: int, trust: Trust) -> tuple[VectorStore, int]:
        """The engine, and how many of the `rows` of the index it covers.

        Raises EngineBehindError, FormatError or EngineError where it has to be built again.
        """
        folder = self.folder
        derived = "it is derived from the vectors, and the next search builds it"
        again = f"or build it now: kinmer index --rebuild {self.index}"
        if not (folder / STAMP).is_file():
            raise EngineBehindError("the engine is not built yet", derived, again, place=folder)
        stamp = read_json(folder / STAMP)
        covered = stamp.pop("covered", None)
        if stamp != self.stamp or not isinstance(covered, int) or not 0 <= covered <= rows:
            raise EngineBehindError("the engine is behind the entries", place=folder)
        if not (folder / "store.json").is_file():
            raise FormatError("the engine is damaged: store.json is missing", derived, again, place=folder)
        _check_files(folder, trust)
        dim, metric = self.stamp["dim"], self.stamp["metric"]
        return engine(self.name).open(folder, dim=dim, metric=metric, threads=self.threads), covered

    def build(self, vectors: Vectors, alive: Bools) -> None:
        """Build the engine from all rows alive, in a folder aside that is renamed when it is whole."""
        dim, metric = self.stamp["dim"], self.stamp["metric"]
        with built_aside(self.folder) as aside:
            with engine(self.name).create(aside, dim=dim, metric=metric, threads=self.threads) as store:
                self._fill(store, f"Building {self.name}", vectors, np.flatnonzero(alive))
            self._note(aside, len(vectors))

    def update(self, store: VectorStore, vectors: Vectors, alive: Bools) -> None:
        """Bring the open engine up to date: rows behind the covered ones come in, dead ones go."""
        # What a killed update has brought in already is not brought in twice.
        there = np.zeros(len(vectors), dtype=bool)
        for start in range(0, len(vectors), ENGINE_ROWS):
            part = np.arange(start, min(start + ENGINE_ROWS, len(vectors)))
            there[part] = store.contains(part)
        gone = np.flatnonzero(there & ~alive)
        if gone.size:
            store.delete(gone)
        self._fill(store, f"Updating {self.name}", vectors, np.flatnonzero(~there & alive))
        self._note(self.folder, len(vectors))

    def _fill(self, store: VectorStore, what: str, vectors: Vectors, labels: NDArray[np.int64]) -> None:
        with step(what, len(labels)) as progress:
            for start in range(0, len(labels), ENGINE_ROWS):
                part = labels[start : start + ENGINE_ROWS]
                store.add(part, np.asarray(vectors[part]))
                progress.advance(len(part))
            store.flush()

    def _note(self, folder: Path, covered: int) -> None:
        write_json(folder / STAMP, {**self.stamp, "covered": covered})


def _check_files(folder: Path, trust: Trust) -> None:
    """Compare files with the checksums that their engine noted, unless they were found whole before."""
    described = folder / "store.json"
    sums = read_json(described).get("files", {})
    if not isinstance(sums, dict):
        raise FormatError("the engine is damaged", "its description is another", place=described)
    files = [folder / str(name) for name in sums]
    if not files or trust.has(files):
        return
    for path, crc in zip(files, sums.values(), strict=True):
        if not path.is_file() or file_checksum(path) != crc:
            raise FormatError("the engine is damaged", "the checksum of its file is another", place=path)
    trust.note(files)
