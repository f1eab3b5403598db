"""Reading frames of one sequence that comes in pieces, its windows shared out between threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.kmers.frames import RAW_SHAPE, WINDOW, add_span, add_window, finish_row, window_edges

__all__ = ["FrameRecord"]

Submit = Callable[..., Future[Any]]


class FrameRecord:
    """One sequence read piece by piece, cut anywhere.

    submit : runs a function, at once or in another thread. code : as in `frames.add_window`.
    """

    def __init__(self, submit: Submit, code: int, window: int = WINDOW) -> None:
        self._submit, self._code, self._window = submit, code, window
        self._raw = np.zeros(RAW_SHAPE, np.uint32)
        self._codes, self._n = np.empty(window, np.uint8), 0
        self._jobs: list[Future[int]] = []
        self._parts: list[NDArray[np.uint32]] = []

    def begin(self, buffer: NDArray[np.uint8], start: int, end: int, unit: int | None) -> None:
        """Start on buffer[start:end], in jobs of about `unit` letters, or one; `settle` waits for them."""
        edges = []
        if unit is not None:
            letters = max(1, unit // self._window) * self._window
            edges = window_edges(buffer, start, end, self._n, letters).tolist()
        for first, last in pairwise([start, *edges, end]):
            if self._jobs:
                # What went before ends with a full window.
                self._codes, self._n = np.empty(self._window, np.uint8), 0
            raw = np.zeros(RAW_SHAPE, np.uint32)
            self._parts.append(raw)
            job = self._submit(add_span, buffer, first, last, self._codes, self._n, self._code, raw)
            self._jobs.append(job)

    def settle(self) -> None:
        """Wait for all that was begun."""
        for job, raw in zip(self._jobs, self._parts, strict=True):
            self._n = job.result()
            self._raw += raw
        self._jobs, self._parts = [], []

    def finish(self, row: NDArray[np.uint32]) -> None:
        """Fill row, (62 + 768,); only once."""
        add_window(self._codes, self._n, self._code, self._raw)
        finish_row(self._raw, self._code, row)
