"""How sure an answer is: probabilities of names and molecules, learned from the references themselves."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from kinmer.confidence.calibrator import (
    Calibrated,
    calibration_of,
    known_of,
    refresh_calibration,
    warn_stale,
)
from kinmer.confidence.candidates import Candidates, GenomeMeans, Nearest, SharedHashes, candidates_of, unit
from kinmer.confidence.features import WHY
from kinmer.confidence.model import CLASSES, Calibration
from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, Lineages, Pool
from kinmer.confidence.verdict import (
    NOTHING_NEAR,
    TOO_SHORT,
    UNSURE,
    Judgements,
    KindShares,
    Scores,
    Verdict,
    discovery_limit,
    discovery_limits,
    even_kinds,
    judge,
    mixture,
    score,
    verdicts,
)

if TYPE_CHECKING:
    from kinmer.confidence.cases import LabeledSample as LabeledSample
    from kinmer.confidence.learn import calibrate as calibrate
    from kinmer.confidence.learn import calibration_error as calibration_error

__all__ = [
    "CASES",
    "CLASSES",
    "HIDDEN",
    "NOTHING_NEAR",
    "NO_KIN",
    "TOO_SHORT",
    "UNSURE",
    "WHY",
    "Calibrated",
    "Calibration",
    "Candidates",
    "GenomeMeans",
    "Judgements",
    "KindShares",
    "LabeledSample",
    "Lineages",
    "Nearest",
    "Pool",
    "Scores",
    "SharedHashes",
    "Verdict",
    "calibrate",
    "calibration_error",
    "calibration_of",
    "candidates_of",
    "discovery_limit",
    "discovery_limits",
    "even_kinds",
    "judge",
    "known_of",
    "mixture",
    "refresh_calibration",
    "score",
    "unit",
    "verdicts",
    "warn_stale",
]

# Read when a name is first used: a search does not learn.
_FILES = {"LabeledSample": "cases", "calibrate": "learn", "calibration_error": "learn"}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"kinmer.confidence.{_FILES[name]}"), name)
