"""Ranks, lineages and accessions, and what stands for "not known" in metadata and labels.

One rule of missing values for every table, store and column, in three steps, each with all that the one
before it has; case and outer blanks do not count:

1. In any column: an empty field, ``.``, a real missing value, and the texts that pandas, R and SQL write for
   one (``NA``, ``n/a``, ``#N/A``, ``nan``, ``None``, ``null``, ``<NA>``, ``NaT``).
2. In columns of labels (ranks, genomes, clusters, molecules, taxids, lineages): ``-``, ``?`` and words such
   as ``unknown``, ``unclassified``, ``not available``.
3. In columns of ranks: what only says that nobody knows the name (``s__``, ``unclassified Bacillus``,
   ``uncultured bacterium``, ``Bacillus_unclassified``) and, for species, names that are none (``Bacillus
   sp.``, ``Clostridiales bacterium``, ``gut metagenome``).

Names are compared whole: ``Natrinema``, ``Nanoarchaeum``, ``Bacillus sp. FJAT-1`` and
``[Clostridium] symbiosum`` stay.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
# Other names of columns of a rank, which count where there is none of its own. Neither kingdom nor realm is a
# domain: NCBI's table has all three, and they hold other names.
SYNONYMS = {"superkingdom": "domain", "division": "phylum"}


def rank_of(column: str) -> str | None:
    """The rank that a metadata column of this name holds, upper and lower case alike; None for none."""
    name = column.strip().lower()
    return name if name in RANKS else SYNONYMS.get(name)


def rank_columns(columns: Sequence[str]) -> dict[str, str]:
    """Which of these metadata columns hold which rank, from domain to species."""
    by_name = {SYNONYMS[name.lower()]: name for name in columns if name.lower() in SYNONYMS}
    by_name |= {name.lower(): name for name in columns}
    return {rank: by_name[rank] for rank in RANKS if rank in by_name}


_ANYWHERE = frozenset(
    ("", ".", "na", "n/a", "n.a.", "#na", "#n/a", "#n/a n/a", "<na>", "nan", "-nan", "nat", "none", "null")
)
_LABELS = _ANYWHERE | frozenset(
    (
        *("-", "--", "?", "unknown", "unclassified", "unassigned", "unidentified", "undetermined"),
        *("undefined", "uncultured", "unspecified", "missing", "no rank", "no data"),
        *("incertae sedis", "ambiguous taxa"),
        *(f"not {word}" for word in ("applicable", "available", "assigned", "classified", "collected")),
        *(f"not {word}" for word in ("determined", "provided", "known", "specified")),
        *("environmental sample", "environmental samples"),
    )
)
# Columns, beside those of ranks, whose values are names of groups: nothing else is called "-" or "unknown".
LABEL_COLUMNS = frozenset(
    (
        *("genome", "genome_id", "assembly", "assembly_accession", "ani95_cluster", "molecule"),
        *("taxid", "tax_id", "ncbi_taxid", "taxonomy_id", "organism taxonomic id"),
        *("gtdb_taxonomy", "gtdb_classification", "classification", "taxonomy", "lineage"),
    )
)
_PREFIX = re.compile(r"^(?:[dkpcofgst]|sk)__")
_NO_NAME = re.compile(
    r"(?:unclassified|uncultured|unassigned|unidentified|undetermined|unknown) .*"
    r"|.* (?:unclassified|unassigned|unknown)"
)
_NO_SPECIES = re.compile(r".* spp?\.?|spp?\.?|(?:\S+ )?(?:bacterium|archaeon)|(?:.* )?metagenome")


def is_missing(value: Any) -> bool:
    """Whether a value of any column stands for none; NaN, None, pandas' NA and NaT do."""
    text = value if isinstance(value, str) else str(value)
    return text.strip().casefold() in _ANYWHERE


def taxon(rank: str, value: Any) -> str | None:
    """The name at a rank (of `kinmer.taxonomy.RANKS`) that a value is, without blanks around it, or None."""
    return _taxon(rank == "species", str(value).strip())


@lru_cache(1 << 14)
def _taxon(species: bool, text: str) -> str | None:
    plain = _plain(_PREFIX.sub("", text.casefold(), count=1))
    if plain in _LABELS or _NO_NAME.fullmatch(plain):
        return None
    return None if species and _NO_SPECIES.fullmatch(plain) else text


@lru_cache(1 << 12)
def rule_of(column: str) -> Callable[[Any], Any]:
    """What a column of this name makes of a value: the value as it is, or None where it is missing."""
    rank = rank_of(column)
    if rank is not None:
        return lambda value: None if is_missing(value) or taxon(rank, value) is None else value
    if column.strip().lower() in LABEL_COLUMNS:
        return lambda value: None if is_missing(value) or _plain(str(value)) in _LABELS else value
    return lambda value: None if is_missing(value) else value


def known_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by column, None in the place of those that are missing."""
    return {column: rule_of(column)(value) for column, value in values.items()}


def known_rows(column: str, values: Any) -> NDArray[np.bool_]:
    """(n,) which of the values (n,) of a column are not missing."""
    import pandas as pd

    rule = rule_of(column)
    codes, kinds = pd.factorize(np.asarray(values, dtype=object))
    # The last is that of what pandas itself takes for missing.
    known = np.array([*(rule(kind) is not None for kind in kinds), False])
    return np.asarray(known[codes])


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())


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
