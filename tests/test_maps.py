"""Maps: affinities and descent against openTSNE's own, neighbors that stay together, kills, few points."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from numpy.typing import NDArray
from openTSNE import TSNE, affinity, initialization, nearest_neighbors
from openTSNE.tsne import kl_divergence_bh, kl_divergence_fft
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

import kinmer
from kinmer import embed
from kinmer.cli import run
from kinmer.errors import FormatError, InputError, MismatchError, UsageError
from kinmer.library import build_index
from kinmer.maps import MapResult, descent, make_map, open_map, place, placement, projection
from kinmer.maps.affinity import Affinities, calibrate, straight, symmetric
from kinmer.maps.descent import Objective, State, Unfinished, descend
from kinmer.maps.picture import beside, check_color
from kinmer.maps.projection import SPREAD, plane_of, start_of
from kinmer.profiles import ProfileStore
from kinmer.vectors import Graph, neighbor_graph, open_vectors
from tests.organisms import encoder_of, organisms

GROUPS = 16
# Compiling UMAP takes its time.
METHODS = ["tsne", pytest.param("umap", marks=pytest.mark.slow)]
QUICK: dict[str, Any] = {"iterations": 150, "threads": 1}


def clumps(points: int, *, dim: int = 24, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(points, dim) vectors around some centers that are the same for every seed, and their groups."""
    centers = np.random.default_rng(7).normal(size=(GROUPS, dim))
    rng = np.random.default_rng(seed)
    group = rng.integers(0, GROUPS, points)
    return (centers[group] + 0.35 * rng.normal(size=(points, dim))).astype(np.float32), group


def table_of(path: Path, vectors: NDArray[np.floating[Any]], name: str = "s") -> Path:
    """An .npy table of vectors with its ids."""
    np.save(path, vectors)
    path.with_suffix(".txt").write_text("".join(f"{name}{row}\n" for row in range(len(vectors))))
    return path


def kept(vectors: NDArray[Any], points: NDArray[Any], k: int = 10) -> float:
    """The share of the k nearest by cosine that are among the k nearest on the map."""
    near = [
        np.argsort(cdist(one, one, how) + np.diag([np.inf] * len(one)), axis=1)[:, :k]
        for one, how in ((vectors, "cosine"), (points, "euclidean"))
    ]
    return float(np.mean([len(set(a) & set(b)) / k for a, b in zip(*near, strict=True)]))


def groups_kept(points: NDArray[Any], group: NDArray[Any]) -> float:
    """The share of points whose nearest on the map is of their group."""
    far = cdist(points, points) + np.diag([np.inf] * len(points))
    return float((group[far.argmin(axis=1)] == group).mean())


def graph_of(tmp_path: Path, points: int, k: int) -> Graph:
    """The neighbors of some clumps."""
    return neighbor_graph(open_vectors(table_of(tmp_path / "some.npy", clumps(points)[0])), k)


def affinities_of(graph: Graph, perplexity: float = 10) -> Affinities:
    """P, the graph left as it is."""
    return symmetric(graph.indices, calibrate(graph.indices, graph.distances.copy(), perplexity, threads=1))


def as_matrix(found: Affinities) -> csr_matrix:
    """P as SciPy knows it."""
    return csr_matrix((found.values, found.columns, found.starts), shape=(len(found), len(found)))


def oracle(graph: Graph, perplexity: float = 10) -> Any:
    """openTSNE's affinities of the same neighbors."""
    near = nearest_neighbors.PrecomputedNeighbors(graph.indices.copy(), graph.distances.copy())
    return affinity.PerplexityBasedNN(knn_index=near, perplexity=perplexity)


def test_affinities_are_those_of_opentsne(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, 500, 30)
    found, wanted = as_matrix(affinities_of(graph)), oracle(graph).P
    assert found.nnz == wanted.nnz
    assert abs(found - wanted).max() < 1e-5 * wanted.max()
    assert abs(found - found.T).max() < 1e-12
    assert found.sum() == pytest.approx(1, abs=1e-6)


