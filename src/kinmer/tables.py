"""The one writer of tables: columns parted by tabs, one line a row, an empty field where nothing is known."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TextIO

import numpy as np

from kinmer.files import replaced_text

MISSING = ""
# What a reader would take for the end of a field or a line.
_BREAKS = dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")
# pandas' own missing values; pandas itself is not loaded for them.
_MISSING_TYPES = ("NAType", "NaTType")


def field(value: object, *, digits: int | None = 6) -> str:
    """The text of one field.

    Parameters
    ----------
    value : None, NaN and pandas' NA give an empty field. Tabs and line ends in a text become blanks.
    digits : significant digits of a float that is not whole; None: as many as read back the same number,
        without an exponent.
    """
    if isinstance(value, str):
        return value if value.isprintable() else value.translate(_BREAKS)
    if isinstance(value, float | np.floating):
        number = float(value)
        if math.isnan(number):
            return MISSING
        if digits is None:
            return np.format_float_positional(value, trim="-")
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.{digits}g}"
    if value is None or type(value).__name__ in _MISSING_TYPES:
        return MISSING
    return str(value).translate(_BREAKS)


def line(values: Iterable[object], *, digits: int | None = 6) -> str:
    """The fields of one row with the line feed that ends it."""
    return "\t".join([field(value, digits=digits) for value in values]) + "\n"


def write_table(
    target: str | Path | TextIO,
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    digits: int | None = 6,
) -> int:
    """Write a table, row by row as they come.

    Parameters
    ----------
    target : a path, which has the whole table or the file that was there before, or an open text stream.
    header : names of the columns; empty for none.
    rows : one sequence of values a row.
    digits : see `field`.

    Returns
    -------
    The number of rows.
    """
    if isinstance(target, str | Path):
        with replaced_text(target) as file:
            return write_table(file, header, rows, digits=digits)
    if header:
        target.write(line(header))
    count = 0
    for row in rows:
        target.write(line(row, digits=digits))
        count += 1
    return count
