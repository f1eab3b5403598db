"""Bytes of a sequence file, decompressed ahead in a thread; by magic bytes, not by names."""

from __future__ import annotations

import bz2
import io
import lzma
import os
import queue
import shutil
import stat
import sys
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self, TypeVar

from isal import igzip, isal_zlib

from kinmer.errors import SequenceError
from kinmer.inputs import described, is_stream, text_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

# Room in front of every chunk for the header that the chunk before ended in. A longer one is not a header.
HEADROOM = 1 << 20
# One chunk is parsed and counted, one is ready, one is filled.
_BUFFERS = 3
# Decompressors are asked for pieces that stay in the second-level cache on their way into the chunk.
_PIECE = 1 << 18
# A Zstandard block of 4 bytes can hold 128 kB: small bites bound what a hostile file makes of them.
_ZSTANDARD_BITE = 1 << 12
# Compressors let a file ask for the memory that unpacking it takes, up to 4 GB: xz -9 asks for 65 MB, and
# 128 MB is what zstd itself unpacks without --long.
_XZ_MEMORY, _ZSTANDARD_WINDOW = 256 << 20, 128 << 20
_ZSTANDARD_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 27}
# So many empty files are named; so many bytes of nothing but white space are looked at.
_NAMED, _BLANK = 5, 1 << 20
_DAMAGE: Any = (EOFError, OSError, lzma.LZMAError, zlib.error, isal_zlib.error, zstd.ZstdError)
_REFUSED = {
    b"PK\x03\x04": "a zip archive",
    b"\x04\x22\x4d\x18": "an lz4 file",
    b"\xff\xfe": "UTF-16 text",
    b"\xfe\xff": "UTF-16 text",
}


# A path, or what has one.
Source = TypeVar("Source")


class Chunk(NamedTuple):
    """Decompressed bytes buffer[HEADROOM:stop]; `consumed`: bytes of the stored file read so far."""

    buffer: bytearray
    stop: int
    consumed: int
    last: bool


class _Stream(Protocol):
    def readinto(self, buffer: memoryview, /) -> int: ...


def source_name(path: str | Path) -> str:
    """What messages and stores call it."""
    return "stdin" if str(path) == "-" else text_of(path)


def nonempty(files: Sequence[Source], log: Callable[[str], None] | None = None) -> list[Source]:
    """The files that hold anything; `log` gets those that do not, such as a binner's bin of nothing.

    All of them where none does, for the error that reading them raises. What can be read only once is kept.
    """
    kept = [file for file in files if not _is_empty(file)]
    if not kept or len(kept) == len(files):
        return list(files)
    if log is not None:
        there = {id(file) for file in kept}
        names = [str(getattr(file, "path", file)) for file in files if id(file) not in there]
        more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
        log(f"passed over, because there is nothing in it: {', '.join(names[:_NAMED])}{more}")
    return kept


@contextmanager
def spooled(path: str | Path, folder: Path) -> Iterator[Path]:
    """A file in `folder` that holds what a source gives that can be read once; a regular file is itself.

    Raises SequenceError where it cannot be read. It goes when the block ends.
    """
    if not is_stream(path):
        yield Path(path)
        return
    spool = folder / source_name(path).replace("/", "_").lstrip("_")
    try:
        with _open(path, source_name(path)) as source, spool.open("wb") as file:
            shutil.copyfileobj(source, file, 1 << 20)
        yield spool
    finally:
        spool.unlink(missing_ok=True)


def _is_empty(source: object) -> bool:
    """Whether a regular file holds nothing, or white space only, when it is decompressed."""
    path = getattr(source, "path", source)
    if not isinstance(path, str | Path) or is_stream(path) or not Path(path).is_file():
        return False
    try:
        with _open(path, str(path)) as file:
            stream, left = _decompressed(file, str(path)), _BLANK
            buffer = memoryview(bytearray(1 << 16))
            while left > 0 and (count := stream.readinto(buffer)):
                if bytes(buffer[:count]).removeprefix(b"\xef\xbb\xbf").strip():
                    return False
                left -= count
            return left > 0
    except (SequenceError, *_DAMAGE):
        return False


