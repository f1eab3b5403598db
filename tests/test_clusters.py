"""Clusters: planted ones are found, agreement is that counted by hand and by scikit-learn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.metrics.cluster import pair_confusion_matrix

from kinmer import cluster
from kinmer.cli import run
from kinmer.clusters import agreement_of
from kinmer.clusters.communities import by_density, communities, numbered
from kinmer.clusters.edges import edges_of, usual_distance
from kinmer.errors import InputError, UsageError
from kinmer.space import Graph, neighbour_graph
from tests.organisms import organisms
from tests.test_analyses import space_of


def planted(groups: int, each: int, *, spread: float = 0.15, seed: int = 0) -> NDArray[np.float64]:
    """Points around random directions, group by group."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(groups, 12))
    centres *= 4 / np.linalg.norm(centres, axis=1, keepdims=True)
    return np.repeat(centres, each, axis=0) + spread * rng.normal(size=(groups * each, 12))


@pytest.mark.parametrize("method", ["leiden", "infomap"])
def test_planted_clusters_are_found(tmp_path: Path, method: Any) -> None:
    truth = np.repeat(np.arange(9), 25)
    space = space_of(planted(9, 25), tmp_path, metric="cosine")
    made = cluster(space, method=method, k=24, max_distance=0.1, resolution=1)
    assert adjusted_rand_score(truth, made.cluster) == 1
    assert made.clusters == 9
    again = cluster(space, method=method, k=24, max_distance=0.1, resolution=1)
    assert (again.cluster == made.cluster).all()


def test_dense_places_of_a_map_are_found(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0, 0], [20, 0], [0, 20]])
    where = np.repeat(centres, 40, axis=0) + rng.normal(size=(120, 2))
    table = organisms(120)
    with pytest.raises(InputError, match="no X_tsne"):
        cluster(table, vectors="raw", method="hdbscan")
    table.obsm["X_tsne"] = where.astype(np.float32)
    made = cluster(table, vectors="raw", method="hdbscan")
    inside = made.cluster > 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(np.repeat(np.arange(3), 40)[inside], made.cluster[inside]) == 1
    assert (table.obs["cluster"].to_numpy() == made.cluster).all()
    assert (by_density(where[:3].astype(np.float32), min_size=5) == -1).all()


def glued() -> tuple[Graph, int]:
    """Two rings of twenty, and a hub that all forty name as their second neighbour."""
    ring = np.arange(20)
    first = np.concatenate([(ring + 1) % 20, 20 + (ring + 1) % 20, [0]]).astype(np.int32)
    near = np.full((41, 2), -1, np.int32)
    near[:, 0], near[:40, 1] = first, 40
    near[40, 1] = 20
    far = np.stack([np.full(41, 0.1), np.full(41, 0.15)], axis=1).astype(np.float32)
    return Graph(np.arange(41), near, far, 41, True), 40


def test_a_hub_does_not_glue_strangers_together() -> None:
    graph, hub = glued()
    truth = np.repeat([0, 1], 20)

    def found(most: int) -> NDArray[np.int64]:
        edges = edges_of(graph, max_distance=1, max_in_degree=most)
        assert np.bincount(edges.pairs.ravel(), minlength=41)[hub] <= most + 2
        return communities(edges, "leiden", resolution=0.05, seed=0)[:40]

    assert len(np.unique(found(1000))) == 1
    assert adjusted_rand_score(truth, found(1)) > 0.9
    few = edges_of(graph, max_distance=1, max_in_degree=1)
    many = edges_of(graph, max_distance=1, max_in_degree=1000)
    assert len(many.pairs) - len(few.pairs) == 39


def test_edges_are_those_asked_for(tmp_path: Path) -> None:
    points = planted(4, 15)
    graph = neighbour_graph(space_of(points, tmp_path), 5)
    longest = usual_distance(graph)
    low, high = np.quantile(np.log(graph.distances[:, 0]), (0.25, 0.75))
    fence = np.exp(high + 1.5 * (high - low))
    assert longest == pytest.approx(min(fence, graph.distances[:, 0].max()))
    edges = edges_of(graph, max_in_degree=100)
    wanted = {
        (min(row, int(other)), max(row, int(other)))
        for row in range(60)
        for other, far in zip(graph.indices[row], graph.distances[row], strict=True)
        if far <= longest
    }
    assert {tuple(pair) for pair in edges.pairs.tolist()} == wanted
    mutual = edges_of(graph, max_in_degree=100, mutual=True)
    both = {(a, b) for a, b in wanted if b in graph.indices[a] and a in graph.indices[b]}
    assert {tuple(pair) for pair in mutual.pairs.tolist()} == both
    far = np.linalg.norm(points[edges.pairs[:, 0]] - points[edges.pairs[:, 1]], axis=1)
    assert edges.weights == pytest.approx(np.exp(-far / np.median(graph.distances[:, 0])), rel=1e-4)


