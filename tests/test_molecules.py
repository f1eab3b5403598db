"""Kinds of molecule: discriminants against scikit-learn, and what is learned from vectors and neighbors."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.molecules import (
    MOLECULES,
    SHRINK,
    MoleculeModel,
    discriminants,
    fit_molecules,
    neighbor_features,
    scores_of,
)

DIM = 8
Floats = NDArray[np.float64]


def _vectors(number: int, seed: int, apart: float = 3.0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Vectors of four kinds that lie apart along the first axes, and their kinds."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(4, number, p=[0.6, 0.2, 0.15, 0.05])
    vectors = rng.normal(size=(number, DIM)) * np.linspace(0.5, 2, DIM)
    vectors[np.arange(number), kinds] += apart
    return vectors.astype(np.float32), kinds


def _nothing_near(number: int) -> Floats:
    return neighbor_features(
        np.full((number, 3), np.inf, np.float32), np.full((number, 3), -1, np.int8), np.zeros(number)
    )


@cache
def _fitted(number: int = 2_000, seed: int = 1) -> MoleculeModel:
    vectors, kinds = _vectors(number, seed)
    genera = np.random.default_rng(seed).integers(40, size=number)
    made = fit_molecules(
        _nothing_near(number), vectors, np.zeros(number), kinds, np.ones(number), genera, genera % 5
    )
    assert made is not None
    return made


def test_discriminants_are_as_scikit_learn_has_them() -> None:
    analysis = pytest.importorskip("sklearn.discriminant_analysis")
    vectors, kinds = _vectors(900, 0)
    known = analysis.LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINK, priors=np.full(4, 0.25))
    known.fit(vectors.astype(np.float64), kinds)
    found = discriminants(vectors, kinds, np.ones(len(kinds)))
    assert found.shape == (len(MOLECULES), DIM + 1)
    assert not found[4].any()
    scores = scores_of(found, vectors)[:, :4]
    theirs = known.decision_function(vectors)
    np.testing.assert_allclose(
        scores - scores[:, :1], theirs - theirs[:, :1], rtol=1e-3, atol=1e-3 * np.abs(theirs).max()
    )


def test_weights_count_as_copies() -> None:
    vectors, kinds = _vectors(200, 2)
    weights = np.random.default_rng(0).integers(0, 4, 200)
    repeated = np.repeat(np.arange(200), weights)
    found = discriminants(vectors, kinds, weights.astype(np.float64))
    copies = discriminants(vectors[repeated], kinds[repeated], np.ones(len(repeated)))
    np.testing.assert_allclose(found, copies, rtol=1e-4, atol=1e-4)


def test_vectors_that_are_all_alike_say_nothing() -> None:
    assert not discriminants(np.ones((6, DIM), np.float32), np.arange(6) % 2, np.ones(6)).any()


def test_kinds_are_known_by_vectors_where_neighbors_say_nothing() -> None:
    made = _fitted()
    vectors, kinds = _vectors(1_000, 7)
    likely = made.predict(_nothing_near(1_000), vectors, np.zeros(1_000))
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    assert np.mean(likely.argmax(axis=1) == kinds) > 0.85
    # A kind that the index does not have is never likely.
    assert likely[:, MOLECULES.index("eukaryote")].max() < 1e-6


def test_what_holds_within_a_genus_only_is_not_trusted() -> None:
    """Genera have a direction each: those of other genera say nothing of a query's kind."""
    rng = np.random.default_rng(3)
    number, genera = 3_000, 30
    genus = rng.integers(genera, size=number)
    kind_of, centers = rng.integers(2, size=genera), rng.normal(size=(genera, 40)) * 3
    vectors = (centers[genus] + rng.normal(size=(number, 40))).astype(np.float32)
    kinds, folds = kind_of[genus], genus % 5
    made = fit_molecules(
        _nothing_near(number), vectors, np.zeros(number), kinds, np.ones(number), genus, folds
    )
    assert made is not None
    new = (rng.normal(size=(500, 40)) * 3 + rng.normal(size=(500, 40))).astype(np.float32)
    sure = made.predict(_nothing_near(500), new, np.zeros(500)).max(axis=1)
    naive = fit_molecules(
        _nothing_near(number), vectors, np.zeros(number), kinds, np.ones(number), genus, np.arange(number) % 5
    )
    assert naive is not None
    surer = naive.predict(_nothing_near(500), new, np.zeros(500)).max(axis=1)
    assert sure.mean() < 0.8 < surer.mean()


def test_too_few_of_a_second_kind_teach_nothing() -> None:
    vectors, _ = _vectors(200, 4)
    genera = np.arange(200) % 8
    given_ = _nothing_near(200), vectors, np.zeros(200)
    for few, some in ((9, genera), (12, np.arange(200) // 100)):
        kinds = np.where(np.arange(200) < few, 1, 0)
        assert fit_molecules(*given_, kinds, np.ones(200), some, genera % 5) is None
    kinds = np.where(np.arange(200) < 10, 1, 0)
    assert fit_molecules(*given_, kinds, np.ones(200), genera, genera % 5) is not None


def test_a_kind_of_few_genera_is_never_called() -> None:
    vectors, kinds = _vectors(2_000, 5)
    genera = np.random.default_rng(5).integers(40, size=2_000)
    genera[kinds == 3] = 40 + genera[kinds == 3] % 2
    made = fit_molecules(
        _nothing_near(2_000), vectors, np.zeros(2_000), kinds, np.ones(2_000), genera, genera % 5
    )
    assert made is not None
    assert not made.directions[3].any()
    assert made.predict(_nothing_near(2_000), vectors, np.zeros(2_000))[:, 3].max() < 1e-6


@given(st.lists(st.integers(1, 39), min_size=1, max_size=4))
def test_each_query_is_judged_alone(cuts: list[int]) -> None:
    made, (vectors, _) = _fitted(400), _vectors(40, 9)
    near, size = _nothing_near(40), np.linspace(-2, 2, 40)
    whole = made.predict(near, vectors, size)
    parts = np.split(np.arange(40), sorted(set(cuts)))
    alone = np.concatenate([made.predict(near[rows], vectors[rows], size[rows]) for rows in parts])
    np.testing.assert_array_equal(alone, whole)


def test_a_model_comes_back_as_it_was_and_damage_is_seen() -> None:
    made, (vectors, _) = _fitted(400), _vectors(10, 9)
    stored = made.to_dict()
    back = MoleculeModel.from_dict(copy.deepcopy(stored))
    near, size = _nothing_near(10), np.zeros(10)
    np.testing.assert_array_equal(back.predict(near, vectors, size), made.predict(near, vectors, size))
    for damage in (
        {"directions": stored["directions"][:2]},
        {"directions": [[float("nan")] * (DIM + 1)] * len(MOLECULES)},
        {"directions": stored["directions"][0]},
    ):
        with pytest.raises(ValueError, match=r"\w"):
            MoleculeModel.from_dict({**stored, **damage})
    with pytest.raises(KeyError):
        MoleculeModel.from_dict({"model": stored["model"]})
