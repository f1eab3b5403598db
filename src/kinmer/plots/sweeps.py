"""Scores over settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import DENSITY, PALETTE, STYLE, span

__all__ = ["sweep_map", "sweep_panels"]


@matplotlib.rc_context(STYLE)
def sweep_panels(
    panels: Mapping[str, tuple[Sequence[Any], ArrayLike]], *, ylabel: str = "score", columns: int = 3
) -> Figure:
    """Scores over the values of every setting, a panel each, in rows of `columns`.

    `panels`: setting -> (values, scores), a point for each; numbers are drawn to scale (a logarithmic one
    where they span more than a factor of 20), texts side by side. A line joins the means where values recur.
    """
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(3.6 * columns, 4.6), 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    first: Axes | None = None
    for number, (name, (values, scores)) in enumerate(panels.items()):
        axis = figure.add_subplot(rows, columns, number + 1, sharey=first)
        first = first or axis
        y = np.asarray(scores, float)
        texts = any(isinstance(one, str) for one in values)
        kinds = sorted({str(one) for one in values}) if texts else sorted(set(values))
        x = np.array([kinds.index(str(one)) if texts else one for one in values], float)
        axis.scatter(x, y, s=22, color=PALETTE[0], alpha=0.6, linewidths=0)
        if len(kinds) < len(x):
            places = np.unique(x)
            means = [y[x == place].mean() for place in places]
            axis.plot(places, means, color=PALETTE[3], marker="_", markersize=12, label="mean")
            axis.legend()
        if texts:
            axis.set_xticks(range(len(kinds)), list(map(plain, kinds)))
            axis.margins(x=0.2)
        elif x.min() > 0 and x.max() / x.min() > 20:
            axis.set_xscale("log")
        elif len(kinds) <= 6:
            axis.set_xticks(kinds)
        axis.set_xlabel(plain(name))
        if number % columns == 0:
            axis.set_ylabel(plain(ylabel))
    return figure


@matplotlib.rc_context(STYLE)
def sweep_map(
    scores: Sequence[Sequence[float | None]],
    *,
    columns: tuple[str, Sequence[str]],
    rows: tuple[str, Sequence[str]],
    label: str = "score",
) -> Figure:
    """A map of scores over two settings, with the figure in every cell; None leaves a gap.

    `scores`: a row for every value of `rows`, a column for every one of `columns` (name, values).
    """
    values = np.array([[np.nan if one is None else one for one in row] for row in scores], float)
    size = (2.4 + 0.9 * len(columns[1]), 1.6 + 0.6 * len(rows[1]))
    figure = Figure(figsize=(max(size[0], 4.6), max(size[1], 3.0)), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.add_subplot()
    low, high = span(values[np.isfinite(values)])
    drawn = axis.imshow(values, cmap=DENSITY, vmin=low, vmax=high, aspect="auto")
    for (row, column), one in np.ndenumerate(values):
        if np.isfinite(one):
            dark = (one - low) / (high - low) > 0.5
            axis.text(column, row, f"{one:.4g}", ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(len(columns[1])), list(map(plain, columns[1])))
    axis.set_yticks(range(len(rows[1])), list(map(plain, rows[1])))
    axis.grid(visible=False)
    axis.set_xlabel(plain(columns[0]))
    axis.set_ylabel(plain(rows[0]))
    bar = figure.colorbar(drawn, ax=axis, pad=0.02)
    bar.set_label(plain(label))
    bar.outline.set_visible(False)
    return figure
