"""Files and functions of kinmer that a command enters: `python tools/entered.py search q.fna --db my.db`."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import sys
import threading
from collections import defaultdict
from pathlib import Path
from types import FrameType

import kinmer

HOUSE = str(Path(kinmer.__file__).parent)


def main() -> None:
    """Run a command line in this process and count what it enters; importing a module does not count."""
    entered: dict[str, set[str]] = defaultdict(set)

    def note(frame: FrameType, event: str, _argument: object) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(HOUSE) and code.co_name != "<module>":
            entered[code.co_filename[len(HOUSE) + 1 :]].add(code.co_qualname)

    # What a module does while it is imported is not what a command enters: all are imported before.
    for module in pkgutil.walk_packages(kinmer.__path__, "kinmer."):
        if not module.name.endswith("__main__"):
            with contextlib.suppress(ImportError):
                importlib.import_module(module.name)
    from kinmer.cli import main as command

    sys.argv = ["kinmer", *sys.argv[1:]]
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        command()
    except SystemExit as end:
        status = end.code
    else:
        status = 0
    finally:
        sys.setprofile(None)
    functions = sum(map(len, entered.values()))
    print(f"exit {status}: {len(entered)} files, {functions} functions", file=sys.stderr)
    for file in sorted(entered):
        print(f"  {file}  {len(entered[file])}", file=sys.stderr)


if __name__ == "__main__":
    main()
