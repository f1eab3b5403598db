"""Files that are whole or absent: atomic writes, folders built aside, hashes; what is read is bounded."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TextIO

from isal import igzip, isal_zlib

from kinmer.errors import FormatError, InputError, UsageError

__all__ = [
    "built_aside",
    "check_output",
    "file_checksum",
    "hash_file",
    "hash_ids",
    "open_regular",
    "parse_json",
    "read_bytes",
    "read_json",
    "read_lines",
    "remove",
    "replaced",
    "replaced_text",
    "sync_directory",
    "write_bytes",
    "write_json",
]


_CRC_BYTES = 1 << 22
# What is read as a whole. JSON of this size takes some 1.5 GB as Python's objects at worst.
LARGEST_JSON = 64 << 20
# Of text that is read line by line. Inflated text is bounded by its packed size too: tables shrink to a
# twentieth, and gzip at its utmost to a thousandth.
LONGEST_LINE = 16 << 20
LARGEST_RATIO, RATIO_FROM = 200, 256 << 20
_LINE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_DAMAGE: Any = (OSError, EOFError, isal_zlib.error)
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def sync_directory(path: Path) -> None:
    """Make renames in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replaced(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends, and goes when it fails.

    A reader sees the old or the new content, never a part.
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.absolute().parent)


@contextmanager
def replaced_text(path: str | Path) -> Iterator[TextIO]:
    """`replaced` for text: UTF-8, line feeds."""
    with replaced(path) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


def write_bytes(path: str | Path, data: bytes) -> None:
    """`replaced` with all of its content at once."""
    with replaced(path) as file:
        file.write(data)


def write_json(path: str | Path, data: Any) -> None:
    """`write_bytes` of indented JSON (NaN refused)."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def open_regular(path: str | Path) -> IO[bytes]:
    """A regular file, opened to be read; a link to one is as good.

    Raises FileNotFoundError where there is none, InputError for a folder, a named pipe, a device or a socket,
    which might never end, OSError for the rest.
    """
    # Without O_NONBLOCK a pipe that nobody writes to would be waited for.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ENXIO:
            raise InputError("this is a socket or a device", "a file is expected", place=path) from None
        raise
    except ValueError:
        raise InputError(f"{str(path)!r} is no path", "it holds a zero byte") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            what = next((name for is_one, name in _KINDS if is_one(mode)), "no regular file")
            raise InputError(f"this is {what}", "a file is expected", place=path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: str | Path, most: int = LARGEST_JSON) -> bytes:
    """A regular file's bytes; FormatError where they are more than `most`, else as `open_regular`."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(most + 1) if size <= most else b""
    if size > most or len(data) > most:
        raise FormatError(f"the file is larger than {most:,} bytes", "no such file is", place=path)
    return data


