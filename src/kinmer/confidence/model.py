"""What is learned: logistic models of right names and of molecules, thresholds, and how they came about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.votes import RANK_COUNT

__all__ = ["FEW_GENERA", "Calibration", "Logistic", "fit_logistic"]


STEPS, TOLERANCE = 100, 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Logistic:
    """A model of `classes` classes on standardised features.

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
        scores = np.empty((len(features), len(self.weights)))
        for one, line in enumerate(self.weights):
            # Sums row by row: the same bits whatever rows come together.
            scores[:, one] = (scaled * line[:-1]).sum(axis=1) + line[-1]
        return _softmax(scores)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist(), "weights": self.weights.tolist()}

    @classmethod
    def from_dict(cls, told: dict[str, Any]) -> Logistic:
        """From `to_dict`; ValueError where shapes or numbers are not a model's."""
        mean, scale, weights = (np.array(told[name], np.float64) for name in ("mean", "scale", "weights"))
        whole = mean.ndim == 1 and mean.shape == scale.shape and weights.ndim == 2
        if not whole or weights.shape[1] != len(mean) + 1 or not (scale > 0).all():
            raise ValueError("a model's shapes do not go together")
        if not all(np.isfinite(one).all() for one in (mean, scale, weights)):
            raise ValueError("a model holds what is no number")
        return cls(mean, scale, weights)


def fit_logistic(
    features: Floats, classes: NDArray[np.int64], weights: Floats, *, number: int, ridge: float = 1.0
) -> Logistic:
    """Minimise the weighted log loss plus ridge / 2 times the squared weights of standardised features.

    features : (n, p). classes : (n,) of 0 … number - 1. weights : (n,), of any sum; they are scaled to n.
    The constants are hardly penalised. For two classes it is scikit-learn's LogisticRegression(C=2 / ridge),
    whose one vector of weights is the difference of these two.
    """
    shares = weights * (len(weights) / weights.sum())
    mean = (features * shares[:, None]).sum(axis=0) / len(features)
    spread = np.sqrt((((features - mean) ** 2) * shares[:, None]).sum(axis=0) / len(features))
    scale = np.where(spread > 1e-12, spread, 1.0)
    design = np.column_stack([(features - mean) / scale, np.ones(len(features))])
    truth = np.equal.outer(np.arange(number), classes).T.astype(np.float64)
    width = design.shape[1]
    # A very small penalty of the constants holds those of classes that nobody has.
    penalty = np.full((number, width), ridge)
    penalty[:, -1] = 1e-3
    found = np.zeros((number, width))
    loss = _loss(design, truth, shares, found, penalty)
    for _ in range(STEPS):
        likely = _softmax(design @ found.T)
        slope = (shares[:, None] * (likely - truth)).T @ design + penalty * found
        step = np.linalg.solve(_curvature(design, likely, shares, penalty), slope.ravel()).reshape(
            found.shape
        )
        for part in _halves():
            new = _loss(design, truth, shares, found - part * step, penalty)
            if new <= loss:
                break
        found, gain, loss = found - part * step, loss - new, new
        if gain <= TOLERANCE * max(1.0, abs(loss)):
            break
    return Logistic(mean, scale, found)


def _halves() -> Sequence[float]:
    return [0.5**power for power in range(30)]


def _softmax(scores: Floats) -> Floats:
    grown = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(grown / grown.sum(axis=1, keepdims=True))


def _loss(design: Floats, truth: Floats, shares: Floats, weights: Floats, penalty: Floats) -> float:
    scores = design @ weights.T
    top = scores.max(axis=1, keepdims=True)
    logs = top[:, 0] + np.log(np.exp(scores - top).sum(axis=1)) - (scores * truth).sum(axis=1)
    return float((shares * logs).sum() + 0.5 * (penalty * weights**2).sum())


def _curvature(design: Floats, likely: Floats, shares: Floats, penalty: Floats) -> Floats:
    number, width = penalty.shape
    full = np.zeros((number, width, number, width))
    for one in range(number):
        for other in range(number):
            part = shares * likely[:, one] * ((one == other) - likely[:, other])
            full[one, :, other] = (design * part[:, None]).T @ design
    square = full.reshape(number * width, number * width)
    return np.asarray(square + np.diag(penalty.ravel()))


