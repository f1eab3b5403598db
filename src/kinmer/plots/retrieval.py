"""Shares of queries that find what they should."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import MARKERS, PALETTE, STYLE, legend_above, panels_of

__all__ = ["retrieval_bars", "retrieval_panels"]


@matplotlib.rc_context(STYLE)
def retrieval_bars(
    groups: Sequence[str],
    series: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    ylabel: str = "nearest is of the same species (%)",
    xlabel: str = "query length",
) -> Figure:
    """Bars with intervals.

    `series`: name -> (share, low, high), one per group and in 0–1; NaN leaves a gap.
    """
    width = max(5.0, 0.35 * len(groups) * (len(series) + 1) + 1.5)
    figure, (axis,) = panels_of(1, width=min(width, 11), height=3.9)
    thick = 0.8 / max(1, len(series))
    for number, (name, (share, low, high)) in enumerate(series.items()):
        value, under, over = (100 * np.asarray(one, float) for one in (share, low, high))
        place = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * thick
        error = np.maximum(np.stack([value - under, over - value]), 0)
        axis.bar(place, value, thick * 0.92, color=PALETTE[number % len(PALETTE)], label=plain(name))
        axis.errorbar(place, value, error, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    axis.set_xticks(np.arange(len(groups)), list(map(plain, groups)))
    axis.grid(visible=False, axis="x")
    axis.set_ylim(0, 102)
    axis.set_xlabel(plain(xlabel))
    axis.set_ylabel(plain(ylabel))
    legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def retrieval_panels(
    panels: Mapping[
        str,
        tuple[str, Sequence[str], Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]]],
    ],
    *,
    ylabel: str = "nearest has the label (%)",
    columns: int = 4,
) -> Figure:
    """Shares with intervals as bands and their ceiling dashed, a panel each, in rows of `columns`.

    `panels`: title -> (name of the axis, its places, series -> (share, low, high, ceiling)), one share for
    every place and in 0–1; NaN leaves a gap.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.4 * columns, 4.6), 3.1 * rows + 0.5), layout="constrained")
    FigureCanvasAgg(figure)
    for number, (title, (axis_name, places, series)) in enumerate(panels.items()):
        axis = figure.add_subplot(rows, columns, number + 1)
        x = np.arange(len(places))
        for place, (name, lines) in enumerate(series.items()):
            share, low, high, ceiling = (100 * np.asarray(one, float) for one in lines)
            colour, marker = PALETTE[place % len(PALETTE)], MARKERS[place % 7]
            axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axis.plot(x, share, color=colour, marker=marker, markersize=4, label=plain(name))
            if place == 0:
                axis.plot(x, ceiling, color="#666666", linestyle="--", linewidth=1.2, label="ceiling")
        axis.set_xticks(x, list(map(plain, places)))
        axis.set_ylim(0, 102)
        axis.set_title(plain(title), loc="left", fontsize=10)
        axis.set_xlabel(plain(axis_name))
        if number % columns == 0:
            axis.set_ylabel(plain(ylabel))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    return figure
