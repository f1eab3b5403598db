"""Which names are given by default: few wrong ones whichever rank is new; care where references are few."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.confidence import calibrate, verdicts
from kinmer.confidence.model import FEW_GENERA
from kinmer.confidence.thresholds import WRONG_RANDOM, _allowed, _Names, _raised
from tests.confidence_world import judged, lineages, means_of, sample

SHARE = 0.1


def names_of(seed: int) -> _Names:
    """Names at three ranks of queries of two novelties with kin and one without, and of known ones."""
    rng = np.random.default_rng(seed)
    count, genera = 400, int(rng.integers(2, 60))
    likely = -np.sort(-rng.random((count, 3)), axis=1)
    novelty = rng.integers(0, 4, count)
    right = (rng.random((count, 3)) < likely) & (novelty < 3)[:, None]
    risks = np.stack([(novelty == kind) / max(1, (novelty == kind).sum()) for kind in (1, 2, 3)])
    worth = np.where(novelty == 0, 1.0, 0.2)
    return _Names(likely, right, worth, risks, np.full(3, float(genera)), np.array([True, True, False]))


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_of_no_novelty_more_than_is_allowed_gets_a_wrong_name(seed: int) -> None:
    names = names_of(seed)
    least = np.full(3, 0.5)
    found = _raised(least, names, SHARE)
    assert (found >= least).all()
    wrong = ((names.likely >= found) & ~names.right).any(axis=1)
    allowed = np.maximum(_allowed(np.array([SHARE, SHARE, WRONG_RANDOM]), names.genera), 0)
    assert (names.risks @ wrong <= allowed + 1e-8).all()
    # And no lower limit of the lowest rank alone would be allowed too.
    below = names.likely[:, 2][
        (names.likely[:, 2] < found[2]) & (names.likely[:, 2] >= 0.5) & ~names.right[:, 2]
    ]
    if below.size:
        lower = np.array([*found[:2], below.max()])
        wrong = ((names.likely >= lower) & ~names.right).any(axis=1)
        assert (names.risks @ wrong > allowed).any()


def test_few_genera_are_told_and_names_need_more() -> None:
    world = lineages()
    few = type(world)(world.codes[:36], world.names)
    cases = ("strain", "new species", "new genus")
    learned = [sample(case, 300, at, few) for at, case in enumerate(cases)]
    calibration = calibrate(learned, few, means_of(len(few.codes)))
    assert calibration is not None
    assert calibration.report["genera"] < FEW_GENERA
    assert "too few genera" in calibration.caution()
    (cells, viruses) = calibration.views["composition"]
    assert cells is viruses
    assert np.min(cells.thresholds) >= 0.9
    for case in cases[1:]:
        one = sample(case, 300, 50, few)
        told = verdicts(judged(one, few, calibration), few)
        names = [few.names[6][code] if code >= 0 else None for code in one.truth[:, 6].tolist()]
        assert (
            all(verdict.rank != "species" for verdict in told)
            or np.mean(
                [
                    verdict.rank == "species" and verdict.name != name
                    for verdict, name in zip(told, names, strict=True)
                ]
            )
            < 0.05
        )
    learned = [sample(case, 600, at, world) for at, case in enumerate(cases)]
    many = calibrate(learned, world, means_of(len(world.codes)))
    assert many is not None
    assert many.caution() == ""
