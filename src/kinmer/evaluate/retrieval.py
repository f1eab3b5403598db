"""How often is the nearest entry of the right kind? Shares of queries, with intervals over their sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinmer.evaluate.statistics import Estimate, estimate, resampled

__all__ = ["agreement", "precision_and_recall"]


def agreement(
    truth: Sequence[str], found: Sequence[str], units: Sequence[str], *, bootstrap: int = 1000, seed: int = 0
) -> tuple[Estimate, int]:
    """Share of queries whose nearest has their label, and how many queries have one.

    Parameters
    ----------
    truth, found : label of every query and of its nearest entry; queries without a label ("") do not count.
    units : what every query was cut from (its genome): whole units are drawn in the bootstrap, because
        fragments of one genome succeed or fail together.
    """
    wanted, given = np.asarray(truth, object), np.asarray(found, object)
    counted = wanted != ""
    if not counted.any():
        return Estimate(None), 0
    right = (wanted == given)[counted].astype(float)
    _, unit = np.unique(np.asarray(units, dtype=str)[counted], return_inverse=True)
    hits, sizes = np.bincount(unit, weights=right), np.bincount(unit).astype(float)
    weights = resampled(sizes.size, bootstrap, np.random.default_rng(seed))
    samples: NDArray[np.float64] = (weights @ hits) / (weights @ sizes)
    return estimate(float(right.mean()), samples), int(counted.sum())


def precision_and_recall(
    truth: Sequence[str], found: Sequence[str]
) -> dict[str, tuple[float | None, float | None, int]]:
    """Of every label: precision, recall, and the queries that carry it; None where nothing can be said."""
    wanted, given = np.asarray(truth, object), np.asarray(found, object)
    told: dict[str, tuple[float | None, float | None, int]] = {}
    for label in sorted(set(truth)):
        right = float(((wanted == label) & (given == label)).sum())
        named, carried = int((given == label).sum()), int((wanted == label).sum())
        told[label] = (right / named if named else None, right / carried, carried)
    return told
