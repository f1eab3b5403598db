"""Names with probabilities, and verdicts in words, for pools of queries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.model import Calibration
from kinmer.confidence.pool import Lineages, Pool
from kinmer.confidence.votes import (
    MOLECULE_COUNT,
    RANK_COUNT,
    Votes,
    descending,
    molecule_features,
    name_features,
    vote,
)
from kinmer.taxonomy import RANKS

__all__ = ["NOTHING_NEAR", "TOO_SHORT", "Judgements", "Verdict", "judge", "verdicts"]

NOTHING_NEAR, TOO_SHORT = "nothing near", "too short to tell"
DIGITS = 6
# Without a calibration names end where one has less than half of the votes.
LEAST_SHARE = 0.5
# Queries of fewer bases have no names at all, whatever is near.
NAMELESS = 100


@dataclass(frozen=True)
class Judgements:
    """Names and probabilities of queries, by rank from domain to species.

    names : (q, 7) int32, -1 for none. share : (q, 7) of the votes. probability : (q, 7) that the name is
    right, NaN where there is none. absent : (q, 7) probability that the true name is none of the references',
    NaN where that is not known. threshold : (q, 7) probability from which on a name is given by default.
    molecule : (q, 3) probabilities of chromosome, plasmid and virus, or NaN. short : (q,) queries without
    probabilities, shorter than all that was learned from.
    """

    names: NDArray[np.int32]
    share: NDArray[np.float64]
    probability: NDArray[np.float64]
    absent: NDArray[np.float64]
    threshold: NDArray[np.float64]
    molecule: NDArray[np.float64]
    short: NDArray[np.bool_]


@dataclass(frozen=True)
class Verdict:
    """A verdict in words; rank and name of the deepest name that is likely enough, None where none is."""

    text: str
    rank: str | None
    name: str | None


def judge(pool: Pool, lineages: Lineages, calibration: Calibration | None) -> Judgements:
    """Judge queries by their candidates, each by its own alone; without a calibration nothing is probable.

    A name is never likelier than the one above it. A name at a rank that nothing could be learned of, as few
    viruses have an order, is as likely as the next one below. Where the nearest genome is farther than any
    that was learned from, no name is likely at all. A query shorter than all that was learned from has no
    probabilities, and names as without a calibration; one of fewer than `NAMELESS` bases has no names either.
    """
    votes, count = vote(pool, lineages), len(pool)
    names, short = _agreed(votes), np.zeros(count, dtype=bool)
    likely, absent, limit = (np.full((count, RANK_COUNT), np.nan) for _ in range(3))
    molecule = np.full((count, MOLECULE_COUNT), np.nan)
    if calibration is not None and count:
        short = calibration.is_short(pool.lengths)
        names = np.where(short[:, None], names, votes.names)
        for rank in range(RANK_COUNT):
            limit[:, rank] = calibration.threshold(rank, pool.lengths)
            for values, model in ((likely, calibration.names[rank]), (absent, calibration.absent[rank])):
                if model is not None:
                    features = name_features(votes, pool, rank, calibration.within, model.width)
                    values[:, rank] = model.predict(features)[:, 1]
        near = calibration.is_near(votes.nearest, pool.lengths).astype(np.float64)
        likely = descending(likely, votes.names >= 0, near)
        if calibration.molecules is not None:
            molecule = calibration.molecules.predict(molecule_features(pool, calibration.within))
        for values in (likely, absent, molecule):
            values[short] = np.nan
    nameless = (pool.lengths > 0) & (pool.lengths < NAMELESS)
    return Judgements(
        np.where(nameless[:, None], np.int32(-1), names),
        votes.share.round(DIGITS),
        likely.round(DIGITS),
        absent.round(DIGITS),
        limit.round(DIGITS),
        molecule.round(DIGITS),
        short,
    )


def _agreed(votes: Votes) -> NDArray[np.int32]:
    """The names (q, 7) down to the first that has less than half of the votes."""
    split = (votes.names >= 0) & (votes.share < LEAST_SHARE)
    return np.where(np.logical_or.accumulate(split, axis=1), np.int32(-1), votes.names)


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
    result = []
    for row, line in enumerate(given):
        ranks = np.flatnonzero(line)
        if not ranks.size:
            result.append(Verdict(TOO_SHORT if judgements.short[row] else NOTHING_NEAR, None, None))
            continue
        deepest = int(ranks[-1])
        rank, name = RANKS[deepest], lineages.names[deepest][judgements.names[row, deepest]]
        text = f"{rank} {name}"
        if deepest + 1 < len(RANKS):
            further = np.flatnonzero(judgements.names[row, deepest + 1 :] >= 0)
            below = deepest + 1 + (int(further[0]) if further.size else 0)
            new = judgements.absent[row, below] >= 0.5
            text = f"new {RANKS[below]} of {text}" if new else f"{text}, {RANKS[below]} unsure"
        result.append(Verdict(text, rank, name))
    return result
