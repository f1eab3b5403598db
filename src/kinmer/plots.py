"""Arrays to figures, in one style; matplotlib's object interface, so nothing global changes.

Every function gives a `Figure`; `save` writes it as PNG and SVG.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "PALETTE",
    "distance_against_mse",
    "lengths_and_gc",
    "mse_by_rank",
    "retrieval_bars",
    "retrieval_panels",
    "save",
    "scatter_by_category",
    "sweep_map",
    "sweep_panels",
]

# Okabe & Ito's colours, which stay apart for every kind of colour vision; black is kept for text.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DENSITY = LinearSegmentedColormap.from_list("density", ["#DCE9F5", "#6AAED6", "#0072B2", "#08306B"])
_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "xtick.color": "#444444",
    "ytick.color": "#444444",
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "svg.hashsalt": "kinmer",
    "svg.fonttype": "none",
}


def save(figure: Figure, stem: str | Path, *, dpi: int = 160) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``, each whole or not at all; the same data give the same bytes."""
    stem = Path(stem)
    written = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        content = io.BytesIO()
        with matplotlib.rc_context(_STYLE):
            figure.savefig(content, format=kind, dpi=dpi, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{kind}")
        aside = path.with_name(f".{path.name}.new")
        aside.write_bytes(content.getvalue())
        aside.replace(path)
        written.append(path)
    return written


@matplotlib.rc_context(_STYLE)
def distance_against_mse(
    panels: Mapping[str, tuple[ArrayLike, ArrayLike]], *, notes: Mapping[str, str] | None = None
) -> Figure:
    """Latent distance against k-mer MSE, one density panel per metric.

    `panels`: name of the distance -> (distances, k-mer MSEs), equally long; `notes`: a line above a panel.
    """
    figure, axes = _panels(len(panels), width=4.6, height=3.9)
    for axis, (name, (distances, errors)) in zip(axes, panels.items(), strict=True):
        x, y = np.asarray(distances, float).ravel(), np.asarray(errors, float).ravel()
        extent = (*_span(x), *_span(y))
        drawn = axis.hexbin(
            x, y, gridsize=48, extent=extent, mincnt=1, cmap=_DENSITY, norm=LogNorm(), linewidths=0.1
        )
        bar = figure.colorbar(drawn, ax=axis, pad=0.02)
        bar.set_label("pairs per cell")
        bar.outline.set_visible(False)
        axis.set_xlabel(name)
        axis.set_ylabel("k-mer MSE (CLR space)")
        if notes and notes.get(name):
            axis.set_title(notes[name], loc="left", fontsize=10, color="#333333")
    return figure


@matplotlib.rc_context(_STYLE)
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
    figure, (axis,) = _panels(1, width=5.6, height=3.9)
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
            marker=_MARKERS[number % 7],
            markersize=4,
            label=name,
        )
    axis.set_xlabel("rank of the neighbour")
    axis.set_ylabel("k-mer MSE (CLR space)")
    axis.set_ylim(bottom=0)
    axis.set_xticks(list(ranks))
    _legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(_STYLE)
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
    figure, (axis,) = _panels(1, width=min(width, 11), height=3.9)
    thick = 0.8 / max(1, len(series))
    for number, (name, (share, low, high)) in enumerate(series.items()):
        value, under, over = (100 * np.asarray(one, float) for one in (share, low, high))
        place = np.arange(len(groups)) + (number - (len(series) - 1) / 2) * thick
        error = np.maximum(np.stack([value - under, over - value]), 0)
        axis.bar(place, value, thick * 0.92, color=PALETTE[number % len(PALETTE)], label=name)
        axis.errorbar(place, value, error, fmt="none", ecolor="#333333", elinewidth=1, capsize=2)
    axis.set_xticks(np.arange(len(groups)), groups)
    axis.grid(visible=False, axis="x")
    axis.set_ylim(0, 102)
    axis.set_xlabel(xlabel)
    axis.set_ylabel(ylabel)
    _legend_above(axis, columns=3)
    return figure


@matplotlib.rc_context(_STYLE)
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
            colour, marker = PALETTE[place % len(PALETTE)], _MARKERS[place % 7]
            axis.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axis.plot(x, share, color=colour, marker=marker, markersize=4, label=name)
            if place == 0:
                axis.plot(x, ceiling, color="#666666", linestyle="--", linewidth=1.2, label="ceiling")
        axis.set_xticks(x, places)
        axis.set_ylim(0, 102)
        axis.set_title(title, loc="left", fontsize=10)
        axis.set_xlabel(axis_name)
        if number % columns == 0:
            axis.set_ylabel(ylabel)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper left", ncols=min(4, len(labels)))
    return figure


