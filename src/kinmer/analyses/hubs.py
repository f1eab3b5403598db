"""Hubs: sequences that are among the nearest of very many others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.base import Analysis, known, quantiles
from kinmer.embedding import KEY
from kinmer.errors import ProfileError, UsageError
from kinmer.space import neighbour_graph, space_of
from kinmer.stores import Metric

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

__all__ = ["HubAnalysis", "analyze_hubs"]


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
        from kinmer.plots.analyses import in_degrees

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

    source, vectors, ids, metric : what `kinmer.space.open_space` takes, or a Space. metadata : a TSV with
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
    for column in space.obs.columns:
        table[column] = space.obs[column].to_numpy()[order]
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
