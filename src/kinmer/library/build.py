"""Builds an index, block by block, in a folder aside; a killed run resumes with the same call.

`build_index` takes embedded sequences or FASTA files, `build_reference` genome files, each a genome.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from kinmer.confidence import refresh_calibration, warn_stale
from kinmer.errors import FormatError, InputError, MismatchError, UsageError
from kinmer.fasta import is_stream, spooled
from kinmer.files import (
    clear_temporaries,
    hash_file,
    read_json,
    remove,
    scratch,
    settle,
    write_json,
)
from kinmer.folders import Workshop, check_output
from kinmer.index.database import KinIndex
from kinmer.index.manifest import ENCODER, ENTRIES, INDEX, MAKING, MANIFEST, read_manifest, write_manifest
from kinmer.index.pieces import PIECE_LENGTHS, pieces_of
from kinmer.index.table import EntryTable
from kinmer.index.writer import IndexWriter
from kinmer.library.downloads import fetch
from kinmer.library.embedded import open_embedded
from kinmer.library.feed import (
    FastaFile,
    Feed,
    files_at_hand,
    from_embedded,
    from_fasta,
    is_fasta,
    named_files,
)
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.join import Joined, report_homonyms
from kinmer.library.metadata import Metadata, open_table, ranks_of, staged_metadata, taxid_column
from kinmer.library.packages import find_genomes, is_taxonomy
from kinmer.library.update import FeedSettings, feed_of_files, pour_into
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.stores import Metric, check_metric
from kinmer.stores import engine as engine_named
from kinmer.taxonomy import rank_columns

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

__all__ = ["build_index", "build_of_feed", "build_reference", "check_place"]


STAGED = "metadata.sqlite"

Log = Callable[[str], None]


def build_index(
    source: str | Path | Sequence[str | Path] | AnnData | Profiles,
    output: str | Path,
    *,
    encoder: str | Path | Encoder | None = None,
    engine: str = "hnsw",
    metric: Metric = "cosine",
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    ids: str | Path | None = None,
    pieces: Sequence[int] = PIECE_LENGTHS,
    keep_sequences: bool = False,
    min_length: int = 1000,
    prefix: str = "",
    sample_from_file: bool = False,
    calibrate: bool = True,
    threads: int | None = None,
    force: bool = False,
    log: Log | None = None,
) -> KinIndex:
    """Build an index of embedded sequences, or of FASTA files, at `output` and open it.

    It grows in the hidden folder ``.NAME.building`` beside the output, block by committed block, the engine
    last; a killed run of the same source, encoder and metadata is gone on with. So is one that a bad FASTA
    file ended, once that is mended or left out: the other files are in.

    Parameters
    ----------
    source, ids, encoder : see `kinmer.library.embedded.open_embedded`: one vector a sequence. Or FASTA files:
        sequences are embedded whole, and long ones in overlapping pieces as well.
    engine : "hnsw", "chroma" or "exact".
    metric : "cosine" (1 - cos) or "l2" (Euclidean).
    metadata, taxdump : see `kinmer.library.metadata.stage_metadata`; its columns come before the source's own
        of the same name. A column ``genome`` says which sequences belong together. What it lacks is missing.
    pieces : lengths of the pieces in letters, the longer ones multiples of the shortest; empty for none.
        Fewer and longer ones make a smaller index that finds short queries less surely.
    keep_sequences : keep the letters of FASTA files in the index, two bits each, for evidence.
    min_length : shorter sequences of FASTA files are left out.
    prefix, sample_from_file : what stands before the ids of FASTA files, or ``SAMPLE:`` with the name of each
        file; so that samples whose contigs have the same names can be in one index.
    calibrate : learn from the references how far an answer can be trusted, where they have a taxonomy.
    threads : for counting, embedding and the engine; None for all cores.
    force : replace an index.
    log : is told what was left out.

    Raises
    ------
    UsageError : the output exists, an unknown engine or metric, no encoder.
    MismatchError : an encoder that did not embed the source, metadata of none of its ids.
    ProfileError, InputError, FormatError : a source, metadata or encoder that cannot be used.
    EngineError : the engine failed; what was built is kept.
    """
    tell = log or (lambda line: None)
    path = Path(output)
    # Asked before a pipe is read; an index whose build was killed before it could say so is asked for below.
    if not (path / MAKING).is_file():
        check_place(path, force)
    with files_at_hand(source, path) if is_fasta(source) else nullcontext() as files:
        if files is not None:
            feed = from_fasta(
                named_files(files, prefix=prefix, sample_from_file=sample_from_file),
                encoder,
                pieces=pieces_of(pieces),
                keep=keep_sequences,
                min_length=min_length,
                threads=threads,
                log=tell,
            )
        elif prefix or sample_from_file:
            raise UsageError(
                "prefix and sample are told of FASTA files",
                "a profile store has its ids",
                "give them to kinmer count",
            )
        else:
            feed = from_embedded(open_embedded(source, encoder=encoder, ids=ids))
        return build_of_feed(
            feed,
            path,
            engine=engine,
            metric=metric,
            metadata=metadata,
            taxdump=taxdump,
            calibrate=calibrate,
            threads=threads,
            force=force,
            log=tell,
        )


def build_of_feed(
    feed: Feed,
    output: str | Path,
    *,
    engine: str = "hnsw",
    metric: Metric = "cosine",
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    calibrate: bool = True,
    threads: int | None = None,
    force: bool = False,
    log: Log,
) -> KinIndex:
    """Build an index of what a feed gives; see `build_index`."""
    engine_named(engine)
    check_metric(metric)
    if _is_published(Path(output), feed, metadata, taxdump):
        log(f"{output} was whole already: an earlier call of the same did not come to tell so")
        return KinIndex.open(output, log=log, threads=threads)
    path = check_place(Path(output), force)
    building = path.absolute().with_name(f".{path.name}.building")
    lock = Workshop(building, make=True)
    try:
        clear_temporaries(building)
        staged = staged_metadata(building / STAGED, metadata, taxdump)
        making = _Making(building, feed, staged, metadata, taxdump)
        if not making.is_gone_on_with():
            _begin(building, feed, staged, engine, metric, log)
        with IndexWriter(building, log=log, threads=threads, lock=lock) as writer:
            making.note(writer)
            _fill(writer, feed, staged, metadata, log)
            writer.finish(behind=0)
            if calibrate:
                refresh_calibration(writer)
        _publish(path, lock)
    except InputError as error:
        # The same call would fail again: there is nothing to go on with but the other files of a bad one.
        if error is not feed.stopped_by:
            remove(building)
        raise
    finally:
        lock.release()
    return KinIndex.open(path, log=log, threads=threads)


def check_place(path: Path, force: bool) -> Path:
    """`check_output` of an index's folder."""
    return check_output(path, force=force, kind=INDEX)


