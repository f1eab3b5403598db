"""Arrays to figures, in one style.

Every function gives a `Figure`; `save` writes it as PNG and SVG.
"""

from kinmer.plots.locality import distance_against_mse, mse_by_rank
from kinmer.plots.retrieval import retrieval_bars, retrieval_panels
from kinmer.plots.sequences import lengths_and_gc, scatter_by_category
from kinmer.plots.style import PALETTE, save
from kinmer.plots.sweeps import sweep_map, sweep_panels

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
