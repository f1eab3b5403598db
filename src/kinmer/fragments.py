"""Cuts labelled fragments out of sequences, the same for the same seed, for training and benchmarks."""

from __future__ import annotations

import csv
import hashlib
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from isal import igzip

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import read_records
from kinmer.files import check_output, sync_directory
from kinmer.progress import step

__all__ = ["FragmentReport", "fragment"]

COLUMNS = ("id", "sequence_id", "start", "end", "length", "strand")
# Places tried for one fragment before it is given up: too many ambiguous letters, or no new place left.
TRIES = 30
# IUPAC letters keep their meaning on the other strand; U is read as T.
_COMPLEMENT = bytes.maketrans(b"ACGTURYKMBVDHSWN", b"TGCAAYRMKVBHDSWN")


@dataclass(frozen=True, kw_only=True)
class FragmentReport:
    """What `fragment` did."""

    fragments: int
    bases: int
    sequences: int  # that gave at least one fragment
    too_short: int  # sequences below the shortest length
    given_up: int  # fragments asked for that were not found: too ambiguous, or no new place
    unlabelled: int  # sequences without a row in the labels

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
        ):
            if number:
                parts.append(f"{number:,} {what}")
        return ", ".join(parts)


class _Labels(NamedTuple):
    columns: tuple[str, ...]
    rows: Mapping[str, tuple[str, ...]]

    def of(self, sequence_id: str) -> tuple[str, ...]:
        return self.rows.get(sequence_id, ("",) * len(self.columns))


