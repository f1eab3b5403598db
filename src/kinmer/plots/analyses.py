"""Histograms of distances, counts with their lines, in-degrees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike

from kinmer.plots.labels import plain
from kinmer.plots.style import PALETTE, STYLE, legend_above, panels_of

__all__ = ["counts_and_lines", "distance_histograms", "in_degrees", "nearest_distances", "one_and_all"]

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
