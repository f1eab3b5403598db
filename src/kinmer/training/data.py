"""Batches of profiles for training: held compactly in memory, or streamed and shuffled across the file.

Which rows come when is fixed by numbers alone (rows, seed, epoch, rows of a group), so that a run that was
killed resumes with the very batch it would have seen. `RowOrder` gives that order, `Batches` reads it.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, astuple, dataclass
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import ProfileError, TrainingError
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.resources import available_memory
from kinmer.training.settings import TrainSettings

Item = TypeVar("Item")

# Batches and groups made ahead of the training step that takes them.
AHEAD = 3
# A group mixes at least this many pieces of the file, however few rows it has.
PIECES = 32
# Streams of random numbers that never meet, all drawn from one seed.
_SPLIT, _SHARE, _EPOCH = range(3)


@dataclass(frozen=True)
class Survey:
    """What one pass over all the profiles gives.

    Attributes
    ----------
    rows : number of profiles.
    fingerprint : SHA-256 over ids, layout, kind of values and the sum of every column.
    dtypes : of every block, the smallest number type that holds its values.
    row_bytes : bytes of one row held in those types.
    constant : names of the features that have one value in all the profiles.
    """

    rows: int
    fingerprint: str
    dtypes: tuple[np.dtype[Any], ...]
    row_bytes: int
    constant: tuple[str, ...]


def _ranges(profiles: Profiles) -> Iterator[tuple[int, int]]:
    """Rows ``start, stop`` that are cheap to read together, a few thousand at a time."""
    chunk = max(1, profiles.chunk_rows)
    size = chunk * max(1, 2048 // chunk)
    for start in range(0, len(profiles), size):
        yield start, min(start + size, len(profiles))


def survey(profiles: Profiles) -> Survey:
    """Read all the profiles once, in blocks; raises ProfileError where a value is negative or no number."""
    layout, width = profiles.layout, profiles.layout.width
    low, high = np.full(width, np.inf), np.full(width, -np.inf)
    sums = np.zeros(width)
    with step("Looking through the profiles", len(profiles)) as progress:
        for start, stop in _ranges(profiles):
            rows = profiles.read(start, stop)
            np.minimum(low, rows.min(axis=0), out=low)
            np.maximum(high, rows.max(axis=0), out=high)
            sums += rows.sum(axis=0, dtype=np.float64)
            if not np.isfinite(sums).all() or low.min() < 0:
                raise ProfileError(
                    "a profile holds a negative value or no number",
                    "counts and frequencies are neither",
                    place=f"rows {start + 1}-{stop}",
                )
            progress.advance(stop - start)
    digest = hashlib.sha256("\n".join((profiles.fingerprint, layout.fingerprint, profiles.values)).encode())
    digest.update(sums.tobytes())
    if profiles.values == "counts":
        tops = [high[block.columns].max(initial=0) for block in layout.blocks]
        dtypes = tuple(np.min_scalar_type(int(top)) for top in tops)
    else:
        dtypes = tuple(np.dtype(np.float32) for _ in layout.blocks)
    same = np.flatnonzero(low == high)
    return Survey(
        rows=len(profiles),
        fingerprint=digest.hexdigest(),
        dtypes=dtypes,
        row_bytes=sum(
            block.size * dtype.itemsize for block, dtype in zip(layout.blocks, dtypes, strict=True)
        ),
        constant=tuple(layout.features[column] for column in same),
    )


def split_rows(rows: int, validation: float, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows for training and for validation (that share of them, at least one), ascending, by a shuffle."""
    order = np.random.default_rng([seed, _SPLIT]).permutation(rows)
    held_out = max(1, round(rows * validation))
    return np.sort(order[held_out:]), np.sort(order[:held_out])


