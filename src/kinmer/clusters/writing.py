"""Clusters as tables and pictures in a folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import __version__
from kinmer.clusters.agreement import Agreement
from kinmer.errors import FormatError
from kinmer.files import FolderKind, built_aside, check_output, hash_ids, read_json, replaced_text

if TYPE_CHECKING:
    from kinmer.clusters.running import Clustering

__all__ = ["CLUSTERING", "cluster_table", "kept_numbers", "write_agreement", "write_clustering"]

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
        _write(aside / "clusters.tsv", ["cluster", *table.columns], rows)
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
        _write(aside / "cluster_members.tsv", header, members)
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
            from kinmer.plots.clusters import cluster_sizes

            plots.save(cluster_sizes(table["size"].to_numpy(), table["gc_sd"].to_numpy()), aside / "clusters")
    return sorted(folder.iterdir())


def write_agreement(path: Path, found: Sequence[Agreement]) -> None:
    """A row a rank."""
    _write(path, Agreement._fields, found)


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


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with replaced_text(path) as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            file.write("\t".join(map(_shown, row)) + "\n")


def _shown(value: Any) -> str:
    if value is None or value is pd.NA or value != value:
        return ""
    if isinstance(value, float | np.floating):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.6g}"
    return " ".join(str(value).split())


def _plain(value: Any) -> Any:
    return value.item()
