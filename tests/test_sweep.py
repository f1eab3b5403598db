"""Sweeps: the whole product and nothing twice, the figures of an oracle, and nothing lost to a kill."""

from __future__ import annotations

import csv
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import kinmer
from kinmer import plots
from kinmer.cli import run
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, KinmerError, UsageError
from kinmer.fragments import read_labels
from kinmer.sweeps.parameters import Range, Space, parse_range, trial_name
from kinmer.sweeps.study import sweep
from kinmer.sweeps.summaries import SweepReport, differing, figure, summaries, t_quantile
from kinmer.sweeps.validation import trained_on
from kinmer.sweeps.workers import Setup, Task, Workers
from kinmer.training import TrainSettings
from kinmer.training.settings import parse_value, text_of, train_settings
from tests.organisms import organisms

SMALL: dict[str, Any] = {"epochs": 2, "hidden": (16, 8), "batch": 64, "precision": "fp32"}
SET = ["--set", "epochs=2", "--set", "hidden=16x8", "--set", "batch=64", "--set", "precision=fp32"]


@pytest.fixture(scope="module")
def table() -> AnnData:
    return organisms(200)


@pytest.fixture(scope="module")
def store(bench: tuple[Path, Path]) -> Path:
    """Profiles on disk, for the command line and the processes."""
    return bench[1]


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        lines = list(csv.reader(file, delimiter="\t"))
    assert {len(line) for line in lines} == {len(lines[0])}, "every row is as long as the header"
    assert len(set(lines[0])) == len(lines[0])
    return [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]


def written(folder: Path) -> dict[str, int]:
    """When every trial's record and encoder was written: a trial that is run again changes it."""
    paths = [*folder.glob("trials/*.json"), *folder.glob("encoders/*/weights.safetensors")]
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def swept(table: AnnData, tmp_path_factory: pytest.TempPathFactory) -> tuple[SweepReport, Path, list[str]]:
    folder, lines = tmp_path_factory.mktemp("swept") / "s", list[str]()
    grid = {"latent": [4, 8], "beta": "0.03,0.2"}
    report = sweep(table, folder, grid=grid, fixed=SMALL, seeds=(0, 1), threads=1, log=lines.append)
    return report, folder, lines


def test_a_grid_is_the_product_and_nothing_more(swept: tuple[SweepReport, Path, list[str]]) -> None:
    report, folder, lines = swept
    wanted = set(itertools.product((4, 8), (0.03, 0.2), (0, 1)))
    told = [
        (one["settings"]["latent"], one["settings"]["beta"], one["settings"]["seed"]) for one in report.trials
    ]
    assert set(told) == wanted
    assert len(told) == len(wanted) == 8
    for record in report.trials:
        encoder = Encoder.load(folder / "encoders" / record["name"])
        settings = encoder.training["settings"]
        assert settings["latent"] == encoder.dim == record["settings"]["latent"]
        assert {name: settings[name] for name in SMALL} == {**SMALL, "hidden": [16, 8]}
        assert record["score"] == record["validation_loss"]
        assert record["validation_loss"] == encoder.metrics[record["epoch"] - 1]["validation_loss"]
        assert record["blocks"] == encoder.metrics[record["epoch"] - 1]["blocks"]
    assert sum("/8  latent=" in line for line in lines) == 8


