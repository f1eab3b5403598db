"""Points of every kind of source, and their nearest others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from kinmer import embed
from kinmer.errors import InputError, KinmerError, MismatchError, UsageError
from kinmer.library import build_index
from kinmer.library.join import with_metadata
from kinmer.vectors import neighbor_graph, open_vectors
from tests.organisms import encoder_of, organisms

METRICS = ("cosine", "l2")


def table_of(folder: Path, vectors: NDArray[np.floating[Any]]) -> Path:
    """An .npy table of vectors with its ids."""
    path = folder / "vectors.npy"
    np.save(path, vectors)
    path.with_suffix(".txt").write_text("".join(f"s{row}\n" for row in range(len(vectors))))
    return path


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
