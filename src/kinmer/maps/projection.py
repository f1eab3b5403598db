"""Makes a map of all vectors: neighbors, affinities, start, optimization."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.embedding import KEY
from kinmer.errors import UsageError
from kinmer.files import hash_ids
from kinmer.machine import available_cores
from kinmer.maps.affinity import Affinities, calibrate, straight, symmetric
from kinmer.maps.descent import Journal
from kinmer.maps.mapfiles import (
    MapResult,
    Method,
    More,
    check_method,
    check_outputs,
    check_room,
    keep_in,
    stem_of,
    write_map,
)
from kinmer.profiles import AnnDataProfiles, StoredProfiles
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.stores.exact import unit_rows
from kinmer.vectors import Graph, Space, neighbour_graph, open_space, with_metadata
from kinmer.vectors.points import RAW

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.index import KinIndex
    from kinmer.profiles import Profiles

__all__ = [
    "SPREAD",
    "Plane",
    "encoder_of",
    "fingerprint_of",
    "plane_of",
    "space_of",
    "start_of",
    "told_of",
    "tsne",
    "umap_points",
]


# Standard deviation of the first coordinate at the start, as in openTSNE: larger ones end in worse maps.
SPREAD = 1e-4
# Share of it by which every point is moved, so that equal points can part.
JITTER = 0.01


@dataclass(frozen=True)
class Plane:
    """The two directions (dim, 2) of largest variance around a mean (dim,), and a hash of ids and vectors."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    fingerprint: str


def plane_of(space: Space) -> Plane:
    """Principal components of all points (cosine: of their directions), accumulated in float64.

    The same blocks in the same order, hence the same plane for the same points.
    """
    from scipy.linalg import eigh

    digest = _digest_of(space)
    total, squares = np.zeros(space.dim), np.zeros((space.dim, space.dim))
    # Around a centre near the mean the squares keep their digits.
    centre = _prepared(space, space.read(0, min(len(space), 1024))).mean(axis=0)
    with step("Principal components", len(space)) as progress:
        for _, block in space.blocks():
            _add(digest, block)
            moved = _prepared(space, block) - centre
            total += moved.sum(axis=0)
            squares += moved.T @ moved
            progress.advance(len(block))
    mean = total / len(space)
    covariance = squares / len(space) - np.outer(mean, mean)
    few = min(2, space.dim)
    _, found = eigh(covariance, subset_by_index=[space.dim - few, space.dim - 1])
    directions = np.zeros((space.dim, 2))
    directions[:, :few] = found[:, ::-1]
    # A direction and its opposite are as good: the largest number is made positive.
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(2)])
    return Plane(mean + centre, directions * np.where(signs == 0, 1, signs), digest.hexdigest())


def start_of(space: Space, plane: Plane, seed: int) -> NDArray[np.float64]:
    """(n, 2) points in the plane, scaled and jittered; at random where all of them are one."""
    rng = np.random.default_rng(seed)
    points = np.empty((len(space), 2))
    for start, block in space.blocks():
        points[start : start + len(block)] = (_prepared(space, block) - plane.mean) @ plane.directions
    spread = float(points[:, 0].std())
    largest = float(np.abs(plane.mean).max(initial=1e-300))
    if len(space) < 2 or not spread > 1e-9 * largest:
        return rng.normal(0, SPREAD, points.shape) if len(space) > 1 else np.zeros((1, 2))
    points *= SPREAD / spread
    points += rng.normal(0, JITTER * SPREAD, points.shape)
    return points


def fingerprint_of(space: Space) -> str:
    """SHA-256 (hex) over ids and vectors: the plane's."""
    digest = _digest_of(space)
    for _, block in space.blocks():
        _add(digest, block)
    return digest.hexdigest()


def _digest_of(space: Space) -> hashlib._Hash:
    return hashlib.sha256(hash_ids(space.ids).encode())


def _add(digest: hashlib._Hash, block: NDArray[np.float32]) -> None:
    digest.update(np.ascontiguousarray(block, "<f4").data)


