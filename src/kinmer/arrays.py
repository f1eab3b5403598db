"""Stored arrays, NumPy's and safetensors: what their headers say is checked against the file first."""

from __future__ import annotations

import math
import os
from pathlib import Path
from tokenize import TokenError
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from kinmer.errors import FormatError, InputError, ProfileError
from kinmer.inputs import described, open_regular

__all__ = ["check_weights", "map_array"]

# Of safetensors: a hundred bytes a tensor.
LARGEST_HEADER = 1 << 20
_MAGIC = b"\x93NUMPY"
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
    values that are no plain numbers.
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
    """Refuse, before it is parsed, a safetensors file that is no regular one or has a header out of bounds.

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
    if file.read(len(_MAGIC)) != _MAGIC:
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
    return ProfileError("this is no .npy table, or it is cut off", why, "was it copied whole?", place=path)