class ChunkReader:
    """Chunks of `size` decompressed bytes of a file (``-``: stdin), read ahead; the last one may be empty.

    A chunk's buffer is filled again when the next chunk is asked for. Memory: three chunks. Raises
    SequenceError for a file that is not there, cannot be read, is damaged or truncated.
    """

    def __init__(self, path: str | Path, size: int) -> None:
        self._name = source_name(path)
        self._source = _open(path, self._name)
        self._free: queue.SimpleQueue[bytearray | None] = queue.SimpleQueue()
        # Each is made when it is needed: a small file needs one.
        self._size = HEADROOM + size
        for _ in range(_BUFFERS):
            self._free.put(bytearray())
        self._ready: queue.SimpleQueue[Chunk | BaseException] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read, name="fasta", daemon=True)
        self._given: bytearray | None = None
        self._ended = self._stopped = False

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped = True
        self._free.put(None)
        # One that waits for more of a pipe is left behind: it ends with the process.
        self._thread.join(None if self._ended or self._source.seekable() else 0.1)
        if not self._thread.is_alive():
            self._source.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Chunk:
        if self._ended:
            raise StopIteration
        if self._given is not None:
            self._free.put(self._given)
        item = self._ready.get()
        if isinstance(item, BaseException):
            self._ended = True
            raise item
        self._given, self._ended = item.buffer, item.last
        return item

    def _fill(self, stream: _Stream, view: memoryview) -> int:
        stop = HEADROOM
        while stop < len(view) and not self._stopped:
            count = stream.readinto(view[stop : stop + _PIECE])
            if not count:
                break
            stop += count
        return stop

    def _read(self) -> None:
        try:
            stream = _decompressed(self._source, self._name)
            last = False
            while not last and (buffer := self._free.get()) is not None and not self._stopped:
                buffer = buffer or bytearray(self._size)
                stop = self._fill(stream, memoryview(buffer))
                last = stop < len(buffer)
                self._ready.put(Chunk(buffer, stop, self._source.consumed, last))
        except _DAMAGE as error:
            self._ready.put(_refusal(error, self._name))
        except BaseException as error:
            self._ready.put(error)


def _refusal(error: Exception, name: str) -> SequenceError:
    """What to say of a file that cannot be unpacked."""
    reason = " ".join(str(error).split())
    if "emory" in reason and isinstance(error, lzma.LZMAError | zstd.ZstdError):
        packed, most, by = (
            ("xz", _XZ_MEMORY, "xz -9 or less")
            if isinstance(error, lzma.LZMAError)
            else ("Zstandard", _ZSTANDARD_WINDOW, "zstd without --ultra and --long")
        )
        return SequenceError(
            f"the file asks for more than {most >> 20} MB of memory to be unpacked",
            f"kinmer allows no more for {packed}",
            f"pack it again with {by}",
            place=name,
        )
    what = "the file is truncated" if isinstance(error, EOFError) else "the file cannot be read"
    return SequenceError(what, reason, "copy or download it again", place=name)


