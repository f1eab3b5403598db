"""Which points attract each other on the map: the symmetric probabilities P of t-SNE, in little memory.

openTSNE's affinities of n points and k neighbors hold several float64 copies of n × k numbers. Here the
conditional probabilities replace the distances, and the one sparse matrix that the optimization needs is
filled from them.
"""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.progress import step
from kinmer.stores import Metric

# Rows whose perplexity is calibrated together, in float64.
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
    """Conditional probabilities (n, k) of neighbors, rows of sum 1; they overwrite the distances.

    Gaussians whose entropy is log(perplexity) (van der Maaten and Hinton 2008), their widths by openTSNE's
    search. Missing neighbors (index -1) get none. A row without a width (all neighbors alike, a perplexity
    of 1 or less) shares evenly.
    """
    from openTSNE import _tsne

    with step("Perplexity", len(distances)) as progress:
        for start in range(0, len(distances), BLOCK):
            part = slice(start, start + BLOCK)
            present = indices[part] >= 0
            exact = np.where(present, distances[part], 0).astype(np.float64)
            # Far enough for a probability of zero, near enough for no overflow.
            exact = np.where(present, exact, 1e3 * (1 + exact.max(initial=0)))
            shares = np.full(exact.shape, np.nan)
            if perplexity > 1:
                wanted = np.array([perplexity], float)
                shares = np.asarray(_tsne.compute_gaussian_perplexity(exact, wanted, num_threads=threads))
            shares = np.where(present, shares, 0)
            mass = shares.sum(axis=1, keepdims=True)
            even = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
            with np.errstate(invalid="ignore", divide="ignore"):
                distances[part] = np.where(mass > 0, shares / mass, even)
            progress.advance(len(exact))
    return distances


def straight(distances: NDArray[np.float32], metric: Metric) -> NDArray[np.float32]:
    """Straight-line distances between the points, which the Gaussians use; they overwrite the distances.

    A cosine distance is half the squared line between two directions. Gaussians of these lines keep more of
    the nearest neighbors on the map than those of the cosine distances (.563 against .561 of ten).
    """
    if metric == "cosine":
        np.maximum(distances, 0, out=distances)
        distances *= 2
        np.sqrt(distances, out=distances)
    return distances


def symmetric(indices: NDArray[np.int32], conditional: NDArray[np.float32]) -> Affinities:
    """P_ij = (p_j|i + p_i|j) / 2n of conditional probabilities (n, k); rows are in no order.

    Every edge is looked up in the row of its other end, so no transposed copy is needed: beside the two
    arrays there is only the result, about 1.5 k entries of 8 bytes a point.
    """
    with step("Affinities"):
        lengths = np.zeros(len(indices), np.int64)
        _count_edges(indices, lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        columns = np.empty(starts[-1], np.int32)
        values = np.empty(starts[-1], np.float32)
        # Every row with a neighbor has a sum of 1.
        total = max(1, int((indices[:, :1] >= 0).sum()))
        _fill_rows(indices, conditional, starts[:-1].copy(), 0.5 / total, columns, values)
    return Affinities(starts, columns, values)


@njit(nogil=True, cache=True)
def _position(row: Any, wanted: Any) -> int:
    for at in range(len(row)):
        if row[at] == wanted:
            return at
    return -1


@njit(nogil=True, cache=True)
def _count_edges(indices: Any, lengths: Any) -> None:
    """Add to lengths (n,) the neighbors of every point and those that have it without being its own."""
    for i in range(len(indices)):
        for at in range(indices.shape[1]):
            j = indices[i, at]
            if j >= 0:
                lengths[i] += 1
                if _position(indices[j], i) < 0:
                    lengths[j] += 1


@njit(nogil=True, cache=True)
def _fill_rows(indices: Any, conditional: Any, free: Any, scale: float, columns: Any, values: Any) -> None:
    """Fill the rows of the symmetric matrix; free (n,): where the next entry of a row goes."""
    for i in range(len(indices)):
        for at in range(indices.shape[1]):
            j = indices[i, at]
            if j < 0:
                continue
            p = conditional[i, at]
            back = _position(indices[j], i)
            if back < 0:
                columns[free[j]], values[free[j]] = i, scale * p
                free[j] += 1
            else:
                p += conditional[j, back]
            columns[free[i]], values[free[i]] = j, scale * p
            free[i] += 1
