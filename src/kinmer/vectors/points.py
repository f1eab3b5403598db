"""The points of a space, read in blocks: beside profiles, of an index, made elsewhere, or made now."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.box import located
from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.embedding import KEY
from kinmer.errors import InputError, ProfileError, UsageError
from kinmer.index import Storage
from kinmer.inputs import map_array
from kinmer.layout import check_layout
from kinmer.library.join import refuse_entry_as_header, unmatched
from kinmer.library.metadata import KNOWN, stage_metadata
from kinmer.profiles import AnnDataProfiles, Profiles, StoredProfiles, open_profiles
from kinmer.profiles.protocol import read_ids
from kinmer.progress import step
from kinmer.stores import Metric, check_metric
from kinmer.taxonomy import normal_accession

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = ["BLOCK_ROWS", "RAW", "Space", "open_space", "space_of", "with_metadata"]


BLOCK_ROWS = 8192
# Transforms that stand for an encoder: a CLR per k, and the reference system's.
RAW = {"raw": Clr(), "raw-joint": REFERENCE_CLR}
# Columns of the tables of k-mers; any other .npy table holds vectors.
PROFILE_COLUMNS = (2773, 10965)
Read = Callable[[int, int], NDArray[np.float32]]


@dataclass(frozen=True)
class Space:
    """n points in `dim` dimensions, read in blocks; memory is the reader's to bound.

    Attributes
    ----------
    ids : (n,) str, unique.
    obs : (n rows, index = ids) what is known of the sequences: length, gc, and whatever was joined.
    dim, metric : length of a vector, and the distance that it is meant for.
    vectors : what they are: ``X_kinmer``, the name of an encoder, ``raw``.
    place : where they come from, for messages.
    encoder : what is told of the encoder that made them (fingerprint, origin); empty where nothing is.
    profiles, index : the profiles that they belong to, the index that they are of, where there is one.
    array : (n, dim) the vectors, where they are in memory or mapped from a file.
    """

    ids: NDArray[np.object_]
    obs: pd.DataFrame
    dim: int
    metric: Metric
    vectors: str
    place: str
    encoder: dict[str, Any]
    profiles: Profiles | None
    index: Storage | None
    array: NDArray[np.float32] | None
    _read: Read

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """(stop - start, dim) float32; ProfileError where a vector holds no number."""
        block = np.ascontiguousarray(self._read(start, stop), np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            name = self.ids[start + int(np.argmin(finite))]
            raise ProfileError(
                f"the vector of {name!r} holds NaN or infinity",
                "it has no distance to any other",
                "embed again",
                place=self.place,
            )
        return block

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and vectors of block after block."""
        for start in range(0, len(self), rows):
            yield start, self.read(start, min(start + rows, len(self)))

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), dim) of any rows in any order; every block is read once."""
        rows = np.asarray(rows, np.int64)
        if self.array is not None:
            return np.asarray(self.array[rows], np.float32)
        taken = np.empty((rows.size, self.dim), np.float32)
        order = np.argsort(rows, kind="stable")
        edges = np.flatnonzero(np.diff(rows[order] // BLOCK_ROWS)) + 1
        for part in np.split(order, edges) if rows.size else ():
            first, last = int(rows[part[0]]), int(rows[part[-1]])
            taken[part] = self.read(first, last + 1)[rows[part] - first]
        return taken

    def mapped(self) -> Space:
        """The same points in a file without a name, any rows at hand; itself where they are already."""
        if self.array is not None:
            return self
        kept = _scratch(len(self), self.dim)
        for start, block in self.blocks():
            kept[start : start + len(block)] = block
        return replace(self, array=kept, _read=lambda start, stop: kept[start:stop])

    def beside(self, key: str) -> NDArray[np.float32] | None:
        """What stands under a key of ``obsm`` beside the profiles, such as a map (n, 2); None for nothing."""
        held = self.profiles
        if isinstance(held, StoredProfiles | AnnDataProfiles) and key in held.obsm_keys():
            return np.asarray(held.read_obsm(key), np.float32)
        return None

    def row_of(self, name: str) -> int:
        """The row of an id; UsageError where there is no such sequence."""
        found = np.flatnonzero(self.ids == name)
        if not found.size:
            raise UsageError(f"there is no sequence {name!r}", place=self.place)
        return int(found[0])


def open_space(
    source: str | Path | AnnData | Profiles | Storage,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
) -> Space:
    """The points in `source`.

    source : an index's folder; a profile store, an AnnData or an ``.npy`` table of k-mers with its ids; or an
        ``.npy`` table of vectors with its ids.
    vectors : a key of ``obsm``; ``raw`` (CLR per k) or ``raw-joint`` (the reference's transform) of profiles;
        or an encoder, its folder or the name of one that comes with kinmer, which embeds the profiles now,
        once, into a temporary file.
    metric : cosine or l2; None: the index's, else cosine.

    Raises InputError where there are no such vectors, MismatchError where the encoder takes other profiles,
    ProfileError where there are no rows, and what opening the source raises.
    """
    if metric is not None:
        check_metric(metric)
    if isinstance(source, Storage) or _is_index(source):
        return _of_index(source, vectors, metric)
    place = str(source) if isinstance(source, str | Path) else type(source).__name__
    if isinstance(source, str | Path) and (table := _vector_table(Path(source))) is not None:
        # A map calls its points by the table's name.
        if vectors not in (KEY, Path(source).stem):
            raise UsageError("a table of vectors has its own only", check="leave out --vectors", place=source)
        return _of_table(Path(source), table, ids, metric or "cosine")
    profiles = open_profiles(source, ids=ids)
    if not len(profiles):
        raise ProfileError("there are no rows", "there is nothing to look at", place=place)
    name, told, dim, found = _beside(source, profiles, vectors) or _made(profiles, vectors)
    array = None if callable(found) else found
    read = found if callable(found) else _rows_of(found)
    measure = metric or "cosine"
    return Space(profiles.ids, profiles.obs, dim, measure, name, place, told, profiles, None, array, read)


def _rows_of(array: NDArray[Any]) -> Read:
    return lambda start, stop: array[start:stop]


def _scratch(rows: int, dim: int) -> NDArray[np.float32]:
    """Room for vectors in a file that is gone when nobody looks at it any more."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, np.float32, "w+", shape=(rows, dim))


def _is_index(source: object) -> bool:
    return isinstance(source, str | Path) and (Path(source) / "index.json").is_file()


def _of_index(source: Any, vectors: object, metric: Metric | None) -> Space:
    if vectors != KEY:
        raise UsageError("an index has its own vectors only", check="give the profile store instead")
    index = source if isinstance(source, Storage) else Storage.open(source)
    kept, wholes = index.rows.vectors, index.rows.wholes()
    array = kept if np.array_equal(wholes, np.arange(len(kept))) else None
    return Space(
        index.ids,
        index.metadata,
        index.dim,
        metric or index.metric,
        KEY,
        str(index.path),
        {"encoder_fingerprint": index.encoder_fingerprint, "encoder": str(index.path / "encoder")},
        None,
        index,
        array,
        lambda start, stop: np.asarray(kept[wholes[start:stop]]),
    )


def _vector_table(path: Path) -> NDArray[Any] | None:
    """An ``.npy`` table, mapped, that has not the columns of a table of k-mers; else None."""
    if path.suffix != ".npy" or not path.is_file():
        return None
    table = map_array(path)
    return table if table.ndim == 2 and table.shape[1] not in PROFILE_COLUMNS else None


def _of_table(path: Path, table: NDArray[Any], ids: str | Path | None, metric: Metric) -> Space:
    if table.dtype.kind != "f" or not table.size:
        raise ProfileError(f"a table of {table.shape} {table.dtype}", "vectors are numbers", place=path)
    listed = path.with_suffix(".txt") if ids is None else Path(ids)
    names = read_ids(listed, len(table), path.name)
    obs, told = pd.DataFrame(index=pd.Index(names)), dict[str, Any]()
    width, read = table.shape[1], _rows_of(table)
    return Space(names, obs, width, metric, path.stem, str(path), told, None, None, table, read)


# Name, what is told of the encoder, width, and a reader of blocks or all the vectors.
Found = tuple[str, dict[str, Any], int, Read | NDArray[np.float32]]


def _beside(source: Any, profiles: Profiles, vectors: object) -> Found | None:
    """The vectors that stand beside the profiles under a key; None where there are none called so."""
    if not isinstance(vectors, str):
        return None
    if isinstance(profiles, StoredProfiles) and vectors in profiles.obsm_keys():
        store, key = profiles, vectors
        told = store.embedding(key) or {}
        return key, told, store.obsm_width(key), lambda start, stop: store.read_obsm(key, start, stop)
    if isinstance(profiles, AnnDataProfiles) and vectors in profiles.obsm_keys():
        kept = np.asarray(profiles.read_obsm(vectors), np.float32)
        return vectors, {}, kept.shape[1], kept
    if vectors == KEY:
        raise InputError(
            f"there is no {KEY} beside the profiles",
            check="run kinmer embed first, or say which vectors: raw, or an encoder",
            place=str(source) if isinstance(source, str | Path) else None,
        )
    return None


def _made(profiles: Profiles, vectors: Any) -> Found:
    """Vectors made of the profiles now, kept in a file without a name."""
    if isinstance(vectors, str) and vectors in RAW:
        clr, layout = RAW[vectors], profiles.layout
        clr.check_values(profiles.values)
        name, dim, told = vectors, layout.width, dict[str, Any]()

        def embed(rows: NDArray[Any]) -> NDArray[np.float32]:
            return np.asarray(clr(rows, layout, profiles.values), np.float32)

    else:
        encoder = _loaded(vectors)
        check_layout(encoder.layout, profiles.layout)
        name, dim = encoder.name or encoder.fingerprint[:12], encoder.dim
        told = {"encoder_fingerprint": encoder.fingerprint, "encoder": str(vectors), "dim": dim}

        def embed(rows: NDArray[Any]) -> NDArray[np.float32]:
            return encoder.embed(rows, profiles.values)

    kept = _scratch(len(profiles), dim)
    with step(f"Vectors by {name}", len(profiles)) as progress:
        for start in range(0, len(profiles), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(profiles))
            kept[start:stop] = embed(profiles.read(start, stop))
            progress.advance(stop - start)
    return name, told, dim, kept


def _loaded(vectors: Any) -> Encoder:
    from kinmer.encoder import Encoder  # Brings PyTorch, which vectors that are there do not need.

    if isinstance(vectors, Encoder):
        return vectors
    if not located(vectors).is_dir():
        raise InputError(
            f"there are no vectors {str(vectors)!r} beside the profiles, and no such encoder",
            check=f"give a key of obsm, {', '.join(RAW)}, or an encoder",
        )
    return Encoder.load(vectors)


# Ids asked for in one statement.
IDS_AT_ONCE = 500


def space_of(source: Any, *, metadata: str | Path | None = None, **settings: Any) -> Space:
    """The points of a source (`settings` of `open_space`), or the space that it is, with metadata."""
    space = source if isinstance(source, Space) else open_space(source, **settings)
    return space if metadata is None else with_metadata(space, metadata)


def with_metadata(space: Space, path: str | Path) -> Space:
    """The space with the columns of a TSV joined by id; they replace columns of the same name.

    Length, GC and bases are taken from the table only where they are not known from the sequences.

    A column of numbers becomes float64, any other text; None or NaN where nothing is known.

    Raises InputError where no id of the table is among the points, and as `stage_metadata`.
    """
    with tempfile.TemporaryDirectory() as folder:
        # What was counted from the sequences is believed more than a table.
        counted = tuple(name for name in KNOWN if name in space.obs)
        staged = stage_metadata(path, Path(folder) / "metadata.sqlite", known=counted)
        listed = ", ".join(["id", *(f"c{number}" for number in range(len(staged.columns)))])
        found: dict[str, tuple[str | None, ...]] = {}
        connection = sqlite3.connect(staged.database)
        try:
            for start in range(0, len(space), IDS_AT_ONCE):
                ids = [normal_accession(name) for name in space.ids[start : start + IDS_AT_ONCE].tolist()]
                asked = f"SELECT {listed} FROM metadata WHERE id IN ({', '.join('?' * len(ids))})"
                found.update((row[0], row[1:]) for row in connection.execute(asked, ids))
        finally:
            connection.close()
        if not found:
            raise unmatched(staged, space.ids.tolist(), "none of its ids is among the sequences")
        refuse_entry_as_header(staged, set(space.ids.tolist()))
    nothing = (None,) * len(staged.columns)
    rows = [found.get(normal_accession(name), nothing) for name in space.ids]
    table = pd.DataFrame(rows, columns=list(staged.columns), index=space.obs.index, dtype=object)
    obs = space.obs.copy()
    for name in staged.columns:
        obs[name] = _typed(table[name])
    return replace(space, obs=obs)


def _typed(column: pd.Series) -> pd.Series:
    """Numbers where all that is known are numbers."""
    known = column.notna()
    try:
        numbers = column[known].astype(np.float64)
    except (TypeError, ValueError):
        return column
    return numbers.reindex(column.index) if known.any() else column
