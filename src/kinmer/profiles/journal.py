"""How far an unfinished store has come, and the lock of the process that writes it."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Any

from kinmer.errors import FormatError, UsageError
from kinmer.files import FolderKind, read_json

__all__ = ["JOURNAL", "LOCK", "STORE", "StoreLock", "is_locked", "journal_of", "part_of"]

JOURNAL = ".kinmer-journal.json"
LOCK = ".kinmer-lock"
PART = ".part"
# Zarr's groups and arrays, whoever has put them in: metadata and chunks, and chunks that zarr had begun.
STORE = FolderKind(
    "profile store",
    "zarr.json",
    lambda told: "kinmer" in told["attributes"],
    r"(?:[^.].*/)?zarr\.json|[^.].*/c(?:/\d+)*(?:\.\w+\.partial)?",
)
# Seconds between two looks at a lock that another process has, and the least to wait: whoever looks whether a
# store is locked holds its lock for a moment.
WAIT_STEP, LEAST_WAIT = 0.05, 0.2


def part_of(path: Path) -> Path:
    """Where a new store grows before it takes the name `path`."""
    return path.with_name(path.name + PART)


def journal_of(folder: Path, signature: Any, *, force: bool, name: str = JOURNAL) -> dict[str, Any] | None:
    """The journal in `folder` where one of this `signature` is there.

    Raises UsageError where it is of another one, unless `force`.
    """
    file = folder / name
    if not file.is_file():
        return None
    try:
        journal = read_json(file)
    except FormatError:
        return (
            None  # Damaged: nothing of it can be trusted, and the rows it told of are not whole without it.
        )
    if journal.get("format") == 1 and journal.get("signature") == signature:
        return journal
    if force:
        return None
    raise UsageError(
        "an unfinished run with other input or settings is here",
        "it would be lost",
        "give the command that began it again to go on, or use --force to drop it",
        place=folder,
    )


def is_locked(folder: Path) -> bool:
    """Whether a process is writing the store in `folder`."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EWOULDBLOCK, errno.EACCES)
    finally:
        os.close(descriptor)
    return False


class StoreLock:
    """Keeps two processes from writing one store; goes with its process, however that ends."""

    def __init__(self, folder: Path, *, wait: float = LEAST_WAIT) -> None:
        """Take the lock; where another process has it, wait so many seconds, then UsageError."""
        self._path = folder / LOCK
        patience = time.monotonic() + wait
        while True:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    os.close(descriptor)
                    if time.monotonic() < patience:
                        time.sleep(WAIT_STEP)
                        continue
                    raise UsageError(
                        "another process is writing this store", check="wait for it, or end it", place=folder
                    ) from None
                # A file system without locks: writing goes on unguarded rather than not at all.
            self._descriptor: int | None = descriptor
            try:
                if self._path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return
            except FileNotFoundError:
                pass
            os.close(descriptor)  # The holder before us has just taken the file away: once more.

    def move(self, folder: Path) -> None:
        """Follow the store to its new name."""
        self._path = folder / LOCK

    def release(self) -> None:
        """Let others write."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
