"""Cuts labeled fragments out of sequences: the same seed gives the same fragments."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from isal import igzip

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import is_stream, nonempty, read_records, spooled
from kinmer.files import scratch, written_together
from kinmer.folders import check_output
from kinmer.fragments.labels import NO_LABELS, Labels, key_of, read_labels
from kinmer.progress import step

# Of every table of fragments; labels follow.
COLUMNS = ("id", "sequence_id", "start", "end", "length", "strand")
# Places tried for one fragment before it is given up: too many ambiguous letters, or no new place left.
TRIES = 30
# IUPAC letters keep their meaning on the other strand; U is read as T.
_COMPLEMENT = bytes.maketrans(b"ACGTURYKMBVDHSWN", b"TGCAAYRMKVBHDSWN")


def clean(sequence_id: str) -> str:
    """An id as it stands in a fragment's id."""
    return "_".join(sequence_id.split())


def records(files: Sequence[str | Path], what: str) -> Iterator[tuple[str, bytes]]:
    """Records of all files; ids must stay unique when white space in them is made `_`."""
    seen: set[str] = set()
    files = nonempty(files)
    with step(what, len(files)) as shown:
        for file in files:
            for sequence_id, letters in read_records(file):
                if "\t" in sequence_id:
                    raise SequenceError(
                        f"the id {sequence_id!r} holds a tab", "it cannot stand in a table", place=file
                    )
                if clean(sequence_id) in seen:
                    raise SequenceError(
                        f"the id {sequence_id!r} occurs twice",
                        "fragments could not be told apart",
                        "is the same sequence in two of the files?",
                        place=file,
                    )
                seen.add(clean(sequence_id))
                yield sequence_id, letters
            shown.advance(1)


class Place(NamedTuple):
    """A fragment: from `start` up to `end` on the forward strand; `letters` on its own strand."""

    start: int
    end: int
    strand: str
    letters: bytes

    def fields(self, sequence_id: str) -> tuple[str, ...]:
        """Its row of a table, in the order of COLUMNS."""
        name = f"{clean(sequence_id)}:{self.start}-{self.end}:{self.strand}"
        size = self.end - self.start
        return (name, sequence_id, str(self.start), str(self.end), str(size), self.strand)


class Cutter:
    """Chooses fragments of one sequence after the other; the same for the same seed and sequence."""

    def __init__(
        self, low: int, high: int, seed: int | str, both_strands: bool, max_ambiguous: float
    ) -> None:
        self.low, self._high, self._seed = low, high, seed
        self._both_strands, self._max_ambiguous = both_strands, max_ambiguous

    def places(self, sequence_id: str, letters: bytes, wanted: int, first: int = 0) -> Iterator[Place]:
        """At most `wanted` fragments, no two the same, of the letters from `first` on."""
        random = np.random.default_rng(key_of(f"{self._seed}\0{sequence_id}"))
        room = len(letters) - first
        top = math.log(min(self._high, room) + 1)
        taken: set[tuple[int, int, bool]] = set()
        for _ in range(wanted):
            for _ in range(TRIES):
                size = int(math.exp(random.uniform(math.log(self.low), top)))
                size = min(max(size, self.low), self._high, room)
                start = first + int(random.integers(room - size + 1))
                reverse = bool(random.integers(2)) and self._both_strands
                piece = letters[start : start + size]
                if (start, size, reverse) in taken or self._too_ambiguous(piece):
                    continue
                taken.add((start, size, reverse))
                shown = piece.translate(_COMPLEMENT)[::-1] if reverse else piece
                yield Place(start, start + size, "-" if reverse else "+", shown)
                break

    def _too_ambiguous(self, piece: bytes) -> bool:
        return len(piece.translate(None, b"ACGTU")) > self._max_ambiguous * len(piece)


class FragmentWriter:
    """Writes fragments one after the other; counts them and their letters."""

    def __init__(self, fasta: Any, table: IO[str], columns: Sequence[str]) -> None:
        self._fasta, self._table = fasta, table
        self.fragments = self.bases = 0
        table.write("\t".join((*COLUMNS, *columns)) + "\n")

    def write(self, sequence_id: str, place: Place, labels: Sequence[str]) -> None:
        """One record and its row; `labels` in the order of the columns."""
        fields = place.fields(sequence_id)
        self._fasta.write(b">%b\n%b\n" % (fields[0].encode(), place.letters))
        self._table.write("\t".join((*fields, *labels)) + "\n")
        self.fragments += 1
        self.bases += place.end - place.start


