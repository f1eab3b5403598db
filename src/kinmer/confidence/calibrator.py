"""Calibrates an index by its own sequences, and knows when a kept calibration no longer fits."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinmer.confidence.candidates import GenomeMeans
from kinmer.confidence.model import Calibration, OlderFormError
from kinmer.confidence.pool import LineageBook
from kinmer.errors import FormatError, InputError
from kinmer.index import Storage
from kinmer.index.manifest import CALIBRATION, damaged_calibration, read_calibration
from kinmer.index.table import EntryTable
from kinmer.resources import cpu_threads

if TYPE_CHECKING:
    from kinmer.confidence.probes import Probes
    from kinmer.index import IndexWriter

# A share of an index's genomes, or entries, that may come or go before its calibration no longer fits.
CHANGED = 0.2
CURE = "kinmer db calibrate"
SEED = 0
OLDER = f"an older version of kinmer made the calibration, and there are no verdicts without: {CURE}"


@dataclass(frozen=True)
class Extent:
    """What an index held at some time: numbers of entries and genomes, the next number that either would
    get, and how often the metadata had been changed. Numbers are never given twice. -1: not known.
    """

    entries: int
    labels: int
    genomes: int = -1
    next_entry: int = -1
    next_genome: int = -1

    @classmethod
    def of(cls, table: EntryTable) -> Extent:
        """What a table holds now."""
        names = ("entries", "labels", "genomes", "next_entry", "next_genome")
        return cls(*(int(table.state.get(name, 0)) for name in names))


@dataclass(frozen=True)
class Changes:
    """What was added and deleted since a calibration was made. genomes, entries : of which it was made."""

    genomes: int
    entries: int
    genomes_added: int
    genomes_deleted: int
    entries_added: int
    entries_deleted: int
    labels: bool

    @property
    def share(self) -> float:
        """The share of the genomes, or of the entries, whichever is larger."""
        genomes = (self.genomes_added + self.genomes_deleted) / max(1, self.genomes)
        return max(genomes, (self.entries_added + self.entries_deleted) / max(1, self.entries))

    @property
    def stale(self) -> bool:
        """Whether the calibration no longer fits."""
        return self.labels or self.share > CHANGED

    def text(self) -> str:
        """In words; empty where nothing has changed."""
        parts = []
        for what, before, added, deleted in (
            ("genomes", self.genomes, self.genomes_added, self.genomes_deleted),
            ("entries", self.entries, self.entries_added, self.entries_deleted),
        ):
            if added or deleted:
                changed = [f"{added:,} added"] * bool(added) + [f"{deleted:,} deleted"] * bool(deleted)
                parts.append(f"{' and '.join(changed)} {'of' if deleted else 'to'} the {before:,} {what}")
        if self.labels:
            parts.append("metadata changed")
        return ", ".join(parts)


@dataclass(frozen=True)
class Calibrated:
    """A kept calibration. calibration : None where none could be made, for the `reason`.

    extent : of the index when it was made.
    """

    calibration: Calibration | None
    reason: str
    extent: Extent

    def changes(self, table: EntryTable) -> Changes:
        """What was added to an index and deleted from it since."""
        then, now = self.extent, Extent.of(table)

        def moved(then: int, next_then: int, now: int, kind: str) -> tuple[int, int]:
            if next_then < 0:
                # Made by kinmer 0.1.0, which noted the number of entries alone.
                return (max(0, now - then), max(0, then - now)) if then >= 0 else (0, 0)
            added = table.count_from(kind, next_then)
            return added, max(0, then - (now - added))

        return Changes(
            max(0, then.genomes),
            then.entries,
            *moved(then.genomes, then.next_genome, now.genomes, "genomes"),
            *moved(then.entries, then.next_entry, now.entries, "entries"),
            now.labels != then.labels,
        )

    def is_stale(self, table: EntryTable) -> bool:
        """Whether the index has changed so much that the calibration no longer fits."""
        return self.changes(table).stale

    def warning(self, table: EntryTable) -> str:
        """One line where the calibration no longer fits; else empty."""
        if self.reason == OLDER:
            return OLDER
        changes = self.changes(table)
        return f"the calibration no longer fits ({changes.text()}): {CURE}" if changes.stale else ""

    def text(self, table: EntryTable) -> str:
        """One line for people."""
        made = f"made of {self.extent.entries:,} entries"
        if self.extent.genomes >= 0:
            made += f" of {self.extent.genomes:,} genomes"
        parts = [self.reason or made]
        if self.calibration is not None and (note := self.calibration.caution()):
            parts.append(note)
        changes = self.changes(table)
        if changes.stale:
            parts.append(f"no longer fits ({changes.text()}): {CURE}")
        elif since := changes.text():
            parts.append(f"since then {since}")
        return "; ".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "entries": self.extent.entries,
            "labels": self.extent.labels,
            "genomes": self.extent.genomes,
            "next": [self.extent.next_entry, self.extent.next_genome],
            "reason": self.reason,
            "calibration": None if self.calibration is None else self.calibration.to_dict(),
        }

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Calibrated:
        """From `to_dict`; ValueError, KeyError or TypeError for anything else."""
        model, reason = stored["calibration"], str(stored["reason"])
        try:
            calibration = None if model is None else Calibration.from_dict(model)
        except OlderFormError:
            calibration, reason = None, OLDER
        next_entry, next_genome = map(int, stored.get("next", (-1, -1)))
        genomes = int(stored.get("genomes", -1))
        extent = Extent(int(stored["entries"]), int(stored["labels"]), genomes, next_entry, next_genome)
        return cls(calibration, reason, extent)


@dataclass(frozen=True)
class Known:
    """What verdicts of one state of an index rest on."""

    book: LineageBook
    means: GenomeMeans
    calibrated: Calibrated | None


def known_of(index: Storage) -> Known:
    """What verdicts of the newest state rest on, made once for all searches of it; as `calibration_of`."""
    with index.reading():
        if index.known is None:
            index.known = Known(LineageBook(index), GenomeMeans(index), calibration_of(index))
        known: Known = index.known
        return known


def calibration_of(index: Storage) -> Calibrated | None:
    """The calibration of an index; None where it was never calibrated.

    Raises FormatError where it is damaged or gone.
    """
    return _parsed(index.stored_calibration(), index.path)


def refresh_calibration(writer: IndexWriter, *, force: bool = False) -> None:
    """Learn from the references how far answers can be trusted, unless little has changed since.

    Fragments of the index's genomes are searched as if their genome, species, genus or family were not in it.
    Where there are no sequences to cut them from, whole sequences are searched instead.

    force : learn whatever has changed. Raises as `KinIndex.open`, and what reading sequences raises.
    """
    kept = _kept(writer)
    if not force and kept is not None and kept.reason != OLDER and not kept.is_stale(writer.table):
        return
    # A search learns nothing.
    from kinmer.confidence.cases import masked_samples
    from kinmer.confidence.learn import calibrate

    began = time.perf_counter()
    with Storage.open(writer.path, log=writer.log, threads=writer.threads) as index, index.reading():
        book, means = LineageBook(index), GenomeMeans(index)
        reason, samples = "the metadata have no ranks", []
        if book.has_ranks and len(index):
            samples = masked_samples(index, book, _probes(index, book, writer), means)
            reason = "the reference has too few genomes and species to calibrate: no verdicts are given"
        # Its matrices are small: threads of BLAS would only wait for each other.
        with cpu_threads(1):
            learned = calibrate(samples, book.lineages(), means) if samples else None
        made = Calibrated(learned, "" if learned else reason, Extent.of(index.table))
    writer.keep_calibration(made.to_dict())
    if learned is None:
        writer.log(f"not calibrated: {reason}")
        return
    if note := learned.caution():
        writer.log(note)
    writer.log(f"calibrated in {time.perf_counter() - began:.0f} s")


def warn_stale(writer: IndexWriter) -> None:
    """Log a line where the calibration no longer fits what the index has become."""
    kept = _kept(writer)
    if kept is not None and (line := kept.warning(writer.table)):
        writer.log(line)


def _parsed(stored: Mapping[str, Any] | None, path: Path) -> Calibrated | None:
    if stored is None:
        return None
    try:
        return Calibrated.from_dict(stored)
    except (KeyError, TypeError, ValueError) as error:
        raise damaged_calibration(path / CALIBRATION, str(error)) from error


def _kept(writer: IndexWriter) -> Calibrated | None:
    """The calibration as it is; a damaged one is logged and counts as none."""
    try:
        return _parsed(read_calibration(writer.path, writer.manifest["index"]), writer.path)
    except FormatError as error:
        writer.log(str(error))
        return None


def _probes(index: Storage, book: LineageBook, writer: IndexWriter) -> Probes:
    from kinmer.confidence.probes import sample_entries, sample_probes
    from kinmer.index.sequences import EntryLetters

    letters = EntryLetters(index)
    lacking = letters.lacking()
    if not lacking:
        try:
            return sample_probes(index, book, letters, seed=SEED, threads=writer.threads)
        except InputError as error:
            lacking = error.why
    writer.log(f"calibrated with whole sequences, not fragments: {lacking}")
    return sample_entries(index, book, seed=SEED)
