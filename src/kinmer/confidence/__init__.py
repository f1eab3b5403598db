"""How sure an answer is: probabilities of names and molecules, learnt from the references themselves."""

from __future__ import annotations

from kinmer.confidence.accounting import calibration_error
from kinmer.confidence.calibration import Calibration
from kinmer.confidence.judging import Judgements, judge
from kinmer.confidence.learning import CASE_WEIGHTS, calibrate
from kinmer.confidence.pools import CASES, HIDDEN, MEAN_BONUS, NO_KIN, Lineages, Pool, Sample, merge_genomes
from kinmer.confidence.wording import NOTHING_NEAR, TOO_SHORT, Verdict, verdicts

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
