"""Sources of an index: how they are taken in, and FASTA files."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from kinmer.errors import InputError, UsageError
from kinmer.fasta import is_stream, prefixes_of, spooled
from kinmer.files import hash_file, scratch
from kinmer.index.manifest import COMPACT_SCALE
from kinmer.index.pieces import COMPACT_PIECES, PIECE_LENGTHS
from kinmer.inputs import kind_of, text_of
from kinmer.sketches import SKETCH_SCALE
from kinmer.stores import Metric

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

Log = Callable[[str], None]


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
    compact: bool
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
    rounded: bool = False
    sketch_scale: int = SKETCH_SCALE
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
        given = dict(options)
        if given.pop("compact", False):
            given |= {"keep_sequences": False, "rounded": True, "sketch_scale": COMPACT_SCALE}
            given.setdefault("pieces", COMPACT_PIECES)
        return cls(**given)

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
        # An index says later where its sequences are, whatever folder that is asked from. kinmer 0.1.0 left
        # `..` in these paths. `resolve` would also follow links, whose names are the genomes'.
        self.path = Path(os.path.abspath(path))  # noqa: PTH100
        self.genome, self.values = genome, dict(values or {})
        self.given = text_of(path.absolute())
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
    return bool(source) if isinstance(source, list | tuple) else kind_of(source) == "fasta"
