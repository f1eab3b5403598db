"""Clusters of samples that overlap, against those of one sample: simulated contigs and their copies.

    python benchmarks/samples.py [--seeds 0,1,2] [--lengths 8000,2000-20000] [--methods infomap,leiden]
                                 [--samples 2,3,5] [--kinds 0,1,trim] [--vectors kin-1]

Six species, order-2 Markov models whose transitions are gamma weights, 40 contigs of each (of a length, or of
lengths between two, logarithmically even). The other samples hold the same contigs again, changed by a kind:

    0, 0.01, 0.1, 1, 3   per cent of the letters substituted, in every sample anew
    trim                 a tenth cut off the ends
    reverse              the reverse complement
    all                  3 %, a tenth cut off, every second one reversed
    each                 1.5 % in every sample, the first among them
    half                 every second contig is another of the same species
    cut                  the species' contigs in a row, cut at other positions

Prints Markdown: clusters, completeness (share of a species' contigs in its commonest cluster) and purity of
the one sample and of the samples together, means over seeds, and the least ratio of completeness to the one
sample's over seeds.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray

import kinmer
from kinmer.clusters import Agreement, agreement_of
from kinmer.simulate import write_record

SPECIES, CONTIGS = 6, 40
KINDS = ("0", "0.01", "0.1", "1", "3", "trim", "reverse", "all", "each", "half", "cut")
LETTERS = np.frombuffer(b"ACGT", np.uint8)
Codes = NDArray[np.uint8]


@njit(cache=True)
def written(cumulative: NDArray[np.float64], draws: NDArray[np.float64]) -> Codes:
    """Letters (n,) 0–3 of a chain whose next letter after two follows `cumulative` (16, 4)."""
    letters, state = np.empty(draws.size, np.uint8), 0
    for place in range(draws.size):
        letter = 0
        while letter < 3 and draws[place] >= cumulative[state, letter]:
            letter += 1
        letters[place] = letter
        state = (4 * state + letter) % 16
    return letters


def world(seed: int, low: int, high: int, contigs: int = CONTIGS) -> list[list[Codes]]:
    """The contigs of every species."""
    species = []
    for number in range(SPECIES):
        rng = np.random.default_rng([seed, number])
        weights = rng.gamma(1.0, size=(16, 4)) + 0.05
        cumulative = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)
        contigs_of = []
        for _ in range(contigs):
            length = int(np.exp(rng.uniform(np.log(low), np.log(high))))
            contigs_of.append(written(cumulative, rng.random(length)))
        species.append(contigs_of)
    return species


def substituted(contig: Codes, share: float, rng: np.random.Generator) -> Codes:
    changed = contig.copy()
    where = rng.random(contig.size) < share
    changed[where] = (changed[where] + rng.integers(1, 4, where.sum())) % 4
    return changed


def trimmed(contig: Codes, rng: np.random.Generator) -> Codes:
    gone = contig.size // 10
    start = int(rng.integers(0, gone + 1))
    return contig[start : contig.size - (gone - start)]


def changed(contig: Codes, kind: str, rng: np.random.Generator) -> Codes:
    """A contig of another sample."""
    if kind == "trim":
        return trimmed(contig, rng)
    if kind == "reverse":
        return 3 - contig[::-1]
    if kind == "all":
        contig = substituted(trimmed(contig, rng), 0.03, rng)
        return 3 - contig[::-1] if rng.random() < 0.5 else contig
    return substituted(contig, float(kind) / 100, rng)


def samples_of(seed: int, low: int, high: int, kind: str, samples: int) -> list[list[list[Codes]]]:
    """Contigs by sample and species; the first sample is the one that stands for itself."""
    first = world(seed, low, high)
    found, rng = [first], np.random.default_rng(seed + 1000)
    others = world(seed, low, high, contigs=CONTIGS * samples) if kind == "half" else []
    for number in range(1, samples):
        sample = []
        for species, contigs in enumerate(first):
            if kind == "half":
                fresh = others[species][number * CONTIGS : (number + 1) * CONTIGS]
                sample.append(contigs[::2] + fresh[1::2])
            elif kind == "cut":
                row = np.concatenate(contigs)
                edges = np.sort(rng.choice(np.arange(low, row.size - low), CONTIGS - 1, replace=False))
                sample.append([one for one in np.split(row, edges) if one.size >= 1000])
            elif kind == "each":
                sample.append([changed(one, "1.5", rng) for one in contigs])
            else:
                sample.append([changed(one, kind, rng) for one in contigs])
        found.append(sample)
    if kind == "each":
        found[0] = [[changed(one, "1.5", rng) for one in contigs] for contigs in first]
    return found


def clustered(samples: list[list[list[Codes]]], methods: list[str], vectors: str) -> dict[str, Agreement]:
    """Agreement with species by method."""
    labels = []
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / "all.fna", Path(folder) / "all.zarr"
        with path.open("wb") as fasta:
            for number, sample in enumerate(samples):
                for species, contigs in enumerate(sample):
                    for place, one in enumerate(contigs):
                        write_record(fasta, f"s{number}_{species}_{place}", LETTERS[one].tobytes())
                        labels.append(str(species))
        kinmer.count(path, store, coding=vectors == "kin-1")
        if vectors != "raw":
            kinmer.embed(store, vectors)
        known = pd.Series(labels)
        found = {}
        for method in methods:
            made = kinmer.cluster(
                store, vectors="raw" if vectors == "raw" else "X_kinmer", method=method, keep=False
            )
            agreed = agreement_of(made.cluster, known, rank="species")
            assert agreed is not None
            # Clusters of two and more.
            found[method] = agreed._replace(clusters=made.clusters)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in (
        ("seeds", "0,1,2"),
        ("lengths", "8000"),
        ("methods", "infomap,leiden"),
        ("samples", "2,3,5"),
        ("kinds", ",".join(KINDS)),
    ):
        parser.add_argument(f"--{name}", default=default, type=lambda text: text.split(","))
    parser.add_argument("--vectors", default="kin-1")
    args = parser.parse_args()
    print("| length | method | samples | kind | clusters | completeness | purity | least ratio |")
    print("| --- |" + " --- |" * 7)

    def line(length: str, method: str, number: str, kind: str, made: list[Agreement], ratio: str) -> None:
        figures = (
            np.mean([getattr(one, name) for one in made])
            for name in ("clusters", "completeness_share", "purity")
        )
        cells = "{:.1f} | {:.3f} | {:.3f}".format(*figures)
        print(f"| {length} | {method} | {number} | {kind} | {cells} | {ratio} |", flush=True)

    for length in args.lengths:
        low, high = (int(one) for one in (length.split("-") * 2)[:2])
        single = [
            clustered(samples_of(int(seed), low, high, "0", 1), args.methods, args.vectors)
            for seed in args.seeds
        ]
        for method in args.methods:
            line(length, method, "1", "", [one[method] for one in single], "")
        for kind, number in itertools.product(args.kinds, args.samples):
            made = [
                clustered(samples_of(int(seed), low, high, kind, int(number)), args.methods, args.vectors)
                for seed in args.seeds
            ]
            for method in args.methods:
                least = min(
                    one[method].completeness_share / alone[method].completeness_share
                    for one, alone in zip(made, single, strict=True)
                )
                line(length, method, number, kind, [one[method] for one in made], f"{least:.3f}")


if __name__ == "__main__":
    main()
