"""A web server in a thread that behaves as NCBI's and GTDB's do, and breaks as asked."""

from __future__ import annotations

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["Page", "Web", "serving"]


@dataclass
class Page:
    """What lies under a path, and how its server misbehaves.

    statuses : (status, headers) of the first answers, before the body is given.
    break_after : bytes of an answer's body after which the connection is cut, in the first `breaks` answers
        (-1: in all).
    pause : seconds after every 16 kB.
    """

    body: bytes = b""
    redirect: str | None = None
    statuses: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    ranges: bool = True
    tag: bool = True
    weak: bool = False
    date: str | None = None
    break_after: int | None = None
    breaks: int = 1
    length: int | None = None
    chunked: bool = False
    encoding: str | None = None
    pause: float = 0.0
    other_part: bool = False

    @property
    def etag(self) -> str | None:
        digest = f'"{hashlib.md5(self.body).hexdigest()}"'
        return None if not self.tag else f"W/{digest}" if self.weak else digest


@dataclass
class Web:
    """A running server: its pages, which may be changed, and what it was asked."""

    url: str
    pages: dict[str, Page]
    asked: list[tuple[str, str | None, int]] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)
    agents: set[str] = field(default_factory=set)
    lock: Any = field(default_factory=threading.Lock)

    def requests(self, path: str) -> list[tuple[str | None, int]]:
        """(Range, status) of every request for a path."""
        with self.lock:
            return [(part, status) for one, part, status in self.asked if one == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: Web

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        web = self.web
        web.agents.add(self.headers.get("User-Agent", ""))
        page = web.pages.get(self.path)
        if page is None:
            self._plain(404, {})
        elif page.statuses:
            self._plain(*page.statuses.pop(0))
        elif page.redirect is not None:
            self._plain(302, {"Location": page.redirect})
        else:
            self._page(page)

    def _note(self, status: int) -> None:
        with self.web.lock:
            self.web.asked.append((self.path, self.headers.get("Range"), status))

    def _plain(self, status: int, headers: dict[str, str]) -> None:
        self._note(status)
        self.send_response(status)
        for name, value in {"Content-Length": "4", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"nope")

    def _page(self, page: Page) -> None:
        asked, start = self.headers.get("Range"), 0
        condition = self.headers.get("If-Range")
        same = condition is None or condition in (page.etag, page.date)
        if asked and page.ranges and same:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start and start >= len(page.body):
            self._plain(416, {"Content-Range": f"bytes */{len(page.body)}"})
            return
        self._note(206 if start else 200)
        self.send_response(206 if start else 200)
        if start:
            shown = start - 1 if page.other_part else start
            self.send_header("Content-Range", f"bytes {shown}-{len(page.body) - 1}/{len(page.body)}")
        for name, value in (
            ("ETag", page.etag),
            ("Last-Modified", page.date),
            ("Content-Encoding", page.encoding),
        ):
            if value is not None:
                self.send_header(name, value)
        if page.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            length = len(page.body) - start if page.length is None else page.length
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self._body(page, page.body[start:])

    def _body(self, page: Page, body: bytes) -> None:
        cut = page.break_after is not None and page.breaks != 0
        if cut:
            page.breaks -= 1
            body = body[: page.break_after]
        for at in range(0, len(body), 1 << 14):
            block = body[at : at + (1 << 14)]
            try:
                self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block) if page.chunked else block)
                self.wfile.flush()
            except OSError:
                self.close_connection = True
                return
            with self.web.lock:
                self.web.sent[self.path] = self.web.sent.get(self.path, 0) + len(block)
            if page.pause:
                time.sleep(page.pause)
        if page.chunked and not cut:
            self.wfile.write(b"0\r\n\r\n")
        if cut or page.length is not None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def serving(**pages: Page) -> Iterator[Web]:
    """A server of these pages on a free port of this machine; ``Web.pages`` takes more, by path."""
    web = Web("", {f"/{name}": page for name, page in pages.items()})
    handler = type("Handler", (_Handler,), {"web": web})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    web.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
