"""Sequences without any biology, for measuring speed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from kinmer.progress import step
from kinmer.simulate.sequence import LETTERS

__all__ = ["random_contigs", "write_random_contigs", "write_record"]


def random_contigs(n: int, length: int, *, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """`n` sequences of `length` uniformly random letters, with their ids; one small batch in memory."""
    rng = np.random.Generator(np.random.PCG64(seed))
    fours = LETTERS[np.arange(256)[:, None] >> np.array([6, 4, 2, 0]) & 3].copy().view(np.uint32).ravel()
    width = -(-length // 4)
    batch = max(1, (1 << 22) // max(1, length))
    for first in range(0, n, batch):
        rows = min(batch, n - first)
        letters = fours[np.frombuffer(rng.bytes(rows * width), np.uint8)].view(np.uint8).reshape(rows, -1)
        for row in range(rows):
            yield f"contig_{first + row + 1}", letters[row, :length].tobytes()


def write_random_contigs(path: str | Path, n: int, length: int, *, seed: int = 0) -> None:
    """Stream `random_contigs` to a FASTA file."""
    with Path(path).open("wb") as fasta, step("writing contigs", n) as progress:
        for name, sequence in random_contigs(n, length, seed=seed):
            write_record(fasta, name, sequence)
            progress.advance()


def write_record(file: BinaryIO, name: str, sequence: bytes, width: int = 80) -> None:
    lines = (sequence[start : start + width] for start in range(0, len(sequence), width))
    file.write(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n")
