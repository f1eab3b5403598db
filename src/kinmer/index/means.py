"""Mean vectors of genomes: what a query finds where none of the genome's pieces is very near."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.index.database import KinIndex
from kinmer.index.vectors import WHOLE

__all__ = ["MEAN_LETTERS", "genome_means"]

# A piece counts by its letters, up to so many: short ones are noisy, long ones no better than this.
MEAN_LETTERS = 100_000


def genome_means(index: KinIndex, genomes: NDArray[np.int64]) -> dict[int, NDArray[np.float32] | None]:
    """The length-weighted mean vector (dim,) of each genome; None where it has a single vector, or none.

    A sequence with pieces counts by these, one without by its whole.
    """
    return {int(number): _mean(index, int(number)) for number in genomes}


def _mean(index: KinIndex, genome: int) -> NDArray[np.float32] | None:
    rows = [
        np.arange(one.first + (one.rows > 1), one.first + one.rows) for one in index.table.members(genome)
    ]
    labels = np.concatenate(rows) if rows else np.empty(0, np.int64)
    if labels.size < 2:
        return None
    records = index.rows.records[labels]
    letters = np.minimum(records["stop"] - records["start"], MEAN_LETTERS).astype(np.float64)
    # Sequences of unknown length count alike.
    weights = np.where(letters > 0, letters, letters.max() or 1.0)
    weights = np.where(records["kind"] == WHOLE, np.maximum(weights, 1.0), weights)
    vectors = index.rows.vectors[labels].astype(np.float64)
    return np.asarray((weights[:, None] * vectors).sum(axis=0) / weights.sum(), dtype=np.float32)
