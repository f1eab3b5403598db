"""Embeds profiles or sequences, block by block, into a store, an AnnData or an ``.npy`` table."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from kinmer.box import boxed, boxed_for, origin_of
from kinmer.encoder import Encoder
from kinmer.errors import KinmerError, UsageError
from kinmer.files import (
    hold,
    is_held,
    remove,
    settle,
    sync_directory,
    take_name,
    write_bytes,
)
from kinmer.folders import Journal, Workshop, check_output
from kinmer.inputs import kind_of
from kinmer.layout import check_layout
from kinmer.profiles import Profiles, ProfileStore, open_profiles, stamp_of
from kinmer.profiles.root import STORE, part_of
from kinmer.progress import step
from kinmer.resources import cpu_threads

if TYPE_CHECKING:
    from anndata import AnnData

KEY = "X_kinmer"
COMMIT_SECONDS = 1.0


def embed(
    source: str | Path | AnnData | Profiles,
    encoder: str | Path | Encoder | None = None,
    *,
    output: str | Path | None = None,
    ids: str | Path | None = None,
    min_length: int = 1000,
    batch: int = 4096,
    device: str = "auto",
    threads: int | None = None,
    force: bool = False,
) -> AnnData | ProfileStore | Path:
    """Embed every sequence; a killed run resumes with the same call.

    Parameters
    ----------
    source, ids : what `open_profiles` takes, or a FASTA file (``-``: stdin).
    encoder : str | Path | Encoder | None
        An encoder, its folder, or the name of one that comes with kinmer; None: the newest of these that
        takes the source's profiles (of a FASTA: the one with reading frames).
    output : str | Path | None
        None: a store keeps its embeddings in ``obsm["X_kinmer"]``, and so does an AnnData, in place. An
        ``.npy`` name: (n, dim) float32 vectors, and their ids one a line in the ``.txt`` beside it. Of a
        FASTA also a ``.zarr`` name: the counts and their embeddings.
    min_length : int
        Shorter sequences of a FASTA are left out.
    batch : int
        Rows read and embedded together; the vectors are the same whatever it is.
    device, threads : str
        As in `kinmer.train`.
    force : bool
        Replace an output, or a store's embeddings by another encoder.

    Returns
    -------
    The AnnData, the store, or the path of the ``.npy`` file.

    Raises
    ------
    MismatchError, UsageError : the encoder takes other profiles; no place for the vectors, or it is taken.
    """
    if batch < 1:
        raise UsageError(f"the batch must be at least 1 row, not {batch}")
    place = _place(source, output, force)
    with cpu_threads(threads):
        fasta = kind_of(source) == "fasta"
        if encoder is None:
            encoder = boxed() if fasta else boxed_for(open_profiles(source, ids=ids).layout)
        opened = encoder if isinstance(encoder, Encoder) else Encoder.load(encoder, device=device)
        origin = "" if isinstance(encoder, Encoder) else origin_of(encoder)
        if fasta:
            assert place is not None
            return _embed_fasta(str(source), opened, origin, place, min_length, batch, threads, force)
        profiles = open_profiles(source, ids=ids)
        _check(profiles, opened)
        if place is not None:
            return _into_table(profiles, opened, origin, place, batch, stamp_of(source))
        if isinstance(profiles, ProfileStore):
            return _into_store(profiles, opened, origin, batch, force)
        return _into_anndata(source, profiles, opened, origin, batch)


def provenance_of(encoder: Encoder, origin: str) -> dict[str, Any]:
    """What is stored beside embeddings; `origin`: the encoder's folder, empty for one in memory."""
    return {"encoder_fingerprint": encoder.fingerprint, "encoder": origin, "dim": encoder.dim}


def _is_anndata(source: object) -> bool:
    anndata = sys.modules.get("anndata")  # Who hands over an AnnData has imported it.
    return anndata is not None and isinstance(source, anndata.AnnData)


