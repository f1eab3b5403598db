"""Steps of commands, priced: CPU and wall time, memory, disk, and whether a machine has them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from kinmer.confidence.probes import LEAST, LENGTHS, MOST_PRODUCTS, PER_GENOME, PER_LENGTH
from kinmer.costs.looks import Contents
from kinmer.costs.machine import Machine
from kinmer.costs.prices import BATCH_ROWS, BLOCK_ROWS, DIM, PRICES, PROFILE_EXPONENT
from kinmer.fasta import BLOCK_BYTES
from kinmer.index.manifest import COMPACT_SCALE
from kinmer.index.pieces import COMPACT_PIECES, DRAFT_LETTERS, LONGEST, PIECE_LENGTHS, SHORT_LETTERS
from kinmer.queries.sample import SAMPLE
from kinmer.sketches import SKETCH_SCALE
from kinmer.vectors.knn import EXACT_BELOW

Command = Literal["count", "embed", "index", "reference", "map", "cluster", "search"]
# No advice to leave out more of the input than this leaves.
LEAST_SHARE = 0.01
# Iterations of a map.
ITERATIONS = 750
# Steps whose units hold numbers of a vector: they cost by its dimensions.
_OF_VECTORS = (
    *("embedding", "embeddings kept", "entries", "graph", "graph kept", "rows of the graph's block"),
    *("vectors kept", "vectors kept in bytes"),
    "database",
    *("neighbors of all pairs", "neighbors", "fragments and rows"),
)


@dataclass(frozen=True)
class StepCost:
    """A step of so many units: seconds of CPU time and of wall time, bytes of memory and of disk."""

    name: str
    units: float
    cpu: float
    wall: float
    memory: float
    disk: float


@dataclass(frozen=True)
class CommandCost:
    """What a command takes. memory : the most at a time. warnings : where the machine does not have it."""

    command: str
    steps: tuple[StepCost, ...]
    memory: float
    warnings: tuple[str, ...] = ()

    @property
    def cpu(self) -> float:
        """Seconds on one core."""
        return sum(step.cpu for step in self.steps)

    @property
    def wall(self) -> float:
        """Seconds with the machine's threads, if nothing else runs."""
        return sum(step.wall for step in self.steps)

    @property
    def disk(self) -> float:
        """Bytes written."""
        return sum(step.disk for step in self.steps)

    @property
    def fits(self) -> bool:
        """Whether memory and disk are enough."""
        return not self.warnings

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        facts = {"command": self.command, "cpu_seconds": self.cpu, "wall_seconds": self.wall}
        facts |= {"memory_bytes": self.memory, "disk_bytes": self.disk, "fits": self.fits}
        return facts | {"warnings": list(self.warnings), "steps": [asdict(step) for step in self.steps]}


def priced(name: str, units: float, machine: Machine, dim: int = DIM) -> StepCost:
    """What a step of the table takes on a machine."""
    price = PRICES[name]
    size = dim / DIM if name in _OF_VECTORS else 1.0
    cpu = price.cpu * units**price.exponent * size / machine.speed
    wall = cpu * (1 - price.parallel + price.parallel / machine.threads)
    return StepCost(name, units, cpu, wall, price.memory * units * size, price.disk * units * size)


Steps = list[tuple[str, float]]


def _counting(held: Contents, coding: bool) -> Steps:
    letters = held.bases
    steps = [("unpacking", held.packed * letters), ("k-mers", letters)]
    return [*steps, ("reading frames", letters)] if coding else steps


def _count(held: Contents, coding: bool) -> Steps:
    size = held.total(lambda lengths: np.maximum(lengths, 1) ** PROFILE_EXPONENT)
    stored = "profile bytes with frames" if coding else "profile bytes"
    block = min(held.sequences, BLOCK_BYTES * held.sequences / max(held.bases, 1))
    rows = [("profiles", held.sequences), ("rows of a block", block), (stored, size)]
    return [("start", 1), ("files", max(0, held.genomes - 1)), *_counting(held, coding), *rows]


def _graph(rows: float) -> Steps:
    return [("graph", rows), ("rows of the graph's block", min(rows, BLOCK_ROWS))]


def _embedding(rows: float) -> Steps:
    return [("embedding", rows), ("rows of a batch", min(rows, BATCH_ROWS))]


def _entries(held: Contents, rows: float, vectors: str = "vectors kept", short: float = 0) -> Steps:
    kept = [("entries", rows), (vectors, rows), ("metadata", held.sequences)]
    return [*kept, *_graph(rows - short), ("graph kept", rows - short)]


def _short(held: Contents) -> float:
    """Contigs that a compact index does not search one by one."""
    if held.bases < DRAFT_LETTERS * max(held.genomes, 1):
        return 0.0
    long = held.at_least(SHORT_LETTERS, empty=True).sequences
    return max(0.0, held.sequences - max(long, LONGEST * held.genomes))


def _index(held: Contents, *, compact: bool = False, genomes: int = 0) -> Steps:
    """Of an index: from FASTA whole sequences, pieces and means of genomes, from all else a vector each."""
    start = ("start of an index", 1)
    pieces, scale = (COMPACT_PIECES, COMPACT_SCALE) if compact else (PIECE_LENGTHS, SKETCH_SCALE)
    if held.kind != "fasta":
        return [start, *_entries(held, held.sequences)]
    cut = held.at_least(pieces[0] + 1, empty=True)
    rows = held.vectors(pieces) + (genomes or cut.sequences)
    # What is cut is counted as a whole, and once more in tiles.
    twice = [("k-mers", cut.bases), ("reading frames", cut.bases)]
    made = _entries(held, rows, "vectors kept in bytes", _short(held)) if compact else _entries(held, rows)
    sketched = [("sketches", held.bases), ("hashes", held.bases / scale)]
    return [start, *_counting(held, True), *twice, *_embedding(rows), *made, *sketched]


