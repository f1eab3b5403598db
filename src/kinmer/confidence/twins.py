"""Names that are another's kind: species that are new in name only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["twin_queries"]

KNOWN = 0
# How much farther than strains of its own the nearest other name of a twin may be on average, as a log of
# distances, and of how few queries that is told.
SLACK, LEAST_QUERIES = 0.15, 3
LEAST_DISTANCE = 1e-3

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def twin_queries(
    cases: Labels,
    bins: Labels,
    species: Labels,
    virus: NDArray[np.bool_],
    nearest: Floats,
    telling: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """(n,) queries of "new" species to whose genomes others are as near as strains are to each other.

    Species are parted by an identity of less than 95 % (Jain et al. 2018, doi:10.1038/s41467-018-07641-9),
    but some have several names, as Escherichia coli and the shigellas. Taking out one of these names makes no
    new species, and what is learnt from it would be that strains are new species.

    cases : (n,) 0 where the species is known. bins : (n,) of the length. species : (n,) the queries' own.
    nearest : (n,) distance of the nearest genome. telling : (n,) queries by which that is judged; None: all.
    """
    far = np.log(np.maximum(nearest, LEAST_DISTANCE))
    known = cases == KNOWN
    # Of the same kind of query when its species is known, and of the species itself.
    usual = _mean_of_known(far, known, 2 * bins + virus)
    own = _mean_of_known(far, known, species * (bins.max(initial=0) + 1) + bins)
    excess = far - np.where(np.isfinite(own), (own + usual) / 2, usual)
    found = np.zeros(len(cases), bool)
    judging = np.isfinite(excess) & (np.ones(len(cases), bool) if telling is None else telling)
    for case in np.unique(cases[~known & judging]).tolist():
        own = (cases == case) & (species >= 0)
        rows = np.flatnonzero(own & judging)
        names, back, counts = np.unique(species[rows], return_inverse=True, return_counts=True)
        mean = np.bincount(back, excess[rows]) / np.maximum(counts, 1)
        found |= own & np.isin(species, names[(mean <= SLACK) & (counts >= LEAST_QUERIES)])
    return found


def _mean_of_known(far: Floats, known: NDArray[np.bool_], groups: Labels) -> Floats:
    """(n,) the mean over the known queries of the same group; NaN where there are none."""
    _, back = np.unique(groups, return_inverse=True)
    count = np.bincount(back, known)
    total = np.bincount(back, np.where(known, far, 0.0))
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan)[back])
