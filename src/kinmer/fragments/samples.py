"""Counted fragments of packed sequences: what closed forms are fitted on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from kinmer.fragments.packed import Fragments, PackedSequences, Places
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout

# The stream of random numbers that samples have of a seed.
STREAM = 3 << 8
# Rows of a block of `sample_fragments` at most.
SAMPLE_ROWS = 2048
# Letters unpacked together: they stay in the cache until they are counted.
BLOCK_LETTERS = 1 << 20


def count_fragments(
    packed: PackedSequences, counter: KmerCounter, fragments: Fragments
) -> NDArray[np.uint32]:
    """Profiles of fragments, (n, width)."""
    counts = np.empty((len(fragments), counter.layout.width), np.uint32)
    edges = np.flatnonzero(np.diff(np.cumsum(fragments.sizes) // BLOCK_LETTERS, prepend=-1))
    for start, stop in zip(edges, [*edges[1:], len(counts)], strict=True):
        some = fragments.take(slice(start, stop))
        counts[start:stop] = counter.count(
            *packed.unpack(some.sequences, some.begins, some.sizes, some.reverse)
        ).counts
    return counts


def sample_fragments(
    packed: PackedSequences,
    layout: Layout,
    *,
    per_group: int,
    lengths: tuple[int, int] = (1_000, 100_000),
    seed: int = 0,
    threads: int = 1,
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of fragments, `per_group` of every group: counts (n, width), groups (n,), lengths (n,).

    What is drawn of a group follows from `seed` and its place among `packed.groups` alone.
    """
    places, counter = Places(packed, lengths), KmerCounter(layout, threads)
    together = max(1, SAMPLE_ROWS // per_group)
    for start in range(0, len(packed.groups), together):
        some = np.arange(start, min(start + together, len(packed.groups)))
        fragments = places.draw(some, per_group, key=(seed, STREAM), first=start)
        yield count_fragments(packed, counter, fragments), np.repeat(some, per_group), fragments.sizes
