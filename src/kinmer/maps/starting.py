"""Where points begin: the plane of their principal components, from blocks of vectors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.files import hash_ids
from kinmer.progress import step
from kinmer.stores.base import unit_rows
from kinmer.vectors import Space

__all__ = ["SPREAD", "Plane", "fingerprint_of", "plane_of", "start_of"]

# Standard deviation of the first coordinate at the start, as in openTSNE: larger ones end in worse maps.
SPREAD = 1e-4
# Share of it by which every point is moved, so that equal points can part.
JITTER = 0.01


@dataclass(frozen=True)
class Plane:
    """The two directions (dim, 2) of largest variance around a mean (dim,), and a hash of ids and vectors."""

    mean: NDArray[np.float64]
    directions: NDArray[np.float64]
    fingerprint: str


def plane_of(space: Space) -> Plane:
    """Principal components of all points (cosine: of their directions), accumulated in float64.

    The same blocks in the same order, hence the same plane for the same points.
    """
    from scipy.linalg import eigh

    digest = _digest_of(space)
    total, squares = np.zeros(space.dim), np.zeros((space.dim, space.dim))
    # Around a centre near the mean the squares keep their digits.
    centre = _prepared(space, space.read(0, min(len(space), 1024))).mean(axis=0)
    with step("Principal components", len(space)) as progress:
        for _, block in space.blocks():
            _add(digest, block)
            moved = _prepared(space, block) - centre
            total += moved.sum(axis=0)
            squares += moved.T @ moved
            progress.advance(len(block))
    mean = total / len(space)
    covariance = squares / len(space) - np.outer(mean, mean)
    few = min(2, space.dim)
    _, found = eigh(covariance, subset_by_index=[space.dim - few, space.dim - 1])
    directions = np.zeros((space.dim, 2))
    directions[:, :few] = found[:, ::-1]
    # A direction and its opposite are as good: the largest number is made positive.
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(2)])
    return Plane(mean + centre, directions * np.where(signs == 0, 1, signs), digest.hexdigest())


def start_of(space: Space, plane: Plane, seed: int) -> NDArray[np.float64]:
    """(n, 2) points in the plane, scaled and jittered; at random where all of them are one."""
    rng = np.random.default_rng(seed)
    points = np.empty((len(space), 2))
    for start, block in space.blocks():
        points[start : start + len(block)] = (_prepared(space, block) - plane.mean) @ plane.directions
    spread = float(points[:, 0].std())
    largest = float(np.abs(plane.mean).max(initial=1e-300))
    if len(space) < 2 or not spread > 1e-9 * largest:
        return rng.normal(0, SPREAD, points.shape) if len(space) > 1 else np.zeros((1, 2))
    points *= SPREAD / spread
    points += rng.normal(0, JITTER * SPREAD, points.shape)
    return points


def fingerprint_of(space: Space) -> str:
    """SHA-256 (hex) over ids and vectors: the plane's."""
    digest = _digest_of(space)
    for _, block in space.blocks():
        _add(digest, block)
    return digest.hexdigest()


def _digest_of(space: Space) -> hashlib._Hash:
    return hashlib.sha256(hash_ids(space.ids).encode())


def _add(digest: hashlib._Hash, block: NDArray[np.float32]) -> None:
    digest.update(np.ascontiguousarray(block, "<f4").data)


def _prepared(space: Space, block: NDArray[np.float32]) -> NDArray[np.float64]:
    """Rows as the metric sees them: of length 1 where only directions count."""
    return np.asarray(unit_rows(block) if space.metric == "cosine" else block, np.float64)
