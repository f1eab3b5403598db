"""How much every sample counts: cases as is stated, lengths and genera alike."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pools import CASES

__all__ = ["sample_weights"]

Floats = NDArray[np.float64]


def sample_weights(
    cases: NDArray[np.int64],
    bins: NDArray[np.int64],
    groups: NDArray[np.int64],
    named: NDArray[np.bool_],
    virus: NDArray[np.bool_],
    given: Mapping[str, float],
    absent: Collection[str],
) -> Floats:
    """(n,) weights of samples by which names at one rank are judged.

    Cells and viruses have as much as there are named genera of them: the one says nothing of how many of the
    other are new, and species of no genus, as many viruses are, would be a genus each. In each a case has its
    share, in which lengths count alike, and in these genera. The share of a case that cannot be made goes to
    those of its side, so that as many names as stated are absent.

    cases : (n,) places in `CASES`. bins, groups : (n,) of the length and of the genus, or of the species that
    has none. named : (n,) whether it is a genus. given : the share of every case. absent : cases in which the
    true name is none of the references'.
    """
    weights = np.zeros(len(cases))
    for realm in (virus, ~virus):
        shares = _case_shares(set(cases[realm].tolist()), given, absent)
        size = max(1, len(np.unique(groups[realm & named])))
        for case, share in shares.items():
            own = realm & (cases == case)
            places = np.unique(bins[own])
            for place in places.tolist():
                here = np.flatnonzero(own & (bins == place))
                _, back, counts = np.unique(groups[here], return_inverse=True, return_counts=True)
                weights[here] = size * share / (len(places) * len(counts) * counts[back])
    return weights


def _case_shares(
    made: Collection[int], given: Mapping[str, float], absent: Collection[str]
) -> dict[int, float]:
    """The share of every case that could be made."""
    found: dict[int, float] = {}
    for side in (True, False):
        able = {case: given.get(name, 0.0) for case, name in enumerate(CASES) if (name in absent) == side}
        there = {case: share for case, share in able.items() if case in made}
        whole = sum(able.values()) / max(sum(there.values()), 1e-300)
        found |= {case: share * whole for case, share in there.items()}
    return found