def _begin(
    building: Path,
    feed: Feed,
    staged: Metadata | None,
    engine: str,
    metric: Metric,
    log: Log,
) -> None:
    """An empty index of the feed's columns."""
    for path in building.iterdir():
        if path.name not in (Workshop.LOCK, STAGED) and not path.name.startswith(STAGED):
            remove(path)
    own, left = feed.own_columns(staged)
    if left:
        log(f"left out, because the index has its own: {', '.join(left)}")
    columns = [*(staged.columns if staged else ()), *own]
    name = uuid.uuid4().hex
    EntryTable.create(building / ENTRIES, columns, {"index": name}).close()
    feed.encoder.save(building / ENCODER)
    write_manifest(
        building, index=name, engine=engine, metric=metric, encoder=feed.encoder, pieces=feed.settings
    )


class _Making:
    """What an unfinished index is made of, noted in it: another call may go on with what is the same."""

    def __init__(
        self,
        building: Path,
        feed: Feed,
        staged: Metadata | None,
        metadata: str | Path | None,
        taxdump: str | Path | None,
    ) -> None:
        self._building, self._path = building, building / MAKING
        dumped = () if taxdump is None else sorted(Path(taxdump).glob("*.dmp"))
        stamps = [(one.name, one.stat()) for one in dumped]
        self._source = {
            "source": feed.identity,
            "columns": feed.own_columns(staged)[0],
            "encoder": feed.encoder.fingerprint,
            "metadata": None if metadata is None else hash_file(metadata),
            "taxdump": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stamps],
        }
        self._files = feed.files()

    def is_gone_on_with(self) -> bool:
        """Whether a run that was killed, or stopped by a bad file, has left something of the same source."""
        if self._source["source"] is None or not (self._building / MANIFEST).is_file():
            return False
        try:
            EntryTable(self._building / ENTRIES).close()
            told = read_json(self._building / ENCODER / "config.json").get("fingerprint")
            noted = read_json(self._path)["source"]
        except (FormatError, KeyError):
            return False
        return bool(noted == self._source and told == self._source["encoder"])

    def is_made(self) -> bool:
        """Whether it was made of the same to the last file."""
        return self.is_gone_on_with() and read_json(self._path).get("files") == self._files

    def note(self, writer: IndexWriter) -> None:
        """Note what it is made of now; entries of files that are others now, or none of it, are deleted."""
        if self._path.is_file():
            before = read_json(self._path)["files"]
            for number, path, *_ in writer.table.files():
                if before.get(path) != self._files.get(path):
                    writer.take_back(number)
        write_json(self._path, {"source": self._source, "files": self._files})