def test_tables_are_whole_and_of_the_trials(swept: tuple[SweepReport, Path, list[str]]) -> None:
    report, folder, _ = swept
    trials, settings = rows_of(folder / "trials.tsv"), rows_of(folder / "settings.tsv")
    assert (len(trials), len(settings)) == (8, 4)
    means = []
    for row in settings:
        own = [one for one in trials if (one["latent"], one["beta"]) == (row["latent"], row["beta"])]
        assert sorted(one["seed"] for one in own) == ["0", "1"]
        for name in (
            "score",
            "validation_loss",
            "kl",
            "mse",
            "mse_3mer",
            "mse_1mer",
            "best_epoch",
            "seconds",
        ):
            values = np.array([float(one[name]) for one in own])
            assert float(row[name]) == pytest.approx(values.mean(), rel=1e-12)
            assert float(row[f"{name}_sd"]) == pytest.approx(values.std(ddof=1), rel=1e-9, abs=1e-12)
        scores = [float(one["score"]) for one in own]
        low, high = stats.t.interval(0.95, 1, np.mean(scores), stats.sem(scores))
        assert (float(row["score_low"]), float(row["score_high"])) == pytest.approx((low, high), rel=1e-9)
        assert (row["seeds"], row["failed"]) == ("2", "0")
        means.append(float(row["score"]))
    assert means == sorted(means), "the smallest validation loss comes first"
    assert [row["rank"] for row in settings] == list("1234")
    assert report.best is not None
    assert report.best.score is not None
    assert report.best.score.mean == pytest.approx(means[0])
    stored = json.loads((folder / "sweep.json").read_text())
    assert [one["name"] for one in stored["trials"]] == [one["trial"] for one in trials]
    assert stored["signature"]["score"] == "validation loss"
    page = (folder / "sweep.md").read_text()
    assert page.index(f"| 1 | {settings[0]['latent']} | {settings[0]['beta']} | 2 |") < page.index("| 2 | ")
    for name in ("sweep", "sweep-map"):
        assert (folder / f"{name}.png").read_bytes().endswith(b"IEND\xaeB`\x82")
        assert (folder / f"{name}.svg").read_text().rstrip().endswith("</svg>")


