"""What a killed map goes on from: a hidden folder beside the output."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError
from kinmer.files import read_json, remove, replaced, write_json
from kinmer.maps.descent import State

__all__ = ["Journal"]

FORMAT = 1


class Journal:
    """Neighbours, once they are found, and the state of the descent, once a minute.

    Tied to a signature of input and settings: what another run left is removed. Without a folder nothing is
    kept.
    """

    def __init__(self, folder: Path | None, signature: dict[str, Any]) -> None:
        self._folder = folder
        if folder is None:
            return
        wanted = {"format": FORMAT, "signature": signature}
        try:
            if read_json(folder / "signature.json") == wanted:
                return
        except FormatError:
            pass
        remove(folder)
        folder.mkdir()
        write_json(folder / "signature.json", wanted)

    @property
    def kept(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def neighbours(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Indices and conditional probabilities (n, k); None where they were not found yet."""
        found = self._read("indices.npy"), self._read("conditional.npy")
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def keep_neighbours(self, indices: NDArray[np.int32], conditional: NDArray[np.float32]) -> None:
        """Keep what took longest to find."""
        self._write("indices.npy", indices)
        self._write("conditional.npy", conditional)

    def state(self) -> State | None:
        """The last state that was kept."""
        kept = self._read("state.npy")
        if kept is None:
            return None
        done = int(kept[0, 0])
        points, update, gains = np.split(kept[1:], 3)
        return State(points.copy(), done, update.copy(), gains.copy())

    def keep_state(self, state: State) -> None:
        """Replace the state that is kept."""
        assert state.update is not None
        assert state.gains is not None
        # One array, one file: whole or not there.
        head = np.array([[state.done, 0]], float)
        self._write("state.npy", np.concatenate([head, state.points, state.update, state.gains]))

    def discard(self) -> None:
        """The map is whole: nothing of this is needed any more."""
        if self._folder is not None:
            remove(self._folder)

    def _read(self, name: str) -> NDArray[Any] | None:
        if self._folder is None:
            return None
        try:
            kept: NDArray[Any] = np.load(self._folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return kept

    def _write(self, name: str, array: NDArray[Any]) -> None:
        if self._folder is not None:
            with replaced(self._folder / name) as file:
                np.save(file, array, allow_pickle=False)
