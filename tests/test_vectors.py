"""Points of every kind of source, and their nearest others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kinmer import count, embed
from kinmer.errors import InputError, KinmerError, MismatchError, UsageError
from kinmer.inputs import kind_of
from kinmer.library import add_to_index, build_index, delete_from_index
from kinmer.library.join import joined_metadata, with_metadata
from kinmer.stores import exact_search, row_distances
from kinmer.vectors import Neighbors, knn, neighbor_graph, open_vectors
from tests.organisms import encoder_of, organisms

METRICS = ("cosine", "l2")


def table_of(folder: Path, vectors: NDArray[np.floating[Any]]) -> Path:
    """An .npy table of vectors with its ids."""
    path = folder / "vectors.npy"
    np.save(path, vectors)
    path.with_suffix(".txt").write_text("".join(f"s{row}\n" for row in range(len(vectors))))
    return path


class Numbered:
    """Vectors that come by number."""

    def __init__(self, vectors: NDArray[np.float32]) -> None:
        self._vectors = vectors

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        return np.asarray(self._vectors[rows])


def clumps(points: int, *, dim: int = 24, seed: int = 0) -> NDArray[np.float32]:
    """(points, dim) vectors around twelve centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, dim))
    return (centres[rng.integers(0, 12, points)] + 0.3 * rng.normal(size=(points, dim))).astype(np.float32)


def oracle(vectors: NDArray[np.float32], k: int, metric: str) -> NDArray[np.float64]:
    """(n, k) distances of the nearest others, all pairs looked at."""
    far = cdist(vectors.astype(float), vectors.astype(float), {"cosine": "cosine", "l2": "euclidean"}[metric])
    np.fill_diagonal(far, np.inf)
    return np.sort(far, axis=1)[:, :k]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("exact", [True, False])
