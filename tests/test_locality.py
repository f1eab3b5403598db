"""Locality: every figure against brute force and SciPy, and what happens where there is little to compare."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.spatial.distance import cdist

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.encoder import Encoder
from kinmer.errors import InputError, KinmerError, UsageError
from kinmer.evaluate.locality import verify
from kinmer.evaluate.searches import nearest
from kinmer.evaluate.statistics import _pearson, _Ranks, correlations, mean_by_column, resampled
from kinmer.layout import kmer_layout
from kinmer.networks import Vae

LAYOUT = kmer_layout(3)
BLOCK_CLR = Clr(scope="block", pseudocount="relative", value=0.5)


def table(rows: int, *, dim: int = 8, seed: int = 0, noise: float = 0.3) -> AnnData:
    """Counts of a few species' sequences, with a noisy linear map of their CLR as embedding."""
    rng = np.random.default_rng(seed)
    species = rng.gamma(1.0, 1.0, (max(rows // 20, 1), LAYOUT.width))
    counts = np.zeros((rows, LAYOUT.width), np.uint32)
    for row, which in enumerate(rng.integers(0, len(species), rows)):
        for block in LAYOUT.blocks:
            share = species[which, block.columns] / species[which, block.columns].sum()
            counts[row, block.columns] = rng.multinomial(2000, share)
    clr = BLOCK_CLR(counts, LAYOUT)
    vectors = clr @ rng.normal(size=(LAYOUT.width, dim)) + noise * rng.normal(size=(rows, dim))
    var = pd.DataFrame(
        {
            "k": [b.k for b in LAYOUT.blocks for _ in range(b.size)],
            "block": [b.name for b in LAYOUT.blocks for _ in range(b.size)],
        },
        index=list(LAYOUT.features),
    )
    obs = pd.DataFrame({"length": np.full(rows, 2002)}, index=[f"s{row}" for row in range(rows)])
    return AnnData(X=counts, obs=obs, var=var, obsm={"X_kinmer": vectors.astype(np.float32)})


def brute_force(
    data: AnnData, clr: Clr, metric: Literal["cosine", "l2"], k: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances and CLR MSEs of every row's k nearest others."""
    vectors = np.asarray(data.obsm["X_kinmer"], float)
    apart = cdist(vectors, vectors, "cosine" if metric == "cosine" else "euclidean")
    np.fill_diagonal(apart, np.inf)
    order = np.argsort(apart, axis=1, kind="stable")[:, :k]
    rows = np.asarray(clr(np.asarray(data.X), LAYOUT), float)
    mses = ((rows[:, None] - rows[order]) ** 2).mean(axis=2)
    return np.take_along_axis(apart, order, axis=1), mses


@pytest.mark.parametrize("clr", [None, BLOCK_CLR])
def test_every_figure_is_that_of_brute_force(clr: Clr | None) -> None:
    data = table(120)
    report = verify(data, clr=clr, queries=1000, k=20, bootstrap=50)
    assert (report.sequences, report.sample, report.queries, report.neighbours) == (120, 120, 120, 20)
    assert not report.validation
    for one in report.metrics:
        distances, mses = brute_force(data, clr or REFERENCE_CLR, one.metric, 20)
        np.testing.assert_allclose(one.distances, distances, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(one.mses, mses, rtol=1e-4)
        assert one.pearson.value == pytest.approx(
            stats.pearsonr(distances.ravel(), mses.ravel()).statistic, abs=1e-4
        )
        assert one.spearman.value == pytest.approx(
            stats.spearmanr(distances.ravel(), mses.ravel()).statistic, abs=1e-3
        )
        assert [at.rank for at in one.ranks] == [1, 5, 10, 20]
        for at in one.ranks:
            assert at.mean.value == pytest.approx(mses[:, at.rank - 1].mean(), rel=1e-4)
            assert at.sd == pytest.approx(mses[:, at.rank - 1].std(), rel=1e-4)
            assert at.mean.low is not None
            assert at.mean.high is not None
            assert at.mean.low < float(mses[:, at.rank - 1].mean()) < at.mean.high


def test_random_pairs_are_those_of_the_whole_table() -> None:
    data = table(300)
    rows = np.asarray(REFERENCE_CLR(np.asarray(data.X), LAYOUT), float)
    apart = cdist(rows, rows, "sqeuclidean")[np.triu_indices(300, 1)] / LAYOUT.width
    drawn = verify(data, queries=300, bootstrap=0).random
    assert drawn.pairs == 3000
    assert drawn.mean == pytest.approx(apart.mean(), rel=0.05)
    assert drawn.median == pytest.approx(np.median(apart), rel=0.05)
    assert drawn.sd == pytest.approx(apart.std(), rel=0.1)
    assert apart.min() * 0.999 <= drawn.min < drawn.median < drawn.max <= apart.max() * 1.001
    assert drawn.min > 0


def test_a_good_embedding_is_told_from_a_bad_one() -> None:
    good, bad = table(400, noise=0.01, dim=32), table(400)
    bad.obsm["X_kinmer"] = np.random.default_rng(1).normal(size=(400, 8)).astype(np.float32)
    well, badly = verify(good, bootstrap=200, queries=100), verify(bad, bootstrap=200, queries=100)
    for mine, other in zip(well.metrics, badly.metrics, strict=True):
        assert mine.spearman.low is not None
        assert other.spearman.high is not None
        assert mine.spearman.low > 0.5
        assert -0.2 < other.spearman.high < 0.3
        assert mine.ranks[0].mean.value is not None
        assert mine.ranks[0].mean.value < 0.5 * well.random.mean
        assert other.ranks[0].mean.value == pytest.approx(badly.random.mean, rel=0.25)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        units = rng.normal(size=(60, 1)) + 0.5 * rng.normal(size=(60, 5))
        mean = mean_by_column(units, resampled(60, 300, np.random.default_rng(trial)))[0]
        assert mean.low is not None
        assert mean.high is not None
        covered += mean.low <= 0 <= mean.high
    assert 178 <= covered <= 200


@settings(max_examples=60, deadline=None)
@given(
    units=st.integers(2, 12),
    pairs=st.integers(1, 6),
    distinct=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_resampled_correlations_are_scipys_on_the_repeated_pairs(
    units: int, pairs: int, distinct: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, distinct, (units, pairs)).astype(np.float64)
    y = x + rng.integers(0, distinct, (units, pairs)).astype(np.float64)
    weights = resampled(units, 3, rng)
    assert (weights.sum(axis=1) == units).all()
    for row in weights:
        times = row.astype(int)
        drawn_x, drawn_y = np.repeat(x, times, axis=0).ravel(), np.repeat(y, times, axis=0).ravel()
        ranks = _Ranks(x)(row)
        np.testing.assert_allclose(np.repeat(ranks, times, axis=0).ravel(), stats.rankdata(drawn_x))
        mine = [
            _pearson(x, y, row[None])[0],
            _pearson(_Ranks(x)(row), _Ranks(y)(row), row[None])[0],
        ]
        if np.ptp(drawn_x) == 0 or np.ptp(drawn_y) == 0:
            assert np.isnan(mine).all()
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = [
                    stats.pearsonr(drawn_x, drawn_y).statistic,
                    stats.spearmanr(drawn_x, drawn_y).statistic,
                ]
            np.testing.assert_allclose(mine, theirs, atol=1e-9)


def test_the_spearman_interval_is_that_of_a_plain_bootstrap() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 5))
    y = x + rng.normal(size=(40, 5))
    weights = resampled(40, 400, rng)
    _, spearman = correlations(x, y, weights)
    plain = []
    for row in weights:
        chosen = np.repeat(np.arange(40), row.astype(int))
        plain.append(stats.spearmanr(x[chosen].ravel(), y[chosen].ravel()).statistic)
    assert spearman.value == pytest.approx(stats.spearmanr(x.ravel(), y.ravel()).statistic)
    assert (spearman.low, spearman.high) == pytest.approx(tuple(np.percentile(plain, (2.5, 97.5))))


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(2, 40),
    dim=st.integers(1, 6),
    k=st.integers(1, 50),
    offset=st.sampled_from([0.0, 1000.0]),
    metric=st.sampled_from(["cosine", "l2"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_are_the_nearest(
    rows: int, dim: int, k: int, offset: float, metric: Literal["cosine", "l2"], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.normal(size=(rows, dim)) + offset).astype(np.float32)
    pool = np.sort(rng.choice(rows, rng.integers(2, rows + 1), replace=False))
    asked = np.sort(rng.choice(rows, rng.integers(1, rows + 1), replace=False))
    places, distances = nearest(vectors[asked], vectors[pool], asked, pool, k, metric)
    apart = cdist(
        vectors[asked].astype(float),
        vectors[pool].astype(float),
        "cosine" if metric == "cosine" else "euclidean",
    )
    apart[asked[:, None] == pool[None]] = np.inf
    expected = np.sort(apart, axis=1)[:, : places.shape[1]]
    assert places.shape[1] == min(k, pool.size - int(np.isin(asked, pool).any()))
    assert not (pool[places] == asked[:, None]).any()
    np.testing.assert_allclose(distances, expected, rtol=1e-4, atol=2e-6)


def test_a_zero_vector_is_at_cosine_distance_one() -> None:
    vectors = np.array([[0, 0], [1, 0], [1, 0.1], [-1, 0]], np.float32)
    rows = np.arange(4)
    places, distances = nearest(vectors, vectors, rows, rows, 3, "cosine")
    assert distances[0].tolist() == [1, 1, 1]
    assert places[1].tolist() == [2, 0, 3]
    assert distances[1, 1:].tolist() == [1, 2]


def test_a_query_is_never_its_own_neighbour_and_the_sample_bounds_the_pool() -> None:
    data = table(200)
    data.obsm["X_kinmer"][:] = 0
    data.obsm["X_kinmer"][:, 0] = np.arange(200)
    report = verify(data, sample=40, queries=60, k=50, metrics=("l2",), bootstrap=0)
    assert (report.sample, report.queries, report.neighbours) == (40, 60, 39)
    assert (report.metrics[0].distances > 0).all()


def test_identical_rows_give_no_correlation_and_no_warning() -> None:
    data = table(30)
    data.X = np.tile(np.asarray(data.X)[:1], (30, 1))
    data.obsm["X_kinmer"][:] = data.obsm["X_kinmer"][:1]
    report = verify(data, bootstrap=20)
    for one in report.metrics:
        assert one.pearson.value is None
        assert one.spearman.value is None
        assert one.ranks[0].mean.value == 0
    assert report.random.max == 0
    assert "undefined" in report.table()
    json.dumps(report.to_dict(), allow_nan=False)


def test_two_rows_are_enough_and_one_is_not(tmp_path: Path) -> None:
    data = table(2)
    report = verify(data, bootstrap=5)
    assert report.neighbours == 1
    assert [at.rank for at in report.metrics[0].ranks] == [1]
    assert report.random.sd == pytest.approx(0, abs=1e-6)
    report.save_pictures(tmp_path / "two")
    with pytest.raises(InputError, match="only one sequence"):
        verify(data[:1].copy())


@pytest.mark.parametrize(
    "wrong",
    [
        {"sample": 1},
        {"queries": 0},
        {"neighbours": 0},
        {"bootstrap": -1},
        {"metrics": ()},
        {"metrics": ("dot",)},
    ],
)
def test_settings_without_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        verify(table(5), **wrong)


def test_missing_or_broken_embeddings_are_told() -> None:
    data = table(5)
    with pytest.raises(KinmerError, match="X_other"):
        verify(data, key="X_other")
    data.obsm["X_kinmer"][3, 2] = np.nan
    with pytest.raises(InputError, match="s3"):
        verify(data)


def test_same_seed_same_report_another_seed_another_draw() -> None:
    data = table(150)
    first = verify(data, sample=80, queries=30, bootstrap=50, seed=4).to_dict()
    assert first == verify(data, sample=80, queries=30, bootstrap=50, seed=4).to_dict()
    assert first["random"] != verify(data, sample=80, queries=30, bootstrap=50, seed=5).to_dict()["random"]


def test_few_rows_at_a_time_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table(90)
    whole = verify(data, bootstrap=0, k=10)
    monkeypatch.setattr("kinmer.evaluate.locality.CLR_BYTES", 4 * LAYOUT.width * 25)
    monkeypatch.setattr("kinmer.evaluate.searches.BLOCK_QUERIES", 3)
    monkeypatch.setattr("kinmer.stores.exact.ROW_BLOCK", 50)
    small = verify(data, bootstrap=0, k=10)
    assert small.random == whole.random
    for one, other in zip(whole.metrics, small.metrics, strict=True):
        np.testing.assert_allclose(one.mses, other.mses)


def test_report_reads_the_same_in_every_form(tmp_path: Path) -> None:
    report = verify(table(100), bootstrap=50)
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["metrics"][0]["ranks"][0]["mean"]["value"] == report.metrics[0].ranks[0].mean.value
    report.write_tsv(tmp_path / "verify.tsv")
    rows = [line.split("\t") for line in (tmp_path / "verify.tsv").read_text().splitlines()]
    assert rows[0] == ["metric", "statistic", "value", "low", "high", "sd"]
    by_name = {(row[0], row[1]): row for row in rows[1:]}
    assert float(by_name["cosine", "spearman_rho"][2]) == pytest.approx(
        data["metrics"][0]["spearman"]["value"], rel=1e-5
    )
    assert by_name["random_pairs", "mse_mean"][3] == ""
    assert f"{report.random.mean:.3f} ± {report.random.sd:.3f}" in report.table()
    pictures = report.save_pictures(tmp_path / "verify")
    assert {path.name for path in pictures} == {
        f"verify-{name}.{kind}" for name in ("distance", "rank") for kind in ("png", "svg")
    }


def test_an_encoder_makes_the_vectors_that_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    data = table(130)
    encoder = Encoder(Vae(width=LAYOUT.width, latent=4, hidden=(8,)), LAYOUT, BLOCK_CLR)
    data.obsm["X_kinmer"] = encoder.embed(np.asarray(data.X))
    kept = verify(data, encoder=encoder, bootstrap=20)
    del data.obsm["X_kinmer"]
    monkeypatch.setattr("kinmer.vectors.points.BLOCK_ROWS", 50)
    made = verify(data, encoder=encoder, bootstrap=20)
    assert made.clr == kept.clr == str(BLOCK_CLR)
    for one, other in zip(made.metrics, kept.metrics, strict=True):
        np.testing.assert_allclose(one.distances, other.distances, atol=1e-5)
        np.testing.assert_allclose(one.mses, other.mses, rtol=1e-3)


def test_the_old_name_of_k_warns_and_gives_the_same() -> None:
    data = table(40)
    with pytest.warns(DeprecationWarning, match="now called k"):
        old = verify(data, queries=20, neighbours=5, bootstrap=10)
    assert old.to_dict() == verify(data, queries=20, k=5, bootstrap=10).to_dict()
