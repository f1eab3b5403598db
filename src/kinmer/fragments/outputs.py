"""A FASTA file and its table, which take their names together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

from isal import igzip

from kinmer.files import written_together
from kinmer.fragments.cutting import COLUMNS, Place

__all__ = ["FragmentWriter", "fragment_writer"]


class FragmentWriter:
    """Writes fragments one after the other; counts them and their letters."""

    def __init__(self, fasta: Any, table: IO[str], columns: Sequence[str]) -> None:
        self._fasta, self._table = fasta, table
        self.fragments = self.bases = 0
        self._line((*COLUMNS, *columns))

    def write(self, sequence_id: str, place: Place, labels: Sequence[str]) -> None:
        """One record and its row; `labels` in the order of the columns."""
        fields = place.fields(sequence_id)
        self._fasta.write(b">%b\n%b\n" % (fields[0].encode(), place.letters))
        self._line((*fields, *labels))
        self.fragments += 1
        self.bases += place.end - place.start

    def _line(self, fields: Sequence[str]) -> None:
        self._table.write("\t".join(fields) + "\n")


@contextmanager
def fragment_writer(fasta: Path, columns: Sequence[str]) -> Iterator[FragmentWriter]:
    """A writer of `fasta` (gzip where it ends in .gz) and ``<fasta>.tsv``; both whole or not at all."""
    with (
        written_together(fasta, fasta.with_name(fasta.name + ".tsv")) as (sequences, table),
        ExitStack() as stack,
    ):
        raw = stack.enter_context(sequences.open("wb"))
        packed: Any = raw
        if fasta.suffix == ".gz":
            # No time and no name in the header: the same fragments make the same file.
            packed = stack.enter_context(
                igzip.IGzipFile(filename="", mode="wb", compresslevel=2, fileobj=raw, mtime=0)
            )
        text = stack.enter_context(table.open("w", encoding="utf-8", newline=""))
        yield FragmentWriter(packed, text, columns)
