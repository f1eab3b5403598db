"""Makes a map of every embedding: neighbours, affinities, start, descent."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.embedding import KEY
from kinmer.errors import UsageError
from kinmer.machine import available_cores
from kinmer.maps.affinities import Affinities, calibrate, straight, symmetric
from kinmer.maps.base import MapResult, Method, check_method
from kinmer.maps.journal import Journal
from kinmer.maps.keeping import check_room, keep_in
from kinmer.maps.saving import More, check_outputs, stem_of, write_map
from kinmer.maps.starting import plane_of, start_of
from kinmer.profiles import AnnDataProfiles, StoredProfiles
from kinmer.stores import Metric
from kinmer.vectors import Space, neighbour_graph, open_space, with_metadata
from kinmer.vectors.points import RAW

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.index import KinIndex
    from kinmer.profiles import Profiles

__all__ = ["encoder_of", "space_of", "told_of", "tsne"]

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
    more : writes more beside the output, together with it; see `kinmer.maps.saving.write_map`.

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
    from kinmer.maps.umaps import umap_points

    if len(space) < 4:  # UMAP's neighbourhoods mean nothing yet: the plane is the map.
        return start
    graph = neighbour_graph(space, settings["neighbours"], true_distances=False, threads=threads)
    return umap_points(graph, start, seed=settings["seed"])
