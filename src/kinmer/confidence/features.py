"""What the candidates of queries agree on, and the features of it that models take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import MEAN_PART, NEAREST_PART, USUAL_SHARE, Candidates, GenomeMeans
from kinmer.confidence.pool import RANK_COUNT, USUAL_LENGTH, Lineages, log_size
from kinmer.molecules import log_distance
from kinmer.sketches import SKETCH_K

GENUS, SPECIES = 5, 6
# What a name rests on.
WHY = ("composition", "homology", "both")
# Genomes that have a vote, and the score behind the best at which a vote's weight falls to 1/e.
VOTERS, WEIGHT_SCALE = 10, 0.02
# Shorter sequences say less and less: they have features of their own, which are 0 for longer ones.
SHORT_LENGTH = 1_000.0
# Shares of hashes at which what they say may change: relatives, 95 % of identity (0.95 ** 21), strains.
STEPS = (0.1, 0.2, 0.35, 0.5)
# Standard deviations beyond which a distance is only far.
FARTHEST_Z = 6.0

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Votes:
    """The votes on queries.

    names : (q, 7) int32 by rank, -1 where the genomes do not agree. share : (q, 7) of all votes. codes :
    (q, c, 7) names of the candidates. viral : (q,) whether the best candidate is of a virus.
    """

    candidates: Candidates
    names: NDArray[np.int32]
    share: Floats
    codes: NDArray[np.int32]
    viral: Bools

    def take(self, rows: Integers) -> Votes:
        """Those of some queries."""
        some = self.names[rows], self.share[rows], self.codes[rows], self.viral[rows]
        return Votes(self.candidates.take(rows), *some)

    @property
    def nearest(self) -> Floats:
        """(q,) distance of the best candidate's nearest row, 2 for none."""
        near = self.candidates.near
        first = near[:, 0] if near.shape[1] else np.full(len(near), np.inf)
        return np.where(np.isfinite(first), first, 2.0)

    @cached_property
    def best(self) -> Integers:
        """(q,) the first candidate that has the species, 0 where no species is named."""
        own = (self.codes[:, :, SPECIES] == self.names[:, SPECIES, None]) & (
            self.names[:, SPECIES, None] >= 0
        )
        return np.asarray(own.argmax(axis=1) if own.shape[1] else np.zeros(len(own), np.int64))

    @property
    def why(self) -> Integers:
        """(q,) what speaks for the best candidate: positions in `WHY`."""
        found = self.candidates
        if not found.score.shape[1]:
            return np.zeros(len(found), np.int64)
        with np.errstate(invalid="ignore"):
            composition = NEAREST_PART * found.near + MEAN_PART * found.mean
        nearest = np.where(np.isfinite(composition), composition, np.inf).argmin(axis=1)
        alike = found.containment[:, 0] >= USUAL_SHARE
        # Other genomes of the same species or genus say the same.
        first, second = self.codes[:, 0], self.codes[np.arange(len(found)), nearest]
        same = (first == second).all(axis=1)
        return np.where(alike, np.where(same, WHY.index("both"), WHY.index("homology")), 0)

    @cached_property
    def _sides(self) -> dict[int, Sides]:
        return {}

    def sides(self, rank: int) -> Sides:
        """How near, and how alike, candidates of the rank's name and all others are."""
        if rank not in self._sides:
            self._sides[rank] = self._sides_at(rank)
        return self._sides[rank]

    def _sides_at(self, rank: int) -> Sides:
        found = self.candidates
        name = self.names[:, rank, None]
        there = found.genomes >= 0
        of = self.codes[:, :, rank]
        own = there & (of == name) & (name >= 0)
        if own.shape[1]:
            # Without a name the best candidate stands for it.
            own[:, 0] |= ~own.any(axis=1) & there[:, 0]
        other = there & ~own & ((of >= 0) | (rank == SPECIES))

        def most(values: NDArray[Any], side: Bools) -> Floats:
            return np.asarray(np.where(side, values, 0).max(axis=1, initial=0), np.float64)

        return Sides(
            _least(found.near, own),
            _least(found.near, other),
            _least(found.mean, own),
            _least(found.mean, other),
            most(found.containment, own),
            most(found.containment, other),
            most(found.shared, own),
            most(found.shared, other),
            other,
        )


@dataclass(frozen=True)
class Sides:
    """Of a name and of all others, (q,): the least distances of nearest rows and of means, the largest
    containment and number of shared hashes. others : (q, c) which candidates have another name.
    """

    near: Floats
    other_near: Floats
    mean: Floats
    other_mean: Floats
    contained: Floats
    other_contained: Floats
    shared: Floats
    other_shared: Floats
    others: Bools


