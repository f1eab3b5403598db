"""One trial: a training, its scoring, and the record of both; here or in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinmer.errors import KinmerError
from kinmer.sweeps.validation import Validation, score_of

Record = dict[str, Any]
# Such errors come again however often the trial is run; others (memory, disk, a kill) may not.
FINAL = ("TrainingError", "UsageError")
# A trial that is interrupted writes a checkpoint first.
PATIENCE_SECONDS = 120.0
STDIN, STDOUT, STDERR = 0, 1, 2


@dataclass(frozen=True)
class Setup:
    """What all trials have in common; JSON but for a `source` in memory. options : more of `kinmer.train`."""

    source: Any
    options: dict[str, Any]
    validation: Validation | None
    device: str
    threads: int | None
    memory: int | None

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """From the JSON form that `asdict` gives."""
        validation = data["validation"]
        return cls(**{**data, "validation": None if validation is None else Validation(**validation)})


@dataclass(frozen=True)
class Task:
    """A trial to run. name : by `trial_name`. settings : JSON form. encoder : folder to write."""

    name: str
    settings: dict[str, Any]
    encoder: str


def is_final(record: Mapping[str, Any]) -> bool:
    """Whether a trial's record stays as it is when the sweep is run again."""
    return record["state"] == "done" or record.get("kind") in FINAL


def run_trial(task: Task, setup: Setup) -> Record:
    """Train (or resume what was cut off), score, and give the record; an error is recorded too.

    Raises KeyboardInterrupt, after a checkpoint.
    """
    try:
        return _run(task, setup)
    except KinmerError as error:
        return _failure(task, type(error).__name__, str(error))
    except Exception as error:
        return _failure(task, type(error).__name__, f"{type(error).__name__}: {' '.join(str(error).split())}")


def _failure(task: Task, kind: str, error: str) -> Record:
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "failed",
        "kind": kind,
        "error": error,
        "score": None,
    }


def _run(task: Task, setup: Setup) -> Record:
    # Here, and not above: the process that hands out the trials needs no PyTorch.
    from kinmer.encoder import Encoder
    from kinmer.training import TrainSettings, train

    path = Path(task.encoder)
    if path.is_dir():
        encoder = Encoder.load(path)
    else:
        encoder = train(
            setup.source,
            path,
            settings=TrainSettings.from_dict(task.settings),
            **setup.options,
            # Its own checkpoint is resumed; one that another device or version left is not.
            force=True,
            device=setup.device,
            threads=setup.threads,
            memory=setup.memory,
        )
    results = encoder.training["results"]
    started, cells = time.monotonic(), None
    if setup.validation is not None:
        cells = setup.validation.measure(encoder.to(setup.device), device=setup.device, threads=setup.threads)
    loss = results["validation_loss"]
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "done",
        "error": None,
        "score": loss if cells is None else score_of(cells),
        "retrieval": cells,
        "validation_loss": loss,
        "kl": results["validation_kl"],
        "mse": results["mse"],
        "blocks": results["blocks"],
        "epoch": results["epoch"],
        "epochs": results["epochs"],
        "seconds": sum(one.get("seconds", 0.0) for one in encoder.metrics),
        "scoring_seconds": None if cells is None else time.monotonic() - started,
        "parameters": sum(layer.parameters for layer in encoder.network.layers()),
        "fingerprint": encoder.fingerprint,
    }


class Workers:
    """Runs trials: in this process for one job, else each in a process of its own.

    A process that dies costs its trial only. Each is in a session of its own, so that Ctrl-C reaches this
    process alone, which hands it on once: to an interrupted training a second one means to end without a
    checkpoint. Where this process is killed, they see their input end and go too.
    """

    def __init__(self, setup: Setup, jobs: int) -> None:
        self._setup, self.jobs = setup, jobs
        self._running: set[subprocess.Popen[str]] = set()
        self._lock, self._interrupted = threading.Lock(), False

    def run(self, task: Task) -> Record:
        """The record of a trial; KeyboardInterrupt where the trials were interrupted."""
        if self.jobs == 1:
            return run_trial(task, self._setup)
        with self._lock:
            if self._interrupted:
                raise KeyboardInterrupt
            process = subprocess.Popen(
                [sys.executable, "-c", "from kinmer.sweeps.workers import main; main()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                start_new_session=True,
                text=True,
                encoding="utf-8",
            )
            self._running.add(process)
        with process:
            assert process.stdin is not None
            assert process.stdout is not None
            with suppress(BrokenPipeError):  # It died: its exit code tells.
                process.stdin.write(json.dumps([asdict(self._setup), asdict(task)]) + "\n")
                process.stdin.flush()
            answer = process.stdout.read()
            code = process.wait()
            self._running.discard(process)
        if answer.endswith("\n"):
            return dict(json.loads(answer))
        if self._interrupted:
            raise KeyboardInterrupt
        why = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return _failure(task, "Died", f"its process ended ({why}) · was memory short?")

    def interrupt(self) -> None:
        """Interrupt what runs, once; no other trial begins."""
        with self._lock:
            if self._interrupted:
                return
            self._interrupted = True
            for process in list(self._running):
                process.send_signal(signal.SIGINT)
            if self._running:
                timer = threading.Timer(PATIENCE_SECONDS, self.kill)
                timer.daemon = True
                timer.start()

    def kill(self) -> None:
        """End what runs, without a checkpoint."""
        for process in list(self._running):
            process.kill()


def main() -> None:
    """The process of one trial: a line with setup and task comes in, a line with the record goes out."""
    warnings.simplefilter("ignore")
    # Whatever a library prints must not come into the record.
    output = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    setup, task = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_input, daemon=True).start()
    try:
        record = run_trial(Task(**task), Setup.from_dict(setup))
    except KeyboardInterrupt:
        os._exit(130)
    with os.fdopen(output, "w", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")
    os._exit(0)


def _end_with_the_input() -> None:
    """End this process where the one that started it is gone."""
    sys.stdin.read()
    os._exit(0)
