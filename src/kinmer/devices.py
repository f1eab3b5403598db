"""Where PyTorch computes: the device, and its threads on a CPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinmer.errors import UsageError

__all__ = ["cpu_threads", "torch_device"]


def torch_device(device: str) -> torch.device:
    """The device called so (``auto``: a CUDA GPU where there is one); UsageError where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.empty(0, device=found)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {device!r} cannot be used", reason, "try 'cpu' or 'auto'") from error
    return found


@contextmanager
def cpu_threads(number: int | None) -> Iterator[None]:
    """Let PyTorch use `number` CPU threads meanwhile (None: as many as it does); UsageError below 1."""
    if number is None:
        yield
        return
    if number < 1:
        raise UsageError(f"the number of threads must be at least 1, not {number}")
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
