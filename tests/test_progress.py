"""Steps on a terminal: bars with a total, one within another, and none where there is no terminal."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from kinmer.progress import Step, counted, step

STEPS = """
import time
from kinmer.progress import counted, show_progress, step
show_progress(True)
with step("Outer", 10) as outer:
    outer.reach(5, "half")
    for _ in counted("abcd", "Inner"):
        time.sleep(0.1)
    with step("Spinner") as inner:
        inner.advance(1, "much")
        time.sleep(0.2)
    outer.reach(10, "whole")
with step("Later", 2) as later:
    later.advance(2, "done")
"""


def on_terminal(*argv: str, folder: Path | None = None) -> str:
    """What a process writes to a terminal on stderr, without the sequences that move the cursor."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [sys.executable, *argv], stdout=subprocess.DEVNULL, stderr=theirs, env=environment, cwd=folder
    ) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
    os.close(ours)
    assert process.returncode == 0
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(parts).decode())


def test_a_step_within_a_step_is_a_line_below_it() -> None:
    shown = on_terminal("-c", STEPS)
    assert re.search(r"Outer .* 50%.* half", shown)
    assert re.search(r"Outer .*100%.* whole", shown)
    assert re.search(r"Inner .* 50%", shown)
    assert re.search(r"Spinner .* much", shown)
    assert re.search(r"Later .*100%.* done", shown)
    assert "Traceback" not in shown


def test_a_build_and_a_search_show_how_much_of_the_file_is_done(tmp_path: Path) -> None:
    (tmp_path / "a.fna").write_text("".join(f">s{number}\n{'ACGTTGCA' * 300}\n" for number in range(5)))
    built = on_terminal("-m", "kinmer", "index", "a.fna", "-o", "a.db", folder=tmp_path)
    assert re.search(r"Indexing .*100%.* file 1 of 1", built)
    found = on_terminal("-m", "kinmer", "search", "a.fna", "--db", "a.db", "-o", "a.tsv", folder=tmp_path)
    assert "Searching" in found
    assert "Checking" in on_terminal("-m", "kinmer", "db", "check", "a.db", folder=tmp_path)


def test_without_a_terminal_a_step_only_counts() -> None:
    with step("Quiet", 3) as bar:
        bar.advance(2)
        bar.reach(3)
    assert list(counted(iter("abc"), "Quiet", 3)) == ["a", "b", "c"]
    assert Step()._done == 0
    assert bar._done == 3