def _fill(
    writer: IndexWriter, feed: Feed, staged: Metadata | None, metadata: str | Path | None, log: Log
) -> None:
    """Write the entries that are missing."""
    done = len(writer.table)
    if done:
        log(f"going on after {done:,} entries")
    with Joined(staged) as joined:
        feed.pour(writer, joined)
        if not len(writer.table):
            raise feed.nothing()
        if staged is not None:
            if not joined.found and not done:
                raise joined.strange("the metadata have none of the source's ids")
            log(f"metadata for {joined.found:,} of {len(writer.table) - done:,} entries")
    report_homonyms(writer.table, log)
    if staged is not None:
        remove(staged.database)


def _publish(path: Path, lock: Workshop) -> None:
    """Give a whole index its name; after a kill in between the same call finds it whole and goes on here."""
    lock.publish(path)
    _conclude(path)


def _conclude(path: Path) -> None:
    """Take away what is left of the building of an index; what tells that it was built goes last."""
    settle(path)
    remove(path / MAKING)


def _is_published(path: Path, feed: Feed, metadata: str | Path | None, taxdump: str | Path | None) -> bool:
    """Whether the same call has made the index at `path` and was killed before it could tell so."""
    if not (path / MAKING).is_file() or not (path / MANIFEST).is_file():
        return False
    lock = Workshop(path)
    try:
        with TemporaryDirectory() as folder:
            staged = staged_metadata(Path(folder) / STAGED, metadata, taxdump)
            made = _Making(path, feed, staged, metadata, taxdump).is_made()
        if made:
            _conclude(path)
        return made
    finally:
        lock.release()


def build_reference(
    source: str | Path,
    output: str | Path,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    encoder: str | Path | Encoder | None = None,
    download: str | Path | None = None,
    pieces: Sequence[int] = PIECE_LENGTHS,
    keep_sequences: bool = True,
    min_length: int = 1000,
    calibrate: bool = True,
    threads: int | None = None,
    force: bool = False,
    log: Log | None = None,
) -> KinIndex:
    """Build an index of genome files, or add those that an index lacks, and open it.

    Parameters
    ----------
    source : a folder, a file or a manifest; see `kinmer.library.find_genomes`.
    output : an index that is there is added to: files whose SHA-256 it knows are passed over.
    download : folder for what the manifest gives a URL of; None: the folder ``NAME.downloads`` beside the
        output.
    metadata : as in `kinmer.build_index`; a line may be of a sequence or of a genome. Of GTDB's tables
        without a header only the lines of these genomes are looked at.
    taxdump : gives the ranks of taxids, in `metadata` or in what a manifest or a package tells of a genome.
    encoder, pieces, keep_sequences, min_length, calibrate, threads : as in `kinmer.build_index`.
    force : build anew in place of an index that is there.

    A killed call leaves what was committed and downloaded; the same call goes on from there.

    Raises InputError (no genomes, a wrong checksum, a failed download, no taxids for a taxdump), and as
    `build_index`.
    """
    tell, path = log or (lambda line: None), Path(output)
    tables = [metadata] if metadata is not None and is_taxonomy(metadata) else []
    metadata = None if tables else metadata
    if is_stream(source):
        with scratch(path) as room, spooled(source, room) as here:
            return build_reference(
                here,
                path,
                metadata=metadata,
                taxdump=taxdump,
                encoder=encoder,
                download=download,
                pieces=pieces,
                keep_sequences=keep_sequences,
                min_length=min_length,
                calibrate=calibrate,
                threads=threads,
                force=force,
                log=log,
            )
    found = find_genomes(source, taxonomy=tables, log=tell)
    if tables and not any(rank_columns(list(one.metadata)) for one in found):
        raise MismatchError(
            "the table has none of the genomes' accessions",
            "no genome would have any rank",
            "is the accession part of the files' names, or of the manifest's column genome?",
            place=str(tables[0]),
        )
    genomes, taxdump = _with_ranks(found, Path(source), metadata, taxdump)
    files = _at_hand(genomes, Path(download or f"{path}.downloads"), tell)
    known = path.is_dir() and (path / MANIFEST).is_file()
    if known and not force:
        _check_encoder(path, encoder)
        settle(path)
        settings = FeedSettings(min_length=min_length, threads=threads)
        with IndexWriter(path, log=tell, threads=threads) as writer:
            before = len(writer.table)
            if new := _not_yet_in(writer, files, tell):
                pour_into(writer, feed_of_files(writer, new, settings, tell), metadata, taxdump, log=tell)
            tell(f"{len(writer.table) - before:,} sequences added to {before:,}")
            writer.finish()
            if calibrate:
                refresh_calibration(writer)
            else:
                warn_stale(writer)
        return KinIndex.open(path, log=log, threads=threads)
    feed = from_fasta(
        files,
        encoder,
        pieces=pieces_of(pieces),
        keep=keep_sequences,
        min_length=min_length,
        threads=threads,
        log=tell,
    )
    return build_of_feed(
        feed,
        path,
        metadata=metadata,
        taxdump=taxdump,
        calibrate=calibrate,
        threads=threads,
        force=force,
        log=tell,
    )


