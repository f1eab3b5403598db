"""Sequence ids: what an id may be, and which have been seen."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError, ProfileError
from kinmer.inputs import read_lines

__all__ = ["SeenIds", "check_ids", "hash_texts", "read_ids"]

# Bytes of an id.
LONGEST_ID = 1 << 16


def hash_texts(texts: NDArray[np.object_]) -> NDArray[np.uint64]:
    """64-bit hashes (SipHash) of texts: equal texts have equal ones, unequal texts almost never."""
    try:
        return np.asarray(pd.util.hash_array(texts, categorize=False), dtype=np.uint64)
    except UnicodeEncodeError:  # Broken Unicode; `check_ids` says so, this only must not stumble over it.
        escaped = np.array([one.encode(errors="backslashreplace").decode() for one in texts], dtype=object)
        return np.asarray(pd.util.hash_array(escaped, categorize=False), dtype=np.uint64)


def check_ids(
    ids: Sequence[str] | NDArray[Any], *, place: object = None, first_line: int | None = None
) -> None:
    """Refuse ids that are empty, hold a tab, line break or broken Unicode, or occur twice (ProfileError).

    `first_line`: number of the line in `place` where the first id stands, for the message.
    """
    where = None if place is None else str(place)
    if len(ids) and all(map(_clean, ids)):
        texts = np.asarray(ids, dtype=object)
        hashes = np.sort(hash_texts(texts))
        if not (hashes[1:] == hashes[:-1]).any():
            return
    seen: dict[str, int] = {}
    for number, one in enumerate(ids):
        at = f"row {number + 1}" if first_line is None else f"line {number + first_line}"
        if not _clean(one):
            raise ProfileError(
                f"the id {one!r} cannot be used",
                "an id is text without tabs and line breaks, and not empty",
                place=f"{where}, {at}" if where else at,
            )
        if one in seen:
            first = f"row {seen[one] + 1}" if first_line is None else f"line {seen[one] + first_line}"
            raise ProfileError(
                f"the id {one!r} occurs twice (first in {first})",
                "ids must be unique, or hits could not be told apart",
                place=f"{where}, {at}" if where else at,
            )
        seen[one] = number


def read_ids(path: str | Path, rows: int, table: str) -> NDArray[np.object_]:
    """The ids in a text file (plain or gzip), one a line, for the `rows` rows of what is called `table`.

    Raises ProfileError: no such file, no text, another number of lines than rows, what `check_ids` refuses.
    """
    ids: list[str] = []
    number = 0
    try:
        # Lines are split at line feeds only: ids may hold any other of Unicode's line ends.
        for number, line in read_lines(path, longest=LONGEST_ID):
            if number <= rows:
                ids.append(line.decode())
    except UnicodeDecodeError as error:
        raise ProfileError("the ids are no UTF-8 text", str(error), place=f"{path}, line {number}") from error
    except InputError as error:
        raise ProfileError(
            f"the ids cannot be read: {error.what}", error.why, error.check, place=path
        ) from None
    if number != rows:
        raise ProfileError(
            f"{number:,} ids for the {rows:,} rows of {table}",
            "one id a line belongs to every row",
            "are the two files from one run?",
            place=path,
        )
    check_ids(ids, place=path, first_line=1)
    return np.array(ids, dtype=object)


def _clean(one: object) -> bool:
    if not isinstance(one, str) or not one:
        return False
    if one.isascii():
        return one.isprintable()
    try:
        one.encode()
    except UnicodeEncodeError:
        return False
    return not any(letter in one for letter in "\t\n\r\v\f\x00\x1c\x1d\x1e\x85\u2028\u2029")


class SeenIds:
    """Ids so far as sorted 64-bit hashes: 8 bytes an id, where a set of text takes more than 100."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, hashes: NDArray[np.uint64]) -> None:
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)

    def known(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        found = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            found |= run[at] == hashes
        return found
