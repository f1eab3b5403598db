"""Kinds of molecule: discriminants against scikit-learn, and what is learned from vectors and neighbors."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.kinds import HIGHEST
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


SIZES = np.log(np.array([0.1, 1.0]))


def _learned(
    near: Floats,
    vectors: NDArray[np.float32],
    kinds: NDArray[np.int64],
    genera: NDArray[np.int64],
    **how: object,
) -> MoleculeModel | None:
    """What is learned where all queries weigh alike and are of new species."""
    number = len(kinds)
    known: dict[str, Any] = {"size": np.zeros(number), "folds": genera % 5, "new": np.ones(number, bool)}
    known |= {"weights": np.ones(number), "sizes": SIZES, **how}
    return fit_molecules(near, vectors, kinds=kinds, genera=genera, **known)


@cache
def _fitted(number: int = 2_000, seed: int = 1) -> MoleculeModel:
    vectors, kinds = _vectors(number, seed)
    genera = np.random.default_rng(seed).integers(40, size=number)
    made = _learned(_nothing_near(number), vectors, kinds, genera)
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
    likely = made.predict(_nothing_near(1_000), vectors, np.zeros(1_000))[:, 1]
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    assert np.mean(likely.argmax(axis=1) == kinds) > 0.85
    # A kind that the index does not have is never likely.
    assert likely[:, MOLECULES.index("eukaryote")].max() < 1e-6


def test_probabilities_are_of_kinds_that_are_as_frequent() -> None:
    """Where kinds are told by nothing they are alike likely, whatever their shares among the references."""
    rng = np.random.default_rng(8)
    kinds = rng.choice(3, 3_000, p=[0.9, 0.07, 0.03])
    vectors = rng.normal(size=(3_000, DIM)).astype(np.float32)
    made = _learned(_nothing_near(3_000), vectors, kinds, rng.integers(60, size=3_000))
    assert made is not None
    likely = made.predict(_nothing_near(500), vectors[:500], np.zeros(500))[:, 1]
    np.testing.assert_allclose(likely.mean(axis=0), [1 / 3, 1 / 3, 1 / 3, 0, 0], atol=0.03)
    # Nothing tells a plasmid from a chromosome that is nine times as frequent.
    assert (made.limits == HIGHEST).all()


def test_known_species_have_a_model_of_their_own() -> None:
    """What tells kinds of known species does not tell those of new ones."""
    rng = np.random.default_rng(9)
    kinds, new = rng.integers(2, size=4_000), rng.random(4_000) < 0.5
    vectors = rng.normal(size=(4_000, DIM)).astype(np.float32)
    near = np.where(new, 0.5, np.where(kinds == 1, 0.05, 0.8)).astype(np.float32)
    distances, molecules = np.stack([near, np.full(4_000, 0.9)], axis=1), np.tile([1, 0], (4_000, 1))
    neighbors = neighbor_features(distances.astype(np.float32), molecules.astype(np.int8), np.zeros(4_000))
    made = _learned(neighbors, vectors, kinds, rng.integers(60, size=4_000), new=new)
    assert made is not None
    known, strange = np.moveaxis(made.predict(neighbors, vectors, np.zeros(4_000)), 1, 0)
    assert np.mean(known[~new].argmax(axis=1) == kinds[~new]) > 0.99
    np.testing.assert_allclose(strange[new][:, :2], 0.5, atol=0.2)


def test_what_holds_within_a_genus_only_is_not_trusted() -> None:
    """Genera have a direction each: those of other genera say nothing of a query's kind."""
    rng = np.random.default_rng(3)
    number, genera = 3_000, 30
    genus = rng.integers(genera, size=number)
    kind_of, centers = rng.integers(2, size=genera), rng.normal(size=(genera, 40)) * 3
    vectors = (centers[genus] + rng.normal(size=(number, 40))).astype(np.float32)
    kinds = kind_of[genus]
    made = _learned(_nothing_near(number), vectors, kinds, genus)
    assert made is not None
    new = (rng.normal(size=(500, 40)) * 3 + rng.normal(size=(500, 40))).astype(np.float32)
    sure = made.predict(_nothing_near(500), new, np.zeros(500))[:, 1].max(axis=1)
    naive = _learned(_nothing_near(number), vectors, kinds, genus, folds=np.arange(number) % 5)
    assert naive is not None
    surer = naive.predict(_nothing_near(500), new, np.zeros(500))[:, 1].max(axis=1)
    assert sure.mean() < 0.8 < surer.mean()


def test_too_few_of_a_second_kind_teach_nothing() -> None:
    vectors, _ = _vectors(200, 4)
    genera = np.arange(200) % 8
    given_ = _nothing_near(200), vectors
    for few, some in ((9, genera), (12, np.arange(200) // 100)):
        kinds = np.where(np.arange(200) < few, 1, 0)
        assert _learned(*given_, kinds, some, folds=genera % 5) is None
    kinds = np.where(np.arange(200) < 10, 1, 0)
    assert _learned(*given_, kinds, genera) is not None


def test_a_kind_of_few_genera_is_never_called() -> None:
    vectors, kinds = _vectors(2_000, 5)
    genera = np.random.default_rng(5).integers(40, size=2_000)
    genera[kinds == 3] = 40 + genera[kinds == 3] % 2
    made = _learned(_nothing_near(2_000), vectors, kinds, genera)
    assert made is not None
    assert not made.directions[3].any()
    assert made.predict(_nothing_near(2_000), vectors, np.zeros(2_000))[..., 3].max() < 1e-6


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
    damages: tuple[dict[str, Any], ...] = (
        {"directions": stored["directions"][:2]},
        {"directions": [[float("nan")] * (DIM + 1)] * len(MOLECULES)},
        {"directions": stored["directions"][0]},
        {"limits": stored["limits"][:1]},
        {"sizes": stored["sizes"][::-1]},
        {"sizes": [], "limits": []},
    )
    for damage in damages:
        with pytest.raises(ValueError, match=r"\w"):
            MoleculeModel.from_dict({**stored, **damage})
    bare = MoleculeModel.from_dict({"directions": stored["directions"], "model": stored["new"]})
    assert (bare.limit(size) == 0.5).all()
    with pytest.raises(KeyError):
        MoleculeModel.from_dict({"model": stored["new"]})