def vote(found: Candidates, lineages: Lineages) -> Votes:
    """The votes of the `VOTERS` best genomes of every query.

    At each rank the name with the largest weight among the genomes that agree with all names above it. Of
    equal weights the better one's counts. A rank at which half of the weight or more has no name, as many
    viruses have no order, is passed over.
    """
    count, width = found.genomes.shape
    every = np.concatenate([lineages.codes, np.full((1, RANK_COUNT), -1, np.int32)])
    codes = every[found.genomes]
    viral = np.append(lineages.viral, False)[found.genomes[:, 0]] if width else np.zeros(count, bool)
    voters = min(VOTERS, width)
    best = found.score[:, :1] if width else np.zeros((count, 1))
    with np.errstate(invalid="ignore"):
        weight = np.exp(-(found.score[:, :voters] - best) / WEIGHT_SCALE)
    weight = np.where(found.genomes[:, :voters] >= 0, weight, 0)
    names, share = np.full((count, RANK_COUNT), -1, np.int32), np.zeros((count, RANK_COUNT))
    total = weight.sum(axis=1)
    agree = np.ones((count, voters), bool)
    for rank in range(RANK_COUNT):
        name, votes, named = _ballot(codes[:, :voters, rank], weight, agree, total)
        has = named & (total > 0)
        names[has, rank], share[has, rank] = name[has], votes[has]
        agree &= ~has[:, None] | (codes[:, :voters, rank] == name[:, None])
    return Votes(found, names, share, codes, viral)


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


@dataclass(frozen=True)
class Spread:
    """How far a genome's own pieces lie from the rest of it, which says what near means there.

    Of every feature of `own_features`: usual, deviation : (l, f) by log length. by_genome : for a genome's
    number how many deviations its own are off, and how many they vary by, both shrunk towards 0 and 1.
    """

    lengths: Floats
    usual: Floats
    deviation: Floats
    by_genome: Mapping[int, tuple[Floats, Floats]]

    def deviations(
        self, values: Floats, lengths: Integers, genomes: Integers, given: tuple[Floats, Floats] | None = None
    ) -> Floats:
        """(q, f) by how many of its own deviations values are off what is usual for a genome.

        genomes : (q,) numbers. given : (q, f) twice, in place of what is known of the genome; NaN: as known.
        """
        # As everywhere, one that is not known counts as the longest.
        size = np.where(lengths > 0, np.log(np.maximum(lengths, 1)), self.lengths[-1])
        usual, deviation = (
            np.stack([np.interp(size, self.lengths, line) for line in table.T], axis=1)
            for table in (self.usual, self.deviation)
        )
        count = values.shape[1]
        nothing = (np.zeros(count), np.ones(count))
        unique, inverse = np.unique(genomes, return_inverse=True)
        known = [self.by_genome.get(number, nothing) for number in unique.tolist()]
        off, varying = (np.array([pair[at] for pair in known]).reshape(-1, count)[inverse] for at in (0, 1))
        if given is not None:
            off, varying = (
                np.where(np.isfinite(mine), mine, theirs)
                for mine, theirs in zip(given, (off, varying), strict=True)
            )
        return np.asarray(((values - usual) / deviation - off) / varying)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "lengths": self.lengths.tolist(),
            "usual": self.usual.tolist(),
            "deviation": self.deviation.tolist(),
            "genomes": list(self.by_genome),
            "values": [[*map(float, off), *map(float, varying)] for off, varying in self.by_genome.values()],
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Spread:
        """From `to_dict`; ValueError where shapes or numbers do not go together."""
        lengths, usual, deviation = (
            np.array(stored[name], float) for name in ("lengths", "usual", "deviation")
        )
        values = np.array(stored["values"], float).reshape(len(stored["genomes"]), -1)
        whole = usual.ndim == 2 and usual.shape == deviation.shape and len(usual) == len(lengths) > 0
        if not whole or (len(values) and values.shape[1] != 2 * usual.shape[1]):
            raise ValueError("the shapes of a spread do not go together")
        if not all(np.isfinite(part).all() for part in (lengths, usual, deviation, values)) or (
            not (deviation > 0).all() or (np.diff(lengths) <= 0).any()
        ):
            raise ValueError("a number of a spread is not valid")
        half = usual.shape[1]
        pairs = {
            int(n): (line[:half], line[half:]) for n, line in zip(stored["genomes"], values, strict=True)
        }
        return cls(lengths, usual, deviation, pairs)


def own_features(votes: Votes) -> Floats:
    """(q, 5) what is compared with the genome's own pieces: how near the species is, and how much nearer than
    another species and another genus.
    """
    sides, genus = votes.sides(SPECIES), votes.sides(GENUS)
    near, mean = log_distance(sides.near), log_distance(sides.mean)
    return np.stack(
        [
            near,
            mean,
            log_distance(sides.other_mean) - mean,
            log_distance(sides.other_near) - near,
            log_distance(genus.other_mean) - mean,
        ],
        axis=1,
    )


