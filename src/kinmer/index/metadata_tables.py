"""Tables of metadata as kinmer's users have them: their own, NCBI's and GTDB's, line by line."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kinmer.errors import InputError
from kinmer.references import is_report, is_taxonomy, read_reports

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
_GZIP = b"\x1f\x8b"

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
    if not path.is_file():
        raise _no_file(path)
    if is_taxonomy(path):
        return Table(["id", "gtdb_taxonomy"], 0, _lines(path))
    if is_report(path):
        return Table(["id", *REPORT_NAMES], 0, _reports(path))
    lines = _lines(path)
    first = next((line for line in lines if not _REMARK.match(line[1][0])), None)
    if first is None or not any(first[1]):
        raise InputError("the metadata are empty", "a header line is expected", place=path)
    number, names = first
    names[0] = names[0].removeprefix("#")
    lower = [name.lower() for name in names]
    key = next((lower.index(name) for name in ID_NAMES if name in lower), 0)
    if lower[key] == "assembly accession":
        names = [NCBI_NAMES.get(one, name) for one, name in zip(lower, names, strict=True)]
    return Table(names, key, lines, number)


def _reports(path: Path) -> Rows:
    for number, accession, told in read_reports(path):
        yield number, [accession, *(told.get(name, "") for name in REPORT_NAMES)]


def _lines(path: Path) -> Rows:
    """Number and fields of every line that is not blank."""
    try:
        with path.open("rb") as plain:
            packed = plain.read(2) == _GZIP
        opened = gzip.open if packed else open
        # Lines end with a line feed only: fields may hold any other of Unicode's line ends.
        with opened(path, "rt", encoding="utf-8-sig", newline="\n") as file:
            for number, line in enumerate(file, 1):
                text = line.removesuffix("\n").removesuffix("\r")
                if "\x00" in text:
                    raise InputError("the file is no text", place=f"{path}, line {number}")
                if text.strip():
                    yield number, [field.strip() for field in text.split("\t")]
    except UnicodeDecodeError as error:
        raise InputError("the file is no UTF-8 text", str(error), place=path) from error
    except (OSError, EOFError) as error:
        raise InputError("the file cannot be read", str(error), "is it whole?", place=path) from error


def _no_file(path: Path) -> InputError:
    if path.is_dir():
        return InputError("this is a folder", "metadata are a table in a file", place=path)
    return InputError("no such file", check="is the path right?", place=path)
