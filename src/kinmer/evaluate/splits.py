"""Draws of references and queries: what the references know of a query is decided, then cut.

Genomes that share a species' name or a cluster are one *kind*, kinds that share a genus one *block*. A new
species is a whole kind, a new genus a whole block, so that nothing alike stays behind under another name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd

from kinmer.errors import InputError, UsageError
from kinmer.evaluate.collection import CELLS, GROUPS, PLASMIDS, VIRUSES, Collection

STRAIN, PART, SPECIES, GENUS = "known strain", "other part", "new species", "new genus"
CASES = (STRAIN, PART, SPECIES, GENUS)
# Share of the genera, and of the kinds of a genus, that leave the references.
TAKEN = 0.25
# Kinds of a block, genomes of a kind, and genomes of a group and a case that are asked for: no large one
# makes the figures, and a large collection takes no longer than one can wait.
MOST_KINDS, PER_KIND, MOST_GENOMES = 3, 2, 200
# Share of the letters of a query that may be other than ACGT; letters of the shortest reference.
UNKNOWN, LEAST = 0.01, 1000
# A quarter of fewer genera with a name is none.
FEWEST_GENERA = 4


class SplitOptions(TypedDict, total=False):
    """The fields of `SplitSettings`, as keyword arguments."""

    draws: int
    lengths: Sequence[int]
    completeness: Sequence[float]
    per_genome: int
    groups: Sequence[str]
    seed: int


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How references and queries are drawn.

    draws : independent ones. lengths : of the queries, letters. completeness : shares of every reference
    genome that the references hold. per_genome : queries of a length, at most. groups : of `GROUPS`; genomes
    of others are left out. Raises UsageError.
    """

    draws: int = 2
    lengths: Sequence[int] = (1_000, 2_000, 5_000, 10_000, 50_000)
    completeness: Sequence[float] = (1.0, 0.6)
    per_genome: int = 6
    groups: Sequence[str] = GROUPS
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.draws, self.per_genome) < 1 or self.seed < 0:
            raise UsageError("draws and queries per genome are at least 1, and a seed is not negative")
        if not self.lengths or min(self.lengths) < 100:
            raise UsageError("queries have at least 100 letters")
        if not self.completeness or not all(0 < one <= 1 for one in self.completeness):
            raise UsageError("completeness is a share above 0, at most 1")
        if odd := [one for one in self.groups if one not in GROUPS]:
            raise UsageError(f"{odd[0]!r} is none of the groups {', '.join(GROUPS)}")


def with_kinds(genomes: pd.DataFrame) -> pd.DataFrame:
    """The genomes with whole numbers ``kind`` and ``block``.

    A plasmid is of its host's kind. Clusters of plasmids do not join kinds: plasmids change hosts.
    """
    own = pd.Series([f"\t{name}" for name in genomes.index], index=genomes.index)
    species = genomes["species"].where(genomes["species"].ne(""), own)
    alike = genomes["cluster"].ne("") & genomes["group"].ne(PLASMIDS)
    kind = _joined([species, (genomes["group"] + "\t" + genomes["cluster"]).where(alike, own)])
    genus = genomes["genus"].where(genomes["genus"].ne(""), "\t" + kind.astype(str))
    return genomes.assign(kind=kind, block=_joined([kind, genus]))


def _joined(labels: Sequence[pd.Series]) -> pd.Series:
    """Numbers of the groups of rows that one of the labels holds together."""
    group = pd.Series(range(len(labels[0])), index=labels[0].index)
    while True:
        before = group
        for label in labels:
            group = group.groupby(label.to_numpy()).transform("min")
        if group.equals(before):
            return group


class Draw(NamedTuple):
    """Names of genomes: the references, and those that are taken out to be asked for."""

    references: list[str]
    asked: list[str]


# Genomes that leave the references, and those of them that are asked for.
Taken = Iterator[tuple[list[str], list[str]]]


