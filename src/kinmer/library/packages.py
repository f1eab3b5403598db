"""What NCBI Datasets and GTDB put beside the genomes: reports, sums, taxonomies.

NCBI's genome package, unpacked: ``md5sum.txt``, ``ncbi_dataset/data/assembly_data_report.jsonl``,
``ncbi_dataset/data/ACCESSION/*_genomic.fna``; one that is not rehydrated has ``ncbi_dataset/fetch.txt`` in
place of the sequences. https://www.ncbi.nlm.nih.gov/datasets/docs/v2/reference-docs/data-packages/genome/

GTDB's release: ``bac120_taxonomy*.tsv`` and ``ar53_taxonomy*.tsv`` with an accession (``RS_GCF_000005845.2``)
and a lineage on a line, without a header. https://gtdb.ecogenomic.org/downloads"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kinmer.errors import FormatError, InputError
from kinmer.inputs import open_regular, parse_json
from kinmer.library.genomes import (
    GenomeFile,
    accession_in,
    genome_of,
    is_fasta_name,
    read_manifest,
    read_table,
    refuse_duplicates,
)
from kinmer.taxonomy import RANKS, is_lineage, parse_lineage

REPORT, SUMS, FETCH = "assembly_data_report.jsonl", "md5sum.txt", "fetch.txt"
_TAXONOMY = re.compile(r"(?:bac120|ar53|ar122|bac|arc)_taxonomy\w*(?:\.\d+)*\.tsv(?:\.gz)?")
_MD5_LINE = re.compile(r"\\?([0-9a-fA-F]{32}) [ *](.+)")


class Package:
    """An unpacked package of NCBI Datasets in the folder `root`, which holds ``ncbi_dataset``.

    ``md5``: sums by path relative to `root`; ``metadata``: by accession, with organism, taxid, strain and
    assembly_level where the report has them.

    Raises InputError with the line where its report or its sums are damaged.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.md5 = dict(_md5_sums(root / SUMS))
        report = root / "ncbi_dataset" / "data" / REPORT
        self.metadata = {name: values for _, name, values in read_reports(report)} if report.is_file() else {}

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
        """The MD5 that the package lists for one of its files."""
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

    The metadata: organism, taxid, strain and assembly_level where they are known. Raises FormatError with the
    line where one is no report.
    """
    for number, fields in read_table(path):
        place = f"{path}, line {number}"
        try:
            report = parse_json("\t".join(fields))
        except ValueError as error:
            raise FormatError(
                "the line is not JSON", str(error), "was it unpacked whole?", place=place
            ) from None
        accession = report.get("accession") if isinstance(report, dict) else None
        if not isinstance(accession, str):
            raise FormatError("the report has no accession", place=place)
        values = {
            "organism": _at(report, "organism", "organismName"),
            "taxid": _at(report, "organism", "taxId"),
            "strain": _at(report, "organism", "infraspecificNames", "strain"),
            "assembly_level": _at(report, "assemblyInfo", "assemblyLevel"),
        }
        yield (
            number,
            accession,
            {key: sys.intern(str(value)) for key, value in values.items() if value is not None},
        )


def _at(report: Any, *keys: str) -> str | int | None:
    for key in keys:
        report = report.get(key) if isinstance(report, dict) else None
    return report if isinstance(report, str | int) else None


# First bytes of FASTA, and of what it may be compressed as: gzip, Zstandard, xz, bzip2.
_SEQUENCES = (b">", b";", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\x00", b"BZh")
_ZIP = b"PK\x03\x04"


def find_genomes(
    source: str | Path,
    *,
    taxonomy: Sequence[str | Path] = (),
    log: Callable[[str], None] | None = None,
) -> list[GenomeFile]:
    """The genomes of a reference: of all FASTA below a folder, of one file, or of a manifest.

    A folder is searched to its depths, hidden files left out; the order is that of the paths. Packages of
    NCBI Datasets in it give organism, taxid, strain, assembly level and MD5, tables of GTDB in it the ranks
    (also those beside a folder ``gtdb_genomes_reps*``). Files of genes that NCBI puts beside genomes are left
    out. Nothing is fetched and no sum is computed here: `verify_genome` does.

    taxonomy : tables of GTDB (see `is_taxonomy`) that give genomes with an accession their ranks; those that
        are found in a folder are not looked at then.

    Raises InputError: nothing there, a package that is not rehydrated, one name for two genomes, and what is
    wrong in a manifest (see `read_manifest`), with its line.
    """
    source = Path(source)
    tables: list[Path] = []
    log = log or (lambda _: None)
    if source.is_dir():
        files, tables = _in_folder(source)
    elif not source.exists():
        raise InputError("no such file or folder", check="is the path right?", place=source)
    elif _is_sequences(source):
        files = [GenomeFile(source, None, genome_of(source))]
    else:
        files = read_manifest(source)
    refuse_duplicates(files)
    return _with_ranks(files, [Path(one) for one in taxonomy] or tables, log)


def _in_folder(folder: Path) -> tuple[list[GenomeFile], list[Path]]:
    """Genomes below a folder, and GTDB's tables."""
    paths: list[Path] = []
    tables: list[Path] = []
    packages: dict[Path, Package] = {}
    for path in _walk(folder):
        if is_fasta_name(path.name) or is_taxonomy_name(path.name):
            _refuse_odd(path)
        if is_fasta_name(path.name) and not Package.has_beside(path.absolute()):
            paths.append(path)
        elif is_taxonomy_name(path.name):
            tables.append(path)
        elif path.name == "fetch.txt" and path.parent.name == "ncbi_dataset":
            root = path.absolute().parents[1]
            packages[root] = Package(root)
    if folder.absolute().name.startswith("gtdb_genomes_reps"):
        tables += [one for one in sorted(folder.absolute().parent.iterdir()) if is_taxonomy_name(one.name)]
    for root, package in packages.items():
        _refuse_dehydrated(root, package)
    if not paths:
        raise InputError(
            "no FASTA in the folder", check="names end in .fna, .fa or .fasta, also .gz", place=folder
        )
    return [_described(path, packages) for path in paths], tables


