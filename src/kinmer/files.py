"""Files that are whole or absent: atomic writes, folders built aside, hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TextIO

from isal import isal_zlib

from kinmer.errors import UsageError
from kinmer.inputs import read_json

__all__ = [
    "built_aside",
    "check_output",
    "file_checksum",
    "hash_file",
    "hash_ids",
    "read_json",
    "remove",
    "replaced",
    "replaced_text",
    "sync_directory",
    "write_bytes",
    "write_json",
]


_CRC_BYTES = 1 << 22


def sync_directory(path: Path) -> None:
    """Make renames in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def replaced(path: str | Path) -> Iterator[IO[bytes]]:
    """A binary file that takes the name `path` when the block ends, and goes when it fails.

    A reader sees the old or the new content, never a part.
    """
    path = Path(path)
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    sync_directory(path.absolute().parent)


@contextmanager
def replaced_text(path: str | Path) -> Iterator[TextIO]:
    """`replaced` for text: UTF-8, line feeds."""
    with replaced(path) as file:
        text = TextIOWrapper(file, encoding="utf-8", newline="\n")
        yield text
        text.flush()
        text.detach()


def write_bytes(path: str | Path, data: bytes) -> None:
    """`replaced` with all of its content at once."""
    with replaced(path) as file:
        file.write(data)


def write_json(path: str | Path, data: Any) -> None:
    """`write_bytes` of indented JSON (NaN refused)."""
    write_bytes(path, (json.dumps(data, indent=2, allow_nan=False) + "\n").encode())


def remove(path: str | Path) -> None:
    """Remove a file or a folder with all that is in it; nothing where there is none."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def check_output(path: str | Path, *, force: bool = False, hint: str = "use --force to replace it") -> Path:
    """Refuse an output that exists (unless `force`) or whose folder does not; returns the path."""
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise UsageError(f"the folder {path.absolute().parent} does not exist", place=path)
    if not force and (path.exists() or path.is_symlink()):
        raise UsageError("the output exists already", check=hint, place=path)
    return path


@contextmanager
def built_aside(path: str | Path) -> Iterator[Path]:
    """A new folder beside `path` that takes its name when the block ends, and goes when it fails.

    What stood at `path` stays whole until then, and comes back where that fails. What a kill left, folders
    named ``.NAME.new-*`` and ``.NAME.old-*``, is settled by the next call.
    """
    path = Path(path)
    _settle(path)
    aside = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}.new-"))
    umask = os.umask(0)
    os.umask(umask)
    aside.chmod(0o777 & ~umask)
    try:
        yield aside
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.absolute().parent, prefix=f".{path.name}.old-"))
            path.rename(old / "old")
        aside.rename(path)
        sync_directory(path.absolute().parent)
        if old is not None:
            remove(old)
    except BaseException:
        _settle(path)
        raise


def _settle(path: Path) -> None:
    """Put back what has made room for a folder that never came, and remove what else is left of such."""
    folder = path.absolute().parent
    for stale in folder.glob(f".{path.name}.old-*"):
        if (stale / "old").exists() and not path.exists():
            (stale / "old").rename(path)
        remove(stale)
    for stale in folder.glob(f".{path.name}.new-*"):
        remove(stale)


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 (hex) over the ids in order, each followed by a line feed."""
    digest = hashlib.sha256()
    for one in ids:
        digest.update(one.encode())
        digest.update(b"\n")
    return digest.hexdigest()


def file_checksum(path: str | Path) -> int:
    """CRC-32 of a file's bytes, several times as fast as a hash: it finds damage, not forgery."""
    crc = 0
    with Path(path).open("rb") as file:
        while block := file.read(_CRC_BYTES):
            crc = isal_zlib.crc32(block, crc)
    return int(crc)


def hash_file(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
