"""What was learnt: models of right names and of molecules, thresholds, and how it came about."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.logistic import Logistic
from kinmer.confidence.thresholds import FEW_GENERA
from kinmer.confidence.voting import RANK_COUNT

__all__ = ["Calibration"]

# Of the models' features and of what is kept of them.
FORM = 2

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How far names can be trusted.

    names : for every rank from domain down, of the probability that a name is right; None where nothing
    could be learnt. absent : for every rank, of the probability that the query's true name at that rank is
    none of the references'. molecules : of chromosome, plasmid, virus; None where there are fewer than two.
    within : shortest and longest query that it was learnt from, in bases. lengths, thresholds : (l,) and
    (7, l), the probability from which on a name is given by default. reaches : (l,) distance of the nearest
    genome of the query that was farthest from any. account : how it was made; see `account_of`.
    """

    names: tuple[Logistic | None, ...]
    absent: tuple[Logistic | None, ...]
    molecules: Logistic | None
    within: tuple[float, float]
    lengths: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    reaches: tuple[float, ...]
    account: Mapping[str, Any]

    def threshold(self, rank: int, lengths: NDArray[np.int64]) -> Floats:
        """(q,) the default thresholds for queries of so many letters, 0 for unknown."""
        known = np.where(lengths > 0, lengths, self.lengths[-1]).astype(np.float64)
        return np.interp(np.log(known), np.log(self.lengths), self.thresholds[rank])

    def caution(self) -> str:
        """What people have to know where the references were too few to learn much from; else empty."""
        genera = self.account.get("genera")
        if genera is None or genera >= FEW_GENERA:
            return ""
        return (
            f"the reference has too few genera to calibrate well ({genera:,}, not {FEW_GENERA}): only names"
            " that are likelier than any wrong one seen are given"
        )

    def is_short(self, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries are shorter than all that was learnt from; not those of unknown length, 0."""
        return np.asarray((lengths > 0) & (lengths < self.within[0]))

    def is_near(self, nearest: Floats, lengths: NDArray[np.int64]) -> NDArray[np.bool_]:
        """(q,) whether queries whose nearest genome is so far are like any that was learnt from.

        Queries of unknown length have the farthest reach.
        """
        known = np.maximum(lengths, 1).astype(np.float64)
        reach = np.interp(np.log(known), np.log(self.lengths), self.reaches)
        return np.asarray(nearest <= np.where(lengths > 0, reach, max(self.reaches)))

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "form": FORM,
            "names": [_told(one) for one in self.names],
            "absent": [_told(one) for one in self.absent],
            "molecules": _told(self.molecules),
            "within": list(self.within),
            "lengths": list(self.lengths),
            "thresholds": [list(line) for line in self.thresholds],
            "reaches": list(self.reaches),
            "account": dict(self.account),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Calibration:
        """From `to_dict`; ValueError, KeyError or TypeError for what is none."""
        if not isinstance(told, Mapping) or told.get("form") != FORM:
            raise ValueError("it was made by another version of kinmer")
        names, absent = (tuple(_model(one) for one in told[name]) for name in ("names", "absent"))
        low, high = _numbers(told["within"])
        lengths, reaches = _numbers(told["lengths"]), _numbers(told["reaches"])
        thresholds = tuple(_numbers(line) for line in told["thresholds"])
        whole = len(names) == len(absent) == len(thresholds) == RANK_COUNT and 0 < low <= high
        if not whole or not lengths or any(len(line) != len(lengths) for line in (*thresholds, reaches)):
            raise ValueError("a part is missing")
        if lengths[0] < 1 or any(one >= other for one, other in pairwise(lengths)):
            raise ValueError("its lengths are in no order")
        account = dict(told["account"])
        molecules = _model(told["molecules"])
        return cls(names, absent, molecules, (low, high), lengths, thresholds, reaches, account)


def _numbers(told: Iterable[Any]) -> tuple[float, ...]:
    numbers = tuple(float(one) for one in told)
    if not all(math.isfinite(one) for one in numbers):
        raise ValueError("a number is none")
    return numbers


def _told(model: Logistic | None) -> dict[str, Any] | None:
    return None if model is None else model.to_dict()


def _model(told: dict[str, Any] | None) -> Logistic | None:
    return None if told is None else Logistic.from_dict(told)