def parse_json(text: str | bytes, *, nan: bool = False) -> Any:
    """What a JSON text says.

    nan : NaN and Infinity, which RFC 8259 has not, are numbers too.

    Raises ValueError for what is no JSON, for numbers that no float is as large as or that Python would not
    read for their length, for halves of surrogate pairs and for nesting beyond Python's own limit.
    """
    try:
        hooks: dict[str, Any] = {} if nan else {"parse_constant": _refuse_constant, "parse_float": _finite}
        data = json.loads(text, **hooks)
        plain = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
        if _SURROGATE.search(plain):
            json.dumps(data, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it holds half of a surrogate pair") from None
    return data


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large a number")
    return value


def read_json(path: str | Path, most: int = LARGEST_JSON) -> dict[str, Any]:
    """A JSON object of at most so many bytes; FormatError where the file is missing, damaged or no object."""
    path = Path(path)
    try:
        data = parse_json(read_bytes(path, most))
    except FileNotFoundError:
        raise FormatError("no such file", check="is the path right?", place=path) from None
    except InputError as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError(error.what, error.why, error.check, place=path) from None
    except (OSError, ValueError) as error:
        raise FormatError("the file is damaged", f"it is no JSON ({error})", place=path) from error
    if not isinstance(data, dict):
        raise FormatError("the file is damaged", "it holds no JSON object", place=path)
    return data


def read_lines(path: str | Path, *, longest: int = LONGEST_LINE) -> Iterator[tuple[int, bytes]]:
    """Number (from 1) and bytes, without line end, of every line of a regular file, plain or gzip.

    Lines end with a line feed, or carriage return and line feed, and with nothing else. A byte order mark at
    the start is left out. Memory: a line.

    Raises InputError with the file (and line) for one that is missing, not regular, cut off or damaged, for a
    line of more than `longest` bytes, and for gzip that inflates to more than 200 times its size.
    """
    path = Path(path)
    try:
        with open_regular(path) as stored:
            packed = stored.read(2) == _GZIP
            stored.seek(0)
            most = max(RATIO_FROM, LARGEST_RATIO * os.fstat(stored.fileno()).st_size) if packed else None
            # isal's own class reads a member's trailer and checks its sum, as gzip's does.
            file: Any = igzip.IGzipFile(fileobj=stored) if packed else stored
            yield from _lines_of(file, path, longest, most)
    except FileNotFoundError:
        raise InputError("no such file", check="is the path right?", place=path) from None
    except _DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("the file cannot be read", reason, "is it whole?", place=path) from error


def _lines_of(file: Any, path: Path, longest: int, most: int | None) -> Iterator[tuple[int, bytes]]:
    number, total, rest = 0, 0, b""
    while block := file.read(_LINE_BYTES):
        total += len(block)
        if most is not None and total > most:
            raise InputError(
                f"the file inflates to more than {LARGEST_RATIO} times its size",
                "no table does",
                "unpack it, and look at it",
                place=path,
            )
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            yield number, _ended(line, number)
        if len(rest) > longest:
            raise InputError(
                f"the line is longer than {longest:,} bytes",
                "no line of a table is",
                "is this a text file?",
                place=f"{path}, line {number + 1}",
            )
    if rest:
        yield number + 1, _ended(rest, number + 1)


def _ended(line: bytes, number: int) -> bytes:
    return (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).removesuffix(b"\r")


def remove(path: str | Path) -> None:
    """Remove a file or a folder with all that is in it; nothing where there is none."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_output(path: str | Path, *, force: bool = False, hint: str = "use --force to replace it") -> Path:
    """Refuse an output that exists (unless `force`) or whose folder does not; returns the path."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder {path.absolute().parent} does not exist", place=path)
    if not force and (path.exists() or path.is_symlink()):
        raise UsageError("the output exists already", check=hint, place=path)
    return path


@contextmanager
def built_aside(path: str | Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its name when the block ends, and goes when it fails.

    What stood at `path` stays whole until then, and comes back where that fails. What a kill left, folders
    named ``.NAME.new-*`` and ``.NAME.old-*``, is settled by the next call.
    """
    path = Path(path)
    _settle(path)
    aside = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}.new-"))
    umask = os.umask(0)
    os.umask(umask)
    aside.chmod(0o777 & ~umask)
    try:
        yield aside
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}.old-"))
            path.rename(old / "old")
        aside.rename(path)
        sync_directory(path.absolute().parent)
        if old is not None:
            remove(old)
    except BaseException:
        _settle(path)
        raise


def _settle(path: Path) -> None:
    """Put back what has made room for a folder that never came, and remove what else is left of such."""
    folder = path.absolute().parent
    for stale in folder.glob(f".{path.name}.old-*"):
        if (stale / "old").exists() and not path.exists():
            (stale / "old").rename(path)
        remove(stale)
    for stale in folder.glob(f".{path.name}.new-*"):
        remove(stale)


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 (hex) over the ids in order, each followed by a line feed."""
    digest = hashlib.sha256()
    for one in ids:
        digest.update(one.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def file_checksum(path: str | Path) -> int:
    """CRC-32 of a file's bytes, several times as fast as a hash: it finds damage, not forgery."""
    crc = 0
    with Path(path).open("rb") as file:
        while block := file.read(_CRC_BYTES):
            crc = isal_zlib.crc32(block, crc)
    return int(crc)


def hash_file(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