def test_lines_between_directions() -> None:
    vectors = clumps(20)[0].astype(float)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    far = cdist(vectors, vectors, "cosine").astype(np.float32)
    assert straight(far.copy(), "cosine") == pytest.approx(cdist(units, units), abs=1e-3)
    assert (straight(far.copy(), "l2") == far).all()


def test_neighbors_that_are_not_there_have_no_share() -> None:
    indices = np.array([[1, 2], [0, -1], [-1, -1]], np.int32)
    distances = np.array([[0.5, 0.5], [0.5, np.inf], [np.inf, np.inf]], np.float32)
    shares = calibrate(indices, distances.copy(), 1.5, threads=1)
    assert shares == pytest.approx(np.array([[0.5, 0.5], [1, 0], [0, 0]]))
    matrix = as_matrix(symmetric(indices, shares)).toarray()
    assert matrix == pytest.approx(np.array([[0, 1.5, 0.5], [1.5, 0, 0], [0.5, 0, 0]]) / 4)
    assert calibrate(indices, distances.copy(), 1, threads=1) == pytest.approx(shares)


@pytest.mark.parametrize("fast", [False, True])
def test_divergence_and_gradient_are_those_of_opentsne(
    tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(descent, "FAST_ABOVE", 0 if fast else 10_000)
    graph = graph_of(tmp_path, 400, 30)
    objective = Objective(affinities_of(graph), threads=2, exaggeration=1)
    points = np.random.default_rng(0).normal(0, 5, (400, 2))
    asked: dict[str, Any] = {
        "dof": 1,
        "bh_params": {"theta": 0.5},
        "fft_params": {"n_interpolation_points": 3, "min_num_intervals": 50, "ints_in_interval": 1},
    }
    found, gradient = objective(points, None, should_eval_error=True, **asked)
    oracles = kl_divergence_fft if fast else kl_divergence_bh
    wanted, steps = oracles(points, oracle(graph).P, should_eval_error=True, **asked)
    assert found == pytest.approx(wanted, rel=1e-6)
    assert gradient == pytest.approx(steps, abs=1e-6 * abs(steps).max())
    objective.exaggeration = 12
    _, stronger = objective(points, None, **asked)
    _, steps = oracles(points, oracle(graph).P * 12, **asked)
    assert stronger == pytest.approx(steps, abs=1e-6 * abs(steps).max())


def test_the_descent_ends_as_low_as_opentsne(tmp_path: Path) -> None:
    graph = graph_of(tmp_path, 400, 30)
    start = np.random.default_rng(0).normal(0, SPREAD, (400, 2))
    points, found = descend(affinities_of(graph), State(start), 150, threads=1)
    plain = TSNE(initialization=start, early_exaggeration_iter=50, n_iter=100, n_jobs=1)
    wanted = plain.fit(affinities=oracle(graph)).kl_divergence
    assert found == pytest.approx(wanted, rel=0.02)
    assert (descend(affinities_of(graph), State(start), 150, threads=2)[0] == points).all()


def test_the_start_is_the_plane_of_the_principal_components(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "JITTER", 0.0)
    vectors = clumps(300)[0] + 100
    space = open_vectors(table_of(tmp_path / "some.npy", vectors), metric="l2")
    found = start_of(space, plane_of(space), 0)
    wanted = initialization.pca(vectors.astype(float), add_jitter=False, svd_solver="full")
    assert np.abs(found) == pytest.approx(np.abs(wanted), abs=1e-9)
    space = open_vectors(table_of(tmp_path / "some.npy", vectors), metric="cosine")
    longer = open_vectors(table_of(tmp_path / "longer.npy", 4 * vectors), metric="cosine")
    assert start_of(space, plane_of(space), 0) == pytest.approx(
        start_of(longer, plane_of(longer), 0), abs=1e-9
    )


@pytest.mark.parametrize("method", METHODS)
def test_neighbors_stay_together(tmp_path: Path, method: Any) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    vectors, group = clumps(400)
    path = table_of(tmp_path / "some.npy", vectors)
    space = open_vectors(path)
    start = start_of(space, plane_of(space), 0)
    made = make_map(path, method=method, perplexity=10, **QUICK)
    assert kept(vectors, made.coordinates) > 1.5 * kept(vectors, start)
    assert groups_kept(made.coordinates, group) > 0.97 > groups_kept(start, group)
    assert made.coordinates.dtype == np.float32
    again = make_map(path, method=method, perplexity=10, **QUICK)
    assert (again.coordinates == made.coordinates).all()
    other = make_map(path, method=method, perplexity=10, seed=1, **QUICK)
    assert not (other.coordinates == made.coordinates).all()


@pytest.mark.parametrize("fast", [False, True])
def test_new_points_come_to_their_own(tmp_path: Path, fast: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "FAST_ABOVE", 0 if fast else 10_000)
    monkeypatch.setattr(placement, "EXACT_BELOW", 0 if fast else 10_000)
    monkeypatch.setattr(placement, "FEW_QUERIES", 20)
    vectors, group = clumps(400)
    path = table_of(tmp_path / "old.npy", vectors)
    known = make_map(path, perplexity=10, output=tmp_path / "map", **QUICK)
    fresh, theirs = clumps(60, seed=1)
    more = table_of(tmp_path / "new.npy", fresh, "n")
    placed = place(more, tmp_path / "map.json", output=tmp_path / "placed.tsv", threads=1)
    nearest = cdist(placed.coordinates, known.coordinates).argmin(axis=1)
    assert (group[nearest] == theirs).mean() > 0.95
    few = table_of(tmp_path / "few.npy", fresh[:5], "n")
    alone = place(few, known, threads=1)
    assert alone.coordinates == pytest.approx(placed.coordinates[:5], abs=0.01)  # The engine rounds.
    assert (open_map(tmp_path / "placed").coordinates == placed.coordinates).all()
    with pytest.raises(UsageError, match="placed sequences only"):
        place(few, placed)


def test_placing_refuses_what_is_of_another_space(tmp_path: Path) -> None:
    held, encoder = organisms(60), encoder_of()
    embed(held, encoder)
    known = make_map(held, **QUICK)
    others = organisms(30, seed=5)
    assert len(place(others, known, vectors=encoder, reference=held)) == 30
    with pytest.raises(InputError, match="vectors are not there"):
        place(others, known, vectors=encoder)
    with pytest.raises(MismatchError, match="another encoder"):
        place(others, known, vectors=encoder_of(seed=3), reference=held)
    with pytest.raises(MismatchError, match="another encoder"):
        place(others, known, vectors="raw", reference=held)
    held.obsm["X_kinmer"] = held.obsm["X_kinmer"] + 1
    with pytest.raises(MismatchError, match="not the vectors"):
        place(others, known, vectors=encoder, reference=held)


class KilledError(Exception):
    """Stands for a kill."""


def test_a_killed_map_resumes_to_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "KEEP_ABOVE", 0)
    monkeypatch.setattr(descent, "SAVE_SECONDS", 0.0)
    path = table_of(tmp_path / "some.npy", clumps(200)[0])
    whole = make_map(path, **QUICK)
    saves, stops = 0, [3, 12]  # In the first iterations, and after them.
    keep = Unfinished.keep_state

    def killed(self: Unfinished, state: State) -> None:
        nonlocal saves
        keep(self, state)
        saves += 1
        if saves in stops:
            raise KilledError

    monkeypatch.setattr(Unfinished, "keep_state", killed)
    for _ in stops:
        with pytest.raises(KilledError):
            make_map(path, output=tmp_path / "map", **QUICK)
        assert not (tmp_path / "map.tsv").exists()
    monkeypatch.setattr(Unfinished, "keep_state", keep)
    monkeypatch.setattr(projection, "neighbor_graph", None)  # They are there already.
    found = make_map(path, output=tmp_path / "map", **QUICK)
    assert (found.coordinates == whole.coordinates).all()
    assert found.divergence == whole.divergence
    assert sorted(one.name for one in tmp_path.glob("*map*")) == ["map.json", "map.tsv"]
    assert not list(tmp_path.glob(".*"))


