"""Linear encoders in NumPy: a matrix product, or some columns as they are."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, NamedTuple, Protocol, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, UsageError
from kinmer.resources import on_threads, one_blas_thread, working_threads

Floats = NDArray[np.float32]
Transform = Callable[[Any], Any]

# Of a network that is read: a network's settings are believed before its weights are seen.
MOST_LAYERS, LARGEST_LAYER, MOST_WEIGHTS = 64, 1 << 20, 1 << 32
# Transformed values of a block without a count are no larger than this; of one with a count, one is.
NOTHING = 1e-3
# A layout has two blocks that a sequence may lack.
MOST_SPANS = 100
# Rows that a thread transforms and multiplies at a time.
BLOCK = 128


def _whole(value: object) -> TypeGuard[int]:
    """Whether a setting is a whole number; True and False, which Python counts as such, are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def check_sizes(width: object, dim: object, hidden: Sequence[object] | None = None) -> None:
    """Raise UsageError for sizes of layers, from the profile to the vector, that no network has.

    hidden : None: there are none between; else at least one.
    """
    if hidden is not None and not (isinstance(hidden, list | tuple) and 1 <= len(hidden) <= MOST_LAYERS):
        number = len(hidden) if isinstance(hidden, list | tuple) else 0
        raise UsageError(f"layer sizes of {number:,} hidden layers", f"1 to {MOST_LAYERS} are possible")
    sizes = [width, *(hidden or ()), dim]
    bad = [
        size for size in sizes if not (isinstance(size, int) and _whole(size) and 1 <= size <= LARGEST_LAYER)
    ]
    if bad:
        shown = str(bad[0])[:40]
        raise UsageError(f"layer sizes must be whole numbers from 1 to {LARGEST_LAYER:,}, not {shown}")
    counts = [size for size in sizes if isinstance(size, int)]
    if (weights := sum(a * b for a, b in pairwise(counts))) > MOST_WEIGHTS:
        raise UsageError(f"the layers need {weights:,} weights", f"{MOST_WEIGHTS:,} are possible")


class Layer(NamedTuple):
    """A layer of a network, as `summary` shows it."""

    part: str
    name: str
    kind: str
    outputs: int
    parameters: int


class EncoderNetwork(Protocol):
    """What an encoder asks of its network, whether NumPy or PyTorch computes it."""

    name: ClassVar[str]
    width: int
    dim: int

    @property
    def place(self) -> str:
        """The device that holds the weights."""

    def settings(self) -> dict[str, Any]:
        """JSON-able settings that rebuild it."""

    def weights(self) -> dict[str, NDArray[Any]]:
        """All weights, by name."""

    def layers(self) -> Iterable[Layer]:
        """Every layer of every part, in order."""

    def ready(self, device: str, precision: str) -> tuple[str, EncoderNetwork]:
        """The device's full name, and the network as it embeds there."""

    def vectors(self, profiles: NDArray[Any], transform: Transform) -> Floats:
        """(n, width) counts or frequencies to (n, dim) vectors; `transform` is applied in between."""


class _Fixed:
    """What `Projection` and `Columns` share: they embed on the CPU, tile by tile."""

    name: ClassVar[str]
    width: int
    dim: int

    @property
    def place(self) -> str:
        """The device that holds the weights."""
        return "cpu"

    def ready(self, device: str, precision: str) -> tuple[str, Self]:
        """The CPU, and the map itself."""
        return "cpu", self

    def weights(self) -> dict[str, NDArray[Any]]:
        """All weights, by name."""
        return {}

    def layers(self) -> list[Layer]:
        """The map itself, a single layer."""
        parameters = sum(array.size for array in self.weights().values())
        return [Layer(self.name, "", type(self).__name__, self.dim, parameters)]

    def embed(self, x: Floats) -> Floats:
        """(n, width) transformed profiles to (n, dim) vectors."""
        raise NotImplementedError

    def vectors(self, profiles: NDArray[Any], transform: Transform) -> Floats:
        """(n, width) counts or frequencies to (n, dim) vectors, the same in whatever company a row comes."""
        result = np.empty((len(profiles), self.dim), np.float32)

        def embed_from(start: int) -> None:
            rows = slice(start, start + BLOCK)
            # Values that cannot be embedded give NaN or infinity, and the encoder refuses these.
            with np.errstate(all="ignore"):
                result[rows] = self.embed(transform(np.ascontiguousarray(profiles[rows], np.float32)))

        if len(profiles) <= BLOCK:
            embed_from(0)
            return result
        with one_blas_thread():
            on_threads(embed_from, range(0, len(profiles), BLOCK), working_threads())
        return result


