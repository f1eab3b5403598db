"""One style for all pictures; matplotlib's object interface, so nothing global changes."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

# Okabe and Ito's colors, which stay apart for every kind of color vision; black is kept for text.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DENSITY = LinearSegmentedColormap.from_list("density", ["#DCE9F5", "#6AAED6", "#0072B2", "#08306B"])
STYLE: Any = {
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
# A picture grows with its longest line of text.
LONGEST = 60
# A space of no width, which all fonts have.
_JOINT = "\u200b"


def save(figure: Figure, stem: str | Path, *, dpi: int = 160) -> list[Path]:
    """Write ``stem.png`` and ``stem.svg``, each complete or not at all; the same data give the same bytes."""
    stem = Path(stem)
    written = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        content = io.BytesIO()
        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # A character that the font lacks is drawn as a box; tables have the names as they are.
            warnings.filterwarnings("ignore", "Glyph .* missing from font")
            figure.savefig(content, format=kind, dpi=dpi, metadata=metadata)
        path = stem.with_name(f"{stem.name}.{kind}")
        aside = path.with_name(f".{path.name}.new")
        aside.write_bytes(content.getvalue())
        aside.replace(path)
        written.append(path)
    return written


def panels_of(
    number: int, *, width: float, height: float, columns: int | None = None, least: float = 0, top: float = 0
) -> tuple[Figure, list[Axes]]:
    """A figure with `number` panels of `width` × `height` inches, side by side or in rows of `columns`.

    least : smallest width of the figure; top : height to add for a legend, in inches.
    """
    across = min(columns or number, number)
    rows = -(-number // across)
    figure = Figure(figsize=(max(width * across, least), height * rows + top), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, [figure.add_subplot(rows, across, panel + 1) for panel in range(number)]


def legend_above(axis: Axes, *, columns: int) -> None:
    """A legend above the axis, in so many columns."""
    axis.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=columns, columnspacing=1.2, handlelength=1.6
    )


def color_bar(figure: Figure, drawn: Any, axis: Axes, label: str, **settings: Any) -> None:
    """A bar beside the axis that explains its colors."""
    bar = figure.colorbar(drawn, ax=axis, pad=0.02, **settings)
    bar.set_label(plain(label))
    bar.outline.set_visible(False)


def span(values: NDArray[np.float64]) -> tuple[float, float]:
    """The range of the values, widened if it is a single point."""
    low, high = float(values.min()), float(values.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = max(abs(low) * 0.05, 1e-6)
        return low - margin, high + margin
    return low, high


def bases(value: float, _: object = None) -> str:
    """Bases with a unit, for an axis."""
    for unit, size in (("Mb", 1e6), ("kb", 1e3)):
        if value >= size:
            return f"{value / size:g} {unit}"
    return f"{value:g} b"


def plain(text: object) -> str:
    """A text that matplotlib draws as it is: dollars mark no formula, and legends show it.

    Invisible characters are escaped, and what is longer than 60 characters is cut.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST - 1]}…"
    # A legend leaves out what begins with an underscore.
    return (_JOINT if shown.startswith("_") else "") + shown.replace("$", r"\$")