def fragment(
    files: Sequence[str | Path],
    output: str | Path,
    *,
    length: int | tuple[int, int] = (1_000, 100_000),
    per_sequence: int | None = None,
    number: int | None = None,
    group: str | None = None,
    labels: str | Path | None = None,
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
    if any(str(file) == "-" for file in files) and number is not None:
        raise UsageError("stdin is read only once", "--number needs the lengths first", "use --per-sequence")
    output = check_output(output, force=force)
    table = check_output(output.with_name(output.name + ".tsv"), force=force)
    known = _read_labels(labels) if labels is not None else _Labels((), {})
    quota = None if number is None else _share_out(number, _lengths(files, low), known, group)
    wanted = _Wanted(per_sequence or 0, quota)
    cutter = _Cutter(low, high, seed, both_strands, max_ambiguous)
    with _two_outputs(output, table) as (fasta, sheet):
        report = _cut(files, cutter, wanted, known if labels is not None else None, fasta, sheet)
        if not report.fragments:
            raise SequenceError(
                "no fragment was cut",
                f"{report.too_short:,} sequences are shorter than {low:,} letters",
                "use a smaller --length",
            )
    return report


def _cut(
    files: Sequence[str | Path],
    cutter: _Cutter,
    wanted: _Wanted,
    labels: _Labels | None,
    fasta: Any,
    sheet: IO[str],
) -> FragmentReport:
    """Write every sequence's fragments, FASTA and table row by row."""
    known = labels or _Labels((), {})
    counts = dict.fromkeys(("fragments", "bases", "sequences", "too_short", "given_up", "unlabelled"), 0)
    sheet.write("\t".join((*COLUMNS, *known.columns)) + "\n")
    for sequence_id, letters in _records(files, "cutting"):
        counts["unlabelled"] += labels is not None and sequence_id not in known.rows
        if len(letters) < cutter.low:
            counts["too_short"] += 1
            continue
        number, found = wanted.of(sequence_id), 0
        for place in cutter.places(sequence_id, letters, number):
            name = f"{'_'.join(sequence_id.split())}:{place.start}-{place.end}:{place.strand}"
            size = place.end - place.start
            fields = (name, sequence_id, str(place.start), str(place.end), str(size), place.strand)
            fasta.write(b">%b\n%b\n" % (name.encode(), place.letters))
            sheet.write("\t".join((*fields, *known.of(sequence_id))) + "\n")
            found += 1
            counts["bases"] += size
        counts["fragments"] += found
        counts["sequences"] += found > 0
        counts["given_up"] += number - found
    return FragmentReport(**counts)


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


def _read_labels(path: str | Path) -> _Labels:
    try:
        with Path(path).open(newline="", encoding="utf-8") as file:
            reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            header = next(reader, [])
            if "sequence_id" not in header or len(set(header)) != len(header):
                raise InputError(
                    "the labels have no column sequence_id, or a column twice",
                    check="is the header line there, and are the columns parted by tabs?",
                    place=path,
                )
            key = header.index("sequence_id")
            rows: dict[str, tuple[str, ...]] = {}
            for row in reader:
                place = f"{path}, line {reader.line_num}"
                if len(row) != len(header):
                    raise InputError(f"{len(row)} fields, {len(header)} in the header", place=place)
                if row[key] in rows:
                    raise InputError(f"the sequence {row[key]!r} is labelled twice", place=place)
                rows[row[key]] = (*row[:key], *row[key + 1 :])
    except FileNotFoundError:
        raise InputError("no such file", check="is the path right?", place=path) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("the labels cannot be read", str(error), place=path) from error
    names = (name for name in header if name != "sequence_id")
    return _Labels(tuple(f"sequence_{name}" if name in COLUMNS else name for name in names), rows)


def _records(files: Sequence[str | Path], what: str) -> Iterator[tuple[str, bytes]]:
    """Records of all files; ids must stay unique when white space in them is made `_`."""
    seen: set[str] = set()
    with step(what, len(files)) as shown:
        for file in files:
            for sequence_id, letters in read_records(file):
                if "\t" in sequence_id:
                    raise SequenceError(
                        f"the id {sequence_id!r} holds a tab", "it cannot stand in a table", place=file
                    )
                clean = "_".join(sequence_id.split())
                if clean in seen:
                    raise SequenceError(
                        f"the id {sequence_id!r} occurs twice",
                        "fragments could not be told apart",
                        "is the same sequence in two of the files?",
                        place=file,
                    )
                seen.add(clean)
                yield sequence_id, letters
            shown.advance(1)


def _lengths(files: Sequence[str | Path], low: int) -> dict[str, int]:
    return {one: len(letters) for one, letters in _records(files, "lengths") if len(letters) >= low}


def _share_out(number: int, lengths: Mapping[str, int], labels: _Labels, group: str | None) -> dict[str, int]:
    """Fragments of every sequence: even among groups, by length within one, whole numbers that add up."""
    if group is None:
        return _proportional(number, lengths)
    names = labels.columns
    name = f"sequence_{group}" if group in COLUMNS else group
    if name not in names:
        raise UsageError(f"the labels have no column {group!r}", f"they have {', '.join(names)}")
    column = names.index(name)
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
    ranked = sorted(weights, key=lambda one: (-(number * weights[one] % total), _key(one)))
    for one in ranked[:left]:
        shares[one] += 1
    return shares


def _key(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "big")


class _Wanted(NamedTuple):
    """How many fragments every sequence gives: its quota, or the same number for all."""

    each: int
    quota: Mapping[str, int] | None

    def of(self, sequence_id: str) -> int:
        return self.each if self.quota is None else self.quota.get(sequence_id, 0)


class _Place(NamedTuple):
    start: int
    end: int
    strand: str
    letters: bytes


class _Cutter:
    """Chooses fragments of one sequence after the other."""

    def __init__(self, low: int, high: int, seed: int, both_strands: bool, max_ambiguous: float) -> None:
        self.low, self._high, self._seed = low, high, seed
        self._both_strands, self._max_ambiguous = both_strands, max_ambiguous

    def places(self, sequence_id: str, letters: bytes, wanted: int) -> Iterator[_Place]:
        """At most `wanted` fragments, no two the same."""
        random = np.random.default_rng(_key(f"{self._seed}\0{sequence_id}"))
        top = math.log(min(self._high, len(letters)) + 1)
        taken: set[tuple[int, int, bool]] = set()
        for _ in range(wanted):
            for _ in range(TRIES):
                size = int(math.exp(random.uniform(math.log(self.low), top)))
                size = min(max(size, self.low), self._high, len(letters))
                start = int(random.integers(len(letters) - size + 1))
                reverse = bool(random.integers(2)) and self._both_strands
                piece = letters[start : start + size]
                if (start, size, reverse) in taken or self._too_ambiguous(piece):
                    continue
                taken.add((start, size, reverse))
                shown = piece.translate(_COMPLEMENT)[::-1] if reverse else piece
                yield _Place(start, start + size, "-" if reverse else "+", shown)
                break

    def _too_ambiguous(self, piece: bytes) -> bool:
        return len(piece.translate(None, b"ACGTU")) > self._max_ambiguous * len(piece)


@contextmanager
def _two_outputs(fasta: Path, table: Path) -> Iterator[tuple[Any, IO[str]]]:
    """FASTA (bytes) and table (text) that take their names together when the block ends."""
    aside: list[tuple[str, Path]] = []
    try:
        with ExitStack() as stack:
            raw: list[IO[bytes]] = []
            for path in (fasta, table):
                descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
                aside.append((name, path))
                raw.append(stack.enter_context(os.fdopen(descriptor, "wb")))
            packed: Any = raw[0]
            if fasta.suffix == ".gz":
                # No time and no name in the header: the same fragments make the same file.
                packed = stack.enter_context(
                    igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw[0], mtime=0)
                )
            text = stack.enter_context(TextIOWrapper(raw[1], encoding="utf-8", newline=""))
            yield packed, text
        umask = os.umask(0)
        os.umask(umask)
        for name, path in reversed(aside):
            Path(name).chmod(0o666 & ~umask)
            Path(name).replace(path)
        sync_directory(fasta.absolute().parent)
    except BaseException:
        for name, _ in aside:
            Path(name).unlink(missing_ok=True)
        raise
