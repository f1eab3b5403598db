"""Points of a plane, a thousand to ten million: discs for few points, pixels for many."""

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
from numpy.typing import ArrayLike, NDArray

from kinmer.plots.style import MARKERS, PALETTE, STYLE, color_bar, panels_of, plain, span

# Up to so many points are drawn as discs, more as pixels.
FEW = 20_000
PIXELS = 900
# A point that lies more than a map's width beyond all but this share of the rest is left out of the frame.
OUTLYING = 0.02
# Among fewer points none is called an outlier.
ENOUGH = 20
# Points whose pixels are counted together.
BLOCK = 1_000_000
OTHERS = "#BFC5CB"
# What a missing value looks like.
UNKNOWN = ("", ".", "nan", "None", "<NA>")
SHOWN_GROUPS = 7
# Filled pixels of three by three, up to which the one in the middle stands almost alone.
LONELY = 3
# Cells along each side of the grid in which groups are compared.
CELLS = 75
DIFFERENCE = LinearSegmentedColormap.from_list(
    "difference", ["#C75100", "#F2A35E", "#D3D8DC", "#9C86C9", "#4A2A8A"]
)
Floats = NDArray[np.float64]
Extent = tuple[float, float, float, float]


@matplotlib.rc_context(STYLE)
def scatter_by_category(
    points: ArrayLike,
    panels: Mapping[str, Sequence[str]],
    *,
    xlabel: str = "component 1",
    ylabel: str = "component 2",
    largest: int = 7,
) -> Figure:
    """Points (n, 2), one panel per labeling, colored by its categories.

    panels : title -> one label per point. The `largest` categories have a color and a marker each, the others
        are gray.
    """
    where = np.asarray(points, float)
    figure, axes = panels_of(len(panels), width=4.6, height=4.6)
    size = float(np.clip(6000 / max(len(where), 1), 4, 24))
    look: Any = {"s": size, "linewidths": 0, "alpha": 0.75, "rasterized": True}
    for axis, (title, labels) in zip(axes, panels.items(), strict=True):
        kind = np.asarray(labels, dtype=object).astype(str)
        names, counts = np.unique(kind, return_counts=True)
        order = sorted(names[np.argsort(-counts, kind="stable")][:largest])
        rest = ~np.isin(kind, order)
        if rest.any():
            axis.scatter(*where[rest].T, color="#BBBBBB", marker="o", label="others", **look)
        for name, color, marker in zip(order, PALETTE, MARKERS, strict=False):
            axis.scatter(*where[kind == name].T, color=color, marker=marker, label=plain(name), **look)
        axis.set_title(plain(title), loc="left", pad=8)
        axis.set(xlabel=plain(xlabel), ylabel=plain(ylabel))
        below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2}
        scale = min(2.5, np.sqrt(36 / size))
        axis.legend(markerscale=scale, handletextpad=0.2, columnspacing=1.0, **below)
    return figure


@matplotlib.rc_context(STYLE)
def map_by_number(where: Floats, values: Floats, *, title: str = "", label: str = "") -> Figure:
    """Points (n, 2) colored by a number (n,), its mean in every pixel; gray if it is unknown."""
    figure, axis, extent = _frame(where, title, width=7.4)
    known = np.isfinite(values)
    low, high = np.quantile(values[known], (0.01, 0.99)) if known.any() else (0.0, 1.0)
    norm: Any = Normalize(*span(np.array([low, high])))
    if low > 0 and high / low > 20:
        norm = LogNorm(low, high)
    colors = matplotlib.colormaps["viridis"]
    if len(where) <= FEW:
        order = np.argsort(known, kind="stable")
        shown = np.where(known[:, None], colors(norm(np.where(known, values, low))), (*to_rgb(OTHERS), 1.0))
        _discs(axis, where[order], shown[order])
    else:
        counts = pixels(where[known], extent)
        sums = pixels(where[known], extent, values[known])
        mean = np.divide(sums, counts, out=np.full_like(sums, low), where=counts > 0)
        _image(axis, colors(norm(mean))[..., :3], pixels(where, extent), extent)
    below, above = (values[known] < norm.vmin).any(), (values[known] > norm.vmax).any()
    ends = ("both" if below else "max") if above else ("min" if below else "neither")
    color_bar(figure, ScalarMappable(norm, colors), axis, label, shrink=0.6, extend=ends)
    return figure


