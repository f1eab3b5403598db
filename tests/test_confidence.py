"""How sure answers are: models against scikit-learn, probabilities in a world where the truth is known."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.confidence import (
    CASES,
    CLASSES,
    HIDDEN,
    NOTHING_NEAR,
    TOO_SHORT,
    UNSURE,
    WHY,
    Calibration,
    Candidates,
    Judgements,
    KindShares,
    LabeledSample,
    Lineages,
    Scores,
    Verdict,
    calibrate,
    calibration_error,
    discovery_limits,
    even_kinds,
    judge,
    mixture,
    verdicts,
)
from kinmer.confidence.features import Spread, vote
from kinmer.confidence.learn import shares_of
from kinmer.confidence.model import OlderFormError
from kinmer.confidence.training_set import (
    homologous_share,
    sample_weights,
    synonym_queries,
    training_set_of,
)
from kinmer.confidence.verdict import given_names
from kinmer.kinds import USUAL_KINDS
from kinmer.logistic import Logistic, best_power, fit_logistic
from kinmer.molecules import MOLECULES
from kinmer.taxonomy import RANKS
from tests.confidence_world import (
    LENGTHS,
    SHARES,
    candidates,
    judged,
    lineages,
    means_of,
    part_of,
    pool_of,
    sample,
    samples,
    scored,
)

FAMILY, GENUS, SPECIES = 4, 5, 6
Floats = NDArray[np.float64]
WORLD = lineages()
MEANS = means_of(len(WORLD.codes))
WEIGHTS = shares_of(0.75)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    found = calibrate(samples(3_000, 1), WORLD, MEANS)
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


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_probabilities_that_are_too_sure_or_not_sure_enough_are_mended(power: float) -> None:
    rng = np.random.default_rng(4)
    true = rng.dirichlet(np.ones(3), 20_000)
    classes = (true.cumsum(axis=1) < rng.random(len(true))[:, None]).sum(axis=1)
    said = true ** (1 / power)
    said /= said.sum(axis=1, keepdims=True)
    even = np.ones(len(classes))
    assert best_power(said, classes, even) == pytest.approx(power, rel=0.1)
    # Of a model with these odds the mended one has the true ones.
    model = Logistic(np.zeros(1), np.ones(1), np.array([[1.0, 0.2], [-1.0, 0.1], [0.3, 0.0]]))
    values = rng.normal(size=(5, 1))
    once = model.predict(values) ** power
    mended = model.sharpened(power).predict(values)
    np.testing.assert_allclose(mended, once / once.sum(axis=1, keepdims=True))
    assert best_power(said[:0], classes[:0], even[:0]) == 1


def test_constant_features_do_no_harm() -> None:
    truth = np.repeat([0, 1], [30, 70])
    found = fit_logistic(np.full((100, 2), 7.0), truth, np.ones(100), number=2)
    np.testing.assert_allclose(found.predict(np.full((1, 2), 7.0)), [[0.3, 0.7]], atol=1e-3)


# Votes

_pools = st.integers(0, 2**32 - 1)


def _some(seed: int, queries: int = 5, width: int = 12) -> tuple[LabeledSample, Lineages]:
    """Queries of any candidates and lineages; what does not matter is nothing."""
    rng = np.random.default_rng(seed)
    width = int(rng.integers(1, width))
    codes = rng.integers(-1, 3, (12, 7)).astype(np.int32)
    world = Lineages(codes, tuple(tuple("abc") for _ in RANKS))
    far = rng.choice([0.0, 0.01, 0.015, 0.02, 0.05, 0.3, np.inf], (queries, width))
    lengths = rng.choice([0, 300, 5_000, 10**6], queries)
    nothing = np.zeros(queries, np.int64)
    views = {"composition": candidates(far, lengths)}
    one = LabeledSample("strain", pool_of(far, lengths), views, codes[:queries], nothing, nothing, nothing)  # type: ignore[arg-type]
    return one, world


def _in_order(found: Candidates, row: int) -> list[tuple[float, int]]:
    pairs = zip(found.score[row].tolist(), found.genomes[row].tolist(), strict=True)
    return [(far, genome) for far, genome in pairs if genome >= 0]


@given(_pools)
@example(7545)
@settings(max_examples=60, deadline=None)
def test_votes_are_as_counted_by_hand(seed: int) -> None:
    one, world = _some(seed)
    candidates = one.views["composition"]
    found = vote(candidates, world)
    for row in range(len(one)):
        every = _in_order(candidates, row)
        voters = every[:10]
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
            sides = found.sides(rank)
            own = [far for far, genome in every if world.codes[genome, rank] == name]
            others = [
                far
                for far, genome in every
                if world.codes[genome, rank] != name and (world.codes[genome, rank] >= 0 or rank == SPECIES)
            ]
            # Where there is no other name, as far as the farthest.
            farthest = max(far for far, _ in every) or 2.0
            assert sides.near[row] == min(own)
            assert sides.other_near[row] == min(others, default=farthest)
            agreed = {at for at in agreed if told[at] == name}


def _any_candidates(seed: int) -> tuple[Candidates, Lineages]:
    """Candidates whose distances, means and shared hashes say different things."""
    rng = np.random.default_rng(seed)
    shape = (5, int(rng.integers(1, 9)))
    world = Lineages(rng.integers(-1, 3, (12, 7)).astype(np.int32), tuple(tuple("abc") for _ in RANKS))
    there = np.arange(shape[1]) < rng.integers(0, shape[1] + 1, (5, 1))
    genomes = np.where(there, np.array([rng.permutation(12)[: shape[1]] for _ in range(5)]), -1)
    near, mean, score = (np.where(there, rng.random(shape), np.inf) for _ in range(3))
    shared = np.where(there, rng.integers(0, 60, shape), 0)
    hashes, lengths = rng.integers(60, 99, 5), np.full(5, 5_000)
    found = Candidates(genomes, genomes, genomes, near, mean, shared, np.sort(score), hashes, lengths)
    return found, world


@given(_pools)
@settings(max_examples=60, deadline=None)
def test_sides_and_what_a_name_rests_on_are_as_by_brute_force(seed: int) -> None:
    found, world = _any_candidates(seed)
    votes = vote(found, world)
    for row in range(len(found)):
        there = [at for at, genome in enumerate(found.genomes[row].tolist()) if genome >= 0]
        for rank in range(7):
            sides, name = votes.sides(rank), int(votes.names[row, rank])
            codes = {at: int(world.codes[found.genomes[row, at], rank]) for at in there}
            # Without a name the best candidate stands for it.
            own = [at for at in there if codes[at] == name >= 0] or there[:1]
            others = [at for at in there if at not in own and (codes[at] >= 0 or rank == SPECIES)]
            assert np.flatnonzero(sides.others[row]).tolist() == others
            for values, mine, theirs in (
                (found.near, sides.near, sides.other_near),
                (found.mean, sides.mean, sides.other_mean),
            ):
                farthest = max((values[row, at] for at in there), default=2.0)
                assert mine[row] == min((values[row, at] for at in own), default=farthest)
                assert theirs[row] == min((values[row, at] for at in others), default=farthest)
            for side, count, share in (
                (own, sides.shared, sides.contained),
                (others, sides.other_shared, sides.other_contained),
            ):
                most = max((int(found.shared[row, at]) for at in side), default=0)
                assert count[row] == most
                assert share[row] == pytest.approx(most / found.hashes[row])
        if there:
            nearest = min(there, key=lambda at: 0.3 * found.near[row, at] + 0.7 * found.mean[row, at])
            first, second = (world.codes[found.genomes[row, at]].tolist() for at in (there[0], nearest))
            alike = found.shared[row, there[0]] / found.hashes[row] >= 0.2
            assert WHY[votes.why[row]] == (
                "composition" if not alike else "both" if first == second else "homology"
            )


def test_a_spread_says_by_how_many_deviations_of_its_own_a_genome_is_off() -> None:
    known = {7: (np.array([0.5, 0.0]), np.array([2.0, 1.0]))}
    spread = Spread(np.log([1e3, 1e4]), np.array([[1.0, 0], [3, 0]]), np.array([[0.5, 1], [1.0, 1]]), known)
    values, lengths = np.array([[2.0, 1.0], [2.0, 1.0], [5.0, 1.0]]), np.array([1_000, 1_000, 10_000])
    found = spread.deviations(values, lengths, np.array([7, 8, 7]))
    np.testing.assert_allclose(found, np.array([[0.75, 1.0], [2.0, 1.0], [0.75, 1.0]]))
    given = (
        np.array([[0.0, 0], [np.nan] * 2, [np.nan] * 2]),
        np.array([[1.0, 1], [np.nan] * 2, [np.nan] * 2]),
    )
    np.testing.assert_allclose(spread.deviations(values, lengths, np.array([7, 8, 7]), given)[0], [2, 1])
    # Between lengths by their logs, beyond them as at the nearest; one that is not known is the longest.
    others = np.array([3_162, 1, 10**6, 0])
    between = spread.deviations(np.full((4, 2), 5.0), others, np.full(4, 8))
    np.testing.assert_allclose(between, np.array([[4.0, 5], [8, 5], [2, 5], [2, 5]]), atol=1e-3)
    again = Spread.from_dict(json.loads(json.dumps(spread.to_dict())))
    np.testing.assert_array_equal(again.deviations(values, lengths, np.array([7, 8, 7])), found)


# Weights and twins


def test_cases_weigh_as_stated_in_cells_and_in_viruses_at_every_length() -> None:
    rng = np.random.default_rng(0)
    cases, bins = rng.integers(0, len(CASES), 8_000), rng.integers(0, 3, 8_000)
    groups = rng.integers(0, 9, 8_000)
    # Of the viruses' three groups two are species of no genus.
    virus, named = groups < 3, (groups == 0) | (groups >= 3)
    found = sample_weights(cases, bins, groups, named, virus, WEIGHTS, CASES[2:])
    for realm, genera in ((virus, 1), (~virus, 6)):
        for at, case in enumerate(CASES):
            for place in range(3):
                own = realm & (cases == at) & (bins == place)
                assert found[own].sum() == pytest.approx(genera * WEIGHTS[case] / 3)
                each = [found[own & (groups == one)].sum() for one in np.unique(groups[own])]
                np.testing.assert_allclose(each, each[0])


def test_the_share_of_a_case_that_cannot_be_made_stays_on_its_side() -> None:
    cases = np.array([1, 1, 3, 3])
    nothing, cells = np.zeros(4, np.int64), np.zeros(4, bool)
    at_species = sample_weights(cases, nothing, nothing, ~cells, cells, WEIGHTS, CASES[2:])
    np.testing.assert_allclose(at_species, [0.25, 0.25, 0.25, 0.25])
    # A genus is as present in new species as in known ones.
    at_genus = sample_weights(cases, nothing, nothing, ~cells, cells, WEIGHTS, CASES[3:])
    np.testing.assert_allclose(at_genus, [0.375, 0.375, 0.125, 0.125])


def test_species_that_are_as_near_to_another_as_strains_are_new_in_name_only() -> None:
    rng = np.random.default_rng(0)
    species, bins = np.repeat(np.arange(6), 40), np.tile(np.arange(2), 120)
    cases = np.tile(np.repeat([1, 2], 20), 6)
    usual = np.where(bins == 0, 0.2, 0.05)
    apart = np.where((cases == 2) & (species != 4), 1.8, 1.0)
    far = usual * apart * np.exp(rng.normal(size=240) * 0.2)
    found = synonym_queries(cases, bins, species, species == 5, far)
    assert set(species[found].tolist()) == {4}
    assert (found == ((species == 4) & (cases == 2))).all()


# Probabilities


@pytest.mark.parametrize("rank", [FAMILY, GENUS, SPECIES])
def test_probabilities_are_what_is_right(calibration: Calibration, rank: int) -> None:
    likely, right = [], []
    for one in samples(4_000, 100):
        found = judged(one, WORLD, calibration)
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
        told = verdicts(judged(one, WORLD, calibration), WORLD)
        named[case] = np.mean([verdict.rank == "species" for verdict in told])
    assert named["strain"] > 0.7
    assert named["new species"] < 0.15
    assert named["new genus"] < 0.05
    absent = calibration.report["named"]["species"]["absent"]
    assert len(absent) == len(LENGTHS)
    assert max(absent) <= 0.1


def test_new_species_and_genera_are_said_to_be_new(calibration: Calibration) -> None:
    one = sample("new genus", 600, 300)
    found = judged(one, WORLD, calibration)
    assert np.mean(found.absent[:, GENUS]) > 0.6
    assert np.mean(found.absent[:, SPECIES]) > 0.8
    told = verdicts(found, WORLD)
    right = [
        verdict.text == f"new genus of family f{truth}"
        for verdict, truth in zip(told, one.truth[:, FAMILY].tolist(), strict=True)
    ]
    # A family is named only where at most a tenth of new families get a wrong name.
    assert np.mean(right) > 0.45
    novel = sample("new family", 3_000, 303)
    named = verdicts(judged(novel, WORLD, calibration), WORLD)
    assert np.mean([verdict.rank not in (None, "order") for verdict in named]) < 0.1
    species = judged(sample("new species", 600, 302), WORLD, calibration)
    assert np.mean(species.absent[:, GENUS]) < 0.3 < 0.6 < np.mean(species.absent[:, SPECIES])
    known = judged(sample("strain", 600, 301), WORLD, calibration)
    assert np.mean(known.absent[:, SPECIES]) < 0.4


def test_no_name_is_likelier_than_the_one_above(calibration: Calibration) -> None:
    for one in samples(500, 400):
        found = judged(one, WORLD, calibration)
        assert (np.diff(found.probability, axis=1) <= 0).all()
        # A name is right only where it is there, and what is not there is not there further down either.
        assert (found.probability <= 1 - found.absent + 2e-6).all()
        assert (np.diff(found.absent, axis=1) >= 0).all()
        assert ((found.absent >= 0) & (found.absent <= 1)).all()


def test_lengths_between_and_beyond_those_learnt_from(calibration: Calibration) -> None:
    one = sample("strain", 50, 5)
    far = one.views["composition"].near
    genomes = one.views["composition"].genomes

    def there(length: int) -> LabeledSample:
        lengths = np.full(50, length)
        places = np.full((50, len(WORLD.codes)), np.inf)
        rows, columns = np.nonzero(genomes >= 0)
        places[rows, genomes[rows, columns]] = far[rows, columns]
        views = {"composition": candidates(places, lengths)}
        arrays = (one.truth, one.molecule, one.fragment, one.genome)
        return LabeledSample("strain", pool_of(places, lengths), views, *arrays)

    def of(length: int) -> Judgements:
        return judged(there(length), WORLD, calibration)

    # A length that is not known counts as the longest, but nothing is too far for it that is near for any.
    near = scored(there(50_000), WORLD, calibration).near
    assert 0 < near.sum() < 50
    for length, rows in ((10**7, slice(None)), (0, near)):
        np.testing.assert_array_equal(of(length).probability[rows], of(50_000).probability[rows])
        np.testing.assert_array_equal(of(length).threshold, of(50_000).threshold)
    for short in (1, 100, 1_999):
        found = of(short)
        assert found.short.all()
        # Names as without a calibration, and none at all below 100 bases.
        np.testing.assert_array_equal(found.names, judged(there(short), WORLD, None).names)
        assert (found.names == -1).all() == (short < 100)
        for told in (found.probability, found.standard, found.absent, found.molecule):
            assert np.isnan(told).all()
        assert set(verdicts(found, WORLD, 0.01)) == {Verdict(TOO_SHORT, None, None)}
    assert not of(2_000).short.any()
    # A length that is not known is not too short.
    assert not of(0).short.any()
    between, ends = of(20_000).threshold, (of(10_000).threshold, of(50_000).threshold)
    assert (between >= np.minimum(*ends)).all()
    assert (between <= np.maximum(*ends)).all()


def test_what_is_farther_than_all_that_was_learnt_from_is_near_nothing(calibration: Calibration) -> None:
    rng = np.random.default_rng(6)
    lengths = np.full(30, 10_000)

    def at(places: NDArray[np.float64]) -> Judgements:
        nothing = np.zeros(30, np.int64)
        views = {"composition": candidates(places, lengths)}
        truth = np.zeros((30, 7), np.int32)
        one = LabeledSample("strain", pool_of(places, lengths), views, truth, nothing, nothing, nothing)  # type: ignore[arg-type]
        return judged(one, WORLD, calibration)

    found = at(rng.uniform(1.7, 1.8, (30, len(WORLD.codes))))
    assert (found.probability == 0).all()
    assert {one.text for one in verdicts(found, WORLD)} == {NOTHING_NEAR}
    empty = at(np.full((30, len(WORLD.codes)), np.inf))
    assert {one.text for one in verdicts(empty, WORLD)} == {NOTHING_NEAR}


@given(st.lists(st.integers(0, 200), max_size=6))
@settings(max_examples=25, deadline=None)
def test_each_query_is_judged_alone(calibration: Calibration, cuts: list[int]) -> None:
    one = sample("new species", 200, 7)
    whole = judged(one, WORLD, calibration)
    edges = [0, *sorted(cuts), 200]
    parts = [
        judged(part_of(one, slice(start, stop)), WORLD, calibration)
        for start, stop in itertools.pairwise(edges)
    ]
    for name in ("names", "share", "probability", "absent", "threshold", "molecule"):
        np.testing.assert_array_equal(
            np.concatenate([getattr(one, name) for one in parts]), getattr(whole, name)
        )


@given(_pools)
@settings(max_examples=60, deadline=None)
def test_any_pool_is_judged(calibration: Calibration, seed: int) -> None:
    one, world = _some(seed)
    found = judged(one, world, calibration)
    told = np.isfinite(found.probability)
    assert (told == ((found.names >= 0) & ~found.short[:, None])).all()
    assert ((found.probability[told] >= 0) & (found.probability[told] <= 1)).all()
    for row in range(len(one)):
        assert (np.diff(found.probability[row, told[row]]) <= 0).all()
    for verdict, row in zip(verdicts(found, world), range(len(one)), strict=True):
        if verdict.rank is not None:
            assert found.probability[row, RANKS.index(verdict.rank)] >= 0.5
    # Without a calibration nothing is probable, and a name has half of the votes.
    bare = judged(one, world, None)
    assert np.isnan(bare.probability).all()
    assert (bare.share[bare.names >= 0] >= 0.5).all()


def test_the_same_samples_give_the_same_calibration(calibration: Calibration) -> None:
    again = calibrate(samples(3_000, 1), WORLD, MEANS)
    assert again is not None
    assert json.dumps(again.to_dict()) == json.dumps(calibration.to_dict())


# Molecules


def test_molecules_are_told_by_what_is_near() -> None:
    rng = np.random.default_rng(0)

    def made(seed: int) -> LabeledSample:
        one = sample("strain", 900, seed)
        own = rng.choice(3, 900, p=[0.6, 0.2, 0.2]).astype(np.int8)
        rows = np.where(rng.random(one.pool.genomes.shape) < 0.7, own[:, None], rng.integers(0, 3, (900, 1)))
        pool = replace(one.pool, molecules=rows.astype(np.int8))
        return replace(one, pool=pool, molecule=own)

    calibration = calibrate([made(1), *samples(300, 50)[2:]], WORLD, MEANS)
    assert calibration is not None
    test = made(2)
    scores = scored(test, WORLD, calibration)
    given_ = judge(scores)
    found = given_.molecule
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert np.mean(found.argmax(axis=1) == test.molecule) > 0.9
    # By Bayes' rule.
    usual = even_kinds(scores) * USUAL_KINDS
    np.testing.assert_allclose(found, usual / usual.sum(axis=1, keepdims=True), atol=1e-5)
    shares = np.array([0, 1, 0, 0, 0.0])
    assert (judge(scores, None, KindShares(shares, shares)).molecule == shares).all()


def test_plasmids_are_given_above_a_limit_in_new_species(calibration: Calibration) -> None:
    one = scored(sample("strain", 40, 5), WORLD, calibration)
    even = np.tile([0.06, 0.7, 0.24, 0, 0], (40, 2, 1))
    # At the usual shares a plasmid is likely by this much.
    usual = 0.7 * 0.09 / (0.06 * 0.8 + 0.7 * 0.09 + 0.24 * 0.07)
    plasmids = np.array([0.1, 0.9, 0, 0, 0])

    def called(limit: float, absent: bool, trusted: bool) -> int:
        classes = np.tile(np.eye(6)[4 if absent else 0], (40, 1))
        limits = np.full(40, limit)
        made = replace(one, molecule=even, plasmid_limit=limits, classes=classes, named=one.named * np.nan)
        kinds = KindShares(plasmids, plasmids) if trusted else KindShares(plasmids)
        return int(judge(made, None, kinds).called.sum())

    assert called(usual - 0.01, absent=True, trusted=False) == 40
    assert called(usual + 0.01, absent=True, trusted=False) == 0
    assert called(0.95, absent=False, trusted=False) == 40
    assert called(0.95, absent=True, trusted=True) == 40
    assert not judge(replace(one, molecule=even)).called.any()


# What cannot be learnt from


def test_too_little_to_learn_from_is_no_calibration() -> None:
    assert calibrate([], WORLD, MEANS) is None
    assert calibrate([sample("strain", 40, 0)], WORLD, MEANS) is None
    one = sample("strain", 200, 0)
    bare = Lineages(np.full_like(WORLD.codes, -1), ((),) * 7)
    unnamed = replace(one, truth=np.full_like(one.truth, -1))
    assert calibrate([unnamed, replace(unnamed, case="part")], bare, MEANS) is None


def test_few_genomes_whose_species_are_all_known_reach_no_farther_than_strains() -> None:
    few = Lineages(np.zeros((3, 7), np.int32), tuple((rank,) for rank in RANKS))
    rng = np.random.default_rng(0)

    def near(case: str, low: float, high: float) -> LabeledSample:
        places, lengths = rng.uniform(low, high, (80, 3)), np.full(80, 5_000)
        truth, nothing = np.zeros((80, 7), np.int32), np.zeros(80, np.int64)
        views = {"composition": candidates(places, lengths)}
        arrays = (truth, nothing.astype(np.int8), np.arange(80), nothing)
        return LabeledSample(case, pool_of(places, lengths), views, *arrays)

    calibration = calibrate([near("strain", 0.02, 0.06), near("part", 0.02, 0.06)], few, means_of(3))
    assert calibration is not None
    told = verdicts(judged(near("strain", 0.02, 0.05), few, calibration), few)
    assert {one.text for one in told} == {"species species"}
    apart = verdicts(judged(near("strain", 0.1, 0.2), few, calibration), few)
    assert {one.text for one in apart} == {NOTHING_NEAR}


def test_one_species_in_every_genus() -> None:
    keep = WORLD.codes[:, SPECIES] % 3 == 0
    world = Lineages(WORLD.codes[keep], WORLD.names)
    cases = ("part", "strain", "new genus", "new family")
    learned = [sample(case, 600, at, world) for at, case in enumerate(cases)]
    calibration = calibrate(learned, world, means_of(len(world.codes)))
    assert calibration is not None
    for case, least, most in (("strain", 0.7, 1.0), ("new genus", 0.0, 0.15)):
        told = verdicts(judged(sample(case, 400, 77, world), world, calibration), world)
        assert least <= np.mean([verdict.rank == "species" for verdict in told]) <= most


def test_a_rank_that_nothing_could_be_learnt_of_is_as_likely_as_the_next_below(
    calibration: Calibration,
) -> None:
    def without(*ranks: int) -> Calibration:
        told = copy.deepcopy(calibration.to_dict())
        for model in told["views"]["composition"]:
            for rank in ranks:
                model["names"][rank] = None
                model["species"] = None if rank == SPECIES else model["species"]
        return Calibration.from_dict(told)

    one = sample("strain", 100, 8)
    found = judged(one, WORLD, without(3)).probability
    np.testing.assert_array_equal(found[:, 3], found[:, 4])
    whole = judged(one, WORLD, calibration).probability
    np.testing.assert_allclose(found[:, [0, 1, 2]], whole[:, [0, 1, 2]])
    # Nothing is below species: there are no names of them.
    assert np.isnan(judged(one, WORLD, without(3, 6)).probability[:, SPECIES]).all()


# Both views, samples and rates of errors


def test_shared_hashes_tell_strains_from_new_species() -> None:
    learned = [
        sample(case, round(3_000 * share), 20 + at, homology=True)
        for at, (case, share) in enumerate(SHARES.items())
    ]
    calibration = calibrate(learned, WORLD, MEANS)
    assert calibration is not None
    assert set(calibration.views) == {"composition", "both"}
    named: dict[tuple[str, str], float] = {}
    for case in ("strain", "new species"):
        one = sample(case, 500, 60, homology=True)
        for view in ("composition", "both"):
            told = verdicts(judged(one, WORLD, calibration, view), WORLD)
            named[case, view] = float(np.mean([verdict.rank == "species" for verdict in told]))
    assert named["strain", "both"] > max(0.95, named["strain", "composition"])
    assert named["new species", "both"] < min(0.05, named["new species", "composition"] + 1e-9)


@pytest.mark.parametrize(("lacking", "share"), [(1, 0.9), (2, 0.5), (3, 2 / 3)])
def test_homologues_are_counted_by_genome(lacking: int, share: float) -> None:
    """Every species has one other genome here; it lacks what every `lacking`-th query is of."""
    one = sample("strain", 900, 3, homology=True)
    found = one.views["both"]
    gone = (np.arange(900) % lacking == 0) & (lacking > 1)
    some = replace(found, shared=np.where(gone[:, None], 0, found.shared))
    strains = replace(one, views={**one.views, "both": some})
    rest = sample("new species", 100, 4, homology=True)
    training = training_set_of([strains, rest], WORLD, WEIGHTS, "both")
    assert homologous_share(training, WORLD) == pytest.approx(share, abs=0.03)


def _mixed(calibration: Calibration, known: float, queries: int = 1_500) -> tuple[Scores, Floats, Floats]:
    """Scores of a sample of which so much is known, its shares of classes, and the true names."""
    shares = {"part": known / 4, "strain": 3 * known / 4, "new species": 0.5 - known / 2}
    shares["new genus"] = 0.5 - known / 2
    made = [sample(case, round(queries * share), 30 + at) for at, (case, share) in enumerate(shares.items())]
    scores = Scores.joined([scored(one, WORLD, calibration) for one in made])
    truth = np.concatenate([one.truth for one in made])
    return scores, np.array([*shares.values(), 0, 0]), truth


@pytest.mark.parametrize("known", [0.9, 0.5, 0.1])
def test_a_sample_says_what_it_holds(calibration: Calibration, known: float) -> None:
    scores, shares, truth = _mixed(calibration, known)
    found, estimated = mixture(scores)
    assert estimated == (True, False)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found[0], shares, atol=0.08)
    assert found[0, :2].sum() == pytest.approx(known, abs=0.08)
    # Parts and strains are as many of the known as in the calibration.
    assert found[0, 0] / found[0, 1] == pytest.approx(calibration.prior[0] / calibration.prior[1])
    np.testing.assert_allclose(found[1], calibration.prior)
    # Probabilities are what is right in this sample, and righter than those of what is usual.
    right = scores.names[:, SPECIES] == truth[:, SPECIES]
    here, usual = (judge(scores, prior).probability[:, SPECIES] for prior in (found, None))
    even = np.ones(len(right))
    assert calibration_error(here, right, even) < 0.05
    assert np.mean((here - right) ** 2) <= np.mean((usual - right) ** 2) + 1e-4
    # The same of viruses.
    as_viruses = replace(scores, viral=np.ones(len(scores), bool))
    theirs, estimated = mixture(as_viruses)
    assert estimated == (False, True)
    np.testing.assert_array_equal(theirs, found[::-1])


def test_no_other_shares_are_likelier_than_those_of_a_sample(calibration: Calibration) -> None:
    scores, _, _ = _mixed(calibration, 0.6, 400)
    found, _ = mixture(scores)
    usual, known = scores.prior, scores.prior[:2].sum()

    def fit(shares: Floats) -> float:
        """The log likelihood, and of what is usual that of ten queries; parts and strains are one."""
        parts = shares.copy()
        parts[:2] = shares[:2].sum() * usual[:2] / known
        of_usual = known * np.log(parts[:2].sum()) + (usual[2:] * np.log(parts[2:])).sum()
        return float(np.log(scores.classes @ parts).sum() + 10 * of_usual)

    rng, best = np.random.default_rng(0), fit(found[0])
    for size in (0.5, 0.1, 0.01):
        for _ in range(300):
            other = found[0] * np.exp(rng.normal(size=6) * size)
            assert fit(other / other.sum()) <= best + 1e-6


def test_of_few_queries_the_mixture_is_what_is_usual(calibration: Calibration) -> None:
    for number in (0, 1, 99, 100):
        found, estimated = mixture(scored(sample("strain", number, 1), WORLD, calibration))
        assert estimated == (number >= 100, False)
        same = np.abs(found - calibration.prior).max() < 1e-12
        assert same == (number < 100)


@given(_pools)
@settings(max_examples=20, deadline=None)
def test_what_is_frequent_weighs_as_by_hand(calibration: Calibration, seed: int) -> None:
    rng = np.random.default_rng(seed)
    prior = rng.dirichlet(np.ones(6), 2)
    scores = scored(sample("new species", 20, seed), WORLD, calibration)
    # In the world nothing is farther than a family, and no model says so: here it is as likely as the rest.
    classes, farther = rng.dirichlet(np.ones(6), 20), -np.sort(-rng.random((20, 7)), axis=1)
    scores = replace(scores, viral=rng.random(20) < 0.5, classes=classes, farther=farther)
    # Some have a model of right species: one for parts, one for strains, wrong, new, farther.
    named = rng.dirichlet(np.ones(5), 20)
    named[rng.random(20) < 0.5] = np.nan
    scores = replace(scores, named=named)
    found = judge(scores, prior)
    for row in range(20):
        shares = prior[int(scores.viral[row])]
        weights = [scores.classes[row, at] * prior[int(scores.viral[row]), at] for at in range(6)]
        least = present_genus = 1.0
        for rank in range(7):
            present = weights[-1] * scores.farther[row, rank]
            for at, name in enumerate(CLASSES[:-1]):
                hidden = HIDDEN[name]
                present += weights[at] if hidden is None or rank < hidden else 0.0
            present /= sum(weights)
            chance = scores.right[row, rank] * present
            if rank == SPECIES and np.isfinite(named[row, 0]):
                right, known = (named[row, :some].sum() * shares[:2].sum() for some in (2, 3))
                new = named[row, 3] * shares[2] + named[row, 4] * shares[3:].sum()
                present, chance = min(present_genus, known / (known + new)), right / (known + new)
            present_genus = present
            least = min(least, chance) if scores.near[row] else 0.0
            assert found.absent[row, rank] == pytest.approx(1 - present, abs=2e-6)
            assert found.probability[row, rank] == pytest.approx(least, abs=2e-6)
    # Thresholds are for what is usual: they do not move with the sample.
    np.testing.assert_array_equal(found.standard, judge(scores).probability)


def test_no_queries_before_others_change_nothing(calibration: Calibration) -> None:
    some = scored(sample("strain", 20, 1), WORLD, calibration)
    joined = Scores.joined([scored(sample("strain", 0, 1), WORLD, calibration), some])
    np.testing.assert_array_equal(judge(joined).probability, judge(some).probability)


def test_the_one_question_is_not_asked_of_plasmids(calibration: Calibration) -> None:
    one = sample("strain", 60, 5)
    kinds = one.pool.molecules.copy()
    kinds[::3, 0] = MOLECULES.index("plasmid")
    found = scored(replace(one, pool=replace(one.pool, molecules=kinds)), WORLD, calibration)
    asked = np.isfinite(found.named).all(axis=1)
    np.testing.assert_array_equal(asked, np.arange(60) % 3 > 0)
    np.testing.assert_allclose(found.named[asked].sum(axis=1), 1)


def test_viruses_have_models_of_their_own() -> None:
    codes = WORLD.codes.copy()
    codes[:, 0] = codes[:, FAMILY] >= 4
    world = Lineages(codes, (("Bacteria", "Viruses"), *WORLD.names[1:]))

    def made(case: str, number: int, seed: int) -> LabeledSample:
        one = sample(case, number, seed, world)
        return replace(one, molecule=(2 * one.truth[:, 0]).astype(np.int8))

    cases = ("part", "strain", "new species", "new genus")
    calibration = calibrate([made(case, 600, at) for at, case in enumerate(cases)], world, MEANS)
    assert calibration is not None
    cells, viruses = calibration.views["composition"]
    assert cells.to_dict() != viruses.to_dict()
    assert cells.species is not None
    assert viruses.species is None
    one = made("strain", 400, 9)
    found = scored(one, world, calibration)
    assert np.mean(found.viral == (one.truth[:, 0] == 1)) > 0.9
    # Each is judged by its own: with the cells' for both nothing changes but the viruses.
    alike = scored(one, world, replace(calibration, views={"composition": (cells, cells)}))
    np.testing.assert_array_equal(alike.classes[~found.viral], found.classes[~found.viral])
    assert (alike.classes[found.viral] != found.classes[found.viral]).any(axis=1).all()
    assert mixture(found)[1] == (True, True)


@given(_pools, st.sampled_from([0.01, 0.05, 0.3]))
@settings(max_examples=60, deadline=None)
def test_the_largest_set_of_names_that_keeps_a_rate_is_given(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    likely = np.minimum.accumulate(rng.random((40, 7)) ** 0.2, axis=1).round(rng.integers(1, 4))
    names = rng.integers(-1, 2, (40, 7)).astype(np.int32)
    likely[names < 0] = np.nan
    made = _judgements(names, likely, np.zeros((40, 7)))
    limits = discovery_limits(made, rate)
    for rank in range(7):
        values = likely[np.isfinite(likely[:, rank]), rank]
        # Equal ones are given together or not at all.
        able = [least for least in values if np.mean(1 - values[values >= least]) <= rate + 1e-9]
        assert limits[rank] == min(able, default=2.0)
    for values, line in zip(likely.T, given_names(made, limits=limits).T, strict=True):
        assert not line.any() or np.mean(1 - values[line]) <= rate + 1e-9


def test_of_equal_names_none_is_given_where_all_would_be_too_many() -> None:
    names, nothing = np.zeros((3, 7), np.int32), np.zeros((3, 7))
    likely = np.tile(np.array([[1.0], [0.9], [0.9]]), (1, 7))
    assert (discovery_limits(_judgements(names, likely, nothing), 0.05) == 1).all()
    assert (discovery_limits(_judgements(names, likely, nothing), 0.07) == 0.9).all()
    assert (discovery_limits(_judgements(names[:0], likely[:0], nothing[:0]), 0.07) > 1).all()


# Verdicts


PASSED = [0, 0, 0, 0, 0, -1, 0]


def _judgements(
    names: NDArray[np.int32], likely: NDArray[np.float64], absent: NDArray[np.float64]
) -> Judgements:
    even, count = np.full(likely.shape, 0.5), len(names)
    nothing = np.full((count, 3), np.nan)
    no, why = np.zeros(count, bool), np.zeros(count, np.int64)
    return Judgements(names, even, likely, likely, absent, even, nothing, no, no, why)


def _judged(names: list[int], likely: list[float], absent: list[float]) -> Judgements:
    return _judgements(np.array([names], np.int32), np.array([likely]), np.array([absent]))


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
        ([0] * 7, [0.9] * 7, [0.1] * 7, 0.95, UNSURE, None),
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


def test_a_name_is_given_where_it_is_likely_both_usually_and_here() -> None:
    likely = np.array([[0.6, 0.6, 0.49, 0.49, 0.5, 0.9, 0.7]])
    standard = np.array([[0.8, 0.69, 0.8, 0.69, 0.7, np.nan, 0.7]])
    made = _judgements(np.array([[0, 0, 0, 0, 0, 0, -1]], np.int32), likely, likely * 0)
    made = replace(made, standard=standard, threshold=np.full((1, 7), 0.7))
    assert given_names(made).tolist() == [[True, False, False, False, True, False, False]]
    # What is asked for counts instead, and of the two that by rank.
    assert given_names(made, 0.6).tolist() == [[True, True, False, False, False, True, False]]
    limits = np.array([0.61, 0.6, 0.4, 2, 0.5, 0.9, 0.1])
    assert given_names(made, 0.6, limits).tolist() == [[False, True, True, False, True, True, False]]


# Kept


def test_a_calibration_comes_back_as_it_was(calibration: Calibration) -> None:
    told = json.loads(json.dumps(calibration.to_dict()))
    again = Calibration.from_dict(told)
    assert again.to_dict() == calibration.to_dict()
    one = sample("strain", 100, 9)
    np.testing.assert_array_equal(
        judged(one, WORLD, again).probability, judged(one, WORLD, calibration).probability
    )
    report = calibration.report
    assert report["lengths"] == list(LENGTHS)
    assert {case: sum(numbers) for case, numbers in report["queries"].items()} == {
        case: round(3_000 * SHARES.get(case, 0)) for case in CASES
    }
    assert report["twins"] == []
    assert report["error"]["species"] < 0.05


def _realm(told: dict[str, Any]) -> dict[str, Any]:
    realm: dict[str, Any] = told["views"]["composition"][0]
    return realm


def _cut(told: dict[str, Any]) -> None:
    _realm(told)["names"].pop()


def _unlike(told: dict[str, Any]) -> None:
    _realm(told)["names"][6]["weights"][0].append(1.0)


def _numberless(told: dict[str, Any]) -> None:
    _realm(told)["names"][6]["mean"][0] = float("nan")


def _flat(told: dict[str, Any]) -> None:
    _realm(told)["names"][6]["scale"][0] = 0.0


def _other_form(told: dict[str, Any]) -> None:
    told["form"] = 6


def _disordered(told: dict[str, Any]) -> None:
    told["lengths"] = told["lengths"][::-1]


def _boundless(told: dict[str, Any]) -> None:
    told["reaches"][0] = float("inf")


def _short(told: dict[str, Any]) -> None:
    _realm(told)["thresholds"][6].pop()


def _classless(told: dict[str, Any]) -> None:
    _realm(told)["cases"]["weights"].pop()


def _viewless(told: dict[str, Any]) -> None:
    told["views"]["homology"] = told["views"].pop("composition")


def _spreadless(told: dict[str, Any]) -> None:
    _realm(told)["spread"]["deviation"][0][0] = 0.0


def _numberless_spread(told: dict[str, Any]) -> None:
    _realm(told)["spread"]["usual"][0][0] = float("nan")


def _disordered_spread(told: dict[str, Any]) -> None:
    _realm(told)["spread"]["lengths"].reverse()


def _unlike_spread(told: dict[str, Any]) -> None:
    for line in _realm(told)["spread"]["values"]:
        line.pop()


def _priorless(told: dict[str, Any]) -> None:
    told["prior"].pop()


@pytest.mark.parametrize(
    "damage",
    [
        *(_cut, _unlike, _numberless, _flat, _other_form, _disordered, _boundless, _short),
        *(_classless, _viewless, _spreadless, _priorless),
        *(_numberless_spread, _disordered_spread, _unlike_spread),
    ],
)
def test_damage_is_seen(calibration: Calibration, damage: Callable[[dict[str, Any]], None]) -> None:
    told = copy.deepcopy(calibration.to_dict())
    damage(told)
    with pytest.raises(ValueError, match=r"\w"):
        Calibration.from_dict(told)


def _without(calibration: Calibration, name: str) -> dict[str, Any]:
    return {key: value for key, value in calibration.to_dict().items() if key != name}


def test_missing_parts_are_seen(calibration: Calibration) -> None:
    assert Calibration.from_dict(_without(calibration, "units")).units is None
    for name in calibration.to_dict().keys() - {"units"}:
        told = _without(calibration, name)
        with pytest.raises(ValueError if name == "form" else KeyError, match=r"\w"):
            Calibration.from_dict(told)
    for form in (1, 2):
        with pytest.raises(OlderFormError, match="version"):
            Calibration.from_dict({**calibration.to_dict(), "form": form})
    with pytest.raises(ValueError, match="version"):
        Calibration.from_dict([])  # type: ignore[arg-type]
    with pytest.raises((ValueError, KeyError, TypeError)):
        Logistic.from_dict({"mean": [0.0], "scale": [1.0], "weights": "none"})
