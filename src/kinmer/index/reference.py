"""An index of genome files: every file one genome, by folder or manifest, from here or from a server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kinmer.errors import UsageError
from kinmer.index.build import build_of_feed
from kinmer.index.changing import FeedSettings, feed_of_files, pour_into
from kinmer.index.database import KinIndex
from kinmer.index.feeding import FastaFile, from_fasta
from kinmer.index.living import IndexWriter
from kinmer.index.manifest import MANIFEST
from kinmer.index.pieces import PIECE_LENGTHS, pieces_of
from kinmer.progress import step
from kinmer.references import GenomeFile, fetch, find_genomes, verify_genome

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
    metadata, taxdump, encoder, pieces, keep_sequences, min_length, calibrate, threads : as in
        `kinmer.build_index`; a line of metadata may be of a sequence or of a genome.
    force : build anew in place of an index that is there.

    A killed call leaves what was committed and downloaded; the same call goes on from there.

    Raises InputError (no genomes, a wrong checksum, a failed download), and as `build_index`.
    """
    tell, path = log or (lambda line: None), Path(output)
    files = _at_hand(find_genomes(source, log=tell), Path(download or f"{path}.downloads"), tell)
    known = path.is_dir() and (path / MANIFEST).is_file()
    if known and not force:
        if encoder is not None:
            raise UsageError(
                "an index keeps its encoder", "it cannot be given another", "leave out --encoder, or --force"
            )
        settings = FeedSettings(min_length=min_length, threads=threads)
        with IndexWriter(path, log=tell, threads=threads) as writer:
            before = len(writer.table)
            pour_into(writer, feed_of_files(writer, files, settings, tell), metadata, taxdump, log=tell)
            tell(f"{len(writer.table) - before:,} sequences added to {before:,}")
            writer.finish()
            if calibrate:
                writer.calibrate()
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
