"""What an index is fed with: embedded sequences, or FASTA files that are counted and embedded on the way."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from kinmer.errors import InputError, KinmerError, ProfileError, SequenceError
from kinmer.fasta import is_stream, nonempty, prefixes_of, spooled
from kinmer.files import hash_file, scratch
from kinmer.index.commit import NewSequence
from kinmer.index.pieces import Embedder, Pieces, RecordBlock, read_blocks_of, settings_of
from kinmer.index.table import EntryTable, Holder, ambiguous, holders_of
from kinmer.index.writer import IndexWriter
from kinmer.inputs import text_of
from kinmer.library.embedded import Embedded
from kinmer.library.join import Joined, genome_column, plain_value
from kinmer.library.metadata import KNOWN, RESERVED, Metadata
from kinmer.profiles import table_kind
from kinmer.progress import step
from kinmer.stores import check_vectors
from kinmer.taxonomy import known_values, rule_of

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["FastaFile", "Feed", "Homes", "Replace", "from_embedded", "from_fasta", "is_fasta", "named_files"]


# What an update replaces: what came from the same source, or entries of the same ids wherever they came from.
Replace = Literal["own", "id"]


@dataclass(frozen=True)
class Homes:
    """The genomes that the sequences of one source have in an index.

    paths : what the index may call the source; none for what lies in memory. given : the genome was said, so
    that its sequences are of no other. by : what is replaced. home : the genome of what is new, where nothing
    else tells it.
    """

    table: EntryTable
    paths: frozenset[str]
    given: bool
    by: Replace
    home: str | None = None

    def settle(self, sequences: Sequence[NewSequence]) -> tuple[list[NewSequence], list[int]]:
        """The sequences with the genomes that they have here, and the numbers of entries that they replace.

        Raises InputError where it cannot be told which entry a sequence replaces.
        """
        held = holders_of(self.table, (one.id for one in sequences))
        settled, gone = list[NewSequence](), list[int]()
        for one in sequences:
            old = self._old(one, held.get(one.id, []))
            untold = one.genome == one.id and not self.given
            genome = self.home if old is None else old.genome
            settled.append(replace(one, genome=genome) if genome is not None and untold else one)
            gone += [] if old is None else [old.number]
        return settled, gone

    def _old(self, sequence: NewSequence, held: Sequence[Holder]) -> Holder | None:
        """The entry that a sequence replaces; None where it is new."""
        same = next((one for one in held if one.genome == sequence.genome), None)
        if self.given:
            return same
        told = sequence.genome != sequence.id
        if told and same is not None:
            return same
        own = [one for one in held if self.by == "id" or one.path in self.paths]
        if len(own) > 1:
            raise ambiguous(self.table, sequence.id, own)
        if own:
            return own[0]
        if held and not told and self.home is None:
            raise InputError(
                f"the id {sequence.id!r} is in the index already, from {held[0].path or 'another source'}",
                "an update replaces what came from the same file",
                "say whose it is with --genome, or replace entries of any file with --by-id",
                place=next(iter(self.paths), None),
            )
        return None


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
    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        """Add all that is not in the index of `writer` yet, or replace what `replace` says."""

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

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        total = len(self._embedded)
        number, done = _begun(writer, "" if self.identity is None else self._embedded.place, self._sum())
        done = 0 if replace else total if done < 0 else done
        there = writer.table.ids_of_file(number)
        with step("Indexing", total) as progress:
            progress.advance(done)
            for first, block in self._embedded.blocks(done, BLOCK_ROWS):
                vectors = check_vectors(block, self.encoder.dim, first=first)
                sequences = list(self._sequences(first, vectors, joined))
                gone = list[int]()
                if replace is None:
                    sequences = [one for one in sequences if one.id not in there]
                else:
                    sequences, gone = self._homes(writer, replace).settle(sequences)
                writer.add(sequences, replace=gone, file=(number, first + len(vectors)))
                progress.advance(len(vectors))
        writer.add([], file=(number, -1))

    def _homes(self, writer: IndexWriter, replace: Replace) -> Homes:
        """What lies in memory, or came from there, has nothing but its ids."""
        if self.identity is None:
            return Homes(writer.table, frozenset(), False, "id")
        place = self._embedded.place
        return Homes(writer.table, frozenset((place, str(Path(place).absolute()))), False, replace)

    def _sum(self) -> str:
        """What tells the source from others; empty, and never the same, for what lies in memory."""
        told = uuid.uuid4().hex if self.identity is None else json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(told.encode()).hexdigest()

    def _sequences(self, first: int, vectors: Any, joined: Joined) -> Iterator[NewSequence]:
        stop = first + len(vectors)
        obs = self._embedded.obs.iloc[first:stop]
        names = self._embedded.ids[first:stop].tolist()
        columns = {
            str(name): list(map(rule_of(str(name)), map(plain_value, obs[name].astype(object))))
            for name in obs.columns
        }
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
    it is yet to be computed. prefix : stands before the ids of its records. name : that the index knows it
    by, None for its path; that of a pipe whose content is in a file meanwhile.
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
        # An index tells later where its sequences are, whatever folder that is asked from.
        self.path, self.genome, self.values = path.absolute(), genome, dict(values or {})
        self.prefix = prefix
        self.sha256 = sha256 or hash_file(path)
        self.name = name or text_of(self.path)

    def with_prefix(self, prefix: str) -> FastaFile:
        """The same file with another prefix."""
        known: dict[str, Any] = {"values": self.values, "sha256": self.sha256, "name": self.name}
        return FastaFile(self.path, genome=self.genome, prefix=prefix, **known)

    def is_among(self, whole: Mapping[str, set[tuple[str | None, str]]]) -> bool:
        """Whether the same bytes are in, of the same genome and prefix where these are said.

        whole : by SHA-256 the genomes and prefixes of the files that an index has whole.
        """
        return any(
            self.genome in (None, genome) and self.prefix in ("", prefix)
            for genome, prefix in whole.get(self.sha256, ())
        )


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
        self.settings = settings_of(pieces, letters=keep)
        self.identity = {"min_length": min_length, **self.settings}
        self._too_short = self._empty = 0

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        seen = {name.lower() for name in staged.columns} if staged else set()
        names = dict.fromkeys(name for one in self._files for name in one.values)
        own = [name for name in names if name.lower() not in (*seen, *KNOWN, *RESERVED)]
        return own, list(staged.left_out) if staged else []

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        whole, prefixes = dict[str, set[tuple[str | None, str]]](), writer.table.prefixes()
        for number, _, sha256, genome, done in writer.table.files():
            if sha256 and done < 0:
                whole.setdefault(sha256, set()).add((genome, prefixes.get(number, "")))
        with step("Indexing", len(self._files)) as progress:
            for one in self._files:
                if replace or not one.is_among(whole):
                    self._pour_file(writer, joined, one, replace)
                progress.advance(1)
        if not replace and (known := sum(one.is_among(whole) for one in self._files)):
            self._log(f"{known:,} of {len(self._files):,} files were in already")
        if self._too_short:
            self._log(f"{self._too_short:,} sequences shorter than {self._min_length:,} bases were left out")
        if self._empty:
            self._log(f"{self._empty:,} sequences without a whole k-mer were left out")

    def files(self) -> dict[str, str]:
        return {one.name: _stamp(one) for one in self._files}

    def nothing(self) -> KinmerError:
        return SequenceError(
            "no sequence is left to index",
            f"{self._too_short:,} have fewer than {self._min_length:,} bases (A, C, G, T)",
            "is --min-length right?",
        )

    def _pour_file(
        self, writer: IndexWriter, joined: Joined, one: FastaFile, replace: Replace | None
    ) -> None:
        """Add a file whole; where it turns out bad nothing of it stays, but what it has replaced."""
        home, prefix = writer.table.known_as(one.name) if replace else (None, "")
        if prefix and not one.prefix:
            one = one.with_prefix(prefix)
        number, done = _begun(writer, one.name, one.sha256, one.genome or home, one.prefix)
        if done < 0 and not replace:
            return
        there = set[str]() if replace else set(writer.table.ids_of_file(number))
        try:
            self._pour_records(writer, joined, one, number, 0 if replace else done, there, replace)
        except InputError as error:
            if not replace:
                # What an earlier call has begun goes too, but not what is left of a file that was whole once.
                writer.take_back(number, keep=there if done == 0 else ())
                if left := len(writer.table):
                    self._log(
                        f"nothing of {one.name} is in; {left:,} other entries stay, and the same call goes on"
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
        replace: Replace | None,
    ) -> None:
        seen = set[str]()
        names, given = frozenset({one.name}), one.genome is not None
        homes = Homes(writer.table, names, given, replace or "own", writer.table.known_as(one.name)[0])
        for read in read_blocks_of(one.path, skip=done):
            block = dataclasses.replace(read, ids=[one.prefix + name for name in read.ids])
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
            sequences, gone = homes.settle(sequences) if replace else (sequences, [])
            last = block.first + len(block.ids) - 1
            self._add(writer, sequences, letters, gone, (number, last), block)
        writer.add([], file=(number, -1))

    def _add(
        self,
        writer: IndexWriter,
        sequences: list[NewSequence],
        letters: list[bytes],
        replace: list[int],
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
                **known_values(one.values),
                **{key: value for key, value in (told or {}).items() if value is not None},
            }
            home = one.genome or home_of(values, name)
            sequences.append(NewSequence(name, home, len(text), cut.gc, values, cut.vectors, cut.spans))
            letters.append(text)
        return sequences, letters


def _begun(
    writer: IndexWriter, path: str, sha256: str, genome: str | None = None, prefix: str = ""
) -> tuple[int, int]:
    """Number of a source in the index, noted where it is new, and how many of its records are done."""
    told = (path, sha256, genome, prefix)
    return writer.table.file_of(*told) or (writer.add_file(*told), 0)


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
    given = [one if isinstance(one, FastaFile) else FastaFile(one) for one in nonempty(files, log)]
    return _FastaFeed(given, found, pieces, keep, min_length, threads, log)


def named_files(
    files: Sequence[Path | FastaFile],
    *,
    genome: str | None = None,
    prefix: str = "",
    sample_from_file: bool = False,
) -> list[Path | FastaFile]:
    """Files whose sequences are of one genome, or have something before their ids; see `prefixes_of`."""
    if genome is None and not prefix and not sample_from_file:
        return list(files)
    paths = [one.path if isinstance(one, FastaFile) else one for one in files]
    if missing := next((path for path in paths if not path.is_file()), None):
        raise InputError("no such file", check="is the path right?", place=missing)
    before = prefixes_of(paths, prefix=prefix, sample_from_file=sample_from_file)
    names = [one.name if isinstance(one, FastaFile) else None for one in files]
    return [
        FastaFile(path, genome=genome, prefix=before_ids, name=name)
        for path, before_ids, name in zip(paths, before, names, strict=True)
    ]


@contextmanager
def files_at_hand(source: Any, output: Path) -> Iterator[list[Path | FastaFile]]:
    """The FASTA files of a source; what can be read only once lies beside `output` until the block ends."""
    given = [source] if isinstance(source, str | Path) else list(source)
    with ExitStack() as stack:
        files: list[Path | FastaFile] = []
        for one in given:
            if is_stream(one):
                here = stack.enter_context(spooled(one, stack.enter_context(scratch(output))))
                files.append(FastaFile(here, name=here.name))
            else:
                files.append(Path(str(one)))
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


def _stamp(one: FastaFile) -> str:
    more = [one.prefix] if one.prefix else []
    told = json.dumps([one.sha256, one.genome, one.values, *more], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()
