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

__all__ = [
    "Affinities",
    "attract",
    "calibrate",
    "divergence",
    "fill_rows",
    "lengths_of_rows",
    "straight",
    "symmetric",
]


@njit(nogil=True, cache=True)
def _place_in(row: Any, wanted: Any) -> int:
    for place in range(len(row)):
        if row[place] == wanted:
            return place
    return -1


@njit(nogil=True, cache=True)
def lengths_of_rows(indices: Any, lengths: Any) -> None:
    """Add to lengths (n,) the neighbours of every point and those that have it without being its own."""
    for i in range(len(indices)):
        for place in range(indices.shape[1]):
            j = indices[i, place]
            if j >= 0:
                lengths[i] += 1
                if _place_in(indices[j], i) < 0:
                    lengths[j] += 1


@njit(nogil=True, cache=True)
def fill_rows(indices: Any, conditional: Any, free: Any, scale: float, columns: Any, values: Any) -> None:
    """Fill the rows of the symmetric matrix; free (n,): where the next entry of a row goes."""
    for i in range(len(indices)):
        for place in range(indices.shape[1]):
            j = indices[i, place]
            if j < 0:
                continue
            p = conditional[i, place]
            back = _place_in(indices[j], i)
            if back < 0:
                columns[free[j]], values[free[j]] = i, scale * p
                free[j] += 1
            else:
                p += conditional[j, back]
            columns[free[i]], values[free[i]] = j, scale * p
            free[i] += 1


@njit(nogil=True, cache=True, fastmath=True)
def attract(
    first: int,
    last: int,
    starts: Any,
    columns: Any,
    values: Any,
    points: Any,
    strength: float,
    gradient: Any,
) -> None:
    """Add `strength` times the attraction of rows first … last to the gradient (n, 2)."""
    for i in range(first, last):
        x, y, gx, gy = points[i, 0], points[i, 1], 0.0, 0.0
        for edge in range(starts[i], starts[i + 1]):
            j = columns[edge]
            dx, dy = x - points[j, 0], y - points[j, 1]
            force = values[edge] / (1.0 + dx * dx + dy * dy)
            gx += force * dx
            gy += force * dy
        gradient[i, 0] += strength * gx
        gradient[i, 1] += strength * gy


@njit(nogil=True, cache=True)
def divergence(first: int, last: int, starts: Any, columns: Any, values: Any, points: Any) -> Any:
    """Sums over rows first … last: of p log(p / q), q not normalised, and of p."""
    found, mass = 0.0, 0.0
    for i in range(first, last):
        for edge in range(starts[i], starts[i + 1]):
            p = np.float64(values[edge])
            if p > 0:
                j = columns[edge]
                dx, dy = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]
                found += p * np.log(p * (1.0 + dx * dx + dy * dy))
                mass += p
    return found, mass


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
        lengths_of_rows(indices, lengths)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        columns = np.empty(starts[-1], np.int32)
        values = np.empty(starts[-1], np.float32)
        # Every row with a neighbour has a sum of 1.
        total = max(1, int((indices[:, :1] >= 0).sum()))
        fill_rows(indices, conditional, starts[:-1].copy(), 0.5 / total, columns, values)
    return Affinities(starts, columns, values)
