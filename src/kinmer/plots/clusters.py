"""Sizes of clusters, and how much GC varies within them."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kinmer.plots.style import PALETTE, STYLE, panels_of

__all__ = ["cluster_sizes"]


@matplotlib.rc_context(STYLE)
def cluster_sizes(sizes: ArrayLike, gc_sd: ArrayLike) -> Figure:
    """Sizes of clusters by rank, and size against the standard deviation of GC within (fractions)."""
    size, spread = np.asarray(sizes, float), 100 * np.asarray(gc_sd, float)
    told = np.isfinite(spread) & (size > 1)
    figure, axes = panels_of(2 if told.any() else 1, width=4.4, height=3.5)
    axes[0].plot(np.arange(1, len(size) + 1), np.sort(size)[::-1], color=PALETTE[0], marker="o", markersize=3)
    axes[0].set_xscale("log")
    axes[0].set_yscale("log")
    axes[0].set_xlabel("cluster, the largest first")
    axes[0].set_ylabel("sequences in it")
    if told.any():
        axes[1].scatter(size[told], spread[told], s=12, color=PALETTE[2], alpha=0.6, linewidths=0)
        axes[1].set_xscale("log")
        axes[1].set_ylim(bottom=0)
        axes[1].set_xlabel("sequences in the cluster")
        axes[1].set_ylabel("sd of GC within (percentage points)")
    return figure
