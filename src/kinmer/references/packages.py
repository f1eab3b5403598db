"""What NCBI Datasets and GTDB put beside the genomes: reports, sums, taxonomies.

NCBI's genome package, unpacked: ``md5sum.txt``, ``ncbi_dataset/data/assembly_data_report.jsonl``,
``ncbi_dataset/data/ACCESSION/*_genomic.fna``; one that is not rehydrated has ``ncbi_dataset/fetch.txt`` in
place of the sequences. https://www.ncbi.nlm.nih.gov/datasets/docs/v2/reference-docs/data-packages/genome/

GTDB's release: ``bac120_taxonomy*.tsv`` and ``ar53_taxonomy*.tsv`` with an accession (``RS_GCF_000005845.2``)
and a lineage on a line, without a header. https://gtdb.ecogenomic.org/downloads
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from kinmer.errors import FormatError, InputError
from kinmer.inputs import parse_json
from kinmer.references.genomes import accession_in, is_fasta_name
from kinmer.references.manifests import read_table
from kinmer.taxonomy import RANKS, is_lineage, parse_lineage

__all__ = ["Package", "is_report", "is_taxonomy", "is_taxonomy_name", "lineages", "read_reports"]

REPORT, SUMS, FETCH = "assembly_data_report.jsonl", "md5sum.txt", "fetch.txt"
_TAXONOMY = re.compile(r"(?:bac120|ar53|ar122|bac|arc)_taxonomy\w*(?:\.\d+)*\.tsv(?:\.gz)?")
_MD5_LINE = re.compile(r"\\?([0-9a-fA-F]{32}) [ *](.+)")


class Package:
    """An unpacked package of NCBI Datasets in the folder `root`, which holds ``ncbi_dataset``.

    ``md5``: sums by path relative to `root`; ``metadata``: by accession, with organism, taxid, strain and
    assembly_level where the report tells them.

    Raises InputError with the line where its report or its sums are damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.md5 = dict(_md5_sums(root / SUMS))
        report = root / "ncbi_dataset" / "data" / REPORT
        self.metadata = {name: told for _, name, told in read_reports(report)} if report.is_file() else {}

    @classmethod
    def around(cls, path: Path) -> Path | None:
        """The root of the package that a file is in by its path, ROOT/ncbi_dataset/data/ACCESSION/FILE."""
        parts = path.parts
        inside = len(parts) > 4 and parts[-4:-2] == ("ncbi_dataset", "data") and accession_in(parts[-2])
        return path.parents[3] if inside else None

    @classmethod
    def has_beside(cls, path: Path) -> bool:
        """Whether a file is one that a package has beside the genome, such as a single chromosome's."""
        return cls.around(path) is not None and "_genomic." not in path.name

    def sum_of(self, path: Path) -> str | None:
        """The MD5 that the package tells of one of its files."""
        return self.md5.get(path.relative_to(self.root).as_posix())

    def lacking(self) -> list[str]:
        """Genomes' files that are listed to be fetched and are not there, packed or plain."""
        listed = self.root / "ncbi_dataset" / FETCH
        if not listed.is_file():
            return []
        paths = [fields[-1] for _, fields in read_table(listed)]
        data = self.root / "ncbi_dataset"
        return [
            one
            for one in paths
            if is_fasta_name(Path(one).name)
            and not (data / one).is_file()
            and not (data / f"{one}.gz").is_file()
        ]


def is_taxonomy_name(name: str) -> bool:
    """Whether a file's name is one of GTDB's tables of lineages."""
    return _TAXONOMY.fullmatch(name) is not None


def is_taxonomy(path: str | Path) -> bool:
    """Whether a file's first line is one of GTDB's tables, an accession and a lineage, and no header."""
    path = Path(path)
    try:
        first = next(read_table(path), None) if path.is_file() else None
    except InputError:
        # No text: whoever reads it as what it is says so.
        return False
    fields = first[1] if first else []
    return len(fields) == 2 and accession_in(fields[0]) is not None and is_lineage(fields[1])


def lineages(tables: Iterable[Path], accessions: set[str]) -> dict[str, dict[str, str]]:
    """Rank → name of those of these accessions that GTDB's tables have.

    The tables have up to a million lines: only what is asked for is kept. Raises InputError with the line
    where a lineage is none or a genome has two.
    """
    found: dict[str, dict[str, str]] = {}
    for table in tables:
        for number, fields in read_table(table):
            accession = accession_in(fields[0])
            if accession is None or accession not in accessions:
                continue
            place = f"{table}, line {number}"
            if len(fields) != 2:
                raise InputError(
                    f"{len(fields)} fields, an accession and a lineage are expected", place=place
                )
            names = zip(RANKS, parse_lineage(fields[1], place=place), strict=True)
            ranks = {rank: sys.intern(name) for rank, name in names if name}
            if found.setdefault(accession, ranks) != ranks:
                raise InputError(
                    f"the genome {accession} has another lineage in another line or table",
                    "it is not clear which to believe",
                    "keep the tables of one release",
                    place=place,
                )
    return found


def _md5_sums(path: Path) -> Iterator[tuple[str, str]]:
    """Path and sum on every line of an md5sum.txt; none where there is no such file."""
    if not path.is_file():
        return
    for number, fields in read_table(path):
        match = _MD5_LINE.fullmatch("\t".join(fields))
        if match is None:
            raise FormatError(
                "no MD5 and path", check="was it unpacked whole?", place=f"{path}, line {number}"
            )
        yield match[2].removeprefix("./"), match[1].lower()


def is_report(path: str | Path) -> bool:
    """Whether a file's first line is one of a package's report: a JSON object with an accession."""
    try:
        first = next(read_table(Path(path)), None)
        report = parse_json("\t".join(first[1])) if first and first[1][0].startswith("{") else None
    except (InputError, ValueError):
        # No text, or no JSON: whoever reads it as what it is says so.
        return False
    return isinstance(report, dict) and "accession" in report


def read_reports(path: Path) -> Iterator[tuple[int, str, dict[str, str]]]:
    """Number, accession and metadata of every line of a package's report.

    The metadata: organism, taxid, strain and assembly_level where they are told. Raises FormatError with the
    line where one is no report.
    """
    for number, fields in read_table(path):
        place = f"{path}, line {number}"
        try:
            report = parse_json("\t".join(fields))
        except ValueError as error:
            raise FormatError(
                "the line is no JSON", str(error), "was it unpacked whole?", place=place
            ) from None
        accession = report.get("accession") if isinstance(report, dict) else None
        if not isinstance(accession, str):
            raise FormatError("the report has no accession", place=place)
        told = {
            "organism": _at(report, "organism", "organismName"),
            "taxid": _at(report, "organism", "taxId"),
            "strain": _at(report, "organism", "infraspecificNames", "strain"),
            "assembly_level": _at(report, "assemblyInfo", "assemblyLevel"),
        }
        yield (
            number,
            accession,
            {key: sys.intern(str(value)) for key, value in told.items() if value is not None},
        )


def _at(report: Any, *keys: str) -> str | int | None:
    for key in keys:
        report = report.get(key) if isinstance(report, dict) else None
    return report if isinstance(report, str | int) else None
