"""Bars, lines, histograms and heat maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from kinmer.plots.style import (
    DENSITY,
    MARKERS,
    PALETTE,
    STYLE,
    bases,
    color_bar,
    legend_above,
    panels_of,
    plain,
    span,
)

_AXES = {"cosine": "cosine distance", "l2": "Euclidean distance"}
Interval = tuple[ArrayLike, ArrayLike, ArrayLike]
Floats = NDArray[np.floating[Any]]


def _distance(metric: str) -> str:
    return plain(_AXES.get(metric, metric))


def _bars(axis: Axes, number: int, of: int, name: str, heights: Floats) -> Floats:
    """Draw the bars of series `number`, beside those of the others; returns their positions."""
    thick = 0.8 / max(1, of)
    at: Floats = np.arange(len(heights)) + (number - (of - 1) / 2) * thick
    axis.bar(at, heights, thick * 0.92, color=PALETTE[number % len(PALETTE)], label=plain(name))
    return at


def _band(axis: Axes, number: int, name: str, x: ArrayLike, lines: Sequence[ArrayLike], scale: float) -> None:
    """Draw series `number`: values with an interval, as a line with a band; lines : (value, low, high)."""
    value, low, high = (scale * np.asarray(line, float) for line in lines)
    color, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
    axis.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    axis.plot(x, value, color=color, marker=marker, markersize=4, label=plain(name))


def _histogram(axis: Axes, values: Floats, label: str, color: str, bins: Any = 100) -> None:
    """Draw how many sequences have a value."""
    axis.hist(values, bins=bins, color=color, histtype="stepfilled" if bins == 100 else "bar")
    axis.set(xlabel=label, ylabel="sequences")
    axis.yaxis.set_major_locator(MaxNLocator(integer=True))


@matplotlib.rc_context(STYLE)
def lengths_and_gc(lengths: ArrayLike, gc: ArrayLike) -> Figure:
    """Histograms of sequence lengths (bases, log scale) and GC content (fractions, drawn in percent)."""
    figure, (left, right) = panels_of(2, width=4.2, height=3.2)
    size = np.asarray(lengths, float)
    low, high = max(size.min(), 1), max(size.max(), size.min() * 1.1, 2)
    bins = np.geomspace(low, high, 41).tolist()
    _histogram(left, size, "sequence length (log scale)", PALETTE[0], bins)
    left.set_xscale("log")
    left.xaxis.set_major_formatter(FuncFormatter(bases))
    left.xaxis.set_minor_formatter(NullFormatter() if high / low > 20 else FuncFormatter(bases))
    share = 100 * np.asarray(gc, float)
    _histogram(right, share, "GC content (%)", PALETTE[2], np.linspace(*span(share), 41).tolist())
    return figure


@matplotlib.rc_context(STYLE)
def retrieval_bars(
    groups: Sequence[str],
    series: Mapping[str, Interval],
    *,
    ylabel: str = "nearest is of the same species (%)",
    xlabel: str = "query length",
) -> Figure:
    """Bars with intervals.

    series : name -> (share, low, high), one per group, as fractions; NaN leaves a gap.
    """
    width = max(5.0, 0.35 * len(groups) * (len(series) + 1) + 1.5)
    figure, (axis,) = panels_of(1, width=min(width, 11), height=3.9)
    for number, (name, interval) in enumerate(series.items()):
        value, low, high = (100 * np.asarray(part, float) for part in interval)
        at = _bars(axis, number, len(series), name, value)
        error = np.maximum(np.stack([value - low, high - value]), 0)
        axis.errorbar(at, value, error, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    axis.set_xticks(np.arange(len(groups)), list(map(plain, groups)))
    axis.grid(visible=False, axis="x")
    axis.set(ylim=(0, 102), xlabel=plain(xlabel), ylabel=plain(ylabel))
    legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def retrieval_panels(
    panels: Mapping[
        str, tuple[str, Sequence[str], Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]]]
    ],
    *,
    ylabel: str = "nearest has the label (%)",
    columns: int = 4,
) -> Figure:
    """Shares with intervals as bands and their ceiling dashed, a panel each, in rows of `columns`.

    panels : title -> (label of the axis, its positions, series -> (share, low, high, ceiling)), one share for
        every position, as fractions; NaN leaves a gap.
    """
    figure, axes = panels_of(len(panels), columns=columns, width=3.4, height=3.1, least=4.6, top=0.5)
    for number, (axis, (title, (label, positions, series))) in enumerate(
        zip(axes, panels.items(), strict=True)
    ):
        x = np.arange(len(positions))
        for at, (name, lines) in enumerate(series.items()):
            _band(axis, at, name, x, lines[:3], 100)
            if at == 0:
                ceiling = 100 * np.asarray(lines[3], float)
                axis.plot(x, ceiling, color="#666666", linestyle="--", linewidth=1.2, label="ceiling")
        axis.set_xticks(x, list(map(plain, positions)))
        axis.set_ylim(0, 102)
        axis.set_title(plain(title), loc="left", fontsize=10)
        axis.set_xlabel(plain(label))
        if number % columns == 0:
            axis.set_ylabel(plain(ylabel))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    return figure


@matplotlib.rc_context(STYLE)
def distance_against_mse(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Latent distance against k-mer MSE, one density panel per metric.

    panels : name of the distance -> (distances, k-mer MSEs), equally long. notes : a line above a panel.
    """
    figure, axes = panels_of(len(panels), width=4.6, height=3.9)
    for axis, (name, (distances, errors)) in zip(axes, panels.items(), strict=True):
        x, y = np.asarray(distances, float).ravel(), np.asarray(errors, float).ravel()
        look: Any = {"mincnt": 1, "cmap": DENSITY, "norm": LogNorm(), "linewidths": 0.1}
        drawn = axis.hexbin(x, y, gridsize=48, extent=(*span(x), *span(y)), **look)
        color_bar(figure, drawn, axis, "pairs per cell")
        axis.set(xlabel=plain(name), ylabel="k-mer MSE (CLR space)")
        if notes and notes.get(name):
            axis.set_title(plain(notes[name]), loc="left", fontsize=10, color="#333333")
    return figure


