"""Clusters of any origin compared with labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.clusters.agreement import GENOME, RANKS, Agreement, agreement_of, agreement_text
from kinmer.clusters.writing import write_agreement
from kinmer.errors import InputError
from kinmer.evaluate.measures import label_table
from kinmer.files import write_json, written_together
from kinmer.inputs import described
from kinmer.profiles import open_profiles
from kinmer.taxonomy import known_rows, rank_columns

__all__ = ["CLUSTER", "ClusterReport", "agreements", "evaluate_clusters"]

CLUSTER = "cluster"
IDS = ("id", "sequence_id")


@dataclass(frozen=True)
class ClusterReport:
    """What `evaluate_clusters` found: clusters of two or more sequences, sequences in them and in all."""

    place: str
    column: str
    clusters: int
    inside: int
    sequences: int
    agreement: tuple[Agreement, ...]

    def text(self) -> str:
        """Some lines for people."""
        first = f"{self.clusters:,} clusters of {self.inside:,} of {self.sequences:,} sequences"
        return "\n".join([first, *agreement_text(self.agreement)])

    @staticmethod
    def outputs(stem: str | Path) -> list[Path]:
        """The files that `write` makes."""
        return [Path(f"{stem}.tsv"), Path(f"{stem}.json")]

    def write(self, stem: str | Path) -> list[Path]:
        """Write ``STEM.tsv``, a row a rank, and ``STEM.json``; gives their paths."""
        table, told_all = self.outputs(stem)
        with written_together(table, told_all) as (table_aside, told_aside):
            write_agreement(table_aside, self.agreement)
            write_json(told_aside, {**vars(self), "agreement": [one._asdict() for one in self.agreement]})
        return [table, told_all]


def evaluate_clusters(
    source: Any,
    *,
    labels: str | Path | None = None,
    column: str = CLUSTER,
    ranks: Sequence[str] = RANKS,
) -> ClusterReport:
    """How clusters, by whatever program, agree with labels.

    source : a table with tabs and the columns ``id`` (or ``sequence_id``) and `column`, such as
        ``cluster_members.tsv``; the folder that `cluster` wrote; a profile store or an AnnData with `column`
        in obs.
    labels : a TSV with ``id`` and ranks, which are also looked for in the source.
    column : names of clusters. ``-1``, ``.`` and nothing are in none; in a column ``cluster`` so is ``0``.
    ranks : columns to compare with

    Raises InputError where there are no clusters, or no labels.
    """
    ids, known, place = _opened(source)
    if column not in known:
        listed = ", ".join(map(str, known.columns)) or "none"
        raise InputError(
            f"there is no column {column!r}", f"there are {listed}", "give --column", place=place
        )
    number = _numbers(known[column])
    if labels is not None:
        more = label_table(ids, labels).set_index(known.index)
        known = pd.concat([known.drop(columns=[one for one in more if one in known]), more], axis=1)
    found = agreements(known, number, ranks=ranks)
    if not found:
        raise InputError(
            "no sequence has a label", f"looked for {', '.join(ranks)}", "give --labels", place=place
        )
    sizes = np.bincount(number)[1:]
    several = sizes[sizes > 1]
    counts = (len(several), int(several.sum()), len(number))
    return ClusterReport(place, column, *counts, found)


def agreements(
    obs: pd.DataFrame,
    cluster: NDArray[np.int64],
    *,
    ranks: Sequence[str] = RANKS,
) -> tuple[Agreement, ...]:
    """The agreement of clusters (n,; 0: none) with the columns of `obs` (n rows) that are called as ranks."""
    by_name = {str(name).lower(): str(name) for name in obs.columns}
    by_name |= rank_columns([str(name) for name in obs.columns])
    length = None
    if size := next((name for name in ("bases", "length") if name in obs), None):
        length = pd.to_numeric(obs[size], errors="coerce").to_numpy(np.float64)
    found = (
        agreement_of(
            cluster,
            obs[by_name[rank]],
            rank=rank,
            length=length,
            genome=obs[by_name[GENOME]] if GENOME in by_name else None,
        )
        for rank in ranks
        if rank in by_name
    )
    return tuple(one for one in found if one is not None)


def _opened(source: Any) -> tuple[list[str], pd.DataFrame, str]:
    """Ids, what is known of them, and where it is from."""
    if isinstance(source, str | Path) and (Path(source) / "clusters.json").is_file():
        source = Path(source) / "cluster_members.tsv"
    if not isinstance(source, str | Path) or Path(source).is_dir():
        profiles = open_profiles(source)
        place = str(source) if isinstance(source, str | Path) else type(source).__name__
        return [str(one) for one in profiles.ids], profiles.obs, place
    try:
        table = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except FileNotFoundError:
        raise InputError("no such file", check="is the path right?", place=source) from None
    except (OSError, ValueError) as error:
        what = described(source)
        why = str(error) if what in ("a table", "a file") else f"this is {what}, not a table"
        raise InputError("the clusters cannot be read", why, place=source) from error
    name = next((one for one in IDS if one in table), None)
    if name is None:
        what = described(source)
        raise InputError(
            "there is no column id or sequence_id",
            f"this is {what}" if what != "a table" else f"there are {', '.join(map(str, table.columns))}",
            "is there a header with tabs? kinmer cluster writes the sequences to cluster_members.tsv",
            place=source,
        )
    twice = table[name][table[name].duplicated()]
    if len(twice):
        raise InputError(f"the id {twice.iloc[0]!r} occurs twice", place=source)
    return table[name].tolist(), table, str(source)


def _numbers(names: pd.Series) -> NDArray[np.int64]:
    """Clusters from 1, 0 for none."""
    text = names.astype(object).where(names.notna(), "").astype(str)
    none = text.isin(("-1", "-1.0")) | ~known_rows(CLUSTER, text)
    if names.name == CLUSTER:
        none |= text.isin(("0", "0.0"))
    return np.asarray(pd.factorize(text.where(~none, None))[0] + 1, np.int64)
