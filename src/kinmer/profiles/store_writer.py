"""Writes a profile store block by block; a killed run leaves the last commit and resumes from there.

A new store grows in ``NAME.part`` beside its output and takes its name when it is whole. An append grows
inside the whole store, behind the rows that its root file knows of, so that readers see the old rows until
`ProfileWriter.finish` replaces that file. ``.kinmer-journal.json`` in the folder says how far the last
commit went."""

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
from kinmer.files import hash_ids, remove
from kinmer.folders import Journal, Workshop, check_folder, check_output
from kinmer.inputs import read_json
from kinmer.layout import Layout
from kinmer.profiles.arrays import (
    COLUMN_ROWS,
    TEXT,
    RowArray,
    begin_append,
    chunk_rows_of,
    clear_unfinished,
    create_rows,
    describe,
    restore_document,
    sync_files,
    write_array,
    write_skeleton,
    write_uns,
)
from kinmer.profiles.protocol import SeenIds, Values, check_ids, check_rows, gc_of, hash_texts
from kinmer.profiles.root import (
    AGAIN,
    EMBEDDING,
    JOURNAL,
    KINMER,
    STORE,
    NodeSums,
    Root,
    node_documents,
    node_names,
    part_of,
    read_root,
    sums_of,
    write_group,
    write_root,
)
from kinmer.profiles.store import ProfileStore

COMMIT_SECONDS = 1.0
# Names of the sources, which grow by files and not by rows.
SOURCES = "obs/source/categories"
_COLUMN_TYPES = {"length": np.int64, "bases": np.int64, "gc": np.float64}