@matplotlib.rc_context(STYLE)
def mse_by_rank(
    ranks: Sequence[int],
    series: Mapping[str, Interval],
    *,
    random: tuple[float, float] | None = None,
) -> Figure:
    """Mean k-mer MSE at every neighbor rank.

    series : name -> (mean, low, high), one value per rank, with the ends of the interval. random : mean and
        standard deviation of random pairs, drawn as a band.
    """
    figure, (axis,) = panels_of(1, width=5.6, height=3.9)
    if random is not None:
        mean, sd = random
        axis.axhspan(max(mean - sd, 0), mean + sd, color="#EEEEEE", zorder=0)
        axis.axhline(mean, color="#888888", linestyle="--", linewidth=1.2, label="random pairs, mean ± sd")
    for number, (name, interval) in enumerate(series.items()):
        _band(axis, number, name, ranks, interval, 1)
    axis.set(xlabel="rank of the neighbor", ylabel="k-mer MSE (CLR space)", ylim=(0, None))
    axis.set_xticks(list(ranks))
    legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def sweep_panels(
    panels: Mapping[str, tuple[Sequence[Any], ArrayLike]], *, ylabel: str = "score", columns: int = 3
) -> Figure:
    """Scores over the values of every setting, a panel each, in rows of `columns`.

    panels : setting -> (values, scores), a point for each. Numbers are drawn to scale (a logarithmic one if
        they span more than a factor of 20), texts side by side. A line joins the means if values recur.
    """
    figure, axes = panels_of(len(panels), columns=columns, width=3.6, height=3.2, least=4.6)
    for number, (axis, (name, (values, scores))) in enumerate(zip(axes, panels.items(), strict=True)):
        if number:
            axis.sharey(axes[0])
        _scores_over(axis, values, np.asarray(scores, float))
        axis.set_xlabel(plain(name))
        if number % columns == 0:
            axis.set_ylabel(plain(ylabel))
    return figure


def _scores_over(axis: Axes, values: Sequence[Any], y: NDArray[np.float64]) -> None:
    texts = any(isinstance(value, str) for value in values)
    kinds = sorted({str(value) for value in values}) if texts else sorted(set(values))
    x = np.array([kinds.index(str(value)) if texts else value for value in values], float)
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


