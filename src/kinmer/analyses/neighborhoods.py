"""Neighborhoods: how near is the nearest other, how many are, and in how many dimensions."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.analyses.outputs import (
    Analysis,
    Table,
    column,
    described,
    known,
    need_explore,
    sampled,
)
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.library import open_labeled
from kinmer.stores import Metric
from kinmer.vectors import Graph, Vectors, neighbor_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

THRESHOLDS = (0.01, 0.05, 0.1, 0.2, 0.5)
RANGES = ((0.0, 0.2), (0.0, 0.5), (0.0, 0.7))
BINS = 100
# Cosine distances have a scale of their own; of others, bins are a hundredth of what nearly all lie below.
WIDTH = 0.01
MOST_BINS = 10_000
# The share of the largest ratios that the paper itself leaves out.
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
    MORE: ClassVar = ("-duplicates.tsv",)

    def text(self) -> str:
        """Mean, minimum, shares."""
        values = self.distances
        lines = [
            f"{self.sampled:,} of {self.points:,} sequences, {self.vectors}, {self.metric} distance to the"
            f" nearest other ({'every pair looked at' if self.exact else 'by the engine'})",
            f"mean {values.mean():.4f} ± {values.std():.4f}, minimum {values.min():.4f}, median"
            f" {np.median(values):.4f}",
        ]
        lines += [f"below {level:g}: {100 * share:.2f} %" for level, share in self.below.items()]
        lines.append(f"pairs at {self.duplicate_distance:g} or nearer: {len(self.duplicates):,}")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The numbers; the distances themselves are in the table."""
        return {
            "points": self.points,
            "sampled": self.sampled,
            "vectors": self.vectors,
            "metric": self.metric,
            "exact": self.exact,
            **described(self.distances),
            "below": {f"{level:g}": share for level, share in self.below.items()},
            "duplicate_distance": self.duplicate_distance,
            "duplicates": len(self.duplicates),
        }

    def table(self) -> Table:
        """The histogram."""
        counts, edges = np.histogram(self.distances, BINS)
        return ("from", "to", "sequences"), zip(edges[:-1], edges[1:], counts, strict=True)

    def more_tables(self) -> dict[str, Table]:
        """The near-duplicates."""
        return {"duplicates": (NearDuplicate._fields, self.duplicates)}

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
    source, vectors, ids, metric : Any
        What `kinmer.vectors.open_vectors` takes.
    metadata : str | Path | None
        A TSV with length and GC where the source does not have them.
    sample : int
        Sequences, drawn with `seed`; all where there are fewer.
    thresholds : Sequence[float]
        Distances below which the share is reported.
    duplicates : float
        Distance up to which a sequence and its nearest are listed.

    Notes
    -----
    Raises ProfileError for fewer than two sequences, UsageError for a sample below 1.
    """
    if sample < 1:
        raise UsageError(f"the sample must hold at least 1 sequence, not {sample}")
    points = open_labeled(source, vectors, ids=ids, metric=metric, metadata=metadata)
    graph = _nearest(points, 1, sample, seed, threads)
    distances = graph.distances[:, 0].astype(np.float64)
    return NeighborAnalysis(
        len(points),
        len(graph.rows),
        points.name,
        points.metric,
        graph.exact,
        distances,
        {float(level): float((distances < level).mean()) for level in thresholds},
        duplicates,
        tuple(_duplicates(points, graph, distances, duplicates)),
    )


def _nearest(points: Vectors, k: int, sample: int, seed: int, threads: int | None) -> Graph:
    """The k nearest others of a sample."""
    if len(points) <= k:
        raise ProfileError(
            f"{len(points)} sequence{'s have' if len(points) > 1 else ' has'} too few others",
            f"{k} are needed",
            place=points.place,
        )
    rows = sampled(len(points), sample, np.random.default_rng(seed))
    return neighbor_graph(points, k, rows=rows, threads=threads)


def _duplicates(points: Vectors, graph: Graph, distances: Distances, level: float) -> Iterable[NearDuplicate]:
    close = np.flatnonzero(distances <= level)
    pairs: dict[tuple[int, int], float] = {}
    for at in close[np.argsort(distances[close], kind="stable")]:
        a, b = sorted((int(graph.rows[at]), int(graph.indices[at, 0])))
        pairs.setdefault((a, b), float(distances[at]))
    columns = [column(points, name) for name in ("length", "gc")]
    for (a, b), distance in pairs.items():
        both = [known(values[row]) for values in columns for row in (a, b)]
        yield NearDuplicate(points.ids[a], points.ids[b], distance, *both)


class Fit(NamedTuple):
    """Count fitted linearly on distance between `low` and `high`; None where there is nothing to fit."""

    low: float
    high: float
    bins: int
    r2: float | None
    slope: float | None
    intercept: float | None

    def text(self) -> str:
        """The line, for people."""
        if self.slope is None:
            return f"{self.low:.4g}–{self.high:.4g}: too few bins"
        r2 = "undefined" if self.r2 is None else f"{self.r2:.3f}"
        line = f"slope {self.slope:.1f}, intercept {self.intercept:.1f}"
        return f"{self.low:.4g}–{self.high:.4g}: R² {r2}, {line}"


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

    def text(self) -> str:
        """The dimension, for people."""
        if self.value is None:
            return "intrinsic dimension: undefined"
        return (
            f"intrinsic dimension {self.value:.2f} ({self.low:.2f}–{self.high:.2f}), TwoNN without"
            f" {100 * self.discarded:.0f} % of the ratios and {self.dropped:,} sequences at distance 0"
        )


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
    centers: Distances
    counts: NDArray[np.int64]
    beyond: int
    fits: tuple[Fit, ...]
    dimension: Dimension

    @property
    def centres(self) -> Distances:
        """The name of `centers` until 0.1.0."""
        warnings.warn("centres is centers now", DeprecationWarning, stacklevel=2)
        return self.centers

    def text(self) -> str:
        """The fits and the dimension."""
        first = (
            f"{self.sampled:,} of {self.points:,} sequences, {self.vectors}, {self.metric}, bins of"
            f" {self.width:.4g}"
        )
        return "\n".join([first, *(fit.text() for fit in self.fits), self.dimension.text()])

    def summary(self) -> dict[str, Any]:
        """All numbers."""
        numbers = {**asdict(self), "fits": [fit._asdict() for fit in self.fits]}
        # The file's word since 0.1.0.
        return {**numbers, "centres": numbers.pop("centers"), "dimension": self.dimension._asdict()}

    def table(self) -> Table:
        """The counts."""
        half = self.width / 2
        rows = (
            (max(0.0, round(at - half, 12)), round(at + half, 12), count)
            for at, count in zip(self.centers.tolist(), self.counts.tolist(), strict=True)
        )
        return ("from", "to", "sequences"), rows

    def figure(self) -> Figure:
        """Counts and lines."""
        from kinmer.plots.charts import counts_and_lines

        lines = [
            (fit.low, fit.high, fit.slope, fit.intercept, fit.r2)
            for fit in self.fits
            if fit.slope is not None and fit.intercept is not None
        ]
        return counts_and_lines(self.centers, self.counts, lines, metric=self.metric)


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
    source, vectors, ids, metric, sample, seed : Any
        As in `analyze_neighbors`.
    width : float | None
        Of a bin; None: 0.01, of Euclidean distances a hundredth of their 99 % quantile.
    ranges : Sequence[tuple[float, float]] | None
        Distances (low, high) of the linear fits, whole bins; None: 0–0.2, 0–0.5, 0–0.7, of Euclidean
        distances these shares of their 99 % quantile.

    Notes
    -----
    Raises ProfileError for fewer than three sequences, UsageError for settings that make no sense or where
    the extra ``explore`` is missing.
    """
    backward = any(not 0 <= low < high for low, high in ranges or ())
    if sample < 1 or (width is not None and not width > 0) or backward:
        raise UsageError("sample and width must be above 0, and a range go from low to high")
    need_explore("skdim")
    points = open_labeled(source, vectors, ids=ids, metric=metric)
    graph = _nearest(points, 2, sample, seed, threads)
    distances = graph.distances.astype(np.float64)
    scale = 1.0 if points.metric == "cosine" else float(np.quantile(distances[:, 0], 0.99)) or 1.0
    width = WIDTH * scale if width is None else width
    ranges = [(low * scale, high * scale) for low, high in RANGES] if ranges is None else ranges
    # A distance on the edge between bins belongs to the upper one.
    bins = np.floor(distances[:, 0] / width + 1e-9)
    counts = np.bincount(bins[bins < MOST_BINS].astype(np.int64), minlength=1)
    centers = np.asarray((np.arange(len(counts)) + 0.5) * width, np.float64)
    return CountAnalysis(
        len(points),
        len(graph.rows),
        points.name,
        points.metric,
        width,
        centers,
        counts,
        int((bins >= MOST_BINS).sum()),
        tuple(_fit(centers, counts, width, low, high) for low, high in ranges),
        _dimension(distances, seed),
    )


