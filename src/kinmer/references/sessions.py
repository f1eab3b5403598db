"""HTTP sessions of several threads that can all be stopped at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

__all__ = ["TRANSIENT", "Sessions", "Stopped"]

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
        # The file as it lies there: a body packed for the way could not be gone on with.
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
