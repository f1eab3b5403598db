"""What is learned, and what it says about queries: logistic models, probabilities, thresholds, verdicts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import (
    MOLECULE_COUNT,
    RANK_COUNT,
    Lineages,
    Pool,
    Votes,
    descending,
    molecule_features,
    name_features,
    vote,
)
from kinmer.taxonomy import RANKS

# The form of the models' features and of what is kept of them.
FORM = 2
# Of fewer genera than this no share of wrong names can be kept for certain.
FEW_GENERA = 20
# The score of a class that nobody has: a probability of 0 for all that counts.
NOBODY = -30.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """A logistic regression on standardized features.

    mean, scale : (p,). weights : (classes, p + 1), the last column of the constant.
    """

    mean: Floats
    scale: Floats
    weights: Floats

    @property
    def width(self) -> int:
        """Number of features."""
        return len(self.mean)

    def predict(self, features: Floats) -> Floats:
        """Probabilities (n, classes) for features (n, p)."""
        scaled = (features - self.mean) / self.scale
        # Sums row by row: the same bits whatever rows come together.
        scores = np.stack([(scaled * line[:-1]).sum(axis=1) + line[-1] for line in self.weights], axis=1)
        grown = np.exp(scores - scores.max(axis=1, keepdims=True))
        return np.asarray(grown / grown.sum(axis=1, keepdims=True))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Logistic:
        """From `to_dict`; ValueError where shapes or numbers are not those of a model."""
        mean, scale, weights = (np.array(stored[name], np.float64) for name in ("mean", "scale", "weights"))
        whole = mean.ndim == 1 and mean.shape == scale.shape and weights.ndim == 2
        if not whole or weights.shape[1] != len(mean) + 1 or not (scale > 0).all():
            raise ValueError("the shapes of a model do not go together")
        if not all(np.isfinite(values).all() for values in (mean, scale, weights)):
            raise ValueError("a number of a model is not finite")
        return cls(mean, scale, weights)


def fit_logistic(
    features: Floats, classes: NDArray[np.int64], weights: Floats, *, number: int, ridge: float = 1.0
) -> Logistic:
    """Minimize the weighted log loss plus ridge / 2 times the squared weights of standardized features.

    Parameters
    ----------
    features : (n, p).
    classes : (n,) of 0 … number - 1, two or more of them present.
    weights : (n,), of any sum; they are scaled to n.
    """
    from sklearn.linear_model import LogisticRegression

    shares = weights * (len(weights) / weights.sum())
    mean = (features * shares[:, None]).sum(axis=0) / len(features)
    spread = np.sqrt((((features - mean) ** 2) * shares[:, None]).sum(axis=0) / len(features))
    scale = np.where(spread > 1e-12, spread, 1.0)
    present = np.unique(classes)
    # Of two classes scikit-learn has one line of weights: the difference of the two that are kept here.
    strength = (2 if len(present) == 2 else 1) / ridge
    fitted = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-8, max_iter=200)
    fitted.fit((features - mean) / scale, classes, sample_weight=shares)
    lines = np.column_stack([fitted.coef_, fitted.intercept_])
    found = np.zeros((number, lines.shape[1]))
    found[:, -1] = NOBODY
    found[present] = np.concatenate([-lines / 2, lines / 2]) if len(lines) == 1 else lines
    return Logistic(mean, scale, found)


@dataclass(frozen=True)
class Calibration:
    """How far names can be trusted.

    names : for every rank from domain to species, of the probability that a name is right; None where nothing
    could be learned. absent : for every rank, of the probability that the query's true name at that rank is
    none of the references'. molecules : of chromosome, plasmid, virus; None where there are fewer than two.
    within : shortest and longest query that it was learned from, in bases. lengths, thresholds : (l,) and
    (7, l), the probability from which on a name is given by default. reaches : (l,) distance of the nearest
    genome of the query that was farthest from any. report : how it was made; see `report_of`.
    """

    names: tuple[Logistic | None, ...]
    absent: tuple[Logistic | None, ...]
    molecules: Logistic | None
    within: tuple[float, float]
    lengths: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    reaches: tuple[float, ...]
    report: Mapping[str, Any]

    def threshold(self, rank: int, lengths: NDArray[np.int64]) -> Floats:
        """(q,) the default thresholds for queries of so many bases, 0 for unknown."""
        known = np.where(lengths > 0, lengths, self.lengths[-1]).astype(np.float64)
        return np.interp(np.log(known), np.log(self.lengths), self.thresholds[rank])

    def caution(self) -> str:
        """What people have to know where the references were too few to learn much from; else empty."""
        genera = self.report.get("genera")
        if genera is None or genera >= FEW_GENERA:
            return ""
        return (
            f"the reference has too few genera to calibrate well ({genera:,}, not {FEW_GENERA}): only names"
            " that are likelier than any wrong one seen are given"
        )

    def is_short(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries are shorter than all that was learned from; not those of unknown length, 0."""
        return np.asarray((lengths > 0) & (lengths < self.within[0]))

    def is_near(self, nearest: Floats, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether the nearest genome is within the distances that were learned from.

        Queries of unknown length have the farthest reach.
        """
        known = np.maximum(lengths, 1).astype(np.float64)
        reach = np.interp(np.log(known), np.log(self.lengths), self.reaches)
        return np.asarray(nearest <= np.where(lengths > 0, reach, max(self.reaches)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "form": FORM,
            "names": [None if model is None else model.to_dict() for model in self.names],
            "absent": [None if model is None else model.to_dict() for model in self.absent],
            "molecules": None if self.molecules is None else self.molecules.to_dict(),
            "within": list(self.within),
            "lengths": list(self.lengths),
            "thresholds": [list(line) for line in self.thresholds],
            "reaches": list(self.reaches),
            "account": dict(self.report),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Calibration:
        """From `to_dict`; ValueError, KeyError or TypeError for anything else."""
        if not isinstance(stored, Mapping) or stored.get("form") != FORM:
            raise ValueError("it was made by another version of kinmer")
        names, absent = (tuple(map(_model, stored[name])) for name in ("names", "absent"))
        low, high = _numbers(stored["within"])
        lengths, reaches = _numbers(stored["lengths"]), _numbers(stored["reaches"])
        thresholds = tuple(_numbers(line) for line in stored["thresholds"])
        whole = len(names) == len(absent) == len(thresholds) == RANK_COUNT and 0 < low <= high
        if not whole or not lengths or any(len(line) != len(lengths) for line in (*thresholds, reaches)):
            raise ValueError("a part is missing")
        if lengths[0] < 1 or any(shorter >= longer for shorter, longer in pairwise(lengths)):
            raise ValueError("its lengths do not ascend")
        report, molecules = dict(stored["account"]), _model(stored["molecules"])
        return cls(names, absent, molecules, (low, high), lengths, thresholds, reaches, report)


def _numbers(stored: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(map(float, stored))
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def _model(stored: dict[str, Any] | None) -> Logistic | None:
    return None if stored is None else Logistic.from_dict(stored)


NOTHING_NEAR, TOO_SHORT = "nothing near", "too short to tell"
DIGITS = 6
# Without a calibration names end where one has less than half of the votes.
LEAST_SHARE = 0.5
# Queries of fewer bases have no names at all, whatever is near.
NAMELESS = 100


@dataclass(frozen=True)
class Judgements:
    """Names and probabilities of queries, by rank from domain to species.

    names : (q, 7) int32, -1 for none. share : (q, 7) of the votes. probability : (q, 7) that the name is
    right, NaN where there is none. absent : (q, 7) probability that the true name is none of the references',
    NaN where that is not known. threshold : (q, 7) probability from which on a name is given by default.
    molecule : (q, 3) probabilities of chromosome, plasmid and virus, or NaN. short : (q,) queries without
    probabilities, shorter than all that was learned from.
    """

    names: NDArray[np.int32]
    share: NDArray[np.float64]
    probability: NDArray[np.float64]
    absent: NDArray[np.float64]
    threshold: NDArray[np.float64]
    molecule: NDArray[np.float64]
    short: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """A verdict in words; rank and name of the deepest name that is likely enough, None where none is."""

    text: str
    rank: str | None
    name: str | None


def judge(pool: Pool, lineages: Lineages, calibration: Calibration | None) -> Judgements:
    """Judge queries by their candidates, each by its own alone; without a calibration nothing is probable.

    A name is never likelier than the one above it. A name at a rank that nothing could be learned of, as few
    viruses have an order, is as likely as the next one below. Where the nearest genome is farther than any
    that was learned from, no name is likely at all. A query shorter than all that was learned from has no
    probabilities, and names as without a calibration; one of fewer than `NAMELESS` bases has no names either.
    """
    votes, count = vote(pool, lineages), len(pool)
    names, short = _agreed(votes), np.zeros(count, dtype=bool)
    likely, absent, limit = (np.full((count, RANK_COUNT), np.nan) for _ in range(3))
    molecule = np.full((count, MOLECULE_COUNT), np.nan)
    if calibration is not None and count:
        short = calibration.is_short(pool.lengths)
        names = np.where(short[:, None], names, votes.names)
        for rank in range(RANK_COUNT):
            limit[:, rank] = calibration.threshold(rank, pool.lengths)
            for values, model in ((likely, calibration.names[rank]), (absent, calibration.absent[rank])):
                if model is not None:
                    features = name_features(votes, pool, rank, calibration.within, model.width)
                    values[:, rank] = model.predict(features)[:, 1]
        near = calibration.is_near(votes.nearest, pool.lengths).astype(np.float64)
        likely = descending(likely, votes.names >= 0, near)
        if calibration.molecules is not None:
            molecule = calibration.molecules.predict(molecule_features(pool, calibration.within))
        for values in (likely, absent, molecule):
            values[short] = np.nan
    nameless = (pool.lengths > 0) & (pool.lengths < NAMELESS)
    return Judgements(
        np.where(nameless[:, None], np.int32(-1), names),
        votes.share.round(DIGITS),
        likely.round(DIGITS),
        absent.round(DIGITS),
        limit.round(DIGITS),
        molecule.round(DIGITS),
        short,
    )


def _agreed(votes: Votes) -> NDArray[np.int32]:
    """The names (q, 7) down to the first that has less than half of the votes."""
    split = (votes.names >= 0) & (votes.share < LEAST_SHARE)
    return np.where(np.logical_or.accumulate(split, axis=1), np.int32(-1), votes.names)


def verdicts(
    judgements: Judgements, lineages: Lineages, min_probability: float | None = None
) -> list[Verdict]:
    """The verdict on every query.

    min_probability : from which on a name is given; None for the default of the rank and the query's length.
    Below the deepest name given, that of the next rank at which the references have names is called new where
    it is likelier than not that they do not have it, else unsure.
    """
    limit = judgements.threshold if min_probability is None else min_probability
    given = (judgements.names >= 0) & (np.nan_to_num(judgements.probability, nan=-1) >= limit)
    result = []
    for row, line in enumerate(given):
        ranks = np.flatnonzero(line)
        if not ranks.size:
            result.append(Verdict(TOO_SHORT if judgements.short[row] else NOTHING_NEAR, None, None))
            continue
        deepest = int(ranks[-1])
        rank, name = RANKS[deepest], lineages.names[deepest][judgements.names[row, deepest]]
        text = f"{rank} {name}"
        if deepest + 1 < len(RANKS):
            further = np.flatnonzero(judgements.names[row, deepest + 1 :] >= 0)
            below = deepest + 1 + (int(further[0]) if further.size else 0)
            new = judgements.absent[row, below] >= 0.5
            text = f"new {RANKS[below]} of {text}" if new else f"{text}, {RANKS[below]} unsure"
        result.append(Verdict(text, rank, name))
    return result
