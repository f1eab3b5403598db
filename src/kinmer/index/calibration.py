"""The calibration of an index as it is kept, in ``calibration.json``."""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinmer.confidence import Calibration
from kinmer.errors import FormatError
from kinmer.files import read_json, write_json

__all__ = ["CALIBRATION", "Calibrated", "read_calibration", "write_calibration"]

CALIBRATION, KIND, FORMAT = "calibration.json", "kinmer calibration", 1
# A share of an index's entries that may come or go before its calibration is made anew.
CHANGED = 0.2


@dataclass(frozen=True)
class Calibrated:
    """What ``calibration.json`` holds. calibration : None where none could be made, for the `reason`.

    entries, labels : of the index when it was made; `labels` counts changes of its metadata.
    """

    calibration: Calibration | None
    reason: str
    entries: int
    labels: int

    def is_stale(self, entries: int, labels: int) -> bool:
        """Whether an index of so many entries, and so many changes of metadata, needs another one."""
        return labels != self.labels or abs(entries - self.entries) > CHANGED * self.entries

    def text(self, entries: int, labels: int) -> str:
        """One line for people."""
        told = self.reason or f"made of {self.entries:,} entries"
        late = "; the index has changed since: kinmer db calibrate" if self.is_stale(entries, labels) else ""
        return told + late


def write_calibration(path: Path, index: str, told: Calibrated) -> None:
    """Keep a calibration of the index called `index` at `path`, in place of the one that is there."""
    body: dict[str, Any] = {
        "kind": KIND,
        "format": FORMAT,
        "index": index,
        "entries": told.entries,
        "labels": told.labels,
        "reason": told.reason,
        "calibration": None if told.calibration is None else told.calibration.to_dict(),
    }
    write_json(path / CALIBRATION, {**body, "crc": _checksum(body)})


def read_calibration(path: Path, index: str) -> Calibrated | None:
    """The calibration of the index called `index` at `path`; None where there is none.

    Raises FormatError where it is damaged or of another index.
    """
    place = path / CALIBRATION
    if not place.is_file():
        return None
    body = read_json(place)
    crc = body.pop("crc", None)
    if body.get("kind") != KIND or body.get("format") != FORMAT or crc != _checksum(body):
        raise _damaged(place, "its checksum is another")
    if body["index"] != index:
        raise _damaged(place, "it is of another index")
    try:
        told = body["calibration"]
        found = None if told is None else Calibration.from_dict(told)
        return Calibrated(found, str(body["reason"]), int(body["entries"]), int(body["labels"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(place, str(error)) from error


def _checksum(body: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(body, sort_keys=True).encode())


def _damaged(place: Path, why: str) -> FormatError:
    return FormatError("the calibration is damaged", why, "make it anew: kinmer db calibrate", place=place)
