"""Queries, their database and the vectors of both: one trial for every benchmark."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.counting import count_batches
from kinmer.embedding import KEY
from kinmer.encoder import Encoder
from kinmer.errors import InputError, MismatchError, ProfileError, UsageError
from kinmer.evaluate.measures import DEPTH, Found, barred_pairs, label_table
from kinmer.evaluate.neighbours import Metric, nearest
from kinmer.fasta import read_blocks
from kinmer.fragments import open_benchmark
from kinmer.inputs import map_array
from kinmer.layout import Layout, check_layout, kmer_layout
from kinmer.profiles import Profiles, StoredProfiles, open_profiles
from kinmer.profiles.protocol import read_ids
from kinmer.progress import step

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = [
    "RAW",
    "Embedder",
    "Encoders",
    "FastaSource",
    "Pool",
    "RowVectors",
    "Source",
    "Trial",
    "benchmark_trials",
    "encoders_of",
    "open_source",
    "search_trial",
    "vector_trial",
]


class RowVectors:
    """Vectors of rows of `profiles`: ``obsm[key]`` of a store or an AnnData (`source`), else the encoder's.

    Raises InputError where there are no such embeddings and no encoder to make them.
    """

    def __init__(
        self, source: str | AnnData | Any, profiles: Profiles, key: str, encoder: Encoder | None
    ) -> None:
        self._profiles, self._key, self._encoder = profiles, key, encoder
        self._store = (
            profiles if isinstance(profiles, StoredProfiles) and key in profiles.obsm_keys() else None
        )
        kept = getattr(source, "obsm", {})
        self._kept = np.asarray(kept[key]) if key in kept else None
        if self._store is None and self._kept is None and encoder is None:
            raise InputError(
                f"there is no {key} beside the profiles", check="run kinmer embed first, or give an encoder"
            )

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """(len(rows), d) float32 of ascending `rows`; ProfileError where a vector holds no number."""
        edges = np.flatnonzero(np.diff(rows // BLOCK_ROWS, prepend=-1))
        parts = []
        with step("reading embeddings", rows.size) as progress:
            for part in np.split(rows, edges[1:]):
                parts.append(np.asarray(self._block(part), np.float32))
                progress.advance(part.size)
        vectors = np.concatenate(parts)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = self._profiles.ids[rows[int(np.argmin(finite))]]
            raise ProfileError(f"the embedding of {name!r} holds NaN or infinity", check="embed again")
        return vectors

    def _block(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        if self._kept is not None:
            return np.asarray(self._kept[rows])
        if self._store is not None:
            first = int(rows[0])
            return self._store.read_obsm(self._key, first, int(rows[-1]) + 1)[rows - first]
        assert self._encoder is not None
        return self._encoder.embed(self._profiles.take(rows), self._profiles.values)


Rows = NDArray[np.int64]
BLOCK_ROWS = 4096
FOLD = "{fold}"


class Embedder(Protocol):
    """What turns profiles of its layout into vectors: an encoder, or a transform alone."""

    @property
    def layout(self) -> Layout: ...

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class RawProfiles:
    """The transform alone: what an encoder has to be better than."""

    clr: Clr
    layout: Layout

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> NDArray[np.float32]:
        """(n, layout.width) float32."""
        return np.asarray(self.clr(profiles, self.layout, values), np.float32)


# Names that stand for a transform of 6- to 1-mers: a CLR per k, and the reference system's.
RAW = {"raw": Clr(), "raw-joint": REFERENCE_CLR}


@dataclass(frozen=True)
class Encoders:
    """An encoder, one for every fold (then `origin` has ``{fold}`` in it), or None: vectors as they are."""

    name: str
    origin: str | Path | Encoder | None
    device: str = "auto"

    @property
    def by_fold(self) -> bool:
        return isinstance(self.origin, str | Path) and FOLD in str(self.origin)

    def of(self, fold: str = "") -> Embedder | None:
        """The encoder of a fold, or the one there is; raises what `Encoder.load` raises."""
        if self.origin is None or isinstance(self.origin, Encoder):
            return self.origin
        if str(self.origin) in RAW:
            return RawProfiles(RAW[str(self.origin)], kmer_layout())
        return Encoder.load(str(self.origin).replace(FOLD, fold), device=self.device)


def encoders_of(
    given: Sequence[str | Path | Encoder] | Mapping[str, str | Path | Encoder], device: str
) -> list[Encoders]:
    """Encoders by name: a mapping's keys, else the folders as given; none: the vectors that are there.

    Raises UsageError for one name twice.
    """
    if isinstance(given, Mapping):
        found = [Encoders(name, origin, device) for name, origin in given.items()]
    else:
        found = [
            Encoders(origin.fingerprint[:12] if isinstance(origin, Encoder) else str(origin), origin, device)
            for origin in given
        ]
    if not found:
        return [Encoders("vectors", None)]
    names = [one.name for one in found]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"the encoder {name} is given twice", check="give each once")
    return found


class Source(Protocol):
    """n sequences that vectors can be had of."""

    @property
    def ids(self) -> Sequence[str]: ...

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder` (None: those that are there) of ascending `rows` (None: of all)."""
        ...

    def close(self) -> None:
        """Give back what is held."""
        ...