def test_neighbours_are_those_of_all_pairs(tmp_path: Path, metric: Any, exact: bool) -> None:
    vectors = clumps(700)
    space = open_vectors(table_of(tmp_path, vectors), metric=metric)
    graph = neighbor_graph(space, 12, exact=exact)
    wanted = oracle(vectors, 12, metric)
    assert graph.exact is exact
    assert graph.distances == pytest.approx(wanted, abs=2e-6)
    assert not (graph.indices == np.arange(700)[:, None]).any()
    rough = neighbor_graph(space, 12, exact=exact, true_distances=False)
    assert rough.distances == pytest.approx(wanted, abs=4e-3)
    some = neighbor_graph(space, 12, exact=exact, rows=np.array([5, 3, 600]))
    assert (some.indices == graph.indices[[5, 3, 600]]).all()
    assert some.in_degree().sum() == 36
    assert (graph.in_degree(1) == np.bincount(graph.indices[:, 0], minlength=700)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_distances_of_rows_are_those_of_their_vectors(metric: Any) -> None:
    vectors, rng = clumps(200), np.random.default_rng(1)
    vectors[[3, 4]] = 0
    rows = rng.integers(-1, 200, (50, 17))
    vectors[9] = vectors[5]
    measured = row_distances(vectors[:50], vectors, rows, metric)
    wanted = cdist(vectors.astype(float), vectors.astype(float), {"l2": "euclidean"}.get(metric, metric))
    if metric == "cosine":
        wanted[[3, 4]] = wanted[:, [3, 4]] = 1
    known = rows >= 0
    lines = np.broadcast_to(np.arange(50)[:, None], rows.shape)
    assert np.isinf(measured[~known]).all()
    assert measured[known] == pytest.approx(wanted[lines, rows][known], rel=1e-6, abs=1e-12)
    assert (row_distances(vectors[5:6], vectors, np.array([[5, 9]]), metric) == 0).all()
    # Vectors that only come by number give the same.
    assert (row_distances(vectors[:50], Numbered(vectors), rows, metric) == measured).all()
    same = row_distances(vectors[:50], vectors, rows[:1], metric)
    assert (same == row_distances(vectors[:50], vectors, np.repeat(rows[:1], 50, axis=0), metric)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_the_order_of_searches_changes_nothing(
    tmp_path: Path, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = open_vectors(table_of(tmp_path, clumps(700)), metric=metric)
    plain = neighbor_graph(space, 12, exact=False)
    monkeypatch.setattr(knn, "ORDERED_FROM", 600)
    ordered = neighbor_graph(space, 12, exact=False)
    assert (ordered.indices == plain.indices).all()
    assert (ordered.distances == plain.distances).all()
    order = knn.Neighbors(space)._local(np.arange(700))
    vectors = space.take(order)
    steps = [
        cdist(vectors[:-1], vectors[1:], "cosine").diagonal().mean(),
        oracle(clumps(700), 699, "cosine").mean(),
    ]
    assert sorted(order.tolist()) == list(range(700))
    assert steps[0] < 0.5 * steps[1]


@pytest.mark.parametrize("exact", [True, False])
def test_a_point_is_never_its_own_neighbour_among_equals(tmp_path: Path, exact: bool) -> None:
    same = np.repeat(clumps(1), 100, axis=0)
    graph = neighbor_graph(open_vectors(table_of(tmp_path, same)), 5, exact=exact)
    assert (graph.indices >= 0).all()
    assert not (graph.indices == np.arange(100)[:, None]).any()
    assert graph.distances == pytest.approx(np.zeros((100, 5)), abs=1e-6)


@pytest.mark.parametrize("points", [1, 2, 3])
def test_few_points_have_few_neighbours(tmp_path: Path, points: int) -> None:
    graph = neighbor_graph(open_vectors(table_of(tmp_path, clumps(points))), 5)
    there = graph.indices >= 0
    assert there.sum(axis=1).tolist() == [points - 1] * points
    assert np.isinf(graph.distances[~there]).all()
    with pytest.raises(UsageError, match="k must be at least 1"):
        neighbor_graph(open_vectors(table_of(tmp_path, clumps(points))), 0)


def test_every_source_gives_the_same_points(tmp_path: Path) -> None:
    held, encoder = organisms(60), encoder_of()
    made = open_vectors(held, vectors=encoder)
    path = tmp_path / "some.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        held.write_zarr(path)
    embed(path, encoder)
    kept = open_vectors(path)
    rows = np.array([7, 0, 3, 7])
    assert (kept.take(rows) == made.take(rows)).all()
    assert kept.provenance["encoder_fingerprint"] == encoder.fingerprint
    assert kept.ids.tolist() == made.ids.tolist()
    build_index(held, tmp_path / "kin.db", encoder=encoder, engine="hnsw")
    indexed = open_vectors(tmp_path / "kin.db")
    assert (indexed.take(rows) == made.take(rows)).all()
    by_index, by_graph = neighbor_graph(indexed, 4, exact=False), neighbor_graph(made, 4)
    assert by_index.distances == pytest.approx(by_graph.distances, abs=1e-6)
    embed(held, encoder)
    assert (open_vectors(held).take(rows) == made.take(rows)).all()
    assert open_vectors(path, vectors="raw").dim == held.n_vars


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("changed", [False, True])
def test_neighbours_through_an_index_are_those_of_all_pairs(
    tmp_path: Path, metric: Any, changed: bool
) -> None:
    held, encoder, path = organisms(900), encoder_of(), tmp_path / "kin.db"
    build_index(held[:700], path, encoder=encoder, engine="hnsw", metric=metric, calibrate=False)
    if changed:
        # Too few for the engine to be brought up to date.
        delete_from_index(path, ids=held.obs_names[100:240].tolist())
        add_to_index(path, held[700:], calibrate=False)
    points = open_vectors(path)
    vectors = points.take(np.arange(len(points)))
    wanted = oracle(vectors, 9, metric)
    with Neighbors(points, exact=False) as neighbors:
        graph = neighbors.graph(9)
        among = np.random.default_rng(0).random(len(points)) < 0.8
        some = neighbors.graph(4, rows=np.flatnonzero(among), among=among)
    rough = neighbor_graph(points, 9, exact=False, true_distances=False)
    assert (points.array is None) is changed
    assert graph.distances == pytest.approx(wanted, abs=2e-6)
    assert rough.distances == pytest.approx(wanted, abs=4e-3)
    assert some.distances == pytest.approx(oracle(vectors[among], 4, metric), abs=2e-6)
    for near in (graph.indices, rough.indices):
        assert not (near == np.arange(len(points))[:, None]).any()
        assert (np.sort(near, axis=1)[:, 1:] != np.sort(near, axis=1)[:, :-1]).all()


def test_fasta_gives_the_vectors_of_its_counts(tmp_path: Path) -> None:
    rng, encoder, path = np.random.default_rng(3), encoder_of(), tmp_path / "some.fna"
    sequences = ["".join(rng.choice(list("ACGT"), size)) for size in (1500, 900, 4000)]
    path.write_text("".join(f">c{row} x\n{text}\n" for row, text in enumerate(sequences)))
    counted = count(path, max_k=3, min_length=0)
    made, wanted = open_vectors(path, encoder), open_vectors(counted, encoder)
    assert made.ids.tolist() == ["c0", "c1", "c2"]
    assert made.obs["length"].tolist() == [1500, 900, 4000]
    assert made.obs["gc"].to_numpy() == pytest.approx(counted.obs["gc"].to_numpy())
    assert (made.take(np.arange(3)) == wanted.take(np.arange(3))).all()
    lazy = open_vectors(path, encoder, lazy=True)
    assert lazy.array is None
    assert (lazy.take(np.array([2, 0])) == made.read(0, 3)[[2, 0]]).all()
    with pytest.raises(KinmerError):
        open_vectors(path)


def test_a_path_is_of_one_kind(tmp_path: Path) -> None:
    made = {
        "v.npy": b"\x93NUMPY\x01",
        "named.npy": b">a\n",
        "table.txt": b"\x89HDF\r\n\x1a\n",
        "c.fa": b">a\n",
    }
    for name, content in made.items():
        (tmp_path / name).write_bytes(content)
    for name, file in (
        ("db", "index.json"),
        ("kin", "config.json"),
        ("new.zarr", "zarr.json"),
        ("other", "a"),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    kinds = {
        "v.npy": "npy",
        "named.npy": "npy",
        "table.txt": "h5ad",
        "c.fa": "fasta",
        "db": "index",
        "kin": "encoder",
        "new.zarr": "store",
        "other": "folder",
        "no": "missing",
        "no.npy": "npy",
        "no.zarr": "store",
    }
    assert {name: kind_of(tmp_path / name) for name in kinds} == kinds
    assert (kind_of("-"), kind_of(organisms(3)), kind_of(None)) == ("fasta", "memory", "memory")


@pytest.mark.parametrize("metric", METRICS)
def test_the_exact_search_leaves_pairs_out(monkeypatch: pytest.MonkeyPatch, metric: Any) -> None:
    monkeypatch.setattr("kinmer.stores.exact.ROW_BLOCK", 64)
    monkeypatch.setattr("kinmer.stores.exact.QUERY_BLOCK", 7)
    vectors, asked = clumps(300), clumps(20, seed=1)
    excluded = np.random.default_rng(5).random((20, 300)) < 0.6
    excluded[4] = True
    excluded[5] = np.arange(300) > 2
    who, where = np.nonzero(excluded)
    rows, distances = exact_search(vectors, None, asked, 10, metric, excluded=(who, where))
    apart = cdist(asked.astype(float), vectors.astype(float), {"cosine": "cosine", "l2": "euclidean"}[metric])
    apart[excluded] = np.inf
    wanted = np.sort(apart, axis=1)[:, :10]
    assert distances == pytest.approx(wanted, abs=2e-6)
    assert ((rows >= 0) == np.isfinite(wanted)).all()
    assert not excluded[np.nonzero(rows >= 0)[0], rows[rows >= 0]].any()
    # Vectors that are all the same are looked at one by one.
    same = np.repeat(vectors[:1], 300, axis=0)
    rows, _ = exact_search(
        same, np.arange(1000, 1300), asked[:1], 3, metric, excluded=(np.zeros(2, int), np.array([0, 2]))
    )
    assert rows.tolist() == [[1001, 1003, 1004]]


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    profiles = organisms(20)
    with pytest.raises(InputError, match="there is no X_kinmer"):
        open_vectors(profiles)
    with pytest.raises(InputError, match="no such encoder"):
        open_vectors(profiles, vectors="absent")
    with pytest.raises(MismatchError):
        open_vectors(profiles, vectors="kin-1")
    bad = clumps(20)
    bad[3, 4] = np.nan
    with pytest.raises(KinmerError, match="'s3' holds NaN"):
        neighbor_graph(open_vectors(table_of(tmp_path, bad)), 2)
    path = table_of(tmp_path, clumps(20))
    path.with_suffix(".txt").write_text("a\nb\n")
    with pytest.raises(KinmerError, match="2 ids for the 20 rows"):
        open_vectors(path)
    assert open_vectors(table_of(tmp_path, clumps(4))).row_of("s2") == 2
    with pytest.raises(UsageError, match="no sequence 'x'"):
        open_vectors(table_of(tmp_path, clumps(4))).row_of("x")


def test_metadata_are_joined_by_id(tmp_path: Path) -> None:
    space = open_vectors(table_of(tmp_path, clumps(4)))
    path = tmp_path / "known.tsv"
    path.write_text("id\tgenus\tdepth\ns2\tVibrio\t2.5\ns0\t.\t7\nother\tx\t1\n")
    obs = with_metadata(space, path).obs
    assert obs["genus"].tolist() == [None, None, "Vibrio", None]
    assert obs["depth"].tolist() == pytest.approx([7, np.nan, 2.5, np.nan], nan_ok=True)
    # What is not known from the sequences is taken from the table.
    path.write_text("id\tgc\tlength\ns1\t0.4\t1200\n")
    told = with_metadata(space, path)
    assert (told.obs["gc"]["s1"], told.obs["length"]["s1"]) == (0.4, 1200)
    counted = open_vectors(organisms(20), vectors=encoder_of())
    path.write_text("id\tlength\tsite\ns1\t7\tsea\n")
    joined = with_metadata(counted, path).obs
    assert joined["length"]["s1"] == counted.obs["length"]["s1"]
    assert joined["site"]["s1"] == "sea"
    path.write_text("id\tgenus\nother\tx\n")
    with pytest.raises(InputError, match="none of its ids"):
        with_metadata(space, path)


def test_a_table_of_verdicts_is_joined(tmp_path: Path) -> None:
    """What `kinmer search --format calls` writes has a column `rank`, and its ids are of queries."""
    table = tmp_path / "calls.tsv"
    table.write_text("query_id\tlength\tverdict\trank\tgenus\ns1\t10\tgenus Vibrio\tgenus\tVibrio\n")
    ids = np.array(["s0", "s1"], object)
    obs = joined_metadata(ids, pd.DataFrame(index=ids), table)
    assert obs["rank"].tolist() == [None, "genus"]
    assert obs["genus"].tolist() == [None, "Vibrio"]
