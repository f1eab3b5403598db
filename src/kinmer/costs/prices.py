"""What one unit of each step costs: the one table of measured figures (docs/scale.md)."""

from __future__ import annotations

from dataclasses import dataclass

# Seconds of `kinmer.costs.machine.work` on a core of the machine that the prices were measured on.
WORK_SECONDS = 0.025
# Dimensions of the vectors that were priced; a row costs by its numbers.
DIM = 512


# Rows that are embedded, and that an engine takes in, at a time.
BATCH_ROWS, BLOCK_ROWS = 1 << 12, 1 << 16


@dataclass(frozen=True)
class Price:
    """What a step of some units takes.

    cpu : seconds on one core for units ** exponent. parallel : share of it that threads divide. memory :
    bytes for each unit while the step runs. disk : bytes for each unit that it writes.
    """

    cpu: float = 0.0
    exponent: float = 1.0
    parallel: float = 0.0
    memory: float = 0.0
    disk: float = 0.0


# Units: commands, letters, sequences, rows (vectors), pairs, points, points times iterations, queries.
PRICES = {
    # Python, NumPy, compiled kernels; what is held whatever the input.
    "start": Price(cpu=0.9, memory=330e6),
    "start of a search": Price(cpu=1.1, memory=360e6),
    "start of a map": Price(cpu=1.9, memory=400e6, disk=7e5),
    "start of a clustering": Price(cpu=0.9, memory=460e6),
    # An index has its encoder in it.
    "start of an index": Price(cpu=1.0, memory=330e6, disk=9e6),
    # Reading FASTA: letters of compressed files, and of all.
    "unpacking": Price(cpu=1.1e-9, parallel=1.0),
    # Files that are committed one by one.
    "files": Price(cpu=25e-3, parallel=0.3),
    "k-mers": Price(cpu=1.2e-9, parallel=0.8),
    "reading frames": Price(cpu=7.5e-9, parallel=0.9),
    # Rows of a profile store, those of a block of FASTA, and the sum of lengths to the PROFILE_EXPONENT.
    "profiles": Price(cpu=24e-6, parallel=0.7),
    "rows of a block": Price(memory=16e3),
    "profile bytes": Price(disk=280),
    "profile bytes with frames": Price(disk=375),
    "embedding": Price(cpu=115e-6, parallel=0.8),
    "rows of a batch": Price(memory=20e3),
    "embeddings kept": Price(disk=2112),
    # Rows of an index with checksums and metadata, and a graph of neighbors over float16 (Malkov and Yashunin
    # 2018), which takes in BLOCK_ROWS of them at a time.
    "entries": Price(cpu=34e-6, disk=40),
    "vectors kept": Price(disk=2048),
    "vectors kept in bytes": Price(disk=516),
    "metadata": Price(disk=250),
    "graph": Price(cpu=1.14e-5, exponent=1.3, parallel=0.95, memory=2900),
    "rows of the graph's block": Price(memory=11.5e3),
    "graph kept": Price(disk=1500),
    "sketches": Price(cpu=20e-9, parallel=0.8),
    "hashes": Price(disk=14),
    "letters kept": Price(cpu=0.5e-9, disk=0.25),
    "genomes": Price(cpu=5e-3),
    # Fragments of a calibration, and what they are compared with.
    "fragments": Price(cpu=7e-3, parallel=0.1, memory=450e3),
    "fragments and rows": Price(cpu=6.5e-8, parallel=0.5),
    "neighbors of all pairs": Price(cpu=2.6e-8, parallel=0.9),
    "neighbors": Price(cpu=1.4e-4, exponent=1.05, parallel=0.95),
    "affinities": Price(cpu=40e-6, parallel=0.5, memory=4000),
    "iterations": Price(cpu=0.02, parallel=0.5),
    "points moved": Price(cpu=0.87e-6, parallel=0.9),
    "picture and page": Price(cpu=45e-6, memory=3000, disk=130),
    "communities": Price(cpu=8.9e-5, exponent=1.15, memory=7000, disk=60),
    "database": Price(memory=2300),
    "queries": Price(cpu=1.95e-3, parallel=0.5, disk=340),
    # Queries that wait until the sample is known.
    "queries that wait": Price(memory=150e3),
}
# A row of counts takes as many bytes as its letters to this power: longer sequences have larger counts.
PROFILE_EXPONENT = 0.2
