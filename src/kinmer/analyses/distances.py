"""Distances of random pairs, Euclidean and cosine: one mode or two, and is it the GC that splits them?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.analyses.base import Analysis, need_explore, quantiles, sampled, space_of
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.progress import step
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
# Pairs that the curve is drawn through; a peak stands out by this share of the highest.
CURVE, PROMINENCE = 20_000, 0.02
Counts = NDArray[np.int64]


@dataclass(frozen=True)
class MetricDistances:
    """Distances of pairs by one metric.

    edges (b + 1,), counts (b,) : the histogram. modes : peaks of the curve of all pairs, a Gaussian kernel
        density with Silverman's bandwidth. dip, p : Hartigan's dip statistic of pairs that share no sequence,
        and the probability of one as large where there is a single mode (Hartigan and Hartigan 1985, Ann Stat
        13:70); with few sequences it sees only what is plain. same_gc, other_gc (b,) : the histogram of pairs
        within and across the two GC groups; None where there is one mode or no GC. split : share of the
        variance of distances that lies between those.
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
    same_gc: Counts | None = None
    other_gc: Counts | None = None
    same_mean: float | None = None
    other_mean: float | None = None
    split: float | None = None


@dataclass(frozen=True)
class DistanceAnalysis(Analysis):
    """Distances of `pairs` random pairs of `sampled` of `points` sequences, by metric.

    gc_threshold : where the two GC groups part; None where no metric shows two modes.
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
            said = "one mode" if one.modes == 1 else f"{one.modes} modes"
            test = "" if one.p is None else f" (dip {one.dip:.4f}, p {one.p:.3g})"
            lines.append(f"{NAMES[metric]:20} {one.mean:.4f} ± {one.sd:.4f}, {said}{test}")
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
            parts = (
                {"all pairs": one.counts}
                if one.same_gc is None or one.other_gc is None
                else {"of one GC group": one.same_gc, "of two GC groups": one.other_gc}
            )
            test = "" if one.p is None else f", dip test p = {one.p:.2g}"
            panels[NAMES[metric]] = (
                one.edges,
                parts,
                f"{one.modes} mode{'s' if one.modes > 1 else ''}{test}",
            )
        return distance_histograms(panels)


def analyze_distances(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    pairs: int = 1_000_000,
    seed: int = 0,
) -> DistanceAnalysis:
    """Euclidean and cosine distances of random pairs, their modes, and GC where there are two.

    Parameters
    ----------
    source, vectors, ids : what `kinmer.space.open_space` takes, or a Space.
    pairs : drawn of at most 20,000 random sequences; all their pairs where these are fewer.
    seed : of both draws.

    Raises ProfileError for fewer than two sequences, UsageError for `pairs` < 1 or where the extra
    ``explore`` is missing.
    """
    if pairs < 1:
        raise UsageError(f"at least 1 pair is needed, not {pairs}")
    need_explore("diptest")
    space = space_of(source, vectors=vectors, ids=ids)
    if len(space) < 2:
        raise ProfileError("one sequence has no distance to another", place=space.place)
    rng = np.random.default_rng(seed)
    rows = sampled(len(space), POINTS, rng)
    points = space.take(rows)
    first, second = _pairs(len(rows), pairs, rng)
    gc = space.obs["gc"].to_numpy(np.float64)[rows] if "gc" in space.obs else None
    disjoint = rng.permutation(len(rows))[: len(rows) // 2 * 2].reshape(2, -1)
    independent = _distances(points, disjoint[0], disjoint[1])
    far = _distances(points, first, second)
    modes = {metric: _modes(far[metric]) for metric in METRICS}
    parting = _gc_parting(gc, seed) if max(modes.values()) > 1 else None
    same = None if parting is None or gc is None else (gc[first] < parting) == (gc[second] < parting)
    found = {
        metric: _described(
            far[metric], modes[metric], _dip(independent[metric]), same if modes[metric] > 1 else None
        )
        for metric in METRICS
    }
    return DistanceAnalysis(len(space), len(rows), len(first), space.vectors, parting, found)


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


def _modes(values: NDArray[np.float64]) -> int:
    """Peaks of the curve of distances (p,)."""
    if np.ptp(values) <= 1e-9 * max(1.0, float(values.max())):
        return 1
    from scipy.signal import find_peaks
    from scipy.stats import gaussian_kde

    few = values[:: max(1, len(values) // CURVE)]
    density = gaussian_kde(few, "silverman")(np.linspace(values.min(), values.max(), 512))
    # Framed by zero, so that a mode at the edge is a peak too.
    peaks, _ = find_peaks(np.r_[0, density, 0], prominence=PROMINENCE * density.max())
    return max(1, len(peaks))


def _dip(values: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Dip and p of independent values (m,); untested where nothing varies."""
    if len(values) < 4 or np.ptp(values) <= 1e-9 * max(1.0, float(values.max())):
        return None, None
    import diptest

    dip, p = diptest.diptest(values)
    return float(dip), float(p)


def _gc_parting(gc: NDArray[np.float64] | None, seed: int) -> float | None:
    """GC at which two groups of sequences part: of equal density in a mixture of two normal distributions."""
    if gc is None:
        return None
    told = gc[np.isfinite(gc)]
    if len(told) < 4 or np.ptp(told) < 1e-6:
        return None
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(2, random_state=seed, n_init=3).fit(told[:, None])
    low, high = np.sort(mixture.means_.ravel())
    between = np.linspace(low, high, 513)
    group = mixture.predict(between[:, None])
    changed = np.flatnonzero(np.diff(group))
    return float(between[changed[0] + 1]) if changed.size else float((low + high) / 2)


def _described(
    far: NDArray[np.float64],
    modes: int,
    tested: tuple[float | None, float | None],
    same: NDArray[np.bool_] | None,
) -> MetricDistances:
    high = float(far.max())
    edges = np.linspace(0, high if high > 0 else 1, BINS + 1)
    told: dict[str, Any] = {}
    if same is not None and same.any() and not same.all():
        means = far[same].mean(), far[~same].mean()
        share = same.mean()
        between = share * (means[0] - far.mean()) ** 2 + (1 - share) * (means[1] - far.mean()) ** 2
        told = {
            "same_gc": np.histogram(far[same], edges)[0],
            "other_gc": np.histogram(far[~same], edges)[0],
            "same_mean": float(means[0]),
            "other_mean": float(means[1]),
            "split": float(between / far.var()) if far.var() > 0 else None,
        }
    dip, p = tested
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
        modes,
        **told,
    )