class FastaSource:
    """Sequences of a FASTA file, counted into a temporary file once for every layout."""

    def __init__(self, path: str | Path, *, threads: int | None = None) -> None:
        self._path, self._threads = path, threads
        self.ids: Sequence[str] = _fasta_ids(path)
        self._counts: dict[str, NDArray[np.uint32]] = {}

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder`."""
        if encoder is None:
            raise UsageError("sequences have no vectors yet", check="give an encoder", place=self._path)
        counts = self._counted(encoder.layout)
        chosen = np.arange(len(counts)) if rows is None else rows
        return np.concatenate([encoder.embed(counts[part]) for part in _blocks(chosen)])

    def _counted(self, layout: Layout) -> NDArray[np.uint32]:
        """(n, width) counts, mapped from a file without a name."""
        if layout.fingerprint not in self._counts:
            with tempfile.TemporaryFile() as file:
                table = np.memmap(file, np.uint32, "w+", shape=(len(self.ids), layout.width))
            at = 0
            for batch in count_batches([self._path], layout, threads=self._threads):
                table[at : at + len(batch.ids)] = batch.counts
                at += len(batch.ids)
            self._counts[layout.fingerprint] = table
        return self._counts[layout.fingerprint]

    def close(self) -> None:
        self._counts.clear()


class ProfileSource:
    """Rows of a profile store or an AnnData, with the vectors beside them or an encoder's."""

    def __init__(self, source: Any, profiles: Profiles) -> None:
        self._source, self._profiles = source, profiles
        self.ids: Sequence[str] = [str(one) for one in profiles.ids]

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) vectors by `encoder`, or those in ``obsm["X_kinmer"]``."""
        chosen = np.arange(len(self.ids)) if rows is None else rows
        if encoder is None:
            return RowVectors(self._source, self._profiles, KEY, None).take(chosen)
        place = self._source if isinstance(self._source, str | Path) else None
        check_layout(encoder.layout, self._profiles.layout, place=place)
        parts = (self._profiles.take(part) for part in _blocks(chosen))
        return np.concatenate([encoder.embed(part, self._profiles.values) for part in parts])

    def close(self) -> None:
        pass


class VectorSource:
    """Vectors made elsewhere: a matrix in an ``.npy`` file and its ids in the ``.txt`` beside it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._vectors = map_array(path)
        if self._vectors.ndim != 2 or self._vectors.dtype.kind != "f":
            raise ProfileError(
                f"the vectors are {self._vectors.shape} {self._vectors.dtype}",
                "there is one row of floating point numbers for every id",
                place=path,
            )
        self.ids: Sequence[str] = read_ids(path.with_suffix(".txt"), len(self._vectors), path.name).tolist()

    def vectors(self, encoder: Embedder | None, rows: Rows | None = None) -> NDArray[np.float32]:
        """(m, d) the vectors as they are."""
        if encoder is not None:
            raise UsageError(
                "vectors cannot be embedded again", check="leave out the encoder", place=self._path
            )
        chosen = np.arange(len(self.ids)) if rows is None else rows
        vectors = np.asarray(self._vectors[chosen], np.float32)
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            name = self.ids[int(chosen[np.argmin(finite)])]
            raise ProfileError(f"the vector of {name!r} holds NaN or infinity", place=self._path)
        return vectors

    def close(self) -> None:
        pass


def open_source(source: Any, *, threads: int | None = None) -> Source:
    """Vectors (``.npy``), profiles (a store's folder, an AnnData, Profiles) or a FASTA file."""
    if not isinstance(source, str | Path):
        return ProfileSource(source, open_profiles(source))
    path = Path(source)
    if path.suffix == ".npy":
        return VectorSource(path)
    if path.is_dir():
        return ProfileSource(source, open_profiles(source))
    return FastaSource(source, threads=threads)


def _fasta_ids(path: str | Path) -> list[str]:
    ids: list[str] = []
    for block in read_blocks(path):
        ids += block.ids[int(block.continues) :]
    return ids


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[at : at + BLOCK_ROWS] for at in range(0, rows.size, BLOCK_ROWS)]


@dataclass(frozen=True)
class Trial:
    """One database, its queries (None: every entry is asked about the others), and their labels."""

    database: Source
    queries: Source | None
    database_table: pd.DataFrame
    query_table: pd.DataFrame
    barred: tuple[NDArray[np.int64], NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        database: Source,
        queries: Source | None,
        database_labels: str | Path | None,
        query_labels: str | Path | None,
    ) -> Trial:
        """With the labels read; InputError where there is nothing to ask or to find."""
        base = label_table(database.ids, database_labels)
        asked = base.copy() if queries is None else label_table(queries.ids, query_labels)
        if len(base) < 1 + (queries is None) or not len(asked):
            raise InputError("there is nothing to find", check="give at least a query and another sequence")
        return cls(database, queries, base, asked, barred_pairs(asked, base))

    def close(self) -> None:
        """Give back what the sources hold."""
        self.database.close()
        if self.queries is not None:
            self.queries.close()


def benchmark_trials(folders: Sequence[str | Path], threads: int | None) -> list[Trial]:
    """A trial for every benchmark's folder; raises what `open_benchmark` raises."""
    trials = []
    for folder in folders:
        found = open_benchmark(folder)
        database, queries = (FastaSource(path, threads=threads) for path in (found.database, found.queries))
        trials.append(Trial.of(database, queries, found.database_labels, found.query_labels))
    return trials


def vector_trial(
    database: Any,
    queries: Any,
    database_labels: str | Path | None,
    query_labels: str | Path | None,
    threads: int | None,
) -> Trial:
    """A trial of two sources, or of one (`queries` None) whose sequences are asked about each other."""
    if database is None or database_labels is None:
        raise UsageError(
            "there is nothing to evaluate", check="give a benchmark, or a database and its labels"
        )
    if (queries is None) != (query_labels is None):
        raise UsageError("queries and their labels belong together", check="give both, or neither")
    asked = None if queries is None else open_source(queries, threads=threads)
    return Trial.of(open_source(database, threads=threads), asked, database_labels, query_labels)


class Pool:
    """All trials' queries and entries, one trial behind the other.

    queries, database : tables with a column ``set``, the trial's number. barred : pairs of places in them.
    first_query, first_entry : where each trial begins.
    """

    def __init__(self, trials: Sequence[Trial]) -> None:
        self.trials = trials
        self.queries = _stacked([one.query_table for one in trials])
        self.database = _stacked([one.database_table for one in trials])
        self.first_query = np.cumsum([0, *(len(one.query_table) for one in trials)])
        self.first_entry = np.cumsum([0, *(len(one.database_table) for one in trials)])
        self.barred = (
            np.concatenate([one.barred[0] + self.first_query[at] for at, one in enumerate(trials)]),
            np.concatenate([one.barred[1] + self.first_entry[at] for at, one in enumerate(trials)]),
        )

    def subsamples(self, fractions: Sequence[float], draws: int, seed: int) -> NDArray[np.bool_]:
        """(fractions × draws, n) entries of random genomes, so many of every trial's, at least one."""
        random = np.random.default_rng(seed)
        inside = np.zeros((len(fractions) * draws, len(self.database)), bool)
        for row, fraction in enumerate(np.repeat(fractions, draws)):
            for at, trial in enumerate(self.trials):
                codes, names = pd.factorize(trial.database_table["genome_id"], sort=True)
                number = max(1, round(fraction * len(names)))
                chosen = random.choice(len(names), number, replace=False)
                inside[row, self.first_entry[at] : self.first_entry[at + 1]] = np.isin(codes, chosen)
        return inside


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(set=at) for at, table in enumerate(tables)]
    return pd.concat(numbered, ignore_index=True).fillna("")


# Cosine distance behind the nearest at which a vote's weight falls to 1/e.
WEIGHT_SCALE = 0.03

Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def search_trial(
    pool: Pool, at: int, encoders: Encoders, inside: NDArray[np.bool_], metric: Metric
) -> list[Found]:
    """Neighbours of the queries of trial `at`: at once, or fold by fold, by the encoder of each.

    inside : (draws, n) subsamples of the pool's entries.
    """
    trial = pool.trials[at]
    found = []
    for fold, members in _folds(trial, encoders):
        embedder = encoders.of(fold)
        vectors = trial.database.vectors(embedder)
        asking = _asking(trial, embedder, vectors, members)
        if asking.shape[1] != vectors.shape[1]:
            raise MismatchError(f"queries of {asking.shape[1]} dimensions, entries of {vectors.shape[1]}")
        part = _search(
            asking,
            vectors,
            _among(trial.barred, members),
            inside[:, pool.first_entry[at] : pool.first_entry[at + 1]],
            metric,
        )
        rows = np.where(part.rows >= 0, part.rows + pool.first_entry[at], -1)
        drawn = np.where(part.nearest_in >= 0, part.nearest_in + pool.first_entry[at], -1)
        found.append(Found(members + pool.first_query[at], rows, part.weights, drawn))
    return found


def _folds(trial: Trial, encoders: Encoders) -> list[tuple[str, NDArray[np.int64]]]:
    """Folds and their queries; one without a name where one encoder does for all."""
    everyone = np.arange(len(trial.query_table))
    if not encoders.by_fold:
        return [("", everyone)]
    folds = trial.query_table.get("fold")
    if folds is None or (folds == "").any():
        raise InputError(
            "queries without a fold",
            f"{encoders.name} is an encoder for every fold",
            "have the query labels a column fold?",
        )
    return [(str(name), everyone[folds == name]) for name in sorted(folds.unique())]


def _asking(
    trial: Trial, embedder: Embedder | None, vectors: NDArray[np.float32], members: NDArray[np.int64]
) -> NDArray[np.float32]:
    return vectors[members] if trial.queries is None else trial.queries.vectors(embedder, members)


def _among(barred: Pairs, queries: NDArray[np.int64]) -> Pairs:
    """The pairs of some queries (ascending), which are counted from 0."""
    kept = np.isin(barred[0], queries)
    return np.searchsorted(queries, barred[0][kept]), barred[1][kept]


def _search(
    asking: NDArray[np.float32],
    vectors: NDArray[np.float32],
    barred: Pairs,
    inside: NDArray[np.bool_],
    metric: Metric,
) -> Found:
    """All places count from 0 in what is given."""
    everyone, entries = np.arange(len(asking)), np.arange(len(vectors))
    # No query is a row of the pool: what it may not meet is in `barred`.
    outside = np.full(len(asking), -1)
    rows, distances = nearest(asking, vectors, outside, entries, DEPTH, metric, barred=barred)
    drawn = np.empty((len(inside), len(asking)), np.int64)
    for number, mask in enumerate(inside):
        seen = (rows >= 0) & mask[rows]
        drawn[number] = rows[everyone, seen.argmax(axis=1)]
        # None of the first neighbours is in the subsample: it has to be searched.
        left = np.flatnonzero(~seen.any(axis=1))
        if left.size:
            some = entries[mask]
            places, _ = nearest(
                asking[left], vectors[mask], outside[left], some, 1, metric, barred=_among(barred, left)
            )
            drawn[number, left] = np.where(places[:, 0] >= 0, some[places[:, 0]], -1)
    return Found(everyone, rows, _vote_weights(asking, distances, metric), drawn)


def _vote_weights(
    asking: NDArray[np.float32], distances: NDArray[np.float64], metric: Metric
) -> NDArray[np.float64]:
    """(m, k) weights exp(-(d - nearest) / 0.03); an l2 distance stands for the cosine one it would be."""
    far = distances
    if metric == "l2":
        square = 2 * (asking.astype(np.float64) ** 2).sum(axis=1, keepdims=True)
        far = np.divide(distances**2, square, out=np.zeros_like(distances), where=square > 0)
    first = np.where(np.isfinite(far[:, :1]), far[:, :1], 0)
    return np.asarray(np.exp(-(far - first) / WEIGHT_SCALE))
