"""How often some words (k-mers) occur in every sequence of a space, from its profiles or its sequences."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.index import Storage
from kinmer.index.sequences import EntryLetters
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout, kmer_layout
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.resources import available_cores
from kinmer.vectors.neighbor_graph import Graph
from kinmer.vectors.points import BLOCK_ROWS, Space

__all__ = ["SHARED", "WORDS", "Contracted", "contracted", "dispersions", "least_dispersions", "word_counts"]


# Of the words of this length, or of the longest that were counted, so many are looked at: enough to tell
# independent sequences from copies (`kinmer.vectors.duplicates`), in 1 kB a sequence.
K, WORDS = 6, 512
MOST = int(np.iinfo(np.uint16).max)
# Letters of an index's sequences that are counted together.
BATCH_LETTERS = 1 << 24
Counts = NDArray[np.uint16]


def word_counts(space: Space) -> Counts | None:
    """(n, at most `WORDS`) counts of words, the same words for all; None where there is nothing to count in.

    From the profiles (frequencies: where the length is known), or the sequences of an index. In a file
    without a name. A sequence with a count above 65,535 (about 100 million bases) has zeros only.
    """
    if space.profiles is not None:
        return _of_profiles(space, space.profiles)
    return None if space.index is None else _of_index(space, space.index)


def _chosen(layout: Layout) -> NDArray[np.int64]:
    """Columns of the words, ascending: spread over the block by chance, always the same."""
    blocks = layout.kmer_blocks
    block = next((one for one in blocks if one.k == K), max(blocks, key=lambda one: one.k))
    drawn = np.random.default_rng(0).permutation(block.size)[:WORDS]
    return np.asarray(block.start + np.sort(drawn), np.int64)


def _room(rows: int, words: int) -> Counts:
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.uint16, "w+", shape=(rows, words))


def _fitting(counts: NDArray[np.integer]) -> Counts:
    return np.where((counts > MOST).any(axis=1, keepdims=True), 0, counts).astype(np.uint16)


def _of_profiles(space: Space, profiles: Profiles) -> Counts | None:
    windows = None
    columns = _chosen(profiles.layout)
    if profiles.values != "counts":
        windows = _windows(profiles.obs, _k_of(profiles.layout, columns))
        if windows is None:
            return None
    kept = _room(len(space), len(columns))
    with step("Words", len(space)) as progress:
        for start in range(0, len(space), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(space))
            rows = profiles.read(start, stop)[:, columns]
            if windows is not None:
                rows = np.rint(rows * windows[start:stop, None]).astype(np.int64)
            kept[start:stop] = _fitting(rows)
            progress.advance(stop - start)
    return kept


def _k_of(layout: Layout, columns: NDArray[np.int64]) -> int:
    return next(one.k for one in layout.kmer_blocks if one.start <= columns[0] < one.stop)


def _windows(obs: pd.DataFrame, k: int) -> NDArray[np.float64] | None:
    """(n,) words in every sequence, by its length; 0 where that is not known; None where none is."""
    name = next((one for one in ("bases", "length") if one in obs), None)
    if name is None:
        return None
    length = pd.to_numeric(obs[name], errors="coerce").to_numpy(np.float64)
    windows = np.nan_to_num(np.maximum(length - k + 1, 0))
    return windows if windows.any() else None


def _of_index(space: Space, index: Storage) -> Counts | None:
    letters = EntryLetters(index)
    if letters.lacking():
        return None
    layout = kmer_layout(K)
    columns = _chosen(layout)
    counter = KmerCounter(layout, available_cores())
    kept = _room(len(space), len(columns))
    try:
        with step("Words", len(space)) as progress:
            for numbers, sequences in _batches(letters, index.numbers):
                ends = np.cumsum([len(one) for one in sequences])
                starts = ends - [len(one) for one in sequences]
                buffer = np.frombuffer(b"".join(sequences), np.uint8)
                counted = counter.count(buffer, starts, ends).counts
                kept[np.searchsorted(index.numbers, numbers)] = _fitting(counted[:, columns])
                progress.advance(len(numbers))
    except InputError:
        # The files are gone or have changed: the vectors must do.
        return None
    return kept


def _batches(letters: EntryLetters, numbers: NDArray[np.int64]) -> Iterator[tuple[list[int], list[bytes]]]:
    """Numbers and letters of some entries, of about `BATCH_LETTERS` together."""
    held: list[int] = []
    sequences: list[bytes] = []
    room = BATCH_LETTERS
    for start in range(0, len(numbers), BLOCK_ROWS):
        for number, sequence in letters.each(numbers[start : start + BLOCK_ROWS].tolist()):
            held.append(number)
            sequences.append(sequence)
            room -= len(sequence)
            if room <= 0:
                yield held, sequences
                held, sequences, room = [], [], BATCH_LETTERS
    if held:
        yield held, sequences


# mypy: disallow_untyped_decorators=False


# Sequences are near-duplicates where at most half of their words are not shared (see the docstring above).
SHARED = 0.5
# Nor may chance do it: so many standard deviations below 1, where there are few words.
CERTAIN = 6.0
ROUNDS = 12
# Where copies are at least a tenth of all, samples overlap: a copy may lie behind others of its genome, whose
# reading frames came out alike by chance, so once more neighbors are looked at, by this factor.
MANY, WIDER = 0.1, 4
# Rows whose wider neighbors are held at once.
ASKED = 1 << 16
# Rows that a thread compares at once.
BLOCK = 4096
# Of vectors alone only equal ones are known to be copies: cosine distances up to rounding.
ROUNDING = 1e-6
GAP = 4.0
Rows = NDArray[np.int64]


class Search(Protocol):
    """Finds the k nearest others of every point, or of `rows`, among the points (n,) that are marked."""

    def __call__(self, k: int, *, rows: Rows | None = None, among: NDArray[np.bool_] | None = None) -> Graph:
        """The graph; see `Neighbors.graph`."""
        ...


class Contracted(NamedTuple):
    """representative (n,) of every point, itself where it has no near-duplicate. graph : of the
    representatives, with rows and indices 0 … m - 1 in their order. by_words : known by words, not by vectors
    alone."""

    representative: Rows
    graph: Graph
    by_words: bool

    @property
    def gaps(self) -> float:
        """Share of the representatives one of whose neighbors is `GAP` times as far as the one before it."""
        far = np.where(self.graph.indices >= 0, self.graph.distances, np.nan)
        if not len(far) or far.shape[1] < 2:
            return 0.0
        return float((far[:, 1:] > GAP * np.maximum(far[:, :-1], ROUNDING)).any(axis=1).mean())


def contracted(space: Space, search: Search, k: int) -> Contracted:
    """Near-duplicates brought together, and the graph of the k nearest of what is left.

    A representative is a near-duplicate of all that it stands for (in one round; where copies are more than
    k, several are needed): the sequence with most near-duplicates, of those the longest, the first. It has k
    neighbors that are no copies of it.

    Where there is nothing to count words in (`word_counts`), equal vectors are brought together.
    """
    graph, words = search(k), word_counts(space)
    n = graph.points
    near, far = graph.indices, graph.distances
    length = np.zeros(n)
    if "length" in space.obs:
        length = pd.to_numeric(space.obs["length"], errors="coerce").fillna(0).to_numpy(np.float64)

    def alike(rows: Rows, near: NDArray[np.int32], far: NDArray[np.float32]) -> Rows:
        return _pairs(rows, near, far <= ROUNDING if words is None else _similar(words, rows, near))

    representative, alive, kept = np.arange(n), np.ones(n, bool), np.arange(n)
    pairs = alike(kept, near, far)
    for turn in range(ROUNDS):
        if not len(pairs):
            break
        representative = _stars(n, pairs, length)[representative]
        alive = representative == np.arange(n)
        kept = np.flatnonzero(alive)
        many = turn == 0 and len(kept) <= (1 - MANY) * n
        there = near[kept] >= 0
        fewer = (there & ~alive[np.maximum(near[kept], 0)]).any(axis=1)
        asked, width = (kept, WIDER * k) if many else (kept[fewer], k)
        found = [np.empty((0, 2), np.int64)]
        for start in range(0, len(asked), ASKED):
            rows = asked[start : start + ASKED]
            fresh = search(width, rows=rows, among=alive)
            near[rows], far[rows] = fresh.indices[:, :k], fresh.distances[:, :k]
            found.append(alike(rows, fresh.indices, fresh.distances))
        pairs = np.unique(np.concatenate(found), axis=0)
    if not alive.all():
        position = np.full(n, -1, np.int32)
        position[kept] = np.arange(len(kept))
        near = np.where(near[kept] >= 0, position[near[kept]], np.int32(-1))
        graph = Graph(np.arange(len(kept)), near, far[kept], len(kept), graph.exact)
    return Contracted(representative, graph, words is not None)


def _pairs(rows: Rows, near: NDArray[np.int32], same: NDArray[np.bool_]) -> Rows:
    """(m, 2) rows and those of their neighbors (len(rows), k) that are the same, each pair once."""
    place, rank = np.nonzero(same & (near >= 0))
    ends = np.stack([rows[place], near[place, rank]], axis=1)
    ends.sort(axis=1)
    return np.asarray(np.unique(ends, axis=0), np.int64)


def _similar(words: NDArray[np.uint16], rows: Rows, near: NDArray[np.int32]) -> NDArray[np.bool_]:
    """(len(rows), k) which neighbors are near-duplicates by their words."""
    least = least_dispersions(words.shape[1])
    same = np.zeros(near.shape, np.bool_)

    def compared(start: int) -> int:
        part = slice(start, start + BLOCK)
        _compare(words, rows[part], near[part], same[part], least)
        return len(rows[part])

    with step("Near-duplicates", len(rows)) as progress, ThreadPoolExecutor(available_cores()) as pool:
        for done in pool.map(compared, range(0, len(rows), BLOCK)):
            progress.advance(done)
    return same


def _stars(n: int, pairs: Rows, length: NDArray[np.float64]) -> Rows:
    """The centre (n,) of every point: stars of near-duplicates, the largest first."""
    degree = np.bincount(pairs.ravel(), minlength=n)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.concatenate([[0], np.cumsum(degree)])
    ends = np.flatnonzero(degree)
    order = ends[np.lexsort((ends, -np.nan_to_num(length[ends]), -degree[ends]))]
    centre = np.arange(n)
    _take(order, starts, both[:, 1].copy(), centre, np.zeros(n, np.bool_))
    return centre


def least_dispersions(words: int) -> NDArray[np.float64]:
    """(words + 1,) the dispersion up to which two sequences are near-duplicates, by the words that they have.

    `SHARED`, and no more than independent sequences have by chance (chi-squared, Wilson and Hilferty 1931).
    """
    spread = 2 / (9 * np.maximum(1.0, np.arange(words + 1) - 1))
    chance = np.maximum(0, 1 - spread - CERTAIN * np.sqrt(spread)) ** 3
    return np.asarray(np.minimum(SHARED, chance), np.float64)


def dispersions(words: NDArray[np.uint16], pairs: Rows) -> NDArray[np.float64]:
    """(m,) X² / df of the word counts of pairs (m, 2) of rows; infinite where nothing is counted."""
    return np.array([_dispersion(words[a], words[b])[0] for a, b in pairs.tolist()])


@njit(cache=True, nogil=True)
def _dispersion(one: NDArray[np.uint16], other: NDArray[np.uint16]) -> tuple[float, int]:
    """X² / df of two rows of counts, and how many words occur in them."""
    total_one, total_other = 0, 0
    for word in range(one.size):
        total_one += one[word]
        total_other += other[word]
    if total_one == 0 or total_other == 0:
        return np.inf, 0
    share = total_one / (total_one + total_other)
    squares, occur = 0.0, 0
    for word in range(one.size):
        both = np.int64(one[word]) + np.int64(other[word])
        if both:
            off = one[word] - both * share
            squares += off * off / both
            occur += 1
    if occur < 2:
        return np.inf, occur
    return squares / (share * (1 - share)) / (occur - 1), occur


@njit(cache=True, nogil=True)
def _compare(
    words: NDArray[np.uint16],
    rows: Rows,
    near: NDArray[np.int32],
    same: NDArray[np.bool_],
    least: NDArray[np.float64],
) -> None:
    """Mark in `same` (m, k) the neighbors `near` (m, k) of rows (m,) that are near-duplicates of them."""
    for place in range(rows.size):
        row = rows[place]
        for rank in range(near.shape[1]):
            other = near[place, rank]
            if other >= 0:
                dispersion, occur = _dispersion(words[row], words[other])
                same[place, rank] = dispersion < least[occur]


@njit(cache=True, nogil=True)
def _take(order: Rows, starts: Rows, ends: Rows, centre: Rows, taken: NDArray[np.bool_]) -> None:
    """Every point of `order` that is not taken yet takes its neighbors (ends[starts[i]:starts[i + 1]])."""
    for row in order:
        if taken[row]:
            continue
        taken[row] = True
        for place in range(starts[row], starts[row + 1]):
            other = ends[place]
            if not taken[other]:
                taken[other] = True
                centre[other] = row
