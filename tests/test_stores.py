"""One suite for every vector engine, against brute force in double precision."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from numpy.typing import NDArray

from kinmer.errors import EngineError, FormatError, MismatchError, ProfileError, UsageError
from kinmer.folders import Trust
from kinmer.index.engine import EngineFiles
from kinmer.index.rows import ROW, WHOLE, Rows
from kinmer.stores import (
    ENGINES,
    ExactStore,
    Metric,
    VectorStore,
    distances_to,
    engine,
    exact_search,
    unit_rows,
)
from kinmer.stores.order import nearest_pivot
from kinmer.stores.segments import Codes, Segment

METRICS: tuple[Metric, ...] = ("cosine", "l2")
DIM = 12


def oracle(vectors: NDArray[Any], queries: NDArray[Any], metric: str) -> NDArray[np.float64]:
    """All distances (q, n), in double precision, straight from the definitions."""
    table = np.empty((len(queries), len(vectors)))
    for i, query in enumerate(np.asarray(queries, dtype=np.float64)):
        for j, vector in enumerate(np.asarray(vectors, dtype=np.float64)):
            if metric == "l2":
                table[i, j] = np.sqrt(((query - vector) ** 2).sum())
            else:
                lengths = np.sqrt((query**2).sum()) * np.sqrt((vector**2).sum())
                table[i, j] = 1 - (query @ vector) / lengths if lengths else 1.0
    return table


def clusters(n: int, dim: int = DIM, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors in clusters, cluster by cluster, as contigs come genome by genome."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(max(2, n // 25), dim))
    owner = np.sort(random.integers(0, len(centres), n))
    return (centres[owner] + 0.2 * random.normal(size=(n, dim))).astype(np.float32)


@pytest.fixture(params=ENGINES)
def kind(request: pytest.FixtureRequest) -> type[VectorStore]:
    if request.param == "chroma":
        pytest.importorskip("chromadb", reason="the extra chroma is not installed")
    return engine(request.param)


@pytest.fixture(params=METRICS)
def metric(request: pytest.FixtureRequest) -> Metric:
    found: Metric = request.param
    return found


def agrees(
    store: VectorStore, known: dict[int, NDArray[np.float32]], queries: NDArray[np.float32], k: int
) -> None:
    """What the store finds is there, at the right distances, in order, and is as near as the best k are."""
    labels, distances = store.search(queries, k)
    assert labels.shape == distances.shape == (len(queries), k)
    assert labels.dtype == np.int64
    assert distances.dtype == np.float32
    own = np.array(sorted(known), dtype=np.int64)
    wanted = min(k, len(own))
    assert (labels[:, wanted:] == -1).all()
    assert np.isinf(distances[:, wanted:]).all()
    if not wanted:
        return
    table = oracle(np.stack([known[label] for label in own.tolist()]), queries, store.metric)
    lengths = np.linalg.norm([known[label] for label in own.tolist()], axis=1).max()
    for row, query in enumerate(queries):
        found = labels[row, :wanted]
        assert len(set(found.tolist())) == wanted
        assert set(found.tolist()) <= set(known)
        scale = 2.0 if store.metric == "cosine" else float(lengths + np.linalg.norm(query))
        # Engines add up squares: near 0 the root makes their rounding larger.
        slack = store.tolerance * scale + 1e-9
        true = table[row, np.searchsorted(own, found)]
        np.testing.assert_allclose(distances[row, :wanted], true, atol=slack)
        np.testing.assert_allclose(np.sort(true), np.sort(table[row])[:wanted], atol=2 * slack)
        pairs = list(zip(distances[row, :wanted].tolist(), found.tolist(), strict=True))
        assert pairs == sorted(pairs)


@pytest.mark.parametrize("dim", [DIM, 96])
def test_search_agrees_with_brute_force(
    dim: int, kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    vectors = clusters(400, dim)
    labels = np.random.default_rng(1).permutation(10_000)[:400]
    with kind.create(tmp_path, dim=dim, metric=metric) as store:
        store.add(labels[:250], vectors[:250])
        store.add(labels[250:], vectors[250:])
        assert len(store) == 400
        known = dict(zip(labels.tolist(), vectors, strict=True))
        for k in (1, 10, 399, 500):
            agrees(store, known, clusters(20, dim, seed=2), k)


def test_a_flushed_store_opens_again_with_the_same_answers(
    kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    vectors, queries = clusters(300), clusters(10, seed=3)
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(300), vectors)
        store.flush()
        before = store.search(queries, 7)
    with kind.open(tmp_path, dim=DIM, metric=metric) as store:
        assert len(store) == 300
        for one, other in zip(store.search(queries, 7), before, strict=True):
            np.testing.assert_array_equal(one, other)
        store.delete(np.arange(0, 300, 2))
        store.update(np.array([1]), queries[:1])
        store.flush()
    with kind.open(tmp_path, dim=DIM, metric=metric) as store:
        left = {label: vectors[label] for label in range(1, 300, 2)} | {1: queries[0]}
        assert len(store) == 150
        agrees(store, left, queries, 20)


def test_many_equal_and_zero_vectors(kind: type[VectorStore], metric: Metric, tmp_path: Path) -> None:
    vectors = clusters(240)
    vectors[40:140] = vectors[40]
    vectors[200:] = 0
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(240), vectors)
        store.flush()
        queries = np.concatenate([vectors[40:41], np.zeros((1, DIM), np.float32), clusters(5, seed=4)])
        agrees(store, dict(enumerate(vectors)), queries, 30)
        if metric == "cosine":
            np.testing.assert_array_equal(store.search(np.zeros((1, DIM), np.float32), 30)[1], 1)


def test_the_answer_does_not_depend_on_what_else_is_asked(
    kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    queries = clusters(30, seed=5)
    with kind.create(tmp_path, dim=DIM, metric=metric, threads=2) as store:
        store.add(np.arange(500), clusters(500))
        together = store.search(queries, 5)
        for row in range(len(queries)):
            for one, other in zip(store.search(queries[row : row + 1], 5), together, strict=True):
                np.testing.assert_array_equal(np.asarray(one)[0], np.asarray(other)[row])


def test_what_cannot_be_stored_is_refused_and_changes_nothing(
    kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    good = clusters(4)
    nan, endless = good.copy(), good.copy()
    nan[2, 3], endless[1, 0] = np.nan, np.inf
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(4), good)
        new = np.arange(10, 14)
        for vectors, error in ((good[:, :5], MismatchError), (nan, ProfileError), (endless, ProfileError)):
            with pytest.raises(error):
                store.add(new, vectors)
            with pytest.raises(error):
                store.search(vectors, 1)
        with pytest.raises(ProfileError, match="row 3"):
            store.add(new, nan)
        for labels in (np.array([3, 10, 11, 12]), np.array([10, 10, 11, 12]), np.array([-1, 10, 11, 12])):
            with pytest.raises(ValueError, match="label"):
                store.add(labels, good)
        with pytest.raises(KeyError):
            store.delete(np.array([0, 99]))
        with pytest.raises(KeyError):
            store.update(np.array([99]), good[:1])
        with pytest.raises(UsageError):
            store.search(good, 0)
        assert len(store) == 4
        assert store.contains(np.array([0, 3, 10])).tolist() == [True, True, False]
        agrees(store, dict(enumerate(good)), good, 4)


def test_an_empty_store_finds_nothing(kind: type[VectorStore], metric: Metric, tmp_path: Path) -> None:
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        agrees(store, {}, clusters(3), 4)
        store.add(np.array([7]), clusters(2)[:1])
        store.delete(np.array([7]))
        agrees(store, {}, clusters(3), 4)
        assert store.search(np.empty((0, DIM), np.float32), 3)[0].shape == (0, 3)


def test_a_store_of_another_kind_or_damaged_is_refused(
    kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    other: Metric = "l2" if metric == "cosine" else "cosine"
    with pytest.raises(FormatError):
        kind.open(tmp_path, dim=DIM, metric=metric)
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(300), clusters(300))
        store.flush()
    with pytest.raises(MismatchError):
        kind.open(tmp_path, dim=DIM + 1, metric=metric)
    with pytest.raises(MismatchError):
        kind.open(tmp_path, dim=DIM, metric=other)
    largest = max(
        (path for path in tmp_path.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size
    )
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises((FormatError, EngineError)):
        kind.open(tmp_path, dim=DIM, metric=metric)
    largest.unlink()
    with pytest.raises((FormatError, EngineError)):
        kind.open(tmp_path, dim=DIM, metric=metric)


@pytest.mark.parametrize("one_thread", [0, 50_000])
def test_every_entry_of_a_graph_can_be_found(
    one_thread: int, metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Tight clusters, one after the other: what a graph loses entries in.
    random = np.random.default_rng(6)
    centres = np.repeat(random.normal(size=(60, 24)), 100, axis=0)
    vectors = (centres + 0.02 * random.normal(size=(6000, 24))).astype(np.float32)
    monkeypatch.setattr("kinmer.stores.segments.ONE_THREAD", one_thread)
    with engine("hnsw").create(tmp_path, dim=24, metric=metric, threads=4) as store:
        for start in range(0, 6000, 2000):
            store.add(np.arange(start, start + 2000), vectors[start : start + 2000])
        store.flush()
    with engine("hnsw").open(tmp_path, dim=24, metric=metric) as store:
        labels, _ = store.search(vectors, 10)
        found = (labels == np.arange(6000)[:, None]).any(axis=1)
        assert found.all()


def lost(store: VectorStore, known: dict[int, NDArray[np.float32]]) -> list[int]:
    """Labels of live entries that a search for their own vector, k = 10, does not give."""
    own = np.array(sorted(known), dtype=np.int64)
    labels, _ = store.search(np.stack([known[label] for label in own.tolist()]), 10)
    return [int(one) for one in own[~(labels == own[:, None]).any(axis=1)]]


@pytest.mark.parametrize("name", ["exact", "hnsw", pytest.param("chroma", marks=pytest.mark.slow)])
@given(
    seed=st.integers(0, 10_000),
    noise=st.sampled_from([0.02, 0.2, 0.5]),
    metric=st.sampled_from(METRICS),
    calls=st.lists(
        st.tuples(st.sampled_from(["delete", "add", "update", "reopen"]), st.sampled_from([0.02, 0.3, 0.8])),
        min_size=3,
        max_size=9,
    ),
)
@settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None
)
def test_every_live_entry_is_found_after_any_rounds(
    name: str, seed: int, noise: float, metric: Metric, calls: list[tuple[str, float]]
) -> None:
    if name == "chroma":
        pytest.importorskip("chromadb", reason="the extra chroma is not installed")
    random = np.random.default_rng(seed)
    rows, dim = 800, 24

    def draw(count: int) -> NDArray[np.float32]:
        # New clusters every time, one after the other.
        centers = np.repeat(random.normal(size=(count // 40 + 1, dim)), 40, axis=0)[:count]
        return np.asarray(centers + noise * random.normal(size=(count, dim)), dtype=np.float32)

    with tempfile.TemporaryDirectory() as folder:
        store = engine(name).create(folder, dim=dim, metric=metric, threads=1)
        known = dict(enumerate(draw(rows)))
        store.add(np.arange(rows), np.stack(list(known.values())))
        store.flush()
        following = rows
        for what, share in calls:
            some = [label for label in known if random.random() < share]
            if what == "delete":
                store.delete(np.array(some, dtype=np.int64))
                known = {label: vector for label, vector in known.items() if label not in set(some)}
            elif what == "update" and some:
                new = draw(len(some))
                store.update(np.array(some), new)
                known.update(zip(some, new, strict=True))
            elif what == "add":
                # Some labels come back.
                labels = [label for label in range(rows) if label not in known][: int(share * 200)]
                labels += range(following, following + int(share * rows))
                following += int(share * rows)
                new = draw(len(labels))
                store.add(np.array(labels, dtype=np.int64), new)
                known.update(zip(labels, new, strict=True))
            store.flush()
            if what == "reopen":
                store.close()
                store = engine(name).open(folder, dim=dim, metric=metric, threads=1)
            assert len(store) == len(known)
            if known:
                assert lost(store, known) == []
                some_labels, _ = store.search(draw(20), 10)
                assert set(some_labels[some_labels >= 0].tolist()) <= set(known)
        store.close()


@pytest.mark.slow
def test_no_live_entry_vanishes_in_four_rounds_of_a_third(metric: Metric, tmp_path: Path) -> None:
    # 0.1.0: 6, 42, 143, 310 entries lost (cosine), though at most 256 were asked for.
    random, dim, rows = np.random.default_rng(0), 384, 10_000

    def draw(count: int) -> NDArray[np.float32]:
        centers = random.standard_normal((count // 25, dim))
        of = centers[np.sort(random.integers(0, len(centers), count))]
        return np.asarray(of + 0.2 * random.standard_normal((count, dim)), dtype=np.float32)

    labels, vectors = np.arange(rows), draw(rows)
    with engine("hnsw").create(tmp_path, dim=dim, metric=metric, threads=2) as store:
        store.add(labels, vectors)
        store.flush()
        for number in range(1, 5):
            kept = random.random(len(labels)) >= 1 / 3
            store.delete(labels[~kept])
            new = draw(int((~kept).sum()))
            own = number * rows + np.arange(len(new))
            store.add(own, new)
            store.flush()
            labels, vectors = np.concatenate([labels[kept], own]), np.concatenate([vectors[kept], new])
            found, _ = store.search(vectors, 10)
            assert (found == labels[:, None]).any(axis=1).all()
        # And not by luck of the own vector: the ten nearest are those of exact search.
        queries = vectors[::20] + np.float32(0.05) * random.standard_normal((500, dim)).astype(np.float32)
        truth = labels[exact_search(vectors, None, queries, 10, metric)[0]]
        found, _ = store.search(queries, 26)
        shares = [len(set(a[:10]) & set(b)) / 10 for a, b in zip(found.tolist(), truth.tolist(), strict=True)]
        assert np.mean(shares) >= 0.998


def test_a_graph_that_grows_by_narrow_clusters_loses_none(metric: Metric, tmp_path: Path) -> None:
    # Without any deletion: later insertions prune the edges that lead to earlier clusters.
    random = np.random.default_rng(6)
    centers = np.repeat(random.normal(size=(60, 24)), 100, axis=0)
    vectors = (centers + 0.02 * random.normal(size=(6000, 24))).astype(np.float32)
    with engine("hnsw").create(tmp_path, dim=24, metric=metric, threads=1) as store:
        for start in range(0, 6000, 300):
            store.add(np.arange(start, start + 300), vectors[start : start + 300])
            store.flush()
        assert lost(store, dict(enumerate(vectors))) == []


def test_a_crowd_of_deleted_entries_does_not_hide_the_living(
    kind: type[VectorStore], metric: Metric, tmp_path: Path
) -> None:
    random = np.random.default_rng(3)
    crowd = (random.normal(size=DIM) + 0.001 * random.normal(size=(400, DIM))).astype(np.float32)
    others = random.normal(size=(900, DIM)).astype(np.float32)
    with kind.create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(1300), np.concatenate([crowd, others]))
        store.flush()
        store.delete(np.arange(400))
        agrees(store, {400 + row: vector for row, vector in enumerate(others)}, crowd[:5], 10)
        # The same vectors again, under new labels and under an old one.
        store.add(np.array([5000, 7]), crowd[:2])
        store.flush()
        left = {400 + row: vector for row, vector in enumerate(others)} | {5000: crowd[0], 7: crowd[1]}
        agrees(store, left, crowd[:2], 10)


def rows_built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the labels that are built into graphs from now on."""
    built: list[int] = []
    grow = Segment.grow

    def counted(self: Segment, labels: NDArray[np.int64], *how: Any) -> None:
        built.extend(labels.tolist())
        grow(self, labels, *how)

    monkeypatch.setattr(Segment, "grow", counted)
    return built


