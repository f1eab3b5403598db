"""A simulated microbial community: a known tree, and genomes whose composition follows it.

Every species carries a `Signature`: GC pressure, amino-acid composition, synonymous codon preferences and
the transitions of intergenic DNA. Signatures drift along the tree, so relatives resemble each other. A
chromosome is a row of operons on both strands with gaps between them; strains differ from their species'
type strain by point mutations that keep genes open (mostly at third positions), small indels and moved,
inverted or missing blocks. Plasmids have a blend of their host's signature and one of their own, phages
the same with less of the host (amelioration: Lawrence & Ochman 1997, J Mol Evol 44:383).

Same settings, same bytes: randomness comes from PCG64 and SeedSequence, sums of uniform numbers and integer
tables only, so neither NumPy's distributions nor a machine's mathematics library matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.files import built_aside
from kinmer.folders import FolderKind, check_output
from kinmer.progress import step
from kinmer.simulate.dna import AMINO_ACIDS, LETTERS, TRANSLATION, Signature, Written, strain_of, write

__all__ = [
    "AMINO_ACIDS",
    "COMMUNITY",
    "RANKS",
    "TRANSLATION",
    "Community",
    "Genome",
    "Replicon",
    "Signature",
    "Species",
    "random_contigs",
    "simulate_genomes",
    "simulate_phages",
    "simulate_species",
    "write_community",
    "write_random_contigs",
    "write_record",
]


def random_contigs(n: int, length: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`n` sequences of `length` uniformly random letters, with their ids; one small batch in memory."""
    rng = np.random.Generator(np.random.PCG64(seed))
    fours = LETTERS[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3].copy().view(np.uint32).ravel()
    width = -(-length // 4)
    batch = max(1, (1 << 22) // max(1, length))
    for first in range(0, n, batch):
        rows = min(batch, n - first)
        letters = fours[np.frombuffer(rng.bytes(rows * width), np.uint8)].view(np.uint8).reshape(rows, -1)
        for row in range(rows):
            yield f"contig_{first + row + 1}", letters[row, :length].tobytes()


def write_random_contigs(path: str | Path, n: int, length: int, *, seed: int = 0) -> None:
    """Stream `random_contigs` to a FASTA file."""
    with Path(path).open("wb") as fasta, step("writing contigs", n) as progress:
        for name, sequence in random_contigs(n, length, seed=seed):
            write_record(fasta, name, sequence)
            progress.advance()


def write_record(file: BinaryIO, name: str, sequence: bytes, width: int = 80) -> None:
    lines = (sequence[start : start + width] for start in range(0, len(sequence), width))
    file.write(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n")


COMMUNITY = FolderKind("community", "", bool, r"taxonomy\.tsv|genomes/[^/]+\.fna")
RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
# How far a signature drifts on the branch that leads to a taxon of the rank.
DRIFT = {"phylum": 1.0, "family": 0.55, "genus": 0.25, "species": 0.12}


@dataclass(frozen=True, kw_only=True)
class Community:
    """Shape of a simulated community: numbers are per parent (families per phylum, …), lengths in bases.

    `plasmids` is per species, `phages` per genus; every strain carries its own version of both. `divergence`
    is the range from which each strain's share of substituted bases is drawn. Raises UsageError where no
    genome could come of it.
    """

    phyla: int = 4
    families: int = 2
    genera: int = 2
    species: int = 2
    strains: int = 2
    chromosome: int = 600_000
    plasmids: int = 1
    plasmid: int = 40_000
    phages: int = 1
    phage: int = 40_000
    divergence: tuple[float, float] = (0.01, 0.03)
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("phyla", "families", "genera", "species", "strains"):
            if getattr(self, name) < 1:
                raise UsageError(f"a community needs at least 1 of its {name}, not {getattr(self, name)}")
        if min(self.plasmids, self.phages, self.seed) < 0:
            raise UsageError("plasmids, phages and seed of a community cannot be negative")
        if min(self.chromosome, self.plasmid, self.phage) < 1_000:
            raise UsageError("simulated sequences are at least 1000 bases long")
        low, high = self.divergence
        if not 0 <= low <= high <= 0.2:
            raise UsageError(f"the strains' divergence must lie between 0 and 0.2, not {low} to {high}")


@dataclass(frozen=True)
class Species:
    """A leaf of the tree: its number, its lineage (rank -> name, domain to species), its signature."""

    number: int
    lineage: dict[str, str]
    signature: Signature

    def distance(self, other: Species) -> int:
        """Ranks to climb to a common ancestor: 0 the same species, 1 the same genus … 7 nothing shared."""
        for climbed, rank in enumerate(reversed(RANKS)):
            if self.lineage[rank] == other.lineage[rank]:
                return climbed
        return len(RANKS)


@dataclass(frozen=True)
class Replicon:
    """One sequence of a genome, upper-case ACGT; `genes` (n, 4): start, end, strand (1, -1), kind."""

    id: str
    molecule: Literal["chromosome", "plasmid", "virus"]
    sequence: bytes
    genes: NDArray[np.int64]


@dataclass(frozen=True)
class Genome:
    """A strain of a species; strain 1 is the type strain, from which the others descend."""

    id: str
    strain: int
    species: Species
    replicons: tuple[Replicon, ...]


def simulate_species(community: Community) -> list[Species]:
    """The leaves of the community's tree, relatives side by side."""
    rng = _generator(community.seed, 0)
    found: list[Species] = []
    root = Signature.average()
    for phylum in range(community.phyla):
        phylum_way = root.drift(rng, DRIFT["phylum"])
        for family in range(community.families):
            family_way = phylum_way.drift(rng, DRIFT["family"])
            for genus in range(community.genera):
                genus_way = family_way.drift(rng, DRIFT["genus"])
                for member in range(community.species):
                    lineage = _lineage(community, phylum, family, genus, member)
                    found.append(Species(len(found), lineage, genus_way.drift(rng, DRIFT["species"])))
    return found


def simulate_genomes(species: Species, community: Community) -> Iterator[Genome]:
    """The strains of a species: a chromosome and its plasmids each."""
    rng = _generator(community.seed, 1, species.number)
    name = f"s{species.number:03d}"
    types: list[tuple[str, Literal["chromosome", "plasmid", "virus"], Written]] = [
        ("chr", "chromosome", write(species.signature, community.chromosome, rng))
    ]
    for plasmid in range(1, community.plasmids + 1):
        own = Signature.average().drift(rng, 0.7)
        written = write(own.blend(species.signature, 0.5), community.plasmid, rng)
        types.append((f"p{plasmid}", "plasmid", written))
    for strain in range(1, community.strains + 1):
        kept = (
            types
            if strain == 1
            else [(part, kind, strain_of(one, community.divergence, rng)) for part, kind, one in types]
        )
        genome = f"{name}_{strain}"
        replicons = (Replicon(f"{genome}_{part}", kind, one.letters(), one.genes) for part, kind, one in kept)
        yield Genome(genome, strain, species, tuple(replicons))


def simulate_phages(hosts: list[Species], community: Community) -> Iterator[Genome]:
    """The phages of the community, `community.phages` for every genus of `hosts`, each in all its strains."""
    first = [host for host in hosts if host.number % community.species == 0]
    root = Signature.average().drift(_generator(community.seed, 2), 0.8)
    for number, host in enumerate(host for host in first for _ in range(community.phages)):
        rng = _generator(community.seed, 3, number)
        signature = root.drift(rng, 0.8).blend(host.signature, 0.35)
        genus = f"{_stem(400 + number).capitalize()}virus"
        lineage = dict.fromkeys(RANKS, "")
        lineage |= {"domain": "Viruses", "phylum": "Simuviricota", "class": "Simuviricetes"}
        lineage |= {"order": "Simuvirales", "family": "Simuviridae", "genus": genus, "species": f"{genus} I"}
        phage = Species(number, lineage, signature)
        type_strain = write(signature, community.phage, rng)
        for strain in range(1, community.strains + 1):
            one = type_strain if strain == 1 else strain_of(type_strain, community.divergence, rng)
            name = f"v{number:03d}_{strain}"
            yield Genome(name, strain, phage, (Replicon(name, "virus", one.letters(), one.genes),))


def write_community(folder: str | Path, *, community: Community | None = None, force: bool = False) -> Path:
    """Simulate a community into a new folder: ``genomes/GENOME.fna`` and ``taxonomy.tsv``.

    The table has a row per sequence: sequence_id, length, molecule, genome_id, strain, species … domain.
    Holds one species in memory at a time. Raises UsageError where the folder exists (unless `force`).
    """
    community = community or Community()
    folder = check_output(folder, force=force, kind=COMMUNITY)
    species = simulate_species(community)
    with built_aside(folder) as aside, step("simulating", len(species)) as progress:
        (aside / "genomes").mkdir()
        with (aside / "taxonomy.tsv").open("w") as table:
            ranks = RANKS[::-1]
            table.write(
                "\t".join(("sequence_id", "length", "molecule", "genome_id", "strain", *ranks)) + "\n"
            )
            for genome in _all_genomes(species, community):
                with (aside / "genomes" / f"{genome.id}.fna").open("wb") as fasta:
                    for one in genome.replicons:
                        write_record(fasta, one.id, one.sequence)
                        row = (one.id, len(one.sequence), one.molecule, genome.id, genome.strain)
                        names = (genome.species.lineage[rank] for rank in ranks)
                        table.write("\t".join(map(str, (*row, *names))) + "\n")
                if genome.strain == 1 and genome.replicons[0].molecule == "chromosome":
                    progress.advance()
    return folder


def _all_genomes(species: list[Species], community: Community) -> Iterator[Genome]:
    for one in species:
        yield from simulate_genomes(one, community)
    yield from simulate_phages(species, community)


def _generator(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


_SYLLABLES = "ba co di fe gu ha jo ki le mu na po qui ra se tu va xe yo zi"


def _stem(number: int) -> str:
    """A pronounceable word, another one for every number."""
    syllables = _SYLLABLES.split(" ")
    first, second = divmod(number, 20)
    word = syllables[(second * 7 + 3) % 20] + syllables[(first * 3 + second) % 20]
    return word if first < 20 else word + _stem(first // 20)


def _lineage(community: Community, phylum: int, family: int, genus: int, member: int) -> dict[str, str]:
    family += phylum * community.families
    genus += family * community.genera
    upper, middle, lower = _stem(phylum), _stem(40 + family), _stem(160 + genus)
    lower_name = f"{lower}lla".capitalize()
    return {
        "domain": "Bacteria",
        "phylum": f"{upper}rota".capitalize(),
        "class": f"{upper}ria".capitalize(),
        "order": f"{middle}nales".capitalize(),
        "family": f"{middle}naceae".capitalize(),
        "genus": lower_name,
        "species": f"{lower_name} {_stem(member * 3 + genus)}nsis",
    }
