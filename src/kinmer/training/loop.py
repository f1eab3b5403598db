"""Training: one loop that can be killed at any moment and goes on with the same command.

Whatever the loop draws (order, noise, weights) follows from the seed and the numbers of epoch and step, so a
checkpoint holds tensors and plain numbers only, and a resumed run ends with the weights of one never killed.
Under ``torchrun`` every process trains its share of the rows, and gradients are averaged.
"""

from __future__ import annotations

import math
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, astuple, dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kinmer.devices import cpu_threads, torch_device
from kinmer.encoder import Encoder, check_encoder_output, library_versions
from kinmer.errors import TrainingError
from kinmer.files import built_aside
from kinmer.machine import available_memory
from kinmer.profiles import Profiles, open_profiles
from kinmer.progress import Step, step
from kinmer.training.batches import Batches, HeldRows, RowOrder, Survey, share_rows, split_rows, survey
from kinmer.training.checkpoints import Checkpoints
from kinmer.training.curves import training_curve
from kinmer.training.log import EpochLog, card
from kinmer.training.processes import Processes, joined
from kinmer.training.settings import PRESETS, TrainSettings, train_settings
from kinmer.training.trainer import Trainer, resolved_precision

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["PRESETS", "TrainSettings", "train", "train_settings"]

MIN_ROWS = 10
# Losses are fetched from the device, and looked at, every so many steps.
CHECK_STEPS = 16
# A validation loss must fall by this share to count as better for the learning rate and the early end.
BETTER = 1e-4
# Share of the available memory that profiles may take.
MEMORY_SHARE = 0.5
# Copies of a group of rows, and bytes of a value, while streaming reads the next group.
GROUP_COPIES, VALUE_BYTES = 3, 4
# Batches of a group at least, whatever the memory: fewer rows mix too little of a sorted file.
GROUP_BATCHES = 8


@dataclass(frozen=True)
class Plan:
    """How rows are held: all in memory (None), or read in groups of so many rows."""

    group_rows: int | None
    validation_group_rows: int | None


@dataclass
class State:
    """Where a training stands; all of it is in the checkpoint, beside the tensors."""

    learning_rate: float
    plan: dict[str, int | None]
    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    sums: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    best_epoch: int = 0
    best_loss: float | None = None
    lowest: float | None = None
    stale: int = 0
    waited: int = 0
    records: list[dict[str, Any]] = field(default_factory=list)


def train(
    source: str | Path | AnnData | Profiles,
    output: str | Path,
    *,
    settings: TrainSettings | str = "default",
    ids: str | Path | None = None,
    force: bool = False,
    device: str = "auto",
    threads: int | None = None,
    memory: int | None = None,
    checkpoint_seconds: float = 20.0,
    log: Callable[[str], None] | None = None,
) -> Encoder:
    """Train a VAE and write the encoder; the same command goes on with a training that was cut off.

    Parameters
    ----------
    source, ids : what `open_profiles` takes.
    output : folder of the encoder; it appears when the training is finished. Checkpoints are in
        ``.NAME.training`` beside it.
    settings : settings, or the name of a preset.
    force : replace an encoder at `output`, and drop an unfinished training with other settings or data.
    device : ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    threads : of the CPU; None leaves PyTorch's.
    memory : bytes that profiles may take; more are streamed. None: half of what is available.
    checkpoint_seconds : time between checkpoints.
    log : takes a line an epoch, and notes.

    Raises
    ------
    UsageError : the output exists, or an unfinished training with other settings or data is there.
    TrainingError : too few rows, or a loss that is no number.
    KeyboardInterrupt : after a checkpoint.
    """
    chosen = train_settings(settings) if isinstance(settings, str) else settings
    path = check_encoder_output(output, force=force)
    profiles = open_profiles(source, ids=ids)
    if len(profiles) < MIN_ROWS:
        raise TrainingError(
            f"{len(profiles)} profiles are too few to train on", f"it takes {MIN_ROWS} at least"
        )
    with cpu_threads(threads), joined(torch_device(device)) as (processes, where):
        found = survey(profiles)
        precision = resolved_precision(chosen.precision, where)
        signature = {
            "settings": {**chosen.to_dict(), "precision": precision},
            "data": {"fingerprint": found.fingerprint, "rows": found.rows, "values": profiles.values},
            "device": where.type,
            "processes": processes.world,
        }
        checkpoints = Checkpoints(path, signature)
        with checkpoints.opened(force=force) if processes.first else nullcontext():
            processes.wait()
            trainer = Trainer(
                chosen,
                profiles.layout,
                profiles.values,
                precision=precision,
                device=where,
                processes=processes,
            )
            run = _Run(chosen, profiles, found, trainer, checkpoints, processes, checkpoint_seconds, log)
            run.restore(_plan(found, profiles, chosen, memory, processes))
            run.loop()
            if processes.first:
                run.finish(path, signature, _name(source))
            processes.wait()
    return Encoder.load(path)


