"""Proves an index whole, and says what it holds, in figures and as a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import calibration_of
from kinmer.errors import EngineBehindError, EngineError, FormatError, KinmerError
from kinmer.folders import Trust
from kinmer.index.database import Storage
from kinmer.index.manifest import BLOBS, Blob, Entry, sketch_scale
from kinmer.index.pieces import has_exact_wholes
from kinmer.index.rows import GENOME, PIECE, SHORT, WHOLE, blob_file, read_blobs, rounded
from kinmer.index.sequences import read_letters
from kinmer.index.writer import genome_means
from kinmer.progress import counted, step
from kinmer.sketches import HASH_BYTES, sketch, unpack_sketch

ROWS_AT_ONCE = 1 << 16
LETTERS_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class CheckReport:
    """What a check found. problems : none where the index is whole.

    begun : files of which only the first records are in, for the same call to resume. notes : what is
    yet to be done, and is by whoever searches or changes the index next; answers do not wait for it.
    """

    entries: int
    genomes: int
    rows: int
    dead: int
    covered: int
    begun: tuple[str, ...]
    problems: tuple[str, ...]
    engine: str
    notes: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems

    def text(self) -> str:
        """Some lines for people."""
        lines = [
            f"{self.entries:,} entries of {self.genomes:,} genomes, {self.rows:,} vectors, "
            f"{self.dead:,} of them deleted; {self.engine} covers {self.covered:,}"
        ]
        lines += [f"{path} is in only in part: add it again" for path in self.begun]
        return "\n".join([*lines, *self.notes, *(self.problems or ("whole",))])


def check_storage(path: Path) -> CheckReport:
    """Read all of an index and compare it with its checksums and with itself; nothing is changed.

    A damaged engine is reported too, though a search would build it again; one that a killed call has left
    behind the entries is no problem, but noted.

    Raises FormatError where it cannot be opened at all.
    """
    # What was found whole before is read again: that is what a check is for.
    with Storage.open(path, proved=True) as index, index.reading():
        problems: list[str] = []
        covered, notes = 0, _notes(index)
        for name, look in (
            ("encoder", _encoder),
            ("entries.sqlite", _table),
            ("rows", _rows),
            ("entries", _entries),
            ("genomes", _genomes),
            ("letters", _letters),
            ("sketches", _sketches),
            ("calibration", _calibration),
        ):
            with step(f"Checking {name}"):
                problems += _told(look, index, damaged=bool(problems))
        for part in (_engine, _homology):
            try:
                covered = max(covered, part(index, problems))
            except EngineBehindError as error:
                notes.append(f"{error}: the next search builds it")
            except (FormatError, EngineError) as error:
                problems.append(str(error))
        return CheckReport(
            entries=len(index),
            genomes=int(index.table.state["genomes"]),
            rows=len(index.rows),
            dead=int((~index.rows.alive).sum()),
            covered=covered,
            begun=tuple(begun_files(index)),
            problems=tuple(problems),
            engine=index.engine,
            notes=tuple(notes),
        )


def begun_files(index: Storage) -> list[str]:
    """Paths of the files of which only the first records are in: a call that was cut off."""
    return [file.path for file in index.table.files() if file.records]


def _told(look: Callable[[Storage], Iterator[str]], index: Storage, *, damaged: bool) -> list[str]:
    """What a look finds, or why it cannot be taken.

    damaged : something is known to be damaged; a table may then hold any values, such as no number for one.
    """
    found = []
    try:
        for problem in look(index):
            found.append(problem)
    except KinmerError as error:
        found.append(str(error))
    except (TypeError, ValueError, OverflowError) as error:
        if not damaged:
            raise
        found.append(f"{index.table.path}: cannot be read further ({error})")
    return found


def _notes(index: Storage) -> list[str]:
    """What a killed writer has left to the next one."""
    late = len(index.table.stale(1 << 30))
    if not late:
        return []
    return [
        f"the mean vectors of {late:,} genomes are yet to be computed: the next change of the index does it"
    ]


def _encoder(index: Storage) -> Iterator[str]:
    if index.encoder.dim != index.dim:
        yield f"the encoder makes {index.encoder.dim} dimensions, the index has {index.dim}"


def _table(index: Storage) -> Iterator[str]:
    yield from (f"{index.table.path}: {problem}" for problem in index.table.problems())


def _calibration(index: Storage) -> Iterator[str]:
    calibration_of(index)
    yield from ()


def _rows(index: Storage) -> Iterator[str]:
    index.rows.check_blocks(counted(index.table.blocks(), "checksums"))
    for start in counted(range(0, len(index.rows), ROWS_AT_ONCE), "numbers"):
        finite = np.isfinite(index.rows.vectors[start : start + ROWS_AT_ONCE]).all(axis=1)
        if not finite.all():
            yield f"the vector of row {start + int(np.argmin(finite))} holds no number"


def _entries(index: Storage) -> Iterator[str]:
    """Every entry has its rows, all alive, and no row alive is of nobody."""
    records, alive = np.asarray(index.rows.records), index.rows.alive
    owned = np.zeros(len(records), dtype=bool)
    genomes = set(index.table.genomes())
    for entry in counted(index.table.scan(), "rows of entries", len(index)):
        part = slice(entry.first, entry.first + entry.rows)
        yield from _entry(entry, records[part], alive[part])
        if owned[part].any():
            yield f"entry {entry.id!r}: its rows are another's too"
        owned[part] = True
        if entry.genome not in genomes:
            yield f"entry {entry.id!r}: its genome is missing"
    stray = np.flatnonzero(alive & ~owned & (records["kind"] != GENOME))
    if stray.size:
        yield f"{stray.size:,} rows are of no entry, the first is {stray[0]}"


def _entry(entry: Entry, records: NDArray[Any], alive: NDArray[np.bool_]) -> Iterator[str]:
    if len(records) != entry.rows or not entry.rows:
        yield f"entry {entry.id!r}: its rows are missing"
    elif not alive.all():
        yield f"entry {entry.id!r}: a row of it is deleted"
    elif (records["entry"] != entry.number).any() or (records["genome"] != entry.genome).any():
        yield f"entry {entry.id!r}: a row of it is of another"
    elif records["kind"][0] not in (WHOLE, SHORT) or (records["kind"][1:] != PIECE).any():
        yield f"entry {entry.id!r}: it has not one vector as a whole"


def _genomes(index: Storage) -> Iterator[str]:
    """Mean vectors are those of their entries, but for genomes that are to be computed again."""
    stale = set(index.table.stale(1 << 30).tolist())
    records, alive = np.asarray(index.rows.records), index.rows.alive
    yield from (f"genome {name!r}: it has no entry" for name in _emptied(index, stale))
    orphans = set(index.table.orphans().tolist())
    labels = set(np.flatnonzero(alive & (records["kind"] == GENOME)).tolist())
    for genome in counted(index.table.genomes().values(), "means"):
        if genome.label in orphans:
            # Nobody sees it, and the next writer takes it out.
            continue
        if genome.label is not None and genome.label not in labels:
            yield f"genome {genome.name!r}: its vector is missing"
            continue
        labels.discard(genome.label or 0) if genome.label is not None else None
        if genome.number in stale:
            continue
        (mean,) = genome_means(index, np.array([genome.number])).values()
        if (mean is None) != (genome.label is None):
            yield f"genome {genome.name!r}: it has a mean vector and should not, or should and has not"
            continue
        if mean is not None and index.table.state.get("rounded"):
            mean = rounded(mean[None])[0]
        if mean is not None and not np.array_equal(mean, index.rows.vectors[genome.label or 0]):
            yield f"genome {genome.name!r}: its vector is not the mean of its pieces"
    if labels:
        yield f"{len(labels):,} rows are of no genome, the first is {min(labels)}"


def _emptied(index: Storage, stale: set[int]) -> list[str]:
    """Genomes that have no entry and that no writer is to take out."""
    names = index.table.emptied()
    kept = {one.name for one in index.table.genomes().values() if one.number not in stale}
    return [name for name in names if name in kept]


def _letters(index: Storage) -> Iterator[str]:
    for entry, place in _blobs(index, "letters"):
        path = blob_file(index.path, "letters", index.table.generation)
        if len(read_letters(path, place)) != entry.length:
            yield f"entry {entry.id!r}: its letters are not as many as its length"


def _sketches(index: Storage) -> Iterator[str]:
    """Sketches are in order, and where the letters are kept they are theirs."""
    letters, sketches = (blob_file(index.path, kind, index.table.generation) for kind in BLOBS)
    scale = sketch_scale(index.manifest)
    for entry, place in _blobs(index, "sketches"):
        (blob,) = read_blobs(sketches, [place])
        found, kept = unpack_sketch(blob), index.table.blobs("letters", np.array([entry.number]))
        if place.bytes % HASH_BYTES or (found[1:] <= found[:-1]).any():
            yield f"entry {entry.id!r}: its sketch is not one"
        elif kept and not np.array_equal(found, sketch(read_letters(letters, kept[entry.number]), scale)):
            yield f"entry {entry.id!r}: its sketch is not of its letters"


def _blobs(index: Storage, kind: str) -> Iterator[tuple[Entry, Blob]]:
    """The entries that have a blob of a kind, and where it is."""
    numbers = index.table.with_blobs(kind)
    for start in counted(range(0, len(numbers), LETTERS_AT_ONCE), kind):
        part = numbers[start : start + LETTERS_AT_ONCE]
        entries = index.entries(part)
        yield from ((entries[number], place) for number, place in index.table.blobs(kind, part).items())


def _homology(index: Storage, problems: list[str]) -> int:
    """Compare the postings with the sketches; the engine covers nothing by them."""
    if index.table.blob_bytes("sketches"):
        problems += index.homology.check()
    return 0


def _engine(index: Storage, problems: list[str]) -> int:
    """How many rows the engine covers; what it lacks goes to the problems."""
    if index.engine == "exact":
        return len(index.rows)
    files = replace(index.engine_files(), threads=1)
    store, covered = files.open(len(index.rows), Trust(index.path, blind=True))
    with store:
        lost = 0
        for start in range(0, covered, ROWS_AT_ONCE):
            labels = np.arange(start, min(start + ROWS_AT_ONCE, covered))
            labels = labels[index.rows.searched[labels]]
            lost += int((~store.contains(labels)).sum()) if labels.size else 0
    if lost:
        problems.append(f"{index.engine} lacks {lost:,} of the vectors that it should hold")
    return covered


ENTRIES_AT_ONCE = 4096
INEXACT_WHOLES = "built by an earlier version: build it again for exact vectors of whole sequences"


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """Figures of an index. Bytes are of all files in the folder.

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
    sketch_bytes: int
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
            ("sketches", f"{self.sketch_bytes / 1e6:,.1f} MB" if self.sketch_bytes else "none"),
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
    """One entry as `kinmer db list` shows it. vectors : of the whole and its pieces."""

    id: str
    genome: str
    length: int | None
    gc: float | None
    vectors: int
    metadata: dict[str, Any]


def describe_storage(index: Storage) -> IndexInfo:
    """Figures of an index; it is read, not searched."""
    with index.reading():
        kinds = np.asarray(index.rows.records["kind"])[index.rows.alive]
        manifest, table, kept = index.manifest, index.table, calibration_of(index)
        pieces = manifest.get("pieces", {})
        return IndexInfo(
            path=str(index.path),
            entries=len(index),
            genomes=int(table.state["genomes"]),
            letters=table.letters_in_all(),
            wholes=int(((kinds == WHOLE) | (kinds == SHORT)).sum()),
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
            sketch_bytes=table.blob_bytes("sketches"),
            columns=index.columns,
            files=len(table.files()),
            files_begun=len(begun_files(index)),
            commits=table.epoch,
            calibrated="" if kept is None else kept.text(table),
            version=str(manifest.get("kinmer_version", "?")),
            bytes_on_disk=sum(one.stat().st_size for one in index.path.rglob("*") if one.is_file()),
        )


def index_rows(path: str | Path, where: str | None = None) -> Iterator[IndexRow]:
    """The entries of an index by number, all or those for which a condition holds; see `KinIndex.select`."""
    with Storage.open(path) as index:
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
