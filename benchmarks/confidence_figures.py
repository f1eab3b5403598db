"""Shares, calibration errors and F1 of `confidence.py`, each with an interval.

Intervals: 95 %, by resampling kinds (species) of the queries. A query weighs so that cases weigh as in
`MIXTURE` and, within a case, lengths alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from side_by_side_draw import CASES, GENUS, SPECIES, STRAIN

MIXTURE: Mapping[str, float] = {STRAIN: 0.5, SPECIES: 0.25, GENUS: 0.25}
BINS = 10
RESAMPLES = 1000

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


class Figure(NamedTuple):
    """A figure, and between which 95 % of the resampled ones lie; NaN for none."""

    value: float
    low: float
    high: float


NONE = Figure(float("nan"), float("nan"), float("nan"))


def weights_of(table: pd.DataFrame, mixture: Mapping[str, float] = MIXTURE) -> Floats:
    """(n,) weights that come to the mixture's share in every case, and alike in each of its lengths."""
    size = table.groupby(["case", "length"])["query"].transform("size").to_numpy()
    lengths = table.groupby("case")["length"].transform("nunique").to_numpy()
    return np.asarray(table["case"].map(dict(mixture)).to_numpy(float) / (size * lengths))


class Resampled:
    """Sums over kinds that are drawn with replacement; the first line of all sums is without resampling."""

    def __init__(self, kinds: NDArray[np.int64], resamples: int = RESAMPLES) -> None:
        unique, self._at = np.unique(kinds, return_inverse=True)
        drawn = np.random.default_rng(0).multinomial(
            len(unique), np.full(len(unique), 1 / len(unique)), size=resamples
        )
        self._counts = np.concatenate([np.ones((1, len(unique))), drawn])

    def sums(self, values: Floats) -> Floats:
        """(1 + resamples, m) sums of (n, m) values."""
        by_kind = np.zeros((self._counts.shape[1], values.shape[1]))
        np.add.at(by_kind, self._at, values)
        return np.asarray(self._counts @ by_kind)


def figure(values: Floats) -> Figure:
    """Of (1 + resamples,) values, the first without resampling."""
    if np.isnan(values[0]):
        return NONE
    low, high = np.nanquantile(values[1:], [0.025, 0.975]) if len(values) > 1 else values[[0, 0]]
    return Figure(float(values[0]), float(low), float(high))


def _ratio(over: Floats, under: Floats) -> Floats:
    return np.divide(over, under, out=np.full_like(over, np.nan), where=under > 0)


def share(table: pd.DataFrame, over: Bools, under: Bools, weights: Floats | None = None) -> Figure:
    """The weighted share of the queries `under` that are `over` too. Both (n,); weights are 1 by default."""
    if not under.any():
        return NONE
    heavy = np.ones(len(table)) if weights is None else weights
    values = np.stack([heavy * (over & under), heavy * under], axis=1)[under]
    sums = Resampled(table["kind"].to_numpy()[under]).sums(values)
    return figure(_ratio(sums[:, 0], sums[:, 1]))


def binned(likely: Floats, right: Floats, weights: Floats) -> Floats:
    """(n, 3 BINS) of every query, in the columns of its bin: weight, and weighted probability and truth."""
    place = np.minimum((likely * BINS).astype(np.int64), BINS - 1)
    values = np.zeros((len(likely), 3, BINS))
    rows = np.arange(len(likely))
    for column, one in enumerate((weights, weights * likely, weights * right)):
        values[rows, column, place] = one
    return values.reshape(len(likely), 3 * BINS)


def error_of(sums: Floats) -> Floats:
    """(m,) expected calibration errors of (m, 3 BINS) sums of `binned`.

    Over bins of equal width the mean gap of confidence and accuracy, weighted (Naeini et al. 2015, AAAI).
    """
    weight, likely, right = sums.reshape(len(sums), 3, BINS).transpose(1, 0, 2)
    return _ratio(np.abs(likely - right).sum(axis=1), weight.sum(axis=1))


def calibration_error(table: pd.DataFrame, rank: str, right: str, weights: Floats) -> Figure:
    """The error of a rank's probabilities over the queries that have one and whose name can be judged."""
    likely, truth = table[f"{rank}_p"].to_numpy(float), table[right].to_numpy(float)
    seen = ~np.isnan(likely) & ~np.isnan(truth)
    if not seen.any():
        return NONE
    values = binned(likely[seen], truth[seen], weights[seen])
    return figure(error_of(Resampled(table["kind"].to_numpy()[seen]).sums(values)))


def reliability(table: pd.DataFrame, rank: str, right: str, weights: Floats) -> pd.DataFrame:
    """By bin: number of queries, share of the weight, mean probability, share that is right."""
    likely, truth = table[f"{rank}_p"].to_numpy(float), table[right].to_numpy(float)
    seen = ~np.isnan(likely) & ~np.isnan(truth)
    values = binned(likely[seen], truth[seen], weights[seen])
    weight, said, was = values.sum(axis=0).reshape(3, BINS)
    counts = (values[:, :BINS] > 0).sum(axis=0)
    columns = {"queries": counts, "weight": weight / max(weight.sum(), 1e-300)}
    return pd.DataFrame(columns | {"said": _ratio(said, weight), "right": _ratio(was, weight)})


class Scores(NamedTuple):
    """Of a class; `even`: F1 where all classes weigh alike."""

    precision: Figure
    recall: Figure
    f1: Figure
    even: Figure
    queries: int


def scores_of(table: pd.DataFrame, name: str, truth: str = "molecule", told: str = "told") -> Scores:
    """Precision, recall and F1 of a class, over all queries of the table."""
    own, said = table[truth].eq(name).to_numpy(), table[told].eq(name).to_numpy()
    if not own.any():
        return Scores(NONE, NONE, NONE, NONE, 0)
    values = np.stack([own & said, said, own], axis=1).astype(float)
    even = 1 / table.groupby(truth)["kind"].transform("size").to_numpy(float)
    drawn = Resampled(table["kind"].to_numpy())
    hit, given, there = drawn.sums(values).T
    precision, recall, f1 = _ratio(hit, given), _ratio(hit, there), _ratio(2 * hit, given + there)
    hit, given, there = drawn.sums(values * even[:, None]).T
    return Scores(
        figure(precision), figure(recall), figure(f1), figure(_ratio(2 * hit, given + there)), int(own.sum())
    )


def case_rows(table: pd.DataFrame, cases: tuple[str, ...] = CASES) -> Bools:
    """(n,) whether a query is of one of the cases."""
    return np.asarray(table["case"].isin(cases).to_numpy())
