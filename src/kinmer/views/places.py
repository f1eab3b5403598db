"""Where fragments are cut: from a seed and a number alone, whatever was drawn before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from kinmer.kmers import KmerCounter
from kinmer.views.packed import PackedSequences

__all__ = ["Fragments", "Places", "count_fragments"]

# Places tried for a fragment; where all have too many ambiguous letters, the one with the fewest is taken.
TRIES = 4
# Letters unpacked together: they stay in the cache until they are counted.
BLOCK_LETTERS = 1 << 20


@dataclass(frozen=True)
class Fragments:
    """Places of n fragments: sequence, first letter (from 0), letters, strand; (n,) each."""

    sequences: NDArray[np.int64]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, *rows: NDArray[np.int64] | slice | int) -> Fragments:
        """Some of them."""
        return Fragments(self.sequences[rows], self.begins[rows], self.sizes[rows], self.reverse[rows])

    @classmethod
    def joined(cls, parts: Sequence[Fragments]) -> Fragments:
        """All of some, one after the other."""
        return cls(
            np.concatenate([one.sequences for one in parts]),
            np.concatenate([one.begins for one in parts]),
            np.concatenate([one.sizes for one in parts]),
            np.concatenate([one.reverse for one in parts]),
        )


@dataclass(frozen=True)
class Places:
    """Draws fragments of groups.

    A sequence of the group is drawn in proportion to the places that the shortest fragment has in it; the
    length is log-uniform from `lengths`, the longest one cut down to the sequence; place and strand are
    uniform.

    max_ambiguous : largest share of letters other than ACGT, where four tries find one.
    """

    packed: PackedSequences
    lengths: tuple[int, int]
    max_ambiguous: float = 0.1

    def draw(self, groups: NDArray[np.int64], each: int, *, key: tuple[int, int], first: int) -> Fragments:
        """`each` fragments of every one of (n,) `groups`, side by side.

        key, first : the numbers that the draws follow from; those of ``groups[i]`` are the same as those of
        ``groups[0]`` with ``first + i``.
        """
        philox = np.random.Philox(counter=[first * each * TRIES, 0, 0, 0], key=np.array(key, np.uint64))
        random = np.random.Generator(philox).random((len(groups) * each, TRIES, 4))
        drawn = self._placed(np.repeat(groups, each)[:, None], random)
        if not len(self.packed.spans):
            return drawn.take(slice(None), 0)
        share = self.packed.ambiguous(drawn.sequences, drawn.begins, drawn.sizes) / drawn.sizes
        share[share <= self.max_ambiguous] = 0
        rows, best = np.arange(len(share)), share.argmin(axis=1)
        return drawn.take(rows, best)

    def _placed(self, groups: NDArray[np.int64], random: NDArray[np.float64]) -> Fragments:
        """Fragments of (n, 1) groups from (n, tries, 4) uniform numbers; (n, tries) each."""
        low, high = self.lengths
        order, ends, first = self._shelf
        base = np.where(first[groups] > 0, ends[first[groups] - 1], 0)
        wanted = base + random[..., 0] * (ends[first[groups + 1] - 1] - base)
        where = np.searchsorted(ends, wanted.astype(np.int64), side="right")
        sequences = order[np.minimum(where, first[groups + 1] - 1)]
        most = np.minimum(self.packed.lengths[sequences], high)
        # Every whole length has the same share of the logarithms as the numbers from it to the next one.
        sizes = (low * np.exp(random[..., 1] * np.log((most + 1) / low))).astype(np.int64)
        sizes = np.clip(sizes, np.minimum(low, most), most)
        begins = (random[..., 2] * (self.packed.lengths[sequences] - sizes + 1)).astype(np.int64)
        return Fragments(sequences, begins, sizes, random[..., 3] < 0.5)

    @cached_property
    def _shelf(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Sequences by group; running sum of their room; where each group begins, and the end, (g + 1,)."""
        order = np.argsort(self.packed.group, kind="stable")
        room = np.maximum(self.packed.lengths - self.lengths[0] + 1, 1)
        counts = np.bincount(self.packed.group, minlength=len(self.packed.groups))
        return order, np.cumsum(room[order]), np.concatenate([[0], np.cumsum(counts)])


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