@matplotlib.rc_context(STYLE)
def sweep_map(
    scores: Sequence[Sequence[float | None]],
    *,
    columns: tuple[str, Sequence[str]],
    rows: tuple[str, Sequence[str]],
    label: str = "score",
) -> Figure:
    """A heat map of scores over two settings, with the score in every cell; None leaves a gap.

    scores : a row for every value of `rows`, a column for every value of `columns` (name, values).
    """
    values = np.array([[np.nan if score is None else score for score in row] for row in scores], float)
    width, height = 2.4 + 0.9 * len(columns[1]), 1.6 + 0.6 * len(rows[1])
    figure, (axis,) = panels_of(1, width=width, height=max(height, 3.0), least=4.6)
    low, high = span(values[np.isfinite(values)])
    drawn = axis.imshow(values, cmap=DENSITY, vmin=low, vmax=high, aspect="auto")
    for (row, column), score in np.ndenumerate(values):
        if np.isfinite(score):
            color = "white" if (score - low) / (high - low) > 0.5 else "black"
            axis.text(column, row, f"{score:.4g}", ha="center", va="center", color=color)
    axis.set_xticks(range(len(columns[1])), list(map(plain, columns[1])))
    axis.set_yticks(range(len(rows[1])), list(map(plain, rows[1])))
    axis.grid(visible=False)
    axis.set(xlabel=plain(columns[0]), ylabel=plain(rows[0]))
    color_bar(figure, drawn, axis, label)
    return figure


@matplotlib.rc_context(STYLE)
def group_shares(clusters: Sequence[str], shares: Mapping[str, ArrayLike], q: ArrayLike) -> Figure:
    """Bars of each group's share (a fraction) in every cluster; a star if q is below .05.

    shares : group -> (clusters,).
    """
    width = 2.0 + 0.28 * len(clusters) * max(1.5, len(shares) / 2)
    figure, (axis,) = panels_of(1, width=float(np.clip(width, 5, 14)), height=3.9)
    tallest = np.zeros(len(clusters))
    for number, (name, values) in enumerate(shares.items()):
        height = 100 * np.asarray(values, float)
        tallest = np.maximum(tallest, height)
        _bars(axis, number, len(shares), name, height)
    for star in np.flatnonzero(np.nan_to_num(np.asarray(q, float), nan=1.0) < 0.05):
        axis.annotate("*", (float(star), float(tallest[star])), ha="center", va="bottom", fontsize=12)
    turned = 90 if len(clusters) > 12 else 0
    axis.set_xticks(np.arange(len(clusters)), list(map(plain, clusters)), rotation=turned)
    axis.grid(visible=False, axis="x")
    axis.set(
        ylim=(0, max(1e-9, float(tallest.max()) * 1.12)),
        xlabel="cluster (* q < 0.05)",
        ylabel="share of the group (%)",
    )
    legend_above(axis, columns=4)
    return figure


@matplotlib.rc_context(STYLE)
def cluster_sizes(sizes: ArrayLike, gc_sd: ArrayLike) -> Figure:
    """Sizes of clusters by rank, and size against the standard deviation of GC within (fractions)."""
    size, spread = np.asarray(sizes, float), 100 * np.asarray(gc_sd, float)
    known = np.isfinite(spread) & (size > 1)
    figure, axes = panels_of(2 if known.any() else 1, width=4.4, height=3.5)
    axes[0].plot(np.arange(1, len(size) + 1), np.sort(size)[::-1], color=PALETTE[0], marker="o", markersize=3)
    axes[0].set(
        xscale="log", yscale="log", xlabel="clusters, largest first", ylabel="sequences in the cluster"
    )
    if known.any():
        axes[1].scatter(size[known], spread[known], s=12, color=PALETTE[2], alpha=0.6, linewidths=0)
        axes[1].set(
            xscale="log",
            ylim=(0, None),
            xlabel="sequences in the cluster",
            ylabel="sd of GC within (percentage points)",
        )
    return figure


@matplotlib.rc_context(STYLE)
def distance_histograms(panels: Mapping[str, tuple[ArrayLike, Mapping[str, ArrayLike], str]]) -> Figure:
    """Histograms of pairs, a panel for every metric.

    panels : name of the distance -> (edges (b + 1,), kind of pair -> counts (b,), a line above the panel).
        The first kind includes the others; if there are others, it is an outline.
    """
    figure, axes = panels_of(len(panels), width=4.8, height=3.6)
    for axis, (name, (edges, parts, note)) in zip(axes, panels.items(), strict=True):
        (whole, counts), *kinds = ((plain(kind), np.asarray(counts)) for kind, counts in parts.items())
        steps = np.asarray(edges)
        if kinds:
            axis.stairs(counts, steps, color="#666666", linewidth=1.2, label=whole)
        for color, (kind, some) in zip(PALETTE, kinds or [(whole, counts)], strict=False):
            axis.stairs(some, steps, fill=True, color=color, alpha=0.55)
            axis.stairs(some, steps, color=color, label=kind)
        axis.set(xlabel=plain(name), ylabel="pairs")
        axis.yaxis.set_major_formatter(FuncFormatter(_thousands))
        axis.set_ylim(bottom=0)
        axis.set_title(plain(note), loc="left", fontsize=9, color="#333333", pad=22 if kinds else 6)
        if kinds:
            legend_above(axis, columns=3)
    return figure


