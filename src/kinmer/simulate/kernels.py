"""The kernels that write and change simulated DNA; bases are codes A 0, C 1, G 2, T 3."""

from __future__ import annotations

import numba
import numpy as np

__all__ = ["WAITING", "fill", "indels", "substitute"]

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
