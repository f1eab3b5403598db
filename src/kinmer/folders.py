"""Folders of kinmer: what may be replaced, and the workshop where an unfinished one grows.

Work that takes long grows in a folder that a killed run leaves for the next one: a `Workshop`, with a
`Journal` of what is done. It is locked by ``flock`` on a file in it, so that the lock ends with its process.
The library filelock was tried. It leaves its files behind, cannot ask about a folder that may only be read,
and falls back to locks that outlive their process.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from kinmer.errors import FormatError, KinmerError, UsageError
from kinmer.files import hold, is_held, is_pipe, remove, settle, take_name, write_json
from kinmer.inputs import read_json

# What any folder of kinmer's may hold beside its own files: temporary files (those of kinmer 0.1.0 have no
# mark), locks and journals, and what a desktop leaves.
_ANYWHERE = r"(?:.*/)?(?:\..+\.(?:kinmer-)?[a-z0-9_]{8}|\.kinmer-[^/]+(?:/.*)?|\.DS_Store)"
# Files that mark a folder in which no output may be written, because it is read: stores, indexes, encoders.
_OURS = ("zarr.json", ".zgroup", "index.json", "config.json", "benchmark.json")
# Seconds to wait for a lock at least, since whoever asks whether it is held has it for a moment, and between
# two attempts.
LEAST_WAIT, _WAIT_STEP = 0.2, 0.05
_FORMAT = 1
_NAMED = ("a file takes its name", "choose another")
_inputs: ContextVar[tuple[Path, ...]] = ContextVar("inputs", default=())


@dataclass(frozen=True)
class FolderKind:
    """A folder that kinmer writes, such as an index: what is known of it decides what may be replaced.

    what : such as ``index``. marker : its JSON file that `says` accepts; empty for a kind without, known by
    its files' names. names : a pattern of the path, relative to the folder, of every file that may be in it.
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
    """The path of an output that loses nothing by being written. What a killed run left of it goes.

    Parameters
    ----------
    force : what is there may be replaced: by a file a regular file; by a folder of a `kind` such a folder,
        with nothing in it that kinmer does not write, or an empty one. Links are never replaced or
        followed.
    hint : what to do about an output that exists.
    kind : of a folder; None for a file.
    stream : it may be a pipe or a device, such as ``/dev/stdout``.

    Raises UsageError for all else: what is not a name for an output, lies in no folder, or is an input.
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
    if is_pipe(path) or parent == Path("/dev"):
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
        # No --force replaces it: mostly an argument that is in another's position.
        raise UsageError("the output exists, and is a folder", *_NAMED, place=path)
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
        raise UsageError("the output is not a regular file", *_NAMED, place=path)
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
    for given in _inputs.get():
        if not given.exists() or is_pipe(given):
            continue
        source = given.resolve()
        within = (
            real.is_relative_to(source) and source.is_dir() and any((given / name).exists() for name in _OURS)
        )
        same = real == source or (path.exists() and path.samefile(given))
        if same or source.is_relative_to(real) or within:
            inside = source.is_relative_to(real) and source != real
            what = "holds" if inside else "lies in" if within and real != source else "is"
            raise UsageError(
                f"the output {what} the input {given}",
                "it would be lost while it is read",
                "choose another output",
                place=path,
            )


class Workshop:
    """A folder where one process at a time makes something; what a killed run leaves there can be resumed.

    The lock is a file in the folder. It ends with its process, and the file goes when the lock is released.

    Parameters
    ----------
    folder : where; with `make` it is created.
    busy : what the error says where another process has the folder.
    wait : seconds to wait for that process.

    Raises
    ------
    UsageError : another process has it.
    """

    LOCK = ".kinmer-lock"

    def __init__(
        self,
        folder: str | Path,
        *,
        make: bool = False,
        busy: str = "another process is writing this store",
        wait: float = LEAST_WAIT,
    ) -> None:
        self.folder = Path(folder)
        self._descriptor: int | None = None
        if make:
            self.folder.mkdir(parents=True, exist_ok=True)
        patience = time.monotonic() + wait
        while not self._acquire():
            if time.monotonic() >= patience:
                raise UsageError(busy, check="wait for it, or end it", place=self.folder)
            time.sleep(_WAIT_STEP)

    def _acquire(self) -> bool:
        """Take the lock; False where another process has it."""
        lock = self.folder / self.LOCK
        while True:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
            with suppress(
                OSError
            ):  # On a file system without locks work is unguarded rather than impossible.
                if not hold(descriptor):
                    os.close(descriptor)
                    return False
            with suppress(FileNotFoundError):
                if lock.stat().st_ino == os.fstat(descriptor).st_ino:
                    self._descriptor = descriptor
                    return True
            os.close(descriptor)  # Its last holder has just removed the file: once more.

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    @classmethod
    def is_busy(cls, folder: Path) -> bool:
        """Whether a process works in the folder; nothing is written to find out."""
        return is_held(folder / cls.LOCK)

    def clear(self, keep: Iterable[str] = ()) -> None:
        """Remove all that is in the folder but the lock and the names in `keep`."""
        for path in list(self.folder.iterdir()):
            if path.name != self.LOCK and path.name not in keep:
                remove(path)

    def publish(self, path: Path) -> None:
        """Give the folder the name `path`, in place of what has it; the lock stays until it is released."""
        take_name(self.folder, path)
        self.folder = path

    def discard(self) -> None:
        """Remove the folder with all that is in it, and let others work."""
        remove(self.folder)
        self.release()

    def release(self) -> None:
        """Let others work in the folder."""
        if self._descriptor is not None:
            (self.folder / self.LOCK).unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


class Journal:
    """What an unfinished run has noted for the run that resumes it: a JSON file of one signature.

    Parameters
    ----------
    path : of the file.
    signature : JSON-able input and settings; runs of equal ones resume each other.
    """

    def __init__(self, path: Path, signature: Any) -> None:
        self.path = path
        self.signature = json.loads(json.dumps(signature))

    def read(self, *, force: bool = True) -> dict[str, Any] | None:
        """What was noted last; None where nothing was, where it is damaged, or another run's.

        Raises UsageError where it is another run's, unless `force`.
        """
        if not self.path.is_file():
            return None
        try:
            noted = read_json(self.path)
        except FormatError:
            # Damaged: nothing of it can be trusted, and what it was about is not whole without it.
            return None
        if noted.get("format", _FORMAT) == _FORMAT and noted.get("signature") == self.signature:
            return noted
        if force:
            return None
        raise UsageError(
            "an unfinished run with other input or settings is here",
            "it would be lost",
            "repeat the command that began it to resume it, or use --force to drop it",
            place=self.path.parent,
        )

    def write(self, **state: Any) -> None:
        """Note how far the run has come, JSON-able, in place of what was noted before."""
        write_json(self.path, {"format": _FORMAT, "signature": self.signature, **state})

    def clear(self) -> None:
        """Remove the file: the work is whole, or given up."""
        self.path.unlink(missing_ok=True)


CHECKED = "checked.json"
# File systems count time in ticks of up to 10 ms: a second change within the tick of the first would leave
# the same time. A file is noted only when its last tick is over.
TICK = 0.02


class Trust:
    """The files of an index in `folder` that were found whole, which are not read through at every opening.

    A file counts as the same while its size, its inode and its times of modification and of change are the
    same. The time of change (ctime) is what makes this safe: whoever writes to a file can set its time of
    modification back (``cp -a``, ``touch -r``), but not that one. A copy is another file and is read through
    once, by whoever opens it first. Only a disk that rots without a write goes unseen until ``kinmer db
    check``.
    """

    def __init__(self, folder: Path, *, blind: bool = False) -> None:
        """blind : forget what was found before, and note nothing."""
        self._folder, self._blind = folder, blind
        self._seen: dict[str, list[int] | None] = {}
        if blind:
            return
        try:
            self._seen = dict(read_json(folder / CHECKED))
        except (FormatError, OSError, TypeError, ValueError):
            return

    def has(self, paths: Iterable[Path]) -> bool:
        """Whether all these files are as they were when they were found whole."""
        return all(self._seen.get(self._name(path)) == _as_is(path) for path in paths)

    def note(self, paths: Iterable[Path]) -> None:
        """Remember that these files are whole now; forget files that are gone. Needs no right to write."""
        if self._blind:
            return
        paths = list(paths)
        _let_pass(paths)
        seen = {name: stamp for name, stamp in self._seen.items() if (self._folder / name).is_file()}
        seen |= {self._name(path): _as_is(path) for path in paths}
        if seen == self._seen:
            return
        self._seen = seen
        try:
            # What a search that was killed here has left.
            settle(self._folder / CHECKED)
            write_json(self._folder / CHECKED, seen)
        except OSError:
            return

    def _name(self, path: Path) -> str:
        return path.relative_to(self._folder).as_posix()


def _as_is(path: Path) -> list[int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]


def _let_pass(paths: Iterable[Path]) -> None:
    """Wait until the next change of any of these files would have a time of its own."""
    latest = max((stamp[2] for path in paths if (stamp := _as_is(path))), default=0) / 1e9
    time.sleep(min(TICK, max(0.0, latest + TICK - time.time())))
