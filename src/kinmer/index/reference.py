"""An index of genome files: every file one genome, by folder or manifest, from here or from a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.fasta import is_stream, spooled
from kinmer.files import scratch, settle
from kinmer.index.build import build_of_feed
from kinmer.index.changing import FeedSettings, feed_of_files, pour_into
from kinmer.index.database import KinIndex
from kinmer.index.feeding import FastaFile, from_fasta
from kinmer.index.living import IndexWriter
from kinmer.index.manifest import MANIFEST, read_manifest
from kinmer.index.metadata_ranks import ranks_of, taxid_column
from kinmer.index.metadata_tables import open_table
from kinmer.index.pieces import PIECE_LENGTHS, pieces_of
from kinmer.progress import step
from kinmer.references import GenomeFile, fetch, find_genomes, is_taxonomy, verify_genome
from kinmer.taxonomy import rank_columns

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["build_reference"]

Log = Callable[[str], None]


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
    source : a folder, a file or a manifest; see `kinmer.references.find_genomes`.
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
                writer.calibrate()
            else:
                writer.warn_stale()
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