def follow(monkeypatch: pytest.MonkeyPatch, chosen: Callable[[NDArray[np.int64]], NDArray[np.bool_]]) -> None:
    """As if the edges of graphs from now on led to no entry whose label is chosen."""

    def unreached(self: Segment, rows: NDArray[np.int64], threads: int) -> tuple[NDArray[Any], ...]:
        rows = rows[chosen(self.labels[rows])]
        return rows, *self._met(rows, 40, 40, threads)

    monkeypatch.setattr(Segment, "_unreached", unreached)


def test_what_a_graph_does_not_reach_follows_what_it_reaches(
    metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, dim = clusters(1400, 96), 96
    follow(monkeypatch, lambda labels: np.isin(labels, [3, 77]))
    answers = Segment._answers

    def blind(self: Segment, matches: Any) -> Any:
        rows, far = answers(self, matches)
        # As if the large graph never gave these two.
        hidden = np.isin(self.labels[rows], [3, 77]) & (len(self.labels) > 2)
        return np.where(hidden, -1, rows), far

    def missing(*how: Any) -> Any:
        raise AssertionError("the graph and its followers gave fewer than were asked for")

    monkeypatch.setattr(Segment, "_answers", blind)
    monkeypatch.setattr(Segment, "_look_at_all", missing)
    known = dict(enumerate(vectors))
    with engine("hnsw").create(tmp_path, dim=dim, metric=metric) as store:
        store.add(np.arange(1400), vectors)
        store.flush()
        assert lost(store, known) == []
    with engine("hnsw").open(tmp_path, dim=dim, metric=metric) as store:
        assert len(store) == 1400
        assert len(list(tmp_path.glob("graph-*"))) == 1
        (leaders,) = tmp_path.glob("leaders-*")
        assert len(np.load(leaders)[1]) == 2
        assert lost(store, known) == []
        store.delete(np.array([3]))
        store.update(np.array([77]), vectors[:1])
        store.flush()
        del known[3]
        known[77] = vectors[0]
        agrees(store, known, vectors[[3, 77, 0]], 20)


def test_a_graph_that_gives_two_thirds_of_its_entries_is_kept(
    metric: Metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors, dim = clusters(2100, 96), 96
    follow(monkeypatch, lambda labels: labels % 3 == 0)
    with engine("hnsw").create(tmp_path, dim=dim, metric=metric) as store:
        store.add(np.arange(2000), vectors[:2000])
        store.flush()
        monkeypatch.undo()
        built = rows_built(monkeypatch)
        for start in range(2000, 2100, 20):
            store.add(np.arange(start, start + 20), vectors[start : start + 20])
            store.flush()
        # What follows does not count as deleted, or the rest would be built every time.
        assert not set(built) & set(range(1, 2000, 3))
        assert lost(store, dict(enumerate(vectors))) == []


def test_segments_are_few_and_rows_are_rarely_built_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = rows_built(monkeypatch)
    vectors = clusters(14_000, 8)
    with engine("hnsw").create(tmp_path, dim=8, metric="l2", threads=1) as store:
        store.add(np.arange(8000), vectors[:8000])
        store.flush()
        large = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("graph-*")}
        for start in range(8000, 14_000, 100):
            store.add(np.arange(start, start + 100), vectors[start : start + 100])
            store.delete(np.arange(start // 2, start // 2 + 10))
            store.flush()
            # The large graph is not touched: what is added is smaller.
            assert large.items() <= {p.name: p.stat().st_mtime_ns for p in tmp_path.glob("graph-*")}.items()
            assert len(list(tmp_path.glob("graph-*"))) <= 8
        # A row below FEW is built again with every addition, later ones when their number doubles.
        assert len(built) - 8000 < 6000 * 9
        assert lost(store, {label: vectors[label] for label in range(9000, 14_000)}) == []


def test_a_checkpoint_is_gone_on_with(metric: Metric, tmp_path: Path) -> None:
    vectors = clusters(1500, 96)
    with engine("hnsw").create(tmp_path, dim=96, metric=metric) as store:
        store.add(np.arange(900), vectors[:900])
        store.delete(np.arange(10))
        store.checkpoint()
        store.add(np.arange(900, 1000), vectors[900:1000])
    # Killed here: what came after the checkpoint is not there, and one graph goes on growing.
    with engine("hnsw").open(tmp_path, dim=96, metric=metric) as store:
        assert (len(store), int(store.contains(np.arange(1500)).sum())) == (890, 890)
        store.add(np.arange(900, 1500), vectors[900:])
        store.flush()
    assert len(list(tmp_path.glob("graph-*"))) == 1
    with engine("hnsw").open(tmp_path, dim=96, metric=metric) as store:
        known = {label: vectors[label] for label in range(10, 1500)}
        assert lost(store, known) == []
        agrees(store, known, clusters(10, 96, seed=2), 10)


def test_a_kill_at_any_moment_leaves_a_flush(tmp_path: Path) -> None:
    random = np.random.default_rng(7)

    def vector(label: int, step: int) -> NDArray[np.float32]:
        return np.random.default_rng((label, step)).normal(size=96).astype(np.float32)

    def change(known: dict[int, int], step: int) -> tuple[list[int], list[int]]:
        """Labels to take out and to bring in; `known`: when each that is there came in."""
        picked = np.random.default_rng(step)
        gone = [label for label in known if picked.random() < 0.2]
        return gone, [*gone[::2], *range(1000 * step, 1000 * step + int(picked.integers(1, 900)))]

    states: list[dict[int, int]] = [{}]
    for step in range(1, 40):
        gone, new = change(states[-1], step)
        states.append(
            {**{a: b for a, b in states[-1].items() if a not in set(gone)}, **dict.fromkeys(new, step)}
        )
    with engine("hnsw").create(tmp_path, dim=96, metric="cosine", threads=1) as store:
        store.flush()
    done = 0
    while done < 30:
        reading, writing = os.pipe()
        child = os.fork()
        if not child:
            store = engine("hnsw").open(tmp_path, dim=96, metric="cosine", threads=1)
            for step in range(done + 1, 40):
                gone, new = change(states[step - 1], step)
                store.delete(np.array(gone, dtype=np.int64))
                store.add(np.array(new), np.stack([vector(label, step) for label in new]))
                store.flush()
                os.write(writing, bytes([step]))
            os._exit(0)
        os.close(writing)
        # After one flush, at some moment of the next ones.
        first = os.read(reading, 1)
        time.sleep(random.uniform(0, 0.2))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as told:
            said = max([*first, *told.read()])
        with engine("hnsw").open(tmp_path, dim=96, metric="cosine", threads=1) as store:
            asked = np.arange(40_000)
            held = set(asked[store.contains(asked)].tolist())
            (done,) = [step for step in (said, said + 1) if held == set(states[min(step, 39)])][:1]
            known = {label: vector(label, step) for label, step in states[done].items()}
            assert len(store) == len(known)
            assert lost(store, known) == []


def test_labels_change_and_graphs_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kinmer.stores.graph.FEW", 10)
    vectors, labels = clusters(3000, 96), np.arange(3000) * 2 + 1
    store = engine("hnsw").create(tmp_path, dim=96, metric="cosine", threads=1)
    for part in (slice(0, 2400), slice(2400, 2900), slice(2900, 3000)):
        store.add(labels[part], vectors[part])
        store.flush()
    store.delete(labels[:90])
    store.flush()
    graphs = {path.stat().st_ino for path in tmp_path.glob("graph-*")}
    # Twice: those that went the first time have no label any more. Some of these were not deleted before.
    kept, known = np.arange(100, 3000), labels
    for _ in range(2):
        new = np.full(known.max() + 1, -1)
        new[known[kept]] = np.arange(len(kept))
        assert store.renumber(new)
        assert {path.stat().st_ino for path in tmp_path.glob("graph-*")} == graphs
        store.close()
        store = engine("hnsw").open(tmp_path, dim=96, metric="cosine", threads=1)
        vectors = vectors[kept]
        assert len(store) == len(kept)
        assert store.contains(np.arange(len(kept))).all()
        assert not store.contains(np.arange(len(kept), 6001)).any()
        assert lost(store, dict(enumerate(vectors))) == []
        known, kept = np.arange(len(kept)), np.arange(50, len(kept))
    # It lives on: more come in, and go.
    store.add(np.arange(5000, 5100), clusters(3100, 96)[3000:])
    store.delete(np.arange(20))
    store.flush()
    assert len(store) == len(vectors) + 80
    assert lost(store, {at: vectors[at] for at in range(20, len(vectors))}) == []
    # Too much would stay behind.
    gone = np.full(5100, -1)
    gone[::2] = np.arange(2550)
    assert not store.renumber(gone)
    store.close()


def whole_rows(vectors: NDArray[np.float32], alive: NDArray[np.bool_]) -> Rows:
    """Rows of an index, each of a whole sequence."""
    records = np.zeros(len(vectors), ROW)
    records["kind"] = WHOLE
    return Rows(Path(), 0, vectors, records, alive)


def test_a_killed_build_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, alive = clusters(2000, 96), np.ones(2000, dtype=bool)
    files = EngineFiles(tmp_path, "hnsw", {"index": "one", "metric": "cosine", "dim": 96}, threads=1)
    monkeypatch.setattr("kinmer.index.engine.ENGINE_ROWS", 500)
    monkeypatch.setattr("kinmer.index.engine.CHECKPOINT", 0.0)
    child = os.fork()
    if not child:
        grow, calls = Segment.grow, count(1)

        def killed(self: Segment, labels: NDArray[np.int64], *how: Any) -> None:
            if next(calls) == 4:
                os.kill(os.getpid(), signal.SIGKILL)
            grow(self, labels, *how)

        monkeypatch.setattr(Segment, "grow", killed)
        files.build(whole_rows(vectors, alive))
    os.waitpid(child, 0)
    assert not (tmp_path / "engine-hnsw").exists()
    built = rows_built(monkeypatch)
    alive[:100] = False
    files.build(whole_rows(vectors, alive))
    # What came before the last checkpoint is not built again; what died meanwhile is taken out.
    assert 400 <= len(built) == len(set(built)) <= 500
    # Later clusters stand among earlier ones.
    assert min(built) < 500 < 1500 < max(built)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["engine-hnsw"]
    store, covered = files.open(2000, Trust(tmp_path))
    assert (len(store), covered) == (1900, 2000)
    assert lost(store, {row: vectors[row] for row in range(100, 2000)}) == []
    store.close()
    # One of other rows starts again.
    shutil.rmtree(tmp_path / "engine-hnsw")
    (tmp_path / "engine-hnsw.growing").mkdir()
    (tmp_path / "engine-hnsw.growing" / "stamp.json").write_text('{"index": "another"}')
    files.build(whole_rows(vectors, alive))
    assert len(files.open(2000, Trust(tmp_path))[0]) == 1900


def test_codes_keep_directions_whatever_the_length() -> None:
    vectors = np.random.default_rng(8).normal(size=(5000, 96)).astype(np.float32)
    vectors[3] = 0
    coded = Codes(96, "cosine").of(vectors)
    assert coded.dtype == np.float16
    assert coded.shape == vectors.shape
    assert not coded[3].any()
    lengths = np.linalg.norm(np.delete(vectors, 3, axis=0).astype(np.float64), axis=1, keepdims=True)
    unit = np.delete(vectors, 3, axis=0) / lengths
    np.testing.assert_allclose(np.delete(coded, 3, axis=0), unit, rtol=2**-10, atol=2**-24)
    np.testing.assert_array_equal(Codes(96, "cosine").of(vectors * np.float32(1024)), coded)


def test_a_graph_of_an_older_format_is_built_again(metric: Metric, tmp_path: Path) -> None:
    with engine("hnsw").create(tmp_path, dim=DIM, metric=metric) as store:
        store.add(np.arange(300), clusters(300))
        store.flush()
    told = json.loads((tmp_path / "store.json").read_text())
    # As up to 0.2: no word of the format.
    (tmp_path / "store.json").write_text(json.dumps({k: v for k, v in told.items() if k != "format"}))
    with pytest.raises(FormatError, match="another version"):
        engine("hnsw").open(tmp_path, dim=DIM, metric=metric)


@pytest.mark.parametrize("missing", ["", "stamp.json", "store.json"])
def test_a_missing_engine_is_said_to_be_derived(missing: str, tmp_path: Path) -> None:
    vectors = clusters(50)
    files = EngineFiles(tmp_path, "hnsw", {"index": "one", "metric": "l2", "dim": DIM}, threads=1)
    files.build(whole_rows(vectors, np.ones(50, dtype=bool)))
    (shutil.rmtree if not missing else Path.unlink)(tmp_path / "engine-hnsw" / missing)
    with pytest.raises(FormatError, match=r"derived from the vectors.*kinmer index --rebuild") as raised:
        files.open(50, Trust(tmp_path))
    assert "path" not in str(raised.value)


def test_unknown_engine_and_metric() -> None:
    with pytest.raises(UsageError, match="exact, hnsw, chroma"):
        engine("faiss")
    with pytest.raises(UsageError, match="cosine or l2"):
        ExactStore.create("unused", dim=3, metric="euclid")  # type: ignore[arg-type]


NUMBERS = st.floats(-100, 100, width=32) | st.sampled_from([0.0, 1.0, -1.0])


@given(
    arrays(np.float32, st.tuples(st.integers(1, 60), st.just(3)), elements=NUMBERS),
    arrays(np.float32, st.tuples(st.integers(1, 5), st.just(3)), elements=NUMBERS),
    st.integers(1, 70),
    st.sampled_from(METRICS),
)
def test_exact_search_is_the_definition(
    vectors: NDArray[np.float32], queries: NDArray[np.float32], k: int, metric: Metric
) -> None:
    labels, distances = exact_search(vectors, None, queries, k, metric)
    far = distances_to(queries, np.broadcast_to(vectors, (len(queries), *vectors.shape)), metric)
    np.testing.assert_allclose(far, oracle(vectors, queries, metric), rtol=1e-6, atol=2e-6)
    for row in range(len(queries)):
        best = sorted(zip(far[row].tolist(), range(len(vectors)), strict=True))[:k]
        assert list(zip(distances[row].tolist(), labels[row].tolist(), strict=True))[: len(best)] == best


@given(st.integers(0, 10_000), st.sampled_from(METRICS), st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_exact_search_breaks_ties_by_label_whatever_their_number(seed: int, metric: Metric, k: int) -> None:
    random = np.random.default_rng(seed)
    # Far from the origin, in few places: many ties, where a float32 product alone would lose the order.
    vectors = (1000 + random.integers(0, 2, size=(400, 5))).astype(np.float32)
    queries = (1000 + random.integers(0, 2, size=(3, 5))).astype(np.float32)
    labels, distances = exact_search(vectors, np.arange(400) * 3, queries, k, metric)
    far = distances_to(queries, vectors[None], metric)
    for row in range(3):
        best = sorted(zip(far[row].tolist(), range(0, 1200, 3), strict=True))[:k]
        assert list(zip(distances[row].tolist(), labels[row].tolist(), strict=True)) == best


def test_the_nearest_pivot_is_that_of_exact_search(metric: Metric) -> None:
    random = np.random.default_rng(11)
    pivots, vectors = (random.normal(size=(n, 12)).astype(np.float32) for n in (30, 200))
    pivots *= random.uniform(0.5, 2, (30, 1)).astype(np.float32) if metric == "l2" else 1
    pivots = pivots if metric == "l2" else unit_rows(pivots)
    nearest = exact_search(pivots, None, vectors, 1, metric)[0][:, 0]
    assert np.array_equal(nearest_pivot(vectors, pivots, metric), nearest)


def test_near_vectors_keep_their_distance() -> None:
    base = np.full((1, 384), 10.0, dtype=np.float32)
    near = base.copy()
    near[0, 0] = np.nextafter(np.float32(10), np.float32(11))
    step = float(near[0, 0]) - 10.0
    assert distances_to(base, base[None], "cosine")[0, 0] == 0
    np.testing.assert_allclose(distances_to(base, near[None], "l2"), step, rtol=1e-6)
    angle = 0.5 * (step / np.linalg.norm(base)) ** 2 * (383 / 384)
    np.testing.assert_allclose(distances_to(base, near[None], "cosine"), angle, rtol=1e-3)


class StoreMachine(RuleBasedStateMachine):
    """Any order of add, update, delete, search, flush and reopen, beside a plain dictionary."""

    name, dim = "exact", 3

    @initialize(metric=st.sampled_from(METRICS))
    def begin(self, metric: Metric) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.metric: Metric = metric
        self.known: dict[int, NDArray[np.float32]] = {}
        self.store = engine(self.name).create(self.folder.name, dim=self.dim, metric=metric)
        self.store.flush()
        self.flushed: dict[int, NDArray[np.float32]] = {}

    def vectors(self, seed: int, count: int) -> NDArray[np.float32]:
        drawn = np.random.default_rng(seed).normal(size=(count, self.dim)).astype(np.float32)
        drawn[np.random.default_rng(seed).random(count) < 0.1] = 0
        return drawn

    @rule(labels=st.lists(st.integers(0, 200), unique=True, max_size=30), seed=st.integers(0, 999))
    def add(self, labels: list[int], seed: int) -> None:
        new = [label for label in labels if label not in self.known]
        vectors = self.vectors(seed, len(new))
        self.store.add(np.array(new, dtype=np.int64), vectors)
        self.known.update(zip(new, vectors, strict=True))

    @precondition(lambda self: self.known)
    @rule(data=st.data(), seed=st.integers(0, 999))
    def update(self, data: st.DataObject, seed: int) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.known)), unique=True, max_size=10))
        vectors = self.vectors(seed, len(some))
        self.store.update(np.array(some, dtype=np.int64), vectors)
        self.known.update(zip(some, vectors, strict=True))

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        some = data.draw(st.lists(st.sampled_from(sorted(self.known)), unique=True))
        self.store.delete(np.array(some, dtype=np.int64))
        for label in some:
            del self.known[label]

    @rule(seed=st.integers(0, 999), k=st.integers(1, 30))
    def search(self, seed: int, k: int) -> None:
        agrees(self.store, self.known, self.vectors(seed, 4), k)

    @rule()
    def reopen(self) -> None:
        self.store.flush()
        self.flushed = dict(self.known)
        self.open_again()

    @precondition(lambda self: self.name != "chroma")
    @rule()
    def give_up(self) -> None:
        """Without a flush, as by a kill."""
        self.open_again()

    def open_again(self) -> None:
        self.store.close()
        self.known = dict(self.flushed)
        self.store = engine(self.name).open(self.folder.name, dim=self.dim, metric=self.metric)

    @invariant()
    def holds_what_was_put_in(self) -> None:
        if hasattr(self, "known"):
            assert len(self.store) == len(self.known)
            asked = np.arange(0, 200, 7)
            assert self.store.contains(asked).tolist() == [int(one) in self.known for one in asked]

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.store.close()
            self.folder.cleanup()


@pytest.mark.parametrize(
    ("name", "dim", "examples"),
    [
        ("exact", 3, 100),
        ("hnsw", 3, 100),
        ("hnsw", 64, 60),
        pytest.param("chroma", 3, 4, marks=pytest.mark.slow),
    ],
)
def test_any_history_gives_the_same_store(
    name: str, dim: int, examples: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So that graphs of few nodes are followed, wear out and are merged.
    for place, limit, value in (("segments", "FEW", 20), ("graph", "FEW", 20), ("graph", "DEAD_LEAST", 4)):
        monkeypatch.setattr(f"kinmer.stores.{place}.{limit}", value)
    if name == "chroma":
        pytest.importorskip("chromadb", reason="the extra chroma is not installed")
    machine = type(f"{name.title()}Machine", (StoreMachine,), {"name": name, "dim": dim})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20 if name != "chroma" else 8,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )
