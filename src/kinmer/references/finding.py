"""From a folder, a file or a manifest to the list of a reference's genomes."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from kinmer.errors import InputError
from kinmer.inputs import open_regular
from kinmer.references.genomes import GenomeFile, accession_in, genome_of, is_fasta_name, refuse_twins
from kinmer.references.manifests import read_manifest
from kinmer.references.packages import Package, is_taxonomy_name, lineages

__all__ = ["find_genomes"]

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
    refuse_twins(files)
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
    """The genomes with the ranks that the tables tell of them."""
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
    """A genome with what its package tells, which is read when it is first met."""
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
