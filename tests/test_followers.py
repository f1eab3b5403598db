"""What no edge of a graph leads to is found with what edges lead to."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.stores import Metric, VectorStore, engine, exact_search
from kinmer.stores.followers import Followers

METRICS: tuple[Metric, ...] = ("cosine", "l2")


def mixed_lengths(n: int, dim: int = 96, *, seed: int = 0) -> NDArray[np.float32]:
    """Vectors around centers, each with noise of its own: as of contigs of mixed lengths."""
    random = np.random.default_rng(seed)
    centers = random.normal(size=(n // 2000, dim))[random.integers(0, n // 2000, n)]
    noise = random.choice([0.05, 0.5, 1], n)[:, None] * random.normal(size=(n, dim))
    return (centers + noise).astype(np.float32)


@pytest.mark.parametrize("metric", METRICS)
@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12), many=st.integers(0, 60), asked=st.integers(1, 600))
def test_the_nearest_followers_of_what_was_met(
    tmp_path_factory: pytest.TempPathFactory, metric: Metric, seed: int, k: int, many: int, asked: int
) -> None:
    random = np.random.default_rng(seed)
    n, dim = 200, 24
    vectors = random.normal(size=(n, dim)).astype(np.float32) * random.uniform(0.1, 9, (n, 1))
    vectors = vectors.astype(np.float32)
    vectors[random.integers(0, n)] = 0
    rows = random.permutation(n)[:many]
    leaders = random.choice(np.append(np.setdiff1d(np.arange(n), rows)[:15], -1), many)
    dead = random.random(n) < 0.2
    queries = random.normal(size=(asked, dim)).astype(np.float32)
    met = random.integers(-1, 30, (asked, 7))
    # What a search meets, it meets once.
    met = np.where([[row in line[:at] for at, row in enumerate(line)] for line in met.tolist()], -1, met)
    followers = Followers.none(dim, metric)
    if many:
        folder = tmp_path_factory.mktemp("followers")
        files = folder / "leaders-1.npy", folder / "followers-1.npy"
        followers = Followers.write(files, leaders, rows, lambda taken: vectors[taken], metric)
    found, distances = followers.near(queries, met, k, dead, threads=2)
    for query in range(asked):
        theirs = rows[((leaders == -1) | np.isin(leaders, met[query])) & ~dead[rows]]
        wanted = min(k, len(theirs))
        assert (found[query, wanted:] == -1).all()
        assert np.isinf(distances[query, wanted:]).all()
        true = exact_search(vectors[np.sort(theirs)], np.sort(theirs), queries[query][None], k, metric)
        # 16 bits a number: nearer than that two distances may change places.
        np.testing.assert_allclose(distances[query, :wanted], true[1][0, :wanted], rtol=1e-4, atol=1e-4)
        assert set(found[query, :wanted]) <= set(theirs)
        assert len(set(found[query, :wanted])) == wanted


@pytest.mark.parametrize("metric", METRICS)
def test_followers_are_found_where_the_graph_has_no_way_to_them(metric: Metric, tmp_path: Path) -> None:
    vectors, queries = np.split(mixed_lengths(12_300), [12_000])
    truth = exact_search(vectors, None, queries, 10, metric)[0]

    def found(store: VectorStore) -> tuple[float, float]:
        """Of the entries those that are found by their own vectors, and of the true ten of the queries."""
        near = store.search(queries, 10)[0]
        recall = np.mean([np.isin(true, own).mean() for true, own in zip(truth, near, strict=True)])
        return float((store.search(vectors, 1)[0][:, 0] == np.arange(12_000)).mean()), float(recall)

    with engine("hnsw").create(tmp_path, dim=96, metric=metric, threads=1) as store:
        store.add(np.arange(12_000), vectors)
        own, recall = found(store)
        assert own < 0.995
        store.flush()
        (leaders,) = tmp_path.glob("leaders-*")
        assert np.load(leaders).shape[1] > 600
        assert found(store)[0] > 0.9995
        assert found(store)[1] >= recall
    with engine("hnsw").open(tmp_path, dim=96, metric=metric, threads=1) as store:
        assert found(store)[0] > 0.9995


def test_files_of_another_make_are_refused(tmp_path: Path) -> None:
    vectors = mixed_lengths(4000)
    files = tmp_path / "leaders-1.npy", tmp_path / "followers-1.npy"
    written = Followers.write(
        files, np.zeros(9, np.int64), np.arange(1, 10), lambda rows: vectors[rows], "cosine"
    )
    assert len(written) == 9
    with pytest.raises(FormatError, match="not the one described"):
        Followers.open(files, 95, "cosine")
    np.save(files[0], np.zeros((2, 8), np.int64))
    with pytest.raises(FormatError, match="not the one described"):
        Followers.open(files, 96, "cosine")


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as on a terminal: what runs in the background may have been started with it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("work", ["add", "search", "flush"])
def test_ctrl_c_ends_what_the_graph_does(work: str, tmp_path: Path, ctrl_c: None) -> None:
    vectors = mixed_lengths(40_000)
    with engine("hnsw").create(tmp_path, dim=96, metric="cosine", threads=1) as store:
        if work != "add":
            store.add(np.arange(40_000), vectors)
        labels = np.arange(40_000)
        calls: dict[str, Callable[[], object]] = {
            "add": lambda: store.add(labels, vectors),
            "search": lambda: store.search(vectors, 200),
            "flush": store.flush,
        }
        alarm = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
        alarm.start()
        with pytest.raises(KeyboardInterrupt):
            calls[work]()
        alarm.join()
