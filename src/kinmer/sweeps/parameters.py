"""What a sweep varies: values and ranges of training settings, and the optuna study that draws from them."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal, cast

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from kinmer.errors import UsageError
from kinmer.training.settings import TrainSettings, number_type, parse_value, text_of, train_settings

SearchKind = Literal["grid", "random", "tpe"]
NAME_LETTERS = 12


@dataclass(frozen=True)
class Range:
    """From `low` to `high`, both included, drawn evenly or (`log`) evenly in the logarithm.

    Raises UsageError where that is not a range.
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
    values = settings.to_dict()
    text = json.dumps({name: values[name] for name in settings.changes()}, sort_keys=True)
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


# ---- the search


class Search:
    """Settings to try, as optuna knows them: choices by their texts, numbers as they are.

    Parameters
    ----------
    draws : settings to try in all; a grid has as many as its product.
    maximise : whether a larger score is better.
    """

    def __init__(self, kind: SearchKind, space: Space, draws: int, seed: int, maximise: bool) -> None:
        self.kind, self.space, self.seed, self.maximise = kind, space, seed, maximise
        self._values = {name: {text_of(one): one for one in some} for name, some in space.choices.items()}
        self.distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(tuple(values)) for name, values in self._values.items()
        }
        for name, span in space.ranges.items():
            low, high = span.ends
            if span.whole:
                self.distributions[name] = IntDistribution(int(low), int(high), log=span.log)
            else:
                self.distributions[name] = FloatDistribution(low, high, log=span.log)
        self.number = len(space.product()) if kind == "grid" else draws

    def study(self, journal: Path) -> optuna.Study:
        """The study in a journal; what another call left unfinished there has failed."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        _mend(journal)
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=_Held(str(journal)))),
            study_name=self._name(),
            direction="maximize" if self.maximise else "minimize",
            load_if_exists=True,
        )
        for _ in study.get_trials(states=(TrialState.WAITING,)):
            study.ask()
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)
        return study

    def _name(self) -> str:
        """One study for one space: more draws add to it, other choices begin another."""
        facts = {
            "kind": self.kind,
            "seed": self.seed,
            "maximise": self.maximise,
            "preset": self.space.preset,
            "fixed": {name: text_of(value) for name, value in self.space.fixed.items()},
            "varied": {name: repr(one) for name, one in self.distributions.items()},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def known(self, study: optuna.Study) -> list[dict[str, Any]]:
        """Settings to try that do not depend on scores, and those that were drawn before."""
        if self.kind == "grid":
            return [{name: text_of(value) for name, value in one.items()} for one in self.space.product()]
        if self.kind == "random":
            drawn = [self.draw(study, number) for number in range(self.number)]
        else:
            # A kill in the middle of a draw leaves a part of its settings.
            drawn = [one.params for one in study.trials if self.distributions.keys() <= one.params.keys()]
        texts = [tuple((name, one[name]) for name in self.distributions) for one in drawn]
        return [dict(one) for one in dict.fromkeys(texts)][: self.number]

    def draw(self, study: optuna.Study, number: int, trial: FrozenTrial | None = None) -> dict[str, Any]:
        """The settings of a draw. Each has a seed of its own, so that a resumed search draws new ones."""
        seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4])
        sampler = TPESampler(seed=seed) if self.kind == "tpe" else RandomSampler(seed=seed)
        return {
            name: sampler.sample_independent(study, cast(FrozenTrial, trial), name, one)
            for name, one in self.distributions.items()
        }

    def varied(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The settings' values."""
        return {
            name: self._values[name][params[name]] if name in self._values else params[name]
            for name in self.distributions
        }

    def suggested(self, trial: optuna.Trial) -> dict[str, Any]:
        """The values of optuna's trial, which are then in the journal."""
        for name, one in self.distributions.items():
            if isinstance(one, CategoricalDistribution):
                trial.suggest_categorical(name, one.choices)
            elif isinstance(one, IntDistribution):
                trial.suggest_int(name, one.low, one.high, log=one.log)
            elif isinstance(one, FloatDistribution):
                trial.suggest_float(name, one.low, one.high, log=one.log)
        return self.varied(trial.params)


class Sampler(BaseSampler):
    """Gives the settings that are known and not finished, then new draws."""

    def __init__(self, search: Search, left: list[dict[str, Any]], drawn: int) -> None:
        self._search, self._left, self._drawn, self._lock = search, deque(left), drawn, Lock()

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._search.distributions

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        with self._lock:
            if self._left:
                return self._left.popleft()
            self._drawn += 1
            return self._search.draw(study, self._drawn - 1, trial)

    def sample_independent(self, *given: Any) -> Any:
        raise AssertionError("all settings are drawn together")


class _Held(JournalFileOpenLock):
    """Not a lock of its own: one that a killed process leaves behind would stop the next one for a while."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


def _mend(journal: Path) -> None:
    """Drop a last line that a kill cut off."""
    if journal.exists():
        content = journal.read_bytes()
        if not content.endswith(b"\n"):
            with journal.open("r+b") as file:
                file.truncate(content.rfind(b"\n") + 1)
