"""Verdicts: what is said of a query, in words."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kinmer.confidence.judging import Judgements
from kinmer.confidence.pools import Lineages
from kinmer.taxonomy import RANKS

__all__ = ["NOTHING_NEAR", "TOO_SHORT", "Verdict", "verdicts"]

NOTHING_NEAR, TOO_SHORT = "nothing near", "too short to tell"


@dataclass(frozen=True)
class Verdict:
    """What is said: rank and name of the deepest name that is likely enough; None where none is."""

    text: str
    rank: str | None
    name: str | None


def verdicts(
    judgements: Judgements, lineages: Lineages, min_probability: float | None = None
) -> list[Verdict]:
    """The verdict on every query.

    min_probability : from which on a name is given; None for the default of the rank and the query's length.
    Below the deepest name given, that of the next rank at which the references have names is called new where
    it is likelier than not that they do not have it, else unsure.
    """
    limit = judgements.threshold if min_probability is None else min_probability
    given = (judgements.names >= 0) & (np.nan_to_num(judgements.probability, nan=-1) >= limit)
    found = []
    for row, line in enumerate(given):
        places = np.flatnonzero(line)
        if not places.size:
            found.append(Verdict(TOO_SHORT if judgements.short[row] else NOTHING_NEAR, None, None))
            continue
        deepest = int(places[-1])
        rank, name = RANKS[deepest], lineages.names[deepest][judgements.names[row, deepest]]
        text = f"{rank} {name}"
        if deepest + 1 < len(RANKS):
            further = np.flatnonzero(judgements.names[row, deepest + 1 :] >= 0)
            below = deepest + 1 + (int(further[0]) if further.size else 0)
            new = judgements.absent[row, below] >= 0.5
            text = f"new {RANKS[below]} of {text}" if new else f"{text}, {RANKS[below]} unsure"
        found.append(Verdict(text, rank, name))
    return found
