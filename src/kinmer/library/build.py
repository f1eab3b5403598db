"""Builds an index, block by block, in a folder aside; a killed run resumes with the same call.

`build_index` takes embedded sequences or FASTA files, `build_reference` genome files, each a genome.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Unpack

from kinmer.confidence import refresh_calibration
from kinmer.errors import FormatError, InputError, MismatchError, UsageError
from kinmer.fasta import is_stream, spooled
from kinmer.files import clear_temporaries, hash_file, remove, scratch, settle, write_json
from kinmer.folders import Workshop, check_output
from kinmer.index.manifest import ENCODER, ENTRIES, INDEX, MAKING, MANIFEST, read_manifest, write_manifest
from kinmer.index.pieces import pieces_of
from kinmer.index.table import EntryTable
from kinmer.index.writer import IndexWriter
from kinmer.inputs import read_json
from kinmer.library.feed import Feed, from_embedded, from_fasta
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.join import Joined, report_homonyms
from kinmer.library.metadata import Metadata, open_table, ranks_of, staged_metadata, taxid_column
from kinmer.library.packages import find_genomes, is_taxonomy
from kinmer.library.sources import (
    BuildOptions,
    FastaFile,
    ReferenceOptions,
    Settings,
    files_at_hand,
    is_fasta,
    named_files,
)
from kinmer.library.update import KinIndex, conclude, feed_of_files, pour_into
from kinmer.profiles import Profiles
from kinmer.progress import step
from kinmer.stores import check_metric
from kinmer.stores import engine as engine_named
from kinmer.taxonomy import rank_columns
from kinmer.vectors import open_embedded

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

STAGED = "metadata.sqlite"


def build_index(
    source: str | Path | Sequence[str | Path] | AnnData | Profiles,
    output: str | Path,
    **options: Unpack[BuildOptions],
) -> KinIndex:
    """Build an index of embedded sequences, or of FASTA files, at `output` and open it.

    It grows in the hidden folder ``.NAME.building`` beside the output, block by committed block, the engine
    last. A killed run of the same source, encoder and metadata resumes. So does one that a bad FASTA file
    ended, once that is mended or left out: the other files are in.

    Parameters
    ----------
    source, ids, encoder : see `kinmer.vectors.open_embedded`: one vector a sequence. Or FASTA files:
        sequences are embedded whole, and long ones in overlapping pieces as well.
    engine : "hnsw" (default), "chroma" or "exact".
    metric : "cosine" (1 - cos, default) or "l2" (Euclidean).
    metadata, taxdump : see `kinmer.library.metadata.stage_metadata`. Its columns come before the source's own
        of the same name. A column ``genome`` says which sequences belong together. What it lacks is
        missing.
    pieces : lengths of the pieces in bases, the longer ones multiples of the shortest; empty for none.
        Fewer and longer ones make a smaller index that finds short queries less surely.
    keep_sequences : keep the sequences of FASTA files in the index, two bits a base, for evidence.
    min_length : shorter sequences of FASTA files are left out (default: 1000).
    prefix, sample_from_file : what stands before the ids of FASTA files, or ``SAMPLE:`` with the name of each
        file; so that samples whose contigs have the same names can be in one index.
    calibrate : learn from the references how far an answer can be trusted, where they have a taxonomy.
    threads : for counting, embedding and the engine; None for all cores.
    force : replace an index.
    log : receives a line on what was left out.

    Raises
    ------
    UsageError : the output exists, an unknown engine or metric, no encoder.
    MismatchError : an encoder that did not embed the source, metadata of none of its ids.
    ProfileError, InputError, FormatError : a source, metadata or encoder that cannot be used.
    EngineError : the engine failed; what was built is kept.
    """
    settings = Settings.of(options, BuildOptions)
    path = Path(output)
    # Asked before a pipe is read; an index whose build was killed before it could say so is asked for below.
    if not (path / MAKING).is_file():
        _check_output(path, settings.force)
    with _feed(source, path, settings) as feed:
        return build_from(feed, path, settings)


def build_reference(
    source: str | Path,
    output: str | Path,
    *,
    download: str | Path | None = None,
    **options: Unpack[ReferenceOptions],
) -> KinIndex:
    """Build an index of genome files, or add those that an index lacks, and open it.

    A killed call leaves what was committed and downloaded, and the same call resumes.

    Parameters
    ----------
    source : str | Path
        A folder, a file or a manifest; see `kinmer.library.find_genomes`.
    output : str | Path
        An index that is there is added to: files whose SHA-256 it knows are passed over.
    download : str | Path | None
        Folder for what the manifest gives a URL of; None: the folder ``NAME.downloads`` beside the output.
    metadata : as in `kinmer.build_index`; a line may be of a sequence or of a genome. Of GTDB's tables
        without a header only the lines of these genomes are looked at.
    taxdump : gives the ranks of taxids, in `metadata` or in what a manifest or a package says of a genome.
    force : build a new one in place of an index that is there.
    keep_sequences : as in `kinmer.build_index`, True by default.
    compact : a small index, about 60 kB a million letters: longer pieces, vectors of 8 bits a number, fewer
        k-mers, no sequences. An index that is added to stays what it is.
    encoder, engine, metric, pieces, min_length, calibrate, threads, log : as in `kinmer.build_index`.

    Raises
    ------
    InputError : no genomes, a wrong checksum, a failed download, no taxids for a taxdump.
    KinmerError : as `build_index`.
    """
    options.setdefault("keep_sequences", True)
    settings = Settings.of(options, ReferenceOptions)
    if not is_stream(source):
        return _build_reference(Path(source), Path(output), download, settings)
    with scratch(Path(output)) as room, spooled(source, room) as here:
        return _build_reference(here, Path(output), download, settings)


def _build_reference(source: Path, path: Path, download: str | Path | None, settings: Settings) -> KinIndex:
    files, settings = genome_files(source, Path(download or f"{path}.downloads"), settings)
    if not (path.is_dir() and (path / MANIFEST).is_file()) or settings.force:
        return build_from(_feed_of_files(files, settings), path, settings)
    _check_encoder(path, settings.encoder)
    settle(path)
    with IndexWriter(path, log=settings.log, threads=settings.threads) as writer:
        if settings.rounded and not writer.table.state.get("rounded"):
            raise UsageError(
                "the index is not compact", "what it holds stays", "leave out --compact, or --force"
            )
        before = len(writer.table)
        if new := _not_yet_in(writer, files):
            pour_into(writer, feed_of_files(writer, new, settings), settings)
        writer.log(f"{len(writer.table) - before:,} sequences added to {before:,}")
        conclude(writer, settings.calibrate)
    return KinIndex.open(path, log=settings.log, threads=settings.threads)


@contextmanager
def _feed(source: object, path: Path, settings: Settings) -> Iterator[Feed]:
    """What a source of any kind gives."""
    if is_fasta(source):
        with files_at_hand(source, path) as files:
            yield _feed_of_files(named_files(files, settings), settings)
        return
    settings.refuse_names()
    yield from_embedded(open_embedded(source, encoder=settings.encoder, ids=settings.ids))


def _feed_of_files(files: Sequence[Path | FastaFile], settings: Settings) -> Feed:
    return from_fasta(
        files,
        settings.encoder,
        pieces=pieces_of(settings.pieces),
        keep=settings.keep_sequences,
        min_length=settings.min_length,
        threads=settings.threads,
        log=settings.tell,
    )


def build_from(feed: Feed, output: Path, settings: Settings) -> KinIndex:
    """Build an index of what a feed gives: filled, finished, calibrated, then given its name."""
    engine_named(settings.engine)
    check_metric(settings.metric)
    if _is_published(output, feed, settings):
        settings.tell(f"{output} was whole already: an earlier call of the same was killed before it said so")
        return KinIndex.open(output, log=settings.log, threads=settings.threads)
    path = _check_output(output, settings.force)
    building = path.absolute().with_name(f".{path.name}.building")
    lock = Workshop(building, make=True)
    try:
        clear_temporaries(building)
        staged = staged_metadata(building / STAGED, settings.metadata, settings.taxdump)
        making = _Making(building, feed, staged, settings)
        if not making.can_resume():
            _begin(building, feed, staged, settings)
        with IndexWriter(building, log=settings.log, threads=settings.threads, lock=lock) as writer:
            making.note(writer)
            _fill(writer, feed, staged)
            writer.finish(behind=0)
            if settings.calibrate:
                refresh_calibration(writer)
        lock.publish(path)
        _clear(path)
    except InputError as error:
        # The same call would fail again: nothing can resume but the other files of a bad one.
        if error is not feed.stopped_by:
            remove(building)
        raise
    finally:
        lock.release()
    return KinIndex.open(path, log=settings.log, threads=settings.threads)


def _check_output(path: Path, force: bool) -> Path:
    return check_output(path, force=force, kind=INDEX)


def _begin(building: Path, feed: Feed, staged: Metadata | None, settings: Settings) -> None:
    """An empty index of the feed's columns."""
    for path in building.iterdir():
        if path.name not in (Workshop.LOCK, STAGED) and not path.name.startswith(STAGED):
            remove(path)
    own, left = feed.own_columns(staged)
    if left:
        settings.tell(f"left out, because the index has its own: {', '.join(left)}")
    columns = [*(staged.columns if staged else ()), *own]
    name = uuid.uuid4().hex
    rounded = {"rounded": True} if settings.rounded else {}
    EntryTable.create(building / ENTRIES, columns, {"index": name, **rounded}).close()
    feed.encoder.save(building / ENCODER)
    write_manifest(
        building,
        index=name,
        engine=settings.engine,
        metric=settings.metric,
        encoder=feed.encoder,
        pieces=feed.settings,
        scale=settings.sketch_scale,
    )


