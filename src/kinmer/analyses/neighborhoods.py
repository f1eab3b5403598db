"""Distances to the nearest other sequence: how near, how many, and in how many dimensions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.outputs import Analysis, column, known, need_explore, quantiles, sampled
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.stores import Metric
from kinmer.vectors import Space, neighbour_graph, space_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

__all__ = [
    "CountAnalysis",
    "Dimension",
    "Fit",
    "HubAnalysis",
    "NearDuplicate",
    "NeighborAnalysis",
    "analyze_counts",
    "analyze_hubs",
    "analyze_neighbors",
]


THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)
RANGES = ((0.0, 0.2), (0.0, 0.5), (0.0, 0.7))
BINS = 100
# Cosine distances have a scale of their own; of others, bins are a hundredth of what nearly all lie below.
WIDTH = 0.01
MOST_BINS = 10_000
# The paper's own share of the largest ratios that are left out.
DISCARDED = 0.1
RESAMPLES = 200
Distances = NDArray[np.float64]


class NearDuplicate(NamedTuple):
    """Two sequences that are nearly the same; None where length or GC is not known."""

    id: str
    other: str
    distance: float
    length: float | None
    other_length: float | None
    gc: float | None
    other_gc: float | None


@dataclass(frozen=True)
class NeighborAnalysis(Analysis):
    """Distances of a sample to the nearest other of all sequences.

    distances (sampled,) : in the order of the rows. below : share of them below a threshold. duplicates :
        pairs of a sequence and its nearest at or below `duplicate_distance`, each once, the nearest first.
    """

    points: int
    sampled: int
    vectors: str
    metric: Metric
    exact: bool
    distances: Distances
    below: dict[float, float]
    duplicate_distance: float
    duplicates: tuple[NearDuplicate, ...]

    def text(self) -> str:
        """Mean, minimum, shares."""
        far = self.distances
        lines = [
            f"{self.sampled:,} of {self.points:,} sequences, {self.vectors}, {self.metric} distance to the"
            f" nearest other ({'every pair looked at' if self.exact else 'by the engine'})",
            f"mean {far.mean():.4f} ± {far.std():.4f}, minimum {far.min():.4f}, median {np.median(far):.4f}",
        ]
        lines += [f"below {level:g}: {100 * share:.2f} %" for level, share in self.below.items()]
        lines.append(f"pairs at {self.duplicate_distance:g} or nearer: {len(self.duplicates):,}")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The numbers; the distances themselves are in the table."""
        far = self.distances
        return {
            "points": self.points,
            "sampled": self.sampled,
            "vectors": self.vectors,
            "metric": self.metric,
            "exact": self.exact,
            "mean": far.mean(),
            "sd": far.std(),
            "minimum": far.min(),
            "maximum": far.max(),
            "quantiles": quantiles(far),
            "below": {f"{level:g}": share for level, share in self.below.items()},
            "duplicate_distance": self.duplicate_distance,
            "duplicates": len(self.duplicates),
        }

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """The histogram."""
        counts, edges = np.histogram(self.distances, BINS)
        return ("from", "to", "sequences"), zip(edges[:-1], edges[1:], counts, strict=True)

    def more_tables(self) -> dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]]:
        """The near-duplicates."""
        return {"duplicates": (NearDuplicate._fields, self.duplicates)}

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        return [*super().outputs(stem), Path(f"{stem}-duplicates.tsv")]

    def figure(self) -> Figure:
        """The histogram, with the thresholds."""
        from kinmer.plots.charts import nearest_distances

        return nearest_distances(self.distances, self.below, metric=self.metric)


