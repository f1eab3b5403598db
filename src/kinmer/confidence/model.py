"""What is learned of an index: logistic models of cases, names and molecules, thresholds, reaches."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.candidates import GenomeMeans
from kinmer.confidence.features import Spread, Votes, own_features
from kinmer.confidence.pool import BOTH, COMPOSITION, HIDDEN, RANK_COUNT
from kinmer.kinds import posterior
from kinmer.logistic import Logistic
from kinmer.molecules import MoleculeModel
from kinmer.units import FEATURES

# The form of the models' features and of what is kept of them.
FORM, OLDER_FORMS = 5, (1, 2, 3, 4)
# Of fewer genera than this no share of wrong names can be kept for certain.
FEW_GENERA = 20

# What a query may be: of a genome of which the references have nothing homologous, of another strain, of a
# new species, genus or family, or of what is farther; the cases of all that is farther are one class.
CLASSES = ("part", "strain", "new species", "new genus", "new family", "farther")
# What the name of a species may be, as one question: right for a part or another strain of a known genome,
# wrong for one of these, or of a species that is new in its genus or farther.
NAME_CLASSES = ("right, part", "right, strain", "wrong", "new species", "farther")
# (5, 7) whether the references have the true name, by rank, of all classes but the last.
PRESENT = np.array(
    [
        [HIDDEN[case] is None or rank < (HIDDEN[case] or 0) for rank in range(RANK_COUNT)]
        for case in CLASSES[:-1]
    ],
    dtype=np.float64,
)

Floats = NDArray[np.float64]


class OlderFormError(ValueError):
    """A calibration that an older version made, and that can be made again."""


@dataclass(frozen=True)
class RealmModel:
    """What is learned of one view, of cells or of viruses.

    cases : of `CLASSES`, all as frequent. names : for every rank from domain to species, of the probability
    that its name is right where the references have it; None where nothing could be learned. species : of
    `NAME_CLASSES`, known, new and farther ones as frequent, in place of the other two; None for viruses, and
    not for queries whose nearest row is of a plasmid. farther : (7,) the share of the last class whose true
    name the references have. thresholds : (7, l), the probability at the calibration's own prior from which
    on a name is given.
    """

    cases: Logistic
    names: tuple[Logistic | None, ...]
    species: Logistic | None
    farther: Floats
    spread: Spread
    thresholds: Floats

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "cases": self.cases.to_dict(),
            "names": [None if model is None else model.to_dict() for model in self.names],
            "species": None if self.species is None else self.species.to_dict(),
            "farther": self.farther.tolist(),
            "spread": self.spread.to_dict(),
            "thresholds": self.thresholds.tolist(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any], lengths: int) -> RealmModel:
        """From `to_dict`; ValueError, KeyError or TypeError for anything else."""
        names = tuple(None if model is None else Logistic.from_dict(model) for model in stored["names"])
        thresholds = np.array([_numbers(line) for line in stored["thresholds"]])
        cases = Logistic.from_dict(stored["cases"])
        species = None if stored["species"] is None else Logistic.from_dict(stored["species"])
        farther = np.array(_numbers(stored["farther"]))
        ranks = {len(names), len(farther), len(thresholds)}
        if ranks != {RANK_COUNT} or thresholds.shape[1:] != (lengths,):
            raise ValueError("a part is missing")
        if len(cases.weights) != len(CLASSES) or (species and len(species.weights) != len(NAME_CLASSES)):
            raise ValueError("the shapes of a model do not go together")
        return cls(cases, names, species, farther, Spread.from_dict(stored["spread"]), thresholds)


@dataclass(frozen=True)
class Calibration:
    """How far names can be trusted.

    views : for "composition" alone and for "both" views what is learned of cells and of viruses. Where one
    of them is too rare, both are of all. prior : (6,) the shares of `CLASSES` that are taken for granted.
    molecules : None where there are fewer than two kinds. within : shortest and
    longest query that it was learned from, in bases. lengths : (l,) of the thresholds. reaches : (l,)
    distance of the nearest genome of the query that was farthest from any. report : how it was made. units :
    whether the nearest unit of a plasmid is its own; None where too few have one.
    """

    views: Mapping[str, tuple[RealmModel, RealmModel]]
    prior: tuple[float, ...]
    molecules: MoleculeModel | None
    within: tuple[float, float]
    lengths: tuple[float, ...]
    reaches: tuple[float, ...]
    report: Mapping[str, Any]
    units: Logistic | None = None

    def threshold(self, model: RealmModel, lengths: NDArray[np.int64]) -> Floats:
        """(q, 7) the default thresholds for queries of so many bases, 0 for unknown."""
        size = np.log(np.where(lengths > 0, lengths, self.lengths[-1]).astype(np.float64))
        return np.stack([np.interp(size, np.log(self.lengths), line) for line in model.thresholds], axis=1)

    def caution(self) -> str:
        """What people have to know where the references were too few to learn much from; else empty."""
        genera = self.report.get("genera")
        if genera is None or genera >= FEW_GENERA:
            return ""
        return (
            f"the reference has too few genera to calibrate well ({genera:,}, not {FEW_GENERA}): only names"
            " that are likelier than any wrong one seen are given"
        )

    def is_short(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries are shorter than all that was learned from; not those of unknown length, 0."""
        return np.asarray((lengths > 0) & (lengths < self.within[0]))

    def is_near(self, nearest: Floats, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether the nearest genome is within the distances that were learned from.

        Queries of unknown length have the farthest reach.
        """
        known = np.maximum(lengths, 1).astype(np.float64)
        reach = np.interp(np.log(known), np.log(self.lengths), self.reaches)
        return np.asarray(nearest <= np.where(lengths > 0, reach, max(self.reaches)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "form": FORM,
            "views": {name: [model.to_dict() for model in pair] for name, pair in self.views.items()},
            "prior": list(self.prior),
            "molecules": None if self.molecules is None else self.molecules.to_dict(),
            "units": None if self.units is None else self.units.to_dict(),
            "within": list(self.within),
            "lengths": list(self.lengths),
            "reaches": list(self.reaches),
            "account": dict(self.report),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Calibration:
        """From `to_dict`; OlderFormError, ValueError, KeyError or TypeError for anything else."""
        if not isinstance(stored, Mapping) or stored.get("form") != FORM:
            older = isinstance(stored, Mapping) and stored.get("form") in OLDER_FORMS
            raise (OlderFormError if older else ValueError)("it was made by another version of kinmer")
        low, high = _numbers(stored["within"])
        lengths, reaches = _numbers(stored["lengths"]), _numbers(stored["reaches"])
        prior = _numbers(stored["prior"])
        if len(prior) != len(CLASSES) or len(reaches) != len(lengths) or not lengths or not 0 < low <= high:
            raise ValueError("a part is missing")
        if min(prior) < 0 or abs(sum(prior) - 1) > 1e-6:
            raise ValueError("its shares do not sum to 1")
        if lengths[0] < 1 or any(shorter >= longer for shorter, longer in pairwise(lengths)):
            raise ValueError("its lengths do not ascend")
        views: dict[str, tuple[RealmModel, RealmModel]] = {}
        for name, pair in stored["views"].items():
            cells, viruses = (RealmModel.from_dict(model, len(lengths)) for model in pair)
            views[name] = (cells, viruses)
        if COMPOSITION not in views or not views.keys() <= {COMPOSITION, BOTH}:
            raise ValueError("a view is missing")
        molecules = None if stored["molecules"] is None else MoleculeModel.from_dict(stored["molecules"])
        # Calibrations of an unreleased version have no units.
        units = None if stored.get("units") is None else Logistic.from_dict(stored["units"])
        if units is not None and (units.width != FEATURES or len(units.weights) != 2):
            raise ValueError("the shapes of a model do not go together")
        report = dict(stored["account"])
        return cls(views, prior, molecules, (low, high), lengths, reaches, report, units)


def _numbers(stored: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(map(float, stored))
    if not all(map(math.isfinite, numbers)):
        raise ValueError("a number is not finite")
    return numbers


def species_chances(named: Floats, prior: Floats) -> tuple[Floats, Floats]:
    """(q,) probability that the species is right, and that it is new, from those of `NAME_CLASSES` (q, 5).

    prior : (6,) or (q, 6) of `CLASSES`. How many of the known have a homologue is not asked.
    """
    known, new = prior[..., :2].sum(axis=-1), prior[..., 2]
    shares = np.stack([known, known, known, new, prior[..., 3:].sum(axis=-1)], axis=-1)
    chances = posterior(named, shares)
    return np.asarray(chances[:, :2].sum(axis=1)), np.asarray(chances[:, 3:].sum(axis=1))


def presence(classes: Floats, farther: Floats) -> Floats:
    """(q, 7) probability that the references have the true name, from those of `CLASSES` (q, 6).

    farther : (7,) or (q, 7) the share of the last class that has it.
    """
    return np.asarray(classes[:, :-1] @ PRESENT + classes[:, -1:] * farther)


def deviations(
    spread: Spread, votes: Votes, means: GenomeMeans, given: tuple[Floats, Floats] | None = None
) -> Floats:
    """(q, 5) by how many deviations a query is off what is usual for the genome that has its species."""
    found = votes.candidates
    if not found.columns.shape[1] or not len(means):
        genomes = np.full(len(found), -1)
    else:
        column = found.columns[np.arange(len(found)), votes.best]
        genomes = np.where(column >= 0, means.numbers[column], -1)
    return spread.deviations(own_features(votes), found.lengths, genomes, given)
