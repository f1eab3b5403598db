"""Latent distance beside k-mer distance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import DENSITY, MARKERS, PALETTE, STYLE, legend_above, panels_of, span

__all__ = ["distance_against_mse", "mse_by_rank"]


@matplotlib.rc_context(STYLE)
def distance_against_mse(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Latent distance against k-mer MSE, one density panel per metric.

    `panels`: name of the distance -> (distances, k-mer MSEs), equally long; `notes`: a line above a panel.
    """
    figure, axes = panels_of(len(panels), width=4.6, height=3.9)
    for axis, (name, (distances, errors)) in zip(axes, panels.items(), strict=True):
        x, y = np.asarray(distances, float).ravel(), np.asarray(errors, float).ravel()
        extent = (*span(x), *span(y))
        drawn = axis.hexbin(
            x, y, gridsize=48, extent=extent, mincnt=1, cmap=DENSITY, norm=LogNorm(), linewidths=0.1
        )
        bar = figure.colorbar(drawn, ax=axis, pad=0.02)
        bar.set_label("pairs per cell")
        bar.outline.set_visible(False)
        axis.set_xlabel(plain(name))
        axis.set_ylabel("k-mer MSE (CLR space)")
        if notes and notes.get(name):
            axis.set_title(plain(notes[name]), loc="left", fontsize=10, color="#333333")
    return figure


@matplotlib.rc_context(STYLE)
def mse_by_rank(
    ranks: Sequence[int],
    series: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    *,
    random: tuple[float, float] | None = None,
) -> Figure:
    """Mean k-mer MSE at every neighbour rank.

    `series`: name -> (mean, low, high), one value per rank, low and high bounding the interval; `random`:
    mean and standard deviation of random pairs, drawn as a band.
    """
    figure, (axis,) = panels_of(1, width=5.6, height=3.9)
    if random is not None:
        mean, sd = random
        axis.axhspan(max(mean - sd, 0), mean + sd, color="#EEEEEE", zorder=0)
        axis.axhline(mean, color="#888888", linestyle="--", linewidth=1.2, label="random pairs, mean ± sd")
    for number, (name, (mean_at, low, high)) in enumerate(series.items()):
        colour = PALETTE[number % len(PALETTE)]
        axis.fill_between(
            ranks, np.asarray(low, float), np.asarray(high, float), color=colour, alpha=0.18, linewidth=0
        )
        axis.plot(
            ranks,
            np.asarray(mean_at, float),
            color=colour,
            marker=MARKERS[number % 7],
            markersize=4,
            label=plain(name),
        )
    axis.set_xlabel("rank of the neighbour")
    axis.set_ylabel("k-mer MSE (CLR space)")
    axis.set_ylim(bottom=0)
    axis.set_xticks(list(ranks))
    legend_above(axis, columns=3)
    return figure
