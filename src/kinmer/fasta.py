"""FASTA, plain or compressed, in blocks of bytes: where every record's letters stand.

A reader thread decompresses ahead; a record longer than a block goes on in the next one, so memory does not
depend on the input. Compression is told by magic bytes, never by the name.
"""

from __future__ import annotations

import bz2
import io
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import zstandard
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from kinmer.errors import SequenceError

__all__ = ["FastaBlock", "read_blocks", "read_records"]

BLOCK_BYTES = 1 << 25
# A longer header is no header: a file without line feeds, say.
MAX_HEADER = 1 << 20
_LINE_FEED = 10
_WHITESPACE = b" \t\n\r\v\f"
_DAMAGE: tuple[type[BaseException], ...] = (
    EOFError,
    zlib.error,
    isal_zlib.error,
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
)


@dataclass(frozen=True)
class FastaBlock:
    """A piece of one file.

    buffer : (bytes,) uint8, raw, line ends included.
    ids : of every span; of a continued record its id again.
    starts, ends : (n,) int64, the spans of sequence bytes in `buffer`.
    continues : the first span goes on with the last record of the block before.
    continued : the last span goes on in the next block.
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

    Ids are the first words of the headers. Raises SequenceError for a file that is missing, empty, damaged or
    truncated, is FASTQ or no FASTA, and for a header without an id. Letters are not looked at.
    """
    name = "stdin" if str(path) == "-" else str(path)
    with ExitStack() as open_things:
        chunks = open_things.enter_context(_Chunks(path, name, block_bytes))
        parser = _Parser(name)
        chunk = next(chunks, None)
        while chunk is not None:
            following = next(chunks, None)
            block = parser.parse(*chunk, following[0] if following else None)
            if block is not None:
                yield block
            chunk = following
        parser.finish()


def read_records(path: str | Path) -> Iterator[tuple[str, bytes]]:
    """Ids and whole sequences, upper case, without white space; raises what `read_blocks` raises."""
    parts: list[bytes] = []
    for block in read_blocks(path):
        for number, one in enumerate(block.ids):
            span = block.buffer[block.starts[number] : block.ends[number]].tobytes()
            parts.append(span.translate(None, _WHITESPACE).upper())
            if number + 1 < len(block.ids) or not block.continued:
                yield one, b"".join(parts)
                parts.clear()


class _Parser:
    """Finds the records in one chunk after the other."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._records = 0
        self._id = ""
        self._carry = b""
        self._line_start = True
        self._continued = False

    def parse(self, data: bytes, consumed: int, following: bytes | None) -> FastaBlock | None:
        """The block of `data`; `following`, the chunk behind it, tells whether its last record goes on."""
        data = self._carry + data if self._carry else data
        self._carry = b""
        if self._records == 0:
            data = data.lstrip(_WHITESPACE) if self._line_start else data
            if not data:
                return None
            self._check_first(data)
        continues, first = self._continued, self._records + (not self._continued)
        ids = [self._id] if continues else []
        starts = [0] if continues else []
        ends: list[int] = []
        end = self._scan(data, ids, starts, ends, last=following is None)
        if starts:
            ends.append(end)
        self._line_start = data.endswith(b"\n") or bool(self._carry)
        ended = following is None or bool(self._carry) or (self._line_start and following.startswith(b">"))
        self._continued = not ended
        if not ids:
            return None
        return FastaBlock(
            np.frombuffer(data, dtype=np.uint8),
            ids,
            np.array(starts, dtype=np.int64),
            np.array(ends, dtype=np.int64),
            continues,
            self._continued,
            first,
            self._file,
            consumed,
        )

    def finish(self) -> None:
        """Refuse a file that had no record."""
        if self._records == 0:
            raise SequenceError("the file is empty", check="was it written to the end?", place=self._file)

    def _scan(self, data: bytes, ids: list[str], starts: list[int], ends: list[int], *, last: bool) -> int:
        """Fill in the records that begin in `data`; gives where the last one's letters end in it."""
        at = 0
        while (header := data.find(b">", at)) >= 0:
            line_start = data[header - 1] == _LINE_FEED if header else self._line_start
            if not line_start:
                at = header + 1
                continue
            stop = data.find(b"\n", header)
            if stop < 0 and not last:
                self._carry = data[header:]
                if len(self._carry) > MAX_HEADER:
                    raise self._error("a header without an end", "no line feed follows it")
                return header
            stop = len(data) if stop < 0 else stop
            if starts:
                ends.append(header)
            self._records += 1
            self._id = self._identify(data[header + 1 : stop])
            ids.append(self._id)
            starts.append(min(stop + 1, len(data)))
            at = stop + 1
        return len(data)

    def _identify(self, header: bytes) -> str:
        words = header.split(None, 1)
        if b"\r" in header.rstrip(b"\r\n"):
            raise self._error("a carriage return within a header", "lines must end in LF or CR LF")
        if not words:
            raise self._error("a header without an id", "every sequence needs a name", "name it behind the >")
        try:
            return words[0].decode()
        except UnicodeDecodeError:
            raise self._error("a header that is not UTF-8", check="convert the file to UTF-8") from None

    def _check_first(self, data: bytes) -> None:
        if data.startswith(b">"):
            return
        if data.startswith(b"@"):
            raise SequenceError(
                "this is FASTQ, not FASTA",
                "reads are too short to be placed",
                "assemble them, or convert with seqtk seq -a",
                place=self._file,
            )
        shown = data[:20].split(b"\n")[0]
        raise SequenceError(
            f"this is not FASTA: it begins with {shown!r}",
            check="the first character must be >",
            place=self._file,
        )

    def _error(self, what: str, why: str = "", check: str = "") -> SequenceError:
        return SequenceError(what, why, check, place=f"{self._file}, record {max(1, self._records)}")