def _thousands(value: float, _: object = None) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


@matplotlib.rc_context(STYLE)
def nearest_distances(distances: ArrayLike, below: Mapping[float, float], *, metric: str) -> Figure:
    """Histogram of distances (n,) to the nearest other; `below`: threshold -> share, as lines.

    A share is left out where it would overlap the one before.
    """
    figure, (axis,) = panels_of(1, width=6.0, height=3.8)
    values = np.asarray(distances, float)
    high, last = float(values.max()), -np.inf
    for level, share in sorted(below.items()):
        if level > high:
            continue
        axis.axvline(level, color="#666666", linewidth=1, linestyle="--")
        if level - last >= 0.025 * high:
            last = level
            look: Any = {"rotation": 45, "fontsize": 8, "color": "#444444"}
            axis.text(level, 1.01, f"{100 * share:.3g} %", transform=axis.get_xaxis_transform(), **look)
    lines = "\ndashed lines: share of sequences with a smaller distance" if np.isfinite(last) else ""
    _histogram(axis, values, f"{_distance(metric)} to the nearest other sequence{lines}", PALETTE[0])
    axis.set_xlim(left=0)
    return figure


@matplotlib.rc_context(STYLE)
def counts_and_lines(
    centers: ArrayLike,
    counts: ArrayLike,
    lines: Sequence[tuple[float, float, float, float, float | None]],
    *,
    metric: str,
) -> Figure:
    """Counts (b,) over bins, and lines through them: (low, high, slope, intercept, R²)."""
    figure, (axis,) = panels_of(1, width=6.0, height=4.0)
    axis.scatter(np.asarray(centers), np.asarray(counts), s=14, color="#888888", linewidths=0)
    for number, (low, high, slope, intercept, r2) in enumerate(lines):
        x = np.array([low, high])
        label = f"{low:.3g}–{high:.3g}" + ("" if r2 is None else f", R² = {r2:.3f}")
        axis.plot(x, intercept + slope * x, color=PALETTE[number % len(PALETTE)], label=label)
    axis.set(
        ylim=(0, None),
        xlim=(0, None),
        xlabel=f"{_distance(metric)} to the nearest other sequence",
        ylabel="sequences in the bin",
    )
    if lines:
        legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(STYLE)
def one_and_all(name: str, distances: Mapping[str, ArrayLike]) -> Figure:
    """Histograms of one sequence's distances to all others, a panel for every metric."""
    figure, axes = panels_of(len(distances), width=4.4, height=3.4)
    for color, axis, (metric, values) in zip(PALETTE, axes, distances.items(), strict=False):
        _histogram(axis, np.asarray(values, float), _distance(metric), color)
        axis.set_xlim(left=0)
    axes[0].set_title(plain(name), loc="left", fontsize=10)
    return figure


@matplotlib.rc_context(STYLE)
def in_degrees(degree: ArrayLike, k: int) -> Figure:
    """How many sequences are among the k nearest of at least so many others, both axes logarithmic."""
    figure, (axis,) = panels_of(1, width=5.4, height=3.9)
    degrees = np.sort(np.asarray(degree))
    hubs = degrees[degrees > 0]
    values, first = np.unique(hubs, return_index=True)
    axis.plot(values, 100 * (len(hubs) - first) / len(degrees), marker="o", markersize=3, color=PALETTE[0])
    axis.axvline(k, color="#666666", linestyle="--", linewidth=1, label=f"mean: {k}")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel=f"among the {k} nearest of at least so many sequences",
        ylabel="sequences (%)",
    )
    never = 100 * (len(degrees) - len(hubs)) / len(degrees)
    axis.set_title(f"never: {never:.1f} %", loc="right", fontsize=10)
    legend_above(axis, columns=1)
    return figure
