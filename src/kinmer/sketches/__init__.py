"""Sketches of sequences: of all their k-mers a fixed share, at most a fiftieth, by hash (FracMinHash).

Two sequences share k-mers of a sketch as often as k-mers at all, whatever their lengths, so that sketches say
what is contained in what. A k-mer and its reverse complement are one. Only words of A, C, G and T (U is T)
count, in either case.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.kmers.kernels import CLASSES

__all__ = [
    "HASH_BYTES",
    "SKETCH_K",
    "SKETCH_SCALE",
    "pack_sketch",
    "sketch",
    "sketch_many",
    "sketch_positions",
    "thinned",
    "unpack_sketch",
]

# At most 31: a word has 2 bits a letter in 64. Odd: no word is its own reverse complement.
SKETCH_K = 21
SKETCH_SCALE = 50
# That a hash takes where it is kept.
HASH_BYTES = 6

_U = np.uint64
_MASK, _HIGH = _U((1 << (2 * SKETCH_K)) - 1), _U(2 * (SKETCH_K - 1))
_LIMIT, _TIMES = _U((2**64 - 1) // SKETCH_SCALE), _U(SKETCH_SCALE)
_FIRST, _SECOND = _U(0xFF51AFD7ED558CCD), _U(0xC4CEB9FE1A85EC53)


@njit(nogil=True, cache=True)
def _select(letters: Any, classes: Any, values: Any, starts: Any) -> int:
    """Fill hashes that are low enough and where their words begin; gives how many there are.

    letters : (n,) uint8. values, starts : uint64 and int64, filled as far as they have
    room; their last is scratch.
    """
    forward, reverse, run, found, last = _U(0), _U(0), 0, 0, len(values) - 1
    for i in range(len(letters)):
        code = classes[letters[i]]
        run = run + 1 if code < 4 else 0
        base = _U(code & np.uint8(3))
        forward = ((forward << _U(2)) | base) & _MASK
        reverse = (reverse >> _U(2)) | ((_U(3) - base) << _HIGH)
        if run >= SKETCH_K:
            mixed = min(forward, reverse)
            mixed = (mixed ^ (mixed >> _U(33))) * _FIRST
            mixed = (mixed ^ (mixed >> _U(33))) * _SECOND
            mixed ^= mixed >> _U(33)
            if mixed < _LIMIT:
                at = min(found, last)
                values[at], starts[at] = (mixed * _TIMES) >> _U(16), i - SKETCH_K + 1
                found += 1
    return found


def sketch_positions(
    letters: bytes | NDArray[np.uint8], scale: int = SKETCH_SCALE
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Hashes of a sequence as often as they occur, (n,) below 2**48, and where their words begin, (n,).

    scale : one in so many k-mers has a hash that is kept; at least `SKETCH_SCALE`.
    """
    read = np.frombuffer(bytearray(letters), np.uint8) if isinstance(letters, bytes) else letters
    read = np.require(read, np.uint8, ["C", "W"])
    room = len(read) // (SKETCH_SCALE // 2) + 64
    while True:
        values, starts = np.empty(room + 1, np.uint64), np.empty(room + 1, np.int64)
        found = _select(read, CLASSES, values, starts)
        if found <= room:
            values, starts = values[:found], starts[:found]
            kept = slice(None) if scale == SKETCH_SCALE else values < _limit(scale)
            return values[kept], starts[kept]
        # A word that is repeated and has a low hash.
        room = found


def sketch(letters: bytes | NDArray[np.uint8], scale: int = SKETCH_SCALE) -> NDArray[np.uint64]:
    """The sketch of a sequence: its distinct hashes, ascending, (n,) uint64 below 2**48.

    letters : ASCII; every other letter than A, C, G, T and U, in either case, ends a run of words. scale : as
    in `sketch_positions`. What a coarser scale keeps is part of what a finer one does.
    """
    values = np.sort(sketch_positions(letters, scale)[0])
    new = np.ones(len(values), dtype=bool)
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return values[new]


def sketch_many(
    sequences: Sequence[bytes | NDArray[np.uint8]], threads: int = 1, scale: int = SKETCH_SCALE
) -> list[NDArray[np.uint64]]:
    """The sketch of every sequence."""
    one = partial(sketch, scale=scale)
    if threads < 2 or len(sequences) < 2:
        return list(map(one, sequences))
    with ThreadPoolExecutor(threads, "sketches") as pool:
        return list(pool.map(one, sequences))


def thinned(values: NDArray[np.uint64], scale: int) -> NDArray[np.uint64]:
    """What a sketch would be at a coarser scale."""
    return values if scale == SKETCH_SCALE else values[values < _limit(scale)]


def _limit(scale: int) -> np.uint64:
    return np.uint64((1 << 48) * SKETCH_SCALE // scale)


def pack_sketch(values: NDArray[np.uint64]) -> bytes:
    """A sketch as it is kept: the upper 32 bits of every hash, then the lower 16 of each, little-endian."""
    return (values >> _U(16)).astype("<u4").tobytes() + values.astype("<u2").tobytes()


def unpack_sketch(kept: bytes) -> NDArray[np.uint64]:
    """The sketch that `pack_sketch` made bytes of."""
    count = len(kept) // HASH_BYTES
    values = np.frombuffer(kept, "<u4", count).astype(np.uint64) << _U(16)
    values |= np.frombuffer(kept, "<u2", count, 4 * count)
    return values
