"""Losses, computed in float32, whose parts have names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kinmer.networks import VaeOutput


@dataclass(frozen=True)
class LossParts:
    """The loss and its parts, 0-d float32 tensors.

    ``total = reconstruction + beta * kl``; ``reconstruction = width * mse``; `kl` is summed over the latent
    dimensions; all are means over the batch.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor
    mse: Tensor


def vae_loss(output: VaeOutput, x: Tensor, *, beta: float) -> LossParts:
    """The reference's loss of a forward pass over (n, width) `x`, computed in float32.

    ``width * MSE + beta * KL``, KL = -1/2 Σ (1 + log σ² - μ² - σ²) against the standard normal
    (Kingma & Welling 2014, appendix B; β: Higgins et al. 2017).
    """
    mean, log_var = output.mean.float(), output.log_var.float()
    mse = nn.functional.mse_loss(output.reconstruction.float(), x.float())
    kl = -0.5 * (1 + log_var - mean.square() - log_var.exp()).sum(dim=1).mean()
    reconstruction = x.shape[1] * mse
    return LossParts(reconstruction + beta * kl, reconstruction, kl, mse)


def block_mse(reconstruction: Tensor, x: Tensor, sizes: Sequence[int]) -> Tensor:
    """(n_blocks,) mean squared error of every block of `sizes` columns, over rows and the block's columns."""
    per_column = (reconstruction.float() - x.float()).square().mean(dim=0)
    return torch.stack([part.mean() for part in torch.split(per_column, list(sizes))])
