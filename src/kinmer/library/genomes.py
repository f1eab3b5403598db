"""Genome files: what their names say, their checksums, and manifests that list them."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kinmer.errors import InputError
from kinmer.inputs import read_lines, text_of
from kinmer.taxonomy import rule_of

_ACCESSION = re.compile(r"GC[AF]_\d+\.\d+")
_COMPRESSED = r"(?:\.(?:gz|bgz|zst|xz|bz2))?"
_FASTA = re.compile(rf"\.(?:fna|fa|fasta|fas|fsa){_COMPRESSED}$", re.IGNORECASE)
# What NCBI puts beside a genome under the same suffix: its genes and transcripts.
_GENES = re.compile(rf"(?:^|_)(?:(?:cds|rna)_from_genomic|rna|cds)\.fna{_COMPRESSED}$", re.IGNORECASE)


@dataclass(frozen=True)
class GenomeFile:
    """A file of one genome's sequences, here (`path`) or still to be fetched (`url`).

    Where both are given, the file is here and came from there. ``sha256`` and ``md5`` are hex digits,
    ``size`` bytes, all of the file as it is, compressed or not. ``place``: where it is listed, for errors.
    """

    path: Path | None
    url: str | None
    genome: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None
    metadata: dict[str, str] = field(default_factory=dict, hash=False)
    place: str | None = field(default=None, compare=False)

    @property
    def where(self) -> str:
        """Where it is, for messages: the path, else the URL without user and password."""
        if self.path is not None:
            return str(self.path)
        parts = urlsplit(self.url or "")
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def is_fasta_name(name: str) -> bool:
    """Whether a file's name is one of a genome's FASTA; names of NCBI's files of genes are not."""
    return _FASTA.search(name) is not None and _GENES.search(name) is None


def accession_in(*names: str) -> str | None:
    """The NCBI accession of an assembly (``GCF_000005845.2``) in the first of these names that has one."""
    return next((found[0] for name in names if (found := _ACCESSION.search(name))), None)


def genome_of(path: Path | None = None, *, url: str | None = None) -> str:
    """A genome's name: the accession in the file's name or its folder's, else the name without suffixes.

    Of a URL: the accession in its last part that has one, else its last part, or its host.
    """
    if path is not None:
        names = [text_of(path.name), text_of(path.absolute().parent.name)]
    else:
        parts = urlsplit(url or "")
        names = [unquote(name) for name in reversed(parts.path.split("/")) if name] or [parts.hostname or ""]
    return accession_in(*names) or _FASTA.sub("", names[0])


def refuse_duplicates(files: Iterable[GenomeFile]) -> None:
    """Raise InputError where two files have one genome's name, or two genomes one file."""
    genomes: dict[str, GenomeFile] = {}
    sources: dict[str, GenomeFile] = {}
    for file in files:
        if (first := genomes.setdefault(file.genome, file)) is not file:
            raise InputError(
                f"the genome {file.genome!r} has two files, {first.where} and {file.where}",
                "a genome is one file, and its name is its own",
                "name them in a manifest with the columns path and genome",
                place=file.place,
            )
        if (first := sources.setdefault(file.where, file)) is not file:
            raise InputError(
                f"{file.where} is the file of two genomes, {first.genome!r} and {file.genome!r}",
                check="leave one out",
                place=file.place,
            )


_BLOCK = 1 << 20


def difference(file: GenomeFile, path: Path) -> str:
    """How the file at `path` differs from what is listed of `file`; empty where it does not."""
    listed = {name: value for name in ("sha256", "md5") if (value := getattr(file, name)) is not None}
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"the size is {size:,} bytes, expected {file.size:,}"
    return _difference(listed, _sums(path, listed) if listed else {})


def verify_genome(file: GenomeFile) -> str:
    """The SHA-256 (hex) of a file that is here, once it has the size and the sums that are listed.

    Reads the file once. Raises InputError, with both sums, where it has others, or where it cannot be read.
    """
    path = file.path
    if path is None:
        raise InputError(f"{file.where} is not here yet", check="fetch it first", place=file.place)
    listed = {name: value for name in ("sha256", "md5") if (value := getattr(file, name)) is not None}
    try:
        sized = GenomeFile(path, None, file.genome, size=file.size)
        wrong, sums = difference(sized, path), {}
        if not wrong:
            sums = _sums(path, {"sha256": "", **listed})
            wrong = _difference(listed, sums)
    except OSError as error:
        raise InputError(f"{path} cannot be read", error.strerror or str(error), place=file.place) from error
    if wrong:
        raise InputError(f"{path} is not what it should be", wrong, "was it copied whole?", place=file.place)
    return sums["sha256"]


def _sums(path: Path, names: dict[str, str]) -> dict[str, str]:
    """Hex digests of a file by the hash's name."""
    # MD5 is to find broken transfers here, which strict systems allow.
    hashes = {name: hashlib.new(name, usedforsecurity=False) for name in names}
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            for one in hashes.values():
                one.update(block)
    return {name: one.hexdigest() for name, one in hashes.items()}