class Columns(_Fixed):
    """Some columns as they are: the raw profile after the transform, or one block of it."""

    name: ClassVar[str] = "columns"

    def __init__(self, *, width: int, start: int, stop: int) -> None:
        if not all(_whole(value) for value in (width, start, stop)) or not 0 <= start < stop <= width:
            raise UsageError(f"columns {start} to {stop} of {width} make no vector")
        self.width, self.dim, self.start, self.stop = width, stop - start, start, stop

    def settings(self) -> dict[str, Any]:
        """JSON-able settings that rebuild it."""
        return {"width": self.width, "start": self.start, "stop": self.stop}

    def shapes(self) -> dict[str, list[int]]:
        """Of the weights: there are none."""
        return {}

    def load(self, weights: Mapping[str, NDArray[Any]]) -> Self:
        """Take over weights that were read; returns the network itself."""
        return self

    def embed(self, x: Floats) -> Floats:
        """(n, width) transformed profiles to (n, dim) vectors."""
        return x[:, self.start : self.stop]


class Projection(_Fixed):
    """``(x - mean) @ weight.T``: principal components or discriminant directions.

    optional : spans ``(start, stop)`` of columns that a sequence may lack altogether (no reading frame was
        found). The CLR leaves them zero but for rounding, which no counted block is; they are put at the
        mean, where they say nothing.
    anchor : above 0, the last coordinate of every vector is this constant. Vectors near the mean, whose
        direction is mostly noise, then lie together, and cosine ranks more as Euclidean distance does.
    """

    name: ClassVar[str] = "linear"

    def __init__(
        self, *, width: int, dim: int, optional: Sequence[Sequence[int]] = (), anchor: float = 0.0
    ) -> None:
        check_sizes(width, dim)
        if len(optional) > MOST_SPANS or not all(_whole(value) for span in optional for value in span):
            raise UsageError(f"the {len(optional)} spans that may be lacking must be whole numbers")
        spans = [(start, stop) for start, stop in optional]
        directions = dim - (anchor > 0)
        if width < 1 or directions < 1 or not all(0 <= start < stop <= width for start, stop in spans):
            raise UsageError(f"a map from {width} to {dim} dimensions with spans {spans} cannot be built")
        if isinstance(anchor, bool) or not 0 <= anchor < math.inf:
            raise UsageError(f"the anchor must be a number of at least 0, not {anchor}")
        self.width, self.dim, self.optional, self.anchor = width, dim, spans, float(anchor)
        self.directions, self._bf16 = directions, False
        self.mean: Floats = np.empty(0, np.float32)
        self.weight: Floats = np.empty((0, 0), np.float32)
        # In float64, and the norms of its rows.
        self._factors, self._norms = np.empty((0, 0)), np.empty(0)

    def settings(self) -> dict[str, Any]:
        """JSON-able settings that rebuild it."""
        spans = [list(span) for span in self.optional]
        return {"width": self.width, "dim": self.dim, "optional": spans, "anchor": self.anchor}

    def shapes(self) -> dict[str, list[int]]:
        """Of the weights, by name."""
        return {"mean": [self.width], "weight": [self.directions, self.width]}

    def weights(self) -> dict[str, NDArray[Any]]:
        """All weights, by name."""
        return {"mean": self.mean, "weight": self.weight}

    def load(self, weights: Mapping[str, NDArray[Any]]) -> Self:
        """Take over ``mean`` (width,) and ``weight`` (directions, width); returns the map itself."""
        self.mean, self.weight = (np.asarray(weights[name], np.float32) for name in ("mean", "weight"))
        self._prepare(self.weight)
        return self

    def _prepare(self, weight: Floats) -> None:
        self._factors = weight.astype(np.float64)
        self._norms = np.linalg.norm(self._factors, axis=1)

    def ready(self, device: str, precision: str) -> tuple[str, Projection]:
        """The CPU, and the map as it embeds there: for bf16 with a rounded weight."""
        if precision == "fp32":
            return "cpu", self
        rounded = copy.copy(self)
        rounded._bf16 = True
        rounded._prepare(_bfloat16(self.weight))
        return "cpu", rounded

    def embed(self, x: Floats) -> Floats:
        """(n, width) transformed profiles to (n, dim) vectors."""
        centered = x - self.mean
        for start, stop in self.optional:
            counted = np.abs(x[:, start:stop]).max(axis=1, keepdims=True) > NOTHING
            centered[:, start:stop] *= counted
        vectors = np.full((len(x), self.dim), self.anchor, np.float32)
        vectors[:, : self.directions] = self._product(_bfloat16(centered) if self._bf16 else centered)
        return _bfloat16(vectors) if self._bf16 else vectors

    def _product(self, centered: Floats) -> Floats:
        """Product with the weight, (n, directions), to the last bit the same for a row in any company.

        The order in which a BLAS adds depends on where a row stands and on its number of threads. The float64
        product is right to within `error` (Higham 2002, section 3.1, with Cauchy-Schwarz); where that leaves
        two float32 values to choose from, the sum in a fixed order decides.
        """
        x = centered.astype(np.float64)
        product = x @ self._factors.T
        # Of the product, and of NumPy's pairwise sum, which adds fewer than 100 roundings.
        roundings = (self.width + 100) * np.finfo(np.float64).eps / 2
        error = roundings * np.outer(np.linalg.norm(x, axis=1), self._norms)
        result = (product - error).astype(np.float32)
        for row, column in np.argwhere(result < (product + error).astype(np.float32)):
            result[row, column] = (x[row] * self._factors[column]).sum()
        return result


