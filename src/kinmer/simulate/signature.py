"""How a genome writes: codon usage and oligonucleotide habits, and how they drift."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["AMINO_ACIDS", "CODON_SLOTS", "GENE_KINDS", "OLIGO_SLOTS", "TRANSLATION", "Signature"]

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
    """How a genome writes, as departures from the average in log space.

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