def draw(genomes: pd.DataFrame, rng: np.random.Generator) -> Draw:
    """Take genera, then species, then strains out of the references.

    Plasmids of the plasmid taxonomic unit (``ptu``) of one whose host has left leave too.

    Raises InputError where there are too few genomes to take any.
    """
    genera = genomes.loc[genomes["genus"].ne(""), "genus"].nunique()
    if genera < FEWEST_GENERA:
        raise InputError(
            f"too few genera with a name: {genera}",
            f"a quarter of at least {FEWEST_GENERA} is held out as unknown",
            "give more genomes, or their taxonomy",
        )
    left, asked = genomes, list[str]()
    for chosen in (_new_genera, _new_species, _known_strains):
        taken = list(chosen(left, rng))
        left = left.drop(index=[one for out, _ in taken for one in out])
        asked += [one for _, some in taken for one in some]
        if chosen is _new_species:
            plasmids = genomes.loc[asked].query("group == @PLASMIDS and ptu != ''")
            left = left[left["group"].ne(PLASMIDS) | ~left["ptu"].isin(plasmids["ptu"])]
    return Draw(left.index.tolist(), asked)


def _new_genera(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """A quarter of the blocks with a genus, of viruses, of cells and of plasmids of no cell that is here."""
    has = [genomes["group"].eq(group).groupby(genomes["block"]).any() for group in (VIRUSES, CELLS)]
    stratum = pd.Series(np.select(has, [VIRUSES, CELLS], PLASMIDS), index=has[0].index)
    named = stratum[stratum.index.isin(genomes.loc[genomes["genus"].ne(""), "block"])]
    members = genomes.groupby("block").groups
    for _, blocks in named.groupby(named):
        for block in rng.permutation(blocks.index)[: round(TAKEN * len(blocks))]:
            whole = genomes.loc[members[block]]
            yield whole.index.tolist(), _asked(whole, MOST_KINDS, rng)


def _new_species(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """A quarter of the kinds, one at least, of every genus that has another kind."""
    gone = set[int]()
    for _, genus in genomes[genomes["genus"].ne("")].groupby("genus"):
        kinds = [one for one in rng.permutation(genus["kind"].unique()) if one not in gone]
        number = min(MOST_KINDS, max(1, round(TAKEN * len(kinds))), len(kinds) - 1)
        for kind in kinds[: max(0, number)]:
            gone.add(kind)
            whole = genomes[genomes["kind"] == kind]
            yield whole.index.tolist(), _asked(whole, 1, rng)


def _known_strains(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """One genome of a kind if another has its species and its cluster; of few kinds of a block."""
    known = genomes[genomes["species"].ne("")]
    # Plasmids of one host need not be alike.
    cluster = known["cluster"].where(known["group"].ne(PLASMIDS), "")
    able = known[known.assign(cluster=cluster).duplicated(["group", "species", "cluster"], keep=False)]
    for _, block in able.groupby(["group", "block"]):
        for kind in rng.permutation(block["kind"].unique())[:MOST_KINDS]:
            one = str(rng.choice(block.index[block["kind"] == kind]))
            yield [one], [one]


def _asked(genomes: pd.DataFrame, kinds: int, rng: np.random.Generator) -> list[str]:
    """Of every group at most `PER_KIND` genomes of at most `kinds` kinds."""
    asked = []
    for _, own in genomes.groupby("group"):
        for kind in rng.permutation(own["kind"].unique())[:kinds]:
            asked += rng.permutation(own.index[own["kind"] == kind])[:PER_KIND].tolist()
    return asked


def cases_of(genomes: pd.DataFrame, chosen: Draw, rng: np.random.Generator, *, parts: bool) -> dict[str, str]:
    """The case of every genome that is asked for, by what the references hold of it.

    Where neither it nor its genus has a name, nothing can be said, and it is left out.

    parts : references are asked for too, by what of them is left out.
    """
    known, asked = genomes.loc[chosen.references], genomes.loc[chosen.asked]
    clusters = set(zip(known["group"], known["cluster"], strict=True))
    mates = [
        row.group != PLASMIDS and row.cluster != "" and (row.group, row.cluster) in clusters
        for row in asked.itertuples()
    ]
    there = {rank: asked[rank].ne("") & asked[rank].isin(known[rank]) for rank in ("genus", "species")}
    # What has neither a name nor a cluster may be a species of the references.
    told = asked["species"].ne("") | asked["cluster"].ne("")
    kinds = [there["species"] | np.array(mates, bool), told & there["genus"], told & asked["genus"].ne("")]
    table = asked.assign(case=np.select(kinds, [STRAIN, SPECIES, GENUS], ""))
    if parts:
        table = pd.concat([table, _one_of_each(known[known["species"].ne("")], rng).assign(case=PART)])
    table = table[table["case"].ne("")]
    # Whole genomes at random, at most so many of a group and a case.
    table = table.iloc[rng.permutation(len(table))].groupby(["group", "case"]).head(MOST_GENOMES)
    return dict(sorted(zip(table.index, table["case"], strict=True)))


def _one_of_each(genomes: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One genome of every kind, of few kinds of a block, of every group."""
    mixed = genomes.iloc[rng.permutation(len(genomes))]
    kinds = mixed.groupby(["group", "kind"]).head(1)
    return kinds.groupby(["group", "block"]).head(MOST_KINDS)


# By genome, by sequence: start and stop of what the references hold; the sequences that they lack are absent.
Parts = dict[str, dict[str, tuple[int, int]]]


def kept_parts(
    collection: Collection, references: Sequence[str], share: float, rng: np.random.Generator
) -> Parts:
    """One stretch of every sequence, of this share of its letters, at a random place.

    Stretches below `LEAST` letters are left out, and so are genomes of which nothing else is there.
    """
    table = collection.sequences
    table = table[table["genome"].isin(references)]
    size = np.round(share * table["length"].to_numpy()).astype(np.int64)
    start = rng.integers(0, table["length"].to_numpy() - size + 1)
    parts: Parts = {}
    rows = zip(table["genome"], table["id"], start.tolist(), (start + size).tolist(), strict=True)
    for genome, name, first, last in rows:
        if last - first >= LEAST:
            parts.setdefault(genome, {})[name] = (first, last)
    return parts


class Stretch(NamedTuple):
    """Letters of a sequence that queries may come from; `start`: where they begin in it."""

    name: str
    start: int
    letters: bytes


def left_out(
    records: Iterator[tuple[str, bytes]], molecules: Mapping[str, str], group: str, kept: Mapping[str, Any]
) -> list[Stretch]:
    """What of a genome's sequences is before and behind the parts that are kept; all where none is.

    Plasmids of cells are left out: they are no sure witnesses of a species.
    """
    found = []
    for name, letters in records:
        if group == CELLS and molecules.get(name, "").lower() == "plasmid":
            continue
        first, last = kept.get(name, (len(letters), len(letters)))
        found += [Stretch(name, 0, letters[:first]), Stretch(name, last, letters[last:])]
    return [one for one in found if one.letters]


def windows(
    stretches: Sequence[Stretch], length: int, most: int, rng: np.random.Generator
) -> Iterator[Stretch]:
    """At most so many windows of a length, at random; none overlaps another, few unknown letters."""
    sizes = np.array([max(0, len(one.letters) - length + 1) for one in stretches], np.int64)
    ends = np.cumsum(sizes)
    taken: list[tuple[int, int]] = []
    for _ in range(20 * most if sizes.sum() else 0):
        if len(taken) == most:
            return
        at = int(rng.integers(ends[-1]))
        which = int(np.searchsorted(ends, at, side="right"))
        start = at - int(ends[which] - sizes[which])
        own = stretches[which]
        piece = own.letters[start : start + length]
        free = all(which != other or abs(start - begin) >= length for other, begin in taken)
        if free and length - sum(map(piece.upper().count, (b"A", b"C", b"G", b"T"))) <= UNKNOWN * length:
            taken.append((which, start))
            yield Stretch(own.name, own.start + start, piece)


def accepted(genomes: pd.DataFrame, rank: str) -> pd.Series:
    """By genome, the names at a rank that count as right: its own and those of its cluster, ``;`` between."""
    alike = genomes["cluster"].ne("") & genomes["group"].ne(PLASMIDS)
    own = pd.Series([f"\t{name}" for name in genomes.index], index=genomes.index)
    label = (genomes["group"] + "\t" + genomes["cluster"]).where(alike, own)
    names = genomes[rank].groupby(label).agg(lambda some: ";".join(sorted({*some} - {""})))
    return label.map(names)
