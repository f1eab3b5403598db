"""Settings of a training: types, limits and meanings in one place, the same in JSON and as text."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.errors import FormatError, KinmerError, UsageError
from kinmer.layout import Layout

BLOCK_CLR = Clr(scope="block", pseudocount="relative", value=0.5)
# The original pipeline's transform is over the 2,772 features of the 6- to 1-mers.
ORIGINAL_K = 6


def _setting(default: Any, meaning: str, **limits: float) -> Any:
    """A field with its meaning and limits: least is included, above and below are not."""
    return field(default=default, metadata={"meaning": meaning, "limits": limits})


@dataclass(frozen=True, kw_only=True, repr=False)
class TrainSettings:
    """How to train an encoder; `settings_table` lists every setting with its meaning.

    Without changes these are the settings of the original pipeline, with a CLR per block and a pseudocount of
    0.5/n in place of its joint CLR with 1e-6, because that finds far more relatives.

    Raises
    ------
    UsageError : a value has the wrong type, is out of its limits, or does not go with another one.
    """

    latent: int = _setting(384, "dimensions of the latent space, which is the embedding", least=1)
    hidden: tuple[int, ...] = _setting(
        (1024, 512), "sizes of the encoder's hidden layers; the decoder mirrors them", least=1
    )
    beta: float = _setting(0.05, "weight of the KL part", least=0)
    warmup_epochs: int = _setting(
        10, "epochs in which that weight rises from 0; never more than half of all epochs", least=0
    )
    learning_rate: float = _setting(1e-4, "learning rate of Adam at the start", above=0)
    min_learning_rate: float = _setting(1e-6, "the lowest learning rate", least=0)
    plateau_patience: int = _setting(
        10, "epochs without a better validation loss before the learning rate is lowered", least=1
    )
    plateau_factor: float = _setting(0.5, "what the learning rate is then multiplied by", above=0, below=1)
    stop_patience: int = _setting(
        40, "epochs without a better validation loss before training ends; 0: never", least=0
    )
    batch: int = _setting(1024, "rows of a step, over all processes", least=2)
    epochs: int = _setting(200, "passes over the training rows at most", least=1)
    validation: float = _setting(0.1, "share of rows held out for validation", above=0, below=1)
    seed: int = _setting(0, "seed of weights, split, order and noise", least=0, below=2**63)
    clr: Clr = _setting(BLOCK_CLR, "the centered log-ratio transform")  # noqa: RUF009
    precision: Literal["auto", "fp32", "bf16"] = _setting(
        "auto", "precision of the training; auto is bf16 where the machine multiplies it natively"
    )
    embedding_precision: Literal["fp32", "bf16"] = _setting(
        "fp32", "precision of the trained encoder; bf16 is faster, distances within 1e-3"
    )
    compile: bool = _setting(False, "compile the step with TorchInductor; needs a C++ compiler")
    weight_decay: float = _setting(0.0, "decay of all matrices, decoupled (AdamW)", least=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        for name, known in _known().items():
            if "." not in name:
                value = getattr(self, name)
                _check(name, value, _fits(known.kind, value, known.limits), _wanted(known.kind, known.limits))
        _check("hidden", self.hidden, bool(self.hidden), "one or more layers")
        rate, floor = self.learning_rate, self.min_learning_rate
        _check("min_learning_rate", floor, floor <= rate, "between 0 and learning_rate")

    def __repr__(self) -> str:
        return f"TrainSettings({', '.join(f'{name}={value!r}' for name, value in self.changes().items())})"

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


def train_settings(preset: str = "default", **changes: Any) -> TrainSettings:
    """The settings of a preset with some changed.

    Parameters
    ----------
    preset : ``default`` or ``original`` (also ``reference``).
    changes : values, or texts of them, by the setting's name; ``clr.scope`` and the like for a part of one.

    Raises
    ------
    UsageError : an unknown preset or setting, or a value that makes no sense.
    """
    base = PRESETS.get(ALIASES.get(preset, preset))
    if base is None:
        raise UsageError(f"there is no preset {preset!r}", check=f"presets: {', '.join(PRESETS)}")
    values: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        owner, _, part = name.partition(".")
        target = parts.setdefault(owner, {}) if part else values
        target[part or name] = parse_value(name, value)
    for owner, some in parts.items():
        values[owner] = replace(values.get(owner, getattr(base, owner)), **some)
    return replace(base, **values)


def settings_table() -> str:
    """All settings with what they take, the default and the meaning: a table in Markdown."""
    rows = [("setting", "takes", "default", "meaning"), ("---",) * 4]
    for name, known in _known().items():
        if not is_dataclass(known.kind):
            takes = _wanted(known.kind, known.limits)
            rows.append((f"`{name}`", takes, f"`{text_of(known.default).lower()}`", known.meaning))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in JSON form with dotted names for parts of a setting."""
    named: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            named |= {f"{name}.{part}": one for part, one in flat(value).items()}
        else:
            named[name] = value
    return named


