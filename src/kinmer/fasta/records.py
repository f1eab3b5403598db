"""Where every record's letters stand in the bytes of a file, block by block, and whole records.

A record longer than a block continues in the next one, so memory does not depend on the input.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta.streams import HEADROOM, Chunk, ChunkReader, source_name

_OTHERS = bytes(byte for byte in range(256) if byte not in b"ACGTUacgtu")


def base_count(letters: bytes) -> int:
    """Number of the letters A, C, G, T and U, in either case."""
    return len(letters.translate(None, _OTHERS))


# Between sample and contig, as SemiBin writes and VAMB can be set to read.
SEPARATOR = ":"
_SUFFIXES = re.compile(r"(\.(fna|fasta|fas|fa|ffn|fsa|seq))?(\.(gz|bgz|bz2|xz|zst))?$", re.IGNORECASE)


def sample_of(path: str | Path) -> str:
    """The sample that a file is called after: its name without the suffixes of FASTA and of compression."""
    name = Path(path).name
    return _SUFFIXES.sub("", name) or name


def prefixes_of(
    files: Sequence[str | Path], *, prefix: str = "", sample_from_file: bool = False
) -> list[str]:
    """What to put before the ids of each file: `prefix`, or with `sample_from_file` ``SAMPLE:``.

    Raises UsageError for both, for a prefix that no id may have, for two files of one sample's name, and for
    a stream, which has no name.
    """
    if not sample_from_file:
        if prefix and (not prefix.isprintable() or any(map(str.isspace, prefix))):
            raise UsageError(
                f"the prefix {prefix!r} cannot be used", "an id has no blanks, tabs and line breaks"
            )
        return [prefix] * len(files)
    if prefix:
        raise UsageError(
            "a prefix and samples from the files exclude each other", check="give one of the two"
        )
    seen: dict[str, str | Path] = {}
    for file in files:
        if str(file) == "-":
            raise UsageError(
                "stdin has no name to call a sample after", check="use --prefix, such as --prefix S1:"
            )
        sample = sample_of(file)
        if any(map(str.isspace, sample)) or not sample.isprintable():
            raise UsageError(
                f"the file's name gives the sample {sample!r}",
                "an id has no blanks, tabs and line breaks",
                "rename it, or use --prefix",
                place=file,
            )
        if sample in seen and str(seen[sample]) != str(file):
            raise UsageError(
                f"{seen[sample]} and this file give the same sample, {sample!r}",
                "their sequences could not be told apart",
                "rename one of them, or take them one by one with --prefix",
                place=file,
            )
        seen[sample] = file
    return [sample_of(file) + SEPARATOR for file in files]


BLOCK_BYTES = 1 << 24
_LINE_FEED = 10
_WHITESPACE = b" \t\n\r\v\f"
_LETTER = re.compile(rb"[^ \t\n\r\v\f]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
# What would break a line or a column of the tables that ids are written to.
_UNUSABLE = re.compile("[\x00-\x20\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True)
class FastaBlock:
    """A piece of one file; it may be used until the next one is asked for.

    buffer : (bytes,) uint8, raw, line ends included.
    ids : of every span; of a continued record its id again.
    starts, ends : (n,) int64, the spans of sequence bytes in `buffer`.
    continues : the first span continues the last record of the block before; it may be empty.
    continued : the last span continues in the next block.
    first_record : number in the file, from 1, of the first span's record.
    consumed : bytes of the file as it is stored, read so far.
    """

    buffer: NDArray[np.uint8]
    ids: list[str]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    continues: bool
    continued: bool
    first_record: int
    file: str
    consumed: int


def read_blocks(path: str | Path, *, block_bytes: int = BLOCK_BYTES) -> Iterator[FastaBlock]:
    """The blocks of a FASTA file (``-``: stdin), plain, gzip, bgzip, Zstandard, xz or bzip2.

    Ids are the first words of the headers. Raises SequenceError, with file and record, for a file that is
    missing, empty, damaged or truncated, for FASTQ and what else is no FASTA, and for a header without a
    usable id. Letters are not looked at.
    """
    parser = _Parser(source_name(path))
    with ChunkReader(path, max(1, block_bytes)) as chunks:
        for chunk in chunks:
            block = parser.parse(chunk)
            if block is not None:
                yield block


def read_records(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Ids and whole sequences, upper case, without white space; raises what `read_blocks` raises.

    Memory: the blocks, and the longest sequence twice.
    """
    for name, letters, _ in read_measured(path):
        yield name, letters


def read_measured(path: str | Path) -> Iterator[tuple[str, bytes, int]]:
    """As `read_records`, with about how many bytes of the stored file end where the record does."""
    parts: list[bytes] = []
    before = 0
    for block in read_blocks(path):
        first, letters = int(block.starts[0]), max(1, int(block.ends[-1] - block.starts[0]))
        for number, name in enumerate(block.ids):
            span = block.buffer[block.starts[number] : block.ends[number]].tobytes()
            parts.append(span.translate(None, _WHITESPACE).upper())
            if number + 1 < len(block.ids) or not block.continued:
                share = (int(block.ends[number]) - first) / letters
                yield name, b"".join(parts), before + round(share * (block.consumed - before))
                parts.clear()
        before = block.consumed


