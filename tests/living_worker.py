"""A process that changes an index until it is killed, and what the index must hold then."""

from __future__ import annotations

import copy
import os
import signal
import sys
import zlib
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kinmer
from kinmer.index import IndexWriter
from kinmer.index.commit import NewSequence
from kinmer.sketches import sketch_many

__all__ = ["DIM", "LENGTH", "Known", "Model", "change", "letters_of", "sequence_of", "vectors_of"]

DIM, LENGTH, PIECE = 8, 900, 300
FEWEST, MOST = 25, 70


@dataclass(frozen=True)
class Known:
    """What an entry must be: its vectors follow from its id and version."""

    version: int
    kind: str
    genome: str


@dataclass
class Model:
    """What the index must hold: entries by id, those that were deleted, and how many ids were given."""

    entries: dict[str, Known] = field(default_factory=dict)
    gone: dict[str, Known] = field(default_factory=dict)
    given: int = 0

    def after(self, step: dict[str, Any]) -> Model:
        """The model with a step done."""
        new = copy.deepcopy(self)
        new.given = max(new.given, step.get("given", 0))
        for name in step.get("delete", ()):
            new.gone[name] = new.entries.pop(name)
        for name, told in step.get("set", {}).items():
            if name in new.entries and new.entries[name].version != told.version:
                new.gone[f"{name}, version {new.entries[name].version}"] = new.entries[name]
            new.entries[name] = told
        return new


def vectors_of(name: str, version: int) -> NDArray[np.float32]:
    """The whole's vector and those of up to three pieces, (1 … 4, DIM)."""
    rng = np.random.default_rng(zlib.crc32(f"{name}/{version}".encode()))
    return rng.normal(size=(1 + int(rng.integers(4)), DIM)).astype(np.float32)


def letters_of(name: str, version: int) -> bytes:
    """The letters that are kept of an entry."""
    rng = np.random.default_rng(zlib.crc32(f"letters of {name}/{version}".encode()))
    return np.frombuffer(b"ACGT", np.uint8)[rng.integers(4, size=LENGTH)].tobytes()


def sequence_of(name: str, known: Known) -> NewSequence:
    """An entry as it is added."""
    vectors = vectors_of(name, known.version)
    spans = [(PIECE * at, PIECE * (at + 1)) for at in range(len(vectors) - 1)]
    return NewSequence(name, known.genome, LENGTH, 0.5, {"kind": known.kind}, vectors, spans)


def change(folder: Path, model: Model, seed: int, pipe: Connection, lines: int | None) -> None:
    """Change the index for ever, in an order that follows from the seed.

    lines : end by SIGKILL after so many lines of kinmer's code; 0: between the first commit and its telling.

    Every step is sent before it begins, ("begin", step), and when it is committed, ("done",).
    """
    rng = np.random.default_rng(seed)
    if lines:
        _end_after(lines)

    def tell(what: str, ids: list[str]) -> None:
        if lines == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        pipe.send(("done",))

    with IndexWriter(folder, threads=1, committed=tell) as writer:
        while True:
            step = _drawn(model, rng)
            pipe.send(("begin", step))
            _do(writer, step)
            model = model.after(step)


def _end_after(lines: int) -> None:
    """Kill this process at its so-manieth line of kinmer's code from now on."""
    house, left = str(Path(kinmer.__file__).parent), lines

    def line(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal left
        left -= event == "line"
        if left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return line

    def call(frame: FrameType, event: str, value: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(house) else None

    sys.settrace(call)


def _drawn(model: Model, rng: np.random.Generator) -> dict[str, Any]:
    """A step: what is set (added, replaced, given other metadata) and what deleted."""
    number, names = len(model.entries), sorted(model.entries)
    kinds = ["add", "update", "delete", "metadata", "home", "compact", "finish"]
    shares = np.array([4, 2, 3, 1, 1, 2, 2], dtype=float)
    shares[0] *= number < MOST
    shares[2] *= number > FEWEST
    what = kinds[int(rng.choice(len(kinds), p=shares / shares.sum()))]
    some = [names[at] for at in sorted(rng.choice(number, int(rng.integers(1, 6)), replace=False).tolist())]
    if what == "add":
        first, count = model.given, int(rng.integers(1, 7))
        new = {
            f"n{at}": Known(0, f"kind {rng.integers(5)}", f"g{rng.integers(9)}")
            for at in range(first, first + count)
        }
        return {"what": what, "set": new, "given": first + count}
    if what == "delete":
        return {"what": what, "delete": some}
    if what in ("compact", "finish"):
        return {"what": what}
    versions = int(what == "update")
    homes = what != "metadata"
    told = {}
    for name in some:
        old = model.entries[name]
        home = f"g{rng.integers(9)}" if homes else old.genome
        told[name] = Known(old.version + versions, f"kind {rng.integers(5)}", home)
    return {"what": what, "set": told}


def _do(writer: IndexWriter, step: dict[str, Any]) -> None:
    what, told = step["what"], step.get("set", {})
    if what in ("add", "update"):
        letters = [letters_of(name, known.version) for name, known in told.items()]
        replaced = writer.numbers_of(list(told)) if what == "update" else ()
        sequences, sketches = [sequence_of(*one) for one in told.items()], sketch_many(letters)
        writer.add(sequences, letters=letters, sketches=sketches, replace=replaced)
    elif what == "delete":
        writer.delete(writer.numbers_of(step["delete"]))
    elif what == "compact":
        writer.compact()
    elif what == "finish":
        writer.finish(behind=0)
    else:
        writer.set_metadata(
            ["kind"],
            lambda asked: [
                {"kind": told[name].kind, "genome": told[name].genome} if name in told else None
                for name, _ in asked
            ],
            genome_column="genome",
        )
