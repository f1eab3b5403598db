"""What was learnt: models of right names and of molecules, thresholds, and how it came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.logistic import Logistic
from kinmer.confidence.voting import RANK_COUNT

__all__ = ["Calibration"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """How far names can be trusted.

    names : for every rank from domain down, of the probability that a name is right; None where nothing
    could be learnt. absent : for every rank, of the probability that the query's true name at that rank is
    none of the references'. molecules : of chromosome, plasmid, virus; None where there are fewer than two.
    within : shortest and longest query that it was learnt from, in letters. lengths, thresholds : (l,) and
    (7, l), the probability from which on a name is given by default. account : how it was made, for people.
    """

    names: tuple[Logistic | None, ...]
    absent: tuple[Logistic | None, ...]
    molecules: Logistic | None
    within: tuple[float, float]
    lengths: tuple[float, ...]
    thresholds: tuple[tuple[float, ...], ...]
    account: Mapping[str, Any]

    def threshold(self, rank: int, lengths: NDArray[np.int64]) -> Floats:
        """(q,) the default thresholds for queries of so many letters, 0 for unknown."""
        known = np.where(lengths > 0, lengths, self.lengths[-1]).astype(np.float64)
        return np.interp(np.log(known), np.log(self.lengths), self.thresholds[rank])

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "names": [_told(one) for one in self.names],
            "absent": [_told(one) for one in self.absent],
            "molecules": _told(self.molecules),
            "within": list(self.within),
            "lengths": list(self.lengths),
            "thresholds": [list(line) for line in self.thresholds],
            "account": dict(self.account),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Calibration:
        """From `to_dict`; ValueError, KeyError or TypeError for what is none."""
        names, absent = (tuple(_model(one) for one in told[name]) for name in ("names", "absent"))
        low, high = (float(one) for one in told["within"])
        lengths = tuple(float(one) for one in told["lengths"])
        thresholds = tuple(tuple(float(one) for one in line) for line in told["thresholds"])
        whole = len(names) == len(absent) == len(thresholds) == RANK_COUNT and 0 < low <= high
        if not whole or not lengths or any(len(line) != len(lengths) for line in thresholds):
            raise ValueError("a part is missing")
        account = dict(told["account"])
        return cls(names, absent, _model(told["molecules"]), (low, high), lengths, thresholds, account)


def _told(model: Logistic | None) -> dict[str, Any] | None:
    return None if model is None else model.to_dict()


def _model(told: dict[str, Any] | None) -> Logistic | None:
    return None if told is None else Logistic.from_dict(told)
