"""One file over HTTP: resumed where it broke, whole and verified before it has its name."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from kinmer.errors import InputError
from kinmer.files import sync_directory, write_json
from kinmer.inputs import parse_json, read_bytes
from kinmer.library.genomes import GenomeFile, difference

# Seconds until a connection stands, and until the next byte comes.
TIMEOUT = (20, 60)
TRANSIENT = (408, 425, 429, 500, 502, 503, 504)
_BACKOFF, _LONGEST_BACKOFF = 0.5, 60.0
# A server that asks to be left alone for longer is taken at its word: the call fails and may be made again.
_LONGEST_ASKED = 600


class Stopped(Exception):  # noqa: N818 – no error: somebody asked for it
    """The caller wants no more."""


class Sessions:
    """A session for every thread; requests' own are not made to be shared.

    A connection that fails and a status that passes (429, 503, …) are tried again up to `retries` times, with
    pauses that double, or as long as the server asks for (Retry-After).
    """

    def __init__(self, retries: int, user_agent: str) -> None:
        self._retries, self._user_agent = retries, user_agent
        self._own = threading.local()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._all: list[requests.Session] = []
        self._running: set[requests.Response] = set()

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stop.is_set()

    def wait(self, seconds: float) -> None:
        """Sleep; raises Stopped as soon as `stop` is called."""
        if self._stop.wait(seconds):
            raise Stopped

    @contextmanager
    def get(self, url: str, headers: dict[str, str]) -> Iterator[requests.Response]:
        """The answer to a GET, its body not read yet. Raises requests.RequestException and Stopped."""
        # The file as it lies there: a body packed for the way could not be resumed.
        headers = {"Accept-Encoding": "identity", **headers}
        with self._session().get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
            with self._lock:
                self._running.add(response)
            try:
                if self.stopped:
                    raise Stopped
                yield response
            finally:
                with self._lock:
                    self._running.discard(response)

    def stop(self) -> None:
        """Wake everybody who waits or reads, to end with Stopped or a broken transfer."""
        self._stop.set()
        with self._lock:
            for response in self._running:
                # Already read to its end, or closed.
                with suppress(ValueError, RuntimeError, OSError):
                    response.raw.shutdown()

    def close(self) -> None:
        """Close all connections; no thread may be at work any more."""
        for session in self._all:
            session.close()

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = requests.Session()
            session.headers["User-Agent"] = self._user_agent
            adapter = HTTPAdapter(max_retries=self._patience())
            session.mount("https://", adapter)
            session.mount("http://", adapter)
            with self._lock:
                self._all.append(session)
        return session

    def _patience(self) -> Retry:
        wait = self.wait

        class Patience(Retry):
            """Retry whose pauses end when all is stopped."""

            def sleep(self, response: Any = None) -> None:
                asked = self.get_retry_after(response) if response is not None else None
                wait(self.get_backoff_time() if asked is None else min(asked, _LONGEST_ASKED))

        return Patience(
            total=self._retries,
            status_forcelist=TRANSIENT,
            allowed_methods=("GET",),
            backoff_factor=_BACKOFF,
            backoff_max=_LONGEST_BACKOFF,
            raise_on_status=False,
        )


# Of a partly fetched file: what its server said of it.
PART, ABOUT = ".part", ".part.json"
_BLOCK = 1 << 16
_LARGEST_ABOUT = 1 << 20
# Of a file of which no size is listed; the largest genome that is known takes some 40 GB.
LARGEST_FILE = 64 << 30
# Seconds that a transfer waits before it resumes, doubled from one to the next.
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_REASONS = {
    401: "the server wants a password",
    403: "the server forbids it",
    404: "there is no such file on the server",
    410: "the file is gone from the server",
}


class _BrokenError(Exception):
    """A transfer that ended early and may be resumed."""


@dataclass
class Transfer:
    """The way of one file to its place.

    target : where it comes to lie; its folder exists.
    retries : times in a row that a transfer may break without a byte more than before.
    moved : receives the size of every block.
    """

    file: GenomeFile
    target: Path
    sessions: Sessions
    retries: int
    log: Callable[[str], None]
    moved: Callable[[int], None]

    def __post_init__(self) -> None:
        self.part = self.target.with_name(f".{self.target.name}{PART}")
        self.about = self.target.with_name(f".{self.target.name}{ABOUT}")

    def run(self) -> Path:
        """Fetch the file unless it is there; its place.

        Raises InputError: the server has no such file, it breaks again and again, the sums are wrong twice.
        """
        if self.target.is_file():
            wrong = difference(self.file, self.target)
            if not wrong:
                return self.target
            self.log(f"{self.target} is fetched again: {wrong}")
        self._fetch()
        if wrong := difference(self.file, self.part):
            self.log(f"{self.file.where} is fetched again: {wrong}")
            self._forget()
            self._fetch()
            if wrong := difference(self.file, self.part):
                self._forget()
                raise InputError(
                    f"{self.file.where} is not the file it should be, twice",
                    wrong,
                    "is the sum that of this version of the file?",
                    place=self.file.place,
                )
        self.part.replace(self.target)
        self.about.unlink(missing_ok=True)
        sync_directory(self.target.parent)
        return self.target

    def _fetch(self) -> None:
        """Bring the whole file to `part`."""
        failures, furthest = 0, 0
        while True:
            try:
                self._receive()
                return
            except _BrokenError as error:
                size = self.part.stat().st_size if self.part.exists() else 0
                # A server that gives a little more each time is slow, not broken.
                failures, furthest = (0, size) if size > furthest else (failures + 1, furthest)
                if failures >= self.retries:
                    raise self._error(
                        f"the transfer broke {failures + 1} times in a row", str(error)
                    ) from error
                self.log(f"{self.file.where}: {error}; resuming from {size:,} bytes")
                self.sessions.wait(min(_PAUSE * 2**failures, _LONGEST_PAUSE))

    def _receive(self) -> None:
        """One request, for what is still missing."""
        size, about = self._left()
        if size and about.get("total") == size:
            # Killed between the last byte and the name.
            return
        # Without a validator the rest might be that of another version.
        validator = str(about.get("validator") or "")
        done = size if validator else 0
        headers = {"Range": f"bytes={done}-", "If-Range": validator} if done else {}
        try:
            with self.sessions.get(self.file.url or "", headers) as response:
                if response.status_code == requests.codes.requested_range_not_satisfiable and done:
                    self._finish(response, done)
                    return
                done = self._place(response, done)
                self._write(response, done)
        except requests.RequestException as error:
            # The session has tried again as often as it may.
            raise self._error(_plain(error)) from error

    def _left(self) -> tuple[int, dict[str, object]]:
        """Size of what an earlier transfer of this URL left, and what the server said of the file."""
        try:
            about = parse_json(read_bytes(self.about, _LARGEST_ABOUT))
            size = self.part.stat().st_size
        except (OSError, ValueError, InputError):
            return 0, {}
        return (size, about) if isinstance(about, dict) and about.get("url") == self.file.url else (0, {})

    def _finish(self, response: requests.Response, done: int) -> None:
        """The server has nothing behind what is here: that was all, or it is another file."""
        if response.headers.get("Content-Range", "").rpartition("/")[2].strip() != str(done):
            self._forget()
            raise _BrokenError("the server has another file by now")

    def _place(self, response: requests.Response, done: int) -> int:
        """Where the answer's bytes belong; writes down what the server says of a file that begins again."""
        status = response.status_code
        if status == requests.codes.partial_content:
            if not response.headers.get("Content-Range", "").strip().startswith(f"bytes {done}-"):
                self._forget()
                raise _BrokenError("the server sent another part than it was asked for")
            return done
        if status != requests.codes.ok:
            busy = "the server is busy or broken" if status in TRANSIENT else "the server refuses it"
            raise self._error(_REASONS.get(status, busy), f"status {status}")
        self.part.unlink(missing_ok=True)
        length = response.headers.get("Content-Length", "")
        total = int(length) if length.isascii() and length.isdigit() and len(length) < 19 else None
        if total is not None and total > self._most:
            raise self._too_large(f"the server has {total:,} bytes")
        write_json(self.about, {"url": self.file.url, "validator": _validator(response), "total": total})
        return 0

    def _write(self, response: requests.Response, done: int) -> None:
        expected = self.file.size
        try:
            with self.part.open("r+b" if done else "wb") as out:
                out.seek(done)
                self._copy(response, out)
                out.flush()
                os.fsync(out.fileno())
        except (urllib3.exceptions.HTTPError, OSError) as error:
            if isinstance(error, OSError) and error.filename is not None:
                raise self._error(f"{error.filename}: {error.strerror}") from error
            raise _BrokenError(_plain(error)) from error
        size = self.part.stat().st_size
        if expected is not None and size < expected:
            raise _BrokenError(f"the transfer ended after {size:,} of {expected:,} bytes")

    def _copy(self, response: requests.Response, out: IO[bytes]) -> None:
        # The bytes as they lie on the server: what is packed there stays packed, and the sums are of that.
        left = self._most - out.tell()
        for block in response.raw.stream(_BLOCK, decode_content=False):
            left -= len(block)
            if left < 0:
                self._forget()
                raise self._too_large("the server sends more")
            out.write(block)
            self.moved(len(block))
            if self.sessions.stopped:
                raise Stopped

    @property
    def _most(self) -> int:
        """Bytes that the file has at most."""
        return LARGEST_FILE if self.file.size is None else self.file.size

    def _too_large(self, what: str) -> InputError:
        known = self.file.size is not None
        return InputError(
            f"{self.file.where} is larger than it should be",
            f"{what}, {'expected' if known else 'the most without a size is'} {self._most:,}",
            "is the size that of this version of the file?" if known else "give its size in the column size",
            place=self.file.place,
        )

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.about.unlink(missing_ok=True)

    def _error(self, why: str, detail: str = "") -> InputError:
        return InputError(
            f"{self.file.where} could not be fetched",
            f"{why} ({detail})" if detail else why,
            "call it again to resume, or look at the address",
            place=self.file.place,
        )


def _validator(response: requests.Response) -> str:
    """What If-Range may hold (RFC 9110, 13.1.5): a strong entity tag, else the date of the last change."""
    tag: str = response.headers.get("ETag", "")
    if tag.startswith('"'):
        return tag
    date: str = response.headers.get("Last-Modified", "")
    return date


def _plain(error: Exception) -> str:
    """What broke, without the layers that libraries put around it."""
    cause: BaseException = error
    seen = set()
    while id(cause) not in seen:
        seen.add(id(cause))
        inner = getattr(cause, "reason", None) or (cause.args[-1] if cause.args else None)
        if isinstance(inner, BaseException):
            cause = inner
    return (str(cause) or type(cause).__name__).split("\n")[0]
