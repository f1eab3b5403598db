"""A world of which all is known: pools of queries whose distances come from a tree of names."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import HIDDEN, LabeledPool, Lineages, Pool

FAMILIES, GENERA, SPECIES, STRAINS = 8, 3, 3, 2
LENGTHS = (2_000, 10_000, 50_000)
# Typical distance of genomes that share a species, a genus, a family, or less; for queries of 10 kb.
BY_KINSHIP = np.array([0.04, 0.09, 0.16, 0.24])
NOISE = 0.25
# Cases that leave something of the world, where all are of one order, and the share of the queries of each.
SHARES = {"known": 0.5, "new species": 0.25, "new genus": 0.2, "new family": 0.05}


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


def sample(case: str, number: int, seed: int, world: Lineages | None = None) -> LabeledPool:
    """Queries of strains of the world's genomes, as they would be if the case were so."""
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
    hidden = np.arange(len(world.codes)) == own[:, None]
    if rank is not None:
        hidden |= same[:, :, rank]
    far = np.where(hidden, np.inf, np.minimum(far, 1.5)).astype(np.float32)
    return LabeledPool(case, _pool(far, lengths), world.codes[own], np.zeros(number, np.int8))


def _pool(far: NDArray[np.float32], lengths: NDArray[np.int64]) -> Pool:
    order = np.argsort(far, axis=1, kind="stable")
    far = np.take_along_axis(far, order, 1)
    genomes = np.where(np.isfinite(far), order, -1)
    nothing = np.zeros(far.shape, np.int8)
    return Pool(far, genomes, nothing, nothing, lengths.astype(np.int64))


def samples(number: int, seed: int) -> list[LabeledPool]:
    """All cases of the world, with their shares of the queries."""
    return [sample(case, round(number * share), seed + at) for at, (case, share) in enumerate(SHARES.items())]


def part_of(pool: Pool, rows: NDArray[np.int64] | slice) -> Pool:
    """Some queries of a pool."""
    return Pool(
        pool.distances[rows], pool.genomes[rows], pool.kinds[rows], pool.molecules[rows], pool.lengths[rows]
    )