@pytest.mark.slow
def test_the_same_call_again_runs_nothing_and_a_wider_one_what_is_new(table: AnnData, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    sweep(table, folder, grid={"latent": [4]}, fixed=SMALL, seeds=(0,), threads=1)
    before, tables = written(folder), (folder / "trials.tsv").read_bytes()
    sweep(table, folder, grid={"latent": [4]}, fixed=SMALL, seeds=(0,), threads=1)
    assert written(folder) == before
    assert (folder / "trials.tsv").read_bytes() == tables
    report = sweep(table, folder, grid={"latent": [4, 8]}, fixed=SMALL, seeds=(0, 1), threads=1)
    after = written(folder)
    assert len(after) == 8
    assert {name: after[name] for name in before} == before
    assert {one.varied["latent"]: one.seeds for one in report.settings} == {4: (0, 1), 8: (0, 1)}


def test_an_interrupted_sweep_keeps_what_is_done(table: AnnData, tmp_path: Path) -> None:
    folder, grid = tmp_path / "s", {"latent": [2, 3, 4]}

    def stop(line: str) -> None:
        if line.startswith("2/3"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(table, folder, grid=grid, fixed=SMALL, threads=1, log=stop)
    assert len(rows_of(folder / "trials.tsv")) == 2
    before = written(folder)
    assert len(before) == 4
    report = sweep(table, folder, grid=grid, fixed=SMALL, threads=1)
    after = written(folder)
    assert len(after) == 6
    assert {name: after[name] for name in before} == before
    assert {one.varied["latent"] for one in report.settings} == {2, 3, 4}


@pytest.mark.slow
def test_random_draws_are_in_their_range_and_go_on_where_they_were(table: AnnData, tmp_path: Path) -> None:
    ranges: dict[str, Range | str] = {"learning_rate": "1e-4:1e-2:log", "latent": Range(2, 9)}

    def drawn(folder: Path, number: int) -> list[tuple[float, int]]:
        report = sweep(table, folder, ranges=ranges, draws=number, fixed=SMALL, threads=1, search_seed=3)
        return [(one["settings"]["learning_rate"], one["settings"]["latent"]) for one in report.trials]

    first, more = drawn(tmp_path / "a", 1), drawn(tmp_path / "a", 3)
    assert set(first) < set(more)
    assert len(set(more)) == 3
    assert sorted(more) == sorted(drawn(tmp_path / "b", 3)), "in one call or two: the same draws"
    for rate, latent in more:
        assert 1e-4 <= rate <= 1e-2
        assert type(latent) is int
        assert 2 <= latent <= 9


def test_tpe_draws_what_it_was_asked_for(table: AnnData, tmp_path: Path) -> None:
    report = sweep(
        table,
        tmp_path / "s",
        grid={"clr.scope": ["block", "joint"]},
        ranges={"beta": "0.01:1:log"},
        draws=2,
        search="tpe",
        fixed=SMALL,
        threads=1,
    )
    assert len(report.trials) == 2
    for one in report.trials:
        assert one["settings"]["clr"]["scope"] in ("block", "joint")
        assert 0.01 <= one["settings"]["beta"] <= 1


def test_a_trial_that_fails_is_told_and_ends_nothing(table: AnnData, tmp_path: Path) -> None:
    folder, lines = tmp_path / "s", list[str]()
    grid = {"learning_rate": [1e30, 1e-3]}
    report = sweep(table, folder, grid=grid, fixed=SMALL, seeds=(0, 1), threads=1, log=lines.append)
    rows = rows_of(folder / "trials.tsv")
    assert [row["state"] for row in rows] == ["done", "done", "failed", "failed"]
    assert all("diverged" in row["error"] and row["score"] == "" for row in rows[2:])
    assert [(len(one.seeds), one.failed) for one in report.settings] == [(2, 0), (0, 2)]
    assert report.failed == 2
    assert sum("failed: " in line for line in lines) == 2
    assert "diverged" in (folder / "sweep.md").read_text()
    before = written(folder)
    sweep(table, folder, grid=grid, fixed=SMALL, seeds=(0, 1), threads=1)
    assert written(folder) == before, "it would diverge again"
    with pytest.raises(KinmerError, match=r"none of the 1 trials ended well .* diverged"):
        sweep(table, tmp_path / "t", grid={"learning_rate": [1e30]}, fixed=SMALL, threads=1)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--grid", "latnt=1,2"], "there is no training setting 'latnt'"),
        (["--grid", "latent=4,many"], "latent is a whole number, not 'many'"),
        (["--grid", "latent=4,4"], "the values of latent are one or more, each once"),
        (["--grid", "latent=0,4"], "latent must be a whole number of at least 1, not 0"),
        (["--grid", "beta"], "--grid takes NAME=VALUE, not 'beta'"),
        (["--grid", "latent=4", "--set", "latent=5"], "latent is given twice"),
        (["--grid", "seed=4"], "seeds of a sweep are given with --seeds"),
        (["--grid", "clr=block"], "clr is given part by part (scope, pseudocount, value)"),
        (["--grid", "clr.scope=block,both"], "clr.scope is block or joint, not 'both'"),
        (["--grid", "clr.value=-1"], "pseudocount must be above 0"),
        (["--grid", "compile=yes"], "compile is true or false, not 'yes'"),
        (["--grid", "latent=4", "--seeds", "one"], "--seeds takes whole numbers"),
        (["--grid", "latent=4", "--seeds", "1,1"], "each once"),
        (["--range", "beta=0.1:0.2"], "a grid has values, no ranges"),
        (["--range", "beta=0.2:0.1", "--random", "2"], "up to a larger one"),
        (["--range", "beta=0:1:log", "--random", "2"], "begins above 0"),
        (["--range", "beta=0.1-0.2", "--random", "2"], "a range is low:high"),
        (["--range", "latent=1:2.5", "--random", "2"], "whole numbers as ends"),
        (["--range", "clr.scope=1:2", "--random", "2"], "has no range"),
        (["--range", "validation=0.1:1", "--random", "2"], "validation must be between 0 and 1"),
        (["--search", "tpe"], "tpe search needs a number of settings"),
        (["--preset", "none"], "there is no preset 'none'"),
        (["--fold", "1"], "a fold is one of a benchmark's"),
        (["--benchmark", "nowhere"], "there is no benchmark"),
    ],
)
def test_what_makes_no_sense_is_told_in_one_line(
    arguments: list[str], told: str, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["sweep", str(store), "-o", str(tmp_path / "s"), *arguments]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert told in lines[0]
    assert not list(tmp_path.glob("s/encoders/*"))


def test_a_folder_of_other_data_is_refused(table: AnnData, tmp_path: Path) -> None:
    sweep(table, tmp_path / "s", grid={"latent": [2]}, fixed=SMALL, threads=1)
    other = organisms(210)
    with pytest.raises(UsageError, match=r"a sweep of other data .* rows, ids"):
        sweep(other, tmp_path / "s", grid={"latent": [2]}, fixed=SMALL, threads=1)
    report = sweep(other, tmp_path / "s", grid={"latent": [3]}, fixed=SMALL, threads=1, force=True)
    assert [one.varied["latent"] for one in report.settings] == [3]
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(UsageError, match="holds no sweep"):
        sweep(table, tmp_path / "full", grid={"latent": [2]}, force=True)
    assert (tmp_path / "full" / "mine").exists()


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=12))
def test_figures_are_those_of_numpy_and_scipy(values: list[float]) -> None:
    found = figure(values)
    assert found.sd is not None
    scale = max(map(abs, values)) + 1
    assert found.mean == pytest.approx(np.mean(values), abs=1e-12 * scale)
    assert found.sd == pytest.approx(np.std(values, ddof=1), rel=1e-9, abs=1e-12 * scale)
    half = stats.t.ppf(0.975, len(values) - 1) * found.sd / np.sqrt(len(values))
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), rel=1e-9)


