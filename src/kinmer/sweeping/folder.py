"""The folder of a sweep: held by one process, and stamped with what its scores were taken on."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kinmer.errors import FormatError, UsageError
from kinmer.files import FolderKind, clear_temporaries, read_json, remove, write_json
from kinmer.sweeping.report import FORMAT, KIND, OUTPUT

__all__ = ["opened", "stamp"]

LOCK = ".lock"
# Of the folders of a trial only the encoders are looked into by name: a training keeps its own files.
SWEEP = FolderKind(
    "sweep",
    OUTPUT,
    lambda told: told.get("kind") == KIND,
    r"\.lock|(?:trials|settings)\.tsv|sweep\.(?:md|json)|\.?sweep(?:-map)?\.(?:png|svg)(?:\.new)?"
    r"|search\.journal(?:\.lock)?|trials/[^/]+\.json|validation/(?:queries\.fna(?:\.tsv)?|folds\.tsv)"
    r"|encoders/[^/]+/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md|training\.png)"
    r"|encoders/[^/]+/tensorboard/[^/]+|encoders/\.[^/]+/.*|\.validation\..*",
)


@contextmanager
def opened(folder: Path, force: bool) -> Iterator[None]:
    """Hold the sweep's folder, which is made where there is none; `force` empties it.

    Raises UsageError where it holds something else or another process sweeps in it.
    """
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"the folder {folder.absolute().parent} does not exist", place=folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError("the output is a file", "a sweep is a folder", place=folder)
    if folder.is_dir() and not (folder / OUTPUT).exists() and SWEEP.strange(folder) is not None:
        raise UsageError("the output holds no sweep", check="choose a new folder", place=folder)
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("another process is at this sweep", check="wait for it", place=folder) from None
        clear_temporaries(folder)
        if force:
            if (strange := SWEEP.strange(folder)) is not None:
                raise UsageError(
                    f"the output holds {strange}, which kinmer did not write",
                    "starting afresh would remove it",
                    "move it away, or choose a new folder",
                    place=folder,
                )
            for path in folder.iterdir():
                if path.name != LOCK:
                    remove(path)
        yield


def stamp(folder: Path, signature: Mapping[str, Any]) -> None:
    """Write the signature where there is none; refuse another one: its scores could not be compared."""
    if not (folder / OUTPUT).exists():
        write_json(folder / OUTPUT, {"kind": KIND, "format": FORMAT, "signature": signature})
        return
    there = read_json(folder / OUTPUT)
    if there.get("kind") != KIND or there.get("format") != FORMAT:
        raise FormatError(f"this is no sweep of format {FORMAT}", place=folder)
    old = there.get("signature", {})
    if old != signature:
        before, now = old.get("data", {}), signature["data"]
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        raise UsageError(
            "the folder holds a sweep of other data",
            f"it differs in {', '.join(names) or 'the score'}",
            "choose a new folder, or --force to start afresh",
            place=folder,
        )
