"""Sources of an index: how they are taken in, FASTA files, and embeddings with their encoder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.box import boxed_for, located
from kinmer.errors import InputError, MismatchError, ProfileError, UsageError
from kinmer.fasta import is_stream, prefixes_of, spooled
from kinmer.files import hash_file, hash_ids, scratch
from kinmer.index.pieces import PIECE_LENGTHS
from kinmer.inputs import map_array, text_of
from kinmer.layout import Layout, check_layout
from kinmer.profiles import AnnDataProfiles, Profiles, StoredProfiles, open_profiles, stamp_of, table_kind
from kinmer.profiles.protocol import read_ids
from kinmer.stores import Metric

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = [
    "AddOptions",
    "BuildOptions",
    "Embedded",
    "FastaFile",
    "Log",
    "ReferenceOptions",
    "Settings",
    "files_at_hand",
    "is_fasta",
    "named_files",
    "open_embedded",
]

Log = Callable[[str], None]

KEY = "X_kinmer"
# Columns of the tables of k-mers; any other .npy table holds embeddings.
PROFILE_COLUMNS = (2773, 10965)


class _Options(TypedDict, total=False):
    metadata: str | Path | None
    taxdump: str | Path | None
    min_length: int
    calibrate: bool
    threads: int | None
    log: Log | None


class AddOptions(_Options, total=False):
    """Options of `kinmer.KinIndex.add` and `update`; see there."""

    ids: str | Path | None
    genome: str | None
    prefix: str
    sample_from_file: bool
    wait: float


class ReferenceOptions(_Options, total=False):
    """Options of `kinmer.build_reference` beside its own; see `kinmer.build_index`."""

    encoder: str | Path | Encoder | None
    engine: str
    metric: Metric
    pieces: Sequence[int]
    keep_sequences: bool
    force: bool


class BuildOptions(ReferenceOptions, total=False):
    """Options of `kinmer.build_index`; see there."""

    ids: str | Path | None
    prefix: str
    sample_from_file: bool


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a source becomes entries of an index: all options of the public functions, with their defaults."""

    metadata: str | Path | None = None
    taxdump: str | Path | None = None
    ids: str | Path | None = None
    min_length: int = 1000
    genome: str | None = None
    prefix: str = ""
    sample_from_file: bool = False
    encoder: str | Path | Encoder | None = None
    engine: str = "hnsw"
    metric: Metric = "cosine"
    pieces: Sequence[int] = PIECE_LENGTHS
    keep_sequences: bool = False
    calibrate: bool = True
    wait: float = 0.2
    threads: int | None = None
    force: bool = False
    log: Log | None = None

    @classmethod
    def of(cls, options: Mapping[str, Any], allowed: type) -> Settings:
        """Settings of keyword arguments; TypeError for one that the TypedDict `allowed` has not."""
        if odd := sorted(options.keys() - allowed.__annotations__.keys()):
            raise TypeError(f"unexpected keyword argument {odd[0]!r}")
        return cls(**options)

    def tell(self, line: str) -> None:
        """Pass a line to the log, if there is one."""
        if self.log is not None:
            self.log(line)

    @property
    def names_sequences(self) -> bool:
        """Whether ids or genomes of FASTA files are to be other than the files say."""
        return self.genome is not None or bool(self.prefix) or self.sample_from_file

    def refuse_names(self) -> None:
        """UsageError where names are given for a source that is not FASTA."""
        if self.names_sequences:
            raise UsageError(
                "genome, prefix and sample are options for FASTA files",
                "a profile store has its ids",
                "give --sample-from-file or --prefix to kinmer count",
            )


class FastaFile:
    """A file of sequences.

    Parameters
    ----------
    genome : of all its sequences; None for each its own, or what its metadata say.
    values : metadata of all its sequences, beside those that are looked up.
    sha256 : of the file, None where it is yet to be computed.
    prefix : stands before the ids of its records.
    name : that the index knows it by, None for its path; that of a pipe whose content is in a file meanwhile.
    """

    def __init__(
        self,
        path: Path,
        *,
        genome: str | None = None,
        values: Mapping[str, str] | None = None,
        sha256: str | None = None,
        prefix: str = "",
        name: str | None = None,
    ) -> None:
        # An index says later where its sequences are, whatever folder that is asked from.
        self.path, self.genome, self.values = path.absolute(), genome, dict(values or {})
        self.prefix = prefix
        self.sha256 = sha256 or hash_file(path)
        self.name = name or text_of(self.path)

    def with_prefix(self, prefix: str) -> FastaFile:
        """The same file with another prefix."""
        known: dict[str, Any] = {"values": self.values, "sha256": self.sha256, "name": self.name}
        return FastaFile(self.path, genome=self.genome, prefix=prefix, **known)

    def is_among(self, whole: Mapping[str, set[tuple[str | None, str]]]) -> bool:
        """Whether the same bytes are in, of the same genome and prefix where these are given.

        whole : by SHA-256 the genomes and prefixes of the files that an index has whole.
        """
        return any(
            self.genome in (None, genome) and self.prefix in ("", prefix)
            for genome, prefix in whole.get(self.sha256, ())
        )

    def stamp(self) -> str:
        """The same where the same entries come of it."""
        more = [self.prefix] if self.prefix else []
        text = json.dumps([self.sha256, self.genome, self.values, *more], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def named_files(files: Sequence[Path | FastaFile], settings: Settings) -> list[Path | FastaFile]:
    """Files whose sequences are of one genome, or have something before their ids; see `prefixes_of`."""
    if not settings.names_sequences:
        return list(files)
    paths = [file.path if isinstance(file, FastaFile) else file for file in files]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise InputError("no such file", check="is the path right?", place=missing)
    before = prefixes_of(paths, prefix=settings.prefix, sample_from_file=settings.sample_from_file)
    names = [file.name if isinstance(file, FastaFile) else None for file in files]
    return [
        FastaFile(path, genome=settings.genome, prefix=prefix, name=name)
        for path, prefix, name in zip(paths, before, names, strict=True)
    ]


@contextmanager
def files_at_hand(source: Any, output: Path) -> Iterator[list[Path | FastaFile]]:
    """The FASTA files of a source; what can be read only once lies beside `output` until the block ends."""
    given = [source] if isinstance(source, str | Path) else list(source)
    with ExitStack() as stack:
        files: list[Path | FastaFile] = []
        for path in given:
            if is_stream(path):
                here = stack.enter_context(spooled(path, stack.enter_context(scratch(output))))
                files.append(FastaFile(here, name=here.name))
            else:
                files.append(Path(str(path)))
        yield files


def is_fasta(source: object) -> bool:
    """Whether a source is a file of sequences, or a list of such; no folder, no NumPy file."""
    if isinstance(source, list | tuple):
        return bool(source)
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if is_stream(path):
        return True
    if path.suffix in (".npy", ".zarr", ".h5ad") or not path.is_file():
        return False
    return table_kind(path) is None


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