def share_rows(
    rows: NDArray[np.int64], rank: int, world: int, seed: int, *, piece_rows: int = 1
) -> NDArray[np.int64]:
    """The share of process `rank` of `world`: random, ascending, as many rows for every process.

    Rows of one piece of the file (`piece_rows` rows) stay together: a process reads its pieces only.
    """
    if world == 1:
        return rows
    _, which, sizes = np.unique(rows // piece_rows, return_inverse=True, return_counts=True)
    order = np.random.default_rng([seed, _SHARE]).permutation(len(sizes))
    # Cut where the rows, not the pieces, are even: a piece may hold few of them.
    owner = np.empty_like(order)
    owner[order] = (np.cumsum(sizes[order]) - 1) * world // len(rows)
    shares = [rows[owner[which] == one] for one in range(world)]
    fewest = min(map(len, shares))
    mine = shares[rank]
    kept = np.random.default_rng([seed, _SHARE, rank]).permutation(len(mine))[:fewest]
    return np.sort(mine[kept])


@dataclass(frozen=True, kw_only=True)
class RowOrder:
    """The order of rows in every epoch, and where its batches end.

    Parameters
    ----------
    rows : (n,) ascending row numbers.
    batch : rows of a batch at most; all batches of an epoch differ by at most one row, so that none is tiny.
    seed : of the shuffles; None keeps the rows as they are.
    group_rows : None shuffles all the rows at once. Otherwise pieces from all over the file are put together
        to groups of about so many rows, and the rows of each group are shuffled: what streaming reads.
    piece_rows : rows of the file that are cheap to read together.
    """

    rows: NDArray[np.int64]
    batch: int
    seed: int | None
    group_rows: int | None = None
    piece_rows: int = 1

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        # BatchNorm cannot learn from a batch of a single row: rather one row more in a batch.
        return max(1, min(-(-len(self.rows) // self.batch), len(self.rows) // 2))

    @property
    def edges(self) -> NDArray[np.int64]:
        """(steps + 1,) positions in an epoch's order where its batches begin and end."""
        return np.linspace(0, len(self.rows), self.steps + 1).astype(np.int64)

    def groups(self, epoch: int) -> list[NDArray[np.int64]]:
        """The epoch's rows, shuffled, in the groups that are read together."""
        rng = None if self.seed is None else np.random.default_rng([self.seed, _EPOCH, epoch])
        if self.group_rows is None:
            return [self.rows if rng is None else rng.permutation(self.rows)]
        wanted = -(-len(self.rows) // self.group_rows)
        if rng is None:
            return np.array_split(self.rows, wanted)
        piece_rows = max(1, min(self.piece_rows, self.group_rows // PIECES))
        starts = np.flatnonzero(np.diff(self.rows // piece_rows, prepend=-1))
        pieces = np.split(self.rows, starts[1:])
        number = min(wanted, len(pieces))
        # Of every `number` neighboring pieces each group gets one: all groups cover the file evenly, and a
        # file sorted by organism, the usual one, gives each of them every organism's share.
        strata = -(-len(pieces) // number)
        group_of = rng.permuted(np.tile(np.arange(number), (strata, 1)), axis=1).ravel()[: len(pieces)]
        taken = ([pieces[piece] for piece in np.flatnonzero(group_of == one)] for one in range(number))
        return [rng.permutation(np.concatenate(group)) for group in taken if group]


class HeldRows:
    """Rows of profiles held in memory, every block in the smallest type that holds its values."""

    def __init__(
        self, profiles: Profiles, rows: NDArray[np.int64], dtypes: tuple[np.dtype[Any], ...]
    ) -> None:
        self._rows, self._layout = rows, profiles.layout
        self._blocks = [
            np.empty((len(rows), block.size), dtype)
            for block, dtype in zip(self._layout.blocks, dtypes, strict=True)
        ]
        with step("Loading the profiles", len(rows)) as progress:
            for start, stop in _ranges(profiles):
                first, last = np.searchsorted(rows, [start, stop])
                if first == last:
                    continue
                read = profiles.read(start, stop)
                if last - first < stop - start:
                    read = read[rows[first:last] - start]
                for held, block in zip(self._blocks, self._layout.blocks, strict=True):
                    held[first:last] = read[:, block.columns]
                progress.advance(last - first)

    def __call__(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(n, width) float32 values of any of the rows, in the order given."""
        where = np.searchsorted(self._rows, rows)
        out = np.empty((len(rows), self._layout.width), np.float32)
        for held, block in zip(self._blocks, self._layout.blocks, strict=True):
            out[:, block.columns] = held[where]
        return out


@dataclass(frozen=True)
class Batches:
    """An order of rows, and what reads them: `HeldRows`, or None for a stream from `profiles`."""

    order: RowOrder
    profiles: Profiles
    held: HeldRows | None = None

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[NDArray[np.float32]]:
        """The epoch's batches (n, width) float32 but the first `skip`, made ahead by a background thread."""
        edges = self.order.edges
        if skip >= self.order.steps:
            return
        groups = self.order.groups(epoch)
        if self.held is not None:
            batches = self._from_memory(np.concatenate(groups), edges[skip:], self.held)
        else:
            batches = self._from_stream(groups, edges[skip:])
        yield from ahead(batches)

    @staticmethod
    def _from_memory(
        rows: NDArray[np.int64], edges: NDArray[np.int64], held: HeldRows
    ) -> Generator[NDArray[np.float32], None, None]:
        for start, stop in pairwise(edges):
            yield held(rows[start:stop])

    def _from_stream(
        self, groups: list[NDArray[np.int64]], edges: NDArray[np.int64]
    ) -> Generator[NDArray[np.float32], None, None]:
        """Cut batches out of the groups, which are read one ahead; a batch may begin in an earlier group."""
        ends = np.cumsum([len(group) for group in groups])
        first = int(np.searchsorted(ends, edges[0], side="right"))
        spans = pairwise(edges)
        span = next(spans, None)
        carried = np.empty((0, self.profiles.layout.width), np.float32)
        read = ahead((_Group(self.profiles, rows) for rows in groups[first:]), 1)
        for number, rows in enumerate(read, start=first):
            end = int(ends[number])
            begin = end - len(rows)
            while span is not None and span[1] <= end:
                yield rows.carry(carried, span[0] - begin, span[1] - begin)
                span = next(spans, None)
            if span is None:
                return
            carried = rows.carry(carried, span[0] - begin, len(rows))


class _Group:
    """Rows read in the file's order and given in the shuffled one."""

    def __init__(self, profiles: Profiles, rows: NDArray[np.int64]) -> None:
        order = np.argsort(rows)
        self._read = profiles.take(rows[order])
        self._where = np.empty_like(order)
        self._where[order] = np.arange(len(rows))

    def __len__(self) -> int:
        return len(self._where)

    def carry(self, carried: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
        """Rows start:stop of the group; those below 0 are the last ones of `carried`."""
        own = self._read[self._where[max(start, 0) : stop]].astype(np.float32, copy=False)
        return own if start >= 0 else np.concatenate([carried[start:], own])


def ahead(items: Generator[Item, None, None], number: int = AHEAD) -> Iterator[Item]:
    """The items of an iterator, made in a thread so many before they are wanted; its error comes out here."""
    end = object()
    with ThreadPoolExecutor(1, "ahead") as thread, closing(items):
        coming = deque(thread.submit(next, items, end) for _ in range(number))
        try:
            while (item := coming.popleft().result()) is not end:
                coming.append(thread.submit(next, items, end))
                yield cast(Item, item)
        finally:
            # The thread is at rest before the iterator is closed.
            thread.shutdown(cancel_futures=True)


MIN_ROWS = 10
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


class RowData:
    """Rows of profiles, some held out for validation; raises TrainingError for fewer than ten."""

    def __init__(self, profiles: Profiles, settings: TrainSettings) -> None:
        if len(profiles) < MIN_ROWS:
            raise TrainingError(
                f"{len(profiles)} profiles are too few to train on", f"it takes {MIN_ROWS} at least"
            )
        self._profiles, self._settings = profiles, settings
        self._survey = survey(profiles)
        self.layout, self.rows = profiles.layout, self._survey.rows
        self.values: str = profiles.values

    def signature(self) -> dict[str, Any]:
        """Fingerprint and shape."""
        return {"fingerprint": self._survey.fingerprint, "rows": self.rows, "values": self.values}

    def plan(self, memory: int | None, world: int = 1) -> dict[str, int | None]:
        """Hold what fits into the process's share of the memory, stream the rest."""
        rows, settings = self._survey, self._settings
        budget = (int(available_memory() * MEMORY_SHARE) if memory is None else memory) / world
        rows_bytes = rows.rows * rows.row_bytes / world
        if rows_bytes <= budget:
            return asdict(Plan(None, None))
        validation_bytes = rows_bytes * settings.validation
        held = validation_bytes <= budget / 2
        rest = budget - validation_bytes * held
        group_rows = max(
            GROUP_BATCHES * settings.batch, int(rest / (GROUP_COPIES * VALUE_BYTES * self.layout.width))
        )
        return asdict(Plan(group_rows, None if held else group_rows))

    def load(self, plan: dict[str, int | None], rank: int = 0, world: int = 1) -> None:
        """Share the rows out to training and validation, and read those that are held."""
        settings, profiles = self._settings, self._profiles
        orders = []
        rows = split_rows(self.rows, settings.validation, settings.seed)
        for own, group_rows, seed in zip(rows, astuple(Plan(**plan)), (settings.seed, None), strict=True):
            # A share of whole pieces only where rows are streamed: there each process reads its own part.
            piece = 1 if group_rows is None else profiles.chunk_rows
            piece = max(1, min(piece, len(own) // (16 * world)))
            share = share_rows(own, rank, world, settings.seed, piece_rows=piece)
            batch = max(2, settings.batch // world)
            orders.append(
                RowOrder(
                    rows=share, batch=batch, seed=seed, group_rows=group_rows, piece_rows=profiles.chunk_rows
                )
            )
        if len(orders[0].rows) < 2 or len(orders[1].rows) < 1:
            raise TrainingError(
                f"{self.rows} profiles are too few for {world} processes",
                check="train with fewer processes",
            )
        in_memory = [order.rows for order in orders if order.group_rows is None]
        held = None
        if in_memory:
            held = HeldRows(profiles, np.sort(np.concatenate(in_memory)), self._survey.dtypes)
        self._training, self._validation = (
            Batches(order, profiles, held if order.group_rows is None else None) for order in orders
        )
        self._world = world

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return self._training.order.steps

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[NDArray[np.float32]]:
        """The epoch's batches but the first `skip`."""
        return self._training.epoch(epoch, skip=skip)

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """Batches of validation rows."""
        return self._validation.epoch(0)

    def notes(self) -> list[str]:
        """Numbers of rows, and what is odd about them."""
        rows = len(self._training.order.rows)
        notes = [
            f"{rows:,} rows for training, {len(self._validation.order.rows):,} for validation, "
            + ("streamed" if self._training.held is None else "in memory")
        ]
        if rows < self._training.order.batch:
            notes.append(f"fewer rows than a batch: every step takes all {rows:,}")
        if self._survey.constant:
            notes.append(f"{len(self._survey.constant):,} features have one value in all profiles")
        return notes

    def report(self) -> dict[str, Any]:
        """Layout, rows, and features that say nothing."""
        return {
            "layout": ", ".join(block.name for block in self.layout.blocks),
            "training_rows": len(self._training.order.rows) * self._world,
            "validation_rows": len(self._validation.order.rows) * self._world,
            "constant": list(self._survey.constant),
        }
