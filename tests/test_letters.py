"""Letters beside an index: what is read is what was written, and damage is told."""

from __future__ import annotations

import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import FormatError
from kinmer.index.manifest import Blob
from kinmer.index.rows import BlobFile
from kinmer.index.sequences import letter_blob, read_letters

SEQUENCES = st.lists(
    st.one_of(st.binary(max_size=200), st.text("ACGTacgtuUNnRY-", max_size=400).map(str.encode)), max_size=6
)


def plain(letters: bytes) -> bytes:
    """The oracle: letter by letter."""
    upper = (chr(one).upper().replace("U", "T") for one in letters)
    return "".join(one if one in ("A", "C", "G", "T") else "N" for one in upper).encode()


@settings(deadline=None)
@given(SEQUENCES, SEQUENCES)
def test_what_is_read_is_what_was_written(first: list[bytes], second: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "letters.bin"
        with BlobFile(path, 0) as file:
            places, size = file.append(map(letter_blob, first)), file.size
        with BlobFile(path, size) as file:
            places += file.append(map(letter_blob, second))
            assert path.stat().st_size == file.size == sum(nbytes for _, nbytes, _ in places)
        stored = path.read_bytes()
        for letters, place in zip(first + second, places, strict=True):
            offset, nbytes, crc = place
            assert zlib.crc32(stored[offset : offset + nbytes]) == crc
            assert read_letters(path, place) == plain(letters)


def test_a_letter_takes_a_quarter_of_a_byte(tmp_path: Path) -> None:
    with BlobFile(tmp_path / "letters", 0) as file:
        [(offset, nbytes, _)] = file.append([letter_blob(b"ACGT" * 25_000 + b"N" * 100_000)])
    # Two numbers and one run of N before 200,000 letters.
    assert (offset, nbytes) == (0, 16 + 16 + 50_000)


def test_many_runs_of_ambiguous_letters(tmp_path: Path) -> None:
    letters = b"AN" * 500 + b"CGT"
    with BlobFile(tmp_path / "letters", 0) as file:
        [place] = file.append([letter_blob(letters)])
    assert read_letters(tmp_path / "letters", place) == letters


def test_what_a_killed_run_left_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with BlobFile(path, 0) as file:
        [first] = file.append([letter_blob(b"ACGTTGCA")])
        committed = file.size
        file.append([letter_blob(b"GGGG")])
    with BlobFile(path, committed) as file:
        assert path.stat().st_size == committed
        [second] = file.append([letter_blob(b"TTTTT")])
    assert second[0] == committed
    assert read_letters(path, first) == b"ACGTTGCA"
    assert read_letters(path, second) == b"TTTTT"


def test_a_file_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with BlobFile(path, 0) as file:
        [place] = file.append([letter_blob(b"ACGT" * 100)])
        size = file.size
    with path.open("r+b") as cut:
        cut.truncate(size - 1)
    with pytest.raises(FormatError, match="cut short"):
        BlobFile(path, size)
    assert path.stat().st_size == size - 1
    with pytest.raises(FormatError, match="damaged"):
        read_letters(path, place)
    with pytest.raises(FormatError, match="cannot be read"):
        read_letters(tmp_path / "none", place)


def test_every_flipped_bit_and_every_other_place_is_told(tmp_path: Path) -> None:
    path = tmp_path / "letters"
    with BlobFile(path, 0) as file:
        [place] = file.append([letter_blob(b"ACGTNNAC")])
    stored = path.read_bytes()
    for bit in range(8 * len(stored)):
        broken = bytearray(stored)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(broken)
        with pytest.raises(FormatError, match="damaged"):
            read_letters(path, place)
    path.write_bytes(stored)
    for offset, nbytes in ((1, len(stored) - 1), (0, len(stored) - 1), (len(stored), 0)):
        with pytest.raises(FormatError, match="damaged"):
            read_letters(path, Blob(offset, nbytes, place.crc))


@settings(deadline=None)
@given(st.binary(max_size=80))
def test_a_foreign_blob_with_a_right_checksum_is_an_error_or_letters(blob: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "letters"
        path.write_bytes(blob)
        try:
            found = read_letters(path, Blob(0, len(blob), zlib.crc32(blob)))
        except FormatError:
            return
        assert set(found) <= set(b"ACGTN")
        assert len(found) <= 4 * len(blob)
