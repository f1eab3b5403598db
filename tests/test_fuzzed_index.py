"""Damaged index files: an error or a rebuild, never a wrong answer, a crash or a hang."""

from __future__ import annotations

import multiprocessing
import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from kinmer.errors import FormatError
from tests.fuzz_worker import answers, begin, try_all

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
def test_damage_behind_a_preserved_time_is_seen(base: Path) -> None:
    """Size and time of modification are as before: an answer is right or an error, and the check agrees."""
    came = tried(base, 300, silent=True)
    assert not bad(came), "\n".join(bad(came))


def test_a_copy_with_its_times_is_read_again(base: Path, tmp_path: Path) -> None:
    """`cp -a` keeps times and the note of whole files; damage done to the copy afterwards is seen."""
    copy = tmp_path / "copy.db"
    shutil.copytree(base / "base.db", copy)
    answers(copy)
    (vectors,) = copy.glob("vectors-*.f32")
    before = vectors.stat()
    data = bytearray(vectors.read_bytes())
    # The sign of a number of the first vector.
    data[3] ^= 0x80
    vectors.write_bytes(data)
    os.utime(vectors, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(FormatError, match="damaged"):
        answers(copy)


def test_some_damaged_files(base: Path) -> None:
    came = tried(base, 40)
    assert not bad(came), "\n".join(bad(came))
