"""Batches of pairs of fragments, the training set of an encoder, counted on the fly.

Every group that is drawn, an *entry*, comes with F fragments and stays for a number of steps. In each step
two of its fragments are a pair. The fragments meet as the teams of a tournament do: in a round everybody
plays once, and after F - 1 rounds everybody has met everybody. So each fragment is used in `reuse` steps,
with another partner every time. Entries come and go one after the other, the same number in every step.
A batch follows from the settings and the number of its step alone.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.errors import TrainingError, UsageError
from kinmer.fragments.packed import Fragments, PackedSequences, Places
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout

# Fragments of an entry at most: of more partners none is new any more.
MOST_FRAGMENTS = 16
# Random numbers drawn together, and the longest run of groups of one genus.
CHUNK, LONGEST_RUN = 1 << 14, 8


@dataclass(frozen=True)
class Turns:
    """Entries come and go: `window` of them are there in every step, each for `lifetime` steps."""

    window: int
    reuse: int

    @property
    def fragments(self) -> int:
        """Fragments of an entry, an even number: `reuse` partners for each, as far as that goes."""
        return min(MOST_FRAGMENTS, self.reuse + 1 + (self.reuse + 1) % 2)

    @property
    def lifetime(self) -> int:
        """Steps that an entry stays for."""
        return self.reuse * self.fragments // 2

    def first(self, step: int) -> int:
        """The first entry that is there in a step; the last one is ``first + window - 1``."""
        return step * self.window // self.lifetime

    def partners(self, step: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For the entries of a step, in order: which two of their fragments are the pair; (window,) each."""
        entries = self.first(step) + np.arange(self.window)
        leaving = -((entries + 1) * -self.lifetime // self.window)
        visit = self.lifetime - (leaving - step)
        others = self.fragments - 1
        rounds, match = np.divmod(visit, self.fragments // 2)
        # The circle method: one team stays, the others go round it.
        a = np.where(match == 0, others, (rounds + match) % others)
        b = np.where(match == 0, rounds % others, (rounds - match) % others)
        return a, b


class GroupOrder:
    """An endless row of groups in which any `window` that follow each other are different.

    Each entry is drawn, all alike, from the groups that are none of the ``window - 1`` before it.

    genus : (g,) int64, -1 where there is none; at least `window` groups. hard : share of entries that are in
    runs of groups of one genus.
    """

    def __init__(self, genus: NDArray[np.int64], window: int, *, hard: float, seed: list[int]) -> None:
        if not 1 <= window <= len(genus):
            raise ValueError(f"no {window} of {len(genus)} groups are different")
        self._genus, self._window, self._hard, self._seed = genus, window, hard, seed
        self._by_genus = np.argsort(genus, kind="stable")
        self._restart()

    def _restart(self) -> None:
        groups = np.arange(len(self._genus))
        # Groups that may be drawn, how many, and where each of them stands there; the last `window` entries.
        self._free, self._place = groups.copy(), groups.copy()
        self._last = np.zeros(self._window, np.int64)
        # How many may be drawn; the genus of a run, and how many more entries it has.
        self._state = np.array([len(groups), -1, 0], np.int64)
        self._base, self._entries = 0, np.empty(0, np.int64)

    def take(self, start: int, stop: int) -> NDArray[np.int64]:
        """The groups of entries start:stop; quick where `start` does not fall behind the last call's."""
        if start < self._base:
            self._restart()
        while (end := self._base + len(self._entries)) < stop:
            random = np.random.default_rng([*self._seed, end // CHUNK]).random((CHUNK, 2))
            drawn = np.empty(CHUNK, np.int64)
            genera = (self._genus, self._by_genus, self._genus[self._by_genus])
            _draw(genera, self._hard, random, end, self._free, self._place, self._last, self._state, drawn)
            kept = self._entries[max(0, start - self._base) :]
            self._base = end - len(kept)
            self._entries = np.concatenate([kept, drawn])
        return self._entries[start - self._base : stop - self._base]


@njit(nogil=True, cache=True)
def _draw(
    genera: Any,
    hard: float,
    random: Any,
    first: int,
    free: Any,
    place: Any,
    last: Any,
    state: Any,
    drawn: Any,
) -> None:
    """Fill `drawn` with the groups of entries from `first` on; free, place, last, state as in `_restart`.

    genera : the genus of every group; the groups by genus; the genera in that order.
    """
    genus, by_genus, sorted_genus = genera
    mates = np.empty(len(genus), np.int64)
    for i in range(len(drawn)):
        slot = (first + i) % len(last)
        if first + i >= len(last):
            free[state[0]] = last[slot]
            place[last[slot]] = state[0]
            state[0] += 1
        found = 0
        if state[2] > 0:
            state[2] -= 1
            begin = np.searchsorted(sorted_genus, state[1], side="left")
            end = np.searchsorted(sorted_genus, state[1], side="right")
            for group in by_genus[begin:end]:
                if place[group] >= 0:
                    mates[found] = group
                    found += 1
        if found > 0:
            group = mates[int(random[i, 0] * found)]
        else:
            group = free[int(random[i, 0] * state[0])]
            # A run begins so often that the share of all the entries that are in runs is `hard`.
            begins = random[i, 1] * (LONGEST_RUN - (LONGEST_RUN - 1) * hard) < hard
            state[1] = genus[group]
            state[2] = LONGEST_RUN - 1 if begins and genus[group] >= 0 else 0
        state[0] -= 1
        free[place[group]] = free[state[0]]
        place[free[state[0]]] = place[group]
        place[group] = -1
        last[slot] = group
        drawn[i] = group


# Streams of random numbers that never meet, all drawn from one seed.
_GROUPS, _PLACES, _SAMPLE = 1, 2, 3
# Rows of a block of `sample_fragments` at most.
SAMPLE_ROWS = 2048
# Letters unpacked together: they stay in the cache until they are counted.
BLOCK_LETTERS = 1 << 20


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """How pairs are drawn; raises UsageError where a value makes no sense.

    pairs : of a batch at most; each of another group.
    lengths : shortest and longest fragment; log-uniform between them.
    reuse : batches that a counted fragment is in, with another partner every time (data echoing: Choi et al.
        2019, arXiv:1907.05550); 1 counts everything afresh.
    hard : share of the groups that are drawn as runs of one genus.
    virus_share : share of the groups that are viruses; None: that of all groups, each of them drawn alike.
    """

    pairs: int = 512
    lengths: tuple[int, int] = (1_000, 100_000)
    reuse: int = 8
    hard: float = 0.0
    virus_share: float | None = None
    max_ambiguous: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        low, high = self.lengths
        if not 1 <= low <= high:
            raise UsageError(f"fragment lengths from {low} to {high}", "the shorter one comes first")
        if self.pairs < 1 or self.reuse < 1 or self.seed < 0:
            raise UsageError("pairs and reuse are whole numbers of at least 1, the seed one of at least 0")
        if not 0 <= self.hard <= 1 or not 0 <= (self.virus_share or 0) <= 1:
            raise UsageError("the shares of hard groups and of viruses lie between 0 and 1")


class PairBatch(NamedTuple):
    """Pairs: row i and row n + i are fragments of one group.

    counts : (2n, width) float32, whole numbers. kin : (n,) int64, equal where no pair may be the other's
    negative. groups : (n,) int64. lengths : (2n,) int64, letters.
    """

    counts: NDArray[np.float32]
    kin: NDArray[np.int64]
    groups: NDArray[np.int64]
    lengths: NDArray[np.int64]


class Views:
    """Draws batches of pairs; which one comes in a step follows from settings and step alone.

    groups : (m,) the groups that are drawn from; None: all of them.

    `pairs` says how many a batch has: as many as the settings say, or fewer where there are not so many
    groups (of viruses, of others). Raises TrainingError where there are fewer than two.
    """

    def __init__(
        self,
        packed: PackedSequences,
        layout: Layout,
        settings: ViewSettings,
        *,
        groups: NDArray[np.int64] | None = None,
        threads: int = 1,
    ) -> None:
        chosen = np.arange(len(packed.groups)) if groups is None else np.asarray(groups, np.int64)
        places = Places(packed, settings.lengths, settings.max_ambiguous)
        counter = KmerCounter(layout, threads)
        virus = packed.groups.virus[chosen]
        parts = [chosen[~virus], chosen[virus]]
        numbers = _shared(settings, [len(part) for part in parts])
        self._kin, self._width = packed.groups.kin, layout.width
        self.pairs = sum(numbers)
        if self.pairs < 2:
            raise TrainingError(
                f"{len(chosen)} groups of sequences make no batch of pairs",
                "a pair needs another one beside it",
            )
        self._pools = [
            _Pool(part, number, places, counter, settings, stream)
            for stream, (part, number) in enumerate(zip(parts, numbers, strict=True))
            if number
        ]

    def batch(self, step: int) -> PairBatch:
        """The batch of a step; quick where the last one was of the step before."""
        counts = np.empty((2, self.pairs, self._width), np.float32)
        lengths = np.empty((2, self.pairs), np.int64)
        groups = np.empty(self.pairs, np.int64)
        start = 0
        for pool in self._pools:
            part = slice(start, start + pool.pairs)
            pool.fill(step, counts[:, part], lengths[:, part], groups[part])
            start = part.stop
        return PairBatch(counts.reshape(-1, self._width), self._kin[groups], groups, lengths.ravel())

    def batches(self, start: int, stop: int) -> Iterator[PairBatch]:
        """The batches of steps start:stop."""
        return map(self.batch, range(start, stop))


def _shared(settings: ViewSettings, there: list[int]) -> list[int]:
    """Pairs of groups that are no viruses and of such that are; at most as many as are there of each."""
    share = settings.virus_share
    if share is None:
        share = there[1] / max(1, sum(there))
    elif share > 0 and not there[1]:
        share = 0.0
    elif share < 1 and not there[0]:
        share = 1.0
    parts = [1 - share, share]
    # The share is kept where there are too few groups of a kind: the batch gets smaller.
    total = min(
        [settings.pairs, *(int(n / part + 1e-9) for n, part in zip(there, parts, strict=True) if part > 0)]
    )
    viruses = min(round(total * share), there[1])
    return [min(total - viruses, there[0]), viruses]


class _Pool:
    """The fragments that are there in a step, of one kind of groups."""

    def __init__(
        self,
        groups: NDArray[np.int64],
        window: int,
        places: Places,
        counter: KmerCounter,
        settings: ViewSettings,
        stream: int,
    ) -> None:
        self._groups, self._places, self._counter, self.pairs = groups, places, counter, window
        self._turns = Turns(window, settings.reuse)
        seed = settings.seed
        genus = places.packed.groups.genus[groups]
        self._order = GroupOrder(genus, window, hard=settings.hard, seed=[seed, _GROUPS, stream])
        self._key = (seed, _PLACES << 8 | stream)
        shape = (window, self._turns.fragments)
        self._counts = np.empty((*shape, counter.layout.width), np.float32)
        self._lengths = np.empty(shape, np.int64)
        self._of = np.empty(window, np.int64)
        # The entries that are there: from this one up to, but without, that one.
        self._held = (0, 0)

    def fill(
        self, step: int, counts: NDArray[np.float32], lengths: NDArray[np.int64], groups: NDArray[np.int64]
    ) -> None:
        """The pairs of a step: counts (2, pairs, width), lengths (2, pairs), groups (pairs,)."""
        window, each = self.pairs, self._turns.fragments
        first = self._turns.first(step)
        start, stop = self._held
        if not start <= first <= stop:
            start, stop = first, first
        self._enter(max(stop, first), first + window, first)
        self._held = (first, first + window)
        slots = np.arange(first, first + window) % window
        groups[:] = self._of[slots]
        rows = self._counts.reshape(window * each, -1)
        for side, chosen in enumerate(self._turns.partners(step)):
            # With clip NumPy copies straight to where the rows are wanted.
            np.take(rows, slots * each + chosen, axis=0, out=counts[side], mode="clip")
            lengths[side] = self._lengths[slots, chosen]

    def _enter(self, start: int, stop: int, first: int) -> None:
        """Draw and count entries start:stop; none before `first` will be asked for again."""
        if start >= stop:
            return
        window, each = self.pairs, self._turns.fragments
        groups = self._groups[self._order.take(first, stop)[start - first :]]
        drawn = self._places.draw(groups, each, key=self._key, first=start)
        counts = count_fragments(self._places.packed, self._counter, drawn)
        slots = np.arange(start, stop) % window
        self._counts[slots] = counts.reshape(len(groups), each, -1)
        self._lengths[slots] = drawn.sizes.reshape(len(groups), each)
        self._of[slots] = groups


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
    groups: NDArray[np.int64] | None = None,
    threads: int = 1,
) -> Iterator[tuple[NDArray[np.uint32], NDArray[np.int64], NDArray[np.int64]]]:
    """Blocks of fragments, `per_group` of every group: counts (n, width), groups (n,), lengths (n,).

    What is drawn of a group follows from `seed` and its place among `packed.groups`, whichever `groups` are
    asked for (None: all of them, in order).
    """
    places, counter = Places(packed, lengths), KmerCounter(layout, threads)
    chosen = np.arange(len(packed.groups)) if groups is None else np.asarray(groups, np.int64)
    together = max(1, SAMPLE_ROWS // per_group)
    for start in range(0, len(chosen), together):
        some = chosen[start : start + together]
        drawn = [
            places.draw(some[i : i + 1], per_group, key=(seed, _SAMPLE << 8), first=int(some[i]))
            for i in range(len(some))
        ]
        fragments = Fragments.joined(drawn)
        yield count_fragments(packed, counter, fragments), np.repeat(some, per_group), fragments.sizes
