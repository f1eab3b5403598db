"""`KinmerEncoder`: sequences in, embeddings out, as a scikit-learn transformer; rows of sequences checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from kinmer.box import BOXED
from kinmer.encoder import Encoder
from kinmer.errors import InputError, UsageError
from kinmer.estimators.persistence import load_estimator, save_estimator
from kinmer.kmers import MAX_LETTERS, KmerCounter
from kinmer.resources import available_cores, cpu_threads

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
    """RowError, with the number of the row (from 0), where a row is not text, or empty."""
    for number, row in enumerate(rows):
        if not _is_text(row):
            kind = "NaN" if isinstance(row, float) and row != row else f"of type {type(row).__name__}"
            raise RowError(f"it is {kind}, no sequence", "X has text in other rows", place=f"row {number}")
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

    Raises RowError, with the number of the row (from 0), for a row that is not a nucleotide sequence or
    has fewer than `min_windows` k-mers of the largest k without other letters than A, C, G and T.
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
        raise _bad_letter(row[error.start], error.start, number) from None
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
        raise _bad_letter(chr(letters[row][at]), at, first + row)
    layout = counter.layout
    windows = done.counts[:, layout.blocks[0].columns].sum(axis=1, dtype=np.int64)
    if (windows < min_windows).any():
        row = int(np.argmax(windows < min_windows))
        raise RowError(
            f"{windows[row]} {max(layout.ks)}-mers of A, C, G and T, at least {min_windows} are needed",
            "its profile would say nothing",
            "is it too short, or masked? Leave it out",
            place=f"row {first + row}",
        )
    return done.counts


def _bad_letter(letter: str, at: int, number: int) -> RowError:
    return RowError(
        f"{letter!r} at position {at + 1} is not a nucleotide code",
        "X holds DNA or RNA",
        "is it protein, or a name?",
        place=f"row {number}",
    )


class KinmerEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds sequences with an encoder that is trained already; `fit` learns nothing.

    X is a collection of sequences, str or bytes: a list, a Series, or an array of shape (n,) or (n, 1).
    A sequence's vector does not depend on those it is embedded with.

    Parameters
    ----------
    encoder : str | Path | Encoder | None
        Folder of an encoder, name of one that comes with kinmer, an `Encoder`, or None: the newest that
        comes with kinmer.
    min_windows : int
        A sequence with fewer whole k-mers (of the encoder's largest k) is refused.
    batch_size : int | None
        Sequences counted together; None: as many as some 50 MB of profiles.
    threads : int | None
        For counting and embedding; None for all cores.
    device : str
        Where the network computes, such as "cpu" or "cuda".

    Attributes
    ----------
    encoder_ : Encoder
        The encoder, loaded and checked.

    Raises
    ------
    RowError (a ValueError) : a row that is not a nucleotide sequence, named by its number from 0.
    SettingError (a ValueError) : a parameter that cannot be used.
    FormatError : a folder that holds no complete encoder.
    """

    encoder_: Encoder

    def __init__(
        self,
        encoder: str | Path | Encoder | None = None,
        *,
        min_windows: int = 1,
        batch_size: int | None = None,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.encoder = encoder
        self.min_windows = min_windows
        self.batch_size = batch_size
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check the parameters and that X holds sequences, and load the encoder; `y` is not looked at."""
        self._check_settings()
        check_rows(self._rows(X, reset=True))
        self.encoder_ = self._loaded()
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Embeddings (n, dim) float32 of n sequences; without `fit` it loads the encoder each time."""
        self._check_settings()
        rows = self._rows(X, reset=False)
        check_rows(rows)
        return embed_rows(
            rows,
            self._encoder(),
            min_windows=self.min_windows,
            batch_size=self.batch_size,
            threads=self.threads,
        )

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.object_]:
        """Names of the embedding's columns: kinmerencoder0, kinmerencoder1 and so on."""
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{number}" for number in range(self._encoder().dim)], dtype=object)

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write settings and encoder to a new folder, whole or not at all, nothing pickled.

        Parameters
        ----------
        force : bool
            Replace an estimator that was saved there. Raises UsageError where the output exists.
        """
        self._check_settings()
        save_estimator(self, folder, encoder=self._encoder(), force=force)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote, ``encoder`` being the folder in it; FormatError where that is damaged."""
        made, _, _ = load_estimator(cls, folder)
        made.encoder_ = made._loaded()
        return made

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = tags.input_tags.one_d_array = True
        # As CountVectorizer: numbers are not sequences.
        tags.input_tags.two_d_array = False
        tags.transformer_tags.preserves_dtype = []
        tags.requires_fit = False
        return tags

    def _rows(self, X: Any, *, reset: bool) -> Sequence[Any] | NDArray[Any]:
        rows = text_rows(X)
        if rows is None:
            raise RowError(
                "X holds no sequences",
                "KinmerEncoder takes nucleotide sequences as text",
                "give a list, a Series or one column of str or bytes",
            )
        return rows

    def _encoder(self) -> Encoder:
        return self.encoder_ if hasattr(self, "encoder_") else self._loaded()

    def _loaded(self) -> Encoder:
        if isinstance(self.encoder, Encoder):
            return self.encoder
        return Encoder.load(BOXED[0] if self.encoder is None else self.encoder, device=self.device)

    def _check_settings(self) -> None:
        if not (self.encoder is None or isinstance(self.encoder, str | Path | Encoder)):
            raise SettingError(f"encoder must be a folder, a name or an Encoder, not {self.encoder!r}")
        check_counted("min_windows", self.min_windows, none=False)
        check_counted("batch_size", self.batch_size)
        check_counted("threads", self.threads)


def check_counted(name: str, value: Any, *, none: bool = True) -> None:
    """SettingError unless the parameter is a whole number from 1 on, or None where that is allowed."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1
    if not (whole or (none and value is None)):
        raise SettingError(f"{name} must be a whole number from 1 on{' or None' * none}, not {value!r}")
