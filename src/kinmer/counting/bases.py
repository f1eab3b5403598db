"""How long a sequence is for all that its length decides: by what was counted of it, not by its letters."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.layout import Layout

__all__ = ["bases_of", "counted_of"]


def bases_of(counts: NDArray[Any], layout: Layout) -> NDArray[np.int64]:
    """(n,) A, C, G, T of sequences, from their profiles of counts (n, width)."""
    return np.asarray(counts[:, layout.bases.columns].sum(axis=1, dtype=np.int64))


def counted_of(counts: NDArray[Any], layout: Layout) -> NDArray[np.int64]:
    """(n,) bases of the gapless sequence that would have as many k-mers of the largest k; 0 without any.

    The bases themselves, less what stands in runs too short for a k-mer, and k - 1 for every gap.
    """
    block = layout.blocks[0]
    windows = counts[:, block.columns].sum(axis=1, dtype=np.int64)
    return np.where(windows > 0, windows + block.k - 1, 0)
