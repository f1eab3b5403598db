"""Checkpoints: named tensors and one JSON file, the commit point, that names the current ones; and Ctrl-C."""

from __future__ import annotations

import hashlib
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import safetensors.torch
from torch import Tensor

from kinmer.errors import FormatError, UsageError
from kinmer.files import remove, write_bytes, write_json
from kinmer.folders import Workshop
from kinmer.inputs import read_json


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


FORMAT = 1
STATE, FINISHED = "state.json", "finished.json"
SUFFIX = ".safetensors"
# The lock of kinmer 0.1.0, which may lie in the folder of an unfinished run.
OLD_LOCK = ".lock"
AFRESH = "use --force to start afresh"


@dataclass(frozen=True)
class Checkpoint:
    """What was saved: a JSON-able state, and named sets of named tensors."""

    state: dict[str, Any]
    tensors: dict[str, dict[str, Tensor]]


class Checkpoints:
    """The folder of one run's checkpoints, hidden beside the run's output.

    Parameters
    ----------
    output : what the run will give; its checkpoints are in ``.NAME.training`` beside it.
    signature : JSON-able settings and data of the run; a checkpoint of another signature is not its own.
    """

    def __init__(self, output: Path, signature: Mapping[str, Any]) -> None:
        self.folder = _folder_of(output)
        self._signature = dict(signature)

    @contextmanager
    def opened(self, *, force: bool = False) -> Iterator[None]:
        """Hold the folder for one run; `force` empties it where it is another run's.

        Raises UsageError where another process holds it or a checkpoint of another run is in it.
        """
        with Workshop(self.folder, make=True, busy="another process is training this encoder") as workshop:
            try:
                if self._is_another(force):
                    workshop.clear()
                for unfinished in self.folder.glob(".*.*"):
                    remove(unfinished)
                yield
            finally:
                if not (self.folder / STATE).exists():
                    remove(self.folder)

    def _is_another(self, force: bool) -> bool:
        """Whether a checkpoint of another run, or a damaged one, is there; refused without `force`."""
        if not (self.folder / STATE).exists():
            return False
        try:
            state = read_json(self.folder / STATE)
            if state.get("format") != FORMAT:
                raise FormatError("the checkpoint was written by another version", place=self.folder)
            differing = _differences(state.get("signature"), self._signature)
            if force and not differing:
                self.load()
        except FormatError as error:
            if not force:
                raise FormatError(error.what, error.why, AFRESH, place=error.place) from None
            differing = ["all"]
        if differing and not force:
            raise UsageError(
                "an unfinished training with other settings or data is here",
                f"it differs in {', '.join(differing)}",
                "give the same command to resume it, or --force to start afresh",
                place=self.folder,
            )
        return bool(differing)

    def load(self) -> Checkpoint | None:
        """The last checkpoint; None before the first. FormatError where it is damaged."""
        if not (self.folder / STATE).exists():
            return None
        saved = read_json(self.folder / STATE)
        tensors = {}
        try:
            for name, (file, digest) in saved["files"].items():
                data = (self.folder / file).read_bytes()
                if hashlib.sha256(data).hexdigest() != digest:
                    raise ValueError(f"{file} is not what was written")
                tensors[name] = safetensors.torch.load(data)
            return Checkpoint(saved["state"], tensors)
        except (OSError, KeyError, TypeError, ValueError, safetensors.SafetensorError) as error:
            raise FormatError(
                "the checkpoint is damaged",
                f"{type(error).__name__}: {error}",
                AFRESH,
                place=self.folder,
            ) from error

    def save(self, state: Mapping[str, Any], tensors: Mapping[str, tuple[str, Mapping[str, Tensor]]]) -> None:
        """Replace the checkpoint by `state` and the named sets of tensors.

        Each set comes with a version; one whose version is in the folder already is not written again. A kill
        at any moment leaves the old checkpoint or the new one.
        """
        old = read_json(self.folder / STATE)["files"] if (self.folder / STATE).exists() else {}
        files = {}
        for name, (version, content) in tensors.items():
            file = f"{name}-{version}{SUFFIX}"
            if name in old and old[name][0] == file:
                files[name] = old[name]
                continue
            data = safetensors.torch.save({key: tensor.contiguous() for key, tensor in content.items()})
            write_bytes(self.folder / file, data)
            files[name] = [file, hashlib.sha256(data).hexdigest()]
        write_json(
            self.folder / STATE,
            {"format": FORMAT, "signature": self._signature, "state": dict(state), "files": files},
        )
        current = {file for file, _ in files.values()}
        for path in self.folder.glob(f"*{SUFFIX}"):
            if path.name not in current:
                path.unlink()

    def finish(self, fingerprint: str) -> None:
        """Note that the run is about to give its output, an encoder of this fingerprint."""
        write_json(self.folder / FINISHED, {"fingerprint": fingerprint})

    @staticmethod
    def clear(output: Path) -> None:
        """Remove what a run has left that was killed when `output` was whole."""
        folder = _folder_of(output)
        try:
            if {path.name for path in folder.iterdir()} - {Workshop.LOCK, OLD_LOCK}:
                made = read_json(folder / FINISHED)["fingerprint"]
                if made != read_json(output / "config.json")["fingerprint"]:
                    return
            with Workshop(folder):
                _dismantle(folder)
        except (FormatError, KeyError, OSError, UsageError):
            return

    def remove(self) -> None:
        """Remove all of it: the run has given its output."""
        _dismantle(self.folder)


def _dismantle(folder: Path) -> None:
    """Remove a folder of checkpoints; the note that its run has finished goes last."""
    for path in folder.iterdir():
        if path.name != FINISHED:
            remove(path)
    remove(folder)


def _folder_of(output: Path) -> Path:
    return output.absolute().parent / f".{output.name}.training"


def _differences(ours: object, theirs: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of what differs between two nested settings.

    Settings that only the older one has are passed over: kinmer 0.2 dropped those of pairs of fragments.
    """
    if not isinstance(ours, dict):
        return ["all"]
    names = []
    for key in sorted(theirs):
        one, other = ours.get(key), theirs.get(key)
        if isinstance(one, dict) and isinstance(other, dict):
            names += _differences(one, other, f"{prefix}{key}.")
        elif one != other:
            names.append(f"{prefix}{key}")
    return names
