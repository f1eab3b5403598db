"""Files that are whole or absent: atomic writes, folders built aside, hashes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, TextIO

from isal import isal_zlib

from kinmer.errors import KinmerError, UsageError
from kinmer.inputs import parse_json, read_json

__all__ = [
    "FolderKind",
    "built_aside",
    "check_folder",
    "check_output",
    "clear_temporaries",
    "file_checksum",
    "guarded_inputs",
    "hash_file",
    "hash_ids",
    "hold",
    "is_held",
    "read_json",
    "remove",
    "replaced",
    "replaced_text",
    "scratch",
    "settle",
    "sync_directory",
    "take_name",
    "write_bytes",
    "write_json",
    "written_together",
]


_CRC_BYTES = 1 << 22
# Hidden files and folders of a run that goes on are called .NAME.kinmer-xxxxxxxx and locked by its process.
_MARK = ".kinmer-"
_TEMPORARY = re.compile(r"\..+\.kinmer-[a-z0-9_]{8}")
# What any folder of kinmer's may hold beside its own files: temporary files (those of kinmer 0.1.0 have no
# mark), locks and journals, and what a desktop leaves.
_ANYWHERE = r"(?:.*/)?(?:\..+\.(?:kinmer-)?[a-z0-9_]{8}|\.kinmer-[^/]+(?:/.*)?|\.DS_Store)"
_NEW, _OLD, _MOVES = "new", "old", "moves.json"
# Files that tell a folder in which no output may be written, because it is read: stores, indexes, encoders.
_OURS = ("zarr.json", ".zgroup", "index.json", "config.json", "benchmark.json")
_STANDARD = {"/dev/stdout": 1, "/dev/stderr": 2}
_inputs: ContextVar[tuple[Path, ...]] = ContextVar("inputs", default=())


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
    if _is_stream(path):
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


@dataclass(frozen=True)
class FolderKind:
    """A folder that kinmer writes, such as an index: what is known of it tells what may be replaced.

    what : such as ``index``. marker : its JSON file that `says` accepts; empty for a kind without, which its
    files' names tell. names : a pattern of the path, relative to the folder, of every file that may be in it.
    """

    what: str
    marker: str
    says: Callable[[dict[str, Any]], bool]
    names: str

    def is_at(self, path: Path) -> bool:
        """Whether a folder has the marker of this kind."""
        if not self.marker:
            return True
        try:
            return self.says(read_json(path / self.marker))
        except (KinmerError, OSError, AttributeError, KeyError, TypeError):
            return False

    def strange(self, path: Path) -> str | None:
        """The first file in a folder, by its path in it, that kinmer does not write there; None for none."""
        known = re.compile(f"(?:{self.names})|{_ANYWHERE}")
        for parent, folders, files in os.walk(path):
            folders.sort()
            links = [name for name in folders if Path(parent, name).is_symlink()]
            for name in sorted([*files, *links]):
                inside = Path(parent, name).relative_to(path).as_posix()
                if name in links or known.fullmatch(inside) is None:
                    return inside
        return None


@contextmanager
def guarded_inputs(paths: Iterable[str | Path]) -> Iterator[None]:
    """Within the block `check_output` refuses an output that is one of these, or within one."""
    token = _inputs.set(tuple(Path(path) for path in paths))
    try:
        yield
    finally:
        _inputs.reset(token)


def check_output(
    path: str | Path,
    *,
    force: bool = False,
    hint: str = "use --force to replace it",
    kind: FolderKind | None = None,
    stream: bool = False,
) -> Path:
    """The path of an output, where nothing would be lost by writing it. What a killed run left of it goes.

    Parameters
    ----------
    force : what is there may be replaced: by a file a regular file; by a folder of a `kind` such a folder,
        with nothing in it that kinmer does not write, or an empty one. Links are never replaced or followed.
    hint : what to do about an output that exists.
    kind : of a folder; None for a file.
    stream : it may be a pipe or a device, such as ``/dev/stdout``.

    Raises UsageError for all else: what is no name for an output, lies in no folder, or is an input.
    """
    path = Path(path)
    if path.name in ("", "..", "~") or "\0" in str(path):
        raise UsageError(f"{str(path)!r} is not a name for an output", check="name a file or folder")
    parent = path.absolute().parent
    try:
        if not parent.is_dir():
            raise UsageError(f"the folder {parent} does not exist", place=path)
        there = path.exists() or path.is_symlink()
    except OSError as error:
        raise UsageError("the output cannot be written", error.strerror or str(error), place=path) from error
    if _is_stream(path) or parent == Path("/dev"):
        if stream and there:
            return path
        raise UsageError(
            "the output is a device or a pipe", "this output takes a name of its own", "name one", place=path
        )
    settle(path)
    _refuse_input(path)
    if not (path.exists() or path.is_symlink()):
        return path
    if kind is None and path.is_dir() and not path.is_symlink():
        # No --force replaces it: an argument that is in another's place, mostly.
        raise UsageError(
            "the output exists, and is a folder", "a file takes its name", "choose another", place=path
        )
    if not force:
        raise UsageError("the output exists already", check=hint, place=path)
    if path.is_symlink():
        raise UsageError(
            "the output is a link",
            "replacing it could lose what it leads to",
            "name what it leads to, or remove the link",
            place=path,
        )
    if kind is not None:
        _refuse_strange(path, kind)
    elif not path.is_file():
        raise UsageError(
            "the output is not a regular file", "a file takes its name", "choose another", place=path
        )
    return path


def check_folder(path: Path, kind: FolderKind) -> None:
    """UsageError where a working folder holds what kinmer does not write there."""
    if path.is_symlink() or not path.is_dir() or (strange := kind.strange(path)) is not None:
        named = f"holds {strange}" if path.is_dir() and not path.is_symlink() else "is not a folder"
        raise UsageError(
            f"{path.name}, where the {kind.what} is to grow, {named}",
            "kinmer does not write that",
            "move it away, or choose another output",
            place=path,
        )


def _refuse_strange(path: Path, kind: FolderKind) -> None:
    """UsageError where a folder, or what stands in its place, is not kinmer's alone."""
    why, check = "replacing it would remove other files", "choose another output"
    if path.is_dir() and Path.cwd().resolve().is_relative_to(path.resolve()):
        raise UsageError("the output holds the current folder", why, check, place=path)
    if path.is_dir() and not any(path.iterdir()):
        return
    if not path.is_dir() or not kind.is_at(path):
        what = "is a folder that holds" if path.is_dir() else "is"
        raise UsageError(f"the output {what} no {kind.what}", why, check, place=path)
    if (strange := kind.strange(path)) is not None:
        raise UsageError(
            f"the output holds {strange}, which kinmer did not write",
            why,
            "move it away, or choose another output",
            place=path,
        )


