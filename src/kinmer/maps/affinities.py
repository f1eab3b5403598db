"""Who attracts whom on the map: the symmetric probabilities P of t-SNE, in little memory.

openTSNE's affinities of n points and k neighbours hold several float64 copies of n × k numbers. Here the
conditional probabilities take the place of the distances, and the one sparse matrix that the optimisation
needs is filled straight from them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.maps import kernels
from kinmer.progress import step
from kinmer.stores import Metric

__all__ = ["Affinities", "calibrate", "straight", "symmetric"]

# Rows whose perplexity is calibrated together, float64 inside.
BLOCK = 1 << 15


@dataclass(frozen=True)
class Affinities:
    """P, (n, n), symmetric, its sum 1: rows from `starts` (n + 1,) int64, columns int32, values float32."""

    starts: NDArray[np.int64]
    columns: NDArray[np.int32]
    values: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.starts) - 1


def calibrate(
    indices: NDArray[np.int32], distances: NDArray[np.float32], perplexity: float, *, threads: int
) -> NDArray[np.float32]:
    """Conditional probabilities (n, k) of neighbours, rows of sum 1; they are written over the distances.

    Gaussians whose entropy is log(perplexity) (van der Maaten and Hinton 2008), by openTSNE's search for
    their widths. Neighbours that are not there (index −1) have none. A row without a width (neighbours that
    are all alike, a perplexity of 1 and less) shares evenly.
    """
    from openTSNE import _tsne

    with step("Perplexity", len(distances)) as progress:
        for start in range(0, len(distances), BLOCK):
            far = distances[start : start + BLOCK]
            there = indices[start : start + BLOCK] >= 0
            exact = np.where(there, far, 0).astype(np.float64)
            # Far enough for a probability of nothing, near enough for no overflow.
            exact = np.where(there, exact, 1e3 * (1 + exact.max(initial=0)))
            if perplexity > 1:
                found = np.asarray(
                    _tsne.compute_gaussian_perplexity(
                        exact, np.array([perplexity], float), num_threads=threads
                    )
                )
            else:
                found = np.full(exact.shape, np.nan)
            found = np.where(there, found, 0)
            mass = found.sum(axis=1, keepdims=True)
            even = there / np.maximum(there.sum(axis=1, keepdims=True), 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                distances[start : start + BLOCK] = np.where(mass > 0, found / mass, even)
            progress.advance(len(far))
    return distances


def straight(distances: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Straight lines between the points, written over the distances: what the Gaussians are of.

    Cosine distances are half the squared lines between directions. Gaussians of these lines keep more of the
    nearest on the map than those of the distances themselves (benchmarks/maps.py: .563 against .561 of ten).
    """
    if metric == "cosine":
        np.maximum(distances, 0, out=distances)
        distances *= 2
        np.sqrt(distances, out=distances)
    return distances


def symmetric(indices: NDArray[np.int32], conditional: NDArray[np.float32]) -> Affinities:
    """P_ij = (p_j|i + p_i|j) / 2n of conditional probabilities (n, k); rows are in no order.

    Every edge is looked up in the row of its other end, so that no transposed copy is needed: beside the
    two arrays there is only the result, about 1.5 k entries of 8 bytes a point.
    """
    with step("Affinities"):
        lengths = np.zeros(len(indices), np.int64)
        kernels.lengths_of_rows(indices, lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        columns = np.empty(starts[-1], np.int32)
        values = np.empty(starts[-1], np.float32)
        # Every row with a neighbour has a sum of 1.
        total = max(1, int((indices[:, :1] >= 0).sum()))
        kernels.fill_rows(indices, conditional, starts[:-1].copy(), 0.5 / total, columns, values)
    return Affinities(starts, columns, values)
