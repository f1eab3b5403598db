"""The letters of an index's sequences: those that it keeps, else those of the files that they came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from kinmer.errors import InputError
from kinmer.fasta import read_records
from kinmer.files import hash_file
from kinmer.index.compacting import letters_file
from kinmer.index.database import KinIndex
from kinmer.index.letters import read_letters

__all__ = ["EntryLetters"]


class EntryLetters:
    """Reads the letters of entries of `index`, as upper-case ACGTN (kept ones) or as the files have them.

    Every file that is read is compared with its SHA-256 first, once.
    """

    def __init__(self, index: KinIndex) -> None:
        self._index = index
        self._whole: set[tuple[Path, str]] = set()

    def lacking(self) -> str:
        """Why letters cannot be had, in words for an error; empty where they probably can."""
        table = self._index.table
        if table.state.get("letters", 0):
            return ""
        if "letters" not in self._index.manifest.get("pieces", {}):
            return "the index was not made of sequences"
        gone = [path for _, path, *_ in table.files() if not Path(path).is_file()]
        return f"{gone[0]} is gone, and the index does not keep sequences" if gone else ""

    def each(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Numbers and letters of these entries, in the order that reads every file once.

        Raises InputError for a file that is gone or changed, FormatError for damaged letters.
        """
        wanted = np.unique(np.asarray(numbers, dtype=np.int64))
        table = self._index.table
        kept = table.letters(wanted)
        source = letters_file(self._index.path, table.generation)
        for number, place in kept.items():
            yield number, read_letters(source, *place)
        others = [one for one in self._index.entries(wanted).values() if one.number not in kept]
        by_file: dict[int | None, dict[str, int]] = {}
        for one in others:
            by_file.setdefault(one.file, {})[one.id] = one.number
        paths = {number: (Path(path), sha256) for number, path, sha256, _, _ in table.files()}
        prefixes = table.prefixes()
        for file, names in by_file.items():
            path, sha256 = paths.get(file, (None, "")) if file is not None else (None, "")
            if path is None or not sha256:
                raise self._none("the index was not made of sequences")
            prefix = prefixes.get(file, "") if file is not None else ""
            yield from self._read(path, sha256, {one.removeprefix(prefix): at for one, at in names.items()})

    def _read(self, path: Path, sha256: str, names: dict[str, int]) -> Iterator[tuple[int, bytes]]:
        if (path, sha256) not in self._whole:
            if not path.is_file():
                raise self._none(f"{path} is gone")
            if hash_file(path) != sha256:
                raise self._none(f"{path} has changed since")
            self._whole.add((path, sha256))
        left = dict(names)
        for name, letters in read_records(path):
            if name in left:
                yield left.pop(name), letters
            if not left:
                return
        raise self._none(f"{path} has no sequence {next(iter(left))!r}")

    def _none(self, why: str) -> InputError:
        return InputError(
            "the sequences of the index cannot be read",
            why,
            "build it with --keep-sequences to keep them in it",
            place=self._index.path,
        )
