"""Sequences kept in one temporary file, so that genomes come whole and in any order."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

__all__ = ["Shelf"]


class Shelf:
    """Sequences by id; memory holds their places only. The file in `folder` has no name and goes with it."""

    def __init__(self, folder: str | Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        self._places: dict[str, tuple[int, int]] = {}
        self._end = 0

    def __enter__(self) -> Shelf:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, sequence_id: str) -> bool:
        return sequence_id in self._places

    def put(self, sequence_id: str, letters: bytes) -> None:
        """Keep a sequence."""
        self._file.seek(self._end)
        self._file.write(letters)
        self._places[sequence_id] = (self._end, len(letters))
        self._end += len(letters)

    def take(self, sequence_id: str) -> bytes:
        """The letters of a sequence that was put."""
        start, size = self._places[sequence_id]
        self._file.seek(start)
        return self._file.read(size)