class _Making:
    """What an unfinished index is made of, noted in it: another call may resume what is the same."""

    def __init__(self, building: Path, feed: Feed, staged: Metadata | None, settings: Settings) -> None:
        self._building, self._path = building, building / MAKING
        dumped = () if settings.taxdump is None else sorted(Path(settings.taxdump).glob("*.dmp"))
        stamps = [(file.name, file.stat()) for file in dumped]
        self._source = {
            "source": feed.identity,
            "columns": feed.own_columns(staged)[0],
            "encoder": feed.encoder.fingerprint,
            "sketch_scale": settings.sketch_scale,
            "metadata": None if settings.metadata is None else hash_file(settings.metadata),
            "taxdump": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stamps],
        }
        self._files = feed.files()

    def can_resume(self) -> bool:
        """Whether a run that was killed, or stopped by a bad file, has left something of the same source."""
        if self._source["source"] is None or not (self._building / MANIFEST).is_file():
            return False
        try:
            EntryTable(self._building / ENTRIES).close()
            encoder = read_json(self._building / ENCODER / "config.json").get("fingerprint")
            noted = read_json(self._path)["source"]
        except (FormatError, KeyError):
            return False
        return bool(noted == self._source and encoder == self._source["encoder"])

    def is_made(self) -> bool:
        """Whether it was made of the same to the last file."""
        return self.can_resume() and read_json(self._path).get("files") == self._files

    def note(self, writer: IndexWriter) -> None:
        """Note what it is made of now; entries of files that are others now, or none of it, are deleted."""
        if self._path.is_file():
            before = read_json(self._path)["files"]
            for source in writer.table.files():
                if before.get(source.path) != self._files.get(source.path):
                    writer.take_back(source.number)
        write_json(self._path, {"source": self._source, "files": self._files})


