"""Distances of random pairs, Euclidean and cosine: one mode or two, and is it the GC that splits them?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.analyses.base import Analysis, column, need_explore, quantiles, sampled
from kinmer.analyses.modes import dip_of, gc_parting, modes_of, several_modes
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.progress import step
from kinmer.space import space_of
from kinmer.stores import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

__all__ = ["DistanceAnalysis", "MetricDistances", "analyze_distances"]

METRICS: tuple[Metric, ...] = ("l2", "cosine")
NAMES = {"l2": "Euclidean distance", "cosine": "cosine distance"}
# Sequences that the pairs are drawn of, and pairs that lie in memory together.
POINTS, BLOCK_PAIRS = 20_000, 4096
BINS = 200
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class MetricDistances:
    """Distances of pairs by one metric.

    edges (b + 1,), counts (b,) : the histogram. modes : peaks of the curve of all pairs (`modes_of`);
        several : share of bootstrap samples of the sequences in which there is more than one. dip, p :
        Hartigan's dip of pairs that share no sequence, and the probability of one as large where there is a
        single mode: strict, as these are half as many as sequences (`dip_of`).
    same_gc, other_gc (b,) : the histogram of pairs within one and of two GC groups, as far as their GC is
        known; None where it is not. split : share of the variance of distances that lies between those.
    """

    mean: float
    sd: float
    minimum: float
    maximum: float
    quantiles: dict[str, float]
    edges: NDArray[np.float64]
    counts: Counts
    dip: float | None
    p: float | None
    modes: int
    several: float | None
    same_gc: Counts | None = None
    other_gc: Counts | None = None
    same_mean: float | None = None
    other_mean: float | None = None
    split: float | None = None


@dataclass(frozen=True)
class DistanceAnalysis(Analysis):
    """Distances of `pairs` random pairs of `sampled` of `points` sequences, by metric.

    gc_threshold : where the two GC groups part; None where the GC is not known or does not vary.
    """

    points: int
    sampled: int
    pairs: int
    vectors: str
    gc_threshold: float | None
    by_metric: dict[Metric, MetricDistances]

    def text(self) -> str:
        """Mean, modes and test of every metric."""
        lines = [f"{self.pairs:,} pairs of {self.sampled:,} of {self.points:,} sequences, {self.vectors}"]
        for metric, one in self.by_metric.items():
            lines.append(f"{NAMES[metric]:20} {one.mean:.4f} ± {one.sd:.4f}, {_said(one)}")
            if one.split is not None:
                lines.append(
                    f"{'':20} of one GC group {one.same_mean:.4f}, of two {one.other_mean:.4f} (parted at"
                    f" {self.gc_threshold:.3f}): {100 * one.split:.0f} % of the variance"
                )
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """All numbers, histograms too."""
        return asdict(self)

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """The histograms."""
        rows = [
            (
                metric,
                low,
                high,
                *(None if part is None else part[at] for part in (one.counts, one.same_gc, one.other_gc)),
            )
            for metric, one in self.by_metric.items()
            for at, (low, high) in enumerate(zip(one.edges[:-1], one.edges[1:], strict=True))
        ]
        return ("metric", "from", "to", "pairs", "same_gc", "other_gc"), rows

    def figure(self) -> Figure:
        """A histogram for every metric."""
        from kinmer.plots.analyses import distance_histograms

        panels = {}
        for metric, one in self.by_metric.items():
            parts = {"all pairs": one.counts}
            if one.same_gc is not None and one.other_gc is not None:
                parts |= {"of one GC group": one.same_gc, "of two GC groups": one.other_gc}
            panels[NAMES[metric]] = (one.edges, parts, _said(one))
        return distance_histograms(panels)


def _said(one: MetricDistances) -> str:
    said = "one mode" if one.modes == 1 else f"{one.modes} modes"
    sure = [] if one.several is None else [f"several in {100 * one.several:.0f} % of resamples"]
    sure += [] if one.p is None else [f"dip test p = {one.p:.2g}"]
    return f"{said} ({', '.join(sure)})" if sure else said


def analyze_distances(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metadata: str | Path | None = None,
    pairs: int = 1_000_000,
    seed: int = 0,
) -> DistanceAnalysis:
    """Euclidean and cosine distances of random pairs, their modes, and what GC has to do with them.

    Parameters
    ----------
    source, vectors, ids : what `kinmer.space.open_space` takes, or a Space.
    metadata : a TSV that tells GC where the source does not.
    pairs : drawn of at most 20,000 random sequences; all their pairs where these are fewer.
    seed : of everything drawn.

    Raises ProfileError for fewer than two sequences, UsageError for `pairs` < 1 or where the extra
    ``explore`` is missing.
    """
    if pairs < 1:
        raise UsageError(f"at least 1 pair is needed, not {pairs}")
    need_explore("diptest")
    space = space_of(source, vectors=vectors, ids=ids, metadata=metadata)
    if len(space) < 2:
        raise ProfileError("one sequence has no distance to another", place=space.place)
    rng = np.random.default_rng(seed)
    rows = sampled(len(space), POINTS, rng)
    points = space.take(rows)
    first, second = _pairs(len(rows), pairs, rng)
    far = _distances(points, first, second)
    disjoint = rng.permutation(len(rows))[: len(rows) // 2 * 2].reshape(2, -1)
    independent = _distances(points, disjoint[0], disjoint[1])
    gc = column(space, "gc")[rows]
    parting = gc_parting(gc, seed)
    ends = None if parting is None else _groups(gc, parting, first, second)
    found = {}
    for metric in METRICS:
        several = several_modes(far[metric], first, second, len(rows), rng)
        dip, p = dip_of(independent[metric])
        found[metric] = _described(far[metric], dip, p, several, ends)
    return DistanceAnalysis(len(space), len(rows), len(first), space.vectors, parting, found)


def _groups(
    gc: NDArray[np.float64], parting: float, first: Counts, second: Counts
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which pairs are of one GC group, and which of two; neither where a GC is not known."""
    known = np.isfinite(gc)
    both = known[first] & known[second]
    same = (gc[first] < parting) == (gc[second] < parting)
    return both & same, both & ~same


