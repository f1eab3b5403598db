"""Several indexes of one encoder become one: rows, metadata, files and what is kept, all as they are."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.folders import check_output, guarded_inputs
from kinmer.index import Entry, IndexWriter, Storage
from kinmer.index.commit import Change, NewSequence, Progress
from kinmer.index.manifest import BLOBS, INDEX, MAKING, Blob, sketch_scale
from kinmer.index.pieces import has_exact_wholes
from kinmer.index.rows import SHORT, blob_file, read_blobs
from kinmer.index.writer import GENOMES_AT_ONCE
from kinmer.library import KinIndex
from kinmer.library.build import build_from
from kinmer.library.feed import Feed, Replace
from kinmer.library.join import Joined
from kinmer.library.metadata import Metadata
from kinmer.library.sources import Log, Settings
from kinmer.progress import step
from kinmer.sketches import pack_sketch, thinned, unpack_sketch

# What is read and committed together at most: so many entries, of so many bytes, or one entry.
BATCH_ENTRIES, BATCH_BYTES = 4096, 1 << 25


def merge_indexes(
    indexes: Sequence[str | Path],
    output: str | Path,
    *,
    calibrate: bool = True,
    threads: int | None = None,
    force: bool = False,
    log: Log | None = None,
) -> KinIndex:
    """Make a new index of all entries of several indexes, and open it. Nothing is embedded again.

    The entries stand in the order of the indexes. Engine, metric, and how later sequences are cut are those
    of the first index. A column of metadata that an index lacks is missing for its entries. A killed call
    leaves nothing at `output`, and the same call resumes.

    Parameters
    ----------
    indexes : Sequence[str | Path]
        Two or more, of the same encoder. They are not changed.
    output : str | Path
        The new index. Kept sequences and sketches are in it where every index has them.
    calibrate, threads, force : as in `kinmer.build_index`.
    log : Log | None
        Receives a line on what was left out.

    Returns
    -------
    The new index, open.

    Raises
    ------
    UsageError : fewer than two indexes, the output exists, or an index was changed meanwhile.
    MismatchError : indexes of different encoders.
    InputError : an id, or a genome, that two indexes have.
    FormatError : an index that is damaged.
    """
    paths, path = [Path(one) for one in indexes], Path(output)
    if len({one.resolve() for one in paths}) < max(len(paths), 2):
        raise UsageError("there is nothing to merge", check="give two indexes or more, each once")
    settings = Settings(calibrate=calibrate, threads=threads, force=force, log=log)
    with guarded_inputs(paths), ExitStack() as stack:
        if not (path / MAKING).is_file():
            check_output(path, force=force, kind=INDEX)
        opened = [stack.enter_context(Storage.open(one, log=log, threads=threads)) for one in paths]
        _refuse_conflicts(opened)
        first = opened[0]
        settings = replace(
            settings,
            engine=first.engine,
            metric=first.metric,
            rounded=all(map(_is_rounded, opened)),
            sketch_scale=max(sketch_scale(one.manifest) for one in opened),
        )
        return build_from(_MergeFeed(opened, settings), path, settings)


def _refuse_conflicts(indexes: Sequence[Storage]) -> None:
    """MismatchError for indexes of different encoders, InputError for a genome that two of them have."""
    for index in indexes[1:]:
        if index.encoder_fingerprint != indexes[0].encoder_fingerprint:
            raise MismatchError(
                f"the encoder is not the one of {indexes[0].path}",
                "distances between their vectors mean nothing",
                "build one of them again, with the encoder of the other",
                place=index.path,
            )
    for index, other in combinations(indexes, 2):
        names = [genome.name for genome in other.table.genomes().values()]
        for name, number in index.table.genome_numbers(names).items():
            theirs = other.table.genome_number(name)
            ids = {one.id for one in index.table.members(number)}
            held = [] if theirs is None else [one.id for one in other.table.members(theirs)]
            if ids and held:
                raise _is_in_both(name, next((one for one in held if one in ids), None), index, other)


def _is_in_both(genome: str, name: str | None, index: Storage, other: Storage) -> InputError:
    of = "" if name == genome else f" of the genome {genome!r}"
    what = f"the genome {genome!r}" if name is None else f"the id {name!r}{of}"
    return InputError(
        f"{what} is in {index.path} and in {other.path}",
        "two genomes of one name would become one" if name is None else "a genome has one sequence of an id",
        "delete it from one (kinmer db delete), or rename its genome there (kinmer db update --metadata)",
    )


class _MergeFeed(Feed):
    """The entries of several indexes, in their order: as many as are in already are passed over."""

    def __init__(self, indexes: Sequence[Storage], settings: Settings) -> None:
        self._indexes, self.encoder = indexes, indexes[0].encoder
        self._epochs = [index.table.epoch for index in indexes]
        self.identity = {"merged": [_signature(index) for index in indexes]}
        filled = [index for index in indexes if len(index)]
        self._kept = []
        for kind, words in zip(BLOBS, ("kept sequences", "sketches"), strict=True):
            lacking = [index for index in filled if not index.table.has_blobs(kind)]
            if not lacking:
                self._kept.append(kind)
            elif len(lacking) < len(filled):
                settings.tell(f"{words} are left out, because {lacking[0].path} lacks some")
        cuts = [index.manifest.get("pieces", {}) for index in indexes]
        self.settings = {"lengths": next((cut["lengths"] for cut in cuts if cut.get("lengths")), [])}
        if any("letters" in cut for cut in cuts):
            self.settings["letters"] = "letters" in self._kept
        if all(map(has_exact_wholes, cuts)):
            self.settings["whole"] = "exact"

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        columns: dict[str, str] = {}
        for index in self._indexes:
            for name in index.columns:
                columns.setdefault(name.lower(), name)
        return list(columns.values()), []

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        done, files = len(writer.table), self._note_files(writer)
        with step("Merging", sum(map(len, self._indexes))) as progress:
            progress.advance(done)
            for index, epoch, numbers in zip(self._indexes, self._epochs, files, strict=True):
                todo = index.numbers[done:]
                done = max(done - len(index), 0)
                for start in range(0, len(todo), BATCH_ENTRIES):
                    with index.table.snapshot():
                        _refuse_change(index, epoch)
                        for part in self._batches(index, todo[start : start + BATCH_ENTRIES]):
                            self._add(writer, index, part, numbers)
                            progress.advance(len(part))
        _copy_means(writer, self._indexes)

    def _note_files(self, writer: IndexWriter) -> list[dict[int, int]]:
        """For each index the numbers of its files here, by those there; all are noted in one commit.

        A file that an index has in part is not whole here either, so that it may be added again.
        """
        change, numbers = Change(writer.table), []
        with change.begin():
            for index in self._indexes:
                numbers.append(dict[int, int]())
                for file in index.table.files():
                    given = (file.path, file.sha256, file.genome, file.prefix)
                    known = writer.table.file_of(*given)
                    number = change.add_file(*given) if known is None else known.number
                    if known is None or not file.whole:
                        change.file_progress(Progress(number, None if file.whole else file.records))
                    numbers[-1][file.number] = number
        return numbers

    def _batches(self, index: Storage, numbers: NDArray[np.int64]) -> Iterator[dict[Entry, dict[str, Blob]]]:
        """Entries with what is kept of each, some at a time; all of a batch have the same kinds."""
        entries = index.table.fetch(numbers)
        places = {kind: index.table.blobs(kind, numbers) for kind in self._kept}
        batch, size = dict[Entry, dict[str, Blob]](), 0
        for number in numbers.tolist():
            kept = {kind: each[number] for kind, each in places.items() if number in each}
            more = entries[number].rows * index.dim * 4 + sum(blob.bytes for blob in kept.values())
            if batch and (size + more > BATCH_BYTES or next(iter(batch.values())).keys() != kept.keys()):
                yield batch
                batch, size = {}, 0
            batch[entries[number]] = kept
            size += more
        yield batch

    def _add(
        self,
        writer: IndexWriter,
        index: Storage,
        batch: Mapping[Entry, Mapping[str, Blob]],
        files: Mapping[int, int],
    ) -> None:
        genomes = index.genomes(np.array([entry.genome for entry in batch]))
        sequences = []
        for entry in batch:
            rows = slice(entry.first, entry.first + entry.rows)
            whole, records = index.rows.records[rows][0], index.rows.records[rows][1:]
            sequences.append(
                NewSequence(
                    entry.id,
                    genomes[entry.genome].name,
                    entry.length,
                    entry.gc,
                    dict(zip(index.columns, entry.values, strict=True)),
                    np.asarray(index.rows.vectors[rows]),
                    list(zip(records["start"].tolist(), records["stop"].tolist(), strict=True)),
                    file=None if entry.file is None else files[entry.file],
                    short=bool(whole["kind"] == SHORT),
                )
            )
        blobs = {}
        for kind in next(iter(batch.values())):
            source = blob_file(index.path, kind, index.table.generation)
            blobs[kind] = read_blobs(source, [kept[kind] for kept in batch.values()])
        if sketch_scale(index.manifest) < (scale := sketch_scale(writer.manifest)) and "sketches" in blobs:
            blobs["sketches"] = (pack_sketch(thinned(unpack_sketch(one), scale)) for one in blobs["sketches"])
        writer.add(sequences, blobs=blobs)


def _is_rounded(index: Storage) -> bool:
    return bool(index.table.state.get("rounded"))


def _signature(index: Storage) -> list[str]:
    """The same while an index holds the same."""
    held = [index.table.state, index.table.blocks()]
    return [str(index.path.absolute()), hashlib.sha256(json.dumps(held, sort_keys=True).encode()).hexdigest()]


def _refuse_change(index: Storage, epoch: int) -> None:
    if index.table.epoch != epoch:
        raise UsageError(
            "the index was changed while it was merged",
            "its rows may be others",
            "run it again",
            place=index.path,
        )


def _copy_means(writer: IndexWriter, indexes: Sequence[Storage]) -> None:
    """Take over the mean vectors of genomes: an index may hold fewer pieces than its means are of.

    Not those of 8 bits a number where the new index is not compact. A killed run may have computed some anew;
    those that differ are replaced.
    """
    with Storage.open(writer.path) as merged:
        for index in indexes:
            if _is_rounded(index) != _is_rounded(merged):
                continue
            stale = set(index.table.stale(1 << 62).tolist())
            genomes = index.table.genomes().values()
            named = {
                one.name: one.label for one in genomes if one.label is not None and one.number not in stale
            }
            labels = list(named.items())
            for start in range(0, len(labels), GENOMES_AT_ONCE):
                part = dict(labels[start : start + GENOMES_AT_ONCE])
                means = {}
                for name, number in writer.table.genome_numbers(part).items():
                    mean, row = np.asarray(index.rows.vectors[part[name]]), merged.rows.means.get(number)
                    if row is None or not np.array_equal(merged.rows.vectors[row], mean):
                        means[number] = mean
                if means:
                    writer.set_means(means)
