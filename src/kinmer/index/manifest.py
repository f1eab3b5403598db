"""The formats of an index: its description in ``index.json``, its files, the lines of its table."""

from __future__ import annotations

import json
import sqlite3
import zlib
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinmer._version import __version__
from kinmer.errors import FormatError
from kinmer.files import write_json
from kinmer.folders import FolderKind
from kinmer.inputs import described, is_sealed, read_json, sealed
from kinmer.sketches import SKETCH_K, SKETCH_SCALE
from kinmer.stores import ENGINES, Metric

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

# 3: an entry is known by its genome and its id, and a file by its prefix too; until 2 ids were unique.
FORMAT = 3
# Formats that are read; what is written is `FORMAT`.
READ = (2, FORMAT)
# What is kept of entries beside their vectors: a table of places and a file of blobs each.
BLOBS = ("letters", "sketches")
SKETCH = {"k": SKETCH_K, "scale": SKETCH_SCALE}
# Of a compact index.
COMPACT_SCALE = 500
MANIFEST, ENTRIES, ENCODER = "index.json", "entries.sqlite", "encoder"
CALIBRATION, CALIBRATION_FORMAT = "calibration.json", 1
# What an index is being made of; gone when it is made.
MAKING = "making.json"
# An engine's folder is its library's own.
INDEX = FolderKind(
    "index",
    MANIFEST,
    lambda manifest: manifest.get("kind") == "kinmer index",
    r"(?:index|making|checked|calibration)\.json"
    r"|encoder/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md)"
    r"|(?:entries|metadata|\.metadata)\.sqlite(?:-wal|-shm|-journal)?"
    r"|(?:vectors-\d+\.(?:f32|i8)|rows-\d+\.bin|letters-\d+\.bin|sketches-\d+\.bin)"
    r"|(?:engine-(?:hnsw|chroma|exact)(?:\.growing)?|homology)/.*|\.(?:engine-\w+|homology)\.(?:new|old|kinmer)-\w+/.*",
)


def write_manifest(
    folder: Path,
    *,
    index: str,
    engine: str,
    metric: Metric,
    encoder: Encoder,
    pieces: dict[str, Any],
    scale: int = SKETCH_SCALE,
) -> None:
    """Describe an index. pieces : how long sequences are cut. scale : of its sketches."""
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
            "sketch": {"k": SKETCH_K, "scale": scale},
            "kinmer_version": __version__,
        },
    )


