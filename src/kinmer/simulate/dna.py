"""Simulated DNA: a genome's signature, sequences written with it, and strains of them.

Bases are codes: A 0, C 1, G 2, T 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numba
import numpy as np
from numpy.typing import NDArray

AMINO_ACIDS = "ACDEFGHIKLMNPQRSTVWY*"
# Translation of the codons AAA, AAC, AAG … TTT (table 11, bacteria and archaea).
TRANSLATION = "KNKNTTTTRSRSIIMIQHQHPPPPRRRRLLLLEDEDAAAAGGGGVVVV*Y*YSSSS*CWCLFLF"
_AMINO_OF = np.array([AMINO_ACIDS.index(letter) for letter in TRANSLATION])
_STOP = AMINO_ACIDS.index("*")
_SENSE = _AMINO_OF != _STOP
_DIGITS = np.arange(64)[:, None] // np.array([16, 4, 1]) % 4
_CODON_GC = np.isin(_DIGITS, (1, 2)).sum(axis=1) - 1.5
# An average bacterial proteome, per cent, in the order of AMINO_ACIDS (Kozlowski 2017, NAR 45:D1112).
# fmt: off
_PROTEOME = np.array([10.1, 0.9, 5.6, 6.2, 3.9, 7.8, 2.1, 5.9, 4.9, 10.1,
                      2.4, 3.7, 4.6, 3.6, 5.8, 6.0, 5.6, 7.0, 1.3, 2.9])
# fmt: on
CODON_SLOTS, OLIGO_SLOTS = 1 << 16, 1 << 10
# Spread of log amino-acid composition between kinds of genes.
KIND_SPREAD = 0.6


def _normal(rng: np.random.Generator, size: int) -> NDArray[np.float64]:
    # Twelve uniform numbers have variance one; adding is exact enough to be the same everywhere.
    total: NDArray[np.float64] = rng.random((12, size)).sum(axis=0)
    return total - 6.0


GENE_KINDS = 16
_KINDS = np.random.Generator(np.random.PCG64(16))
_GENE_KINDS = [(KIND_SPREAD * _normal(_KINDS, 20), 2 * kind / (GENE_KINDS - 1)) for kind in range(GENE_KINDS)]


@dataclass(frozen=True)
class Signature:
    """The composition of a genome, as departures from the average in log space.

    Attributes
    ----------
    gc : pressure towards G and C (negative: A and T).
    amino : (20,) amino-acid preferences, in the order of `AMINO_ACIDS`.
    codon : (64,) preferences among synonymous codons, AAA … TTT.
    oligo : (64, 4) next base after each three, in intergenic DNA.
    """

    gc: float
    amino: NDArray[np.float64]
    codon: NDArray[np.float64]
    oligo: NDArray[np.float64]

    @classmethod
    def average(cls) -> Signature:
        """No preferences: the root of the tree."""
        return cls(0.0, np.zeros(20), np.zeros(64), np.zeros((64, 4)))

    def drift(self, rng: np.random.Generator, amount: float) -> Signature:
        """A descendant, `amount` away; GC hardly differs between close relatives, much between phyla."""
        return Signature(
            self.gc + 1.1 * amount * amount * float(_normal(rng, 1)[0]),
            self.amino + 0.14 * amount * _normal(rng, 20),
            self.codon + 0.42 * amount * _normal(rng, 64),
            self.oligo + 0.30 * amount * _normal(rng, 256).reshape(64, 4),
        )

    def blend(self, other: Signature, share: float) -> Signature:
        """This signature with `share` (0–1) of `other` mixed in."""
        kept = 1 - share
        return Signature(
            kept * self.gc + share * other.gc,
            kept * self.amino + share * other.amino,
            kept * self.codon + share * other.codon,
            kept * self.oligo + share * other.oligo,
        )

    def codon_usage(self) -> NDArray[np.float64]:
        """(GENE_KINDS, 64) shares of the codons in every kind of gene, AAA … TTT; stops have none.

        Multiples of 2⁻¹⁶. Kinds differ in amino acids and in how strictly they keep to the preferred codons,
        as membrane and soluble, highly and hardly expressed proteins do; they are the same in all species.
        """
        size = np.bincount(_AMINO_OF, minlength=21)
        # Codon families rich in G and C also rise under GC pressure, though less than synonymous codons do.
        pull = np.exp(0.4 * self.gc * np.bincount(_AMINO_OF, weights=_CODON_GC, minlength=21) / size)
        tables = []
        for composition, strictness in _GENE_KINDS:
            amino = np.append(_PROTEOME * np.exp(self.amino + composition), 0)
            codon = np.where(_SENSE, np.exp(strictness * self.codon + self.gc * _CODON_GC), 0.0)
            family = np.bincount(_AMINO_OF, weights=codon, minlength=21)
            # The column of the stops stays zero; their family must not divide by zero.
            weights = (amino * pull / np.where(family > 0, family, 1))[_AMINO_OF] * codon
            tables.append(_apportion(weights, CODON_SLOTS) / CODON_SLOTS)
        return np.stack(tables)

    def transitions(self) -> NDArray[np.float64]:
        """(64, 4) probabilities of the next base after each three, in intergenic DNA. Multiples of 2⁻¹⁰."""
        weights = np.exp(self.oligo + self.gc * np.array([-0.5, 0.5, 0.5, -0.5]))
        return np.stack([_apportion(row, OLIGO_SLOTS) for row in weights]) / OLIGO_SLOTS


def _apportion(weights: NDArray[np.float64], slots: int) -> NDArray[np.int64]:
    """Whole numbers in proportion to `weights` that sum to `slots`, at least 1 for every weight above 0.

    Largest remainders; rounded first, so that the last bit of exp on another machine changes nothing.
    """
    shares = np.round(weights / weights.sum() * slots, 6)
    counts: NDArray[np.int64] = np.maximum(np.floor(shares).astype(np.int64), weights > 0)
    order = np.argsort(counts - shares, kind="stable")
    missing = slots - int(counts.sum())
    if missing >= 0:
        counts[order[:missing]] += 1
    else:
        counts[np.argmax(counts)] += missing
    return counts


# Quantiles of an exponential distribution with mean 1024, as whole numbers.
WAITING = np.rint(-1024 * np.log1p(-(np.arange(1024) + 0.5) / 1024)).astype(np.int64)
_STARTS = np.array([14] * 13 + [46, 46, 62], np.uint8)  # ATG, GTG, TTG
_STOPS = np.array([48] * 9 + [56] * 5 + [50] * 2, np.uint8)  # TAA, TGA, TAG


@numba.njit(inline="always")
def _next(state):  # type: ignore[no-untyped-def]
    """xoroshiro128+ (Blackman & Vigna 2018); `state` (2,) uint64; the upper bits are the better ones."""
    a, b = state[0], state[1]
    drawn = a + b
    b ^= a
    state[0] = ((a << np.uint64(24)) | (a >> np.uint64(40))) ^ b ^ (b << np.uint64(16))
    state[1] = (b << np.uint64(37)) | (b >> np.uint64(27))
    return drawn


@numba.njit(inline="always")
def _bits(state, number):  # type: ignore[no-untyped-def]
    return np.int64(_next(state) >> np.uint64(64 - number))


@numba.njit(nogil=True, cache=True)
def _gap(state, codes, start, end, oligo):  # type: ignore[no-untyped-def]
    """Fill codes[start:end] with intergenic DNA: each base drawn after the three before it."""
    context = _bits(state, 6)
    for position in range(max(0, start - 3), start):
        context = (context * 4 + codes[position]) & 63
    for position in range(start, end):
        codes[position] = oligo[context, _bits(state, 10)]
        context = (context * 4 + codes[position]) & 63


@numba.njit(nogil=True, cache=True)
def _gene(state, codes, start, triplets, codons, forward):  # type: ignore[no-untyped-def]
    """Write a gene of `triplets` codons, start and stop among them, from `start` on."""
    for triplet in range(triplets):
        if triplet == 0:
            codon = _STARTS[_bits(state, 4)]
        elif triplet == triplets - 1:
            codon = _STOPS[_bits(state, 4)]
        else:
            codon = codons[_bits(state, 16)]
        place = start + 3 * triplet
        codes[place], codes[place + 1], codes[place + 2] = codon >> 4, (codon >> 2) & 3, codon & 3
    if not forward:
        end = start + 3 * triplets
        codes[start:end] = 3 - codes[start:end][::-1]


@numba.njit(nogil=True, cache=True)
def fill(state, codons, oligo, waiting, codes, genes):  # type: ignore[no-untyped-def]
    """Fill `codes` with operons and `genes` with their places; returns the number of genes.

    codons: (16, 2¹⁶) a row to draw from for every kind of gene; oligo: (64, 2¹⁰) for every context.
    """
    found, position = 0, 0
    while True:
        forward = _bits(state, 1) == 1
        members = 1 + min(waiting[_bits(state, 10)] * 2 >> 10, 11)
        for member in range(members):
            spacing = 40 + (waiting[_bits(state, 10)] * 110 >> 10) if member == 0 else _bits(state, 5)
            triplets = 50 + ((waiting[_bits(state, 10)] + waiting[_bits(state, 10)]) * 125 >> 10)
            if position + spacing + 3 * triplets > codes.size or found == genes.shape[0]:
                _gap(state, codes, position, codes.size, oligo)
                return found
            _gap(state, codes, position, position + spacing, oligo)
            position += spacing
            kind = _bits(state, 4)
            _gene(state, codes, position, triplets, codons[kind], forward)
            genes[found, 0], genes[found, 1] = position, position + 3 * triplets
            genes[found, 2], genes[found, 3] = 1 if forward else -1, kind
            found += 1
            position += 3 * triplets


@numba.njit(nogil=True, cache=True)
def _closes(codes, position, frame):  # type: ignore[no-untyped-def]
    """Whether the codon at `position` of a gene is a stop; `frame` as in `_frames`."""
    if frame <= 3:
        low = position - (frame - 1)
        a, b, c = codes[low], codes[low + 1], codes[low + 2]
    else:
        low = position - (6 - frame)
        a, b, c = 3 - codes[low + 2], 3 - codes[low + 1], 3 - codes[low]
    return a == 3 and ((b == 0 and (c == 0 or c == 2)) or (b == 2 and c == 0))


@numba.njit(nogil=True, cache=True)
def substitute(state, codes, frames, threshold):  # type: ignore[no-untyped-def]
    """Substitute bases in place: half transitions, three times as many at third codon positions."""
    for position in range(codes.size):
        frame = frames[position]
        if frame == 7:
            continue
        weighted = threshold
        if frame != 0:
            weighted = threshold * 9 // 5 if frame in (3, 6) else threshold * 3 // 5
        if _bits(state, 32) >= weighted:
            continue
        old = codes[position]
        for _ in range(8):
            drawn = _bits(state, 2)
            codes[position] = old ^ (2 if drawn < 2 else 1 if drawn == 2 else 3)
            if frame == 0 or not _closes(codes, position, frame):
                break
            codes[position] = old


@numba.njit(nogil=True, cache=True)
def indels(state, codes, frames, threshold, waiting):  # type: ignore[no-untyped-def]
    """The codes with short indels between genes, and the (n,) new place of every old position."""
    changed = np.empty(codes.size + codes.size // 8 + 64, np.uint8)
    places = np.empty(codes.size, np.int64)
    spare = changed.size - codes.size
    written = skip = 0
    for position in range(codes.size):
        places[position] = written
        if frames[position] != 0:
            skip = 0
        elif skip == 0 and _bits(state, 32) < threshold:
            size = 1 + (waiting[_bits(state, 10)] * 3 >> 10)
            if _bits(state, 1) == 1:
                skip = size
            elif size <= spare:
                spare -= size
                for _ in range(size):
                    changed[written] = _bits(state, 2)
                    written += 1
                places[position] = written
        if skip > 0:
            skip -= 1
            continue
        changed[written] = codes[position]
        written += 1
    return changed[:written], places


LETTERS = np.frombuffer(b"ACGT", np.uint8)


@dataclass(frozen=True)
class Written:
    codes: NDArray[np.uint8]  # A 0, C 1, G 2, T 3
    genes: NDArray[np.int64]

    def letters(self) -> bytes:
        return LETTERS[self.codes].tobytes()


def write(signature: Signature, length: int, rng: np.random.Generator) -> Written:
    """A replicon of `length` bases with a signature."""
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
