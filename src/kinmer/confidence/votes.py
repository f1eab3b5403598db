"""What the nearest genomes of a query agree on, rank by rank, and the features that models make of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import MOLECULES, Lineages, Pool, merge_genomes
from kinmer.index.rows import GENOME
from kinmer.taxonomy import RANKS

__all__ = [
    "MOLECULE_COUNT",
    "RANK_COUNT",
    "VIRUS",
    "Votes",
    "descending",
    "log_distance",
    "molecule_features",
    "name_features",
    "vote",
]

RANK_COUNT, MOLECULE_COUNT, VIRUS = len(RANKS), len(MOLECULES), MOLECULES.index("virus")
# Genomes that have a vote, and the distance behind the nearest at which a vote's weight falls to 1/e.
VOTERS, WEIGHT_SCALE = 10, 0.02
# Below this distance sequences count as equal.
LEAST_DISTANCE = 1e-3
USUAL_LENGTH = 10_000.0
# Shorter sequences say less and less: they have features of their own, which are 0 for longer ones.
SHORT_LENGTH = 1_000.0
# Rows whose molecules count, and the distance behind the nearest at which their weight falls to 1/e.
MOLECULE_ROWS, MOLECULE_SCALE = 20, 0.02
# Rows of a kind whose mean distance counts beside that of its nearest.
MOLECULE_NEAREST = 5

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Votes:
    """The votes on queries, (q, 7) by rank.

    names : int32, -1 where the genomes do not agree. share : of all votes. own, other : distances of the
    nearest genome of that name and of another name. own_mean, other_mean : of the nearest genome's mean of
    that name and of all others. nearest : (q,) distance of the nearest genome.

    Without a name `own` and `other` are the distances of the nearest and of the farthest candidate. The
    farthest also stands for another name, or a mean, that no candidate has.
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

    At each rank the name with the largest weight among the genomes that agree with all names above it. Of
    equal weights the nearer one's counts. A rank at which half of the weight or more has no name, as many
    viruses have no order, is passed over.
    """
    distances, genomes = merge_genomes(pool)
    count, ranks = len(pool), RANK_COUNT
    codes = np.concatenate([lineages.codes, np.full((1, ranks), -1, np.int32)])[genomes]
    nearest = distances[:, 0] if distances.shape[1] else np.full(count, np.inf)
    nearest = np.where(np.isfinite(nearest), nearest, 2.0)
    finite = np.where(np.isfinite(pool.distances), pool.distances, 0)
    farthest = np.maximum(finite.max(axis=1, initial=0).astype(np.float64), nearest)
    voters = min(VOTERS, distances.shape[1])
    weight = np.exp(-(distances[:, :voters] - nearest[:, None]) / WEIGHT_SCALE)
    weight = np.where(genomes[:, :voters] >= 0, weight, 0)
    own, other, own_mean, other_mean = (
        np.repeat(values[:, None], ranks, 1) for values in (nearest, farthest, farthest, farthest)
    )
    names, share = np.full((count, ranks), -1, np.int32), np.zeros((count, ranks))
    total = weight.sum(axis=1)
    agree = np.ones((count, voters), bool)
    for rank in range(ranks):
        name, votes, named = _ballot(codes[:, :voters, rank], weight, agree, total)
        has = named & (total > 0)
        names[has, rank], share[has, rank] = name[has], votes[has]
        of = codes[:, :, rank]
        own[has, rank] = _least(distances, of == name[:, None])[has]
        others = _least(distances, (of != name[:, None]) & (of >= 0))
        other[has, rank] = np.where(np.isfinite(others), others, farthest)[has]
        agree &= ~has[:, None] | (of[:, :voters] == name[:, None])
    _fill_means(own_mean, other_mean, names, pool, lineages)
    return Votes(names, share, own, other, own_mean, other_mean, nearest)


def descending(likely: Floats, named: Bools, most: Floats) -> Floats:
    """(q, 7) probabilities of the names: none above `most` (q,) or the one above; NaN where there is no name.

    likely : (q, 7), NaN where nothing could be learned of the rank. It then gets that of the next one below.
    """
    result = np.fmin.accumulate(np.where(named, np.minimum(likely, most[:, None]), np.nan), axis=1)
    known = named & np.isfinite(likely)
    below = np.full(len(likely), np.nan)
    for rank in reversed(range(RANK_COUNT)):
        result[:, rank] = np.where(known[:, rank], result[:, rank], np.where(named[:, rank], below, np.nan))
        below = np.where(known[:, rank], result[:, rank], below)
    return result


def log_distance(distances: Floats) -> Floats:
    """Logs of distances, those of nearly equal sequences as one."""
    return np.asarray(np.log(np.maximum(distances, LEAST_DISTANCE)))


def name_features(
    votes: Votes, pool: Pool, rank: int, within: tuple[float, float], width: int | None = None
) -> Floats:
    """(q, p) of the name at a rank: how near it is, how near another name is, its share, and the length.

    width : only the first columns. Later ones stand last: models of kinmer 0.1.0 have none of them.

    Whether the query is a virus was tried too. It did not help on genera that had not been learned from.
    """
    own, other = log_distance(votes.own[:, rank]), log_distance(votes.other[:, rank])
    means = log_distance(votes.own_mean[:, rank]), log_distance(votes.other_mean[:, rank])
    size = _size(pool.lengths, within)
    curved = [size * own, size * other, size**2 * own, size**2 * other]
    short = np.minimum(size - np.log(SHORT_LENGTH / USUAL_LENGTH), 0)
    share = votes.share[:, rank]
    shorter = [short, short**2, short * own, short * other, short * share]
    every = [own, other, share, size, size**2, *curved, *means, *shorter]
    return np.stack(every[:width], axis=1)


def molecule_features(pool: Pool, within: tuple[float, float]) -> Floats:
    """(q, p): how near each kind of molecule is, what share of the nearest rows it has, and the length."""
    distances = pool.distances.astype(np.float64)
    valid = np.isfinite(distances)
    first = np.where(valid, distances, np.inf).min(axis=1, initial=np.inf)
    last = np.where(valid, distances, 0).max(axis=1, initial=0)
    closeness = np.exp(-(distances - np.where(np.isfinite(first), first, 0)[:, None]) / MOLECULE_SCALE)
    weight = np.where(valid & (pool.molecules >= 0), closeness, 0)[:, :MOLECULE_ROWS]
    total = np.maximum(weight.sum(axis=1), 1e-300)
    size = _size(pool.lengths, within)
    parts = [size]
    for kind in range(MOLECULE_COUNT):
        own = valid & (pool.molecules == kind)
        nearest = np.sort(np.where(own, distances, np.inf), axis=1)[:, :MOLECULE_NEAREST]
        lacking = MOLECULE_NEAREST - nearest.shape[1]
        nearest = np.pad(nearest, ((0, 0), (0, lacking)), constant_values=np.inf)
        nearest = np.where(np.isfinite(nearest), nearest, last[:, None])
        near = log_distance(nearest[:, 0])
        share = np.where(own[:, :MOLECULE_ROWS], weight, 0).sum(axis=1) / total
        mean = log_distance(nearest.mean(axis=1))
        common = own.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
        parts += [near, near * size, share, share * size, mean, common]
    return np.stack(parts, axis=1)


def _size(lengths: NDArray[np.int64], within: tuple[float, float]) -> Floats:
    """Log of lengths, limited to those that were learned from; unknown ones as the longest."""
    known = np.where(lengths > 0, lengths, within[1]).astype(np.float64)
    return np.asarray(np.log(np.clip(known, *within) / USUAL_LENGTH))


def _fill_means(
    own_mean: Floats, other_mean: Floats, names: NDArray[np.int32], pool: Pool, lineages: Lineages
) -> None:
    """Put in the distances of genomes' means, where candidates have any."""
    means = (pool.kinds == GENOME) & (pool.genomes >= 0) & np.isfinite(pool.distances)
    distances = np.where(means, pool.distances, np.inf).astype(np.float64)
    for rank in range(RANK_COUNT):
        codes = np.append(lineages.codes[:, rank], np.int32(-1))[np.where(means, pool.genomes, -1)]
        name = names[:, rank, None]
        own = (codes == name) & (name >= 0)
        for target, which in ((own_mean, own), (other_mean, ~own)):
            least = _least(distances, which)
            target[:, rank] = np.where(np.isfinite(least), least, target[:, rank])


def _ballot(
    codes: NDArray[np.int32], weight: Floats, agree: Bools, total: Floats
) -> tuple[NDArray[np.int32], Floats, Bools]:
    """The name (q,) with the most weight of all voters, its share, and whether the rank counts at all."""
    count = len(codes)
    if not codes.shape[1]:
        return np.full(count, -1, np.int32), np.zeros(count), np.zeros(count, bool)
    valid = agree & (codes >= 0)
    given = np.where(valid, weight, 0)
    # Voters are few: their weights are added one by one, in the same order for every batch.
    votes = np.zeros_like(given)
    for voter in range(codes.shape[1]):
        votes += np.where(codes == codes[:, voter, None], given[:, voter, None], 0)
    votes = np.where(valid, votes, -1)
    best = votes.argmax(axis=1)
    top = votes[np.arange(count), best]
    nameless = np.where(agree & (codes < 0), weight, 0).sum(axis=1)
    named = (top > 0) & (nameless < 0.5 * np.maximum(total, 1e-300))
    return codes[np.arange(count), best], np.maximum(top, 0) / np.maximum(total, 1e-300), named


def _least(distances: Floats, which: Bools) -> Floats:
    return np.asarray(np.where(which, distances, np.inf).min(axis=1, initial=np.inf))
