"""How many dimensions, and how many bits each? Directions are in order, so fewer are a prefix.

    python benchmarks/dimensions.py WORK [--encoder kin] [--seeds 1] [--sizes 63,127,191,255,383]

Reads the benchmarks and the encoders of folds of ``benchmarks/encoders.py``; prints the share of queries
whose nearest piece is of the same species, cells, cases strain and genome together, by length. ``int8`` is
symmetric, with one scale a vector. The anchor stays, whatever the size.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import Encoder
from kinmer.counting import count_batches
from kinmer.stores import exact_search

Vectors = NDArray[np.float32]


def as_int8(vectors: Vectors) -> Vectors:
    """Rounded to 8 bits and back."""
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    return (np.rint(vectors / scale) * scale).astype(np.float32)


PRECISIONS: dict[str, Callable[[Vectors], Vectors]] = {
    "float32": lambda vectors: vectors,
    "float16": lambda vectors: vectors.astype(np.float16).astype(np.float32),
    "int8": as_int8,
}


def embedded(path: Path, encoders: list[Encoder]) -> list[Vectors]:
    """Vectors of a FASTA file's sequences by every encoder; it is counted once."""
    parts: list[list[Vectors]] = [[] for _ in encoders]
    for batch in count_batches([path], encoders[0].layout):
        if len(batch.ids):
            for part, encoder in zip(parts, encoders, strict=True):
                part.append(encoder.embed(batch.counts))
    return [np.concatenate(part) for part in parts]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--encoder", default="kin")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--sizes", default="63,127,191,255,383")
    args = parser.parse_args()
    sizes = [int(size) for size in args.sizes.split(",")]
    encoders = [Encoder.load(path) for path in sorted((args.work / args.encoder).glob("fold*"))]
    variants = [(size, "float32") for size in sizes] + [(sizes[-1], "float16"), (sizes[-1], "int8")]
    right: dict[tuple[int, str], list[pd.Series]] = {one: [] for one in variants}
    for seed in range(args.seeds):
        folder = args.work / f"bench{seed}"
        asked, base = (
            pd.read_csv(folder / f"{name}.fna.gz.tsv", sep="\t", dtype=str, keep_default_na=False)
            for name in ("queries", "database")
        )
        queries, database = (
            embedded(folder / f"{name}.fna.gz", encoders) for name in ("queries", "database")
        )
        wanted = (asked.domain != "Viruses") & asked.case.isin(["strain", "genome"])
        for fold in range(len(encoders)):
            rows = np.flatnonzero(wanted & (asked.fold == str(fold)))
            for size, precision in variants:
                columns = [*range(size), queries[fold].shape[1] - 1]
                mine, theirs = (
                    PRECISIONS[precision](vectors[:, columns])
                    for vectors in (queries[fold][rows], database[fold])
                )
                found = exact_search(theirs, None, mine, 1, "cosine")[0][:, 0]
                hits = base.species.to_numpy()[found] == asked.species.to_numpy()[rows]
                right[size, precision].append(
                    pd.Series(hits, index=asked.length.astype(int).to_numpy()[rows])
                )
    print(
        "| | bytes | " + " | ".join(f"{n // 1000} kb" for n in (1_000, 2_000, 5_000, 10_000, 50_000)) + " |"
    )
    print("| --- |" + " --- |" * 6)
    for (size, precision), parts in right.items():
        shares = pd.concat(parts).groupby(level=0).mean()
        width = {"float32": 4, "float16": 2, "int8": 1}[precision] * (size + 1)
        print(f"| {size + 1}, {precision} | {width:,} | " + " | ".join(f"{one:.3f}" for one in shares) + " |")


if __name__ == "__main__":
    main()
