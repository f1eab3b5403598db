"""Lineages and accessions as GTDB and NCBI write them."""

from __future__ import annotations

import re

from kinmer.errors import InputError
from kinmer.taxonomy.missing import taxon
from kinmer.taxonomy.ranks import RANKS

__all__ = ["Lineage", "is_lineage", "normal_accession", "parse_lineage"]

# Names at RANKS; None where there is none.
Lineage = tuple[str | None, ...]

PREFIXES = {rank[0]: place for place, rank in enumerate(RANKS)}
# Tools before GTDB wrote the first rank so; MetaPhlAn's strains stand below the species.
OLD_FIRST, STRAIN = ("k", "sk"), "t"

_PREFIXED = re.compile(r"\s*(d|k|sk)__")
_PART = re.compile(r"([a-z]{1,2})__(.*)", re.DOTALL)
_GTDB_ACCESSION = re.compile(r"(?:RS|GB)_(GC[AF]_\d{9}\.\d+)")
_GENOME_FILE = re.compile(
    r"(GC[AF]_\d{9}\.\d+)(?:_\S*)?_genomic(?:\.(?:fna|fa|fasta))?(?:\.(?:gz|bz2|xz|zst))?"
)


def is_lineage(text: str) -> bool:
    """Whether a text begins as a lineage does, with the name of a domain after ``d__``."""
    return _PREFIXED.match(text) is not None


def parse_lineage(text: str, *, place: str | None = None) -> Lineage:
    """Names from domain to species (7,) in a text such as ``d__Bacteria;p__Pseudomonadota;…;s__``.

    Blanks around names, a ``;`` at the end, ranks left out and ranks without a name are allowed;
    what is none (`kinmer.taxonomy.taxon`) is left out. ``k__`` is
    the domain where no ``d__`` is given.

    place : of the text, for errors.

    Raises InputError: a part without or with an unknown prefix, a rank twice or above the one before it.
    """
    names: list[str | None] = [None] * len(RANKS)
    below = -1
    parts = text.strip().removesuffix(";").split(";")
    for part in parts:
        found = _PART.fullmatch(part.strip())
        prefix = found[1] if found else ""
        if prefix == STRAIN:
            continue
        rank = PREFIXES.get("d" if prefix in OLD_FIRST else prefix)
        if found is None or rank is None:
            raise InputError(
                f"the lineage {_short(text)} has the part {_short(part.strip())}",
                "a part is a rank's letter, two underscores and a name",
                "GTDB's form is d__Bacteria;p__…;c__…;o__…;f__…;g__…;s__…",
                place=place,
            )
        if rank == 0 and below == 0 and prefix == "k":
            # A kingdom between domain and phylum, which is none of the seven.
            continue
        if rank <= below:
            raise InputError(
                f"the lineage {_short(text)} has its {RANKS[rank]} below its {RANKS[below]}",
                "ranks go from domain to species, each once",
                place=place,
            )
        below, names[rank] = rank, taxon(RANKS[rank], found[2])
    return tuple(names)


def normal_accession(text: str) -> str:
    """The assembly accession that a name stands for; the name itself, without blanks around it, if for none.

    GTDB's prefixes (``RS_GCF_000005845.2``) go, and so does what follows the accession in the names of NCBI's
    files (``GCF_000005845.2_ASM584v2_genomic.fna.gz``). Other names, as of sequences, stay as they are.
    """
    name = text.strip()
    found = _GTDB_ACCESSION.fullmatch(name) or _GENOME_FILE.fullmatch(name)
    return found[1] if found else name


def _short(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}…")
