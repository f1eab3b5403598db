"""Files of others, read within bounds: regular ones only, and no more of them than there may be.

Headers of stored arrays (NumPy, safetensors) are checked against the file's size first.
"""

from __future__ import annotations

import errno
import json
import math
import os
import re
import stat
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any, Literal

import numpy as np
from isal import igzip, isal_zlib
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from kinmer.errors import FormatError, InputError, ProfileError

# What is read as a whole. JSON of this size takes some 1.5 GB as Python's objects at worst, and so does JSON
# of three times the size that is mostly text: journals name every file, 80 to 100 MB for 500,000 genomes.
LARGEST_JSON = 64 << 20
LARGEST_TEXTS, MOST_VALUES = 192 << 20, 8_000_000
# Of text that is read line by line. Inflated text is bounded by its packed size too: tables shrink to a
# twentieth, and gzip at its utmost to a thousandth.
LONGEST_LINE = 16 << 20
LARGEST_RATIO, RATIO_FROM = 200, 256 << 20
_LINE_BYTES = 1 << 20
_GZIP = b"\x1f\x8b"
_DAMAGE: Any = (OSError, EOFError, isal_zlib.error)
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
Kind = Literal[
    "memory",
    "missing",
    "fasta",
    "npy",
    "h5ad",
    "store",
    "index",
    "encoder",
    "benchmark",
    "clusters",
    "estimator",
    "demo",
    "folder",
]
_FOLDERS: tuple[tuple[str, Kind, str], ...] = (
    ("index.json", "index", "an index"),
    ("config.json", "encoder", "an encoder"),
    ("benchmark.json", "benchmark", "a benchmark"),
    ("clusters.json", "clusters", "a folder of clusters"),
    ("model.json", "estimator", "an estimator"),
    ("demo.json", "demo", "the folder of a demo"),
    ("zarr.json", "store", "a profile store"),
    (".zgroup", "store", "a profile store"),
)
_TABLES: tuple[tuple[bytes, Kind], ...] = ((b"\x93NUMPY", "npy"), (b"\x89HDF\r\n\x1a\n", "h5ad"))
_SUFFIXES: dict[str, Kind] = {".npy": "npy", ".h5ad": "h5ad", ".zarr": "store"}
_MAGIC = (
    (b">", "FASTA"),
    (b"\x93NUMPY", "an .npy table"),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (_GZIP, "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file"),
    (b"\xfd7zXZ\0", "an xz file"),
    (b"BZh", "a bzip2 file"),
    (b"{", "JSON"),
    (b"@", "FASTQ"),
)
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def described(path: str | Path) -> str:
    """What a file or folder looks like (``FASTA``, ``an index``), for the message that refuses it."""
    path = Path(path)
    if path.is_dir():
        held = (what for name, _, what in _FOLDERS if (path / name).is_file())
        return next(held, "a folder" if any(path.iterdir()) else "an empty folder")
    if not path.is_file():
        return "no file"
    with open_regular(path) as file:
        head = file.read(512)
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if not head:
        return "an empty file"
    return "a table" if b"\t" in head and b"\0" not in head else "a file"


def is_stream(path: str | Path) -> bool:
    """Whether a source can be read only once: stdin (``-``), or a pipe such as a shell's ``<(…)``."""
    if str(path) == "-":
        return True
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def kind_of(source: object) -> Kind:
    """What a source is: by its content, or by its name where there is nothing yet.

    ``memory`` is not a path, ``missing`` is neither there nor named as a table. ``fasta`` is every other
    file that is not a table, and every stream: reading tells whether it holds sequences.
    """
    if not isinstance(source, str | Path):
        return "memory"
    path = Path(source)
    if is_stream(path):
        return "fasta"
    if path.is_dir():
        return next((kind for name, kind, _ in _FOLDERS if (path / name).is_file()), "folder")
    if not path.is_file():
        return _SUFFIXES.get(path.suffix, "missing")
    with path.open("rb") as file:
        head = file.read(8)
    by_name = _SUFFIXES.get(path.suffix, "fasta")
    return next((kind for magic, kind in _TABLES if head.startswith(magic)), by_name)


