"""From simulated genomes to a benchmark, encoders of its folds, and the table of what they find."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from kinmer.cli import run
from kinmer.evaluate.retrieval import evaluate_retrieval
from kinmer.simulate import Community, write_community
from tests.organisms import encoder_of

LABELLED = {"database": "database", "query": "queries"}
Kinmer = Callable[..., tuple[int, str, str]]
COMMUNITY = Community(
    phyla=2,
    families=1,
    genera=2,
    species=2,
    strains=2,
    chromosome=24_000,
    plasmid=8_000,
    phages=1,
    phage=9_000,
    seed=5,
)


@pytest.fixture
def kinmer(capsys: pytest.CaptureFixture[str]) -> Kinmer:
    """Run a command; gives exit code, stdout and stderr."""

    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run([str(one) for one in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated genomes with their taxonomy, two benchmarks, and untrained encoders of three folds."""
    folder = tmp_path_factory.mktemp("community")
    write_community(folder / "all", community=COMMUNITY)
    files = sorted((folder / "all/genomes").iterdir())
    for seed in ("0", "1"):
        argv = ["fragment", *files, "--benchmark", "-o", folder / f"bench{seed}", "--seed", seed]
        argv += ["--labels", folder / "all/taxonomy.tsv", "--folds", "3", "--lengths", "1000,3000"]
        assert run([str(one) for one in (*argv, "--per-length", "4", "--piece", "5000")]) == 0
    for fold in range(3):
        encoder_of(4, dim=12, seed=fold).save(folder / f"fold{fold}")
    return folder


def test_the_whole_way(community: Path, kinmer: Kinmer, tmp_path: Path) -> None:
    stem = tmp_path / "found"
    arguments = ("evaluate", "retrieval", community / "bench0", "-e", community / "fold{fold}")
    more = ("-e", community / "fold0", "-e", "raw", "--baseline", "raw", "-o", stem, "--bootstrap", "100")
    code, out, err = kinmer(*arguments, *more, "--threads", "1")
    assert (code, err.count("written: ")) == (0, 5)
    for case, rank in (("genus", "genus"), ("strain", "species"), ("genome", "species")):
        assert f"nearest is of the same {rank}: case {case}" in out
    assert "minus raw on the same queries" in out

    table = pd.read_csv(f"{stem}.tsv", sep="\t", dtype={"length": str})
    assert set(table.encoder) == {str(community / "fold{fold}"), str(community / "fold0"), "raw"}
    whole = table[(table.domain == "all") & (table.length == "all") & (table.measure == "at_1")]
    found: dict[Any, Any] = {(row.encoder, row.case, row.rank): row for row in whole.itertuples()}
    queries = pd.read_csv(community / "bench0/queries.fna.gz.tsv", sep="\t")
    for case, rank in (("genus", "genus"), ("strain", "species"), ("genome", "species")):
        row = found["raw", case, rank]
        assert row.queries == (queries.case == case).sum()
        assert row.genomes == queries[queries.case == case].genome_id.nunique()
        assert row.ceiling == 1
        assert row.low <= row.value <= row.high
    # The species of the case genus is not in the database; raw profiles of simulated genomes find their own.
    assert found["raw", "genus", "species"].ceiling == 0
    assert found["raw", "genus", "species"].value == 0
    assert found["raw", "genome", "species"].value > 0.5

    assert set(json.loads(Path(f"{stem}.json").read_text())["differences"]) == {
        str(community / "fold{fold}"),
        str(community / "fold0"),
    }
    code, _, err = kinmer(*arguments, "-o", stem)
    assert code == 2
    assert "exists already" in err


def test_seeds_are_pooled(community: Path) -> None:
    benches = [community / "bench0", community / "bench1"]
    both, first, second = (
        {score[1:6]: score for score in evaluate_retrieval(some, encoders=["raw"], bootstrap=2).scores}
        for some in (benches, benches[0], benches[1])
    )
    for place, score in both.items():
        parts = [one[place] for one in (first, second) if place in one]
        assert max(part.genomes for part in parts) <= score.genomes <= sum(part.genomes for part in parts)
        assert score.queries == sum(part.queries for part in parts)
        # What depends on random parts of the database, or on other sums, is no mean of the two.
        if "of_1/" not in score.measure and ":" not in score.measure:
            values = [(part.value or 0) * part.queries for part in parts]
            assert score.value == pytest.approx(sum(values) / score.queries)
    tables = [pd.read_csv(bench / "queries.fna.gz.tsv", sep="\t") for bench in benches]
    genomes = pd.concat(tables).genome_id.nunique()
    assert both["domain", "all", "all", "all", "at_1"].genomes == genomes


def test_vectors_of_fasta_and_stores(community: Path, kinmer: Kinmer, tmp_path: Path) -> None:
    """The same figures from the benchmark, its FASTA, stores, embedded stores and vectors."""
    bench, encoder = community / "bench0", str(community / "fold0")
    sides: dict[str, dict[str, Path]] = {"fasta": {}, "store": {}, "npy": {}}
    for name in ("database", "queries"):
        fasta, store, vectors = bench / f"{name}.fna.gz", tmp_path / f"{name}.zarr", tmp_path / f"{name}.npy"
        assert kinmer("count", fasta, "-o", store, "--max-k", "4")[0] == 0
        assert kinmer("embed", store, "-e", encoder, "-o", vectors)[0] == 0
        for kind, path in (("fasta", fasta), ("store", store), ("npy", vectors)):
            sides[kind][name] = path
    labels = {f"{name}_labels": bench / f"{file}.fna.gz.tsv" for name, file in LABELLED.items()}

    def scores(**given: Any) -> list[tuple[Any, ...]]:
        return [score[1:] for score in evaluate_retrieval(**given, bootstrap=2).scores]

    wanted = scores(benchmarks=bench, encoders=[encoder])
    for kind, encoders in (("fasta", [encoder]), ("store", [encoder]), ("npy", [])):
        assert scores(**sides[kind], **labels, encoders=encoders) == wanted
    for store in sides["store"].values():
        assert kinmer("embed", store, "-e", encoder)[0] == 0
    assert scores(**sides["store"], **labels) == wanted


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("evaluate", "retrieval"), "nothing to evaluate"),
        (("evaluate", "retrieval", "{}/bench0"), "give an encoder"),
        (("evaluate", "retrieval", "{}/all", "-e", "raw"), "this is no benchmark, but a folder"),
        (("evaluate", "retrieval", "{}/bench0", "-e", "{}/all"), "this is no encoder, but a folder"),
        (("evaluate", "retrieval", "{}/bench0", "-e", "raw", "-e", "raw"), "given twice"),
        (("evaluate", "retrieval", "{}/bench0", "-e", "raw", "--baseline", "x"), "none of the encoders"),
        (("fragment", "{}/all/taxonomy.tsv", "-o", "x", "--benchmark"), "takes --labels"),
        (("fragment", "a.fna", "-o", "x", "--per-sequence", "1", "--folds", "3"), "--folds is an option of"),
        (("fragment", "a.fna", "-o", "x", "--per-sequence", "1", "--leave-out", "x"), "COLUMN=VALUE"),
        (("fragment", "a.fna", "-o", "x", "--benchmark", "--labels", "l", "--lengths", "x"), "commas"),
    ],
)
def test_wrong_usage(community: Path, kinmer: Kinmer, argv: tuple[str, ...], message: str) -> None:
    code, out, err = kinmer(*(one.replace("{}", str(community)) for one in argv))
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1