def case_features(
    votes: Votes, means: GenomeMeans, off: Floats, within: tuple[float, float], *, homology: bool
) -> Floats:
    """(q, p) features that tell queries of known species, new species and new genera from each other.

    off : (q, 5) deviations of `own_features`.
    """
    found, sides = votes.candidates, votes.sides(SPECIES)
    rows = np.arange(len(found))
    own = own_features(votes)
    size, short = _sizes(found, within)
    has = found.columns.shape[1] > 0
    best = found.columns[rows, votes.best] if has else np.full(len(found), -1)
    other = np.where(sides.others, found.mean, np.inf).argmin(axis=1) if has else rows * 0
    there = sides.others[rows, other] if has else np.zeros(len(found), bool)
    apart = np.ones(len(found))
    if there.any():
        pair = np.stack([best[there], found.columns[rows, other][there]])
        first, second = means.take(pair[0]), means.take(pair[1])
        apart[there] = np.maximum(1 - np.einsum("ij,ij->i", first, second).astype(np.float64), 0)
    rows_of = np.where(best >= 0, means.sizes[best] if len(means) else 1, 1).astype(np.float64)
    off = np.clip(np.nan_to_num(off), -FARTHEST_Z, FARTHEST_Z)
    main = np.column_stack(
        [
            own,
            log_distance(sides.other_near),
            log_distance(sides.other_mean),
            votes.share[:, SPECIES],
            log_distance(apart),
            np.log(_sisters(votes)),
            np.log(rows_of),
            off,
        ]
    )
    parts = [size[:, None], size[:, None] ** 2, main, main * size[:, None], np.maximum(off, 0)]
    parts += [short[:, None], short[:, None] ** 2, short[:, None] * main[:, :5]]
    if homology:
        parts.append(homology_features(sides, found, size))
    return np.asarray(np.nan_to_num(np.concatenate(parts, axis=1)))


def name_features(votes: Votes, rank: int, within: tuple[float, float], *, homology: bool) -> Floats:
    """(q, p) of the name at a rank: how near it is, how near another name is, its share, and the length."""
    sides = votes.sides(rank)
    size, short = _sizes(votes.candidates, within)
    main = np.column_stack(
        [
            *(
                log_distance(values)
                for values in (sides.near, sides.other_near, sides.mean, sides.other_mean)
            ),
            votes.share[:, rank],
        ]
    )
    parts = [main, main * size[:, None], np.column_stack([size, size**2, short, short**2])]
    parts.append(main[:, :2] * (size**2)[:, None])
    parts.append(main[:, :2] * short[:, None])
    if homology:
        parts.append(homology_features(sides, votes.candidates, size))
    return np.concatenate(parts, axis=1)


def homology_features(sides: Sides, found: Candidates, size: Floats) -> Floats:
    """(q, p) of the hashes that a name's genomes and all others share with the query."""
    shared, other = sides.shared, sides.other_shared
    identity, other_identity = (share ** (1 / SKETCH_K) for share in (sides.contained, sides.other_contained))
    main = np.column_stack(
        [
            np.log1p(shared),
            np.log1p(other),
            identity,
            shared == 0,
            sides.contained,
            *(np.maximum(sides.contained - step, 0) for step in STEPS),
            sides.other_contained,
            np.maximum(sides.other_contained - STEPS[2], 0),
            np.minimum(sides.contained - sides.other_contained, STEPS[2]),
        ]
    )
    few = np.log1p(np.maximum(found.hashes, 0))
    rest = np.column_stack([shared / (shared + other + 1), other_identity, shared + other == 0, few])
    return np.concatenate([main, main * size[:, None], rest], axis=1)


def _sisters(votes: Votes) -> Floats:
    """(q,) number of species among the candidates that have the genus, 1 at least."""
    name = votes.names[:, GENUS, None]
    own = (votes.codes[:, :, GENUS] == name) & (name >= 0)
    species = np.sort(np.where(own, votes.codes[:, :, SPECIES], -1), axis=1)
    if not species.shape[1]:
        return np.ones(len(species))
    new = (np.diff(species, axis=1) > 0) & (species[:, 1:] >= 0)
    return np.asarray(np.maximum(new.sum(axis=1) + (species[:, 0] >= 0), 1), np.float64)


def _sizes(found: Candidates, within: tuple[float, float]) -> tuple[Floats, Floats]:
    """Logs of the lengths, and of those below `SHORT_LENGTH`, 0 for longer ones."""
    size = log_size(found.lengths, within)
    return size, np.minimum(size - np.log(SHORT_LENGTH / USUAL_LENGTH), 0)


def _least(distances: Floats, which: Bools) -> Floats:
    """The least of some; the farthest of all candidates where there are none."""
    least = np.where(which, distances, np.inf).min(axis=1, initial=np.inf)
    farthest = np.where(np.isfinite(distances), distances, 0).max(axis=1, initial=0)
    return np.asarray(np.where(np.isfinite(least), least, np.where(farthest > 0, farthest, 2.0)))
