"""Which groups are in a batch, and which two of a group's fragments: from the number of the step alone.

Every group that is drawn, an *entry*, comes with F fragments and stays for a number of steps; in each of them
two of its fragments are a pair. The F fragments meet as teams of a tournament do: in a round everybody
plays once, and in F - 1 rounds everybody has met everybody. So each fragment is used in `reuse` steps, with
another partner every time. Entries come and go one after the other, the same number in every step: counting
never has to wait for a turn of all of them.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["GroupOrder", "Turns"]

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