def _place(source: object, output: str | Path | None, force: bool) -> Path | None:
    """Where the vectors go, checked; None for the source itself."""
    fasta = kind_of(source) == "fasta"
    if output is None:
        if _is_anndata(source) or isinstance(source, ProfileStore):
            return None
        if kind_of(source) in ("memory", "fasta", "npy", "h5ad"):
            raise UsageError(
                "there is no output", "only a store and an AnnData keep their embeddings", "give an .npy name"
            )
        return None
    path = Path(output)
    wanted = (".npy", ".zarr") if fasta else (".npy",)
    if path.suffix not in wanted:
        raise UsageError(f"the output must be named {' or '.join(wanted)}", place=path)
    _refuse_second(path)
    settle(_journal_of(path))
    if not _part_of(path).exists():
        # Left by a run that was killed when its output was whole.
        _journal_of(path).unlink(missing_ok=True)
        remove(_counts_of(path))
    check_output(path, force=force, kind=STORE if path.suffix == ".zarr" else None)
    if path.suffix == ".npy":
        # A killed run may have written the ids already.
        check_output(path.with_suffix(".txt"), force=force or _journal_of(path).exists())
    return path


def _refuse_second(path: Path) -> None:
    """UsageError where another process embeds into the same output."""
    if is_held(_part_of(path)) or any(map(Workshop.is_busy, (_counts_of(path), part_of(_counts_of(path))))):
        raise UsageError("another process is writing this output", check="wait for it, or end it", place=path)


def _check(profiles: Profiles, encoder: Encoder) -> None:
    check_layout(encoder.layout, profiles.layout)
    encoder.clr.check_values(profiles.values)


