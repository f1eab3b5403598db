"""The files of an index that only grow: rows, that is vectors and what each is of, and blobs of entries.

``vectors-N.f32`` holds little-endian float32 vectors, ``rows-N.bin`` a record of `ROW` for each. A compact
index has ``vectors-N.i8`` in its place: of every vector a scale, float32, and whole numbers of 8 bits. N is
the generation: a compaction writes new files and never touches the old ones. ``letters-N.bin`` and
``sketches-N.bin`` hold a blob for an entry, behind one another. Where a blob lies, how long it is and its
CRC-32 are kept in the table of entries.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.index.manifest import BLOBS, Blob, Block, Entry

DTYPE = np.dtype("<f4")
# What a vector is of: a piece of a sequence (letters start to stop), a whole sequence, a whole genome, or a
# sequence that is not searched, because it is short and its genome's vector has it.
PIECE, WHOLE, GENOME, SHORT = 0, 1, 2, 3
# Vectors that are read together.
PAGE = 1 << 14
# entry: number of the sequence, -1 for a genome's vector. genome: number of its genome.
ROW = np.dtype([("entry", "<i8"), ("genome", "<i8"), ("start", "<i8"), ("stop", "<i8"), ("kind", "<i8")])


def row_files(folder: Path, generation: int, *, new_in_bytes: bool = False) -> tuple[Path, Path]:
    """The files of vectors and of records of a generation.

    new_in_bytes : vectors that are not there yet will have 8 bits a number; else 32.
    """
    floats, steps = (folder / f"vectors-{generation}.{kind}" for kind in ("f32", "i8"))
    in_bytes = steps.exists() or (new_in_bytes and not floats.exists())
    return steps if in_bytes else floats, folder / f"rows-{generation}.bin"


def _stored(path: Path, dim: int) -> np.dtype[Any]:
    """A vector as it stands in a file of this name."""
    if path.suffix == ".i8":
        return np.dtype([("scale", "<f4"), ("steps", "i1", (dim,))])
    return np.dtype((DTYPE, (dim,)))


class ByteVectors:
    """Vectors (n, dim) of 8 bits a number, mapped from a file: what is asked for is given as float32."""

    def __init__(self, stored: NDArray[Any]) -> None:
        self._stored = stored
        self.shape = stored["steps"].shape

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, which: Any) -> NDArray[np.float32]:
        some = self._stored[which]
        return np.asarray(some["steps"] * some["scale"][..., None], np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[:], dtype)


class RowFiles:
    """Appends rows behind the committed ones; what a killed run left behind those is cut off at birth.

    `append` returns when the rows are on disk: whoever records them (the table of entries) does so after.
    state : of the table of entries, with the generation and whether vectors are `rounded`; those of new files
    have 8 bits a number then.
    """

    def __init__(self, folder: Path, state: Mapping[str, Any], dim: int, rows: int) -> None:
        self._files = []
        paths = row_files(folder, int(state["generation"]), new_in_bytes=bool(state.get("rounded")))
        self._stored = _stored(paths[0], dim)
        sizes = (self._stored.itemsize, ROW.itemsize)
        for path, size in zip(paths, sizes, strict=True):
            file = path.open("r+b" if path.exists() else "w+b")
            self._files.append(file)
            found = os.fstat(file.fileno()).st_size
            if found < rows * size:
                self.close()
                raise FormatError(f"the file holds fewer than {rows} rows", "it was cut short", place=path)
            if found > rows * size:
                file.truncate(rows * size)
            file.seek(rows * size)

    def append(self, vectors: NDArray[np.float32], records: NDArray[Any]) -> None:
        """Write vectors (m, dim) and records (m,) of `ROW`, and wait until they are on disk."""
        stored: NDArray[Any] = vectors.astype(DTYPE)
        if self._stored.names:
            stored = np.empty(len(vectors), self._stored)
            stored["steps"], scales = quantized(vectors)
            stored["scale"] = scales[:, 0]
        for file, block in zip(self._files, (stored, records.astype(ROW)), strict=True):
            file.write(np.ascontiguousarray(block).view(np.uint8).data if block.size else b"")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# As they stand in a file of either kind.
KeptVectors = NDArray[np.float32] | ByteVectors


def map_vectors(path: Path, rows: int, dim: int) -> KeptVectors:
    """The committed vectors, (rows, dim), mapped read-only; FormatError where they are not all there."""
    stored = _stored(path, dim)
    return ByteVectors(mapped(path, stored, (rows,))) if stored.names else mapped(path, DTYPE, (rows, dim))


def map_rows(path: Path, rows: int) -> NDArray[Any]:
    """The committed records, (rows,) of `ROW`, mapped read-only; FormatError where they are not all there."""
    return mapped(path, ROW, (rows,))


def mapped(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array in a file, mapped read-only; FormatError where it is not all there."""
    wanted = dtype.itemsize * int(np.prod(shape))
    if not wanted:
        return np.empty(shape, dtype)
    try:
        size = path.stat().st_size
        if size < wanted:
            raise FormatError(
                f"the file has {size:,} bytes, the index records {wanted:,}",
                "it was cut short",
                "copy the index again, or build it again",
                place=path,
            )
        return np.memmap(path, dtype=dtype, mode="r", shape=shape)
    except OSError as error:
        raise FormatError("the file cannot be read", error.strerror or str(error), place=path) from error