# Of the models' features and of what is kept of them.
FORM = 2
# Of fewer genera than this no share of wrong names can be kept for certain.
FEW_GENERA = 20


@dataclass(frozen=True)
class Calibration:
    """How far names can be trusted.

    names : for every rank from domain down, of the probability that a name is right; None where nothing
    could be learnt. absent : for every rank, of the probability that the query's true name at that rank is
    none of the references'. molecules : of chromosome, plasmid, virus; None where there are fewer than two.
    within : shortest and longest query that it was learnt from, in bases. lengths, thresholds : (l,) and
    (7, l), the probability from which on a name is given by default. reaches : (l,) distance of the nearest
    genome of the query that was farthest from any. account : how it was made; see `account_of`.
    """

    names: tuple[Logistic | None, ...]
    absent: tuple[Logistic | None, ...]
    molecules: Logistic | None
    within: tuple[float, float]
    lengths: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    reaches: tuple[float, ...]
    account: Mapping[str, Any]

    def threshold(self, rank: int, lengths: NDArray[np.int64]) -> Floats:
        """(q,) the default thresholds for queries of so many letters, 0 for unknown."""
        known = np.where(lengths > 0, lengths, self.lengths[-1]).astype(np.float64)
        return np.interp(np.log(known), np.log(self.lengths), self.thresholds[rank])

    def caution(self) -> str:
        """What people have to know where the references were too few to learn much from; else empty."""
        genera = self.account.get("genera")
        if genera is None or genera >= FEW_GENERA:
            return ""
        return (
            f"the reference has too few genera to calibrate well ({genera:,}, not {FEW_GENERA}): only names"
            " that are likelier than any wrong one seen are given"
        )

    def is_short(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries are shorter than all that was learnt from; not those of unknown length, 0."""
        return np.asarray((lengths > 0) & (lengths < self.within[0]))

    def is_near(self, nearest: Floats, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries whose nearest genome is so far are like any that was learnt from.

        Queries of unknown length have the farthest reach.
        """
        known = np.maximum(lengths, 1).astype(np.float64)
        reach = np.interp(np.log(known), np.log(self.lengths), self.reaches)
        return np.asarray(nearest <= np.where(lengths > 0, reach, max(self.reaches)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "form": FORM,
            "names": [_told(one) for one in self.names],
            "absent": [_told(one) for one in self.absent],
            "molecules": _told(self.molecules),
            "within": list(self.within),
            "lengths": list(self.lengths),
            "thresholds": [list(line) for line in self.thresholds],
            "reaches": list(self.reaches),
            "account": dict(self.account),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Calibration:
        """From `to_dict`; ValueError, KeyError or TypeError for what is none."""
        if not isinstance(told, Mapping) or told.get("form") != FORM:
            raise ValueError("it was made by another version of kinmer")
        names, absent = (tuple(_model(one) for one in told[name]) for name in ("names", "absent"))
        low, high = _numbers(told["within"])
        lengths, reaches = _numbers(told["lengths"]), _numbers(told["reaches"])
        thresholds = tuple(_numbers(line) for line in told["thresholds"])
        whole = len(names) == len(absent) == len(thresholds) == RANK_COUNT and 0 < low <= high
        if not whole or not lengths or any(len(line) != len(lengths) for line in (*thresholds, reaches)):
            raise ValueError("a part is missing")
        if lengths[0] < 1 or any(one >= other for one, other in pairwise(lengths)):
            raise ValueError("its lengths are in no order")
        account = dict(told["account"])
        molecules = _model(told["molecules"])
        return cls(names, absent, molecules, (low, high), lengths, thresholds, reaches, account)


def _numbers(told: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(float(one) for one in told)
    if not all(math.isfinite(one) for one in numbers):
        raise ValueError("a number is none")
    return numbers


def _told(model: Logistic | None) -> dict[str, Any] | None:
    return None if model is None else model.to_dict()


def _model(told: dict[str, Any] | None) -> Logistic | None:
    return None if told is None else Logistic.from_dict(told)
