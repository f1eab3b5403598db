"""A file's sums against those that it should have."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kinmer.errors import InputError
from kinmer.references.genomes import GenomeFile

__all__ = ["difference", "verify_genome"]

_BLOCK = 1 << 20


def difference(file: GenomeFile, path: Path) -> str:
    """How the file at `path` differs from what is told of `file`; empty where it does not."""
    told = {name: value for name in ("sha256", "md5") if (value := getattr(file, name)) is not None}
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"the size is {size:,} bytes, expected {file.size:,}"
    return _difference(told, _sums(path, told) if told else {})


def verify_genome(file: GenomeFile) -> str:
    """The SHA-256 (hex) of a file that is here, once it has the size and the sums that are told of it.

    Reads the file once. Raises InputError, with both sums, where it has others, or where it cannot be read.
    """
    path = file.path
    if path is None:
        raise InputError(f"{file.where} is not here yet", check="fetch it first", place=file.place)
    told = {name: value for name in ("sha256", "md5") if (value := getattr(file, name)) is not None}
    try:
        sized = GenomeFile(path, None, file.genome, size=file.size)
        wrong, sums = difference(sized, path), {}
        if not wrong:
            sums = _sums(path, {"sha256": "", **told})
            wrong = _difference(told, sums)
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


def _difference(told: dict[str, str], found: dict[str, str]) -> str:
    for name, value in told.items():
        if found[name] != value.lower():
            return f"the {name} is {found[name]}, expected {value.lower()}"
    return ""