def _fill(writer: IndexWriter, feed: Feed, staged: Metadata | None) -> None:
    """Write the entries that are missing."""
    done = len(writer.table)
    if done:
        writer.log(f"resuming after {done:,} entries")
    with Joined(staged) as joined:
        feed.pour(writer, joined)
        if not len(writer.table):
            raise feed.nothing()
        if staged is not None:
            if not joined.matched and not done:
                raise joined.strange("the metadata have none of the source's ids")
            writer.log(f"metadata for {joined.matched:,} of {len(writer.table) - done:,} entries")
    report_homonyms(writer.table, writer.log)
    if staged is not None:
        remove(staged.database)


def _clear(path: Path) -> None:
    """Take away what is left of the building of an index; what says that it was built goes last."""
    settle(path)
    remove(path / MAKING)


def _is_published(path: Path, feed: Feed, settings: Settings) -> bool:
    """Whether the same call has made the index at `path` and was killed before it could say so."""
    if not (path / MAKING).is_file() or not (path / MANIFEST).is_file():
        return False
    lock = Workshop(path)
    try:
        with TemporaryDirectory() as folder:
            staged = staged_metadata(Path(folder) / STAGED, settings.metadata, settings.taxdump)
            made = _Making(path, feed, staged, settings).is_made()
        if made:
            _clear(path)
        return made
    finally:
        lock.release()