def test_a_state_of_other_settings_is_not_resumed(tmp_path: Path) -> None:
    folder = tmp_path / ".map.map"
    with Unfinished(folder, {"seed": 0}) as first:
        first.keep_state(State(np.ones((2, 2)), 7, np.zeros((2, 2)), np.ones((2, 2))))
        with pytest.raises(UsageError, match="another process is making this map"):
            Unfinished(folder, {"seed": 0})
    with Unfinished(folder, {"seed": 0}) as again:
        kept = again.state()
    assert kept is not None
    assert kept.done == 7
    assert (kept.points == 1).all()
    with Unfinished(folder, {"seed": 1}) as other:
        assert other.state() is None
    (folder / "state.npy").write_bytes(b"half")
    with Unfinished(folder, {"seed": 1}) as other:
        assert other.state() is None


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("points", [1, 2, 3, 5, 100])
@pytest.mark.parametrize("same", [False, True])
def test_few_and_equal_points(tmp_path: Path, method: Any, points: int, same: bool) -> None:
    if method == "umap":
        pytest.importorskip("umap")
    vectors = np.repeat(clumps(1)[0], points, axis=0) if same else clumps(points)[0]
    made = make_map(table_of(tmp_path / "some.npy", vectors), method=method, **QUICK)
    assert made.coordinates.shape == (points, 2)
    assert np.isfinite(made.coordinates).all()
    if method == "tsne" and points < 90:
        assert "perplexity" in made.notes[0]
        assert len(place(table_of(tmp_path / "new.npy", vectors, "n"), made, threads=1)) == points
    if not same:
        assert len(np.unique(made.coordinates, axis=0)) == points


