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
from scipy.stats import t as student
from sklearn.metrics import adjusted_rand_score, v_measure_score
from sklearn.metrics.cluster import pair_confusion_matrix

from kinmer import cluster, embed, evaluate_clusters
from kinmer.cli import run
from kinmer.clusters import agreement_of
from kinmer.clusters.communities import (
    by_density,
    communities,
    edges_of,
    mean_distances,
    numbered,
    usual_distance,
)
from kinmer.errors import InputError, UsageError
from kinmer.library import build_index
from kinmer.profiles import ProfileStore
from kinmer.vectors import Graph, neighbor_graph, open_vectors
from tests.organisms import encoder_of, organisms
from tests.test_analyses import space_of
from tests.test_duplicates import contigs, copy_of, store_of


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


def test_of_many_points_some_are_drawn() -> None:
    rng = np.random.default_rng(6)
    centres = np.array([[0, 0], [30, 0], [0, 30], [30, 30]])
    where = (np.repeat(centres, 500, axis=0) + rng.normal(size=(2000, 2))).astype(np.float32)
    found = by_density(where, min_size=20, sample=400)
    inside = found >= 0
    assert inside.mean() > 0.9
    assert adjusted_rand_score(np.repeat(np.arange(4), 500)[inside], found[inside]) == 1
    assert (by_density(where, min_size=20, sample=400) == found).all()


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
    graph = neighbor_graph(space_of(points, tmp_path), 5)
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
    assert (one.fragmentation_bases, one.unlabelled) == ((1 + 2) / 2, 0)
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


rows_of_bases = st.lists(
    st.tuples(st.integers(0, 4), st.sampled_from(["x", "y", "z"]), st.integers(1, 50)),
    min_size=2,
    max_size=25,
)


@given(rows_of_bases)
@settings(deadline=None)
def test_agreement_by_bases_is_that_of_all_pairs(rows: list[tuple[int, str, int]]) -> None:
    number, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    length = np.array([row[2] for row in rows], float)
    one = agreement_of(number, pd.Series(labels), length=length)
    assert one is not None
    upper = np.triu(np.outer(length, length), 1)
    same = (number[:, None] == number) & (number > 0)[:, None]
    alike = labels[:, None] == labels
    both, together, kin = (upper * same * alike).sum(), (upper * same).sum(), (upper * alike).sum()
    assert one.f1_bases == (pytest.approx(2 * both / (together + kin)) if together + kin else None)
    if not (same | ~alike)[np.triu_indices(len(rows), 1)].all() and together:
        chance = together * kin / upper.sum()
        assert one.ari_bases == pytest.approx((both - chance) / ((together + kin) / 2 - chance))
    # A sequence of n bases weighs as n sequences of one base in the same cluster.
    own = np.where(number > 0, number, -1 - np.arange(len(rows)))
    each = length.astype(int)
    assert one.v_measure_bases == pytest.approx(
        v_measure_score(np.repeat(labels, each), np.repeat(own, each))
    )


