"""Workshops and journals: one process at a time, nothing left behind, resumed by the same run alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kinmer.errors import UsageError
from kinmer.folders import Journal, Workshop


def test_one_process_works_at_a_time_and_leaves_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    with Workshop(folder, make=True) as first:
        assert Workshop.is_busy(folder)
        with pytest.raises(UsageError, match="somebody is at it"):
            Workshop(folder, busy="somebody is at it", wait=0)
        first.release()
        with Workshop(folder):
            assert Workshop.is_busy(folder)
    assert not Workshop.is_busy(folder)
    assert list(folder.iterdir()) == []
    with pytest.raises(FileNotFoundError):
        Workshop(tmp_path / "nowhere")


def test_the_lock_of_a_killed_process_counts_for_nothing(tmp_path: Path) -> None:
    code = "import os, sys, kinmer.folders as f; w = f.Workshop(sys.argv[1]); os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / Workshop.LOCK).exists()
    assert not Workshop.is_busy(tmp_path)
    Workshop(tmp_path, wait=0).release()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_published_stays_held_until_its_release(tmp_path: Path) -> None:
    target = tmp_path / "output"
    target.mkdir()
    (target / "old").touch()
    workshop = Workshop(tmp_path / "work", make=True)
    (workshop.folder / "new").touch()
    workshop.publish(target)
    assert workshop.folder == target
    assert Workshop.is_busy(target)
    workshop.release()
    assert [path.name for path in tmp_path.iterdir()] == ["output"]
    assert [path.name for path in target.iterdir()] == ["new"]


def test_what_is_cleared_and_what_is_discarded(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path / "work", make=True)
    (workshop.folder / "kept").touch()
    (workshop.folder / "part").mkdir()
    workshop.clear(keep=["kept"])
    assert {path.name for path in workshop.folder.iterdir()} == {"kept", Workshop.LOCK}
    workshop.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_is_resumed_by_the_same_run_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path, {"input": ("a", 1)})
    assert journal.read(force=False) is None
    journal.write(rows=3)
    noted = Journal(path, {"input": ["a", 1]}).read(force=False)
    assert noted is not None
    assert noted["rows"] == 3
    other = Journal(path, {"input": ["b", 1]})
    assert other.read(force=True) is None
    with pytest.raises(UsageError, match="other input or settings"):
        other.read(force=False)
    path.write_text("{")
    assert journal.read(force=False) is None
    journal.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_journal_of_another_format_is_not_resumed(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    path.write_text('{"format": 2, "signature": 1, "rows": 3}')
    assert Journal(path, 1).read() is None
    path.write_text('{"signature": 1, "rows": 3}')
    noted = Journal(path, 1).read()
    assert noted is not None
    assert noted["rows"] == 3