def analyze_neighbors(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    sample: int = 100_000,
    thresholds: Sequence[float] = THRESHOLDS,
    duplicates: float = 0.01,
    seed: int = 0,
    threads: int | None = None,
) -> NeighborAnalysis:
    """Distances of a sample of the sequences to the nearest other among all of them.

    Parameters
    ----------
    source, vectors, ids, metric : what `kinmer.vectors.open_space` takes, or a Space.
    metadata : a TSV that tells length and GC where the source does not.
    sample : sequences, drawn with `seed`; all where there are fewer.
    thresholds : distances below which the share is told.
    duplicates : distance up to which a sequence and its nearest are listed.

    Raises ProfileError for fewer than two sequences, UsageError for a sample below 1.
    """
    if sample < 1:
        raise UsageError(f"the sample must hold at least 1 sequence, not {sample}")
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    rows, far, near, exact = _nearest(space, 1, sample, seed, threads)
    first = far[:, 0]
    return NeighborAnalysis(
        len(space),
        len(rows),
        space.vectors,
        space.metric,
        exact,
        first,
        {float(level): float((first < level).mean()) for level in thresholds},
        duplicates,
        tuple(_duplicates(space, rows, near[:, 0], first, duplicates)),
    )


def _nearest(
    space: Space, k: int, sample: int, seed: int, threads: int | None
) -> tuple[NDArray[np.int64], Distances, NDArray[np.int32], bool]:
    """Rows of a sample, distances and rows (m, k) of their nearest, and whether every pair was looked at."""
    if len(space) <= k:
        raise ProfileError(
            f"{len(space)} sequence{'s have' if len(space) > 1 else ' has'} too few others",
            f"{k} are needed",
            place=space.place,
        )
    rows = sampled(len(space), sample, np.random.default_rng(seed))
    graph = neighbour_graph(space, k, rows=rows, threads=threads)
    return rows, graph.distances.astype(np.float64), graph.indices, graph.exact


def _duplicates(
    space: Space, rows: NDArray[np.int64], near: NDArray[np.int32], far: Distances, level: float
) -> Iterable[NearDuplicate]:
    close = np.flatnonzero(far <= level)
    pairs: dict[tuple[int, int], float] = {}
    for place in close[np.argsort(far[close], kind="stable")]:
        a, b = sorted((int(rows[place]), int(near[place])))
        pairs.setdefault((a, b), float(far[place]))
    told = [column(space, name) for name in ("length", "gc")]
    for (a, b), distance in pairs.items():
        both = [known(values[row]) for values in told for row in (a, b)]
        yield NearDuplicate(space.ids[a], space.ids[b], distance, *both)


class Fit(NamedTuple):
    """Count fitted linearly on distance between `low` and `high`; None where there is nothing to fit."""

    low: float
    high: float
    bins: int
    r2: float | None
    slope: float | None
    intercept: float | None


class Dimension(NamedTuple):
    """Intrinsic dimension by the ratio of the second nearest distance to the nearest, with its 95 % interval.

    TwoNN (Facco et al. 2017, Sci Rep 7:12140), `discarded` of the largest ratios left out; `dropped`: points
    whose nearest is at distance 0. The interval is of a bootstrap over points.
    """

    value: float | None
    low: float | None
    high: float | None
    discarded: float
    dropped: int