def _refuse_input(path: Path) -> None:
    """UsageError where writing `path` would change what is read: an input, its folder, or a file in it."""
    real = path.resolve()
    for one in _inputs.get():
        if not one.exists() or _is_stream(one):
            continue
        source = one.resolve()
        within = (
            real.is_relative_to(source) and source.is_dir() and any((one / name).exists() for name in _OURS)
        )
        if real == source or source.is_relative_to(real) or within or (path.exists() and path.samefile(one)):
            inside = source.is_relative_to(real) and source != real
            what = "holds" if inside else "lies in" if within and real != source else "is"
            raise UsageError(
                f"the output {what} the input {one}",
                "it would be lost while it is read",
                "choose another output",
                place=path,
            )


def _is_stream(path: Path) -> bool:
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
            (one, room / _OLD / one.name, parent / one.name)
            for parent, room in rooms.items()
            for one in sorted((room / _NEW).iterdir())
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
        hold(descriptor)
        if Path(name).exists():
            break
        os.close(descriptor)  # Another process took it for a killed run's before it was locked.
    try:
        yield Path(name), descriptor
    finally:
        remove(name)
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process holds the file or folder; see `hold`."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not hold(descriptor)
    finally:
        os.close(descriptor)


def hold(descriptor: int) -> bool:
    """Lock a file until it is closed or its process ends; whether that can be done and nobody else has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _prefix(path: Path) -> str:
    return f".{path.name[:100]}{_MARK}"


def settle(path: Path) -> None:
    """Remove what killed runs have left beside `path`, and undo what they had begun to rename."""
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
        if not hold(descriptor):
            return
        if path.is_dir():
            _undo(path)
        remove(path)
    finally:
        os.close(descriptor)


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


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
