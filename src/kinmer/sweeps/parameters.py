"""What a sweep varies: values and ranges of training settings, read from text by the settings' own types."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from kinmer.errors import UsageError
from kinmer.training.settings import TrainSettings, number_type, parse_value, text_of, train_settings

__all__ = ["Range", "Space", "parse_range", "trial_name"]


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
            named[name] = replace(span, whole=True) if number_type(name) is int else span
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
            train_settings(self.preset, **one)

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
        return train_settings(self.preset, **{**self.fixed, **varied, "seed": seed})


def trial_name(settings: TrainSettings) -> str:
    """A name that follows from the settings alone, the seed among them.

    Settings at their default do not count, so that a later version with more settings finds its trials again.
    """
    told = settings.to_dict()
    text = json.dumps({name: told[name] for name in settings.changes()}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:NAME_LETTERS]


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
