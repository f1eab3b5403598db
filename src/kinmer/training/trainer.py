"""One training step and one validation of a network, on any device, alone or with other processes."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinmer.layout import Layout
from kinmer.networks import Network, Residual, VaeOutput
from kinmer.training.contrast import Probe
from kinmer.training.data import Batch, new_vae
from kinmer.training.losses import block_mse, pair_loss, vae_loss
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
_TRAINING, _VALIDATION, _DROPOUT = 1, 2, 3
# What a step sums up over its rows.
PARTS = ("reconstruction", "kl", "pair_loss", "rows")


def resolved_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 where the device multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and native() else "fp32"


class TrainingData(Protocol):
    """Batches of every epoch, fixed by the settings and the numbers of epoch and step."""

    layout: Layout
    rows: int

    @property
    def values(self) -> str:
        """What the profiles hold, as in `Profiles.values`."""

    def signature(self) -> dict[str, Any]:
        """JSON-able: what data this is; a checkpoint of other data does not fit."""

    def plan(self, memory: int | None, world: int = 1) -> dict[str, int | None]:
        """How the data are held; it stays the same when a training is resumed with more or less memory."""

    def load(self, plan: dict[str, int | None], rank: int = 0, world: int = 1) -> None:
        """Make all ready for the batches."""

    def network(self) -> Network:
        """A network to start from; after `load`."""

    @property
    def steps(self) -> int:
        """Batches of an epoch."""

    def epoch(self, epoch: int, *, skip: int = 0) -> Iterator[Batch]:
        """The epoch's batches but the first `skip`."""

    def validation(self) -> Iterator[NDArray[np.float32]]:
        """Batches of validation rows."""

    @property
    def probe(self) -> Probe | None:
        """Fragments of held-out species to find each other; None for rows."""

    def notes(self) -> list[str]:
        """What people should know of the data."""

    def report(self) -> dict[str, Any]:
        """JSON-able: what the encoder remembers of the data, beside the signature."""


