"""The logic of benchmarks/peers.py that no tool is needed for: best hits, Kraken2's taxonomy, scores."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
COLUMNS = ("genome_id", "domain", "family", "genus", "species", "ani95_cluster")
DATABASE = [
    ("a", "Bacteria", "F", "G", "G one", "c1"),
    ("b", "Bacteria", "F", "G", "G two", "c2"),
    ("c", "Bacteria", "F", "H", "", "c3"),
    ("d", "Viruses", "", "", "V", "c4"),
]


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks' folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


def table(rows: Sequence[tuple[str, ...]], **more: list[str]) -> pd.DataFrame:
    labels = pd.DataFrame(rows, columns=list(COLUMNS), dtype=object)
    return labels.assign(id=[f"r{row}" for row in range(len(rows))], **more)


def test_best_answer_is_the_largest_score_and_of_equal_ones_the_first(peers: Any) -> None:
    best = peers("peers_answers").best
    found = best([(0, 3, 1.0), (0, 1, 2.0), (2, 2, 5.0), (2, 0, 5.0), (0, 2, 0.5)], 4)
    assert found.species.tolist() == found.genus.tolist() == [1, -1, 2, -1]


def test_taxa_stand_for_entries_at_the_ranks_below_which_they_lie(peers: Any) -> None:
    taxonomy = peers("peers_kraken").taxonomy_of(table(DATABASE))
    taxid = {name: one for one, (_, _, name) in taxonomy.nodes.items()}
    entries = taxonomy.entries()
    assert [taxonomy.nodes[one][1:] for one in taxonomy.leaves] == [
        ("species", "G one"),
        ("species", "G two"),
        ("no rank", "entry 2"),
        ("species", "V"),
    ]
    assert entries[taxid["G two"]] == (1, 0)
    assert entries[taxid["G"]] == (-1, 0)
    assert entries[taxid["F"]] == entries[taxid["root"]] == entries[0] == (-1, -1)
    assert entries[taxid["entry 2"]] == (2, 2)
    # No genus above it: the species' own entry tells what genus there is.
    assert entries[taxid["V"]] == (3, 3)


def test_scores_are_shares_of_the_asked_and_no_answer_is_wrong(peers: Any, tmp_path: Path) -> None:
    answers, run, bench = (peers(f"peers_{name}") for name in ("answers", "run", "bench"))
    queries = table(
        [
            ("q", "Bacteria", "F", "G", "G one", "c1"),
            ("q", "Bacteria", "F", "G", "G one", "c2"),
            ("r", "Bacteria", "F", "G", "G one", "c1"),
            ("r", "Bacteria", "F", "H", "", "c3"),
        ],
        case=["strain"] * 4,
        length=["1000"] * 4,
    )
    one = bench.Bench(tmp_path, tmp_path, tmp_path, table(DATABASE), queries)
    rows = np.array([0, 1, -1, 2])
    found = run.Result("1", answers.Answers(rows, rows), {}, {}, 0)
    # Twice the same benchmark: answers must be looked up in the database of their own.
    scores = peers("peers_scores").score([one, one], [{"tool": found}] * 2, ["tool"], 50, 0)
    values = {(s.rank, s.measure): (s.value, s.queries, s.genomes) for s in scores if s[2:5] == ("all",) * 3}
    assert values["species", "at_1"] == (pytest.approx(1 / 3), 6, 2)
    assert values["species", "answered"] == (pytest.approx(2 / 3), 6, 2)
    assert values["species or cluster", "at_1"] == (pytest.approx(3 / 4), 8, 2)
    assert values["genus", "at_1"] == (pytest.approx(3 / 4), 8, 2)


def test_a_step_is_measured_and_its_failure_told(peers: Any, tmp_path: Path) -> None:
    run = peers("peers_run")
    script = "import sys, time; block = bytearray(80_000_000); time.sleep(0.2); print('done')"
    used = run.run_step(run.Step("s", "", "out"), [sys.executable, "-c", script], tmp_path)
    assert (tmp_path / "out").read_text() == "done\n"
    assert used.wall >= 0.2
    # The block and a bare interpreter, whatever the memory of this process is.
    assert 80e6 < used.peak < 160e6
    with pytest.raises(run.ToolError, match=r"s failed with status 3: no such thing"):
        run.run_step(
            run.Step("s", ""),
            [sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"],
            tmp_path,
        )
    with pytest.raises(run.ToolError, match="surely-absent is not installed"):
        run.filled("surely-absent --x", {})
