"""Files that are whole or absent: atomic writes, folders built aside, locks, hashes.

An output that is made in one go grows in a hidden file or folder ``.NAME.kinmer-xxxxxxxx`` beside it, locked
by its process, and is gone if that fails.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, TextIO

from isal import isal_zlib

from kinmer.inputs import parse_json

_CRC_BYTES = 1 << 22
# Hidden files and folders of a running process are called .NAME.kinmer-xxxxxxxx and locked by its process.
_MARK = ".kinmer-"
_TEMPORARY = re.compile(r"\..+\.kinmer-[a-z0-9_]{8}")
_NEW, _OLD, _MOVES = "new", "old", "moves.json"
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}


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

    A reader sees the old or the new content, never a part. A pipe or a device is written to as it comes.
    """
    path = Path(path)
    if is_pipe(path):
        with _stream(path) as file:
            yield file
        return
    with _temporary(path, folder=False) as (aside, descriptor):
        # The lock goes with the last of its descriptors, so that nobody takes the file for a killed run's.
        with os.fdopen(os.dup(descriptor), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.chmod(0o666 & ~_umask())
        aside.replace(path)
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


def is_pipe(path: Path) -> bool:
    """Whether a path leads to a pipe or a character device, or to an open file of this process."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or _open_file(path) is not None


def _open_file(path: Path) -> int | None:
    """The descriptor that ``/dev/stdout``, ``/dev/fd/63`` and such stand for; None for another path."""
    if str(path.absolute()) in _STANDARD:
        return _STANDARD[str(path.absolute())]
    inside = path.absolute().parent in (Path("/dev/fd"), Path("/proc/self/fd"))
    return int(path.name) if inside and path.name.isdigit() else None


@contextmanager
def _stream(path: Path) -> Iterator[IO[bytes]]:
    descriptor = _open_file(path)
    # Opened by its name a redirected file would be cut off, and written from its beginning.
    descriptor = os.open(path, os.O_WRONLY) if descriptor is None else os.dup(descriptor)
    with os.fdopen(descriptor, "wb") as file:
        yield file


@contextmanager
def written_together(*paths: str | Path) -> Iterator[tuple[Path, ...]]:
    """Files and folders that take their names together: all of them, or none, whenever the process ends.

    Gives for every path where to write it; what else is written beside those comes along, and what is not
    written is left out. What stood in their places stays until then, and comes back where a kill meets the
    renaming: the next `check_output` of the first path sees to that.
    """
    targets = [Path(path).absolute() for path in paths]
    with ExitStack() as stack:
        rooms: dict[Path, Path] = {}
        for target in targets:
            if target.parent not in rooms:
                held, _ = stack.enter_context(_temporary(target, folder=True))
                rooms[target.parent] = held
                for part in (_NEW, _OLD):
                    (held / part).mkdir()
        yield tuple(rooms[target.parent] / _NEW / target.name for target in targets)
        moves = [
            (new, room / _OLD / new.name, parent / new.name)
            for parent, room in rooms.items()
            for new in sorted((room / _NEW).iterdir())
        ]
        _move(rooms[targets[0].parent], moves)
        for parent in rooms:
            sync_directory(parent)


@contextmanager
def built_aside(path: str | Path) -> Iterator[Path]:
    """A new folder that takes the name `path` when the block ends, and goes when it fails.

    What stood at `path` stays whole until then, and comes back where that fails; see `written_together`.
    """
    settle(Path(path))
    with written_together(path) as (aside,):
        aside.mkdir()
        yield aside
        aside.stat()


@contextmanager
def scratch(path: Path) -> Iterator[Path]:
    """A hidden folder beside `path` while the block lasts; `check_output` removes that of a killed run."""
    with _temporary(path, folder=True) as (room, _):
        yield room


def take_name(folder: Path, path: Path) -> None:
    """Give a whole folder the name `path`, in place of what has it; a kill leaves one of the two there."""
    if not (path.exists() or path.is_symlink()):
        folder.rename(path)
    else:
        with _temporary(path, folder=True) as (room, _):
            (room / _OLD).mkdir()
            _move(room, [(folder.absolute(), room.absolute() / _OLD / path.name, path.absolute())])
    sync_directory(path.absolute().parent)


def clear_temporaries(folder: Path) -> None:
    """Remove what killed runs have left of files that were to be replaced in a folder, and below it."""
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            if _TEMPORARY.fullmatch(name):
                _remove_stale(Path(parent, name))


_Move = tuple[Path, Path, Path]


def _move(room: Path, moves: Sequence[_Move]) -> None:
    """Rename new → target, and what is at the target → old; noted in `room`, so that a kill can be undone."""
    note = [[str(part) for part in move] + [_mark(move[0])] for move in moves]
    (room / _MOVES).write_text(json.dumps(note), encoding="utf-8")
    try:
        for new, old, target in moves:
            if target.exists() or target.is_symlink():
                target.rename(old)
            new.rename(target)
        (room / _MOVES).unlink()
    except BaseException:
        _undo(room)
        raise


def _mark(path: Path) -> list[int]:
    """What a file or folder is known by under any name, until it is changed."""
    state = path.stat()
    return [state.st_dev, state.st_ino, state.st_mtime_ns]


def _undo(room: Path) -> None:
    """Put everything back where not all has been renamed; what has been changed since then stays."""
    try:
        noted = parse_json((room / _MOVES).read_text(encoding="utf-8"))
        moves = [(Path(new), Path(old), Path(target), mark) for new, old, target, mark in noted]
    except (OSError, ValueError, TypeError):
        return  # Nothing had been renamed.
    if not any(new.exists() for new, *_ in moves):
        return
    for new, old, target, mark in moves:
        if not new.exists() and target.exists() and _mark(target) == mark:
            remove(target)
        if (old.exists() or old.is_symlink()) and not (target.exists() or target.is_symlink()):
            old.rename(target)
    (room / _MOVES).unlink()


@contextmanager
def _temporary(path: Path, *, folder: bool) -> Iterator[tuple[Path, int]]:
    """A new hidden file or folder beside `path`, locked by this process; it is gone when the block ends."""
    parent = path.absolute().parent
    while True:
        if folder:
            name = tempfile.mkdtemp(prefix=_prefix(path), dir=parent)
            Path(name).chmod(0o777 & ~_umask())
            descriptor = os.open(name, os.O_RDONLY)
        else:
            descriptor, name = tempfile.mkstemp(prefix=_prefix(path), dir=parent)
        with suppress(OSError):
            hold(descriptor)
        if Path(name).exists():
            break
        os.close(descriptor)  # Another process took it for a killed run's before it was locked.
    try:
        yield Path(name), descriptor
    finally:
        remove(name)
        os.close(descriptor)


def _prefix(path: Path) -> str:
    return f".{path.name[:100]}{_MARK}"


def settle(path: Path) -> None:
    """Remove what killed runs have left beside `path`, and undo what they had half renamed."""
    folder = path.absolute().parent
    try:
        names = [entry.name for entry in os.scandir(folder) if entry.name.startswith(f".{path.name[:100]}.")]
    except OSError:
        return
    for name in sorted(names):
        if name.startswith(_prefix(path)) and _TEMPORARY.fullmatch(name):
            _remove_stale(folder / name)
        elif name.startswith(f".{path.name}.old-"):  # As kinmer 0.1.0 called them.
            if (folder / name / "old").exists() and not path.exists():
                (folder / name / "old").rename(path)
            remove(folder / name)
        elif name.startswith(f".{path.name}.new-"):
            remove(folder / name)


def _remove_stale(path: Path) -> None:
    """Remove a temporary file or folder, unless the process that it is of still runs."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        if hold(descriptor):
            if path.is_dir():
                _undo(path)
            remove(path)
    except OSError:
        return
    finally:
        os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


def hold(descriptor: int, *, shared: bool = False) -> bool:
    """Lock a file until it is closed or its process ends; False where another process has it.

    Raises OSError on a file system without locks.
    """
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


def is_held(path: Path) -> bool:
    """Whether a process holds the file or folder; see `hold`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not hold(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def hash_ids(ids: Iterable[str]) -> str:
    """SHA-256 (hex) over the ids in order, each followed by a line feed."""
    digest, names = hashlib.sha256(), iter(ids)
    while block := list(islice(names, 4096)):
        digest.update("\n".join([*block, ""]).encode())
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
