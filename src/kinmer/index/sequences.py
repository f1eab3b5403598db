"""The letters of an index's sequences: blobs of 2 bits a letter, or the files that they came from.

A blob, little-endian: letters (int64), runs of ambiguous letters (int64, then start and stop of each, int64),
and the letters four a byte, the first in the lowest bits, ambiguous ones as A.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.fasta import read_records
from kinmer.files import hash_file
from kinmer.fragments.packed import pack_letters, unpack
from kinmer.index.manifest import Blob, Entry
from kinmer.index.rows import blob_file, damaged_blob, read_blobs
from kinmer.index.table import EntryTable

_INT = np.dtype("<i8")


def _upper_table() -> bytes:
    """Every byte as one of ACGTN: case is dropped, U is T, whatever else is N."""
    table = bytearray(b"N" * 256)
    for letter in "ACGT":
        table[ord(letter)] = table[ord(letter.lower())] = ord(letter)
    table[ord("U")] = table[ord("u")] = ord("T")
    return bytes(table)


_UPPER = _upper_table()


def read_letters(path: str | Path, place: Blob) -> bytes:
    """A sequence as upper-case ACGTN, from where `BlobFile.append` said that its blob lies.

    Raises FormatError where the blob is not whole or not the one whose CRC-32 this is.
    """
    (blob,) = read_blobs(path, [place])
    found = _letters(blob)
    if found is None:
        raise damaged_blob(path, place.offset)
    return found


def letter_blob(letters: bytes) -> bytes:
    """The blob of a sequence's letters."""
    packed, runs, _ = pack_letters(bytes(letters).translate(_UPPER))
    head = np.concatenate(([len(letters), len(runs)], runs.ravel())).astype(_INT)
    return head.tobytes() + packed.tobytes()


def _letters(blob: bytes) -> bytes | None:
    """What a blob holds; None where its numbers do not go together."""
    if len(blob) < 2 * _INT.itemsize:
        return None
    length, runs = (int(one) for one in np.frombuffer(blob, _INT, 2))
    begin = (2 + 2 * runs) * _INT.itemsize
    if length < 0 or runs < 0 or len(blob) != begin + -(-length // 4):
        return None
    spans = np.frombuffer(blob, _INT, 2 * runs, 2 * _INT.itemsize).reshape(-1, 2).astype(np.int64)
    return _unpacked(np.frombuffer(blob, np.uint8, offset=begin), spans, length)


def _unpacked(packed: NDArray[np.uint8], spans: NDArray[np.int64], length: int) -> bytes | None:
    flat = spans.ravel()
    if len(flat) and (flat[0] < 0 or flat[-1] > length or (np.diff(flat) < 0).any()):
        return None
    buffer = np.empty(len(packed), np.uint32)
    whole = np.array([[0, length, 0]], np.int64)
    unpack(packed, spans, whole, np.zeros(1, np.int64), buffer, np.empty((1, 2), np.int64))
    return buffer.view(np.uint8)[:length].tobytes()


class _Index(Protocol):
    """What is needed of an index."""

    path: Path
    table: EntryTable
    manifest: dict[str, Any]

    def entries(self, numbers: NDArray[np.int64]) -> dict[int, Entry]: ...


class EntryLetters:
    """Reads the letters of entries of `index`, as upper-case ACGTN (kept ones) or as the files have them.

    Every file that is read is compared with its SHA-256 first, once.
    """

    def __init__(self, index: _Index) -> None:
        self._index = index
        self._whole: set[tuple[Path, str]] = set()

    def lacking(self) -> str:
        """Why letters cannot be had, in words for an error; empty where they probably can."""
        table = self._index.table
        if table.state.get("letters", 0):
            return ""
        if "letters" not in self._index.manifest.get("pieces", {}):
            return "the index was not made of sequences"
        gone = [file.path for file in table.files() if not Path(file.path).is_file()]
        return f"{gone[0]} is gone, and the index does not keep sequences" if gone else ""

    def each(self, numbers: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Numbers and letters of these entries, in the order that reads every file once.

        Raises InputError for a file that is gone or changed, FormatError for damaged letters.
        """
        wanted = np.unique(np.asarray(numbers, dtype=np.int64))
        table = self._index.table
        kept = table.blobs("letters", wanted)
        source = blob_file(self._index.path, "letters", table.generation)
        for number, place in kept.items():
            yield number, read_letters(source, place)
        others = [one for one in self._index.entries(wanted).values() if one.number not in kept]
        by_file: dict[int | None, dict[str, int]] = {}
        for one in others:
            by_file.setdefault(one.file, {})[one.id] = one.number
        files = {file.number: file for file in table.files()}
        for source_number, names in by_file.items():
            file = None if source_number is None else files.get(source_number)
            if file is None or not file.sha256:
                raise self._none("the index was not made of sequences")
            wanted_here = {name.removeprefix(file.prefix): at for name, at in names.items()}
            yield from self._read(Path(file.path), file.sha256, wanted_here)

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
