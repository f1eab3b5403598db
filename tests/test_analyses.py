"""What is said of a space, against closed forms, scipy and scikit-learn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import anndata
import diptest
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from scipy.signal import find_peaks
from scipy.spatial.distance import cdist, pdist
from scipy.stats import chi2_contingency, gaussian_kde, linregress, skew
from sklearn.neighbors import NearestNeighbors

from kinmer import (
    analyze_counts,
    analyze_distances,
    analyze_groups,
    analyze_hubs,
    analyze_neighbors,
    analyze_one,
    embed,
)
from kinmer.analyses.distances import dip_of, gc_parting, modes_of
from kinmer.analyses.outputs import plain
from kinmer.cli import run
from kinmer.errors import InputError, ProfileError, UsageError
from kinmer.library import build_index
from kinmer.vectors import Vectors, open_vectors
from tests.organisms import encoder_of, organisms

ALL = (analyze_distances, analyze_neighbors, analyze_counts, analyze_one, analyze_hubs)


def space_of(
    vectors: NDArray[np.floating[Any]], folder: Path, *, metric: Any = "l2", obs: pd.DataFrame | None = None
) -> Vectors:
    """The points of an .npy table, with what is known of them."""
    path = folder / f"v{len(list(folder.iterdir()))}.npy"
    np.save(path, vectors.astype(np.float32))
    path.with_suffix(".txt").write_text("".join(f"s{row}\n" for row in range(len(vectors))))
    space = open_vectors(path, metric=metric)
    for name, column in () if obs is None else obs.items():
        space.obs[name] = column.to_numpy()
    return space


def test_distances_are_those_of_all_pairs(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(90, 7)) + 1
    found = analyze_distances(space_of(points, tmp_path))
    assert found.pairs == 90 * 89 // 2
    for metric, name in (("l2", "euclidean"), ("cosine", "cosine")):
        far, one = pdist(points.astype(np.float32), name), found.by_metric[metric]  # type: ignore[index]
        assert (one.mean, one.sd, one.minimum, one.maximum) == pytest.approx(
            (far.mean(), far.std(), far.min(), far.max()), rel=1e-5
        )
        assert one.quantiles["0.25"] == pytest.approx(np.quantile(far, 0.25), rel=1e-5)
        assert one.counts.sum() == len(far)


def test_sampled_distances_are_those_of_the_distribution(tmp_path: Path) -> None:
    """Squared distances of normal points are twice a chi-square's, with mean distance 2·Γ((d+1)/2)/Γ(d/2)."""
    d = 16
    found = analyze_distances(
        space_of(np.random.default_rng(1).normal(size=(3000, d)), tmp_path), pairs=200_000
    )
    expected = 2 * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    assert found.pairs == 200_000
    assert found.by_metric["l2"].mean == pytest.approx(expected, rel=5e-3)
    assert found.by_metric["cosine"].mean == pytest.approx(1, abs=5e-3)
    assert found.by_metric["l2"].modes == found.by_metric["cosine"].modes == 1
    assert found.by_metric["l2"].p is not None
    assert found.by_metric["l2"].p > 0.05
    assert found.by_metric["l2"].several == found.by_metric["cosine"].several == 0
    assert found.gc_threshold is None


def test_modes_are_those_of_scipy_and_of_the_density() -> None:
    rng = np.random.default_rng(12)
    # Two normal distributions of one sd have one mode up to a distance of 2 sd.
    for shift, modes in ((0.0, 1), (1.5, 1), (4.0, 2)):
        values = np.concatenate([rng.normal(size=8000), shift + rng.normal(size=8000)])
        curve = gaussian_kde(values, "silverman")(np.linspace(values.min(), values.max(), 400))
        assert modes_of(values) == len(find_peaks(curve, prominence=0.05 * curve.max())[0]) == modes
        assert dip_of(values) == pytest.approx(diptest.diptest(values))
    assert modes_of(rng.exponential(size=5000)) == 1
    assert modes_of(np.ones(50)) == 1


