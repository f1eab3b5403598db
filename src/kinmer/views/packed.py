"""All sequences of FASTA files, packed in memory, with what their labels say."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import nonempty, read_records
from kinmer.fragments import Labels, read_labels
from kinmer.fragments.folds import genomes_of, groups_of
from kinmer.fragments.labels import NO_LABELS
from kinmer.progress import step
from kinmer.views.letters import pack_letters, unpack

__all__ = ["VIRUSES", "Groups", "PackedSequences"]

VIRUSES = "Viruses"
# The labels that pairs are made by.
COLUMNS = ("genome_id", "domain", "species", "genus", "ani95_cluster")


@dataclass(frozen=True)
class Groups:
    """What fragments are paired by: genomes where labels name them, else sequences; sorted.

    names : of the groups. kin : (g,) int64, equal for groups that share a species or an ``ani95_cluster``,
    directly or over others. genus : (g,) int64, -1 where there is none. virus : (g,) bool.
    """

    names: tuple[str, ...]
    kin: NDArray[np.int64]
    genus: NDArray[np.int64]
    virus: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class PackedSequences:
    """Sequences in 2 bits a letter, in the order of their files; made by `read`.

    Attributes
    ----------
    ids, lengths : of every sequence; lengths (n,) int64, all letters.
    starts : (n,) int64, where in the letters of `packed` (4 a byte) a sequence begins.
    packed : uint8; an ambiguous letter stands as A.
    spans : (m, 2) int64, ascending, the runs of ambiguous letters, counted like `starts`.
    group : (n,) int64, place of the sequence's group in `groups`.
    too_short, left_out, unlabelled : sequences passed over, of the fold left out, without a row of labels.
    """

    ids: tuple[str, ...]
    lengths: NDArray[np.int64]
    starts: NDArray[np.int64]
    packed: NDArray[np.uint8]
    spans: NDArray[np.int64]
    group: NDArray[np.int64]
    groups: Groups
    too_short: int = 0
    left_out: int = 0
    unlabelled: int = 0

    @classmethod
    def read(
        cls,
        files: Sequence[str | Path],
        labels: str | Path | None = None,
        *,
        folds: str | Path | None = None,
        fold: str | int | None = None,
        min_length: int = 1000,
    ) -> PackedSequences:
        """Read FASTA files and hold the sequences of at least `min_length` letters.

        labels : TSV with ``sequence_id`` and any of ``genome_id``, ``species``, ``ani95_cluster``, ``genus``,
            ``domain``. Sequences of one genome are a group; one without a genome is a group of its own.
        folds, fold : TSV with ``sequence_id`` and ``fold``, and the fold to leave out.

        Memory: a quarter of a byte a letter, and the longest sequence twice.

        Raises SequenceError (bad FASTA, an id twice, nothing long enough), InputError (labels or folds that
        cannot be used, a sequence without a fold), UsageError (a fold that no sequence is of).
        """
        known = read_labels(labels) if labels is not None else NO_LABELS
        omitted = _Fold(folds, fold)
        held, ids, lengths, spans = bytearray(), [], [], [np.empty((0, 2), np.int64)]
        too_short = left_out = 0
        for sequence_id, letters, place in _records(files):
            if omitted.has(sequence_id, place):
                left_out += 1
            elif len(letters) < min_length:
                too_short += 1
            else:
                packed, runs = _packed(letters, place)
                spans.append(runs + 4 * len(held))
                held += packed.data
                ids.append(sequence_id)
                lengths.append(len(letters))
        omitted.check()
        if not ids:
            raise SequenceError(
                "no sequence is left to draw fragments from",
                f"{too_short:,} are shorter than {min_length:,} letters, {left_out:,} of the fold left out",
            )
        sizes = np.array(lengths, np.int64)
        group, groups = _grouped(ids, known, labels or "labels")
        return cls(
            tuple(ids),
            sizes,
            4 * (np.cumsum(-(-sizes // 4)) + (sizes // -4)),
            np.frombuffer(held, np.uint8),
            np.concatenate(spans),
            group,
            groups,
            too_short,
            left_out,
            sum(one not in known.rows for one in ids),
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids, letters, groups and kin."""
        digest = hashlib.sha256("\n".join((*self.ids, "", *self.groups.names)).encode())
        groups = self.groups
        for part in (
            self.lengths,
            self.packed,
            self.spans,
            self.group,
            groups.kin,
            groups.genus,
            groups.virus,
        ):
            digest.update(np.ascontiguousarray(part).data)
        return digest.hexdigest()

    def unpack(
        self,
        sequences: NDArray[np.int64],
        begins: NDArray[np.int64],
        sizes: NDArray[np.int64],
        reverse: NDArray[np.bool_],
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """A buffer with pieces of sequences, upper case, N for all ambiguous letters; starts and ends in it.

        sequences, begins, sizes : (n,) which sequence, from which of its letters on (from 0), how many.
        reverse : (n,) whether the piece is wanted as its reverse complement.
        """
        first = self.starts[sequences] + begins
        places = np.stack([first, first + sizes, reverse.astype(np.int64)], axis=1)
        rooms = 4 * ((first + sizes + 3) // 4 - first // 4)
        offsets = np.cumsum(rooms) - rooms
        buffer = np.empty(int(rooms.sum()) // 4, np.uint32)
        bounds = np.empty((len(places), 2), np.int64)
        unpack(self.packed, self.spans, places, offsets, buffer, bounds)
        return buffer.view(np.uint8), bounds[:, 0].copy(), bounds[:, 1].copy()

    def ambiguous(
        self, sequences: NDArray[np.int64], begins: NDArray[np.int64], sizes: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """How many letters of pieces are ambiguous; arrays of one shape."""
        first = self.starts[sequences] + begins
        return self._ambiguous_before(first + sizes) - self._ambiguous_before(first)

    def _ambiguous_before(self, letter: NDArray[np.int64]) -> NDArray[np.int64]:
        if not len(self.spans):
            return np.zeros(letter.shape, np.int64)
        run = np.searchsorted(self.spans[:, 0], letter, side="right")
        until = self._ambiguous_runs[run]
        last = self.spans[np.maximum(run - 1, 0), 1]
        inside = np.where(run > 0, np.maximum(last - letter, 0), 0)
        found: NDArray[np.int64] = until - inside
        return found

    @cached_property
    def _ambiguous_runs(self) -> NDArray[np.int64]:
        """(m + 1,) ambiguous letters in all runs before one."""
        return np.concatenate([[0], np.cumsum(self.spans[:, 1] - self.spans[:, 0])])


class _Fold:
    """The sequences of the fold that is left out."""

    def __init__(self, folds: str | Path | None, fold: str | int | None) -> None:
        if (folds is None) != (fold is None):
            raise UsageError("folds and the fold to leave out belong together", check="give both")
        self._labels = NO_LABELS if folds is None else read_labels(folds)
        self._fold, self._path = str(fold), folds
        self._found = folds is None
        if folds is not None:
            self._labels.place_of("fold")

    def has(self, sequence_id: str, place: str) -> bool:
        """Whether a sequence is left out; InputError where it has no fold."""
        if self._path is None:
            return False
        fold = self._labels.value(sequence_id, "fold")
        if not fold:
            raise InputError(
                f"the sequence {sequence_id!r} has no fold in {self._path}",
                "whether to leave it out cannot be told",
                "were the folds made from these files?",
                place=place,
            )
        self._found |= fold == self._fold
        return fold == self._fold

    def check(self) -> None:
        """UsageError where no sequence was of the fold."""
        if not self._found:
            raise UsageError(f"no sequence is of the fold {self._fold!r}", check=f"see {self._path}")


def _records(files: Sequence[str | Path]) -> Iterator[tuple[str, bytes, str]]:
    """Ids, letters and places; SequenceError where an id comes twice."""
    seen: dict[str, str] = {}
    files = nonempty(files)
    with step("Reading sequences", len(files)) as progress:
        for file in files:
            for number, (sequence_id, letters) in enumerate(read_records(file), start=1):
                place = f"{file}, record {number} ({sequence_id!r})"
                if sequence_id in seen:
                    raise SequenceError(
                        "the id occurs twice",
                        f"the first one is in {seen[sequence_id]}",
                        "is the same sequence in two of the files?",
                        place=place,
                    )
                seen[sequence_id] = str(file)
                yield sequence_id, letters, place
            progress.advance(1)


def _packed(letters: bytes, place: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Packed letters and the runs of ambiguous ones."""
    packed, spans, invalid = pack_letters(letters)
    if invalid >= 0:
        raise SequenceError(
            f"the letter {chr(letters[invalid])!r} at position {invalid + 1:,} is no nucleotide code",
            "only nucleotide sequences have k-mer profiles",
            "is it a protein, or is the file damaged?",
            place=place,
        )
    return packed, spans


def _grouped(ids: Sequence[str], known: Labels, place: str | Path) -> tuple[NDArray[np.int64], Groups]:
    """Every sequence's group, and the groups."""
    rows = {one: tuple(known.value(one, name) for name in COLUMNS) for one in ids}
    rows = {one: (fields[0] or one, *fields[1:]) for one, fields in rows.items()}
    lines: Mapping[str, int] = {one: known.lines.get(one, 0) for one in ids}
    genomes = genomes_of(Labels(COLUMNS, rows, lines), place)
    kin = groups_of(genomes.values(), "species")
    names = tuple(genomes)
    number = {name: at for at, name in enumerate(names)}
    genera = {genome.genus for genome in genomes.values() if genome.genus}
    genus_of = {name: at for at, name in enumerate(sorted(genera))}
    groups = Groups(
        names,
        np.array([number[kin[name]] for name in names], np.int64),
        np.array([genus_of.get(genomes[name].genus, -1) for name in names], np.int64),
        np.array([genomes[name].domain == VIRUSES for name in names], np.bool_),
    )
    return np.array([number[rows[one][0]] for one in ids], np.int64), groups