def _with_ranks(files: list[GenomeFile], tables: list[Path], log: Callable[[str], None]) -> list[GenomeFile]:
    """The genomes with the ranks that the tables give them."""
    if not tables:
        return files
    accessions = {name for file in files if (name := accession_in(file.genome))}
    known = lineages(tables, accessions)
    log(f"{len(known):,} of {len(files):,} genomes have a lineage in {', '.join(map(str, tables))}")
    return [
        replace(file, metadata=file.metadata | known.get(accession_in(file.genome) or "", {}))
        for file in files
    ]


def _described(path: Path, packages: dict[Path, Package]) -> GenomeFile:
    """A genome with what its package says, which is read when it is first met."""
    at = path.absolute()
    root = Package.around(at)
    if root is None:
        return GenomeFile(path, None, genome_of(path))
    if root not in packages:
        packages[root] = Package(root)
    package = packages[root]
    genome = at.parent.name
    metadata = package.metadata.get(genome, {})
    return GenomeFile(path, None, genome, md5=package.sum_of(at), metadata=metadata)


def _refuse_dehydrated(root: Path, package: Package) -> None:
    if lacking := package.lacking():
        raise InputError(
            f"{len(lacking):,} files of the package are not here, {lacking[0]} among them",
            "it was downloaded without its sequences",
            f"call: datasets rehydrate --directory {root}",
            place=root,
        )


def _walk(folder: Path) -> Iterator[Path]:
    """Files below a folder in the order of their paths; links are followed, each folder is entered once."""
    seen: set[tuple[int, int]] = set()
    for parent, folders, names in os.walk(folder, followlinks=True, onerror=_refuse):
        at = Path(parent).stat()
        if (at.st_dev, at.st_ino) in seen:
            folders.clear()
            continue
        seen.add((at.st_dev, at.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


def _refuse_odd(path: Path) -> None:
    """Raise InputError for what has a file's name but is a pipe or a device, or links to nothing."""
    try:
        if path.is_dir():
            return
        open_regular(path).close()
    except OSError as error:
        what = "the link leads nowhere" if path.is_symlink() else "the file cannot be read"
        raise InputError(what, error.strerror or str(error), "remove or mend it", place=path) from error


def _refuse(error: OSError) -> None:
    raise InputError(
        "the folder cannot be read", error.strerror or str(error), place=error.filename
    ) from error


def _is_sequences(path: Path) -> bool:
    try:
        with open_regular(path) as file:
            head = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
    except OSError as error:
        raise InputError("the file cannot be read", error.strerror or str(error), place=path) from error
    if head.startswith(_ZIP):
        raise InputError(
            "this is a zip archive",
            "kinmer reads unpacked packages",
            "unpack it and give the folder",
            place=path,
        )
    return head.startswith(_SEQUENCES)
