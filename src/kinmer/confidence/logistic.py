"""Logistic regression with a ridge, weighted, of two classes or more, by Newton's method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Logistic", "fit_logistic"]

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
