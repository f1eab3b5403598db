"""Training: one loop that can be killed at any moment and is resumed by the same call.

Whatever the loop draws (order, noise, weights) follows from the seed and the numbers of epoch and step, so a
checkpoint holds tensors and plain numbers only, and a resumed run ends with the weights of one never killed.
Under ``torchrun`` every process trains its share of the rows, and gradients are averaged.
"""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinmer.encoder import Encoder, check_encoder_output, library_versions
from kinmer.errors import TrainingError
from kinmer.files import built_aside
from kinmer.networks import torch_device
from kinmer.profiles import Profiles, open_profiles
from kinmer.progress import Step, step
from kinmer.resources import cpu_threads
from kinmer.training.checkpoints import Checkpoints, Interrupt, interruptible
from kinmer.training.data import RowData
from kinmer.training.log import EpochLog, card, training_curve
from kinmer.training.settings import TrainSettings, check_original, train_settings
from kinmer.training.trainer import PARTS, Processes, Trainer, joined, resolved_precision

if TYPE_CHECKING:
    from anndata import AnnData

# Losses are fetched from the device, and looked at, every so many steps.
CHECK_STEPS = 16
# A validation loss must fall by this share to count as better for the learning rate and the early end.
BETTER = 1e-4


@dataclass
class State:
    """Where a training stands; all of it is in the checkpoint, beside the tensors."""

    learning_rate: float
    plan: dict[str, int | None]
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0] * len(PARTS))
    best_epoch: int | None = None
    best_loss: float | None = None
    lowest: float | None = None
    stale: int = 0
    waited: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, saved: Mapping[str, Any]) -> State:
        """Of a checkpoint; those of kinmer 0.1 also say what a training on pairs of fragments needed."""
        sums = saved["sums"]
        known = {one.name: saved[one.name] for one in fields(cls)}
        return cls(**{**known, "sums": [*sums[:2], sums[-1]]})


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a training runs on, which does not change what it learns.

    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : of the CPU; None leaves PyTorch's.
    memory : bytes that profiles may take; more are streamed. None: half of what is available.
    checkpoint_seconds : time between checkpoints.
    """

    device: str = "auto"
    threads: int | None = None
    memory: int | None = None
    checkpoint_seconds: float = 20.0


def train(
    source: str | Path | AnnData | Profiles,
    output: str | Path,
    *,
    settings: TrainSettings | str = "default",
    ids: str | Path | None = None,
    force: bool = False,
    log: Callable[[str], None] | None = None,
    **machine: Any,
) -> Encoder:
    """Train an encoder and write it; the same call resumes a training that was cut off.

    Parameters
    ----------
    source, ids : what `open_profiles` takes.
    output : str | Path
        Folder of the encoder. Until it is finished there is ``.NAME.training`` beside it.
    settings : settings, or the name of a preset.
    force : replace an encoder at `output`, and drop an unfinished training with other settings or data.
    log : takes a line an epoch, and notes.
    machine : ``device``, ``threads``, ``memory`` and ``checkpoint_seconds`` of `Machine`.

    Raises
    ------
    UsageError, TrainingError : output or unfinished training exists; too few rows, loss not a number.
    """
    chosen = train_settings(settings) if isinstance(settings, str) else settings
    Checkpoints.clear(Path(output))
    path = check_encoder_output(output, force=force)
    on = Machine(**machine)
    with cpu_threads(on.threads), joined(torch_device(on.device)) as (processes, where):
        profiles = open_profiles(source, ids=ids)
        check_original(chosen, profiles.layout)
        data = RowData(profiles, chosen)
        signature = _signature(chosen, data, where, processes)
        checkpoints = Checkpoints(path, signature)
        with checkpoints.opened(force=force) if processes.first else nullcontext():
            processes.wait()
            run = _Run(chosen, data, where, checkpoints, processes, on.checkpoint_seconds, log)
            run.restore(on.memory)
            run.loop()
            if processes.first:
                run.finish(path, signature, _name(source))
            processes.wait()
    return Encoder.load(path)


def _signature(
    settings: TrainSettings, data: RowData, device: torch.device, processes: Processes
) -> dict[str, Any]:
    """What a checkpoint belongs to."""
    return {
        "settings": {**settings.to_dict(), "precision": resolved_precision(settings.precision, device)},
        "data": data.signature(),
        "device": device.type,
        "processes": processes.world,
    }


def _name(source: object) -> str:
    return Path(source).name if isinstance(source, str | Path) else "AnnData in memory"


@dataclass
class _Run:
    """One training: data, network, and the state between them."""

    settings: TrainSettings
    data: RowData
    device: torch.device
    checkpoints: Checkpoints
    processes: Processes
    checkpoint_seconds: float
    say: Callable[[str], None] | None

    def restore(self, memory: int | None) -> None:
        """Start at the checkpoint, or at the beginning."""
        saved = self.checkpoints.load()
        self.best: dict[str, Tensor] = {}
        plan = self.data.plan(memory, self.processes.world) if saved is None else saved.state["plan"]
        self.data.load(plan, self.processes.rank, self.processes.world)
        self.state = State(self.settings.learning_rate, plan) if saved is None else State.of(saved.state)
        self.trainer = Trainer(
            self.settings,
            self.data.layout,
            self.data.values,
            precision=resolved_precision(self.settings.precision, self.device),
            device=self.device,
            processes=self.processes,
        )
        if saved is not None:
            self.trainer.restore(saved.tensors["run"])
            self.best = saved.tensors.get("best", {})
        self.saved_at = time.monotonic()
        folder = self.checkpoints.folder / "tensorboard" if self.processes.first else None
        say = self.say if self.processes.first else None
        self.log = EpochLog(say, folder, epochs=self.settings.epochs, after=self.state.epoch)
        for line in self.data.notes():
            self.log.note(line)
        if saved is not None:
            self.log.note(f"resuming at epoch {self.state.epoch + 1}, step {self.state.step}")

    def loop(self) -> None:
        """All the epochs that are left."""
        settings, state, steps = self.settings, self.state, self.data.steps
        try:
            with step("Training", settings.epochs * steps) as bar, interruptible() as interrupt:
                bar.advance(state.epoch * steps + state.step)
                while state.epoch < settings.epochs and not self._stale():
                    self._train_epoch(bar, interrupt)
                    self._close_epoch(self._measured(interrupt))
        finally:
            self.log.close()

    def _measured(self, interrupt: Interrupt) -> dict[str, Any]:
        return self.trainer.validate(self._watched(self.data.validation(), interrupt))

    def _stale(self) -> bool:
        return 0 < self.settings.stop_patience <= self.state.stale

    def _train_epoch(self, bar: Step, interrupt: Interrupt) -> None:
        state, steps = self.state, self.data.steps
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.trainer.device)
        started = time.monotonic() - state.seconds
        for batch in self.data.epoch(state.epoch, skip=state.step):
            sums += self.trainer.step(
                batch,
                epoch=state.epoch,
                number=state.step,
                beta=self._beta(state.epoch + state.step / steps),
                learning_rate=state.learning_rate,
            )
            state.step += 1
            bar.advance(1)
            if state.step == steps:
                self.trainer.settle()
            due = time.monotonic() - self.saved_at >= self.checkpoint_seconds or interrupt.asked
            if due or state.step == steps or state.step % CHECK_STEPS == 0:
                state.sums = sums.tolist()
                state.seconds = time.monotonic() - started
                self._check_loss()
            if due:
                self._save(interrupt)

    def _beta(self, epochs: float) -> float:
        """Weight of the KL part after `epochs` epochs."""
        warmup = self.settings.warmup
        return self.settings.beta * (min(1.0, epochs / warmup) if warmup else 1.0)

    def _check_loss(self) -> None:
        if not all(map(math.isfinite, self.state.sums)):
            raise TrainingError(
                f"the loss is not a number in epoch {self.state.epoch + 1}, by step {self.state.step}",
                f"the training diverged at a learning rate of {self.state.learning_rate:g}",
                "start afresh (--force) with a lower learning rate or a larger batch",
            )

    def _watched(
        self, batches: Iterator[NDArray[np.float32]], interrupt: Interrupt
    ) -> Iterator[NDArray[np.float32]]:
        for batch in batches:
            if interrupt.asked:
                self._save(interrupt)
            yield batch

    def _save(self, interrupt: Interrupt) -> None:
        """Write the checkpoint; then give way to an interrupt."""
        if self.processes.first:
            state = self.state
            sets = {"run": (f"{state.epoch}-{state.step}", self.trainer.tensors())}
            if self.best:
                sets["best"] = (str(state.best_epoch), self.best)
            self.checkpoints.save(asdict(state), sets)
        self.saved_at = time.monotonic()
        if interrupt.asked:
            raise KeyboardInterrupt

    def _close_epoch(self, measured: dict[str, Any]) -> None:
        """Record the epoch, keep its weights if they are the best, set the next one's learning rate."""
        state, settings, loss = self.state, self.settings, measured["validation_loss"]
        if not math.isfinite(loss):
            raise TrainingError(f"the validation loss of epoch {state.epoch + 1} is not a number")
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.trainer.device)
        parts = dict(zip(PARTS, self.processes.sum(sums).tolist(), strict=True))
        rows = parts.pop("rows")
        warm = state.epoch >= settings.warmup
        best = warm and (state.best_loss is None or loss < state.best_loss)
        record = {
            "epoch": state.epoch + 1,
            **{name: total / rows for name, total in parts.items()},
            "beta": self._beta(state.epoch + 1),
            "learning_rate": state.learning_rate,
            **measured,
            "seconds": state.seconds,
            "rows_per_second": rows / max(state.seconds, 1e-9),
            "best": best,
        }
        state.records.append(record)
        self.log.epoch(record)
        if warm:
            self._follow_plateau(loss)
        if best:
            state.best_epoch, state.best_loss = record["epoch"], loss
            self.best = self.trainer.weights()
        state.epoch, state.step, state.seconds, state.sums = state.epoch + 1, 0, 0.0, [0.0] * len(PARTS)

    def _follow_plateau(self, loss: float) -> None:
        """Lower the learning rate, and see to the end, where the loss is no better."""
        state, settings = self.state, self.settings
        if state.lowest is None or loss < state.lowest * (1 - BETTER):
            state.lowest, state.stale, state.waited = loss, 0, 0
            return
        state.stale, state.waited = state.stale + 1, state.waited + 1
        if state.waited >= settings.plateau_patience:
            state.waited = 0
            state.learning_rate = max(
                settings.min_learning_rate, state.learning_rate * settings.plateau_factor
            )

    def finish(self, path: Path, signature: dict[str, Any], source: str) -> None:
        """Write the encoder of the best epoch, and remove the checkpoints."""
        state = self.state
        training = {
            **signature,
            "data": {**signature["data"], "source": source, **self.data.report()},
            "results": {
                "epoch": state.best_epoch,
                "epochs": state.epoch,
                "ended": "no better loss any more" if self._stale() else "all epochs",
                **state.records[(state.best_epoch or 0) - 1],
            },
        }
        self.trainer.network.load_state_dict(self.best)
        encoder = Encoder(
            self.trainer.network.cpu(),
            self.data.layout,
            self.settings.clr,
            precision=self.settings.embedding_precision,
            training=training,
            metrics=state.records,
            card=card(training, state.records, library_versions()),
        )
        self.checkpoints.finish(encoder.fingerprint)
        with built_aside(path) as folder:
            encoder.write(folder)
            training_curve(state.records, folder / "training.png")
            if (self.checkpoints.folder / "tensorboard").is_dir():
                shutil.copytree(self.checkpoints.folder / "tensorboard", folder / "tensorboard")
        self.checkpoints.remove()
