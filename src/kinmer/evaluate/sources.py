"""Vectors of sequences by any encoder: of FASTA that is counted once, of profiles, or made elsewhere."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinmer.arrays import map_array
from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.counting import count_batches
from kinmer.embedding import KEY
from kinmer.encoder import Encoder
from kinmer.errors import ProfileError, UsageError
from kinmer.evaluate.vectors import RowVectors
from kinmer.fasta import read_blocks
from kinmer.layout import Layout, check_layout, kmer_layout
from kinmer.profiles import Profiles, open_profiles
from kinmer.profiles.ids import read_ids

__all__ = ["RAW", "Embedder", "Encoders", "FastaSource", "Source", "encoders_of", "open_source"]

Rows = NDArray[np.int64]
BLOCK_ROWS = 4096
FOLD = "{fold}"


class Embedder(Protocol):
    """What turns profiles of its layout into vectors: an encoder, or a transform alone."""

    @property
    def layout(self) -> Layout: ...

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class RawProfiles:
    """The transform alone: what an encoder has to be better than."""

    clr: Clr
    layout: Layout

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> NDArray[np.float32]:
        """(n, layout.width) float32."""
        return np.asarray(self.clr(profiles, self.layout, values), np.float32)


# Names that stand for a transform of 6- to 1-mers: a CLR per k, and the reference system's.
RAW = {"raw": Clr(), "raw-joint": REFERENCE_CLR}


@dataclass(frozen=True)
class Encoders:
    """An encoder, one for every fold (then `origin` has ``{fold}`` in it), or None: vectors as they are."""

    name: str
    origin: str | Path | Encoder | None
    device: str = "auto"

    @property
    def by_fold(self) -> bool:
        return isinstance(self.origin, str | Path) and FOLD in str(self.origin)

    def of(self, fold: str = "") -> Embedder | None:
        """The encoder of a fold, or the one there is; raises what `Encoder.load` raises."""
        if self.origin is None or isinstance(self.origin, Encoder):
            return self.origin
        if str(self.origin) in RAW:
            return RawProfiles(RAW[str(self.origin)], kmer_layout())
        return Encoder.load(str(self.origin).replace(FOLD, fold), device=self.device)


def encoders_of(
    given: Sequence[str | Path | Encoder] | Mapping[str, str | Path | Encoder], device: str
) -> list[Encoders]:
    """Encoders by name: a mapping's keys, else the folders as given; none: the vectors that are there.

    Raises UsageError for one name twice.
    """
    if isinstance(given, Mapping):
        found = [Encoders(name, origin, device) for name, origin in given.items()]
    else:
        found = [
            Encoders(origin.fingerprint[:12] if isinstance(origin, Encoder) else str(origin), origin, device)
            for origin in given
        ]
    if not found:
        return [Encoders("vectors", None)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the encoder {name} is given twice", check="give each once")
    return found


class Source(Protocol):
    """n sequences that vectors can be had of."""

    @property
    def ids(self) -> Sequence[str]: ...

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder` (None: those that are there) of ascending `rows` (None: of all)."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class FastaSource:
    """Sequences of a FASTA file, counted into a temporary file once for every layout."""

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self._path, self._threads = path, threads
        self.ids: Sequence[str] = _fasta_ids(path)
        self._counts: dict[str, NDArray[np.uint32]] = {}

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder`."""
        if encoder is None:
            raise UsageError("sequences have no vectors yet", check="give an encoder", place=self._path)
        counts = self._counted(encoder.layout)
        chosen = np.arange(len(counts)) if rows is None else rows
        return np.concatenate([encoder.embed(counts[part]) for part in _blocks(chosen)])

    def _counted(self, layout: Layout) -> NDArray[np.uint32]:
        """(n, width) counts, mapped from a file without a name."""
        if layout.fingerprint not in self._counts:
            with tempfile.TemporaryFile() as file:
                table = np.memmap(file, np.uint32, "w+", shape=(len(self.ids), layout.width))
            at = 0
            for batch in count_batches([self._path], layout, threads=self._threads):
                table[at : at + len(batch.ids)] = batch.counts
                at += len(batch.ids)
            self._counts[layout.fingerprint] = table
        return self._counts[layout.fingerprint]

    def close(self) -> None:
        self._counts.clear()


class ProfileSource:
    """Rows of a profile store or an AnnData, with the vectors beside them or an encoder's."""

    def __init__(self, source: Any, profiles: Profiles) -> None:
        self._source, self._profiles = source, profiles
        self.ids: Sequence[str] = [str(one) for one in profiles.ids]

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder`, or those in ``obsm["X_kinmer"]``."""
        chosen = np.arange(len(self.ids)) if rows is None else rows
        if encoder is None:
            return RowVectors(self._source, self._profiles, KEY, None).take(chosen)
        place = self._source if isinstance(self._source, str | Path) else None
        check_layout(encoder.layout, self._profiles.layout, place=place)
        parts = (self._profiles.take(part) for part in _blocks(chosen))
        return np.concatenate([encoder.embed(part, self._profiles.values) for part in parts])

    def close(self) -> None:
        pass


class VectorSource:
    """Vectors made elsewhere: a matrix in an ``.npy`` file and its ids in the ``.txt`` beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._vectors = map_array(path)
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            raise ProfileError(
                f"the vectors are {self._vectors.shape} {self._vectors.dtype}",
                "there is one row of floating point numbers for every id",
                place=path,
            )
        self.ids: Sequence[str] = read_ids(path.with_suffix(".txt"), len(self._vectors), path.name).tolist()

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) the vectors as they are."""
        if encoder is not None:
            raise UsageError(
                "vectors cannot be embedded again", check="leave out the encoder", place=self._path
            )
        chosen = np.arange(len(self.ids)) if rows is None else rows
        vectors = np.asarray(self._vectors[chosen], np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = self.ids[int(chosen[np.argmin(finite)])]
            raise ProfileError(f"the vector of {name!r} holds NaN or infinity", place=self._path)
        return vectors

    def close(self) -> None:
        pass


def open_source(source: Any, *, threads: int | None = None) -> Source:
    """Vectors (``.npy``), profiles (a store's folder, an AnnData, Profiles) or a FASTA file."""
    if not isinstance(source, str | Path):
        return ProfileSource(source, open_profiles(source))
    path = Path(source)
    if path.suffix == ".npy":
        return VectorSource(path)
    if path.is_dir():
        return ProfileSource(source, open_profiles(source))
    return FastaSource(source, threads=threads)


def _fasta_ids(path: str | Path) -> list[str]:
    ids: list[str] = []
    for block in read_blocks(path):
        ids += block.ids[int(block.continues) :]
    return ids


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[at : at + BLOCK_ROWS] for at in range(0, rows.size, BLOCK_ROWS)]
