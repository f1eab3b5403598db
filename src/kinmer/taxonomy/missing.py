"""What stands for "not known" in metadata and labels: one rule for every table, store and column.

Three steps, each with all that the one before it has; case and outer blanks do not count:

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
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.taxonomy.ranks import rank_of

__all__ = ["LABEL_COLUMNS", "is_missing", "known_rows", "known_values", "rule_of", "taxon"]

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
    rule = rule_of(column)
    codes, kinds = pd.factorize(np.asarray(values, dtype=object))
    # The last is that of what pandas itself takes for missing.
    known = np.array([*(rule(kind) is not None for kind in kinds), False])
    return np.asarray(known[codes])


def _plain(text: str) -> str:
    return " ".join(text.casefold().replace("_", " ").split())