def row_checksum(vectors: NDArray[np.float32], records: NDArray[Any]) -> int:
    """CRC-32 of vectors, as float32, and of their records as they stand in the files."""
    first = isal_zlib.crc32(
        np.ascontiguousarray(vectors, dtype=DTYPE).data.cast("B") if vectors.size else b""
    )
    return isal_zlib.crc32(np.ascontiguousarray(records).view(np.uint8).data if records.size else b"", first)


def quantized(vectors: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Whole numbers (n, dim) and scales (n, 1) whose products are about the vectors (n, dim).

    Scales have 8 bits of mantissa, rounded down: products are exact, and the largest number is 127.
    """
    scales = np.abs(vectors).max(axis=1, keepdims=True, initial=0).astype(np.float32) / np.float32(127)
    scales = (scales.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)
    steps = np.divide(vectors, scales, out=np.zeros_like(vectors, np.float32), where=scales > 0)
    return np.clip(np.rint(steps), -127, 127).astype(np.int8), scales


def scales_of(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n,) inverse lengths of vectors (n, dim), 1 of zeros."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    return np.asarray(1 / np.where(lengths > 0, lengths, 1), dtype=np.float32)


def rounded(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors (n, dim) as a compact index holds them: whole numbers up to 127 times one scale a vector.

    What is rounded stays as it is.
    """
    steps, scales = quantized(vectors)
    return steps.astype(np.float32) * scales


@dataclass(frozen=True)
class Rows:
    """All committed rows. vectors : (n, dim), mapped. records : (n,) of `ROW`, mapped. alive : (n,)."""

    folder: Path
    generation: int
    vectors: KeptVectors
    records: NDArray[Any]
    alive: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def kinds(self) -> NDArray[np.int8]:
        """(n,) what every row is of."""
        return self.records["kind"].astype(np.int8)

    @cached_property
    def entry(self) -> NDArray[np.int64]:
        """(n,) number of every row's sequence, -1 for a genome's."""
        return np.ascontiguousarray(self.records["entry"])

    @cached_property
    def genome(self) -> NDArray[np.int64]:
        """(n,) number of every row's genome."""
        return np.ascontiguousarray(self.records["genome"])

    @cached_property
    def scales(self) -> NDArray[np.float32]:
        """(n,) what vectors have length 1 with."""
        parts = [scales_of(self.vectors[at : at + PAGE]) for at in range(0, len(self), PAGE)]
        return np.concatenate([np.empty(0, np.float32), *parts])

    @cached_property
    def searched(self) -> NDArray[np.bool_]:
        """(n,) which rows are alive and may be near a query."""
        return np.asarray(self.alive & (self.kinds != SHORT))

    @cached_property
    def sequences(self) -> NDArray[np.bool_]:
        """(n,) which of these are of sequences."""
        return np.asarray(self.searched & (self.kinds != GENOME))

    @cached_property
    def single(self) -> bool:
        """Whether every row is of a whole sequence."""
        return bool((self.kinds == WHOLE).all())

    @cached_property
    def means(self) -> dict[int, int]:
        """The row of every genome that has a vector of its own."""
        rows = np.flatnonzero(self.alive & (self.kinds == GENOME))
        return dict(zip(self.genome[rows].tolist(), rows.tolist(), strict=True))

    def wholes(self) -> NDArray[np.int64]:
        """Rows of whole sequences that are alive, by the number of their entry."""
        rows = np.flatnonzero(self.alive & ((self.kinds == WHOLE) | (self.kinds == SHORT)))
        return np.asarray(rows[np.argsort(self.entry[rows], kind="stable")])

    def excluded(self, exclude: NDArray[np.int64], entries: Mapping[int, Entry]) -> list[NDArray[np.int64]]:
        """For every excluded entry (-1: none) its rows, and that of its genome's vector."""
        nothing, rows = np.empty(0, dtype=np.int64), []
        for number in exclude.tolist():
            entry = entries.get(number)
            if entry is None:
                rows.append(nothing)
                continue
            mean = [self.means[entry.genome]] if entry.genome in self.means else []
            rows.append(np.array([*range(entry.first, entry.first + entry.rows), *mean], dtype=np.int64))
        return rows

    def check_blocks(self, blocks: Iterable[Block]) -> None:
        """FormatError where rows are not those that were committed."""
        for block in blocks:
            part = slice(block.first, block.first + block.rows)
            if row_checksum(self.vectors[part], self.records[part]) != block.checksum:
                raise FormatError(
                    f"the rows {part.start} to {part.stop - 1} are damaged",
                    "their checksum is another",
                    "copy the index again, or build it again",
                    place=row_files(self.folder, self.generation)[0],
                )


def blob_file(folder: Path, kind: str, generation: int) -> Path:
    """Where blobs of a kind stand, "letters" or "sketches"."""
    return folder / f"{kind}-{generation}.bin"


def files_of(folder: Path, generation: int) -> tuple[Path, ...]:
    """All files of a generation; those of blobs may be absent."""
    return (*row_files(folder, generation), *(blob_file(folder, kind, generation) for kind in BLOBS))


class BlobFile:
    """Appends blobs behind `size` committed bytes; what a killed run left behind those is cut off at birth.

    `append` returns when the blobs are on disk: whoever records them (the table of entries) does so after.
    Raises FormatError where the file is shorter than `size`.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        path = Path(path)
        self._file = path.open("r+b" if path.exists() else "w+b")
        self.size = size
        if os.fstat(self._file.fileno()).st_size < size:
            self._file.close()
            raise FormatError(
                f"the file holds fewer than {size:,} bytes",
                "it was cut short",
                "copy the index again, or build it again",
                place=path,
            )
        if os.fstat(self._file.fileno()).st_size > size:
            self._file.truncate(size)
        self._file.seek(size)

    def append(self, blobs: Iterable[bytes]) -> list[Blob]:
        """Write blobs and wait until they are on disk; gives where each lies."""
        places = []
        for blob in blobs:
            self._file.write(blob)
            places.append(Blob(self.size, len(blob), int(isal_zlib.crc32(blob))))
            self.size += len(blob)
        self._file.flush()
        os.fsync(self._file.fileno())
        return places

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_blobs(path: str | Path, places: Iterable[Blob]) -> Iterator[bytes]:
    """Blobs from where `BlobFile.append` said that they lie.

    Raises FormatError where one is not whole or not the one whose CRC-32 this is.
    """
    with ExitStack() as files:
        file = None
        for offset, nbytes, crc in places:
            try:
                file = file or files.enter_context(Path(path).open("rb"))
                file.seek(offset)
                blob = file.read(nbytes)
            except (OSError, ValueError) as error:
                raise FormatError("the sequences cannot be read", str(error), place=path) from error
            if len(blob) < nbytes or isal_zlib.crc32(blob) != crc:
                raise damaged_blob(path, offset)
            yield blob


def damaged_blob(path: str | Path, offset: int) -> FormatError:
    """The error for a blob that is another than was written."""
    return FormatError(
        f"what lies at byte {offset:,} is damaged",
        "its checksum or its length is another",
        "copy the index again, or build it again",
        place=path,
    )
