"""Fields of the tables that results are written in."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["DISTANCE_DIGITS", "MISSING", "SHARE_DIGITS", "as_field", "as_share", "unique_names"]

MISSING = ""
DISTANCE_DIGITS, SHARE_DIGITS = 6, 4
# All that str.splitlines takes for the end of a line, and the tab.
_BREAKS = dict.fromkeys(map(ord, "\t\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"), " ")


def as_field(value: object) -> str:
    """A field: plain numbers, no tabs or line ends; empty where there is none."""
    if value is None:
        return MISSING
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-") if math.isfinite(value) else MISSING
    return str(value).translate(_BREAKS)


def as_share(value: float | None) -> str:
    """A share or a probability with four digits."""
    return MISSING if value is None else f"{value:.{SHARE_DIGITS}f}"


def unique_names(own: Sequence[str], others: Sequence[str]) -> list[str]:
    """Names of columns `others` to stand behind `own`: one that is taken there gets ``hit_`` in front."""
    taken, found = {name.lower() for name in own}, []
    wanted = {name.lower() for name in others}
    for name in others:
        free = name
        while free.lower() in taken or (free != name and free.lower() in wanted):
            free = f"hit_{free}"
        taken.add(free.lower())
        found.append(free)
    return found
