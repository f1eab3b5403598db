"""Sequences packed in 2 bits a letter, with their labels, and random fragments of them."""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import nonempty, read_records
from kinmer.fragments import Labels, read_labels
from kinmer.fragments.labels import NO_LABELS, genomes_of, groups_of
from kinmer.kmers.kernels import CLASSES
from kinmer.progress import step

# Of CLASSES: an IUPAC code and the like.
_AMBIGUOUS = 5
_N = 78


def _fours() -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """The four letters in every byte, (256,) uint32 each: as they are, and their reverse complement."""
    codes = np.arange(256)[:, None] >> np.array([0, 2, 4, 6]) & 3
    letters = np.frombuffer(b"ACGT", np.uint8)
    forward = letters[codes].copy().view(np.uint32).ravel()
    reverse = letters[3 - codes[:, ::-1]].copy().view(np.uint32).ravel()
    return forward, reverse


_FORWARD, _REVERSE = _fours()


@njit(nogil=True, cache=True)
def _pack(letters: Any, classes: Any, packed: Any, spans: Any) -> tuple[int, int]:
    """Pack letters, the first in the lowest bits of a byte; an ambiguous one is packed as A.

    packed : (at least len(letters) / 4,) uint8, zeros. spans : (n, 2) int64, filled with start and end of the
    runs of ambiguous letters as far as it has room. Gives the number of runs, and the offset of the first
    byte that is not a nucleotide code (packing stops there) or -1.
    """
    runs, last = 0, -2
    for i in range(len(letters)):
        code = classes[letters[i]]
        if code < 4:
            packed[i >> 2] |= np.uint8(code << np.uint8(2 * (i & 3)))
        elif code == _AMBIGUOUS:
            if last != i - 1:
                runs += 1
                if runs <= len(spans):
                    spans[runs - 1, 0] = i
            if runs <= len(spans):
                spans[runs - 1, 1] = i + 1
            last = i
        else:
            return runs, i
    return runs, -1


