"""What a search needs compiled: at the first one a process compiles half of it while another one compiles the
other half; later ones load it without what compiling needs.

Numba compiles one function at a time in a process, and keeps what it has compiled for all later ones.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from threading import Thread
from typing import Any

import numba
import numpy as np
from numba.core.caching import Cache
from numba.core.runtime import rtsys

from kinmer.kmers.frames import WINDOW, frames_of_spans, make_room
from kinmer.layout import profile_layout
from kinmer.sketches.postings import Postings, count_shared
from kinmer.stores import distances_to

# Where the functions are that a search loads.
_MODULES = (
    "kinmer.kmers.frames",
    "kinmer.kmers.kernels",
    "kinmer.proteins.homologs",
    "kinmer.sketches",
    "kinmer.sketches.postings",
    "kinmer.stores.pairwise",
)
_KNOWN_NUMBA = ("0.68.",)


@cache
def load_lightly() -> None:
    """Have these functions loaded from Numba's cache without all that its compiler knows: a fifth of the CPU
    of a short search. Where one is not there, the compiler reads that as ever.
    """
    usual = getattr(Cache, "load_overload", None)
    # It takes the place of what Numba keeps to itself, so only of the versions that were looked at.
    if usual is None or not numba.__version__.startswith(_KNOWN_NUMBA):
        return

    def loaded(self: Any, signature: Any, context: Any) -> Any:
        if self._py_func.__module__ not in _MODULES:
            return usual(self, signature, context)
        # What the usual way does, without `context.refresh`: of that only this counts for what is compiled.
        rtsys.initialize(context)
        with self._guard_against_spurious_io_errors():
            return self._load_overload(signature, context)

    Cache.load_overload = loaded


def compile_beside() -> None:
    """Start a process that compiles them."""
    quiet = {"stdin": subprocess.DEVNULL, "capture_output": True}
    # A thread waits for it; whoever is ready before does not.
    command = [sys.executable, "-m", __name__]
    Thread(target=subprocess.run, args=(command,), kwargs=quiet, daemon=True).start()


def main() -> None:
    counts = np.zeros((1, profile_layout(6, coding=True).width), np.uint32)
    buffer, spans = np.frombuffer(bytearray(b"A"), np.uint8), np.array([[0, 1]])
    frames_of_spans(buffer, spans, make_room(WINDOW), -1, 0, counts)
    none, one = Postings.none(), np.zeros(1, np.int64)
    count_shared([np.zeros(1, np.uint64)], (none, none, none), one, one)
    distances_to(np.ones((1, 2), np.float32), np.ones((1, 1, 2), np.float32), "cosine")


if __name__ == "__main__":
    main()
