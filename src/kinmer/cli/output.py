"""All that kinmer writes to stdout and stderr goes through here.

Ids, metadata and names of files are others' words. On a terminal, letters that would act on it (ESC and the
other controls, C1, directions of writing, what has no width) are written as ``\\x1b``; files and pipes get
every byte as it is. What goes to files and pipes is UTF-8 whatever the locale says, and names of files that
are not get their own bytes back. Nothing that is written can fail for a letter that an encoding lacks.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Literal, TextIO, cast

from kinmer.progress import printable

HANDLER = "kinmer"


def prepare_streams() -> None:
    """UTF-8 for files and pipes; a terminal keeps its encoding, and what that lacks is escaped."""
    codecs.register_error(HANDLER, _own_bytes)
    for stream in (sys.stdout, sys.stderr):
        # Not what a test or a notebook has put there.
        if isinstance(stream, io.TextIOWrapper):
            if stream.isatty():
                stream.reconfigure(errors="backslashreplace")
            else:
                stream.reconfigure(encoding="utf-8", errors=HANDLER)


def _own_bytes(error: UnicodeError) -> tuple[str | bytes, int]:
    """Bytes of a file's name that is no UTF-8, as it has them; other halves of surrogate pairs escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    letter = error.object[error.start]
    code = ord(letter)
    if 0xDC80 <= code <= 0xDCFF:
        return bytes([code - 0xDC00]), error.start + 1
    return letter.encode("ascii", "backslashreplace"), error.start + 1


class _Screen:
    """stdout or stderr as it is at every write: a progress bar may have taken its place meanwhile."""

    def __init__(self, name: Literal["stdout", "stderr"]) -> None:
        self._name = name

    def _stream(self) -> TextIO:
        stream: TextIO = getattr(sys, self._name)
        return stream

    def write(self, text: str) -> int:
        stream = self._stream()
        return stream.write(printable(text) if stream.isatty() else text)

    def flush(self) -> None:
        self._stream().flush()

    def isatty(self) -> bool:
        return self._stream().isatty()


# What writers of tables are given.
screen = cast(TextIO, _Screen("stdout"))
_messages = _Screen("stderr")


def say(text: str) -> None:
    """A line of results, on stdout."""
    screen.write(text + "\n")
    screen.flush()


def complain(text: str) -> None:
    """A line for the person, on stderr."""
    _messages.write(text + "\n")
    _messages.flush()
