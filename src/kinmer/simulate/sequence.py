"""One simulated sequence with its genes: written in a signature's hand, changed into a strain."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from kinmer.simulate.kernels import WAITING, fill, indels, substitute
from kinmer.simulate.signature import CODON_SLOTS, OLIGO_SLOTS, Signature

__all__ = ["LETTERS", "Written", "strain_of", "write"]

LETTERS = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class Written:
    codes: NDArray[np.uint8]  # A 0, C 1, G 2, T 3
    genes: NDArray[np.int64]

    def letters(self) -> bytes:
        return LETTERS[self.codes].tobytes()


def write(signature: Signature, length: int, rng: np.random.Generator) -> Written:
    """A replicon of `length` bases in a signature's hand."""
    usage = np.rint(signature.codon_usage() * CODON_SLOTS).astype(np.int64)
    codons = np.stack([np.repeat(np.arange(64, dtype=np.uint8), row) for row in usage])
    steps = np.rint(signature.transitions() * OLIGO_SLOTS).astype(np.int64)
    oligo = np.stack([np.repeat(np.arange(4, dtype=np.uint8), row) for row in steps])
    codes = np.empty(length, np.uint8)
    genes = np.empty((length // 150 + 1, 4), np.int64)
    found = fill(rng.integers(0, 2**64, 2, np.uint64), codons, oligo, WAITING, codes, genes)
    return Written(codes, genes[:found].copy())


def strain_of(ancestor: Written, divergence: tuple[float, float], rng: np.random.Generator) -> Written:
    """A descendant: blocks missing, moved and inverted; bases substituted; short indels between genes."""
    low, high = divergence
    rate = low + (high - low) * float(rng.random())
    return _mutated(_rearranged(ancestor, rng), rate, rng)


def _rearranged(ancestor: Written, rng: np.random.Generator, block: int = 20_000) -> Written:
    """Blocks of about `block` bases, cut between genes: 4 % lost, 3 % inverted, 3 % moved."""
    genes, n = ancestor.genes, ancestor.codes.size
    gaps = (genes[:-1, 1] + genes[1:, 0]) // 2
    cuts = gaps[rng.random(gaps.size) * gaps.size < n / block]
    edges = np.concatenate([[0], cuts, [n]])
    pieces: list[Written] = []
    for start, end in pairwise(edges):
        fate, place = rng.random(2)
        codes = ancestor.codes[start:end]
        inside = genes[(genes[:, 0] >= start) & (genes[:, 1] <= end)] - np.array([start, start, 0, 0])
        if fate < 0.04 and edges.size > 2:
            continue
        if fate < 0.07:
            codes = 3 - codes[::-1]
            starts, ends, strands, kinds = inside.T
            inside = np.stack([codes.size - ends, codes.size - starts, -strands, kinds], axis=1)[::-1]
        where = int(place * (len(pieces) + 1)) if 0.07 <= fate < 0.10 else len(pieces)
        pieces.insert(where, Written(codes, inside))
    if not pieces:
        return ancestor
    offsets = np.cumsum([0, *(piece.codes.size for piece in pieces[:-1])])
    moved = [
        piece.genes + np.array([offset, offset, 0, 0]) for piece, offset in zip(pieces, offsets, strict=True)
    ]
    return Written(np.concatenate([piece.codes for piece in pieces]), np.concatenate(moved))


def _mutated(ancestor: Written, rate: float, rng: np.random.Generator) -> Written:
    """`rate` of all bases substituted, no gene closed; a tenth as many indels between the genes."""
    codes = ancestor.codes.copy()
    frames = _frames(ancestor.genes, codes.size)
    substitute(rng.integers(0, 2**64, 2, np.uint64), codes, frames, int(rate * 2**32))
    seed = rng.integers(0, 2**64, 2, np.uint64)
    changed, places = indels(seed, codes, frames, int(rate * 2**32 / 10), WAITING)
    genes = ancestor.genes.copy()
    genes[:, 0] = places[genes[:, 0]]
    genes[:, 1] = places[genes[:, 1] - 1] + 1
    return Written(changed, genes)


def _frames(genes: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
    """(length,) 0 between genes, 1–3 codon position, 4–6 the same on the other strand, 7 start and stop."""
    frames = np.zeros(length, np.uint8)
    for start, end, strand, _ in genes:
        order = (1, 2, 3) if strand > 0 else (6, 5, 4)
        frames[start:end] = np.resize(np.array(order, np.uint8), end - start)
        frames[start : start + 3] = frames[end - 3 : end] = 7
    return frames
