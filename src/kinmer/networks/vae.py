"""The variational autoencoder."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kinmer.networks.base import Network, check_sizes

__all__ = ["Vae", "VaeOutput"]

LOG_VAR_RANGE = (-20.0, 2.0)
LEAK = 0.2
# The reference's layers are Keras's, whose BatchNorm has this epsilon (PyTorch's is 1e-5).
BATCH_NORM_EPSILON = 1e-3
# PyTorch's momentum, not Keras's 0.01: a short training (the demo's, or the first epochs of a long one) would
# leave the running statistics near their start, and they are what validation and embedding see. A long
# training ends at the same statistics with either.
BATCH_NORM_MOMENTUM = 0.1


class VaeOutput(NamedTuple):
    """What a forward pass gives: reconstruction (n, width), mean and log-variance (n, dim)."""

    reconstruction: Tensor
    mean: Tensor
    log_var: Tensor


def _stack(sizes: Sequence[int]) -> nn.Sequential:
    """Dense, BatchNorm and LeakyReLU for every step from one of `sizes` to the next."""
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [
            nn.Linear(inputs, outputs),
            nn.BatchNorm1d(outputs, eps=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM),
            nn.LeakyReLU(LEAK),
        ]
    return nn.Sequential(*layers)


class VaeEncoder(nn.Module):
    """Profiles to the mean and the log-variance of their latent normal distribution."""

    def __init__(self, width: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        self.hidden = _stack([width, *hidden])
        self.z_mean = nn.Linear(hidden[-1], latent)
        self.z_log_var = nn.Linear(hidden[-1], latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(n, width) to mean and log-variance, (n, latent) each; the log-variance clipped to [-20, 2]."""
        h = self.hidden(x)
        return self.z_mean(h), self.z_log_var(h).clamp(*LOG_VAR_RANGE)


class VaeDecoder(nn.Module):
    """Latent vectors to profiles; the encoder mirrored, with a linear end."""

    def __init__(self, width: int, hidden: Sequence[int], latent: int) -> None:
        super().__init__()
        self.hidden = _stack([latent, *reversed(hidden)])
        self.out = nn.Linear(hidden[0], width)

    def forward(self, z: Tensor) -> Tensor:
        """(n, latent) to (n, width)."""
        reconstruction: Tensor = self.out(self.hidden(z))
        return reconstruction


class Vae(Network):
    """Variational autoencoder (Kingma & Welling 2014) over transformed profiles; the reference's network.

    Weights start Glorot-uniform with zero biases, as in Keras, drawn from `seed` alone.
    Raises UsageError for sizes below 1.
    """

    name: ClassVar[str] = "vae"

    def __init__(
        self, *, width: int, latent: int = 384, hidden: Sequence[int] = (1024, 512), seed: int = 0
    ) -> None:
        super().__init__()
        check_sizes(width, latent, hidden)
        self.width, self.dim, self.hidden = width, latent, tuple(hidden)
        self.encoder = VaeEncoder(width, self.hidden, latent)
        self.decoder = VaeDecoder(width, self.hidden, latent)
        generator = torch.Generator().manual_seed(seed)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        return {"width": self.width, "latent": self.dim, "hidden": list(self.hidden)}

    def parts(self) -> dict[str, nn.Module]:
        """Encoder and decoder."""
        return {"encoder": self.encoder, "decoder": self.decoder}

    def forward(self, x: Tensor, noise: Tensor) -> VaeOutput:
        """Reconstruct (n, width) `x` through a latent sample; `noise` (n, dim) is standard normal."""
        mean, log_var = self.encoder(x)
        z = mean + torch.exp(0.5 * log_var) * noise
        return VaeOutput(self.decoder(z), mean, log_var)

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim): the mean, never a sample."""
        mean: Tensor = self.encoder.z_mean(self.encoder.hidden(x))
        return mean
