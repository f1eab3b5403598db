"""A store in scanpy: neighbours, Leiden and plots work on it as it is; CI runs this file.

A profile store is an AnnData: sequences are its observations, features of the profile its variables, and the
embedding lies in ``obsm["X_kinmer"]``. Run it with ``python docs/scanpy_example.py``.
"""

# %% A store with embeddings: a simulated community here. Use your own store instead.
import tempfile
from pathlib import Path

import anndata
import pandas as pd
import scanpy as sc
from sklearn.metrics import v_measure_score

import kinmer
from kinmer.simulate import Community

folder = Path(tempfile.mkdtemp())
community = Community(phyla=2, genera=2, species=2, chromosome=120_000, seed=1)
kinmer.write_community(folder / "genomes", community=community)
files = sorted((folder / "genomes").rglob("*.fna"))
pieces, labels = folder / "pieces.fna", folder / "genomes" / "taxonomy.tsv"
kinmer.fragment(files, pieces, length=(3_000, 20_000), number=800, labels=labels)
kinmer.count([pieces], folder / "pieces.zarr", coding=True)
kinmer.embed(folder / "pieces.zarr")

# %% Open it, and join what is known of the sequences.
adata = anndata.read_zarr(folder / "pieces.zarr")
known = pd.read_csv(folder / "pieces.fna.tsv", sep="\t", index_col="id", dtype=str)
adata.obs = adata.obs.join(known[["species", "genus"]])
print(adata)

# %% Neighbours and communities of the embedding: cosine, as everywhere in kinmer.
sc.pp.neighbors(adata, use_rep="X_kinmer", metric="cosine", n_neighbors=10)
sc.tl.leiden(adata, resolution=2, flavor="igraph", directed=False, n_iterations=2)
print(f"{adata.obs['leiden'].nunique()} communities of {adata.obs['species'].nunique()} species")
print(f"V-measure {v_measure_score(adata.obs['species'], adata.obs['leiden']):.2f}")

# %% A map, coloured by what you like; kinmer's own is in obsm["X_tsne"] after kinmer map.
sc.tl.umap(adata, random_state=0)
figure = sc.pl.umap(adata, color=["leiden", "genus", "gc"], show=False, return_fig=True)
figure.savefig(folder / "umap.png", bbox_inches="tight")
print(f"written: {folder / 'umap.png'}")
