"""How a calibration came about, and how good the names of genera not learnt from are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.material import GENUS, SPECIES, Material
from kinmer.confidence.pools import CASES, Lineages
from kinmer.confidence.thresholds import Judged
from kinmer.taxonomy import RANKS

__all__ = ["account_of", "calibration_error"]

DIGITS = 4

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def calibration_error(likely: Floats, right: Bools, weights: Floats, bins: int = 10) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over bins of equal width.

    Naeini et al. 2015 (AAAI), weighted. NaN without queries.
    """
    if not weights.sum() > 0:
        return float("nan")
    place = np.minimum((likely * bins).astype(np.int64), bins - 1)
    gap = 0.0
    for one in range(bins):
        own = place == one
        gap += abs(float((weights[own] * (likely[own] - right[own])).sum()))
    return gap / float(weights.sum())


def account_of(
    material: Material, judged: Sequence[Judged], thresholds: Sequence[Sequence[float]], lineages: Lineages
) -> dict[str, Any]:
    """How a calibration came about, JSON-able.

    genera : learnt from, and species that have none. queries, species : learnt from, by case; of each a
    number for every length. twins : species whose names are of what others are too. error : by rank, expected
    calibration error. named : by rank and length, the share of the queries that get a name at the default
    threshold, where it is present and where it is absent.
    Errors and shares are of genera that the model had not seen; None where there are no queries.
    """
    places, kept = range(len(material.lengths)), ~material.twins
    species = material.truth[:, SPECIES]
    table: dict[str, dict[str, list[int]]] = {"queries": {}, "species": {}}
    for at, case in enumerate(CASES):
        rows = [np.flatnonzero(kept & (material.cases == at) & (material.bins == place)) for place in places]
        table["queries"][case] = [len(one) for one in rows]
        table["species"][case] = [len(np.unique(species[one])) for one in rows]
    twins = np.unique(species[material.twins]).tolist()
    return table | {
        "lengths": list(material.lengths),
        "weights": dict(material.given),
        "genera": len(np.unique(material.group)),
        "twins": sorted(lineages.names[SPECIES][one] for one in twins),
        "error": {RANKS[rank]: _error(one) for rank, one in enumerate(judged)},
        "named": {RANKS[rank]: _named(material, rank, judged[rank], thresholds) for rank in (GENUS, SPECIES)},
    }


def _error(judged: Judged) -> float | None:
    seen = np.isfinite(judged.likely)
    found = calibration_error(judged.likely[seen], judged.right[seen], judged.weights[seen])
    return None if np.isnan(found) else round(found, DIGITS)


def _named(
    material: Material, rank: int, judged: Judged, thresholds: Sequence[Sequence[float]]
) -> dict[str, list[float | None]]:
    bins, gone = material.bins[judged.rows], material.absent(rank)[judged.rows]
    named = np.nan_to_num(judged.likely) >= np.array(thresholds[rank])[bins]
    found: dict[str, list[float | None]] = {}
    for side, rows in (("present", ~gone), ("absent", gone)):
        here = [rows & (bins == place) for place in range(len(material.lengths))]
        found[side] = [
            round(float(np.average(named[one], weights=judged.weights[one])), DIGITS) if one.any() else None
            for one in here
        ]
    return found
