"""Learns from samples how far names can be trusted, and reports how good it is on other genera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.model import Calibration, Logistic, fit_logistic
from kinmer.confidence.pool import CASES, LabeledPool, Lineages
from kinmer.confidence.thresholds import Judged, thresholds_of
from kinmer.confidence.training_set import ABSENT, FOLDS, GENUS, SPECIES, Material, material_of
from kinmer.confidence.votes import MOLECULE_COUNT, RANK_COUNT, molecule_features, name_features
from kinmer.taxonomy import RANKS

__all__ = ["CASE_WEIGHTS", "account_of", "calibrate", "calibration_error"]


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


# What share of all queries each case is taken to be: half of them are of species that the references know.
# What is farther away is rare here, but no case's own thresholds depend on how rare it is.
CASE_WEIGHTS: Mapping[str, float] = {
    "known": 0.5,
    "new species": 0.25,
    "new genus": 0.2,
    "new family": 0.03,
    "new order": 0.004,
    "new class": 0.004,
    "new phylum": 0.004,
    "new domain": 0.004,
    "no kin": 0.004,
}
LEAST_RIGHT, LEAST_QUERIES = 10, 50
# Genera differ: more than is best for those that are learnt from.
RIDGE = 2.0


def calibrate(
    samples: Sequence[LabeledPool], lineages: Lineages, *, weights: Mapping[str, float] = CASE_WEIGHTS
) -> Calibration | None:
    """Learn from queries whose truth is known; None where there are too few.

    By rank, a logistic regression tells right names from wrong ones by how near the name is, how near another
    one is, the name's share of the votes, and the query's length; so it does absent names and molecules. New
    species that are only another name of what is there (see `twin_queries`) are left out.

    By default a name is given where it is likelier right than wrong, and so likely that few queries whose
    own name is absent get a wrong one (see `thresholds_of`). That, and what `account` says of errors, is of
    queries whose genus the model had not seen (five folds).

    weights : of the cases; see `sample_weights`.
    """
    known = [one for one in samples if len(one.pool) and weights.get(one.case, 0) > 0]
    if sum(len(one.pool) for one in known) < LEAST_QUERIES:
        return None
    material = material_of(known, lineages, weights)
    judged = [_judged(material, rank) for rank in range(RANK_COUNT)]
    if all(one.model is None for one in judged):
        return None
    thresholds = thresholds_of(material, judged)
    return Calibration(
        names=tuple(one.model for one in judged),
        absent=tuple(_absent(material, rank) for rank in range(RANK_COUNT)),
        molecules=_molecules(material),
        within=material.within,
        lengths=material.lengths,
        thresholds=thresholds,
        reaches=_reaches(material),
        account=account_of(material, judged, thresholds, lineages),
    )


def _judged(material: Material, rank: int) -> Judged:
    names = material.votes.names[:, rank]
    rows = np.flatnonzero((names >= 0) & (material.truth[:, rank] >= 0) & ~material.twins)
    right = (names[rows] == material.truth[rows, rank]) & material.kin[rows]
    features = name_features(material.votes, material.pool, rank, material.within)[rows]
    weights = material.weights(rank, rows)
    likely = np.full(len(rows), np.nan)
    for fold in range(FOLDS):
        out = material.folds[rows] == fold
        model = _fit(features[~out], right[~out], weights[~out])
        if model is not None and out.any():
            likely[out] = model.predict(features[out])[:, 1]
    return Judged(rows, weights, right, likely, _fit(features, right, weights))


def _fit(features: Floats, truth: Bools, weights: Floats) -> Logistic | None:
    """A model of two classes; with few of one of them only their shares, None with too few of both."""
    if len(truth) < LEAST_QUERIES:
        return None
    if min(int(truth.sum()), int((~truth).sum())) < LEAST_RIGHT:
        features = np.zeros_like(features)
        # One more of each: what has not been seen may still be.
        features = np.concatenate([features, features[:2]])
        truth = np.concatenate([truth, [False, True]])
        weights = np.concatenate([weights, np.full(2, weights.mean())])
    return fit_logistic(features, truth.astype(np.int64), weights, number=2, ridge=RIDGE)


def _absent(material: Material, rank: int) -> Logistic | None:
    if rank not in ABSENT:
        return None
    rows = np.flatnonzero((material.truth[:, rank] >= 0) & ~material.twins)
    gone = material.absent(rank)[rows]
    if min(int(gone.sum()), int((~gone).sum())) < LEAST_RIGHT:
        return None
    features = name_features(material.votes, material.pool, rank, material.within)[rows]
    return _fit(features, gone, material.weights(rank, rows))


def _molecules(material: Material) -> Logistic | None:
    """Of kinds that weigh by the square roots of their shares: plasmids are rare among the references."""
    rows = np.flatnonzero((material.molecule >= 0) & material.kin)
    kinds, counts = np.unique(material.molecule[rows], return_counts=True)
    if len(kinds) < 2 or np.sort(counts)[-2] < LEAST_RIGHT:
        return None
    features = molecule_features(material.pool, material.within)[rows]
    classes = material.molecule[rows].astype(np.int64)
    weights = material.weights(0, rows)
    shares = np.array([weights[classes == kind].sum() for kind in range(MOLECULE_COUNT)]) / weights.sum()
    return fit_logistic(features, classes, weights / np.sqrt(shares[classes]), number=MOLECULE_COUNT)


def _reaches(material: Material) -> tuple[float, ...]:
    """The farthest nearest genome of all queries of a length that have kin in their order."""
    nearest, bins = material.votes.nearest, material.bins
    akin = material.cases < CASES.index("new order")
    found = []
    for place in range(len(material.lengths)):
        here = bins == place
        found.append(float(nearest[here & akin].max() if (here & akin).any() else nearest[here].max()))
    return tuple(found)
