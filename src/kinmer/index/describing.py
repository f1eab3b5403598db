"""What an index holds, in figures and as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kinmer.index.database import KinIndex
from kinmer.index.pieces import has_exact_wholes
from kinmer.index.vectors import GENOME, PIECE, WHOLE

__all__ = ["INEXACT_WHOLES", "IndexInfo", "IndexRow", "describe_index", "index_rows"]

ENTRIES_AT_ONCE = 4096
INEXACT_WHOLES = "built by an earlier version: build it again for exact vectors of whole sequences"


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What `describe_index` tells. Bytes are of all files in the folder.

    exact_wholes : a whole sequence has the vector that a query of the same sequence has.
    """

    path: str
    entries: int
    genomes: int
    letters: int
    wholes: int
    pieces: int
    genome_vectors: int
    deleted: int
    engine: str
    metric: str
    dim: int
    encoder: str
    piece_lengths: tuple[int, ...]
    exact_wholes: bool
    sequences_kept: bool
    columns: tuple[str, ...]
    files: int
    files_begun: int
    commits: int
    calibrated: str
    version: str
    bytes_on_disk: int

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def text(self) -> str:
        """Some lines for people."""
        cut = "not cut"
        if self.piece_lengths:
            cut = f"pieces of {', '.join(map('{:,}'.format, self.piece_lengths))} letters"
        kept = ", sequences kept" if self.sequences_kept else ""
        lines = [
            ("entries", f"{self.entries:,} of {self.genomes:,} genomes, {self.letters:,} letters"),
            (
                "vectors",
                f"{self.wholes:,} of whole sequences, {self.pieces:,} of pieces, {self.genome_vectors:,} of"
                f" genomes, {self.deleted:,} deleted",
            ),
            ("engine", f"{self.engine}, {self.metric}, {self.dim} dimensions"),
            ("encoder", self.encoder),
            ("sequences", cut + kept),
            *(() if self.exact_wholes else (("", INEXACT_WHOLES),)),
            ("metadata", ", ".join(self.columns) or "none"),
            ("sources", f"{self.files:,}" + (f", {self.files_begun:,} in part" if self.files_begun else "")),
            ("calibration", self.calibrated or "none"),
            ("made by", f"kinmer {self.version}, {self.commits:,} commits"),
            ("on disk", f"{self.bytes_on_disk / 1e6:,.1f} MB"),
        ]
        return "\n".join(f"{name:<12} {value}" for name, value in lines)


@dataclass(frozen=True)
class IndexRow:
    """One entry as `kinmer db list` tells it. vectors : of the whole and its pieces."""

    id: str
    genome: str
    length: int | None
    gc: float | None
    vectors: int
    metadata: dict[str, Any]


def describe_index(path: str | Path) -> IndexInfo:
    """Figures of an index; it is read, not searched. Raises as `KinIndex.open`."""
    path = Path(path)
    with KinIndex.open(path) as index, index.reading():
        kinds = np.asarray(index.rows.records["kind"])[index.rows.alive]
        manifest, table = index.manifest, index.table
        with table.told():
            (letters,) = table.connection.execute("SELECT TOTAL(length) FROM entries").fetchone()
        pieces = manifest.get("pieces", {})
        return IndexInfo(
            path=str(path),
            entries=len(index),
            genomes=int(table.state["genomes"]),
            letters=int(letters),
            wholes=int((kinds == WHOLE).sum()),
            pieces=int((kinds == PIECE).sum()),
            genome_vectors=int((kinds == GENOME).sum()),
            deleted=int((~index.rows.alive).sum()),
            engine=index.engine,
            metric=index.metric,
            dim=index.dim,
            encoder=index.encoder_fingerprint[:12],
            piece_lengths=tuple(pieces.get("lengths", ())),
            exact_wholes=has_exact_wholes(pieces),
            sequences_kept=bool(pieces.get("letters", False)),
            columns=index.columns,
            files=len(table.files()),
            files_begun=len(table.begun()),
            commits=table.epoch,
            calibrated=_calibrated(index),
            version=str(manifest.get("kinmer_version", "?")),
            bytes_on_disk=sum(one.stat().st_size for one in path.rglob("*") if one.is_file()),
        )


def _calibrated(index: KinIndex) -> str:
    told = index.calibrated()
    return "" if told is None else told.text(len(index), index.labels)


def index_rows(path: str | Path, where: str | None = None) -> Iterator[IndexRow]:
    """The entries of an index by number, all or those for which a condition holds; see `KinIndex.select`."""
    with KinIndex.open(path) as index:
        with index.reading():
            numbers = index.numbers if where is None else index.select(where)
        for start in range(0, len(numbers), ENTRIES_AT_ONCE):
            with index.reading():
                entries = index.entries(numbers[start : start + ENTRIES_AT_ONCE])
                names = index.genomes(np.array([one.genome for one in entries.values()], dtype=np.int64))
            for number in sorted(entries):
                one = entries[number]
                values = dict(zip(index.columns, one.values, strict=True))
                yield IndexRow(one.id, names[one.genome].name, one.length, one.gc, one.rows, values)