@pytest.mark.parametrize("freedom", [1, 2, 3, 4, 5, 9, 30, 101])
def test_quantiles_of_student(freedom: int) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-9)
    assert t_quantile(freedom, 0.5) == pytest.approx(stats.t.ppf(0.75, freedom), rel=1e-9)


def test_a_single_seed_has_no_spread() -> None:
    assert (figure([3.0]).mean, figure([3.0]).sd, figure([3.0]).low) == (3.0, None, None)


def test_settings_with_a_failed_seed_come_behind_the_whole_ones() -> None:
    def record(latent: int, seed: int, score: float | None) -> dict[str, Any]:
        settings = TrainSettings(latent=latent, seed=seed).to_dict()
        state = "failed" if score is None else "done"
        return {"name": f"{latent}-{seed}", "settings": settings, "state": state, "score": score}

    records = [record(1, 0, 0.9), record(1, 1, None), record(2, 0, 0.5), record(2, 1, 0.6), record(3, 0, 0.4)]
    assert differing(records, ["latent"]) == ("latent",)
    assert [one.varied["latent"] for one in summaries(records, ["latent"], maximise=True)] == [2, 3, 1]
    assert [one.varied["latent"] for one in summaries(records, ["latent"], maximise=False)] == [3, 2, 1]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("latent", "256", 256),
        ("beta", "3e-2", 0.03),
        ("hidden", "1024x512", (1024, 512)),
        ("hidden", "64", (64,)),
        ("compile", "true", True),
        ("precision", "bf16", "bf16"),
        ("clr.scope", "joint", "joint"),
        ("clr.value", "1e-6", 1e-6),
    ],
)
def test_values_are_read_by_the_settings_type(name: str, text: str, value: Any) -> None:
    found = parse_value(name, text)
    assert (found, type(found)) == (value, type(value))
    assert parse_value(name, text_of(found)) == found


@given(st.floats(1e-12, 1e12), st.integers(1, 10**9))
def test_a_value_is_read_back_from_its_text(beta: float, latent: int) -> None:
    assert parse_value("beta", text_of(beta)) == beta
    assert parse_value("latent", text_of(latent)) == latent


