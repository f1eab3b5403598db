"""Genomes of labelled sequences, what they share, and folds that part no two that share it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kinmer.errors import InputError, UsageError
from kinmer.fragments.cutting import key_of
from kinmer.fragments.labels import Labels

__all__ = ["GenomeLabels", "Split", "deal_folds", "genomes_of", "groups_of"]

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
