"""Letters packed in 2 bits and back: kernels over arrays."""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.kmers.kernels import CLASSES

__all__ = ["pack_letters", "unpack"]

# Of CLASSES: an IUPAC code and the like.
_AMBIGUOUS = 5
_N = 78


def _fours() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The four letters in every byte, (256,) uint32 each: as they are, and their reverse complement."""
    codes = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
    letters = np.frombuffer(b"ACGT", np.uint8)
    forward = letters[codes].copy().view(np.uint32).ravel()
    reverse = letters[3 - codes[:, ::-1]].copy().view(np.uint32).ravel()
    return forward, reverse


_FORWARD, _REVERSE = _fours()


@njit(nogil=True, cache=True)
def _pack(letters: Any, classes: Any, packed: Any, spans: Any) -> tuple[int, int]:
    """Pack letters, the first in the lowest bits of a byte; an ambiguous one is packed as A.

    packed : (at least len(letters) / 4,) uint8, zeros. spans : (n, 2) int64, filled with start and end of the
    runs of ambiguous letters as far as it has room. Gives the number of runs, and the offset of the first
    byte that is no nucleotide code (packing stops there) or -1.
    """
    found, last = 0, -2
    for i in range(len(letters)):
        code = classes[letters[i]]
        if code < 4:
            packed[i >> 2] |= np.uint8(code << np.uint8(2 * (i & 3)))
        elif code == _AMBIGUOUS:
            if last != i - 1:
                found += 1
                if found <= len(spans):
                    spans[found - 1, 0] = i
            if found <= len(spans):
                spans[found - 1, 1] = i + 1
            last = i
        else:
            return found, i
    return found, -1


def pack_letters(letters: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Letters packed, (ceil(n / 4),) uint8; runs of ambiguous ones, (m, 2); the first invalid one or -1."""
    read, room = np.frombuffer(bytearray(letters), np.uint8), 64
    while True:
        packed, spans = np.zeros(-(-len(letters) // 4), np.uint8), np.empty((room, 2), np.int64)
        found, invalid = _pack(read, CLASSES, packed, spans)
        if found <= room or invalid >= 0:
            return packed, spans[:found], invalid
        room = found


@njit(nogil=True, cache=True)
def unpack(packed: Any, spans: Any, places: Any, offsets: Any, buffer: Any, bounds: Any) -> None:
    """Unpack pieces of sequences as upper-case letters, N where they are ambiguous.

    spans : (m, 2) int64, ascending, runs of ambiguous letters, counted over `packed` (4 a byte).
    places : (n, 3) int64: first and last letter (excluded), counted like that, and 1 for the reverse
    complement. offsets : (n,) int64, where in `buffer` (uint32, four letters each) a piece's room begins, in
    bytes: 4 for every byte of `packed` that it touches. Filled: bounds (n, 2) int64, where in the buffer's
    bytes the piece itself begins and ends.
    """
    letters = buffer.view(np.uint8)
    for piece in range(len(places)):
        start, end, reverse = places[piece, 0], places[piece, 1], places[piece, 2]
        first, last = start // 4, (end + 3) // 4
        room = buffer[offsets[piece] // 4 : offsets[piece] // 4 + last - first]
        source = packed[first:last]
        if reverse == 0:
            for i in range(len(source)):
                room[i] = _FORWARD[source[i]]
            begin = offsets[piece] + start - 4 * first
        else:
            top = len(source) - 1
            for i in range(len(source)):
                room[top - i] = _REVERSE[source[i]]
            begin = offsets[piece] + 4 * last - end
        bounds[piece, 0], bounds[piece, 1] = begin, begin + end - start
        run = np.searchsorted(spans[:, 1], start, side="right")
        while run < len(spans) and spans[run, 0] < end:
            low, high = max(start, spans[run, 0]), min(end, spans[run, 1])
            if reverse == 0:
                letters[begin + low - start : begin + high - start] = _N
            else:
                letters[begin + end - high : begin + end - low] = _N
            run += 1
