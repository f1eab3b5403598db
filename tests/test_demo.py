"""The demos on small communities: the same result each time, quick the second time, resumed when killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kinmer.cli import main
from kinmer.demo import CASES, OUTCOMES, STEPS, DemoReport, run_demo
from kinmer.demo.original import LENGTHS, OriginalReport, run_original_demo
from kinmer.demo.original import STEPS as ORIGINAL_STEPS
from kinmer.errors import UsageError
from kinmer.evaluate.retrieval import agreement, precision_and_recall
from kinmer.simulate import Community
from kinmer.training.settings import TrainSettings

COMMUNITY = Community(
    phyla=2, families=1, genera=2, species=1, chromosome=150_000, plasmid=55_000, phage=55_000, seed=1
)
SETTINGS = TrainSettings(latent=16, hidden=(64, 32), epochs=6, warmup_epochs=1, batch=64, learning_rate=3e-3)
CHILD = """
import sys
from tests import test_demo
getattr(test_demo, sys.argv[1])(sys.argv[2])
"""


FIXTURES = {"small_demo": "shown", "small_original": "finished"}
WORLD = Community(phyla=3, families=2, genera=1, chromosome=60_000, plasmid=20_000, phage=20_000, seed=1)


def small_demo(folder: str | Path, log: Any = None, seed: int = 1) -> DemoReport:
    return run_demo(folder, seed=seed, threads=1, log=log, community=WORLD, contigs=120)


def small_original(folder: str | Path, log: Any = None, seed: int = 1) -> OriginalReport:
    return run_original_demo(
        folder, seed=seed, threads=1, log=log, community=COMMUNITY, fragments=400, settings=SETTINGS
    )


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoReport, list[str]]:
    folder, lines = tmp_path_factory.mktemp("demo") / "output", list[str]()
    return folder, small_demo(folder, lines.append), lines


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OriginalReport, list[str]]:
    folder, lines = tmp_path_factory.mktemp("original") / "output", list[str]()
    return folder, small_original(folder, lines.append), lines


def test_the_demo_goes_from_genomes_to_a_report(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, lines = shown
    assert [line.split(":")[0] for line in lines] == [f"{at}/8 {name}" for at, name in enumerate(STEPS, 1)]
    for name in ("reference.db", "calls.tsv", "contigs.zarr", "map.html", "map.png", "report.html"):
        assert (folder / name).exists(), name
    assert report.data == json.loads((folder / "report.json").read_text())
    assert set(report.data["molecules"]) == {"chromosome", "plasmid", "virus"}


def test_the_demo_counts_the_verdicts_right(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, _ = shown
    calls = table_of(folder / "calls.tsv", "query_id")
    truth = table_of(folder / "contigs.fna.tsv", "id")
    held = {row["species"] for row in table_of(folder / "taxonomy.tsv", "sequence_id").values()}
    known = [one for one in truth if truth[one]["species"] in held]
    right = [
        one
        for one in known
        if calls[one]["species"] == truth[one]["species"] and calls[one]["rank"] == "species"
    ]
    row = report.data["cases"][CASES[0]]
    assert (row["contigs"], row["species"]) == (len(known), len(right))
    assert row["species"] / row["contigs"] > 0.5
    for case, row in report.data["cases"].items():
        assert sum(row[name] for name in OUTCOMES) == row["contigs"] > 0, case
        # Most of what is named is right, and new species get no name of a species.
        assert row["wrong"] <= 0.2 * row["contigs"], case
    assert [report.data["cases"][case]["species"] for case in CASES[1:]] == [0, 0]
    assert report.data["cases"][CASES[2]]["open"] > 0
    assert [one["id"] in truth for one in report.data["examples"]] == [True] * len(report.data["examples"])


def test_the_demo_names_files_that_are_there(shown: tuple[Path, DemoReport, list[str]]) -> None:
    folder, report, _ = shown
    words = [word for word in report.table().split() if word.startswith(str(folder))]
    assert len(words) == 7
    assert all(Path(word).exists() for word in words)


@pytest.mark.slow
def test_the_commands_of_the_demo_work_as_they_stand(
    shown: tuple[Path, DemoReport, list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    _, after = shown[1].table().split("Go on")
    # Where kinmer is not on the path, the lines begin with `python -m kinmer`.
    lines = [line.split() for line in after.splitlines()[1:]]
    commands = [words[words.index("-m") + 2 :] if "-m" in words else words[1:] for words in lines]
    assert [words[0] for words in commands] == ["search", "reference", "search"]
    for words in commands:
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, words
    assert (tmp_path / "calls.tsv").read_bytes() == (shown[0] / "calls.tsv").read_bytes()


def test_the_demo_and_the_evaluations_load_no_torch() -> None:
    names = "kinmer.demo, kinmer.evaluate.retrieval, kinmer.evaluate.locality"
    code = f"import sys, {names}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def table_of(path: Path, key: str) -> dict[str, dict[str, str]]:
    header, *rows = (line.split("\t") for line in path.read_text().splitlines())
    return {row[header.index(key)]: dict(zip(header, row, strict=True)) for row in rows}


def test_the_original_demo_goes_the_whole_way(finished: tuple[Path, OriginalReport, list[str]]) -> None:
    folder, report, lines = finished
    steps = [line.split(":")[0] for line in lines if line[1:3] == "/9"]
    assert steps == [f"{number}/9 {name}" for number, name in enumerate(ORIGINAL_STEPS, 1)]
    for name in ("community/taxonomy.tsv", "database.zarr", "encoder/config.json", "kin.db", "hits.tsv"):
        assert (folder / name).exists(), name
    for name in ("species", "database", "embeddings", "verify-distance", "verify-rank"):
        assert (folder / "pictures" / f"{name}.png").stat().st_size > 5_000
        assert (folder / "pictures" / f"{name}.svg").is_file()
    assert report.data == json.loads((folder / "report.json").read_text())
    assert report.data["verify"]["validation"]
    assert report.data["verify"]["queries"] == 40  # a tenth of the database was held out
    assert "50 kb" in report.table()
    assert "learns to reconstruct profiles" in report.table()


def test_relatives_are_found(finished: tuple[Path, OriginalReport, list[str]]) -> None:
    rows = finished[1].data["retrieval"]
    assert [row["length"] for row in rows] == [f"{length // 1000} kb" for length in LENGTHS]
    for row in rows:
        for method in ("embedding", "raw CLR"):
            species, genus = row[method]["species"]["value"], row[method]["genus"]["value"]
            assert species <= genus <= 1
    # One of eight labels would be right by chance.
    assert rows[-1]["embedding"]["species"]["value"] > 0.7
    assert rows[-1]["raw CLR"]["species"]["value"] > 0.9
    assert set(finished[1].data["molecules"]) == {"chromosome", "plasmid", "virus"}


def test_hits_and_table_agree(finished: tuple[Path, OriginalReport, list[str]]) -> None:
    folder, report, _ = finished
    hits = [line.split("\t") for line in (folder / "hits.tsv").read_text().splitlines()]
    header = hits[0]
    assert header[:6] == ["query_id", "rank", "hit_id", "distance", "length", "gc"]
    first = {row[0]: row[header.index("species")] for row in hits[1:] if row[1] == "1"}
    queries = [line.split("\t") for line in (folder / "queries.fna.tsv").read_text().splitlines()]
    names = queries[0]
    of_length = [row for row in queries[1:] if row[names.index("length")] == "5000"]
    right = [first[row[0]] == row[names.index("species")] for row in of_length]
    expected = next(row for row in report.data["retrieval"] if row["length"] == "5 kb")
    assert expected["queries"] == len(right)
    assert expected["embedding"]["species"]["value"] == pytest.approx(sum(right) / len(right))


@pytest.mark.parametrize("which", ["small_demo", "small_original"])
def test_a_second_run_keeps_everything(which: str, request: pytest.FixtureRequest) -> None:
    run = globals()[which]
    folder, report, first = request.getfixturevalue(FIXTURES[which])
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    lines: list[str] = []
    assert run(folder, lines.append).data == report.data
    assert sum(line.endswith("(kept)") for line in lines) == int(first[0][2])
    assert before == {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def test_a_missing_output_is_made_again_and_is_the_same(
    finished: tuple[Path, OriginalReport, list[str]],
) -> None:
    folder, report, _ = finished
    hits = (folder / "hits.tsv").read_bytes()
    (folder / "hits.tsv").unlink()
    lines: list[str] = []
    assert small_original(folder, lines.append).data == report.data
    assert (folder / "hits.tsv").read_bytes() == hits
    assert sum(line.endswith("(kept)") for line in lines) == 6


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match="something else"):
        small_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    with pytest.raises(UsageError, match="file"):
        small_demo(tmp_path / "thesis.txt")


@pytest.mark.slow
@pytest.mark.parametrize(("which", "table"), [("small_demo", "calls.tsv"), ("small_original", "hits.tsv")])
def test_killed_runs_end_with_the_same_result(
    which: str, table: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, (whole, report, _) = tmp_path / "output", request.getfixturevalue(FIXTURES[which])
    rng = random.Random(0)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, which, str(folder)], stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(3, 9))
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert globals()[which](folder).data == report.data
    assert (folder / table).read_bytes() == (whole / table).read_bytes()


def test_agreement_counts_labelled_queries_and_resamples_whole_genomes() -> None:
    truth = ["a", "a", "b", "", "b", "a"]
    found = ["a", "b", "b", "a", "b", "a"]
    share, number = agreement(truth, found, ["g1", "g1", "g2", "g2", "g2", "g3"], bootstrap=500)
    assert number == 5
    assert share.value == pytest.approx(4 / 5)
    assert share.low is not None
    assert share.high is not None
    assert 0.5 <= share.low < 0.8 < share.high <= 1
    # Fragments of one genome stand or fall together: a single genome gives no spread at all.
    alone = agreement(truth, found, ["g"] * 6, bootstrap=100)[0]
    assert (alone.low, alone.high) == (alone.value, alone.value)
    assert agreement(["", ""], ["a", "b"], ["g", "g"])[0].value is None


def test_precision_and_recall_by_hand() -> None:
    truth = ["virus", "virus", "plasmid", "chromosome"]
    found = ["virus", "chromosome", "virus", "chromosome"]
    assert precision_and_recall(truth, found) == {
        "chromosome": (0.5, 1.0, 1),
        "plasmid": (None, 0.0, 1),
        "virus": (0.5, 0.5, 2),
    }
