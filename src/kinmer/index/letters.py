"""The letters of an index's sequences: one file of blobs, 2 bits a letter, which only grows.

A blob, little-endian: letters (int64), runs of ambiguous letters (int64, then start and stop of each, int64),
and the letters four a byte, the first in the lowest bits, ambiguous ones as A. Where a blob lies, how long it
is and its CRC-32 are kept by whoever appends it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.fragments.packed import pack_letters, unpack

__all__ = ["LetterFile", "read_letters"]

_INT = np.dtype("<i8")


def _upper_table() -> bytes:
    """Every byte as one of ACGTN: case is dropped, U is T, whatever else is N."""
    table = bytearray(b"N" * 256)
    for letter in "ACGT":
        table[ord(letter)] = table[ord(letter.lower())] = ord(letter)
    table[ord("U")] = table[ord("u")] = ord("T")
    return bytes(table)


_UPPER = _upper_table()


class LetterFile:
    """Appends blobs behind `size` committed bytes; what a killed run left behind those is cut off at birth.

    `append` returns when the blobs are on disk: whoever tells of them (the table of entries) does so after.
    Raises FormatError where the file is shorter than `size`.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        path = Path(path)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self.size = size
        if os.fstat(self._file.fileno()).st_size < size:
            self._file.close()
            raise FormatError(
                f"the file holds fewer than {size:,} bytes",
                "it was cut short",
                "copy the index again, or build it again",
                place=path,
            )
        if os.fstat(self._file.fileno()).st_size > size:
            self._file.truncate(size)
        self._file.seek(size)

    def append(self, letters: Sequence[bytes]) -> list[tuple[int, int, int]]:
        """Write sequences and wait until they are on disk; offset, bytes and CRC-32 of each one's blob."""
        places = []
        for one in letters:
            parts, size, crc = _blob(one), 0, 0
            for part in parts:
                self._file.write(part)
                crc, size = isal_zlib.crc32(part, crc), size + len(part)
            places.append((self.size, size, int(crc)))
            self.size += size
        self._file.flush()
        os.fsync(self._file.fileno())
        return places

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_letters(path: str | Path, offset: int, nbytes: int, crc: int) -> bytes:
    """A sequence as upper-case ACGTN, from where `LetterFile.append` said that it lies.

    Raises FormatError where the blob is not whole or not the one whose CRC-32 this is.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            blob = file.read(nbytes)
    except OSError as error:
        raise FormatError("the sequences cannot be read", error.strerror or str(error), place=path) from error
    if len(blob) < nbytes or isal_zlib.crc32(blob) != crc:
        raise _damaged(path, offset)
    found = _letters(blob)
    if found is None:
        raise _damaged(path, offset)
    return found


def _damaged(path: str | Path, offset: int) -> FormatError:
    return FormatError(
        f"the sequence at byte {offset:,} is damaged",
        "its checksum or its length is another",
        "copy the index again, or build it again",
        place=path,
    )


def _blob(letters: bytes) -> tuple[bytes, memoryview]:
    """The two parts of a blob: what is told of the letters, and the letters."""
    packed, runs, _ = pack_letters(bytes(letters).translate(_UPPER))
    head = np.concatenate(([len(letters), len(runs)], runs.ravel())).astype(_INT)
    return head.tobytes(), packed.data


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