def test_ranges_settings_and_names() -> None:
    assert parse_range("1e-5:1e-3:log") == Range(1e-5, 1e-3, log=True)
    assert parse_range("64:384:int") == Range(64, 384, whole=True)
    space = Space.of("reference", {}, {"latent": "2:4"}, {"clr.scope": "block"})
    assert space.ranges["latent"] == Range(2, 4, whole=True)
    settings = space.settings({"latent": 3}, seed=7)
    assert (settings.latent, settings.seed, settings.epochs) == (3, 7, 500)
    assert (settings.clr.scope, settings.clr.value) == ("block", 1e-6)
    assert trial_name(settings) == trial_name(TrainSettings.from_dict(settings.to_dict()))
    names = {trial_name(train_settings("default", latent=latent)) for latent in (3, 4, 384)}
    assert len(names) == 3


def test_a_sweep_is_drawn_point_by_point_and_cell_by_cell() -> None:
    panels = plots.sweep_panels(
        {"beta": ([0.1, 0.1, 10.0], [1, 3, 5]), "scope": (["b", "a", "b"], [1, 3, 5])}
    )
    beta, scope = panels.axes
    assert np.asarray(beta.collections[0].get_offsets()).tolist() == [[0.1, 1], [0.1, 3], [10.0, 5]]
    assert np.asarray(beta.lines[0].get_ydata()).tolist() == [2, 5], "means where values recur"
    assert (beta.get_xscale(), scope.get_xscale()) == ("log", "linear")
    assert [one.get_text() for one in scope.get_xticklabels()] == ["a", "b"]
    assert np.asarray(scope.collections[0].get_offsets()).tolist() == [[1, 1], [0, 3], [1, 5]]
    drawn = plots.sweep_map([[0.5, None], [0.25, 0.75]], columns=("x", ["1", "2"]), rows=("y", ["3", "4"]))
    assert [one.get_text() for one in drawn.axes[0].texts] == ["0.5", "0.25", "0.75"]
    assert [one.get_position() for one in drawn.axes[0].texts] == [(0, 0), (0, 1), (1, 1)]


# ---- retrieval


def species_sequences(seed: int = 5) -> tuple[dict[str, str], list[dict[str, str]]]:
    """Sequences of 8 species, half of them with two strains, and their labels."""
    random = np.random.default_rng(seed)
    sequences, labels = {}, []
    for species in range(8):
        letters = random.choice(list("ACGT"), 9000, p=random.dirichlet([8.0] * 4))
        for strain in range(1 + species % 2):
            one = letters.copy()
            places = random.integers(0, 9000, 90 * strain)
            one[places] = random.choice(list("ACGT"), places.size)
            name = f"g{species}{strain}"
            sequences[name] = "".join(one)
            labels.append(
                {
                    "sequence_id": name,
                    "genome_id": name,
                    "species": f"sp{species}",
                    "genus": f"ge{species}",
                    "domain": "Bacteria",
                }
            )
    return sequences, labels