@matplotlib.rc_context(STYLE)
def map_by_category(
    where: Floats, names: Sequence[object] | NDArray[Any], *, title: str = "", label: str = ""
) -> Figure:
    """Points (n, 2) colored by a name (n,), the seven largest; a pixel by that of most of its points."""
    figure, axis, extent = _frame(where, title, width=8.2)
    group, shown, counts = _largest(names)
    colors = np.array([to_rgb(PALETTE[at]) for at in range(len(shown))] + [to_rgb(OTHERS)])
    if len(where) <= FEW:
        order = np.argsort(-group, kind="stable")  # The named lie on top of the rest.
        _discs(axis, where[order], colors[group[order]])
    else:
        most = np.stack([pixels(where[group == at], extent) for at in range(len(colors))])
        _image(axis, colors[most.argmax(axis=0)], most.sum(axis=0), extent)
    handles = [
        Line2D([], [], linestyle="", marker="o", color=color, label=f"{plain(_short(name))} ({count:,})")
        for name, count, color in zip([*shown, "others"], counts, colors, strict=True)
        if count
    ]
    beside: Any = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "alignment": "left"}
    axis.legend(handles=handles, title=plain(label), **beside)
    return figure


def _largest(names: Sequence[object] | NDArray[Any]) -> tuple[NDArray[np.int64], list[str], list[int]]:
    """Numbers (n,) of the largest groups and of all others, names of the largest, sizes of all."""
    codes, kinds = pd.factorize(np.asarray(names, dtype=object))
    # Names that look the same are the same; the last position is that of missing values.
    alike, texts = pd.factorize(np.array([*(str(kind) for kind in kinds), ""], dtype=object))
    codes = alike[codes]
    counts = np.bincount(codes, minlength=len(texts))
    named = [at for at in np.lexsort((texts, -counts)) if counts[at] and texts[at] not in UNKNOWN]
    shown = named[:SHOWN_GROUPS]
    number = np.full(len(texts), len(shown))
    number[shown] = np.arange(len(shown))
    group = number[codes]
    sizes = np.bincount(group, minlength=len(shown) + 1)
    return group, [str(texts[at]) for at in shown], sizes.tolist()


@matplotlib.rc_context(STYLE)
def map_plain(where: Floats, *, title: str = "") -> Figure:
    """Points (n, 2) in one color, darker where there are many."""
    figure, axis, extent = _frame(where, title, width=6.4)
    color = np.array(to_rgb(PALETTE[0]))
    if len(where) <= FEW:
        _discs(axis, where, np.broadcast_to(color, (len(where), 3)))
    else:
        _image(axis, np.broadcast_to(color, (PIXELS, PIXELS, 3)), pixels(where, extent), extent)
    return figure


