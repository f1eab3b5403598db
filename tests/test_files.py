"""Files and folders that take the place of others: one of the two is always there."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kinmer.errors import UsageError
from kinmer.files import built_aside, take_name, written_together
from kinmer.folders import check_output


def folder_of(path: Path, text: str) -> Path:
    path.mkdir(parents=True)
    (path / "text").write_text(text)
    return path


def only(path: Path) -> str:
    """What the folder holds, where nothing else is beside it."""
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return (path / "text").read_text()


def test_a_new_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "it", "old")
    with built_aside(path) as aside:
        (aside / "text").write_text("new")
        assert (path / "text").read_text() == "old"
    assert only(path) == "new"


def test_the_old_folder_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    path = folder_of(tmp_path / "it", "old")
    with pytest.raises(FileExistsError), built_aside(path) as aside:
        folder_of(aside, "half")
    assert only(path) == "old"
    # It has gone when it is to take its name.
    with pytest.raises(FileNotFoundError), built_aside(path) as aside:
        shutil.rmtree(aside)
    assert only(path) == "old"


@pytest.mark.parametrize("there", [False, True])
def test_what_a_kill_left_between_the_two_names_is_settled(there: bool, tmp_path: Path) -> None:
    path = tmp_path / "it"
    folder_of(tmp_path / ".it.old-1" / "old", "old")
    folder_of(tmp_path / ".it.new-2", "half")
    if there:
        folder_of(path, "newer")
    with pytest.raises(ValueError, match="no"), built_aside(path):
        raise ValueError("no")
    assert only(path) == ("newer" if there else "old")


def killed_at(event: int, work: Callable[[], None], folder: Path) -> bool:
    """Do some work in a process that is killed before its so-manieth change; whether it came to that."""

    def act() -> None:
        count = 0

        def hook(name: str, given: object) -> None:
            nonlocal count
            changes = name in ("os.rename", "os.remove", "os.rmdir", "os.mkdir")
            count += changes
            if changes and count == event:
                os.kill(os.getpid(), signal.SIGKILL)

        os.chdir(folder)
        sys.addaudithook(hook)
        work()

    worker = multiprocessing.get_context("fork").Process(target=act)
    worker.start()
    worker.join()
    assert worker.exitcode in (0, -signal.SIGKILL)
    return worker.exitcode != 0


def write_three() -> None:
    with written_together("a", "b", "sub/c") as (a, b, c):
        a.write_text("new")
        folder_of(b, "new")
        c.write_text("new")


@pytest.mark.parametrize("there", [False, True])
def test_all_or_none_take_their_names_whenever_the_process_is_killed(there: bool, tmp_path: Path) -> None:
    seen = set()
    event = 0
    while True:
        event += 1
        folder = tmp_path / str(event)
        (folder / "sub").mkdir(parents=True)
        if there:
            (folder / "a").write_text("old")
            folder_of(folder / "b", "old")
            (folder / "sub" / "c").write_text("old")
        was_killed = killed_at(event, write_three, folder)
        for name in ("a", "sub/c"):
            check_output(folder / name, force=True)
        paths = (folder / "a", folder / "b" / "text", folder / "sub" / "c")
        held = {path.read_text() if path.exists() else None for path in paths}
        assert len(held) == 1, (event, held)
        seen |= held
        names = sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))
        whole = ["a", "b", "b/text", "sub", "sub/c"]
        assert names == (whole if held != {None} else ["sub"]), event
        if not was_killed:
            break
    assert seen == {"new", "old" if there else None}


def test_what_a_living_process_writes_is_left_alone(tmp_path: Path) -> None:
    with written_together(tmp_path / "a") as (aside,):
        aside.write_text("mine")
        subprocess.run(
            [sys.executable, "-c", "from kinmer.folders import check_output; check_output('a')"],
            cwd=tmp_path,
            check=True,
        )
        assert aside.read_text() == "mine"
    assert only_file(tmp_path) == ("a", "mine")


def only_file(folder: Path) -> tuple[str, str]:
    (path,) = folder.iterdir()
    return path.name, path.read_text()


def test_names_with_the_letters_of_patterns(tmp_path: Path) -> None:
    path = tmp_path / "x[1]*.tsv"
    (tmp_path / ".x1.tsv.kinmer-abcdefgh").write_text("another's")
    (tmp_path / ".x[1]*.tsv.kinmer-abcdefgh").write_text("its own")
    check_output(path)
    assert only_file(tmp_path)[1] == "another's"


def test_a_folder_takes_a_name_whenever_the_process_is_killed(tmp_path: Path) -> None:
    for event in range(1, 99):
        folder = tmp_path / str(event)
        folder_of(folder / "it", "old")
        folder_of(folder / "new", "new")
        was_killed = killed_at(event, lambda: take_name(Path("new"), Path("it")), folder)
        with pytest.raises(UsageError, match="exists"):
            check_output(folder / "it")
        assert (folder / "it" / "text").read_text() == ("old" if (folder / "new").exists() else "new")
        assert sorted(path.name for path in folder.iterdir()) in (["it"], ["it", "new"])
        if not was_killed:
            return
