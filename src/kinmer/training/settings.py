"""Settings of a training: checked at once, the same in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.errors import FormatError, KinmerError, UsageError

__all__ = ["PRESETS", "TrainPrecision", "TrainSettings", "clr_settings", "train_settings"]

BLOCK_CLR = Clr(scope="block", pseudocount="relative", value=0.5)
TrainPrecision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train a VAE; raises UsageError where a value makes no sense.

    Without changes these are the reference's settings, with a CLR per block and a pseudocount of 0.5/n in
    place of its joint CLR with 1e-6, because that finds far more kin.

    Parameters
    ----------
    latent, hidden : sizes of the latent space and of the encoder's hidden layers (the decoder mirrors them).
    beta : weight of the KL part.
    warmup_epochs : epochs in which that weight rises linearly from 0; never more than half of `epochs`.
    learning_rate, min_learning_rate : of Adam, at first and at least.
    plateau_patience, plateau_factor : after so many epochs without a better validation loss the learning
        rate is multiplied by the factor.
    stop_patience : training ends after so many epochs without a better validation loss; 0: never early.
    batch : rows of a step, over all processes.
    epochs : passes over the training rows at most.
    validation : share of the rows held out for validation.
    seed : of weights, split, order and noise; whole number from 0.
    clr : the transform.
    precision : of the training's matrix products; ``auto`` is bf16 where the machine multiplies it natively.
    embedding_precision : of the trained encoder's.
    compile : compile the step with TorchInductor; needs a C++ compiler.
    """

    latent: int = 384
    hidden: tuple[int, ...] = (1024, 512)
    beta: float = 0.05
    warmup_epochs: int = 10
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-6
    plateau_patience: int = 10
    plateau_factor: float = 0.5
    stop_patience: int = 40
    batch: int = 1024
    epochs: int = 200
    validation: float = 0.1
    seed: int = 0
    clr: Clr = BLOCK_CLR
    precision: TrainPrecision = "auto"
    embedding_precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        least = {"latent": 1, "warmup_epochs": 0, "plateau_patience": 1, "stop_patience": 0, "batch": 2}
        for name, low in {**least, "epochs": 1, "seed": 0}.items():
            value = getattr(self, name)
            _check(name, value, type(value) is int and value >= low, f"a whole number of at least {low}")
        _check("seed", self.seed, self.seed < 2**63, "below 2^63")
        sizes = all(type(size) is int and size >= 1 for size in self.hidden)
        _check("hidden", self.hidden, bool(self.hidden) and sizes, "one or more whole numbers of at least 1")
        _check("beta", self.beta, _number(self.beta) and self.beta >= 0, "a number of at least 0")
        rate, floor = self.learning_rate, self.min_learning_rate
        _check("learning_rate", rate, _number(rate) and rate > 0, "a number above 0")
        _check(
            "min_learning_rate", floor, _number(floor) and 0 <= floor <= rate, "between 0 and learning_rate"
        )
        for name in ("plateau_factor", "validation"):
            value = getattr(self, name)
            _check(name, value, _number(value) and 0 < value < 1, "between 0 and 1")
        _check("clr", self.clr, isinstance(self.clr, Clr), "a Clr")
        _check("precision", self.precision, self.precision in get_args(TrainPrecision), "auto, fp32 or bf16")
        own = self.embedding_precision
        _check("embedding_precision", own, own in ("fp32", "bf16"), "fp32 or bf16")
        _check("compile", self.compile, isinstance(self.compile, bool), "true or false")

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.changes().items())
        return f"TrainSettings({', '.join(changed)})"

    def changes(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        pairs = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in pairs.items() if value != default}

    @property
    def warmup(self) -> int:
        """Warm-up epochs of this training: `warmup_epochs`, but at most half of `epochs`."""
        return min(self.warmup_epochs, self.epochs // 2)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {**asdict(self), "hidden": list(self.hidden), "clr": self.clr.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainSettings:
        """Inverse of `to_dict`, defaults for what is missing; FormatError for what is unknown."""
        unknown = sorted(set(data) - {one.name for one in fields(cls)})
        if unknown:
            raise FormatError(f"unknown settings of training: {', '.join(unknown)}")
        try:
            values = dict(data)
            if "clr" in values:
                values["clr"] = Clr.from_dict(values["clr"])
            return cls(**values)
        except (KinmerError, TypeError, KeyError, ValueError) as error:
            raise FormatError("the settings of training cannot be read", str(error)) from error


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise UsageError(f"the training setting {name} must be {wanted}, not {value!r}")


PRESETS: dict[str, TrainSettings] = {
    "default": TrainSettings(),
    # The reference system's final configuration: 500 epochs at most, joint CLR with pseudocount 1e-6.
    "reference": TrainSettings(epochs=500, clr=REFERENCE_CLR),
}


def train_settings(preset: str = "default", **changes: Any) -> TrainSettings:
    """The preset's settings with some changed; UsageError for an unknown preset or setting."""
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", check=f"presets: {', '.join(PRESETS)}")
    names = {one.name for one in fields(TrainSettings)}
    unknown = sorted(set(changes) - names)
    if unknown:
        raise UsageError(
            f"unknown settings of training: {', '.join(unknown)}", check=", ".join(sorted(names))
        )
    return replace(PRESETS[preset], **changes)


def clr_settings(
    settings: TrainSettings,
    *,
    scope: str | None = None,
    pseudocount: str | None = None,
    value: float | None = None,
) -> TrainSettings:
    """The settings with parts of their transform changed; UsageError where a part makes no sense."""
    given = {"scope": scope, "pseudocount": pseudocount, "value": value}
    changes: dict[str, Any] = {name: part for name, part in given.items() if part is not None}
    return replace(settings, clr=replace(settings.clr, **changes))
