"""One training step and one validation of a VAE, on any device, alone or with other processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kinmer.layout import Layout
from kinmer.networks import Vae, VaeOutput, block_mse, vae_loss
from kinmer.training.processes import Processes
from kinmer.training.settings import TrainSettings

__all__ = ["Trainer", "resolved_precision"]

# The reference's (Keras's) epsilon of Adam.
ADAM_EPSILON = 1e-7
# Streams of random numbers that never meet, all drawn from one seed.
_TRAINING, _VALIDATION = 1, 2


def resolved_precision(precision: str, device: torch.device) -> str:
    """``fp32`` or ``bf16``; ``auto`` is bf16 where the device multiplies it natively."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    native = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return "bf16" if device.type == "cpu" and native() else "fp32"


class Trainer:
    """A VAE, its optimiser, and everything that a step changes.

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
        self.network = Vae(
            width=layout.width, latent=settings.latent, hidden=settings.hidden, seed=settings.seed
        ).to(device)
        model: nn.Module = self.network
        if processes.world > 1:
            model = DistributedDataParallel(model)
        if settings.compile:
            model.compile()
        self._model = model
        self._optimiser = torch.optim.Adam(
            self.network.parameters(),
            lr=settings.learning_rate,
            eps=ADAM_EPSILON,
            fused=device.type in ("cpu", "cuda"),
        )
        self._generator = torch.Generator(device)

    def step(
        self, profiles: NDArray[np.float32], *, epoch: int, number: int, beta: float, learning_rate: float
    ) -> Tensor:
        """One update with (n, width) profiles; gives (3,) float64 sums: reconstruction, KL, rows."""
        self._model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate
        x = self._transformed(profiles)
        noise = self._noise(len(x), _TRAINING, epoch, number)
        parts = vae_loss(self._forward(x, noise), x, beta=beta)
        self._optimiser.zero_grad(set_to_none=True)
        parts.total.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        means = torch.stack([parts.reconstruction.detach(), parts.kl.detach(), torch.ones_like(parts.kl)])
        return means.double() * len(x)

    def settle(self) -> None:
        """After an epoch's last step: every process validates with the same running statistics."""
        self._processes.average_statistics(self.network)

    @torch.no_grad()
    def validate(self, batches: Iterable[NDArray[np.float32]]) -> dict[str, Any]:
        """Means over the validation rows of all processes, with the full weight of the KL part.

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
        """All that the next step depends on: weights and the optimiser's moments."""
        found = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        for index, moments in self._optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{index}.{name}": tensor for name, tensor in moments.items()}
        return found

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
        groups = self._optimiser.state_dict()["param_groups"]
        self._optimiser.load_state_dict({"state": moments, "param_groups": groups})

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
        key = [self._settings.seed, stream, self._processes.rank, epoch, number]
        self._generator.manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1))
        return torch.randn(rows, self._settings.latent, generator=self._generator, device=self.device)

    def _forward(self, x: Tensor, noise: Tensor) -> VaeOutput:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._bf16):
            output: VaeOutput = self._model(x, noise)
        return output
