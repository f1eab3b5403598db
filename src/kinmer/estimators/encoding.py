"""`KinmerEncoder`: sequences in, embeddings out, as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin

from kinmer.box import BOXED
from kinmer.encoder import Encoder
from kinmer.estimators.rows import RowError, SettingError, check_rows, embed_rows, text_rows
from kinmer.estimators.saving import load_estimator, save_estimator

__all__ = ["KinmerEncoder", "check_counted"]


class KinmerEncoder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeds sequences with an encoder that is trained already; `fit` learns nothing.

    X is a collection of sequences, str or bytes: a list, a Series, or an array of shape (n,) or (n, 1).
    A sequence's vector does not depend on those it is embedded with.

    Parameters
    ----------
    encoder : folder of an encoder, name of one that comes with kinmer, an `Encoder`, or None: the newest
        that comes with kinmer.
    min_windows : a sequence with fewer whole k-mers (of the encoder's largest k) is refused.
    batch_size : sequences counted together; None: as many as some 50 MB of profiles.
    threads : for counting and embedding; None for all cores.
    device : where the network computes, such as "cpu" or "cuda".

    Attributes
    ----------
    encoder_ : the encoder, loaded and checked.

    Raises
    ------
    RowError (a ValueError) : a row that is no nucleotide sequence, named by its number from 0.
    SettingError (a ValueError) : a parameter that cannot be used.
    FormatError : a folder that holds no whole encoder.
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

        force : replace an estimator that was saved there. Raises UsageError where the output exists.
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
        # As CountVectorizer: numbers are no sequences.
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
