"""Where an index gets its entries from: embeddings with ids, and the encoder that made them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.box import boxed_for, located
from kinmer.errors import MismatchError, ProfileError, UsageError
from kinmer.files import hash_ids
from kinmer.inputs import map_array
from kinmer.layout import Layout, check_layout
from kinmer.profiles import AnnDataProfiles, Profiles, StoredProfiles, open_profiles, stamp_of, table_kind
from kinmer.profiles.protocol import read_ids

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = ["Embedded", "open_embedded"]


KEY = "X_kinmer"
# Columns of the tables of k-mers; any other .npy table holds embeddings.
PROFILE_COLUMNS = (2773, 10965)


@dataclass(frozen=True)
class Embedded:
    """n embedded sequences, read in blocks.

    ids : (n,) str. obs : what is known of them, index = ids. read(start, stop) : (m, dim) float32.
    encoder : what embedded them, and will embed the queries. identity : JSON-able; equal where the same rows
    come again, None where that cannot be told (what lies in memory). place : the source's path, if any.
    """

    ids: NDArray[np.object_]
    obs: pd.DataFrame
    read: Callable[[int, int], NDArray[np.float32]]
    encoder: Encoder
    identity: dict[str, Any] | None
    place: str = ""

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self, start: int, rows: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """First row and vectors of the blocks from row `start` on; the next one is read meanwhile."""
        spans = [(first, min(first + rows, len(self))) for first in range(start, len(self), rows)]
        with ThreadPoolExecutor(1) as reader:
            coming = reader.submit(self.read, *spans[0]) if spans else None
            for number, (first, _) in enumerate(spans):
                assert coming is not None
                vectors = coming.result()
                if number + 1 < len(spans):
                    coming = reader.submit(self.read, *spans[number + 1])
                yield first, vectors


def open_embedded(
    source: str | Path | AnnData | Profiles,
    *,
    encoder: str | Path | Encoder | None = None,
    ids: str | Path | None = None,
) -> Embedded:
    """The embeddings in `source`, or those that `encoder` makes of its profiles as they are read.

    source, ids : what `open_profiles` takes, with or without ``obsm["X_kinmer"]``; or an ``.npy`` table of
    embeddings with its ids. encoder : None where the source says which one embedded it, or for the newest
    that comes with kinmer and takes the source's profiles.

    Raises UsageError where an encoder is needed and there is none, MismatchError where it is another than the
    one that embedded the source, and what opening the source and the encoder raises.
    """
    place = str(source) if isinstance(source, str | Path) else ""
    if isinstance(source, str | Path) and _holds_vectors(Path(source)):
        return replace(_from_table(Path(source), encoder, ids), place=place)
    profiles = open_profiles(source, ids=ids)
    if not len(profiles):
        raise ProfileError("the source has no rows", "there is nothing to index")
    held = _held(profiles)
    if held is None:
        found = _given(boxed_for(profiles.layout) if encoder is None else encoder)
        return replace(_embedding_on_the_way(profiles, found, _identity(source, profiles)), place=place)
    read, made = held
    known = _identity(source, profiles)
    return Embedded(profiles.ids, profiles.obs, read, _matching(encoder, made, profiles.layout), known, place)


def _held(
    profiles: Profiles,
) -> tuple[Callable[[int, int], NDArray[np.float32]], Mapping[str, Any] | None] | None:
    """A reader of the embeddings that profiles come with, and what is told of their origin; None for none."""
    if isinstance(profiles, StoredProfiles) and KEY in profiles.obsm_keys():
        store = profiles
        store.obsm_width(KEY)  # Refused now where it cannot be read, not amid the work.
        return (lambda start, stop: store.read_obsm(KEY, start, stop)), store.embedding(KEY)
    if isinstance(profiles, AnnDataProfiles) and KEY in profiles.obsm_keys():
        matrix = profiles.read_obsm(KEY)
        return (lambda start, stop: matrix[start:stop]), profiles.embedding(KEY)
    return None


def _given(encoder: str | Path | Encoder | None) -> Encoder:
    if encoder is None:
        raise UsageError(
            "there are no embeddings and no encoder",
            "an index holds embeddings",
            "run kinmer embed first, or give --encoder",
        )
    if not isinstance(encoder, str | Path):
        return encoder
    from kinmer.encoder import Encoder  # Brings PyTorch, which a search by id does not need.

    return Encoder.load(encoder)


def _matching(
    encoder: str | Path | Encoder | None, made: Mapping[str, Any] | None, layout: Layout
) -> Encoder:
    """The encoder that made the embeddings: the given one, or the recorded one."""
    origin = str((made or {}).get("encoder") or "")
    if encoder is None:
        if not origin or not located(origin).is_dir():
            raise UsageError(
                f"the encoder is not where it was ({origin})" if origin else "nothing tells of the encoder",
                "queries must be embedded by the very one that embedded the entries",
                "give --encoder",
            )
        encoder = origin
    found = _given(encoder)
    # Another encoder may take other profiles too: then the first step is to count.
    check_layout(found.layout, layout)
    if made is not None and made.get("encoder_fingerprint") != found.fingerprint:
        raise MismatchError(
            "the embeddings are of another encoder",
            f"theirs is {str(made.get('encoder_fingerprint'))[:12]}, this one {found.fingerprint[:12]}",
            "embed again, or give the encoder that embedded them",
        )
    return found


def _embedding_on_the_way(profiles: Profiles, encoder: Encoder, identity: dict[str, Any] | None) -> Embedded:
    check_layout(encoder.layout, profiles.layout)
    encoder.clr.check_values(profiles.values)

    def read(start: int, stop: int) -> NDArray[np.float32]:
        try:
            return encoder.embed(profiles.read(start, stop), profiles.values)
        except ProfileError as error:
            # The encoder counts rows within what it is given.
            raise ProfileError(error.what, error.why, place=f"the rows {start + 1} to {stop}") from error

    return Embedded(profiles.ids, profiles.obs, read, encoder, identity)


def _identity(source: object, profiles: Profiles) -> dict[str, Any] | None:
    stamp = stamp_of(source)
    return None if stamp is None else {"ids": profiles.fingerprint, "rows": len(profiles), "stamp": stamp}


def _holds_vectors(path: Path) -> bool:
    """Whether a file is an ``.npy`` table that has not the columns of a table of k-mers."""
    if table_kind(path) != "npy":
        return False
    try:
        shape = map_array(path).shape
    except ProfileError:
        return False
    return len(shape) == 2 and shape[1] not in PROFILE_COLUMNS


def _from_table(path: Path, encoder: str | Path | Encoder | None, ids: str | Path | None) -> Embedded:
    table = map_array(path)
    found = _given(encoder)
    if table.dtype.kind != "f" or table.shape[1] != found.dim:
        raise MismatchError(
            f"a table of {table.shape[1]:,} columns of {table.dtype}",
            f"embeddings by this encoder have {found.dim} of float32, a table of k-mers has 2,773",
            place=path,
        )
    listed = path.with_suffix(".txt") if ids is None else Path(ids)
    if not len(table):
        raise ProfileError("the table has no rows", place=path)
    names = read_ids(listed, len(table), path.name)
    stat = path.stat()
    identity = {"ids": hash_ids(names), "rows": len(names), "stamp": [stat.st_size, stat.st_mtime_ns]}
    return Embedded(
        names,
        pd.DataFrame(index=pd.Index(names)),
        lambda start, stop: np.array(table[start:stop], dtype=np.float32),
        found,
        identity,
    )