@pytest.mark.parametrize("scale", [1e-12, 1e12])
def test_extreme_vectors(tmp_path: Path, scale: float) -> None:
    vectors, group = clumps(150)
    path = table_of(tmp_path / "some.npy", (vectors * scale).astype(np.float32))
    for metric in ("cosine", "l2"):
        made = make_map(path, metric=metric, perplexity=10, **QUICK)
        assert groups_kept(made.coordinates, group) > 0.9


def test_coordinates_stand_beside_the_profiles(tmp_path: Path) -> None:
    held, encoder = organisms(60), encoder_of()
    path = tmp_path / "some.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        held.write_zarr(path)
    embed(path, encoder)
    known = tmp_path / "known.tsv"
    known.write_text(f'id\tgroup\n{held.obs_names[3]}\tsaid "a b"\n')
    made = make_map(path, output=tmp_path / "map.html", metadata=known, **QUICK)
    assert (ProfileStore.open(path).read_obsm("X_tsne") == made.coordinates).all()
    assert (anndata.read_zarr(path).obsm["X_tsne"] == made.coordinates).all()
    for source in (path, tmp_path / "map", tmp_path / "map.tsv"):
        found = open_map(source)
        assert (found.coordinates == made.coordinates).all()
        assert found.ids.tolist() == made.ids.tolist()
        assert (found.settings, found.source, found.divergence) == (
            made.settings,
            made.source,
            made.divergence,
        )
    assert open_map(tmp_path / "map").obs["group"].dropna().tolist() == ['said "a b"']
    assert open_map(tmp_path / "map").obs["length"].tolist() == made.obs["length"].tolist()
    make_map(path, **QUICK)  # The same again is no replacement.
    with pytest.raises(UsageError, match="has X_tsne already"):
        make_map(path, seed=1, **QUICK)
    make_map(path, seed=1, keep=False, **QUICK)
    assert (ProfileStore.open(path).read_obsm("X_tsne") == made.coordinates).all()
    fresh = make_map(path, seed=1, force=True, **QUICK)
    assert (ProfileStore.open(path).read_obsm("X_tsne") == fresh.coordinates).all()
    embed(held, encoder)
    beside = make_map(held, **QUICK)
    assert (held.obsm["X_tsne"] == beside.coordinates).all()
    assert (open_map(held).coordinates == made.coordinates).all()
    build_index(path, tmp_path / "kin.db", encoder=encoder)
    assert (make_map(tmp_path / "kin.db", **QUICK).coordinates == made.coordinates).all()


