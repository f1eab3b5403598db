"""Correlations and means with bootstrap intervals over queries; undefined where nothing varies."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Estimate", "correlations", "estimate", "mean_by_column", "resampled"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % bootstrap interval; None where nothing varies."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        if self.low is None or self.high is None:
            return f"{self.value:.3f}"
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def resampled(units: int, times: int, rng: np.random.Generator) -> Floats:
    """(times, units) how often each unit is drawn in every bootstrap sample (Efron 1979, Ann Stat 7:1)."""
    drawn = rng.integers(0, units, (times, units)) + units * np.arange(times)[:, None]
    return np.bincount(drawn.ravel(), minlength=times * units).reshape(times, units).astype(float)


def estimate(value: float, samples: Floats) -> Estimate:
    """A value with the middle 95 % of its bootstrap samples, undefined ones left out."""
    if not np.isfinite(value):
        return Estimate(None)
    kept = samples[np.isfinite(samples)]
    if not kept.size:
        return Estimate(float(value))
    low, high = np.percentile(kept, (2.5, 97.5))
    return Estimate(float(value), float(low), float(high))


def mean_by_column(values: Floats, weights: Floats) -> list[Estimate]:
    """Mean of every column of (units, columns), with intervals from the weights of `resampled`."""
    samples = weights @ values / values.shape[0]
    return [estimate(float(mean), samples[:, place]) for place, mean in enumerate(values.mean(axis=0))]


def correlations(x: Floats, y: Floats, weights: Floats) -> tuple[Estimate, Estimate]:
    """Pearson's r and Spearman's ρ over all pairs of (units, pairs), whole units drawn in the bootstrap.

    Memory: a few times the size of `x`.
    """
    once = np.ones((1, x.shape[0]))
    ranked_x, ranked_y = _Ranks(x), _Ranks(y)
    pearson = _pearson(x, y, weights)
    spearman = np.array([_pearson(ranked_x(row), ranked_y(row), row[None])[0] for row in weights])
    return (
        estimate(float(_pearson(x, y, once)[0]), pearson),
        estimate(float(_pearson(ranked_x(once[0]), ranked_y(once[0]), once)[0]), spearman),
    )


def _pearson(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(samples,) correlation over (units, pairs) for weights (samples, units); NaN where nothing varies."""
    x, y = x - x.mean(), y - y.mean()
    # A spread that is only rounding does not count as one.
    tiny = [np.abs(one).max(initial=0) ** 2 * x.size * 1e-24 for one in (x, y)]
    sums = np.stack([x.sum(1), y.sum(1), (x * x).sum(1), (y * y).sum(1), (x * y).sum(1)], axis=1)
    sx, sy, sxx, syy, sxy = (weights @ sums).T
    n = weights.sum(axis=1) * x.shape[1]
    vx, vy = sxx - sx * sx / n, syy - sy * sy / n
    defined = (vx > tiny[0]) & (vy > tiny[1])
    scale = np.sqrt(np.where(defined, vx * vy, 1.0))
    return np.where(defined, np.clip((sxy - sx * sy / n) / scale, -1, 1), np.nan)


class _Ranks:
    """Mid-ranks of all values of (units, pairs) where every unit counts `weights` times; sorts only once."""

    def __init__(self, values: Floats) -> None:
        self._shape = values.shape
        flat = values.ravel()
        self._order = np.argsort(flat, kind="stable")
        in_order = flat[self._order]
        self._first = np.flatnonzero(np.concatenate([[True], in_order[1:] != in_order[:-1]]))
        self._group = np.empty(flat.size, np.int64)
        self._group[self._order] = np.repeat(
            np.arange(self._first.size), np.diff(np.append(self._first, flat.size))
        )
        self._unit = self._order // values.shape[1]

    def __call__(self, weights: Floats) -> Floats:
        size = np.add.reduceat(weights[self._unit], self._first)
        rank = np.cumsum(size) - (size - 1) / 2
        return rank[self._group].reshape(self._shape)
