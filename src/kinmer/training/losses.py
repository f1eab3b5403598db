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


def pair_loss(
    a: Tensor, b: Tensor, kin: Tensor, *, temperature: float, kin_positives: bool = False
) -> Tensor:
    """Symmetric InfoNCE of n pairs, 0-d float32: every fragment has to find its partner in the batch.

    a, b : (n, dim) embeddings of the pairs' fragments, compared by their cosine.
    kin : (n,) integers; fragments of other pairs with the same one are left out of the negatives. With
        `kin_positives` they are partners too, and the loss is the mean over a fragment's partners.

    ``-mean log(exp(cos(a_i, b_i) / τ) / Σ_j exp(cos(a_i, b_j) / τ))``, j over i and all that are no kin of i,
    and the same from b to a (van den Oord et al. 2018, arXiv:1807.03748; the supervised variant: Khosla et
    al. 2020, arXiv:2004.11362, its L_out).
    """
    similarity = nn.functional.normalize(a.float(), dim=1) @ nn.functional.normalize(b.float(), dim=1).T
    logits = similarity / temperature
    same = kin[:, None] == kin[None, :]
    own = torch.eye(len(kin), dtype=torch.bool, device=logits.device)
    if not kin_positives:
        logits = logits.masked_fill(same & ~own, -torch.inf)
        same = own
    return 0.5 * (_partners(logits, same) + _partners(logits.T, same))


def _partners(logits: Tensor, positive: Tensor) -> Tensor:
    """Mean over rows of minus the mean log-probability of a row's partners."""
    lost = torch.logsumexp(logits, dim=1, keepdim=True) - logits
    return (lost.masked_fill(~positive, 0).sum(dim=1) / positive.sum(dim=1)).mean()
