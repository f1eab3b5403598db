"""Linear networks, and a residual network on top of one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from kinmer.errors import UsageError
from kinmer.networks.base import Network, check_sizes, whole

__all__ = ["NOTHING", "Columns", "Linear", "Residual"]

# Transformed values of a block without a count are no larger than this; of one with a count, one is.
NOTHING = 1e-3
# A layout has two blocks that a sequence may lack.
MOST_SPANS = 100


class Columns(Network):
    """Some columns as they are: the raw profile after the transform, or one block of it."""

    name: ClassVar[str] = "columns"

    def __init__(self, *, width: int, start: int, stop: int) -> None:
        super().__init__()
        if not all(whole(one) for one in (width, start, stop)) or not 0 <= start < stop <= width:
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
    found). The CLR leaves them zero but for rounding, which no counted block is; they are put at the mean,
    where they say nothing.
    anchor : above 0, the last coordinate of every vector is this constant. Vectors near the mean, whose
    direction is mostly noise, then lie together, and cosine ranks more as Euclidean distance does.
    """

    name: ClassVar[str] = "linear"

    def __init__(
        self, *, width: int, dim: int, optional: Sequence[Sequence[int]] = (), anchor: float = 0.0
    ) -> None:
        super().__init__()
        check_sizes(width, dim)
        if len(optional) > MOST_SPANS or not all(whole(one) for span in optional for one in span):
            raise UsageError(f"the {len(optional)} spans that may be lacking must be whole numbers")
        spans = [(start, stop) for start, stop in optional]
        directions = dim - (anchor > 0)
        if width < 1 or directions < 1 or not all(0 <= start < stop <= width for start, stop in spans):
            raise UsageError(f"a map from {width} to {dim} dimensions with spans {spans} cannot be built")
        if isinstance(anchor, bool) or not 0 <= anchor < math.inf:
            raise UsageError(f"the anchor must be a number of at least 0, not {anchor}")
        self.width, self.dim, self.optional, self.anchor = width, dim, spans, float(anchor)
        self.mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.weight = nn.Parameter(torch.zeros(directions, width))

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        spans = [list(span) for span in self.optional]
        return {"width": self.width, "dim": self.dim, "optional": spans, "anchor": self.anchor}

    def fill(self, mean: Tensor, weight: Tensor) -> Linear:
        """Take over a mean (width,) and a weight (directions, width); returns the network itself."""
        with torch.no_grad():
            self.mean.copy_(mean)
            self.weight.copy_(weight)
        return self

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        centred = x - self.mean
        for start, stop in self.optional:
            counted = x[:, start:stop].abs().amax(dim=1, keepdim=True) > NOTHING
            centred = torch.cat(
                [centred[:, :start], centred[:, start:stop] * counted, centred[:, stop:]], dim=1
            )
        y = nn.functional.linear(centred, self.weight)
        return nn.functional.pad(y, (0, 1), value=self.anchor) if self.anchor > 0 else y


class Residual(Network):
    """A `Linear` and what a small network adds to its vectors y: ``y + scale * mlp(y)``.

    The last layer starts at zero, so training starts at the linear solution. Layers: LayerNorm, then Dense,
    GELU and dropout for every size of `hidden`, then Dense; drawn from `seed` alone.
    Raises UsageError for sizes below 1 or a dropout that is no share.
    """

    name: ClassVar[str] = "residual"

    def __init__(
        self,
        *,
        width: int,
        dim: int,
        hidden: Sequence[int] = (512,),
        optional: Sequence[Sequence[int]] = (),
        anchor: float = 0.0,
        dropout: float = 0.0,
        scale: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(width, dim, hidden)
        if isinstance(scale, bool) or not math.isfinite(scale):
            raise UsageError(f"the scale must be a finite number, not {scale}")
        if not 0 <= dropout < 1:
            raise UsageError(f"the dropout is a share below 1, not {dropout}")
        self.linear = Linear(width=width, dim=dim, optional=optional, anchor=anchor)
        self.width, self.dim, self.hidden = width, dim, tuple(hidden)
        self.dropout, self.scale = dropout, scale
        layers: list[nn.Module] = [nn.LayerNorm(dim)]
        for inputs, outputs in pairwise([dim, *hidden]):
            layers += [nn.Linear(inputs, outputs), nn.GELU(), nn.Dropout(dropout)]
        last = nn.Linear(hidden[-1], dim)
        self.mlp = nn.Sequential(*layers, last)
        generator = torch.Generator().manual_seed(seed)
        for module in self.mlp:
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=generator)
                nn.init.zeros_(module.bias)
        nn.init.zeros_(last.weight)

    def settings(self) -> dict[str, Any]:
        """JSON-able settings for `build_network`."""
        return {
            **self.linear.settings(),
            "hidden": list(self.hidden),
            "dropout": self.dropout,
            "scale": self.scale,
        }

    def parts(self) -> dict[str, nn.Module]:
        """The linear map and the network on top."""
        return {"linear": self.linear, "mlp": self.mlp}

    def fill(self, mean: Tensor, weight: Tensor) -> Residual:
        """Take over the linear map's mean (width,) and weight (directions, width); returns itself."""
        self.linear.fill(mean, weight)
        return self

    def embed(self, x: Tensor) -> Tensor:
        """(n, width) to (n, dim)."""
        y = self.linear.embed(x)
        added: Tensor = self.mlp(y)
        return y + self.scale * added