def _bfloat16(values: Floats) -> Floats:
    """float32 values, each rounded to the nearest that bfloat16 holds."""
    bits = np.ascontiguousarray(values).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32)


def summary(network: EncoderNetwork) -> str:
    """A table of layers, output sizes and parameters, with the totals of every part."""
    layers = list(network.layers())
    lines = [f"{'layer':<28}{'kind':<14}{'output':>8}{'parameters':>14}"]
    lines += [
        f"{f'{layer.part}.{layer.name}'.rstrip('.'):<28}{layer.kind:<14}{layer.outputs:>8}{layer.parameters:>14,}"
        for layer in layers
    ]
    for part in dict.fromkeys(layer.part for layer in layers):
        total = sum(layer.parameters for layer in layers if layer.part == part)
        lines.append(f"{part:<50}{total:>14,}")
    return "\n".join([*lines, f"{'total':<50}{sum(layer.parameters for layer in layers):>14,}"])


LINEAR: dict[str, type[Columns] | type[Projection]] = {kind.name: kind for kind in (Columns, Projection)}
KNOWN = ("columns", "linear", "vae")


def build(registry: Mapping[str, type[Any]], name: str, settings: Mapping[str, Any]) -> Any:
    """The network `name` of a registry with `settings`; FormatError where either is unknown."""
    if name == "residual":
        raise FormatError(
            "this version no longer reads networks of the name 'residual'",
            "they were trained on pairs of fragments, which is gone",
            "read it with kinmer 0.1, or make an encoder with kinmer fit",
        )
    if name not in registry:
        raise FormatError(f"the network {name!r} is unknown", check=f"this version knows {', '.join(KNOWN)}")
    try:
        return registry[name](**settings)
    except (TypeError, ValueError, OverflowError, RuntimeError, UsageError) as error:
        raise FormatError(f"the settings of the network {name!r} cannot be used", str(error)) from error