def _prepared(space: Space, block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows as the metric sees them: of length 1 where only directions count."""
    return np.asarray(unit_rows(block) if space.metric == "cosine" else block, np.float64)


def umap_points(graph: Graph, start: NDArray[np.float64], *, seed: int) -> NDArray[np.float64]:
    """(n, 2) coordinates by umap-learn (McInnes et al. 2018), seeded, hence on one thread."""
    from umap import UMAP

    # To UMAP the first neighbour of a point is the point itself.
    own = np.arange(graph.points, dtype=np.int32)[:, None]
    near = np.hstack([own, np.where(graph.indices < 0, own, graph.indices)])
    far = np.where(np.isfinite(graph.distances), graph.distances, 0)
    far = np.hstack([np.zeros((graph.points, 1), np.float32), far.astype(np.float32)])
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # That new points cannot be transformed: they are placed on t-SNE maps.
        model = UMAP(
            n_neighbors=near.shape[1],
            precomputed_knn=(near, far),
            force_approximation_algorithm=True,
            init=start.astype(np.float32),
            random_state=seed,
            n_jobs=1,
        )
        # The vectors themselves are not looked at.
        return np.asarray(model.fit_transform(start.astype(np.float32)), np.float64)


# Neighbours of more points than this are kept for the run after a kill: finding them takes minutes.
KEEP_ABOVE = 20_000
# Neighbours that UMAP looks at, its own default.
UMAP_NEIGHBOURS = 15


def tsne(
    source: str | Path | AnnData | Profiles | KinIndex | Space,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    method: Method = "tsne",
    perplexity: float = 30,
    iterations: int = 750,
    seed: int = 0,
    threads: int | None = None,
    output: str | Path | None = None,
    keep: bool = True,
    force: bool = False,
    more: More | None = None,
) -> MapResult:
    """A map of every embedding in two dimensions; a killed run with an output goes on with the same call.

    t-SNE (van der Maaten and Hinton 2008) by openTSNE (Poličar et al. 2024) with its defaults: 3 × perplexity
    neighbours, the plane of the principal components as start, a third of the iterations, at most 250, with
    all attraction 12 times as strong. Memory: about 2 kB a point, whatever the width of the vectors.

    Parameters
    ----------
    source, vectors, ids, metric : as `kinmer.vectors.open_space`, or a Space.
    metadata : a TSV whose columns are joined by id.
    method : ``tsne``; or ``umap`` (McInnes et al. 2018), with 15 neighbours and a single thread.
    perplexity : how many others a point attracts, in the sense of an entropy; lowered to (n − 1) / 3.
    iterations : all of them (UMAP: epochs are its own matter).
    seed : of the jitter at the start, and of UMAP. The same seed and points give the same map up to 50,000
        points; above, the engine's graph depends on the threads' timing.
    output : stem of ``.tsv`` and ``.json``.
    keep : coordinates go into ``obsm["X_tsne"]`` or ``obsm["X_umap"]`` of a store or an AnnData.
    force : replace an output, or a store's map of other settings.
    more : writes more beside the output, together with it; see `kinmer.maps.mapfiles.write_map`.

    Raises
    ------
    UsageError : settings, an output that exists, a library that is not installed.
    What opening the points raises.
    """
    check_method(method)
    if not perplexity >= 1:
        raise UsageError(f"the perplexity must be at least 1, not {perplexity}")
    if iterations < 1:
        raise UsageError(f"there must be at least 1 iteration, not {iterations}")
    stem = None if output is None else check_outputs(stem_of(output), force=force)
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    plane = plane_of(space)
    settings, notes = _settings(len(space), method, perplexity, iterations, seed, space.metric)
    told = told_of(space, plane.fingerprint)
    if keep:
        check_room(space.profiles, method, settings, told, force=force)
    folder = None if stem is None else stem.with_name(f".{stem.name}.map")
    journal = Journal(folder, {**settings, "points": plane.fingerprint})
    start = start_of(space, plane, seed)
    # Threads that wait for each other cost more than a few hundred points do.
    cores = min(threads or available_cores(), 1 + len(space) // 500)
    if method == "umap":
        points, divergence = _umap(space, start, settings, threads), None
    else:
        points, divergence = _tsne(space, start, settings, journal, cores)
    result = MapResult(
        ids=space.ids,
        coordinates=points.astype(np.float32),
        obs=space.obs,
        method=method,
        settings=settings,
        source=told,
        divergence=divergence,
        notes=notes,
    )
    if keep:
        keep_in(space.profiles, result)

    def last(made: MapResult, at: Path) -> list[Path]:
        # Before the files take their names: a kill right after that must leave nothing behind.
        written = [] if more is None else more(made, at)
        journal.discard()
        return written

    if stem is not None:
        write_map(result, stem, more=last)
    return result


def space_of(source: Any, *, metadata: str | Path | None = None, **settings: Any) -> Space:
    """The points of a source, or the space that it already is, with metadata where they are given."""
    space = source if isinstance(source, Space) else open_space(source, **settings)
    return space if metadata is None else with_metadata(space, metadata)


def told_of(space: Space, fingerprint: str) -> dict[str, Any]:
    """What a map knows of its points, so that new ones can be placed beside them."""
    place = Path(space.place)
    return {
        "place": str(place.absolute()) if place.exists() else space.place,
        "vectors": _name_of(space),
        "dim": space.dim,
        "metric": space.metric,
        "encoder_fingerprint": encoder_of(space).get("encoder_fingerprint"),
        "encoder": encoder_of(space).get("encoder"),
        "fingerprint": fingerprint,
    }


def encoder_of(space: Space) -> dict[str, Any]:
    """What is told of the encoder that made the vectors; empty where nothing is."""
    if not space.encoder and isinstance(space.profiles, AnnDataProfiles):
        return space.profiles.embedding(space.vectors) or {}
    return space.encoder


def _name_of(space: Space) -> str:
    """What `open_space` finds the vectors by: their key, or the encoder that embedded them for the map."""
    held: Iterable[str] = RAW
    if isinstance(space.profiles, StoredProfiles):
        held = [*RAW, *space.profiles.obsm_keys()]
    elif isinstance(space.profiles, AnnDataProfiles):
        held = [*RAW, *space.profiles.anndata.obsm]
    beside = space.profiles is None or space.vectors in held
    return space.vectors if beside else str(space.encoder.get("encoder", space.vectors))


def _settings(
    points: int, method: str, perplexity: float, iterations: int, seed: int, metric: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What goes into the map's JSON, and what is to be said of it."""
    if method == "umap":
        neighbours = max(1, min(UMAP_NEIGHBOURS, points - 1))
        return {"method": method, "metric": metric, "seed": seed, "neighbours": neighbours}, ()
    used = max(1.0, min(float(perplexity), (points - 1) / 3))
    lowered = f"perplexity {used:.3g} instead of {perplexity:g}: there are only {points} points"
    settings = {
        "method": method,
        "metric": metric,
        "perplexity": used,
        "neighbours": max(1, min(int(3 * used), points - 1)),
        "iterations": iterations,
        "seed": seed,
    }
    return settings, (lowered,) if used < perplexity else ()


def _tsne(
    space: Space, start: NDArray[np.float64], settings: dict[str, Any], journal: Journal, threads: int
) -> tuple[NDArray[np.float64], float]:
    from kinmer.maps.descent import State, descend

    if len(space) == 1:
        return start, 0.0
    affinities = _affinities(space, settings, journal, threads)
    state = journal.state() or State(start)
    save = journal.keep_state if journal.kept else None
    return descend(affinities, state, settings["iterations"], threads=threads, save=save)


def _affinities(space: Space, settings: dict[str, Any], journal: Journal, threads: int) -> Affinities:
    """Engine, distances and conditional probabilities are gone when this returns."""
    found = journal.neighbours()
    if found is None:
        graph = neighbour_graph(space, settings["neighbours"], true_distances=False, threads=threads)
        lines = straight(graph.distances, space.metric)
        conditional = calibrate(graph.indices, lines, settings["perplexity"], threads=threads)
        found = graph.indices, conditional
        if len(space) > KEEP_ABOVE:
            journal.keep_neighbours(*found)
    return symmetric(*found)


def _umap(
    space: Space, start: NDArray[np.float64], settings: dict[str, Any], threads: int | None
) -> NDArray[np.float64]:

    if len(space) < 4:  # UMAP's neighbourhoods mean nothing yet: the plane is the map.
        return start
    graph = neighbour_graph(space, settings["neighbours"], true_distances=False, threads=threads)
    return umap_points(graph, start, seed=settings["seed"])
