"""The networks: tensors in, tensors out, and a loss whose parts have names.

A network of the registry `NETWORKS` is built from plain settings (`build_network`) and gives, whatever it
is inside, ``embed(x) -> (n, dim)``. Training asks more (`Vae.forward`, `vae_loss`); an encoder does not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from kinmer.errors import FormatError, UsageError

__all__ = [
    "NETWORKS",
    "Columns",
    "Linear",
    "LossParts",
    "Network",
    "Vae",
    "VaeOutput",
    "block_mse",
    "build_network",
    "parameter_count",
    "summary",
    "vae_loss",
]

LOG_VAR_RANGE = (-20.0, 2.0)
LEAK = 0.2
# The reference's layers are Keras's, whose BatchNorm has this epsilon (PyTorch's is 1e-5).
BATCH_NORM_EPSILON = 1e-3
# PyTorch's momentum, not Keras's 0.01: a short training (the demo's, or the first epochs of a long one) would
# leave the running statistics near their start, and they are what validation and embedding see. A long
# training ends at the same statistics with either.
BATCH_NORM_MOMENTUM = 0.1


class Network(nn.Module):
    """What an encoder asks of a network: a name, settings that rebuild it, `width`, `dim` and `embed`."""

    name: ClassVar[str]
    width: int
    dim: int

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) transformed profiles to (n, dim) vectors."""
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        """The named halves whose parameters `summary` adds up."""
        return {self.name: self}


class VaeOutput(NamedTuple):
    """What a forward pass gives: reconstruction (n, width), mean and log-variance (n, dim)."""

    reconstruction: Tensor
    mean: Tensor
    log_var: Tensor


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
        sizes = [width, latent, *hidden]
        if not hidden or not all(isinstance(size, int) and size >= 1 for size in sizes):
            raise UsageError(f"layer sizes must be whole numbers of at least 1, not {sizes}")
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


class Columns(Network):
    """Some columns as they are: the raw profile after the transform, or one block of it."""

    name: ClassVar[str] = "columns"

    def __init__(self, *, width: int, start: int, stop: int) -> None:
        super().__init__()
        if not 0 <= start < stop <= width:
            raise UsageError(f"columns {start} to {stop} of {width} make no vector")
        self.width, self.dim, self.start, self.stop = width, stop - start, start, stop

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        return {"width": self.width, "start": self.start, "stop": self.stop}

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        return x[:, self.start : self.stop]


class Linear(Network):
    """``(x - mean) @ weight.T``: principal components, discriminant directions, or what training made of it.

    optional : spans ``(start, stop)`` of columns that a sequence may lack altogether (no reading frame was
    found). The CLR leaves them zero, which no counted block is; they are put at the mean, where they say
    nothing.
    """

    name: ClassVar[str] = "linear"

    def __init__(self, *, width: int, dim: int, optional: Sequence[Sequence[int]] = ()) -> None:
        super().__init__()
        spans = [(int(start), int(stop)) for start, stop in optional]
        if width < 1 or dim < 1 or not all(0 <= start < stop <= width for start, stop in spans):
            raise UsageError(f"a map from {width} to {dim} dimensions with spans {spans} cannot be built")
        self.width, self.dim, self.optional = width, dim, spans
        self.mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(dim, width))

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        return {"width": self.width, "dim": self.dim, "optional": [list(span) for span in self.optional]}

    def fill(self, mean: Tensor, weight: Tensor) -> Linear:
        """Take over a mean (width,) and a weight (dim, width); returns the network itself."""
        with torch.no_grad():
            self.mean.copy_(mean)
            self.weight.copy_(weight)
        return self

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        centred = x - self.mean
        for start, stop in self.optional:
            counted = (x[:, start:stop] != 0).any(dim=1, keepdim=True)
            centred = torch.cat(
                [centred[:, :start], centred[:, start:stop] * counted, centred[:, stop:]], dim=1
            )
        return nn.functional.linear(centred, self.weight)


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


NETWORKS: dict[str, type[Network]] = {one.name: one for one in (Vae, Linear, Columns)}


def build_network(name: str, settings: dict[str, Any]) -> Network:
    """The network `name` of the registry with `settings`; FormatError where either is unknown."""
    if name not in NETWORKS:
        raise FormatError(
            f"the network {name!r} is unknown", check=f"this version knows {', '.join(sorted(NETWORKS))}"
        )
    try:
        return NETWORKS[name](**settings)
    except (TypeError, UsageError) as error:
        raise FormatError(f"the settings of the network {name!r} cannot be used", str(error)) from error


def _vectors(module: nn.Module) -> Iterable[Tensor]:
    """Weights and running statistics: all of a module's state that is not a counter."""
    return (tensor for tensor in module.state_dict().values() if tensor.is_floating_point())


def parameter_count(module: nn.Module) -> int:
    """Parameters, BatchNorm counted with its four vectors (scale, shift, running mean and variance)."""
    return sum(tensor.numel() for tensor in _vectors(module))


def summary(network: Network) -> str:
    """A table of layers, output sizes and parameters, with the totals of every part."""
    lines = [f"{'layer':<28}{'kind':<14}{'output':>8}{'parameters':>14}"]
    totals: list[str] = []
    for part, module in network.parts().items():
        outputs = network.width
        for name, layer in module.named_modules():
            if any(layer.children()):
                continue
            outputs = int(getattr(layer, "out_features", getattr(layer, "num_features", outputs)))
            kind = type(layer).__name__
            lines.append(f"{part + '.' + name:<28}{kind:<14}{outputs:>8}{parameter_count(layer):>14,}")
        totals.append(f"{part:<50}{parameter_count(module):>14,}")
    totals.append(f"{'total':<50}{parameter_count(network):>14,}")
    return "\n".join([*lines, *totals])