class ProfileWriter:
    """Writes profiles into a new or a whole store; made by `create`, used as a context manager.

    ``rows``: rows so far, with those of a store appended to. ``base``: rows of that store before. ``state``:
    what the caller gave to the last `commit` of the run that is resumed, else None. Leaving the block without
    `finish` keeps the last commit for the same command to resume from.
    """

    def __init__(
        self,
        path: Path,
        workshop: Workshop,
        journal: Journal,
        layout: Layout,
        *,
        values: Values,
        lengths: bool,
        commit_seconds: float,
        noted: Mapping[str, Any] | None,
        root: Root | None = None,
    ) -> None:
        self.path, self.layout, self.values = path, layout, values
        self._workshop, self._journal, self._folder = workshop, journal, workshop.folder
        self._root = root or Root({}, {})  # Of the store that is appended to.
        self._commit_seconds, self._last_commit = commit_seconds, time.monotonic()
        self.base: int = noted["base"] if noted else 0
        self.rows: int = noted["rows"] if noted else 0
        self.state: dict[str, Any] | None = noted["state"] if noted else None
        self._pending: dict[str, Any] | None = None
        known = {"length": lengths, "bases": values == "counts", "gc": True}
        self._columns = [name for name, there in known.items() if there]
        self._row_nodes = ["X", "obs/_index", "obs/source/codes", *(f"obs/{name}" for name in self._columns)]
        if noted:
            rows = dict.fromkeys(self._row_nodes, self.rows) | {SOURCES: int(noted["sources"])}
            self._arrays = {name: RowArray(self._folder / name, count) for name, count in rows.items()}
        else:
            self._arrays = {name: self._create(name) for name in (*self._row_nodes, SOURCES)}
        self._sources = self._arrays[SOURCES]
        self._old_sources = int(self._root.nodes[SOURCES]["shape"][0]) if root else 0
        names = self._sources.read(0, self._sources.rows)
        self._source_codes = {str(name): code for code, name in enumerate(names)}
        self._seen = SeenIds()
        self._check_old_ids()
        for block in self._id_blocks(self.base, self.rows):
            self._seen.add(hash_texts(block))
        if not noted:
            journal.write(base=self.base, rows=0, sources=0, state=None)

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
        """Start a store at `path`, or resume one.

        Parameters
        ----------
        signature : settings and inputs (JSON-able) that make two runs the same. An unfinished store of the
            same signature is resumed, one of another is refused, or with `force` dropped.
        lengths : whether the rows' sequence lengths are known. Without, the store has no such column.
        append : add to a whole store of the same layout and values; start one where there is none.
        force : replace a whole store, which stays until the new one is whole.
        commit_seconds : commits closer together than this are left to the next one.

        Raises
        ------
        UsageError : the output exists, or is being written. MismatchError : another layout. FormatError.
        """
        path = Path(path)
        appending = append and path.exists()
        _conclude(Journal(path / JOURNAL, signature), append=append)
        folder = _folder_of(path, appending=appending, force=force)
        workshop = Workshop(folder, make=not appending)
        try:
            journal = Journal(folder / JOURNAL, signature)
            noted = journal.read(force=force)
            clear_unfinished(folder)
            root = None
            if appending:
                root = read_root(path)
                noted = begin_append(path, root, layout, values, noted)
                lengths = "obs/length" in root.nodes
                _check_old_rows(path, root)
            elif noted is None:
                workshop.clear()
                write_skeleton(folder, layout)
            else:
                # Left where the last run was killed while giving the store its name.
                (folder / "zarr.json").unlink(missing_ok=True)
            more: Any = {"lengths": lengths, "commit_seconds": commit_seconds, "noted": noted, "root": root}
            return cls(path, workshop, journal, layout, values=values, **more)
        except BaseException:
            workshop.release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A full disk is reported by the error that is under way, not by a second one from here.
        with contextlib.suppress(OSError) if error else contextlib.nullcontext():
            self.close()
        self._workshop.release()

    def ids(self, start: int, stop: int) -> NDArray[np.object_]:
        """Ids of the rows start … stop, (stop - start,) str."""
        return np.asarray(self._arrays["obs/_index"].read(start, stop), dtype=object)

    def first_known(self, ids: Sequence[str]) -> int | None:
        """Position in `ids` of the first that the store holds already or that occurs twice; else None."""
        return self._first_known(ids, hash_texts(np.asarray(ids, dtype=object)))

    def _first_known(self, ids: Sequence[str], hashes: NDArray[np.uint64]) -> int | None:
        # Unequal ids can share a hash (once in millions of stores): only the ids themselves decide.
        suspects = self._seen.suspects(hashes)
        if not len(suspects):
            return None
        asked = {str(ids[at]) for at in suspects}
        stored = {name for block in self._id_blocks(0, self.rows) for name in asked.intersection(block)}
        seen: set[str] = set()
        for at, name in enumerate(ids):
            if name in stored or name in seen:
                return at
            seen.add(name)
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

        Parameters
        ----------
        ids : (n,) unique in the store.
        profiles : (n, width) whole numbers for counts (stored as uint32), floats for frequencies.
        lengths : (n,) letters of every sequence, exact.
        sources : the file that the rows come from, or that of every row.

        Raises
        ------
        ProfileError : shapes that do not fit, negative or too large counts, ids known already. Nothing is
            added then.
        """
        count = len(ids)
        known = count if "length" not in self._columns else -1 if lengths is None else len(lengths)
        if not len(profiles) == count == known:
            raise ProfileError("ids, profiles and lengths have different numbers of rows")
        if not count:
            return
        check_rows(profiles, self.layout, self.values, first=self.rows)
        hashes = check_ids(ids)
        double = self._first_known(ids, hashes)
        if double is not None:
            raise ProfileError(
                f"the id {ids[double]!r} occurs twice",
                "ids must be unique, or hits could not be told apart",
                "is the same sequence in two of the files?",
            )
        block = self.layout.bases
        added: dict[str, Any] = {
            "X": profiles,
            "obs/_index": np.asarray(ids, dtype=object),
            "obs/source/codes": self._codes(sources, count),
            "obs/length": lengths,
            "obs/bases": profiles[:, block.columns].sum(axis=1, dtype=np.float64).astype(np.int64),
            "obs/gc": gc_of(profiles, self.layout),
        }
        for name in self._row_nodes:
            self._arrays[name].append(added[name])
        self._seen.add(hashes)
        self.rows += count

    def commit(self, state: dict[str, Any], *, now: bool = False) -> None:
        """Keep the rows so far, with the caller's `state` (JSON-able) for the run that resumes after a kill.

        On disk at once where the last commit is `commit_seconds` old (or with `now`), else with a later
        commit or at the end of the block; a kill goes back by no more than that.
        """
        self._pending = {"rows": self.rows, "sources": self._sources.rows, "state": state}
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
            # The journal then has all rows: after a kill from here on it says that nothing is left to do.
            self._write_pending()
        for array in self._arrays.values():
            array.finish()
        sync_files(file for array in self._arrays.values() for file in array.touched())
        description = self._describe(provenance)
        write_uns(self._folder, description)
        encoding = {"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"}
        write_group(self._folder / "obs", {"column-order": [*self._columns, "source"], **encoding})
        nodes = self._nodes()
        sums = self._sums(nodes)
        root = {"encoding-type": "anndata", "encoding-version": "0.1.0", KINMER: description}
        every = node_names(self._folder)
        write_root(self._folder, Root(nodes, root, sums))
        if self._folder == self.path:
            for name in every - nodes.keys():
                remove(self.path / name)
        else:
            self._workshop.publish(self.path)
        Journal(self.path / JOURNAL, None).clear()
        self._pending = None
        self._workshop.release()

    def abandon(self) -> None:
        """Drop what is unfinished: a new store goes, a store appended to is as it was."""
        self._pending = None
        if self._folder != self.path:
            self._workshop.discard()
            return
        nodes, attributes = self._root.nodes, self._root.attributes
        for name, rows in (dict.fromkeys(self._row_nodes, self.base) | {SOURCES: self._old_sources}).items():
            RowArray(self.path / name, rows).finish()
            restore_document(self.path / name, nodes[name])
        write_group(self.path / "obs", nodes["obs"]["attributes"])
        write_uns(self.path, attributes[KINMER])
        if EMBEDDING in attributes:
            write_array(self.path / "uns/kinmer/embedding", json.dumps(attributes[EMBEDDING]))
        self._journal.clear()
        self._workshop.release()

    def close(self) -> None:
        """Write the last commit where it is not on disk yet, and let others write."""
        if self._pending is not None:
            self._write_pending()
        self._workshop.release()

    def _nodes(self) -> dict[str, dict[str, Any]]:
        """Metadata of the nodes that the finished store shows."""
        written = node_documents(self._folder, "uns")
        for name in (*self._arrays, "obs"):
            written[name] = read_json(self._folder / name / "zarr.json")
        # Of a store that is appended to the rest is what its root file says, whatever lies beside it.
        known = self._root.nodes or node_documents(self._folder, "")
        kept = {"layers", "obs/source", "obsm", "obsp", "var", "varm", "varp"}
        kept |= {name for name in known if name.startswith("var/")}
        return {name: document for name, document in known.items() if name in kept} | written

    def _sums(self, nodes: Mapping[str, dict[str, Any]]) -> dict[str, NodeSums]:
        """Checksums of these nodes; those of the old rows are what they were."""
        known = self._root.sums or {}
        again = {
            name: document
            for name, document in nodes.items()
            if name == "obs" or name.startswith("uns") or name not in self._arrays | known
        }
        sums = {name: kept for name, kept in known.items() if name.startswith("var")}
        sums |= sums_of(self._folder, again)
        for name, array in self._arrays.items():
            sums[name] = array.sums(known.get(name), self._old_sources if name == SOURCES else self.base)
        return sums

    def _create(self, name: str) -> RowArray:
        folder = self._folder / name
        if name == "X":
            width, dtype = self.layout.width, np.uint32 if self.values == "counts" else np.float32
            rows = chunk_rows_of(width)
            return create_rows(folder, dtype=dtype, chunk_rows=rows, width=width, codec="profiles")
        if name == "obs/source/codes":
            return create_rows(folder, dtype=np.int32)
        return create_rows(folder, dtype=_COLUMN_TYPES.get(name.removeprefix("obs/"), TEXT))

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

    def _id_blocks(self, first: int, stop: int) -> Iterator[NDArray[np.object_]]:
        for start in range(first, stop, COLUMN_ROWS):
            yield self.ids(start, min(start + COLUMN_ROWS, stop))

    def _check_old_ids(self) -> None:
        """Remember the ids of the store that is appended to; FormatError where they are not its own."""
        if not self.base:
            return

        def remembered() -> Iterator[str]:
            for block in self._id_blocks(0, self.base):
                self._seen.add(hash_texts(block))
                yield from block

        assert self._root.description is not None
        if hash_ids(remembered()) != self._root.description["fingerprint"]:
            raise FormatError("the ids are damaged", "their fingerprint is another", AGAIN, place=self.path)

    def _write_pending(self) -> None:
        assert self._pending is not None
        for array in self._arrays.values():
            array.flush()
        sync_files(file for array in self._arrays.values() for file in array.touched())
        self._journal.write(base=self.base, **self._pending)
        self._pending, self._last_commit = None, time.monotonic()

    def _describe(self, provenance: Mapping[str, Any]) -> dict[str, Any]:
        made = [json.loads(json.dumps(provenance))]
        if self._folder == self.path:
            assert self._root.description is not None
            made = [*self._root.description["made"], *made]
        fingerprint = hash_ids(name for block in self._id_blocks(0, self.rows) for name in block)
        return describe(self.layout, self.values, rows=self.rows, fingerprint=fingerprint, made=made)


def _folder_of(path: Path, *, appending: bool, force: bool) -> Path:
    """Where the store at `path` grows, checked."""
    if appending:
        if not (path / "zarr.json").is_file():
            raise FormatError("this is not a profile store", check="leave out --append", place=path)
        return path
    hint = "use --append to add to it, or --force to replace it"
    folder = part_of(check_output(path, force=force, hint=hint, kind=STORE))
    if folder.exists() or folder.is_symlink():
        check_folder(folder, STORE)
    return folder


def _conclude(journal: Journal, *, append: bool) -> None:
    """Take away the journal of a run that was killed when its store was whole.

    Raises UsageError where that run was an append with the same signature: nothing is left to append.
    """
    path = journal.path.parent
    if not journal.path.is_file() or not (path / "zarr.json").is_file() or Workshop.is_busy(path):
        return
    try:
        noted, rows = read_json(journal.path), int(read_root(path).nodes["X"]["shape"][0])
        done = noted["base"] < noted["rows"] == rows
    except (FormatError, KeyError, TypeError, ValueError):
        return
    if done:
        journal.clear()
        if append and noted.get("signature") == journal.signature:
            raise UsageError(
                "the store holds these sequences already",
                "an earlier call of the same was killed when all was done",
                place=path,
            )


def _check_old_rows(path: Path, root: Root) -> None:
    """Refuse to append where what will be written again is damaged, and put the arrays' metadata right."""
    names = [
        name
        for name, document in root.nodes.items()
        if document["node_type"] == "array" and name.startswith(("X", "obs/"))
    ]
    ProfileStore.open(path).check_ends(names)
    for name in names:
        restore_document(path / name, root.nodes[name])
