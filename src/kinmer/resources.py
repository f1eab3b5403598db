"""Cores, memory and threads that this process may use."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from kinmer.errors import UsageError

# Files in memory that a control group gives back: of itself, and with those below it.
_GIVEN_BACK = ("inactive_file", "total_inactive_file")


def available_cores() -> int:
    """Cores that this process may run on (its affinity, not the machine's number)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that could be taken now, by the system and by the groups that this process is in.

    Half the physical memory where the system does not say.
    """
    return min([_free_memory(), *group_memory()])


def group_memory(root: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Bytes that each of a process's control groups (Linux, version 1 or 2) leaves it, where it has a limit.

    Of what a group has, the files that it has read (``inactive_file``) can be given back.
    """
    names = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
    try:
        lines = own.read_text().split()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        top = root / "memory" if controllers == "memory" else root
        if controllers not in ("", "memory"):
            continue
        group = top / path.lstrip("/")
        for folder in (group, *group.parents):
            for limit, used in names:
                with suppress(OSError, ValueError):
                    most, has = (int((folder / name).read_text()) for name in (limit, used))
                    stat = (folder / "memory.stat").read_text().splitlines()
                    read = [int(one.split()[1]) for one in stat if one.split()[0] in _GIVEN_BACK]
                    yield max(0, most - has + max(read, default=0))
            if folder == top:
                break


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


class _State:
    """What `cpu_threads` and `one_blas_thread` have set for this process."""

    threads: int | None = None
    lock = Lock()
    users = 0
    limits: Any = None


def working_threads() -> int:
    """Threads that computations may use now: those of `cpu_threads`, else one a core."""
    return _State.threads or available_cores()


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Let NumPy, SciPy and PyTorch use `number` CPU threads in the block (None: no change).

    Raises UsageError below 1.
    """
    if number is None:
        yield
        return
    if number < 1:
        raise UsageError(f"the number of threads must be at least 1, not {number}")
    from threadpoolctl import threadpool_limits

    # What has not imported PyTorch by now does without it, or asks `working_threads`.
    torch = sys.modules.get("torch")
    before, before_torch = _State.threads, torch.get_num_threads() if torch else 0
    with threadpool_limits(number, "blas"):
        _State.threads = number
        if torch:
            torch.set_num_threads(number)
        try:
            yield
        finally:
            _State.threads = before
            if torch:
                torch.set_num_threads(before_torch)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give every matrix product in the block one thread; several threads may be in such a block at a time."""
    from threadpoolctl import threadpool_limits

    with _State.lock:
        if not _State.users:
            _State.limits = threadpool_limits(1, "blas")
        _State.users += 1
    try:
        yield
    finally:
        with _State.lock:
            _State.users -= 1
            if not _State.users:
                _State.limits.restore_original_limits()


def on_threads(
    work: Callable[[int], None],
    items: Iterable[int],
    threads: int,
    *,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
) -> None:
    """Call `work` for every item, on at most `threads` threads; the first error is raised."""
    items = list(items)
    with ThreadPoolExecutor(
        max(1, min(threads, len(items))), initializer=initializer, initargs=initargs
    ) as pool:
        for done in [pool.submit(work, item) for item in items]:
            done.result()
