"""What may be replaced: kinmer's own files and folders, with nothing of anybody else in them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kinmer.cli import run
from kinmer.errors import UsageError
from kinmer.files import replaced_text
from kinmer.folders import check_output, guarded_inputs

LETTERS = np.frombuffer(b"ACGT", np.uint8)


def sequences(path: Path, number: int = 4, seed: int = 1) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for at in range(number):
            file.write(f">{path.stem}{at}\n{LETTERS[rng.integers(4, size=4000)].tobytes().decode()}\n")
    return path


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands need, and an output of every kind."""
    folder = tmp_path_factory.mktemp("kept")
    here = Path.cwd()
    os.chdir(folder)
    try:
        sequences(folder / "a.fa")
        (folder / "labels.tsv").write_text(
            "sequence_id\tgenome_id\n" + "".join(f"a{at}\tg{at}\n" for at in range(4))
        )
        for command in MADE:
            assert run(["--quiet", *command.split()]) == 0, command
    finally:
        os.chdir(here)
    return folder


MADE = (
    "count a.fa -o s.zarr --max-k 3",
    "count a.fa -o six.zarr",
    "export six.zarr t.npy t.txt",
    "fit a.fa -o e --method raw --max-k 3 --no-coding",
    "embed s.zarr -e e",
    "map s.zarr -o m --iterations 20 --threads 1 --no-keep",
    "cluster s.zarr -o c --threads 1 --no-keep -k 2",
    "index s.zarr -o k.db --engine exact",
    "fragment a.fa -o bench --benchmark --labels labels.tsv --lengths 200 --split genome --folds 2",
    "search a.fa --db k.db -o hits.tsv",
)
# Commands that write a folder, and the output of the fixture that is of the same kind.
FOLDERS = {
    "count a.fa --max-k 3": "s.zarr",
    "import t.npy t.txt": "s.zarr",
    "fit a.fa --method raw --max-k 3 --no-coding": "e",
    "train s.zarr --epochs 1 --threads 1": "e",
    "cluster s.zarr --no-keep -k 2": "c",
    "index s.zarr --engine exact": "k.db",
    "reference a.fa": "k.db",
    "fragment a.fa --benchmark --labels labels.tsv --lengths 200 --split genome --folds 2": "bench",
    "embed a.fa -e e": "s.zarr",
}
FILES = {
    "search a.fa --db k.db": "hits.tsv",
    "db list k.db": "hits.tsv",
    "embed s.zarr -e e": "v.npy",
    "fragment a.fa --length 300 --per-sequence 1": "f.fna",
}


