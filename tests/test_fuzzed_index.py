"""Damaged index files: an error or a rebuild, never a wrong answer, a crash or a hang."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz_worker import begin, try_all

# Seconds that a damaged copy may take to be opened, searched and checked.
PATIENCE = 30


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz")
    begin(folder / "base.db", folder / "old.db")
    return folder


def tried(folder: Path, count: int, *, silent: bool = False) -> dict[str, str]:
    """What came of every damage; a process that hangs or crashes is followed by another."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.fuzz_worker"])
    came: dict[str, str] = {}
    done = 0
    while done < count:
        ours, theirs = context.Pipe(duplex=False)
        paths = (folder / "base.db", folder / "old.db", folder / "copy.db")
        worker = context.Process(
            target=try_all, args=(*paths, range(done, count), silent, theirs), daemon=True
        )
        worker.start()
        theirs.close()
        what = ""
        try:
            while done < count:
                what = ours.recv()
                if not ours.poll(PATIENCE):
                    worker.kill()
                    came[what] = "hang"
                    done += 1
                    break
                came[what] = ours.recv()
                done += 1
        except EOFError:
            assert what not in ("", *came), "the worker failed"
            came[what] = "killed by a signal"
            done += 1
        worker.join()
    return came


# What may come of a damage; where the check finds nothing, the answers are the same.
GOOD = {"same, whole", "same, damaged", "error, damaged"}


def bad(came: dict[str, str]) -> list[str]:
    return [f"{what}: {said}" for what, said in came.items() if said not in GOOD]


@pytest.mark.slow
def test_a_thousand_damaged_files(base: Path) -> None:
    came = tried(base, 1000)
    assert not bad(came), "\n".join(bad(came))
    counts = Counter(came.values())
    assert len(came) == 1000
    assert counts["error, damaged"] > 200, counts
    assert counts["same, whole"] + counts["same, damaged"] > 50, counts


@pytest.mark.slow
def test_what_rots_behind_its_back_is_found_by_the_check(base: Path) -> None:
    """Files whose size and time have not changed are trusted when an index is opened, but not by a check."""
    came = tried(base, 300, silent=True)
    found = [one for one in bad(came) if not one.endswith("wrong, damaged")]
    assert not found, "\n".join(found)


def test_some_damaged_files(base: Path) -> None:
    came = tried(base, 40)
    assert not bad(came), "\n".join(bad(came))
