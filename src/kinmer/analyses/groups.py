"""Groups compared: which clusters does each of them fill, and are the differences more than chance?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.analyses.outputs import Analysis, known
from kinmer.embedding import KEY
from kinmer.errors import InputError
from kinmer.taxonomy import known_rows
from kinmer.vectors import space_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from kinmer.encoder import Encoder

__all__ = ["GroupAnalysis", "analyze_groups"]

# Groups that are drawn; the rest are in the tables.
SHOWN_GROUPS, SHOWN_CLUSTERS = 7, 30


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
        for place in order:
            parts = ", ".join(f"{name} {100 * one:.1f} %" for name, one in self.shares.iloc[place].items())
            lines.append(f"cluster {self.counts.index[place]}: {parts} (q {self.q[place]:.2g})")
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

    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """Counts and shares of every cluster."""
        names = [str(name) for name in self.counts.columns]
        header = ["cluster", *names, *(f"share of {name}" for name in names), "p", "q"]
        rows = (
            (cluster, *self.counts.iloc[at].tolist(), *self.shares.iloc[at].tolist(), self.p[at], self.q[at])
            for at, cluster in enumerate(self.counts.index)
        )
        return header, rows

    def figure(self) -> Figure:
        """Shares of the groups in the largest clusters."""
        from kinmer.plots.charts import group_shares

        shown = self.shares.iloc[:SHOWN_CLUSTERS, :SHOWN_GROUPS]
        return group_shares(
            [str(one) for one in shown.index],
            {str(name): shown[name].to_numpy() for name in shown.columns},
            self.q[: len(shown)],
        )

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        more = [Path(f"{stem}-{name}{kind}") for name in ("map", "difference") for kind in (".png", ".svg")]
        return [*super().outputs(stem), *more]

    def _write(self, stem: Path) -> list[Path]:
        """As `Analysis`; with a map also the groups on it, and where the two largest differ."""
        written = super()._write(stem)
        if self.coordinates is None:
            return written
        from kinmer import plots
        from kinmer.plots.scatter import density_difference, map_by_category

        where, names = self.coordinates.astype(np.float64), [str(one) for one in self.group]
        written += plots.save(map_by_category(where, self.group, label=self.by), f"{stem}-map")
        first, second = (str(name) for name in self.counts.columns[:2])
        figure = density_difference(where, names, (first, second))
        return written + plots.save(figure, f"{stem}-difference")


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

    source, vectors, ids : what `kinmer.vectors.open_space` takes, or a Space; metadata : a TSV with columns.
    coordinates : a map (n, 2); None: ``obsm["X_tsne"]`` where it is there.

    Raises InputError where a column is missing or tells fewer than two groups.
    """
    space = space_of(source, vectors=vectors, ids=ids, metadata=metadata)
    for name in (by, cluster):
        if name not in space.obs:
            raise InputError(
                f"there is no column {name!r}",
                f"there are {', '.join(map(str, space.obs.columns)) or 'none'}",
                "run kinmer cluster first, or give --metadata" if name == cluster else "",
                place=space.place,
            )
    group, member = (space.obs[name].astype(object) for name in (by, cluster))
    grouped = known_rows(by, group)
    told = grouped & known_rows(cluster, member)
    counts = pd.crosstab(member[told], group[told])
    if counts.shape[1] < 2:
        raise InputError(f"the column {by!r} has a single group", "two are compared at least")
    counts = counts.loc[counts.sum(axis=1).sort_values(ascending=False, kind="stable").index]
    counts = counts[counts.sum(axis=0).sort_values(ascending=False, kind="stable").index]
    p = _tests(counts.to_numpy())
    return GroupAnalysis(
        by,
        cluster,
        counts,
        p,
        _adjusted(p),
        _cramers_v(counts),
        int((~told).sum()),
        space.beside("X_tsne") if coordinates is None else coordinates,
        group.where(grouped, None).tolist(),
    )


def _tests(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """p (c,) of every row of (c, g) against the sum of the others; NaN where there are no others."""
    from scipy.stats import chi2_contingency

    total = counts.sum(axis=0)
    found = np.full(len(counts), np.nan)
    for place, row in enumerate(counts):
        rest = total - row
        if rest.sum() and row.sum():
            found[place] = chi2_contingency(np.stack([row, rest])).pvalue
    return found


def _adjusted(p: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.stats import false_discovery_control

    found = np.full(len(p), np.nan)
    told = np.isfinite(p)
    if told.any():
        found[told] = false_discovery_control(p[told])
    return found


def _cramers_v(counts: pd.DataFrame) -> float | None:
    if min(counts.shape) < 2:
        return None
    from scipy.stats.contingency import association

    return known(float(association(counts.to_numpy(), method="cramer")))
