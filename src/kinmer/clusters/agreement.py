"""How clusters agree with labels, rank by rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["RANKS", "Agreement", "agreement_of", "gc_spans"]

# Columns that are taken for labels.
RANKS = (
    "genome_id",
    "ani95_cluster",
    "species",
    "genus",
    "family",
    "order",
    "class",
    "phylum",
    "domain",
    "molecule",
)
UNTOLD = ("", ".", "nan", "None")
Codes = NDArray[np.int64]


class Agreement(NamedTuple):
    """Clusters against the labels of one rank.

    sequences, labels, clusters : that count: those with a label. A sequence in no cluster is one of its own.
    purity : share of the sequences, or of their bases, that carry the commonest label of their cluster.
    completeness_share : share that lie in the commonest cluster of their label. homogeneity, completeness,
    v_measure : Rosenberg and Hirschberg 2007. ari : adjusted Rand index (Hubert and Arabie 1985).
    precision, recall, f1 : of pairs of sequences: in one cluster, of one label. fragmentation : mean number
    of clusters that hold 90 % of a label's sequences, over labels with two or more.
    """

    rank: str
    sequences: int
    labels: int
    clusters: int
    purity: float
    purity_bases: float | None
    completeness_share: float
    homogeneity: float
    completeness: float
    v_measure: float
    ari: float
    precision: float | None
    recall: float | None
    f1: float | None
    fragmentation: float | None


def agreement_of(
    cluster: Codes, labels: pd.Series, *, rank: str = "", length: NDArray[np.float64] | None = None
) -> Agreement | None:
    """The agreement of clusters (n,; 0: none) with labels (n,), those without a label left out.

    length : (n,) bases of the sequences. None where no sequence has a label.
    """
    told = ~(labels.isna() | labels.astype(str).isin(UNTOLD)).to_numpy()
    if not told.any():
        return None
    from sklearn.metrics import adjusted_rand_score, homogeneity_completeness_v_measure

    # Those in no cluster are strangers to one another.
    own = np.where(cluster > 0, cluster, -1 - np.arange(len(cluster)))[told]
    names, kind = np.unique(labels.to_numpy(object)[told].astype(str), return_inverse=True)
    groups, member = np.unique(own, return_inverse=True)
    table = _table(member, kind, np.ones(len(own)))
    bases = None if length is None else _table(member, kind, np.nan_to_num(length[told]))
    homogeneity, completeness, v = homogeneity_completeness_v_measure(kind, member)
    precision, recall, f1 = _pairs(table)
    return Agreement(
        rank,
        len(own),
        len(names),
        len(groups),
        _purest(table, 0),
        None if bases is None or not bases.value.sum() else _purest(bases, 0),
        _purest(table, 1),
        float(homogeneity),
        float(completeness),
        float(v),
        float(adjusted_rand_score(kind, member)),
        precision,
        recall,
        f1,
        _fragmentation(table),
    )


class _Counts(NamedTuple):
    """A sparse table of clusters by labels: weights of the pairs that occur."""

    cluster: Codes
    label: Codes
    value: NDArray[np.float64]


def _table(member: Codes, kind: Codes, weights: NDArray[np.float64]) -> _Counts:
    key, inverse = np.unique(member * (kind.max() + 1) + kind, return_inverse=True)
    return _Counts(
        key // (kind.max() + 1), key % (kind.max() + 1), np.bincount(inverse, weights).astype(np.float64)
    )


def _purest(table: _Counts, by: int) -> float:
    """Share of the weight in the largest cell of every row (`by` 0) or column (1)."""
    row = table.cluster if by == 0 else table.label
    largest = np.zeros(row.max() + 1)
    np.maximum.at(largest, row, table.value)
    return float(largest.sum() / table.value.sum())


def _pairs(table: _Counts) -> tuple[float | None, float | None, float | None]:
    """Precision, recall and F1 of pairs; None where there are none to be right about."""

    def pairs(counts: NDArray[np.float64]) -> float:
        return float((counts * (counts - 1)).sum() / 2)

    both = pairs(table.value)
    together, alike = (
        pairs(np.bincount(one, table.value).astype(np.float64)) for one in (table.cluster, table.label)
    )
    precision, recall = both / together if together else None, both / alike if alike else None
    f1 = 2 * both / (together + alike) if together + alike else None
    return precision, recall, f1


def _fragmentation(table: _Counts) -> float | None:
    """Clusters that hold nine tenths of a label, mean over labels of two or more sequences."""
    order = np.lexsort((-table.value, table.label))
    needed = []
    label, value = table.label[order], table.value[order]
    for counts in np.split(value, np.flatnonzero(np.diff(label)) + 1):
        if counts.sum() > 1:
            needed.append(int(np.searchsorted(np.cumsum(counts), 0.9 * counts.sum() - 1e-9)) + 1)
    return float(np.mean(needed)) if needed else None


def gc_spans(cluster: Codes, gc: NDArray[np.float64]) -> tuple[float, float] | None:
    """Mean standard deviation of GC within clusters of two or more, weighted by size, and that of all."""
    there = (cluster > 0) & np.isfinite(gc)
    if there.sum() < 2:
        return None
    frame = pd.DataFrame({"cluster": cluster[there], "gc": gc[there]})
    grouped = frame.groupby("cluster").gc
    sizes, spread = grouped.size(), grouped.std(ddof=0)
    kept = sizes > 1
    if not kept.any():
        return None
    return float((spread[kept] * sizes[kept]).sum() / sizes[kept].sum()), float(frame.gc.std(ddof=0))
