"""Builds an index, block by block, in a folder aside; a killed run goes on with the same call."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kinmer.errors import FormatError, InputError, MismatchError, UsageError
from kinmer.files import check_output, hash_file, read_json, remove, sync_directory
from kinmer.index.database import (
    ENCODER,
    ENTRIES,
    MANIFEST,
    VECTORS,
    KinIndex,
    write_manifest,
)
from kinmer.index.embedded import Embedded, open_embedded
from kinmer.index.entries import EntryTable
from kinmer.index.metadata import KNOWN, MISSING, RESERVED, Metadata, stage_metadata
from kinmer.index.vectors import VectorFile, row_checksum
from kinmer.profiles import Profiles
from kinmer.profiles.journal import StoreLock
from kinmer.progress import step
from kinmer.stores import Metric, check_metric, check_vectors
from kinmer.stores import engine as engine_named

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = ["build_index"]

# Rows committed together.
BLOCK_ROWS = 1 << 13
STAGED = "metadata.sqlite"


def build_index(
    source: str | Path | AnnData | Profiles,
    output: str | Path,
    *,
    encoder: str | Path | Encoder | None = None,
    engine: str = "hnsw",
    metric: Metric = "cosine",
    metadata: str | Path | None = None,
    ids: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    log: Callable[[str], None] | None = None,
) -> KinIndex:
    """Build the index of embedded sequences at `output` and open it.

    It grows in the hidden folder ``.NAME.building`` beside the output, vectors and entries in committed
    blocks, the engine last; a killed run of the same source, encoder and metadata is gone on with.

    Parameters
    ----------
    source, ids, encoder : see `kinmer.index.embedded.open_embedded`.
    engine : "hnsw", "chroma" or "exact".
    metric : "cosine" (1 - cos) or "l2" (Euclidean).
    metadata : a table with tabs, see `kinmer.index.metadata.stage_metadata`; its columns come before the
        source's own of the same name. Ids that it lacks have missing values.
    threads : of the engine; None for all cores.
    force : replace an index.
    log : is told what was left out.

    Raises
    ------
    UsageError : the output exists, an unknown engine or metric, no encoder.
    MismatchError : an encoder that did not embed the source, metadata of none of its ids.
    ProfileError, InputError, FormatError : a source, metadata or encoder that cannot be used.
    EngineError : the engine failed; what was built is kept.
    """
    engine_named(engine)
    check_metric(metric)
    path = _check_place(Path(output), force)
    tell = log or (lambda line: None)
    embedded = open_embedded(source, encoder=encoder, ids=ids)
    building = path.absolute().with_name(f".{path.name}.building")
    building.mkdir(exist_ok=True)
    lock = StoreLock(building)
    try:
        entries = _fill(building, embedded, None if metadata is None else Path(metadata), tell)
        name, rows = entries.state["index"], len(entries)
        entries.close()
        encoded = embedded.encoder
        write_manifest(building, index=name, engine=engine, metric=metric, encoder=encoded, entries=rows)
        with KinIndex.open(building, log=log, threads=threads) as made:
            made.prepare()
        _publish(building, path, lock)
    except InputError:
        # The same call would fail again: there is nothing to go on with.
        remove(building)
        raise
    finally:
        lock.release()
    return KinIndex.open(path, log=log, threads=threads)


def _check_place(path: Path, force: bool) -> Path:
    """`check_output`, which with `force` replaces an index or an empty folder but nothing else."""
    check_output(path, force=force)
    if path.exists() and not (path / MANIFEST).is_file() and not (path.is_dir() and not any(path.iterdir())):
        raise UsageError(
            "the output is no index",
            "replacing it would lose what it is",
            "choose another output",
            place=path,
        )
    return path


def _publish(building: Path, path: Path, lock: StoreLock) -> None:
    """Give a whole index its name; after a kill in between the same call finds it whole and goes on here."""
    old = path.absolute().with_name(f".{path.name}.old")
    remove(old)
    if path.exists():
        path.rename(old)
    building.rename(path)
    sync_directory(path.absolute().parent)
    lock.move(path)
    remove(old)


def _fill(
    building: Path, embedded: Embedded, metadata: Path | None, tell: Callable[[str], None]
) -> EntryTable:
    """The table of all entries, their vectors beside it: what is missing of them is written."""
    staged = None if metadata is None else stage_metadata(metadata, building / STAGED)
    if staged is not None and not staged.matches(embedded.ids.tolist()):
        raise MismatchError(
            "the metadata have none of the source's ids",
            "no entry would have any",
            "does the column id hold the sequence ids?",
            place=metadata,
        )
    own = _own_columns(embedded.obs, staged, tell)
    signature = {
        "source": embedded.identity,
        "encoder": embedded.encoder.fingerprint,
        "metadata": None if metadata is None else hash_file(metadata),
    }
    entries = _unfinished(building, signature, tell)
    if entries is None:
        for name in (ENTRIES, f"{ENTRIES}-journal", VECTORS, ENCODER, MANIFEST):
            remove(building / name)
        embedded.encoder.save(building / ENCODER)
        columns = [*(staged.columns if staged else ()), *own]
        entries = EntryTable.create(
            building / ENTRIES, columns, {"index": uuid.uuid4().hex, "made": signature}
        )
    try:
        _append(building, entries, embedded, own, staged)
        if staged is not None:
            tell(f"metadata for {entries.count_staged():,} of {len(entries):,} entries")
            remove(staged.database)
    except BaseException:
        entries.close()
        raise
    return entries


def _unfinished(building: Path, signature: dict[str, Any], tell: Callable[[str], None]) -> EntryTable | None:
    """The table that a killed run of the same signature has left; None where there is none."""
    if not (building / ENTRIES).is_file():
        return None
    try:
        entries = EntryTable(building / ENTRIES, writable=True)
        told = read_json(building / ENCODER / "config.json").get("fingerprint")
    except FormatError:
        return None
    same = entries.state.get("made") == signature and signature["source"] is not None
    if same and told == signature["encoder"]:
        if entries.rows:
            tell(f"going on after {entries.rows:,} entries")
        return entries
    entries.close()
    return None


def _append(
    building: Path, entries: EntryTable, embedded: Embedded, own: list[str], staged: Metadata | None
) -> None:
    """Write the entries that are missing: a block's vectors, then, committing both, its rows."""
    theirs = range(len(staged.columns) if staged else 0)
    values = [*(f"m.c{number}" for number in theirs), *("?" for _ in own)]
    insert = f"INSERT INTO main.entries SELECT ?, ?, ?, ?{''.join(f', {one}' for one in values)}"
    if staged is not None:
        entries.attach(staged.database, "staged")
        insert += " FROM (SELECT 1) LEFT JOIN staged.metadata AS m ON m.id = ?"
    with (
        VectorFile(building / VECTORS, embedded.encoder.dim, entries.rows) as file,
        step("Indexing", len(embedded)) as progress,
    ):
        progress.advance(entries.rows)
        for first, block in embedded.blocks(entries.rows, BLOCK_ROWS):
            vectors = check_vectors(block, embedded.encoder.dim, first=first)
            file.append(vectors)
            rows = _rows(embedded, own, first, first + len(vectors))
            if staged is not None:
                rows = ((*row, row[1]) for row in rows)
            entries.append(insert, rows, count=len(vectors), checksum=row_checksum(vectors))
            progress.advance(len(vectors))


