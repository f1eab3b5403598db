"""Makes a map of all vectors: start, neighbors, affinities, optimization."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError, require
from kinmer.files import hash_ids
from kinmer.library import open_labeled
from kinmer.maps.affinity import Affinities, calibrate, straight, symmetric
from kinmer.maps.descent import State, Unfinished, descend
from kinmer.maps.mapfiles import (
    KEYS,
    MapResult,
    Method,
    More,
    check_outputs,
    check_stored,
    save_map,
)
from kinmer.profiles import AnnDataProfiles, StoredProfiles
from kinmer.progress import step
from kinmer.resources import available_cores
from kinmer.stores import Metric
from kinmer.stores.exact import unit_rows
from kinmer.vectors import Vectors, neighbor_graph
from kinmer.vectors.points import RAW

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.library import KinIndex
    from kinmer.profiles import Profiles

# Neighbors of more points than this are kept for a resumed run: finding them takes minutes.
KEEP_ABOVE = 20_000
# Neighbors that UMAP looks at, its own default.
UMAP_NEIGHBORS = 15
# Standard deviation of the first coordinate at the start, as in openTSNE: larger ones end in worse maps.
SPREAD = 1e-4
# Share of it by which every point is moved, so that equal points can part.
JITTER = 0.01


class Opening(TypedDict, total=False):
    """What opens a source of vectors."""

    vectors: str | Path | Encoder
    ids: str | Path | None
    metric: Metric | None
    metadata: str | Path | None


def make_map(
    source: str | Path | AnnData | Profiles | KinIndex | Vectors,
    *,
    method: Method = "tsne",
    perplexity: float = 30,
    iterations: int = 750,
    seed: int = 0,
    threads: int | None = None,
    output: str | Path | None = None,
    keep: bool = True,
    force: bool = False,
    more: More | None = None,
    **opening: Unpack[Opening],
) -> MapResult:
    """A map of all vectors in two dimensions.

    t-SNE (van der Maaten and Hinton 2008) by openTSNE (Poličar et al. 2024) with its defaults: 3 × perplexity
    neighbors, the plane of the principal components as start, and at first (a third of the iterations, at
    most 250) all attraction 12 times as strong. Memory: about 2 kB a point, however wide the vectors. With an
    output, a killed run is resumed by the same call.

    Parameters
    ----------
    source : what `kinmer.vectors.open_vectors` takes.
    method : Method
        ``tsne``, or ``umap`` (McInnes et al. 2018) with 15 neighbors and a single thread.
    perplexity, iterations : float, int
        Of t-SNE: about how many neighbors a point attracts, lowered to (n - 1) / 3.
    seed : int
        The same seed and points give the same map up to 50,000 points. Above, the approximate neighbors
        depend on the timing of the threads.
    output : str | Path | None
        Stem of ``.tsv`` and ``.json``, and of what `more` writes; see `kinmer.maps.mapfiles.write_map`.
    keep : also store the coordinates in ``obsm["X_tsne"]`` or ``obsm["X_umap"]`` of a store or an AnnData.
    force : replace an output, or a store's map that was made with other settings.
    **opening : as of `kinmer.library.open_labeled`: ``vectors``, ``ids``, ``metric``, ``metadata``.

    Raises
    ------
    UsageError : wrong settings, an output that exists, a library that is not installed.
    """
    _check(method, perplexity, iterations)
    stem = check_outputs(output, force=force)
    vectors = open_labeled(source, **opening)
    plane = plane_of(vectors)
    settings, notes = _settings(len(vectors), method, perplexity, iterations, seed, vectors.metric)
    origin = source_record(vectors, plane.fingerprint)
    if keep:
        check_stored(vectors.profiles, KEYS[method], {"settings": settings, "source": origin}, force=force)
    folder = None if stem is None else stem.with_name(f".{stem.name}.map")
    with Unfinished(folder, {**settings, "points": plane.fingerprint}) as unfinished:
        make = _umap if method == "umap" else _tsne
        points, divergence = make(vectors, start_of(vectors, plane, seed), settings, unfinished, threads)
        coordinates = points.astype(np.float32)
        result = MapResult(vectors.ids, coordinates, vectors.obs, method, settings, origin, divergence, notes)

        save_map(result, vectors.profiles if keep else None, stem, more=_then_discarded(more, unfinished))
    return result


def _then_discarded(more: More | None, unfinished: Unfinished) -> More:
    """`more`, and then the end of the unfinished work."""

    def last(made: MapResult, at: Path) -> list[Path]:
        # Before the files get their names: a kill right after that must leave nothing behind.
        written = [] if more is None else more(made, at)
        unfinished.discard()
        return written

    return last


def _check(method: str, perplexity: float, iterations: int) -> None:
    if method not in get_args(Method):
        raise UsageError(f"the method must be one of {', '.join(get_args(Method))}, not {method!r}")
    module, extra = ("openTSNE", "explore") if method == "tsne" else ("umap", "umap")
    require(module, "maps need it", extra)
    if not perplexity >= 1:
        raise UsageError(f"the perplexity must be at least 1, not {perplexity}")
    if iterations < 1:
        raise UsageError(f"there must be at least 1 iteration, not {iterations}")


def _settings(
    points: int, method: str, perplexity: float, iterations: int, seed: int, metric: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The settings in the map's JSON, and notes for its reader."""
    if method == "umap":
        k = max(1, min(UMAP_NEIGHBORS, points - 1))
        return {"method": method, "metric": metric, "seed": seed, "neighbours": k}, ()
    used = max(1.0, min(float(perplexity), (points - 1) / 3))
    settings = {
        "method": method,
        "metric": metric,
        "perplexity": used,
        "neighbours": max(1, min(int(3 * used), points - 1)),
        "iterations": iterations,
        "seed": seed,
    }
    lowered = f"perplexity {used:.3g} instead of {perplexity:g}: there are only {points} points"
    return settings, (lowered,) if used < perplexity else ()


