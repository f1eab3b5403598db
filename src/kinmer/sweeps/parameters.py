"""What a sweep varies: values and ranges of training settings, read from text by the settings' own types."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from kinmer.errors import UsageError
from kinmer.training import TrainSettings, train_settings

__all__ = ["Range", "Space", "flat", "parse_range", "parse_value", "settings_of", "text_of", "trial_name"]


NAME_LETTERS = 12


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included, drawn evenly or (`log`) evenly in the logarithm.

    Raises UsageError where that is no range.
    """

    low: float
    high: float
    log: bool = False
    whole: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise UsageError(f"a range goes from a number up to a larger one, not {self.low!r}:{self.high!r}")
        if self.log and self.low <= 0:
            raise UsageError(f"a range over a logarithm begins above 0, not at {self.low!r}")
        if self.whole and not (float(self.low).is_integer() and float(self.high).is_integer()):
            raise UsageError(
                f"a range of whole numbers has whole numbers as ends, not {self.low!r}:{self.high!r}"
            )

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends, as whole numbers where the range has only those."""
        return (int(self.low), int(self.high)) if self.whole else (self.low, self.high)


@dataclass(frozen=True)
class Space:
    """All settings that a sweep may try.

    choices : values by name. ranges : by name. fixed : of every trial. Names are those of `TrainSettings`,
    parts of a setting with a dot (``clr.scope``). Raises UsageError for unknown names or values.
    """

    preset: str
    choices: Mapping[str, tuple[Any, ...]]
    ranges: Mapping[str, Range]
    fixed: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        preset: str,
        choices: Mapping[str, Sequence[Any]],
        ranges: Mapping[str, Range | str],
        fixed: Mapping[str, Any],
    ) -> Space:
        """With texts read by the settings' types."""
        named: dict[str, Range] = {}
        for name, one in ranges.items():
            span = parse_range(one) if isinstance(one, str) else one
            kind = _kind(name)
            if kind not in (int, float):
                raise UsageError(f"the training setting {name} has no range", "it is no number")
            named[name] = replace(span, whole=True) if kind is int else span
        values = {
            name: tuple(parse_value(name, one) for one in _listed(some)) for name, some in choices.items()
        }
        return cls(preset, values, named, {name: parse_value(name, one) for name, one in fixed.items()})

    def __post_init__(self) -> None:
        names = [*self.choices, *self.ranges, *self.fixed]
        for name in names:
            if names.count(name) > 1:
                raise UsageError(f"the training setting {name} is given twice")
            if name == "seed":
                raise UsageError("the seeds of a sweep are given with --seeds")
        for name, values in self.choices.items():
            texts = [text_of(value) for value in values]
            if not texts or len(set(texts)) != len(texts):
                raise UsageError(f"the values of {name} are one or more, each once, not {', '.join(texts)}")
        for one in self._checked():
            settings_of(self.preset, one)

    def _checked(self) -> Iterator[dict[str, Any]]:
        """Changes that a bad value shows up in: the whole product, with either end of every range."""
        for one in self.product():
            yield {**self.fixed, **one}
            for name, span in self.ranges.items():
                yield from ({**self.fixed, **one, name: end} for end in span.ends)

    @property
    def names(self) -> tuple[str, ...]:
        """What is varied, choices first."""
        return (*self.choices, *self.ranges)

    def product(self) -> list[dict[str, Any]]:
        """Every combination of the choices, the last name changing fastest."""
        return [
            dict(zip(self.choices, one, strict=True)) for one in itertools.product(*self.choices.values())
        ]

    def settings(self, varied: Mapping[str, Any], seed: int) -> TrainSettings:
        """Of one trial; UsageError where values do not go together."""
        return settings_of(self.preset, {**self.fixed, **varied, "seed": seed})


