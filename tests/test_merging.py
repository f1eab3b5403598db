"""From the nearest rows to the nearest sequences and genomes: as brute force finds them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.index import nearest
from kinmer.index.nearest import MEAN_BONUS, Scan, alike_first, nearest_groups
from kinmer.index.rows import GENOME, ROW, Rows
from kinmer.library import KinIndex, build_index
from kinmer.stores.exact import ExactStore
from tests.small_world import World, make_world

DIM = 6


def brute(
    rows: Rows, group: np.ndarray, query: np.ndarray, favour: np.ndarray, usable: np.ndarray
) -> dict[int, float]:
    """The distance of every group, by its definition."""
    unit = np.asarray(rows.vectors, np.float64)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-300)
    asked = query / np.linalg.norm(query)
    found: dict[int, float] = {}
    for row in np.flatnonzero(usable & (group >= 0)).tolist():
        far = max(1 - float(unit[row] @ asked) - float(favour[row]), 0.0)
        found[int(group[row])] = min(far, found.get(int(group[row]), np.inf))
    return found


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 9), st.integers(1, 12))
def test_groups_are_those_of_brute_force(seed: int, number: int, genomes: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.standard_normal((number, DIM)).astype(np.float32)
    # Some rows are the same: ties.
    vectors[rng.integers(number, size=number // 3)] = vectors[0]
    group = rng.integers(-1, genomes, number)
    rows = Rows(Path(), 0, vectors, np.zeros(number, ROW), np.ones(number, bool))
    usable = rng.random(number) < 0.8
    favour = np.where(rng.random(number) < 0.2, np.float32(MEAN_BONUS), np.float32(0))
    queries = rng.standard_normal((4, DIM)).astype(np.float32)
    shut = [rng.permutation(number)[: int(rng.integers(0, 3))] for _ in queries]
    found, far, where = nearest_groups(rows, group, queries, count, usable, shut, favour)
    for line in range(len(queries)):
        able = usable.copy()
        able[shut[line]] = False
        wanted = brute(rows, group, queries[line].astype(np.float64), favour, able)
        got = found[line][found[line] >= 0].tolist()
        assert len(got) == len(set(got)) == min(count, len(wanted))
        assert np.allclose(far[line][: len(got)], sorted(wanted.values())[: len(got)], atol=1e-6)
        for name, distance, row in zip(got, far[line].tolist(), where[line].tolist(), strict=False):
            assert distance == pytest.approx(wanted[name], abs=1e-6)
            assert group[row] == name
            assert able[row]
        # One by one the same bits.
        alone = nearest_groups(rows, group, queries[line : line + 1], count, usable, [shut[line]], favour)
        assert alone[0][0].tobytes() == found[line].tobytes()
        assert alone[1][0].tobytes() == far[line].tobytes()
        assert alone[2][0].tobytes() == where[line].tobytes()


@pytest.mark.parametrize("quick", [nearest.QUICK_ROWS, 0])
def test_crowded_out_groups_are_those_of_brute_force(
    quick: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether every row is looked at or an engine is asked for more."""
    monkeypatch.setattr(nearest, "QUICK_ROWS", quick)
    rng = np.random.default_rng(7)
    queries = rng.standard_normal((3, DIM)).astype(np.float32)
    # Nearest to each query are some hundred rows of one group.
    crowd = np.repeat(queries, (100, 400, 2000), axis=0) * np.float32(2)
    crowd += rng.standard_normal(crowd.shape).astype(np.float32) / 100
    vectors = np.concatenate([crowd, rng.standard_normal((nearest.FEW, DIM)).astype(np.float32)])
    records = np.zeros(len(vectors), ROW)
    records["entry"] = np.r_[np.repeat([0, 1, 2], (100, 400, 2000)), rng.integers(3, 50, nearest.FEW)]
    rows = Rows(Path(), 0, vectors, records, np.ones(len(vectors), bool))
    store = ExactStore.create(tmp_path, dim=DIM, metric="cosine")
    store.add(np.arange(len(rows)), vectors)
    scan = Scan(rows, "cosine", rows.alive, store=store, covered=len(rows))
    found = scan.groups("sequence", queries, 8, 50, None)
    for line, query in enumerate(queries.astype(np.float64)):
        wanted = brute(rows, rows.entry, query, np.zeros(len(rows), np.float32), rows.alive)
        assert sorted(wanted, key=wanted.__getitem__)[:8] == found.groups[line].tolist()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 300))
def test_vectors_that_are_alike_follow_each_other(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    centers = np.array([[0, 9, 0], [0, -9, 0]], np.float32)
    kind = rng.permutation(np.arange(number) % 2)
    order = alike_first(centers[kind] + rng.standard_normal((number, 3)).astype(np.float32))
    assert sorted(order.tolist()) == list(range(number))
    if number > nearest.ALIKE:
        assert np.count_nonzero(np.diff(kind[order])) == 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.mark.parametrize("by", ["sequence", "genome"])
def test_pieces_that_crowd_around_a_query_do_not_hide_the_others(
    world: World, tmp_path: Path, by: Literal["sequence", "genome"]
) -> None:
    with build_index(
        world.references,
        tmp_path / "kin.db",
        metadata=world.metadata,
        pieces=[2000],
        calibrate=False,
        threads=1,
    ) as index:
        check(index, by)


def check(index: KinIndex, by: Literal["sequence", "genome"]) -> None:
    rows = index.rows
    group = rows.entry if by == "sequence" else rows.genome
    number = len(np.unique(group[group >= 0]))
    queries = np.array(rows.vectors[:: max(1, len(rows) // 20)], dtype=np.float32)
    found, far, where = index.search(queries, number, by=by)
    favour = np.where((rows.kinds == GENOME) & (by == "genome"), np.float32(MEAN_BONUS), np.float32(0))
    for line, query in enumerate(queries.astype(np.float64)):
        wanted = brute(rows, group, query, favour, rows.alive)
        assert sorted(found[line].tolist()) == sorted(wanted)
        assert np.allclose(far[line], sorted(wanted.values()), atol=1e-6)
        assert (group[where[line]] == found[line]).all()
    few, _, _ = index.search(queries, 3, by=by)
    assert np.array_equal(few, found[:, :3])
