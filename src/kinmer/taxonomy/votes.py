"""What the hits of a query agree on, rank by rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.taxonomy.ranks import RANKS

__all__ = ["WEIGHT_SCALE", "RankCall", "consensus", "vote_weights"]

# Cosine distance at which a hit's weight falls to 1/e of the nearest one's. Of the scales tried on fragments
# of known genomes this one gave about two points more species than the nearest hit alone.
WEIGHT_SCALE = 0.03
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class RankCall:
    """The name at one rank that most of the hits' weight stands behind, and its share of all weight.

    probability : that the name is right, by an index's calibration; None where there is none.
    """

    name: str
    share: float
    probability: float | None = None


def vote_weights(distances: NDArray[np.float32], metric: str, query_length: float) -> NDArray[np.float64]:
    """Weights (k,) of hits at these distances, the nearest's being 1: exp(-(d - nearest) / 0.03).

    d is the cosine distance. An l2 distance stands for the cosine distance that it would be between vectors
    as long as the query's (`query_length`): d² / (2 length²).
    """
    far = distances.astype(np.float64)
    if metric == "l2":
        far = far**2 / (2 * query_length**2) if query_length > 0 else np.zeros_like(far)
    return np.asarray(np.exp(-(far - far.min(initial=np.inf)) / WEIGHT_SCALE))


def consensus(lineages: Sequence[Mapping[str, object]], weights: Sequence[float]) -> dict[str, RankCall]:
    """What the hits agree on, rank by rank from domain down.

    lineages : of every hit the name at each rank (those of RANKS that are known; None where it has none).
    weights : of the hits.

    At each rank the name with the largest weight among the hits that agree with all names above it; equal
    weights go to the earlier hit. It ends where a name's share of all weight is below one half. A rank at
    which half of the weight or more has no name (as many viruses have no order) is passed over.
    """
    total = float(sum(weights))
    agreed: dict[str, RankCall] = {}
    left = list(zip(lineages, weights, strict=True))
    for rank in RANKS:
        behind: dict[str, float] = {}
        nameless = 0.0
        for lineage, weight in left:
            name = lineage.get(rank)
            if name is None:
                nameless += weight
            else:
                behind[str(name)] = behind.get(str(name), 0.0) + weight
        if not behind or total <= 0 or nameless >= LEAST_SHARE * total:
            continue
        best = max(behind, key=lambda name: behind[name])
        share = behind[best] / total
        if share < LEAST_SHARE:
            break
        agreed[rank] = RankCall(best, share)
        left = [(lineage, weight) for lineage, weight in left if str(lineage.get(rank)) == best]
    return agreed
