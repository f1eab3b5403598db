"""The centered log-ratio transform of profiles.

Aitchison, J. (1982). The statistical analysis of compositional data. Journal of the Royal Statistical
Society B 44, 139–160.
"""

from __future__ import annotations

import math
import sys
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

import numpy as np

from kinmer.errors import FormatError, ProfileError, UsageError
from kinmer.layout import Layout

Scope = Literal["block", "joint"]
Pseudocount = Literal["relative", "constant", "counts"]
Array = TypeVar("Array")

# Rows of this many values (2 MB in float32) stay in the cache of one core from the first pass to the last.
CACHE_VALUES = 1 << 19


@dataclass(frozen=True, kw_only=True)
class Clr:
    """ln(x + pseudocount) minus its mean over a scope, where x are the frequencies of each block.

    Every block is first divided by its sum, so that counts and frequencies give the same; a block without
    any count stays zero (all its features are then equal: 0, the center, where it is centered on its own).

    Parameters
    ----------
    scope : Scope
        "block", every block centered on its own (each k is a composition of its own), or "joint", one
        center for all features of a row (the original pipeline's).
    pseudocount : Pseudocount
        What is added before the logarithm.
        "relative": `value` / n to the frequencies of a block of n features (0.5: the weight of half a count
        per feature in a block of n counts, whatever the sequence's length).
        "constant": `value` to the frequencies.
        "counts": `value` to the counts, before they are divided by their sum (0.5: Jeffreys' prior); its
        weight depends on the sequence's length, and frequencies will not do.
    value : float
        Above 0.

    Notes
    -----
    Raises UsageError for settings that are none of these.
    """

    scope: Scope = "block"
    pseudocount: Pseudocount = "relative"
    value: float = 0.5

    def __post_init__(self) -> None:
        if self.scope not in ("block", "joint"):
            raise UsageError(f"the CLR's scope is block or joint, not {self.scope!r}")
        if self.pseudocount not in ("relative", "constant", "counts"):
            raise UsageError(
                f"the CLR's pseudocount is relative, constant or counts, not {self.pseudocount!r}"
            )
        if not (isinstance(self.value, (int, float)) and math.isfinite(self.value) and self.value > 0):
            raise UsageError(
                f"the CLR's pseudocount must be above 0, not {self.value!r}", "0 has no logarithm"
            )

    def __call__(self, profiles: Array, layout: Layout, values: str = "counts") -> Array:
        """Transform (n, layout.width) counts or frequencies to float32 of the same shape.

        profiles : NumPy array or torch tensor; the result is of the same kind, on the same device, and the
            input is left as it is.
        values : "counts" or "frequencies", what `profiles` holds.

        Raises ProfileError where the columns are not the layout's, or where the pseudocount belongs to
        counts and `profiles` holds frequencies.
        """
        self.check_values(values)
        shape: tuple[int, ...] = tuple(profiles.shape)  # type: ignore[attr-defined]
        if len(shape) != 2 or shape[1] != layout.width:
            raise ProfileError(f"profiles of shape {shape} do not fit the layout's {layout.width} columns")
        # PyTorch takes NumPy's names of axes, and who hands over a tensor has imported it.
        xp: Any = np if isinstance(profiles, np.ndarray) else sys.modules["torch"]
        device = "cpu" if xp is np else profiles.device  # type: ignore[attr-defined]
        result = xp.empty(shape, dtype=xp.float32, device=device)
        rows = max(1, CACHE_VALUES // layout.width) if str(device).startswith("cpu") else max(1, shape[0])
        for start in range(0, shape[0], rows):
            self._transform(xp, profiles[start : start + rows], layout, result[start : start + rows])  # type: ignore[index]
        return result  # type: ignore[no-any-return]

    def check_values(self, values: str) -> None:
        """Raise ProfileError where these values cannot be transformed."""
        if values not in ("counts", "frequencies"):
            raise UsageError(f"profiles hold counts or frequencies, not {values!r}")
        if self.pseudocount == "counts" and values == "frequencies":
            raise ProfileError(
                "these profiles are frequencies, the encoder's pseudocount is added to counts",
                "how many k-mers a frequency stands for is not known",
                "count the sequences again with kinmer count, or use the pseudocount relative or constant",
            )

    def _transform(self, xp: Any, profiles: Any, layout: Layout, out: Any) -> None:
        """Fill the float32 `out`, in place and in few passes."""
        out[...] = profiles
        for block in layout.blocks:
            part = out[:, block.columns]
            total = xp.sum(part, axis=1, keepdims=True)
            if self.pseudocount == "counts":
                part += self.value
                part /= total + self.value * block.size
            else:
                part /= xp.where(total == 0, xp.ones_like(total), total)
                part += self.value / block.size if self.pseudocount == "relative" else self.value
        _log_in_place(xp, out)
        spans = (
            [slice(0, layout.width)] if self.scope == "joint" else [block.columns for block in layout.blocks]
        )
        for span in spans:
            part = out[:, span]
            part -= xp.mean(part, axis=1, keepdims=True)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Clr:
        """Inverse of `to_dict`; raises FormatError for anything else."""
        try:
            return cls(**data)
        except (TypeError, UsageError) as error:
            raise FormatError("the transform cannot be read", str(error)) from error


def _log_in_place(xp: Any, values: Any) -> None:
    if hasattr(values, "log_"):  # torch
        values.log_()
    else:
        xp.log(values, out=values)


REFERENCE_CLR = Clr(scope="joint", pseudocount="constant", value=1e-6)
