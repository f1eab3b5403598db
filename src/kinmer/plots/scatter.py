"""Points of a plane, a thousand to ten million: discs where they are few, pixels where they are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm, Normalize, to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from kinmer.plots.style import MARKERS, PALETTE, STYLE, bases, panels_of, plain, span

__all__ = [
    "density_difference",
    "extent_of",
    "lengths_and_gc",
    "map_by_category",
    "map_by_number",
    "map_plain",
    "pixels",
    "scatter_by_category",
    "share_gap",
]


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


# Up to here points are discs; above, pixels.
FEW = 20_000
PIXELS = 900
# A point is left out of the frame that lies further than a map's width beyond all but this share of the rest.
OUTLYING = 0.02
# Of fewer points none can be told to lie far out.
ENOUGH = 20
# Points of which the pixels are counted together.
BLOCK = 1_000_000
OTHERS = "#BFC5CB"
# What a missing value reads as.
UNKNOWN = ("", ".", "nan", "None", "<NA>")
SHOWN_GROUPS = 7
# Filled pixels of three by three, up to which the one in the middle stands almost alone.
LONELY = 3
# Cells of a side in which groups are compared.
CELLS = 75
DIFFERENCE = LinearSegmentedColormap.from_list(
    "difference", ["#C75100", "#F2A35E", "#D3D8DC", "#9C86C9", "#4A2A8A"]
)
Floats = NDArray[np.float64]
Extent = tuple[float, float, float, float]


def extent_of(where: Floats) -> tuple[float, float, float, float, int]:
    """A square frame (x0, x1, y0, y1) around nearly all points (n, 2), and how many lie outside."""
    low, high = where.min(axis=0), where.max(axis=0)
    if len(where) >= ENOUGH:
        first = np.quantile(where, OUTLYING, axis=0, method="higher")
        last = np.quantile(where, 1 - OUTLYING, axis=0, method="lower")
        width = float((last - first).max())
        near = ((where >= first - width) & (where <= last + width)).all(axis=1)
        if width > 0 and not near.all():
            low, high = where[near].min(axis=0), where[near].max(axis=0)
    half = 0.54 * float((high - low).max()) or 1.0
    x, y = (low + high) / 2
    outside = (np.abs(where - (x, y)) > half).any(axis=1).sum()
    return x - half, x + half, y - half, y + half, int(outside)


def pixels(
    where: Floats, extent: Sequence[float], weights: Floats | None = None, *, size: int = PIXELS
) -> Floats:
    """(size, size) sums of weights (None: numbers of points) a pixel, the top row first."""
    sums = np.zeros(size * size)
    for start in range(0, len(where), BLOCK):
        some = where[start : start + BLOCK]
        column = np.floor((some[:, 0] - extent[0]) / (extent[1] - extent[0]) * size)
        row = np.floor((extent[3] - some[:, 1]) / (extent[3] - extent[2]) * size)
        inside = (column >= 0) & (column < size) & (row >= 0) & (row < size)
        place = (row[inside] * size + column[inside]).astype(np.int64)
        given = None if weights is None else weights[start : start + BLOCK][inside]
        sums += np.bincount(place, given, minlength=size * size)
    return sums.reshape(size, size)


@matplotlib.rc_context(STYLE)
def map_by_number(where: Floats, values: Floats, *, title: str = "", label: str = "") -> Figure:
    """Points (n, 2) coloured by a number (n,), its mean in every pixel; grey where it is not known."""
    figure, axis, extent, outside = _frame(where, title, width=7.4)
    there = np.isfinite(values)
    low, high = np.quantile(values[there], (0.01, 0.99)) if there.any() else (0.0, 1.0)
    norm: Any = Normalize(*span(np.array([low, high])))
    if low > 0 and high / low > 20:
        norm = LogNorm(low, high)
    colours = matplotlib.colormaps["viridis"]
    if len(where) <= FEW:
        order = np.argsort(there, kind="stable")
        shown = np.where(there[:, None], colours(norm(np.where(there, values, low))), (*to_rgb(OTHERS), 1.0))
        _discs(axis, where[order], shown[order])
    else:
        counts = pixels(where[there], extent)
        sums = pixels(where[there], extent, values[there])
        mean = np.divide(sums, counts, out=np.full_like(sums, low), where=counts > 0)
        _image(axis, colours(norm(mean))[..., :3], pixels(where, extent), extent)
    below, above = (values[there] < norm.vmin).any(), (values[there] > norm.vmax).any()
    ends = {(True, True): "both", (True, False): "min", (False, True): "max"}.get(
        (bool(below), bool(above)), "neither"
    )
    bar = figure.colorbar(ScalarMappable(norm, colours), ax=axis, shrink=0.6, pad=0.02, extend=ends)
    bar.set_label(plain(label))
    bar.outline.set_visible(False)
    _told(axis, len(where), outside)
    return figure


@matplotlib.rc_context(STYLE)
def map_by_category(
    where: Floats, names: Sequence[object] | NDArray[Any], *, title: str = "", label: str = ""
) -> Figure:
    """Points (n, 2) coloured by a name (n,): the seven largest have a colour, a pixel that of most in it."""
    figure, axis, extent, outside = _frame(where, title, width=8.2)
    group, shown, counts = _largest(names)
    colours = np.array([to_rgb(PALETTE[at]) for at in range(len(shown))] + [to_rgb(OTHERS)])
    if len(where) <= FEW:
        order = np.argsort(-group, kind="stable")  # The named lie on top of the rest.
        _discs(axis, where[order], colours[group[order]])
    else:
        most = np.stack([pixels(where[group == at], extent) for at in range(len(colours))])
        _image(axis, colours[most.argmax(axis=0)], most.sum(axis=0), extent)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=colour, label=f"{plain(_short(name))} ({count:,})")
        for name, count, colour in zip([*shown, "others"], counts, colours, strict=True)
        if count
    ]
    axis.legend(
        handles=handles, title=plain(label), loc="upper left", bbox_to_anchor=(1.01, 1), alignment="left"
    )
    _told(axis, len(where), outside)
    return figure


def _largest(names: Sequence[object] | NDArray[Any]) -> tuple[NDArray[np.int64], list[str], list[int]]:
    """Numbers (n,) of the largest groups and of all others, names of the largest, sizes of all."""
    codes, kinds = pd.factorize(np.asarray(names, dtype=object))
    # What reads the same is the same; the last place is that of what is not known.
    again, found = pd.factorize(np.array([*(str(one) for one in kinds), ""], dtype=object))
    codes = again[codes]
    counts = np.bincount(codes, minlength=len(found))
    named = [at for at in np.lexsort((found, -counts)) if counts[at] and found[at] not in UNKNOWN]
    shown = named[:SHOWN_GROUPS]
    place = np.full(len(found), len(shown))
    place[shown] = np.arange(len(shown))
    group = place[codes]
    sizes = np.bincount(group, minlength=len(shown) + 1)
    return group, [str(found[at]) for at in shown], sizes.tolist()


@matplotlib.rc_context(STYLE)
def map_plain(where: Floats, *, title: str = "") -> Figure:
    """Points (n, 2) in one colour, darker where they are many."""
    figure, axis, extent, outside = _frame(where, title, width=6.4)
    colour = np.array(to_rgb(PALETTE[0]))
    if len(where) <= FEW:
        _discs(axis, where, np.broadcast_to(colour, (len(where), 3)))
    else:
        _image(axis, np.broadcast_to(colour, (PIXELS, PIXELS, 3)), pixels(where, extent), extent)
    _told(axis, len(where), outside)
    return figure


@matplotlib.rc_context(STYLE)
def density_difference(
    where: Floats, names: Sequence[object], pair: tuple[str, str], *, title: str = ""
) -> Figure:
    """Points (n, 2) coloured by how much denser one of two groups is around them, as `share_gap`.

    `pair`: the two names among `names` (n,). Violet where the first is denser, orange where the second is,
    grey where they are alike.
    """
    figure, axis, extent, outside = _frame(where, title, width=7.4)
    gap = share_gap(where, names, pair, extent)
    column = np.clip((where[:, 0] - extent[0]) / (extent[1] - extent[0]) * CELLS, 0, CELLS - 1).astype(int)
    row = np.clip((extent[3] - where[:, 1]) / (extent[3] - extent[2]) * CELLS, 0, CELLS - 1).astype(int)
    found = gap[row, column]
    # The one cell that differs most would leave all others pale.
    widest = float(np.quantile(np.abs(found), 0.95)) or float(np.abs(gap).max()) or 1.0
    norm = Normalize(-widest, widest)
    if len(where) <= FEW:
        _discs(axis, where, DIFFERENCE(norm(found)))
    else:
        finer = np.repeat(np.repeat(gap, PIXELS // CELLS, axis=0), PIXELS // CELLS, axis=1)
        _image(axis, DIFFERENCE(norm(finer))[..., :3], pixels(where, extent), extent)
    ends = "both" if np.abs(found).max() > widest else "neither"
    bar = figure.colorbar(ScalarMappable(norm, DIFFERENCE), ax=axis, shrink=0.6, pad=0.02, extend=ends)
    bar.set_label(plain(f"{_short(pair[0])} minus {_short(pair[1])}, ‰ of each a cell"))
    bar.outline.set_visible(False)
    _told(axis, len(where), outside)
    return figure


def share_gap(
    where: Floats,
    names: Sequence[object],
    pair: tuple[str, str],
    extent: Sequence[float],
    *,
    cells: int = CELLS,
) -> Floats:
    """(cells, cells) share of the first of `pair` minus that of the second, ‰, blurred over neighbours."""
    kind = np.array([str(one) for one in names], dtype=object)
    share = []
    for name in pair:
        counts = pixels(where[kind == name], extent, size=cells)
        share.append(1000 * counts / max(1.0, counts.sum()))
    return _blurred(share[0] - share[1])


def _blurred(image: Floats) -> Floats:
    """Every cell with its neighbours, 1 2 1 in both directions."""
    padded = np.pad(image, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    found: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return found


def _frame(where: Floats, title: str, *, width: float) -> tuple[Figure, Axes, Extent, int]:
    figure, (axis,) = panels_of(1, width=width, height=6.2)
    x0, x1, y0, y1, outside = extent_of(where)
    axis.set_xlim(x0, x1)
    axis.set_ylim(y0, y1)
    axis.set_aspect("equal")
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if title:
        axis.set_title(plain(title), loc="left")
    return figure, axis, (x0, x1, y0, y1), outside


def _discs(axis: Axes, where: Floats, colours: Any) -> None:
    size = float(np.clip(16_000 / max(len(where), 1), 3, 60))
    axis.scatter(where[:, 0], where[:, 1], s=size, c=colours, linewidths=0, alpha=0.8, rasterized=True)


def _image(axis: Axes, colours: Any, counts: Floats, extent: Extent) -> None:
    """Colours (s, s, 3), the more opaque the more points a pixel has, by the rank of its count."""
    colours, counts = _spread(colours, counts)
    levels, inverse = np.unique(counts, return_inverse=True)
    filled = np.bincount(inverse.ravel())
    filled[levels == 0] = 0
    rank = np.cumsum(filled) / max(1, filled.sum())
    opacity = np.where(levels > 0, 0.45 + 0.55 * rank, 0)[inverse].reshape(counts.shape)
    axis.imshow(np.dstack([colours, opacity]), extent=extent, interpolation="nearest", aspect="equal")


def _spread(colours: Any, counts: Floats) -> tuple[Any, Floats]:
    """Pixels that stand almost alone, which would be lost, grow over the empty ones beside them."""
    size = len(counts)
    around = np.pad(counts, 1)
    beside = [(slice(r, r + size), slice(c, c + size)) for r in range(3) for c in range(3)]
    lonely = (counts > 0) & (sum((around[one] > 0).astype(np.int64) for one in beside) <= LONELY)
    alone, tint = np.pad(np.where(lonely, counts, 0), 1), np.pad(colours, ((1, 1), (1, 1), (0, 0)))
    grown, found = np.array(colours), counts.copy()
    for one in (beside[1], beside[3], beside[5], beside[7]):
        free = (found == 0) & (alone[one] > 0)
        found[free], grown[free] = alone[one][free], tint[one][free]
    return grown, found


def _told(axis: Axes, points: int, outside: int) -> None:
    more = f", {outside:,} outside the frame" if outside else ""
    axis.text(
        0,
        -0.01,
        f"{points:,} {'sequence' if points == 1 else 'sequences'}{more}",
        transform=axis.transAxes,
        va="top",
        fontsize=8,
        color="#666666",
    )


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:33]}…"
