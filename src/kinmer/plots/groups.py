"""Groups compared: shares of each in every cluster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import PALETTE, STYLE, legend_above, panels_of

__all__ = ["group_shares"]


@matplotlib.rc_context(STYLE)
def group_shares(clusters: Sequence[str], shares: Mapping[str, ArrayLike], q: ArrayLike) -> Figure:
    """Bars of each group's share (0–1) in every cluster; a star where q is below .05.

    `shares`: group -> (clusters,).
    """
    width = 2.0 + 0.28 * len(clusters) * max(1.5, len(shares) / 2)
    figure, (axis,) = panels_of(1, width=float(np.clip(width, 5, 14)), height=3.9)
    thick = 0.8 / max(1, len(shares))
    tallest = np.zeros(len(clusters))
    for number, (name, values) in enumerate(shares.items()):
        height = 100 * np.asarray(values, float)
        tallest = np.maximum(tallest, height)
        place = np.arange(len(clusters)) + (number - (len(shares) - 1) / 2) * thick
        axis.bar(place, height, thick * 0.92, color=PALETTE[number % len(PALETTE)], label=plain(name))
    for at in np.flatnonzero(np.nan_to_num(np.asarray(q, float), nan=1.0) < 0.05):
        axis.annotate("*", (float(at), float(tallest[at])), ha="center", va="bottom", fontsize=12)
    axis.set_xticks(
        np.arange(len(clusters)), list(map(plain, clusters)), rotation=90 if len(clusters) > 12 else 0
    )
    axis.grid(visible=False, axis="x")
    axis.set_ylim(0, max(1e-9, float(tallest.max()) * 1.12))
    axis.set_xlabel("cluster (* q < 0.05)")
    axis.set_ylabel("share of the group (%)")
    legend_above(axis, columns=4)
    return figure
