"""A study over training settings and seeds; `sweep` is the way in. All of it needs optuna."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinmer.errors import require

if TYPE_CHECKING:
    from kinmer.sweeps.parameters import Range as Range
    from kinmer.sweeps.study import sweep as sweep
    from kinmer.sweeps.summaries import SweepReport as SweepReport

_FILES = {"Range": "parameters", "SweepReport": "summaries", "sweep": "study"}
__all__ = ["Range", "SweepReport", "sweep"]


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module 'kinmer.sweeps' has no attribute {name!r}")
    require("optuna", "a sweep needs it", "sweep")
    require("torch", "training needs it", "train")
    require("matplotlib", "the pictures of a sweep need it", "sweep")
    return getattr(import_module(f"kinmer.sweeps.{_FILES[name]}"), name)
