"""The calibration of an index as it is kept, in ``calibration.json``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinmer.confidence import Calibration
from kinmer.errors import FormatError
from kinmer.files import read_json, write_json
from kinmer.index.table import EntryTable
from kinmer.inputs import is_sealed, sealed

__all__ = ["CALIBRATION", "Calibrated", "Changes", "Extent", "read_calibration", "write_calibration"]

CALIBRATION, KIND, FORMAT = "calibration.json", "kinmer calibration", 1
# A share of an index's genomes, or entries, that may come or go before its calibration no longer fits.
CHANGED = 0.2
CURE = "kinmer db calibrate"


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
        state = table.state
        names = ("entries", "labels", "genomes", "next_entry", "next_genome")
        return cls(*(int(state.get(name, 0)) for name in names))


@dataclass(frozen=True)
class Changes:
    """What has come and gone since a calibration was made. genomes, entries : of which it was made."""

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
                parts.append(f"{' and '.join(changed)} to the {before:,} {what}")
        if self.labels:
            parts.append("metadata changed")
        return ", ".join(parts)


@dataclass(frozen=True)
class Calibrated:
    """What ``calibration.json`` holds. calibration : None where none could be made, for the `reason`.

    extent : of the index when it was made.
    """

    calibration: Calibration | None
    reason: str
    extent: Extent

    def changes(self, table: EntryTable) -> Changes:
        """What has come to an index, and gone, since."""
        then, now = self.extent, Extent.of(table)

        def moved(then: int, next_then: int, now: int, column: str, rows: str) -> tuple[int, int]:
            if next_then < 0:
                # Made by kinmer 0.1.0, which noted the number of entries alone.
                return (max(0, now - then), max(0, then - now)) if then >= 0 else (0, 0)
            with table.told():
                sql = f"SELECT COUNT(*) FROM {rows} WHERE {column} >= ?"
                (added,) = table.connection.execute(sql, (next_then,)).fetchone()
            return int(added), max(0, then - (now - int(added)))

        return Changes(
            max(0, then.genomes),
            then.entries,
            *moved(then.genomes, then.next_genome, now.genomes, "genome", "genomes"),
            *moved(then.entries, then.next_entry, now.entries, "_entry", "entries"),
            now.labels != then.labels,
        )

    def is_stale(self, table: EntryTable) -> bool:
        """Whether the index has become another one, so that the calibration no longer fits."""
        return self.changes(table).stale

    def warning(self, table: EntryTable) -> str:
        """One line where the calibration no longer fits; else empty."""
        changes = self.changes(table)
        return f"the calibration no longer fits ({changes.text()}): {CURE}" if changes.stale else ""

    def text(self, table: EntryTable) -> str:
        """One line for people."""
        made = f"made of {self.extent.entries:,} entries"
        if self.extent.genomes >= 0:
            made += f" of {self.extent.genomes:,} genomes"
        told = [self.reason or made]
        if self.calibration is not None and (note := self.calibration.caution()):
            told.append(note)
        changes = self.changes(table)
        if changes.stale:
            told.append(f"no longer fits ({changes.text()}): {CURE}")
        elif since := changes.text():
            told.append(f"since then {since}")
        return "; ".join(told)


def write_calibration(path: Path, index: str, told: Calibrated) -> None:
    """Keep a calibration of the index called `index` at `path`, in place of the one that is there."""
    body: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "index": index,
        "entries": told.extent.entries,
        "labels": told.extent.labels,
        "genomes": told.extent.genomes,
        "next": [told.extent.next_entry, told.extent.next_genome],
        "reason": told.reason,
        "calibration": None if told.calibration is None else told.calibration.to_dict(),
    }
    write_json(path / CALIBRATION, sealed(body))


def read_calibration(path: Path, index: str) -> Calibrated | None:
    """The calibration of the index called `index` at `path`; None where there is none.

    Raises FormatError where it is damaged or of another index.
    """
    place = path / CALIBRATION
    if not place.is_file():
        return None
    body = read_json(place)
    if body.get("kind") != KIND or body.get("format") != FORMAT or not is_sealed(body):
        raise _damaged(place, "its checksum is another")
    if body["index"] != index:
        raise _damaged(place, "it is of another index")
    try:
        told = body["calibration"]
        found = None if told is None else Calibration.from_dict(told)
        next_entry, next_genome = map(int, body.get("next", (-1, -1)))
        genomes = int(body.get("genomes", -1))
        extent = Extent(int(body["entries"]), int(body["labels"]), genomes, next_entry, next_genome)
        return Calibrated(found, str(body["reason"]), extent)
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place, str(error)) from error


def _damaged(place: Path, why: str) -> FormatError:
    return FormatError("the calibration is damaged", why, "make it anew: kinmer db calibrate", place=place)
