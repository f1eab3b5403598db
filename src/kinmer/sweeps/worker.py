"""The process of `kinmer.sweeps.workers`: a line with what is common to all trials, then a line a trial."""

from __future__ import annotations

import json
import os
import queue
import threading
import warnings
from typing import Any

from kinmer.sweeps.trials import Setup, Task, run_trial

__all__ = ["main"]


STDIN, STDOUT, STDERR = 0, 1, 2
READ_BYTES = 1 << 16


def main() -> None:
    """Run trials until the input ends, or until SIGINT."""
    warnings.simplefilter("ignore")
    # Whatever a library prints must not come between the records.
    output = os.dup(STDOUT)
    os.dup2(STDERR, STDOUT)
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    try:
        setup = Setup.from_dict(json.loads(lines.get()))
        while True:
            record = run_trial(Task(**json.loads(lines.get())), setup)
            _write(output, record)
    except KeyboardInterrupt:
        os._exit(130)


def _read(lines: queue.SimpleQueue[str]) -> None:
    """Hand lines on; the end of the input ends the process at once: whoever started it is gone."""
    rest = b""
    while part := os.read(STDIN, READ_BYTES):
        *whole, rest = (rest + part).split(b"\n")
        for line in whole:
            lines.put(line.decode())
    os._exit(0)


def _write(output: int, record: dict[str, Any]) -> None:
    data = json.dumps(record).encode() + b"\n"
    while data:
        data = data[os.write(output, data) :]


if __name__ == "__main__":
    main()
