"""Labels of sequences, and what follows from them: genomes, groups, folds and benchmark cases."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from kinmer.errors import InputError, UsageError
from kinmer.inputs import described, read_lines
from kinmer.taxonomy import rank_columns, rule_of


def key_of(text: str) -> int:
    """A number that follows from a text alone: seeds and orders that no other input changes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


class Labels(NamedTuple):
    """Columns without the key, and by key a row's fields ("": missing) and its line in the file (from 1)."""

    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]
    lines: Mapping[str, int]

    def of(self, key: str) -> tuple[str, ...]:
        """A row's fields; empty ones for a key without a row."""
        return self.rows.get(key, ("",) * len(self.columns))

    def value(self, key: str, column: str) -> str:
        """One field; "" where the column, the row or the value is missing."""
        return self.of(key)[self.columns.index(column)] if column in self.columns else ""

    def place_of(self, column: str) -> int:
        """Where a column stands; UsageError where there is none of that name."""
        if column not in self.columns:
            raise UsageError(f"the labels have no column {column!r}", f"they have {', '.join(self.columns)}")
        return self.columns.index(column)

    def joined(self, taken: Sequence[str]) -> list[str]:
        """The columns' names in a table that has those `taken`: ``length`` is ``sequence_length`` there."""
        return [
            "label_id" if name == "id" else f"sequence_{name}" if name in taken else name
            for name in self.columns
        ]


NO_LABELS = Labels((), {}, {})


def read_labels(path: str | Path, keys: Sequence[str] = ("sequence_id",)) -> Labels:
    """Read a table whose key is the first of the columns `keys` that it has.

    What is missing (`kinmer.taxonomy.lineage`) is "". Columns of ranks are called as the ranks, whatever
    their case and synonym (``Species``, ``superkingdom``).

    Raises InputError with file and line: no key, a column twice, a key twice, another number of fields.
    """
    table = _fields(path)
    _, header = next(table, (1, []))
    name = next((one for one in keys if one in header), None)
    if name is None:
        what = described(path)
        raise InputError(
            f"the labels have no column {' or '.join(keys)}",
            f"this is {what}" if what != "a table" else f"the first line has {', '.join(header)}",
            "is the header line there, and are the columns parted by tabs?",
            place=path,
        )
    if len(set(header)) != len(header):
        twice = next(one for at, one in enumerate(header) if one in header[:at])
        raise InputError(f"the labels have the column {twice!r} twice", place=path)
    key = header.index(name)
    rules = [rule_of(one) for one in header]
    rows: dict[str, tuple[str, ...]] = {}
    lines: dict[str, int] = {}
    for number, row in table:
        place = f"{path}, line {number}"
        if len(row) != len(header):
            raise InputError(f"{len(row)} fields, {len(header)} in the header", place=place)
        if row[key] in rows:
            raise InputError(f"the sequence {row[key]!r} is labelled twice", place=place)
        known = [rule(one) or "" for rule, one in zip(rules, row, strict=True)]
        rows[row[key]] = (*known[:key], *known[key + 1 :])
        lines[row[key]] = number
    ranks = {column: rank for rank, column in rank_columns(header).items() if column != name}
    return Labels(tuple(ranks.get(one, one) for one in header if one != name), rows, lines)


