"""Reading frames: pace of the coding kernel, beside pyrodigal (meta mode) where it is installed.

    python benchmarks/coding.py GENOMES.fna.gz …          # FASTA files, or a folder of *.fna.gz

Figures are letters per processor second of one thread, the best of `--repeats` runs. pyrodigal calls genes
on pieces of the same sequences; then the numbers of codons of both and the cosine of their counts are told.
"""

from __future__ import annotations

import argparse
import gzip
import os
import platform
import random
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from kinmer.kmers import KmerCounter
from kinmer.layout import GeneticCode, kmer_layout, profile_layout


def sequences_of(paths: list[Path], letters: int) -> list[bytes]:
    """Whole sequences of the files, wrapped as they are, up to so many letters."""
    files = [file for path in paths for file in (sorted(path.glob("*.fna.gz")) if path.is_dir() else [path])]
    random.Random(1).shuffle(files)
    taken: list[bytes] = []
    for file in files:
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            taken += [one.split(b"\n", 1)[1] for one in lines.read().split(b">")[1:]]
        if sum(map(len, taken)) > letters:
            break
    return taken


def best(work: Callable[[], Any], repeats: int) -> float:
    """Least processor seconds of several runs."""
    spent = []
    for _ in range(repeats):
        started = time.process_time()
        work()
        spent.append(time.process_time() - started)
    return min(spent)


def kernel_table(sequences: list[bytes], repeats: int) -> None:
    """Pace of k-mers alone, and with reading frames, whole sequences and contigs of 5 kb."""
    plain = [b"".join(one.split()) for one in sequences]
    contigs = [one[i : i + 5000] for one in plain for i in range(0, len(one) - 4999, 5000)]
    codes: tuple[GeneticCode, ...] = ("auto", 11, 4)
    print("Mbp per processor second")
    for name, chosen in (("whole", sequences), ("5 kb", contigs)):
        total = sum(map(len, chosen))
        alone = best(lambda chosen=chosen: KmerCounter(kmer_layout(6)).count_sequences(chosen), repeats)  # type: ignore[misc]
        print(f"  {name:<6} k-mers alone        {total / alone / 1e6:8,.0f}")
        for code in codes:
            counter = KmerCounter(profile_layout(6, coding=True, genetic_code=code))
            both = best(lambda chosen=chosen, counter=counter: counter.count_sequences(chosen), repeats)  # type: ignore[misc]
            print(
                f"  {name:<6} with frames, {code!s:<5} {total / both / 1e6:8,.0f}"
                f"   the frames alone {total / max(both - alone, 1e-9) / 1e6:8,.0f}"
            )


def frames_beside_genes(sequences: list[bytes], letters: int) -> None:
    """What pyrodigal costs, and how far codon counts of both agree, in pieces of 1, 5 and 50 kb."""
    import pyrodigal

    finder = pyrodigal.GeneFinder(meta=True)
    layout = profile_layout(1, coding=True, genetic_code=11)
    block = next(block for block in layout.blocks if block.kind == "codon")
    names = [name.removeprefix("codon:") for name in layout.features[block.columns]]
    places = {name: place for place, name in enumerate(names)}
    rng = random.Random(2)
    whole = [b"".join(one.split()) for one in sequences]
    print("length   pyrodigal Mbp per processor second   codons: segments / genes   cosine of the two")
    for length in (1000, 5000, 50_000):
        long = [one for one in whole if len(one) >= length]
        pieces = []
        for _ in range(max(20, letters // length)):
            text = rng.choices(long, [len(one) for one in long])[0]
            start = rng.randrange(len(text) - length + 1)
            pieces.append(text[start : start + length])
        found: list[Any] = []
        spent = best(lambda pieces=pieces, found=found: found.extend(map(finder.find_genes, pieces)), 1)  # type: ignore[misc]
        mine = KmerCounter(layout).count_sequences(pieces).counts[:, block.columns].astype(float)
        theirs = np.zeros_like(mine)
        for row, genes in enumerate(found):
            for gene in genes:
                text = gene.sequence()
                for i in range(0, len(text) - 2, 3):
                    if text[i : i + 3] in places:
                        theirs[row, places[text[i : i + 3]]] += 1
        norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
        cosine = (mine * theirs).sum(axis=1)[norms > 0] / norms[norms > 0]
        print(
            f"{length:>6,}   {len(pieces) * length / spent / 1e6:10.2f}   {mine.sum() / theirs.sum():20.2f}"
            f"   median {np.median(cosine):.3f}, lowest tenth below {np.quantile(cosine, 0.1):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--letters", type=int, default=30_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    print(f"{platform.machine()}, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}")
    sequences = sequences_of(args.files, args.letters)
    KmerCounter(profile_layout(6, coding=True)).count_sequences([b"ACGT"])
    KmerCounter(kmer_layout(6)).count_sequences([b"ACGT"])
    kernel_table(sequences, args.repeats)
    try:
        print(f"pyrodigal {version('pyrodigal')}")
    except PackageNotFoundError:
        print("pyrodigal is not installed")
        return
    frames_beside_genes(sequences, args.letters // 30)


if __name__ == "__main__":
    main()
