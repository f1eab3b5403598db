"""What users give for X, as rows of sequences, and their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.encoder import Encoder
from kinmer.errors import InputError, UsageError
from kinmer.kmers import MAX_LETTERS, KmerCounter
from kinmer.resources import available_cores, cpu_threads

__all__ = ["RowError", "SettingError", "check_rows", "embed_rows", "text_rows"]

# Held at a time beside what the user holds: profiles of 48 MB and letters of 64 MB, or one row.
PROFILE_BYTES, LETTER_BYTES = 48 << 20, 64 << 20


class RowError(InputError, ValueError):
    """X or y that cannot be used; a ValueError too, because scikit-learn's users catch those."""


class SettingError(UsageError, ValueError):
    """A parameter of an estimator that cannot be used."""


def text_rows(X: Any) -> Sequence[Any] | NDArray[Any] | None:
    """The rows of X, (n,) or (n, 1), where some of them are text; None where X holds no text.

    Raises RowError for a single text and for text in several columns.
    """
    if isinstance(X, str | bytes | bytearray):
        raise RowError(
            "X is one text", "it should be a collection of sequences, a row each", "put it in a list"
        )
    if X is None or hasattr(X, "tocsr"):
        return None
    if isinstance(X, list | tuple) and not any(isinstance(one, list | tuple | np.ndarray) for one in X):
        return X if any(_is_text(one) for one in X) else None
    table = np.asarray(X)
    if not (table.dtype.kind in "USTO" and any(_is_text(one) for one in table.flat)):
        return None
    if table.ndim == 2 and table.shape[1] == 1:
        table = table[:, 0]
    if table.ndim != 1:
        raise RowError(
            f"X has the shape {table.shape}", "sequences are one column", "is a column of X meant?"
        )
    return table


def check_rows(rows: Sequence[Any] | NDArray[Any]) -> None:
    """RowError, with the number of the row (from 0), where a row is no text or empty."""
    for number, row in enumerate(rows):
        if not _is_text(row):
            told = "NaN" if isinstance(row, float) and row != row else f"of type {type(row).__name__}"
            raise RowError(f"it is {told}, no sequence", "X has text in other rows", place=f"row {number}")
        if not len(row):
            raise RowError("the sequence is empty", "it has no profile", place=f"row {number}")


def embed_rows(
    rows: Sequence[Any] | NDArray[Any],
    encoder: Encoder,
    *,
    min_windows: int = 1,
    batch_size: int | None = None,
    threads: int | None = None,
) -> NDArray[np.float32]:
    """The vectors of sequences (n,): (n, dim) float32, the same whatever `batch_size` and `threads` are.

    Raises RowError, with the number of the row (from 0), for one that is no nucleotide sequence or has fewer
    than `min_windows` k-mers of the largest k without other letters than A, C, G and T.
    """
    vectors = np.empty((len(rows), encoder.dim), dtype=np.float32)
    counter = KmerCounter(encoder.layout, threads or available_cores())
    most = batch_size or max(1, PROFILE_BYTES // (4 * encoder.layout.width))
    with cpu_threads(threads):
        for first, letters in _batches(rows, most):
            counts = _counted(counter, letters, first, min_windows)
            vectors[first : first + len(letters)] = encoder.embed(counts)
    return vectors


def _is_text(row: Any) -> bool:
    return isinstance(row, str | bytes | bytearray)


def _batches(rows: Sequence[Any] | NDArray[Any], most: int) -> Iterator[tuple[int, list[bytes]]]:
    """Number of the first row and the letters of some rows together."""
    first, held, letters = 0, 0, list[bytes]()
    for number, row in enumerate(rows):
        one = _letters(row, number)
        if letters and (len(letters) == most or held + len(one) > LETTER_BYTES):
            yield first, letters
            first, held, letters = number, 0, []
        letters.append(one)
        held += len(one)
    if letters:
        yield first, letters


def _letters(row: Any, number: int) -> bytes:
    try:
        letters = row.encode("ascii") if isinstance(row, str) else bytes(row)
    except UnicodeEncodeError as error:
        raise _no_letter(row[error.start], error.start, number) from None
    if len(letters) > MAX_LETTERS:
        raise RowError(
            f"{len(letters):,} letters", f"counts are exact up to {MAX_LETTERS:,}", place=f"row {number}"
        )
    return letters


def _counted(counter: KmerCounter, letters: list[bytes], first: int, min_windows: int) -> NDArray[np.uint32]:
    done = counter.count_sequences(letters)
    if (done.invalid >= 0).any():
        row = int(np.argmax(done.invalid >= 0))
        at = int(done.invalid[row])
        raise _no_letter(chr(letters[row][at]), at, first + row)
    layout = counter.layout
    windows = done.counts[:, layout.blocks[0].columns].sum(axis=1, dtype=np.int64)
    if (windows < min_windows).any():
        row = int(np.argmax(windows < min_windows))
        raise RowError(
            f"{windows[row]} {max(layout.ks)}-mers of A, C, G and T, at least {min_windows} are needed",
            "its profile would tell nothing",
            "is it too short, or masked? Leave it out",
            place=f"row {first + row}",
        )
    return done.counts


def _no_letter(letter: str, at: int, number: int) -> RowError:
    return RowError(
        f"{letter!r} at position {at + 1} is not a nucleotide code",
        "X holds DNA or RNA",
        "is it protein, or a name?",
        place=f"row {number}",
    )
