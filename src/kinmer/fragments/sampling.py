"""Cuts labelled fragments out of sequences, the same for the same seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta import is_stream, nonempty, spooled
from kinmer.files import check_output, scratch
from kinmer.fragments.cutting import COLUMNS, Cutter, key_of, records
from kinmer.fragments.labels import NO_LABELS, Labels, read_labels
from kinmer.fragments.outputs import FragmentWriter, fragment_writer

__all__ = ["FragmentReport", "fragment"]


@dataclass(frozen=True, kw_only=True)
class FragmentReport:
    """What `fragment` did."""

    fragments: int
    bases: int
    sequences: int  # that gave at least one fragment
    too_short: int  # sequences below the shortest length
    given_up: int  # fragments asked for that were not found: too ambiguous, or no new place
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

    length : letters of every fragment, or (low, high) for log-uniform lengths between them; a sequence
        shorter than high gives lengths up to its own, one shorter than low gives none.
    per_sequence, number : fragments of every sequence, or of all together, shared out in proportion to the
        sequences' lengths; one of the two.
    group : column of the labels; `number` is then shared out evenly among its values first (so that no
        large genome dominates), in proportion to length within each.
    labels : TSV with a column ``sequence_id``; its other columns join the fragments' table. A column that
        the table has already (``length``) is called ``sequence_length`` there.
    leave_out : values of the labels' columns; a sequence that has one of them gives no fragment. With
        ``{"fold": ["2"]}`` and a benchmark's ``folds.tsv`` as labels: what an encoder may see that is asked
        about fold 2.
    seed, both_strands : a fragment's place, length and strand follow from the seed and its sequence's id,
        whatever else is in the files and in which order.
    max_ambiguous : largest share of letters other than ACGTU.

    The table has one row a fragment: id (``sequence:start-end:strand``), sequence_id, start and end (from 0,
    end excluded, on the forward strand), length, strand, labels. Files are read twice with `number`; memory
    holds one sequence and the labels. Both outputs appear whole or not at all.

    Raises UsageError (settings, output exists), SequenceError (bad FASTA, ids twice, no fragment at all),
    InputError (labels that cannot be used).
    """
    low, high = _check_settings(length, per_sequence, number, group, labels, max_ambiguous)
    output = check_output(output, force=force)
    check_output(output.with_name(output.name + ".tsv"), force=force)
    with ExitStack() as stack:
        if number is not None:
            # They are read twice: the lengths come first.
            rooms = [stack.enter_context(scratch(output)) for file in files if is_stream(file)]
            files = [
                stack.enter_context(spooled(file, rooms.pop())) if is_stream(file) else file for file in files
            ]
        return _fragment(
            files,
            output,
            low,
            high,
            per_sequence,
            number,
            group,
            labels,
            leave_out,
            seed,
            both_strands,
            max_ambiguous,
        )


def _fragment(
    files: Sequence[str | Path],
    output: Path,
    low: int,
    high: int,
    per_sequence: int | None,
    number: int | None,
    group: str | None,
    labels: str | Path | None,
    leave_out: Mapping[str, Sequence[str]] | None,
    seed: int,
    both_strands: bool,
    max_ambiguous: float,
) -> FragmentReport:
    known = read_labels(labels) if labels is not None else NO_LABELS
    passed = _PassedOver(known, leave_out)
    quota = None if number is None else _share_out(number, _lengths(files, low, passed), known, group)
    wanted = _Wanted(per_sequence or 0, quota)
    cutter = Cutter(low, high, seed, both_strands, max_ambiguous)
    with fragment_writer(output, known.joined(COLUMNS)) as writer:
        report = _cut(files, cutter, wanted, known, passed, writer)
        if not report.fragments:
            raise SequenceError(
                "no fragment was cut",
                f"{report.too_short:,} sequences are shorter than {low:,} letters",
                "use a smaller --length",
            )
    return report


def _cut(
    files: Sequence[str | Path],
    cutter: Cutter,
    wanted: _Wanted,
    labels: Labels,
    passed: _PassedOver,
    writer: FragmentWriter,
) -> FragmentReport:
    """Write every sequence's fragments."""
    counts = dict.fromkeys(("sequences", "too_short", "given_up", "unlabelled", "left_out"), 0)
    for sequence_id, letters in records(files, "cutting"):
        if passed.has(sequence_id):
            counts["left_out"] += 1
            continue
        counts["unlabelled"] += labels is not NO_LABELS and sequence_id not in labels.rows
        if len(letters) < cutter.low:
            counts["too_short"] += 1
            continue
        number, before = wanted.of(sequence_id), writer.fragments
        for place in cutter.places(sequence_id, letters, number):
            writer.write(sequence_id, place, labels.of(sequence_id))
        counts["sequences"] += writer.fragments > before
        counts["given_up"] += number - (writer.fragments - before)
    empty = len(files) - len(nonempty(files))
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


def _lengths(files: Sequence[str | Path], low: int, passed: _PassedOver) -> dict[str, int]:
    return {
        one: len(letters)
        for one, letters in records(files, "lengths")
        if len(letters) >= low and not passed.has(one)
    }


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


class _PassedOver:
    """Sequences whose labels have one of some values, column by column."""

    def __init__(self, labels: Labels, leave_out: Mapping[str, Sequence[str]] | None) -> None:
        self._labels = labels
        self._values = [(labels.place_of(name), frozenset(of)) for name, of in (leave_out or {}).items()]

    def has(self, sequence_id: str) -> bool:
        fields = self._labels.of(sequence_id)
        return any(fields[place] in values for place, values in self._values)


class _Wanted(NamedTuple):
    """How many fragments every sequence gives: its quota, or the same number for all."""

    each: int
    quota: Mapping[str, int] | None

    def of(self, sequence_id: str) -> int:
        return self.each if self.quota is None else self.quota.get(sequence_id, 0)