def write_fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in sequences.items()))
    return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A benchmark of two folds, and a store of fragments of the sequences in fold 0."""
    folder = tmp_path_factory.mktemp("bench")
    sequences, labels = species_sequences()
    table = folder / "labels.tsv"
    lines = ["\t".join(labels[0]), *("\t".join(one.values()) for one in labels)]
    table.write_text("\n".join(lines) + "\n")
    source = write_fasta(folder / "all.fna", sequences)
    kinmer.benchmark(
        [source], folder / "b", labels=table, folds=2, lengths=(1000, 2000), per_length=2, piece=4000
    )
    folds = read_labels(folder / "b" / "folds.tsv")
    trained = {name: one for name, one in sequences.items() if folds.value(name, "fold") == "0"}
    assert 0 < len(trained) < len(sequences)
    kinmer.fragment(
        [write_fasta(folder / "train.fna", trained)], folder / "f.fna", length=(1000, 4000), number=60
    )
    kinmer.count(folder / "f.fna", folder / "t.zarr", max_k=3)
    return folder / "b", folder / "t.zarr"


def nearest_is_right(bench: Path, encoder: Encoder, fold: str) -> dict[tuple[str, str], float]:
    """By brute force: share of the fold's queries whose nearest entry is of their species."""
    sides = []
    for side in ("database", "queries"):
        counts = kinmer.count(bench / f"{side}.fna.gz", max_k=3, min_length=0)
        vectors = encoder.embed(np.asarray(counts.X)).astype(float)
        names: NDArray[Any] = np.asarray(counts.obs_names)
        sides.append((names, vectors / np.linalg.norm(vectors, axis=1, keepdims=True)))
    (entries, database), (asked, queries) = sides
    base = read_labels(bench / "database.fna.gz.tsv", ("id",))
    labels = read_labels(bench / "queries.fna.gz.tsv", ("id",))
    cells: dict[tuple[str, str], list[bool]] = {}
    for name, vector in zip(asked, queries, strict=True):
        case, length = labels.value(name, "case"), labels.value(name, "length")
        if labels.value(name, "fold") == fold and case in ("strain", "genome"):
            nearest = entries[int(np.argmax(database @ vector))]
            right = base.value(nearest, "species") == labels.value(name, "species")
            cells.setdefault((case, length), []).append(right)
    return {place: float(np.mean(some)) for place, some in cells.items()}


def test_retrieval_on_the_fold_is_that_of_brute_force(bench: tuple[Path, Path], tmp_path: Path) -> None:
    benchmark, store = bench
    folder = tmp_path / "s"
    report = sweep(
        store, folder, grid={"latent": [2, 6]}, fixed=SMALL, benchmark=benchmark, fold=1, threads=1
    )
    assert len(report.trials) == 2
    for record in report.trials:
        wanted = nearest_is_right(benchmark, Encoder.load(folder / "encoders" / record["name"]), "1")
        found = {
            (case, size): one for case, sizes in record["retrieval"].items() for size, one in sizes.items()
        }
        assert found == pytest.approx(wanted)
        assert len(wanted) == 4
        assert record["score"] == pytest.approx(np.mean(list(wanted.values())))
        row = next(one for one in rows_of(folder / "trials.tsv") if one["trial"] == record["name"])
        for length in ("1000", "2000"):
            both = [wanted[case, length] for case in ("strain", "genome")]
            assert float(row[f"species@1_{length}"]) == pytest.approx(np.mean(both))
        for case in ("strain", "genome"):
            both = [wanted[case, length] for length in ("1000", "2000")]
            assert float(row[f"species@1_{case}"]) == pytest.approx(np.mean(both))
    scores = [one.score.mean for one in report.settings if one.score is not None]
    assert scores == sorted(scores, reverse=True)
    assert "another fold" in (folder / "sweep.md").read_text()


def test_validation_species_are_not_trained_on(bench: tuple[Path, Path], tmp_path: Path) -> None:
    benchmark, store = bench
    for fold in (0, None):
        with pytest.raises(UsageError, match="60 of 60 training rows are of the validation species"):
            sweep(store, tmp_path / "s", grid={"latent": [2]}, benchmark=benchmark, fold=fold)
    with pytest.raises(UsageError, match=r"no query .* in fold 9"):
        sweep(store, tmp_path / "s", grid={"latent": [2]}, benchmark=benchmark, fold=9)


def test_fasta_files_are_no_profiles(bench: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="it is FASTA · make one with kinmer count"):
        sweep(bench[0].parent / "all.fna", tmp_path / "t", grid={"latent": [2]})
    assert not (tmp_path / "t").exists()


def test_other_folds_may_be_kept_back_too(bench: tuple[Path, Path], tmp_path: Path) -> None:
    benchmark, store = bench
    with pytest.raises(UsageError, match=r"60 of 60 training rows are .* of a fold left out"):
        sweep(store, tmp_path / "s", grid={"latent": [2]}, benchmark=benchmark, fold=1, leave_out=(0,))


