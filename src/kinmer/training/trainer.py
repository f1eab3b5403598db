"""One training step and one validation of a network, on any device, alone or with other processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinmer.layout import Layout
from kinmer.networks import Vae, VaeOutput
from kinmer.training.losses import block_mse, vae_loss
from kinmer.training.settings import TrainSettings


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


# The reference's (Keras's) epsilon of Adam.
ADAM_EPSILON = 1e-7
# Streams of random numbers that never meet, all drawn from one seed.
_TRAINING, _VALIDATION = 1, 2
# What a step sums up over its rows.
PARTS = ("reconstruction", "kl", "rows")


def resolved_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 where the device multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and native() else "fp32"


class Trainer:
    """A VAE, its optimizer, and everything that a step changes.

    Parameters
    ----------
    layout, values : of the profiles; `values` as in `Profiles.values`.
    precision : resolved, ``fp32`` or ``bf16``.
    """

    def __init__(
        self,
        settings: TrainSettings,
        layout: Layout,
        values: str,
        *,
        precision: str,
        device: torch.device,
        processes: Processes,
    ) -> None:
        self._settings, self._layout, self._values = settings, layout, values
        self.device, self._processes = device, processes
        self._bf16 = precision == "bf16"
        vae = Vae(width=layout.width, latent=settings.latent, hidden=settings.hidden, seed=settings.seed)
        self.network = vae.to(device)
        model: nn.Module = self.network
        if processes.world > 1:
            model = DistributedDataParallel(model)
        if settings.compile:
            model.compile()
        self._model = model
        adam = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
        self._optimizer = adam(
            _parameters(self.network, settings.weight_decay),
            lr=settings.learning_rate,
            eps=ADAM_EPSILON,
            fused=device.type in ("cpu", "cuda"),
        )
        self._generator = torch.Generator(device)

    def step(
        self,
        profiles: NDArray[np.float32],
        *,
        epoch: int,
        number: int,
        beta: float,
        learning_rate: float,
    ) -> Tensor:
        """One update with a batch; gives (3,) float64 sums over its rows: `PARTS`."""
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate
        x = self._transformed(profiles)
        parts = vae_loss(self._forward(x, self._noise(len(x), _TRAINING, epoch, number)), x, beta=beta)
        self._optimizer.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        kl = parts.kl.detach()
        means = torch.stack([parts.reconstruction.detach(), kl, torch.ones_like(kl)])
        return means.double() * len(x)

    def settle(self) -> None:
        """After an epoch's last step: every process validates with the same running statistics."""
        self._processes.average_statistics(self.network)

    @torch.no_grad()
    def validate(self, batches: Iterable[NDArray[np.float32]]) -> dict[str, Any]:
        """Losses and their parts, means over the rows of all processes, with the full weight of the KL part.

        The noise is the same in every epoch: the losses of two epochs differ by the network alone.
        """
        self._model.eval()
        blocks = self._layout.blocks
        sums = torch.zeros(4 + len(blocks), dtype=torch.float64, device=self.device)
        for number, profiles in enumerate(batches):
            x = self._transformed(profiles)
            output = self._forward(x, self._noise(len(x), _VALIDATION, 0, number))
            parts = vae_loss(output, x, beta=self._settings.beta)
            errors = block_mse(output.reconstruction, x, [block.size for block in blocks])
            means = torch.stack(
                [parts.reconstruction, parts.kl, parts.mse, torch.ones_like(parts.kl), *errors]
            )
            sums += means.double() * len(x)
        reconstruction, kl, mse, rows, *per_block = self._processes.sum(sums).tolist()
        return {
            "validation_loss": (reconstruction + self._settings.beta * kl) / rows,
            "validation_reconstruction": reconstruction / rows,
            "validation_kl": kl / rows,
            "mse": mse / rows,
            "blocks": {block.name: one / rows for block, one in zip(blocks, per_block, strict=True)},
        }

    def weights(self) -> dict[str, Tensor]:
        """A copy of the network's weights, on the CPU."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.network.state_dict().items()}

    def tensors(self) -> dict[str, Tensor]:
        """All that the next step depends on: weights and the optimizer's moments."""
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, moments in self._optimizer.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{name}": tensor for name, tensor in moments.items()}
        return tensors

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Go back to what `tensors` gave."""
        network: dict[str, Tensor] = {}
        moments: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            kind, rest = key.split(".", 1)
            if kind == "network":
                network[rest] = tensor
            else:
                index, name = rest.split(".", 1)
                moments.setdefault(int(index), {})[name] = tensor
        self.network.load_state_dict(network)
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": moments, "param_groups": groups})

    def _transformed(self, profiles: NDArray[np.float32]) -> Tensor:
        rows = torch.from_numpy(profiles)
        if self.device.type == "cuda":
            # From pinned memory the copy runs beside the step before.
            rows = rows.pin_memory()
        transformed: Tensor = self._settings.clr(
            rows.to(self.device, non_blocking=True), self._layout, self._values
        )
        return transformed

    def _noise(self, rows: int, stream: int, epoch: int, number: int) -> Tensor:
        """(rows, latent) standard normal numbers that depend on seed, process, epoch and step alone."""
        self._generator.manual_seed(self._key(stream, epoch, number))
        return torch.randn(rows, self._settings.latent, generator=self._generator, device=self.device)

    def _key(self, stream: int, epoch: int, number: int) -> int:
        key = [self._settings.seed, stream, self._processes.rank, epoch, number]
        return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)

    def _forward(self, x: Tensor, noise: Tensor) -> VaeOutput:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output: VaeOutput = self._model(x, noise)
        return output


def _parameters(network: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The optimizer's groups of parameters, by their decay: matrices alone have one."""
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault(weight_decay if parameter.ndim > 1 else 0.0, []).append(parameter)
    return [{"params": members, "weight_decay": decay} for decay, members in groups.items()]
