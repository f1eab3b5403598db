"""How sure answers are: models against scikit-learn, probabilities in a world where the truth is known."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.confidence import (
    CASE_WEIGHTS,
    CASES,
    NOTHING_NEAR,
    TOO_SHORT,
    Calibration,
    Judgements,
    Lineages,
    Pool,
    Verdict,
    calibrate,
    calibration_error,
    judge,
    merge_genomes,
    verdicts,
)
from kinmer.confidence.model import Logistic, fit_logistic
from kinmer.confidence.pool import LabeledPool, vote
from kinmer.confidence.training_set import sample_weights, synonym_queries
from kinmer.index.nearest import MEAN_BONUS
from kinmer.taxonomy import RANKS
from tests.confidence_world import LENGTHS, SHARES, lineages, part_of, sample, samples

FAMILY, GENUS, SPECIES = 4, 5, 6
WORLD = lineages()


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    found = calibrate(samples(3_000, 1), WORLD)
    assert found is not None
    return found


# Models


def test_two_classes_are_as_scikit_learn_has_them() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 4)) * [1, 5, 0.1, 2] + [0, 3, 1, -2]
    truth = (features @ [1, 0.2, 3, -0.5] + rng.logistic(size=400) > 4).astype(np.int64)
    weights = rng.uniform(0.1, 3, 400)
    found = fit_logistic(features, truth, weights, number=2, ridge=2.0)
    scaled = (features - found.mean) / found.scale
    known = linear.LogisticRegression(C=2 / 2.0, tol=1e-10, max_iter=1000)
    known.fit(scaled, truth, sample_weight=weights * 400 / weights.sum())
    np.testing.assert_allclose(found.predict(features), known.predict_proba(scaled), atol=1e-4)
    # Standardised by weighted moments.
    np.testing.assert_allclose(found.mean, np.average(features, axis=0, weights=weights))


def test_three_classes_are_as_scikit_learn_has_them() -> None:
    linear = pytest.importorskip("sklearn.linear_model")
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 3, 500)
    features = rng.normal(size=(500, 3)) + np.eye(3)[truth] * 1.5
    found = fit_logistic(features, truth, np.ones(500), number=3, ridge=1.5)
    scaled = (features - found.mean) / found.scale
    known = linear.LogisticRegression(C=1 / 1.5, tol=1e-10, max_iter=1000).fit(scaled, truth)
    np.testing.assert_allclose(found.predict(features), known.predict_proba(scaled), atol=1e-4)


def test_constant_features_do_no_harm() -> None:
    truth = np.repeat([0, 1], [30, 70])
    found = fit_logistic(np.full((100, 2), 7.0), truth, np.ones(100), number=2)
    np.testing.assert_allclose(found.predict(np.full((1, 2), 7.0)), [[0.3, 0.7]], atol=1e-3)


# Votes

_pools = st.integers(0, 2**32 - 1)


def _some_pool(seed: int, queries: int = 5, width: int = 12) -> tuple[Pool, Lineages]:
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, width))
    codes = rng.integers(-1, 3, (6, 7)).astype(np.int32)
    names = tuple(tuple("abc") for _ in RANKS)
    far = np.sort(rng.choice([0.0, 0.01, 0.015, 0.02, 0.05, 0.3, np.inf], (queries, width)), axis=1)
    genomes = np.where(np.isfinite(far), rng.integers(-1, 6, far.shape), -1)
    kinds, molecules = rng.integers(0, 3, far.shape), rng.integers(-1, 3, far.shape)
    lengths = rng.choice([0, 300, 5_000, 10**6], queries)
    pool = Pool(far.astype(np.float32), genomes, kinds.astype(np.int8), molecules.astype(np.int8), lengths)
    return pool, Lineages(codes, names)


def _merged(pool: Pool, row: int) -> list[tuple[float, int]]:
    best: dict[int, float] = {}
    for far, genome, kind in zip(pool.distances[row], pool.genomes[row], pool.kinds[row], strict=True):
        if genome >= 0 and np.isfinite(far):
            near = max(float(far) - MEAN_BONUS, 0.0) if kind == 2 else float(far)
            best[int(genome)] = min(near, best.get(int(genome), np.inf))
    return sorted((far, genome) for genome, far in best.items())


@given(_pools)
@settings(max_examples=60, deadline=None)
def test_genomes_are_merged_as_by_hand(seed: int) -> None:
    pool, _ = _some_pool(seed)
    far, genomes = merge_genomes(pool)
    for row in range(len(pool)):
        there = genomes[row] >= 0
        assert np.isinf(far[row, ~there]).all()
        assert list(zip(far[row, there].tolist(), genomes[row, there].tolist(), strict=True)) == _merged(
            pool, row
        )


@given(_pools)
@example(7545)
@settings(max_examples=60, deadline=None)
def test_votes_are_as_counted_by_hand(seed: int) -> None:
    pool, world = _some_pool(seed)
    found = vote(pool, world)
    for row in range(len(pool)):
        voters = _merged(pool, row)[:10]
        weights = [float(np.exp(-(far - voters[0][0]) / 0.02)) for far, _ in voters]
        agreed = set(range(len(voters)))
        for rank in range(7):
            told = {at: int(world.codes[voters[at][1], rank]) for at in agreed}
            votes: dict[int, float] = {}
            for at in sorted(agreed):
                votes[told[at]] = votes.get(told[at], 0.0) + weights[at]
            nameless = votes.pop(-1, 0.0)
            if votes and nameless == pytest.approx(0.5 * sum(weights)):
                # Half and half, but for how sums are rounded.
                break
            if not votes or nameless >= 0.5 * sum(weights):
                assert found.names[row, rank] == -1
                continue
            name, share = int(found.names[row, rank]), max(votes.values())
            assert votes[name] == pytest.approx(share)
            assert found.share[row, rank] == pytest.approx(share / sum(weights))
            own = [far for far, one in _merged(pool, row) if world.codes[one, rank] == name]
            assert found.own[row, rank] == own[0]
            agreed = {at for at in agreed if told[at] == name}


def test_a_mean_counts_for_its_name_and_the_farthest_for_one_that_is_not_there() -> None:
    codes = np.zeros((2, 7), np.int32)
    codes[1, SPECIES] = 1
    world = Lineages(codes, (("a", "b"),) * 7)
    kinds = np.array([[0, 2, 2, 0]], np.int8)
    far = np.array([[0.1, 0.25, 0.375, 0.5]], np.float32)
    pool = Pool(far, np.array([[0, 0, 1, 1]]), kinds, kinds * 0, np.array([1000]))
    found = vote(pool, world)
    assert (found.names[0, SPECIES], found.own_mean[0, SPECIES], found.other_mean[0, SPECIES]) == (
        0,
        0.25,
        0.375,
    )
    # Of the genus there is no other one.
    assert (found.own_mean[0, GENUS], found.other_mean[0, GENUS], found.other[0, GENUS]) == (0.25, 0.5, 0.5)


# Weights and twins


def test_cases_weigh_as_stated_in_cells_and_in_viruses_at_every_length() -> None:
    rng = np.random.default_rng(0)
    cases, bins = rng.integers(0, len(CASES), 8_000), rng.integers(0, 3, 8_000)
    groups = rng.integers(0, 9, 8_000)
    # Of the viruses' three groups two are species of no genus.
    virus, named = groups < 3, (groups == 0) | (groups >= 3)
    found = sample_weights(cases, bins, groups, named, virus, CASE_WEIGHTS, CASES[1:])
    for realm, genera in ((virus, 1), (~virus, 6)):
        for at, case in enumerate(CASES):
            for place in range(3):
                own = realm & (cases == at) & (bins == place)
                assert found[own].sum() == pytest.approx(genera * CASE_WEIGHTS[case] / 3)
                each = [found[own & (groups == one)].sum() for one in np.unique(groups[own])]
                np.testing.assert_allclose(each, each[0])


def test_the_share_of_a_case_that_cannot_be_made_stays_on_its_side() -> None:
    cases = np.array([0, 0, 2, 2])
    nothing, cells = np.zeros(4, np.int64), np.zeros(4, bool)
    at_species = sample_weights(cases, nothing, nothing, ~cells, cells, CASE_WEIGHTS, CASES[1:])
    np.testing.assert_allclose(at_species, [0.25, 0.25, 0.25, 0.25])
    # A genus is as present in new species as in known ones.
    at_genus = sample_weights(cases, nothing, nothing, ~cells, cells, CASE_WEIGHTS, CASES[2:])
    np.testing.assert_allclose(at_genus, [0.375, 0.375, 0.125, 0.125])


def test_species_that_are_as_near_to_another_as_strains_are_new_in_name_only() -> None:
    rng = np.random.default_rng(0)
    species, bins = np.repeat(np.arange(6), 40), np.tile(np.arange(2), 120)
    cases = np.tile(np.repeat([0, 1], 20), 6)
    usual = np.where(bins == 0, 0.2, 0.05)
    apart = np.where((cases == 1) & (species != 4), 1.8, 1.0)
    far = usual * apart * np.exp(rng.normal(size=240) * 0.2)
    found = synonym_queries(cases, bins, species, species == 5, far)
    assert set(species[found].tolist()) == {4}
    assert (found == ((species == 4) & (cases == 1))).all()


# Probabilities


@pytest.mark.parametrize("rank", [FAMILY, GENUS, SPECIES])
def test_probabilities_are_what_is_right(calibration: Calibration, rank: int) -> None:
    likely, right = [], []
    for one in samples(4_000, 100):
        found = judge(one.pool, WORLD, calibration)
        likely.append(found.probability[:, rank])
        right.append(found.names[:, rank] == one.truth[:, rank])
    p, y = np.concatenate(likely), np.concatenate(right)
    assert calibration_error(p, y, np.ones(len(p))) < 0.05
    # And they tell right from wrong: always to say the mean would lose more.
    assert np.mean((p - y) ** 2) < 0.7 * np.mean((y.mean() - y) ** 2)


def test_absent_species_get_no_name_and_present_ones_do(calibration: Calibration) -> None:
    named = {}
    for at, case in enumerate(SHARES):
        one = sample(case, 800, 200 + at)
        told = verdicts(judge(one.pool, WORLD, calibration), WORLD)
        named[case] = np.mean([verdict.rank == "species" for verdict in told])
    assert named["known"] > 0.7
    assert named["new species"] < 0.15
    assert named["new genus"] < 0.05
    assert calibration.report["named"]["species"]["absent"] < [0.1] * len(LENGTHS)


def test_new_species_and_genera_are_said_to_be_new(calibration: Calibration) -> None:
    one = sample("new genus", 600, 300)
    found = judge(one.pool, WORLD, calibration)
    assert np.mean(found.absent[:, GENUS]) > 0.6
    assert np.mean(found.absent[:, SPECIES]) > 0.8
    told = verdicts(found, WORLD)
    right = [
        verdict.text == f"new genus of family f{truth}"
        for verdict, truth in zip(told, one.truth[:, FAMILY].tolist(), strict=True)
    ]
    # A family is named only where at most a tenth of new families get a wrong name.
    assert np.mean(right) > 0.45
    novel = sample("new family", 600, 303)
    named = verdicts(judge(novel.pool, WORLD, calibration), WORLD)
    assert np.mean([verdict.rank not in (None, "order") for verdict in named]) < 0.1
    species = judge(sample("new species", 600, 302).pool, WORLD, calibration)
    assert np.mean(species.absent[:, GENUS]) < 0.3 < 0.6 < np.mean(species.absent[:, SPECIES])
    known = judge(sample("known", 600, 301).pool, WORLD, calibration)
    assert np.mean(known.absent[:, SPECIES]) < 0.4


def test_no_name_is_likelier_than_the_one_above(calibration: Calibration) -> None:
    for one in samples(500, 400):
        likely = judge(one.pool, WORLD, calibration).probability
        assert (np.diff(likely, axis=1) <= 0).all()


def test_lengths_between_and_beyond_those_learnt_from(calibration: Calibration) -> None:
    pool = sample("known", 50, 5).pool

    def of(length: int) -> Judgements:
        there = Pool(pool.distances, pool.genomes, pool.kinds, pool.molecules, np.full(50, length))
        return judge(there, WORLD, calibration)

    np.testing.assert_array_equal(of(10**7).probability, of(50_000).probability)
    np.testing.assert_array_equal(of(10**7).threshold, of(50_000).threshold)
    for short in (1, 100, 1_999):
        found = of(short)
        assert found.short.all()
        # Names as without a calibration, and none at all below 100 bases.
        there = Pool(pool.distances, pool.genomes, pool.kinds, pool.molecules, np.full(50, short))
        np.testing.assert_array_equal(found.names, judge(there, WORLD, None).names)
        assert (found.names == -1).all() == (short < 100)
        for told in (found.probability, found.absent, found.molecule):
            assert np.isnan(told).all()
        assert set(verdicts(found, WORLD, 0.01)) == {Verdict(TOO_SHORT, None, None)}
    assert not of(2_000).short.any()
    # A length that is not known is not too short.
    assert not of(0).short.any()
    between, ends = of(20_000).threshold, (of(10_000).threshold, of(50_000).threshold)
    assert (between >= np.minimum(*ends)).all()
    assert (between <= np.maximum(*ends)).all()


def test_what_is_farther_than_all_that_was_learnt_from_is_near_nothing(calibration: Calibration) -> None:
    pool = sample("new family", 30, 6).pool
    apart = pool.distances - pool.distances[:, :1]
    far = Pool((1.7 + apart / 10).astype(np.float32), pool.genomes, pool.kinds, pool.molecules, pool.lengths)
    found = judge(far, WORLD, calibration)
    assert (found.probability == 0).all()
    assert {one.text for one in verdicts(found, WORLD)} == {NOTHING_NEAR}
    empty = Pool(
        np.full_like(far.distances, np.inf), far.genomes * 0 - 1, far.kinds, far.molecules, far.lengths
    )
    assert {one.text for one in verdicts(judge(empty, WORLD, calibration), WORLD)} == {NOTHING_NEAR}


@given(st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=25, deadline=None)
def test_each_query_is_judged_alone(calibration: Calibration, cuts: list[int]) -> None:
    pool = sample("new species", 200, 7).pool
    whole = judge(pool, WORLD, calibration)
    edges = [0, *sorted(cuts), 200]
    parts = [
        judge(part_of(pool, slice(start, stop)), WORLD, calibration)
        for start, stop in itertools.pairwise(edges)
    ]
    for name in ("names", "share", "probability", "absent", "threshold", "molecule"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(one, name) for one in parts]), getattr(whole, name)
        )


@given(_pools)
@settings(max_examples=60, deadline=None)
def test_any_pool_is_judged(calibration: Calibration, seed: int) -> None:
    pool, world = _some_pool(seed)
    found = judge(pool, world, calibration)
    told = np.isfinite(found.probability)
    assert (told == ((found.names >= 0) & ~found.short[:, None])).all()
    assert ((found.probability[told] >= 0) & (found.probability[told] <= 1)).all()
    for row in range(len(pool)):
        assert (np.diff(found.probability[row, told[row]]) <= 0).all()
    for verdict, row in zip(verdicts(found, world), range(len(pool)), strict=True):
        if verdict.rank is not None:
            assert found.probability[row, RANKS.index(verdict.rank)] >= 0.5
    # Without a calibration nothing is probable, and a name has half of the votes.
    bare = judge(pool, world, None)
    assert np.isnan(bare.probability).all()
    assert (bare.share[bare.names >= 0] >= 0.5).all()


def test_the_same_samples_give_the_same_calibration(calibration: Calibration) -> None:
    again = calibrate(samples(3_000, 1), WORLD)
    assert again is not None
    assert json.dumps(again.to_dict()) == json.dumps(calibration.to_dict())


# Molecules


def test_molecules_are_told_by_what_is_near() -> None:
    rng = np.random.default_rng(0)

    def made(seed: int) -> LabeledPool:
        one = sample("known", 900, seed)
        own = rng.choice(3, 900, p=[0.6, 0.2, 0.2]).astype(np.int8)
        rows = np.where(rng.random(one.pool.genomes.shape) < 0.7, own[:, None], rng.integers(0, 3, (900, 1)))
        pool = Pool(
            one.pool.distances, one.pool.genomes, one.pool.kinds, rows.astype(np.int8), one.pool.lengths
        )
        return LabeledPool("known", pool, one.truth, own)

    calibration = calibrate([made(1), *samples(300, 50)[1:]], WORLD)
    assert calibration is not None
    test = made(2)
    found = judge(test.pool, WORLD, calibration).molecule
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.mean(found.argmax(axis=1) == test.molecule) > 0.9


# What cannot be learnt from


def test_too_little_to_learn_from_is_no_calibration() -> None:
    assert calibrate([], WORLD) is None
    assert calibrate([sample("known", 40, 0)], WORLD) is None
    one = sample("known", 200, 0)
    unnamed = np.full_like(one.truth, -1)
    bare = Lineages(np.full_like(WORLD.codes, -1), ((),) * 7)
    assert calibrate([LabeledPool("known", one.pool, unnamed, one.molecule)], bare) is None


def test_few_genomes_whose_species_are_all_known_reach_no_farther_than_strains() -> None:
    codes = np.zeros((3, 7), np.int32)
    few = Lineages(codes, tuple((rank,) for rank in RANKS))
    rng = np.random.default_rng(0)

    def near(low: float, high: float) -> Pool:
        far = np.sort(rng.uniform(low, high, (80, 3)), axis=1).astype(np.float32)
        kinds = np.zeros((80, 3), np.int8)
        return Pool(far, np.tile(np.arange(3), (80, 1)), kinds, kinds, np.full(80, 5_000))

    known = LabeledPool("known", near(0.02, 0.06), np.zeros((80, 7), np.int32), np.zeros(80, np.int8))
    calibration = calibrate([known], few)
    assert calibration is not None
    told = verdicts(judge(near(0.02, 0.05), few, calibration), few)
    assert {one.text for one in told} == {"species species"}
    assert {one.text for one in verdicts(judge(near(0.1, 0.2), few, calibration), few)} == {NOTHING_NEAR}


def test_one_species_in_every_genus() -> None:
    keep = WORLD.codes[:, SPECIES] % 3 == 0
    world = Lineages(WORLD.codes[keep], WORLD.names)
    cases = ("known", "new genus", "new family")
    calibration = calibrate([sample(case, 600, at, world) for at, case in enumerate(cases)], world)
    assert calibration is not None
    for case, least, most in (("known", 0.7, 1.0), ("new genus", 0.0, 0.15)):
        one = sample(case, 400, 77, world)
        told = verdicts(judge(one.pool, world, calibration), world)
        assert least <= np.mean([verdict.rank == "species" for verdict in told]) <= most


def test_a_rank_that_nothing_could_be_learnt_of_is_as_likely_as_the_next_below(
    calibration: Calibration,
) -> None:
    told = calibration.to_dict()
    told["names"][3] = None
    lacking = Calibration.from_dict(told)
    pool = sample("known", 100, 8).pool
    found = judge(pool, WORLD, lacking).probability
    np.testing.assert_array_equal(found[:, 3], found[:, 4])
    whole = judge(pool, WORLD, calibration).probability
    np.testing.assert_allclose(found[:, [0, 1, 2]], whole[:, [0, 1, 2]])
    # Nothing is below species: there are no names of them.
    told["names"][6] = None
    assert np.isnan(judge(pool, WORLD, Calibration.from_dict(told)).probability[:, SPECIES]).all()


# Verdicts


PASSED = [0, 0, 0, 0, 0, -1, 0]


def _judged(names: list[int], likely: list[float], absent: list[float]) -> Judgements:
    def line(values: list[float]) -> NDArray[np.float64]:
        return np.array([values], np.float64)

    even = line([0.5] * 7)
    return Judgements(
        np.array([names], np.int32),
        even,
        line(likely),
        line(absent),
        even,
        np.full((1, 3), np.nan),
        np.zeros(1, bool),
    )


@pytest.mark.parametrize(
    ("names", "likely", "absent", "least", "text", "rank"),
    [
        ([0] * 7, [0.9] * 7, [0.1] * 7, None, "species s0", "species"),
        ([0] * 7, [0.9] * 6 + [0.4], [0.1] * 6 + [0.6], None, "new species of genus g0", "genus"),
        ([0] * 7, [0.9] * 6 + [0.4], [0.1] * 6 + [0.3], None, "genus g0, species unsure", "genus"),
        ([0] * 7, [0.9] * 5 + [0.4, 0.2], [0] * 5 + [0.7, 0.9], None, "new genus of family f0", "family"),
        ([0] * 7, [0.9] * 5 + [0.4, 0.2], [np.nan] * 7, None, "family f0, genus unsure", "family"),
        ([0] * 7, [0.4] * 7, [0.9] * 7, None, NOTHING_NEAR, None),
        ([-1] * 7, [np.nan] * 7, [np.nan] * 7, None, NOTHING_NEAR, None),
        ([0] * 7, [0.9] * 6 + [0.4], [0.1] * 7, 0.4, "species s0", "species"),
        ([0] * 7, [0.9] * 7, [0.1] * 7, 0.95, NOTHING_NEAR, None),
        # A rank without names is passed over.
        (PASSED, [0.9] * 5 + [np.nan, 0.2], [0] * 6 + [0.8], None, "new species of family f0", "family"),
    ],
)  # fmt: skip
def test_verdicts_in_words(
    names: list[int],
    likely: list[float],
    absent: list[float],
    least: float | None,
    text: str,
    rank: str | None,
) -> None:
    (found,) = verdicts(_judged(names, likely, absent), WORLD, least)
    assert (found.text, found.rank) == (text, rank)
    assert found.name == (None if rank is None else WORLD.names[RANKS.index(rank)][0])


# Kept


def test_a_calibration_comes_back_as_it_was(calibration: Calibration) -> None:
    told = json.loads(json.dumps(calibration.to_dict()))
    again = Calibration.from_dict(told)
    assert again.to_dict() == calibration.to_dict()
    pool = sample("known", 100, 9).pool
    np.testing.assert_array_equal(
        judge(pool, WORLD, again).probability, judge(pool, WORLD, calibration).probability
    )
    report = calibration.report
    assert report["lengths"] == list(LENGTHS)
    assert {case: sum(numbers) for case, numbers in report["queries"].items()} == {
        case: round(3_000 * SHARES.get(case, 0)) for case in CASES
    }
    assert report["twins"] == []
    assert report["error"]["species"] < 0.05


def _cut(told: dict[str, Any]) -> None:
    told["names"].pop()


def _unlike(told: dict[str, Any]) -> None:
    told["names"][6]["weights"][0].append(1.0)


def _numberless(told: dict[str, Any]) -> None:
    told["names"][6]["mean"][0] = float("nan")


def _flat(told: dict[str, Any]) -> None:
    told["names"][6]["scale"][0] = 0.0


def _other_form(told: dict[str, Any]) -> None:
    told["form"] = 1


def _disordered(told: dict[str, Any]) -> None:
    told["lengths"] = told["lengths"][::-1]


def _boundless(told: dict[str, Any]) -> None:
    told["reaches"][0] = float("inf")


def _short(told: dict[str, Any]) -> None:
    told["thresholds"][6].pop()


@pytest.mark.parametrize(
    "damage", [_cut, _unlike, _numberless, _flat, _other_form, _disordered, _boundless, _short]
)
def test_damage_is_seen(calibration: Calibration, damage: Callable[[dict[str, Any]], None]) -> None:
    told = copy.deepcopy(calibration.to_dict())
    damage(told)
    with pytest.raises(ValueError, match=r"\w"):
        Calibration.from_dict(told)


def test_missing_parts_are_seen(calibration: Calibration) -> None:
    for name in calibration.to_dict():
        told = calibration.to_dict()
        del told[name]
        with pytest.raises(ValueError if name == "form" else KeyError, match=r"\w"):
            Calibration.from_dict(told)
    with pytest.raises(ValueError, match="version"):
        Calibration.from_dict([])  # type: ignore[arg-type]
    with pytest.raises((ValueError, KeyError, TypeError)):
        Logistic.from_dict({"mean": [0.0], "scale": [1.0], "weights": "none"})
