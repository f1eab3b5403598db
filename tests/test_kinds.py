"""Shares of kinds of molecule in a sample, against how it was made; limits, against counting."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.kinds import (
    EVEN,
    HIGHEST,
    PRECISION,
    USUAL_KINDS,
    kinds_of,
    likeliest_shares,
    limits_of,
    posterior,
)
from kinmer.queries.sample import check_prior, kind_shares

Floats = NDArray[np.float64]


def _sample(shares: Floats, number: int, seed: int, apart: float = 2.0) -> tuple[Floats, NDArray[np.int64]]:
    """Probabilities of kinds as if all were as frequent, of a normal value about each, and the kinds."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(5, number, p=shares)
    values = rng.normal(apart * kinds, 1.0)
    density = np.exp(-((values[:, None] - apart * np.arange(5)) ** 2) / 2)
    return density / density.sum(axis=1, keepdims=True), kinds


@pytest.mark.parametrize("shares", [[0.2] * 5, [0.9, 0.1, 0, 0, 0], [0.05, 0.8, 0.05, 0.05, 0.05]])
def test_shares_of_a_sample_are_found(shares: list[float]) -> None:
    true = np.array(shares)
    likely, kinds = _sample(true, 20_000, 0)
    found = likeliest_shares(likely, np.full(5, 0.2), 0)
    np.testing.assert_allclose(found, np.bincount(kinds, minlength=5) / len(kinds), atol=0.015)
    # Of what is told well, a little of what is usual.
    told = kinds_of(_sample(true, 20_000, 1, apart=8.0)[0])
    assert told is not None
    np.testing.assert_allclose(told, (true + 0.02 * np.array(USUAL_KINDS)) / 1.02, atol=0.01)


def test_small_samples_say_nothing() -> None:
    likely, _ = _sample(np.full(5, 0.2), 120, 0)
    likely[:21] = np.nan
    assert kinds_of(likely) is None
    likely[0] = 0.2
    assert kinds_of(likely) is not None


@given(st.integers(0, 20), st.sampled_from([0.3, 1.0, 2.0]))
def test_limits_are_the_lowest_that_keep_the_precision(seed: int, sure: float) -> None:
    rng = np.random.default_rng(seed)
    even, kinds = _sample(np.full(5, 0.2), 300, seed)
    even = posterior(even**sure, np.ones(5))
    genera = rng.integers(12, size=300)
    likely = posterior(even, np.array(USUAL_KINDS))
    weights = np.zeros(300)
    for kind in range(5):
        present = np.unique(genera[kinds == kind])
        for genus in present:
            own = (kinds == kind) & (genera == genus)
            weights[own] = USUAL_KINDS[kind] / len(present) / own.sum()

    def precise(kind: int, limit: float) -> bool:
        called = likely[:, kind] >= limit
        return bool(weights[called & (kinds == kind)].sum() >= PRECISION * weights[called].sum() - 1e-12)

    for kind in range(5):
        tried = np.unique(likely[:, kind])
        able = [limit for limit in tried.tolist() if precise(kind, limit)]
        expected = np.clip(min(able), EVEN, HIGHEST) if able else HIGHEST
        found = limits_of(even, kinds, genera, np.zeros(300), np.zeros(1), kind)
        assert found.tolist() == pytest.approx([expected])


def test_limits_are_of_queries_of_such_a_length() -> None:
    even, kinds = _sample(np.full(5, 0.2), 4_000, 3)
    size = np.where(np.arange(4_000) < 2_000, 0.0, 3.0)
    even[:2_000] = 0.2
    short, long = limits_of(even, kinds, np.arange(4_000) % 50, size, np.array([0.0, 3.0]), 1)
    assert short == HIGHEST > long


def test_kinds_that_are_given() -> None:
    found = kind_shares({"plasmid": 0.3})
    assert found[1] == 0.3
    np.testing.assert_allclose(found[[0, 2]], np.array([0.8, 0.07]) / 0.91 * 0.7)
    np.testing.assert_allclose(kind_shares({"plasmid": 0.5, "virus": 0.5}), [0, 0.5, 0.5, 0, 0])
    for wrong in (
        {"plasmids": 0.1},
        {"plasmid": -0.1},
        {"plasmid": 0.8, "virus": 0.4},
        {"virus": float("nan")},
    ):
        with pytest.raises(UsageError, match=r"plasmid=0\.1"):
            check_prior(wrong)
    check_prior({"plasmid": 0.1})
