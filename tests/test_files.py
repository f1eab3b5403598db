"""A folder that takes the place of another: one of the two is always there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from kinmer.files import built_aside


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