def text_of(path: str | Path) -> str:
    """A path, or a part of one, as stores and messages may have it.

    Bytes that are not UTF-8 are escaped (``\\xe9``): such a path is not text, and no table takes it.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def sealed(body: Mapping[str, Any]) -> dict[str, Any]:
    """A description with a checksum of itself, ``crc``; an older one is replaced."""
    bare = {name: value for name, value in body.items() if name != "crc"}
    return {**bare, "crc": zlib.crc32(json.dumps(bare, sort_keys=True).encode())}


def is_sealed(body: Mapping[str, Any]) -> bool:
    """Whether a description is as `sealed` left it."""
    return bool(sealed(body)["crc"] == body.get("crc"))


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
        raise InputError(f"{str(path)!r} is not a path", "it holds a zero byte") from None
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
        if _SURROGATE.search(text if isinstance(text, bytes) else text.encode("utf-8", "replace")):
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


def read_json(path: str | Path) -> dict[str, Any]:
    """The JSON object in a file; FormatError where the file is missing, damaged, too large or no object.

    Memory: 1.6 GB at worst, see `LARGEST_JSON`.
    """
    path = Path(path)
    try:
        text = read_bytes(path, LARGEST_TEXTS)
        if len(text) > LARGEST_JSON and sum(map(text.count, (b",", b"[", b"{"))) > MOST_VALUES:
            raise FormatError(
                f"the file holds more than {MOST_VALUES:,} values", "no such file does", place=path
            )
        data = parse_json(text)
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


# Of safetensors: a hundred bytes a tensor.
LARGEST_HEADER = 1 << 20
_NPY_MAGIC = b"\x93NUMPY"
# A header is a Python literal, and numpy reads it with Python's own tokenizer and parser.
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    TypeError,
    KeyError,
    RecursionError,
    MemoryError,
    SyntaxError,
    TokenError,
)
_READERS = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}


def map_array(path: str | Path) -> NDArray[Any]:
    """The array in an ``.npy`` file, mapped to be read; nothing pickled is looked at.

    Raises ProfileError: no such file, not a regular one, no ``.npy``, a shape that the file is too short for,
    values that are not plain numbers.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            dtype, shape, fortran = _header(file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise ProfileError("no such file", check="is the path right?", place=path) from None
    except _UNREADABLE as error:
        what = described(path)
        raise _damaged(path, str(error) if what == "an .npy table" else f"it is {what}") from error
    if dtype.kind not in "biuf" or dtype.subdtype is not None:
        raise _damaged(path, f"it holds {str(dtype)[:60]}, not numbers")
    needed = math.prod(shape) * dtype.itemsize
    if any(length < 0 for length in shape) or offset + needed > size:
        raise _damaged(path, f"its header says {_written(shape)} of {dtype}, its size is {size:,} bytes")
    if not needed:
        return np.zeros(math.prod(shape), dtype).reshape(shape)
    table: NDArray[Any] = np.memmap(path, dtype, "r", offset, shape, "F" if fortran else "C")
    return table


def check_weights(path: str | Path) -> None:
    """Refuse, before it is parsed, a safetensors file that is not regular or has a header out of bounds.

    Raises FormatError.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            header = int.from_bytes(file.read(8), "little")
    except (OSError, InputError) as error:
        raise FormatError("the weights cannot be read", str(error)) from error
    if size < 8 or header > size - 8 or header > LARGEST_HEADER:
        raise FormatError(
            f"{Path(path).name} is damaged",
            f"its header would have {header:,} of {size:,} bytes; {LARGEST_HEADER:,} are possible",
        )


def _header(file: IO[bytes]) -> tuple[np.dtype[Any], tuple[int, ...], bool]:
    if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
        raise ValueError("its first bytes are not those of one")
    file.seek(0)
    version = npy_format.read_magic(file)
    if version not in _READERS:
        raise ValueError(f"its format is {version[0]}.{version[1]}, this version reads 1.0 and 2.0")
    shape, fortran, dtype = _READERS[version](file)
    if any(isinstance(length, bool) for length in shape) or len(shape) > 32:
        raise ValueError("its shape is none")
    return dtype, shape, fortran


def _written(shape: tuple[int, ...]) -> str:
    text = " × ".join(f"{length:,}" if length < 1 << 63 else "over 2⁶³" for length in shape)
    return text or "a single value"


def _damaged(path: Path, why: str) -> ProfileError:
    return ProfileError(
        "this is not an .npy table, or it is cut off", why, "was it copied whole?", place=path
    )


def unnamed_array(kind: type[Any], rows: int, width: int) -> NDArray[Any]:
    """An array (rows, width) in a file without a name, gone when nobody looks at it any more."""
    if not rows:
        return np.empty((0, width), kind)
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, kind, "w+", shape=(rows, width))
