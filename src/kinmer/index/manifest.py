"""What an index says of itself in ``index.json``, and the names of its files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinmer import __version__
from kinmer.errors import FormatError
from kinmer.files import read_json, write_json
from kinmer.folders import FolderKind
from kinmer.index.table import FORMAT
from kinmer.inputs import described, is_sealed, sealed
from kinmer.stores import ENGINES, Metric

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = [
    "CALIBRATION",
    "ENCODER",
    "ENTRIES",
    "FORMAT",
    "INDEX",
    "MAKING",
    "MANIFEST",
    "damaged_calibration",
    "raise_format",
    "read_calibration",
    "read_manifest",
    "save_manifest",
    "write_calibration",
    "write_manifest",
]

# Formats that are read; what is written is `FORMAT`.
READ = (2, FORMAT)
MANIFEST, ENTRIES, ENCODER = "index.json", "entries.sqlite", "encoder"
CALIBRATION, CALIBRATION_FORMAT = "calibration.json", 1
# What an index is being made of; gone when it is made.
MAKING = "making.json"
# An engine's folder is its library's own.
INDEX = FolderKind(
    "index",
    MANIFEST,
    lambda told: told.get("kind") == "kinmer index",
    r"(?:index|making|checked|calibration)\.json"
    r"|encoder/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md)"
    r"|(?:entries|metadata|\.metadata)\.sqlite(?:-wal|-shm|-journal)?"
    r"|(?:vectors-\d+\.f32|rows-\d+\.bin|letters-\d+\.bin)|engine-(?:hnsw|chroma|exact)/.*"
    r"|\.engine-\w+\.(?:new|old|kinmer)-\w+/.*",
)


def write_manifest(
    folder: Path, *, index: str, engine: str, metric: Metric, encoder: Encoder, pieces: dict[str, Any]
) -> None:
    """Describe an index. pieces : how long sequences are cut."""
    save_manifest(
        folder,
        {
            "kind": "kinmer index",
            "format": FORMAT,
            "index": index,
            "engine": engine,
            "metric": metric,
            "dim": encoder.dim,
            "encoder_fingerprint": encoder.fingerprint,
            "layout": encoder.layout.to_dict(),
            "pieces": pieces,
            "kinmer_version": __version__,
        },
    )


def save_manifest(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write the description of the index at `path` with its checksum, and give it."""
    manifest = sealed(manifest)
    write_json(path / MANIFEST, manifest)
    return manifest


def raise_format(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Let older kinmers know that the index at `path` is of today's format; gives its description."""
    if manifest["format"] != FORMAT:
        return save_manifest(path, {**manifest, "format": FORMAT})
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """The description of the index at `path`; FormatError where there is none of this version."""
    if not path.is_dir():
        raise FormatError(
            "no such index"
            if not path.exists()
            else "this is no index: it is a folder, made by kinmer index",
            check="is the path right? If kinmer index was interrupted, run it again",
            place=path,
        )
    if not (path / MANIFEST).is_file():
        raise FormatError(
            "this folder is no index", f"it is {described(path)}", "make one with kinmer index", place=path
        )
    manifest = read_json(path / MANIFEST)
    if manifest.get("kind") != "kinmer index":
        raise FormatError("this is no index", "its index.json says nothing of one", place=path)
    if manifest.get("format") not in READ:
        raise FormatError(
            f"the index has format {manifest.get('format')}, this version reads 2 to {FORMAT}",
            check=f"kinmer {manifest.get('kinmer_version', '?')} wrote it: build it again with this one",
            place=path,
        )
    # kinmer 0.1.0 wrote no checksum.
    if not is_sealed(manifest) and ("crc" in manifest or manifest["format"] == FORMAT):
        raise FormatError(
            "index.json is damaged",
            "its checksum is another",
            "copy the index again, or build it again",
            place=path / MANIFEST,
        )
    texts = all(isinstance(manifest.get(name), str) for name in ("index", "encoder_fingerprint"))
    known = manifest.get("engine") in ENGINES and manifest.get("metric") in ("cosine", "l2")
    dim = manifest.get("dim")
    if not (texts and known and isinstance(dim, int) and dim > 0):
        raise FormatError("index.json is damaged", "a field is missing or unknown", place=path / MANIFEST)
    return manifest


def write_calibration(path: Path, index: str, body: dict[str, Any]) -> None:
    """Keep a calibration of the index called `index` at `path`. body : see `kinmer.confidence`."""
    stamp = {"kind": "kinmer calibration", "format": CALIBRATION_FORMAT, "index": index}
    write_json(path / CALIBRATION, sealed({**stamp, **body}))


def read_calibration(path: Path, index: str) -> dict[str, Any] | None:
    """What is kept as the calibration of the index called `index` at `path`; None where there is none.

    Raises FormatError where it is damaged or of another index.
    """
    location = path / CALIBRATION
    if not location.is_file():
        return None
    body = read_json(location)
    known = body.get("kind") == "kinmer calibration" and body.get("format") == CALIBRATION_FORMAT
    if not known or not is_sealed(body):
        raise damaged_calibration(location, "its checksum is another")
    if body["index"] != index:
        raise damaged_calibration(location, "it is of another index")
    return body


def damaged_calibration(location: Path, why: str) -> FormatError:
    """The error for a calibration that cannot be used."""
    return FormatError(
        "the calibration is damaged", why, "make it again: kinmer db calibrate", place=location
    )
