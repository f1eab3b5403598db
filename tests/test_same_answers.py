"""The same queries have the same answers, byte for byte, however they are asked."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinmer.fasta import read_records
from kinmer.index import nearest
from kinmer.library import build_index
from kinmer.queries import search
from kinmer.queries.formats import writer_of
from tests.small_world import World, make_world

pytest.importorskip("pyskani")

WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    "genomes": {"by": "genome", "k": 15},
    "filtered": {"where": "length > 20000", "facets": ("plasmid", "virus")},
    "evidence": {"by": "genome", "rank_by_evidence": True},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.fixture(scope="module", params=["hnsw", "exact"])
def db(world: World, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    db = tmp_path_factory.mktemp("made") / "kin.db"
    settings = {"metadata": world.metadata, "keep_sequences": True, "engine": request.param}
    build_index(world.references, db, threads=1, **settings).close()
    return db


def lines(queries: Path, db: Path, way: str, threads: int) -> list[str]:
    stream = io.StringIO()
    writer_of("jsonl")(search(queries, db, n_jobs=threads, **WAYS[way]), stream)
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("way", list(WAYS))
def test_threads_batches_and_order_change_nothing(
    db: Path, world: World, way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The engine is asked, few as the rows are.
    monkeypatch.setattr(nearest, "FEW", 0)
    wanted = lines(world.queries, db, way, 1)
    assert len(wanted) >= 20
    assert lines(world.queries, db, way, 2) == wanted
    for rows in (1, 7):
        monkeypatch.setattr("kinmer.queries.intake.BATCH_ROWS", rows)
        assert lines(world.queries, db, way, 1) == wanted
    records = list(read_records(world.queries))
    order = np.random.default_rng(1).permutation(len(records)).tolist()
    shuffled = tmp_path / "shuffled.fna"
    shuffled.write_bytes(b"".join(b">%b\n%b\n" % (records[at][0].encode(), records[at][1]) for at in order))
    assert lines(shuffled, db, way, 2) == [wanted[at] for at in order]


def test_two_processes_say_the_same(db: Path, world: World) -> None:
    command = [sys.executable, "-m", "kinmer", "-q", "search", str(world.queries), "--db", str(db)]
    runs = [
        subprocess.run(
            [*command, "--format", "jsonl", "--threads", threads], capture_output=True, check=True
        ).stdout
        for threads in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert runs[0].decode().splitlines() == lines(world.queries, db, "plain", 1)
