"""Arrays to figures, in one style. Every function returns a `Figure`; `save` writes it as PNG and SVG."""

from kinmer.plots.charts import (
    distance_against_mse,
    lengths_and_gc,
    mse_by_rank,
    retrieval_bars,
    retrieval_panels,
    sweep_map,
    sweep_panels,
)
from kinmer.plots.scatter import scatter_by_category
from kinmer.plots.style import PALETTE, save

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
