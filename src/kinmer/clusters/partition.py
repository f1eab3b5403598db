"""Clusters as tables and pictures in a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import __version__
from kinmer.clusters.agreement import (
    CLUSTER,
    RANKS,
    Agreement,
    agreement_text,
    agreements,
    gc_spans,
    write_agreement,
    write_rows,
)
from kinmer.clusters.communities import (
    DENSE_SAMPLE,
    Method,
    by_density,
    check_method,
    communities,
    edges_of,
    mean_distances,
    numbered,
    on_map,
)
from kinmer.embedding import KEY
from kinmer.errors import FormatError, InputError, UsageError
from kinmer.files import built_aside, hash_ids, read_json, settle
from kinmer.folders import FolderKind, check_output
from kinmer.profiles import AnnDataProfiles, ProfileStore
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.vectors import Neighbors, Space, contracted, space_of

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["CLUSTERING", "Clustering", "cluster", "cluster_table", "kept_numbers", "write_clustering"]


FORMAT = 1
CLUSTERING = FolderKind(
    "folder of clusters",
    "clusters.json",
    lambda told: "kinmer" in told and "clusters" in told,
    r"clusters\.(?:tsv|json|png|svg)|cluster_members\.tsv|agreement\.tsv",
)


def cluster_table(made: Clustering) -> pd.DataFrame:
    """A row a cluster: size, bases, GC, the longest member, mean distance of the members to their middle."""
    frame = pd.DataFrame({"cluster": made.cluster, "id": made.ids})
    for name in ("length", "gc"):
        frame[name] = made.obs[name].to_numpy(np.float64) if name in made.obs else np.nan
    # Letters that are no base count only where nobody knows how many they are.
    frame["bases"] = made.obs["bases"].to_numpy(np.float64) if "bases" in made.obs else frame["length"]
    inside = frame[frame.cluster > 0]
    grouped = inside.groupby("cluster", sort=True)
    table = grouped.size().rename("size").to_frame()
    if table.empty:
        return pd.DataFrame(
            columns=[
                "size",
                "bases",
                "gc_min",
                "gc_max",
                "gc_sd",
                "longest",
                "longest_length",
                "mean_distance",
            ]
        )
    table["bases"] = grouped.bases.sum(min_count=1)
    table["gc_min"], table["gc_max"] = grouped.gc.min(), grouped.gc.max()
    table["gc_sd"] = grouped.gc.std(ddof=0)
    # Of equal length, and where none is known, the first.
    longest = inside.assign(length=inside.length.fillna(-1)).groupby("cluster").length.idxmax()
    table["longest"], table["longest_length"] = frame.id[longest].to_numpy(), frame.length[longest].to_numpy()
    table["mean_distance"] = np.nan if made.mean_distance is None else made.mean_distance
    return table


def write_clustering(made: Clustering, folder: Path, *, force: bool) -> list[Path]:
    """All files of a clustering, the whole folder at once; gives their paths."""
    check_output(folder, force=force, kind=CLUSTERING)
    with built_aside(folder) as aside:
        table = cluster_table(made)
        rows = (
            (number, *row) for number, row in zip(table.index, table.itertuples(index=False), strict=True)
        )
        write_rows(aside / "clusters.tsv", ["cluster", *table.columns], rows)
        own = {"cluster", "representative"}
        columns = [name for name in made.obs.columns if name not in own]
        order = np.lexsort(
            (np.arange(len(made)), np.where(made.cluster > 0, made.cluster, np.iinfo(np.int64).max))
        )
        values = [made.obs[name].to_numpy()[order] for name in columns]
        repeated = made.ids if made.representative is None else made.representative
        repeated = np.array(repeated, dtype=object)[order]
        repeated[repeated == made.ids[order]] = None
        members = zip(made.ids[order], made.cluster[order], repeated, *values, strict=True)
        header = ["id", "cluster", "representative", *map(str, columns)]
        write_rows(aside / "cluster_members.tsv", header, members)
        if made.agreement:
            write_agreement(aside / "agreement.tsv", made.agreement)
        told = {
            "format": FORMAT,
            "kinmer": __version__,
            "ids": hash_ids(made.ids),
            "asked": made.asked,
            "settings": made.settings,
            "sequences": len(made),
            "in_a_cluster": int((made.cluster > 0).sum()),
            "clusters": made.clusters,
            "gc_sd_within": None if made.gc is None else made.gc[0],
            "gc_sd_all": None if made.gc is None else made.gc[1],
            "agreement": [one._asdict() for one in made.agreement],
        }
        (aside / "clusters.json").write_text(
            json.dumps(told, indent=1, default=_plain, allow_nan=False) + "\n"
        )
        if made.clusters:
            from kinmer import plots
            from kinmer.plots.charts import cluster_sizes

            plots.save(cluster_sizes(table["size"].to_numpy(), table["gc_sd"].to_numpy()), aside / "clusters")
    return sorted(folder.iterdir())


def kept_numbers(folder: Path, asked: dict[str, Any], ids: Sequence[str]) -> NDArray[np.int64] | None:
    """The clusters (n,) that a folder holds of these sequences, made as asked; None where it does not."""
    try:
        told = read_json(folder / "clusters.json")
        if told["format"] != FORMAT or told["asked"] != asked or told["ids"] != hash_ids(ids):
            return None
        table = pd.read_csv(
            folder / "cluster_members.tsv",
            sep="\t",
            usecols=["id", "cluster"],
            dtype={"id": str},
            keep_default_na=False,
            quoting=3,
            index_col="id",
        )
        return np.asarray(table["cluster"].loc[list(ids)].to_numpy(np.int64))
    except (FormatError, OSError, ValueError, KeyError):
        return None


def _plain(value: Any) -> Any:
    return value.item()


# Settings that matter to a method.
_GRAPH = ("k", "max_distance", "max_in_degree", "mutual")
OF_METHOD = {"infomap": _GRAPH, "leiden": (*_GRAPH, "resolution"), "hdbscan": ("coordinates",)}
# The fewest points that make a dense place, as in scikit-learn.
LEAST_DENSE = 5
# Nearest on a map that are looked at for near-duplicates.
MAP_NEIGHBORS = 15
# The share of sequences with a gap behind their nearest from which the clusters may be those of copies.
MANY_GAPS = 0.25
GAPS = (
    "warning: {:.0f} % of the sequences have neighbors four times nearer than the next · if those are copies"
    " (samples that overlap), clusters fall to pieces · cluster the profile store, where words show copies,"
    " or give --max-distance"
)
KEPT = "use --force to replace them, or --no-store to leave them"


@dataclass(frozen=True)
class Clustering:
    """The cluster of every sequence.

    ids : (n,) str. cluster : (n,) int64 from 1, the largest first; 0: in none. obs : what is known of the
    sequences. settings : what it was made with. agreement : with the labels of every rank that `obs` has.
    gc : standard deviation of GC within clusters and over all, where GC is known. mean_distance : (clusters,)
    of members to their cluster's middle. asked : the settings as they were given. representative : (n,) the
    id of the sequence whose near-duplicate it is, else its own; None where a folder's clusters were kept.
    """

    ids: NDArray[np.object_]
    cluster: NDArray[np.int64]
    obs: pd.DataFrame
    settings: dict[str, Any]
    agreement: tuple[Agreement, ...] = field(default=())
    gc: tuple[float, float] | None = None
    mean_distance: NDArray[np.float64] | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    representative: NDArray[np.object_] | None = None

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
        if "edges" in self.settings:
            lines.append(
                f"edges up to {self.settings['max_distance']:.4g} ({self.settings['metric']}),"
                f" {self.settings['edges']:,} of them"
            )
        copies = self.settings.get("near_duplicates", 0)
        if copies:
            kind = "near-duplicates" if self.settings["by_words"] else "equal vectors"
            lines.append(f"{copies:,} {kind} go with the sequence that they repeat; edges are of the others")
        if not self.settings.get("by_words", True) and self.settings["gaps"] >= MANY_GAPS:
            lines.append(GAPS.format(100 * self.settings["gaps"]))
        if self.settings.get("drawn", len(self)) < len(self) - copies:
            lines.append(f"{self.settings['drawn']:,} of them were drawn, the others go with the nearest")
        if self.gc is not None:
            lines.append(f"GC varies by {self.gc[0]:.4f} within clusters, by {self.gc[1]:.4f} over all (sd)")
        lines += agreement_text(self.agreement)
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
    method: Method = "infomap",
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

    Near-duplicates (`kinmer.vectors.duplicates`: copies, reverse complements, sequences that share most of
    their words, such as those of samples that overlap) are brought together first: graph, longest edge and
    clusters are of one representative each, and the others go with it.

    Parameters
    ----------
    source, vectors, ids, metric : what `kinmer.vectors.open_space` takes, or a Space.
    metadata : a TSV that is joined by id; its columns named in `labels` are compared with the clusters.
    method : ``infomap`` or ``leiden`` on the graph of the k nearest, or ``hdbscan`` on a map.
    k : neighbours of a sequence. max_distance : the longest edge; None: what is usual for the distance to the
        nearest (`usual_distance`). max_in_degree : edges that a sequence may have from others that name it;
        None: 4 k. mutual : an edge must be named from both ends. resolution : of Leiden; more gives smaller
        clusters, and more sequences need more of it.
    min_size : smaller clusters count as none.
    coordinates : key of the map in ``obsm`` (hdbscan).
    output : folder of the tables. keep : clusters go into ``obs["cluster"]`` of a store or an AnnData.
    force : replace an output, and clusters that the store has.

    The same points, settings and seed give the same clusters up to 50,000 points; above, the engine's graph
    depends on the threads' timing.

    Raises UsageError for settings that make no sense, an output that exists and a missing library,
    InputError where there is no map to look at, and what opening the points raises.
    """
    _check(method, k, max_distance, max_in_degree, resolution, min_size)
    given: dict[str, Any] = {"k": k, "max_distance": max_distance, "max_in_degree": max_in_degree}
    given |= {"mutual": mutual, "resolution": resolution, "coordinates": coordinates}
    asked = {"vectors": str(vectors), "metric": metric, "method": method, "seed": seed, "min_size": min_size}
    asked |= {name: given[name] for name in OF_METHOD[method]}
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    folder = None if output is None else Path(output)
    in_store = keep and isinstance(space.profiles, ProfileStore)
    there = in_store and CLUSTER in _known(space)
    found = None
    if folder is not None and in_store and not there and not force:
        # A run that was killed between its folder and the store's column goes on here.
        settle(folder)
        found = kept_numbers(folder, asked, space.ids.tolist())
    unwritten = folder if found is None else None
    if unwritten is not None:
        check_output(unwritten, force=force, kind=CLUSTERING)
    if there and not force:
        raise UsageError("the store has clusters already", check=KEPT, place=space.place)
    more: dict[str, Any] = {}
    representative = None
    if found is None:
        found, more, rows = _found(space, asked, threads)
        representative = space.ids[rows]
    settings = {**asked, "vectors": space.vectors, "metric": space.metric, **more}
    result = replace(_described(space, found, settings, asked, labels), representative=representative)
    if unwritten is not None:
        result.write(unwritten, force=force)
    if keep:
        _keep(space, result)
    return result


