"""The processes of one training: this one alone, or those that ``torchrun`` started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as distributed
from torch import Tensor, nn

__all__ = ["Processes", "joined"]


@dataclass(frozen=True)
class Processes:
    """This process's number (`rank`) among `world` processes, and what they do together."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all processes' tensors, in place."""
        if self.world > 1:
            distributed.all_reduce(tensor)
        return tensor

    def average_statistics(self, network: nn.Module) -> None:
        """Give every process the mean of all processes' running statistics."""
        if self.world > 1:
            for statistic in network.buffers():
                if statistic.is_floating_point():
                    distributed.all_reduce(statistic)
                    statistic /= self.world

    def wait(self) -> None:
        """Wait for all the others."""
        if self.world > 1:
            distributed.barrier()


@contextmanager
def joined(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that torchrun announces in the environment; gives them and this one's device."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1 or "RANK" not in os.environ:
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    ours = not distributed.is_initialized()
    if ours:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(distributed.get_rank(), distributed.get_world_size()), device
    finally:
        if ours:
            distributed.destroy_process_group()