def test_what_cannot_be_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = table_of(tmp_path / "some.npy", clumps(20)[0])
    for settings in ({"perplexity": 0}, {"iterations": 0}, {"method": "pca"}):
        with pytest.raises(UsageError):
            make_map(path, **settings)
    made = make_map(path, output=tmp_path / "map", **QUICK)
    with pytest.raises(UsageError, match="exists already"):
        make_map(path, output=tmp_path / "map", **QUICK)
    with pytest.raises(InputError, match="no such map"):
        open_map(tmp_path / "absent")
    told = json.loads((tmp_path / "map.json").read_text())
    assert told["settings"]["perplexity"] == pytest.approx(19 / 3)
    rows = (tmp_path / "map.tsv").read_text().splitlines(keepends=True)
    (tmp_path / "map.tsv").write_text("".join(rows[:-1]))
    with pytest.raises(FormatError, match="not the one"):
        open_map(tmp_path / "map")
    flat = MapResult(made.ids, made.coordinates, made.obs, "umap", {}, made.source)
    with pytest.raises(UsageError, match="t-SNE only"):
        place(path, flat)
    monkeypatch.setitem(sys.modules, "openTSNE", None)
    monkeypatch.setattr("kinmer.errors.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"kinmer\[explore\]"):
        make_map(path)


def test_the_command_maps_draws_and_places(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors, _ = clumps(120)
    path, name = table_of(tmp_path / "some.npy", vectors), str(tmp_path / "map")
    known = tmp_path / "known.tsv"
    known.write_text("id\tdepth\thome\n" + "".join(f"s{row}\t0.{row:03}\tsea\n" for row in range(100)))
    asked = [
        "map",
        str(path),
        "-o",
        f"{name}.html",
        "--iterations",
        "60",
        "-t",
        "1",
        "--metadata",
        str(known),
    ]
    assert run([*asked, "--color", "absent"]) == 2
    assert "there is depth, home" in capsys.readouterr().err
    assert not list(tmp_path.glob("map*"))
    assert run(asked) == 0
    assert capsys.readouterr().out.startswith("120 sequences, Kullback")
    assert {one.suffix for one in tmp_path.glob("map.*")} == {".tsv", ".json", ".png", ".svg", ".html"}
    made = open_map(name)
    assert made.obs["home"].notna().sum() == 100
    assert run(asked) == 2
    again = ["map", name, "-o", str(tmp_path / "again"), "--from-store", "--no-page", "--color", "home"]
    assert run(again) == 0
    assert not (tmp_path / "again.html").exists()
    assert (open_map(tmp_path / "again").coordinates == made.coordinates).all()
    more = table_of(tmp_path / "more.npy", clumps(30, seed=1)[0], "n")
    assert run(["map", str(more), "-o", str(tmp_path / "more"), "--into", name, "-t", "1"]) == 0
    assert len(open_map(tmp_path / "more")) == 30
    assert "placed" in (tmp_path / "more.html").read_text()
    capsys.readouterr()
    assert run([*again[:4], "--from-store", "--into", name]) == 2
    assert run(["map", str(more), "-o", str(tmp_path / "x"), "--reference", str(path)]) == 2
    one = table_of(tmp_path / "one.npy", vectors[:1])
    assert run(["map", str(one), "-o", str(tmp_path / "one")]) == 0
    capsys.readouterr()
    assert run(["map", str(one), "-o", str(tmp_path / "old"), "--no-store"]) == 0
    assert "warning: --no-store is an old name · write --no-keep" in capsys.readouterr().err
    with pytest.warns(DeprecationWarning, match=r"kinmer\.make_map"):
        assert kinmer.tsne is make_map


def test_old_and_new_points_lie_in_one_picture(tmp_path: Path) -> None:
    made = make_map(table_of(tmp_path / "some.npy", clumps(30)[0]), **QUICK)
    both = beside(made, replace(made, coordinates=made.coordinates + 1))
    assert both.coordinates.tolist() == [*made.coordinates.tolist(), *(made.coordinates + 1).tolist()]
    assert both.obs["placed"].tolist() == ["on the map"] * 30 + ["placed"] * 30
    assert check_color(both.obs, None) == "placed"
    assert check_color(made.obs, None) == ""
