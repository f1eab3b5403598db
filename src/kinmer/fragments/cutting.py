"""Records of FASTA files, and where to cut fragments out of one of them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from kinmer.errors import SequenceError
from kinmer.fasta import nonempty, read_records
from kinmer.progress import step

__all__ = ["COLUMNS", "Cutter", "Place", "clean", "key_of", "records"]

# Of every table of fragments; labels follow.
COLUMNS = ("id", "sequence_id", "start", "end", "length", "strand")
# Places tried for one fragment before it is given up: too many ambiguous letters, or no new place left.
TRIES = 30
# IUPAC letters keep their meaning on the other strand; U is read as T.
_COMPLEMENT = bytes.maketrans(b"ACGTURYKMBVDHSWN", b"TGCAAYRMKVBHDSWN")


def key_of(text: str) -> int:
    """A number that follows from a text alone: seeds and orders that no other input changes."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


def clean(sequence_id: str) -> str:
    """An id as it stands in a fragment's id."""
    return "_".join(sequence_id.split())


def records(files: Sequence[str | Path], what: str) -> Iterator[tuple[str, bytes]]:
    """Records of all files; ids must stay unique when white space in them is made `_`."""
    seen: set[str] = set()
    files = nonempty(files)
    with step(what, len(files)) as shown:
        for file in files:
            for sequence_id, letters in read_records(file):
                if "\t" in sequence_id:
                    raise SequenceError(
                        f"the id {sequence_id!r} holds a tab", "it cannot stand in a table", place=file
                    )
                if clean(sequence_id) in seen:
                    raise SequenceError(
                        f"the id {sequence_id!r} occurs twice",
                        "fragments could not be told apart",
                        "is the same sequence in two of the files?",
                        place=file,
                    )
                seen.add(clean(sequence_id))
                yield sequence_id, letters
            shown.advance(1)


class Place(NamedTuple):
    """A fragment: from `start` up to `end` on the forward strand; `letters` on its own strand."""

    start: int
    end: int
    strand: str
    letters: bytes

    def fields(self, sequence_id: str) -> tuple[str, ...]:
        """Its row of a table, in the order of COLUMNS."""
        name = f"{clean(sequence_id)}:{self.start}-{self.end}:{self.strand}"
        size = self.end - self.start
        return (name, sequence_id, str(self.start), str(self.end), str(size), self.strand)


class Cutter:
    """Chooses fragments of one sequence after the other; the same for the same seed and sequence."""

    def __init__(
        self, low: int, high: int, seed: int | str, both_strands: bool, max_ambiguous: float
    ) -> None:
        self.low, self._high, self._seed = low, high, seed
        self._both_strands, self._max_ambiguous = both_strands, max_ambiguous

    def places(self, sequence_id: str, letters: bytes, wanted: int, first: int = 0) -> Iterator[Place]:
        """At most `wanted` fragments, no two the same, of the letters from `first` on."""
        random = np.random.default_rng(key_of(f"{self._seed}\0{sequence_id}"))
        room = len(letters) - first
        top = math.log(min(self._high, room) + 1)
        taken: set[tuple[int, int, bool]] = set()
        for _ in range(wanted):
            for _ in range(TRIES):
                size = int(math.exp(random.uniform(math.log(self.low), top)))
                size = min(max(size, self.low), self._high, room)
                start = first + int(random.integers(room - size + 1))
                reverse = bool(random.integers(2)) and self._both_strands
                piece = letters[start : start + size]
                if (start, size, reverse) in taken or self._too_ambiguous(piece):
                    continue
                taken.add((start, size, reverse))
                shown = piece.translate(_COMPLEMENT)[::-1] if reverse else piece
                yield Place(start, start + size, "-" if reverse else "+", shown)
                break

    def _too_ambiguous(self, piece: bytes) -> bool:
        return len(piece.translate(None, b"ACGTU")) > self._max_ambiguous * len(piece)
