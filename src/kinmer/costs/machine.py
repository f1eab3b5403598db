"""What this machine has: threads, speed, memory and disk."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinmer.costs.prices import WORK_SECONDS
from kinmer.errors import InputError
from kinmer.resources import available_memory, one_blas_thread, working_threads

# The least of so many looks at the clock: other jobs only make it slower.
LOOKS = 3


@dataclass(frozen=True)
class Machine:
    """Threads to be used, speed of a core (1: that of the measured prices), bytes of memory and disk free."""

    threads: int
    speed: float
    memory: int
    disk: int


def work() -> None:
    """What a core is timed with, a tenth of a second: counting, sorting and multiplying, as kinmer does."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4096, 1 << 20)
    np.bincount(codes, minlength=4096)
    np.sort(codes)
    matrix = rng.standard_normal((512, 1024), np.float32)
    for _ in range(4):
        matrix @ matrix.T


def core_speed() -> float:
    """How fast a core is, in CPU time, beside that of the prices."""
    seconds = []
    with one_blas_thread():
        work()
        for _ in range(LOOKS):
            before = time.thread_time()
            work()
            seconds.append(time.thread_time() - before)
    return WORK_SECONDS / max(min(seconds), 1e-6)


def this_machine(output: str | Path = ".", threads: int | None = None) -> Machine:
    """This machine, as far as this process may use it, and the disk that `output` would be on.

    Raises InputError where no folder above `output` is there.
    """
    place = Path(output).absolute()
    there = next((folder for folder in (place, *place.parents) if folder.is_dir()), None)
    if there is None:
        raise InputError("no such folder", check="where is the output to be?", place=output)
    return Machine(
        threads or working_threads(), core_speed(), available_memory(), shutil.disk_usage(there).free
    )
