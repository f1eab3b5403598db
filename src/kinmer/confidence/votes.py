"""What the nearest genomes of a query agree on, rank by rank, and the features of models made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import GENOME_MEAN, Lineages, Pool, merge_genomes

__all__ = [
    "MOLECULE_COUNT",
    "RANK_COUNT",
    "Votes",
    "descending",
    "molecule_features",
    "name_features",
    "vote",
]


RANK_COUNT = 7
# Genomes that have a vote, and the distance behind the nearest at which a vote's weight falls to 1/e.
VOTERS, WEIGHT_SCALE = 10, 0.02

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Votes:
    """By query and rank: names (q, 7) int32, -1 where the genomes do not agree on one; share of all votes;
    distance of the nearest genome of that name, and of the nearest of another; of the nearest genome's mean
    of that name, and of all others, named or not; (q,) the nearest genome of all.

    Where there is no name, the first two are those of the nearest and the farthest candidate. The farthest
    also stands for another name, or a mean, that no candidate has.
    """

    names: NDArray[np.int32]
    share: Floats
    own: Floats
    other: Floats
    own_mean: Floats
    other_mean: Floats
    nearest: Floats


def vote(pool: Pool, lineages: Lineages) -> Votes:
    """The votes of the `VOTERS` nearest genomes of every query.

    At each rank the name with the largest weight among the genomes that agree with all names above it; equal
    weights go to the nearer one. A rank at which half of the weight or more has no name, as many viruses have
    no order, is passed over.
    """
    far, genomes = merge_genomes(pool)
    count = len(pool)
    codes = np.concatenate([lineages.codes, np.full((1, RANK_COUNT), -1, np.int32)])[genomes]
    finite = np.isfinite(pool.distances)
    last = np.where(finite, pool.distances, 0).max(axis=1, initial=0).astype(np.float64)
    nearest = (
        np.where(np.isfinite(far[:, :1]), far[:, :1], 2.0)[:, 0] if far.shape[1] else np.full(count, 2.0)
    )
    last = np.maximum(last, nearest)
    voters = min(VOTERS, far.shape[1])
    weight = np.where(
        genomes[:, :voters] >= 0, np.exp(-(far[:, :voters] - nearest[:, None]) / WEIGHT_SCALE), 0
    )
    found = Votes(
        np.full((count, RANK_COUNT), -1, np.int32),
        np.zeros((count, RANK_COUNT)),
        np.repeat(nearest[:, None], RANK_COUNT, 1),
        np.repeat(last[:, None], RANK_COUNT, 1),
        np.repeat(last[:, None], RANK_COUNT, 1),
        np.repeat(last[:, None], RANK_COUNT, 1),
        nearest,
    )
    total = weight.sum(axis=1)
    agree, going = np.ones((count, voters), bool), total > 0
    for rank in range(RANK_COUNT):
        name, share, named = _ballot(codes[:, :voters, rank], weight, agree, total)
        has = going & named
        found.names[has, rank], found.share[has, rank] = name[has], share[has]
        of = codes[:, :, rank]
        found.own[has, rank] = _least(far, of == name[:, None])[has]
        other = _least(far, (of != name[:, None]) & (of >= 0))
        found.other[has, rank] = np.where(np.isfinite(other), other, last)[has]
        agree &= ~has[:, None] | (of[:, :voters] == name[:, None])
    _means(found, pool, lineages)
    return found


def descending(likely: Floats, named: NDArray[np.bool_], most: Floats) -> Floats:
    """(q, 7) probabilities of the names: none above `most` (q,) or the one above; NaN where there is no name.

    likely : (q, 7), NaN where nothing could be learnt of the rank: as much as the next one below has.
    """
    found = np.fmin.accumulate(np.where(named, np.minimum(likely, most[:, None]), np.nan), axis=1)
    known = named & np.isfinite(likely)
    below = np.full(len(likely), np.nan)
    for rank in reversed(range(RANK_COUNT)):
        found[:, rank] = np.where(known[:, rank], found[:, rank], np.where(named[:, rank], below, np.nan))
        below = np.where(known[:, rank], found[:, rank], below)
    return found


def _means(found: Votes, pool: Pool, lineages: Lineages) -> None:
    """Fill in the distances of genomes' means."""
    kept = (pool.kinds == GENOME_MEAN) & (pool.genomes >= 0) & np.isfinite(pool.distances)
    far = np.where(kept, pool.distances, np.inf).astype(np.float64)
    for rank in range(RANK_COUNT):
        codes = np.append(lineages.codes[:, rank], np.int32(-1))[np.where(kept, pool.genomes, -1)]
        name = found.names[:, rank, None]
        own = (codes == name) & (name >= 0)
        for place, where in ((found.own_mean, own), (found.other_mean, ~own)):
            least = _least(far, where)
            place[:, rank] = np.where(np.isfinite(least), least, place[:, rank])


