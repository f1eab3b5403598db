"""Compiles half of what a first search needs; a process does it while another one compiles the other half.

Numba compiles one function at a time in a process, and keeps what it has compiled for all later ones.
"""

from __future__ import annotations

import subprocess
import sys
from threading import Thread

import numpy as np

from kinmer.kmers.frames import WINDOW, frames_of_spans, make_room
from kinmer.layout import profile_layout
from kinmer.sketches.postings import Postings, count_shared
from kinmer.stores import distances_to


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
