"""An index: entries, their vectors, the encoder that made them and a vector engine, in one folder."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import __version__
from kinmer.box import version_note
from kinmer.errors import EngineError, FormatError, MismatchError, UsageError
from kinmer.files import read_json, remove, write_json
from kinmer.index.engines import build_engine, engine_folder, open_engine
from kinmer.index.entries import Entry, EntryTable
from kinmer.index.vectors import map_vectors
from kinmer.profiles.journal import StoreLock
from kinmer.stores import (
    ENGINES,
    Metric,
    VectorStore,
    check_metric,
    check_vectors,
    distances_to,
    exact_search,
    sort_hits,
)

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["ENCODER", "ENTRIES", "FORMAT", "MANIFEST", "VECTORS", "KinIndex", "open_index", "write_manifest"]

FORMAT = 1
MANIFEST, ENTRIES, VECTORS, ENCODER = "index.json", "entries.sqlite", "vectors.f32", "encoder"
# Queries whose candidates' vectors are gathered together.
QUERY_BLOCK = 256

Log = Callable[[str], None]


class KinIndex:
    """An index opened for searching; made by `kinmer.index.build_index`.

    Vectors, entries and encoder are the truth; the engine is derived from them and is opened by the first
    search that needs it. One that is missing, damaged or behind is built anew (`rebuilt`, told to `log`);
    where the folder cannot be written, the vectors are searched exactly instead.

    Attributes
    ----------
    engine, metric : names, such as "hnsw" and "cosine".
    dim : length of a vector.
    columns : names of the metadata.
    encoder_fingerprint : of the encoder whose vectors these are.
    """

    def __init__(
        self,
        path: Path,
        manifest: dict[str, Any],
        entries: EntryTable,
        *,
        log: Log | None = None,
        threads: int | None = None,
    ) -> None:
        self.path = path
        self.engine: str = manifest["engine"]
        self.metric: Metric = manifest["metric"]
        self.dim: int = manifest["dim"]
        self.encoder_fingerprint: str = manifest["encoder_fingerprint"]
        self.columns = entries.columns
        self.rebuilt = False
        self._manifest, self._entries, self._log, self._threads = manifest, entries, log, threads
        self._vectors = map_vectors(path / VECTORS, entries.rows, self.dim)
        self._store: VectorStore | None = None
        self._unwritable = False

    @classmethod
    def open(cls, path: str | Path, *, log: Log | None = None, threads: int | None = None) -> Self:
        """Open the index at `path` in milliseconds; nothing is read that a search may not need.

        log : is told what had to be mended. threads : of the engine; None for all cores.

        Raises FormatError: no index, unfinished, damaged, of another version; MismatchError: parts of
        different indexes.
        """
        path = Path(path)
        manifest = _read_manifest(path)
        entries = EntryTable(path / ENTRIES)
        try:
            if entries.state["index"] != manifest["index"]:
                raise MismatchError(
                    "entries.sqlite is of another index", check="copy the whole folder", place=path
                )
            if entries.rows < 1:
                raise FormatError("the index has no entries", place=path)
            told = read_json(path / ENCODER / "config.json").get("fingerprint")
            if told != manifest["encoder_fingerprint"]:
                raise MismatchError(
                    "the encoder in the index is not the one of its vectors",
                    "queries would be placed wrongly",
                    "copy the index again",
                    place=path / ENCODER,
                )
            return cls(path, manifest, entries, log=log, threads=threads)
        except BaseException:
            entries.close()
            raise

    def __len__(self) -> int:
        return self._entries.rows

    def __repr__(self) -> str:
        return f"KinIndex({str(self.path)!r}: {len(self)} entries × {self.dim}, {self.engine}, {self.metric})"

    @property
    def vectors(self) -> NDArray[np.float32]:
        """The embeddings, (n, dim), mapped from the file; row = label."""
        return self._vectors

    @cached_property
    def encoder(self) -> Encoder:
        """The encoder that made the vectors, loaded and checked."""
        from kinmer.encoder import Encoder

        found = Encoder.load(self.path / ENCODER)
        if found.fingerprint != self.encoder_fingerprint:
            raise MismatchError("the encoder is not the one of the vectors", place=self.path / ENCODER)
        if self._log is not None and (note := version_note(found.name)):
            self._log(note)
        return found

    @property
    def ids(self) -> NDArray[np.object_]:
        """All ids by label, (n,) str; read from the table."""
        return np.array([entry.id for entry in self._entries.scan()], dtype=object)

    @property
    def metadata(self) -> pd.DataFrame:
        """All that is known of the entries by label, index = ids: length, gc and the metadata."""
        rows = [(entry.length, entry.gc, *entry.values) for entry in self._entries.scan()]
        return pd.DataFrame(rows, columns=["length", "gc", *self.columns], index=pd.Index(self.ids))

    def entries(self, labels: NDArray[np.int64]) -> dict[int, Entry]:
        """The entries of these labels (any shape; -1 is passed over), by label."""
        return self._entries.fetch(labels[labels >= 0])

    def labels_of(self, ids: Sequence[str]) -> NDArray[np.int64]:
        """Labels (n,) of ids; -1 where there is no such entry."""
        return self._entries.labels_of(ids)

    def search(
        self,
        vectors: NDArray[np.float32],
        k: int = 10,
        *,
        metric: Metric | None = None,
        exclude: NDArray[np.int64] | None = None,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The k nearest entries of every vector (q, dim): labels and distances (q, k), by distance and label.

        Missing ones (k above the number of entries) are -1 and inf. Distances are computed from the kept
        vectors, in every engine alike. A metric other than the index's is searched exactly.

        exclude : (q,) a label that is no hit of its query, or -1.

        Raises MismatchError, ProfileError and UsageError as `VectorStore.search`.
        """
        if k < 1:
            raise UsageError(f"k must be at least 1, not {k}")
        wanted = metric or self.metric
        check_metric(wanted)
        queries = check_vectors(vectors, self.dim)
        more = k if exclude is None else k + 1
        found = np.full((len(queries), more), -1, dtype=np.int64)
        far = np.full((len(queries), more), np.inf, dtype=np.float32)
        store = self._engine() if wanted == self.metric else None
        # A query without direction is at cosine distance 1 from all: only looking at all gives their order.
        exact = ~queries.any(axis=1) if wanted == "cosine" else np.zeros(len(queries), dtype=bool)
        exact |= store is None
        if exact.any():
            found[exact], far[exact] = exact_search(self._vectors, None, queries[exact], more, wanted)
        if store is not None and not exact.all():
            found[~exact], far[~exact] = self._ask(store, queries[~exact], more)
        if exclude is not None:
            found = np.where(found == exclude[:, None], -1, found)
            found, far = sort_hits(found, far, k)
        return found, far

    def _ask(
        self, store: VectorStore, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """The engine's candidates, some more than k, put in order by their true distances."""
        wide = min(len(self), max(2 * k, k + 16))
        found = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        few = min(k, wide)
        for start in range(0, len(queries), QUERY_BLOCK):
            asked = queries[start : start + QUERY_BLOCK]
            labels, _ = store.search(asked, wide)
            near = np.asarray(self._vectors[labels.ravel()]).reshape(*labels.shape, self.dim)
            part = slice(start, start + len(asked))
            found[part, :few], far[part, :few] = sort_hits(
                labels, distances_to(asked, near, self.metric), few
            )
        return found, far

    def rebuild(self, *, engine: str | None = None, metric: Metric | None = None) -> None:
        """Build the engine anew from the kept vectors; with `engine` or `metric` another one from now on.

        Raises UsageError for an unknown engine or metric, or while another process builds; FormatError where
        the vectors are damaged; EngineError where the engine fails. The index then stays as it is.
        """
        name, measure = engine or self.engine, metric or self.metric
        if name not in ENGINES:
            raise UsageError(f"the engine must be one of {', '.join(ENGINES)}, not {name!r}")
        check_metric(measure)
        lock = StoreLock(self.path)
        try:
            self._close_engine()
            if name != "exact":
                self._build(name, measure)
            if (name, measure) != (self.engine, self.metric):
                manifest = {**self._manifest, "engine": name, "metric": measure}
                write_json(self.path / MANIFEST, manifest)
                old, self.engine, self.metric, self._manifest = self.engine, name, measure, manifest
                if old != name:
                    remove(engine_folder(self.path, old))
        finally:
            lock.release()

    def prepare(self) -> None:
        """Open the engine; build it where it has to be. The caller sees to it that nobody else does."""
        if self.engine == "exact" or self._store is not None:
            return
        try:
            self._store = self._open_engine()
        except (FormatError, EngineError):
            self._build(self.engine, self.metric)
            self._store = self._open_engine()

    def close(self) -> None:
        """Close the engine and the files."""
        self._close_engine()
        self._entries.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _close_engine(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _stamp(self, metric: Metric) -> dict[str, Any]:
        """What an engine must have been built from to be used."""
        return {
            "index": self._manifest["index"],
            "epoch": self._entries.epoch,
            "entries": len(self),
            "metric": metric,
            "dim": self.dim,
        }

    def _build(self, name: str, metric: Metric) -> None:
        build_engine(
            self.path,
            name,
            self._vectors,
            self._entries.blocks(),
            metric=metric,
            stamp=self._stamp(metric),
            threads=self._threads,
        )

    def _open_engine(self) -> VectorStore:
        return open_engine(
            self.path,
            self.engine,
            dim=self.dim,
            metric=self.metric,
            stamp=self._stamp(self.metric),
            threads=self._threads,
        )

    def _engine(self) -> VectorStore | None:
        """The engine, open; built anew where it has to be. None where all vectors are to be looked at."""
        if self.engine == "exact" or self._unwritable:
            return None
        if self._store is None:
            try:
                self._store = self._open_engine()
            except (FormatError, EngineError) as error:
                self._mend(error)
        return self._store

    def _mend(self, reason: Exception) -> None:
        tell = self._log or (lambda line: None)
        tell(f"the engine is built anew: {reason}")
        try:
            lock = StoreLock(self.path)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EROFS, errno.EPERM):
                raise
            tell(f"{self.path} cannot be written: every vector is looked at instead")
            self._unwritable = True
            return
        except UsageError:
            tell("another process is building it: every vector is looked at meanwhile")
            self._unwritable = True
            return
        try:
            self._build(self.engine, self.metric)
            self._store = self._open_engine()
            self.rebuilt = True
        except FormatError as error:
            if not isinstance(error, MismatchError) and error.place and VECTORS in error.place:
                raise
            raise EngineError("the engine was built anew and still cannot be opened", str(error)) from error
        finally:
            lock.release()


def open_index(path: str | Path, *, log: Log | None = None, threads: int | None = None) -> KinIndex:
    """Open an index; see `KinIndex.open`."""
    return KinIndex.open(path, log=log, threads=threads)


def write_manifest(
    folder: Path, *, index: str, engine: str, metric: Metric, encoder: Encoder, entries: int
) -> None:
    """Describe an index; the last of its files to be written."""
    write_json(
        folder / MANIFEST,
        {
            "kind": "kinmer index",
            "format": FORMAT,
            "index": index,
            "engine": engine,
            "metric": metric,
            "dim": encoder.dim,
            "entries": entries,
            "encoder_fingerprint": encoder.fingerprint,
            "layout": encoder.layout.to_dict(),
            "kinmer_version": __version__,
        },
    )


def _read_manifest(path: Path) -> dict[str, Any]:
    if not path.is_dir():
        raise FormatError(
            "no such index"
            if not path.exists()
            else "this is no index: it is a folder, made by kinmer index",
            check="is the path right? If kinmer index was interrupted, run it again",
            place=path,
        )
    if not (path / MANIFEST).is_file():
        raise FormatError("this folder is no index", check="make one with kinmer index", place=path)
    manifest = read_json(path / MANIFEST)
    if manifest.get("kind") != "kinmer index":
        raise FormatError("this is no index", "its index.json says nothing of one", place=path)
    if manifest.get("format") != FORMAT:
        raise FormatError(
            f"the index has format {manifest.get('format')}, this version reads {FORMAT}",
            check=f"kinmer {manifest.get('kinmer_version', '?')} wrote it; use that or a newer one",
            place=path,
        )
    texts = all(isinstance(manifest.get(name), str) for name in ("index", "encoder_fingerprint"))
    known = manifest.get("engine") in ENGINES and manifest.get("metric") in ("cosine", "l2")
    dim = manifest.get("dim")
    if not (texts and known and isinstance(dim, int) and dim > 0):
        raise FormatError("index.json is damaged", "a field is missing or unknown", place=path / MANIFEST)
    return manifest
