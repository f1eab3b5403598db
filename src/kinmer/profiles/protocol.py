"""What every table of profiles offers, and the rules that its rows and ids obey."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError, ProfileError
from kinmer.files import hash_ids
from kinmer.inputs import map_array, read_lines
from kinmer.layout import Layout, kmer_layout

if TYPE_CHECKING:
    pass


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
    rows: NDArray[Any], layout: Layout, values: Values, *, place: str | Path | None = None, first: int = 0
) -> None:
    """Refuse rows of another width, negative, not finite, too large, or frequencies that do not sum to 1.

    rows: (n, width). `first`: number of the first row in `place`, from 0, for the message (which counts
    from 1). Raises ProfileError.
    """
    if rows.ndim != 2 or rows.shape[1] != layout.width:
        raise ProfileError(
            f"profiles of shape {rows.shape} do not fit the layout's {layout.width} columns",
            check="which k were counted?",
            place=place,
        )
    if rows.dtype.kind not in ("ui" if values == "counts" else "f"):
        wanted = "counts are whole" if values == "counts" else "frequencies are floating point"
        raise ProfileError(f"{values} of type {rows.dtype}", f"{wanted} numbers", place=place)
    if not rows.size:
        return

    def refuse(bad: Any, what: str, why: str = "") -> None:
        if bad.any():
            raise ProfileError(what, why, place=_row_of(place, first + int(np.argmax(bad))))

    if values == "counts":
        if rows.dtype.kind == "i" and rows.min() < 0:
            refuse((rows < 0).any(1), "a negative count")
        most = np.iinfo(np.uint32).max
        if rows.dtype.itemsize > 4 and rows.max() > most:
            refuse((rows > most).any(1), f"a count above {most:,}", "the store keeps 32 bits")
        return
    if not np.isfinite(rows.min() + rows.max()):
        refuse(~np.isfinite(rows).all(1), "a value that is not a finite number (NaN or infinite)")
    if rows.min() < 0:
        refuse((rows < 0).any(1), "a negative frequency")
    for block in layout.blocks:
        sums = rows[:, block.columns].sum(axis=1, dtype=np.float64)
        # float32 tables written by others are off by up to about 1e-4 after rounding or float16 storage.
        bad = (np.abs(sums - 1) > 2e-3) & (sums != 0)
        if bad.any():
            what = f"the {block.name} frequencies sum to {float(sums[int(np.argmax(bad))]):.4g}, not to 1"
            refuse(bad, what, "are the columns in order?")


def _row_of(place: object, row: int, unit: str = "row", first: int = 1) -> str:
    """Where a row (from 0) of `place` is, for an error; rows or lines are counted from `first`."""
    return f"{'' if place is None else f'{place}, '}{unit} {row + first}"


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
            place=_row_of(place, first + int(np.argmax(bad.any(1)))),
        )
    return rows.astype(np.int64)


def gc_of(rows: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    """GC share of the counted letters, (n,), from the canonical 1-mers (C is C and G); NaN where none was."""
    letters = rows[:, layout.bases.columns].astype(np.float64)
    total = letters.sum(axis=1)
    share = np.full(len(rows), np.nan)
    np.divide(letters[:, 1], total, out=share, where=total > 0)
    return share


# Bytes of an id.
LONGEST_ID = 1 << 16


def hash_texts(texts: NDArray[np.object_]) -> NDArray[np.uint64]:
    """64-bit hashes (SipHash) of texts: equal texts have equal ones, unequal texts almost never."""
    try:
        return np.asarray(pd.util.hash_array(texts, categorize=False), dtype=np.uint64)
    except UnicodeEncodeError:  # Broken Unicode; `check_ids` says so, this only must not stumble over it.
        escaped = np.array([text.encode(errors="backslashreplace").decode() for text in texts], dtype=object)
        return np.asarray(pd.util.hash_array(escaped, categorize=False), dtype=np.uint64)


def check_ids(
    ids: Sequence[str] | NDArray[Any], *, place: object = None, first_line: int | None = None
) -> NDArray[np.uint64]:
    """Refuse ids that are empty, hold a tab, line break or broken Unicode, or occur twice (ProfileError).

    `first_line`: number of the line in `place` where the first id stands, for the message. Gives what
    `hash_texts` gives of them.
    """
    texts = np.asarray(ids, dtype=object)
    if all(map(_clean, ids)):
        hashes = hash_texts(texts)
        ordered = np.sort(hashes)
        if not (ordered[1:] == ordered[:-1]).any():
            return hashes
    seen: dict[str, int] = {}
    unit, first = ("row", 1) if first_line is None else ("line", first_line)
    for number, name in enumerate(ids):
        if not _clean(name):
            raise ProfileError(
                f"the id {name!r} cannot be used",
                "an id is text without tabs and line breaks, and not empty",
                place=_row_of(place, number, unit, first),
            )
        if name in seen:
            raise ProfileError(
                f"the id {name!r} occurs twice (first in {_row_of(None, seen[name], unit, first)})",
                "ids must be unique, or hits could not be told apart",
                place=_row_of(place, number, unit, first),
            )
        seen[name] = number
    return hash_texts(texts)


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


def _clean(name: object) -> bool:
    if not isinstance(name, str) or not name:
        return False
    if name.isascii():
        return name.isprintable()
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return not any(letter in name for letter in "\t\n\r\v\f\x00\x1c\x1d\x1e\x85\u2028\u2029")


class SeenIds:
    """Ids so far as sorted 64-bit hashes: 8 bytes an id, where a set of text takes more than 100."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def add(self, hashes: NDArray[np.uint64]) -> None:
        run = np.sort(hashes)
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        self._runs.append(run)

    def suspects(self, hashes: NDArray[np.uint64]) -> NDArray[np.intp]:
        """Positions of the hashes that were added before, or occur here for the second time."""
        # In order: places found in a long run are then read one behind the other.
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        known = self.known(ordered)
        known[1:] |= ordered[1:] == ordered[:-1]
        return np.sort(order[known])

    def known(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        known = np.zeros(len(hashes), dtype=bool)
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            known |= run[at] == hashes
        return known


# Columns of the two tables: the sequence length or a row index come first.
LENGTH_COLUMN, ROW_COLUMN = 2773, 10965
CHECK_BYTES = 32 << 20


class NpyProfiles:
    """A table of 2,773 columns (sequence length, 6- to 1-mers) or 10,965 (row index, 7- to 1-mers).

    Values are frequencies, float32. Ids stand one a line in `ids`, in the order of the rows; without it in a
    file beside the table: same stem and ``.txt``, ``.ids``, ``.ids.txt`` or ``_ids.txt``. Every value is
    checked at birth, in blocks; the table is never loaded as a whole.

    Raises ProfileError: no such file, no ``.npy`` table, wrong columns or type, ids missing, too few, too
    many or twice, and (with the row, counted from 1) values that are not frequencies.
    """

    values: Values = "frequencies"
    chunk_rows = 512

    def __init__(self, path: str | Path, ids: str | Path | None = None) -> None:
        self.path = Path(path)
        self._table = _map_table(self.path)
        self.has_lengths = self._table.shape[1] == LENGTH_COLUMN
        self.layout: Layout = kmer_layout(6 if self.has_lengths else 7)
        self.ids_path = _find_ids(self.path) if ids is None else Path(ids)
        self.ids: NDArray[np.object_] = read_ids(self.ids_path, len(self), self.path.name)
        self._gc = np.empty(len(self))
        rows = max(1, CHECK_BYTES // (4 * self._table.shape[1]))
        for start in range(0, len(self), rows):
            block = np.asarray(self._table[start : start + rows])
            profiles = block[:, 1:]
            check_rows(profiles, self.layout, self.values, place=self.path, first=start)
            if self.has_lengths:
                self._check_lengths(block[:, 0], start)
            self._gc[start : start + rows] = gc_of(profiles, self.layout)

    def __len__(self) -> int:
        return int(self._table.shape[0])

    def __repr__(self) -> str:
        return f"NpyProfiles({str(self.path)!r}: {len(self)} × {self.layout.width} frequencies)"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        return hash_ids(self.ids)

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Index = ids; ``length`` (int64; only where the table has it), ``gc``, ``source``.

        Lengths above 16,777,216 are as exact as float32 holds them.
        """
        columns: dict[str, Any] = {}
        if self.has_lengths:
            columns["length"] = np.asarray(self._table[:, 0]).astype(np.int64)
        columns["gc"] = self._gc
        columns["source"] = pd.Categorical([self.path.name] * len(self))
        return pd.DataFrame(columns, index=pd.Index(self.ids))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop, (stop - start, width)."""
        return np.array(self._table[start:stop, 1:], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Any rows in any order, (len(rows), width)."""
        return np.array(self._table[np.asarray(rows, dtype=np.int64), 1:], dtype=np.float32)

    def _check_lengths(self, lengths: NDArray[Any], first: int) -> None:
        bad = ~(np.isfinite(lengths) & (lengths >= 1) & (lengths == np.rint(lengths)))
        if bad.any():
            row = int(np.argmax(bad))
            raise ProfileError(
                f"column 0 holds {lengths[row]}, which is not a sequence length",
                f"a table of {LENGTH_COLUMN:,} columns has the length of the sequence there",
                place=f"{self.path}, row {first + row + 1}",
            )


def _map_table(path: Path) -> NDArray[Any]:
    table = map_array(path)
    if table.ndim != 2:
        raise ProfileError("this is not a table of rows and columns", place=path)
    if table.shape[1] not in (LENGTH_COLUMN, ROW_COLUMN):
        raise ProfileError(
            f"the table has {table.shape[1]:,} columns",
            f"not {LENGTH_COLUMN:,} (length, 6- to 1-mers) or {ROW_COLUMN:,} (row index, 7- to 1-mers)",
            place=path,
        )
    if table.dtype.kind != "f":
        raise ProfileError(f"the table holds {table.dtype}", "frequencies are floats", place=path)
    if not len(table):
        raise ProfileError("the table has no rows", place=path)
    return table


def _find_ids(path: Path) -> Path:
    names = [path.stem + ending for ending in (".txt", ".ids", ".ids.txt", "_ids.txt")]
    for name in names:
        if path.with_name(name).is_file():
            return path.with_name(name)
    raise ProfileError(
        "no file of ids is beside the table",
        "the rows have no names without it",
        f"give it with --ids, or name it one of {', '.join(names)}",
        place=path,
    )
