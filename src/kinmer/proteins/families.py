"""Families of proteins, and the molecules that have them: representatives, kept in a file and searched."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load, save

from kinmer.errors import FormatError
from kinmer.inputs import read_bytes
from kinmer.proteins.homologs import (
    CODES,
    GAP,
    NUCLEOTIDES,
    SEEDS,
    scratch,
    search_windows,
    seed_places,
)

# Kinds of molecules that are counted: `kinmer.molecules.MOLECULES[:3]`.
COUNTED = 3
# Codons of a frame in a query. Frames of a window that count, the longest.
QUERY_CODONS = 60
FRAMES = 64
# Letters of a window, and windows of a query that are read, spread over it.
WINDOW, WINDOWS = 10_000, 2

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Families:
    """Representatives of families, and by kind of molecule the genera whose molecules have them.

    letters : (n,) uint8 positions in `AMINO_ACIDS`, GAP before, between and behind representatives. starts :
    (r + 1,) of them. pairs : (p,) int32 genus * 3 + kind. bounds : (r + 1,) which are of a representative.
    genera : their names.
    """

    letters: Bytes
    starts: NDArray[np.int64]
    pairs: NDArray[np.int32]
    bounds: NDArray[np.int64]
    genera: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.starts) - 1

    @classmethod
    def of(cls, proteins: list[Bytes], pairs: list[NDArray[np.int32]], genera: tuple[str, ...]) -> Families:
        """From representatives and their pairs."""
        parts = [np.array([GAP], np.uint8)]
        for protein in proteins:
            parts += [protein, parts[0]]
        starts = 1 + np.cumsum([0, *(len(protein) + 1 for protein in proteins)])
        bounds = np.cumsum([0, *map(len, pairs)])
        return cls(np.concatenate(parts), starts, np.concatenate(pairs).astype(np.int32), bounds, genera)

    @cached_property
    def number(self) -> Floats:
        """(3,) genera with any family, by kind of molecule."""
        known = np.unique(self.pairs[self.pairs >= 0])
        return np.maximum(np.bincount(known % COUNTED, minlength=COUNTED), 1).astype(np.float64)

    @cached_property
    def _tables(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        firsts = np.zeros((len(SEEDS), CODES + 1), np.int32)
        places = np.empty((len(SEEDS), len(self.letters)), np.int32)
        seed_places(self.letters, firsts, places)
        return firsts, places

    @cached_property
    def _rooms(self) -> list[tuple[NDArray[Any], ...]]:
        """What no search is working with at the moment."""
        return []

    def search(
        self, dna: Bytes, spans: NDArray[np.int64], threads: int = 1
    ) -> tuple[NDArray[np.int64], Floats]:
        """What windows of `dna`, nucleotides as in `NUCLEOTIDES`, resemble, in `threads` at a time.

        Gives (w, 2), the numbers of their frames and of these frames' letters, and (w, FRAMES, 5) as of
        `search_windows`, the longest first."""
        frames, rows = np.zeros((len(spans), 2), np.int64), np.zeros((len(spans), FRAMES, 2 + COUNTED))
        tables, library = self._tables, (self.letters, self.starts, self.pairs, self.bounds)

        def work(part: tuple[int, int]) -> None:
            try:
                room = self._rooms.pop()
            except IndexError:
                room = scratch(len(self))
            search_windows(dna, spans, part, QUERY_CODONS, library, tables, room, frames, rows)
            self._rooms.append(room)

        parts = [(at, threads) for at in range(threads)]
        if threads == 1:
            work(parts[0])
        else:
            with ThreadPoolExecutor(threads) as pool:
                list(pool.map(work, parts))
        return frames, rows

    def to_tensors(self) -> dict[str, NDArray[np.generic]]:
        """Letters of five bits, lengths, and pairs, as they are kept."""
        kept = self.letters[self.letters != GAP]
        bits = np.unpackbits(kept[:, None], axis=1)[:, 3:]
        return {
            "letters": np.packbits(bits),
            "lengths": (np.diff(self.starts) - 1).astype(np.uint16),
            "pairs": self.pairs.astype(np.uint16),
            "numbers": np.diff(self.bounds).astype(np.uint16),
            "genera": np.frombuffer("\n".join(self.genera).encode(), np.uint8),
        }

    @classmethod
    def from_tensors(cls, kept: dict[str, NDArray[np.generic]]) -> Families:
        """From `to_tensors`."""
        lengths, numbers = kept["lengths"].astype(np.int64), kept["numbers"].astype(np.int64)
        bits = np.unpackbits(kept["letters"].astype(np.uint8))[: 5 * lengths.sum()].reshape(-1, 5)
        letters = bits @ np.array([16, 8, 4, 2, 1], np.uint8)
        starts, bounds = 1 + np.concatenate([[0], np.cumsum(lengths + 1)]), np.cumsum(np.r_[0, numbers])
        joined = np.full(starts[-1], GAP, np.uint8)
        here = np.ones(len(joined), bool)
        here[0], here[starts[1:] - 1] = False, False
        joined[here] = letters
        genera = tuple(kept["genera"].tobytes().decode().split("\n"))
        made = cls(joined, starts, kept["pairs"].astype(np.int32), bounds, genera)
        if (letters >= GAP).any() or bounds[-1] != len(made.pairs):
            raise ValueError("letters or pairs do not go together")
        return made


def windows_of(letters: Sequence[bytes]) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64]]:
    """Windows of sequences: all nucleotides, the spans (w, 2) of windows in them, and whose they are (w,).

    A sequence is one window, or several of equal length, spread over it.
    """
    dna = NUCLEOTIDES[np.frombuffer(b"".join(letters), np.uint8)]
    spans, owners, begin = [], [], 0
    for owner, text in enumerate(letters):
        count = min(WINDOWS, -(-len(text) // WINDOW)) or 1
        width = min(len(text), WINDOW) if count == WINDOWS else -(-len(text) // count)
        for start in np.linspace(0, len(text) - width, count).astype(int).tolist():
            spans.append((begin + start, begin + start + width))
            owners.append(owner)
        begin += len(text)
    return dna, np.array(spans, np.int64).reshape(-1, 2), np.array(owners, np.int64)


def write_tensors(path: Path, tensors: dict[str, NDArray[np.generic]]) -> None:
    """Keep arrays in a file; the same arrays give the same file."""
    path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in sorted(tensors.items())}))


def read_tensors(path: Path) -> dict[str, NDArray[np.generic]]:
    """Arrays of a file; FormatError where it is damaged."""
    try:
        return dict(load(read_bytes(path)))
    except Exception as error:
        raise FormatError("the file of protein families is damaged", str(error), place=str(path)) from error
