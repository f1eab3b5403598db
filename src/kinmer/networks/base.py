"""What an encoder asks of a network, and a table of its layers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from torch import Tensor, nn

__all__ = ["Network", "parameter_count", "summary"]


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