class _Chunks:
    """Chunks of decompressed bytes with the stored bytes read so far, from a thread that reads ahead."""

    def __init__(self, path: str | Path, name: str, size: int) -> None:
        self._name, self._size = name, size
        self._source = _open_source(path, name)
        self._queue: queue.Queue[tuple[bytes, int] | BaseException | None] = queue.Queue(maxsize=2)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._read, name="fasta", daemon=True)

    def __enter__(self) -> _Chunks:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopped.set()
        while self._thread.is_alive():
            while not self._queue.empty():
                self._queue.get_nowait()
            self._thread.join(0.01)
        self._source.close()

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        return self

    def __next__(self) -> tuple[bytes, int]:
        item = self._queue.get()
        if item is None or isinstance(item, BaseException):
            self._queue.put(None)
            if isinstance(item, BaseException):
                raise item
            raise StopIteration
        return item

    def _read(self) -> None:
        try:
            stream = _decompressed(self._source)
            while chunk := stream.read(self._size):
                self._put((chunk, self._source.consumed))
            self._put(None)
        except _DAMAGE as error:
            what = "the file is truncated" if isinstance(error, EOFError) else "the file cannot be read"
            reason = " ".join(str(error).split())
            self._put(SequenceError(what, reason, "copy or download it again", place=self._name))
        except BaseException as error:
            self._put(error)

    def _put(self, item: tuple[bytes, int] | BaseException | None) -> None:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue


class _Source(io.RawIOBase):
    """The stored bytes, counted; what was read to tell the compression is given again."""

    def __init__(self, file: IO[bytes], *, owned: bool) -> None:
        self._file, self._owned = file, owned
        self.head = file.read(6) or b""
        self._again = self.head
        self.consumed = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._again:
            count = min(len(buffer), len(self._again))
            buffer[:count], self._again = self._again[:count], self._again[count:]
        else:
            count = self._file.readinto(buffer) or 0  # type: ignore[attr-defined]
        self.consumed += count
        return count

    def close(self) -> None:
        if self._owned and not self.closed:
            self._file.close()
        super().close()


def _open_source(path: str | Path, name: str) -> _Source:
    if str(path) == "-":
        return _Source(sys.stdin.buffer, owned=False)
    try:
        return _Source(Path(path).open("rb"), owned=True)
    except FileNotFoundError:
        raise SequenceError("no such file", check="is the path right?", place=name) from None
    except OSError as error:
        raise SequenceError(f"the file cannot be read: {error.strerror}", place=name) from error


def _decompressed(source: _Source) -> IO[bytes]:
    stored: Any = io.BufferedReader(source, 1 << 20)
    if source.head.startswith(b"\x1f\x8b"):
        return igzip.IGzipFile(fileobj=stored)  # type: ignore[no-any-return]
    if source.head.startswith(b"\x28\xb5\x2f\xfd"):
        return io.BufferedReader(_Zstandard(stored), 1 << 20)
    if source.head.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(stored)
    if source.head.startswith(b"BZh"):
        return bz2.BZ2File(stored)
    return stored  # type: ignore[no-any-return]


class _Zstandard(io.RawIOBase):
    """Zstandard frames, one behind the other; tells when the last is cut off, as zstandard's reader does not."""

    def __init__(self, stored: IO[bytes]) -> None:
        self._stored = stored
        self._frame: Any = None
        self._ready = memoryview(b"")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._rest or self._stored.read(1 << 18)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("the last Zstandard frame is cut off")
                return 0
            self._frame = self._frame or zstandard.ZstdDecompressor().decompressobj()
            self._ready = memoryview(self._frame.decompress(data))
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count