class _Parser:
    """Finds the records in one chunk after the other."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._records = 0
        self._id = ""
        self._carry = b""
        self._line_start = True
        self._continued = False

    def parse(self, chunk: Chunk) -> FastaBlock | None:
        """The block of a chunk; None where there is nothing in it."""
        data, stop = chunk.buffer, chunk.stop
        start = HEADROOM - len(self._carry)
        data[start:HEADROOM], self._carry = self._carry, b""
        if self._records == 0:
            start = self._check_first(data, start, stop, last=chunk.last)
        continues, first = self._continued, self._records + (not self._continued)
        ids = [self._id] if continues else []
        starts = [start] if continues else []
        ends: list[int] = []
        end = self._scan(data, start, stop, ids, starts, ends, last=chunk.last)
        if starts:
            ends.append(end)
        if stop > start:
            self._line_start = bool(self._carry) or data[stop - 1] == _LINE_FEED
        self._continued = bool(self._records) and not self._carry and not chunk.last
        if not ids:
            return None
        return FastaBlock(
            np.frombuffer(data, dtype=np.uint8)[:stop],
            ids,
            np.array(starts, dtype=np.int64),
            np.array(ends, dtype=np.int64),
            continues,
            self._continued,
            first,
            self._file,
            chunk.consumed,
        )

    def _scan(
        self,
        data: bytearray,
        begin: int,
        stop: int,
        ids: list[str],
        starts: list[int],
        ends: list[int],
        *,
        last: bool,
    ) -> int:
        """Fill in the records that begin in data[begin:stop]; gives where the last one's letters end."""
        at = begin
        while (header := data.find(b">", at, stop)) >= 0:
            if not (data[header - 1] == _LINE_FEED if header > begin else self._line_start):
                raise self._error(
                    "a > within a sequence", "a header begins its line", "is a line feed missing?"
                )
            line_end = data.find(b"\n", header, stop)
            if line_end < 0 and not last:
                self._carry = bytes(data[header:stop])
                if len(self._carry) > HEADROOM:
                    raise self._endless(self._carry)
                return header
            line_end = stop if line_end < 0 else line_end
            if starts:
                ends.append(header)
            self._id = self._identify(data[header + 1 : line_end])
            self._records += 1
            ids.append(self._id)
            at = min(line_end + 1, stop)
            starts.append(at)
        return stop

    def _identify(self, header: bytearray) -> str:
        if header.find(b"\r", 0, -1) >= 0:
            raise self._endless(header)
        words = header.split(None, 1)
        if not words:
            raise self._error(
                "a header without an id", "hits are told by their ids", "write a name right behind the >", 1
            )
        try:
            one = words[0].decode()
        except UnicodeDecodeError:
            raise self._error("a header that is not UTF-8", "", "convert the file to UTF-8", 1) from None
        if not (one.isascii() and one.isprintable()) and _UNUSABLE.search(one):
            raise self._error(
                f"the id {one!r} holds control characters", "they would break tables of hits", "", 1
            )
        return one

    def _check_first(self, data: bytearray, start: int, stop: int, *, last: bool) -> int:
        """Where the first header begins, past blank lines; refuses what does not begin with one."""
        if data.startswith(_BYTE_ORDER_MARK, start, stop):
            start += len(_BYTE_ORDER_MARK)
        letter = _LETTER.search(data, start, stop)
        at = letter.start() if letter else stop
        if data.startswith(b">", at, stop):
            return at
        if data.startswith(b"@", at, stop):
            raise SequenceError(
                "this is FASTQ, not FASTA",
                "kinmer takes assembled sequences, not reads",
                "assemble the reads, or convert them with seqtk seq -A",
                place=self._file,
            )
        if letter:
            text = bytes(data[at : min(at + 20, stop)]).split(b"\n")[0].decode("ascii", "backslashreplace")
            raise SequenceError(
                f"this is not FASTA: it begins with {text!r}",
                check="the first character of every header must be >",
                place=self._file,
            )
        if last:
            raise SequenceError("the file is empty", check="was it written to the end?", place=self._file)
        return stop

    def _endless(self, header: bytes | bytearray) -> SequenceError:
        if b"\r" in header:
            return self._error(
                "a carriage return within a header",
                "lines must end in a line feed, with or without a carriage return before it",
                "convert the file with tr '\\r' '\\n'",
                1,
            )
        return self._error("a header longer than 1 MiB", "a line feed must end it", "is this FASTA?", 1)

    def _error(self, what: str, why: str, check: str, ahead: int = 0) -> SequenceError:
        """An error in the record read last, or `ahead` of it."""
        return SequenceError(what, why, check, place=f"{self._file}, record {self._records + ahead}")