def _rows(embedded: Embedded, own: list[str], start: int, stop: int) -> Iterator[tuple[Any, ...]]:
    """Label, id, length, GC and the source's own columns of every row."""
    obs = embedded.obs.iloc[start:stop]
    nothing = [None] * (stop - start)
    known = [_plain(obs[name]) if name in obs else nothing for name in ("length", "gc")]
    columns = [_plain(obs[name]) for name in own]
    return zip(range(start, stop), embedded.ids[start:stop].tolist(), *known, *columns, strict=True)


def _own_columns(obs: pd.DataFrame, staged: Metadata | None, tell: Callable[[str], None]) -> list[str]:
    """Columns of the source that become metadata: not those counted, reserved, or in the staged table."""
    seen = {name.lower() for name in staged.columns} if staged else set()
    own, left = [], list(staged.left_out) if staged else []
    for name in obs.columns:
        if not isinstance(name, str) or not name.strip() or name.lower() in RESERVED:
            left.append(str(name))
        elif name.lower() not in KNOWN and name.lower() not in seen:
            own.append(name)
            seen.add(name.lower())
    if left:
        tell(f"left out, because the index has its own: {', '.join(left)}")
    return own


def _plain(column: pd.Series[Any]) -> list[Any]:
    """Values as SQLite takes them: whole numbers, finite numbers, text; None where missing."""
    return [_plain_value(value) for value in column.astype(object).tolist()]


def _plain_value(value: Any) -> Any:
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None if math.isnan(value) else str(value)
    if isinstance(value, int):
        return int(value) if abs(value) < 1 << 63 else str(value)
    text = str(value)
    return None if text in MISSING else text
