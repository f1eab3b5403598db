"""Places new sequences on a map, which stays as it is."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.embedding import KEY
from kinmer.errors import InputError, MismatchError, UsageError, require
from kinmer.library import open_labeled
from kinmer.maps.affinity import calibrate, straight
from kinmer.maps.descent import FAST_ABOVE
from kinmer.maps.mapfiles import (
    KEYS,
    MapResult,
    More,
    check_outputs,
    check_stored,
    open_map,
    save_map,
)
from kinmer.maps.projection import cores_for, fingerprint_of, source_record
from kinmer.progress import step
from kinmer.stores import engine, exact_search
from kinmer.vectors import Vectors
from kinmer.vectors.knn import EXACT_BELOW
from kinmer.vectors.points import RAW

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.library import KinIndex
    from kinmer.profiles import Profiles

# openTSNE's settings for new points: they see few neighbors, and move towards them in small steps.
PERPLEXITY, MEDIAN_OF, ITERATIONS = 5.0, 25, 250
DESCENT = {
    "learning_rate": 0.1,
    "exaggeration": 1.5,
    "momentum": 0.8,
    "max_grad_norm": 0.25,
    "max_step_norm": None,
}
# New points do not see each other, so any number of them can be placed at a time.
BLOCK = 1 << 16
# For up to so many queries, comparing with every vector takes less time than building a graph.
FEW_QUERIES = 20_000
Nearest = Callable[[NDArray[np.float32]], tuple[NDArray[Any], NDArray[np.float32]]]


def place(
    source: str | Path | AnnData | Profiles | KinIndex | Vectors,
    into: str | Path | MapResult,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    reference: str | Path | AnnData | Profiles | KinIndex | Vectors | None = None,
    metadata: str | Path | None = None,
    threads: int | None = None,
    output: str | Path | None = None,
    keep: bool = True,
    force: bool = False,
    more: More | None = None,
) -> MapResult:
    """Coordinates of new sequences on a t-SNE map; those of the map stay where they are.

    Every point starts at the median of its 25 nearest on the map and is moved by openTSNE's partial
    optimization towards its 15 nearest, at perplexity 5 (Poličar et al. 2023). New points do not see each
    other, so the position of one does not depend on what else is placed.

    Parameters
    ----------
    source, vectors, ids, metadata, threads, output, keep, force, more
        As of `make_map`.
    into : str | Path | MapResult
        A map, or one of its files, or its stem.
    reference : str | Path | AnnData | Profiles | KinIndex | Vectors | None
        The map's own vectors; None: at the location that the map recorded.

    Raises
    ------
    MismatchError : vectors of another encoder or width, or a reference that has changed since.
    UsageError : a map that is not a t-SNE, and what `make_map` raises.
    """
    require("openTSNE", "maps need it", "explore")
    stem = check_outputs(output, force=force)
    known = into if isinstance(into, MapResult) else open_map(into)
    if known.method != "tsne":
        raise UsageError("sequences can be placed into a map by t-SNE only", f"this one is by {known.method}")
    old = _reference_of(known, reference)
    new = open_labeled(source, vectors=vectors, ids=ids, metric=old.metric, metadata=metadata)
    _check_same_space(new, old, known)
    settings = {
        "method": "tsne",
        "metric": old.metric,
        "perplexity": PERPLEXITY,
        "iterations": ITERATIONS,
        "into": dict(known.source),
    }
    origin = source_record(new, fingerprint_of(new))
    if keep:
        check_stored(new.profiles, KEYS["tsne"], {"settings": settings, "source": origin}, force=force)
    points = _placed(new, old, known.coordinates, cores_for(len(new), threads))
    result = MapResult(new.ids, points.astype(np.float32), new.obs, "tsne", settings, origin)
    save_map(result, new.profiles if keep else None, stem, more=more)
    return result


def _reference_of(known: MapResult, reference: Any) -> Vectors:
    """The vectors of the map; MismatchError if they have changed since it was made."""
    origin = known.source
    if not origin:
        raise InputError("the map has no record of its vectors", check="make it with kinmer map")
    if "into" in known.settings:
        raise UsageError(
            "this map holds placed sequences only", check="give the map that they were placed into"
        )
    location = origin["place"] if reference is None else reference
    if isinstance(location, str | Path) and not Path(location).exists():
        raise InputError(
            "the map's vectors are not there", check="say where they are: --reference", place=location
        )
    vectors = open_labeled(location, vectors=origin["vectors"], ids=None, metric=origin["metric"])
    if fingerprint_of(vectors) != origin["fingerprint"]:
        raise MismatchError(
            "these are not the vectors that the map was made of",
            "ids or vectors have changed since",
            "make the map again",
            place=vectors.place,
        )
    return vectors


def _check_same_space(new: Vectors, old: Vectors, known: MapResult) -> None:
    """MismatchError if distances between the new vectors and the map's would mean nothing."""
    made, wanted = new.provenance.get("encoder_fingerprint"), known.source.get("encoder_fingerprint")
    others = bool(made and wanted and made != wanted)
    raw = new.name != old.name and (new.name in RAW or old.name in RAW)
    if new.dim != old.dim or others or raw:
        raise MismatchError(
            "the vectors are by another encoder than the map's",
            "distances between them would mean nothing",
            "embed with the encoder of the map",
            place=new.place,
        )


