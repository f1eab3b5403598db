"""A study over training settings and seeds; `sweep` is the way in."""

from kinmer.sweeping.report import SweepReport
from kinmer.sweeping.running import sweep
from kinmer.sweeping.space import Range

__all__ = ["Range", "SweepReport", "sweep"]
