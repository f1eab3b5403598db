"""Structure of the points: hubs, near to very many others, and groups that fill clusters unequally."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.outputs import Analysis, Table, known, listed, quantiles
from kinmer.embedding import KEY
from kinmer.errors import InputError, ProfileError, UsageError
from kinmer.library import open_labeled
from kinmer.stores import Metric
from kinmer.taxonomy import known_rows
from kinmer.vectors import neighbor_graph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

# Groups that are drawn; the rest are in the tables.
SHOWN_GROUPS, SHOWN_CLUSTERS = 7, 30


@dataclass(frozen=True)
class HubAnalysis(Analysis):
    """How often every sequence is among the k nearest of another (Radovanović et al. 2010, JMLR 11:2487).

    in_degree (points,) : its mean is k. skewness : of that distribution; None where all are alike. never :
        share of the sequences that are near no other. top : the largest, with what is known of them.
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
    MORE: ClassVar = ("-top.tsv",)

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

    def table(self) -> Table:
        """How many sequences have every in-degree that occurs."""
        return ("in_degree", "sequences"), zip(*np.unique(self.in_degree, return_counts=True), strict=True)

    def more_tables(self) -> dict[str, Table]:
        """The largest hubs."""
        return {"top": (list(self.top.columns), self.top.itertuples(index=False))}

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

    Parameters
    ----------
    source, vectors, ids, metric : Any
        What `kinmer.vectors.open_vectors` takes. metadata : a TSV with what is to
    Notes
    -----
    be reported of the `top` largest.

    Raises UsageError for k or top below 1, ProfileError for fewer than two sequences.
    """
    if k < 1 or top < 1:
        raise UsageError("k and top must be at least 1")
    points = open_labeled(source, vectors, ids=ids, metric=metric, metadata=metadata)
    if len(points) < 2:
        raise ProfileError("one sequence is near nobody", place=points.place)
    k = min(k, len(points) - 1)
    graph = neighbor_graph(points, k, threads=threads)
    degree = graph.in_degree()
    order = np.argsort(-degree, kind="stable")[:top]
    skewness = None
    if np.ptp(degree):
        from scipy.stats import skew

        skewness = known(float(skew(degree)))
    return HubAnalysis(
        len(points),
        k,
        points.name,
        points.metric,
        graph.exact,
        degree,
        skewness,
        float((degree == 0).mean()),
        listed(points, order, id=points.ids[order], in_degree=degree[order]),
    )


@dataclass(frozen=True)
class GroupAnalysis(Analysis):
    """Sequences of every group in every cluster.

    counts : (clusters × groups) sequences, the largest cluster first. p : (clusters,) of a chi-squared test
        of the cluster against all others, by group; q : the same, adjusted (Benjamini and Hochberg 1995, J R
        Stat Soc B 57:289). cramers_v : how much groups and clusters have to do with one another, 0 to 1.
    left_out : sequences without a group or a cluster. coordinates (n, 2), group (n,) : the map and the group
        of every sequence, where there is a map.
    """

    by: str
    cluster: str
    counts: pd.DataFrame
    p: NDArray[np.float64]
    q: NDArray[np.float64]
    cramers_v: float | None
    left_out: int
    coordinates: NDArray[np.float32] | None = None
    group: Sequence[object] = ()
    MORE: ClassVar = ("-map.png", "-map.svg", "-difference.png", "-difference.svg")

    @property
    def shares(self) -> pd.DataFrame:
        """Share of each group that lies in each cluster."""
        return self.counts / self.counts.sum(axis=0)

    def text(self) -> str:
        """The groups, and the clusters that differ most."""
        sizes = ", ".join(f"{name} {count:,}" for name, count in self.counts.sum(axis=0).items())
        v = "undefined" if self.cramers_v is None else f"{self.cramers_v:.3f}"
        lines = [
            f"groups by {self.by}: {sizes}; {self.left_out:,} sequences have none",
            f"{len(self.counts):,} clusters, {int((self.q < 0.05).sum()):,} of them filled unequally"
            f" (q < 0.05), Cramér's V {v}",
        ]
        order = np.argsort(np.where(np.isfinite(self.q), self.q, 2), kind="stable")[:5]
        for row in order:
            parts = ", ".join(f"{name} {100 * share:.1f} %" for name, share in self.shares.iloc[row].items())
            lines.append(f"cluster {self.counts.index[row]}: {parts} (q {self.q[row]:.2g})")
        return "\n".join(lines)

    def summary(self) -> dict[str, Any]:
        """The numbers."""
        return {
            "by": self.by,
            "cluster": self.cluster,
            "groups": {str(name): int(count) for name, count in self.counts.sum(axis=0).items()},
            "clusters": len(self.counts),
            "unequal": int((self.q < 0.05).sum()),
            "cramers_v": self.cramers_v,
            "left_out": self.left_out,
        }

    def table(self) -> Table:
        """Counts and shares of every cluster."""
        names = [str(name) for name in self.counts.columns]
        header = ["cluster", *names, *(f"share of {name}" for name in names), "p", "q"]
        counts, shares = self.counts.to_numpy().tolist(), self.shares.to_numpy().tolist()
        rows = zip(self.counts.index, counts, shares, self.p, self.q, strict=True)
        return header, ((name, *of, *share, p, q) for name, of, share, p, q in rows)

    def figure(self) -> Figure:
        """Shares of the groups in the largest clusters."""
        from kinmer.plots.charts import group_shares

        shown = self.shares.iloc[:SHOWN_CLUSTERS, :SHOWN_GROUPS]
        shares = {str(name): shown[name].to_numpy() for name in shown.columns}
        return group_shares([str(name) for name in shown.index], shares, self.q[: len(shown)])

    def more_figures(self) -> dict[str, Figure]:
        """With a map also the groups on it, and where the two largest differ."""
        if self.coordinates is None:
            return {}
        from kinmer.plots.scatter import density_difference, map_by_category

        where, names = self.coordinates.astype(np.float64), [str(name) for name in self.group]
        first, second = (str(name) for name in self.counts.columns[:2])
        return {
            "map": map_by_category(where, self.group, label=self.by),
            "difference": density_difference(where, names, (first, second)),
        }


def analyze_groups(
    source: Any,
    by: str,
    *,
    cluster: str = "cluster",
    coordinates: NDArray[np.float32] | None = None,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metadata: str | Path | None = None,
) -> GroupAnalysis:
    """How sequences of each group (column `by`, such as ``source``) spread over the clusters (`cluster`).

    Parameters
    ----------
    source, vectors, ids : Any
        What `kinmer.vectors.open_vectors` takes. metadata : a TSV with columns.
    coordinates : ndarray | None
        A map (n, 2); None: ``obsm["X_tsne"]`` where it is there.

    Notes
    -----
    Raises InputError where a column is missing or has fewer than two groups.
    """
    points = open_labeled(source, vectors, ids=ids, metadata=metadata)
    for name in (by, cluster):
        if name not in points.obs:
            raise InputError(
                f"there is no column {name!r}",
                f"there are {', '.join(map(str, points.obs.columns)) or 'none'}",
                "run kinmer cluster first, or give --metadata" if name == cluster else "",
                place=points.place,
            )
    group, member = (points.obs[name].astype(object) for name in (by, cluster))
    grouped = known_rows(by, group)
    both = grouped & known_rows(cluster, member)
    counts = pd.crosstab(member[both], group[both])
    if counts.shape[1] < 2:
        raise InputError(f"the column {by!r} has a single group", "two are compared at least")
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    counts = counts[counts.sum(axis=0).sort_values(ascending=False, kind="stable").index]
    p, q, cramers_v = _tests(counts.to_numpy())
    return GroupAnalysis(
        by,
        cluster,
        counts,
        p,
        q,
        cramers_v,
        int((~both).sum()),
        points.beside("X_tsne") if coordinates is None else coordinates,
        group.where(grouped, None).tolist(),
    )


def _tests(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float | None]:
    """p and q (c,) of every row of (c, g) against the sum of the others, and Cramér's V of all.

    NaN where there are no others.
    """
    from scipy.stats import chi2_contingency, false_discovery_control
    from scipy.stats.contingency import association

    total = counts.sum(axis=0)
    p = np.full(len(counts), np.nan)
    for at, row in enumerate(counts):
        rest = total - row
        if rest.sum() and row.sum():
            p[at] = chi2_contingency(np.stack([row, rest])).pvalue
    q, tested = p.copy(), np.isfinite(p)
    if tested.any():
        q[tested] = false_discovery_control(p[tested])
    v = None if min(counts.shape) < 2 else known(float(association(counts, method="cramer")))
    return p, q, v
