"""Tables of metadata as kinmer's users have them: their own, NCBI's and GTDB's, line by line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kinmer.errors import InputError
from kinmer.references import is_report, is_taxonomy, read_reports, read_table

__all__ = ["Table", "open_table"]

ID_NAMES = ("id", "sequence_id", "assembly accession")
# What `dataformat tsv genome` calls the columns that a package's own report gives.
NCBI_NAMES = {
    "organism name": "organism",
    "organism taxonomic id": "taxid",
    "organism infraspecific names strain": "strain",
    "assembly level": "assembly_level",
}
REPORT_NAMES = ("organism", "taxid", "strain", "assembly_level")
# NCBI's assembly_summary files begin with such, and their header with a mark.
_REMARK = re.compile(r"##|#\s")

Rows = Iterator[tuple[int, list[str]]]


class Table(NamedTuple):
    """Names of the columns, which of them is the id, number and fields of every line, the header's number."""

    names: list[str]
    key: int
    rows: Rows
    header: int = 1


def open_table(path: Path) -> Table:
    """The table in a file, plain or gzip.

    - A table: UTF-8, fields between tabs, a header line. Ids stand in the column ``id``, else
      ``sequence_id``, else ``Assembly Accession``, else the first. Lines before the header that begin with
      ``##`` or ``# `` are remarks; a ``#`` before its first name is none of it.
    - What NCBI's ``dataformat tsv genome`` writes: its columns Organism Name, Organism Taxonomic ID, Organism
      Infraspecific Names Strain and Assembly Level are called organism, taxid, strain and assembly_level.
    - ``assembly_data_report.jsonl`` of NCBI Datasets: the same columns by accession.
    - GTDB's taxonomies, which have no header: accession and lineage.

    Raises InputError where there is no file, no text or no header, FormatError for a damaged report; so do
    the rows, with the line.
    """
    if is_taxonomy(path):
        return Table(["id", "gtdb_taxonomy"], 0, read_table(path))
    if is_report(path):
        return Table(["id", *REPORT_NAMES], 0, _reports(path))
    lines = read_table(path)
    first = next((line for line in lines if not _REMARK.match(line[1][0])), None)
    if first is None or not any(first[1]):
        raise InputError("the metadata are empty", "a header line is expected", place=path)
    number, names = first
    if names[0].startswith(">"):
        raise InputError(
            "this is FASTA, no table of metadata",
            "a header line is expected",
            "were files exchanged?",
            place=path,
        )
    names[0] = names[0].removeprefix("#")
    lower = [name.lower() for name in names]
    key = next((lower.index(name) for name in ID_NAMES if name in lower), 0)
    if lower[key] == "assembly accession":
        names = [NCBI_NAMES.get(one, name) for one, name in zip(lower, names, strict=True)]
    return Table(names, key, lines, number)


def _reports(path: Path) -> Rows:
    for number, accession, told in read_reports(path):
        yield number, [accession, *(told.get(name, "") for name in REPORT_NAMES)]