def _name(source: object) -> str:
    return Path(source).name if isinstance(source, str | Path) else "AnnData in memory"


def _plan(
    found: Survey, profiles: Profiles, settings: TrainSettings, memory: int | None, processes: Processes
) -> Plan:
    """Hold what fits into the process's share of the memory, stream the rest."""
    budget = (int(available_memory() * MEMORY_SHARE) if memory is None else memory) / processes.world
    rows_bytes = found.rows * found.row_bytes / processes.world
    if rows_bytes <= budget:
        return Plan(None, None)
    validation_bytes = rows_bytes * settings.validation
    held = validation_bytes <= budget / 2
    rest = budget - validation_bytes * held
    group_rows = max(
        GROUP_BATCHES * settings.batch, int(rest / (GROUP_COPIES * VALUE_BYTES * profiles.layout.width))
    )
    return Plan(group_rows, None if held else group_rows)


@dataclass
class _Run:
    """One training: data, network, and the state between them."""

    settings: TrainSettings
    profiles: Profiles
    found: Survey
    trainer: Trainer
    checkpoints: Checkpoints
    processes: Processes
    checkpoint_seconds: float
    say: Callable[[str], None] | None

    def restore(self, plan: Plan) -> None:
        """Start at the checkpoint, or at the beginning with `plan`; then load the data."""
        saved = self.checkpoints.load()
        self.best: dict[str, Tensor] = {}
        if saved is None:
            self.state = State(self.settings.learning_rate, asdict(plan))
        else:
            self.state = State(**saved.state)
            self.trainer.restore(saved.tensors["run"])
            self.best = saved.tensors.get("best", {})
        self.saved_at = time.monotonic()
        folder = self.checkpoints.folder / "tensorboard" if self.processes.first else None
        say = self.say if self.processes.first else None
        self.log = EpochLog(say, folder, epochs=self.settings.epochs, after=self.state.epoch)
        self._load(Plan(**self.state.plan))
        self._tell(resumed=saved is not None)

    def _load(self, plan: Plan) -> None:
        settings, processes, profiles = self.settings, self.processes, self.profiles
        orders = []
        rows = split_rows(self.found.rows, settings.validation, settings.seed)
        for own, group_rows, seed in zip(rows, astuple(plan), (settings.seed, None), strict=True):
            # A share of whole pieces only where rows are streamed: there each process reads its own part.
            piece = 1 if group_rows is None else profiles.chunk_rows
            piece = max(1, min(piece, len(own) // (16 * processes.world)))
            share = share_rows(own, processes.rank, processes.world, settings.seed, piece_rows=piece)
            batch = max(2, settings.batch // processes.world)
            orders.append(
                RowOrder(
                    rows=share, batch=batch, seed=seed, group_rows=group_rows, piece_rows=profiles.chunk_rows
                )
            )
        if len(orders[0].rows) < 2 or len(orders[1].rows) < 1:
            raise TrainingError(
                f"{self.found.rows} profiles are too few for {processes.world} processes",
                check="train with fewer processes",
            )
        in_memory = [order.rows for order in orders if order.group_rows is None]
        held = None
        if in_memory:
            held = HeldRows(profiles, np.sort(np.concatenate(in_memory)), self.found.dtypes)
        self.training, self.validation = (
            Batches(order, profiles, held if order.group_rows is None else None) for order in orders
        )

    def _tell(self, *, resumed: bool) -> None:
        rows = self.training.order.rows
        self.log.note(
            f"{len(rows):,} rows for training, {len(self.validation.order.rows):,} for validation, "
            + ("streamed" if self.training.held is None else "in memory")
        )
        if len(rows) < self.training.order.batch:
            self.log.note(f"fewer rows than a batch: every step takes all {len(rows):,}")
        if self.found.constant:
            self.log.note(f"{len(self.found.constant):,} features have one value in all profiles")
        if resumed:
            self.log.note(f"going on at epoch {self.state.epoch + 1}, step {self.state.step}")

    def loop(self) -> None:
        """All the epochs that are left."""
        settings, state, steps = self.settings, self.state, self.training.order.steps
        try:
            with step("Training", settings.epochs * steps) as bar, _interruptible() as interrupt:
                bar.advance(state.epoch * steps + state.step)
                while state.epoch < settings.epochs and not self._stale():
                    self._train_epoch(bar, interrupt)
                    measured = self.trainer.validate(self._watched(self.validation.epoch(0), interrupt))
                    self._close_epoch(measured)
        finally:
            self.log.close()

    def _stale(self) -> bool:
        return 0 < self.settings.stop_patience <= self.state.stale

    def _train_epoch(self, bar: Step, interrupt: Interrupt) -> None:
        state, steps = self.state, self.training.order.steps
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.trainer.device)
        started = time.monotonic() - state.seconds
        for profiles in self.training.epoch(state.epoch, skip=state.step):
            sums += self.trainer.step(
                profiles,
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
                f"the loss is no number in epoch {self.state.epoch + 1}, by step {self.state.step}",
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
            raise TrainingError(f"the validation loss of epoch {state.epoch + 1} is no number")
        sums = torch.tensor(state.sums, dtype=torch.float64, device=self.trainer.device)
        reconstruction, kl, rows = self.processes.sum(sums).tolist()
        warm = state.epoch >= settings.warmup
        best = warm and (state.best_loss is None or loss < state.best_loss)
        record = {
            "epoch": state.epoch + 1,
            "reconstruction": reconstruction / rows,
            "kl": kl / rows,
            "beta": self._beta(state.epoch + 1),
            "learning_rate": state.learning_rate,
            **measured,
            "seconds": state.seconds,
            "rows_per_second": rows / max(state.seconds, 1e-9),
            "best": best,
        }
        state.records.append(record)
        self.log.epoch(record)
        if best:
            state.best_loss, state.best_epoch, self.best = loss, record["epoch"], self.trainer.weights()
        if warm:
            self._follow_plateau(loss)
        state.epoch, state.step, state.seconds, state.sums = state.epoch + 1, 0, 0.0, [0.0, 0.0, 0.0]

    def _follow_plateau(self, loss: float) -> None:
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
        state, profiles = self.state, self.profiles
        training = {
            **signature,
            "data": {
                **signature["data"],
                "source": source,
                "layout": ", ".join(block.name for block in profiles.layout.blocks),
                "training_rows": len(self.training.order.rows) * self.processes.world,
                "validation_rows": len(self.validation.order.rows) * self.processes.world,
                "constant": list(self.found.constant),
            },
            "results": {
                "epoch": state.best_epoch,
                "epochs": state.epoch,
                "ended": "no better loss any more" if self._stale() else "all epochs",
                **state.records[state.best_epoch - 1],
            },
        }
        self.trainer.network.load_state_dict(self.best)
        encoder = Encoder(
            self.trainer.network.cpu(),
            profiles.layout,
            self.settings.clr,
            precision=self.settings.embedding_precision,
            training=training,
            metrics=state.records,
            card=card(training, state.records, library_versions()),
        )
        with built_aside(path) as folder:
            encoder.write(folder)
            training_curve(state.records, folder / "training.png")
            if (self.checkpoints.folder / "tensorboard").is_dir():
                shutil.copytree(self.checkpoints.folder / "tensorboard", folder / "tensorboard")
        self.checkpoints.remove()


class Interrupt:
    """Whether Ctrl-C was pressed."""

    asked = False


@contextmanager
def _interruptible() -> Iterator[Interrupt]:
    """Let Ctrl-C only ask, so that the loop ends between two steps; a second Ctrl-C ends at once."""
    interrupt = Interrupt()

    def ask(number: int, frame: FrameType | None) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield interrupt
    finally:
        signal.signal(signal.SIGINT, before)