def _fields(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Number and fields, as they are, of every line that is not empty."""
    for number, line in read_lines(path):
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "the labels cannot be read", str(error), place=f"{path}, line {number}"
            ) from error
        if text:
            yield number, text.split("\t")


Split = Literal["species", "genome"]
# What every sequence of a genome must agree on.
SHARED = ("domain", "species", "genus", "ani95_cluster")


@dataclass(frozen=True)
class GenomeLabels:
    """A genome's sequences, sorted by id, and what they say of it ("" where they say nothing)."""

    id: str
    sequences: tuple[str, ...]
    domain: str
    species: str
    genus: str
    ani95_cluster: str


def genomes_of(labels: Labels, place: str | Path) -> dict[str, GenomeLabels]:
    """The genomes by id, sorted; without a column ``genome_id`` every sequence is one.

    Raises InputError, with the lines of `place`, where two sequences of one genome tell different names.
    """
    members: dict[str, list[str]] = {}
    alone = "genome_id" not in labels.columns
    for one in sorted(labels.rows):
        genome = one if alone else labels.value(one, "genome_id")
        if not genome:
            raise InputError(
                f"the sequence {one!r} has no genome_id",
                "queries and database are parted by genome",
                place=f"{place}, line {labels.lines[one]}",
            )
        members.setdefault(genome, []).append(one)
    return {
        genome: GenomeLabels(
            genome, tuple(ones), **{name: _agreed(labels, genome, ones, name, place) for name in SHARED}
        )
        for genome, ones in sorted(members.items())
    }


def _agreed(labels: Labels, genome: str, sequences: list[str], column: str, place: str | Path) -> str:
    """The one name that a genome's sequences have in `column`, whichever of them have none."""
    first: tuple[str, int] | None = None
    for one in sequences:
        name, line = labels.value(one, column), labels.lines[one]
        if name and first is not None and name != first[0]:
            raise InputError(
                f"the genome {genome!r} has two names in the column {column}: {first[0]!r} in line {first[1]}"
                f" and {name!r}",
                "a genome has one",
                place=f"{place}, line {line}",
            )
        if name and first is None:
            first = (name, line)
    return first[0] if first else ""


def groups_of(genomes: Iterable[GenomeLabels], split: Split) -> dict[str, str]:
    """The group of every genome, called after its first genome.

    ``species``: genomes that share a species or an ``ani95_cluster``, directly or over others, are one
    group; ``genome``: every genome is one.
    """
    if split == "genome":
        return {genome.id: genome.id for genome in genomes}
    above: dict[tuple[str, str], tuple[str, str]] = {}

    def top(one: tuple[str, str]) -> tuple[str, str]:
        while above.setdefault(one, one) != one:
            above[one] = one = above[above[one]]
        return one

    members = list(genomes)
    for genome in members:
        for kind in ("species", "ani95_cluster"):
            name = getattr(genome, kind)
            if name:
                above[top((kind, name))] = top(("genome", genome.id))
    firsts: dict[tuple[str, str], str] = {}
    for genome in sorted(members, key=lambda one: one.id):
        firsts.setdefault(top(("genome", genome.id)), genome.id)
    return {genome.id: firsts[top(("genome", genome.id))] for genome in members}


def deal_folds(
    genomes: Mapping[str, GenomeLabels], groups: Mapping[str, str], folds: int, seed: int
) -> dict[str, int]:
    """The fold (from 0) of every genome: groups are dealt one after the other, domain by domain.

    The order of the dealing follows from `seed`, so folds of one domain differ by at most one group.

    Raises UsageError where there are fewer groups than folds.
    """
    domain: dict[str, str] = {}
    for one in sorted(genomes):
        name = groups[one]
        domain[name] = domain.get(name) or genomes[one].domain
    if not 1 <= folds <= len(domain):
        raise UsageError(
            f"{len(domain)} groups of genomes cannot be dealt into {folds} folds",
            "genomes that share a species or a cluster are one group",
            "give fewer folds, or --split genome",
        )
    order = sorted(domain, key=lambda name: (domain[name], key_of(f"{seed}\0fold\0{name}")))
    fold_of = {name: number % folds for number, name in enumerate(order)}
    return {one: fold_of[groups[one]] for one in genomes}


Case = Literal["genus", "strain", "genome"]
CASES: tuple[Case, ...] = ("genus", "strain", "genome")
Species = tuple[str, str]  # domain and name


def deal_cases(genomes: Iterable[GenomeLabels], seed: int) -> dict[str, Case]:
    """The case of every genome.

    genus : of every genus with two or more species one species, where there are such one with a single
        genome: the database has the genus, not the species.
    strain : of every other species with two or more genomes one genome: the database has the species.
    genome : all others: the database has another part of the genome.

    Species and genera are those of one domain. The choice follows from `seed` and the names.
    """
    cases: dict[str, Case] = {}
    members: dict[Species, list[GenomeLabels]] = {}
    for genome in genomes:
        cases[genome.id] = "genome"
        if genome.species:
            members.setdefault((genome.domain, genome.species), []).append(genome)
    genera: dict[Species, list[Species]] = {}
    for species, inside in members.items():
        # Members of a species may leave the genus open; where they name two, the first in order counts.
        genus = min((one.genus for one in inside if one.genus), default="")
        if genus:
            genera.setdefault((species[0], genus), []).append(species)
    left_out: set[Species] = set()
    for genus_key, species_in in genera.items():
        if len(species_in) > 1:
            single = [one for one in species_in if len(members[one]) == 1] or species_in
            left_out.add(min(single, key=lambda one: key_of("\0".join((str(seed), *genus_key, one[1])))))
    for species, inside in members.items():
        if species in left_out:
            cases |= dict.fromkeys((one.id for one in inside), "genus")
        elif len(inside) > 1:
            chosen = min((one.id for one in inside), key=lambda one: key_of(f"{seed}\0strain\0{one}"))
            cases[chosen] = "strain"
    return cases
