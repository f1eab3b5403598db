"""What an index is fed with: embedded sequences, or FASTA files that are counted and embedded on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kinmer.confidence.pool import molecule_column
from kinmer.errors import InputError, KinmerError, ProfileError, SequenceError
from kinmer.fasta import nonempty
from kinmer.index.commit import NewSequence, Progress
from kinmer.index.manifest import Holder, SourceFile, sketch_scale
from kinmer.index.names import ambiguous
from kinmer.index.pieces import Embedder, Pieces, RecordBlock, least_searched, read_blocks_of, settings_of
from kinmer.index.writer import IndexWriter
from kinmer.library.join import Joined, genome_column, plain_value
from kinmer.library.metadata import KNOWN, RESERVED, Metadata
from kinmer.library.sources import FastaFile, Log
from kinmer.progress import Step, step
from kinmer.resources import available_cores
from kinmer.sketches import sketch_many
from kinmer.stores import check_vectors
from kinmer.taxonomy import known_values, rule_of
from kinmer.vectors import Vectors

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

# Rows of embedded sequences that are committed together.
BLOCK_ROWS = 1 << 13

# What an update replaces: what came from the same source, or entries of the same ids wherever they came from.
Replace = Literal["own", "id"]


class Feed(ABC):
    """Sequences for an index.

    identity : equal where the same come again, whatever the files; None where that cannot be known.
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
    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        """Add all that is not in the index of `writer` yet, or replace what `replace` says."""

    def files(self) -> dict[str, str]:
        """By the path of each file a text that is the same where it gives the same entries again."""
        return {}

    def nothing(self) -> KinmerError:
        """What to raise where the index stays empty."""
        return ProfileError("the source has no rows", "there is nothing to index")


@dataclass(frozen=True)
class Homes:
    """The genomes that the sequences of one source have in an index.

    paths : what the index may call the source; none for what lies in memory. given : the genome was said, so
    that its sequences are of no other. by : what is replaced. home : the genome of what is new, where nothing
    else says it.
    """

    writer: IndexWriter
    paths: frozenset[str]
    given: bool
    by: Replace
    home: str | None = None

    def settle(self, sequences: Sequence[NewSequence]) -> tuple[list[NewSequence], list[int]]:
        """The sequences with the genomes that they have here, and the numbers of entries that they replace.

        What nothing new is known of keeps the metadata of the entry that it replaces.

        Raises InputError where it is not clear which entry a sequence replaces.
        """
        holders = self.writer.table.holders(sequence.id for sequence in sequences)
        olds = [self._replaced(sequence, holders.get(sequence.id, [])) for sequence in sequences]
        gone = [old.number for old in olds if old is not None]
        before = self.writer.table.fetch(np.array(gone, np.int64))
        settled, columns = list[NewSequence](), self.writer.table.columns
        for sequence, old in zip(sequences, olds, strict=True):
            unknown = sequence.genome == sequence.id and not self.given
            genome = self.home if old is None else old.genome
            if genome is not None and unknown:
                sequence = dataclasses.replace(sequence, genome=genome)
            if old is not None:
                kept = dict(zip(columns, before[old.number].values, strict=True))
                sequence = dataclasses.replace(sequence, values={**kept, **sequence.values})
            settled.append(sequence)
        return settled, gone

    def _replaced(self, sequence: NewSequence, holders: Sequence[Holder]) -> Holder | None:
        """The entry that a sequence replaces; None where it is new."""
        same = next((holder for holder in holders if holder.genome == sequence.genome), None)
        known = sequence.genome != sequence.id
        if self.given or (known and same is not None):
            return same
        own = [holder for holder in holders if self.by == "id" or holder.path in self.paths]
        if len(own) > 1:
            raise ambiguous(self.writer.table, sequence.id, own)
        if own:
            return own[0]
        if holders and not known and self.home is None:
            raise InputError(
                f"the id {sequence.id!r} is in the index already, from {holders[0].path or 'another source'}",
                "an update replaces what came from the same file",
                "say whose it is with --genome, or replace entries of any file with --by-id",
                place=next(iter(self.paths), None),
            )
        return None


