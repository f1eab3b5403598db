"""Candidates of queries, the lineages of their genomes, and samples whose truth is known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "CASES",
    "GENOME_MEAN",
    "HIDDEN",
    "MEAN_BONUS",
    "NO_KIN",
    "Lineages",
    "Pool",
    "Sample",
    "merge_genomes",
]


# What of a query the references may know, and the highest rank whose name they do not have; see `Sample`.
HIDDEN: Mapping[str, int | None] = {
    "known": None,
    "new species": 6,
    "new genus": 5,
    "new family": 4,
    "new order": 3,
    "new class": 2,
    "new phylum": 1,
    "new domain": 0,
    "no kin": 0,
}
CASES = tuple(HIDDEN)
NO_KIN = "no kin"
# A genome's mean vector counts as so much nearer than it is: it has less noise than a piece's. Measured on
# fragments of known genomes.
MEAN_BONUS = 0.01
GENOME_MEAN = 2


@dataclass(frozen=True)
class Lineages:
    """Names of genomes. codes : (g, 7) int32, places in `names` of the ranks from domain down, -1 unknown."""

    codes: NDArray[np.int32]
    names: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Pool:
    """The nearest rows of every query.

    distances : (q, c) float32, ascending cosine distances, inf for none. genomes : (q, c) int64, places in
    `Lineages`, -1 for none. kinds : (q, c) int8, 0 a piece, 1 a whole sequence, 2 a genome's mean.
    molecules : (q, c) int8, 0 chromosome, 1 plasmid, 2 virus, -1 unknown. lengths : (q,) int64 letters of the
    queries, 0 for unknown.
    """

    distances: NDArray[np.float32]
    genomes: NDArray[np.int64]
    kinds: NDArray[np.int8]
    molecules: NDArray[np.int8]
    lengths: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)


@dataclass(frozen=True)
class Sample:
    """Queries of one of `CASES`, in whose pools nothing is that the references would not have in that case.

    Those of "no kin" are random letters; `truth` says in whose place.

    truth : (q, 7) int32 codes of the queries' own names, -1 unknown. molecule : (q,) int8 as in `Pool`.
    """

    case: str
    pool: Pool
    truth: NDArray[np.int32]
    molecule: NDArray[np.int8]


def merge_genomes(pool: Pool) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Every genome once, as near as its best candidate: distances and genomes (q, c), nearest first.

    Missing ones are inf and -1.
    """
    shape = pool.distances.shape
    far = pool.distances.astype(np.float64)
    far = np.where(pool.kinds == GENOME_MEAN, np.maximum(far - MEAN_BONUS, 0), far)
    there = (pool.genomes >= 0) & np.isfinite(far)
    genomes = np.where(there, pool.genomes, np.iinfo(np.int64).max)
    far = np.where(there, far, np.inf)
    rows = np.repeat(np.arange(shape[0]), shape[1])
    order = np.lexsort((far.ravel(), genomes.ravel(), rows)).reshape(shape) % max(1, shape[1])
    genomes, far = np.take_along_axis(genomes, order, 1), np.take_along_axis(far, order, 1)
    far[:, 1:][genomes[:, 1:] == genomes[:, :-1]] = np.inf
    order = np.argsort(far, axis=1, kind="stable")
    far = np.take_along_axis(far, order, 1)
    return far, np.where(np.isfinite(far), np.take_along_axis(genomes, order, 1), -1)