def settings_of(preset: str, changes: Mapping[str, Any]) -> TrainSettings:
    """The preset's settings with some changed, parts of a setting by dotted names.

    Raises UsageError for unknown names and for values that make no sense.
    """
    base, plain = train_settings(preset), {}
    parts: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        _kind(name)
        owner, _, part = name.partition(".")
        if part:
            parts.setdefault(owner, {})[part] = value
        else:
            plain[name] = value
    for owner, some in parts.items():
        plain[owner] = replace(plain.get(owner, getattr(base, owner)), **some)
    return train_settings(preset, **plain)


def trial_name(settings: TrainSettings) -> str:
    """A name that follows from the settings alone, the seed among them.

    Settings at their default do not count, so that a later version with more settings finds its trials again.
    """
    told = settings.to_dict()
    text = json.dumps({name: told[name] for name in settings.changes()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_LETTERS]


def flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in JSON form with dotted names for parts of a setting."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{part}": one for part, one in flat(value).items()}
        else:
            found[name] = value
    return found


def text_of(value: Any) -> str:
    """A value as `parse_value` reads it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return "x".join(map(text_of, value))
    return repr(value) if isinstance(value, float) else str(value)


def parse_value(name: str, value: Any) -> Any:
    """A setting's value out of its text, by the setting's type; anything but a text stays as it is.

    Raises UsageError for an unknown name or a text that is no such value.
    """
    kind = _kind(name)
    if not isinstance(value, str):
        return value
    try:
        return _read(kind, value.strip())
    except ValueError:
        raise UsageError(f"the training setting {name} is {_wanted(kind)}, not {value!r}") from None


def parse_range(text: str) -> Range:
    """``low:high``, with ``:log`` or ``:int`` behind it; UsageError for anything else."""
    low, _, rest = text.partition(":")
    high, *flags = rest.split(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = math.nan, math.nan
    if not set(flags) <= {"log", "int"} or not all(map(math.isfinite, ends)):
        raise UsageError(f"a range is low:high, low:high:log or low:high:int, not {text!r}")
    return Range(*ends, log="log" in flags, whole="int" in flags)


def _listed(values: Sequence[Any] | str) -> Iterable[Any]:
    return values.split(",") if isinstance(values, str) else values


@cache
def _kinds() -> dict[str, Any]:
    """The type of every setting, and of every part of a setting that has parts."""
    found: dict[str, Any] = {}
    hints = get_type_hints(TrainSettings)
    for one in fields(TrainSettings):
        kind = found[one.name] = hints[one.name]
        if is_dataclass(kind):
            inner = get_type_hints(kind)
            found |= {f"{one.name}.{part.name}": inner[part.name] for part in fields(kind)}
    return found


def _kind(name: str) -> Any:
    if name not in _kinds():
        known = (one for one, kind in _kinds().items() if not is_dataclass(kind))
        raise UsageError(f"there is no training setting {name!r}", check=f"there are {', '.join(known)}")
    return _kinds()[name]


def _read(kind: Any, text: str) -> Any:
    """A value of type `kind`; ValueError where the text is none."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return next((one for one in inside if str(one) == text), None) or _fail(text)
    if origin in (Union, types.UnionType):
        for one in inside:
            try:
                return _read(one, text)
            except ValueError:
                continue
        return _fail(text)
    if kind is types.NoneType:
        return None if text.lower() == "none" else _fail(text)
    if origin is tuple:
        return tuple(_read(inside[0], one) for one in text.replace(",", "x").split("x"))
    if kind is bool:
        return (
            {"true": True, "false": False}[text.lower()] if text.lower() in ("true", "false") else _fail(text)
        )
    return kind(text) if kind in (int, float, str) else _fail(text)


def _fail(text: str) -> Any:
    raise ValueError(text)


def _wanted(kind: Any) -> str:
    """What a setting of this type takes, for people."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Literal:
        return " or ".join(map(str, inside))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_wanted, inside))
    if origin is tuple:
        return f"a row of values with x between them, each {_wanted(inside[0])}"
    if is_dataclass(kind):
        return f"given part by part ({', '.join(one.name for one in fields(kind))})"
    named = {int: "a whole number", float: "a number", bool: "true or false", types.NoneType: "none"}
    return named.get(kind, "a text")
