"""Clusters of all sequences of a source: made, kept beside the profiles, and written into a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer._version import __version__
from kinmer.clusters.agreement import CLUSTER, RANKS, Agreement, agreement_text, agreements, gc_spans
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
from kinmer.files import built_aside, hash_ids, settle
from kinmer.folders import FolderKind, check_output
from kinmer.inputs import read_json
from kinmer.library import open_labeled
from kinmer.profiles import AnnDataProfiles, ProfileStore
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.tables import write_table
from kinmer.vectors import Neighbors, Vectors, contracted

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

FORMAT = 1
CLUSTERING = FolderKind(
    "folder of clusters",
    "clusters.json",
    lambda recorded: "kinmer" in recorded and "clusters" in recorded,
    r"clusters\.(?:tsv|json|png|svg)|cluster_members\.tsv|agreement\.tsv",
)
# Settings that matter to a method.
_GRAPH = ("k", "max_distance", "max_in_degree", "mutual")
OF_METHOD = {"infomap": _GRAPH, "leiden": (*_GRAPH, "resolution"), "hdbscan": ("coordinates",)}
# The fewest points that make a dense part, as in scikit-learn.
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
KEPT = "use --force to replace them, or --no-keep to leave them"
Rows = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class ClusterSettings:
    """How clusters are made; checked at once.

    method : ``infomap`` or ``leiden`` on the graph of the k nearest, or ``hdbscan`` on a map.
    k : neighbors of a sequence. max_distance : the longest edge; None: what is usual for the distance to the
        nearest (`usual_distance`). max_in_degree : edges that a sequence may have from others whose neighbor
        it is; None: 4 k. mutual : each end must be a neighbor of the other.
    resolution : of Leiden; more gives smaller clusters, and more sequences need more of it.
    min_size : smaller clusters count as none. coordinates : key of the map in ``obsm`` (hdbscan).
    """

    method: Method = "infomap"
    k: int = 15
    max_distance: float | None = None
    max_in_degree: int | None = None
    mutual: bool = False
    resolution: float = 3.0
    min_size: int = 2
    coordinates: str = "X_tsne"
    seed: int = 0

    def __post_init__(self) -> None:
        check_method(self.method)
        if self.k < 1 or self.min_size < 1 or (self.max_in_degree is not None and self.max_in_degree < 1):
            raise UsageError("k, min_size and max_in_degree must be at least 1")
        if not self.resolution > 0 or (self.max_distance is not None and not self.max_distance >= 0):
            raise UsageError("the resolution must be above 0, and a distance not negative")

    def of_method(self) -> dict[str, Any]:
        """The settings that matter to the method."""
        return {name: getattr(self, name) for name in ("method", "seed", "min_size", *OF_METHOD[self.method])}


@dataclass(frozen=True)
class Clustering:
    """The cluster of every sequence.

    ids : (n,) str. cluster : (n,) int64 from 1, the largest first; 0: in none. obs : what is known of the
    sequences. settings : what it was made with. agreement : with the labels of every rank that `obs` has.
    gc : standard deviation of GC within clusters and over all, where GC is known. mean_distance : (clusters,)
    of members to their cluster's center. asked : the settings as they were given. representative : (n,) the
    id of the sequence whose near-duplicate it is, else its own; None where a folder's clusters were kept.
    """

    ids: NDArray[np.object_]
    cluster: Rows
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
        inside, largest = int((self.cluster > 0).sum()), int((self.cluster == 1).sum())
        lines = [
            f"{self.clusters:,} clusters of {inside:,} of {len(self):,} sequences, the largest of {largest:,}"
        ]
        made = self.settings
        if "edges" in made:
            lines.append(
                f"edges up to {made['max_distance']:.4g} ({made['metric']}), {made['edges']:,} of them"
            )
        copies = made.get("near_duplicates", 0)
        if copies:
            kind = "near-duplicates" if made["by_words"] else "equal vectors"
            lines.append(f"{copies:,} {kind} go with the sequence that they repeat; edges are of the others")
        if not made.get("by_words", True) and made["gaps"] >= MANY_GAPS:
            lines.append(GAPS.format(100 * made["gaps"]))
        if made.get("drawn", len(self)) < len(self) - copies:
            lines.append(f"{made['drawn']:,} of them were drawn, the others go with the nearest")
        if self.gc is not None:
            lines.append(f"GC varies by {self.gc[0]:.4f} within clusters, by {self.gc[1]:.4f} over all (sd)")
        return "\n".join([*lines, *agreement_text(self.agreement)])

    def write(self, folder: str | Path, *, force: bool = False) -> list[Path]:
        """Write ``clusters.tsv``, ``cluster_members.tsv``, ``clusters.json`` and a picture into a folder.

        Without matplotlib (the extra ``explore``) there is no picture.
        """
        folder = Path(folder)
        check_output(folder, force=force, kind=CLUSTERING)
        with built_aside(folder) as aside:
            table = cluster_table(self)
            write_table(aside / "clusters.tsv", [CLUSTER, *table.columns], table.itertuples())
            self._write_members(aside / "cluster_members.tsv")
            if self.agreement:
                write_table(aside / "agreement.tsv", Agreement._fields, self.agreement)
            numbers = json.dumps(self._summary(), indent=1, default=_plain, allow_nan=False)
            (aside / "clusters.json").write_text(numbers + "\n")
            if self.clusters and find_spec("matplotlib") is not None:
                from kinmer import plots
                from kinmer.plots.charts import cluster_sizes

                plots.save(
                    cluster_sizes(table["size"].to_numpy(), table["gc_sd"].to_numpy()), aside / "clusters"
                )
        return sorted(folder.iterdir())

    def _summary(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "kinmer": __version__,
            "ids": hash_ids(self.ids),
            "asked": self.asked,
            "settings": self.settings,
            "sequences": len(self),
            "in_a_cluster": int((self.cluster > 0).sum()),
            "clusters": self.clusters,
            "gc_sd_within": None if self.gc is None else self.gc[0],
            "gc_sd_all": None if self.gc is None else self.gc[1],
            "agreement": [row._asdict() for row in self.agreement],
        }

    def _write_members(self, path: Path) -> None:
        """A row a sequence: by cluster, those of none last."""
        columns = [name for name in self.obs.columns if name not in (CLUSTER, "representative")]
        order = np.argsort(np.where(self.cluster > 0, self.cluster, np.iinfo(np.int64).max), kind="stable")
        repeated = np.array(self.ids if self.representative is None else self.representative, dtype=object)
        repeated[repeated == self.ids] = None
        known = (self.obs[name].to_numpy() for name in columns)
        rows = zip(*(values[order] for values in (self.ids, self.cluster, repeated, *known)), strict=True)
        write_table(path, ["id", CLUSTER, "representative", *map(str, columns)], rows)


def _plain(value: Any) -> Any:
    return value.item()


def cluster_table(made: Clustering) -> pd.DataFrame:
    """A row a cluster: size, bases, GC, the longest member, mean distance of the members to their center."""
    frame = pd.DataFrame({CLUSTER: made.cluster, "id": made.ids})
    for name in ("length", "gc"):
        frame[name] = made.obs[name].to_numpy(np.float64) if name in made.obs else np.nan
    # Letters that are not bases count only where nobody knows how many they are.
    frame["bases"] = made.obs["bases"].to_numpy(np.float64) if "bases" in made.obs else frame["length"]
    inside = frame[frame.cluster > 0]
    grouped = inside.groupby(CLUSTER, sort=True)
    # Of equal length, and where none is known, the first.
    longest = inside.assign(length=inside.length.fillna(-1)).groupby(CLUSTER).length.idxmax()
    return pd.DataFrame(
        {
            "size": grouped.size(),
            "bases": grouped.bases.sum(min_count=1),
            "gc_min": grouped.gc.min(),
            "gc_max": grouped.gc.max(),
            "gc_sd": grouped.gc.std(ddof=0),
            "longest": frame.id[longest].set_axis(longest.index),
            "longest_length": frame.length[longest].set_axis(longest.index),
            "mean_distance": np.nan if made.mean_distance is None else made.mean_distance,
        }
    )


def cluster(
    source: Any,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    settings: ClusterSettings | None = None,
    labels: Sequence[str] = RANKS,
    threads: int | None = None,
    output: str | Path | None = None,
    keep: bool = True,
    force: bool = False,
    **changes: Any,
) -> Clustering:
    """Clusters of all sequences.

    Near-duplicates (`kinmer.vectors.duplicates`: copies, reverse complements, sequences that share most of
    their words, such as those of samples that overlap) are brought together first: graph, longest edge and
    clusters are of one representative each, and the others go with it. The same seed gives
    the same clusters up to 50,000 points. Above, the engine's graph depends on the threads' timing.

    Parameters
    ----------
    source, vectors, ids, metric : Any
        What `kinmer.vectors.open_vectors` takes.
    metadata : a TSV, joined by id; its columns named in `labels` are compared with the clusters.
    settings, changes : method, k and the other fields of `ClusterSettings`; each can be given by its name.
    output, force : folder of the tables; replace it, and clusters that the store has.
    keep : clusters go into ``obs["cluster"]`` of a store or an AnnData.

    Raises
    ------
    UsageError, InputError : impossible settings, an output that exists, a missing library or map.
    """
    chosen = replace(settings or ClusterSettings(), **changes)
    asked = {"vectors": str(vectors), "metric": metric, **chosen.of_method()}
    points = open_labeled(source, vectors, ids=ids, metric=metric, metadata=metadata)
    numbers = _kept(points, asked, output, keep=keep, force=force)
    unwritten, more, rows = (output if numbers is None else None), dict[str, Any](), None
    if numbers is None:
        numbers, more, rows = _clustered(points, chosen, threads)
    result = Clustering(
        points.ids,
        numbers,
        points.obs,
        {**asked, "vectors": points.name, "metric": points.metric, **more},
        agreements(points.obs, numbers, ranks=labels),
        gc_spans(numbers, points.obs),
        mean_distances(points, numbers),
        asked,
        None if rows is None else points.ids[rows],
    )
    if unwritten is not None:
        result.write(unwritten, force=force)
    if keep and isinstance(points.profiles, AnnDataProfiles):
        points.profiles.anndata.obs[CLUSTER] = result.cluster
    elif keep and isinstance(points.profiles, ProfileStore):
        points.profiles.write_obs(CLUSTER, result.cluster)
    return result


def _kept(
    points: Vectors, asked: dict[str, Any], output: str | Path | None, *, keep: bool, force: bool
) -> Rows | None:
    """The clusters (n,) that the folder has already, made as asked; UsageError where outputs exist."""
    profiles = points.profiles
    in_store = keep and isinstance(profiles, ProfileStore)
    there = in_store and profiles is not None and CLUSTER in profiles.obs
    numbers, folder = None, None if output is None else Path(output)
    if folder is not None and in_store and not there and not force:
        # A run that was killed between its folder and the store's column resumes here.
        settle(folder)
        numbers = _numbers_in(folder, asked, points.ids.tolist())
    if folder is not None and numbers is None:
        check_output(folder, force=force, kind=CLUSTERING)
    if there and not force:
        raise UsageError("the store has clusters already", check=KEPT, place=points.place)
    return numbers


def _numbers_in(folder: Path, asked: dict[str, Any], ids: Sequence[str]) -> Rows | None:
    try:
        recorded = read_json(folder / "clusters.json")
        if recorded["format"] != FORMAT or recorded["asked"] != asked or recorded["ids"] != hash_ids(ids):
            return None
        table = pd.read_csv(
            folder / "cluster_members.tsv",
            sep="\t",
            usecols=["id", CLUSTER],
            dtype={"id": str},
            keep_default_na=False,
            quoting=3,
            index_col="id",
        )
        return np.asarray(table[CLUSTER].loc[list(ids)].to_numpy(np.int64))
    except (FormatError, OSError, ValueError, KeyError):
        return None


def _clustered(
    points: Vectors, settings: ClusterSettings, threads: int | None
) -> tuple[Rows, dict[str, Any], Rows]:
    """The cluster of every point, what the settings came to, and every point's representative."""
    more: dict[str, Any]
    if settings.method == "hdbscan":
        place = points.beside(settings.coordinates)
        if place is None:
            raise InputError(
                f"there is no {settings.coordinates} beside the profiles",
                check="run kinmer map first",
                place=points.place,
            )
        least = max(settings.min_size, LEAST_DENSE)
        together = contracted(points, on_map(place), MAP_NEIGHBORS)
        kept = np.unique(together.representative)
        community = by_density(place[kept], min_size=least, seed=settings.seed)
        more = {"min_size": least, "drawn": min(len(kept), DENSE_SAMPLE)}
    else:
        k, most = settings.k, settings.max_in_degree
        with Neighbors(points, threads=threads) as neighbors:
            together = contracted(points, neighbors.graph, k)
        kept = np.unique(together.representative)
        most = 4 * k if most is None else most
        edges = edges_of(
            together.graph, max_distance=settings.max_distance, max_in_degree=most, mutual=settings.mutual
        )
        with step("Communities"):
            community = communities(
                edges, settings.method, resolution=settings.resolution, seed=settings.seed
            )
        more = {"max_distance": edges.max_distance, "max_in_degree": most, "scale": edges.scale}
        more["edges"] = len(edges.pairs)
    # Near-duplicates follow their representative.
    members = community[np.searchsorted(kept, together.representative)]
    more |= {"near_duplicates": len(members) - len(kept), "by_words": together.by_words}
    more["gaps"] = together.gaps
    return numbered(members, settings.min_size), more, together.representative