def save_manifest(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Write the description of the index at `path` with its checksum, and give it."""
    manifest = sealed(manifest)
    write_json(path / MANIFEST, manifest)
    return manifest


def sketch_scale(manifest: dict[str, Any]) -> int:
    """The scale of an index's sketches: one in so many k-mers is kept. 0 where it cannot be read."""
    sketch = manifest.get("sketch", SKETCH)
    known = isinstance(sketch, dict) and sketch.get("k") == SKETCH_K and isinstance(sketch.get("scale"), int)
    return sketch["scale"] if known and sketch["scale"] >= SKETCH_SCALE else 0


def raise_format(path: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Let older kinmers know that the index at `path` is of today's format; gives its description."""
    if manifest["format"] != FORMAT or "sketch" not in manifest:
        return save_manifest(path, {**manifest, "format": FORMAT, "sketch": SKETCH})
    return manifest


def read_manifest(path: Path) -> dict[str, Any]:
    """The description of the index at `path`; FormatError where there is none of this version."""
    if not path.is_dir():
        raise FormatError(
            "no such index"
            if not path.exists()
            else "this is not an index: it is a folder, made by kinmer index",
            check="is the path right? If kinmer index was interrupted, run it again",
            place=path,
        )
    if not (path / MANIFEST).is_file():
        raise FormatError(
            "this folder is not an index",
            f"it is {described(path)}",
            "make one with kinmer index",
            place=path,
        )
    manifest = read_json(path / MANIFEST)
    if manifest.get("kind") != "kinmer index":
        raise FormatError("this is not an index", "its index.json says nothing of one", place=path)
    if manifest.get("format") not in READ or not sketch_scale(manifest):
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


# Columns of ``entries`` before the metadata.
# Underscored, for a table of metadata may have columns of any name but the plain ones.
FIXED = ("_entry", "_crc", "id", "_genome", "_first", "_rows", "_file", "length", "gc")
_SCHEMA = """
CREATE TABLE state (name TEXT PRIMARY KEY, value TEXT NOT NULL, crc INTEGER NOT NULL);
CREATE TABLE blocks (first INTEGER PRIMARY KEY, rows INTEGER NOT NULL, checksum INTEGER NOT NULL);
CREATE TABLE dead (label INTEGER PRIMARY KEY);
CREATE TABLE genomes (
    genome INTEGER PRIMARY KEY, crc INTEGER NOT NULL, name TEXT NOT NULL UNIQUE, label INTEGER
);
CREATE TABLE stale (genome INTEGER PRIMARY KEY);
CREATE TABLE files (
    file INTEGER PRIMARY KEY, path TEXT NOT NULL, sha256 TEXT NOT NULL, genome TEXT, whole INTEGER NOT NULL,
    prefix TEXT NOT NULL DEFAULT ''
);
CREATE INDEX files_path ON files (path);
"""
_PLACES = (
    "CREATE TABLE {} (entry INTEGER PRIMARY KEY, offset INTEGER NOT NULL, bytes INTEGER NOT NULL, "
    "crc INTEGER NOT NULL)"
)
_INDEXES = (
    "CREATE INDEX entries_genome ON entries (_genome)",
    "CREATE INDEX entries_file ON entries (_file)",
)
# Facts of the state that count.
_COUNTS = [
    "rows",
    "epoch",
    "generation",
    "entries",
    "genomes",
    "dead",
    "next_entry",
    "next_genome",
    *BLOBS,
]


def create_table(path: Path, columns: Sequence[str], state: dict[str, Any]) -> None:
    """Make the table `path` with these metadata columns; `state`: JSON-able facts that are kept beside."""
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(_SCHEMA)
        connection.execute(_entries("entries", columns))
        for sql in (*_INDEXES, *map(_PLACES.format, BLOBS)):
            connection.execute(sql)
        for name, fact in {**dict.fromkeys(_COUNTS, 0), **state}.items():
            _insert_fact(connection, name, fact)


def _insert_fact(connection: sqlite3.Connection, name: str, fact: Any) -> None:
    text = json.dumps(fact)
    connection.execute("INSERT INTO state VALUES (?, ?, ?)", (name, text, line_checksum(name, text)))


def format_of(connection: sqlite3.Connection) -> int:
    """The format of a table, by its columns: 3, or 2."""
    names = {str(line[1]) for line in connection.execute("PRAGMA table_info(files)")}
    return FORMAT if "prefix" in names else 2


def migrate(connection: sqlite3.Connection, columns: Sequence[str], *, old: bool, sketches: bool) -> None:
    """Make a table one of today's, all of it in one transaction. No line is changed.

    old : it is of format 2. sketches : it lacks the places of sketches.
    """
    connection.execute("BEGIN IMMEDIATE")
    try:
        if old:
            connection.execute(_entries("entries_3", columns))
            connection.execute("INSERT INTO entries_3 SELECT * FROM entries ORDER BY _entry")
            connection.execute("DROP TABLE entries")
            connection.execute("ALTER TABLE entries_3 RENAME TO entries")
            for sql in _INDEXES:
                connection.execute(sql)
            connection.execute("ALTER TABLE files ADD COLUMN prefix TEXT NOT NULL DEFAULT ''")
        if sketches:
            connection.execute(_PLACES.format("sketches"))
            _insert_fact(connection, "sketches", 0)
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _entries(name: str, columns: Sequence[str]) -> str:
    metadata = "".join(f", {quoted(column)}" for column in columns)
    return (
        f"CREATE TABLE {name} (_entry INTEGER PRIMARY KEY, _crc INTEGER NOT NULL, id TEXT NOT NULL, "
        "_genome INTEGER NOT NULL, _first INTEGER NOT NULL, _rows INTEGER NOT NULL, _file INTEGER, "
        f"length INTEGER, gc REAL{metadata}, UNIQUE (id, _genome))"
    )


def line_checksum(*values: Any) -> int:
    """CRC-32 of some values of a line: texts, numbers and None."""
    return zlib.crc32(repr(values).encode("utf-8", "surrogatepass"))


def quoted(name: str) -> str:
    """An SQL name, whatever its letters."""
    return '"' + name.replace('"', '""') + '"'


class Entry(NamedTuple):
    """One sequence. `values`: its metadata in the order of the index's columns. `genome`: a number.

    Its vectors are the rows first … first + rows - 1, that of the whole sequence first. `file`: the number of
    the file that it came from, None for none.
    """

    number: int
    id: str
    length: int | None
    gc: float | None
    values: tuple[Any, ...]
    genome: int
    first: int
    rows: int
    file: int | None = None

    def checksum(self) -> int:
        """Of its line in the table."""
        return line_checksum(
            *(self.number, self.id, self.genome, self.first, self.rows, self.file),
            *(self.length, self.gc, *self.values),
        )


class Genome(NamedTuple):
    """A genome; `label`: the row of its mean vector, None where its only vector is a sequence's."""

    number: int
    name: str
    label: int | None


class Block(NamedTuple):
    """Rows that were committed together, and their checksum (`kinmer.index.rows.row_checksum`)."""

    first: int
    rows: int
    checksum: int


class Blob(NamedTuple):
    """Where what is kept of an entry lies in its file, and its CRC-32."""

    offset: int
    bytes: int
    crc: int


class Holder(NamedTuple):
    """An entry that has an id: its number, its genome's name, the path of the file that it is from."""

    number: int
    id: str
    genome: str
    path: str | None


class SourceFile(NamedTuple):
    """A file that entries came from: the first `records` of it are in, or the `whole`.

    genome : of all its sequences, None for each its own. prefix : stands before the ids of its records.
    """

    number: int
    path: str
    sha256: str
    genome: str | None = None
    prefix: str = ""
    records: int = 0
    whole: bool = False
