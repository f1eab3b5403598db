"""A headless Chromium, driven over its DevTools protocol."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from websockets.sync.client import connect

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
# WebGL by software, so that it works on any machine; no network.
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """The browser's path; None where there is none."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
    """One page of a browser."""

    def __init__(self, *, width: int = 1400, height: int = 900) -> None:
        found = chromium()
        if found is None:
            raise FileNotFoundError("there is no Chromium")
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        profile = Path(self._folder.name)
        self._process = subprocess.Popen(
            [found, *FLAGS, f"--user-data-dir={profile}", f"--window-size={width},{height}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            pages = [one for one in json.load(answer) if one["type"] == "page"]
        self._socket = connect(pages[0]["webSocketDebuggerUrl"], max_size=None, open_timeout=60)
        self._number = 0
        size = {"width": width, "height": height, "screenWidth": width, "screenHeight": height}
        self.call("Emulation.setDeviceMetricsOverride", **size, deviceScaleFactor=1, mobile=False)

    def _port(self, file: Path) -> int:
        for _ in range(600):
            if file.exists() and (lines := file.read_text().splitlines()):
                return int(lines[0])
            time.sleep(0.1)
        raise TimeoutError("the browser does not start")

    def call(self, method: str, **given: Any) -> dict[str, Any]:
        """One call of the protocol, and its answer."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": given}))
        while True:
            told: dict[str, Any] = json.loads(self._socket.recv(timeout=300))
            if told.get("id") == self._number:
                if "error" in told:
                    raise RuntimeError(told["error"]["message"])
                found: dict[str, Any] = told["result"]
                return found

    def open(self, path: Path) -> None:
        """Go to a file."""
        self.call("Page.enable")
        self.call("Page.navigate", url=path.resolve().as_uri())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression; of a promise, when it is there."""
        told = self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in told:
            raise RuntimeError(told["exceptionDetails"]["exception"].get("description", "it failed"))
        return told["result"].get("value")

    def wait(self, expression: str, seconds: float = 120) -> Any:
        """The value of an expression as soon as it is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            value = self.ask(expression)
            if value:
                return value
            time.sleep(0.1)
        raise TimeoutError(expression)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """An event of the mouse."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def picture(self, path: Path) -> None:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

    def memory(self) -> int:
        """Bytes of all its processes (Linux), those that several share counted once."""
        parents = {}
        for status in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                parents[int(status.parent.name)] = int(status.read_text().rpartition(")")[2].split()[1])
        own = {self._process.pid}
        while more := {one for one, parent in parents.items() if parent in own} - own:
            own |= more
        kilobytes = 0
        for one in own:
            with contextlib.suppress(OSError):
                text = Path(f"/proc/{one}/smaps_rollup").read_text()
                kilobytes += int(text.partition("\nPss:")[2].split()[0])
        return 1024 * kilobytes

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.terminate()
        self._process.wait(30)
        self._folder.cleanup()
