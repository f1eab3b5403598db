"""Writes a profile store block by block; a killed run leaves the last commit and goes on from there.

A new store grows in ``NAME.part`` beside its place and takes its name when it is whole. An append grows
inside the whole store, behind the rows that its root file tells of, so that readers see the old rows until
`ProfileWriter.finish` replaces that file. ``.kinmer-journal.json`` in the folder says how far the last
commit went.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, ProfileError, UsageError
from kinmer.files import (
    check_folder,
    check_output,
    hash_ids,
    read_json,
    remove,
    take_name,
    write_json,
)
from kinmer.layout import Layout
from kinmer.profiles.arrays import (
    COLUMN_ROWS,
    TEXT,
    RowArray,
    begin_append,
    chunk_rows_of,
    create_rows,
    describe,
    restore_document,
    sync_files,
    write_array,
    write_skeleton,
    write_uns,
)
from kinmer.profiles.journal import (
    JOURNAL,
    LOCK,
    STORE,
    StoreLock,
    clear_unfinished,
    is_locked,
    journal_of,
    part_of,
)
from kinmer.profiles.protocol import SeenIds, Values, check_ids, check_rows, gc_of, hash_texts
from kinmer.profiles.root import (
    AGAIN,
    EMBEDDING,
    KINMER,
    NodeSums,
    Root,
    node_documents,
    node_names,
    read_root,
    sums_of,
    write_group,
    write_root,
)
from kinmer.profiles.store import ProfileStore

__all__ = ["ProfileWriter"]

COMMIT_SECONDS = 1.0


class ProfileWriter:
    """Writes profiles into a new or a whole store; made by `create`, used as a context manager.

    ``rows``: rows so far, of a store appended to with the old ones. ``state``: what the caller gave to the
    last `commit` of the run that is gone on with, else None. ``base``: rows of the whole store before.
    Leaving the block without `finish` keeps the last commit for the same command to go on from.
    """

    def __init__(
        self,
        path: Path,
        folder: Path,
        lock: StoreLock,
        layout: Layout,
        *,
        values: Values,
        signature: Any,
        lengths: bool,
        commit_seconds: float,
        journal: Mapping[str, Any] | None,
        root: Root | None = None,
    ) -> None:
        self.path, self.layout, self.values = path, layout, values
        self._folder, self._lock, self._signature = folder, lock, signature
        self._root = root or Root({}, {})  # Of the store that is appended to.
        self._commit_seconds, self._last_commit = commit_seconds, time.monotonic()
        self.base: int = journal["base"] if journal else 0
        self.rows: int = journal["rows"] if journal else 0
        self.state: dict[str, Any] | None = journal["state"] if journal else None
        self._pending: tuple[int, int, dict[str, Any]] | None = None
        self._columns = ["length", *(["bases"] if values == "counts" else []), "gc"]
        if not lengths:
            self._columns.remove("length")
        if journal:
            self._arrays = {name: RowArray(folder / name, self.rows) for name in self._row_nodes()}
            self._sources = RowArray(folder / "obs/source/categories", journal["sources"])
        else:
            self._arrays = self._create_arrays()
            self._sources = create_rows(folder / "obs/source/categories", dtype=TEXT)
        self._old_sources = int(self._root.nodes["obs/source/categories"]["shape"][0]) if root else 0
        names = self._sources.read(0, self._sources.rows)
        self._source_codes = {str(name): code for code, name in enumerate(names)}
        self._seen = SeenIds()
        self._check_old_ids()
        for block in self._id_blocks(self.base, self.rows):
            self._seen.add(hash_texts(block))
        if not journal:
            self._write_journal(0, 0, None)

    @classmethod
    def create(
        cls,
        path: str | Path,
        layout: Layout,
        *,
        values: Values = "counts",
        signature: Mapping[str, Any],
        lengths: bool = True,
        append: bool = False,
        force: bool = False,
        commit_seconds: float = COMMIT_SECONDS,
    ) -> ProfileWriter:
        """Start a store at `path`, or go on with one.

        signature : settings and inputs (JSON-able) that make two runs the same: an unfinished store of the
            same signature is gone on with, one of another is refused, or started afresh with `force`.
        lengths : whether the rows' sequence lengths are known; without, the store has no such column.
        append : add to a whole store of the same layout and values; start one where there is none.
        force : replace a whole store (which stays until the new one is whole).
        commit_seconds : commits closer together than this are left to the next one.

        Raises UsageError (output exists, or is being written), MismatchError (another layout), FormatError.
        """
        path = Path(path)
        signature = json.loads(json.dumps(signature))
        appending = append and path.exists()
        _conclude(path, signature if append else None)
        if appending and not (path / "zarr.json").is_file():
            raise FormatError("this is no profile store", check="leave out --append", place=path)
        if not appending:
            hint = "use --append to add to it, or --force to replace it"
            check_output(path, force=force, hint=hint, kind=STORE)
        folder = path if appending else part_of(path)
        if not appending:
            if folder.exists() or folder.is_symlink():
                check_folder(folder, STORE)
            folder.mkdir(exist_ok=True)
        lock = StoreLock(folder)
        try:
            journal = journal_of(folder, signature, force=force)
            clear_unfinished(folder)
            root = None
            if appending:
                root = read_root(path)
                journal = begin_append(path, root, layout, values, journal)
                lengths = "obs/length" in root.nodes
                _check_old_rows(path, root)
            elif journal is None:
                _empty(folder)
                write_skeleton(folder, layout)
            else:
                # Left where the last run was killed while giving the store its name.
                (folder / "zarr.json").unlink(missing_ok=True)
            return cls(
                path,
                folder,
                lock,
                layout,
                values=values,
                signature=signature,
                lengths=lengths,
                commit_seconds=commit_seconds,
                journal=journal,
                root=root,
            )
        except BaseException:
            lock.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A full disk is told by the error that is under way, not by a second one from here.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self.close()
        self._lock.release()

    def ids(self, start: int, stop: int) -> NDArray[np.object_]:
        """Ids of the rows start … stop, (stop - start,) str."""
        return np.asarray(self._arrays["obs/_index"].read(start, stop), dtype=object)

    def first_known(self, ids: Sequence[str]) -> int | None:
        """Place in `ids` of the first one that the store holds already or that occurs twice; else None."""
        texts = np.asarray(ids, dtype=object)
        hashes = hash_texts(texts)
        known = self._seen.known(hashes)
        order = np.argsort(hashes, kind="stable")
        known[order[1:][hashes[order[1:]] == hashes[order[:-1]]]] = True
        # Unequal ids can share a hash (once in millions of stores): only the ids themselves decide.
        suspects = np.flatnonzero(known)
        if not len(suspects):
            return None
        stored = self._stored_among({str(texts[at]) for at in suspects})
        seen: set[str] = set()
        for at, one in enumerate(ids):
            if one in stored or one in seen:
                return at
            seen.add(one)
        return None

    def append(
        self,
        ids: Sequence[str],
        profiles: NDArray[Any],
        *,
        lengths: NDArray[np.int64] | None,
        sources: str | Sequence[str],
    ) -> None:
        """Add rows; they are kept when `commit` comes.

        ids : (n,) unique in the store. profiles : (n, width) whole numbers for counts (they are stored as
        uint32), floating point numbers for frequencies. lengths : (n,) letters of every sequence, exact.
        sources : the file that the rows come from, or one of every row.

        Raises ProfileError (nothing is added then): shapes that do not fit, negative or too large counts,
        ids known already.
        """
        count = len(ids)
        if len(profiles) != count or (
            "length" in self._columns and (lengths is None or len(lengths) != count)
        ):
            raise ProfileError("ids, profiles and lengths have different numbers of rows")
        if not count:
            return
        check_rows(profiles, self.layout, self.values, first=self.rows)
        check_ids(ids)
        double = self.first_known(ids)
        if double is not None:
            raise ProfileError(
                f"the id {ids[double]!r} occurs twice",
                "ids must be unique, or hits could not be told apart",
                "is the same sequence in two of the files?",
            )
        block = self.layout.bases
        columns: dict[str, NDArray[Any]] = {
            "bases": profiles[:, block.columns].sum(axis=1, dtype=np.float64).astype(np.int64),
            "gc": gc_of(profiles, self.layout),
        }
        if lengths is not None:
            columns["length"] = np.asarray(lengths, dtype=np.int64)
        texts = np.asarray(ids, dtype=object)
        self._arrays["X"].append(profiles)
        self._arrays["obs/_index"].append(texts)
        self._arrays["obs/source/codes"].append(self._codes(sources, count))
        for name in self._columns:
            self._arrays[f"obs/{name}"].append(columns[name])
        self._seen.add(hash_texts(texts))
        self.rows += count

    def commit(self, state: dict[str, Any], *, now: bool = False) -> None:
        """Keep the rows so far, with the caller's `state` (JSON-able) for the run that goes on after a kill.

        On disk at once where the last commit is `commit_seconds` old (or with `now`), else with a later
        commit or at the end of the block; a kill goes back by no more than that.
        """
        self._pending = (self.rows, self._sources.rows, state)
        if now or time.monotonic() - self._last_commit >= self._commit_seconds:
            self._write_pending()

    def finish(self, provenance: Mapping[str, Any]) -> None:
        """Make the store whole: from now on readers see all rows.

        provenance : how it was made (JSON-able; settings, inputs). Profiles' rows only are kept: what was
        computed from the old rows (embeddings, clusters, joined columns) does not cover the new ones and
        goes. Raises ProfileError where there is no row.
        """
        if not self.rows:
            raise ProfileError("no profile was written", "an empty store is of no use", place=self.path)
        if self._pending is not None:
            # The journal then has all rows: after a kill from here on it tells that nothing is left to do.
            self._write_pending()
        everything = [*self._arrays.values(), self._sources]
        for array in everything:
            array.finish()
        sync_files(file for array in everything for file in array.touched())
        description = self._describe(provenance)
        write_uns(self._folder, description)
        attributes = {"column-order": [*self._columns, "source"], "_index": "_index"}
        write_group(
            self._folder / "obs", {**attributes, "encoding-type": "dataframe", "encoding-version": "0.2.0"}
        )
        nodes = self._nodes()
        sums = self._sums(nodes)
        root = {"encoding-type": "anndata", "encoding-version": "0.1.0", KINMER: description}
        every = node_names(self._folder)
        write_root(self._folder, Root(nodes, root, sums))
        if self._folder == self.path:
            for name in every - nodes.keys():
                remove(self._folder / name)
        else:
            self._take_name()
        (self._folder / JOURNAL).unlink(missing_ok=True)
        self._pending = None
        self._lock.release()

    def abandon(self) -> None:
        """Drop what is unfinished: a new store goes, a store appended to is as it was."""
        self._pending = None
        if self._folder != self.path:
            remove(self._folder)
        else:
            counts = dict.fromkeys(self._row_nodes(), self.base)
            nodes, attributes = self._root.nodes, self._root.attributes
            counts["obs/source/categories"] = int(nodes["obs/source/categories"]["shape"][0])
            for name, rows in counts.items():
                RowArray(self._folder / name, rows).finish()
                restore_document(self._folder / name, nodes[name])
            write_group(self._folder / "obs", nodes["obs"]["attributes"])
            write_uns(self._folder, attributes[KINMER])
            if EMBEDDING in attributes:
                write_array(self._folder / "uns/kinmer/embedding", json.dumps(attributes[EMBEDDING]))
            (self._folder / JOURNAL).unlink(missing_ok=True)
        self._lock.release()

    def close(self) -> None:
        """Write the last commit where it is not on disk yet, and let others write."""
        if self._pending is not None:
            self._write_pending()
        self._lock.release()

    def _row_nodes(self) -> list[str]:
        return ["X", "obs/_index", "obs/source/codes", *(f"obs/{name}" for name in self._columns)]

    def _nodes(self) -> dict[str, dict[str, Any]]:
        """Metadata of the nodes that the finished store shows."""
        written = node_documents(self._folder, "uns")
        for name in (*self._row_nodes(), "obs/source/categories", "obs"):
            written[name] = read_json(self._folder / name / "zarr.json")
        # Of a store that is appended to the rest is what its root file says, whatever lies beside it.
        known = self._root.nodes or node_documents(self._folder, "")
        kept = {
            name: document
            for name, document in known.items()
            if name in ("layers", "obs/source", "obsm", "obsp", "var", "varm", "varp")
            or name.startswith("var/")
        }
        return kept | written

    def _sums(self, nodes: Mapping[str, dict[str, Any]]) -> dict[str, NodeSums]:
        """Checksums of these nodes; those of the old rows are what they were."""
        known = self._root.sums or {}
        arrays = {name: self._arrays[name] for name in self._row_nodes()}
        arrays["obs/source/categories"] = self._sources
        sums = sums_of(self._folder, {name: one for name, one in nodes.items() if name not in arrays | known})
        sums |= {name: one for name, one in known.items() if name.startswith("var")}
        again = {name: nodes[name] for name in nodes if name == "obs" or name.startswith("uns")}
        sums |= sums_of(self._folder, again)
        for name, array in arrays.items():
            rows = self.base if name != "obs/source/categories" else self._old_sources
            sums[name] = array.sums(known.get(name), rows)
        return sums

    def _create_arrays(self) -> dict[str, RowArray]:
        types = {"length": np.int64, "bases": np.int64, "gc": np.float64}
        arrays = {
            "X": create_rows(
                self._folder / "X",
                dtype=np.uint32 if self.values == "counts" else np.float32,
                chunk_rows=chunk_rows_of(self.layout.width),
                width=self.layout.width,
                codec="profiles",
            ),
            "obs/_index": create_rows(self._folder / "obs/_index", dtype=TEXT),
            "obs/source/codes": create_rows(self._folder / "obs/source/codes", dtype=np.int32),
        }
        for name in self._columns:
            arrays[f"obs/{name}"] = create_rows(self._folder / "obs" / name, dtype=types[name])
        return arrays

    def _codes(self, sources: str | Sequence[str], count: int) -> NDArray[np.int32]:
        names = [sources] if isinstance(sources, str) else list(sources)
        if not isinstance(sources, str) and len(names) != count:
            raise ProfileError("ids and sources have different numbers of rows")
        for name in dict.fromkeys(names):
            if name not in self._source_codes:
                self._source_codes[name] = len(self._source_codes)
                self._sources.append(np.array([name], dtype=object))
        codes = np.array([self._source_codes[name] for name in names], dtype=np.int32)
        return np.repeat(codes, count) if isinstance(sources, str) else codes

    def _stored_among(self, ids: set[str]) -> set[str]:
        found: set[str] = set()
        for block in self._id_blocks(0, self.rows):
            found.update(ids.intersection(block))
        return found

    def _id_blocks(self, first: int, stop: int) -> Iterator[NDArray[np.object_]]:
        for start in range(first, stop, COLUMN_ROWS):
            yield self.ids(start, min(start + COLUMN_ROWS, stop))

    def _check_old_ids(self) -> None:
        """Remember the ids of the store that is appended to; FormatError where they are not its own."""

        def remembered(block: NDArray[np.object_]) -> NDArray[np.object_]:
            self._seen.add(hash_texts(block))
            return block

        if not self.base:
            return
        found = hash_ids(one for block in self._id_blocks(0, self.base) for one in remembered(block))
        assert self._root.description is not None
        if found != self._root.description["fingerprint"]:
            raise FormatError(
                "the ids are damaged", "their fingerprint is another one", AGAIN, place=self.path
            )

    def _write_pending(self) -> None:
        assert self._pending is not None
        everything = [*self._arrays.values(), self._sources]
        for array in everything:
            array.flush()
        sync_files(file for array in everything for file in array.touched())
        self._write_journal(*self._pending)
        self._pending, self._last_commit = None, time.monotonic()

    def _write_journal(self, rows: int, sources: int, state: dict[str, Any] | None) -> None:
        journal = {
            "format": 1,
            "signature": self._signature,
            "base": self.base,
            "rows": rows,
            "sources": sources,
            "state": state,
        }
        write_json(self._folder / JOURNAL, journal)

    def _describe(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        made = [json.loads(json.dumps(provenance))]
        if self._folder == self.path:
            assert self._root.description is not None
            made = [*self._root.description["made"], *made]
        fingerprint = hash_ids(one for block in self._id_blocks(0, self.rows) for one in block)
        return describe(self.layout, self.values, rows=self.rows, fingerprint=fingerprint, made=made)

    def _take_name(self) -> None:
        take_name(self._folder, self.path)
        self._folder = self.path
        self._lock.move(self.path)


def _empty(folder: Path) -> None:
    """Drop all but the lock, which is ours."""
    for child in folder.iterdir():
        if child.name != LOCK:
            remove(child)


def _conclude(path: Path, signature: Any) -> None:
    """Take away the journal of a run that was killed when its store was whole.

    Raises UsageError where that run was an append of the same `signature`: there is nothing left to append.
    """
    if not (path / JOURNAL).is_file() or not (path / "zarr.json").is_file() or is_locked(path):
        return
    try:
        journal, rows = read_json(path / JOURNAL), int(read_root(path).nodes["X"]["shape"][0])
        done = journal["base"] < journal["rows"] == rows
    except (FormatError, KeyError, TypeError, ValueError):
        return
    if done:
        (path / JOURNAL).unlink(missing_ok=True)
        if signature is not None and journal.get("signature") == signature:
            raise UsageError(
                "the store holds these sequences already",
                "an earlier call of the same was killed when all was done",
                place=path,
            )


def _check_old_rows(path: Path, root: Root) -> None:
    """Refuse to append where what will be written again is damaged, and put the arrays' metadata right."""
    store = ProfileStore.open(path)
    names = [
        name
        for name, one in root.nodes.items()
        if one["node_type"] == "array" and name.startswith(("X", "obs/"))
    ]
    store.check_ends(names)
    for name in names:
        restore_document(path / name, root.nodes[name])