def source_record(vectors: Vectors, fingerprint: str) -> dict[str, Any]:
    """Where the points come from, so that new ones can be placed beside them later."""
    place, encoder = Path(vectors.place), vectors.provenance
    return {
        "place": str(place.absolute()) if place.exists() else vectors.place,
        "vectors": _key_of(vectors),
        "dim": vectors.dim,
        "metric": vectors.metric,
        "encoder_fingerprint": encoder.get("encoder_fingerprint"),
        "encoder": encoder.get("encoder"),
        "fingerprint": fingerprint,
    }


def _key_of(vectors: Vectors) -> str:
    """What `open_vectors` finds the vectors by: their key, or the encoder that embedded them for the map."""
    stored = [*RAW]
    if isinstance(vectors.profiles, StoredProfiles | AnnDataProfiles):
        stored += vectors.profiles.obsm_keys()
    if vectors.profiles is None or vectors.name in stored:
        return vectors.name
    return str(vectors.provenance.get("encoder", vectors.name))


def _tsne(
    vectors: Vectors,
    start: NDArray[np.float64],
    settings: dict[str, Any],
    unfinished: Unfinished,
    threads: int | None,
) -> tuple[NDArray[np.float64], float]:
    if len(vectors) == 1:
        return start, 0.0
    cores = cores_for(len(vectors), threads)
    affinities = _affinities(vectors, settings, unfinished, cores)
    state = unfinished.state() or State(start)
    return descend(affinities, state, settings["iterations"], threads=cores, save=unfinished.keep_state)


def _affinities(
    vectors: Vectors, settings: dict[str, Any], unfinished: Unfinished, threads: int
) -> Affinities:
    """P; engine, distances and conditional probabilities are released when this returns."""
    edges = unfinished.neighbors()
    if edges is None:
        graph = neighbor_graph(vectors, settings["neighbours"], true_distances=False, threads=threads)
        lines = straight(graph.distances, vectors.metric)
        edges = graph.indices, calibrate(graph.indices, lines, settings["perplexity"], threads=threads)
        if len(vectors) > KEEP_ABOVE:
            unfinished.keep_neighbors(*edges)
    return symmetric(*edges)