def _found(
    space: Space, asked: dict[str, Any], threads: int | None
) -> tuple[NDArray[np.int64], dict[str, Any], NDArray[np.int64]]:
    """The cluster of every point, what the settings came to, and every point's representative."""
    min_size, seed = asked["min_size"], asked["seed"]
    more: dict[str, Any]
    if asked["method"] == "hdbscan":
        where = _map_of(space, asked["coordinates"])
        least = max(min_size, LEAST_DENSE)
        together = contracted(space, on_map(where), MAP_NEIGHBORS)
        kept = np.unique(together.representative)
        found = by_density(where[kept], min_size=least, seed=seed)
        more = {"min_size": least, "drawn": min(len(kept), DENSE_SAMPLE)}
    else:
        k = asked["k"]
        with Neighbors(space, threads=threads) as neighbors:
            together = contracted(space, neighbors.graph, k)
        kept = np.unique(together.representative)
        most = 4 * k if asked["max_in_degree"] is None else asked["max_in_degree"]
        edges = edges_of(
            together.graph, max_distance=asked["max_distance"], max_in_degree=most, mutual=asked["mutual"]
        )
        with step("Communities"):
            found = communities(edges, asked["method"], resolution=asked.get("resolution", 1), seed=seed)
        more = {"max_distance": edges.max_distance, "max_in_degree": most, "scale": edges.scale}
        more["edges"] = len(edges.pairs)
    # Near-duplicates follow their representative.
    members = found[np.searchsorted(kept, together.representative)]
    more |= {"near_duplicates": len(members) - len(kept), "by_words": together.by_words}
    more["gaps"] = together.gaps
    return numbered(members, min_size), more, together.representative


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
    space: Space,
    found: NDArray[np.int64],
    settings: dict[str, Any],
    asked: dict[str, Any],
    labels: Sequence[str],
) -> Clustering:
    agreed = agreements(space.obs, found, ranks=labels)
    gc = gc_spans(found, space.obs["gc"].to_numpy(np.float64)) if "gc" in space.obs else None
    far = mean_distances(space, found)
    return Clustering(space.ids, found, space.obs, settings, agreed, gc, far, asked)


def _known(space: Space) -> pd.DataFrame:
    """What the store itself tells, without metadata joined to it."""
    return space.obs if space.profiles is None else space.profiles.obs


def _keep(space: Space, result: Clustering) -> None:
    if isinstance(space.profiles, AnnDataProfiles):
        space.profiles.anndata.obs[CLUSTER] = result.cluster
    elif isinstance(space.profiles, ProfileStore):
        space.profiles.write_obs(CLUSTER, result.cluster)