@matplotlib.rc_context(_STYLE)
def lengths_and_gc(lengths: ArrayLike, gc: ArrayLike) -> Figure:
    """Histograms of sequence lengths (bases, log scale) and GC content (fractions; drawn in per cent)."""
    figure, axes = _panels(2, width=4.2, height=3.2)
    size = np.asarray(lengths, float)
    low, high = max(size.min(), 1), max(size.max(), size.min() * 1.1, 2)
    axes[0].hist(size, bins=np.geomspace(low, high, 41).tolist(), color=PALETTE[0])
    axes[0].set_xscale("log")
    axes[0].xaxis.set_major_formatter(FuncFormatter(_bases))
    if high / low > 20:
        axes[0].xaxis.set_minor_formatter(NullFormatter())
    else:
        axes[0].xaxis.set_minor_formatter(FuncFormatter(_bases))
    axes[0].set_xlabel("sequence length (log scale)")
    share = 100 * np.asarray(gc, float)
    axes[1].hist(share, bins=np.linspace(*_span(share), 41).tolist(), color=PALETTE[2])
    axes[1].set_xlabel("GC content (%)")
    for axis in axes:
        axis.set_ylabel("sequences")
        axis.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


@matplotlib.rc_context(_STYLE)
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
    figure, axes = _panels(len(panels), width=4.6, height=4.6)
    size = float(np.clip(6000 / max(len(where), 1), 4, 24))
    for axis, (title, labels) in zip(axes, panels.items(), strict=True):
        kind = np.asarray(labels, dtype=object).astype(str)
        names, counts = np.unique(kind, return_counts=True)
        order = sorted(names[np.argsort(-counts, kind="stable")][:largest])
        rest = ~np.isin(kind, order)
        groups = [("others", rest, "#BBBBBB", "o")] if rest.any() else []
        groups += [
            (name, kind == name, PALETTE[number % 7], _MARKERS[number % 7])
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
                label=name,
                rasterized=True,
            )
        axis.set_title(title, loc="left", pad=8)
        axis.set_xlabel(xlabel)
        axis.set_ylabel(ylabel)
        axis.legend(
            loc="upper center",
            bbox_to_anchor=(0.5, -0.16),
            ncols=2,
            markerscale=min(2.5, np.sqrt(36 / size)),
            handletextpad=0.2,
            columnspacing=1.0,
        )
    return figure


@matplotlib.rc_context(_STYLE)
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
            axis.set_xticks(range(len(kinds)), kinds)
            axis.margins(x=0.2)
        elif x.min() > 0 and x.max() / x.min() > 20:
            axis.set_xscale("log")
        elif len(kinds) <= 6:
            axis.set_xticks(kinds)
        axis.set_xlabel(name)
        if number % columns == 0:
            axis.set_ylabel(ylabel)
    return figure


@matplotlib.rc_context(_STYLE)
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
    low, high = _span(values[np.isfinite(values)])
    drawn = axis.imshow(values, cmap=_DENSITY, vmin=low, vmax=high, aspect="auto")
    for (row, column), one in np.ndenumerate(values):
        if np.isfinite(one):
            dark = (one - low) / (high - low) > 0.5
            axis.text(column, row, f"{one:.4g}", ha="center", va="center", color="white" if dark else "black")
    axis.set_xticks(range(len(columns[1])), columns[1])
    axis.set_yticks(range(len(rows[1])), rows[1])
    axis.grid(visible=False)
    axis.set_xlabel(columns[0])
    axis.set_ylabel(rows[0])
    bar = figure.colorbar(drawn, ax=axis, pad=0.02)
    bar.set_label(label)
    bar.outline.set_visible(False)
    return figure


def _panels(number: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with `number` panels side by side, each `width` × `height` inches."""
    figure = Figure(figsize=(width * number, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(1, number, place + 1) for place in range(number)]


def _legend_above(axis: Axes, *, columns: int) -> None:
    axis.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, columnspacing=1.2, handlelength=1.6
    )


def _span(values: NDArray[np.float64]) -> tuple[float, float]:
    """The range of the values, widened where it is a single point."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = max(abs(low) * 0.05, 1e-6)
        return low - margin, high + margin
    return low, high


def _bases(value: float, _: object = None) -> str:
    for unit, size in (("Mb", 1e6), ("kb", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} b"