@pytest.fixture
def here(kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    import shutil

    shutil.copytree(kept, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def state(folder: Path) -> dict[str, bytes | str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else ""
        for path in sorted(folder.rglob("*"))
        if "checked.json" not in path.name
    }


def refused(command: str, output: str, capsys: pytest.CaptureFixture[str]) -> str:
    """What is said of an output; nothing has changed."""
    before = state(Path.cwd())
    code = run(["--quiet", *command.split(), "--output", output, "--force"])
    said = capsys.readouterr().err
    assert code == 2, (command, output, said)
    assert said.startswith("error: "), said
    assert said.count("\n") == 1, said
    assert "bug in kinmer" not in said
    assert state(Path.cwd()) == before, (command, output)
    return said


@pytest.mark.parametrize("command", FOLDERS)
def test_force_replaces_a_folder_that_is_kinmers_own_and_no_other(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "thesis.zarr").mkdir()
    (here / "thesis.zarr" / "ch1.txt").write_text("x")
    assert " no " in refused(command, "thesis.zarr", capsys)
    own = FOLDERS[command]
    # An own file in a folder of kinmer's, however deep; a link; and a folder of another kind.
    (here / own / "notes.txt").write_text("mine")
    assert "notes.txt" in refused(command, own, capsys)
    (here / own / "notes.txt").rename(here / "notes.txt")
    (here / own / "sub").mkdir()
    (here / own / "sub" / "thesis").symlink_to(here / "thesis.zarr")
    assert "sub/thesis" in refused(command, own, capsys)
    (here / own / "sub" / "thesis").unlink()
    (here / own / "sub").rmdir()
    (here / "link.zarr").symlink_to(own)
    assert "link" in refused(command, "link.zarr", capsys)
    for other in {"s.zarr", "e", "c", "k.db", "bench"} - {own}:
        refused(command, other, capsys)


@pytest.mark.parametrize("command", ["count a.fa --max-k 3", "cluster s.zarr --no-keep -k 2"])
def test_force_replaces_what_the_same_command_wrote(command: str, here: Path) -> None:
    own = FOLDERS[command]
    before = state(here)
    assert run(["--quiet", *command.split(), "-o", own, "--force"]) == 0
    assert state(here).keys() == before.keys() if own == "c" else "s.zarr/X/zarr.json" in state(here)
    assert run(["--quiet", *command.split(), "-o", own]) == 2


@pytest.mark.parametrize(
    "output", [".", "..", "/", "~", "../here", "s.zarr/..", "gone/x", "x\0y", "/dev/null"]
)
@pytest.mark.parametrize("command", ["count a.fa --max-k 3", "fragment a.fa --length 300 --per-sequence 1"])
def test_what_is_no_name_for_an_output(
    output: str, command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(command, output, capsys)


@pytest.mark.parametrize("command", FILES)
def test_a_file_replaces_regular_files_only(
    command: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ending = Path(FILES[command]).suffix
    (here / f"folder{ending}").mkdir()
    (here / f"link{ending}").symlink_to("labels.tsv")
    (here / f"dangling{ending}").symlink_to("gone")
    for output in ("folder", "link", "dangling"):
        refused(command, f"{output}{ending}", capsys)
    (here / f"mine{ending}").write_text("old")
    assert run(["--quiet", *command.split(), "--output", f"mine{ending}"]) == 2
    assert (here / f"mine{ending}").read_text() == "old"
    assert run(["--quiet", *command.split(), "--output", f"mine{ending}", "--force"]) == 0
    assert (here / f"mine{ending}").read_bytes() != b"old"


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("search a.fa --db k.db", "a.fa"),
        ("search a.fa --db k.db", "k.db/index.json"),
        ("count a.fa", "a.fa"),
        ("map s.zarr --metadata m2.tsv", "m2"),
        ("map s.zarr --into m", "m"),
        ("embed t.npy -e e", "t.npy"),
        ("fragment a.fa --length 300 --per-sequence 1 --labels f.fna.tsv", "f.fna"),
        ("cluster s.zarr --no-keep", "s.zarr/clusters"),
        ("evaluate clusters m2.tsv --labels labels.tsv", "m2"),
    ],
)
def test_an_input_is_no_output(
    command: str, output: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("m2.tsv", "f.fna.tsv"):
        (here / name).write_text("sequence_id\tcluster\n" + "".join(f"a{at}\t1\n" for at in range(4)))
    refused(command, output, capsys)


@pytest.mark.slow
def test_a_report_keeps_what_is_not_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "x-files").mkdir()
    (here / "x-files" / "mulder.txt").write_text("the truth")
    assert "mulder.txt" in refused("report s.zarr", "x.html", capsys)
    assert run(["--quiet", "report", "s.zarr", "-o", "r.html"]) == 0
    (here / "r-files" / "mulder.txt").write_text("the truth")
    assert "mulder.txt" in refused("report s.zarr", "r.html", capsys)
    (here / "r-files" / "mulder.txt").unlink()
    assert run(["--quiet", "report", "s.zarr", "-o", "r.html", "--force"]) == 0


def test_folders_in_which_work_grows_are_looked_at_too(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "new.zarr.part").mkdir()
    (here / "new.zarr.part" / "mine.txt").write_text("mine")
    assert "mine.txt" in refused("count a.fa", "new.zarr", capsys)


def test_a_sweep_and_a_demo_keep_what_is_not_theirs(tmp_path: Path) -> None:
    from kinmer.demo import run_demo
    from kinmer.sweeps.study import opened

    (tmp_path / ".lock").write_text("")
    (tmp_path / "ch1.txt").write_text("x")
    with pytest.raises(UsageError, match="holds no sweep"), opened(tmp_path, True):
        raise AssertionError
    (tmp_path / "sweep.json").write_text("{}")
    with pytest.raises(UsageError, match=r"ch1\.txt"), opened(tmp_path, True):
        raise AssertionError
    (tmp_path / "demo" / "community").mkdir(parents=True)
    (tmp_path / "demo" / "demo.json").write_text("{}")
    (tmp_path / "demo" / "community" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"notes\.txt"):
        run_demo(tmp_path / "demo")


@pytest.mark.slow
def test_devices_and_pipes_take_what_is_one_file(here: Path) -> None:
    search = [sys.executable, "-m", "kinmer", "-q", "search", "a.fa", "--db", "k.db"]
    assert subprocess.run([*search, "-o", "/dev/null"], check=True).returncode == 0
    assert Path("/dev/null").is_char_device()
    done = subprocess.run([*search, "-o", "/dev/stdout"], check=True, capture_output=True)
    assert done.stdout == (here / "hits.tsv").read_bytes()
    # A redirected output is not cut off: what stands in it stays.
    with (here / "out").open("ab") as file:
        file.write(b"first\n")
        file.flush()
        subprocess.run([*search, "-o", "/dev/stdout"], check=True, stdout=file)
    assert (here / "out").read_bytes() == b"first\n" + (here / "hits.tsv").read_bytes()


def test_a_fifo_is_written_to(tmp_path: Path) -> None:
    import threading

    os.mkfifo(tmp_path / "pipe")
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append((tmp_path / "pipe").read_text()))
    reader.start()
    with replaced_text(check_output(tmp_path / "pipe", stream=True)) as file:
        file.write("through")
    reader.join()
    assert got == ["through"]
    assert (tmp_path / "pipe").is_fifo()


def test_inputs_are_guarded_within_their_block_only(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    with guarded_inputs([tmp_path / "a"]):
        for name in ("a", "b"):
            with pytest.raises(UsageError, match="is the input"):
                check_output(tmp_path / name, force=True)
    assert check_output(tmp_path / "a", force=True) == tmp_path / "a"
