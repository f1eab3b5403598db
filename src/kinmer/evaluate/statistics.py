"""Means and correlations with bootstrap intervals; queries by case, domain and length."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.evaluate.measures import domain_groups

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
    return [estimate(float(mean), samples[:, at]) for at, mean in enumerate(values.mean(axis=0))]


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


ALL = "all"
# So many lengths are shown one by one; more than that go into bins.
MOST_LENGTHS = 12
STEPS = (1, 2, 5)


class Cell(NamedTuple):
    """Queries that are counted together: `rows` (m,), genome after genome, from `starts` (units,) on."""

    case: str
    domain: str
    length: str
    rows: NDArray[np.int64]
    starts: NDArray[np.int64]

    def sums(self, values: NDArray[np.floating]) -> Floats:
        """(…, units, measures) sums over every genome's queries of (…, q, measures)."""
        picked = values[..., self.rows, :].astype(np.float64)
        return np.asarray(np.add.reduceat(picked, self.starts, axis=-2))

    @property
    def sizes(self) -> Floats:
        """(units,) queries of every genome."""
        return np.diff(np.append(self.starts, self.rows.size)).astype(float)


class Cells:
    """The cells of a table of queries: every case, domain and length, and all of each."""

    def __init__(self, queries: pd.DataFrame, *, bootstrap: int, seed: int) -> None:
        self._bootstrap, self._seed = bootstrap, seed
        self._unit, _ = pd.factorize(queries["genome_id"], sort=True)
        self._order = np.argsort(self._unit, kind="stable")
        self.cases, case = _kinds(queries.get("case"), len(queries))
        self.domains, domain = _kinds(pd.Series(domain_groups(queries)), len(queries))
        self.lengths, length = _lengths(queries.get("length"), len(queries))
        self._codes = (case, domain, length)

    def of(self, asked: NDArray[np.bool_]) -> Iterator[Cell]:
        """Every cell that has one of the queries `asked` (q,)."""
        case, domain, length = (codes[self._order] for codes in self._codes)
        asked = asked[self._order]
        for at, in_case in enumerate((ALL, *self.cases), -1):
            for number, in_domain in enumerate((ALL, *self.domains), -1):
                some = asked & ((at < 0) | (case == at)) & ((number < 0) | (domain == number))
                for bin_, in_length in enumerate((ALL, *self.lengths), -1):
                    rows = self._order[some & ((bin_ < 0) | (length == bin_))]
                    if rows.size:
                        unit = self._unit[rows]
                        starts = np.flatnonzero(np.concatenate([[True], unit[1:] != unit[:-1]]))
                        yield Cell(in_case, in_domain, in_length, rows, starts)

    def weights(self, cell: Cell) -> Floats:
        """(bootstrap, units) draws of the cell's genomes; the same for every call."""
        return resampled(cell.starts.size, self._bootstrap, np.random.default_rng(self._seed))


def intervals(above: Floats, below: Floats, weights: Floats) -> list[Estimate]:
    """Ratios of sums over units with the middle 95 % of the draws, for every column.

    above : (units, columns). below : (units, columns), or (units, 1) for one that is common to all.
    weights : (draws, units) by `resampled`. A draw in which nothing is below tells nothing.
    """
    whole, drawn = below.sum(axis=0), weights @ below
    value = np.divide(above.sum(axis=0), whole, out=np.full(above.shape[1], np.nan), where=whole > 0)
    # A column's draws side by side: they are put in order.
    samples = above.T @ weights.T
    samples = np.divide(samples, drawn.T, out=np.full(samples.shape, np.nan), where=drawn.T > 0)
    samples.sort(axis=1)
    low, high = (_quantile(samples, share) for share in (0.025, 0.975))
    return [
        Estimate(float(one), *(float(end) if np.isfinite(end) else None for end in ends))
        if np.isfinite(one)
        else Estimate(None)
        for one, *ends in zip(value, low, high, strict=True)
    ]


def _quantile(rising: Floats, share: float) -> Floats:
    """(columns,) quantiles of (columns, draws) in rising order, NaN at their ends; as `numpy.quantile`."""
    rows, number = np.arange(len(rising)), np.isfinite(rising).sum(axis=1)
    if not rising.shape[1]:
        return np.full(len(rising), np.nan)
    position = share * np.maximum(number - 1, 0)
    before = position.astype(np.int64)
    first, second = rising[rows, before], rising[rows, np.minimum(before + 1, np.maximum(number - 1, 0))]
    return np.asarray(first + (second - first) * (position - before))


def _kinds(column: pd.Series | None, rows: int) -> tuple[list[str], NDArray[np.int64]]:
    """Values in order and every row's position among them, -1 for none."""
    if column is None:
        return [], np.full(rows, -1)
    codes, names = pd.factorize(column.where(column != ""), sort=True)
    return [str(name) for name in names], codes


def _lengths(column: pd.Series | None, rows: int) -> tuple[Sequence[str], NDArray[np.int64]]:
    """Lengths as they are, or bins of 1, 2 and 5 times powers of ten: ``1000-1999``."""
    if column is None:
        return [], np.full(rows, -1)
    length = pd.to_numeric(column, errors="coerce").to_numpy(float)
    known = np.unique(length[np.isfinite(length)]).astype(np.int64)
    if known.size <= MOST_LENGTHS:
        code = np.searchsorted(known, length)
        return [str(one) for one in known], np.where(np.isfinite(length), code, -1)
    edges = np.array([step * 10**power for power in range(12) for step in STEPS])
    bins = np.where(np.isfinite(length), np.searchsorted(edges, length, side="right") - 1, -1)
    used = np.unique(bins[bins >= 0])
    names = [f"{edges[one]}-{edges[one + 1] - 1}" for one in used]
    return names, np.where(bins >= 0, np.searchsorted(used, bins), -1)