@dataclass(frozen=True)
class CountAnalysis(Analysis):
    """Sequences counted by the distance to their nearest, in bins of `width`, and lines through them.

    beyond : sequences further from their nearest than the 10,000th bin.
    """

    points: int
    sampled: int
    vectors: str
    metric: Metric
    width: float
    centres: Distances
    counts: NDArray[np.int64]
    beyond: int
    fits: tuple[Fit, ...]
    dimension: Dimension

    def text(self) -> str:
        """The fits and the dimension."""
        lines = [
            f"{self.sampled:,} of {self.points:,} sequences, {self.vectors}, {self.metric}, bins of"
            f" {self.width:.4g}"
        ]
        for fit in self.fits:
            said = (
                "too few bins"
                if fit.slope is None
                else f"R² {'undefined' if fit.r2 is None else f'{fit.r2:.3f}'}, slope {fit.slope:.1f},"
                f" intercept {fit.intercept:.1f}"
            )
            lines.append(f"{fit.low:.4g}–{fit.high:.4g}: {said}")
        one = self.dimension
        lines.append(
            "intrinsic dimension: undefined"
            if one.value is None
            else f"intrinsic dimension {one.value:.2f} ({one.low:.2f}–{one.high:.2f}), TwoNN without"
            f" {100 * one.discarded:.0f} % of the ratios and {one.dropped:,} sequences at distance 0"
        )
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """All numbers."""
        return {
            **asdict(self),
            "fits": [fit._asdict() for fit in self.fits],
            "dimension": self.dimension._asdict(),
        }

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """The counts."""
        half = self.width / 2
        rows = [
            (max(0.0, round(at - half, 12)), round(at + half, 12), count)
            for at, count in zip(self.centres.tolist(), self.counts.tolist(), strict=True)
        ]
        return ("from", "to", "sequences"), rows

    def figure(self) -> Figure:
        """Counts and lines."""
        from kinmer.plots.charts import counts_and_lines

        lines = [
            (fit.low, fit.high, fit.slope, fit.intercept, fit.r2)
            for fit in self.fits
            if fit.slope is not None and fit.intercept is not None
        ]
        return counts_and_lines(self.centres, self.counts, lines, metric=self.metric)


def analyze_counts(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    sample: int = 100_000,
    width: float | None = None,
    ranges: Sequence[tuple[float, float]] | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> CountAnalysis:
    """How the number of sequences grows with the distance to their nearest, and the intrinsic dimension.

    Parameters
    ----------
    source, vectors, ids, metric, sample, seed : as in `analyze_neighbors`.
    width : of a bin; None: 0.01, of Euclidean distances a hundredth of their 99 % quantile.
    ranges : distances (low, high) of the linear fits, whole bins; None: 0–0.2, 0–0.5, 0–0.7, of Euclidean
        distances these shares of their 99 % quantile.

    Raises ProfileError for fewer than three sequences, UsageError for settings that make no sense or where
    the extra ``explore`` is missing.
    """
    if (
        sample < 1
        or (width is not None and not width > 0)
        or any(not 0 <= low < high for low, high in ranges or ())
    ):
        raise UsageError("sample and width must be above 0, and a range go from low to high")
    need_explore("skdim")
    space = space_of(source, vectors=vectors, ids=ids, metric=metric)
    rows, far, _, _ = _nearest(space, 2, sample, seed, threads)
    scale = 1.0 if space.metric == "cosine" else float(np.quantile(far[:, 0], 0.99)) or 1.0
    width = WIDTH * scale if width is None else width
    ranges = [(low * scale, high * scale) for low, high in RANGES] if ranges is None else ranges
    # A distance on the edge between bins belongs to the upper one.
    places = np.floor(far[:, 0] / width + 1e-9)
    counts = np.bincount(places[places < MOST_BINS].astype(np.int64), minlength=1)
    centres = np.asarray((np.arange(len(counts)) + 0.5) * width, np.float64)
    return CountAnalysis(
        len(space),
        len(rows),
        space.vectors,
        space.metric,
        width,
        centres,
        counts,
        int((places >= MOST_BINS).sum()),
        tuple(_fit(centres, counts, width, low, high) for low, high in ranges),
        _dimension(far, seed),
    )


def _fit(centres: Distances, counts: NDArray[np.int64], width: float, low: float, high: float) -> Fit:
    tolerance = 1e-6 * width
    inside = (centres - width / 2 >= low - tolerance) & (centres + width / 2 <= high + tolerance)
    if inside.sum() < 2:
        return Fit(low, high, int(inside.sum()), None, None, None)
    from scipy.stats import linregress

    x, y = centres[inside], counts[inside].astype(np.float64)
    if np.ptp(y) == 0:
        return Fit(low, high, len(x), None, 0.0, float(y[0]))
    line = linregress(x, y)
    return Fit(low, high, len(x), float(line.rvalue**2), float(line.slope), float(line.intercept))


def _dimension(far: Distances, seed: int) -> Dimension:
    """TwoNN of the two nearest distances (m, 2) of every point."""
    kept = far[far[:, 0] > 0]
    dropped = len(far) - len(kept)
    if len(kept) < 3 or not (kept[:, 1] > kept[:, 0]).any():
        return Dimension(None, None, None, DISCARDED, dropped)
    from skdim.id import TwoNN

    def of(sample: Distances) -> float:
        value = TwoNN(discard_fraction=DISCARDED, dist=True).fit(sample).dimension_
        return float(value)

    rng = np.random.default_rng(seed)
    values = np.array([of(kept[rng.integers(0, len(kept), len(kept))]) for _ in range(RESAMPLES)])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (2.5, 97.5)) if values.size else (np.nan, np.nan)
    return Dimension(known(of(kept)), known(low), known(high), DISCARDED, dropped)


