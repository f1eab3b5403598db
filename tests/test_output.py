"""What reaches a terminal, a pipe and a file: nothing acts on a terminal, and no letter is lost."""

from __future__ import annotations

import ast
import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kinmer
from kinmer.cli import run
from kinmer.progress import printable

HOUSE = Path(kinmer.__file__).parent
BAD = "\x1b]0;owned\x07\x1b[31m\x9b2J\u202egnp\u200b\x08"


def in_terminal(argv: list[str], folder: Path, **environment: str) -> bytes:
    """All that a command writes to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "kinmer", *argv]
    environ = {**os.environ, "TERM": "xterm", "COLUMNS": "200", **environment}
    process = subprocess.Popen(command, cwd=folder, stdin=theirs, stdout=theirs, stderr=theirs, env=environ)
    os.close(theirs)
    found = b""
    try:
        while block := os.read(ours, 65536):
            found += block
    except OSError:
        pass
    process.wait()
    os.close(ours)
    return found


@pytest.fixture
def indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    records = "".join(f">contig_α{at}\n{''.join(rng.choice(list('ACGT'), 2000))}\n" for at in range(3))
    Path("a.fna").write_text(records, encoding="utf-8")
    Path("m.tsv").write_text(f"id\tnote\ncontig_α0\t{BAD}\ncontig_α1\t[red]x[/red]\n", encoding="utf-8")
    assert run(["-q", "index", "a.fna", "-o", "a.db", "--metadata", "m.tsv", "--no-calibrate"]) == 0
    return tmp_path


def test_printable_leaves_no_letter_that_acts() -> None:
    every = "".join(map(chr, range(0x11_0000)))
    shown = printable(every)
    assert all(one.isprintable() or one in "\n\t" for one in shown)
    assert printable("a\tb\nÄα漢 e\u0301") == "a\tb\nÄα漢 e\u0301"
    assert printable(BAD) == "\\x1b]0;owned\\x07\\x1b[31m\\x9b2J\\u202egnp\\u200b\\x08"


def test_a_terminal_gets_metadata_escaped_and_a_pipe_gets_it_whole(indexed: Path) -> None:
    argv = ["search", "a.fna", "--db", "a.db", "-k", "1"]
    seen = in_terminal(argv, indexed, PYTHONIOENCODING="utf-8").decode()
    assert "contig_α0" in seen
    assert printable(BAD) in seen
    assert BAD[:5] not in seen
    assert "\u202e" not in seen
    command = [sys.executable, "-m", "kinmer", *argv]
    piped = subprocess.run(command, cwd=indexed, capture_output=True, check=True)
    assert BAD in piped.stdout.decode()


@pytest.mark.parametrize("where", ["option", pytest.param("id", marks=pytest.mark.slow), "file"])
def test_a_terminal_gets_messages_escaped(tmp_path: Path, where: str) -> None:
    name = f"x{BAD[:9]}".replace("/", "")
    Path(tmp_path / "a.fna").write_text(f">{name}\nACGT\n>{name}\nACGT\n")
    argv = {"id": ["count", "a.fna", "-o", "a.zarr"], "option": [name], "file": ["info", name]}[where]
    seen = in_terminal(argv, tmp_path)
    assert b"\\x1b" in seen
    assert b"\x1b]0" not in seen
    assert b"error: " in seen


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "latin-1"},
        pytest.param({"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}, marks=pytest.mark.slow),
    ],
    ids=["latin-1", "C"],
)
def test_letters_that_an_encoding_lacks_are_written(tmp_path: Path, environment: dict[str, str]) -> None:
    letters = "".join(np.random.default_rng(0).choice(list("ACGT"), 2000))
    (tmp_path / "a.fna").write_text(f">contig_α\n{letters}\n>contig_α\n{letters}\n", encoding="utf-8")
    command = [sys.executable, "-m", "kinmer", "count", "a.fna", "-o", "a.zarr"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, env={**os.environ, **environment})
    assert done.returncode == 2
    assert "the id 'contig_α' occurs twice" in done.stderr.decode("utf-8")


@pytest.mark.slow
def test_a_search_is_written_whatever_the_encoding(indexed: Path) -> None:
    command = ["search", "a.fna", "--db", "a.db", "-k", "1"]
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    whole = [sys.executable, "-m", "kinmer", *command]
    done = subprocess.run(whole, cwd=indexed, capture_output=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "contig_α0\t1\tcontig_α0" in done.stdout.decode("utf-8")
    assert b"contig_\\u03b10" in in_terminal(command, indexed, PYTHONIOENCODING="ascii")


def test_all_output_goes_through_one_place() -> None:
    allowed = {HOUSE / "cli" / "output.py"}
    for path in HOUSE.rglob("*.py"):
        if path in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            named = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            assert named not in ("sys.stdout", "sys.stderr", "typer.echo", "typer.secho"), path
            called = (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            )
            assert not called, path