def _fit(centers: Distances, counts: NDArray[np.int64], width: float, low: float, high: float) -> Fit:
    tolerance = 1e-6 * width
    inside = (centers - width / 2 >= low - tolerance) & (centers + width / 2 <= high + tolerance)
    if inside.sum() < 2:
        return Fit(low, high, int(inside.sum()), None, None, None)
    from scipy.stats import linregress

    x, y = centers[inside], counts[inside].astype(np.float64)
    if np.ptp(y) == 0:
        return Fit(low, high, len(x), None, 0.0, float(y[0]))
    line = linregress(x, y)
    return Fit(low, high, len(x), float(line.rvalue**2), float(line.slope), float(line.intercept))


def _dimension(distances: Distances, seed: int) -> Dimension:
    """TwoNN of the two nearest distances (m, 2) of every point."""
    kept = distances[distances[:, 0] > 0]
    dropped = len(distances) - len(kept)
    if len(kept) < 3 or not (kept[:, 1] > kept[:, 0]).any():
        return Dimension(None, None, None, DISCARDED, dropped)
    from skdim.id import TwoNN

    def of(sample: Distances) -> float:
        return float(TwoNN(discard_fraction=DISCARDED, dist=True).fit(sample).dimension_)

    rng = np.random.default_rng(seed)
    values = np.array([of(kept[rng.integers(0, len(kept), len(kept))]) for _ in range(RESAMPLES)])
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (2.5, 97.5)) if values.size else (np.nan, np.nan)
    return Dimension(known(of(kept)), known(low), known(high), DISCARDED, dropped)
