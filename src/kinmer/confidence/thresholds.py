"""The probabilities from which on names are given by default."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.features import GENUS, SPECIES
from kinmer.confidence.model import FEW_GENERA
from kinmer.confidence.pool import CASES, NO_KIN, RANK_COUNT, descending
from kinmer.confidence.training_set import TrainingSet

# A name is given by default where it is likelier right than wrong, and a species or genus not to more than
# so many queries whose true name the references do not have.
EVEN, FALSE_NAMES = 0.5, 0.1
HIGHEST = 0.999
# Shares of queries whose species the references do not have that may get a wrong name: a domain; any below
# it up to `SHORTEST` and `SHORT` bases; one of phylum to family beyond, where species and genus have the rule
# above. Up to `SHORT` they are meant to be 0.05 of real queries: what is simulated is new in fewer ways, and
# real ones got up to twice as many wrong names at 300 to 500 bases, half as many again at 1,000.
WRONG_DOMAINS, WRONG_SHORTEST, WRONG_SHORT, WRONG_LONG = 0.04, 0.02, 0.028, 0.1
# And of random sequences, any at all.
WRONG_RANDOM = 0.01
SHORTEST, SHORT = 500, 700
DOMAIN, BELOW, ABOVE_GENUS = (0,), (1, 2, 3, 4, 5, 6), (1, 2, 3, 4)
# How new a query is: its species, its genus, more, or nothing but random. Each of them keeps these shares.
NOVELTIES = (("new species",), ("new genus",), CASES[CASES.index("new family") : -1], (NO_KIN,))
# By how much a right name is worth more than a right one at the rank above.
DEEPER = 1.5
# The least probability of a name where there are fewer genera than `FEW_GENERA`, and up to `SHORTEST` bases,
# where a small reference has but one name for much that is like it by GC alone.
CAUTIOUS = 0.9

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Judged:
    """Of a rank: the queries that count, their weights, whether their name is right, and how likely that is
    by a model that had not seen their genus; NaN where there was none.
    """

    rows: Rows
    weights: Floats
    right: Bools
    likely: Floats


@dataclass(frozen=True)
class _Names:
    """Names of n queries at r ranks: how likely (0 for none), and right; a truth that is unknown is right.

    worth : (n,) of a right name. risks : (g, n), the queries of each novelty, genera alike, each line sums to
    1. genera : (g,) how many they are of. kin : (g,) whether they have any.
    """

    likely: Floats
    right: Bools
    worth: Floats
    risks: Floats
    genera: Floats
    kin: Bools

    def at(self, ranks: Sequence[int]) -> _Names:
        """Only some of the ranks."""
        columns = list(ranks)
        return _Names(
            self.likely[:, columns], self.right[:, columns], self.worth, self.risks, self.genera, self.kin
        )


def thresholds_of(training: TrainingSet, judged: Sequence[Judged]) -> tuple[tuple[float, ...], ...]:
    """By rank and length the probability from which on a name is given by default.

    Species and genus: so that few of the queries whose own the references do not have get one. Beside that,
    at every length and for each of `NOVELTIES`, few queries get any wrong name.
    """
    few = len(np.unique(training.group)) < FEW_GENERA
    limits = np.full((RANK_COUNT, len(training.lengths)), CAUTIOUS if few else EVEN)
    limits[np.ix_(np.array(BELOW), np.array(training.lengths) <= SHORTEST)] = CAUTIOUS
    for rank in (GENUS, SPECIES):
        rows = judged[rank].rows
        absent, bins = training.absent(rank)[rows], training.bins[rows]
        for at in range(len(training.lengths)):
            limits[rank, at] = max(limits[rank, at], _strict(training, judged[rank], absent & (bins == at)))
    likely, right = _all_names(training, judged)
    for at, length in enumerate(training.lengths):
        rows = np.flatnonzero((training.bins == at) & ~training.synonyms)
        names = _names_of(training, likely, right, rows)
        for ranks, share in ((DOMAIN, WRONG_DOMAINS), _below_domain(length)):
            limits[ranks, at] = _raised(limits[ranks, at], names.at(ranks), share)
    return tuple(tuple(line) for line in np.minimum(limits, HIGHEST).tolist())


def _below_domain(length: float) -> tuple[tuple[int, ...], float]:
    """Ranks below the domain of which few queries of a length may get a wrong name, and how few."""
    if length > SHORT:
        return ABOVE_GENUS, WRONG_LONG
    return BELOW, WRONG_SHORTEST if length <= SHORTEST else WRONG_SHORT


def _strict(training: TrainingSet, judged: Judged, absent: Bools) -> float:
    """The least probability that only `FALSE_NAMES` of these queries' names reach; 0 without any."""
    if not absent.any():
        return 0.0
    likely, weight = np.nan_to_num(judged.likely[absent]), judged.weights[absent]
    order = np.argsort(-likely, kind="stable")
    allowed = _allowed(FALSE_NAMES, len(np.unique(training.group[judged.rows[absent]])))
    at = int((np.cumsum(weight[order]) <= allowed * weight.sum()).sum())
    return float(likely[order][at]) + 1e-6 if at < len(order) else 0.0