def test_training_rows_are_known_by_their_ids(bench: tuple[Path, Path]) -> None:
    folds = read_labels(bench[0] / "folds.tsv")
    inside = next(one for one in folds.rows if folds.value(one, "fold") == "1")
    ids = [inside, f"{inside}:5-900:-", f"{inside}:5-900", "other", "other:1-2:+"]
    found = kinmer.fragments.open_benchmark(bench[0])
    assert trained_on(ids, found, {"1"}) == (2, 2)
    assert trained_on(ids, found, {"0"}) == (2, 0)
    assert trained_on(ids, found, None) == (2, 2)


# ---- processes


def test_a_process_that_dies_costs_its_trial_only(store: Path, tmp_path: Path) -> None:
    setup = Setup(source=str(store), options={}, validation=None, device="cpu", threads=1, memory=None)
    workers = Workers(setup, jobs=2)
    task = Task("t", TrainSettings(epochs=10**6).to_dict(), str(tmp_path / "e"))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(workers.run, task)
        wait_for(lambda: workers._running)
        next(iter(workers._running)).kill()
        record = running.result()
    assert (record["name"], record["state"], workers._running) == ("t", "failed", set())
    assert "killed by signal 9" in record["error"]


@pytest.mark.slow
def test_processes_give_what_one_process_gives(store: Path, tmp_path: Path) -> None:
    grid: dict[str, list[float]] = {"latent": [4], "learning_rate": [1e-3, 1e-2, 1e30]}
    reports = [
        sweep(store, tmp_path / f"s{jobs}", grid=grid, fixed=SMALL, jobs=jobs, threads=jobs)
        for jobs in (1, 2)
    ]
    one, two = (
        [{key: value for key, value in record.items() if "seconds" not in key} for record in report.trials]
        for report in reports
    )
    assert one == two
    assert [record["state"] for record in one] == ["done", "done", "failed"]
    with pytest.raises(UsageError, match="in memory are for one job"):
        sweep(organisms(50), tmp_path / "m", grid={"latent": [2]}, jobs=2)


def wait_for(found: Any, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < until, "it did not come"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_sweep_of_processes_goes_on_after_the_signal(number: int, store: Path, tmp_path: Path) -> None:
    folder = tmp_path / "s"
    # The second setting trains long enough to be cut off in the middle.
    more = ("--grid", "epochs=2,1500", "--set", "stop_patience=0", "--jobs", "2", "--threads", "2")
    arguments = [one for one in (*SET, *more) if one != "epochs=2"]
    arguments.remove("--set")
    command = [sys.executable, "-m", "kinmer", "sweep", str(store), "-o", str(folder), *arguments]

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    first = begin()
    wait_for(lambda: len(list(folder.glob("trials/*.json"))) == 1)
    wait_for(lambda: list(folder.glob("encoders/.*.training")))
    time.sleep(0.5)
    os.kill(first.pid, number)
    _, told = first.communicate(timeout=120)
    assert first.returncode == (130 if number == signal.SIGINT else -number)
    assert "Traceback" not in told
    before = written(folder)
    assert len(before) == 2
    if number == signal.SIGINT:
        (checkpoint,) = folder.glob("encoders/.*.training/state.json")
        records = json.loads(checkpoint.read_text())["state"]["records"]
        assert records, "the training that was cut off left a checkpoint"
        assert len(rows_of(folder / "trials.tsv")) == 1
    second = begin()
    _, told = second.communicate(timeout=300)
    assert second.returncode == 0, told
    after = written(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == 4
    rows = rows_of(folder / "trials.tsv")
    assert {row["epochs"] for row in rows} == {"2", "1500"}
    assert {row["state"] for row in rows} == {"done"}
    if number == signal.SIGINT:
        long = next(row for row in rows if row["epochs"] == "1500")
        assert Encoder.load(folder / long["encoder"]).metrics[: len(records)] == records
