"""How clusters agree with labels, rank by rank: clusters of kinmer or of any other program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import InputError
from kinmer.evaluate.measures import label_table
from kinmer.files import write_json, written_together
from kinmer.inputs import described
from kinmer.profiles import open_profiles
from kinmer.tables import write_table
from kinmer.taxonomy import known_rows, rank_columns

CLUSTER, GENOME = "cluster", "genome_id"
IDS = ("id", "sequence_id", "query_id")
# Columns that are taken for labels.
RANKS = (
    GENOME,
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
# Genomes are left out one by one, or where there are more, in so many groups.
GROUPS = 100
BY_BASES = ("purity", "completeness_share", "v_measure", "ari", "f1", "fragmentation")
WITH_INTERVAL = ("purity", "v_measure", "ari", "f1")
Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Figures = dict[str, float | None]


class Agreement(NamedTuple):
    """Clusters against the labels of one rank.

    sequences, labels, clusters : those that count, which have a label; unlabelled : sequences left out. A
    sequence in no cluster is a cluster of its own. purity : share of the sequences that carry the commonest
    label of their cluster. completeness_share : share that lie in the commonest cluster of their label.
    homogeneity, completeness, v_measure : Rosenberg and Hirschberg 2007. ari : adjusted Rand index (Hubert
    and Arabie 1985). precision, recall, f1 : of pairs of sequences: in one cluster, of one label.
    fragmentation : mean number of clusters that hold 90 % of a label's sequences, over labels with two or
    more.

    …_bases : the same with every sequence weighing its bases, a pair the product of the two. …_low,
    …_high : 95 % interval from leaving genomes out (jackknife, Efron and Stein 1981, Ann Stat 9:586),
    clusters as they are; None without genomes. (A bootstrap would draw genomes twice, whose pieces then make
    pairs that nobody has, and so flatter the figures.)
    """

    rank: str
    sequences: int
    unlabelled: int
    labels: int
    clusters: int
    purity: float
    completeness_share: float
    homogeneity: float
    completeness: float
    v_measure: float
    ari: float
    precision: float | None
    recall: float | None
    f1: float | None
    fragmentation: float | None
    purity_bases: float | None = None
    completeness_share_bases: float | None = None
    v_measure_bases: float | None = None
    ari_bases: float | None = None
    f1_bases: float | None = None
    fragmentation_bases: float | None = None
    purity_low: float | None = None
    purity_high: float | None = None
    v_measure_low: float | None = None
    v_measure_high: float | None = None
    ari_low: float | None = None
    ari_high: float | None = None
    f1_low: float | None = None
    f1_high: float | None = None

    def interval(self, name: str) -> str:
        """A figure for people, with its interval where there is one."""
        value, low, high = (getattr(self, f"{name}{end}") for end in ("", "_low", "_high"))
        if value is None:
            return "–"
        return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f}–{high:.3f})"


@dataclass(frozen=True)
class ClusterReport:
    """Result of `evaluate_clusters`: clusters of two or more sequences, sequences in them and in all."""

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
        paths = self.outputs(stem)
        with written_together(*paths) as (table, numbers):
            write_table(table, Agreement._fields, self.agreement)
            write_json(numbers, {**vars(self), "agreement": [row._asdict() for row in self.agreement]})
        return paths


def evaluate_clusters(
    source: Any,
    *,
    labels: str | Path | None = None,
    column: str = CLUSTER,
    ranks: Sequence[str] = RANKS,
) -> ClusterReport:
    """How clusters, by whatever program, agree with labels.

    Parameters
    ----------
    source : Any
        A table with tabs and the columns ``id`` (or ``sequence_id``) and `column`, such as
        ``cluster_members.tsv``; the folder that `cluster` wrote; a profile store or an AnnData with
        `column` in obs.
    labels : str | Path | None
        A TSV with ``id`` and ranks, which are also looked for in the source.
    column : str
        Names of clusters. ``-1``, ``.`` and nothing are in none; in a column ``cluster`` so is ``0``.
    ranks : Sequence[str]
        Columns to compare with.

    Notes
    -----
    Raises InputError where there are no clusters, or no labels.
    """
    ids, obs, place = _opened(source)
    if column not in obs:
        listed = ", ".join(map(str, obs.columns)) or "none"
        raise InputError(
            f"there is no column {column!r}", f"there are {listed}", "give --column", place=place
        )
    number = _numbers(obs[column])
    if labels is not None:
        more = label_table(ids, labels).set_index(obs.index)
        obs = pd.concat([obs.drop(columns=[name for name in more if name in obs]), more], axis=1)
    compared = agreements(obs, number, ranks=ranks)
    if not compared:
        raise InputError(
            "no sequence has a label", f"looked for {', '.join(ranks)}", "give --labels", place=place
        )
    sizes = np.bincount(number)[1:]
    several = sizes[sizes > 1]
    return ClusterReport(place, column, len(several), int(several.sum()), len(number), compared)


def _opened(source: Any) -> tuple[list[str], pd.DataFrame, str]:
    """Ids, what is known of them, and where it is from."""
    if isinstance(source, str | Path) and (Path(source) / "clusters.json").is_file():
        source = Path(source) / "cluster_members.tsv"
    if not isinstance(source, str | Path) or Path(source).is_dir():
        profiles = open_profiles(source)
        place = str(source) if isinstance(source, str | Path) else type(source).__name__
        return [str(name) for name in profiles.ids], profiles.obs, place
    try:
        table = pd.read_csv(source, sep="\t", dtype=str, keep_default_na=False, quoting=3)
    except FileNotFoundError:
        raise InputError("no such file", check="is the path right?", place=source) from None
    except (OSError, ValueError) as error:
        what = described(source)
        why = str(error) if what in ("a table", "a file") else f"this is {what}, not a table"
        raise InputError("the clusters cannot be read", why, place=source) from error
    key = next((name for name in IDS if name in table), None)
    if key is None:
        what = described(source)
        raise InputError(
            "there is no column id or sequence_id",
            f"this is {what}" if what != "a table" else f"there are {', '.join(map(str, table.columns))}",
            "is there a header with tabs? kinmer cluster writes the sequences to cluster_members.tsv",
            place=source,
        )
    twice = table[key][table[key].duplicated()]
    if len(twice):
        raise InputError(f"the id {twice.iloc[0]!r} occurs twice", place=source)
    return table[key].tolist(), table, str(source)


def _numbers(names: pd.Series) -> Codes:
    """Clusters from 1, 0 for none."""
    text = names.astype(object).where(names.notna(), "").astype(str)
    none = text.isin(("-1", "-1.0")) | ~known_rows(CLUSTER, text)
    if names.name == CLUSTER:
        none |= text.isin(("0", "0.0"))
    return np.asarray(pd.factorize(text.where(~none, None))[0] + 1, np.int64)


def agreements(obs: pd.DataFrame, cluster: Codes, *, ranks: Sequence[str] = RANKS) -> tuple[Agreement, ...]:
    """The agreement of clusters (n,; 0: none) with the columns of `obs` (n rows) that are named as ranks."""
    by_name = {str(name).lower(): str(name) for name in obs.columns}
    by_name |= rank_columns([str(name) for name in obs.columns])
    length = None
    if size := next((name for name in ("bases", "length") if name in obs), None):
        length = pd.to_numeric(obs[size], errors="coerce").to_numpy(np.float64)
    genome = obs[by_name[GENOME]] if GENOME in by_name else None
    compared = (
        agreement_of(cluster, obs[by_name[rank]], rank=rank, length=length, genome=genome)
        for rank in ranks
        if rank in by_name
    )
    return tuple(row for row in compared if row is not None)


def agreement_of(
    cluster: Codes,
    labels: pd.Series,
    *,
    rank: str = "",
    length: Floats | None = None,
    genome: pd.Series | None = None,
) -> Agreement | None:
    """The agreement of clusters (n,; 0: none) with labels (n,), those without a label left out.

    length : (n,) bases of the sequences. genome : (n,) what is left out for the intervals; a sequence without
    one is its own. None where no sequence has a label.
    """
    known = known_rows(rank or str(labels.name), labels)
    if not known.any():
        return None
    # Those in no cluster are strangers to one another.
    own = np.where(cluster > 0, cluster, -1 - np.arange(len(cluster)))[known]
    kind, names = pd.factorize(labels.to_numpy(object)[known].astype(str))
    member, groups = pd.factorize(own)
    cells = _Cells.of(member, kind)
    figures = cells.figures(np.ones(len(own)))
    more: Figures = {}
    if length is not None and np.nansum(length[known]) > 0:
        by_bases = cells.figures(np.nan_to_num(length[known]))
        more |= {f"{name}_bases": by_bases[name] for name in BY_BASES}
    if genome is not None:
        more |= _intervals(cells, _units(genome[known]), figures)
    counts = {"sequences": len(own), "unlabelled": int((~known).sum())}
    counts |= {"labels": len(names), "clusters": len(groups)}
    return Agreement(rank, **counts, **figures, **more)  # type: ignore[arg-type]


def _units(genome: pd.Series) -> Codes:
    """(n,) from 0: the genome of every sequence, or its group of genomes, mixed evenly."""
    known = known_rows(GENOME, genome)
    codes = pd.factorize(genome.astype(str))[0].astype(np.int64)
    alone = codes.max(initial=-1) + 1 + np.arange(len(codes))
    unit = pd.factorize(np.where(known, codes, alone))[0]
    order = np.random.default_rng(0).permutation(int(unit.max()) + 1)
    return np.asarray(order[unit] % GROUPS, np.int64)


def _intervals(cells: _Cells, unit: Codes, figures: Figures) -> Figures:
    """95 % intervals of figures from those without each unit (n,); none where there are too few."""
    units = int(unit.max()) + 1
    if units < 2:
        return {}
    from scipy.special import stdtrit

    order = np.argsort(unit, kind="stable")
    parts = np.split(order, np.flatnonzero(np.diff(unit[order])) + 1)
    without = [cells.figures(np.ones(len(unit)), left_out=part) for part in parts]
    reach = stdtrit(units - 1, 0.975)
    bounds: Figures = {}
    for name in WITH_INTERVAL:
        values = np.array([row[name] for row in without if row[name] is not None], np.float64)
        middle = figures[name]
        if middle is None or len(values) < units:
            continue
        error = np.sqrt((units - 1) / units * ((values - values.mean()) ** 2).sum())
        least = -1.0 if name == "ari" else 0.0
        bounds[f"{name}_low"] = max(least, float(middle - reach * error))
        bounds[f"{name}_high"] = min(1.0, float(middle + reach * error))
    return bounds


class _Cells(NamedTuple):
    """The pairs of cluster and label that occur, and which of them every sequence (n,) is in."""

    of_sequence: Codes
    cluster: Codes
    label: Codes

    @classmethod
    def of(cls, member: Codes, kind: Codes) -> _Cells:
        """From the cluster and label of every sequence, each from 0."""
        labels = int(kind.max()) + 1
        key, inverse = np.unique(member.astype(np.int64) * labels + kind, return_inverse=True)
        return cls(inverse, key // labels, key % labels)

    def figures(self, weights: Floats, *, left_out: Codes | None = None) -> Figures:
        """The figures of an `Agreement`, sequences weighing `weights` (n,), not all 0.

        left_out : rows of sequences that do not count; then fragmentation is not computed.
        """
        both: Floats = np.bincount(self.of_sequence, weights).astype(np.float64)
        squares = (weights**2).sum()
        if left_out is not None:
            gone = weights[left_out]
            both -= np.bincount(self.of_sequence[left_out], gone, len(both))
            squares -= (gone**2).sum()
        together: Floats = np.bincount(self.cluster, both).astype(np.float64)
        alike: Floats = np.bincount(self.label, both).astype(np.float64)
        precision, recall, f1, ari = _pairs(
            (both**2).sum(), (together**2).sum(), (alike**2).sum(), both.sum() ** 2, squares
        )
        homogeneity, completeness, v_measure = _entropies(both, together, alike)
        return {
            "purity": self._purest(self.cluster, both),
            "completeness_share": self._purest(self.label, both),
            "homogeneity": homogeneity,
            "completeness": completeness,
            "v_measure": v_measure,
            "ari": ari,
            "precision": precision,
            "recall": recall,
            "f1": f1,
            "fragmentation": self._pieces(both) if left_out is None else None,
        }

    def _purest(self, by: Codes, both: Floats) -> float:
        """Share of the weight in the largest cell of every cluster, or of every label."""
        largest = np.zeros(int(by.max()) + 1)
        np.maximum.at(largest, by, both)
        return float(largest.sum() / both.sum())

    def _pieces(self, both: Floats) -> float | None:
        """Clusters that hold nine tenths of a label, mean over labels of two or more sequences."""
        order = np.lexsort((-both, self.label))
        label, value = self.label[order], both[order]
        several = np.bincount(self.label[self.of_sequence]) > 1
        total, first = np.bincount(label, value), np.searchsorted(label, np.arange(len(several)))
        before = np.cumsum(value) - value
        within = before - before[first][label]
        needed = np.bincount(label, within < (0.9 - 1e-9) * total[label])
        kept = needed[several & (total > 0)]
        return float(kept.mean()) if kept.size else None


def _pairs(
    both: float, together: float, alike: float, everything: float, squares: float
) -> tuple[float | None, float | None, float | None, float]:
    """Precision, recall and F1 of pairs, None where there are none to be right about; adjusted Rand index.

    From sums of squared weights: of cells, clusters, labels, the whole, and of the sequences themselves. A
    pair weighs the product of its two.
    """
    tiny = 1e-12 * squares
    both, together, alike, everything = (
        max(0.0, float(total - squares) / 2) for total in (both, together, alike, everything)
    )
    precision, recall = (both / pairs if pairs > tiny else None for pairs in (together, alike))
    f1 = 2 * both / (together + alike) if together + alike > tiny else None
    chance = together * alike / everything if everything > tiny else 0.0
    most = (together + alike) / 2
    return precision, recall, f1, float((both - chance) / (most - chance)) if most - chance > tiny else 1.0


def _entropies(both: Floats, together: Floats, alike: Floats) -> tuple[float, float, float]:
    """Homogeneity, completeness and V-measure from weights of cells, clusters and labels."""

    def entropy(weights: Floats) -> float:
        share = weights[weights > 0] / weights.sum()
        return float(-(share * np.log(share)).sum())

    joint, of_clusters, of_labels = entropy(both), entropy(together), entropy(alike)
    shared = max(0.0, of_clusters + of_labels - joint)
    homogeneity = min(1.0, shared / of_labels) if of_labels > 1e-12 else 1.0
    completeness = min(1.0, shared / of_clusters) if of_clusters > 1e-12 else 1.0
    total = homogeneity + completeness
    return homogeneity, completeness, 2 * homogeneity * completeness / total if total else 0.0


def agreement_text(rows: Sequence[Agreement]) -> list[str]:
    """A line a rank, with a heading; none where no rank is known."""
    if not rows:
        return []
    wide = 21 if any(row.v_measure_low is not None for row in rows) else 13
    names = "".join(f"{name:>{wide}}" for name in ("V", "ARI", "F1 of pairs"))
    lines = [f"{'':14}{'labeled':>10}{'purity':>8}{'complete':>10}{names}{'fragmentation':>15}"]
    for row in rows:
        shown = "".join(f"{row.interval(name):>{wide}}" for name in ("v_measure", "ari", "f1"))
        pieces = "–" if row.fragmentation is None else f"{row.fragmentation:.2f}"
        shares = f"{row.purity:8.3f}{row.completeness_share:10.3f}"
        lines.append(f"{row.rank:14}{row.sequences:10,}{shares}{shown}{pieces:>15}")
    left = max(row.unlabelled for row in rows)
    return lines + ([f"sequences without a label are left out (up to {left:,})"] if left else [])


def gc_spans(cluster: Codes, obs: pd.DataFrame) -> tuple[float, float] | None:
    """Mean standard deviation of GC within clusters of two or more, weighted by size, and that of all."""
    if "gc" not in obs:
        return None
    gc = obs["gc"].to_numpy(np.float64)
    known = (cluster > 0) & np.isfinite(gc)
    if known.sum() < 2:
        return None
    grouped = pd.Series(gc[known]).groupby(cluster[known])
    sizes, spread = grouped.size(), grouped.std(ddof=0)
    kept = sizes > 1
    if not kept.any():
        return None
    return float((spread[kept] * sizes[kept]).sum() / sizes[kept].sum()), float(gc[known].std())
