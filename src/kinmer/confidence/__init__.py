"""How sure an answer is: probabilities of names and molecules, learned from the references themselves."""

from __future__ import annotations

from kinmer.confidence.calibrator import Calibrated, calibration_of, refresh_calibration, warn_stale
from kinmer.confidence.learn import CASE_WEIGHTS, calibrate, calibration_error
from kinmer.confidence.model import NOTHING_NEAR, TOO_SHORT, Calibration, Judgements, Verdict, judge, verdicts
from kinmer.confidence.pool import CASES, HIDDEN, NO_KIN, LabeledPool, Lineages, Pool, merge_genomes

__all__ = [
    "CASES",
    "CASE_WEIGHTS",
    "HIDDEN",
    "NOTHING_NEAR",
    "NO_KIN",
    "TOO_SHORT",
    "Calibrated",
    "Calibration",
    "Judgements",
    "LabeledPool",
    "Lineages",
    "Pool",
    "Verdict",
    "calibrate",
    "calibration_error",
    "calibration_of",
    "judge",
    "merge_genomes",
    "refresh_calibration",
    "verdicts",
    "warn_stale",
]
