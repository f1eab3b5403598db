"""Training: settings, the loop, and what it stands on; `train` is the way in.

The settings load without PyTorch, which `train` needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinmer.errors import require
from kinmer.training.settings import PRESETS, TrainSettings, train_settings

if TYPE_CHECKING:
    from kinmer.training.loop import train as train

__all__ = ["PRESETS", "TrainSettings", "train", "train_settings"]


def __getattr__(name: str) -> Any:
    if name != "train":
        raise AttributeError(f"module 'kinmer.training' has no attribute {name!r}")
    require("torch", "training needs it", "train")
    require("matplotlib", "training draws its curve with it", "train")
    from kinmer.training.loop import train

    return train
