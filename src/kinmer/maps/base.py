"""A map: coordinates with all that is known of the sequences and of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import UsageError

__all__ = ["KEYS", "MapResult", "Method", "check_method", "need"]

Method = Literal["tsne", "umap"]
KEYS: dict[str, str] = {"tsne": "X_tsne", "umap": "X_umap"}


@dataclass(frozen=True)
class MapResult:
    """A map of n sequences.

    Attributes
    ----------
    ids : (n,) str, unique.
    coordinates : (n, 2) float32.
    obs : (n rows, index = ids) what is known of the sequences.
    method : ``tsne`` or ``umap``.
    settings : what it was made with: perplexity, neighbours, iterations, metric, seed, …
    source : where the points come from: place, vectors, encoder, fingerprint of ids and vectors.
    divergence : Kullback–Leibler divergence in nats (t-SNE), or None.
    notes : what a reader should know, such as a perplexity that was lowered.
    """

    ids: NDArray[np.object_]
    coordinates: NDArray[np.float32]
    obs: pd.DataFrame
    method: str
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    divergence: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> str:
        """The name under which the coordinates stand in ``obsm``."""
        return KEYS[self.method]


def check_method(method: str) -> None:
    """UsageError where there is no such method, or it is not installed."""
    if method not in get_args(Method):
        raise UsageError(f"the method must be one of {', '.join(get_args(Method))}, not {method!r}")
    need("openTSNE" if method == "tsne" else "umap", "explore" if method == "tsne" else "umap")


def need(module: str, extra: str) -> None:
    """UsageError where a library of an extra is not there."""
    if find_spec(module) is None:
        raise UsageError(f"{module} is not installed", "maps need it", f"pip install 'kinmer[{extra}]'")