def test_intervals_leave_genomes_out() -> None:
    rng = np.random.default_rng(5)
    genome = np.repeat(np.arange(40), 6)
    kind, number = genome // 2, np.where(rng.random(240) < 0.8, genome // 2, rng.integers(0, 20, 240)) + 1
    labels, genomes = pd.Series(kind.astype(str)), pd.Series(genome.astype(str))
    one = agreement_of(number, labels, genome=genomes)
    assert one is not None
    without = [adjusted_rand_score(kind[genome != left], number[genome != left]) for left in range(40)]
    error = np.sqrt(39 / 40 * ((np.array(without) - np.mean(without)) ** 2).sum())
    reach = student.ppf(0.975, 39) * error
    assert (one.ari_low, one.ari_high) == pytest.approx((one.ari - reach, one.ari + reach))
    assert agreement_of(number, labels, genome=pd.Series(["g"] * 240))._asdict()["ari_low"] is None  # type: ignore[union-attr]


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_mean_distances_are_those_to_the_middle(
    tmp_path: Path, metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = planted(3, 20).astype(np.float32)
    space = space_of(points, tmp_path, metric=metric)
    number = np.random.default_rng(4).integers(0, 4, 60)
    monkeypatch.setattr(
        type(space), "blocks", lambda self: ((at, self.read(at, at + 7)) for at in range(0, 56, 7))
    )
    number[56:] = 0
    vectors = points / np.linalg.norm(points, axis=1, keepdims=True) if metric == "cosine" else points
    wanted = []
    for one in (1, 2, 3):
        mine, middle = vectors[number == one], vectors[number == one].mean(axis=0)
        far = mine @ middle / np.linalg.norm(middle) if metric == "cosine" else mine - middle
        wanted.append((1 - far).mean() if metric == "cosine" else np.linalg.norm(far, axis=1).mean())
    assert mean_distances(space, number) == pytest.approx(wanted, rel=1e-5)
    assert mean_distances(space, np.zeros(60, np.int64)).size == 0


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
    assert "the store has clusters already" in capsys.readouterr().err
    assert run(["cluster", str(path), "--method", "hdbscan", "--force"]) == 2
    assert "run kinmer map first" in capsys.readouterr().err
    assert run(["cluster", str(path), "--resolution", "0"]) == 2


def test_a_run_that_was_killed_before_the_store_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = organisms(80)
    table.obsm["X_kinmer"] = planted(8, 10).astype(np.float32)
    path, out = tmp_path / "a.zarr", tmp_path / "out"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        table.write_zarr(path)

    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ProfileStore, "write_obs", killed)
        with pytest.raises(KeyboardInterrupt):
            cluster(path, output=out)
    with pytest.raises(UsageError, match="exists already"):
        cluster(path, output=out, k=14)
    with monkeypatch.context() as patch:
        patch.setattr("kinmer.clusters.partition.communities", killed)
        made = cluster(path, output=out)
    assert (anndata.read_zarr(path).obs["cluster"].to_numpy() == made.cluster).all()
    assert (cluster(path, keep=False).cluster == made.cluster).all()
    with pytest.raises(UsageError, match="exists already"):
        cluster(path, output=out)
    assert sorted(one.name for one in tmp_path.iterdir() if one.name.startswith(".")) == []


def test_clusters_of_any_origin_are_compared_with_labels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bins, labels = tmp_path / "bins.tsv", tmp_path / "labels.tsv"
    bins.write_text("id\tbin\n" + "".join(f"s{row}\tb{'aab0-'[row % 5]}\n" for row in range(50)) + "x\t-1\n")
    kind = ["p" if row % 5 < 2 else "q" for row in range(50)]
    rows = "".join(f"s{row}\t{kind[row]}\tg{row // 5}\n" for row in range(49))
    labels.write_text("id\tSpecies\tgenome_id\n" + rows)
    found = evaluate_clusters(bins, labels=labels, column="bin", ranks=["species"])
    (one,) = found.agreement
    mine = ["aab0-"[row % 5] for row in range(49)]
    assert (found.clusters, found.inside, found.sequences, one.unlabelled) == (4, 50, 51, 2)
    assert one.ari == pytest.approx(adjusted_rand_score(kind[:49], mine))
    assert one.ari_low is not None
    # What `kinmer search --format calls` writes calls its ids so.
    calls = tmp_path / "calls.tsv"
    calls.write_text(labels.read_text().replace("id\tSpecies", "query_id\tSpecies", 1))
    assert evaluate_clusters(bins, labels=calls, column="bin", ranks=["species"]).agreement == (one,)
    args = ["evaluate", "clusters", str(bins), "--labels", str(labels), "--column", "bin"]
    assert run([*args, "-o", str(tmp_path / "told")]) == 0
    assert json.loads((tmp_path / "told.json").read_text())["agreement"][1]["ari"] == one.ari
    assert len(pd.read_csv(tmp_path / "told.tsv", sep="\t")) == 2
    assert "(up to 2)" in capsys.readouterr().out
    assert run([*args, "-o", str(tmp_path / "told")]) == 2
    for wrong in (["evaluate", "clusters", str(bins)], [*args[:3], "--column", "bin"]):
        assert run(wrong) == 2
    # The 0 of kinmer's own clusters is none; another program's is a cluster.
    bins.write_text("id\tcluster\tleiden\tspecies\na\t0\t0\tp\nb\t0\t0\tp\nc\t1\t1\tp\nd\t1\t1\tq\n")
    assert evaluate_clusters(bins).inside == 2
    assert evaluate_clusters(bins, column="leiden").inside == 4
    with pytest.raises(InputError, match="no column"):
        evaluate_clusters(bins, column="bin")
    bins.write_text("id\tcluster\na\t0\na\t1\n")
    with pytest.raises(InputError, match="occurs twice"):
        evaluate_clusters(bins)


