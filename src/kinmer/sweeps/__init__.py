"""A study over training settings and seeds; `sweep` is the way in."""

from __future__ import annotations

from kinmer.sweeps.parameters import Range
from kinmer.sweeps.study import sweep
from kinmer.sweeps.summaries import SweepReport

__all__ = ["Range", "SweepReport", "sweep"]
