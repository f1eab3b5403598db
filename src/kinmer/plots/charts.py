"""Bars, lines, histograms and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from kinmer.plots.style import DENSITY, MARKERS, PALETTE, STYLE, legend_above, panels_of, plain, span

__all__ = [
    "cluster_sizes",
    "counts_and_lines",
    "distance_against_mse",
    "distance_histograms",
    "group_shares",
    "in_degrees",
    "mse_by_rank",
    "nearest_distances",
    "one_and_all",
    "retrieval_bars",
    "retrieval_panels",
    "sweep_map",
    "sweep_panels",
]


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


_AXES = {"cosine": "cosine distance", "l2": "Euclidean distance"}


@matplotlib.rc_context(STYLE)
def distance_histograms(
    panels: Mapping[str, tuple[ArrayLike, Mapping[str, ArrayLike], str]],
) -> Figure:
    """Histograms of pairs, a panel for every metric.

    `panels`: name of the distance -> (edges (b + 1,), kind of pair -> counts (b,), a line above the panel).
    The first kind holds the others: where there are others, it is an outline.
    """
    figure, axes = panels_of(len(panels), width=4.8, height=3.6)
    for axis, (name, (edges, parts, note)) in zip(axes, panels.items(), strict=True):
        (whole, counts), *kinds = parts.items()
        if kinds:
            axis.stairs(
                np.asarray(counts), np.asarray(edges), color="#666666", linewidth=1.2, label=plain(whole)
            )
        for number, (kind, some) in enumerate(kinds or [(whole, counts)]):
            axis.stairs(np.asarray(some), np.asarray(edges), fill=True, color=PALETTE[number], alpha=0.55)
            axis.stairs(np.asarray(some), np.asarray(edges), color=PALETTE[number], label=plain(kind))
        axis.set_xlabel(plain(name))
        axis.set_ylabel("pairs")
        axis.yaxis.set_major_formatter(FuncFormatter(_thousands))
        axis.set_ylim(bottom=0)
        axis.set_title(plain(note), loc="left", fontsize=9, color="#333333", pad=22 if kinds else 6)
        if kinds:
            legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def nearest_distances(distances: ArrayLike, below: Mapping[float, float], *, metric: str) -> Figure:
    """Histogram of distances (n,) to the nearest other; `below`: threshold -> share, as lines.

    A share is left out where it would lie on the one before.
    """
    figure, (axis,) = panels_of(1, width=6.0, height=3.8)
    far = np.asarray(distances, float)
    axis.hist(far, bins=100, color=PALETTE[0], histtype="stepfilled")
    high = float(far.max())
    told = -np.inf
    for level, share in sorted(below.items()):
        if level > high:
            continue
        axis.axvline(level, color="#666666", linewidth=1, linestyle="--")
        if level - told < 0.025 * high:
            continue
        told = level
        text = f"{100 * share:.3g} %"
        place = axis.get_xaxis_transform()
        axis.text(level, 1.01, text, transform=place, rotation=45, fontsize=8, color="#444444")
    axis.set_xlim(left=0)
    lines = "\nabove the lines: share of the sequences that are nearer" if np.isfinite(told) else ""
    axis.set_xlabel(f"{plain(_AXES.get(metric, metric))} to the nearest other sequence{lines}")
    axis.set_ylabel("sequences")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@matplotlib.rc_context(STYLE)
def counts_and_lines(
    centres: ArrayLike,
    counts: ArrayLike,
    lines: Sequence[tuple[float, float, float, float, float | None]],
    *,
    metric: str,
) -> Figure:
    """Counts (b,) over bins, and lines through them: (low, high, slope, intercept, R²)."""
    figure, (axis,) = panels_of(1, width=6.0, height=4.0)
    axis.scatter(np.asarray(centres), np.asarray(counts), s=14, color="#888888", linewidths=0)
    for number, (low, high, slope, intercept, r2) in enumerate(lines):
        x = np.array([low, high])
        fit = "" if r2 is None else f", R² = {r2:.3f}"
        axis.plot(
            x, intercept + slope * x, color=PALETTE[number % len(PALETTE)], label=f"{low:.3g}–{high:.3g}{fit}"
        )
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0)
    axis.set_xlabel(f"{plain(_AXES.get(metric, metric))} to the nearest other sequence")
    axis.set_ylabel("sequences in the bin")
    if lines:
        legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def one_and_all(name: str, distances: Mapping[str, ArrayLike]) -> Figure:
    """Histograms of one sequence's distances to all others, a panel for every metric."""
    figure, axes = panels_of(len(distances), width=4.4, height=3.4)
    for number, (axis, (metric, far)) in enumerate(zip(axes, distances.items(), strict=True)):
        axis.hist(np.asarray(far, float), bins=100, color=PALETTE[number], histtype="stepfilled")
        axis.set_xlabel(plain(_AXES.get(metric, metric)))
        axis.set_ylabel("sequences")
        axis.set_xlim(left=0)
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    shown = name if len(name) <= 70 else f"{name[:69]}…"
    axes[0].set_title(plain(shown), loc="left", fontsize=10)
    return figure


@matplotlib.rc_context(STYLE)
def in_degrees(degree: ArrayLike, k: int) -> Figure:
    """How many sequences are among the k nearest of at least so many others, both axes logarithmic."""
    figure, (axis,) = panels_of(1, width=5.4, height=3.9)
    found = np.sort(np.asarray(degree))
    there = found[found > 0]
    values, first = np.unique(there, return_index=True)
    axis.plot(values, 100 * (len(there) - first) / len(found), marker="o", markersize=3, color=PALETTE[0])
    axis.axvline(k, color="#666666", linestyle="--", linewidth=1, label=f"mean: {k}")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(f"times among the {k} nearest of another, at least")
    axis.set_ylabel("sequences (%)")
    axis.set_title(f"never: {100 * (len(found) - len(there)) / len(found):.1f} %", loc="right", fontsize=10)
    legend_above(axis, columns=1)
    return figure


def _thousands(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"
