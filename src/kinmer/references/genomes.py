"""One genome's file, and what its name tells."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kinmer.errors import InputError
from kinmer.inputs import text_of

__all__ = ["GenomeFile", "accession_in", "genome_of", "is_fasta_name", "refuse_twins"]

_ACCESSION = re.compile(r"GC[AF]_\d+\.\d+")
_COMPRESSED = r"(?:\.(?:gz|bgz|zst|xz|bz2))?"
_FASTA = re.compile(rf"\.(?:fna|fa|fasta|fas|fsa){_COMPRESSED}$", re.IGNORECASE)
# What NCBI puts beside a genome under the same suffix: its genes and transcripts.
_GENES = re.compile(rf"(?:^|_)(?:(?:cds|rna)_from_genomic|rna|cds)\.fna{_COMPRESSED}$", re.IGNORECASE)


@dataclass(frozen=True)
class GenomeFile:
    """A file of one genome's sequences, here (`path`) or still to be fetched (`url`).

    Where both are told, the file is here and came from there. ``sha256`` and ``md5`` are hex digits, ``size``
    bytes, all of the file as it is, compressed or not. ``place``: what told of it, for errors.
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


def refuse_twins(files: Iterable[GenomeFile]) -> None:
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