def pack_letters(letters: bytes) -> tuple[NDArray[np.uint8], NDArray[np.int64], int]:
    """Letters packed, (ceil(n / 4),) uint8; runs of ambiguous ones, (m, 2); the first invalid one or -1."""
    read, room = np.frombuffer(bytearray(letters), np.uint8), 64
    while True:
        packed, spans = np.zeros(-(-len(letters) // 4), np.uint8), np.empty((room, 2), np.int64)
        runs, invalid = _pack(read, CLASSES, packed, spans)
        if runs <= room or invalid >= 0:
            return packed, spans[:runs], invalid
        room = runs


@njit(nogil=True, cache=True)
def unpack(packed: Any, spans: Any, places: Any, offsets: Any, buffer: Any, bounds: Any) -> None:
    """Unpack pieces of sequences as upper-case letters, N where they are ambiguous.

    spans : (m, 2) int64, ascending, runs of ambiguous letters, counted over `packed` (4 a byte).
    places : (n, 3) int64: first and last letter (excluded), counted like that, and 1 for the reverse
    complement. offsets : (n,) int64, where in `buffer` (uint32, four letters each) a piece's room begins, in
    bytes: 4 for every byte of `packed` that it touches. Filled: bounds (n, 2) int64, where in the buffer's
    bytes the piece itself begins and ends.
    """
    letters = buffer.view(np.uint8)
    for piece in range(len(places)):
        start, end, reverse = places[piece, 0], places[piece, 1], places[piece, 2]
        first, last = start // 4, (end + 3) // 4
        room = buffer[offsets[piece] // 4 : offsets[piece] // 4 + last - first]
        source = packed[first:last]
        if reverse == 0:
            for i in range(len(source)):
                room[i] = _FORWARD[source[i]]
            begin = offsets[piece] + start - 4 * first
        else:
            top = len(source) - 1
            for i in range(len(source)):
                room[top - i] = _REVERSE[source[i]]
            begin = offsets[piece] + 4 * last - end
        bounds[piece, 0], bounds[piece, 1] = begin, begin + end - start
        run = np.searchsorted(spans[:, 1], start, side="right")
        while run < len(spans) and spans[run, 0] < end:
            low, high = max(start, spans[run, 0]), min(end, spans[run, 1])
            if reverse == 0:
                letters[begin + low - start : begin + high - start] = _N
            else:
                letters[begin + end - high : begin + end - low] = _N
            run += 1


VIRUSES, EUKARYOTES = "Viruses", "Eukaryota"
# Classes of genomes; organelles count among the eukaryotes, and a genome of plasmids alone is a plasmid.
KINDS = ("cell", "virus", "plasmid", "eukaryote")
# The labels that groups and kin are made by.
COLUMNS = ("genome_id", "domain", "species", "genus", "ani95_cluster")


@dataclass(frozen=True)
class Groups:
    """What fragments belong to: genomes where labels name them, else sequences; sorted.

    names : of the groups. kin : (g,) int64, equal for groups that share a species or an ``ani95_cluster``,
    directly or over others. genus : (g,) int64, -1 where there is none. kind : (g,) int64, class in `KINDS`.
    """

    names: tuple[str, ...]
    kin: NDArray[np.int64]
    genus: NDArray[np.int64]
    kind: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.names)

    @property
    def virus(self) -> NDArray[np.bool_]:
        """(g,) which are viruses."""
        return np.equal(self.kind, KINDS.index("virus"))


@dataclass(frozen=True)
class PackedSequences:
    """Sequences in 2 bits a letter, in the order of their files; made by `read`.

    Attributes
    ----------
    ids, lengths : of every sequence; lengths (n,) int64, all letters.
    starts : (n,) int64, where in the letters of `packed` (4 a byte) a sequence begins.
    packed : uint8; an ambiguous letter stands as A.
    spans : (m, 2) int64, ascending, the runs of ambiguous letters, counted like `starts`.
    group : (n,) int64, position of the sequence's group in `groups`.
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
            ``domain``, ``molecule``. Sequences of one genome are a group; one without a genome is its own.
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
        parts = (self.lengths, self.packed, self.spans, self.group, groups.kin, groups.genus, groups.virus)
        for part in parts:
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
        beyond = np.maximum(self.spans[np.maximum(run - 1, 0), 1] - letter, 0)
        return np.asarray(self._ambiguous_runs[run] - np.where(run > 0, beyond, 0))

    @cached_property
    def _ambiguous_runs(self) -> NDArray[np.int64]:
        """(m + 1,) ambiguous letters in all runs before one."""
        return np.concatenate([[0], np.cumsum(self.spans[:, 1] - self.spans[:, 0])])


class _Fold:
    """The sequences of the fold that is left out; of none where there are no folds."""

    def __init__(self, folds: str | Path | None, fold: str | int | None) -> None:
        if (folds is None) != (fold is None):
            raise UsageError("folds and the fold to leave out belong together", check="give both")
        self._fold, self._path, self._seen = str(fold), folds, folds is None
        if folds is not None:
            self._labels = read_labels(folds)
            self._labels.place_of("fold")

    def has(self, sequence_id: str, place: str) -> bool:
        """Whether a sequence is left out; InputError where it has no fold."""
        if self._path is None:
            return False
        fold = self._labels.value(sequence_id, "fold")
        if not fold:
            raise InputError(
                f"the sequence {sequence_id!r} has no fold in {self._path}",
                "whether to leave it out cannot be known",
                "were the folds made from these files?",
                place=place,
            )
        self._seen |= fold == self._fold
        return fold == self._fold

    def check(self) -> None:
        """UsageError where no sequence was of the fold."""
        if not self._seen:
            raise UsageError(f"no sequence is of the fold {self._fold!r}", check=f"see {self._path}")


def _records(files: Sequence[str | Path]) -> Iterator[tuple[str, bytes, str]]:
    """Ids, letters and where they stand; SequenceError where an id comes twice."""
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
            f"the letter {chr(letters[invalid])!r} at position {invalid + 1:,} is not a nucleotide code",
            "only nucleotide sequences have k-mer profiles",
            "is it a protein, or is the file damaged?",
            place=place,
        )
    return packed, spans


def _kind(domain: str, plasmid: bool) -> int:
    """The class in `KINDS` of a genome of a domain; plasmid : whether all its sequences are plasmids."""
    of_domain = {VIRUSES: "virus", EUKARYOTES: "eukaryote"}
    return KINDS.index(of_domain.get(domain, "plasmid" if plasmid else "cell"))


def _grouped(ids: Sequence[str], known: Labels, place: str | Path) -> tuple[NDArray[np.int64], Groups]:
    """Every sequence's group, and the groups."""
    fields = {one: [known.value(one, name) for name in COLUMNS] for one in ids}
    rows = {one: (genome or one, *others) for one, (genome, *others) in fields.items()}
    lines = {one: known.lines.get(one, 0) for one in ids}
    genomes = genomes_of(Labels(COLUMNS, rows, lines), place)
    kin = groups_of(genomes.values(), "species")
    number = {name: at for at, name in enumerate(genomes)}
    genus_of = {genus: at for at, genus in enumerate(sorted({one.genus for one in genomes.values()} - {""}))}
    plasmid = dict.fromkeys(genomes, True)
    for one in ids:
        plasmid[rows[one][0]] &= known.value(one, "molecule").casefold() == "plasmid"
    groups = Groups(
        tuple(genomes),
        np.array([number[kin[name]] for name in genomes], np.int64),
        np.array([genus_of.get(one.genus, -1) for one in genomes.values()], np.int64),
        np.array([_kind(one.domain, plasmid[name]) for name, one in genomes.items()], np.int64),
    )
    return np.array([number[rows[one][0]] for one in ids], np.int64), groups


# Places tried for a fragment; where all have too many ambiguous letters, the one with the fewest is taken.
TRIES = 4


@dataclass(frozen=True)
class Fragments:
    """Places of n fragments: sequence, first letter (from 0), letters, strand; (n,) each."""

    sequences: NDArray[np.int64]
    begins: NDArray[np.int64]
    sizes: NDArray[np.int64]
    reverse: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.sizes)

    def take(self, *rows: NDArray[np.int64] | slice | int) -> Fragments:
        """Some of them."""
        return Fragments(*(column[rows] for column in vars(self).values()))


@dataclass(frozen=True)
class Places:
    """Draws fragments of groups.

    A sequence of the group is drawn in proportion to the places that the shortest fragment has in it; the
    length is log-uniform from `lengths`, the longest one cut down to the sequence; place and strand are
    uniform.

    max_ambiguous : largest share of letters other than ACGT, where four tries find one.
    """

    packed: PackedSequences
    lengths: tuple[int, int]
    max_ambiguous: float = 0.1

    def draw(self, groups: NDArray[np.int64], each: int, *, key: tuple[int, int], first: int) -> Fragments:
        """`each` fragments of every one of (n,) `groups`, side by side.

        key, first : the numbers that the draws follow from; those of ``groups[i]`` are the same as those of
        ``groups[0]`` with ``first + i``.
        """
        philox = np.random.Philox(counter=[first * each * TRIES, 0, 0, 0], key=np.array(key, np.uint64))
        random = np.random.Generator(philox).random((len(groups) * each, TRIES, 4))
        drawn = self._placed(np.repeat(groups, each)[:, None], random)
        if not len(self.packed.spans):
            return drawn.take(slice(None), 0)
        share = self.packed.ambiguous(drawn.sequences, drawn.begins, drawn.sizes) / drawn.sizes
        share[share <= self.max_ambiguous] = 0
        rows, best = np.arange(len(share)), share.argmin(axis=1)
        return drawn.take(rows, best)

    def _placed(self, groups: NDArray[np.int64], random: NDArray[np.float64]) -> Fragments:
        """Fragments of (n, 1) groups from (n, tries, 4) uniform numbers; (n, tries) each."""
        low, high = self.lengths
        order, ends, first = self._by_group
        base = np.where(first[groups] > 0, ends[first[groups] - 1], 0)
        wanted = base + random[..., 0] * (ends[first[groups + 1] - 1] - base)
        where = np.searchsorted(ends, wanted.astype(np.int64), side="right")
        sequences = order[np.minimum(where, first[groups + 1] - 1)]
        most = np.minimum(self.packed.lengths[sequences], high)
        # Every whole length has the same share of the logarithms as the numbers from it to the next one.
        sizes = (low * np.exp(random[..., 1] * np.log((most + 1) / low))).astype(np.int64)
        sizes = np.clip(sizes, np.minimum(low, most), most)
        begins = (random[..., 2] * (self.packed.lengths[sequences] - sizes + 1)).astype(np.int64)
        return Fragments(sequences, begins, sizes, random[..., 3] < 0.5)

    @cached_property
    def _by_group(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Sequences by group; running sum of their room; where each group begins, and the end, (g + 1,)."""
        order = np.argsort(self.packed.group, kind="stable")
        room = np.maximum(self.packed.lengths - self.lengths[0] + 1, 1)
        counts = np.bincount(self.packed.group, minlength=len(self.packed.groups))
        return order, np.cumsum(room[order]), np.concatenate([[0], np.cumsum(counts)])