def cores_for(points: int, threads: int | None) -> int:
    """Threads to use: those that wait for each other cost more than a few hundred points do."""
    return min(threads or available_cores(), 1 + points // 500)


def _umap(
    vectors: Vectors,
    start: NDArray[np.float64],
    settings: dict[str, Any],
    _: Unfinished,
    threads: int | None,
) -> tuple[NDArray[np.float64], None]:
    """(n, 2) coordinates by umap-learn, seeded, hence on one thread."""
    if len(vectors) < 4:  # Neighborhoods mean nothing yet: the plane is the map.
        return start, None
    from umap import UMAP

    graph = neighbor_graph(vectors, settings["neighbours"], true_distances=False, threads=threads)
    # To UMAP the first neighbor of a point is the point itself.
    own = np.arange(graph.points, dtype=np.int32)[:, None]
    near = np.hstack([own, np.where(graph.indices < 0, own, graph.indices)])
    distances = np.where(np.isfinite(graph.distances), graph.distances, 0).astype(np.float32)
    distances = np.pad(distances, ((0, 0), (1, 0)))
    with warnings.catch_warnings():
        # It warns that new points cannot be transformed, but those are placed on t-SNE maps.
        warnings.simplefilter("ignore")
        model = UMAP(
            n_neighbors=near.shape[1],
            precomputed_knn=(near, distances),
            force_approximation_algorithm=True,
            init=start.astype(np.float32),
            random_state=settings["seed"],
            n_jobs=1,
        )
        # With precomputed neighbors the vectors themselves are not looked at.
        return np.asarray(model.fit_transform(start.astype(np.float32)), np.float64), None


@dataclass(frozen=True)
class Plane:
    """The two directions (dim, 2) of largest variance around a mean (dim,), and a hash of ids and vectors."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    fingerprint: str


def plane_of(vectors: Vectors) -> Plane:
    """Principal components of all points (cosine: of their directions), accumulated in float64.

    The same points give the same plane, as they are read in the same blocks and order.
    """
    from scipy.linalg import eigh

    digest = _digest_of(vectors)
    total, squares = np.zeros(vectors.dim), np.zeros((vectors.dim, vectors.dim))
    # Around a center near the mean the squares keep their digits.
    center = _directed(vectors, vectors.read(0, min(len(vectors), 1024))).mean(axis=0)
    with step("Principal components", len(vectors)) as progress:
        for block in _hashed_blocks(vectors, digest):
            moved = _directed(vectors, block) - center
            total += moved.sum(axis=0)
            squares += moved.T @ moved
            progress.advance(len(block))
    mean = total / len(vectors)
    covariance = squares / len(vectors) - np.outer(mean, mean)
    few = min(2, vectors.dim)
    _, axes = eigh(covariance, subset_by_index=[vectors.dim - few, vectors.dim - 1])
    directions = np.zeros((vectors.dim, 2))
    directions[:, :few] = axes[:, ::-1]
    # A direction and its opposite are equally good: the largest number is made positive.
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(2)])
    return Plane(mean + center, directions * np.where(signs == 0, 1, signs), digest.hexdigest())


def start_of(vectors: Vectors, plane: Plane, seed: int) -> NDArray[np.float64]:
    """(n, 2) points in the plane, scaled and jittered; random if all points are equal."""
    rng = np.random.default_rng(seed)
    points = np.empty((len(vectors), 2))
    for start, block in vectors.blocks():
        points[start : start + len(block)] = (_directed(vectors, block) - plane.mean) @ plane.directions
    spread = float(points[:, 0].std())
    largest = float(np.abs(plane.mean).max(initial=1e-300))
    if len(vectors) < 2 or not spread > 1e-9 * largest:
        return rng.normal(0, SPREAD, points.shape) if len(vectors) > 1 else np.zeros((1, 2))
    points *= SPREAD / spread
    points += rng.normal(0, JITTER * SPREAD, points.shape)
    return points


def fingerprint_of(vectors: Vectors) -> str:
    """SHA-256 (hex) over ids and vectors, the same as that of the plane."""
    digest = _digest_of(vectors)
    for _ in _hashed_blocks(vectors, digest):
        pass
    return digest.hexdigest()


def _digest_of(vectors: Vectors) -> hashlib._Hash:
    return hashlib.sha256(hash_ids(vectors.ids).encode())


def _hashed_blocks(vectors: Vectors, digest: hashlib._Hash) -> Iterator[NDArray[np.float32]]:
    for _, block in vectors.blocks():
        digest.update(np.ascontiguousarray(block, "<f4").data)
        yield block


def _directed(vectors: Vectors, block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows as the metric sees them: of length 1 if only directions count."""
    return np.asarray(unit_rows(block) if vectors.metric == "cosine" else block, np.float64)
