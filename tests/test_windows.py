"""Windows of long queries: each is judged as a query of its own, and runs of another kind are told."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinmer.cli import run
from kinmer.errors import UsageError
from kinmer.fasta import read_records
from kinmer.library import build_index
from kinmer.molecules import MOLECULES
from kinmer.queries import QueryResult, SearchResults, Stretch, intake, search, search_ids
from kinmer.queries import judge as judges
from kinmer.queries.intake import window_spans
from kinmer.queries.windows import stretches
from tests.small_world import make_world

SIZE, BEFORE, VIRUS = 5000, 30_000, 16_000


@dataclass(frozen=True)
class Insert:
    """db : calibrated. contigs : ``with`` a virus in a chromosome and ``without``, ``short``: fewer than two
    windows of it, ``gap``: windows of N among others, and ``nothing`` to compare. db has other strains.
    """

    db: Path
    contigs: Path
    letters: dict[str, bytes]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Insert:
    folder = tmp_path_factory.mktemp("windows")
    world = make_world(folder / "community")
    db, contigs = folder / "kin.db", folder / "contigs.fna"
    build_index(world.references, db, metadata=world.metadata, engine="exact", threads=1).close()
    files = sorted((folder / "community" / "genomes").iterdir())
    known = {name: bytes(letters) for path in files for name, letters in read_records(path)}
    host, virus = known["s008_2_chr"] + known["s009_2_chr"], known["v001_2"][:VIRUS]
    letters = {
        "with": host[:BEFORE] + virus + host[BEFORE:],
        "without": host,
        "short": host[BEFORE - 2000 : BEFORE] + virus[: 2 * SIZE - 2001],
        "gap": host[:20_000] + b"N" * 12_000 + virus,
        "nothing": b"N" * 20_000,
    }
    contigs.write_text("".join(f">{name}\n{text.decode()}\n" for name, text in letters.items()))
    return Insert(db, contigs, letters)


def written(results: SearchResults, form: str = "calls") -> str:
    stream = io.StringIO()
    results.write(stream, form)
    return stream.getvalue()


def own_kind(result: QueryResult) -> str:
    assert result.molecule is not None
    return max(result.molecule.probabilities, key=result.molecule.probabilities.__getitem__)


@given(st.integers(0, 400), st.integers(2, 60))
def test_windows_lie_half_a_window_apart_and_reach_the_end(length: int, size: int) -> None:
    spans = window_spans(length, size)
    if length < 2 * size:
        assert spans == []
        return
    assert {stop - start for start, stop in spans} == {size}
    assert (spans[0][0], spans[-1][1]) == (0, length)
    steps = np.diff([start for start, _ in spans])
    assert set(steps[:-1].tolist()) <= {size // 2}
    assert 0 < steps[-1] <= size // 2


@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from([0.5, 0.59, 0.6, 0.9, np.nan])), max_size=14))
def test_windows_that_touch_and_say_the_same_are_a_stretch(windows: list[tuple[int, float]]) -> None:
    spans = [(at * 5, at * 5 + 10) for at in range(len(windows))]
    likely = np.array([[(1 - p) / 4] * 5 for _, p in windows]).reshape(-1, 5)
    for at, (kind, p) in enumerate(windows):
        likely[at, kind] = p
    # By every pair: windows go together that say the same, touch, and have nothing else said between them.
    says = [(at, kind) for at, (kind, p) in enumerate(windows) if p >= 0.6 and kind]
    groups: list[set[int]] = [{at} for at, _ in says]
    for (at, kind), (later, other) in pairwise(says):
        if kind == other and later - at <= 2:
            one, two = (next(group for group in groups if row in group) for row in (at, later))
            groups = [group for group in groups if group not in (one, two)] + [one | two]
    expected = sorted(
        (5 * min(group), 5 * max(group) + 10, MOLECULES[windows[min(group)][0]])
        for group in groups
        if len(group) > 1
    )
    found = stretches(spans, likely, "chromosome")
    assert [(one.start, one.stop, one.molecule) for one in found] == expected
    rows = sorted((group for group in groups if len(group) > 1), key=min)
    means = [np.mean([windows[at][1] for at in group]) for group in rows]
    assert [one.probability for one in found] == pytest.approx(means)


def test_a_virus_in_a_chromosome_is_found_at_its_place(made: Insert) -> None:
    results = {one.id: one for one in search(made.contigs, made.db, windows=SIZE)}
    whole, (one,) = results["with"], results["with"].windows or ()
    assert own_kind(whole) == "chromosome"
    assert one.molecule == "virus"
    assert one.probability > 0.8
    assert abs(one.start - BEFORE) <= SIZE // 2
    assert abs(one.stop - BEFORE - VIRUS) <= SIZE // 2
    assert [results[name].windows for name in ("without", "short", "nothing")] == [(), (), ()]


def test_a_window_is_a_query_of_its_own(made: Insert, tmp_path: Path) -> None:
    """The windows, written as sequences and searched, tell the same."""
    apart = tmp_path / "apart.fna"
    spans = {name: window_spans(len(text), SIZE) for name, text in made.letters.items()}
    apart.write_text(
        "".join(
            f">{name}:{start + 1}-{stop}\n{made.letters[name][start:stop].decode()}\n"
            for name, some in spans.items()
            for start, stop in some
        )
    )
    calls = {one.id: one.molecule for one in search(apart, made.db, prior="usual")}
    for result in search(made.contigs, made.db, prior="usual", windows=SIZE):
        kinds = [calls[f"{result.id}:{start + 1}-{stop}"] for start, stop in spans[result.id]]
        rows = [[np.nan] * 5 if one is None else list(one.probabilities.values()) for one in kinds]
        likely = np.array(rows).reshape(-1, 5)
        expected = () if result.molecule is None else stretches(spans[result.id], likely, own_kind(result))
        assert result.windows == expected
    assert calls["gap:22501-27500"] is None


def test_all_else_is_as_without_windows(made: Insert) -> None:
    plain, told = (written(search(made.contigs, made.db, windows=size)) for size in (None, SIZE))
    lines = [line.split("\t") for line in told.splitlines()]
    assert ["\t".join(line[:-1]) for line in lines] == plain.splitlines()
    assert lines[0][-1] == "windows"
    assert lines[1][-1].startswith("virus ")
    assert lines[2][-1] == ""
    objects = [
        json.loads(written(search(made.contigs, made.db, windows=size), "json")) for size in (None, SIZE)
    ]
    found = [one.pop("windows") for one in objects[1]]
    assert objects[0] == objects[1]
    assert not any("windows" in one for one in objects[0])
    assert found[0][0].keys() == {"start", "stop", "molecule", "probability"}
    assert str(Stretch(120_000, 160_000, "virus", 0.968)) == "virus 120001-160000 (0.97)"


def test_neither_blocks_nor_threads_nor_conditions_nor_a_second_index_matter(
    made: Insert, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    expected = [one.windows for one in search(made.contigs, made.db, windows=SIZE)]
    hits = search(made.contigs, made.db, windows=SIZE, where='molecule == "plasmid"', n_jobs=2)
    assert [one.windows for one in hits] == expected
    world = make_world(tmp_path / "other")
    build_index(
        world.later, tmp_path / "later.db", metadata=world.metadata, calibrate=False, threads=1
    ).close()
    both = list(search(made.contigs, [tmp_path / "later.db", made.db], windows=SIZE))
    assert [one.windows for one in both] == expected
    monkeypatch.setattr(intake, "BATCH_ROWS", 3)
    monkeypatch.setattr(judges, "SAMPLE", 1)
    assert [one.windows for one in search(made.contigs, made.db, windows=SIZE)] == expected


def test_what_has_no_windows_is_told(made: Insert, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UsageError, match="no sequences to cut into windows"):
        search_ids(made.db, ["s008_1_chr"], windows=SIZE)
    with pytest.raises(UsageError, match="at least 2,000 bases"):
        search(made.contigs, made.db, windows=1999)
    command = ["search", str(made.contigs), "--db", str(made.db), "--windows", str(SIZE)]
    assert run(command) == 2
    assert "does not show windows" in capsys.readouterr().err
    assert run([*command, "--format", "calls"]) == 0
    assert capsys.readouterr().out == written(search(made.contigs, made.db, windows=SIZE))
