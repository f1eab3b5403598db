"""Loops over the edges of the neighbour graph."""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["attract", "divergence", "fill_rows", "lengths_of_rows"]


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
