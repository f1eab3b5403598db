"""What a training learns from: rows of profiles, or fragments of sequences (`fragments.py`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, astuple, dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import TrainingError, UsageError
from kinmer.layout import Layout
from kinmer.machine import available_memory
from kinmer.networks import Network, Vae
from kinmer.profiles import Profiles
from kinmer.training.batches import Batches, HeldRows, RowOrder, share_rows, split_rows, survey
from kinmer.training.probe import Probe
from kinmer.training.processes import Processes
from kinmer.training.settings import TrainSettings

__all__ = ["Batch", "RowData", "TrainingData", "new_vae"]

MIN_ROWS = 10
# Share of the available memory that profiles may take.
MEMORY_SHARE = 0.5
# Copies of a group of rows, and bytes of a value, while streaming reads the next group.
GROUP_COPIES, VALUE_BYTES = 3, 4
# Batches of a group at least, whatever the memory: fewer rows mix too little of a sorted file.
GROUP_BATCHES = 8


class Batch(NamedTuple):
    """Profiles of a step, (n, width); for pairs, rows i and n/2 + i are one, and kin (n/2,) is their kin."""

    profiles: NDArray[np.float32]
    kin: NDArray[np.int64] | None = None


class TrainingData(Protocol):
    """Batches of every epoch, fixed by the settings and the numbers of epoch and step."""

    layout: Layout
    rows: int

    @property
    def values(self) -> str:
        """What the profiles hold, as in `Profiles.values`."""

    def signature(self) -> dict[str, Any]:
        """JSON-able: what data this is; a checkpoint of other data does not fit."""

    def plan(self, memory: int | None, processes: Processes) -> dict[str, int | None]:
        """How the data are held; it stays the same when a training goes on with more or less memory."""

    def load(self, plan: dict[str, int | None], processes: Processes) -> None:
        """Make all ready for the batches."""

    def network(self) -> Network:
        """A network to start from; after `load`."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches but the first `skip`."""

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """Batches of validation rows."""

    @property
    def probe(self) -> Probe | None:
        """Fragments of held-out species to find each other; None for rows."""

    def notes(self) -> list[str]:
        """What people should know of the data."""

    def account(self) -> dict[str, Any]:
        """JSON-able: what the encoder remembers of the data, beside the signature."""


def new_vae(settings: TrainSettings, layout: Layout) -> Vae:
    """The VAE of the settings, its weights drawn from their seed."""
    return Vae(width=layout.width, latent=settings.latent, hidden=settings.hidden, seed=settings.seed)


@dataclass(frozen=True)
class Plan:
    """How rows are held: all in memory (None), or read in groups of so many rows."""

    group_rows: int | None
    validation_group_rows: int | None


class RowData:
    """Rows of profiles, for a VAE; some are held out for validation.

    Raises TrainingError for fewer than ten, UsageError for settings that need sequences.
    """

    def __init__(self, profiles: Profiles, settings: TrainSettings) -> None:
        if settings.objective != "vae":
            raise UsageError(
                "profiles are no pairs of fragments",
                "pairs are drawn from the sequences themselves",
                "give the FASTA files, or train with --objective vae",
            )
        if len(profiles) < MIN_ROWS:
            raise TrainingError(
                f"{len(profiles)} profiles are too few to train on", f"it takes {MIN_ROWS} at least"
            )
        self._profiles, self._settings = profiles, settings
        self._found = survey(profiles)
        self.layout, self.rows = profiles.layout, self._found.rows
        self.values: str = profiles.values
        self.probe: Probe | None = None

    def signature(self) -> dict[str, Any]:
        """Fingerprint and shape."""
        return {"fingerprint": self._found.fingerprint, "rows": self.rows, "values": self.values}

    def plan(self, memory: int | None, processes: Processes) -> dict[str, int | None]:
        """Hold what fits into the process's share of the memory, stream the rest."""
        found, settings = self._found, self._settings
        budget = (int(available_memory() * MEMORY_SHARE) if memory is None else memory) / processes.world
        rows_bytes = found.rows * found.row_bytes / processes.world
        if rows_bytes <= budget:
            return asdict(Plan(None, None))
        validation_bytes = rows_bytes * settings.validation
        held = validation_bytes <= budget / 2
        rest = budget - validation_bytes * held
        group_rows = max(
            GROUP_BATCHES * settings.batch, int(rest / (GROUP_COPIES * VALUE_BYTES * self.layout.width))
        )
        return asdict(Plan(group_rows, None if held else group_rows))

    def load(self, plan: dict[str, int | None], processes: Processes) -> None:
        """Share the rows out to training and validation, and read those that are held."""
        settings, profiles = self._settings, self._profiles
        orders = []
        rows = split_rows(self.rows, settings.validation, settings.seed)
        for own, group_rows, seed in zip(rows, astuple(Plan(**plan)), (settings.seed, None), strict=True):
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
                f"{self.rows} profiles are too few for {processes.world} processes",
                check="train with fewer processes",
            )
        in_memory = [order.rows for order in orders if order.group_rows is None]
        held = None
        if in_memory:
            held = HeldRows(profiles, np.sort(np.concatenate(in_memory)), self._found.dtypes)
        self._training, self._validation = (
            Batches(order, profiles, held if order.group_rows is None else None) for order in orders
        )
        self._world = processes.world

    def network(self) -> Network:
        """A VAE with random weights."""
        return new_vae(self._settings, self.layout)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self._training.order.steps

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches but the first `skip`."""
        return map(Batch, self._training.epoch(epoch, skip=skip))

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """Batches of validation rows."""
        return self._validation.epoch(0)

    def notes(self) -> list[str]:
        """Numbers of rows, and what is odd about them."""
        rows = len(self._training.order.rows)
        found = [
            f"{rows:,} rows for training, {len(self._validation.order.rows):,} for validation, "
            + ("streamed" if self._training.held is None else "in memory")
        ]
        if rows < self._training.order.batch:
            found.append(f"fewer rows than a batch: every step takes all {rows:,}")
        if self._found.constant:
            found.append(f"{len(self._found.constant):,} features have one value in all profiles")
        return found

    def account(self) -> dict[str, Any]:
        """Layout, rows, and features that say nothing."""
        return {
            "layout": ", ".join(block.name for block in self.layout.blocks),
            "training_rows": len(self._training.order.rows) * self._world,
            "validation_rows": len(self._validation.order.rows) * self._world,
            "constant": list(self._found.constant),
        }
