"""What an index is fed with: embedded sequences, or FASTA files that are counted and embedded on the way."""

from __future__ import annotations

import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinmer.errors import InputError, KinmerError, ProfileError, SequenceError
from kinmer.files import hash_file
from kinmer.index.embedded import Embedded
from kinmer.index.joining import Joined, genome_column, plain_value
from kinmer.index.living import IndexWriter
from kinmer.index.metadata import KNOWN, RESERVED, Metadata
from kinmer.index.pieces import Embedder, Pieces, RecordBlock, read_blocks_of
from kinmer.index.writing import NewSequence
from kinmer.progress import step
from kinmer.stores import check_vectors

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["FastaFile", "Feed", "from_embedded", "from_fasta", "is_fasta"]

# Rows of embedded sequences that are committed together.
BLOCK_ROWS = 1 << 13

Log = Callable[[str], None]


class Feed(ABC):
    """Sequences for an index.

    identity : equal where the same come again, whatever the files; None where that cannot be told.
    stopped_by : the error of a file that could not be taken in, where all that came before it is whole.
    """

    encoder: Encoder
    identity: Any
    settings: dict[str, Any]
    stopped_by: InputError | None = None

    @abstractmethod
    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        """Columns of metadata that the sequences bring along, and such that the index has of its own."""

    @abstractmethod
    def pour(self, writer: IndexWriter, joined: Joined, *, replace: bool = False) -> None:
        """Add all that is not in the index of `writer` yet."""

    def files(self) -> dict[str, str]:
        """By the path of each file a text that is the same where it gives the same entries again."""
        return {}

    def nothing(self) -> KinmerError:
        """What to raise where the index stays empty."""
        return ProfileError("the source has no rows", "there is nothing to index")


class _EmbeddedFeed(Feed):
    def __init__(self, embedded: Embedded) -> None:
        self._embedded, self.encoder, self.identity = embedded, embedded.encoder, embedded.identity
        self.settings = {"lengths": []}
        self._own: list[str] | None = None

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        seen = {name.lower() for name in staged.columns} if staged else set()
        own, left = [], list(staged.left_out) if staged else []
        for name in self._embedded.obs.columns:
            if not isinstance(name, str) or not name.strip() or name.lower() in RESERVED:
                left.append(str(name))
            elif name.lower() not in KNOWN and name.lower() not in seen:
                own.append(name)
                seen.add(name.lower())
        return own, left

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: bool = False) -> None:
        total = len(self._embedded)
        number, done = _begun(writer, "" if self.identity is None else self._embedded.place, self._sum())
        done = 0 if replace else total if done < 0 else done
        there = writer.table.ids_of_file(number)
        with step("Indexing", total) as progress:
            progress.advance(done)
            for first, block in self._embedded.blocks(done, BLOCK_ROWS):
                vectors = check_vectors(block, self.encoder.dim, first=first)
                sequences = list(self._sequences(first, vectors, joined))
                if not replace:
                    sequences = [one for one in sequences if one.id not in there]
                writer.add(sequences, replace=replace, file=(number, first + len(vectors)))
                progress.advance(len(vectors))
        writer.add([], file=(number, -1))

    def _sum(self) -> str:
        """What tells the source from others; empty, and never the same, for what lies in memory."""
        told = uuid.uuid4().hex if self.identity is None else json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _sequences(self, first: int, vectors: Any, joined: Joined) -> Iterator[NewSequence]:
        stop = first + len(vectors)
        obs = self._embedded.obs.iloc[first:stop]
        names = self._embedded.ids[first:stop].tolist()
        columns = {str(name): [plain_value(one) for one in obs[name].astype(object)] for name in obs.columns}
        homes = [columns.get(genome_column(list(columns)) or "", names)[at] for at in range(len(names))]
        found = joined.lookup([(name, str(home or name)) for name, home in zip(names, homes, strict=True)])
        for at, name in enumerate(names):
            values = {column: told[at] for column, told in columns.items()} | dict(found[at] or {})
            length, gc = values.get("length"), values.get("gc")
            yield NewSequence(
                name,
                home_of(values, name),
                None if length is None else int(length),
                None if gc is None else float(gc),
                values,
                vectors[at : at + 1],
            )