def _difference(listed: dict[str, str], sums: dict[str, str]) -> str:
    for name, value in listed.items():
        if sums[name] != value.lower():
            return f"the {name} is {sums[name]}, expected {value.lower()}"
    return ""


COLUMNS = ("path", "url", "genome", "sha256", "md5", "size")
# Of a size in bytes, and fewer than Python itself takes.
MOST_DIGITS = 19
SUMS = {"sha256": re.compile(r"[0-9a-f]{64}"), "md5": re.compile(r"[0-9a-f]{32}")}
# Servers that give the same files by HTTPS under the same paths, which can be resumed and is encrypted.
HTTPS_TOO = frozenset(("ftp.ncbi.nlm.nih.gov", "ftp.ebi.ac.uk"))


def read_manifest(path: Path) -> list[GenomeFile]:
    """The genomes of a manifest, in its order.

    A table in UTF-8 with tabs between fields and a header. Of the columns path, url, genome, sha256, md5 and
    size one of the first two is needed; all others are metadata. Upper and lower case are alike in these six
    names. Which values are missing: see `kinmer.taxonomy.lineage`. A relative path starts at the manifest.
    Where path and URL are given, the URL counts only if there is no such file yet.

    Raises InputError with the line: no such column, a column twice, too many fields, neither path nor URL, no
    such file, a sum or a size that is none, a URL that is not http or https.
    """
    lines = read_table(path)
    _, names = next(lines, (1, []))
    lower = [name.lower() for name in names]
    if not {"path", "url"} & set(lower):
        raise InputError(
            "the manifest has neither a column path nor a column url",
            check="its first line names its columns, with tabs between them",
            place=f"{path}, line 1",
        )
    keys = [one if one in COLUMNS else name for one, name in zip(lower, names, strict=True)]
    for at, name in enumerate(lower):
        if not name or name in lower[:at]:
            what = f"the column {name!r} occurs twice" if name else "a column has no name"
            raise InputError(what, place=f"{path}, line 1")
    rules = [rule_of(key) for key in keys]
    files = []
    for number, fields in lines:
        place = f"{path}, line {number}"
        if len(fields) > len(names):
            raise InputError(f"{len(fields)} fields, the header has {len(names)}", place=place)
        values = zip(keys, rules, fields, strict=False)
        row = {key: value for key, rule, field in values if (value := rule(field)) is not None}
        files.append(_genome(row, path.parent, place))
    if not files:
        raise InputError("the manifest lists no genome", place=path)
    return files


def read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and stripped fields of every line that is not blank, of a table plain or gzip.

    Raises InputError where the file is not text, and what `kinmer.files.read_lines` raises.
    """
    for number, line in read_lines(path):
        if b"\x00" in line:
            raise InputError("the file is not text", "it holds a zero byte", place=f"{path}, line {number}")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "the file is not UTF-8 text", str(error), "save it as UTF-8", place=f"{path}, line {number}"
            ) from error
        if text.strip():
            yield number, [part.strip() for part in text.split("\t")]


def https_of(url: str, place: str | None = None) -> str:
    """The URL to fetch by: https in the place of ftp where the server is known to have both.

    Raises InputError for a URL that is neither http nor https then.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise InputError(f"{url!r} is not a URL", str(error), place=place) from None
    if parts.scheme == "ftp" and host in HTTPS_TOO:
        return parts._replace(scheme="https").geturl()
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(
            f"{url!r} is not a URL of http or https", check="a local file's column is path", place=place
        )
    return url


def _genome(row: dict[str, str], folder: Path, place: str) -> GenomeFile:
    path = folder / row["path"] if "path" in row else None
    url = https_of(row["url"], place) if "url" in row else None
    if path is None and url is None:
        raise InputError("the genome has neither a path nor a URL", place=place)
    if path is not None and not path.is_file():
        if url is None:
            what = (
                "is a folder"
                if path.is_dir()
                else "is not a regular file"
                if path.exists()
                else "does not exist"
            )
            raise InputError(
                f"the file {path} {what}", check="relative paths start at the manifest", place=place
            )
        path = None
    for name, form in SUMS.items():
        if name in row and not form.fullmatch(row[name].lower()):
            raise InputError(f"{row[name]!r} is not a {name}", "it is written in hex digits", place=place)
    size = row.get("size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < MOST_DIGITS):
        raise InputError(f"{size[:40]!r} is not a size in bytes", place=place)
    return GenomeFile(
        path,
        url,
        row.get("genome") or genome_of(path, url=url),
        sha256=row["sha256"].lower() if "sha256" in row else None,
        md5=row["md5"].lower() if "md5" in row else None,
        size=None if size is None else int(size),
        # One copy of every value that many genomes share, such as a phylum.
        metadata={key: sys.intern(value) for key, value in row.items() if key not in COLUMNS},
        place=place,
    )
