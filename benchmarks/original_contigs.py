"""Contigs as many and as long as the original pipeline had, made from seeds: 4,776,770, 124 Gbp.

    python benchmarks/original_contigs.py SHARD [--contigs 100000] > shard.fna

Contigs come in shards of 100,000, each of which is made by itself, so that a store or an index of millions
can be fed without all of them ever being on disk. A shard's first contigs are the same whatever their
number: smaller sets are the beginnings of larger ones.

Lengths have the original's least, 5 kb, and its mean, 26 kb: a Pareto distribution, cut off at 2 Mb. Genomes
have a few megabases each, and are cut into their contigs. They are of 27,000 species of 60 phyla; an id says
which, ``s012345.00.3_17`` being contig 17 of genome 3 of shard 0, of species 12345. Genomes of one species
share its composition, not its genes. Some 350 Mbp per CPU-second.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from functools import cache

import numpy as np
from numpy.typing import NDArray

from kinmer.simulate.dna import LETTERS, Signature, write

CONTIGS, SHARD = 4_776_770, 100_000
SHORTEST, LONGEST, ALPHA = 5_000, 2_000_000, 1.127
GENOME = 2_600_000
# Children of every taxon, from the root on, and how far each drifts from it.
RANKS = ((60, 1.0), (10, 0.55), (15, 0.25), (3, 0.12))
SEED = 4_776_770


def generator(*key: int) -> np.random.Generator:
    """Random numbers of their own for every key."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((SEED, *key))))


@cache
def signature(path: tuple[int, ...]) -> Signature:
    """Composition of the taxon that the path leads to from the root."""
    if not path:
        return Signature.average()
    return signature(path[:-1]).drift(generator(0, *path), RANKS[len(path) - 1][1])


def species_path(species: int) -> tuple[int, ...]:
    """Numbers of phylum, family, genus and species, each within the one before."""
    path = []
    for children, _ in reversed(RANKS):
        species, child = divmod(species, children)
        path.append(child)
    return tuple(reversed(path))


def lengths(shard: int, contigs: int = SHARD) -> NDArray[np.int64]:
    """(contigs,) bases of the shard's contigs."""
    drawn = SHORTEST * generator(1, shard).random(SHARD) ** (-1 / ALPHA)
    return np.minimum(drawn, LONGEST).astype(np.int64)[:contigs]


def genomes(shard: int, contigs: int = SHARD) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.int64]]]:
    """Name, codes (bases,) and lengths of contigs (c,) of the shard's genomes, one after the other."""
    rng, sizes = generator(2, shard), lengths(shard)
    number = start = 0
    while start < contigs:
        target = GENOME * np.exp(0.4 * rng.standard_normal() - 0.08)
        species = int(rng.integers(np.prod([children for children, _ in RANKS])))
        stop = min(SHARD, start + 1 + int(np.searchsorted(np.cumsum(sizes[start : start + 2000]), target)))
        own, kept = sizes[start:stop], min(stop, contigs) - start
        written = write(signature(species_path(species)), int(own.sum()), generator(3, shard, number))
        yield f"s{species:06d}.{shard:02d}.{number}", written.codes, own[:kept]
        start, number = stop, number + 1


def fasta(shard: int, contigs: int = SHARD) -> Iterator[bytes]:
    """The shard's records, a sequence a line, genome by genome."""
    for name, codes, own in genomes(shard, contigs):
        letters = LETTERS[codes[: own.sum()]].tobytes()
        stops = np.cumsum(own)
        yield b"".join(
            b">%s_%d\n%s\n" % (name.encode(), at, letters[stop - size : stop])
            for at, (size, stop) in enumerate(zip(own.tolist(), stops.tolist(), strict=True))
        )


def queries(count: int, length: int) -> Iterator[bytes]:
    """New pieces of genomes of the first shard's species, which are in no shard."""
    for number, (name, _, _) in zip(range(count), genomes(0), strict=False):
        species = int(name[1:7])
        written = write(signature(species_path(species)), length, generator(4, number))
        yield b">q%d.%s\n%s\n" % (number, name[:7].encode(), written.letters())


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("shard", type=int)
    parser.add_argument("--contigs", type=int, default=SHARD)
    options = parser.parse_args()
    for block in fasta(options.shard, options.contigs):
        sys.stdout.buffer.write(block)


if __name__ == "__main__":
    main()
