"""Plasmid taxonomic units: those of copies and of what is far, and what is learned of them."""

from __future__ import annotations

import numpy as np

from kinmer.units import FEATURES, UnitEvidence, fit_units, unit_evidence


def test_the_nearest_row_that_has_a_unit_counts() -> None:
    distances = np.array([[0.01, 0.02, 0.2, 0.4], [0.1, 0.2, np.inf, np.inf]], np.float32)
    units = np.array([[-1, 5, 3, 5], [-1, -1, 7, -1]], np.int32)
    molecules = np.array([[0, 1, 1, 1], [1, 0, 1, 1]], np.int8)
    found = unit_evidence(distances, units, molecules, np.array([10_000, 0]))
    assert found.codes.tolist() == [5, -1]
    near, other, bare, first = found.features[0, :4]
    np.testing.assert_allclose(near, np.log(0.02), rtol=1e-5)
    np.testing.assert_allclose(other, np.log(0.2 / 0.02), rtol=1e-5)
    # No plasmid without a unit is there: as far as the farthest row.
    np.testing.assert_allclose(bare, np.log(0.4 / 0.02), rtol=1e-5)
    np.testing.assert_allclose(first, np.log(0.01 / 0.02), rtol=1e-5)
    nothing = unit_evidence(distances[:, :0], units[:, :0], molecules[:, :0], np.zeros(2, np.int64))
    assert nothing.codes.tolist() == [-1, -1]
    assert nothing.features.shape == found.features.shape == (2, FEATURES)
    joined = UnitEvidence.joined([found, nothing]).take(np.array([3, 0]))
    assert joined.codes.tolist() == [-1, 5]


def test_near_units_are_right_and_far_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(-1, 6, 400)
    near = (rng.random(400) < 0.5) & (own >= 0)
    distances = np.sort(rng.uniform(0.2, 0.5, (400, 6)), axis=1).astype(np.float32)
    distances[near, 0] = 0.01
    units = rng.integers(0, 6, (400, 6)).astype(np.int32)
    units[near, 0] = own[near]
    units[~near, 0] = (own[~near] + 1 + rng.integers(0, 5, (~near).sum())) % 6
    molecules = np.ones((400, 6), np.int8)
    evidence = unit_evidence(distances, units, molecules, np.full(400, 5_000))
    model = fit_units(evidence, own.astype(np.int64), np.ones(400))
    assert model is not None
    right = model.predict(evidence.features)[:, 1]
    assert right[near].min() > 0.9
    assert right[~near & (evidence.codes >= 0)].mean() < 0.3
    few = np.flatnonzero(near)[:9]
    rows = np.concatenate([few, np.flatnonzero(~near)])
    assert fit_units(evidence.take(rows), own[rows].astype(np.int64), np.ones(len(rows))) is None
