"""Calibrates an index by its own sequences."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from kinmer.confidence import calibrate
from kinmer.errors import InputError
from kinmer.index.calibration import Calibrated, Extent, write_calibration
from kinmer.index.database import KinIndex
from kinmer.index.masking import masked_samples
from kinmer.index.pooling import LineageBook
from kinmer.index.sampling import Fragments, sample_entries, sample_fragments
from kinmer.index.sequences import EntryLetters

__all__ = ["make_calibration"]

SEED = 0

Log = Callable[[str], None]


def make_calibration(path: Path, *, threads: int | None = None, log: Log) -> Calibrated:
    """Learn from the index at `path` itself how far its answers can be trusted, and keep it there.

    Fragments of its genomes are searched as if their genome, species, genus or family were not in it. Where
    there are no letters to cut them from, whole sequences are searched instead.

    The caller has the lock. Raises as `KinIndex.open`, and what reading letters raises.
    """
    began = time.perf_counter()
    with KinIndex.open(path, log=log, threads=threads) as index, index.reading():
        book = LineageBook(index)
        reason, samples = "the metadata have no ranks", []
        if book.told and len(index):
            fragments = _fragments(index, book, threads, log)
            samples = masked_samples(index, book, fragments)
            reason = "the reference has too few genomes and species to calibrate: no verdicts are given"
        found = calibrate(samples, book.lineages()) if samples else None
        told = Calibrated(found, "" if found else reason, Extent.of(index.table))
        write_calibration(path, index.manifest["index"], told)
    if found is not None:
        if note := found.caution():
            log(note)
        log(f"calibrated in {time.perf_counter() - began:.0f} s")
    else:
        log(f"not calibrated: {reason}")
    return told


def _fragments(index: KinIndex, book: LineageBook, threads: int | None, log: Log) -> Fragments:
    letters = EntryLetters(index)
    if lacking := letters.lacking():
        log(f"calibrated with whole sequences, not fragments: {lacking}")
        return sample_entries(index, book, seed=SEED)
    try:
        return sample_fragments(index, book, letters, seed=SEED, threads=threads)
    except InputError as error:
        log(f"calibrated with whole sequences, not fragments: {error.why}")
        return sample_entries(index, book, seed=SEED)