def text_of(value: Any) -> str:
    """A value as `parse_value` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(text_of, value))
    return repr(value) if isinstance(value, float) else str(value)


def parse_value(name: str, value: Any) -> Any:
    """A setting's value out of its text, by the setting's type; anything but a text stays as it is.

    Raises UsageError for an unknown name or a text that is not such a value.
    """
    kind = _kind(name)
    if not isinstance(value, str):
        return value
    try:
        return _read(kind, value.strip())
    except ValueError:
        raise UsageError(f"the training setting {name} is {_wanted(kind)}, not {value!r}") from None


def number_type(name: str) -> type[int] | type[float]:
    """int or float, whichever a setting is; UsageError for a setting that is not a number."""
    kind = _kind(name)
    if kind not in (int, float):
        raise UsageError(f"the training setting {name} has no range", "it is not a number")
    return int if kind is int else float


class _Known(NamedTuple):
    kind: Any
    default: Any
    meaning: str
    limits: Mapping[str, float]


_CLR_PARTS = {
    "scope": "block centers every k on its own; joint all together, as the original pipeline",
    "pseudocount": "what the value is added to: relative, frequencies, as value/n; constant; counts",
    "value": "the pseudocount's value",
}


@cache
def _known() -> dict[str, _Known]:
    """Every setting, and every part of a setting that has parts, by name."""
    named: dict[str, _Known] = {}
    hints, parts = get_type_hints(TrainSettings), get_type_hints(Clr)
    for one in fields(TrainSettings):
        default, meaning, limits = one.default, one.metadata["meaning"], one.metadata["limits"]
        named[one.name] = _Known(hints[one.name], default, meaning, limits)
    for part, meaning in _CLR_PARTS.items():
        limits = {"above": 0.0} if part == "value" else {}
        named[f"clr.{part}"] = _Known(parts[part], getattr(BLOCK_CLR, part), meaning, limits)
    return named


def _kind(name: str) -> Any:
    if name not in _known():
        there = (one for one, known in _known().items() if not is_dataclass(known.kind))
        raise UsageError(f"there is no training setting {name!r}", check=f"there are {', '.join(there)}")
    return _known()[name].kind


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise UsageError(f"the training setting {name} must be {wanted}, not {value!r}")


_TESTS = {"least": operator.ge, "above": operator.gt, "below": operator.lt}


def _fits(kind: Any, value: Any, limits: Mapping[str, float]) -> bool:
    """Whether a value is of a type and within its limits."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return value in inside
    if origin is tuple:
        return all(_fits(inside[0], one, limits) for one in value)
    if kind not in (int, float):
        return isinstance(value, kind)
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else int):
        return False
    return math.isfinite(value) and all(_TESTS[name](value, limit) for name, limit in limits.items())


def _read(kind: Any, text: str) -> Any:
    """A value of type `kind`; ValueError where the text is none."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is tuple:
        return tuple(_read(inside[0], one) for one in text.replace(",", "x").split("x"))
    if kind in (int, float, str):
        return kind(text)
    named = {"true": True, "false": False} if kind is bool else {}
    known = {one: one for one in inside} if origin is Literal else named
    key = text if origin is Literal else text.lower()
    if key not in known:
        raise ValueError(text)
    return known[key]


def _wanted(kind: Any, limits: Mapping[str, float] | None = None) -> str:
    """What a setting of this type takes, in words."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, inside))
    if origin is tuple:
        return f"values joined by x, each {_wanted(inside[0], limits)}"
    if is_dataclass(kind):
        return f"given part by part ({', '.join(one.name for one in fields(kind))})"
    named = {int: "a whole number", float: "a number", bool: "true or false"}
    text = named.get(kind, "a text")
    if not limits or kind not in (int, float):
        return text
    low, high = limits.get("least", limits.get("above")), limits.get("below")
    if high is None or kind is int:
        return f"{text} {'of at least' if 'least' in limits else 'above'} {low}"
    return f"between {low} and {high}"


PRESETS: dict[str, TrainSettings] = {
    "default": TrainSettings(),
    # The final configuration of the original pipeline: 500 epochs at most, joint CLR with pseudocount 1e-6.
    "original": TrainSettings(epochs=500, clr=REFERENCE_CLR),
}
# Names of presets that were used before.
ALIASES = {"reference": "original"}


def check_original(settings: TrainSettings, layout: Layout) -> None:
    """Refuse 7-mers under the original pipeline's transform: its joint CLR is over the 6- to 1-mers."""
    if settings.clr == REFERENCE_CLR and layout.ks[0] > ORIGINAL_K:
        raise UsageError(
            f"the preset original takes 6- to 1-mers, 2,772 features, these are {layout.width:,}",
            f"{layout.ks[0]}-mers would be another transform than the original pipeline's",
            "leave them out: kinmer import or count with --max-k 6",
        )
