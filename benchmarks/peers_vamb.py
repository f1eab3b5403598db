"""VAMB's projected tetranucleotide frequencies, and the entry nearest to a query.

Run by the interpreter that has vamb.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from vamb.parsecontigs import Composition

BLOCK = 256


def embed(path: str) -> np.ndarray:
    """(n, 103) frequencies of every record, in the file's order."""
    with Path(path).open("rb") as file:
        return Composition.from_file(file, path, minlength=100).matrix


def search(path: str, index: str) -> None:
    """Print every query and its nearest entry."""
    entries, queries = np.load(index), embed(path)
    mean, spread = entries.mean(axis=0), entries.std(axis=0)
    spread[spread == 0] = 1
    entries, queries = (entries - mean) / spread, (queries - mean) / spread
    squares = (entries**2).sum(axis=1)
    for start in range(0, len(queries), BLOCK):
        nearest = (squares - 2 * queries[start : start + BLOCK] @ entries.T).argmin(axis=1)
        for row, entry in enumerate(nearest, start):
            print(row, entry, sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("embed", "search"))
    parser.add_argument("fasta")
    parser.add_argument("index")
    args = parser.parse_args()
    if args.step == "embed":
        np.save(args.index, embed(args.fasta))
    else:
        search(args.fasta, args.index)


if __name__ == "__main__":
    main()
