"""Running a tool step by step, each in a process of its own whose time and memory are taken."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from peers_answers import Answers
from peers_bench import Bench


class ToolError(Exception):
    """A tool is absent, or has failed."""


@dataclass(frozen=True)
class Step:
    """A command line; what it prints goes to the file `stdout` in the work folder."""

    name: str
    command: str
    stdout: str | None = None


@dataclass(frozen=True)
class Tool:
    """How a tool is used: `prepare` (not measured), the steps, the files of its index, its answers."""

    version: str
    steps: tuple[Step, ...]
    index: str
    read: Callable[[Path, Bench], Answers]
    prepare: Callable[[Bench, Path], None] | None = None


@dataclass(frozen=True)
class Usage:
    """Seconds on the clock, processor seconds, and peak memory in bytes of the largest process."""

    wall: float
    cpu: float
    peak: int


@dataclass(frozen=True)
class Result:
    """A tool's answers to one benchmark, and what they cost; `index`: bytes."""

    version: str
    answers: Answers
    steps: dict[str, Usage]
    commands: dict[str, str]
    index: int


def run_tool(tool: Tool, bench: Bench, work: Path, facts: Mapping[str, str]) -> Result:
    """All steps in the folder `work`; ToolError where one of them cannot be done."""
    places = {**facts, "work": str(work), "database": str(bench.database), "queries": str(bench.queries)}
    version = version_of(filled(tool.version, places))
    if tool.prepare is not None:
        tool.prepare(bench, work)
    usage = {step.name: run_step(step, filled(step.command, places), work) for step in tool.steps}
    return Result(
        version=version,
        answers=tool.read(work / "hits", bench),
        steps=usage,
        commands={step.name: step.command for step in tool.steps},
        index=sum(path.stat().st_size for path in work.glob(tool.index)),
    )


def filled(command: str, places: Mapping[str, str]) -> list[str]:
    """The words of a command line with the places' values; ToolError where there is no such program."""
    words = [word.format_map(places) for word in shlex.split(command)]
    if shutil.which(words[0]) is None:
        raise ToolError(f"{words[0]} is not installed")
    return words


def version_of(command: list[str]) -> str:
    """The last word of the first line that the command prints."""
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    if told.returncode:
        raise ToolError(f"it is not installed there: {' '.join(command)}")
    words = [word for line in told.stdout.splitlines()[:1] for word in line.split()]
    return words[-1] if words else "unknown"


# A child's peak begins at the memory of the process that starts it, so a small one starts and measures it.
_MEASURED = """
import json, resource, subprocess, sys
status = subprocess.run(sys.argv[2:], stdin=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([status, used.ru_utime + used.ru_stime, used.ru_maxrss], file)
"""


def run_step(step: Step, command: list[str], work: Path) -> Usage:
    """Run to the end; children that the process has waited for count too."""
    log, told = work / f"{step.name}.log", work / f"{step.name}.used"
    started = time.perf_counter()
    with (work / (step.stdout or f"{step.name}.out")).open("wb") as out, log.open("wb") as error:
        measured = [sys.executable, "-S", "-c", _MEASURED, str(told), *command]
        subprocess.run(measured, stdout=out, stderr=error, check=True)
    wall = time.perf_counter() - started
    status, cpu, peak = json.loads(told.read_text())
    if status:
        said = log.read_text(errors="replace").strip().splitlines()[-3:]
        raise ToolError(f"{step.name} failed with status {status}: {' | '.join(said)}")
    # Kilobytes, save on macOS.
    return Usage(wall, cpu, peak * (1 if sys.platform == "darwin" else 1024))
