"""What every table of profiles offers, and the rules that its rows and ids obey."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError, KinmerError, ProfileError
from kinmer.inputs import parse_json, read_lines
from kinmer.layout import MAX_K, GeneticCode, Layout, profile_layout

__all__ = [
    "Profiles",
    "SeenIds",
    "Values",
    "as_counts",
    "check_ids",
    "check_rows",
    "gc_of",
    "genetic_code_in",
    "hash_texts",
    "layout_of_features",
    "read_ids",
    "whole",
]


Values = Literal["counts", "frequencies"]


@runtime_checkable
class Profiles(Protocol):
    """A table of profiles, one row a sequence, read in blocks.

    ``layout``: the blocks of columns. ``values``: "counts" (uint32) or "frequencies" (float32, every block
    of a row sums to 1, or to 0 where nothing was counted). ``fingerprint``: SHA-256 over the ids in order.
    ``chunk_rows``: rows that are cheap to read together.
    """

    @property
    def layout(self) -> Layout: ...
    @property
    def values(self) -> Values: ...
    @property
    def fingerprint(self) -> str: ...
    @property
    def chunk_rows(self) -> int: ...
    @property
    def ids(self) -> NDArray[np.object_]:
        """Sequence ids, (n,) str, unique."""
        ...

    @property
    def obs(self) -> pd.DataFrame:
        """Index = ids; ``length``, ``bases``, ``gc``, ``source`` where known, and what was joined."""
        ...

    def __len__(self) -> int: ...

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop, (stop - start, width)."""
        ...

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, (len(rows), width)."""
        ...


def check_rows(
    rows: NDArray[Any], layout: Layout, values: Values, *, place: object = None, first: int = 0
) -> None:
    """Refuse rows of another width, negative, not finite, too large, or frequencies that do not sum to 1.

    rows: (n, width). `first`: number of the first row in `place`, from 0, for the message (which counts
    from 1). Raises ProfileError.
    """
    where = "" if place is None else f"{place}, "
    if rows.ndim != 2 or rows.shape[1] != layout.width:
        raise ProfileError(
            f"profiles of shape {rows.shape} do not fit the layout's {layout.width} columns",
            check="which k were counted?",
            place=place if place is None else str(place),
        )
    kinds = "ui" if values == "counts" else "f"
    if rows.dtype.kind not in kinds:
        raise ProfileError(
            f"{values} of type {rows.dtype}",
            "counts are whole numbers" if values == "counts" else "frequencies are floating point numbers",
            place=place if place is None else str(place),
        )
    if not rows.size:
        return

    def refuse(bad: Any, what: str, why: str = "") -> None:
        if bad.any():
            raise ProfileError(what, why, place=f"{where}row {first + int(np.argmax(bad)) + 1}")

    if values == "counts":
        if rows.dtype.kind == "i" and rows.min() < 0:
            refuse((rows < 0).any(1), "a negative count")
        if rows.dtype.itemsize > 4 and rows.max() > np.iinfo(np.uint32).max:
            refuse(
                (rows > np.iinfo(np.uint32).max).any(1),
                "a count above 4,294,967,295",
                "the store keeps 32 bits",
            )
        return
    if not np.isfinite(rows.min() + rows.max()):
        refuse(~np.isfinite(rows).all(1), "a value that is no finite number (NaN or infinite)")
    if rows.min() < 0:
        refuse((rows < 0).any(1), "a negative frequency")
    for block in layout.blocks:
        sums = rows[:, block.columns].sum(axis=1, dtype=np.float64)
        # float32 tables written by others are off by up to about 1e-4 after rounding or float16 storage.
        bad = (np.abs(sums - 1) > 2e-3) & (sums != 0)
        if bad.any():
            total = float(sums[int(np.argmax(bad))])
            refuse(
                bad, f"the {block.name} frequencies sum to {total:.4g}, not to 1", "are the columns in order?"
            )


def whole(block: NDArray[Any]) -> bool:
    """Whether all values are whole numbers, of whatever type."""
    if block.dtype.kind in "ui":
        return True
    # A value that is not a finite number is reported as such by the check of frequencies, not here.
    return block.dtype.kind == "f" and bool(np.isfinite(block).all() and (block == np.rint(block)).all())


def as_counts(rows: NDArray[Any], *, place: object = None, first: int = 0) -> NDArray[np.int64]:
    """Counts that came as floating point numbers, as int64; ProfileError where one is not a whole number.

    `first`: number of the first row in `place`, from 0, for the message.
    """
    bad = ~(np.abs(rows) <= 2**53) | (rows != np.rint(rows))
    if bad.any():
        raise ProfileError(
            "a value that is not a whole number",
            "the rows before are counts",
            place=f"{'' if place is None else f'{place}, '}row {first + int(np.argmax(bad.any(1))) + 1}",
        )
    return rows.astype(np.int64)


def gc_of(rows: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    """GC share of the counted letters, (n,), from the canonical 1-mers (C is C and G); NaN where none was."""
    letters = rows[:, layout.bases.columns].astype(np.float64)
    total = letters.sum(axis=1)
    share = np.full(len(rows), np.nan)
    np.divide(letters[:, 1], total, out=share, where=total > 0)
    return share


@lru_cache(maxsize=2 * MAX_K)
def _features(max_k: int, coding: bool) -> tuple[str, ...]:
    return profile_layout(max_k, coding=coding).features


def layout_of_features(
    names: Sequence[str], *, genetic_code: GeneticCode = "auto", place: object = None
) -> Layout:
    """The layout whose columns have these names; ProfileError where there is none.

    genetic_code : the layout's where it has reading frames, which names do not tell.
    """
    for max_k in range(1, MAX_K + 1):
        for coding in (False, True):
            features = _features(max_k, coding)
            if len(features) == len(names) and features == tuple(names):
                code: GeneticCode = genetic_code if coding else "auto"
                return profile_layout(max_k, coding=coding, genetic_code=code)
    raise ProfileError(
        f"the {len(names)} columns are not those of canonical k-mers from some k down to 1",
        "every column's place has a meaning",
        "were variables filtered, sorted or renamed?",
        place=None if place is None else str(place),
    )


def genetic_code_in(description: object) -> GeneticCode:
    """The genetic code that ``uns["kinmer"]`` tells; "auto" where it tells none."""
    try:
        layout = parse_json(str(description["layout"]))  # type: ignore[index]
        return Layout.from_dict(layout).genetic_code
    except (KinmerError, KeyError, TypeError, ValueError):
        return "auto"


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
