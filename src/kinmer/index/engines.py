"""The engine of an index: derived from the kept vectors, stamped with what of them it holds.

An engine covers the rows 0 … covered - 1 that were alive when it was brought up to date. Rows behind them are
looked at one by one, and rows that have died since are passed over, so that a change of the index costs
nothing here until there are many of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.files import built_aside, file_checksum, read_json, write_json
from kinmer.index.trust import Trust
from kinmer.progress import step
from kinmer.stores import Metric, VectorStore, engine

__all__ = ["EngineBehindError", "build_engine", "engine_folder", "open_engine", "update_engine"]

STAMP = "stamp.json"
# Rows handed to the engine together: 100 MB at 384 dimensions.
ENGINE_ROWS = 1 << 16

Bools = NDArray[np.bool_]
Vectors = NDArray[np.float32]


class EngineBehindError(FormatError):
    """An engine of an earlier state of the index, or none: nothing is damaged, the next search builds it."""


def engine_folder(index: Path, name: str) -> Path:
    """Where the files of the engine `name` stand."""
    return index / f"engine-{name}"


def open_engine(
    index: Path,
    name: str,
    *,
    dim: int,
    metric: Metric,
    stamp: dict[str, Any],
    rows: int,
    threads: int | None,
    trust: Trust,
) -> tuple[VectorStore, int]:
    """The engine that was built of the index `stamp` tells of, and how many rows it covers.

    Raises EngineBehindError, FormatError or EngineError where it has to be built anew.
    """
    folder = engine_folder(index, name)
    if not (folder / STAMP).is_file():
        raise EngineBehindError("the engine is not built yet", place=folder)
    told = read_json(folder / STAMP)
    covered = told.pop("covered", None)
    if told != stamp or not isinstance(covered, int) or not 0 <= covered <= rows:
        raise EngineBehindError("the engine is behind the entries", place=folder)
    _check_files(folder, trust)
    return engine(name).open(folder, dim=dim, metric=metric, threads=threads), covered


def build_engine(
    index: Path,
    name: str,
    vectors: Vectors,
    alive: Bools,
    *,
    metric: Metric,
    stamp: dict[str, Any],
    threads: int | None,
) -> None:
    """Build the engine from all rows alive, in a folder aside that is renamed when it is whole."""
    folder = engine_folder(index, name)
    labels = np.flatnonzero(alive)
    with built_aside(folder) as aside, step(f"Building {name}", len(labels)) as progress:
        with engine(name).create(aside, dim=vectors.shape[1], metric=metric, threads=threads) as store:
            for start in range(0, len(labels), ENGINE_ROWS):
                part = labels[start : start + ENGINE_ROWS]
                store.add(part, np.asarray(vectors[part]))
                progress.advance(len(part))
            store.flush()
        write_json(aside / STAMP, {**stamp, "covered": len(vectors)})


def update_engine(
    index: Path, store: VectorStore, covered: int, vectors: Vectors, alive: Bools, *, stamp: dict[str, Any]
) -> None:
    """Bring an open engine up to date: rows behind the covered ones come in, dead ones go."""
    folder = engine_folder(index, store.name)
    labels = np.arange(len(vectors))
    # What a killed update has brought in already is not brought in twice.
    there = np.zeros(len(vectors), dtype=bool)
    for start in range(0, len(vectors), ENGINE_ROWS):
        part = labels[start : start + ENGINE_ROWS]
        there[part] = store.contains(part)
    gone, new = labels[there & ~alive], labels[~there & alive]
    with step(f"Updating {store.name}", len(new)) as progress:
        if gone.size:
            store.delete(gone)
        for start in range(0, len(new), ENGINE_ROWS):
            part = new[start : start + ENGINE_ROWS]
            store.add(part, np.asarray(vectors[part]))
            progress.advance(len(part))
        store.flush()
    write_json(folder / STAMP, {**stamp, "covered": len(vectors)})


def _check_files(folder: Path, trust: Trust) -> None:
    """Compare files with the checksums that their engine tells of, unless they were found whole before."""
    described = folder / "store.json"
    told = read_json(described).get("files", {})
    if not isinstance(told, dict):
        raise FormatError("the engine is damaged", "its description is another", place=described)
    files = [folder / str(name) for name in told]
    if not files or trust.has(files):
        return
    for path, crc in zip(files, told.values(), strict=True):
        if not path.is_file() or file_checksum(path) != crc:
            raise FormatError("the engine is damaged", "the checksum of its file is another", place=path)
    trust.note(files)