def test_agreement_by_hand() -> None:
    cluster_of = np.array([1, 1, 1, 2, 2, 0])
    labels = pd.Series(["a", "a", "b", "b", "b", "a"])
    length = np.array([10.0, 10, 1, 5, 5, 100])
    one = agreement_of(cluster_of, labels, rank="species", length=length)
    assert one is not None
    # Clusters {a, a, b}, {b, b} and {a} alone.
    assert (one.sequences, one.labels, one.clusters) == (6, 2, 3)
    assert one.purity == pytest.approx(5 / 6)
    assert one.purity_bases == pytest.approx((20 + 10 + 100) / 131)
    assert one.completeness_share == pytest.approx(4 / 6)
    # Pairs together: 3 + 1, of one label among them 1 + 1; of one label in all 3 + 3.
    assert (one.precision, one.recall) == pytest.approx((2 / 4, 2 / 6))
    assert one.f1 == pytest.approx(2 * 2 / (4 + 6))
    # Nine tenths of the three a need both their clusters, and so do those of b.
    assert one.fragmentation == 2
    assert agreement_of(cluster_of, pd.Series([None, "", ".", None, "", ""])) is None


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["x", "y", "z", ""])), min_size=1, max_size=40))
@settings(deadline=None)
def test_agreement_is_that_of_scikit_learn(rows: list[tuple[int, str]]) -> None:
    cluster_of, labels = np.array([row[0] for row in rows]), pd.Series([row[1] for row in rows])
    one = agreement_of(cluster_of, labels)
    told = (labels != "").to_numpy()
    if not told.any():
        assert one is None
        return
    assert one is not None
    truth, mine = labels[told], cluster_of[told]
    assert one.v_measure == pytest.approx(v_measure_score(truth, mine))
    assert one.ari == pytest.approx(adjusted_rand_score(truth, mine))
    pairs = pair_confusion_matrix(truth, mine)
    both, wrong, missed = pairs[1, 1], pairs[0, 1], pairs[1, 0]
    assert one.precision == (pytest.approx(both / (both + wrong)) if both + wrong else None)
    assert one.recall == (pytest.approx(both / (both + missed)) if both + missed else None)


def test_clusters_are_numbered_by_size() -> None:
    found = numbered(np.array([7, 7, 3, 3, 3, 9, -1, 5, 5]), 2)
    assert found.tolist() == [2, 2, 1, 1, 1, 0, 0, 3, 3]


@pytest.mark.parametrize("method", ["leiden", "infomap"])
@pytest.mark.parametrize(
    ("points", "expected"), [(1, [0]), (2, [1, 1]), (100, [1] * 100)], ids=["one", "two", "equal"]
)
def test_few_and_equal_points(tmp_path: Path, method: Any, points: int, expected: list[int]) -> None:
    space = space_of(np.ones((points, 3)), tmp_path)
    made = cluster(space, method=method, resolution=1, k=99, output=tmp_path / "out")
    assert made.cluster.tolist() == expected
    far = space_of(np.random.default_rng(2).normal(size=(30, 3)) * 1e9, tmp_path)
    assert cluster(far, method=method, max_distance=0.5).clusters == 0


def test_tables_say_what_is_in_the_clusters(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    obs = pd.DataFrame(
        {
            "length": rng.integers(1000, 9000, 60),
            "gc": np.repeat([0.3, 0.4, 0.5, 0.6], 15) + 0.01 * rng.normal(size=60),
            "species": np.repeat(list("wxyz"), 15),
        }
    )
    space = space_of(planted(4, 15), tmp_path, metric="cosine", obs=obs)
    made = cluster(space, resolution=1, output=tmp_path / "out")
    table = pd.read_csv(tmp_path / "out/clusters.tsv", sep="\t").set_index("cluster")
    members = pd.read_csv(tmp_path / "out/cluster_members.tsv", sep="\t")
    assert sorted(members.id) == sorted(space.ids)
    for number in table.index.tolist():
        row, mine = table.loc[number], members[members.cluster == number]
        assert (row["size"], row.bases) == (len(mine), mine.length.sum())
        assert (row.gc_min, row.gc_max) == pytest.approx((mine.gc.min(), mine.gc.max()), rel=1e-5)
        assert row.longest == mine.id[mine.length.idxmax()]
        assert row.longest_length == mine.length.max()
    told = json.loads((tmp_path / "out/clusters.json").read_text())
    assert told["agreement"][0]["ari"] == 1
    assert told["gc_sd_within"] == pytest.approx(0.01, abs=0.004)
    assert told["settings"]["edges"] > 0
    assert made.text().startswith("4 clusters of 60 of 60")
    with pytest.raises(UsageError, match="exists already"):
        cluster(space, output=tmp_path / "out")


def test_the_command_keeps_the_clusters_in_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = organisms(80)
    table.obsm["X_kinmer"] = planted(8, 10).astype(np.float32)
    path = tmp_path / "a.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        table.write_zarr(path)
    known = tmp_path / "known.tsv"
    known.write_text("id\tgenus\n" + "".join(f"s{row}\tg{row // 10}\n" for row in range(80)))
    assert run(["cluster", str(path), "-o", str(tmp_path / "out"), "--metadata", str(known)]) == 0
    assert "genus" in capsys.readouterr().out
    kept = anndata.read_zarr(path).obs["cluster"].to_numpy()
    # What lies unusually far from its nearest may be in none.
    assert (kept > 0).mean() > 0.9
    assert adjusted_rand_score(np.repeat(np.arange(8), 10)[kept > 0], kept[kept > 0]) == 1
    assert run(["cluster", str(path), "--method", "hdbscan"]) == 2
    assert "run kinmer map first" in capsys.readouterr().err
    assert run(["cluster", str(path), "--resolution", "0"]) == 2
