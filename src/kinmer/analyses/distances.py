"""Distances of random pairs, with their modes and what GC has to do with them; of one sequence to all."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.outputs import (
    Analysis,
    Table,
    column,
    described,
    listed,
    need_explore,
    sampled,
)
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.evaluate.statistics import resampled
from kinmer.library import open_labeled
from kinmer.progress import step
from kinmer.stores import Metric, distances_to
from kinmer.vectors import Vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

METRICS: tuple[Metric, ...] = ("l2", "cosine")
NAMES = {"l2": "Euclidean distance", "cosine": "cosine distance"}
# Sequences that the pairs are drawn of, and pairs that lie in memory together.
POINTS, BLOCK_PAIRS = 20_000, 4096
# Bins of the histograms of pairs, and of one sequence's distances.
BINS, ONE_BINS = 200, 100
# Steps of the curve between the smallest and the largest distance, and around them.
STEPS, FRAME = 1024, 256
# Pairs that the curve's smoothness is chosen for. A density of pairs of n points is known as well as a mean
# of n (Frees 1994, J Am Stat Assoc 89:517), so it may be sharper than one of n single values.
CURVE = 20_000
# A peak stands out of the valleys beside it by this share of the highest.
PROMINENCE = 0.05
RESAMPLES, RESAMPLED_PAIRS = 100, 200_000
Rows = NDArray[np.int64]
Floats = NDArray[np.float64]


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
    edges: Floats
    counts: Rows
    dip: float | None
    p: float | None
    modes: int
    several: float | None
    same_gc: Rows | None = None
    other_gc: Rows | None = None
    same_mean: float | None = None
    other_mean: float | None = None
    split: float | None = None

    def note(self) -> str:
        """Modes, and how sure they are."""
        modes = "one mode" if self.modes == 1 else f"{self.modes} modes"
        sure = [] if self.several is None else [f"several in {100 * self.several:.0f} % of resamples"]
        sure += [] if self.p is None else [f"dip test p = {self.p:.2g}"]
        return f"{modes} ({', '.join(sure)})" if sure else modes


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
        for metric, part in self.by_metric.items():
            lines.append(f"{NAMES[metric]:20} {part.mean:.4f} ± {part.sd:.4f}, {part.note()}")
            if part.split is not None:
                lines.append(
                    f"{'':20} of one GC group {part.same_mean:.4f}, of two {part.other_mean:.4f} (parted at"
                    f" {self.gc_threshold:.3f}): {100 * part.split:.0f} % of the variance"
                )
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """All numbers, histograms too."""
        return asdict(self)

    def table(self) -> Table:
        """The histograms."""
        rows: list[tuple[object, ...]] = []
        for metric, part in self.by_metric.items():
            bins = [None] * len(part.counts)
            parts = (bins if counts is None else counts for counts in (part.same_gc, part.other_gc))
            rows += zip(
                [metric] * len(bins), part.edges[:-1], part.edges[1:], part.counts, *parts, strict=True
            )
        return ("metric", "from", "to", "pairs", "same_gc", "other_gc"), rows

    def figure(self) -> Figure:
        """A histogram for every metric."""
        from kinmer.plots.charts import distance_histograms

        panels = {}
        for metric, part in self.by_metric.items():
            parts = {"all pairs": part.counts}
            if part.same_gc is not None and part.other_gc is not None:
                parts |= {"of one GC group": part.same_gc, "of two GC groups": part.other_gc}
            panels[NAMES[metric]] = (part.edges, parts, part.note())
        return distance_histograms(panels)


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
    source, vectors, ids : Any
        What `kinmer.vectors.open_vectors` takes.
    metadata : str | Path | None
        A TSV with GC where the source does not have it.
    pairs : int
        Drawn of at most 20,000 random sequences; all their pairs where these are fewer.
    seed : int
        Of everything drawn.

    Notes
    -----
    Raises ProfileError for fewer than two sequences, UsageError for `pairs` < 1 or where the extra
    ``explore`` is missing.
    """
    if pairs < 1:
        raise UsageError(f"at least 1 pair is needed, not {pairs}")
    need_explore("diptest")
    points = _several(open_labeled(source, vectors, ids=ids, metadata=metadata))
    rng = np.random.default_rng(seed)
    rows = sampled(len(points), POINTS, rng)
    drawn = points.take(rows)
    first, second = _pairs(len(rows), pairs, rng)
    distances = _distances(drawn, first, second)
    disjoint = rng.permutation(len(rows))[: len(rows) // 2 * 2].reshape(2, -1)
    independent = _distances(drawn, disjoint[0], disjoint[1])
    gc = column(points, "gc")[rows]
    parting = gc_parting(gc, seed)
    by_metric = {}
    for metric in METRICS:
        of_metric = distances[metric]
        several = several_modes(of_metric, first, second, len(rows), rng)
        dip, p = dip_of(independent[metric])
        high = float(of_metric.max())
        edges = np.linspace(0, high if high > 0 else 1, BINS + 1)
        by_metric[metric] = MetricDistances(
            **described(of_metric),
            edges=edges,
            counts=np.histogram(of_metric, edges)[0],
            dip=dip,
            p=p,
            modes=modes_of(of_metric),
            several=several,
            **({} if parting is None else _split(of_metric, gc[first], gc[second], parting, edges)),
        )
    return DistanceAnalysis(len(points), len(rows), len(first), points.name, parting, by_metric)


def _several(points: Vectors) -> Vectors:
    if len(points) < 2:
        raise ProfileError("one sequence has no distance to another", place=points.place)
    return points


def _pairs(points: int, wanted: int, rng: np.random.Generator) -> tuple[Rows, Rows]:
    """Rows of both ends of random pairs, never one row twice; all pairs where these are fewer."""
    if points * (points - 1) // 2 <= wanted:
        return np.triu_indices(points, 1)
    first = rng.integers(0, points, wanted)
    second = rng.integers(0, points - 1, wanted)
    return first, second + (second >= first)


def _distances(points: NDArray[np.float32], first: Rows, second: Rows) -> dict[Metric, Floats]:
    """Distances (p,) of pairs of rows by every metric, in double precision."""
    distances: dict[Metric, Floats] = {metric: np.empty(len(first)) for metric in METRICS}
    lengths = np.sqrt(np.einsum("ij,ij->i", points, points, dtype=np.float64))
    with step("Distances", len(first)) as progress:
        for start in range(0, len(first), BLOCK_PAIRS):
            part = slice(start, start + BLOCK_PAIRS)
            a, b = points[first[part]].astype(np.float64), points[second[part]].astype(np.float64)
            products = lengths[first[part]] * lengths[second[part]]
            cosine = np.divide(
                np.einsum("ij,ij->i", a, b), products, out=np.zeros(len(a)), where=products > 0
            )
            distances["cosine"][part] = np.clip(1 - cosine, 0, 2)
            a -= b
            distances["l2"][part] = np.sqrt(np.einsum("ij,ij->i", a, a))
            progress.advance(len(a))
    return distances


def _split(distances: Floats, first: Floats, second: Floats, parting: float, edges: Floats) -> dict[str, Any]:
    """Histograms, means and the share of the variance (correlation ratio) of two kinds of pairs.

    Pairs (p,) of one GC group and of two, with GC `first` and `second`; empty where there are none of a kind.
    """
    both = np.isfinite(first) & np.isfinite(second)
    same = (first < parting) == (second < parting)
    within, across = distances[both & same], distances[both & ~same]
    if not len(within) or not len(across):
        return {}
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


def modes_of(values: Floats) -> int:
    """Peaks (at least 1) of the curve of distances (p,), a Gaussian kernel density by Silverman's rule."""
    if _alike(values):
        return 1
    places, sigma = _steps(values)
    return _peaks(np.bincount(places, minlength=STEPS), sigma)


def several_modes(
    values: Floats, first: Rows, second: Rows, points: int, rng: np.random.Generator
) -> float | None:
    """Share of bootstrap samples of the points in which distances (p,) have more than one mode.

    The pairs share points, so it is the points that are resampled; a pair counts as often as both of its ends
    together. Near 0 there is one mode, near 1 there are more; with few points it is in between by chance.
    None where nothing varies.
    """
    if _alike(values) or points < 3:
        return None
    few = slice(None, None, -(-len(values) // RESAMPLED_PAIRS))
    first, second = first[few], second[few]
    places, sigma = _steps(values[few])
    several = 0
    for _ in range(RESAMPLES):
        drawn = resampled(points, 1, rng)[0]
        counts = np.bincount(places, drawn[first] * drawn[second], minlength=STEPS)
        several += int(counts.any() and _peaks(counts, sigma) > 1)
    return several / RESAMPLES


def dip_of(values: Floats) -> tuple[float | None, float | None]:
    """Hartigan's dip and its p of independent distances (m,); None where nothing varies.

    p is the probability of a dip as large where there is one mode only (Hartigan and Hartigan 1985, Ann Stat
    13:70), by interpolation in a table that goes to m = 72,000.
    """
    if len(values) < 4 or _alike(values):
        return None, None
    import diptest

    dip, p = diptest.diptest(values)
    return float(dip), float(p)


def gc_parting(gc: Floats, seed: int) -> float | None:
    """GC at which two groups of sequences part: of equal density in a mixture of two normal distributions.

    gc : (n,), NaN where it is not known. None where it does not vary.
    """
    known = gc[np.isfinite(gc)]
    if len(known) < 4 or np.ptp(known) < 1e-6:
        return None
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(2, random_state=seed, n_init=3).fit(known[:, None])
    low, high = np.sort(mixture.means_.ravel())
    between = np.linspace(low, high, 513)
    changed = np.flatnonzero(np.diff(mixture.predict(between[:, None])))
    return float(between[changed[0] + 1]) if changed.size else float((low + high) / 2)


def _alike(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-9 * max(1.0, float(values.max())))


def _steps(values: Floats) -> tuple[Rows, float]:
    """The step (p,) that each value lies on, and the bandwidth in steps."""
    low = values.min()
    width = (values.max() - low) / STEPS
    places = np.minimum(((values - low) / width).astype(np.int64), STEPS - 1)
    bandwidth = values.std() * (0.75 * min(len(values), CURVE)) ** -0.2
    return places, float(bandwidth / width)


def _peaks(counts: Rows | Floats, sigma: float) -> int:
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    # Framed by nothing, so that a mode at the edge is a peak too.
    curve = gaussian_filter1d(np.pad(counts.astype(np.float64), FRAME), max(sigma, 1.0), mode="constant")
    peaks, _ = find_peaks(curve, prominence=PROMINENCE * curve.max())
    return max(1, len(peaks))


@dataclass(frozen=True)
class OneAnalysis(Analysis):
    """Distances of one sequence to all others.

    distances : by metric (points - 1,), in the order of the rows, itself left out. closest : the nearest by
        `metric`: id, both distances and what is known of each; never the sequence itself.
    """

    id: str
    points: int
    vectors: str
    metric: Metric
    distances: dict[Metric, NDArray[np.float32]]
    closest: pd.DataFrame
    MORE: ClassVar = ("-histogram.tsv",)

    def text(self) -> str:
        """The closest."""
        shown = self.closest.head(10).iloc[:, :8]
        others = f"{self.points - 1:,} others, {self.vectors}, closest by {self.metric}"
        table = shown.to_string(index=False, float_format=lambda value: f"{value:.4f}")
        return f"{self.id}: distances to {others}\n{table}"

    def summary(self) -> dict[str, Any]:
        """Mean, extremes and quantiles by metric."""
        return {
            "id": self.id,
            "points": self.points,
            "vectors": self.vectors,
            "metric": self.metric,
            "closest": self.closest["id"].tolist(),
            **{str(metric): described(values) for metric, values in self.distances.items()},
        }

    def table(self) -> Table:
        """The closest, with what is known of them."""
        return list(self.closest.columns), self.closest.itertuples(index=False)

    def more_tables(self) -> dict[str, Table]:
        """The histograms."""
        rows: list[tuple[object, ...]] = []
        for metric, values in self.distances.items():
            counts, edges = np.histogram(values.astype(np.float64), ONE_BINS)
            rows += zip([metric] * ONE_BINS, edges[:-1], edges[1:], counts, strict=True)
        return {"histogram": (("metric", "from", "to", "sequences"), rows)}

    def figure(self) -> Figure:
        """Histograms of the distances."""
        from kinmer.plots.charts import one_and_all

        return one_and_all(self.id, {str(metric): values for metric, values in self.distances.items()})


def analyze_one(
    source: Any,
    name: str | None = None,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    closest: int = 20,
    seed: int = 0,
) -> OneAnalysis:
    """Distances of the sequence `name` (None: a random one) to all others, by both metrics.

    Memory: 8 bytes a sequence beside a block of vectors.

    Parameters
    ----------
    source, vectors, ids, metric : Any
        What `kinmer.vectors.open_vectors` takes; `metric` orders the closest.
    metadata : str | Path | None
        A TSV with what is to be reported of the closest.

    Notes
    -----
    Raises UsageError where there is no such sequence, ProfileError where it is the only one.
    """
    if closest < 1:
        raise UsageError(f"closest must be at least 1, not {closest}")
    points = _several(open_labeled(source, vectors, ids=ids, metric=metric, metadata=metadata))
    row = int(np.random.default_rng(seed).integers(len(points))) if name is None else points.row_of(name)
    asked = points.take(np.array([row]))
    distances = {each: np.empty(len(points), np.float32) for each in METRICS}
    with step("Distances", len(points)) as progress:
        for start, block in points.blocks():
            for each, values in distances.items():
                values[start : start + len(block)] = distances_to(asked, block[None], each)[0]
            progress.advance(len(block))
    others = np.delete(np.arange(len(points)), row)
    order = others[np.argsort(distances[points.metric][others], kind="stable")[:closest]]
    nearest = {each: values[order] for each, values in distances.items()}
    table = listed(points, order, rank=np.arange(len(order)) + 1, id=points.ids[order], **nearest)
    kept = {each: values[others] for each, values in distances.items()}
    return OneAnalysis(str(points.ids[row]), len(points), points.name, points.metric, kept, table)
