"""The engine of an index: built aside from the kept vectors, stamped with what it was built from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import EngineError, FormatError
from kinmer.files import built_aside, read_json, write_json
from kinmer.index.entries import Block
from kinmer.index.vectors import row_checksum
from kinmer.progress import step
from kinmer.stores import Metric, VectorStore, engine

__all__ = ["build_engine", "engine_folder", "open_engine"]

STAMP = "stamp.json"
# Rows handed to the engine together: 100 MB at 384 dimensions.
ENGINE_ROWS = 1 << 16


def engine_folder(index: Path, name: str) -> Path:
    """Where the files of the engine `name` stand."""
    return index / f"engine-{name}"


def open_engine(
    index: Path, name: str, *, dim: int, metric: Metric, stamp: dict[str, Any], threads: int | None
) -> VectorStore:
    """The engine that was built for `stamp`; FormatError or EngineError where it has to be built anew."""
    folder = engine_folder(index, name)
    if read_json(folder / STAMP) != stamp:
        raise FormatError("the engine lags behind the entries", place=folder)
    store = engine(name).open(folder, dim=dim, metric=metric, threads=threads)
    if len(store) != stamp["entries"]:
        store.close()
        raise FormatError("the engine lacks entries", place=folder)
    return store


def build_engine(
    index: Path,
    name: str,
    vectors: NDArray[np.float32],
    blocks: Iterable[Block],
    *,
    metric: Metric,
    stamp: dict[str, Any],
    threads: int | None,
) -> None:
    """Build the engine from all vectors, in a folder aside that is renamed when it is whole.

    Raises FormatError where the vectors are not those that were committed, EngineError where it fails.
    """
    folder = engine_folder(index, name)
    with built_aside(folder) as aside, step(f"Building {name}", len(vectors)) as progress:
        with engine(name).create(aside, dim=vectors.shape[1], metric=metric, threads=threads) as store:
            for first, block in _checked(vectors, blocks, folder.parent):
                store.add(np.arange(first, first + len(block)), block)
                progress.advance(len(block))
            if len(store) != len(vectors):
                raise EngineError(f"{name} took {len(store)} of {len(vectors)} entries", place=folder)
            store.flush()
        write_json(aside / STAMP, stamp)


def _checked(
    vectors: NDArray[np.float32], blocks: Iterable[Block], place: Path
) -> Iterable[tuple[int, NDArray[np.float32]]]:
    """First row and vectors of groups of blocks, every block checked against its checksum."""
    first, parts = 0, list[NDArray[np.float32]]()
    for block in blocks:
        rows = np.asarray(vectors[block.first : block.first + block.rows])
        if row_checksum(rows) != block.checksum:
            raise FormatError(
                f"the vectors of the entries {block.first} to {block.first + block.rows - 1} are damaged",
                "their checksum is another",
                "copy the index again, or build it again",
                place=place / "vectors.f32",
            )
        if parts and sum(map(len, parts)) + len(rows) > ENGINE_ROWS:
            whole = np.concatenate(parts)
            yield first, whole
            first, parts = first + len(whole), []
        parts.append(rows)
    if parts:
        yield first, np.concatenate(parts)
