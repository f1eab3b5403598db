"""Near-duplicates: sequences that share most of their words, such as those of samples that overlap.

Distances cannot tell them: how near two independent contigs of one genome are depends on their length and on
the encoder. Counts can. Two sequences that were drawn independently from one source differ by the noise of
counting: the dispersion X² / df of their word counts (Pearson's test of homogeneity) is 1 at any length, and
more where the sources differ. Where two share a part, its words add nothing, so that the dispersion is about
the share of words that only one of them has: 0 for copies and reverse complements, .05 where a tenth was cut
off, .2 to .4 at 3 % substitutions.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

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
from kinmer.inputs import unnamed_array
from kinmer.kmers import KmerCounter
from kinmer.layout import Block, Layout, kmer_layout
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.resources import available_cores
from kinmer.vectors.knn import Graph
from kinmer.vectors.points import BLOCK_ROWS, Vectors

# Of the words of this length, or of the longest that were counted, so many are looked at: enough to tell
# independent sequences from copies, in 1 kB a sequence.
K, WORDS = 6, 512
MOST = int(np.iinfo(np.uint16).max)
# Bytes of an index's sequences that are counted together.
BATCH_BYTES = 1 << 24
# Sequences are near-duplicates where at most half of their words are not shared.
SHARED = 0.5
# Nor may chance do it: so many standard deviations below 1, where there are few words.
CERTAIN = 6.0
ROUNDS = 12
# Where copies are at least a tenth of all, samples overlap: a copy may lie behind others of its genome, whose
# reading frames came out alike by chance, so once more neighbors are looked at, by this factor.
MANY, WIDER = 0.1, 4
# Rows whose wider neighbors are held at once, and rows that a thread compares at once.
ASKED, BLOCK = 1 << 16, 4096
# Of vectors alone only equal ones are known to be copies: cosine distances up to rounding.
ROUNDING = 1e-6
GAP = 4.0
Rows = NDArray[np.int64]
Counts = NDArray[np.uint16]
Near = NDArray[np.int32]


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
        distances = np.where(self.graph.indices >= 0, self.graph.distances, np.nan)
        if not len(distances) or distances.shape[1] < 2:
            return 0.0
        return float((distances[:, 1:] > GAP * np.maximum(distances[:, :-1], ROUNDING)).any(axis=1).mean())


def contracted(points: Vectors, search: Search, k: int) -> Contracted:
    """Near-duplicates brought together, and the graph of the k nearest of what is left.

    A representative is a near-duplicate of all that it stands for (in one round; where copies are more than
    k, several are needed): the sequence with most near-duplicates, of those the longest, the first. It has k
    neighbors that are not copies of it.

    Where there is nothing to count words in (`word_counts`), equal vectors are brought together.
    """
    graph, words = search(k), word_counts(points)
    n = graph.points
    near, distances = graph.indices, graph.distances
    length = np.zeros(n)
    if "length" in points.obs:
        length = pd.to_numeric(points.obs["length"], errors="coerce").fillna(0).to_numpy(np.float64)

    def alike(rows: Rows, near: Near, distances: NDArray[np.float32]) -> Rows:
        return _pairs(rows, near, distances <= ROUNDING if words is None else _similar(words, rows, near))

    representative, alive, kept = np.arange(n), np.ones(n, bool), np.arange(n)
    pairs = alike(kept, near, distances)
    for turn in range(ROUNDS):
        if not len(pairs):
            break
        representative = _stars(n, pairs, length)[representative]
        alive = representative == np.arange(n)
        kept = np.flatnonzero(alive)
        many = turn == 0 and len(kept) <= (1 - MANY) * n
        fewer = ((near[kept] >= 0) & ~alive[np.maximum(near[kept], 0)]).any(axis=1)
        asked, width = (kept, WIDER * k) if many else (kept[fewer], k)
        matches = [np.empty((0, 2), np.int64)]
        for start in range(0, len(asked), ASKED):
            rows = asked[start : start + ASKED]
            fresh = search(width, rows=rows, among=alive)
            near[rows], distances[rows] = fresh.indices[:, :k], fresh.distances[:, :k]
            matches.append(alike(rows, fresh.indices, fresh.distances))
        pairs = np.unique(np.concatenate(matches), axis=0)
    if not alive.all():
        position = np.full(n, -1, np.int32)
        position[kept] = np.arange(len(kept))
        near = np.where(near[kept] >= 0, position[near[kept]], np.int32(-1))
        graph = Graph(np.arange(len(kept)), near, distances[kept], len(kept), graph.exact)
    return Contracted(representative, graph, words is not None)


def _pairs(rows: Rows, near: Near, same: NDArray[np.bool_]) -> Rows:
    """(m, 2) rows and those of their neighbors (len(rows), k) that are the same, each pair once."""
    place, rank = np.nonzero(same & (near >= 0))
    ends = np.stack([rows[place], near[place, rank]], axis=1)
    ends.sort(axis=1)
    return np.asarray(np.unique(ends, axis=0), np.int64)


def _similar(words: Counts, rows: Rows, near: Near) -> NDArray[np.bool_]:
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
    """The center (n,) of every point: stars of near-duplicates, the largest first."""
    degree = np.bincount(pairs.ravel(), minlength=n)
    both = np.concatenate([pairs, pairs[:, ::-1]])
    both = both[np.lexsort((both[:, 1], both[:, 0]))]
    starts = np.concatenate([[0], np.cumsum(degree)])
    ends = np.flatnonzero(degree)
    order = ends[np.lexsort((ends, -np.nan_to_num(length[ends]), -degree[ends]))]
    center = np.arange(n)
    _take(order, starts, both[:, 1].copy(), center, np.zeros(n, np.bool_))
    return center


def least_dispersions(words: int) -> NDArray[np.float64]:
    """(words + 1,) the dispersion up to which two sequences are near-duplicates, by the words that they have.

    `SHARED`, and no more than independent sequences have by chance (chi-squared, Wilson and Hilferty 1931).
    """
    spread = 2 / (9 * np.maximum(1.0, np.arange(words + 1) - 1))
    chance = np.maximum(0, 1 - spread - CERTAIN * np.sqrt(spread)) ** 3
    return np.asarray(np.minimum(SHARED, chance), np.float64)


def dispersions(words: Counts, pairs: Rows) -> NDArray[np.float64]:
    """(m,) X² / df of the word counts of pairs (m, 2) of rows; infinite where nothing is counted."""
    return np.array([_dispersion(words[a], words[b])[0] for a, b in pairs.tolist()])


@njit(cache=True, nogil=True)
def _dispersion(one: Counts, other: Counts) -> tuple[float, int]:
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
    words: Counts, rows: Rows, near: Near, same: NDArray[np.bool_], least: NDArray[np.float64]
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
def _take(order: Rows, starts: Rows, ends: Rows, center: Rows, taken: NDArray[np.bool_]) -> None:
    """Every point of `order` that is not taken yet takes its neighbors (ends[starts[i]:starts[i + 1]])."""
    for row in order:
        if taken[row]:
            continue
        taken[row] = True
        for place in range(starts[row], starts[row + 1]):
            other = ends[place]
            if not taken[other]:
                taken[other] = True
                center[other] = row


def word_counts(points: Vectors) -> Counts | None:
    """(n, at most `WORDS`) counts of words, the same words for all; None where there is nothing to count in.

    From the profiles (frequencies: where the length is known), or the sequences of an index. In an unnamed
    file. A sequence with a count above 65,535 (about 100 million bases) has zeros only.
    """
    if points.profiles is not None:
        return _of_profiles(points, points.profiles)
    return None if points.index is None else _of_index(points, points.index)


def _chosen(layout: Layout) -> tuple[Block, Rows]:
    """The block of the words and their columns, ascending: spread over it by chance, always the same."""
    blocks = layout.kmer_blocks
    block = next((block for block in blocks if block.k == K), max(blocks, key=lambda block: block.k))
    drawn = np.random.default_rng(0).permutation(block.size)[:WORDS]
    return block, np.asarray(block.start + np.sort(drawn), np.int64)


def _fitting(counts: NDArray[np.integer]) -> Counts:
    return np.where((counts > MOST).any(axis=1, keepdims=True), 0, counts).astype(np.uint16)


def _of_profiles(points: Vectors, profiles: Profiles) -> Counts | None:
    windows = None
    block, columns = _chosen(profiles.layout)
    if profiles.values != "counts":
        windows = _windows(profiles.obs, block.k)
        if windows is None:
            return None
    kept = unnamed_array(np.uint16, len(points), len(columns))
    with step("Words", len(points)) as progress:
        for start in range(0, len(points), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(points))
            rows = profiles.read(start, stop)[:, columns]
            if windows is not None:
                rows = np.rint(rows * windows[start:stop, None]).astype(np.int64)
            kept[start:stop] = _fitting(rows)
            progress.advance(stop - start)
    return kept


def _windows(obs: pd.DataFrame, k: int) -> NDArray[np.float64] | None:
    """(n,) words in every sequence, by its length; 0 where that is not known; None where none is."""
    name = next((name for name in ("bases", "length") if name in obs), None)
    if name is None:
        return None
    length = pd.to_numeric(obs[name], errors="coerce").to_numpy(np.float64)
    windows = np.nan_to_num(np.maximum(length - k + 1, 0))
    return windows if windows.any() else None


def _of_index(points: Vectors, index: Storage) -> Counts | None:
    letters = EntryLetters(index)
    if letters.lacking():
        return None
    layout = kmer_layout(K)
    _, columns = _chosen(layout)
    counter = KmerCounter(layout, available_cores())
    kept = unnamed_array(np.uint16, len(points), len(columns))
    try:
        with step("Words", len(points)) as progress:
            for numbers, sequences in _batches(letters, index.numbers):
                sizes = np.array([len(sequence) for sequence in sequences])
                ends = np.cumsum(sizes)
                buffer = np.frombuffer(b"".join(sequences), np.uint8)
                counts = counter.count(buffer, ends - sizes, ends).counts
                kept[np.searchsorted(index.numbers, numbers)] = _fitting(counts[:, columns])
                progress.advance(len(numbers))
    except InputError:
        # The files are gone or have changed: the vectors must do.
        return None
    return kept


def _batches(letters: EntryLetters, numbers: Rows) -> Iterator[tuple[list[int], list[bytes]]]:
    """Numbers and sequences of some entries, of about `BATCH_BYTES` together."""
    held: list[int] = []
    sequences: list[bytes] = []
    size = 0
    for start in range(0, len(numbers), BLOCK_ROWS):
        for number, sequence in letters.each(numbers[start : start + BLOCK_ROWS].tolist()):
            held.append(number)
            sequences.append(sequence)
            size += len(sequence)
            if size >= BATCH_BYTES:
                yield held, sequences
                held, sequences, size = [], [], 0
    if held:
        yield held, sequences
