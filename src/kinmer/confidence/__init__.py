"""How sure an answer is: probabilities of names and molecules, learnt from the references themselves."""

from __future__ import annotations

from kinmer.confidence.learn import CASE_WEIGHTS, calibrate, calibration_error
from kinmer.confidence.model import Calibration
from kinmer.confidence.pool import CASES, HIDDEN, MEAN_BONUS, NO_KIN, Lineages, Pool, Sample, merge_genomes
from kinmer.confidence.verdict import NOTHING_NEAR, TOO_SHORT, Judgements, Verdict, judge, verdicts

__all__ = [
    "CASES",
    "CASE_WEIGHTS",
    "HIDDEN",
    "MEAN_BONUS",
    "NOTHING_NEAR",
    "NO_KIN",
    "TOO_SHORT",
    "Calibration",
    "Judgements",
    "Lineages",
    "Pool",
    "Sample",
    "Verdict",
    "calibrate",
    "calibration_error",
    "judge",
    "merge_genomes",
    "verdicts",
]
