"""Which genomes of a benchmark are asked about, and what the database knows of each."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from kinmer.fragments.cutting import key_of
from kinmer.fragments.folds import GenomeLabels

__all__ = ["CASES", "Case", "deal_cases"]

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