def _placed(
    new: Vectors, old: Vectors, coordinates: NDArray[np.float32], threads: int
) -> NDArray[np.float64]:
    """(len(new), 2) coordinates."""
    if len(old) < 2:
        return np.repeat(coordinates.astype(np.float64), len(new), axis=0)
    # openTSNE wants the map in the middle of its grid.
    center = (coordinates.max(axis=0).astype(np.float64) + coordinates.min(axis=0)) / 2
    frame = _frame(coordinates - center, threads)
    points = np.empty((len(new), 2))
    k = min(MEDIAN_OF, len(old))
    with _nearest_of(old, len(new), k, threads) as nearest, step("Placing", len(new)) as progress:
        for start, block in new.blocks(BLOCK):
            indices, distances = nearest(block)
            lines = straight(distances, old.metric)
            moved = _moved(frame, indices.astype(np.int32), lines, threads)
            points[start : start + len(block)] = moved + center
            progress.advance(len(block))
    return points


def _frame(points: NDArray[np.float64], threads: int) -> Any:
    """The map as an embedding of openTSNE."""
    from openTSNE import TSNEEmbedding, affinity
    from scipy.sparse import csr_matrix

    held = affinity.Affinities()
    held.P = csr_matrix((len(points), len(points)))  # Its own points do not move.
    method = "bh" if len(points) < FAST_ABOVE else "fft"
    return TSNEEmbedding(points, held, negative_gradient_method=method, n_jobs=threads)


def _moved(
    frame: Any, indices: NDArray[np.int32], distances: NDArray[np.float32], threads: int
) -> NDArray[np.float64]:
    """Coordinates of new points by their neighbors (m, k) on the map, the nearest first."""
    from openTSNE.tsne import PartialTSNEEmbedding
    from scipy.sparse import csr_matrix

    fixed, (rows, k) = np.asarray(frame), indices.shape
    start = np.median(fixed[indices], axis=1)
    few = min(int(3 * PERPLEXITY), k)
    near = np.ascontiguousarray(indices[:, :few])
    shares = np.ascontiguousarray(distances[:, :few])
    shares = calibrate(near, shares, min(PERPLEXITY, max(1.0, few / 3)), threads=threads)
    edges = np.arange(0, rows * few + 1, few)
    P = csr_matrix((shares.astype(np.float64).ravel(), near.ravel(), edges), shape=(rows, len(fixed)))
    partial = PartialTSNEEmbedding(start, frame, P, **frame.gradient_descent_params)
    return np.asarray(partial.optimize(n_iter=ITERATIONS, inplace=True, propagate_exception=True, **DESCENT))


@contextmanager
def _nearest_of(old: Vectors, queries: int, k: int, threads: int) -> Iterator[Nearest]:
    """A function from vectors (m, dim) to indices and distances (m, k) of their nearest on the map."""
    if old.index is not None and old.metric == old.index.metric and old.index.engine != "exact":
        index, numbers = old.index, old.index.numbers

        def near(block: NDArray[np.float32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
            matches, distances, _ = index.search(block, k)
            return np.searchsorted(numbers, matches), distances

        yield near
        return
    mapped = old.mapped()
    if len(old) <= EXACT_BELOW or queries <= FEW_QUERIES:
        yield lambda block: exact_search(mapped.array, None, block, k, old.metric)
        return
    with tempfile.TemporaryDirectory() as folder:
        store = engine("hnsw").create(folder, dim=old.dim, metric=old.metric, threads=threads)
        with step("Building the neighbor graph", len(old)) as progress:
            for start, block in mapped.blocks(BLOCK):
                store.add(np.arange(start, start + len(block)), block)
                progress.advance(len(block))
        yield lambda block: store.search(block, k)
        store.close()
