"""What is said about queries: scores, probabilities by what a sample holds, names given, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import Candidates, GenomeMeans
from kinmer.confidence.features import GENUS, SPECIES, Votes, case_features, name_features, vote
from kinmer.confidence.model import (
    CLASSES,
    NAME_CLASSES,
    Calibration,
    RealmModel,
    deviations,
    presence,
    species_chances,
)
from kinmer.confidence.pool import (
    BOTH,
    COMPOSITION,
    RANK_COUNT,
    Lineages,
    Pool,
    descending,
    molecule_evidence,
)
from kinmer.kinds import EVEN, USUAL_KINDS, likeliest_shares, posterior
from kinmer.molecules import MOLECULES, PLASMID
from kinmer.taxonomy import RANKS

Floats = NDArray[np.float64]

NOTHING_NEAR, TOO_SHORT, UNSURE = "nothing near", "too short to tell", "unsure"
DIGITS = 6
# Without a calibration names end where one has less than half of the votes.
LEAST_SHARE = 0.5
# Queries of fewer bases have no names at all, whatever is near.
NAMELESS = 100


@dataclass(frozen=True)
class Scores:
    """What is said of queries before it is known how frequent known and new ones are.

    names : (q, 7) int32, -1 for none. share : (q, 7) of the votes. right : (q, 7) probability that the name
    is right if the references have the true one, NaN where nothing could be learned. classes : (q, 6) of
    `CLASSES`, as if all were as frequent; NaN without a calibration. named : (q, 5) of `NAME_CLASSES`, as if
    known, new and farther ones were as frequent; NaN where `right` counts. farther : (q, 7) see `RealmModel`.
    threshold : (q, 7). molecule : (q, 2, 5) probabilities of `MOLECULES` as if all were as frequent, if the
    species is known and if it is new, or NaN. plasmid_limit : (q,) see `kinmer.molecules.MoleculeModel`.
    short : (q,) queries shorter than all that
    was learned from. near : (q,) whether anything is. viral : (q,) whether the best genome is of a virus.
    why : (q,) positions in `WHY`. unit : (q,) number of the nearest plasmid unit, -1 for none. unit_right :
    (q,) probability that it is right for a plasmid. prior : (6,) of the calibration.
    """

    names: NDArray[np.int32]
    share: Floats
    right: Floats
    classes: Floats
    named: Floats
    farther: Floats
    threshold: Floats
    molecule: Floats
    plasmid_limit: Floats
    short: NDArray[np.bool_]
    near: NDArray[np.bool_]
    viral: NDArray[np.bool_]
    why: NDArray[np.int64]
    unit: NDArray[np.int64]
    unit_right: Floats
    prior: Floats

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """All of several, of one calibration."""
        names = [name for name in cls.__dataclass_fields__ if name != "prior"]
        every = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
        return cls(**every, prior=parts[0].prior)


@dataclass(frozen=True)
class Judgements:
    """Names and probabilities of queries, by rank from domain to species.

    names : (q, 7) int32, -1 for none. share : (q, 7) of the votes. probability : (q, 7) that the name is
    right, NaN where there is none. standard : (q, 7) the same at the calibration's own prior. absent : (q, 7)
    probability that the true name is none of the references', NaN where that is not known. threshold : (q, 7)
    standard probability from which on a name is given by default. molecule : (q, 5) probabilities of
    `MOLECULES`, or NaN. called : (q,) whether the likeliest kind is given by default. short : (q,) queries
    without probabilities, shorter than all that was learned from. why : (q,) positions in `WHY`.
    """

    names: NDArray[np.int32]
    share: Floats
    probability: Floats
    standard: Floats
    absent: Floats
    threshold: Floats
    molecule: Floats
    called: NDArray[np.bool_]
    short: NDArray[np.bool_]
    why: NDArray[np.int64]


def score(
    pool: Pool,
    found: Candidates,
    means: GenomeMeans,
    lineages: Lineages,
    calibration: Calibration | None,
) -> Scores:
    """Score queries by their nearest rows and their candidates, each by its own alone.

    Without a calibration nothing is probable. A query shorter than all that was learned from has no
    probabilities, and names as without a calibration; one of fewer than `NAMELESS` bases has no names either.
    """
    votes, count = vote(found, lineages), len(pool)
    names, short, near = _agreed(votes), np.zeros(count, dtype=bool), np.ones(count, dtype=bool)
    right, limit = (np.full((count, RANK_COUNT), np.nan) for _ in range(2))
    classes = np.full((count, len(CLASSES)), np.nan)
    named, farther = np.full((count, len(NAME_CLASSES)), np.nan), np.zeros((count, RANK_COUNT))
    prior = np.full(len(CLASSES), np.nan) if calibration is None else np.array(calibration.prior)
    if calibration is not None and count:
        short = calibration.is_short(pool.lengths)
        names = np.where(short[:, None], names, votes.names)
        view = BOTH if BOTH in calibration.views and (found.hashes >= 0).all() else COMPOSITION
        for realm, model in enumerate(calibration.views[view]):
            some = np.flatnonzero(votes.viral == bool(realm))
            if some.size:
                own, homology = votes.take(some), view == BOTH
                right[some], classes[some], named[some] = predict(
                    model, own, means, calibration.within, homology=homology
                )
                farther[some] = model.farther
                limit[some] = calibration.threshold(model, pool.lengths[some])
        near = calibration.is_near(votes.nearest, pool.lengths)
        named[pool.near_plasmid] = np.nan
        for values in (right, classes, named):
            values[short] = np.nan
    nameless = (pool.lengths > 0) & (pool.lengths < NAMELESS)
    names = np.where(nameless[:, None], np.int32(-1), names)
    return Scores(
        names=names,
        share=votes.share,
        right=right,
        classes=classes,
        named=named,
        farther=farther,
        threshold=limit,
        short=short,
        near=near,
        viral=votes.viral,
        why=votes.why,
        prior=prior,
        **_kind_scores(pool, calibration, short),
    )


def _kind_scores(pool: Pool, calibration: Calibration | None, short: NDArray[np.bool_]) -> dict[str, Any]:
    """What `Scores` have of molecules and plasmid units."""
    count, units = len(pool), pool.units
    molecule, limit = np.full((count, 2, len(MOLECULES)), np.nan), np.full(count, np.nan)
    unit, unit_right = np.full(count, -1), np.full(count, np.nan)
    if calibration is not None and calibration.molecules is not None and count:
        evidence = molecule_evidence(pool, calibration.within)
        molecule, limit = calibration.molecules.predict(*evidence), calibration.molecules.limit(evidence[2])
        molecule[short] = np.nan
    if calibration is not None and calibration.units is not None and units is not None and count:
        unit = np.where(short, -1, units.codes)
        unit_right = np.where(unit >= 0, calibration.units.predict(units.features)[:, 1], np.nan)
    return {"molecule": molecule, "plasmid_limit": limit, "unit": unit, "unit_right": unit_right}


def predict(
    model: RealmModel, votes: Votes, means: GenomeMeans, within: tuple[float, float], *, homology: bool
) -> tuple[Floats, Floats, Floats]:
    """(q, 7) how likely names are right where they are known at all, NaN for unknown, (q, 6) of `CLASSES` and
    (q, 5) of `NAME_CLASSES`, NaN without a model of them.
    """
    off = deviations(model.spread, votes, means)
    features = case_features(votes, means, off, within, homology=homology)
    classes, named = model.cases.predict(features), np.full((len(votes.viral), len(NAME_CLASSES)), np.nan)
    if model.species is not None:
        named = model.species.predict(features)
    right = np.full((len(classes), RANK_COUNT), np.nan)
    for rank, names in enumerate(model.names):
        if names is not None:
            right[:, rank] = names.predict(name_features(votes, rank, within, homology=homology))[:, 1]
    return right, classes, named


def judge(scores: Scores, prior: Floats | None = None, kinds: KindShares | None = None) -> Judgements:
    """The probabilities of names, where known and new queries are as frequent as `prior` says.

    prior : (2, 6) shares of `CLASSES` among cells and among viruses; None for the calibration's own. kinds :
    None for what is usual.

    A name is never likelier than the one above it. A name at a rank that nothing could be learned of, as few
    viruses have an order, is as likely as the next one below. Where the nearest genome is farther than any
    that was learned from, no name is likely at all.
    """
    own = np.tile(scores.prior, (2, 1))
    standard, absent = _probable(scores, own)
    probability = standard
    if prior is not None:
        probability, absent = _probable(scores, prior)
    even = even_kinds(scores, prior)
    molecule, called = _molecules(scores, even, absent[:, SPECIES], kinds or KindShares())
    return Judgements(
        scores.names,
        scores.share.round(DIGITS),
        probability.round(DIGITS),
        standard.round(DIGITS),
        absent.round(DIGITS),
        scores.threshold.round(DIGITS),
        molecule.round(DIGITS),
        called,
        scores.short,
        scores.why,
    )


@dataclass(frozen=True)
class KindShares:
    """How frequent `MOLECULES` are. sample : among the queries. trusted : what is not estimated of them."""

    sample: Floats = field(default_factory=lambda: np.array(USUAL_KINDS))
    trusted: Floats = field(default_factory=lambda: np.array(USUAL_KINDS))


def even_kinds(scores: Scores, prior: Floats | None = None) -> Floats:
    """(q, 5) probabilities of `MOLECULES` as if all were as frequent, or NaN. prior : as in `judge`."""
    shares = np.tile(scores.prior, (2, 1)) if prior is None else prior
    known = posterior(scores.classes, shares[scores.viral.astype(np.int64)])[:, :2].sum(axis=1, keepdims=True)
    return np.asarray(known * scores.molecule[:, 0] + (1 - known) * scores.molecule[:, 1])


def _molecules(
    scores: Scores, even: Floats, absent: Floats, kinds: KindShares
) -> tuple[Floats, NDArray[np.bool_]]:
    """(q, 5) probabilities of kinds, and (q,) whether the likeliest one is given.

    It has to be likelier than not. A plasmid of a species that the references likely do not have has to reach
    a limit too, by shares that are not estimated: chromosomes of new genera look like plasmids, and raise the
    estimate.
    """
    likely, trusted = (posterior(even, shares) for shares in (kinds.sample, kinds.trusted))
    filled = np.nan_to_num(likely, nan=-1)
    enough = (trusted[:, PLASMID] >= scores.plasmid_limit) | (absent < EVEN)
    return likely, (filled.max(axis=1) >= EVEN) & (enough | (filled.argmax(axis=1) != PLASMID))


def _probable(scores: Scores, prior: Floats) -> tuple[Floats, Floats]:
    """(q, 7) probabilities that names are right, and that the true ones are absent."""
    # Without a calibration there are none.
    known = np.isfinite(scores.classes).all(axis=1)
    classes = np.full(scores.classes.shape, np.nan)
    shares = prior[scores.viral.astype(np.int64)]
    classes[known] = posterior(scores.classes[known], shares[known])
    present = presence(classes, scores.farther)
    likely = np.where(np.isfinite(scores.right), scores.right * present, np.nan)
    direct = np.isfinite(scores.named).all(axis=1) & (scores.names[:, SPECIES] >= 0)
    likely[direct, SPECIES], new = species_chances(scores.named[direct], shares[direct])
    # A species of a genus that is not there is not there either.
    absent = 1 - present
    absent[direct, SPECIES] = np.maximum(new, absent[direct, GENUS])
    likely = descending(likely, scores.names >= 0, scores.near.astype(np.float64))
    likely[scores.short | ~known] = np.nan
    return likely, absent


def _agreed(votes: Votes) -> NDArray[np.int32]:
    """The names (q, 7) down to the first that has less than half of the votes."""
    split = (votes.names >= 0) & (votes.share < LEAST_SHARE)
    return np.where(np.logical_or.accumulate(split, axis=1), np.int32(-1), votes.names)


@dataclass(frozen=True)
class Verdict:
    """A verdict in words; rank and name of the deepest name that is likely enough, None where none is."""

    text: str
    rank: str | None
    name: str | None


def given_names(
    judgements: Judgements, min_probability: float | None = None, limits: Floats | None = None
) -> NDArray[np.bool_]:
    """(q, 7) which names are given.

    By default those whose standard probability reaches the threshold of rank, length and realm, and that are
    likelier right than wrong in this sample. min_probability : from which on a name is given instead.
    limits : (7,) the same by rank.
    """
    likely = np.nan_to_num(judgements.probability, nan=-1)
    if limits is not None:
        enough = likely >= limits
    elif min_probability is not None:
        enough = likely >= min_probability
    else:
        standard = np.nan_to_num(judgements.standard, nan=-1)
        enough = (standard >= judgements.threshold) & (likely >= EVEN)
    return np.asarray((judgements.names >= 0) & enough)


def verdicts(
    judgements: Judgements,
    lineages: Lineages,
    min_probability: float | None = None,
    limits: Floats | None = None,
) -> list[Verdict]:
    """The verdict on every query; see `given_names`.

    Below the deepest name given, that of the next rank at which the references have names is called new where
    it is likelier than not that they do not have it, else unsure. Without a name the verdict is "unsure"
    where the references are likelier than not to have the domain.
    """
    given = given_names(judgements, min_probability, limits)
    result = []
    for row, line in enumerate(given):
        ranks = np.flatnonzero(line)
        if not ranks.size:
            first = np.flatnonzero(np.isfinite(judgements.probability[row]))
            likely = first.size and judgements.probability[row, first[0]] >= EVEN
            nothing = UNSURE if likely else NOTHING_NEAR
            result.append(Verdict(TOO_SHORT if judgements.short[row] else nothing, None, None))
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


# Queries of a realm from which on its mixture is estimated, and how many queries what is usual counts for.
LEAST_SAMPLE, USUAL_WEIGHT = 100, 10.0


def mixture(scores: Scores) -> tuple[Floats, tuple[bool, bool]]:
    """(2, 6) shares of `CLASSES` among the cells and the viruses of a sample, and which were estimated.

    The likeliest shares given what is said of every query (expectation maximization, as geNomad does). Known
    queries are divided into parts and strains as in the calibration: from a sample of partial genomes these
    cannot be separated from new species. Of a realm with too few queries they are the calibration's own.
    """
    result = np.tile(scores.prior, (2, 1))
    estimated = [False, False]
    known = scores.prior[:2].sum()
    for realm in (0, 1):
        some = (scores.viral == bool(realm)) & ~scores.short & np.isfinite(scores.classes).all(axis=1)
        if some.sum() < LEAST_SAMPLE:
            continue
        classes = scores.classes[some]
        likely = np.column_stack([classes[:, :2] @ (scores.prior[:2] / known), classes[:, 2:]])
        usual = np.concatenate([[known], scores.prior[2:]])
        shares = likeliest_shares(likely, usual, USUAL_WEIGHT)
        result[realm] = np.concatenate([shares[0] * scores.prior[:2] / known, shares[1:]])
        estimated[realm] = True
    return result, (estimated[0], estimated[1])


def discovery_limits(judgements: Judgements, rate: float) -> Floats:
    """(7,) the least probability of names at each rank of which, in this sample, at most a share is wrong.

    The mean chance to be wrong of all names that reach it is `rate` or less; above 1 where none does.
    """
    named = np.where(judgements.names >= 0, judgements.probability, np.nan)
    return np.array([discovery_limit(line, rate) for line in named.T])


def discovery_limit(likely: Floats, rate: float) -> float:
    """The least of these probabilities, NaN for none, as in `discovery_limits`."""
    likely = np.sort(likely[np.isfinite(likely)])[::-1]
    wrong = np.cumsum(1 - likely) / np.arange(1, len(likely) + 1)
    # Equal ones reach it together. Sums are rounded.
    enough = np.flatnonzero((np.diff(likely, append=-1) < 0) & (wrong <= rate + 1e-9))
    return float(likely[enough[-1]]) if enough.size else 2.0