class _Source(io.RawIOBase):
    """The stored bytes, counted; `head`, read to know the compression, is given again."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self.head = b""
        while len(self.head) < 6 and (more := file.read(6 - len(self.head))):
            self.head += more
        self._again = self.head
        self.consumed = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._file.seekable()

    def readinto(self, buffer: Any) -> int:
        if self._again:
            count = min(len(buffer), len(self._again))
            buffer[:count], self._again = self._again[:count], self._again[count:]
        else:
            count = self._file.readinto(buffer) or 0
        self.consumed += count
        return count

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _open(path: str | Path, name: str) -> _Source:
    try:
        # Not through sys.stdin: its lock, held by a waiting thread, would keep the process alive.
        file = io.FileIO(0, closefd=False) if str(path) == "-" else io.FileIO(path)
        try:
            _refuse_device(file, name)
            return _Source(file)
        except BaseException:
            file.close()
            raise
    except ValueError:
        raise SequenceError(f"{name!r} is not a path", "it holds a zero byte") from None
    except FileNotFoundError:
        raise SequenceError("no such file", check="is the path right?", place=name) from None
    except IsADirectoryError:
        what = described(path)
        if what.endswith("folder"):
            raise SequenceError("this is a folder", check="give the files in it", place=name) from None
        raise SequenceError(f"this is {what}", check="sequences are expected, in FASTA", place=name) from None
    except OSError as error:
        raise SequenceError("the file cannot be read", error.strerror or str(error), place=name) from error


def _refuse_device(file: io.FileIO, name: str) -> None:
    mode = os.fstat(file.fileno()).st_mode
    if stat.S_ISBLK(mode) or (stat.S_ISCHR(mode) and not file.isatty()):
        raise SequenceError(
            "this is a device", "it may never end", "give a file, a pipe or - for stdin", place=name
        )


def _decompressed(source: _Source, name: str) -> _Stream:
    head = source.head
    if head.startswith(b"\x1f\x8b"):
        return igzip.IGzipFile(fileobj=io.BufferedReader(source, 1 << 20))  # type: ignore[no-any-return]
    # Frames that hold nothing to decompress may come first.
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5):
        return io.BufferedReader(_Zstandard(io.BufferedReader(source, 1 << 20)), 1 << 17)
    if head.startswith(b"\xfd7zXZ\x00"):
        return io.BufferedReader(_Xz(io.BufferedReader(source, _PIECE)), _PIECE)
    if head.startswith(b"BZh"):
        return bz2.BZ2File(io.BufferedReader(source, _PIECE))
    for magic, what in _REFUSED.items():
        if head.startswith(magic):
            raise SequenceError(
                f"this is {what}, not FASTA",
                check="FASTA may be plain or compressed as gzip, bgzip, Zstandard, xz or bzip2",
                place=name,
            )
    return source


class _Zstandard(io.RawIOBase):
    """Zstandard frames, one behind the other; unlike zstandard's reader it says when one is cut off."""

    def __init__(self, stored: io.BufferedReader) -> None:
        self._stored = stored
        self._frame: Any = None
        self._ready = memoryview(b"")
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._rest or self._stored.read(_ZSTANDARD_BITE)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("the last Zstandard frame is cut off")
                return 0
            if self._frame is None:
                self._frame = zstd.ZstdDecompressor(options=_ZSTANDARD_OPTIONS)
            self._ready = memoryview(self._frame.decompress(data))
            if self._frame.eof:
                self._rest, self._frame = self._frame.unused_data, None
        count = min(len(buffer), len(self._ready))
        buffer[:count], self._ready = self._ready[:count], self._ready[count:]
        return count


class _Xz(io.RawIOBase):
    """xz streams, one behind the other with zeros between; unlike lzma's own file within bounds of memory."""

    def __init__(self, stored: io.BufferedReader) -> None:
        self._stored = stored
        self._stream: lzma.LZMADecompressor | None = None
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:
            if self._stream is not None and not self._stream.needs_input:
                data = b""
            elif not (data := self._rest or self._stored.read1(_PIECE)):
                if self._stream is not None:
                    raise EOFError("the last xz stream is cut off")
                return 0
            self._rest = b""
            if self._stream is None:
                if not (data := data.lstrip(b"\0")):
                    continue
                self._stream = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            out = self._stream.decompress(data, len(buffer))
            if self._stream.eof:
                self._rest, self._stream = self._stream.unused_data, None
            if out:
                buffer[: len(out)] = out
                return len(out)