def _blocks(
    profiles: Profiles, encoder: Encoder, start: int, batch: int
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """First row and vectors of every block from row `start` on; the next block is read meanwhile."""
    total = len(profiles)
    size = (
        max(1, batch // profiles.chunk_rows) * profiles.chunk_rows if batch >= profiles.chunk_rows else batch
    )
    spans = [(first, min(first + size, total)) for first in range(start, total, size)]
    began = time.monotonic()
    with step("Embedding", total) as progress, ThreadPoolExecutor(1) as reader:
        progress.advance(start)
        coming = reader.submit(profiles.read, *spans[0]) if spans else None
        for number, (first, last) in enumerate(spans):
            assert coming is not None
            rows = coming.result()
            if number + 1 < len(spans):
                coming = reader.submit(profiles.read, *spans[number + 1])
            yield first, encoder.embed(rows, profiles.values)
            speed = (last - start) / max(time.monotonic() - began, 1e-9)
            progress.advance(last - first, note=f"{speed:,.0f} rows/s")


def _into_anndata(table: Any, profiles: Profiles, encoder: Encoder, origin: str, batch: int) -> AnnData:
    vectors = np.empty((len(profiles), encoder.dim), np.float32)
    for start, block in _blocks(profiles, encoder, 0, batch):
        vectors[start : start + len(block)] = block
    table.obsm[KEY] = vectors
    described = {KEY: provenance_of(encoder, origin)}
    table.uns["kinmer"] = {**table.uns.get("kinmer", {}), "embedding": json.dumps(described)}
    return table


def _into_store(store: ProfileStore, encoder: Encoder, origin: str, batch: int, force: bool) -> ProfileStore:
    if KEY in store.obsm_keys():
        made = store.embedding(KEY)
        if made is not None and made.get("encoder_fingerprint") == encoder.fingerprint:
            return store
        if not force:
            raise UsageError(
                "the store has embeddings already",
                "nothing says which encoder made them" if made is None else "they are of another encoder",
                "use --force to replace them",
                place=store.path,
            )
    with store.obsm_writer(KEY, encoder.dim, provenance=provenance_of(encoder, origin)) as writer:
        for _, vectors in _blocks(store, encoder, writer.rows, batch):
            writer.append(vectors)
        writer.finish()
    return store


def _into_table(
    profiles: Profiles, encoder: Encoder, origin: str, path: Path, batch: int, stamp: list[int] | None
) -> Path:
    signature = {
        **provenance_of(encoder, origin),
        "ids": profiles.fingerprint,
        "rows": len(profiles),
        "stamp": stamp,
    }
    with _vector_table(path, (len(profiles), encoder.dim), signature) as table:
        for _, vectors in _blocks(profiles, encoder, table.rows, batch):
            table.append(vectors)
        table.commit()
        write_bytes(path.with_suffix(".txt"), "".join(f"{name}\n" for name in profiles.ids).encode())
        table.finish()
    return path


class _VectorTable:
    """An ``.npy`` file that grows aside, with a journal of the rows that are surely in it."""

    def __init__(self, path: Path, shape: tuple[int, int], journal: Journal, file: IO[bytes]) -> None:
        self._path, self._part, self._journal = path, _part_of(path), journal
        self._file, self._committed = file, time.monotonic()
        self.rows = 0
        npy_format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
        self._row_bytes, self._header = 4 * shape[1], file.tell()

    def resume(self, rows: int) -> None:
        """Keep the first `rows` rows that are in the file."""
        self.rows = rows
        self._file.seek(self._header + rows * self._row_bytes)

    def append(self, vectors: NDArray[np.float32]) -> None:
        """Add the next rows."""
        self._file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
        self.rows += len(vectors)
        if time.monotonic() - self._committed >= COMMIT_SECONDS:
            self.commit()

    def commit(self) -> None:
        """Make the rows so far sure."""
        self._sync()
        self._journal.write(rows=self.rows)
        self._committed = time.monotonic()

    def discard(self) -> None:
        """Remove what is there."""
        self._part.unlink(missing_ok=True)
        self._journal.clear()

    def finish(self) -> None:
        """Give the file its name."""
        self._file.truncate()
        self._sync()
        self._part.replace(self._path)
        sync_directory(self._path.absolute().parent)
        self._journal.clear()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


def _part_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _journal_of(path: Path) -> Path:
    return path.with_name(f".{path.name}.part.json")


def _counts_of(path: Path) -> Path:
    """Where the profiles of a FASTA file stand until they are embedded."""
    return path.with_name(f".{path.name}.counts.zarr")


@contextmanager
def _vector_table(path: Path, shape: tuple[int, int], signature: dict[str, Any]) -> Iterator[_VectorTable]:
    """A table that resumes where a killed run of the same signature was; rows in memory start afresh."""
    rows, journal = 0, Journal(_journal_of(path), signature)
    if signature["stamp"] is not None and _part_of(path).exists():
        with suppress(KeyError, TypeError, ValueError):
            rows = int((journal.read() or {"rows": 0})["rows"])
    with _part_of(path).open("r+b" if rows else "w+b") as file:
        hold(file.fileno())
        table = _VectorTable(path, shape, journal, file)
        table.resume(rows)
        try:
            yield table
        except KeyboardInterrupt:
            table.commit()
            raise
        except KinmerError:
            table.discard()
            raise


def _embed_fasta(
    source: str,
    encoder: Encoder,
    origin: str,
    place: Path,
    min_length: int,
    batch: int,
    threads: int | None,
    force: bool,
) -> ProfileStore | Path:
    """Count into a hidden store and embed that: it gets the output's name, or goes behind an ``.npy``."""
    from kinmer.counting import count  # Numba takes half a second, and only sequences need it.

    path = _counts_of(place)
    count(
        [source],
        path,
        max_k=encoder.layout.ks[0],
        coding=encoder.layout.coding,
        genetic_code=encoder.layout.genetic_code,
        min_length=min_length,
        threads=threads,
        force=True,
    )
    store = ProfileStore.open(path)
    if place.suffix == ".npy":
        try:
            return _into_table(store, encoder, origin, place, batch, None)
        finally:
            remove(path)
    _into_store(store, encoder, origin, batch, force)
    take_name(path, place)
    return ProfileStore.open(place)
