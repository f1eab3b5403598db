"""An empty bin, or a pipe: what of an input can be used is used, and the rest is reported."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from kinmer.cli import run
from kinmer.counting import count_files
from kinmer.errors import SequenceError
from kinmer.fragments import fragment
from kinmer.index.engine import STAMP
from kinmer.library import add_to_index, build_index, build_reference, check_index
from kinmer.profiles import ProfileStore
from kinmer.queries import search, write_tsv
from tests.organisms import encoder_of

ENCODER = encoder_of(3)
LETTERS = np.frombuffer(b"ACGT", np.uint8)


def sequences(path: Path, number: int, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    with path.open("w") as file:
        for at in range(number):
            file.write(f">{path.stem}{at}\n{LETTERS[rng.integers(4, size=2000)].tobytes().decode()}\n")
    return path


@pytest.fixture
def bins(tmp_path: Path) -> list[Path]:
    """Two bins of three and two sequences, and two of nothing between them."""
    folder = tmp_path / "bins"
    folder.mkdir()
    first, last = sequences(folder / "a.fa", 3, 1), sequences(folder / "z.fa", 2, 2)
    (folder / "lowDepth.fa").touch()
    (folder / "m.fa.gz").write_bytes(gzip.compress(b""))
    return [first, folder / "lowDepth.fa", folder / "m.fa.gz", last]


def test_an_index_of_the_others_is_made(bins: list[Path], tmp_path: Path) -> None:
    said: list[str] = []
    with build_index(bins, tmp_path / "a.db", encoder=ENCODER, log=said.append) as index:
        assert sorted(index.ids) == ["a0", "a1", "a2", "z0", "z1"]
    assert any("lowDepth.fa" in line and "m.fa.gz" in line for line in said)
    said.clear()
    with build_reference(tmp_path / "bins", tmp_path / "b.db", encoder=ENCODER, log=said.append) as index:
        assert len(index) == 5
    assert any("lowDepth.fa" in line for line in said)
    build_index(bins[0], tmp_path / "c.db", encoder=ENCODER).close()
    assert add_to_index(tmp_path / "c.db", bins[1:], log=said.append) == 2
    with pytest.raises(SequenceError, match="empty"):
        build_index(bins[1:3], tmp_path / "d.db", encoder=ENCODER)
    assert not (tmp_path / "d.db").exists()


def test_the_others_are_counted_and_cut(bins: list[Path], tmp_path: Path) -> None:
    report = count_files(bins, tmp_path / "s.zarr", max_k=3)
    assert (report.sequences, report.empty) == (5, ("lowDepth.fa", "m.fa.gz"))
    assert "empty files passed over: lowDepth.fa, m.fa.gz" in report.summary()
    assert len(ProfileStore.open(tmp_path / "s.zarr")) == 5
    with pytest.raises(SequenceError, match="empty"):
        count_files(bins[1:3], tmp_path / "t.zarr", max_k=3)
    cut = fragment(bins, tmp_path / "f.fna", length=500, per_sequence=1)
    assert (cut.fragments, cut.empty) == (5, 2)
    assert "2 empty files passed over" in cut.summary()


def through(pipe: Path, source: Path) -> threading.Thread:
    if not pipe.exists():
        os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(source.read_bytes()))
    writer.start()
    return writer


def test_a_pipe_is_as_good_as_a_file(bins: list[Path], tmp_path: Path) -> None:
    pipe, source = tmp_path / "pipe", bins[0]

    def asked(source: Path, db: Path) -> str:
        text = io.StringIO()
        write_tsv(search(source, db, k=3), text)
        return text.getvalue()

    build_index(source, tmp_path / "file.db", encoder=ENCODER).close()
    writer = through(pipe, source)
    build_index(pipe, tmp_path / "pipe.db", encoder=ENCODER).close()
    writer.join()
    assert asked(bins[3], tmp_path / "pipe.db") == asked(bins[3], tmp_path / "file.db")
    writer = through(pipe, bins[3])
    assert add_to_index(tmp_path / "pipe.db", pipe) == 2
    writer.join()
    add_to_index(tmp_path / "file.db", bins[3])
    writer = through(pipe, bins[3])
    answer = asked(pipe, tmp_path / "pipe.db")
    writer.join()
    assert answer == asked(bins[3], tmp_path / "file.db")
    writer = through(pipe, source)
    fragment([pipe], tmp_path / "pipe.fna", length=500, number=4)
    writer.join()
    fragment([source], tmp_path / "file.fna", length=500, number=4)
    assert (tmp_path / "pipe.fna").read_bytes() == (tmp_path / "file.fna").read_bytes()
    names = {"bins", "pipe", "pipe.db", "file.db", "pipe.fna", "file.fna", "pipe.fna.tsv", "file.fna.tsv"}
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    ["index - -o k.db -e e", "reference - -o k.db -e e", "embed - -e e -o v.npy", "count - -o s.zarr"],
)
def test_stdin_is_taken_by_every_command(command: str, bins: list[Path], tmp_path: Path) -> None:
    ENCODER.save(tmp_path / "e")
    done = subprocess.run(
        [sys.executable, "-m", "kinmer", *command.split()],
        cwd=tmp_path,
        input=bins[0].read_bytes(),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_an_engine_of_an_earlier_state_is_noted_and_no_damage(
    bins: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a compaction leaves it that was killed before its engine."""
    build_index(bins[0], tmp_path / "k.db", encoder=ENCODER, engine="hnsw").close()
    stamp = tmp_path / "k.db" / "engine-hnsw" / STAMP
    told = json.loads(stamp.read_text())
    stamp.write_text(json.dumps({**told, "generation": -1}))
    report = check_index(tmp_path / "k.db")
    assert report.whole
    assert "the next search builds it" in report.notes[0]
    assert run(["db", "check", str(tmp_path / "k.db")]) == 0
    assert "engine is behind" in capsys.readouterr().out
    assert len(list(search(bins[0], tmp_path / "k.db"))) == 3
    assert not check_index(tmp_path / "k.db").notes