def _ballot(
    codes: NDArray[np.int32], weight: Floats, agree: NDArray[np.bool_], total: Floats
) -> tuple[NDArray[np.int32], Floats, NDArray[np.bool_]]:
    """The name (q,) with the most weight of all voters, its share, and whether the rank counts at all."""
    count = len(codes)
    if not codes.shape[1]:
        return np.full(count, -1, np.int32), np.zeros(count), np.zeros(count, bool)
    mine = np.where(agree & (codes >= 0), weight, 0)
    # Voters are few: their weights are added one by one, in the same order for every batch.
    behind = np.zeros_like(mine)
    for voter in range(codes.shape[1]):
        behind += np.where(codes == codes[:, voter, None], mine[:, voter, None], 0)
    behind = np.where(agree & (codes >= 0), behind, -1)
    best = behind.argmax(axis=1)
    top = behind[np.arange(count), best]
    nameless = np.where(agree & (codes < 0), weight, 0).sum(axis=1)
    named = (top > 0) & (nameless < 0.5 * np.maximum(total, 1e-300))
    return codes[np.arange(count), best], np.maximum(top, 0) / np.maximum(total, 1e-300), named


def _least(far: Floats, where: NDArray[np.bool_]) -> Floats:
    return np.asarray(np.where(where, far, np.inf).min(axis=1, initial=np.inf))


MOLECULE_COUNT, VIRUS = 3, 2
# Distances below are alike: the same sequence.
LEAST_DISTANCE = 1e-3
USUAL_LENGTH = 10_000.0
# Below it sequences say ever less: features of their own, which are 0 beyond.
SHORT_LENGTH = 1_000.0
# Rows whose molecules count, and the distance behind the nearest at which their weight falls to 1/e.
MOLECULE_ROWS, MOLECULE_SCALE = 20, 0.02
# Rows of a kind whose mean distance counts beside that of its nearest.
MOLECULE_NEAREST = 5


def _log(distance: Floats) -> Floats:
    return np.asarray(np.log(np.maximum(distance, LEAST_DISTANCE)))


def _size(lengths: NDArray[np.int64], within: tuple[float, float]) -> Floats:
    """Log of lengths, those outside of what was learnt from as its ends; unknown ones as its longest."""
    known = np.where(lengths > 0, lengths, within[1]).astype(np.float64)
    return np.asarray(np.log(np.clip(known, *within) / USUAL_LENGTH))


def name_features(
    votes: Votes, pool: Pool, rank: int, within: tuple[float, float], width: int | None = None
) -> Floats:
    """(q, p) of the name at a rank: how near it is, how near another one is, its share, and the length.

    width : only the first so many. What came later stands last: models of kinmer 0.1.0 have none of it.

    Whether the query is a virus's was tried too, and did no good on genera that had not been learnt from.
    """
    own, other = _log(votes.own[:, rank]), _log(votes.other[:, rank])
    means = _log(votes.own_mean[:, rank]), _log(votes.other_mean[:, rank])
    size = _size(pool.lengths, within)
    curved = [size * own, size * other, size**2 * own, size**2 * other]
    short = np.minimum(size - np.log(SHORT_LENGTH / USUAL_LENGTH), 0)
    share = votes.share[:, rank]
    shorter = [short, short**2, short * own, short * other, short * share]
    every = [own, other, share, size, size**2, *curved, *means, *shorter]
    return np.stack(every[:width], axis=1)


def molecule_features(pool: Pool, within: tuple[float, float]) -> Floats:
    """(q, p): how near each kind of molecule is, what share of the nearest rows it has, and the length."""
    far = pool.distances.astype(np.float64)
    there = np.isfinite(far)
    first = np.where(there, far, np.inf).min(axis=1, initial=np.inf)
    last = np.where(there, far, 0).max(axis=1, initial=0)
    closeness = np.exp(-(far - np.where(np.isfinite(first), first, 0)[:, None]) / MOLECULE_SCALE)
    weight = np.where(there & (pool.molecules >= 0), closeness, 0)[:, :MOLECULE_ROWS]
    total = np.maximum(weight.sum(axis=1), 1e-300)
    size = _size(pool.lengths, within)
    parts = [size]
    for kind in range(MOLECULE_COUNT):
        own = there & (pool.molecules == kind)
        nearest = np.sort(np.where(own, far, np.inf), axis=1)[:, :MOLECULE_NEAREST]
        lacking = MOLECULE_NEAREST - nearest.shape[1]
        nearest = np.pad(nearest, ((0, 0), (0, lacking)), constant_values=np.inf)
        nearest = np.where(np.isfinite(nearest), nearest, last[:, None])
        near = _log(nearest[:, 0])
        share = np.where(own[:, :MOLECULE_ROWS], weight, 0).sum(axis=1) / total
        mean = _log(nearest.mean(axis=1))
        parts += [
            near,
            near * size,
            share,
            share * size,
            mean,
            own.sum(axis=1) / np.maximum(there.sum(axis=1), 1),
        ]
    return np.stack(parts, axis=1)