@contextmanager
def fragment_writer(fasta: Path, columns: Sequence[str]) -> Iterator[FragmentWriter]:
    """A writer of `fasta` (gzip where it ends in .gz) and ``<fasta>.tsv``; both whole or not at all."""
    with ExitStack() as stack:
        paths = written_together(fasta, fasta.with_name(fasta.name + ".tsv"))
        sequences, table = stack.enter_context(paths)
        packed: Any = stack.enter_context(sequences.open("wb"))
        if fasta.suffix == ".gz":
            # No time and no name in the header: the same fragments make the same file.
            packed = stack.enter_context(
                igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=packed, mtime=0)
            )
        text = stack.enter_context(table.open("w", encoding="utf-8", newline=""))
        yield FragmentWriter(packed, text, columns)


@dataclass(frozen=True, kw_only=True)
class FragmentReport:
    """The counts of `fragment`."""

    fragments: int
    bases: int
    sequences: int  # that gave at least one fragment
    too_short: int  # sequences below the shortest length
    given_up: int  # fragments asked for that are missing: too ambiguous, or no new place
    unlabelled: int  # sequences without a row in the labels
    left_out: int = 0  # sequences whose labels are among those left out
    empty: int = 0  # files passed over, because there is nothing in them

    def to_dict(self) -> dict[str, int]:
        """JSON form."""
        return asdict(self)

    def summary(self) -> str:
        """One line for people."""
        parts = [
            f"{self.fragments:,} fragments ({self.bases / 1e6:,.1f} Mbp) of {self.sequences:,} sequences"
        ]
        for number, what in (
            (self.too_short, "sequences too short"),
            (self.given_up, "fragments not found (too many ambiguous letters, or no new place)"),
            (self.unlabelled, "sequences without labels"),
            (self.left_out, "sequences left out"),
            (self.empty, "empty files passed over"),
        ):
            if number:
                parts.append(f"{number:,} {what}")
        return ", ".join(parts)


def fragment(
    files: Sequence[str | Path],
    output: str | Path,
    *,
    length: int | tuple[int, int] = (1_000, 100_000),
    per_sequence: int | None = None,
    number: int | None = None,
    group: str | None = None,
    labels: str | Path | None = None,
    leave_out: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    both_strands: bool = True,
    max_ambiguous: float = 0.1,
    force: bool = False,
) -> FragmentReport:
    """Cut fragments out of FASTA `files` into `output` (gzip where it ends in .gz) and ``<output>.tsv``.

    The table has one row a fragment: id (``sequence:start-end:strand``), sequence_id, start and end (from 0,
    end excluded, on the forward strand), length, strand, labels. Files are read twice with `number`, memory
    holds one sequence and the labels. Both outputs appear whole or not at all.

    Parameters
    ----------
    length : int | tuple[int, int]
        Letters of every fragment, or (low, high) for log-uniform lengths between them; a sequence shorter
        than high gives lengths up to its own, one shorter than low gives none.
    per_sequence, number : int | None
        Fragments of every sequence, or of all together, shared out in proportion to the sequences' lengths;
        one of the two.
    group : str | None
        Column of the labels. `number` is then shared out evenly among its values first (so that no large
        genome dominates), in proportion to length within each.
    labels : TSV with a column ``sequence_id``; its other columns join the fragments' table. A column that
        the table has already (``length``) is called ``sequence_length`` there.
    leave_out : Mapping[str, Sequence[str]] | None
        Values of the labels' columns; a sequence that has one of them gives no fragment, such as
        ``{"fold": ["2"]}`` with a benchmark's ``folds.tsv``.
    seed, both_strands : a fragment's location, length and strand follow from seed and id alone.
    max_ambiguous : largest share of letters other than ACGTU.

    Raises
    ------
    UsageError, SequenceError, InputError : settings or output; bad FASTA or no fragment at all; bad labels.
    """
    low, high = _check_settings(length, per_sequence, number, group, labels, max_ambiguous)
    output = check_output(output, force=force)
    check_output(output.with_name(output.name + ".tsv"), force=force)
    with ExitStack() as stack:
        if number is not None:  # They are read twice: the lengths come first.
            files = [_rereadable(file, output, stack) for file in files]
        known = read_labels(labels) if labels is not None else NO_LABELS
        source = _Labeled(files, known, leave_out)
        quota = None if number is None else _share_out(number, source.lengths(low), known, group)
        cutter = Cutter(low, high, seed, both_strands, max_ambiguous)
        with fragment_writer(output, known.joined(COLUMNS)) as writer:
            report = source.cut(cutter, per_sequence or 0, quota, writer)
            if not report.fragments:
                short = f"{report.too_short:,} sequences are shorter than {low:,} letters"
                raise SequenceError("no fragment was cut", short, "use a smaller --length")
        return report


