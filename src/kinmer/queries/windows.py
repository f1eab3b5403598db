"""Where windows of a query are of another kind of molecule than the whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from kinmer.molecules import MOLECULES
from kinmer.queries.results import Stretch

# Windows of a stretch at least, how likely each has to be, and the shortest window that says something.
LEAST_COUNT, LIKELY, LEAST_WINDOW = 2, 0.6, 2000


def stretches(spans: Sequence[tuple[int, int]], likely: NDArray[np.float64], own: str) -> tuple[Stretch, ...]:
    """Where `LEAST_COUNT` windows or more are each by `LIKELY` or more of one kind that is not `own`.

    Such windows are one stretch as long as they overlap or touch: one between them may be less sure.
    spans : of the windows, in order. likely : (w, 5) probabilities of `MOLECULES`, NaN for unknown.
    """
    runs: list[tuple[str, list[int]]] = []
    filled = np.nan_to_num(likely, nan=-1)
    for row in np.flatnonzero(filled.max(axis=1, initial=-1) >= LIKELY).tolist():
        kind = MOLECULES[int(filled[row].argmax())]
        if kind == own:
            continue
        if runs and runs[-1][0] == kind and spans[row][0] <= spans[runs[-1][1][-1]][1]:
            runs[-1][1].append(row)
        else:
            runs.append((kind, [row]))
    return tuple(
        Stretch(
            spans[rows[0]][0], spans[rows[-1]][1], kind, float(likely[rows, MOLECULES.index(kind)].mean())
        )
        for kind, rows in runs
        if len(rows) >= LEAST_COUNT
    )
