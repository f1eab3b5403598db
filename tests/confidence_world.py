"""A world of which all is known: queries whose candidates' distances come from a tree of names."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import (
    HIDDEN,
    Calibration,
    Candidates,
    GenomeMeans,
    Judgements,
    LabeledSample,
    Lineages,
    Pool,
    Scores,
    judge,
    score,
)

FAMILIES, GENERA, SPECIES, STRAINS = 8, 3, 3, 2
LENGTHS = (2_000, 10_000, 50_000)
# Typical distance of genomes that share a species, a genus, a family, or less; for queries of 10 kb.
BY_KINSHIP = np.array([0.04, 0.09, 0.16, 0.24])
NOISE = 0.25
# Cases that leave something of the world, where all are of one order, and the share of the queries of each.
SHARES = {"part": 0.125, "strain": 0.375, "new species": 0.25, "new genus": 0.2, "new family": 0.05}
# Hashes of a query, and the share of them that a genome of its species, its genus or less has.
HASHES, SHARED = 200, np.array([0.6, 0.03, 0.0, 0.0])


def lineages() -> Lineages:
    """Every family has so many genera, and so on; a domain, phylum, class and order for all."""
    count = FAMILIES * GENERA * SPECIES
    species = np.repeat(np.arange(count), STRAINS)
    codes = np.zeros((len(species), 7), np.int32)
    codes[:, 6], codes[:, 5], codes[:, 4] = species, species // SPECIES, species // (SPECIES * GENERA)
    sizes = (1, 1, 1, 1, FAMILIES, FAMILIES * GENERA, count)
    names = tuple(
        tuple(f"{rank}{one}" for one in range(size)) for rank, size in zip("dpcofgs", sizes, strict=True)
    )
    return Lineages(codes, names)


def means_of(genomes: int) -> GenomeMeans:
    """Means of so many genomes, all as far from each other."""
    means = object.__new__(GenomeMeans)
    means.numbers = means.rows = np.arange(genomes)
    means.sizes = np.ones(genomes, np.int64)
    means._vectors = np.eye(genomes, dtype=np.float32)
    return means


def sample(
    case: str, number: int, seed: int, world: Lineages | None = None, *, homology: bool = False
) -> LabeledSample:
    """Queries of the world's genomes, as they would be if the case were so."""
    world = lineages() if world is None else world
    rng = np.random.default_rng(seed)
    own = rng.integers(0, len(world.codes), number)
    lengths = rng.choice(LENGTHS, number)
    same = (world.codes[own][:, None] == world.codes[None]) & (world.codes[None] >= 0)
    kinship = 3 - (same[:, :, 4].astype(int) + same[:, :, 5] + same[:, :, 6])
    shared = rng.normal(size=(number, 1)) * NOISE
    far = BY_KINSHIP[kinship] * np.sqrt(10_000 / lengths)[:, None]
    far = far * np.exp(shared + rng.normal(size=far.shape) * NOISE)
    rank = HIDDEN[case]
    mine = np.arange(len(world.codes)) == own[:, None]
    # Of a part the genome is there, and no other of the species; of a strain it is the other way round.
    hidden = same[:, :, 6] & ~mine if case == "part" else mine
    if rank is not None:
        hidden |= same[:, :, rank]
    far = np.where(hidden, np.inf, np.minimum(far, 1.5))
    views = {"composition": candidates(far, lengths)}
    if homology:
        counts = rng.binomial(HASHES, SHARED[kinship]) * (case != "part") * ~hidden
        views["both"] = candidates(far, lengths, counts)
    return LabeledSample(
        case,
        pool_of(far, lengths),
        views,
        world.codes[own],
        np.zeros(number, np.int8),
        np.arange(number),
        own,
    )


def candidates(
    far: NDArray[np.float64], lengths: NDArray[np.int64], shared: NDArray[np.int64] | None = None
) -> Candidates:
    """The genomes in order of their scores, by distances (q, g), inf for one that is not there."""
    found = np.zeros(far.shape, np.int64) if shared is None else shared
    score = far - 0.4 * np.maximum(found / HASHES - 0.2, 0)
    order = np.argsort(score, axis=1, kind="stable")[:, :64]
    far, score = np.take_along_axis(far, order, 1), np.take_along_axis(score, order, 1)
    found = np.take_along_axis(found, order, 1)
    genomes = np.where(np.isfinite(far), order, -1)
    hashes = np.full(len(far), -1 if shared is None else HASHES)
    return Candidates(genomes, genomes, genomes, far, far, found, score, hashes, lengths.astype(np.int64))


def pool_of(far: NDArray[np.float64], lengths: NDArray[np.int64]) -> Pool:
    """The same as nearest rows, one of every genome."""
    order = np.argsort(far, axis=1, kind="stable")
    far = np.take_along_axis(far, order, 1)
    genomes = np.where(np.isfinite(far), order, -1)
    nothing = np.zeros(far.shape, np.int8)
    vectors = np.ones((len(far), 1), np.float32)
    return Pool(far.astype(np.float32), genomes, nothing, nothing, lengths.astype(np.int64), vectors)


def samples(number: int, seed: int) -> list[LabeledSample]:
    """All cases of the world, with their shares of the queries."""
    return [sample(case, round(number * share), seed + at) for at, (case, share) in enumerate(SHARES.items())]


def scored(
    one: LabeledSample, world: Lineages, calibration: Calibration | None, view: str = "composition"
) -> Scores:
    """The scores of a sample's queries."""
    return score(one.pool, one.views[view], means_of(len(world.codes)), world, calibration)


def judged(
    one: LabeledSample, world: Lineages, calibration: Calibration | None, view: str = "composition"
) -> Judgements:
    """The judgements on a sample's queries."""
    return judge(scored(one, world, calibration, view))


def part_of(one: LabeledSample, rows: NDArray[np.int64] | slice) -> LabeledSample:
    """Some queries of a sample."""
    some = np.arange(len(one))[rows]
    views = {name: view.take(some) for name, view in one.views.items()}
    return replace(
        one,
        pool=one.pool.take(some),
        views=views,
        truth=one.truth[some],
        molecule=one.molecule[some],
        fragment=one.fragment[some],
        genome=one.genome[some],
    )
