"""Learns from samples how far names can be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.calibration import Calibration
from kinmer.confidence.features import MOLECULE_COUNT, VIRUS, molecule_features, name_features
from kinmer.confidence.logistic import Logistic, fit_logistic
from kinmer.confidence.pools import CASES, Lineages, Pool, Sample
from kinmer.confidence.voting import RANK_COUNT, Votes, vote
from kinmer.confidence.weighing import sample_weights

__all__ = ["CASE_WEIGHTS", "calibrate", "calibration_error"]

# What share of all queries each case is taken to be: half of them are of species that the references know.
CASE_WEIGHTS: Mapping[str, float] = {"known": 0.5, "new species": 0.25, "new genus": 0.2, "new family": 0.05}
FOLDS, LEAST_RIGHT, LEAST_QUERIES = 5, 10, 50
GENUS, SPECIES = 5, 6
# A name is given by default where it is likelier right than wrong, and not to more than so many queries whose
# true name the references do not have.
EVEN, FALSE_NAMES = 0.5, 0.1
# Cases in which the true name is none of the references', by rank.
ABSENT = {6: CASES[1:], 5: CASES[2:], 4: CASES[3:]}

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class _Learner:
    """All samples together.

    cases : (n,) places in `CASES`. given : the share of every case. group : (n,) number of the genus.
    folds : (n,), genera are never parted. bins : (n,) places in `lengths`.
    """

    pool: Pool
    votes: Votes
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]
    cases: NDArray[np.int64]
    given: Mapping[str, float]
    group: NDArray[np.int64]
    folds: NDArray[np.int64]
    bins: NDArray[np.int64]
    lengths: tuple[float, ...]

    @property
    def within(self) -> tuple[float, float]:
        return float(self.pool.lengths.min()), float(self.pool.lengths.max())


def calibrate(
    samples: Sequence[Sample], lineages: Lineages, *, weights: Mapping[str, float] = CASE_WEIGHTS
) -> Calibration | None:
    """Learn from queries whose truth is known; None where there are too few.

    By rank, a logistic regression tells right names from wrong ones by how near the name is, how near another
    one is, the name's share of the votes, and the query's length; so it does absent names and molecules.
    Thresholds and what `account` says of errors are of queries whose genus the model had not seen (five
    folds).

    weights : of the cases; lengths count alike in each.
    """
    known = [one for one in samples if len(one.pool) and weights.get(one.case, 0) > 0]
    if sum(len(one.pool) for one in known) < LEAST_QUERIES:
        return None
    learner = _together(known, lineages, weights)
    judged = [_judged(learner, rank) for rank in range(RANK_COUNT)]
    if all(one.model is None for one in judged):
        return None
    thresholds = _thresholds(learner, judged)
    return Calibration(
        names=tuple(one.model for one in judged),
        absent=tuple(_absent(learner, rank) for rank in range(RANK_COUNT)),
        molecules=_molecules(learner),
        within=learner.within,
        lengths=learner.lengths,
        thresholds=thresholds,
        account=_account(learner, judged, thresholds, weights),
    )


def _together(samples: Sequence[Sample], lineages: Lineages, weights: Mapping[str, float]) -> _Learner:
    width = max(one.pool.distances.shape[1] for one in samples)
    pool = Pool(
        np.concatenate([_wide(one.pool.distances, width, np.inf) for one in samples]),
        np.concatenate([_wide(one.pool.genomes, width, -1) for one in samples]),
        np.concatenate([_wide(one.pool.kinds, width, -1) for one in samples]),
        np.concatenate([_wide(one.pool.molecules, width, -1) for one in samples]),
        np.concatenate([one.pool.lengths for one in samples]),
    )
    truth = np.concatenate([one.truth for one in samples])
    cases = np.concatenate([np.full(len(one.pool), CASES.index(one.case)) for one in samples])
    lengths, bins = _bins(pool.lengths)
    group = _groups(truth)
    votes = vote(pool, lineages)
    folds = np.random.default_rng(0).permutation(group.max() + 1)[group] % FOLDS
    molecule = np.concatenate([one.molecule for one in samples])
    return _Learner(pool, votes, truth, molecule, cases, weights, group, folds, bins, lengths)


def _wide(values: NDArray[Any], width: int, missing: float) -> NDArray[Any]:
    return np.pad(values, ((0, 0), (0, width - values.shape[1])), constant_values=missing)


def _bins(lengths: NDArray[np.int64]) -> tuple[tuple[float, ...], NDArray[np.int64]]:
    """Lengths that stand for bins, and every query's bin: their own where they are few, else six parts."""
    unique = np.unique(lengths)
    if len(unique) <= 12:
        return tuple(np.maximum(unique, 1).astype(float).tolist()), np.searchsorted(unique, lengths)
    edges = np.quantile(lengths, np.linspace(0, 1, 7)[1:-1])
    bins = np.searchsorted(edges, lengths)
    present = np.unique(bins)
    middles = [float(np.exp(np.log(np.maximum(lengths[bins == one], 1)).mean())) for one in present]
    return tuple(middles), np.searchsorted(present, bins)


def _weights(learner: _Learner, rank: int, rows: NDArray[np.int64]) -> Floats:
    """(n,) of the queries `rows`, by which names at a rank are judged."""
    return sample_weights(
        learner.cases[rows],
        learner.bins[rows],
        learner.group[rows],
        learner.molecule[rows] == VIRUS,
        learner.given,
        ABSENT.get(rank, ()),
    )


