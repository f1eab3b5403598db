"""Manifests: a table of genomes with their files or URLs, sums and metadata."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from kinmer.errors import InputError
from kinmer.inputs import read_lines
from kinmer.references.genomes import GenomeFile, genome_of
from kinmer.taxonomy import rule_of

__all__ = ["COLUMNS", "https_of", "read_manifest", "read_table"]

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
        told = zip(keys, rules, fields, strict=False)
        row = {key: value for key, rule, field in told if (value := rule(field)) is not None}
        files.append(_genome(row, path.parent, place))
    if not files:
        raise InputError("the manifest lists no genome", place=path)
    return files


def read_table(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and stripped fields of every line that is not blank, of a table plain or gzip.

    Raises InputError where the file is no text, and what `kinmer.files.read_lines` raises.
    """
    for number, line in read_lines(path):
        if b"\x00" in line:
            raise InputError("the file is no text", "it holds a zero byte", place=f"{path}, line {number}")
        try:
            text = line.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                "the file is no UTF-8 text", str(error), "save it as UTF-8", place=f"{path}, line {number}"
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
        raise InputError(f"{url!r} is no URL", str(error), place=place) from None
    if parts.scheme == "ftp" and host in HTTPS_TOO:
        return parts._replace(scheme="https").geturl()
    if parts.scheme not in ("http", "https") or not host:
        raise InputError(
            f"{url!r} is no URL of http or https", check="a local file's column is path", place=place
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
                else "is no regular file"
                if path.exists()
                else "does not exist"
            )
            raise InputError(
                f"the file {path} {what}", check="relative paths start at the manifest", place=place
            )
        path = None
    for name, form in SUMS.items():
        if name in row and not form.fullmatch(row[name].lower()):
            raise InputError(f"{row[name]!r} is no {name}", "it is written in hex digits", place=place)
    size = row.get("size")
    if size is not None and not (size.isascii() and size.isdigit() and len(size) < MOST_DIGITS):
        raise InputError(f"{size[:40]!r} is no size in bytes", place=place)
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