class _EmbeddedFeed(Feed):
    """Embedded sequences, one vector each."""

    def __init__(self, embedded: Vectors) -> None:
        assert embedded.encoder is not None
        self._embedded, self.encoder, self.identity = embedded, embedded.encoder, embedded.identity
        self.settings = {"lengths": []}

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

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        total = len(self._embedded)
        source = _source(writer, "" if self.identity is None else self._embedded.place, self._checksum())
        done = 0 if replace else total if source.whole else source.records
        there = writer.table.ids_of_file(source.number)
        with step("Indexing", total) as progress:
            progress.advance(done)
            for first, block in self._embedded.blocks(BLOCK_ROWS, start=done):
                vectors = check_vectors(block, self.encoder.dim, first=first)
                sequences, gone = list(self._sequences(first, vectors, joined)), list[int]()
                if replace is None:
                    sequences = [sequence for sequence in sequences if sequence.id not in there]
                else:
                    sequences, gone = self._homes(writer, replace).settle(sequences)
                writer.add(sequences, replace=gone, file=Progress(source.number, first + len(vectors)))
                progress.advance(len(vectors))
        writer.add([], file=Progress(source.number))

    def _homes(self, writer: IndexWriter, replace: Replace) -> Homes:
        """What lies in memory, or came from there, has nothing but its ids."""
        if self.identity is None:
            return Homes(writer, frozenset(), False, "id")
        place = self._embedded.place
        return Homes(writer, frozenset((place, str(Path(place).absolute()))), False, replace)

    def _checksum(self) -> str:
        """Of the source; never the same for what lies in memory."""
        text = uuid.uuid4().hex if self.identity is None else json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def _sequences(self, first: int, vectors: Any, joined: Joined) -> Iterator[NewSequence]:
        stop = first + len(vectors)
        obs = self._embedded.obs.iloc[first:stop]
        names = self._embedded.ids[first:stop].tolist()
        columns = {
            str(name): list(map(rule_of(str(name)), map(plain_value, obs[name].astype(object))))
            for name in obs.columns
        }
        homes = columns.get(genome_column(list(columns)) or "", names)
        rows = joined.lookup([(name, str(home or name)) for name, home in zip(names, homes, strict=True)])
        for at, name in enumerate(names):
            values = {column: every[at] for column, every in columns.items()} | dict(rows[at] or {})
            length, gc = values.get("length"), values.get("gc")
            yield NewSequence(
                name,
                home_of(values, name),
                None if length is None else int(length),
                None if gc is None else float(gc),
                values,
                vectors[at : at + 1],
            )


class _FastaFeed(Feed):
    """FASTA files, whose sequences are counted and embedded as they are read."""

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
        self._threads = threads or available_cores()
        self.settings = settings_of(pieces, letters=keep)
        self.identity = {"min_length": min_length, **self.settings}
        self._too_short = self._empty = 0
        # The bar, and the bytes of the files that it is past.
        self._bar, self._behind = Step(), 0

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        seen = {name.lower() for name in staged.columns} if staged else set()
        names = dict.fromkeys(name for file in self._files for name in file.values)
        own = [name for name in names if name.lower() not in (*seen, *KNOWN, *RESERVED)]
        return own, list(staged.left_out) if staged else []

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        whole = dict[str, set[tuple[str | None, str]]]()
        for source in writer.table.files():
            if source.sha256 and source.whole:
                whole.setdefault(source.sha256, set()).add((source.genome, source.prefix))
        sizes = [file.path.stat().st_size for file in self._files]
        with step("Indexing", sum(sizes)) as self._bar:
            self._behind = 0
            for number, (file, size) in enumerate(zip(self._files, sizes, strict=True), 1):
                if replace or not file.is_among(whole):
                    self._pour_file(writer, joined, file, replace)
                self._behind += size
                self._bar.reach(self._behind, f"file {number:,} of {len(sizes):,}")
        if not replace and (known := sum(file.is_among(whole) for file in self._files)):
            self._log(f"{known:,} of {len(self._files):,} files were in already")
        if self._too_short:
            self._log(f"{self._too_short:,} sequences shorter than {self._min_length:,} bases were left out")
        if self._empty:
            self._log(f"{self._empty:,} sequences without a whole k-mer were left out")

    def files(self) -> dict[str, str]:
        return {file.name: file.stamp() for file in self._files}

    def nothing(self) -> KinmerError:
        return SequenceError(
            "no sequence is left to index",
            f"{self._too_short:,} have fewer than {self._min_length:,} bases (A, C, G, T)",
            "is --min-length right?",
        )

    def _pour_file(
        self, writer: IndexWriter, joined: Joined, file: FastaFile, replace: Replace | None
    ) -> None:
        """Add a file whole; where it turns out bad nothing of it stays, but what it has replaced."""
        home, prefix = writer.table.known_as(file.name) if replace else (None, "")
        if prefix and not file.prefix:
            file = file.with_prefix(prefix)
        given = (file.name, file.sha256, file.genome or home, file.prefix)
        # A new one is noted with its first sequences: a genome is a commit.
        source = (
            _source(writer, *given) if replace else writer.table.file_of(*given) or SourceFile(-1, *given)
        )
        if source.whole and not replace:
            return
        there = set[str]() if replace else set(writer.table.ids_of_file(source.number))
        try:
            self._pour_records(writer, joined, file, source, there, replace)
        except InputError as error:
            if not replace:
                # What an earlier call has begun goes too, but not what is left of a file that was whole once.
                if noted := writer.table.file_of(*given):
                    writer.take_back(noted.number, keep=() if source.records else there)
                if left := len(writer.table):
                    self._log(
                        f"nothing of {file.name} is in; {left:,} other entries stay, the same call resumes"
                    )
                    self.stopped_by = error
            raise

    def _pour_records(
        self,
        writer: IndexWriter,
        joined: Joined,
        file: FastaFile,
        source: SourceFile,
        there: set[str],
        replace: Replace | None,
    ) -> None:
        seen, whole = set[str](), False
        scale = sketch_scale(writer.manifest)
        home, _ = writer.table.known_as(file.name)
        homes = Homes(
            writer, frozenset({file.name, file.given}), file.genome is not None, replace or "own", home
        )
        number, reads = source.number, read_blocks_of(file.path, skip=0 if replace else source.records)
        for read, last in _with_last(reads):
            block = dataclasses.replace(read, ids=[file.prefix + name for name in read.ids])
            for name in block.ids:
                if name in seen:
                    raise SequenceError(
                        f"the id {name!r} occurs twice", "ids must be unique", place=file.path
                    )
                seen.add(name)
            genome = file.genome or (home if replace else None)
            sequences, letters = self._sequences(self._long(block, there), file, genome, joined)
            sequences, gone = homes.settle(sequences) if replace else (sequences, [])
            if writer.table.state.get("rounded"):
                sequences = list(_with_short(sequences))
            done = Progress(number, None if last else block.first + len(block.ids) - 1, _new(number, source))
            kept, sketches = letters if self._keep else None, sketch_many(letters, self._threads, scale)
            try:
                added = writer.add(sequences, letters=kept, sketches=sketches, replace=gone, file=done)
            except ProfileError as error:
                raise ProfileError(error.what, error.why, error.check, place=block.file) from None
            number, whole = number if added is None else added, last
            self._bar.reach(self._behind + read.consumed)
        if not whole:
            writer.add([], file=Progress(number, None, _new(number, source)))

    def _long(self, block: RecordBlock, there: set[str]) -> RecordBlock:
        """The records that are long enough and not in the index yet; counts the short ones."""
        self._too_short += sum(len(letters) < self._min_length for letters in block.letters)
        rows = [
            row
            for row, letters in enumerate(block.letters)
            if len(letters) >= self._min_length and block.ids[row] not in there
        ]
        ids, letters = [block.ids[row] for row in rows], [block.letters[row] for row in rows]
        return RecordBlock(block.file, block.first, ids, letters)

    def _sequences(
        self, block: RecordBlock, file: FastaFile, genome: str | None, joined: Joined
    ) -> tuple[list[NewSequence], list[bytes]]:
        cuts = self._embedder.cut(block)
        self._empty += sum(cut is None for cut in cuts)
        rows = joined.lookup([(name, genome or name) for name in block.ids])
        sequences, letters = [], []
        for name, text, cut, row in zip(block.ids, block.letters, cuts, rows, strict=True):
            if cut is None:
                continue
            # Only now is it known that its letters are nucleotides at all.
            if cut.bases < self._min_length:
                self._too_short += 1
                continue
            own = {key: value for key, value in (row or {}).items() if value is not None}
            values = {**known_values(file.values), **own}
            home = file.genome or home_of(values, name)
            sequences.append(NewSequence(name, home, len(text), cut.gc, values, cut.vectors, cut.spans))
            letters.append(text)
        return sequences, letters


