"""Simulated communities: what is drawn is what is set, and relatives resemble each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare, spearmanr

from kinmer.errors import UsageError
from kinmer.simulate import (
    TRANSLATION,
    Community,
    Genome,
    Species,
    random_contigs,
    simulate_genomes,
    simulate_phages,
    simulate_species,
    write_community,
    write_random_contigs,
)
from kinmer.simulate.dna import Written, strain_of

SMALL = Community(phyla=2, families=2, genera=2, species=2, strains=2, chromosome=120_000, seed=5)
BASES = "ACGT"
CODONS = [a + b + c for a in BASES for b in BASES for c in BASES]
STOPS = {codon for codon, amino in zip(CODONS, TRANSLATION, strict=True) if amino == "*"}
COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def type_strain(species: Species, community: Community = SMALL) -> Genome:
    return next(simulate_genomes(species, community))


def reading(sequence: bytes, gene: NDArray[np.int64]) -> list[str]:
    """The codons of a gene, start to stop, on its own strand."""
    start, end, strand, _ = gene
    text = sequence[start:end]
    if strand < 0:
        text = text.translate(COMPLEMENT)[::-1]
    return [text[place : place + 3].decode() for place in range(0, len(text), 3)]


def canonical_profile(sequence: bytes, k: int = 4) -> NDArray[np.float64]:
    codes = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), np.frombuffer(sequence, np.uint8)).astype(
        np.int64
    )
    word = np.zeros(codes.size - k + 1, np.int64)
    other = np.zeros_like(word)
    for place in range(k):
        word = word * 4 + codes[place : codes.size - k + 1 + place]
        other = other * 4 + 3 - codes[k - 1 - place : codes.size - place]
    return np.asarray(np.bincount(np.minimum(word, other), minlength=4**k) / word.size)


def kmers(sequence: bytes, k: int = 15) -> set[bytes]:
    both = (sequence, sequence.translate(COMPLEMENT)[::-1])
    return {text[place : place + k] for text in both for place in range(len(text) - k + 1)}


def test_the_code_is_table_11() -> None:
    assert {"TAA", "TAG", "TGA"} == STOPS
    known = {"ATG": "M", "TGG": "W", "GCC": "A", "AAA": "K", "CGT": "R", "TTA": "L", "AGC": "S"}
    assert {codon: TRANSLATION[CODONS.index(codon)] for codon in known} == known


@pytest.mark.parametrize("number", [0, 7, 13])
def test_genes_use_the_codons_of_their_species(number: int) -> None:
    species = simulate_species(SMALL)[number]
    chromosome = type_strain(species, Community(chromosome=600_000)).replicons[0]
    stranger = simulate_species(SMALL)[(number + 8) % 16].signature.codon_usage()
    for kind, usage in enumerate(species.signature.codon_usage()):
        chosen = chromosome.genes[chromosome.genes[:, 3] == kind]
        inner = [codon for gene in chosen for codon in reading(chromosome.sequence, gene)[1:-1]]
        counts = np.array([inner.count(codon) for codon in CODONS])
        assert counts[usage == 0].sum() == 0
        used = usage > 0
        assert chisquare(counts[used], usage[used] * len(inner)).pvalue > 1e-5
        assert chisquare(counts[used], stranger[kind][used] * len(inner)).pvalue < 1e-5


def test_gaps_follow_the_chain_of_their_species() -> None:
    species = simulate_species(SMALL)[3]
    chromosome = type_strain(species, Community(chromosome=600_000)).replicons[0]
    seen = np.zeros((64, 4))
    edges = [0, *chromosome.genes[:, :2].ravel(), len(chromosome.sequence)]
    for start, end in zip(edges[0::2], edges[1::2], strict=True):
        text = chromosome.sequence[max(start - 3, 0) : end].decode()
        for place in range(3, len(text)):
            seen[CODONS.index(text[place - 3 : place]), BASES.index(text[place])] += 1
    expected = species.signature.transitions() * seen.sum(axis=1, keepdims=True)
    enough = expected.min(axis=1) > 5
    statistic = ((seen - expected) ** 2 / expected)[enough].sum()
    freedom = 3 * enough.sum()
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


def test_genes_are_open_in_every_strain_and_molecule() -> None:
    species = simulate_species(SMALL)[2]
    seen = set()
    for genome in [*simulate_genomes(species, SMALL), *simulate_phages([species], SMALL)]:
        for replicon in genome.replicons:
            seen.add(replicon.molecule)
            assert set(replicon.sequence) <= set(b"ACGT")
            covered = (replicon.genes[:, 1] - replicon.genes[:, 0]).sum() / len(replicon.sequence)
            assert 0.75 < covered < 0.95
            assert (replicon.genes[1:, 0] >= replicon.genes[:-1, 1]).all()
            assert set(replicon.genes[:, 2]) == {-1, 1}
            for gene in replicon.genes:
                codons = reading(replicon.sequence, gene)
                assert codons[0] in {"ATG", "GTG", "TTG"}
                assert codons[-1] in STOPS
                assert not STOPS & set(codons[:-1])
    assert seen == {"chromosome", "plasmid", "virus"}


def test_relatives_resemble_each_other_along_the_tree() -> None:
    species = simulate_species(SMALL)
    profiles = np.sqrt([canonical_profile(type_strain(one).replicons[0].sequence) for one in species])
    pairs = [(a, b) for a in range(len(species)) for b in range(a)]
    tree = [species[a].distance(species[b]) for a, b in pairs]
    apart = [float(np.linalg.norm(profiles[a] - profiles[b])) for a, b in pairs]
    assert set(tree) == {1, 2, 4, 6}  # genus, family, class (one in a phylum) or only the domain in common
    assert spearmanr(tree, apart).statistic > 0.6
    means = [np.mean([d for t, d in zip(tree, apart, strict=True) if t == rank]) for rank in (1, 2, 4, 6)]
    assert means == sorted(means)


def test_plasmids_and_phages_write_in_a_hand_of_their_own_with_some_of_the_hosts() -> None:
    community = Community(chromosome=300_000, plasmid=100_000, phage=100_000, phages=1, seed=2)
    species = simulate_species(community)
    to_host: dict[str, list[float]] = {"plasmid": [], "virus": []}
    to_others: dict[str, list[float]] = {"plasmid": [], "virus": []}
    hosts = species[:: community.species]
    genomes = [type_strain(host, community) for host in hosts]
    phages = [one for one in simulate_phages(species, community) if one.strain == 1]
    chromosomes = [np.sqrt(canonical_profile(genome.replicons[0].sequence)) for genome in genomes]
    parts = [np.sqrt(canonical_profile(genome.replicons[0].sequence[:100_000])) for genome in genomes]
    self_distance = np.mean([np.linalg.norm(a - b) for a, b in zip(parts, chromosomes, strict=True)])
    for number, (genome, phage) in enumerate(zip(genomes, phages, strict=True)):
        for kind, replicon in (("plasmid", genome.replicons[1]), ("virus", phage.replicons[0])):
            own = np.sqrt(canonical_profile(replicon.sequence))
            apart = [float(np.linalg.norm(own - chromosome)) for chromosome in chromosomes]
            to_host[kind].append(apart[number])
            to_others[kind].append(float(np.mean(apart)))
    for kind in ("plasmid", "virus"):
        assert np.mean(to_host[kind]) < np.mean(to_others[kind])
        assert np.mean(to_host[kind]) > 2 * self_distance
    assert np.mean(to_host["plasmid"]) < np.mean(to_host["virus"])


@settings(max_examples=15, deadline=None)
@given(rate=st.floats(0.002, 0.1), seed=st.integers(0, 2**32))
def test_substitutions_are_as_many_as_set(rate: float, seed: int) -> None:
    from kinmer.simulate.dna import _frames, substitute

    chromosome = type_strain(simulate_species(SMALL)[0]).replicons[0]
    before = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), np.frombuffer(chromosome.sequence, np.uint8))
    codes = before.astype(np.uint8)
    frames = _frames(chromosome.genes, codes.size)
    state = np.random.Generator(np.random.PCG64(seed)).integers(0, 2**64, 2, np.uint64)
    substitute(state, codes, frames, int(rate * 2**32))
    changed = codes != before
    assert abs(changed.mean() - rate) < 6 * np.sqrt(rate / codes.size) + 0.03 * rate
    third, rest = np.isin(frames, (3, 6)), np.isin(frames, (1, 2, 4, 5))
    assert changed[third].mean() > 2 * changed[rest].mean()


@pytest.mark.parametrize("rate", [0.01, 0.03])
def test_strains_are_as_far_from_the_type_strain_as_set(rate: float) -> None:
    community = Community(chromosome=400_000, strains=2, divergence=(rate, rate), seed=3)
    first, second = simulate_genomes(simulate_species(community)[0], community)
    mine, theirs = kmers(first.replicons[0].sequence), kmers(second.replicons[0].sequence)
    # Of the k-mers of the blocks that are left, a share (1 - rate)^15 is kept (Mash: Ondov 2016, Genome Biol
    # 17:132); where changes cluster at third positions, a little more.
    identity = (len(mine & theirs) / len(theirs)) ** (1 / 15)
    assert 1 - 1.15 * rate < identity < 1 - 0.8 * rate
    assert 0.85 < len(second.replicons[0].sequence) / len(first.replicons[0].sequence) <= 1.02


def test_without_divergence_only_the_order_of_blocks_changes() -> None:
    species = simulate_species(SMALL)[1]
    chromosome = type_strain(species, Community(chromosome=700_000)).replicons[0]
    codes = np.searchsorted(np.frombuffer(b"ACGT", np.uint8), np.frombuffer(chromosome.sequence, np.uint8))
    rng = np.random.Generator(np.random.PCG64(1))
    same = strain_of(Written(codes.astype(np.uint8), chromosome.genes), (0.0, 0.0), rng)
    assert same.letters() != chromosome.sequence
    mine = {tuple(reading(chromosome.sequence, gene)) for gene in chromosome.genes}
    kept = {tuple(reading(same.letters(), gene)) for gene in same.genes}
    assert kept < mine
    assert len(kept) > 0.85 * len(mine)


def test_same_seed_same_bytes_and_strains_do_not_depend_on_their_number() -> None:
    species = simulate_species(SMALL)
    again = simulate_species(SMALL)
    assert [one.lineage for one in species] == [one.lineage for one in again]
    first = [one.replicons[0].sequence for one in simulate_genomes(species[4], SMALL)]
    assert first == [one.replicons[0].sequence for one in simulate_genomes(again[4], SMALL)]
    more = Community(phyla=2, families=2, genera=2, species=2, strains=4, chromosome=120_000, seed=5)
    assert [one.replicons[0].sequence for one in simulate_genomes(species[4], more)][:2] == first
    other = Community(phyla=2, families=2, genera=2, species=2, strains=2, chromosome=120_000, seed=6)
    assert type_strain(simulate_species(other)[4], other).replicons[0].sequence != first[0]


def test_names_are_unique_and_lineages_whole() -> None:
    community = Community(phyla=9, families=5, genera=7, species=4)
    species = simulate_species(community)
    assert len(species) == 9 * 5 * 7 * 4
    assert len({one.lineage["species"] for one in species}) == len(species)
    for rank, number in (("phylum", 9), ("family", 45), ("genus", 315)):
        assert len({one.lineage[rank] for one in species}) == number
    assert all(all(one.lineage.values()) for one in species)
    assert species[0].distance(species[0]) == 0


def test_the_folder_holds_every_sequence_of_its_table(tmp_path: Path) -> None:
    community = Community(
        phyla=1, families=1, genera=2, species=1, strains=2, chromosome=20_000, plasmid=5_000
    )
    folder = write_community(tmp_path / "community", community=community)
    rows = [line.split("\t") for line in (folder / "taxonomy.tsv").read_text().splitlines()]
    assert rows[0][:5] == ["sequence_id", "length", "molecule", "genome_id", "strain"]
    assert rows[0][5:] == ["species", "genus", "family", "order", "class", "phylum", "domain"]
    lengths = {}
    for path in (folder / "genomes").iterdir():
        for record in path.read_text().split(">")[1:]:
            name, *lines = record.splitlines()
            lengths[name] = (path.stem, sum(map(len, lines)))
            assert all(len(line) == 80 for line in lines[:-1])
    assert lengths == {row[0]: (row[3], int(row[1])) for row in rows[1:]}
    assert len(rows) - 1 == 2 * 2 * 2 + 2 * 2
    with pytest.raises(UsageError, match="exists"):
        write_community(folder, community=community)
    assert write_community(folder, community=community, force=True) == folder


@pytest.mark.parametrize(
    "wrong",
    [
        {"phyla": 0},
        {"strains": 0},
        {"plasmids": -1},
        {"chromosome": 10},
        {"divergence": (0.1, 0.05)},
        {"seed": -1},
    ],
)
def test_impossible_communities_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        Community(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("length", [1, 3, 5000, 5_000_001])
def test_random_contigs_are_uniform_and_repeatable(length: int, tmp_path: Path) -> None:
    contigs = list(random_contigs(3, length, seed=1))
    assert contigs == list(random_contigs(3, length, seed=1))
    assert [name for name, _ in contigs] == ["contig_1", "contig_2", "contig_3"]
    assert all(len(sequence) == length and set(sequence) <= set(b"ACGT") for _, sequence in contigs)
    if length == 5000:
        counts = [
            sum(sequence.count(letter) for _, sequence in contigs) for letter in (b"A", b"C", b"G", b"T")
        ]
        assert chisquare(counts).pvalue > 1e-6
        write_random_contigs(tmp_path / "contigs.fna", 3, length, seed=1)
        records = (tmp_path / "contigs.fna").read_text().split(">")[1:]
        assert ["".join(one.splitlines()[1:]).encode() for one in records] == [s for _, s in contigs]