def _groups(truth: NDArray[np.int32]) -> NDArray[np.int64]:
    """(n,) the genus of every query, or the species where it has none, by number."""
    keys = np.where(truth[:, GENUS] >= 0, 2 * truth[:, GENUS].astype(np.int64), 2 * truth[:, SPECIES] + 1)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)


@dataclass(frozen=True)
class _Judged:
    """Of a rank: the queries that count, whether their name is right, and how likely that was thought."""

    rows: NDArray[np.int64]
    weights: Floats
    right: Bools
    likely: Floats
    model: Logistic | None


def _judged(learner: _Learner, rank: int) -> _Judged:
    names = learner.votes.names[:, rank]
    rows = np.flatnonzero((names >= 0) & (learner.truth[:, rank] >= 0))
    right = names[rows] == learner.truth[rows, rank]
    features = name_features(learner.votes, learner.pool, rank, learner.within)[rows]
    weights = _weights(learner, rank, rows)
    likely = np.full(len(rows), np.nan)
    for fold in range(FOLDS):
        out = learner.folds[rows] == fold
        model = _fit(features[~out], right[~out], weights[~out])
        if model is not None and out.any():
            likely[out] = model.predict(features[out])[:, 1]
    return _Judged(rows, weights, right, likely, _fit(features, right, weights))


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
    return fit_logistic(features, truth.astype(np.int64), weights, number=2)


def _absent(learner: _Learner, rank: int) -> Logistic | None:
    if rank not in ABSENT:
        return None
    gone = np.isin(learner.cases, [CASES.index(case) for case in ABSENT[rank]])
    rows = np.flatnonzero(learner.truth[:, rank] >= 0)
    features = name_features(learner.votes, learner.pool, rank, learner.within)[rows]
    if min(int(gone[rows].sum()), int((~gone[rows]).sum())) < LEAST_RIGHT:
        return None
    return _fit(features, gone[rows], _weights(learner, rank, rows))


def _molecules(learner: _Learner) -> Logistic | None:
    """Of kinds that weigh by the square roots of their shares: plasmids are rare among the references."""
    rows = np.flatnonzero(learner.molecule >= 0)
    kinds, counts = np.unique(learner.molecule[rows], return_counts=True)
    if len(kinds) < 2 or np.sort(counts)[-2] < LEAST_RIGHT:
        return None
    features = molecule_features(learner.pool, learner.within)[rows]
    classes = learner.molecule[rows].astype(np.int64)
    weights = _weights(learner, 0, rows)
    shares = np.array([weights[classes == kind].sum() for kind in range(MOLECULE_COUNT)]) / weights.sum()
    weights = weights / np.sqrt(shares[classes])
    return fit_logistic(features, classes, weights, number=MOLECULE_COUNT)


def _thresholds(learner: _Learner, judged: Sequence[_Judged]) -> tuple[tuple[float, ...], ...]:
    lines = []
    for rank, one in enumerate(judged):
        line = [EVEN] * len(learner.lengths)
        if rank in (GENUS, SPECIES):
            gone = np.isin(learner.cases, [CASES.index(case) for case in ABSENT[rank]])
            line = [_strict(learner, one, gone & (learner.bins == place)) for place in range(len(line))]
        lines.append(tuple(line))
    return tuple(lines)


def _strict(learner: _Learner, judged: _Judged, gone: Bools) -> float:
    """The least probability, at least `EVEN`, that only `FALSE_NAMES` of these queries' names reach.

    Less is allowed the fewer genera they are of, as in conformal risk control (Angelopoulos et al. 2024,
    ICLR): what has been seen of n is taken for n + 1, of which the last one is wrong.
    """
    likely = np.zeros(len(gone))
    likely[judged.rows] = np.nan_to_num(judged.likely)
    weight = np.zeros(len(gone))
    weight[judged.rows] = judged.weights
    weight = weight[gone]
    if not weight.size:
        return EVEN
    order = np.argsort(-likely[gone], kind="stable")
    genera = len(np.unique(learner.group[gone]))
    allowed = FALSE_NAMES - (1 - FALSE_NAMES) / genera
    passed = np.cumsum(weight[order]) <= allowed * weight.sum()
    at = int(passed.sum())
    values = likely[gone][order]
    return max(EVEN, min(0.99, float(values[at]) + 1e-6)) if at < len(values) else EVEN


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


def _account(
    learner: _Learner,
    judged: Sequence[_Judged],
    thresholds: Sequence[Sequence[float]],
    weights: Mapping[str, float],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "queries": {case: int((learner.cases == at).sum()) for at, case in enumerate(CASES)},
        "weights": dict(weights),
        "species": len(np.unique(learner.truth[:, SPECIES][learner.truth[:, SPECIES] >= 0])),
        "lengths": list(learner.lengths),
        "error": [],
    }
    for one in judged:
        seen = np.isfinite(one.likely)
        error = calibration_error(one.likely[seen], one.right[seen], one.weights[seen])
        found["error"].append(None if np.isnan(error) else round(error, 4))
    named = np.zeros(len(learner.cases), bool)
    one = judged[SPECIES]
    limit = np.array(thresholds[SPECIES])[learner.bins]
    named[one.rows] = np.nan_to_num(one.likely) >= limit[one.rows]
    for name, case in (("present named", learner.cases == 0), ("absent named", learner.cases > 0)):
        found[name] = [_mean(named, case & (learner.bins == at)) for at in range(len(learner.lengths))]
    return found


def _mean(named: Bools, rows: Bools) -> float | None:
    return round(float(named[rows].mean()), 4) if rows.any() else None