class Trainer:
    """A network, its optimizer, and everything that a step changes.

    Parameters
    ----------
    layout, values : of the profiles; `values` as in `Profiles.values`.
    precision : resolved, ``fp32`` or ``bf16``.
    network : None: the VAE of the settings.
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
        network: Network | None = None,
    ) -> None:
        self._settings, self._layout, self._values = settings, layout, values
        self.device, self._processes = device, processes
        self._bf16 = precision == "bf16"
        self.network = (network or new_vae(settings, layout)).to(device)
        model: nn.Module = _Forward(self.network)
        if processes.world > 1:
            # The loss of pairs sees a part of a VAE only.
            unused = settings.objective == "pairs" and settings.network == "vae"
            model = DistributedDataParallel(model, find_unused_parameters=unused)
        if settings.compile:
            model.compile()
        self._model = model
        adam = torch.optim.AdamW if settings.weight_decay else torch.optim.Adam
        self._optimizer = adam(
            _parameters(self.network, settings),
            lr=settings.learning_rate,
            eps=ADAM_EPSILON,
            fused=device.type in ("cpu", "cuda"),
        )
        self._generator = torch.Generator(device)

    def step(
        self,
        batch: Batch | NDArray[np.float32],
        *,
        epoch: int,
        number: int,
        beta: float,
        learning_rate: float,
    ) -> Tensor:
        """One update with a batch; gives (4,) float64 sums over its rows: `PARTS`."""
        self._model.train()
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["share"]
        profiles, kin = batch if isinstance(batch, Batch) else Batch(batch)
        x = self._transformed(profiles)
        objective = self._settings.objective
        noise = None if objective == "pairs" else self._noise(len(x), _TRAINING, epoch, number)
        with self._dropout(epoch, number):
            output = self._forward(x, noise)
        zero = torch.zeros((), device=self.device)
        reconstruction, kl, pair, total = zero, zero, zero, zero
        if isinstance(output, VaeOutput):
            parts = vae_loss(output, x, beta=beta)
            reconstruction, kl, total = parts.reconstruction, parts.kl, parts.total
        if objective != "vae":
            pair = self._pair_loss(output.mean if isinstance(output, VaeOutput) else output, kin)
            total = pair if objective == "pairs" else total + self._settings.pair_weight * pair
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()
        means = torch.stack([reconstruction.detach(), kl.detach(), pair.detach(), torch.ones_like(zero)])
        return means.double() * len(x)

    def _pair_loss(self, vectors: Tensor, kin: NDArray[np.int64] | None) -> Tensor:
        half = len(vectors) // 2
        same = torch.arange(half) if kin is None else torch.from_numpy(kin)
        return pair_loss(
            vectors[:half],
            vectors[half:],
            same.to(self.device),
            temperature=self._settings.temperature,
            kin_positives=self._settings.kin_positives,
        )

    @contextmanager
    def _dropout(self, epoch: int, number: int) -> Iterator[None]:
        """Let what is dropped depend on seed, process, epoch and step alone."""
        if not self._settings.dropout:
            yield
            return
        with torch.random.fork_rng([self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(self._key(_DROPOUT, epoch, number))
            yield

    def settle(self) -> None:
        """After an epoch's last step: every process validates with the same running statistics."""
        self._processes.average_statistics(self.network)

    @torch.no_grad()
    def validate(self, batches: Iterable[NDArray[np.float32]], probe: Probe | None = None) -> dict[str, Any]:
        """What the objective asks of the validation rows; with a probe, `batches` are its own.

        For a VAE means over the rows of all processes, with the full weight of the KL part; the noise is the
        same in every epoch: the losses of two epochs differ by the network alone. With a probe also the pair
        loss and retrieval (`Probe.measure`).
        """
        settings = self._settings
        if probe is None:
            return self._validate_vae(batches)
        held = list(batches)
        measured = {} if settings.objective == "pairs" else self._validate_vae(held)
        self._model.eval()
        vectors = torch.cat([self.network.embed(self._transformed(rows)).float() for rows in held])
        pair, retrieval = probe.measure(vectors, settings.temperature)
        if settings.objective == "pairs":
            measured["validation_loss"] = pair
        elif settings.objective == "both":
            measured["validation_loss"] += settings.pair_weight * pair
        return {**measured, "validation_pair_loss": pair, "retrieval": retrieval}

    def _validate_vae(self, batches: Iterable[NDArray[np.float32]]) -> dict[str, Any]:
        """Losses of a VAE and their parts."""
        self._model.eval()
        blocks = self._layout.blocks
        sums = torch.zeros(4 + len(blocks), dtype=torch.float64, device=self.device)
        for number, profiles in enumerate(batches):
            x = self._transformed(profiles)
            output = self._forward(x, self._noise(len(x), _VALIDATION, 0, number))
            assert isinstance(output, VaeOutput)
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

    def _forward(self, x: Tensor, noise: Tensor | None) -> VaeOutput | Tensor:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output: VaeOutput | Tensor = self._model(x, noise)
        return output


class _Forward(nn.Module):
    """A network's pass: reconstruction with noise, else the embedding alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor, noise: Tensor | None) -> VaeOutput | Tensor:
        """(n, width) to what the loss takes."""
        output: VaeOutput | Tensor = self.network.embed(x) if noise is None else self.network(x, noise)
        return output


def _parameters(network: Network, settings: TrainSettings) -> list[dict[str, Any]]:
    """The optimizer's groups of parameters, by their share of the learning rate and their decay."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            slow = isinstance(network, Residual) and name.startswith("linear.")
            decay = settings.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((settings.linear_rate if slow else 1.0, decay), []).append(parameter)
    return [
        {"params": members, "share": share, "weight_decay": decay}
        for (share, decay), members in groups.items()
    ]
