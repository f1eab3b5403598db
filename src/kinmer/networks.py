"""Networks in PyTorch: tensors in, tensors out.

A network of the registry `NETWORKS` is built from plain settings (`build_network`) and gives, whatever it
is inside, ``embed(x) -> (n, dim)``. Training asks more (`Vae.forward`); an encoder does not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import UsageError, require
from kinmer.linear import (
    NOTHING,
    Columns,
    EncoderNetwork,
    Layer,
    Projection,
    Transform,
    build,
    check_sizes,
)
from kinmer.resources import on_threads, working_threads

require("torch", "networks, training and GPUs need it", "train")

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402

# Rows are embedded in tiles, as in `kinmer.linear`: threads that share no tile never wait for each other,
# which PyTorch's own do at every step, and badly so when another process has their core.
CPU_TILE, GPU_TILE = 256, 4096


def torch_device(device: str) -> torch.device:
    """The device of that name (``auto``: a CUDA GPU where there is one); UsageError where there is none."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        known = torch.device(device)
        torch.empty(0, device=known)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"the device {device!r} cannot be used", reason, "try 'cpu' or 'auto'") from error
    return known


class Network(nn.Module):
    """What an encoder asks of a network: a name, settings that rebuild it, `width`, `dim` and `embed`."""

    name: ClassVar[str]
    width: int
    dim: int
    bf16 = False

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        raise NotImplementedError

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) transformed profiles to (n, dim) vectors."""
        raise NotImplementedError

    def parts(self) -> dict[str, nn.Module]:
        """The named halves whose parameters `summary` adds up."""
        return {self.name: self}

    def layers(self) -> Iterator[Layer]:
        """Every layer of every part, in order."""
        for part, module in self.parts().items():
            outputs = self.width
            for name, layer in module.named_modules():
                if any(layer.children()):
                    continue
                outputs = int(getattr(layer, "out_features", getattr(layer, "num_features", outputs)))
                yield Layer(part, name, type(layer).__name__, outputs, parameter_count(layer))

    @property
    def place(self) -> str:
        """The device that holds the weights."""
        return str(next(self.parameters()).device)

    def weights(self) -> dict[str, NDArray[Any]]:
        """All weights and running statistics, by name."""
        return {name: tensor.detach().cpu().numpy() for name, tensor in self.state_dict().items()}

    def shapes(self) -> dict[str, list[int]]:
        """Of the weights, by name."""
        return {name: list(tensor.shape) for name, tensor in self.state_dict().items()}

    def load(self, weights: Mapping[str, NDArray[Any]]) -> Self:
        """Take over weights by name; returns the network itself."""
        self.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        return self

    def ready(self, device: str, precision: str) -> tuple[str, EncoderNetwork]:
        """The device's full name, and the network as it embeds there."""
        self.to(torch_device(device)).eval().requires_grad_(False)
        # Autocast would round the weights for every tile.
        return self.place, self if precision == "fp32" else _rounded(self)

    def vectors(self, profiles: NDArray[Any], transform: Transform) -> NDArray[np.float32]:
        """(n, width) counts or frequencies to (n, dim) vectors, the same in whatever company a row comes."""
        where = torch.device(self.place)
        tile = CPU_TILE if where.type == "cpu" else GPU_TILE
        result = np.empty((len(profiles), self.dim), np.float32)

        @torch.inference_mode()
        def embed_from(start: int) -> None:
            part = np.ascontiguousarray(profiles[start : start + tile], dtype=np.float32)
            x = transform(torch.from_numpy(part).to(where))
            padded = nn.functional.pad(x, (0, 0, 0, tile - len(x)))
            with torch.autocast(where.type, torch.bfloat16, enabled=self.bf16):
                vectors = self.embed(padded)[: len(part)]
            result[start : start + len(part)] = vectors.float().cpu().numpy()

        starts = range(0, len(profiles), tile)
        if where.type != "cpu":
            for start in starts:
                embed_from(start)
            return result
        threads = torch.get_num_threads()
        try:
            on_threads(
                embed_from,
                starts,
                min(threads, working_threads()),
                initializer=torch.set_num_threads,
                initargs=(1,),
            )
        finally:
            # A thread's call also sets what later threads begin with.
            torch.set_num_threads(threads)
        return result


def _rounded(network: Network) -> Network:
    """A copy of the network with the weights of its matrix products in bfloat16."""
    rounded = copy.deepcopy(network)
    rounded.bf16 = True
    for module in rounded.modules():
        if isinstance(module, nn.Linear):
            module.to(torch.bfloat16)
    return rounded


def _vectors(module: nn.Module) -> Iterable[Tensor]:
    """Weights and running statistics: all of a module's state that is not a counter."""
    return (tensor for tensor in module.state_dict().values() if tensor.is_floating_point())


def parameter_count(module: nn.Module) -> int:
    """Parameters, BatchNorm counted with its four vectors (scale, shift, running mean and variance)."""
    return sum(tensor.numel() for tensor in _vectors(module))


class Linear(Network):
    """`kinmer.linear.Projection` for a GPU."""

    name: ClassVar[str] = "linear"

    def __init__(
        self, *, width: int, dim: int, optional: Sequence[Sequence[int]] = (), anchor: float = 0.0
    ) -> None:
        super().__init__()
        shape = Projection(width=width, dim=dim, optional=optional, anchor=anchor)
        self.width, self.dim, self.optional, self.anchor = width, dim, shape.optional, shape.anchor
        self._shape = shape
        self.mean = nn.Parameter(torch.zeros(width))
        self.weight = nn.Parameter(torch.zeros(shape.directions, width))

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        return self._shape.settings()

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        centered = x - self.mean
        for start, stop in self.optional:
            counted = x[:, start:stop].abs().amax(dim=1, keepdim=True) > NOTHING
            centered = torch.cat(
                [centered[:, :start], centered[:, start:stop] * counted, centered[:, stop:]], dim=1
            )
        y = nn.functional.linear(centered, self.weight)
        return nn.functional.pad(y, (0, 1), value=self.anchor) if self.anchor > 0 else y


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


NETWORKS: dict[str, type[Any]] = {kind.name: kind for kind in (Vae, Linear, Columns)}


def build_network(name: str, settings: Mapping[str, Any]) -> Network:
    """The network `name` of the registry with `settings`; FormatError where either is unknown."""
    network: Network = build(NETWORKS, name, settings)
    return network


def on_device(network: Projection | Columns, device: str) -> EncoderNetwork:
    """A linear map for a device; NumPy's where it is a CPU. UsageError where the device cannot be used."""
    if torch_device(device).type == "cpu" or isinstance(network, Columns):
        return network
    return build_network(network.name, network.settings()).load(network.weights())


def planned_shapes(name: str, settings: Mapping[str, Any]) -> dict[str, list[int]]:
    """Shapes of the weights that `build_network` would allocate."""
    with torch.device("meta"):
        return build_network(name, settings).shapes()
