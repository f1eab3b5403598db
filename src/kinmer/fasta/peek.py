"""A bounded look into a FASTA file: how many sequences of what lengths are in it, without reading all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import SequenceError, UsageError
from kinmer.fasta.records import _Parser, base_count
from kinmer.fasta.streams import _DAMAGE, HEADROOM, Chunk, _decompressed, _open, _refusal, source_name
from kinmer.inputs import is_stream

# Text of a plain file is read in so many places; of a compressed one only its beginning can be.
WINDOWS = 64
_PIECE = 1 << 16
# A decompressor takes the stored bytes 1 MB at a time: what it gives of less says nothing of the ratio. Of
# text that is packed into nothing, such as one letter, so much is looked at.
_MOST_TEXT = 1 << 26
_LETTERS = re.compile(rb"[A-Za-z*-]+")
LEAST_SHARE = 0.5
_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class FastaLook:
    """What a look into a file of `stored` bytes found.

    lengths : (n,) float64, bases (A, C, G, T) of sequences as they are in the file. sequences, bases : of the
    whole file. looked : share of it that was read; where it is 1 all is exact. compressed : whether it is.
    """

    stored: int
    lengths: NDArray[np.float64]
    sequences: float
    bases: float
    looked: float
    compressed: bool


def look_into(path: str | Path, text_bytes: int) -> FastaLook:
    """Look at about so many bytes of the text of a FASTA file, plain or compressed.

    Of a plain file they are taken from its beginning, its end and between, so that files in order of length
    are seen as they are. Of a compressed one, whose ratio is seen only after some MB, they are the beginning.

    Raises UsageError for what can be read only once, SequenceError for what is missing, empty, no FASTA of
    nucleotides, or damaged where it is looked at.
    """
    name = source_name(path)
    if is_stream(path):
        raise UsageError(
            "a pipe cannot be looked into", "it can be read only once", "give a file", place=name
        )
    with _open(path, name) as source:
        stored = Path(path).stat().st_size
        try:
            stream = _decompressed(source, name)
            compressed = stream is not source
            if compressed:
                windows, looked = _beginning(source, stream, stored, text_bytes)
            else:
                windows, looked = _places(path, stored, text_bytes)
        except _DAMAGE as error:
            raise _refusal(error, name) from error
    _check(windows[0], name, last=looked == 1)
    return _estimated(windows, stored, looked, compressed)


def _beginning(source: Any, stream: Any, stored: int, text_bytes: int) -> tuple[list[bytes], float]:
    """The text that a file begins with, and the share of the file that it takes."""
    buffer, parts, size = memoryview(bytearray(_PIECE)), list[bytes](), 0
    text_at = stored_at = 0
    while size < text_bytes or (not stored_at and size < _MOST_TEXT):
        before = source.consumed
        count = stream.readinto(buffer)
        if not count:
            return [b"".join(parts)], 1.0
        # More is fetched only when all that was there has been given: here both sides are known.
        if source.consumed > before and size:
            text_at, stored_at = size, before
        parts.append(bytes(buffer[:count]))
        size += count
    share = (stored_at / stored * size / text_at) if text_at else size / (size + stored)
    return [b"".join(parts)], min(share, 1 - 1e-9)


def _places(path: str | Path, stored: int, text_bytes: int) -> tuple[list[bytes], float]:
    """Pieces of a plain file, evenly from its beginning to its end."""
    with Path(path).open("rb") as file:
        if stored <= text_bytes:
            return [file.read()], 1.0
        size, windows = text_bytes // WINDOWS, []
        for start in np.linspace(0, stored - size, WINDOWS).astype(np.int64).tolist():
            file.seek(start)
            windows.append(file.read(size))
    return windows, sum(map(len, windows)) / stored


def _check(text: bytes, name: str, *, last: bool) -> None:
    """Refuse what does not begin as FASTA of nucleotides does."""
    parser, head = _Parser(name), text[:_PIECE]
    whole = last and len(head) == len(text)
    parser.parse(Chunk(bytearray(HEADROOM) + head, HEADROOM + len(head), 0, whole))
    letters = b"".join(b"".join(_LETTERS.findall(part)) for part in _records(head)[1])
    if letters and base_count(letters) + letters.upper().count(b"N") < LEAST_SHARE * len(letters):
        raise SequenceError(
            "most letters are not nucleotides",
            "only nucleotide sequences have k-mer profiles",
            "is it a protein?",
            place=name,
        )


def _records(text: bytes, *, first: bool = True) -> tuple[bytes, list[bytes]]:
    """What stands before the first header, and the letters of every record with their line ends."""
    if first:
        text = b"\n" + text.removeprefix(_MARK).lstrip()
    before, *records = text.split(b"\n>")
    return before, [one.partition(b"\n")[2] for one in records]


def _estimated(windows: list[bytes], stored: int, looked: float, compressed: bool) -> FastaLook:
    whole, headers, bases = list[int](), 0, 0
    for number, text in enumerate(windows):
        before, records = _records(text, first=not number)
        counts = [base_count(one) for one in records]
        bases += sum(counts) + (base_count(before) if number else 0)
        headers += len(counts)
        # Of the last record of a piece the end is not known, but where the file ends.
        whole += counts if number == len(windows) - 1 and (looked == 1 or not compressed) else counts[:-1]
    # The first header is sure; the others are as frequent as they were seen.
    sequences = 1 + (headers - 1) / looked
    total = bases / looked
    lengths = np.array(whole, float) if whole else np.array([total / sequences])
    if looked < 1:
        lengths *= total / sequences / max(lengths.mean(), 1e-9)
    return FastaLook(stored, lengths, sequences, total, looked, compressed)