@matplotlib.rc_context(STYLE)
def density_difference(
    where: Floats, names: Sequence[object], pair: tuple[str, str], *, title: str = ""
) -> Figure:
    """Points (n, 2) colored by how much denser one of two groups is around them, as by `share_gap`.

    pair : the two names among `names` (n,). Violet where the first is denser, orange where the second is,
        gray where they are alike.
    """
    figure, axis, extent = _frame(where, title, width=7.4)
    gap = share_gap(where, names, pair, extent)
    column = np.clip((where[:, 0] - extent[0]) / (extent[1] - extent[0]) * CELLS, 0, CELLS - 1).astype(int)
    row = np.clip((extent[3] - where[:, 1]) / (extent[3] - extent[2]) * CELLS, 0, CELLS - 1).astype(int)
    gaps = gap[row, column]
    # The one cell that differs most would leave all others pale.
    widest = float(np.quantile(np.abs(gaps), 0.95)) or float(np.abs(gap).max()) or 1.0
    norm = Normalize(-widest, widest)
    if len(where) <= FEW:
        _discs(axis, where, DIFFERENCE(norm(gaps)))
    else:
        finer = np.repeat(np.repeat(gap, PIXELS // CELLS, axis=0), PIXELS // CELLS, axis=1)
        _image(axis, DIFFERENCE(norm(finer))[..., :3], pixels(where, extent), extent)
    label = f"{_short(pair[0])} minus {_short(pair[1])}, ‰ of each group per cell"
    ends = "both" if np.abs(gaps).max() > widest else "neither"
    color_bar(figure, ScalarMappable(norm, DIFFERENCE), axis, label, shrink=0.6, extend=ends)
    return figure


def share_gap(
    where: Floats,
    names: Sequence[object],
    pair: tuple[str, str],
    extent: Sequence[float],
    *,
    cells: int = CELLS,
) -> Floats:
    """(cells, cells) share of the first of `pair` minus that of the second, ‰, blurred over neighbors."""
    kind = np.array([str(name) for name in names], dtype=object)
    share = []
    for name in pair:
        counts = pixels(where[kind == name], extent, size=cells)
        share.append(1000 * counts / max(1.0, counts.sum()))
    # Every cell with its neighbors, 1 2 1 in both directions.
    padded = np.pad(share[0] - share[1], 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    blurred: Floats = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return blurred


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
        at = (row[inside] * size + column[inside]).astype(np.int64)
        given = None if weights is None else weights[start : start + BLOCK][inside]
        sums += np.bincount(at, given, minlength=size * size)
    return sums.reshape(size, size)


def _frame(where: Floats, title: str, *, width: float) -> tuple[Figure, Axes, Extent]:
    """A figure with an empty square frame for points (n, 2), which says how many there are."""
    figure, (axis,) = panels_of(1, width=width, height=6.2)
    x0, x1, y0, y1, outside = extent_of(where)
    axis.set(xlim=(x0, x1), ylim=(y0, y1), aspect="equal", xticks=[], yticks=[])
    axis.grid(visible=False)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if title:
        axis.set_title(plain(title), loc="left")
    said = f"{len(where):,} {'sequence' if len(where) == 1 else 'sequences'}"
    said += f", {outside:,} outside the frame" if outside else ""
    axis.text(0, -0.01, said, transform=axis.transAxes, va="top", fontsize=8, color="#666666")
    return figure, axis, (x0, x1, y0, y1)


def _discs(axis: Axes, where: Floats, colors: Any) -> None:
    size = float(np.clip(16_000 / max(len(where), 1), 3, 60))
    axis.scatter(where[:, 0], where[:, 1], s=size, c=colors, linewidths=0, alpha=0.8, rasterized=True)


def _image(axis: Axes, colors: Any, counts: Floats, extent: Extent) -> None:
    """Colors (s, s, 3), the more opaque the more points a pixel has, by the rank of its count."""
    colors, counts = _spread(colors, counts)
    levels, inverse = np.unique(counts, return_inverse=True)
    filled = np.bincount(inverse.ravel())
    filled[levels == 0] = 0
    rank = np.cumsum(filled) / max(1, filled.sum())
    opacity = np.where(levels > 0, 0.45 + 0.55 * rank, 0)[inverse].reshape(counts.shape)
    axis.imshow(np.dstack([colors, opacity]), extent=extent, interpolation="nearest", aspect="equal")


def _spread(colors: Any, counts: Floats) -> tuple[Any, Floats]:
    """Pixels that stand almost alone, which would be lost, grow over the empty ones beside them."""
    size = len(counts)
    around = np.pad(counts, 1)
    beside = [(slice(r, r + size), slice(c, c + size)) for r in range(3) for c in range(3)]
    lonely = (counts > 0) & (sum((around[part] > 0).astype(np.int64) for part in beside) <= LONELY)
    alone, tint = np.pad(np.where(lonely, counts, 0), 1), np.pad(colors, ((1, 1), (1, 1), (0, 0)))
    grown, grown_counts = np.array(colors), counts.copy()
    for part in (beside[1], beside[3], beside[5], beside[7]):
        free = (grown_counts == 0) & (alone[part] > 0)
        grown_counts[free], grown[free] = alone[part][free], tint[part][free]
    return grown, grown_counts


def _short(name: str) -> str:
    return name if len(name) <= 34 else f"{name[:33]}…"