@dataclass(frozen=True)
class HubAnalysis(Analysis):
    """How often every sequence is among the k nearest of another (Radovanović et al. 2010, JMLR 11:2487).

    in_degree (points,) : its mean is k. skewness : of that distribution; None where all are alike. never :
        share of the sequences that are near nobody. top : the largest, with what is known of them.
    """

    points: int
    k: int
    vectors: str
    metric: Metric
    exact: bool
    in_degree: NDArray[np.int64]
    skewness: float | None
    never: float
    top: pd.DataFrame

    def text(self) -> str:
        """Largest, skewness, share of none."""
        skew = "undefined" if self.skewness is None else f"{self.skewness:.2f}"
        lines = [
            f"{self.points:,} sequences, {self.vectors}, {self.metric}, {self.k} nearest",
            f"largest {self.in_degree.max():,}, skewness {skew}, near nobody {100 * self.never:.1f} %",
            self.top.head(5).iloc[:, :6].to_string(index=False),
        ]
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "points": self.points,
            "k": self.k,
            "vectors": self.vectors,
            "metric": self.metric,
            "exact": self.exact,
            "largest": self.in_degree.max(),
            "skewness": self.skewness,
            "never": self.never,
            "quantiles": quantiles(self.in_degree.astype(np.float64)),
            "top": self.top["id"].tolist(),
        }

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """How many sequences have every in-degree that occurs."""
        degrees, counts = np.unique(self.in_degree, return_counts=True)
        return ("in_degree", "sequences"), zip(degrees, counts, strict=True)

    def more_tables(self) -> dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]]:
        """The largest hubs."""
        return {"top": (list(self.top.columns), self.top.itertuples(index=False))}

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        return [*super().outputs(stem), Path(f"{stem}-top.tsv")]

    def figure(self) -> Figure:
        """The distribution, both axes logarithmic."""
        from kinmer.plots.charts import in_degrees

        return in_degrees(self.in_degree, self.k)


def analyze_hubs(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    k: int = 10,
    top: int = 20,
    threads: int | None = None,
) -> HubAnalysis:
    """Among how many others' k nearest is every sequence?

    source, vectors, ids, metric : what `kinmer.vectors.open_space` takes, or a Space. metadata : a TSV with
    what is to be told of the `top` largest.

    Raises UsageError for k or top below 1, ProfileError for fewer than two sequences.
    """
    if k < 1 or top < 1:
        raise UsageError("k and top must be at least 1")
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    if len(space) < 2:
        raise ProfileError("one sequence is near nobody", place=space.place)
    k = min(k, len(space) - 1)
    graph = neighbour_graph(space, k, threads=threads)
    degree = graph.in_degree()
    order = np.argsort(-degree, kind="stable")[:top]
    table = pd.DataFrame({"id": space.ids[order], "in_degree": degree[order]})
    for name in space.obs.columns:
        table[name] = space.obs[name].to_numpy()[order]
    return HubAnalysis(
        len(space),
        k,
        space.vectors,
        space.metric,
        graph.exact,
        degree,
        _skewness(degree),
        float((degree == 0).mean()),
        table,
    )


def _skewness(degree: NDArray[np.int64]) -> float | None:
    if np.ptp(degree) == 0:
        return None
    from scipy.stats import skew

    return known(float(skew(degree)))
