"""Labelled, seeded fragments of FASTA: for training, and benchmarks of retrieval with their folds."""

from kinmer.fragments.benchmarks import Benchmark, BenchmarkReport, benchmark, open_benchmark
from kinmer.fragments.cuts import FragmentReport, fragment
from kinmer.fragments.labels import Labels, read_labels

__all__ = [
    "Benchmark",
    "BenchmarkReport",
    "FragmentReport",
    "Labels",
    "benchmark",
    "fragment",
    "open_benchmark",
    "read_labels",
]