SAMPLES = [("0", 5), ("1", 2), ("3", 3), ("trim", 2), ("reverse", 2)]


def against_one(
    folder: Path, kind: str, samples: int, *, coding: bool, seed: int, length: Any, methods: tuple[Any, ...]
) -> None:
    """Clusters of samples that overlap are as complete and pure as those of the first alone."""
    made, species = contigs(6, 20, length, seed=seed)
    rng = np.random.default_rng(seed + 100)
    others = [[copy_of(one, kind, rng) for one in made] for _ in range(samples - 1)]
    stores = []
    for name, several in (("one", [made]), ("all", [made, *others])):
        (folder / name).mkdir()
        stores.append(store_of(several, folder / name, coding=coding))
        if coding:
            embed(stores[-1], "kin-1")
    for method in methods:
        vectors = "X_kinmer" if coding else "raw"
        alone, together = (cluster(one, vectors=vectors, method=method, keep=False) for one in stores)
        before = agreement_of(alone.cluster, pd.Series(species))
        after = agreement_of(together.cluster, pd.Series(np.tile(species, samples)))
        assert before is not None
        assert after is not None
        assert after.completeness_share >= 0.95 * before.completeness_share
        assert after.purity >= before.purity - 0.002
        assert alone.settings["near_duplicates"] == 0
        assert "near-duplicates" not in alone.text()
        copies = len(made) * (samples - 1)
        assert 0.95 * copies <= together.settings["near_duplicates"] <= copies
        assert f"{together.settings['near_duplicates']:,} near-duplicates go with" in together.text()
        if kind == "0":
            # The first sample's contigs stand for all: the same graph, and the same edges.
            assert together.settings["max_distance"] == alone.settings["max_distance"]
            in_both = np.tile(alone.cluster, samples)
            assert (together.cluster[in_both > 0] == in_both[in_both > 0]).all()


@pytest.mark.parametrize(("kind", "samples"), SAMPLES)
def test_samples_that_overlap_make_no_clusters_of_copies(tmp_path: Path, kind: str, samples: int) -> None:
    against_one(tmp_path, kind, samples, coding=False, seed=3, length=5000, methods=("infomap", "leiden"))


@pytest.mark.slow
@pytest.mark.parametrize("length", [8000, (2000, 20_000)], ids=["even", "mixed"])
@pytest.mark.parametrize(
    ("kind", "samples"), [("0.01", 3), ("0.1", 5), ("3", 5), ("trim", 3), ("reverse", 2)]
)
def test_so_do_those_of_the_encoder_in_the_box(tmp_path: Path, kind: str, samples: int, length: Any) -> None:
    against_one(tmp_path, kind, samples, coding=True, seed=4, length=length, methods=("infomap", "leiden"))


