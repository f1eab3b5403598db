"""Logistic regressions that are kept as JSON, and how sure they should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

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

    def sharpened(self, power: float) -> Logistic:
        """The model whose odds are these to a power."""
        return Logistic(self.mean, self.scale, self.weights * power)

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


def best_power(chances: Floats, classes: NDArray[np.int64], weights: Floats) -> float:
    """The power of probabilities (n, c) at which classes (n,) are likeliest (Guo et al. 2017, ICML).

    Models that a ridge holds back are less sure of new genera than they could be, others are surer.
    """
    if not weights.sum() > 0:
        return 1.0
    logs = np.log(np.maximum(chances, 1e-300))
    rows = np.arange(len(classes))

    def loss(power: float) -> float:
        grown = logs * power
        top = grown.max(axis=1)
        total = top + np.log(np.exp(grown - top[:, None]).sum(axis=1))
        return float((weights * (total - grown[rows, classes])).sum())

    return float(min(np.exp(np.linspace(-1, 1, 41)).tolist(), key=loss))
