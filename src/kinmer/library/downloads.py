"""Genome files that are elsewhere, fetched by several threads: resumed where they broke, verified."""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from kinmer._version import __version__
from kinmer.errors import InputError, UsageError
from kinmer.folders import Workshop
from kinmer.library.genomes import GenomeFile, https_of
from kinmer.library.transfers import Sessions, Transfer
from kinmer.progress import step

Log = Callable[[str], None]

# Files that may wait for one before them, a thread: memory does not grow with the list.
_AHEAD = 4
# A server that is away fails everything: no need to try a million files.
_MOST_FAILURES = 20
_LONGEST_NAME = 200


def fetch(
    files: Iterable[GenomeFile],
    folder: str | Path,
    *,
    threads: int = 4,
    retries: int = 5,
    log: Callable[[str], None] | None = None,
) -> Iterator[GenomeFile]:
    """Yield `files` in their order, each with a path; those elsewhere are first fetched into `folder`.

    A file's place in the folder is its URL's host and path, so that the folder can be given to `find_genomes`
    again. It has its name only when it is whole and has the size and sums that are listed. One that is there
    already is kept without a request, once its sums are computed where some are listed. A transfer that
    breaks resumes where it broke, also in another call, if the server says whether the file is still the
    same (entity tag or date, RFC 9110); else it begins again. A wrong sum is tried once more. Files that are
    here are handed on as they are, unread.

    threads : transfers at a time.
    retries : times in a row that a transfer, a connection or a status that passes (429, 5xx) is tried again.
    log : receives what is tried again and what failed; several threads call it.

    Raises InputError at the end, or after 20 of them, for files that could not be fetched, all others having
    been yielded; UsageError where another process fetches into the folder.
    """
    if threads < 1 or retries < 0:
        raise UsageError(f"{threads} threads and {retries} retries", "at least 1 and 0 are needed")
    return _fetch(files, Path(folder), threads, retries, log or (lambda _: None))


def place_of(url: str, folder: Path) -> Path:
    """Where in `folder` a URL's file comes to lie; different URLs of a server have different places."""
    parts = urlsplit(url)
    names = [parts.netloc.rpartition("@")[2], *parts.path.split("/")[1:]]
    if parts.query:
        names[-1] += f"?{parts.query}"
    return folder.joinpath(*(_safe(name) for name in names))


def _fetch(
    files: Iterable[GenomeFile], folder: Path, threads: int, retries: int, log: Log
) -> Iterator[GenomeFile]:
    total = len(files) if isinstance(files, list | tuple) else None
    failures: list[InputError] = []
    with step("Fetching genomes", total) as progress, _Downloads(folder, threads, retries, log) as downloads:
        waiting: deque[tuple[GenomeFile, Future[Path] | None]] = deque()
        source = iter(files)
        while True:
            while len(waiting) < threads * _AHEAD and (file := next(source, None)) is not None:
                waiting.append((file, None if file.path is not None else downloads.submit(file)))
            if not waiting:
                break
            file, future = waiting.popleft()
            try:
                got = file if future is None else replace(file, path=future.result())
            except InputError as error:
                failures.append(error)
                log(str(error))
                if len(failures) >= _MOST_FAILURES:
                    break
                continue
            progress.advance(1, downloads.speed())
            yield got
    if failures:
        raise _summary(failures)


class _Downloads:
    """Transfers by several threads into a locked folder, all stopped at the end of the block."""

    def __init__(self, folder: Path, threads: int, retries: int, log: Log) -> None:
        self._folder, self._retries, self._log = folder, retries, log
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
        self._sessions = Sessions(retries, f"kinmer/{__version__}")
        self._counting = threading.Lock()
        self._bytes, self._begun = 0, time.monotonic()
        self._targets: set[Path] = set()
        self._workshop: Workshop | None = None

    def submit(self, file: GenomeFile) -> Future[Path]:
        """Have a file fetched; the first call makes and locks the folder."""
        if self._workshop is None:
            self._workshop = _held(self._folder)
        url = https_of(file.url or "", file.place)
        target = place_of(url, self._folder)
        if target in self._targets:
            twice: Future[Path] = Future()
            twice.set_exception(
                InputError(f"{file.where} is listed twice", check="leave one out", place=file.place)
            )
            return twice
        self._targets.add(target)
        return self._pool.submit(self._transfer, replace(file, url=url), target)

    def _transfer(self, file: GenomeFile, target: Path) -> Path:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            return Transfer(file, target, self._sessions, self._retries, self._log, self._count).run()
        except OSError as error:
            raise InputError(
                f"{file.where} could not be kept", f"{target}: {error.strerror or error}", place=file.place
            ) from error

    def _count(self, moved: int) -> None:
        with self._counting:
            self._bytes += moved

    def speed(self) -> str:
        """Bytes a second since the start, in words."""
        return f"{self._bytes / 1e6 / max(time.monotonic() - self._begun, 1e-3):,.1f} MB/s"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._sessions.stop()
        self._pool.shutdown(cancel_futures=True)
        self._sessions.close()
        if self._workshop is not None:
            self._workshop.release()


def _held(folder: Path) -> Workshop:
    """The folder, made and held against other processes."""
    try:
        return Workshop(folder, make=True, busy="another process fetches into this folder")
    except OSError as error:
        raise InputError(f"{folder} cannot be written to", error.strerror or str(error)) from error


def _safe(name: str) -> str:
    """A part of a URL as a file's name, a different one for every different part."""
    # Per cent signs stay: what they stand for may be a slash.
    safe = quote(name, safe="%~!$&'()*+,;=:@[]?")
    if not safe:
        return "%"
    if safe.startswith("."):
        safe = f"%2E{safe[1:]}"
    if len(safe) <= _LONGEST_NAME:
        return safe
    return f"{hashlib.sha256(name.encode()).hexdigest()}~{safe[-80:]}"


def _summary(failures: list[InputError]) -> InputError:
    first = failures[0]
    if len(failures) == 1:
        return first
    stopped = " before it was given up" if len(failures) >= _MOST_FAILURES else ""
    return InputError(
        f"{len(failures)} files could not be fetched{stopped}; the first: {first.what}",
        first.why,
        "call it again to resume, or leave them out",
        place=first.place,
    )
