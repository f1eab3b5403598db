"""References and queries for `side_by_side.py`: known strains, other parts, new species and new genera.

Genera are dealt into two halves. One half gives references and queries, the other an encoder that has seen
none of them; then the halves change places. Genomes that share a species label or an ``ani95_cluster`` are
one *kind*, kinds that share a genus one *block*: a new species is a whole kind, a new genus a whole block.
The set "partial" has `PART` of every record of the same references; other parts are asked for of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.fasta import read_records

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)
STRAIN, SPECIES, GENUS, OTHER = "known strain", "new species", "new genus", "other part"
# What is asked of whole references, and what of partial ones.
CASES = (STRAIN, SPECIES, GENUS)
CELLS, VIRUSES, PLASMIDS = GROUPS = ("cells", "viruses", "plasmids")
PER_LENGTH = 4
# At most so many genomes of a kind are asked for, that no large one makes the figures.
PER_KIND = 2
# Share of a half's genera, and of the kinds of a genus, that are taken out, and the most of a genus.
TAKEN, MOST = 0.25, 3
# Letters other than ACGT that a query may have, a share.
UNKNOWN = 0.01
# Share of a record that partial references keep, and of how many kinds of a group the rest is asked for.
PART, PARTS = 0.6, 30
# Folders of a draw's sets of references, in its own: whole, partial.
SETS = (".", "partial")


@dataclass(frozen=True)
class Genomes:
    """``sequences``: a row for every sequence; ``genomes``: one for every genome, with its kind and block.

    plasmids : a row for every entry that is only a plasmid, with its ``ptu``; its kind is its host's species.
    """

    folder: Path
    sequences: pd.DataFrame
    genomes: pd.DataFrame
    plasmids: pd.DataFrame

    @property
    def entries(self) -> pd.DataFrame:
        """Genomes and plasmids."""
        return pd.concat([self.genomes, self.plasmids])

    def files(self, ids: Sequence[str]) -> list[Path]:
        """The files of some entries, in order of their names."""
        return [self.folder / name for name in sorted(self.entries.loc[list(ids), "file"])]


@dataclass(frozen=True)
class Draw:
    """``references``, ``training``: ids of entries; ``cases``: entry that is asked for -> its case.

    parts : entries of the references whose other part is asked for.
    """

    references: list[str]
    training: list[str]
    cases: dict[str, str]
    parts: list[str] = field(default_factory=list)


def read_genomes(folder: Path) -> Genomes:
    """The collection; entries that are only plasmids apart: their clusters say nothing of the species."""
    table = pd.read_csv(folder / "genomes.tsv", sep="\t", dtype=str, keep_default_na=False)
    first = table.drop_duplicates("genome_id").set_index("genome_id", drop=False).rename_axis(None)
    cells = first["domain"].ne("Viruses")
    first = first.assign(cells=cells, group=np.where(cells, CELLS, VIRUSES), ptu="")
    alone = table["molecule"].eq("plasmid").groupby(table["genome_id"]).all()[first.index]
    genomes, plasmids = first[~alone], first[alone]
    kind = _joined([genomes["cells"].astype(str) + genomes["ani95_cluster"], genomes["species"]])
    genus = genomes["genus"].where(genomes["genus"].ne(""), "of its own " + kind.astype(str))
    block = _joined([kind.astype(str), genus])
    units = plasmid_units(folder)
    told = plasmids.assign(group=PLASMIDS, kind=plasmids["species"], block=plasmids["genus"])
    told["ptu"] = [units.get(name, "") for name in plasmids["sequence_id"]]
    return Genomes(folder, table, genomes.assign(kind=kind, block=block), told)


def plasmid_units(folder: Path) -> dict[str, str]:
    """The plasmid taxonomic unit of every sequence that has one."""
    path = folder / "plasmids.tsv"
    if not path.exists():
        return {}
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    table = table[table["ptu"].ne("")]
    return dict(zip(table["sequence_id"], table["ptu"], strict=True))


def _joined(labels: list[pd.Series[str]]) -> pd.Series[int]:
    """Numbers of the groups of rows that one of the labels holds together."""
    group = pd.Series(range(len(labels[0])), index=labels[0].index)
    while True:
        before = group
        for label in labels:
            group = group.groupby(label.to_numpy()).transform("min")
        if group.equals(before):
            return group


def halves(genomes: pd.DataFrame, rng: np.random.Generator) -> pd.Series[int]:
    """0 or 1 for every genome; large blocks and small, of cells and of viruses, are dealt evenly."""
    blocks = genomes.groupby("block").agg(
        cells=("cells", "any"), kinds=("kind", "nunique"), size=("kind", "size")
    )
    shuffled = blocks.iloc[rng.permutation(len(blocks))]
    ordered = shuffled.sort_values(["cells", "kinds", "size"], ascending=False, kind="stable")
    first = rng.integers(2, size=(len(ordered) + 1) // 2)
    dealt = np.stack([first, 1 - first], axis=1).ravel()[: len(ordered)]
    return genomes["block"].map(dict(zip(ordered.index, dealt.tolist(), strict=True)))


def draw(genomes: pd.DataFrame, half: int, seed: int) -> Draw:
    """What is asked for and what is known in one half of the genera."""
    side = halves(genomes, np.random.default_rng([seed, 0]))
    rng = np.random.default_rng([seed, 1, half])
    left = genomes[side == half]
    cases: dict[str, str] = {}
    for case, chosen in ((GENUS, _new_genera), (SPECIES, _new_species), (STRAIN, _known_strains)):
        for out, asked in list(chosen(left, rng)):
            left = left.drop(index=out)
            cases.update(dict.fromkeys(asked, case))
    return Draw(references=left.index.tolist(), training=genomes.index[side != half].tolist(), cases=cases)


# Genomes that leave the references, and those of them that are asked for.
Taken = Iterator[tuple[list[str], list[str]]]


def _new_genera(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """A quarter of the blocks, of cells and of viruses, that have a genus; all their genomes leave."""
    for _, side in genomes[genomes["genus"].ne("")].groupby("cells"):
        blocks = rng.permutation(side["block"].unique())
        for block in blocks[: max(1, round(TAKEN * len(blocks)))]:
            whole = genomes[genomes["block"] == block]
            yield whole.index.tolist(), _asked(whole, MOST, rng)


def _new_species(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """A quarter of the kinds, one at least, of every genus that has another kind."""
    named = genomes[genomes["genus"].ne("")]
    for _, genus in named.groupby("genus"):
        kinds = rng.permutation(genus["kind"].unique())
        number = min(MOST, max(1, round(TAKEN * len(kinds))), len(kinds) - 1)
        for kind in kinds[:number]:
            whole = genomes[genomes["kind"] == kind]
            yield whole.index.tolist(), _asked(whole[whole["genus"].ne("")], 1, rng)


def _known_strains(genomes: pd.DataFrame, rng: np.random.Generator) -> Taken:
    """One genome of a kind, if another one has its species and its cluster; of few kinds of a block."""
    for _, block in genomes.groupby("block"):
        found = 0
        for kind in rng.permutation(block["kind"].unique()):
            whole = block[block["kind"] == kind]
            able = whole[whole.duplicated(["species", "ani95_cluster"], keep=False)]
            if len(able) and found < MOST:
                one = str(rng.choice(able.index.to_numpy()))
                found += 1
                yield [one], [one]


def _asked(genomes: pd.DataFrame, kinds: int, rng: np.random.Generator) -> list[str]:
    """At most `PER_KIND` genomes of at most `kinds` kinds."""
    chosen = rng.permutation(genomes["kind"].unique())[:kinds]
    groups = (genomes.index[genomes["kind"] == kind].to_numpy() for kind in chosen)
    return [str(one) for group in groups for one in rng.permutation(group)[:PER_KIND]]


def other_parts(source: Genomes, chosen: Draw, seed: int) -> list[str]:
    """One reference of each of at most `PARTS` named kinds of every group."""
    known = source.entries.loc[chosen.references]
    mixed = known[known["species"].ne("")].sample(frac=1, random_state=seed)
    return mixed.drop_duplicates(["group", "kind"]).groupby("group").head(PARTS).index.tolist()


def write_draw(source: Genomes, chosen: Draw, folder: Path, seed: int) -> None:
    """``references.fna`` and ``.tsv``, ``queries.fna`` and ``.tsv``; the same of partial references."""
    table = source.sequences
    rows = table[table["genome_id"].isin(chosen.references)].drop_duplicates("sequence_id")
    # What a part says otherwise than the whole is told of neither.
    rows = rows.drop(columns=["length", "gc", "completeness"], errors="ignore")
    places = [folder / one for one in SETS]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        rows.to_csv(place / "references.tsv", sep="\t", index=False)
    files = [place / "references.fna" for place in places]
    with files[0].open("wb") as whole, files[1].open("wb") as partial:
        for path in source.files(chosen.references):
            for name, letters in read_records(path):
                whole.write(b">%b\n%b\n" % (name.encode(), letters))
                partial.write(b">%b\n%b\n" % (name.encode(), letters[kept(name, len(letters), seed)]))
    write_queries(fragments(source, chosen, seed), folder / "queries", "q")
    parts = Draw(chosen.references, [], dict.fromkeys(chosen.parts, OTHER))
    write_queries(fragments(source, parts, seed), places[1] / "queries", "o")


def kept(name: str, length: int, seed: int) -> slice:
    """The part of a record, `PART` of its letters, that partial references have."""
    size = int(PART * length)
    begin = int(np.random.default_rng([seed, 4, *name.encode()]).integers(length - size + 1))
    return slice(begin, begin + size)


# A piece of a genome, and what is right for it.
Fragment = tuple[bytes, dict[str, object]]


def write_queries(found: Iterable[Fragment], stem: Path, letter: str) -> None:
    """``STEM.fna`` and ``STEM.tsv``; names are a letter and a number."""
    told: list[dict[str, object]] = []
    with stem.with_suffix(".fna").open("wb") as file:
        for piece, truth in found:
            name = f"{letter}{len(told)}"
            file.write(b">%b\n%b\n" % (name.encode(), piece))
            told.append({"query": name, **truth})
    pd.DataFrame(told).to_csv(stem.with_suffix(".tsv"), sep="\t", index=False)


def fragments(
    source: Genomes, chosen: Draw, seed: int, lengths: Sequence[int] = LENGTHS, *, plasmids: bool = False
) -> Iterator[Fragment]:
    """At most `PER_LENGTH` pieces a length of every entry that is asked for.

    Of genomes that are plasmids, or all else; of an other part what partial references have not.
    """
    entries = source.entries
    known = entries.loc[chosen.references]
    molecules = dict(zip(source.sequences["sequence_id"], source.sequences["molecule"], strict=True))
    for number, (entry, case) in enumerate(chosen.cases.items()):
        row = entries.loc[[entry]].iloc[0]
        letters: list[bytes] = []
        for name, one in read_records(source.folder / row["file"]):
            if (molecules.get(name) == "plasmid") == (plasmids or row["group"] == PLASMIDS):
                part = kept(name, len(one), seed)
                letters += [one[: part.start], one[part.stop :]] if case == OTHER else [one]
        truth = _truth(row, case, known)
        for length in lengths:
            for piece in pieces(letters, length, np.random.default_rng([seed, 2, number, length])):
                yield piece, {"length": length, **truth}


def mates(row: pd.Series[str], known: pd.DataFrame) -> pd.Series[bool]:
    """Which references share a query's ANI cluster; of plasmids also its taxonomic unit."""
    same = known["ani95_cluster"].eq(row["ani95_cluster"])
    if row["ptu"]:
        same |= known["ptu"].eq(row["ptu"])
    return same & known["group"].eq(row["group"])