class FastaFile:
    """A file of sequences. genome : of all its sequences; None for each its own, or what its metadata say.

    values : metadata of all its sequences, beside those that are looked up. sha256 : of the file, None where
    it is yet to be computed.
    """

    def __init__(
        self,
        path: Path,
        *,
        genome: str | None = None,
        values: Mapping[str, str] | None = None,
        sha256: str | None = None,
    ) -> None:
        # An index tells later where its sequences are, whatever folder that is asked from.
        self.path, self.genome, self.values = path.absolute(), genome, dict(values or {})
        self.sha256 = sha256 or hash_file(path)


class _FastaFeed(Feed):
    def __init__(
        self,
        files: Sequence[FastaFile],
        encoder: Encoder,
        pieces: Pieces | None,
        keep: bool,
        min_length: int,
        threads: int | None,
        log: Log,
    ) -> None:
        self._files, self.encoder, self._keep, self._min_length = files, encoder, keep, min_length
        self._embedder, self._log = Embedder(encoder, pieces, threads), log
        self.settings = {"lengths": [] if pieces is None else list(pieces.lengths), "letters": keep}
        self.identity = {"min_length": min_length, **self.settings}
        self._too_short = self._empty = 0

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        seen = {name.lower() for name in staged.columns} if staged else set()
        names = dict.fromkeys(name for one in self._files for name in one.values)
        own = [name for name in names if name.lower() not in (*seen, *KNOWN, *RESERVED)]
        return own, list(staged.left_out) if staged else []

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: bool = False) -> None:
        whole = {sha for _, _, sha, _, done in writer.table.files() if sha and done < 0}
        with step("Indexing", len(self._files)) as progress:
            for one in self._files:
                if replace or one.sha256 not in whole:
                    self._pour_file(writer, joined, one, replace)
                progress.advance(1)
        if not replace and (known := sum(one.sha256 in whole for one in self._files)):
            self._log(f"{known:,} of {len(self._files):,} files were in already")
        if self._too_short:
            self._log(f"{self._too_short:,} sequences shorter than {self._min_length:,} bases were left out")
        if self._empty:
            self._log(f"{self._empty:,} sequences without a whole k-mer were left out")

    def files(self) -> dict[str, str]:
        return {str(one.path): _stamp(one) for one in self._files}

    def nothing(self) -> KinmerError:
        return SequenceError(
            "no sequence is left to index",
            f"{self._too_short:,} have fewer than {self._min_length:,} bases (A, C, G, T)",
            "is --min-length right?",
        )

    def _pour_file(self, writer: IndexWriter, joined: Joined, one: FastaFile, replace: bool) -> None:
        """Add a file whole; where it turns out bad nothing of it stays, but what it has replaced."""
        number, done = _begun(writer, str(one.path), one.sha256, one.genome)
        if done < 0 and not replace:
            return
        there = set[str]() if replace else writer.table.ids_of_file(number)
        try:
            self._pour_records(writer, joined, one, number, 0 if replace else done, there, replace)
        except InputError as error:
            if not replace:
                # What an earlier call has begun goes too, but not what is left of a file that was whole once.
                writer.take_back(number, keep=there if done == 0 else ())
                if left := len(writer.table):
                    self._log(
                        f"nothing of {one.path} is in; {left:,} other entries stay, and the same call goes on"
                    )
                    self.stopped_by = error
            raise

    def _pour_records(
        self,
        writer: IndexWriter,
        joined: Joined,
        one: FastaFile,
        number: int,
        done: int,
        there: set[str],
        replace: bool,
    ) -> None:
        seen = set[str]()
        for block in read_blocks_of(one.path, skip=done):
            twice = next((name for name in block.ids if name in seen or block.ids.count(name) > 1), None)
            if twice is not None:
                raise SequenceError(f"the id {twice!r} occurs twice", "ids must be unique", place=one.path)
            seen.update(block.ids)
            self._too_short += sum(len(letters) < self._min_length for letters in block.letters)
            long = [
                row
                for row, letters in enumerate(block.letters)
                if len(letters) >= self._min_length and block.ids[row] not in there
            ]
            kept = RecordBlock(
                block.file,
                block.first,
                [block.ids[row] for row in long],
                [block.letters[row] for row in long],
            )
            sequences, letters = self._sequences(kept, one, joined)
            last = block.first + len(block.ids) - 1
            self._add(writer, sequences, letters, replace, (number, last), block)
        writer.add([], file=(number, -1))

    def _add(
        self,
        writer: IndexWriter,
        sequences: list[NewSequence],
        letters: list[bytes],
        replace: bool,
        file: tuple[int, int],
        block: RecordBlock,
    ) -> None:
        try:
            writer.add(sequences, letters=letters if self._keep else None, replace=replace, file=file)
        except ProfileError as error:
            raise ProfileError(error.what, error.why, error.check, place=block.file) from None

    def _sequences(
        self, block: RecordBlock, one: FastaFile, joined: Joined
    ) -> tuple[list[NewSequence], list[bytes]]:
        cuts = self._embedder.cut(block)
        self._empty += sum(cut is None for cut in cuts)
        found = joined.lookup([(name, one.genome or name) for name in block.ids])
        sequences, letters = [], []
        for name, text, cut, told in zip(block.ids, block.letters, cuts, found, strict=True):
            if cut is None:
                continue
            # Only now is it known that its letters are nucleotides at all.
            if cut.bases < self._min_length:
                self._too_short += 1
                continue
            values = {
                **one.values,
                **{key: value for key, value in (told or {}).items() if value is not None},
            }
            home = one.genome or home_of(values, name)
            sequences.append(NewSequence(name, home, len(text), cut.gc, values, cut.vectors, cut.spans))
            letters.append(text)
        return sequences, letters


