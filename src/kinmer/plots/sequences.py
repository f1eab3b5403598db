"""What the sequences are like, and points by category."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import MARKERS, PALETTE, STYLE, bases, panels_of, span

__all__ = ["lengths_and_gc", "scatter_by_category"]


@matplotlib.rc_context(STYLE)
def lengths_and_gc(lengths: ArrayLike, gc: ArrayLike) -> Figure:
    """Histograms of sequence lengths (bases, log scale) and GC content (fractions; drawn in per cent)."""
    figure, axes = panels_of(2, width=4.2, height=3.2)
    size = np.asarray(lengths, float)
    low, high = max(size.min(), 1), max(size.max(), size.min() * 1.1, 2)
    axes[0].hist(size, bins=np.geomspace(low, high, 41).tolist(), color=PALETTE[0])
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_formatter(FuncFormatter(bases))
    if high / low > 20:
        axes[0].xaxis.set_minor_formatter(NullFormatter())
    else:
        axes[0].xaxis.set_minor_formatter(FuncFormatter(bases))
    axes[0].set_xlabel("sequence length (log scale)")
    share = 100 * np.asarray(gc, float)
    axes[1].hist(share, bins=np.linspace(*span(share), 41).tolist(), color=PALETTE[2])
    axes[1].set_xlabel("GC content (%)")
    for axis in axes:
        axis.set_ylabel("sequences")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@matplotlib.rc_context(STYLE)
def scatter_by_category(
    points: ArrayLike,
    panels: Mapping[str, Sequence[str]],
    *,
    xlabel: str = "component 1",
    ylabel: str = "component 2",
    largest: int = 7,
) -> Figure:
    """Points (n, 2), one panel per labelling, coloured by its categories.

    `panels`: title -> one label per point. The `largest` categories have a colour and a marker of their own;
    the rest are grey.
    """
    where = np.asarray(points, float)
    figure, axes = panels_of(len(panels), width=4.6, height=4.6)
    size = float(np.clip(6000 / max(len(where), 1), 4, 24))
    for axis, (title, labels) in zip(axes, panels.items(), strict=True):
        kind = np.asarray(labels, dtype=object).astype(str)
        names, counts = np.unique(kind, return_counts=True)
        order = sorted(names[np.argsort(-counts, kind="stable")][:largest])
        rest = ~np.isin(kind, order)
        groups = [("others", rest, "#BBBBBB", "o")] if rest.any() else []
        groups += [
            (name, kind == name, PALETTE[number % 7], MARKERS[number % 7])
            for number, name in enumerate(order)
        ]
        for name, chosen, colour, marker in groups:
            axis.scatter(
                where[chosen, 0],
                where[chosen, 1],
                s=size,
                color=colour,
                marker=marker,
                linewidths=0,
                alpha=0.75,
                label=plain(name),
                rasterized=True,
            )
        axis.set_title(plain(title), loc="left", pad=8)
        axis.set_xlabel(plain(xlabel))
        axis.set_ylabel(plain(ylabel))
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=2,
            markerscale=min(2.5, np.sqrt(36 / size)),
            handletextpad=0.2,
            columnspacing=1.0,
        )
    return figure
