"""Makes clusters of every embedding, and keeps and writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.clusters.agreement import RANKS, Agreement, agreement_of, gc_spans
from kinmer.clusters.communities import Method, by_density, check_method, communities, numbered
from kinmer.clusters.edges import edges_of
from kinmer.clusters.writing import write_clustering
from kinmer.embedding import KEY
from kinmer.errors import InputError, UsageError
from kinmer.profiles import AnnDataProfiles, ProfileStore
from kinmer.space import Space, neighbour_graph, space_of
from kinmer.stores import Metric

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["Clustering", "cluster"]


@dataclass(frozen=True)
class Clustering:
    """The cluster of every sequence.

    ids : (n,) str. cluster : (n,) int64 from 1, the largest first; 0: in none. obs : what is known of the
    sequences. settings : what it was made with. agreement : with the labels of every rank that `obs` has.
    gc : standard deviation of GC within clusters and over all, where GC is known.
    """

    ids: NDArray[np.object_]
    cluster: NDArray[np.int64]
    obs: pd.DataFrame
    settings: dict[str, Any]
    agreement: tuple[Agreement, ...] = field(default=())
    gc: tuple[float, float] | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def clusters(self) -> int:
        """Number of clusters."""
        return int(self.cluster.max(initial=0))

    def text(self) -> str:
        """Some lines for people."""
        inside = int((self.cluster > 0).sum())
        largest = int((self.cluster == 1).sum())
        lines = [
            f"{self.clusters:,} clusters of {inside:,} of {len(self):,} sequences, the largest of {largest:,}"
        ]
        if "max_distance" in self.settings:
            lines.append(
                f"edges up to {self.settings['max_distance']:.4g} ({self.settings['metric']}),"
                f" {self.settings['edges']:,} of them"
            )
        if self.gc is not None:
            lines.append(f"GC varies by {self.gc[0]:.4f} within clusters, by {self.gc[1]:.4f} over all (sd)")
        if self.agreement:
            lines.append(f"{'':14}{'purity':>8}{'complete':>10}{'V':>7}{'ARI':>7}{'pair F1':>9}{'pieces':>8}")
        for one in self.agreement:
            f1 = "–" if one.f1 is None else f"{one.f1:.3f}"
            pieces = "–" if one.fragmentation is None else f"{one.fragmentation:.2f}"
            lines.append(
                f"{one.rank:14}{one.purity:8.3f}{one.completeness_share:10.3f}{one.v_measure:7.3f}"
                f"{one.ari:7.3f}{f1:>9}{pieces:>8}"
            )
        return "\n".join(lines)

    def write(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Write ``clusters.tsv``, ``cluster_members.tsv``, ``clusters.json`` and pictures into a folder."""
        return write_clustering(self, Path(folder), force=force)


def cluster(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    method: Method = "leiden",
    k: int = 15,
    max_distance: float | None = None,
    max_in_degree: int | None = None,
    mutual: bool = False,
    resolution: float = 3.0,
    min_size: int = 2,
    coordinates: str = "X_tsne",
    labels: Sequence[str] = RANKS,
    seed: int = 0,
    threads: int | None = None,
    output: str | Path | None = None,
    keep: bool = True,
    force: bool = False,
) -> Clustering:
    """Clusters of all sequences.

    Parameters
    ----------
    source, vectors, ids, metric : what `kinmer.space.open_space` takes, or a Space.
    metadata : a TSV that is joined by id; its columns named in `labels` are compared with the clusters.
    method : ``leiden`` or ``infomap`` on the graph of the k nearest, or ``hdbscan`` on a map.
    k : neighbours of a sequence. max_distance : the longest edge; None: what is usual for the distance to the
        nearest (`usual_distance`). max_in_degree : edges that a sequence may have from others that name it;
        None: 4 k. mutual : an edge must be named from both ends. resolution : of Leiden; more gives smaller
        clusters.
    min_size : smaller clusters count as none.
    coordinates : key of the map in ``obsm`` (hdbscan).
    output : folder of the tables. keep : clusters go into ``obs["cluster"]`` of a store or an AnnData.

    Raises UsageError for settings that make no sense, an output that exists and a missing library,
    InputError where there is no map to look at, and what opening the points raises.
    """
    _check(method, k, max_distance, max_in_degree, resolution, min_size)
    if output is not None:
        from kinmer.files import check_output

        check_output(output, force=force)
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    settings: dict[str, Any] = {"method": method, "vectors": space.vectors, "metric": space.metric}
    settings |= {"min_size": min_size, "seed": seed}
    if method == "hdbscan":
        settings["coordinates"] = coordinates
        found = by_density(_map_of(space, coordinates), min_size=max(min_size, 5))
    else:
        graph = neighbour_graph(space, k, threads=threads)
        most = 4 * k if max_in_degree is None else max_in_degree
        edges = edges_of(graph, max_distance=max_distance, max_in_degree=most, mutual=mutual)
        settings |= {"k": k, "max_distance": edges.max_distance, "max_in_degree": most, "mutual": mutual}
        settings |= {"scale": edges.scale, "edges": len(edges.pairs), "resolution": resolution}
        found = communities(edges, method, resolution=resolution, seed=seed)
    result = _described(space, numbered(found, min_size), settings, labels)
    if output is not None:
        result.write(output, force=force)
    if keep:
        _keep(space, result)
    return result


def _check(
    method: str,
    k: int,
    max_distance: float | None,
    max_in_degree: int | None,
    resolution: float,
    min_size: int,
) -> None:
    check_method(method)
    if k < 1 or min_size < 1 or (max_in_degree is not None and max_in_degree < 1):
        raise UsageError("k, min_size and max_in_degree must be at least 1")
    if not resolution > 0 or (max_distance is not None and not max_distance >= 0):
        raise UsageError("the resolution must be above 0, and a distance not negative")


def _map_of(space: Space, key: str) -> NDArray[np.float32]:
    held = space.beside(key)
    if held is None:
        raise InputError(
            f"there is no {key} beside the profiles", check="run kinmer map first", place=space.place
        )
    return held


def _described(
    space: Space, cluster: NDArray[np.int64], settings: dict[str, Any], labels: Sequence[str]
) -> Clustering:
    by_name = {str(name).lower(): str(name) for name in space.obs.columns}
    length = space.obs["length"].to_numpy(np.float64) if "length" in space.obs else None
    found = (
        agreement_of(cluster, space.obs[by_name[rank]], rank=rank, length=length)
        for rank in labels
        if rank in by_name
    )
    gc = gc_spans(cluster, space.obs["gc"].to_numpy(np.float64)) if "gc" in space.obs else None
    agreed = tuple(one for one in found if one is not None)
    return Clustering(space.ids, cluster, space.obs, settings, agreed, gc)


def _keep(space: Space, result: Clustering) -> None:
    if isinstance(space.profiles, AnnDataProfiles):
        space.profiles.anndata.obs["cluster"] = result.cluster
    elif isinstance(space.profiles, ProfileStore):
        space.profiles.write_obs("cluster", result.cluster)