def _check_encoder(path: Path, encoder: str | Path | Encoder | None) -> None:
    """UsageError for another encoder than the one that the index at `path` has."""
    if encoder is None:
        return
    from kinmer.encoder import Encoder

    try:
        given = (encoder if isinstance(encoder, Encoder) else Encoder.load(encoder)).fingerprint
    except InputError:
        given = ""
    if given != read_manifest(path)["encoder_fingerprint"]:
        raise UsageError(
            "an index keeps its encoder", "it cannot be given another", "leave out --encoder, or --force"
        )


def _with_ranks(
    genomes: list[GenomeFile], source: Path, metadata: str | Path | None, taxdump: str | Path | None
) -> tuple[list[GenomeFile], str | Path | None]:
    """The genomes with the ranks that are told of them; the taxdump, if the table needs it too."""
    names = list(dict.fromkeys(name for one in genomes for name in one.metadata))
    own = taxdump is not None and taxid_column(names) is not None
    in_table = metadata is not None and taxid_column(open_table(Path(metadata)).names) is not None
    if taxdump is not None and not own and not in_table:
        raise InputError(
            "nothing tells the genomes' taxids",
            "the taxdump would be of no use",
            "a manifest, a package of NCBI Datasets or --metadata may have a column taxid",
            place=source if metadata is None else str(metadata),
        )
    ranks = ranks_of(names, -1, Path(taxdump) if own and taxdump is not None else None, source)
    told = []
    for one in genomes:
        row = [one.metadata.get(name) for name in names]
        added = zip(ranks.missing, ranks.of(row, one.place or one.where), strict=True)
        told.append(replace(one, metadata=one.metadata | {rank: name for rank, name in added if name}))
    return told, taxdump if in_table else None


def _not_yet_in(writer: IndexWriter, files: list[FastaFile], log: Log) -> list[FastaFile]:
    """The files that an index does not have whole; the others are told by their number, there may be many."""
    whole = {sha256 for _, _, sha256, _, done in writer.table.files() if done < 0}
    new = [one for one in files if one.sha256 not in whole]
    if len(new) < len(files):
        log(f"{len(files) - len(new):,} of {len(files):,} files are in already")
    return new


def _at_hand(genomes: list[GenomeFile], folder: Path, log: Log) -> list[FastaFile]:
    """All files, downloaded where they have to be, each with its SHA-256."""
    absent = [one for one in genomes if one.path is None]
    here = [one for one in genomes if one.path is not None]
    if absent:
        here += fetch(absent, folder, log=log)
    order = {one.genome: number for number, one in enumerate(genomes)}
    found = []
    with step("Checking files", len(here)) as progress:
        for one in sorted(here, key=lambda file: order[file.genome]):
            sha256 = verify_genome(one)
            assert one.path is not None
            found.append(FastaFile(one.path, genome=one.genome, values=one.metadata, sha256=sha256))
            progress.advance(1)
    return found
