"""Which entries have a hash: all sketches of a collection in one array, sorted by hash and looked up there.

Hashes have 48 bits. `starts` says where those of each upper 16 bits begin, so that 32 bits of each are kept,
and the number of the entry beside them.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

PREFIXES = 1 << 16
# Hashes that are sorted at a time: 0.5 GB, or as many that there are about so many parts.
AT_ONCE, FEW_PARTS = 1 << 26, 4
# Hashes that are merged at a time.
MERGED = 1 << 22
# Entries that may have a hash. A word that more have says little, and would be most of the work.
MOST_POSTINGS = 4096

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]
# A sketch and the number of its entry.
Block = tuple[Hashes, int]

_U = np.uint64
_LOW = _U(0xFFFFFFFF)


class Part(NamedTuple):
    """The postings of some prefixes in a row: as in `Postings`, and how many each prefix has (p,)."""

    low: NDArray[np.uint32]
    entry: NDArray[np.uint32]
    counts: Numbers


@dataclass(frozen=True)
class Shared:
    """Hashes that queries share with genomes, sorted by query, then genome; (n,) int64 each.

    query : its position. genome : its number. count : distinct hashes of the query that the genome has.
    """

    query: Numbers
    genome: Numbers
    count: Numbers


@dataclass(frozen=True)
class Postings:
    """All hashes in order, and of equal ones the entries.

    starts : (2**16 + 1,) int64, where the hashes of each upper 16 bits begin. low : (n,) uint32, the lower
    32 bits. entry : (n,) uint32, numbers.
    """

    starts: Numbers
    low: NDArray[np.uint32]
    entry: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.low)

    @classmethod
    def of(cls, blocks: Callable[[], Iterable[Block]]) -> Postings:
        """Those of some sketches, in memory."""
        starts = count_prefixes(blocks())
        parts = list(arranged(blocks, starts))
        low = np.concatenate([one.low for one in parts]) if parts else np.empty(0, np.uint32)
        entry = np.concatenate([one.entry for one in parts]) if parts else np.empty(0, np.uint32)
        return cls(starts, low, entry)

    @classmethod
    def none(cls) -> Postings:
        """Those of no sketch."""
        return cls(np.zeros(PREFIXES + 1, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint32))

    @property
    def _arrays(self) -> tuple[Numbers, NDArray[np.uint32], NDArray[np.uint32]]:
        """Of one type each, for a kernel is compiled once: mapped ones cannot be written to."""
        arrays = (np.asarray(self.starts)[:], np.asarray(self.low)[:], np.asarray(self.entry)[:])
        for array in arrays:
            array.setflags(write=False)
        return arrays


# Those of three parts of the entries.
Parts = tuple[Postings, Postings, Postings]


def count_prefixes(blocks: Iterable[Block]) -> Numbers:
    """`Postings.starts` of some sketches."""
    counts = np.zeros(PREFIXES + 1, np.int64)
    for values, _ in blocks:
        _count(values, counts)
    return np.cumsum(counts)


def arranged(
    blocks: Callable[[], Iterable[Block]], starts: Numbers, at_once: int | None = None
) -> Iterator[Part]:
    """`Postings.low` and `Postings.entry` of some sketches, a part after the other.

    Sketches are read again for every part, which has at most `at_once` hashes, or those of one prefix. By
    default there are few parts, so that many sketches are not read many times.
    """
    first, at_once = 0, at_once or max(AT_ONCE, -(-int(starts[-1]) // FEW_PARTS))
    while first < PREFIXES:
        stop = int(np.searchsorted(starts, starts[first] + at_once, side="right")) - 1
        stop = min(max(stop, first + 1), PREFIXES)
        edges = starts[first : stop + 1] - starts[first]
        if edges[-1]:
            keys, filled = np.empty(edges[-1], np.uint64), edges[:-1].copy()
            for values, entry in blocks():
                _place(values, _U(entry), first, filled, keys)
            for begin, end in pairwise(edges.tolist()):
                keys[begin:end].sort()
            lows, entries = (keys >> _U(32)).astype(np.uint32), (keys & _LOW).astype(np.uint32)
            yield Part(lows, entries, np.diff(edges))
        first = stop


def merged(parts: Parts, alive: NDArray[np.bool_], at_once: int = MERGED) -> Iterator[Part]:
    """`Postings.low` and `Postings.entry` of three in one, a part after the other.

    alive : (n,) which entries stay. at_once : hashes of a part, or those of one prefix.
    """
    edges = np.sum([part.starts for part in parts], axis=0)
    arrays, first = [part._arrays for part in parts], 0
    while first < PREFIXES:
        stop = int(np.searchsorted(edges, edges[first] + at_once, side="right")) - 1
        stop = min(max(stop, first + 1), PREFIXES)
        room, counts = int(edges[stop] - edges[first]), np.zeros(stop - first, np.int64)
        lows, entries = np.empty(room, np.uint32), np.empty(room, np.uint32)
        filled = _merge(first, *arrays, alive, lows, entries, counts)
        yield Part(lows[:filled], entries[:filled], counts)
        first = stop


def count_shared(sketches: Sequence[Hashes], parts: Parts, genomes: Numbers, home: Numbers) -> Shared:
    """What each sketch shares with every genome, by the postings of three parts of the entries.

    genomes : (g,) ascending numbers. home : (n,) position among these of the genome of each entry below n, -1
    for one that is passed over, as those above are.
    """
    values = np.concatenate([np.empty(0, np.uint64), *sketches])
    edges = np.concatenate(([0], np.cumsum([len(one) for one in sketches], dtype=np.int64)))
    scratch = np.zeros((3, len(genomes)), np.int64)
    out, query, found = np.empty((len(genomes) + PREFIXES, 3), np.int64), 0, []
    arrays = [part._arrays for part in parts]
    while query < len(sketches) and len(genomes):
        query, filled = _shared(values, edges, query, *arrays, home, scratch, out)
        found.append(out[:filled].copy())
    lines = np.concatenate([np.empty((0, 3), np.int64), *found])
    lines = lines[np.lexsort((lines[:, 1], lines[:, 0]))]
    return Shared(lines[:, 0].copy(), genomes[lines[:, 1]], lines[:, 2].copy())


@njit(nogil=True, cache=True)
def _count(values: Any, counts: Any) -> None:
    for value in values:
        counts[(value >> _U(32)) + _U(1)] += 1


@njit(nogil=True, cache=True)
def _place(values: Any, entry: Any, first: int, filled: Any, keys: Any) -> None:
    """Put hashes of the prefixes from `first` into their rooms; filled : (p,) int64, where each goes on."""
    for i in range(len(values)):
        prefix = np.int64(values[i] >> _U(32)) - first
        if 0 <= prefix < len(filled):
            keys[filled[prefix]] = (values[i] << _U(32)) | entry
            filled[prefix] += 1


@njit(nogil=True, cache=True)
def _merge(first: int, one: Any, two: Any, three: Any, alive: Any, low: Any, entry: Any, counts: Any) -> int:
    """Fill `low` and `entry` with the postings of len(counts) prefixes of three parts, in order."""
    filled, end = 0, ~_U(0)
    for prefix in range(first, first + len(counts)):
        before = filled
        i, j, k = one[0][prefix], two[0][prefix], three[0][prefix]
        while True:
            a = (_U(one[1][i]) << _U(32)) | _U(one[2][i]) if i < one[0][prefix + 1] else end
            b = (_U(two[1][j]) << _U(32)) | _U(two[2][j]) if j < two[0][prefix + 1] else end
            c = (_U(three[1][k]) << _U(32)) | _U(three[2][k]) if k < three[0][prefix + 1] else end
            least = min(a, b, c)
            if least == end:
                break
            i, j, k = i + (a == least), j + (b == least), k + (c == least)
            if alive[least & _LOW]:
                low[filled], entry[filled] = least >> _U(32), least & _LOW
                filled += 1
        counts[prefix - first] = filled - before
    return filled


@njit(nogil=True, cache=True)
def _postings(part: Any, value: Any) -> Any:
    """The entries that have a hash, in one part."""
    starts, low, entry = part
    begin, end, wanted = starts[value >> _U(32)], starts[(value >> _U(32)) + _U(1)], np.uint32(value & _LOW)
    first = begin + np.searchsorted(low[begin:end], wanted)
    last = first
    while last < end and low[last] == wanted:
        last += 1
    return entry[first:last]


@njit(nogil=True, cache=True)
def _alive(entries: Any, home: Any) -> int:
    """How many of some entries count."""
    found = 0
    for entry in entries:
        found += entry < len(home) and home[entry] >= 0
    return found


@njit(nogil=True, cache=True)
def _note(entries: Any, home: Any, mark: int, scratch: Any, met: int) -> int:
    """Count a hash, which is known by its mark, for the genomes of some entries; gives how many were met."""
    counts, seen, touched = scratch[0], scratch[1], scratch[2]
    for entry in entries:
        genome = home[entry] if entry < len(home) else -1
        if genome >= 0 and seen[genome] != mark:
            seen[genome] = mark
            if counts[genome] == 0:
                touched[met] = genome
                met += 1
            counts[genome] += 1
    return met


@njit(nogil=True, cache=True)
def _shared(
    values: Any,
    edges: Any,
    query: int,
    base: Any,
    late: Any,
    tail: Any,
    home: Any,
    scratch: Any,
    out: Any,
) -> tuple[int, int]:
    """Fill query, genome's position and count of queries from `query` on, as far as there is room for all.

    scratch : (3, g) int64, zeros at first. Gives the next query and the lines filled.
    """
    counts, touched, filled = scratch[0], scratch[2], 0
    while query < len(edges) - 1 and filled + len(counts) <= len(out):
        met = 0
        for at in range(edges[query], edges[query + 1]):
            one, two = _postings(base, values[at]), _postings(late, values[at])
            last = _postings(tail, values[at])
            many = len(one) + len(two) + len(last) > MOST_POSTINGS
            if many and _alive(one, home) + _alive(two, home) + _alive(last, home) > MOST_POSTINGS:
                continue
            met = _note(one, home, at + 1, scratch, met)
            met = _note(two, home, at + 1, scratch, met)
            met = _note(last, home, at + 1, scratch, met)
        for genome in touched[:met]:
            out[filled, 0], out[filled, 1], out[filled, 2] = query, genome, counts[genome]
            counts[genome] = 0
            filled += 1
        query += 1
    return query, filled
