"""What an encoder asks of a network, and a table of its layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor, nn

from kinmer.errors import UsageError

__all__ = ["Network", "check_sizes", "parameter_count", "summary", "whole"]

# Of a network that is read: a network's settings are believed before its weights are seen.
MOST_LAYERS, LARGEST_LAYER, MOST_WEIGHTS = 64, 1 << 20, 1 << 32


def whole(value: object) -> bool:
    """Whether a setting is a whole number; True and False, which Python counts as such, are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_sizes(width: object, dim: object, hidden: Sequence[object] | None = None) -> None:
    """Raise UsageError for sizes of layers, from the profile to the vector, that no network has.

    hidden : None: there are none between; else at least one.
    """
    if hidden is not None and not (isinstance(hidden, list | tuple) and 1 <= len(hidden) <= MOST_LAYERS):
        number = len(hidden) if isinstance(hidden, list | tuple) else 0
        raise UsageError(f"layer sizes of {number:,} hidden layers", f"1 to {MOST_LAYERS} are possible")
    sizes = [width, *(hidden or ()), dim]
    bad = [one for one in sizes if not (isinstance(one, int) and whole(one) and 1 <= one <= LARGEST_LAYER)]
    if bad:
        shown = str(bad[0])[:40]
        raise UsageError(f"layer sizes must be whole numbers from 1 to {LARGEST_LAYER:,}, not {shown}")
    counts = [size for size in sizes if isinstance(size, int)]
    if (weights := sum(a * b for a, b in pairwise(counts))) > MOST_WEIGHTS:
        raise UsageError(f"the layers need {weights:,} weights", f"{MOST_WEIGHTS:,} are possible")


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
