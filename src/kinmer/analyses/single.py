"""One sequence: its distances to all others, and its closest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.base import Analysis, quantiles
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.progress import step
from kinmer.space import space_of
from kinmer.space.points import BLOCK_ROWS
from kinmer.stores import Metric, distances_to

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

__all__ = ["OneAnalysis", "analyze_one"]

METRICS: tuple[Metric, ...] = ("l2", "cosine")
BINS = 100


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

    def text(self) -> str:
        """The closest."""
        shown = self.closest.head(10).iloc[:, :8]
        lines = [
            f"{self.id}: distances to {self.points - 1:,} others, {self.vectors}, closest by {self.metric}"
        ]
        return "\n".join([*lines, shown.to_string(index=False, float_format=lambda one: f"{one:.4f}")])

    def summary(self) -> dict[str, Any]:
        """Mean, extremes and quantiles by metric."""
        described: dict[str, Any] = {
            str(metric): {
                "mean": float(far.mean()),
                "sd": float(far.std()),
                "minimum": float(far.min()),
                "maximum": float(far.max()),
                "quantiles": quantiles(far),
            }
            for metric, far in self.distances.items()
        }
        return {
            "id": self.id,
            "points": self.points,
            "vectors": self.vectors,
            "metric": self.metric,
            "closest": self.closest["id"].tolist(),
            **described,
        }

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """The closest, with what is known of them."""
        return list(self.closest.columns), self.closest.itertuples(index=False)

    def more_tables(self) -> dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]]:
        """The histograms."""
        rows: list[Sequence[object]] = []
        for metric, far in self.distances.items():
            counts, edges = np.histogram(far.astype(np.float64), BINS)
            rows += zip([metric] * BINS, edges[:-1], edges[1:], counts, strict=True)
        return {"histogram": (("metric", "from", "to", "sequences"), rows)}

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        return [*super().outputs(stem), Path(f"{stem}-histogram.tsv")]

    def figure(self) -> Figure:
        """Histograms of the distances."""
        from kinmer.plots.analyses import one_and_all

        return one_and_all(self.id, {str(name): far for name, far in self.distances.items()})


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

    source, vectors, ids, metric : what `kinmer.space.open_space` takes, or a Space; `metric` orders the
    closest. metadata : a TSV with what is to be told of the closest.

    Raises UsageError where there is no such sequence, ProfileError where it is the only one.
    """
    if closest < 1:
        raise UsageError(f"closest must be at least 1, not {closest}")
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    if len(space) < 2:
        raise ProfileError("one sequence has no distance to another", place=space.place)
    row = int(np.random.default_rng(seed).integers(len(space))) if name is None else space.row_of(name)
    asked = space.take(np.array([row]))
    far = {one: np.empty(len(space), np.float32) for one in METRICS}
    with step("Distances", len(space)) as progress:
        for start, block in space.blocks(BLOCK_ROWS):
            for one in METRICS:
                far[one][start : start + len(block)] = distances_to(asked, block[None], one)[0]
            progress.advance(len(block))
    others = np.delete(np.arange(len(space)), row)
    order = others[np.argsort(far[space.metric][others], kind="stable")[:closest]]
    table = pd.DataFrame({"rank": np.arange(len(order)) + 1, "id": space.ids[order]})
    for one in METRICS:
        table[one] = far[one][order]
    for column in space.obs.columns:
        table[column] = space.obs[column].to_numpy()[order]
    kept = {one: values[others] for one, values in far.items()}
    return OneAnalysis(str(space.ids[row]), len(space), space.vectors, space.metric, kept, table)