def _allowed(share: float | Floats, genera: float | Floats) -> Floats:
    """What may be wrong of queries of so many genera, 0 or less for nothing.

    The fewer they are, the less, as in conformal risk control (Angelopoulos et al. 2024, ICLR): what was seen
    of n is taken as of n + 1, of which the last is wrong.
    """
    return np.asarray(share - (1 - share) / np.asarray(genera, np.float64))


def _all_names(training: TrainingSet, judged: Sequence[Judged]) -> tuple[Floats, Bools]:
    """(n, 7) how likely names are by models that had not seen the genus, and whether they are right."""
    shape = (len(training.bins), RANK_COUNT)
    likely, right = np.full(shape, np.nan), np.ones(shape, dtype=bool)
    for rank, names in enumerate(judged):
        likely[names.rows, rank], right[names.rows, rank] = names.likely, names.right
    likely = descending(likely, training.votes.names >= 0, np.ones(len(likely)))
    return np.nan_to_num(likely), right


def _names_of(training: TrainingSet, likely: Floats, right: Bools, rows: Rows) -> _Names:
    worth = training.weights(SPECIES, rows)
    risks, genera, kin = [], [], []
    for cases in NOVELTIES:
        own = np.flatnonzero(np.isin(training.cases[rows], [CASES.index(case) for case in cases]))
        if own.size:
            _, inverse, counts = np.unique(training.group[rows[own]], return_inverse=True, return_counts=True)
            line = np.zeros(len(rows))
            line[own] = 1 / (counts[inverse] * len(counts))
            risks.append(line)
            genera.append(len(counts))
            kin.append(cases != (NO_KIN,))
    return _Names(
        likely[rows],
        right[rows],
        worth,
        np.array(risks).reshape(-1, len(rows)),
        np.array(genera, np.float64),
        np.array(kin, bool),
    )


def _raised(limits: Floats, names: _Names, share: float) -> Floats:
    """(r,) the limits, raised so that of each novelty at most a share has a wrong name at these ranks.

    What a wrong name costs is raised until that holds; each rank's limit is then where right names less the
    cost of the wrong ones are worth most.
    """
    shares = np.where(names.kin, share, WRONG_RANDOM)
    allowed = np.maximum(_allowed(shares, names.genera), 1e-9)
    dear = (names.risks / allowed[:, None]).sum(axis=0)
    result, wrong = _priced(limits, names, 0 * dear)
    if (names.risks @ wrong <= allowed).all():
        return result
    low, high = 1e-9, 1e9
    result, _ = _priced(limits, names, high * dear)
    while high > 1.01 * low:
        price = (low * high) ** 0.5
        tried, wrong = _priced(limits, names, price * dear)
        if (names.risks @ wrong <= allowed).all():
            high, result = price, tried
        else:
            low = price
    return _lowered(result, limits, names, allowed)


def _lowered(raised: Floats, limits: Floats, names: _Names, allowed: Floats) -> Floats:
    """Limits (r,) that are lowered again, the lowest rank's first, as far as wrong names stay allowed.

    Prices jump: by them alone less may be given than is allowed.
    """
    lowered = raised.copy()
    for rank in reversed(range(len(raised))):
        likely = names.likely[:, rank]
        wrong = ~names.right[:, rank] & (likely >= limits[rank]) & (likely < lowered[rank])
        steps = np.unique(np.concatenate([[limits[rank]], likely[wrong] + 1e-6]))[::-1]
        least, most = 0, len(steps)
        while least < most:
            lowered[rank] = steps[(least + most) // 2]
            given = ((names.likely >= lowered) & ~names.right).any(axis=1)
            if (names.risks @ given <= allowed).all():
                least = (least + most) // 2 + 1
            else:
                most = (least + most) // 2
        lowered[rank] = min(raised[rank], float(steps[least - 1])) if least else raised[rank]
    return lowered


def _priced(limits: Floats, names: _Names, cost: Floats) -> tuple[Floats, Bools]:
    """Limits (r,) at which names are worth most, and (n,) which queries get a wrong one by them.

    cost : (n,) of a wrong name. From the lowest rank up: a query that has a right name, or a wrong one, from
    a lower rank gains or costs nothing more.
    """
    result = limits.copy()
    has_right, has_wrong = np.zeros(len(cost), dtype=bool), np.zeros(len(cost), dtype=bool)
    for rank in reversed(range(len(limits))):
        likely, right = names.likely[:, rank], names.right[:, rank]
        rows = np.flatnonzero(likely >= limits[rank])
        rows = rows[np.argsort(-likely[rows], kind="stable")]
        gain = np.where(has_right[rows], 0, names.worth[rows] * DEEPER**rank)
        total = np.cumsum(np.where(right[rows], gain, np.where(has_wrong[rows], 0, -cost[rows])))
        # The most names of what is worth most.
        count = len(rows) - int(np.argmax(total[::-1])) if len(rows) and total.max() > 0 else 0
        if count < len(rows):
            result[rank] = float(likely[rows[count]]) + 1e-6
        given = likely >= result[rank]
        has_right |= given & right
        has_wrong |= given & ~right
    return result, has_wrong