def _rereadable(file: str | Path, output: Path, stack: ExitStack) -> str | Path:
    """A file, or what a stream holds in a file that goes with the stack."""
    if not is_stream(file):
        return file
    return stack.enter_context(spooled(file, stack.enter_context(scratch(output))))


class _Labeled:
    """The sequences of some files with their labels, without those that are left out."""

    def __init__(
        self, files: Sequence[str | Path], labels: Labels, leave_out: Mapping[str, Sequence[str]] | None
    ) -> None:
        self._files, self._labels = files, labels
        self._omitted = [(labels.place_of(name), frozenset(of)) for name, of in (leave_out or {}).items()]

    def _is_left_out(self, sequence_id: str) -> bool:
        fields = self._labels.of(sequence_id)
        return any(fields[at] in values for at, values in self._omitted)

    def lengths(self, low: int) -> dict[str, int]:
        """Letters of every sequence of at least `low`."""
        return {
            one: len(letters)
            for one, letters in records(self._files, "lengths")
            if len(letters) >= low and not self._is_left_out(one)
        }

    def cut(
        self, cutter: Cutter, each: int, quota: Mapping[str, int] | None, writer: FragmentWriter
    ) -> FragmentReport:
        """Write every sequence's fragments: its quota, or as many of each."""
        counts = dict.fromkeys(("sequences", "too_short", "given_up", "unlabelled", "left_out"), 0)
        for sequence_id, letters in records(self._files, "cutting"):
            if self._is_left_out(sequence_id):
                counts["left_out"] += 1
                continue
            counts["unlabelled"] += self._labels is not NO_LABELS and sequence_id not in self._labels.rows
            if len(letters) < cutter.low:
                counts["too_short"] += 1
                continue
            number = each if quota is None else quota.get(sequence_id, 0)
            before = writer.fragments
            for place in cutter.places(sequence_id, letters, number):
                writer.write(sequence_id, place, self._labels.of(sequence_id))
            counts["sequences"] += writer.fragments > before
            counts["given_up"] += number - (writer.fragments - before)
        empty = len(self._files) - len(nonempty(self._files))
        return FragmentReport(fragments=writer.fragments, bases=writer.bases, empty=empty, **counts)


def _check_settings(
    length: int | tuple[int, int],
    per_sequence: int | None,
    number: int | None,
    group: str | None,
    labels: str | Path | None,
    max_ambiguous: float,
) -> tuple[int, int]:
    low, high = (length, length) if isinstance(length, int) else length
    if not 1 <= low <= high:
        raise UsageError(f"fragment lengths from {low} to {high}", "the shorter one comes first, at least 1")
    if (per_sequence is None) == (number is None):
        raise UsageError("give the fragments of every sequence or the number of all, one of the two")
    if (per_sequence or 0) + (number or 0) < 1:
        raise UsageError("at least one fragment must be asked for")
    if group is not None and (labels is None or number is None):
        raise UsageError("groups share out a number of fragments and come from the labels", check="give both")
    if not 0 <= max_ambiguous <= 1:
        raise UsageError(f"the share of ambiguous letters lies between 0 and 1, not at {max_ambiguous}")
    return low, high


def _share_out(number: int, lengths: Mapping[str, int], labels: Labels, group: str | None) -> dict[str, int]:
    """Fragments of every sequence: even among groups, by length within one, whole numbers that add up."""
    if group is None:
        return _proportional(number, lengths)
    column = labels.place_of(group)
    members: dict[str, dict[str, int]] = {}
    for one, size in lengths.items():
        members.setdefault(labels.of(one)[column], {})[one] = size
    shares = _proportional(number, dict.fromkeys(members, 1))
    return {
        one: count
        for key, inside in members.items()
        for one, count in _proportional(shares[key], inside).items()
    }


def _proportional(number: int, weights: Mapping[str, int]) -> dict[str, int]:
    """Whole shares of `number` by weight: largest remainders, ties by name (not by order)."""
    total = sum(weights.values())
    shares = {one: number * weight // total for one, weight in weights.items()}
    left = number - sum(shares.values())
    ranked = sorted(weights, key=lambda one: (-(number * weights[one] % total), key_of(one)))
    for one in ranked[:left]:
        shares[one] += 1
    return shares