def _with_short(sequences: Sequence[NewSequence]) -> Iterator[NewSequence]:
    """The sequences of one commit; those that a compact index does not search one by one are short."""
    lengths: dict[str, list[int]] = {}
    for sequence in sequences:
        lengths.setdefault(sequence.genome, []).append(sequence.length or 0)
    least = {genome: least_searched(own) for genome, own in lengths.items()}
    for sequence in sequences:
        column = molecule_column(list(sequence.values))
        kind = str((sequence.values[column] if column else None) or "").lower()
        below = (sequence.length or 0) < least[sequence.genome]
        short = below and len(sequence.vectors) == 1 and kind in ("", "chromosome", "contig")
        yield dataclasses.replace(sequence, short=short)


def _source(
    writer: IndexWriter, path: str, sha256: str, genome: str | None = None, prefix: str = ""
) -> SourceFile:
    """A source as the index knows it, noted where it is new."""
    known = writer.table.file_of(path, sha256, genome, prefix)
    return known or SourceFile(writer.add_file(path, sha256, genome, prefix), path, sha256, genome, prefix)


def _new(number: int, source: SourceFile) -> tuple[str, str, str | None, str] | None:
    """What is to be noted of a source that has no number yet."""
    return (source.path, source.sha256, source.genome, source.prefix) if number < 0 else None


def _with_last(blocks: Iterable[RecordBlock]) -> Iterator[tuple[RecordBlock, bool]]:
    """Every block, and whether it is the last."""
    before = None
    for block in blocks:
        if before is not None:
            yield before, False
        before = block
    if before is not None:
        yield before, True


def home_of(values: Mapping[str, Any], name: str) -> str:
    """The genome that a sequence's metadata give, else the sequence itself."""
    column = genome_column(list(values))
    genome = values.get(column) if column else None
    return name if genome is None else str(genome)


def from_embedded(embedded: Vectors) -> Feed:
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

    if not isinstance(encoder, Encoder):
        encoder = Encoder.load(boxed() if encoder is None else encoder)
    for file in files:
        if not isinstance(file, FastaFile) and not file.is_file():
            raise InputError("no such file", check="is the path right?", place=file)
    given = [file if isinstance(file, FastaFile) else FastaFile(file) for file in nonempty(files, log)]
    return _FastaFeed(given, encoder, pieces, keep, min_length, threads, log)