def _reference(held: Contents, *, compact: bool) -> Steps:
    steps = _index(held, compact=compact, genomes=held.genomes)
    steps += [("genomes", held.genomes), ("letters kept", 0 if compact else held.bases)]
    rows = dict(steps)["entries"]
    most = max(LEAST, min(PER_LENGTH * len(LENGTHS), MOST_PRODUCTS / max(rows, 1)))
    fragments = min(most, held.genomes * PER_GENOME * len(LENGTHS))
    return [*steps, ("fragments", fragments), ("fragments and rows", fragments * rows)]


def _neighbors(points: float) -> Steps:
    if points <= EXACT_BELOW:
        return [("neighbors of all pairs", points**2)]
    return [*_graph(points), ("neighbors", points)]


def _map(points: float) -> Steps:
    moved = [("iterations", ITERATIONS), ("points moved", points * ITERATIONS)]
    return [
        *[("start of a map", 1), *_neighbors(points), ("affinities", points)],
        *[*moved, ("picture and page", points)],
    ]


def _cluster(points: float) -> Steps:
    return [("start of a clustering", 1), *_neighbors(points), ("communities", points)]


def _search(held: Contents, rows: float) -> Steps:
    asked = [("queries", held.sequences), ("queries that wait", min(held.sequences, SAMPLE))]
    return [("start of a search", 1), ("database", rows), *_counting(held, True), *asked]


def steps_of(
    command: Command, held: Contents, *, coding: bool = True, compact: bool = False, database: float = 0
) -> tuple[str, Steps]:
    """A command as it is typed, and the steps of it with their units.

    coding : reading frames are counted too. compact : of a reference. database : vectors that are searched.
    """
    if command == "count":
        return f"count{' --coding' * coding}", _count(held, coding)
    if command == "embed":
        return "embed", [("start", 1), *_embedding(held.sequences), ("embeddings kept", held.sequences)]
    if command == "index":
        return "index", _index(held)
    if command == "reference":
        return f"reference{' --compact' * compact}", _reference(held, compact=compact)
    if command == "map":
        return "map", _map(held.sequences)
    if command == "cluster":
        return "cluster", _cluster(held.sequences)
    return "search", _search(held, database)


def cost_of(command: Command, held: Contents, machine: Machine, **settings: Any) -> CommandCost:
    """What a command takes on a machine, with warnings and advice where that is more than there is."""
    cost = _cost(command, held, machine, settings)
    warnings = []
    for what, wanted, free in (("memory", cost.memory, machine.memory), ("disk", cost.disk, machine.disk)):
        if wanted > free:
            advice = _advice(command, held, machine, settings, what)
            warnings.append(
                f"{cost.command} does not fit: it takes {size_of(wanted)} of {what}, "
                f"{size_of(free)} are free · {advice}"
            )
    return CommandCost(cost.command, cost.steps, cost.memory, tuple(warnings))


def _cost(command: Command, held: Contents, machine: Machine, settings: dict[str, Any]) -> CommandCost:
    name, units = steps_of(command, held, **settings)
    steps = tuple(priced(step, number, machine, held.dim) for step, number in units)
    # What the start takes stays; the others follow each other.
    return CommandCost(name, steps, steps[0].memory + max(step.memory for step in steps[1:]))


def _advice(command: Command, held: Contents, machine: Machine, settings: dict[str, Any], what: str) -> str:
    if command == "reference" and not settings.get("compact"):
        small = _cost(command, held, machine, settings | {"compact": True})
        if small.memory <= machine.memory and small.disk <= machine.disk:
            return f"--compact takes {size_of(small.memory)} of memory and {size_of(small.disk)} of disk"

    def fits(share: float) -> bool:
        part = _cost(command, held.scaled(share), machine, settings)
        return part.memory <= machine.memory and part.disk <= machine.disk

    share = _largest(fits)
    if share < LEAST_SHARE:
        return f"take a {'larger disk' if what == 'disk' else 'machine with more'}"
    if command == "reference":
        some = f"about {int(held.genomes * share):,} of the {held.genomes:,} genomes fit"
        return f"{some}, such as one of a species"
    most = f"about {int(held.sequences * share):,} sequences fit"
    least = _least_length(held, share)
    if least:
        return f"{most}: --min-length {least:,} of count leaves so many"
    return f"{most}; or make room" if what == "disk" else most


def _largest(fits: Callable[[float], bool]) -> float:
    """The largest share that fits, to a thousandth; 0 where none does."""
    low, high = 0.0, 1.0
    while high - low > 1e-3 * high and high > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _least_length(held: Contents, share: float) -> int:
    """The length that this share of the sequences has at least, up to the next hundred; 0: not known."""
    order = np.argsort(-held.lengths)
    above = np.cumsum(held.weights[order]) <= share * held.sequences
    if not above.any() or held.lengths[order][above][-1] <= 0 or held.kind == "index":
        return 0
    return int(-(-held.lengths[order][above][-1] // 100) * 100)


def size_of(number: float) -> str:
    """Bytes for people."""
    return f"{number / 1e9:,.1f} GB" if number >= 1e9 else f"{number / 1e6:,.0f} MB"


def time_of(seconds: float) -> str:
    """Seconds for people."""
    for unit, size in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:,.0f} s"
