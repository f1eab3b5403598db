"""Damaged files of a profile store: the truth or an error, never another answer, a crash or a hang."""

from __future__ import annotations

import multiprocessing
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.store_damage import begin, try_all

# Seconds that reading a damaged store in all ways may take.
PATIENCE = 30
# Bytes of memory that a process may come to have.
MEMORY = 2 << 30

Case = tuple[str, dict[str, str]]


def tried(folder: Path, numbers: range, *, commands: bool) -> list[Case]:
    """What came of every damage, by the ways to read; after a process that hangs or crashes comes another."""
    begin(folder / "base.zarr", commands=commands)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.store_damage"])
    came: list[Case] = []
    while len(came) < len(numbers):
        ours, theirs = context.Pipe(duplex=False)
        rest = numbers[len(came) :]
        arguments = (folder / "base.zarr", folder / "copy.zarr", rest, commands, theirs)
        worker = context.Process(target=try_all, args=arguments, daemon=True)
        worker.start()
        theirs.close()
        what = ""
        try:
            for _ in rest:
                what = ours.recv()
                if not ours.poll(PATIENCE):
                    worker.kill()
                    came.append((what, {"all": "hang"}))
                    break
                outcomes, _, peak = ours.recv()
                came.append((what, outcomes | ({"memory": f"{peak:,} bytes"} if peak > MEMORY else {})))
        except EOFError:
            assert what, "the worker failed"
            came.append((what, {"all": "killed by a signal"}))
        worker.join()
    return came


def bad(came: list[Case]) -> list[str]:
    return [
        f"{what}: {way}: {outcome}"
        for what, outcomes in came
        for way, outcome in outcomes.items()
        if outcome not in ("right", "refused")
    ]


def counted(came: list[Case]) -> dict[Any, int]:
    return Counter(outcome for _, outcomes in came for outcome in outcomes.values())


def test_a_damaged_store_says_so_or_answers_right(tmp_path: Path) -> None:
    came = tried(tmp_path, range(70), commands=False)
    assert not bad(came), "\n".join(bad(came))
    counts = counted(came)
    assert counts["refused"] > 25, counts
    assert counts["right"] > 25, counts


@pytest.mark.slow
def test_commands_on_a_damaged_store_say_so_or_answer_right(tmp_path: Path) -> None:
    came = tried(tmp_path, range(70, 190), commands=True)
    assert not bad(came), "\n".join(bad(came))
    assert counted(came)["refused"] > 72
