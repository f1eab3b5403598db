"""One trial: a training, its scoring, and the record of both."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinmer.errors import KinmerError
from kinmer.sweeping.validation import Validation, score_of

__all__ = ["Setup", "Task", "failure", "is_final", "run_trial"]

# Such errors come again however often the trial is run; others (memory, disk, a kill) may not.
FINAL = ("TrainingError", "UsageError")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials have in common; JSON but for a `source` in memory. options : more of `kinmer.train`."""

    source: Any
    options: dict[str, Any]
    validation: Validation | None
    device: str
    threads: int | None
    memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for sources on disk."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """Inverse of `to_dict`."""
        validation = data["validation"]
        return cls(**{**data, "validation": None if validation is None else Validation(**validation)})


@dataclass(frozen=True)
class Task:
    """A trial that is to be run. name : by `trial_name`. settings : JSON form. encoder : folder to write."""

    name: str
    settings: dict[str, Any]
    encoder: str


def run_trial(task: Task, setup: Setup) -> dict[str, Any]:
    """Train (or go on with what was cut off), score, and give the record; an error is recorded too.

    Raises KeyboardInterrupt, after a checkpoint.
    """
    try:
        return _run(task, setup)
    except KinmerError as error:
        return failure(task, type(error).__name__, str(error))
    except Exception as error:
        return failure(task, type(error).__name__, f"{type(error).__name__}: {' '.join(str(error).split())}")


def failure(task: Task, kind: str, error: str) -> dict[str, Any]:
    """The record of a trial that failed."""
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "failed",
        "kind": kind,
        "error": error,
        "score": None,
    }


def is_final(record: Mapping[str, Any]) -> bool:
    """Whether a trial's record stays as it is when the sweep is run again."""
    return record["state"] == "done" or record.get("kind") in FINAL


def _run(task: Task, setup: Setup) -> dict[str, Any]:
    # Here, and not above: the house's other processes need no torch to read records.
    from kinmer.encoder import Encoder
    from kinmer.layout import Layout
    from kinmer.networks import parameter_count
    from kinmer.training import TrainSettings, train

    path = Path(task.encoder)
    if path.is_dir():
        encoder = Encoder.load(path)
    else:
        options = dict(setup.options)
        if "layout" in options:
            options["layout"] = Layout.from_dict(options["layout"])
        encoder = train(
            setup.source,
            path,
            settings=TrainSettings.from_dict(task.settings),
            **options,
            # Its own checkpoint is gone on with; one that another device or version left is not.
            force=True,
            device=setup.device,
            threads=setup.threads,
            memory=setup.memory,
        )
    results = encoder.training["results"]
    started, cells = time.monotonic(), None
    if setup.validation is not None:
        cells = setup.validation.measure(encoder.to(setup.device), device=setup.device, threads=setup.threads)
    loss, held_out = results["validation_loss"], results.get("retrieval")
    own = loss if held_out is None else held_out
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "done",
        "error": None,
        "score": own if cells is None else score_of(cells),
        "retrieval": cells,
        "held_out_retrieval": held_out,
        "validation_loss": loss,
        "kl": results.get("validation_kl"),
        "mse": results.get("mse"),
        "blocks": results.get("blocks", {}),
        "epoch": results["epoch"],
        "epochs": results["epochs"],
        "seconds": sum(one.get("seconds", 0.0) for one in encoder.metrics),
        "scoring_seconds": None if cells is None else time.monotonic() - started,
        "parameters": parameter_count(encoder.network),
        "fingerprint": encoder.fingerprint,
    }