def test_more_copies_than_neighbors_still_lie_with_their_species(tmp_path: Path) -> None:
    made, species = contigs(3, 8, 4000, seed=1)
    rng = np.random.default_rng(2)
    store = store_of([made, *([copy_of(one, "1", rng) for one in made] for _ in range(19))], tmp_path)
    found = cluster(store, vectors="raw", k=5, keep=False)
    agreed = agreement_of(found.cluster, pd.Series(np.tile(species, 20)))
    assert agreed is not None
    assert agreed.purity == 1
    assert agreed.completeness_share > 0.95


def test_without_near_duplicates_nothing_changes(tmp_path: Path) -> None:
    made, _ = contigs(5, 15, (2000, 9000), seed=8)
    space = open_vectors(store_of([made], tmp_path), vectors="raw")
    edges = edges_of(neighbor_graph(space, 15), max_in_degree=60)
    methods: tuple[Any, ...] = ("infomap", "leiden")
    for method in methods:
        wanted = numbered(communities(edges, method, resolution=3, seed=0), 2)
        assert (cluster(space, method=method, keep=False).cluster == wanted).all()


def test_an_index_knows_copies_by_its_sequences(tmp_path: Path) -> None:
    made, species = contigs(4, 15, 4000, seed=6)
    rng = np.random.default_rng(9)
    store_of([made, [copy_of(one, "1", rng) for one in made]], tmp_path)
    build_index([tmp_path / "all.fna"], tmp_path / "kin.db", encoder=encoder_of(6, dim=16))
    made_of = cluster(tmp_path / "kin.db", output=tmp_path / "out")
    assert made_of.settings["near_duplicates"] >= 57
    members = pd.read_csv(tmp_path / "out/cluster_members.tsv", sep="\t", na_values=".")
    repeated = members[members.representative.notna()]
    assert len(repeated) == made_of.settings["near_duplicates"]
    # A copy is of the contig with the same number, and in the same cluster.
    assert (repeated.id.str[3:] == repeated.representative.str[3:]).all()
    number = members.set_index("id").cluster
    assert (number[repeated.id].to_numpy() == number[repeated.representative].to_numpy()).all()
    assert json.loads((tmp_path / "out/clusters.json").read_text())["settings"]["near_duplicates"] >= 57
    assert len(species) == 60


def test_copies_make_no_dense_places_of_a_map(tmp_path: Path) -> None:
    made, species = contigs(3, 12, 3000, seed=2)
    rng = np.random.default_rng(1)
    store = store_of([made, *([copy_of(one, "0", rng) for one in made] for _ in range(5))], tmp_path)
    where = np.array([[0, 0], [40, 0], [0, 40]])[species] + 4 * rng.normal(size=(36, 2))
    several = np.tile(where, (6, 1)) + 0.01 * rng.normal(size=(216, 2))
    with ProfileStore.open(store).obsm_writer("X_tsne", 2, provenance={}) as writer:
        writer.append(several.astype(np.float32))
        writer.finish()
    found = cluster(store, vectors="raw", method="hdbscan", keep=False)
    assert found.settings["near_duplicates"] == 180
    inside = found.cluster > 0
    assert inside.mean() > 0.7
    assert found.clusters == 3
    assert adjusted_rand_score(np.tile(species, 6)[inside], found.cluster[inside]) == 1


def test_vectors_alone_warn_where_copies_may_be(tmp_path: Path) -> None:
    points = planted(6, 30)
    again = points + 0.004 * np.random.default_rng(3).normal(size=points.shape)
    plain = cluster(space_of(points, tmp_path, metric="cosine"))
    assert "warning" not in plain.text()
    (tmp_path / "two").mkdir()
    copied = cluster(space_of(np.concatenate([points, again]), tmp_path / "two", metric="cosine"))
    assert "neighbors four times nearer than the next" in copied.text()
    (tmp_path / "three").mkdir()
    equal = cluster(space_of(np.concatenate([points, points]), tmp_path / "three", metric="cosine"))
    assert "180 equal vectors go with" in equal.text()
    assert equal.settings["max_distance"] == plain.settings["max_distance"]