def _truth(row: pd.Series[str], case: str, known: pd.DataFrame) -> dict[str, object]:
    """What is right: all names that the query's `mates` have, `;` between them.

    In a case that the references have no right answer for, the names are blank.
    """
    alike = known[mates(row, known)]
    present = case in (STRAIN, OTHER)
    right: dict[str, object] = {"genome": row["genome_id"], "kind": row["kind"], "case": case}
    right["group"] = row["group"]
    right["species"] = ";".join(sorted({row["species"], *alike["species"]} - {""})) if present else ""
    genera = {row["genus"], *(alike["genus"] if present else ())} - {""}
    right["genus"] = ";".join(sorted(genera)) if case != GENUS else ""
    # Where the true genus is not known, no answer at that rank can be judged.
    right["has_genus"] = int(bool(genera))
    shared = [rank for rank in RANKS[1:-2] if row[rank] and row[rank] in set(known[rank])]
    # The lowest rank above the genus that a reference has in common with the query.
    right["above"] = shared[-1] if shared else ""
    right["above_name"] = row[shared[-1]] if shared else ""
    return right


def pieces(letters: Sequence[bytes], length: int, rng: np.random.Generator) -> Iterator[bytes]:
    """At most `PER_LENGTH` windows, drawn evenly; none overlaps another, few unknown letters."""
    sizes = np.array([max(0, len(one) - length + 1) for one in letters])
    taken: list[tuple[int, int]] = []
    for _ in range(20 * PER_LENGTH if sizes.sum() else 0):
        if len(taken) == PER_LENGTH:
            return
        at = int(rng.integers(sizes.sum()))
        which = int(np.searchsorted(np.cumsum(sizes), at, side="right"))
        start = at - int(sizes[:which].sum())
        piece = letters[which][start : start + length]
        free = all(which != other or abs(start - begin) >= length for other, begin in taken)
        if free and length - sum(map(piece.count, b"ACGT")) <= UNKNOWN * length:
            taken.append((which, start))
            yield piece
