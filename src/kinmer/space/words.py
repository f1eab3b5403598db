"""How often some words (k-mers) occur in every sequence of a space, from its profiles or its sequences."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.index import KinIndex
from kinmer.index.lettering import EntryLetters
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout, kmer_layout
from kinmer.machine import available_cores
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.space.points import BLOCK_ROWS, Space

__all__ = ["WORDS", "word_counts"]

# Of the words of this length, or of the longest that were counted, so many are looked at: enough to tell
# independent sequences from copies (`kinmer.space.duplicates`), in 1 kB a sequence.
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


def _of_index(space: Space, index: KinIndex) -> Counts | None:
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
