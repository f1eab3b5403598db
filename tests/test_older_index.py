"""An index that kinmer 0.1.0 has written (format 2) opens, answers, and is of today's format when changed.

``formats/index-2.tar.gz``: eight simulated contigs of four genomes, by an untrained encoder. Beside it stands
the table as it was when ``db delete`` of a genome was killed between its commit and what followed.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from kinmer.errors import FormatError
from kinmer.index import IndexWriter
from kinmer.index import manifest as manifests
from kinmer.index.rows import GENOME
from kinmer.library import (
    add_to_index,
    check_index,
    compact_index,
    delete_from_index,
    describe_index,
    index_rows,
    open_index,
    update_index,
)
from kinmer.queries import search_ids

ARCHIVE = Path(__file__).parent / "formats" / "index-2.tar.gz"
NAMES = [f"g{genome}_contig_{at}" for genome in range(4) for at in range(2)]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "index-2.db"


def half(db: Path) -> Path:
    """The index between the commit of a deletion of both contigs of g1 and the end of the command."""
    shutil.copy(db.parent / "entries-half.sqlite", db / "entries.sqlite")
    return db


def format_of(db: Path) -> int:
    return int(json.loads((db / "index.json").read_text())["format"])


def nearest(db: Path) -> dict[str, list[tuple[str, float]]]:
    return {
        one.id: [(hit.id, round(hit.distance, 5)) for hit in one.hits]
        for by in ("sequence", "genome")
        for one in search_ids(db, [row.id for row in index_rows(db)], k=3, by=by)
    }


def test_it_is_read_as_it_is(db: Path) -> None:
    before = {path: path.read_bytes() for path in (db / "index.json", db / "entries.sqlite")}
    report = check_index(db)
    assert report.whole, report.problems
    assert (report.entries, report.genomes) == (8, 4)
    # Nothing is wrong with an engine of its time, but that it is built again.
    assert any("another version" in note and "next search builds it" in note for note in report.notes)
    assert [row.id for row in index_rows(db)] == NAMES
    assert describe_index(db).sequences_kept
    answers = nearest(db)
    assert len(answers) == 8
    assert {path: path.read_bytes() for path in before} == before
    # The same answers when it has been changed to today's format.
    IndexWriter(db, threads=1).close()
    assert format_of(db) == manifests.FORMAT
    assert nearest(db) == answers
    assert check_index(db).whole


def test_it_is_changed_by_every_command(db: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    new = tmp_path / "new.fna"
    new.write_text(">g0_contig_0\n" + "".join(rng.choice(list("ACGT"), 3000).tolist()) + "\n")
    # Its ids need not be unique any more.
    assert add_to_index(db, new, genome="new", calibrate=False, threads=1) == 1
    assert format_of(db) == 3
    with open_index(db) as index:
        assert index.ids.tolist() == ["g0:g0_contig_0", *NAMES[1:], "new:g0_contig_0"]
    assert update_index(db, new, genome="new", calibrate=False, threads=1) == 1
    assert delete_from_index(db, ids=["g0:g0_contig_0", "g3_contig_1"]) == 2
    taxa = tmp_path / "taxa.tsv"
    taxa.write_text("id\tspecies\ng2\tOther\n")
    assert update_index(db, metadata=taxa, calibrate=False) == 2
    compact_index(db, threads=1)
    report = check_index(db)
    assert report.whole, report.problems
    assert sorted((row.genome, row.id) for row in index_rows(db)) == [
        *(("g0", name) for name in NAMES[1:2]),
        *(("g1", name) for name in NAMES[2:4]),
        *(("g2", name) for name in NAMES[4:6]),
        ("g3", "g3_contig_0"),
        ("new", "g0_contig_0"),
    ]


@pytest.mark.parametrize("at", ["manifest", "table"])
def test_a_kill_while_its_format_is_raised_leaves_it_usable(
    at: str, db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = nearest(db)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if at == "manifest":
            patched.setattr("kinmer.index.table.migrate", killed)
        else:
            # In the transaction: it is rolled back.
            patched.setattr(manifests, "_INDEXES", ("no SQL",))
        with pytest.raises((KeyboardInterrupt, FormatError)):
            IndexWriter(db, threads=1)
    assert format_of(db) == 3
    assert nearest(db) == answers
    assert check_index(db).whole
    assert delete_from_index(db, genomes=["g1"]) == 2
    assert check_index(db).whole


def test_what_a_killed_deletion_has_left_is_seen_by_nobody(db: Path) -> None:
    half(db)
    report = check_index(db)
    assert report.whole, report.problems
    assert any("mean vectors of 1 genomes" in line for line in report.notes)
    with open_index(db) as index:
        queries = np.asarray(index.rows.vectors)
        _, _, rows = index.search(queries, 4, by="genome")
        assert not np.isin(rows, index.table.orphans()).any()
    answers = nearest(db)
    assert {name for hits in answers.values() for name, _ in hits} == {"g0", "g2", "g3"}
    # Whoever writes next takes it out, even where it has nothing else to do.
    IndexWriter(db, threads=1).close()
    report = check_index(db)
    assert (report.whole, report.genomes, report.notes) == (True, 3, ())
    assert nearest(db) == answers
    with open_index(db) as index:
        means = index.rows.records[index.rows.alive]["kind"] == GENOME
        assert means.sum() == 3


def test_a_newer_format_is_refused_by_name(db: Path) -> None:
    described = db / "index.json"
    described.write_text(described.read_text().replace('"format": 2', '"format": 4'))
    with pytest.raises(FormatError, match="format 4, this version reads 2 to 3"):
        open_index(db)
    assert manifests.FORMAT == 3
