"""Learns from samples how far names can be trusted, and reports how good that is on other genera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.model import Calibration, Logistic, fit_logistic
from kinmer.confidence.pool import (
    CASES,
    MOLECULE_COUNT,
    RANK_COUNT,
    LabeledPool,
    Lineages,
    molecule_features,
    name_features,
)
from kinmer.confidence.thresholds import Judged, thresholds_of
from kinmer.confidence.training_set import FOLDS, GENUS, SPECIES, TrainingSet, training_set_of
from kinmer.taxonomy import RANKS

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
# Genera differ: more than is best for those that are learned from.
RIDGE = 2.0
REPORT_DIGITS = 4

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def calibrate(
    samples: Sequence[LabeledPool], lineages: Lineages, *, weights: Mapping[str, float] = CASE_WEIGHTS
) -> Calibration | None:
    """Learn from queries whose truth is known; None where there are too few.

    By rank, a logistic regression tells right names from wrong ones by how near the name is, how near another
    name is, its share of the votes, and the query's length; others do so for absent names and for molecules.
    New species that are only another name of what is there (see `synonym_queries`) are left out.

    By default a name is given where it is likelier right than wrong, and so likely that few queries whose
    own name is absent get a wrong one (see `thresholds_of`). That, and the errors in the report, are measured
    on queries whose genus the model had not seen (five folds).

    weights : of the cases; see `sample_weights`.
    """
    used = [sample for sample in samples if len(sample.pool) and weights.get(sample.case, 0) > 0]
    if sum(len(sample.pool) for sample in used) < LEAST_QUERIES:
        return None
    training = training_set_of(used, lineages, weights)
    judged = [_judged(training, rank) for rank in range(RANK_COUNT)]
    if all(names.model is None for names in judged):
        return None
    thresholds = thresholds_of(training, judged)
    return Calibration(
        names=tuple(names.model for names in judged),
        absent=tuple(_absent(training, rank) for rank in range(RANK_COUNT)),
        molecules=_molecules(training),
        within=training.within,
        lengths=training.lengths,
        thresholds=thresholds,
        reaches=_reaches(training),
        report=report_of(training, judged, thresholds, lineages),
    )


def _judged(training: TrainingSet, rank: int) -> Judged:
    names = training.votes.names[:, rank]
    rows = np.flatnonzero((names >= 0) & (training.truth[:, rank] >= 0) & ~training.synonyms)
    right = (names[rows] == training.truth[rows, rank]) & training.kin[rows]
    features = name_features(training.votes, training.pool, rank, training.within)[rows]
    weights = training.weights(rank, rows)
    likely = np.full(len(rows), np.nan)
    for fold in range(FOLDS):
        out = training.folds[rows] == fold
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


def _absent(training: TrainingSet, rank: int) -> Logistic | None:
    rows = np.flatnonzero((training.truth[:, rank] >= 0) & ~training.synonyms)
    absent = training.absent(rank)[rows]
    if min(int(absent.sum()), int((~absent).sum())) < LEAST_RIGHT:
        return None
    features = name_features(training.votes, training.pool, rank, training.within)[rows]
    return _fit(features, absent, training.weights(rank, rows))


def _molecules(training: TrainingSet) -> Logistic | None:
    """Of kinds that weigh by the square roots of their shares: plasmids are rare among the references."""
    rows = np.flatnonzero((training.molecule >= 0) & training.kin)
    kinds, counts = np.unique(training.molecule[rows], return_counts=True)
    if len(kinds) < 2 or np.sort(counts)[-2] < LEAST_RIGHT:
        return None
    features = molecule_features(training.pool, training.within)[rows]
    classes = training.molecule[rows].astype(np.int64)
    weights = training.weights(0, rows)
    shares = np.array([weights[classes == kind].sum() for kind in range(MOLECULE_COUNT)]) / weights.sum()
    return fit_logistic(features, classes, weights / np.sqrt(shares[classes]), number=MOLECULE_COUNT)


def _reaches(training: TrainingSet) -> tuple[float, ...]:
    """The farthest nearest genome of all queries of a length that have kin in their order."""
    nearest, akin = training.votes.nearest, training.cases < CASES.index("new order")
    result = []
    for at in range(len(training.lengths)):
        here = training.bins == at
        result.append(float(nearest[here & akin if (here & akin).any() else here].max()))
    return tuple(result)


def calibration_error(likely: Floats, right: Bools, weights: Floats, bins: int = 10) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over bins of equal width.

    Naeini et al. 2015 (AAAI), weighted. NaN without queries.
    """
    if not weights.sum() > 0:
        return float("nan")
    at = np.minimum((likely * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(at, weights * (likely - right), minlength=bins)
    return float(np.abs(gaps).sum() / weights.sum())


def report_of(
    training: TrainingSet, judged: Sequence[Judged], thresholds: Sequence[Sequence[float]], lineages: Lineages
) -> dict[str, Any]:
    """How a calibration came about, JSON-able.

    genera : learned from, and species that have none. queries, species : learned from, by case; of each a
    number for every length. twins : species that are synonyms of others. error : by rank, expected
    calibration error. named : by rank and length, the share of the queries that get a name at the default
    threshold, where it is present and where it is absent.
    Errors and shares are of genera that the model had not seen; None where there are no queries.
    """
    bins, kept = range(len(training.lengths)), ~training.synonyms
    species = training.truth[:, SPECIES]
    table: dict[str, dict[str, list[int]]] = {"queries": {}, "species": {}}
    for number, case in enumerate(CASES):
        rows = [np.flatnonzero(kept & (training.cases == number) & (training.bins == at)) for at in bins]
        table["queries"][case] = [len(part) for part in rows]
        table["species"][case] = [len(np.unique(species[part])) for part in rows]
    synonyms = np.unique(species[training.synonyms]).tolist()
    return table | {
        "lengths": list(training.lengths),
        "weights": dict(training.given),
        "genera": len(np.unique(training.group)),
        "twins": sorted(lineages.names[SPECIES][code] for code in synonyms),
        "error": {RANKS[rank]: _error(names) for rank, names in enumerate(judged)},
        "named": {RANKS[rank]: _named(training, rank, judged[rank], thresholds) for rank in (GENUS, SPECIES)},
    }


def _error(judged: Judged) -> float | None:
    seen = np.isfinite(judged.likely)
    error = calibration_error(judged.likely[seen], judged.right[seen], judged.weights[seen])
    return None if np.isnan(error) else round(error, REPORT_DIGITS)


def _named(
    training: TrainingSet, rank: int, judged: Judged, thresholds: Sequence[Sequence[float]]
) -> dict[str, list[float | None]]:
    bins, absent = training.bins[judged.rows], training.absent(rank)[judged.rows]
    named = np.nan_to_num(judged.likely) >= np.array(thresholds[rank])[bins]

    def share(rows: Bools) -> float | None:
        if not rows.any():
            return None
        return round(float(np.average(named[rows], weights=judged.weights[rows])), REPORT_DIGITS)

    lengths = range(len(training.lengths))
    return {
        side: [share(which & (bins == at)) for at in lengths]
        for side, which in (("present", ~absent), ("absent", absent))
    }