def _pairs(points: int, wanted: int, rng: np.random.Generator) -> tuple[Counts, Counts]:
    """Rows of both ends of random pairs, never one row twice; all pairs where these are fewer."""
    if points * (points - 1) // 2 <= wanted:
        return np.triu_indices(points, 1)
    first = rng.integers(0, points, wanted)
    second = rng.integers(0, points - 1, wanted)
    return first, second + (second >= first)


def _distances(
    points: NDArray[np.float32], first: Counts, second: Counts
) -> dict[Metric, NDArray[np.float64]]:
    """Distances (p,) of pairs of rows by every metric, in double precision."""
    found: dict[Metric, NDArray[np.float64]] = {metric: np.empty(len(first)) for metric in METRICS}
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64))
    with step("Distances", len(first)) as progress:
        for start in range(0, len(first), BLOCK_PAIRS):
            part = slice(start, start + BLOCK_PAIRS)
            a, b = points[first[part]].astype(np.float64), points[second[part]].astype(np.float64)
            products = lengths[first[part]] * lengths[second[part]]
            cosine = np.divide(
                np.einsum("ij,ij->i", a, b), products, out=np.zeros(len(a)), where=products > 0
            )
            found["cosine"][part] = np.clip(1 - cosine, 0, 2)
            a -= b
            found["l2"][part] = np.sqrt(np.einsum("ij,ij->i", a, a))
            progress.advance(len(a))
    return found


def _described(
    far: NDArray[np.float64],
    dip: float | None,
    p: float | None,
    several: float | None,
    ends: tuple[NDArray[np.bool_], NDArray[np.bool_]] | None,
) -> MetricDistances:
    high = float(far.max())
    edges = np.linspace(0, high if high > 0 else 1, BINS + 1)
    split = {} if ends is None or not all(part.any() for part in ends) else _split(far, *ends, edges)
    return MetricDistances(
        float(far.mean()),
        float(far.std()),
        float(far.min()),
        high,
        quantiles(far),
        edges,
        np.histogram(far, edges)[0],
        dip,
        p,
        modes_of(far),
        several,
        **split,
    )


def _split(
    far: NDArray[np.float64], same: NDArray[np.bool_], other: NDArray[np.bool_], edges: NDArray[np.float64]
) -> dict[str, Any]:
    """Histograms, means and the share of the variance (correlation ratio) of two kinds of pairs."""
    within, across = far[same], far[other]
    known = np.concatenate([within, across])
    shares = np.array([len(within), len(across)]) / len(known)
    between = shares @ (np.array([within.mean(), across.mean()]) - known.mean()) ** 2
    return {
        "same_gc": np.histogram(within, edges)[0],
        "other_gc": np.histogram(across, edges)[0],
        "same_mean": float(within.mean()),
        "other_mean": float(across.mean()),
        "split": float(between / known.var()) if known.var() > 0 else None,
    }
