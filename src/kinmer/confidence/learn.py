"""Learns from samples how far names can be trusted, and reports how good that is on other genera."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import GenomeMeans
from kinmer.confidence.cases import LabeledSample
from kinmer.confidence.features import GENUS, SPECIES, Spread, case_features, name_features, own_features
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
    CASES,
    COMPOSITION,
    RANK_COUNT,
    USUAL_LENGTH,
    Lineages,
    descending,
    molecule_evidence,
)
from kinmer.confidence.thresholds import Judged, thresholds_of
from kinmer.confidence.training_set import (
    FOLDS,
    LEAST_GENERA,
    WITH_HOMOLOGUE,
    TrainingSet,
    homologous_share,
    training_set_of,
)
from kinmer.kinds import posterior
from kinmer.logistic import Logistic, best_power, fit_logistic
from kinmer.molecules import PLASMID, MoleculeModel, fit_molecules
from kinmer.progress import counted
from kinmer.taxonomy import RANKS
from kinmer.units import fit_units

# What share of all queries each class is taken to be: half of them are of species that the references know.
KNOWN = 0.5
NEW = (0.25, 0.2, 0.03, 0.02)
LEAST_RIGHT, LEAST_QUERIES = 10, 50
# Genera differ: more than is best for those that are learned from.
RIDGE = 2.0
# One question of many answers, for right species, needs more, by the query.
SPECIES_RIDGE = 0.01
REPORT_DIGITS = 4
# Fragments of a genome by which it is known how far its own lie from the rest of it weigh against so many of
# the usual genome's, for the mean and for the variance.
SHRINK, SHRINK_VARIANCE, LEAST_VARIANCE = 3.0, 8.0, 1e-4

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def shares_of(homologous: float) -> dict[str, float]:
    """The share of every case where so many of the known queries have a homologue."""
    shares = dict(zip(CLASSES, (KNOWN * (1 - homologous), KNOWN * homologous, *NEW), strict=True))
    farther = shares.pop(CLASSES[-1])
    rest = CASES[len(shares) :]
    return shares | dict.fromkeys(rest, farther / len(rest))


def calibrate(
    samples: Sequence[LabeledSample],
    lineages: Lineages,
    means: GenomeMeans,
    *,
    given: Mapping[str, float] | None = None,
) -> Calibration | None:
    """Learn from queries whose truth is known; None where there are too few.

    For cells and for viruses, and for composition alone and both views: a logistic regression tells the cases
    from each other, and by rank another one tells right names from wrong ones where the references have the
    true one. Both are multiplied (see `kinmer.confidence.verdict.judge`). New species that are only another
    name of what is there (see `synonym_queries`) are left out.

    By default a name is given where it is likelier right than wrong, and so likely that few queries whose
    own name is absent get a wrong one (see `thresholds_of`). That, and the errors in the report, are measured
    on queries whose genus the model had not seen (five folds).

    given : the share of every case; by default `shares_of` what the references themselves show.
    """
    used = [sample for sample in samples if len(sample)]
    if sum(map(len, used)) < LEAST_QUERIES:
        return None
    names = [name for name in (COMPOSITION, BOTH) if all(name in sample.views for sample in used)]
    sets = {name: training_set_of(used, lineages, given or shares_of(WITH_HOMOLOGUE), name) for name in names}
    last = sets[names[-1]]
    if len(np.unique(last.cases)) < 2 or not (last.votes.names >= 0).any():
        return None
    if given is None:
        given = shares_of(homologous_share(last, lineages))
        sets = {name: replace(training, given=given) for name, training in sets.items()}
    learned = {name: _view(training, means, homology=name == BOTH) for name, training in sets.items()}
    if any(view is None for view in learned.values()):
        return None
    views = {name: view for name, view in learned.items() if view is not None}
    return Calibration(
        views={name: (cells.model, viruses.model) for name, (cells, viruses) in views.items()},
        prior=tuple(_prior(given)),
        molecules=_molecules(last),
        units=_units(last, used),
        within=last.within,
        lengths=last.lengths,
        reaches=_reaches(last),
        report=report_of(last, list(dict.fromkeys(views[names[-1]])), lineages),
    )


def _prior(given: Mapping[str, float]) -> list[float]:
    shares = [given[name] for name in CLASSES[:-1]]
    return [*shares, sum(given[name] for name in CASES[len(shares) :])]


@dataclass(frozen=True, eq=False)
class Learned:
    """What is learned of a realm, and how its names were judged where their genus had not been seen."""

    model: RealmModel
    training: TrainingSet
    judged: tuple[Judged, ...]


def _view(training: TrainingSet, means: GenomeMeans, *, homology: bool) -> tuple[Learned, Learned] | None:
    """What is learned of cells and of viruses; of both together where there are too few of one."""
    viral = training.votes.viral
    if all(_enough(training, np.flatnonzero(viral == realm)) for realm in (False, True)):
        pair = [
            _realm(training, np.flatnonzero(viral == realm), means, homology=homology)
            for realm in (False, True)
        ]
    else:
        pair = [_realm(training, np.arange(len(training)), means, homology=homology)] * 2
    cells, viruses = pair
    return None if cells is None or viruses is None else (cells, viruses)


def _enough(training: TrainingSet, rows: Rows) -> bool:
    """Whether these queries have enough genera in known and in new species."""
    kept = rows[~training.synonyms[rows]]
    known = training.cases[kept] < CASES.index("new species")
    sides = (kept[known], kept[~known])
    return all(len(np.unique(training.group[side])) >= LEAST_GENERA for side in sides)


def _realm(training: TrainingSet, rows: Rows, means: GenomeMeans, *, homology: bool) -> Learned | None:
    training = training.take(rows)
    spread, own = _spread(training, means)
    farther = _farther(training)
    off = deviations(spread, training.votes, means, own)
    features = case_features(training.votes, means, off, training.within, homology=homology)
    by_rank = [
        name_features(training.votes, rank, training.within, homology=homology) for rank in range(RANK_COUNT)
    ]
    everything, count = np.arange(len(training)), len(rows)
    # Viruses are rarely known by the wrong species, and few new ones are there to learn from. Plasmids move
    # between species: what a right name is for them would blur what it is for chromosomes.
    direct = ~training.pool.near_plasmid & (training.votes.viral.mean() < 0.5)
    classes, right = np.full((count, len(CLASSES)), np.nan), np.full((count, RANK_COUNT), np.nan)
    named = np.full((count, len(NAME_CLASSES)), np.nan)
    for fold in counted(range(FOLDS), "Learning"):
        out = training.folds == fold
        fitted = _fitted(training, features, by_rank, everything[~out], direct)
        if fitted is not None and out.any():
            classes[out] = fitted.cases.predict(features[out])
            if fitted.species is not None:
                named[out & direct] = fitted.species.predict(features[out & direct])
            for rank, model in enumerate(fitted.names):
                if model is not None:
                    right[out, rank] = model.predict(by_rank[rank][out])[:, 1]
    fitted = _fitted(training, features, by_rank, everything, direct)
    if fitted is None or all(model is None for model in fitted.names):
        return None
    prior = np.array(_prior(training.given))
    likely = right * presence(posterior(classes, prior), farther)
    if fitted.species is not None:
        seen = _class_weights(training, np.flatnonzero(np.isfinite(named).all(axis=1)))
        power = best_power(named[seen[0]], *_name_classes(training, *seen))
        fitted = fitted._replace(species=fitted.species.sharpened(power))
        named = named**power / (named**power).sum(axis=1, keepdims=True)
        likely[direct, SPECIES] = species_chances(named[direct], prior)[0]
    likely = descending(likely, training.votes.names >= 0, np.ones(count))
    judged = tuple(_judged(training, rank, likely[:, rank]) for rank in range(RANK_COUNT))
    thresholds = np.array(thresholds_of(training, judged))
    return Learned(RealmModel(*fitted, farther, spread, thresholds), training, judged)


def _farther(training: TrainingSet) -> Floats:
    """(7,) of what is farther than a new family, the share whose true name the references have."""
    rows = np.flatnonzero(training.cases >= len(CLASSES) - 1)
    weights = training.weights(SPECIES, rows)
    if not weights.sum() > 0:
        return np.zeros(RANK_COUNT)
    return np.array([np.average(~training.absent(rank)[rows], weights=weights) for rank in range(RANK_COUNT)])


class _Fitted(NamedTuple):
    """The models of a realm; see `RealmModel`."""

    cases: Logistic
    names: tuple[Logistic | None, ...]
    species: Logistic | None


def _fitted(
    training: TrainingSet, features: Floats, by_rank: Sequence[Floats], rows: Rows, direct: Bools
) -> _Fitted | None:
    """Models by some queries; None of but one class. direct : (n,) those of `RealmModel.species`."""
    kept, classes, weights = _class_weights(training, rows)
    if len(np.unique(classes)) < 2:
        return None
    cases = fit_logistic(features[kept], classes, weights, number=len(CLASSES), ridge=RIDGE)
    names = []
    for rank in range(RANK_COUNT):
        named = kept[
            (training.votes.names[kept, rank] >= 0)
            & (training.truth[kept, rank] >= 0)
            & ~training.absent(rank)[kept]
        ]
        right = training.votes.names[named, rank] == training.truth[named, rank]
        names.append(_fit(by_rank[rank][named], right, training.weights(rank, named)))
    some = _class_weights(training, rows[direct[rows]])
    species = None if names[SPECIES] is None else _species(training, features[some[0]], *some)
    return _Fitted(cases, tuple(names), species)


def _species(
    training: TrainingSet, features: Floats, kept: Rows, classes: Rows, weights: Floats
) -> Logistic | None:
    """A model of `NAME_CLASSES`: what a known query has a wrong name for looks like what is new."""
    named, weights = _name_classes(training, kept, classes, weights)
    if len(np.unique(named)) < 2:
        return None
    ridge = max(RIDGE, SPECIES_RIDGE * len(kept))
    return fit_logistic(features, named, weights, number=len(NAME_CLASSES), ridge=ridge)


def _name_classes(training: TrainingSet, kept: Rows, classes: Rows, weights: Floats) -> tuple[Rows, Floats]:
    """(n,) positions in `NAME_CLASSES` and weights, from those of `_class_weights`."""
    right = training.votes.names[kept, SPECIES] == training.truth[kept, SPECIES]
    known, farther = classes < 2, NEW[1:]
    named = np.where(known, np.where(right, classes, 2), np.minimum(classes, 3) + 1)
    # Genomes cannot say how incomplete all of them are: half way from what they do say to even odds.
    part, strain = training.given["part"], training.given["strain"]
    parts = 0.25 + 0.5 * part / (part + strain)
    shares = np.array([parts, 1 - parts, 1, *(share / sum(farther) for share in farther)])
    return named, weights * shares[classes]


def _class_weights(training: TrainingSet, rows: Rows) -> tuple[Rows, Rows, Floats]:
    """Of the queries that count their rows, their positions in `CLASSES`, and weights as if all classes were
    as frequent; a case has the share of its class.
    """
    kept = rows[~training.synonyms[rows]]
    classes = np.minimum(training.cases[kept], len(CLASSES) - 1)
    counts = np.bincount(np.minimum(np.arange(len(CASES)), len(CLASSES) - 1))
    even = {case: 1 / counts[min(at, len(CLASSES) - 1)] for at, case in enumerate(CASES)}
    weights = training.weights(SPECIES, kept, even)
    for present in np.unique(classes).tolist():
        own = classes == present
        weights[own] /= weights[own].sum()
    return kept, classes, weights


def _judged(training: TrainingSet, rank: int, likely: Floats) -> Judged:
    names = training.votes.names[:, rank]
    rows = np.flatnonzero((names >= 0) & (training.truth[:, rank] >= 0) & ~training.synonyms)
    right = (names[rows] == training.truth[rows, rank]) & training.kin[rows] & ~training.absent(rank)[rows]
    return Judged(rows, training.weights(rank, rows), right, likely[rows])


def _spread(training: TrainingSet, means: GenomeMeans) -> tuple[Spread, tuple[Floats, Floats]]:
    """How far genomes' own pieces lie from the rest of them; and (n, f) twice for the queries of a genome
    that is their best candidate: without what they say themselves, NaN for others.
    """
    values = own_features(training.votes)
    found = training.votes.candidates
    best = np.where(found.columns.shape[1] > 0, 1, 0) * training.votes.best
    column = found.columns[np.arange(len(training)), best]
    number = np.where(column >= 0, means.numbers[column], -1)
    own = (training.cases == CASES.index("part")) & (number == training.genome)
    bins, rows = training.bins, np.flatnonzero(own)
    count = len(training.lengths)
    usual, deviation = (np.zeros((count, values.shape[1])) for _ in range(2))
    for at in range(count):
        here = rows[bins[rows] == at]
        here = here if len(here) >= LEAST_RIGHT else (rows if len(rows) else np.arange(len(training)))
        usual[at], deviation[at] = values[here].mean(axis=0), values[here].std(axis=0) + 1e-6
    rest = (values - usual[bins]) / deviation[bins]
    genomes, inverse = np.unique(training.genome[rows], return_inverse=True)
    number_of = np.bincount(inverse, minlength=len(genomes)).astype(np.float64)[:, None]

    def total(some: Floats) -> Floats:
        sums = [np.bincount(inverse, column, len(genomes)) for column in some.T]
        return np.stack(sums, axis=1) if len(genomes) else np.zeros((0, some.shape[1]))

    sums = total(rest[rows])
    without = (sums[inverse] - rest[rows]) / (number_of[inverse] - 1 + SHRINK)
    squares = (rest[rows] - without) ** 2
    # Where all fragments are alike, nothing is known of how they vary.
    pooled = np.maximum(squares.mean(axis=0) if len(rows) else np.ones(values.shape[1]), LEAST_VARIANCE)
    spent = total(squares)
    variance = (spent + SHRINK_VARIANCE * pooled) / (number_of + SHRINK_VARIANCE)
    varying = np.sqrt(
        (spent[inverse] - squares + SHRINK_VARIANCE * pooled) / (number_of[inverse] - 1 + SHRINK_VARIANCE)
    )
    off, deviating = np.full_like(values, np.nan), np.full_like(values, np.nan)
    off[rows], deviating[rows] = without, varying
    # Another query of the same fragment, changed as a strain's, knows no more of the genome than that.
    by_fragment = np.full((int(training.fragment.max(initial=0)) + 1, 2, values.shape[1]), np.nan)
    by_fragment[training.fragment[rows], 0], by_fragment[training.fragment[rows], 1] = without, varying
    same = number == training.genome
    off[same], deviating[same] = (by_fragment[training.fragment[same], at] for at in (0, 1))
    known = {
        int(genome): (sums[at] / (number_of[at] + SHRINK), np.sqrt(variance[at]))
        for at, genome in enumerate(genomes.tolist())
    }
    lengths = np.log(np.array(training.lengths))
    return Spread(lengths, usual, deviation, known), (off, deviating)


def _fit(features: Floats, truth: Bools, weights: Floats) -> Logistic | None:
    """A model of two classes; with few of one of them only their shares, None with too few of both."""
    if len(truth) < LEAST_QUERIES:
        return None
    if min(int(truth.sum()), int((~truth).sum())) < LEAST_RIGHT:
        features = np.zeros_like(features)
        # One more of each: what has not been seen may still be.
        features = np.concatenate([features, features[:2]])
        truth = np.concatenate([truth, [False, True]])
        weights = np.concatenate([weights, np.full(2, weights.mean())])
    return fit_logistic(features, truth.astype(np.int64), weights, number=2, ridge=RIDGE)


def _molecules(training: TrainingSet) -> MoleculeModel | None:
    rows = np.flatnonzero((training.molecule >= 0) & training.kin)
    evidence = molecule_evidence(training.pool.take(rows), training.within)
    kinds, weights = training.molecule[rows].astype(np.int64), training.weights(0, rows)
    group, folds, new = training.group[rows], training.folds[rows], training.absent(SPECIES)[rows]
    sizes = np.log(np.array(training.lengths) / USUAL_LENGTH)
    return fit_molecules(*evidence, kinds, weights, group, folds, new, sizes)


def _units(training: TrainingSet, samples: Sequence[LabeledSample]) -> Logistic | None:
    found = training.pool.units
    if found is None:
        return None
    own = np.concatenate([np.full(len(one), -1) if one.units is None else one.units for one in samples])
    rows = np.flatnonzero((training.molecule == PLASMID) & training.kin)
    return fit_units(found.take(rows), own[rows].astype(np.int64), training.weights(0, rows))


def _reaches(training: TrainingSet) -> tuple[float, ...]:
    """The farthest nearest genome of all queries of a length that have kin in their order."""
    nearest, akin = training.votes.nearest, training.cases < CASES.index("new order")
    result = []
    for at in range(len(training.lengths)):
        here = training.bins == at
        result.append(float(nearest[here & akin if (here & akin).any() else here].max()))
    return tuple(result)


def calibration_error(likely: Floats, right: Bools, weights: Floats, bins: int = 10) -> float:
    """Expected calibration error: the mean gap of confidence and accuracy over bins of equal width.

    Naeini et al. 2015 (AAAI), weighted. NaN without queries.
    """
    if not weights.sum() > 0:
        return float("nan")
    at = np.minimum((likely * bins).astype(np.int64), bins - 1)
    gaps = np.bincount(at, weights * (likely - right), minlength=bins)
    return float(np.abs(gaps).sum() / weights.sum())


def report_of(training: TrainingSet, realms: Sequence[Learned], lineages: Lineages) -> dict[str, Any]:
    """How a calibration came about, JSON-able.

    genera : learned from, and species that have none. queries, species : learned from, by case; of each a
    number for every length. twins : species that are synonyms of others. error : by rank, expected
    calibration error. named : by rank and length, the share of the queries that get a name at the default
    threshold, where it is present and where it is absent.
    Errors and shares are of genera that the model had not seen; None where there are no queries.
    """
    bins, kept = range(len(training.lengths)), ~training.synonyms
    species = training.truth[:, SPECIES]
    table: dict[str, dict[str, list[int]]] = {"queries": {}, "species": {}}
    for number, case in enumerate(CASES):
        rows = [np.flatnonzero(kept & (training.cases == number) & (training.bins == at)) for at in bins]
        table["queries"][case] = [len(part) for part in rows]
        table["species"][case] = [len(np.unique(species[part])) for part in rows]
    synonyms = np.unique(species[training.synonyms]).tolist()
    return table | {
        "lengths": list(training.lengths),
        "weights": dict(training.given),
        "genera": len(np.unique(training.group)),
        "twins": sorted(lineages.names[SPECIES][code] for code in synonyms),
        "error": {RANKS[rank]: _error([one.judged[rank] for one in realms]) for rank in range(RANK_COUNT)},
        "named": {RANKS[rank]: _named(realms, rank) for rank in (GENUS, SPECIES)},
    }


def _error(judged: Sequence[Judged]) -> float | None:
    likely, right, weights = (
        np.concatenate([getattr(one, name)[np.isfinite(one.likely)] for one in judged])
        for name in ("likely", "right", "weights")
    )
    error = calibration_error(likely, right, weights)
    return None if np.isnan(error) else round(error, REPORT_DIGITS)


def _named(realms: Sequence[Learned], rank: int) -> dict[str, list[float | None]]:
    parts = []
    for one in realms:
        judged, training = one.judged[rank], one.training
        bins = training.bins[judged.rows]
        named = np.nan_to_num(judged.likely) >= one.model.thresholds[rank][bins]
        parts.append((named, training.absent(rank)[judged.rows], bins, judged.weights))
    named, absent, bins, weights = (np.concatenate(values) for values in zip(*parts, strict=True))

    def share(rows: Bools) -> float | None:
        if not rows.any():
            return None
        return round(float(np.average(named[rows], weights=weights[rows])), REPORT_DIGITS)

    lengths = range(len(realms[0].training.lengths))
    return {
        side: [share(which & (bins == at)) for at in lengths]
        for side, which in (("present", ~absent), ("absent", absent))
    }
