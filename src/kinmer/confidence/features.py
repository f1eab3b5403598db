"""What tells right names from wrong ones, and molecules from each other: features of pools."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pools import Pool
from kinmer.confidence.voting import Votes

__all__ = ["MOLECULE_COUNT", "molecule_features", "name_features"]

MOLECULE_COUNT, VIRUS = 3, 2
# Distances below are alike: the same sequence.
LEAST_DISTANCE = 1e-3
USUAL_LENGTH = 10_000.0
# Below it sequences say ever less: features of their own, which are 0 beyond.
SHORT_LENGTH = 1_000.0
# Rows whose molecules count, and the distance behind the nearest at which their weight falls to 1/e.
MOLECULE_ROWS, MOLECULE_SCALE = 20, 0.02
# Rows of a kind whose mean distance counts beside that of its nearest.
MOLECULE_NEAREST = 5

Floats = NDArray[np.float64]


def _log(distance: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(distance, LEAST_DISTANCE)))


def _size(lengths: NDArray[np.int64], within: tuple[float, float]) -> Floats:
    """Log of lengths, those outside of what was learnt from as its ends; unknown ones as its longest."""
    known = np.where(lengths > 0, lengths, within[1]).astype(np.float64)
    return np.asarray(np.log(np.clip(known, *within) / USUAL_LENGTH))


def name_features(
    votes: Votes, pool: Pool, rank: int, within: tuple[float, float], width: int | None = None
) -> Floats:
    """(q, p) of the name at a rank: how near it is, how near another one is, its share, and the length.

    width : only the first so many. What came later stands last: models of kinmer 0.1.0 have none of it.

    Whether the query is a virus's was tried too, and did no good on genera that had not been learnt from.
    """
    own, other = _log(votes.own[:, rank]), _log(votes.other[:, rank])
    means = _log(votes.own_mean[:, rank]), _log(votes.other_mean[:, rank])
    size = _size(pool.lengths, within)
    curved = [size * own, size * other, size**2 * own, size**2 * other]
    short = np.minimum(size - np.log(SHORT_LENGTH / USUAL_LENGTH), 0)
    share = votes.share[:, rank]
    shorter = [short, short**2, short * own, short * other, short * share]
    every = [own, other, share, size, size**2, *curved, *means, *shorter]
    return np.stack(every[:width], axis=1)


def molecule_features(pool: Pool, within: tuple[float, float]) -> Floats:
    """(q, p): how near each kind of molecule is, what share of the nearest rows it has, and the length."""
    far = pool.distances.astype(np.float64)
    there = np.isfinite(far)
    first = np.where(there, far, np.inf).min(axis=1, initial=np.inf)
    last = np.where(there, far, 0).max(axis=1, initial=0)
    closeness = np.exp(-(far - np.where(np.isfinite(first), first, 0)[:, None]) / MOLECULE_SCALE)
    weight = np.where(there & (pool.molecules >= 0), closeness, 0)[:, :MOLECULE_ROWS]
    total = np.maximum(weight.sum(axis=1), 1e-300)
    size = _size(pool.lengths, within)
    parts = [size]
    for kind in range(MOLECULE_COUNT):
        own = there & (pool.molecules == kind)
        nearest = np.sort(np.where(own, far, np.inf), axis=1)[:, :MOLECULE_NEAREST]
        lacking = MOLECULE_NEAREST - nearest.shape[1]
        nearest = np.pad(nearest, ((0, 0), (0, lacking)), constant_values=np.inf)
        nearest = np.where(np.isfinite(nearest), nearest, last[:, None])
        near = _log(nearest[:, 0])
        share = np.where(own[:, :MOLECULE_ROWS], weight, 0).sum(axis=1) / total
        mean = _log(nearest.mean(axis=1))
        parts += [
            near,
            near * size,
            share,
            share * size,
            mean,
            own.sum(axis=1) / np.maximum(there.sum(axis=1), 1),
        ]
    return np.stack(parts, axis=1)
