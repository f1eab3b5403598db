"""Training: settings, the loop, and what it stands on; `train` is the way in."""

from kinmer.training.loop import train
from kinmer.training.settings import PRESETS, TrainSettings, clr_settings, train_settings

__all__ = ["PRESETS", "TrainSettings", "clr_settings", "train", "train_settings"]
