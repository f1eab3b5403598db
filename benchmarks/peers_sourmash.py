"""sourmash's sketches of every record, and the entry that shares most hashes with a query.

Run by the interpreter that has sourmash. `sourmash prefetch` finds the same entry, for one query at a call;
here NumPy looks the hashes up for all queries.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import numpy as np
import screed
from sourmash import MinHash


def sketches(path: str, k: int, scaled: int) -> Iterator[tuple[str, np.ndarray]]:
    """Name and hashes of every record."""
    for record in screed.open(path):
        sketch = MinHash(n=0, ksize=k, scaled=scaled)
        # force: windows with other letters than ACGT are passed over.
        sketch.add_sequence(record.sequence, force=True)
        yield record.name, np.fromiter(sketch.hashes, np.uint64)


def sketch(path: str, index: str, k: int, scaled: int) -> None:
    """Write all hashes in order, and the entry of each."""
    names, hashes = zip(*sketches(path, k, scaled), strict=True)
    entries = np.repeat(np.array(names, np.int32), [len(one) for one in hashes])
    together = np.concatenate(hashes)
    order = np.argsort(together, kind="stable")
    np.save(f"{index}.hashes.npy", together[order])
    np.save(f"{index}.entries.npy", entries[order])


def search(path: str, index: str, k: int, scaled: int) -> None:
    """Print every query that shares a hash with an entry, and the entry that shares most."""
    known, entries = np.load(f"{index}.hashes.npy"), np.load(f"{index}.entries.npy")
    size = int(entries.max()) + 1
    for name, hashes in sketches(path, k, scaled):
        hashes.sort()
        first, last = (np.searchsorted(known, hashes, side) for side in ("left", "right"))
        number = last - first
        if number.sum():
            behind = np.cumsum(number) - number
            places = np.arange(number.sum()) + np.repeat(first - behind, number)
            print(name, np.bincount(entries[places], minlength=size).argmax(), sep="\t")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("sketch", "search"))
    parser.add_argument("fasta")
    parser.add_argument("index")
    parser.add_argument("-k", type=int, required=True)
    parser.add_argument("--scaled", type=int, required=True)
    args = parser.parse_args()
    work = sketch if args.step == "sketch" else search
    work(args.fasta, args.index, args.k, args.scaled)


if __name__ == "__main__":
    main()
