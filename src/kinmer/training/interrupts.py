"""Ctrl-C that waits for the end of a step."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Interrupt", "interruptible"]


class Interrupt:
    """Whether Ctrl-C was pressed."""

    asked = False


@contextmanager
def interruptible() -> Iterator[Interrupt]:
    """Let Ctrl-C only ask, so that the loop ends between two steps; a second Ctrl-C ends at once."""
    interrupt = Interrupt()

    def ask(number: int, frame: FrameType | None) -> None:
        if interrupt.asked:
            raise KeyboardInterrupt
        interrupt.asked = True

    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    # The command line lets the others end a command as Ctrl-C does.
    others = (signal.SIGTERM, signal.SIGHUP)
    taken = [one for one in others if signal.getsignal(one) is signal.default_int_handler]
    before = {one: signal.signal(one, ask) for one in (signal.SIGINT, *taken)}
    try:
        yield interrupt
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
