"""From FASTA to kin in Python, on a small simulated community; CI runs this file.

Every step also is a command; see docs/commands.md. Run it with ``python docs/example.py``.
"""

# %% A community as FASTA files with a taxonomy. Use your own files instead.
import tempfile
from pathlib import Path

import anndata

import kinmer
from kinmer.simulate import Community

folder = Path(tempfile.mkdtemp())
community = Community(phyla=2, genera=1, species=2, chromosome=120_000, seed=1)
kinmer.write_community(folder / "genomes", community=community)
files = sorted((folder / "genomes").rglob("*.fna"))

# %% Cut them into fragments that carry their labels.
pieces, labels = folder / "pieces.fna", folder / "genomes" / "taxonomy.tsv"
kinmer.fragment(files, pieces, length=(2_000, 20_000), number=600, labels=labels)

# %% Canonical k-mer counts: AnnData in memory, or a store on disk that AnnData opens.
profiles = kinmer.count([pieces])
print(profiles)
store = kinmer.count([pieces], folder / "pieces.zarr")
assert (anndata.read_zarr(folder / "pieces.zarr").X == profiles.X).all()

# %% An encoder, and the embedding of every sequence.
settings = kinmer.TrainSettings(latent=32, hidden=(256, 128), epochs=6, batch=64, learning_rate=1e-3)
encoder = kinmer.train(store, folder / "encoder", settings=settings, log=print)
kinmer.embed(folder / "pieces.zarr", folder / "encoder")
kinmer.embed(profiles, encoder)
print(profiles.obsm["X_kinmer"].shape)

# %% An index with the taxonomy, and the nearest relatives of some sequences.
kinmer.build_index(folder / "pieces.zarr", folder / "kin.db", metadata=folder / "pieces.fna.tsv")
right = total = 0
with kinmer.open_index(folder / "kin.db") as index:
    species = index.metadata["species"]
    for result in kinmer.search(pieces, index, k=5, exclude_self=True):
        right += result.hits[0].metadata["species"] == species[result.id]
        total += 1
print(f"the nearest other piece is of the same species for {right / total:.0%} of {total} pieces")

# %% Does latent distance mean k-mer distance?
report = kinmer.verify(store, encoder=encoder, queries=100, k=20, bootstrap=200)
print(report.table())