def _begun(writer: IndexWriter, path: str, sha256: str, genome: str | None = None) -> tuple[int, int]:
    """Number of a source in the index, noted where it is new, and how many of its records are done."""
    return writer.table.file_of(path, sha256) or (writer.add_file(path, sha256, genome), 0)


def home_of(values: Mapping[str, Any], name: str) -> str:
    """The genome that a sequence's metadata tell of, else the sequence itself."""
    column = genome_column(list(values))
    told = values.get(column) if column else None
    return name if told is None else str(told)


def from_embedded(embedded: Embedded) -> Feed:
    """Feed of embedded sequences, one vector each."""
    return _EmbeddedFeed(embedded)


def from_fasta(
    files: Sequence[Path | FastaFile],
    encoder: str | Path | Encoder | None,
    *,
    pieces: Pieces | None,
    keep: bool,
    min_length: int,
    threads: int | None,
    log: Log,
) -> Feed:
    """Feed of FASTA files; the encoder: None for the newest that comes with kinmer."""
    from kinmer.box import boxed
    from kinmer.encoder import Encoder

    found = encoder if isinstance(encoder, Encoder) else Encoder.load(boxed() if encoder is None else encoder)
    for one in files:
        if not isinstance(one, FastaFile) and not one.is_file():
            raise InputError("no such file", check="is the path right?", place=one)
    given = [one if isinstance(one, FastaFile) else FastaFile(one) for one in files]
    return _FastaFeed(given, found, pieces, keep, min_length, threads, log)


def is_fasta(source: object) -> bool:
    """Whether a source is a file of sequences, or a list of such; no folder, no NumPy file."""
    if isinstance(source, list | tuple):
        return bool(source)
    if not isinstance(source, str | Path):
        return False
    path = Path(source)
    if path.suffix in (".npy", ".zarr") or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(6) != b"\x93NUMPY"


def _stamp(one: FastaFile) -> str:
    told = json.dumps([one.sha256, one.genome, one.values], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
