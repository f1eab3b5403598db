"""Trials one after the other here, or several at once in processes of their own."""

from __future__ import annotations

import json
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from types import TracebackType
from typing import IO, Any, Protocol

from kinmer.sweeps.trials import Setup, Task, failure, run_trial

__all__ = ["Here", "Processes", "Runner"]


Record = dict[str, Any]
# A trial that is interrupted writes a checkpoint first.
PATIENCE_SECONDS = 120.0


class Runner(Protocol):
    """Runs trials and gives their records as they end; the next task is asked for only when it is wanted."""

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Record]]: ...
    def __enter__(self) -> Runner: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Here:
    """In this process."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Record]]:
        """Task by task."""
        for task in tasks:
            yield task, run_trial(task, self._setup)

    def __enter__(self) -> Here:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass


class Processes:
    """In `jobs` processes, each one trial at a time; a process that dies costs its trial only.

    Each is in a session of its own, so that Ctrl-C reaches this process alone, which hands it on once: to an
    interrupted training a second one means to end without a checkpoint. Where this process is killed, they
    see their input end and go too.
    """

    def __init__(self, setup: Setup, jobs: int) -> None:
        self._setup, self._jobs = setup, jobs
        self._idle: list[_Process] = []
        self._selector = selectors.DefaultSelector()

    def run(self, tasks: Iterator[Task]) -> Iterator[tuple[Task, Record]]:
        """In the order in which they end."""
        while True:
            while len(self._selector.get_map()) < self._jobs and (task := next(tasks, None)) is not None:
                process = self._idle.pop() if self._idle else _Process(self._setup)
                self._selector.register(process.output, selectors.EVENT_READ, process)
                process.give(task)
            if not self._selector.get_map():
                return
            for key, _ in self._selector.select():
                process = key.data
                task, record = process.take()
                self._selector.unregister(process.output)
                if process.alive:
                    self._idle.append(process)
                yield task, record

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        running: list[_Process] = [key.data for key in list(self._selector.get_map().values())]
        try:
            for process in running:
                process.interrupt()
            for process in running:
                process.wait()
        finally:
            for process in (*self._idle, *running):
                process.end()
            self._selector.close()


class _Process:
    """One process: tasks go in and records come out as lines of JSON."""

    def __init__(self, setup: Setup) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "kinmer.sweeps.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )
        self._task: Task | None = None
        self._say(setup.to_dict())

    @property
    def output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def give(self, task: Task) -> None:
        self._task = task
        self._say(asdict(task))

    def take(self) -> tuple[Task, Record]:
        """The record of the task that was given; a failure where the process died."""
        assert self._task is not None
        line = self.output.readline()
        if line.endswith("\n"):
            return self._task, json.loads(line)
        code = self._process.wait()
        why = f"killed by signal {-code}" if code < 0 else f"exit {code}"
        return self._task, failure(self._task, "Died", f"its process ended ({why}) · was memory short?")

    def interrupt(self) -> None:
        if self.alive:
            self._process.send_signal(signal.SIGINT)

    def wait(self) -> None:
        try:
            self._process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()

    def end(self) -> None:
        """Close its input, which ends it, whatever it does."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self.output.close()

    def _say(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # It died: `take` tells.
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