def genome_files(source: Path, folder: Path, settings: Settings) -> tuple[list[FastaFile], Settings]:
    """The files of a reference with what is known of their genomes, and the settings that are left."""
    metadata = settings.metadata
    tables = [metadata] if metadata is not None and is_taxonomy(metadata) else []
    if tables:
        settings = replace(settings, metadata=None)
    genomes = find_genomes(source, taxonomy=tables, log=settings.tell)
    if tables and not any(rank_columns(list(genome.metadata)) for genome in genomes):
        raise MismatchError(
            "the table has none of the genomes' accessions",
            "no genome would have any rank",
            "is the accession part of the files' names, or of the manifest's column genome?",
            place=str(tables[0]),
        )
    genomes, taxdump = _with_ranks(genomes, source, settings)
    return _at_hand(genomes, folder, settings), replace(settings, taxdump=taxdump)


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
    genomes: list[GenomeFile], source: Path, settings: Settings
) -> tuple[list[GenomeFile], str | Path | None]:
    """The genomes with the ranks that are known of them; the taxdump, if the table needs it too."""
    metadata, taxdump = settings.metadata, settings.taxdump
    names = list(dict.fromkeys(name for genome in genomes for name in genome.metadata))
    own = taxdump is not None and taxid_column(names) is not None
    in_table = metadata is not None and taxid_column(open_table(Path(metadata)).names) is not None
    if taxdump is not None and not own and not in_table:
        raise InputError(
            "the genomes' taxids are not known",
            "the taxdump would be of no use",
            "a manifest, a package of NCBI Datasets or --metadata may have a column taxid",
            place=source if metadata is None else str(metadata),
        )
    ranks = ranks_of(names, -1, Path(taxdump) if own and taxdump is not None else None, source)
    ranked = []
    for genome in genomes:
        row = [genome.metadata.get(name) for name in names]
        added = zip(ranks.missing, ranks.of(row, genome.place or genome.where), strict=True)
        values = genome.metadata | {rank: name for rank, name in added if name}
        ranked.append(replace(genome, metadata=values))
    return ranked, taxdump if in_table else None


def _not_yet_in(writer: IndexWriter, files: list[FastaFile]) -> list[FastaFile]:
    """The files that an index does not have whole; the number of others is logged."""
    whole = {source.sha256 for source in writer.table.files() if source.whole}
    new = [file for file in files if file.sha256 not in whole]
    if len(new) < len(files):
        writer.log(f"{len(files) - len(new):,} of {len(files):,} files are in already")
    return new


def _at_hand(genomes: list[GenomeFile], folder: Path, settings: Settings) -> list[FastaFile]:
    """All files, downloaded where they have to be, each with its SHA-256."""
    absent = [genome for genome in genomes if genome.path is None]
    here = [genome for genome in genomes if genome.path is not None]
    if absent:
        # Brings requests.
        from kinmer.library.downloads import fetch

        here += fetch(absent, folder, log=settings.tell)
    order = {genome.genome: number for number, genome in enumerate(genomes)}
    files = []
    with step("Checking files", len(here)) as progress:
        for genome in sorted(here, key=lambda file: order[file.genome]):
            sha256 = verify_genome(genome)
            assert genome.path is not None
            files.append(FastaFile(genome.path, genome=genome.genome, values=genome.metadata, sha256=sha256))
            progress.advance(1)
    return files
