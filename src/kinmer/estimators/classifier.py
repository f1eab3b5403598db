"""`KinmerClassifier`: the label that the nearest kin of a sequence agree on, as a scikit-learn classifier."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data

from kinmer.encoder import Encoder
from kinmer.errors import FormatError, InputError
from kinmer.estimators.persistence import load_estimator, save_estimator
from kinmer.estimators.transformer import KinmerEncoder, RowError, SettingError, check_counted, text_rows
from kinmer.stores import VectorStore, check_vectors, distances_to, engine, exact_search, sort_hits
from kinmer.taxonomy import known_rows

# Up to this many vectors looking at all of them is faster than building a graph pays back.
MANY = 50_000
QUERY_BLOCK = 256
# Candidates for every group wanted, at first; four times as many where those are of too few groups.
PER_GROUP = 4

Rows = NDArray[np.int64]
Vectors = NDArray[np.float32]


class Neighbors:
    """Vectors (n, d) and the groups (n,) they belong to (None: each its own), searched by cosine distance.

    engine : "exact", "hnsw", or "auto": hnsw from `MANY` vectors on.
    """

    def __init__(self, vectors: Vectors, groups: Rows | None, engine: str, threads: int | None) -> None:
        if vectors.ndim != 2 or (groups is not None and groups.shape != vectors.shape[:1]):
            raise ValueError("vectors and groups do not fit")
        self.vectors, self.groups = vectors, groups
        self._engine, self._threads = engine, threads
        self._number = len(vectors) if groups is None else np.unique(groups).size
        self._store = self._build()

    def nearest(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        """Rows and distances (q, k) of the nearest, at most one a group, by distance and row.

        Where there are fewer: -1 and inf.
        """
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        few = min(k, self._number)
        for start in range(0, len(queries), QUERY_BLOCK):
            part = slice(start, start + QUERY_BLOCK)
            rows[part, :few], far[part, :few] = self._of_groups(queries[part], few)
        return rows, far

    def _of_groups(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        if self.groups is None:
            return self._ask(queries, k)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        left = np.arange(len(queries))
        wide = PER_GROUP * k
        while left.size:
            wide = min(wide, len(self.vectors))
            near_rows, away = self._ask(queries[left], wide)
            short = []
            for query, near, distances in zip(left.tolist(), near_rows, away, strict=True):
                # The first of every group is its nearest; np.unique says where it stands.
                firsts = np.sort(np.unique(self.groups[near], return_index=True)[1])[:k]
                if len(firsts) < k:
                    short.append(query)
                    continue
                rows[query], far[query] = near[firsts], distances[firsts]
            left = np.array(short, dtype=np.int64)
            wide *= 4
        return rows, far

    def _ask(self, queries: Vectors, k: int) -> tuple[Rows, Vectors]:
        store = self._store
        # A query without direction is at distance 1 from all: only looking at all gives their order.
        exact = ~queries.any(axis=1) if store is not None else np.ones(len(queries), dtype=bool)
        rows = np.full((len(queries), k), -1, dtype=np.int64)
        far = np.full((len(queries), k), np.inf, dtype=np.float32)
        if exact.any():
            rows[exact], far[exact] = exact_search(self.vectors, None, queries[exact], k, "cosine")
        if store is not None and not exact.all():
            asked = queries[~exact]
            labels, _ = store.search(asked, min(len(self.vectors), max(2 * k, k + 16)))
            near = self.vectors[labels.ravel()].reshape(*labels.shape, -1)
            rows[~exact], far[~exact] = sort_hits(labels, distances_to(asked, near, "cosine"), k)
        return rows, far

    def _build(self) -> VectorStore | None:
        if self._engine == "exact" or (self._engine == "auto" and len(self.vectors) < MANY):
            return None
        # The store mends its graph as it is written; searched, it stays in memory.
        with TemporaryDirectory(prefix="kinmer-") as folder:
            store = engine("hnsw").create(
                folder, dim=self.vectors.shape[1], metric="cosine", threads=self._threads
            )
            store.add(np.arange(len(self.vectors)), self.vectors)
            store.flush()
        return store

    def __getstate__(self) -> dict[str, Any]:
        """All but the graph, which is built again."""
        return {**self.__dict__, "_store": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._store = self._build()


ENGINES = ("auto", "exact", "hnsw")
EMBEDDING = ("encoder", "min_windows", "batch_size", "threads", "device")


class KinmerClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Labels by a weighted vote of the nearest sequences; cosine distance between embeddings.

    A neighbor at distance d has the weight exp(-(d - nearest) / temperature): softmax weights over the
    neighbors, as in neighborhood components analysis (Goldberger et al. 2005) with the distance unsquared.

    X is a collection of sequences (as for `KinmerEncoder`) or an array (n, d) of vectors that are made
    already, for example by a `KinmerEncoder` in front of this in a pipeline. Fitted on sequences it also
    predicts vectors of its encoder.

    Parameters
    ----------
    encoder, min_windows, batch_size, threads, device : str | Path | Encoder | None
        As of `KinmerEncoder`; only for sequences, `threads` for the engine, too.
    n_neighbors : int
        Neighbors that vote; groups where `fit` is given them. All where there are fewer.
    temperature : float
        Of the weights, in cosine distance.
    engine : str
        "exact" looks at every vector; "hnsw" asks a graph for candidates, whose distances are exact;
        "auto" is exact up to 50,000 vectors.

    Attributes
    ----------
    classes_ : NDArray[Any]
        (c,) the labels, sorted.
    vectors_ : (n, d) float32, of what it was fitted on.
    encoder_ : Encoder | None
        The encoder; None where it was fitted on vectors.
    n_features_in_, feature_names_in_ : of vectors; not there where it was fitted on sequences.

    Raises
    ------
    RowError, SettingError, FormatError : see `KinmerEncoder`.
    """

    classes_: NDArray[Any]
    encoder_: Encoder | None

    def __init__(
        self,
        encoder: str | Path | Encoder | None = None,
        *,
        n_neighbors: int = 10,
        temperature: float = 0.03,
        engine: str = "auto",
        min_windows: int = 1,
        batch_size: int | None = None,
        threads: int | None = None,
        device: str = "cpu",
    ) -> None:
        self.encoder = encoder
        self.n_neighbors = n_neighbors
        self.temperature = temperature
        self.engine = engine
        self.min_windows = min_windows
        self.batch_size = batch_size
        self.threads = threads
        self.device = device

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Keep the embeddings of X (n rows) with their labels y (n,).

        Parameters
        ----------
        y : Any
            Every row has a label; one such as ``NA`` is a class like any other, with a warning.
        groups : Any
            (n,) what belongs together, such as the pieces of a genome: each group votes once, with its
            nearest row.
        """
        self._check_settings()
        if y is None:
            raise RowError("KinmerClassifier requires y to be passed, but the target y is None")
        vectors, self.encoder_ = self._fitted_on(X)
        labels = self._labels(y)
        check_consistent_length(vectors, labels)
        self.classes_, targets = np.unique(labels, return_inverse=True)
        self._targets = targets.astype(np.int64)
        codes = None
        if groups is not None:
            check_consistent_length(vectors, groups)
            codes = np.unique(column_or_1d(groups), return_inverse=True)[1].astype(np.int64)
        self._neighbors = Neighbors(vectors, codes, self.engine, self.threads)
        return self

    def kneighbors(self, X: Any) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Distances and row numbers of the neighbors that vote on every row of X, both (q, n_neighbors).

        By distance, then row; inf and -1 where there are fewer neighbors.
        """
        rows, far = self._nearest(X)
        return far, rows

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Shares (q, c) of the votes for each of `classes_`; rows sum to 1. Not calibrated."""
        rows, far = self._nearest(X)
        nearest = far[:, :1].astype(np.float64)
        weights = np.exp(-(far.astype(np.float64) - nearest) / self.temperature)
        shares = np.zeros((len(rows), len(self.classes_)))
        query, place = np.nonzero(rows >= 0)
        np.add.at(shares, (query, self._targets[rows[query, place]]), weights[query, place])
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))

    def predict(self, X: Any) -> NDArray[Any]:
        """The labels (q,) with the most votes; the first of `classes_` among equals."""
        best = np.argmax(self.predict_proba(X), axis=1)
        return np.asarray(self.classes_[best])

    @property
    def vectors_(self) -> NDArray[np.float32]:
        """The vectors that vote, (n, d)."""
        return self._neighbors.vectors

    def save(self, folder: str | Path, *, force: bool = False) -> None:
        """Write all that was fitted to a new folder, whole or not at all, nothing pickled.

        Parameters
        ----------
        force : bool
            Replace an estimator that was saved there. Raises UsageError where the output exists,
        Notes
        -----
        SettingError for labels that are not text, whole numbers, floats or truth values.
        """
        check_is_fitted(self)
        kept = self._neighbors
        arrays: dict[str, NDArray[Any]] = {"vectors": kept.vectors, "targets": self._targets}
        if kept.groups is not None:
            arrays["groups"] = kept.groups
        state = {"classes": self.classes_.tolist(), "dtype": _label_type(self.classes_)}
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):
                state[name] = np.asarray(getattr(self, name)).tolist()
        save_estimator(self, folder, encoder=self.encoder_, state=state, arrays=arrays, force=force)

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """What `save` wrote, ``encoder`` being the folder in it; FormatError where that is damaged.

        A graph ("hnsw") is built again from the vectors.
        """
        made, state, arrays = load_estimator(cls, folder)
        try:
            made._restore(state, arrays)
        except (KeyError, TypeError, ValueError) as error:
            raise FormatError("the estimator is damaged", str(error), place=folder) from error
        return made

    def _restore(self, state: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
        self._check_settings()
        fitted_on_text = "n_features_in_" not in state
        self.encoder_ = self._embedder()._loaded() if fitted_on_text else None
        self.classes_ = np.array(state["classes"], dtype=state["dtype"])
        self._targets = arrays["targets"]
        self._neighbors = Neighbors(arrays["vectors"], arrays.get("groups"), self.engine, self.threads)
        if not fitted_on_text:
            self.n_features_in_ = state["n_features_in_"]
        if "feature_names_in_" in state:
            self.feature_names_in_ = np.array(state["feature_names_in_"], dtype=object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        return tags

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_neighbors")

    def _nearest(self, X: Any) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        check_is_fitted(self)
        self._check_settings()
        return self._neighbors.nearest(self._asked(X), int(self.n_neighbors))

    def _embedder(self, encoder: Encoder | None = None) -> KinmerEncoder:
        settings = {name: getattr(self, name) for name in EMBEDDING}
        return KinmerEncoder(**settings if encoder is None else {**settings, "encoder": encoder})

    def _fitted_on(self, X: Any) -> tuple[NDArray[np.float32], Encoder | None]:
        """The vectors of X, and the encoder that made them, if one did."""
        if text_rows(X) is None:
            table = validate_data(self, X, dtype=[np.float64, np.float32])
            return _as_vectors(table, table.shape[1]), None
        for name in ("n_features_in_", "feature_names_in_"):
            # What a fit on vectors has left behind.
            if hasattr(self, name):
                delattr(self, name)
        embedder = self._embedder().fit(X)
        return embedder.transform(X), embedder.encoder_

    def _asked(self, X: Any) -> NDArray[np.float32]:
        """The vectors of queries."""
        vectors = self.vectors_
        if text_rows(X) is None:
            if self.encoder_ is None:
                table = validate_data(self, X, dtype=[np.float64, np.float32], reset=False)
            else:
                table = check_array(X, dtype=[np.float64, np.float32], estimator=self, input_name="X")
            return _as_vectors(table, vectors.shape[1])
        if self.encoder_ is None:
            raise RowError(
                "X holds sequences", "the classifier was fitted on vectors", "embed them with KinmerEncoder"
            )
        made: NDArray[np.float32] = self._embedder(self.encoder_).transform(X)
        return made

    def _labels(self, y: Any) -> NDArray[Any]:
        labels: NDArray[Any] = column_or_1d(y, warn=True)
        assert_all_finite(labels, input_name="y")
        if labels.dtype.kind in "OUT":
            _check_texts(labels)
        check_classification_targets(labels)
        return labels

    def _check_settings(self) -> None:
        check_counted("n_neighbors", self.n_neighbors, none=False)
        warm = isinstance(self.temperature, int | float | np.number) and 0 < self.temperature < np.inf
        if not warm:
            raise SettingError(f"temperature must be a number above 0, not {self.temperature!r}")
        if self.engine not in ENGINES:
            raise SettingError(f"engine must be one of {', '.join(ENGINES)}, not {self.engine!r}")
        self._embedder()._check_settings()


def _check_texts(labels: NDArray[Any]) -> None:
    """RowError for a label that is None, NaN or empty, a warning for texts that stand for none.

    Such a text stays a class: ``none`` may well be one of resistances.
    """
    missing = np.flatnonzero(~known_rows("genome", labels))
    empty = [row for row in missing.tolist() if not isinstance(labels[row], str) or not labels[row].strip()]
    if empty:
        raise RowError(
            "it has no label", "y names the class of every row", "leave it out", place=f"row {empty[0]}"
        )
    if missing.size:
        example = f"{str(labels[missing[0]])!r} in row {missing[0]}"
        warnings.warn(
            f"{missing.size:,} labels, such as {example}, look like missing ones but are taken for a class;"
            " leave their rows out if they are",
            UserWarning,
            stacklevel=4,
        )


def _as_vectors(table: NDArray[Any], dim: int) -> NDArray[np.float32]:
    try:
        # What is too large for float32 becomes infinite, and is refused.
        with np.errstate(over="ignore"):
            return check_vectors(table, dim)
    except InputError as error:
        raise RowError(error.what, error.why, error.check, place=error.place) from error


def _label_type(classes: NDArray[Any]) -> str:
    """The NumPy type of labels that JSON can hold."""
    if classes.dtype.kind in "biufU":
        return str(classes.dtype)
    if classes.dtype.kind == "O" and all(isinstance(one, str) for one in classes):
        return "object"
    raise SettingError(
        f"labels of type {classes.dtype} cannot be saved",
        check="give text, whole numbers, floats or truth values",
    )