def test_gc_parts_where_two_densities_are_equal() -> None:
    rng = np.random.default_rng(13)
    gc = np.concatenate([rng.normal(0.4, 0.03, 4000), rng.normal(0.6, 0.03, 4000), [np.nan] * 5])
    assert gc_parting(gc, 0) == pytest.approx(0.5, abs=0.005)
    assert gc_parting(np.full(9, 0.5), 0) is None
    assert gc_parting(np.full(9, np.nan), 0) is None


def test_two_modes_are_seen_and_split_by_gc(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    group = rng.integers(0, 2, 2000)
    points = rng.normal(size=(2000, 8)) * 0.5
    points[:, 0] += np.where(group == 1, 6, -6)
    gc = np.where(group == 1, 0.62, 0.38) + 0.02 * rng.normal(size=2000)
    found = analyze_distances(space_of(points, tmp_path, obs=pd.DataFrame({"gc": gc})), pairs=50_000)
    one = found.by_metric["l2"]
    assert one.modes == 2
    assert one.p is not None
    assert one.p < 0.01
    assert found.gc_threshold == pytest.approx(0.5, abs=0.04)
    assert one.same_mean is not None
    assert one.other_mean is not None
    assert one.same_mean < 3 < 10 < one.other_mean
    assert one.split is not None
    assert one.split > 0.9
    assert one.same_gc is not None
    assert one.other_gc is not None
    assert (one.same_gc + one.other_gc == one.counts).all()
    assert one.several == 1
    # What is not known is of neither kind.
    gc[:500] = np.nan
    space = space_of(points, tmp_path, obs=pd.DataFrame({"gc": gc}))
    some = analyze_distances(space, pairs=50_000).by_metric["l2"]
    assert some.same_gc is not None
    assert some.other_gc is not None
    assert (some.same_gc + some.other_gc).sum() / some.counts.sum() == pytest.approx(0.75**2, abs=0.02)
    assert some.same_mean == pytest.approx(one.same_mean, rel=0.05)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_nearest_distances_are_those_of_scikit_learn(tmp_path: Path, metric: Any) -> None:
    points = np.random.default_rng(3).normal(size=(400, 5)).astype(np.float32)
    points[7] = points[3]
    found = analyze_neighbors(space_of(points, tmp_path, metric=metric), thresholds=[0.3], duplicates=0.001)
    theirs, _ = (
        NearestNeighbors(n_neighbors=2, metric="euclidean" if metric == "l2" else "cosine")
        .fit(points.astype(np.float64))
        .kneighbors()
    )
    assert found.distances == pytest.approx(theirs[:, 0], abs=1e-6)
    assert found.below[0.3] == (theirs[:, 0] < 0.3).mean()
    # Both of a pair name each other, and it is told once.
    assert ("s3", "s7") in [(one.id, one.other) for one in found.duplicates]
    assert len({(one.id, one.other) for one in found.duplicates}) == len(found.duplicates)
    some = analyze_neighbors(space_of(points, tmp_path, metric=metric), sample=50, seed=1)
    assert len(some.distances) == 50
    assert set(some.distances.round(6)) <= set(found.distances.round(6))


def test_counts_and_lines_are_those_of_scipy(tmp_path: Path) -> None:
    points = np.random.default_rng(4).uniform(size=(1500, 3))
    found = analyze_counts(space_of(points, tmp_path), width=0.005, ranges=[(0, 0.05), (0, 0.1)])
    near = cdist(points.astype(np.float32), points.astype(np.float32))
    np.fill_diagonal(near, np.inf)
    edges = np.arange(len(found.counts) + 1) * 0.005
    counts = np.histogram(near.min(axis=1), edges)[0]
    assert np.abs(found.counts - counts).sum() <= 2  # a distance on an edge, rounded
    for fit, bins in zip(found.fits, (10, 20), strict=True):
        line = linregress((edges[:bins] + 0.0025), found.counts[:bins])
        assert (fit.bins, fit.r2, fit.slope, fit.intercept) == pytest.approx(
            (bins, line.rvalue**2, line.slope, line.intercept), rel=1e-9
        )


@pytest.mark.parametrize("dimension", [2, 5])
def test_the_dimension_of_a_cube_is_found(tmp_path: Path, dimension: int) -> None:
    rng = np.random.default_rng(5)
    flat = rng.uniform(size=(3000, dimension)) @ rng.normal(size=(dimension, 20))
    told = analyze_counts(space_of(flat, tmp_path)).dimension
    assert told.value == pytest.approx(dimension, rel=0.12)
    assert told.low is not None
    assert told.high is not None
    assert told.low < told.value < told.high  # type: ignore[operator]
    assert told.high - told.low < 0.2 * dimension


def test_one_sequence_and_its_closest(tmp_path: Path) -> None:
    points = np.random.default_rng(6).normal(size=(80, 4)).astype(np.float32)
    obs = pd.DataFrame({"gc": np.linspace(0.3, 0.7, 80)})
    found = analyze_one(space_of(points, tmp_path, obs=obs), "s11", closest=79)
    far = cdist(points[11:12].astype(float), points.astype(float))[0]
    order = [row for row in np.argsort(far, kind="stable") if row != 11]
    assert found.closest["id"].tolist() == [f"s{row}" for row in order]
    assert found.closest["l2"].to_numpy() == pytest.approx(far[order], rel=1e-5)
    assert found.closest["gc"].to_numpy() == pytest.approx(obs["gc"].to_numpy()[order])
    assert found.distances["cosine"] == pytest.approx(
        np.delete(cdist(points[11:12].astype(float), points.astype(float), "cosine")[0], 11), abs=1e-6
    )
    with pytest.raises(UsageError, match="no sequence 'x'"):
        analyze_one(space_of(points, tmp_path), "x")
    first, again = (analyze_one(space_of(points, tmp_path), seed=3).id for _ in range(2))
    assert first == again


def test_hubs_are_counted(tmp_path: Path) -> None:
    # A centre of a ring in many dimensions is everybody's nearest.
    rng = np.random.default_rng(7)
    ring = rng.normal(size=(200, 30))
    points = np.vstack([np.zeros((1, 30)), ring])
    found = analyze_hubs(space_of(points, tmp_path), k=5)
    near = NearestNeighbors(n_neighbors=5).fit(points).kneighbors(return_distance=False)
    degree = np.bincount(near.ravel(), minlength=201)
    assert (found.in_degree == degree).all()
    assert found.top["id"].iloc[0] == "s0"
    assert found.in_degree[0] > 150
    assert found.skewness == pytest.approx(skew(degree))
    assert found.never == (degree == 0).mean()
    assert found.in_degree.sum() == 5 * 201


@pytest.mark.parametrize("analysis", ALL)
def test_few_equal_and_extreme_points(tmp_path: Path, analysis: Any) -> None:
    with pytest.raises(ProfileError):
        analysis(space_of(np.ones((1, 3)), tmp_path))
    rng = np.random.default_rng(8)
    kinds = {
        "two": rng.normal(size=(2, 3)),
        "three": rng.normal(size=(3, 3)),
        "equal": np.ones((100, 3)),
        "zero": np.zeros((5, 3)),
        "far": rng.normal(size=(60, 3)) * np.array([1e12, 1, 1e-12]),
    }
    for name, points in kinds.items():
        for metric in ("l2", "cosine"):
            stem = tmp_path / f"{name}-{metric}-{analysis.__name__}"
            space = space_of(points, tmp_path, metric=metric)
            if name == "two" and analysis is analyze_counts:
                with pytest.raises(ProfileError, match="2 are needed"):
                    analysis(space)
                continue
            found = analysis(space)
            assert found.text()
            if metric == "cosine" and name != "far":
                assert found.summary()["points"] == len(points)
                continue
            found.write(stem)
            told = json.loads(Path(f"{stem}.json").read_text())
            assert told["points"] == len(points)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(9)
    space_of(rng.normal(size=(60, 6)), tmp_path)
    source = str(next(tmp_path.glob("*.npy")))
    for name in ("distances", "neighbors", "counts", "one", "hubs"):
        stem = tmp_path / name
        assert run(["analyze", name, source, "-o", str(stem)]) == 0
        assert capsys.readouterr().out
        for suffix in (".json", ".tsv", ".png", ".svg"):
            assert Path(f"{stem}{suffix}").stat().st_size > 0
        # What is there is not replaced.
        assert run(["analyze", name, source, "-o", str(stem)]) == 2
        assert "--force" in capsys.readouterr().err
    assert run(["analyze", "counts", source, "--ranges", "0.2"]) == 2
    assert "a range is low-high" in capsys.readouterr().err
    assert run(["analyze", "neighbors", source, "--below", "x"]) == 2
    assert run(["analyze", "one", source, "nobody"]) == 2


def test_groups_are_compared(tmp_path: Path) -> None:
    rng = np.random.default_rng(11)
    group = np.array(["a"] * 60 + ["b"] * 40 + [None] * 5, object)
    # Clusters 1 and 2 hold both alike, cluster 3 the second group only.
    cluster = np.array([1, 2] * 30 + [1, 2] * 10 + [3] * 20 + [1] * 5)
    obs = pd.DataFrame({"source": group, "cluster": cluster})
    space = space_of(rng.normal(size=(105, 3)), tmp_path, obs=obs)
    found = analyze_groups(space, "source")
    assert found.left_out == 5
    assert found.counts.to_dict() == {"a": {1: 30, 2: 30, 3: 0}, "b": {1: 10, 2: 10, 3: 20}}
    table = np.array([[0, 20], [60, 20]])
    at = list(found.counts.index).index(3)
    assert found.p[at] == pytest.approx(chi2_contingency(table).pvalue)
    assert found.q[at] == pytest.approx(min(1.0, found.p[at] * 3))
    chi2 = chi2_contingency(found.counts.to_numpy(), correction=False).statistic
    assert found.cramers_v == pytest.approx(math.sqrt(chi2 / 100))
    assert found.shares.sum().to_numpy() == pytest.approx([1, 1])
    found.write(tmp_path / "groups")
    assert (tmp_path / "groups.png").stat().st_size > 0
    assert not (tmp_path / "groups-map.png").exists()
    where = rng.normal(size=(105, 2)).astype(np.float32)
    written = analyze_groups(space, "source", coordinates=where).write(tmp_path / "mapped")
    assert {f"mapped-{name}.png" for name in ("map", "difference")} <= {path.name for path in written}
    with pytest.raises(InputError, match="no column 'depth'"):
        analyze_groups(space, "depth")
    alone = space_of(rng.normal(size=(9, 3)), tmp_path, obs=pd.DataFrame({"source": ["a"] * 9, "cluster": 1}))
    with pytest.raises(InputError, match="has a single group"):
        analyze_groups(alone, "source")


def test_anndata_in_memory(tmp_path: Path) -> None:
    points = np.random.default_rng(10).normal(size=(40, 4)).astype(np.float32)
    held: anndata.AnnData = organisms(40)
    held.obsm["X_kinmer"] = points
    by_table = analyze_neighbors(space_of(points, tmp_path, metric="cosine"))
    assert (analyze_neighbors(held).distances == by_table.distances).all()


def test_store_index_and_profiles_of_the_same_sequences(tmp_path: Path) -> None:
    held, encoder = organisms(60), encoder_of()
    path = tmp_path / "some.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        held.write_zarr(path)
    embed(path, encoder)
    build_index(path, tmp_path / "kin.db", encoder=encoder, engine="exact")
    for analysis in ALL:
        told = [
            json.dumps({**found.summary(), "vectors": ""}, default=plain)
            for found in (analysis(path), analysis(tmp_path / "kin.db"), analysis(held, vectors=encoder))
        ]
        assert told[0] == told[1] == told[2], analysis.__name__


def test_by_the_engine_as_by_all_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = np.random.default_rng(14).normal(size=(900, 6))
    space = space_of(points, tmp_path, metric="cosine")
    far, degree = analyze_neighbors(space).distances, analyze_hubs(space).in_degree
    monkeypatch.setattr("kinmer.vectors.knn.EXACT_BELOW", 100)
    near, hubs = analyze_neighbors(space), analyze_hubs(space)
    assert not near.exact
    assert not hubs.exact
    assert near.distances == pytest.approx(far, abs=1e-6)
    assert np.abs(hubs.in_degree - degree).sum() <= 20  # Two at one distance may change places.
