"""Small tables of profiles with known organisms, for the tests of networks, training and embedding."""

from __future__ import annotations

import numpy as np
import pandas as pd
from anndata import AnnData

from kinmer.clr import Clr
from kinmer.encoder import Encoder
from kinmer.layout import kmer_layout
from kinmer.networks import Vae

__all__ = ["encoder_of", "organisms"]


def organisms(rows: int, *, max_k: int = 3, kinds: int = 8, seed: int = 0, values: str = "counts") -> AnnData:
    """Counts of sequences of 1-50 kb drawn from `kinds` composition vectors; ``obs["kind"]`` tells which."""
    rng = np.random.default_rng(seed)
    layout = kmer_layout(max_k)
    kind = np.sort(rng.integers(0, kinds, rows))
    length = np.exp(rng.uniform(np.log(1e3), np.log(5e4), rows))
    X = np.empty((rows, layout.width), np.uint32)
    for block in layout.blocks:
        share = rng.dirichlet(np.full(block.size, 2.0), kinds)
        X[:, block.columns] = rng.poisson(share[kind] * length[:, None]) + (block.k == 1)
    obs = pd.DataFrame(
        {"kind": kind, "length": length.astype(np.int64)}, index=[f"s{i}" for i in range(rows)]
    )
    table = AnnData(X, obs=obs, var=pd.DataFrame(index=list(layout.features)))
    if values == "frequencies":
        shares = X.astype(np.float32)
        for block in layout.blocks:
            shares[:, block.columns] /= shares[:, block.columns].sum(axis=1, keepdims=True)
        table.X = shares
    return table


def encoder_of(max_k: int = 3, *, dim: int = 8, seed: int = 0, clr: Clr | None = None) -> Encoder:
    """An untrained encoder of the layout 1 … `max_k`."""
    layout = kmer_layout(max_k)
    network = Vae(width=layout.width, latent=dim, hidden=(32, 16), seed=seed)
    return Encoder(network, layout, clr or Clr(), metrics=[{"epoch": 1}], card="# A card\n")
