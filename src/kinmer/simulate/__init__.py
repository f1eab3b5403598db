"""A simulated microbial community: a known tree, and genomes whose composition follows it.

Every species carries a `Signature`: GC pressure, amino-acid composition, synonymous codon preferences and
the transitions of intergenic DNA. Signatures drift along the tree, so relatives resemble each other. A
chromosome is a row of operons on both strands with gaps between them; strains differ from their species'
type strain by point mutations that keep genes open (mostly at third positions), small indels and moved,
inverted or missing blocks. Plasmids write in a blend of their host's signature and one of their own, phages
the same with less of the host (amelioration: Lawrence & Ochman 1997, J Mol Evol 44:383).

Same settings, same bytes: randomness comes from PCG64 and SeedSequence, sums of uniform numbers and integer
tables only, so neither NumPy's distributions nor a machine's mathematics library matter.
"""

from __future__ import annotations

from kinmer.simulate.community import (
    RANKS,
    Community,
    Genome,
    Replicon,
    Species,
    simulate_genomes,
    simulate_phages,
    simulate_species,
    write_community,
)
from kinmer.simulate.contigs import random_contigs, write_random_contigs
from kinmer.simulate.signature import AMINO_ACIDS, TRANSLATION, Signature

__all__ = [
    "AMINO_ACIDS",
    "RANKS",
    "TRANSLATION",
    "Community",
    "Genome",
    "Replicon",
    "Signature",
    "Species",
    "random_contigs",
    "simulate_genomes",
    "simulate_phages",
    "simulate_species",
    "write_community",
    "write_random_contigs",
]
