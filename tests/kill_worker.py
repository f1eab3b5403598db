"""Runs commands of kinmer in processes that end by SIGKILL at a chosen step of theirs.

A step is whatever reaches the disk for good: a rename, a removal, an fsync, a commit of SQLite. Each counts
twice, before and after it is done; the end of the command, when nothing is told yet, is the last one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

__all__ = ["Outcome", "Runner"]


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code, -9 where it was killed; its steps so far, in order; its output."""

    code: int
    steps: tuple[str, ...]
    output: str


class Runner:
    """A process that has imported and compiled everything, and forks for every command."""

    def __init__(self, warm: Sequence[str], folder: Path) -> None:
        """warm : a command that compiles what others need."""
        context = get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, list(warm), str(folder)), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def run(self, argv: Sequence[object], folder: Path, *, kill_at: int = 0) -> Outcome:
        """Run a command in a folder; ended by SIGKILL at the step of that number, from 1."""
        self._pipe.send((list(map(str, argv)), str(folder), kill_at))
        return self._answer()

    def close(self) -> None:
        self._process.kill()
        self._process.join()

    def _answer(self) -> Outcome:
        assert self._pipe.poll(120), "a command hangs"
        answer = self._pipe.recv()
        assert isinstance(answer, Outcome), answer
        return answer


def _serve(pipe: Connection, warm: list[str], folder: str) -> None:
    import kinmer.cli
    import kinmer.index
    import kinmer.index.engine
    import kinmer.index.pieces
    import kinmer.index.writer
    import kinmer.merge

    # Several commits for a file, and an engine that is brought up to date after every change.
    kinmer.index.pieces.BLOCK_RECORDS = kinmer.merge.BATCH_ENTRIES = 2
    kinmer.index.writer.LATE_ROWS = kinmer.index.engine.LATE_HASHES = 0
    kinmer.index.writer.LATE_SHARE = kinmer.index.engine.LATE_SHARE = 0
    os.chdir(folder)
    with Path("warm.log").open("w") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
        code = kinmer.cli.run(warm)
    pipe.send(Outcome(code, (), Path("warm.log").read_text()))
    while True:
        pipe.send(_forked(*pipe.recv()))


def _forked(argv: list[str], folder: str, kill_at: int) -> Outcome:
    logs = (Path(folder) / "steps.log", Path(folder) / "output.log")
    for path in logs:
        path.unlink(missing_ok=True)
    child = os.fork()
    if not child:
        _child(argv, folder, kill_at, *logs)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    told = [path.read_text() if path.is_file() else "" for path in logs]
    for path in logs:
        path.unlink(missing_ok=True)
    return Outcome(code, tuple(told[0].splitlines()), told[1])


def _child(argv: list[str], folder: str, kill_at: int, steps: Path, output: Path) -> None:
    code = 99
    try:
        import kinmer.cli

        os.chdir(folder)
        with output.open("w") as log, contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
            mark = _marks(steps, kill_at)
            code = kinmer.cli.run([*argv])
            mark("end of the command")
            log.flush()
    finally:
        os._exit(code)


def _marks(steps: Path, kill_at: int) -> Callable[[str], None]:
    """Count every step from now on, and write it down; gives what counts one."""
    count, log, owner = 0, os.open(steps, os.O_WRONLY | os.O_CREAT | os.O_APPEND), os.getpid()

    def mark(what: str) -> None:
        nonlocal count
        if os.getpid() != owner:
            return
        count += 1
        os.write(log, f"{what}\n".encode())
        if count == kill_at:
            os.kill(owner, signal.SIGKILL)

    def counted(module: Any, name: str) -> None:
        done = getattr(module, name)

        def step(*args: Any, **settings: Any) -> Any:
            what = " ".join([name, *(Path(str(one)).name for one in args if isinstance(one, str | Path))])
            mark(f"before {what}")
            found = done(*args, **settings)
            mark(f"after {what}")
            return found

        setattr(module, name, step)

    for name in ("replace", "rename", "unlink", "remove", "rmdir", "fsync", "mkdir"):
        counted(os, name)

    class Counted(sqlite3.Connection):
        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            if sql != "COMMIT":
                return super().execute(sql, *args)
            mark("before commit")
            found = super().execute(sql, *args)
            mark("after commit")
            return found

    connect = sqlite3.connect
    sqlite3.connect = lambda *args, **settings: connect(*args, **{"factory": Counted, **settings})
    return mark


if __name__ == "__main__":
    sys.exit("this is for tests")
