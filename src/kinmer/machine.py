"""What this machine lets the process use."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["available_cores", "available_memory"]


def available_cores() -> int:
    """Cores that this process may run on (its affinity, not the machine's number)."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        return os.cpu_count() or 1


def available_memory() -> int:
    """Bytes of memory that could be taken now; half the physical memory where the system does not say."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
