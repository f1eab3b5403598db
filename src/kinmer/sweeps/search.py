"""Which settings are tried next: an optuna study in a journal beside the trials."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from kinmer.sweeps.parameters import Space
from kinmer.training.settings import text_of

__all__ = ["Draw", "Search", "SearchKind"]

SearchKind = Literal["grid", "random", "tpe"]


class Draw(NamedTuple):
    """Settings to try. number : of the study's trial. varied : by name. told : whether its score is known."""

    number: int
    varied: dict[str, Any]
    told: bool


class Search:
    """Settings one after the other; the same ones again for the same journal, space and seed.

    Parameters
    ----------
    journal : file that the study is kept in. One process at a time: the caller holds the folder.
    draws : settings to try in all; a grid has as many as its product.
    maximise : whether a larger score is better.
    """

    def __init__(
        self, journal: Path, space: Space, kind: SearchKind, *, draws: int, seed: int, maximise: bool
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._kind, self._seed, self._draws = kind, seed, draws
        self._values = {name: {text_of(one): one for one in values} for name, values in space.choices.items()}
        self._distributions: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(tuple(values)) for name, values in self._values.items()
        }
        for name, span in space.ranges.items():
            low, high = span.ends
            if span.whole:
                self._distributions[name] = IntDistribution(int(low), int(high), log=span.log)
            else:
                self._distributions[name] = FloatDistribution(low, high, log=span.log)
        _mend(journal)
        self._study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), lock_obj=_Held(str(journal)))),
            study_name=self._name(space, maximise),
            direction="maximize" if maximise else "minimize",
            load_if_exists=True,
        )
        if kind == "grid":
            # Named one by one, so that the order is the given one and none is tried twice.
            for one in space.product():
                named = {name: text_of(value) for name, value in one.items()}
                self._study.enqueue_trial(named, skip_if_exists=True)

    def _name(self, space: Space, maximise: bool) -> str:
        """One study for one space: more draws go on with it, other choices begin another."""
        facts = {
            "kind": self._kind,
            "seed": self._seed,
            "maximise": maximise,
            "preset": space.preset,
            "fixed": {name: text_of(value) for name, value in space.fixed.items()},
            "varied": {name: repr(one) for name, one in self._distributions.items()},
        }
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]

    def begun(self) -> list[Draw]:
        """What was drawn before, whether it was finished or not."""
        for one in self._study.trials:
            if one.state == TrialState.RUNNING and not self._whole(one):
                # A kill in the middle of the drawing; the next draw has its seed and takes its place.
                self._study.tell(one.number, state=TrialState.FAIL)
        return [self._draw(one) for one in self._asked()[: self._draws]]

    def ask(self) -> Draw | None:
        """Settings that were not asked for yet; None where there are enough."""
        number = len(self._asked())
        if number >= self._draws:
            return None
        self._study.sampler = self._sampler(number)
        trial = self._study.ask(self._distributions)
        return self._draw(self._study.trials[trial.number])

    def tell(self, draw: Draw, score: float | None) -> None:
        """The mean score of a setting; None: it failed. What is known already stays."""
        if self._study.trials[draw.number].state == TrialState.RUNNING:
            if score is None:
                self._study.tell(draw.number, state=TrialState.FAIL)
            else:
                self._study.tell(draw.number, score)

    def _sampler(self, number: int) -> BaseSampler:
        """Seeded anew for every draw: a search that goes on must not draw its first settings again."""
        seed = int.from_bytes(hashlib.sha256(f"{self._seed}:{number}".encode()).digest()[:4])
        return TPESampler(seed=seed) if self._kind == "tpe" else RandomSampler(seed=seed)

    def _draw(self, trial: FrozenTrial) -> Draw:
        params = _params(trial)
        varied = {
            name: self._values[name][params[name]] if name in self._values else params[name]
            for name in self._distributions
        }
        return Draw(trial.number, varied, trial.state.is_finished())

    def _asked(self) -> list[FrozenTrial]:
        trials = self._study.trials
        return [one for one in trials if one.state != TrialState.WAITING and self._whole(one)]

    def _whole(self, trial: FrozenTrial) -> bool:
        return self._distributions.keys() <= _params(trial).keys()


def _params(trial: FrozenTrial) -> dict[str, Any]:
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


class _Held(JournalFileOpenLock):
    """No lock of its own: one that a killed process leaves behind would stop the next one for a while."""

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
