"""The front door: the vectors of whatever has some or can be embedded, read in blocks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.box import boxed_for, located
from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.counting import CountedFasta
from kinmer.embedding import KEY
from kinmer.errors import InputError, MismatchError, ProfileError, UsageError
from kinmer.files import hash_ids
from kinmer.index import Storage
from kinmer.inputs import kind_of, map_array, unnamed_array
from kinmer.layout import Layout, check_layout, kmer_layout
from kinmer.profiles import AnnDataProfiles, Profiles, StoredProfiles, open_profiles, stamp_of
from kinmer.profiles.protocol import read_ids
from kinmer.progress import step
from kinmer.stores import Metric, check_metric

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

BLOCK_ROWS = 8192
# Transforms that stand for an encoder: a CLR per k, and that of the original pipeline.
RAW = {"raw": Clr(), "raw-joint": REFERENCE_CLR}
# Columns of the tables of k-mers; any other .npy table holds vectors.
PROFILE_COLUMNS = (2773, 10965)
Array = NDArray[np.float32]
Rows = NDArray[np.int64]


class Embedder(Protocol):
    """What turns profiles of its layout into vectors: an encoder, or a transform alone."""

    @property
    def layout(self) -> Layout: ...
    @property
    def clr(self) -> Clr: ...
    @property
    def dim(self) -> int: ...

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> Array:
        """(n, dim) float32 of profiles (n, layout.width)."""
        ...


@dataclass(frozen=True)
class Transform:
    """A transform alone: what an encoder has to be better than."""

    clr: Clr
    layout: Layout

    @property
    def dim(self) -> int:
        """Columns of the layout."""
        return self.layout.width

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> Array:
        """(n, layout.width) float32."""
        return np.asarray(self.clr(profiles, self.layout, values), np.float32)


@dataclass(frozen=True)
class Vectors:
    """n vectors of `dim` numbers, read in blocks. The caller bounds the memory.

    Attributes
    ----------
    ids : (n,) str, unique.
    obs : (n rows, index = ids) what is known of the sequences: length, gc, and joined metadata.
    dim, metric : length of a vector, and the distance that it is meant for.
    name : what they are: ``X_kinmer``, the name of an encoder, ``raw``.
    place : where they come from, for messages.
    provenance : what is recorded of the encoder that made them (fingerprint, origin), or empty.
    profiles, index : the profiles that they belong to, or the index that they are of.
    array : (n, dim) the vectors, where they are in memory or mapped from a file.
    encoder : the encoder that made them, where it was opened with them.
    identity : JSON-able, equal where the same rows come again; None for what is in memory.
    """

    ids: NDArray[np.object_]
    obs: pd.DataFrame
    dim: int
    metric: Metric
    name: str
    place: str
    _read: Callable[[int, int], Array]
    provenance: dict[str, Any]
    profiles: Profiles | None = None
    index: Storage | None = None
    array: Array | None = None
    encoder: Encoder | None = None
    identity: dict[str, Any] | None = None
    _take: Callable[[Rows], Array] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, start: int, stop: int) -> Array:
        """(stop - start, dim) float32; ProfileError where a vector holds NaN or infinity."""
        return self._checked(self._read(start, stop), np.arange(start, stop))

    def blocks(self, rows: int = BLOCK_ROWS, *, start: int = 0) -> Iterator[tuple[int, Array]]:
        """First row and vectors of block after block; the next block is read meanwhile."""
        spans = [(first, min(first + rows, len(self))) for first in range(start, len(self), rows)]
        if self.array is not None:
            yield from ((first, self.read(first, stop)) for first, stop in spans)
            return
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, *spans[0]) if spans else None
            for number, (first, _) in enumerate(spans):
                assert coming is not None
                block = coming.result()
                if number + 1 < len(spans):
                    coming = reader.submit(self.read, *spans[number + 1])
                yield first, block

    def take(self, rows: Rows) -> Array:
        """(len(rows), dim) of any rows in any order; every block is read once. Raises as `read`."""
        rows = np.asarray(rows, np.int64)
        if self.array is not None:
            return self._checked(self.array[rows], rows)
        taken = np.empty((rows.size, self.dim), np.float32)
        order = np.argsort(rows, kind="stable")
        edges = np.flatnonzero(np.diff(rows[order] // BLOCK_ROWS)) + 1
        for part in np.split(order, edges) if rows.size else ():
            if self._take is not None:
                taken[part] = self._checked(self._take(rows[part]), rows[part])
                continue
            first, last = int(rows[part[0]]), int(rows[part[-1]])
            taken[part] = self.read(first, last + 1)[rows[part] - first]
        return taken

    def _checked(self, given: Any, rows: Rows) -> Array:
        block: Array = np.ascontiguousarray(given, np.float32)
        finite = np.isfinite(block).all(axis=1)
        if not finite.all():
            row = int(rows[int(np.argmin(finite))])
            raise ProfileError(
                f"the vector of {self.ids[row]!r} holds NaN or infinity",
                "it has no distance to any other",
                "embed again",
                place=f"{self.place}, row {row + 1}",
            )
        return block

    def mapped(self) -> Vectors:
        """The same vectors in an unnamed file, for many reads; itself where they are at hand already."""
        if self.array is not None:
            return self
        kept = unnamed_array(np.float32, len(self), self.dim)
        with step(f"Vectors by {self.name}", len(self)) as progress:
            for start in range(0, len(self), BLOCK_ROWS):
                stop = min(start + BLOCK_ROWS, len(self))
                kept[start:stop] = self._read(start, stop)
                progress.advance(stop - start)
        return replace(self, array=kept, _read=lambda start, stop: kept[start:stop])

    def beside(self, key: str) -> Array | None:
        """A matrix (n, …) under a key of ``obsm`` beside the profiles, such as a map; None for none."""
        held = self.profiles
        if isinstance(held, StoredProfiles | AnnDataProfiles) and key in held.obsm_keys():
            return np.asarray(held.read_obsm(key), np.float32)
        return None

    def row_of(self, name: str) -> int:
        """The row of an id; UsageError where there is no such sequence."""
        matches = np.flatnonzero(self.ids == name)
        if not matches.size:
            raise UsageError(f"there is no sequence {name!r}", place=self.place)
        return int(matches[0])


def open_vectors(
    source: str | Path | AnnData | Profiles | Storage | Vectors,
    vectors: str | Path | Encoder | Embedder = KEY,
    *,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    threads: int | None = None,
    lazy: bool = False,
) -> Vectors:
    """The vectors of a source.

    Parameters
    ----------
    source : an index's folder; a profile store, an AnnData or an ``.npy`` table of k-mers with its ids; an
        ``.npy`` table of vectors with its ids; a FASTA file, where `vectors` is an encoder; or Vectors.
    vectors : a key of ``obsm``; ``raw`` (CLR per k) or ``raw-joint`` (the transform of the original pipeline)
        of profiles; or an encoder, its folder or the name of one that comes with kinmer.
    ids : the ids of an ``.npy`` table, one a line; None: the ``.txt`` beside it.
    metric : cosine or l2; None: the index's, else cosine.
    lazy : embed rows as they are read; else all at once, into a temporary file.

    Raises
    ------
    InputError : there are no such vectors.
    MismatchError : the encoder takes other profiles.
    ProfileError : there are no rows.
    """
    if metric is not None:
        check_metric(metric)
    if isinstance(source, Vectors):
        points = source
    elif isinstance(source, Storage) or kind_of(source) == "index":
        points = _of_index(source, vectors, metric)
    else:
        points = _of_source(source, vectors, ids, threads, lazy=lazy)
        points = points if metric is None else replace(points, metric=metric)
    return points


def open_embedded(
    source: str | Path | AnnData | Profiles,
    *,
    encoder: str | Path | Encoder | None = None,
    ids: str | Path | None = None,
) -> Vectors:
    """The vectors of a source with the encoder that made them, or embedded by it as they are read.

    source, ids : as in `open_vectors`, but no index and no FASTA. encoder : None where the source records
    the one that embedded it, or for the newest that comes with kinmer and takes the source's profiles.

    Raises UsageError where an encoder is needed and there is none, MismatchError where it is not the one
    that embedded the source, and what opening the source and the encoder raises.
    """
    if _holds_vectors(source):
        loaded, columns = _encoder(encoder), map_array(source).shape[1]
        if columns != loaded.dim:
            raise MismatchError(
                f"a table of {columns:,} columns",
                f"embeddings by this encoder have {loaded.dim}, a table of k-mers has 2,773",
                place=source,
            )
        table = _of_table(Path(source), ids)
        return replace(table, encoder=loaded, identity=_identity(source, hash_ids(table.ids), len(table)))
    profiles = open_profiles(source, ids=ids)
    if not len(profiles):
        raise ProfileError("the source has no rows", "there is nothing to index")
    points = _beside(source, profiles, KEY)
    if points is None:
        loaded = _encoder(boxed_for(profiles.layout) if encoder is None else encoder)
        points = _embedded(source, profiles, loaded, loaded.fingerprint[:12], {})
    else:
        loaded = _matching(encoder, points.provenance, profiles.layout)
    return replace(points, encoder=loaded, identity=_identity(source, profiles.fingerprint, len(points)))


def _identity(source: object, fingerprint: str, rows: int) -> dict[str, Any] | None:
    stamp = stamp_of(source)
    return None if stamp is None else {"ids": fingerprint, "rows": rows, "stamp": stamp}


def _holds_vectors(source: object) -> TypeGuard[str | Path]:
    """Whether a source is an ``.npy`` table without the columns of a table of k-mers."""
    if not isinstance(source, str | Path) or kind_of(source) != "npy" or not Path(source).is_file():
        return False
    shape = map_array(source).shape
    return len(shape) == 2 and shape[1] not in PROFILE_COLUMNS


def _of_index(source: Any, vectors: object, metric: Metric | None) -> Vectors:
    if vectors != KEY:
        raise UsageError("an index has its own vectors only", check="give the profile store instead")
    index = source if isinstance(source, Storage) else Storage.open(source)
    kept, wholes, obs = index.rows.vectors, index.rows.wholes(), index.metadata
    return Vectors(
        obs.index.to_numpy(),
        obs,
        index.dim,
        metric or index.metric,
        KEY,
        str(index.path),
        lambda start, stop: np.asarray(kept[wholes[start:stop]]),
        {"encoder_fingerprint": index.encoder_fingerprint, "encoder": str(index.path / "encoder")},
        index=index,
        array=kept if isinstance(kept, np.ndarray) and np.array_equal(wholes, np.arange(len(kept))) else None,
        _take=lambda rows: np.asarray(kept[wholes[rows]]),
    )


def _of_source(
    source: Any, vectors: Any, ids: str | Path | None, threads: int | None, *, lazy: bool
) -> Vectors:
    """Of a table, profiles or FASTA."""
    if _holds_vectors(source):
        # A map calls its points by the table's name.
        if vectors not in (KEY, Path(source).stem):
            raise UsageError("a table of vectors has its own only", check="leave out --vectors", place=source)
        return _of_table(Path(source), ids)
    profiles: Profiles
    if vectors != KEY and kind_of(source) == "fasta":
        embedder, name, provenance = _embedder(vectors, kmer_layout())
        profiles = CountedFasta(source, embedder.layout, threads=threads)
    else:
        profiles = open_profiles(source, ids=ids)
        if not len(profiles):
            raise ProfileError("there are no rows", "there is nothing to look at", place=_place(source))
        if isinstance(vectors, str) and (points := _beside(source, profiles, vectors)) is not None:
            return points
        if vectors == KEY:
            raise InputError(
                f"there is no {KEY} beside the profiles",
                check="run kinmer embed first, or say which vectors: raw, or an encoder",
                place=str(source) if isinstance(source, str | Path) else None,
            )
        embedder, name, provenance = _embedder(vectors, profiles.layout)
    points = _embedded(source, profiles, embedder, name, provenance)
    return points if lazy else points.mapped()


def _place(source: object) -> str:
    return str(source if isinstance(source, str | Path) else getattr(source, "path", type(source).__name__))


def _of_table(path: Path, ids: str | Path | None) -> Vectors:
    table = map_array(path)
    if table.ndim != 2 or table.dtype.kind != "f" or not table.size:
        raise ProfileError(
            f"a table of {table.shape} {table.dtype}",
            "vectors are rows of floating point numbers",
            place=path,
        )
    names = read_ids(path.with_suffix(".txt") if ids is None else Path(ids), len(table), path.name)
    obs = pd.DataFrame(index=pd.Index(names))
    read = _rows_of(table)
    return Vectors(names, obs, table.shape[1], "cosine", path.stem, str(path), read, {}, array=table)


def _rows_of(array: NDArray[Any]) -> Callable[[int, int], Array]:
    return lambda start, stop: array[start:stop]


def _beside(source: object, profiles: Profiles, key: str) -> Vectors | None:
    """The vectors that stand beside the profiles under a key; None where there are none called so."""
    if not isinstance(profiles, StoredProfiles | AnnDataProfiles) or key not in profiles.obsm_keys():
        return None
    array: Array | None = None
    read: Callable[[int, int], Array] = partial(profiles.read_obsm, key)
    if isinstance(profiles, StoredProfiles):
        dim = profiles.obsm_width(key)  # Refused now where it cannot be read, not amid the work.
    else:
        array = np.asarray(profiles.read_obsm(key), np.float32)
        dim, read = array.shape[1], _rows_of(array)
    provenance = dict(profiles.embedding(key) or {})
    return _of_profiles(source, profiles, dim, key, read, provenance, array=array)


def _embedded(
    source: object, profiles: Profiles, embedder: Embedder, name: str, provenance: dict[str, Any]
) -> Vectors:
    """The vectors that an embedder makes of profiles as they are read."""
    place = source if isinstance(source, str | Path) else getattr(source, "path", None)
    check_layout(embedder.layout, profiles.layout, place=place)
    embedder.clr.check_values(profiles.values)

    def read(start: int, stop: int) -> Array:
        try:
            return embedder.embed(profiles.read(start, stop), profiles.values)
        except ProfileError as error:
            # The encoder counts rows within what it is given.
            raise ProfileError(error.what, error.why, place=f"the rows {start + 1} to {stop}") from error

    def take(rows: Rows) -> Array:
        return embedder.embed(profiles.take(rows), profiles.values)

    return _of_profiles(source, profiles, embedder.dim, name, read, provenance, _take=take)


def _of_profiles(
    source: object,
    profiles: Profiles,
    dim: int,
    name: str,
    read: Callable[[int, int], Array],
    provenance: dict[str, Any],
    **more: Any,
) -> Vectors:
    place = _place(source)
    return Vectors(
        profiles.ids, profiles.obs, dim, "cosine", name, place, read, provenance, profiles=profiles, **more
    )


def _embedder(vectors: Any, layout: Layout) -> tuple[Embedder, str, dict[str, Any]]:
    """What makes the vectors, its name, and what is recorded of it. layout : that `raw` is of."""
    if isinstance(vectors, str) and vectors in RAW:
        return Transform(RAW[vectors], layout), vectors, {}
    if isinstance(vectors, str | Path) and not located(vectors).is_dir():
        raise InputError(
            f"there are no vectors {str(vectors)!r} beside the profiles, and no such encoder",
            check=f"give a key of obsm, {', '.join(RAW)}, or an encoder",
        )
    if isinstance(vectors, Transform):
        return vectors, "raw", {}
    encoder = _encoder(vectors)
    recorded = {"encoder_fingerprint": encoder.fingerprint, "encoder": str(vectors), "dim": encoder.dim}
    return encoder, encoder.name or encoder.fingerprint[:12], recorded


def _encoder(encoder: str | Path | Encoder | None) -> Encoder:
    if encoder is None:
        raise UsageError(
            "there are no embeddings and no encoder",
            "an index holds embeddings",
            "run kinmer embed first, or give --encoder",
        )
    if not isinstance(encoder, str | Path):
        return encoder
    from kinmer.encoder import Encoder  # Vectors that are there do not need it.

    return Encoder.load(encoder)


def _matching(encoder: str | Path | Encoder | None, made: dict[str, Any], layout: Layout) -> Encoder:
    """The encoder that made the embeddings: the given one, or the recorded one."""
    origin = str(made.get("encoder") or "")
    if encoder is None:
        if not origin or not located(origin).is_dir():
            raise UsageError(
                f"the encoder is not where it was ({origin})" if origin else "no encoder is recorded",
                "queries must be embedded by the one that embedded the entries",
                "give --encoder",
            )
        encoder = origin
    loaded = _encoder(encoder)
    # Another encoder may take other profiles too: then the first step is to count.
    check_layout(loaded.layout, layout)
    if made and made.get("encoder_fingerprint") != loaded.fingerprint:
        raise MismatchError(
            "the embeddings are of another encoder",
            f"theirs is {str(made.get('encoder_fingerprint'))[:12]}, this one {loaded.fingerprint[:12]}",
            "embed again, or give the encoder that embedded them",
        )
    return loaded
