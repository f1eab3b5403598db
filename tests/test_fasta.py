"""Reading FASTA: the same records whatever the compression, the line ends and the size of the blocks."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import SequenceError
from kinmer.fasta import nonempty, read_blocks, read_measured, read_records, spooled, streams

Records = list[tuple[str, bytes]]


def two_members(compress: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda data: compress(data[: len(data) // 2]) + compress(data[len(data) // 2 :])


def blocked_gzip(data: bytes) -> bytes:
    """As bgzip writes: many small members and an empty one."""
    return b"".join(gzip.compress(data[i : i + 100]) for i in range(0, len(data), 100)) + gzip.compress(b"")


def skippable_frame(data: bytes) -> bytes:
    return b"\x5e\x2a\x4d\x18" + (3).to_bytes(4, "little") + b"abc" + zstandard.compress(data)


COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip, two members": two_members(gzip.compress),
    "bgzip": blocked_gzip,
    "zstd": zstandard.compress,
    "zstd, two frames": two_members(zstandard.compress),
    "zstd, skippable frame": skippable_frame,
    "xz": lzma.compress,
    "xz, two streams": two_members(lzma.compress),
    "bzip2": bz2.compress,
    "bzip2, two streams": two_members(bz2.compress),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fasta")


def gather(path: Path, block_bytes: int) -> Records:
    """Records put together from blocks; checks what the blocks tell about themselves."""
    records: Records = []
    open_record, consumed = False, 0
    for block in read_blocks(path, block_bytes=block_bytes):
        assert block.continues == open_record
        assert len(block.ids) == len(block.starts) == len(block.ends) > 0
        assert block.consumed >= consumed
        for number, one in enumerate(block.ids):
            letters = block.buffer[block.starts[number] : block.ends[number]].tobytes()
            letters = letters.translate(None, b" \t\r\n").upper()
            assert b">" not in letters
            if number == 0 and block.continues:
                assert records[-1][0] == one
                records[-1] = (one, records[-1][1] + letters)
            else:
                records.append((one, letters))
            assert block.first_record + number == len(records)
        open_record, consumed = block.continued, block.consumed
    assert not open_record
    assert consumed == path.stat().st_size
    return records


def refused(path: Path) -> str:
    with pytest.raises(SequenceError) as caught:
        for _ in read_blocks(path):
            pass
    message = str(caught.value)
    assert message.startswith(str(path))
    return message


ids = st.text(
    st.one_of(
        st.sampled_from("abcXYZ019|._:;,=>@#"), st.characters(min_codepoint=0xA1, categories=["L", "N", "S"])
    ),
    min_size=1,
    max_size=12,
)
descriptions = st.sampled_from(["", " ", " a description", "\tlen=3 > here", " >x", "  é \U0001f9ec"])
letters = st.text(st.sampled_from("ACGTacgtNnRU-"), max_size=120)


@given(
    records=st.lists(st.tuples(ids, descriptions, letters), min_size=1, max_size=8),
    width=st.sampled_from([1, 7, 60, 1000]),
    end=st.sampled_from(["\n", "\r\n"]),
    before=st.sampled_from(["", "\n", " \n\r\n", "\ufeff"]),
    between=st.sampled_from(["", "\n", "\n \n"]),
    stripped=st.booleans(),
    compression=st.sampled_from(sorted(COMPRESSIONS)),
    block_bytes=st.one_of(st.integers(3, 40), st.just(1 << 16)),
)
@settings(max_examples=120, deadline=None)
def test_records_are_read_whole(
    folder: Path,
    records: list[tuple[str, str, str]],
    width: int,
    end: str,
    before: str,
    between: str,
    stripped: bool,
    compression: str,
    block_bytes: int,
) -> None:
    text = before
    for name, description, sequence in records:
        text += f">{name}{description}{end}"
        text += "".join(sequence[i : i + width] + end for i in range(0, len(sequence), width)) + between
    if stripped:
        text = text.rstrip("\r\n ")
    path = folder / "any"
    path.write_bytes(COMPRESSIONS[compression](text.encode()))
    expected = [(name, sequence.upper().encode()) for name, _, sequence in records]
    assert gather(path, block_bytes) == expected
    assert list(read_records(path)) == expected


@pytest.mark.parametrize("compression", sorted(COMPRESSIONS))
def test_compression_is_told_by_content(tmp_path: Path, compression: str) -> None:
    rng = random.Random(0)
    sequence = bytes(rng.choices(b"ACGT", k=300_000))
    path = tmp_path / "name.that.lies.xz"
    path.write_bytes(COMPRESSIONS[compression](b">one\n" + sequence[:1000] + b"\n>two\n" + sequence[1000:]))
    assert list(read_records(path)) == [("one", sequence[:1000]), ("two", sequence[1000:])]
    size = path.stat().st_size
    read = [consumed for _, _, consumed in read_measured(path)]
    assert read[-1] == size
    assert abs(read[0] - size * 1000 / 300_000) < 0.01 * size


@pytest.mark.parametrize("size", range(8, 40))
def test_blocks_that_end_with_the_file(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.fna"
    path.write_bytes(b">a\nACGT\n>b\nACGTACGTAC\nGT\n>c\nT\n")
    assert gather(path, size) == [("a", b"ACGT"), ("b", b"ACGTACGTACGT"), ("c", b"T")]


def test_a_block_is_read_ahead_in_bounded_memory(tmp_path: Path) -> None:
    """Ten blocks pass through three buffers; a block's bytes stay until the next one is asked for."""
    path = tmp_path / "a.fna"
    sequence = np.frombuffer(b"ACGT", np.uint8)[np.random.default_rng(1).integers(0, 4, 10_000)].tobytes()
    path.write_bytes(b">a\n" + sequence)
    buffers, parts = set(), []
    for block in read_blocks(path, block_bytes=1000):
        buffers.add(block.buffer.__array_interface__["data"][0])
        parts.append(block.buffer[block.starts[0] : block.ends[0]].tobytes())
    assert b"".join(parts) == sequence
    assert len(parts) > 9
    assert len(buffers) <= 3


def test_no_thread_is_left_when_reading_stops_early(tmp_path: Path) -> None:
    path = tmp_path / "a.fna"
    path.write_bytes(b">a\n" + b"ACGT\n" * 100_000)
    blocks = read_blocks(path, block_bytes=1000)
    next(blocks)
    blocks.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "fasta"]


def test_a_hostile_zstandard_file_takes_bounded_memory(tmp_path: Path) -> None:
    """256 MB of one letter in less than 128 kB."""
    compressor = zstandard.ZstdCompressor(level=19).compressobj()
    packed = compressor.compress(b">a\n") + b"".join(
        compressor.compress(b"A" * (1 << 20)) for _ in range(256)
    )
    path = tmp_path / "a.zst"
    path.write_bytes(packed + compressor.flush())
    assert path.stat().st_size < 1 << 17
    largest = 0
    with streams.ChunkReader(path, 1 << 20) as chunks:
        total = 0
        for chunk in chunks:
            total += chunk.stop - streams.HEADROOM
            largest = max(largest, len(chunk.buffer))
    assert total == 3 + (256 << 20)
    assert largest == streams.HEADROOM + (1 << 20)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the file is empty"),
        (b"\n \r\n\n", "the file is empty"),
        (b"@read\nACGT\n+\nIIII\n", "this is FASTQ"),
        (b"\n\n@read\nACGT\n+\nIIII\n", "seqtk"),
        (b"ACGT\n>a\nACGT\n", "not FASTA: it begins with 'ACGT'"),
        (b"LOCUS X\n", "not FASTA: it begins with 'LOCUS X'"),
        (bytes(range(128, 200)), "not FASTA"),
        (b"PK\x03\x04rest", "a zip archive"),
        ("\ufeff>a\nACGT\n".encode("utf-16-le"), "UTF-16"),
        (b">\nACGT\n", "record 1: a header without an id"),
        (b">a\nACGT\n> \t\nACGT\n", "record 2: a header without an id"),
        (b">a\nACGT\n>\xff\xfe\nACGT\n", "record 2: a header that is not UTF-8"),
        (b">a\nACGT\n>b\x01gi|2\nACGT\n", "record 2: the id 'b\\x01gi|2' holds control characters"),
        (b">a\nACGT>b\nACGT\n", "record 1: a > within a sequence"),
        (b">a\rACGT\r>b\rACGT\r", "record 1: a carriage return within a header"),
        (b">a" + b"x" * (streams.HEADROOM + 10), None),
    ],
)
def test_what_is_no_fasta_is_refused(tmp_path: Path, data: bytes, told: str | None) -> None:
    path = tmp_path / "bad"
    path.write_bytes(data)
    if told is None:  # One long header, ended by the end of the file: unwise, but FASTA.
        assert len(next(read_records(path))[0]) == len(data) - 1
    else:
        assert told in refused(path)


@pytest.mark.parametrize("letter", [b"x", b"\r"])
def test_an_endless_header_is_refused(tmp_path: Path, letter: bytes) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b">a" + letter * 4_000_000)
    with pytest.raises(SequenceError, match="1 MiB" if letter == b"x" else "carriage return"):
        list(read_blocks(path, block_bytes=1 << 16))


@pytest.mark.parametrize("compression", ["gzip", "bgzip", "zstd", "xz", "bzip2"])
def test_truncated_and_damaged_files_are_told(tmp_path: Path, compression: str) -> None:
    rng = random.Random(3)
    packed = COMPRESSIONS[compression](b">a\n" + bytes(rng.choices(b"ACGT", k=50_000)))
    path = tmp_path / "bad"
    for cut in (len(packed) // 3, len(packed) - 3):
        path.write_bytes(packed[:cut])
        assert "the file is truncated" in refused(path)
    if compression == "zstd":
        return  # Without a checksum damage shows as other letters only.
    middle = len(packed) // 2
    turned = bytes(255 - byte for byte in packed[middle : middle + 40])
    path.write_bytes(packed[:middle] + turned + packed[middle + 40 :])
    assert "cannot be read" in refused(path) or "record 1" in refused(path)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    assert "no such file" in refused(tmp_path / "nothing.fna")
    assert "this is a folder" in refused(tmp_path)


READ_STDIN = "from kinmer.fasta import read_records; print(*read_records('-'))"


@pytest.mark.parametrize("compression", ["plain", "gzip"])
def test_stdin(compression: str) -> None:
    data = COMPRESSIONS[compression](b">a b\nAC\nGT\n>c\nTT")
    done = subprocess.run([sys.executable, "-c", READ_STDIN], input=data, capture_output=True, check=True)
    assert done.stdout.decode().strip() == "('a', b'ACGT') ('c', b'TT')"


def test_an_error_on_stdin_does_not_wait_for_the_rest() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", READ_STDIN], stdin=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stderr is not None
        # More than a block, and the pipe stays open.
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write(b">a\nAC>GT\n" + b"ACGT\n" * (7 << 20))
        assert "a > within a sequence" in child.stderr.read().decode()
        assert child.wait(60) == 1


def test_files_with_nothing_in_them_are_passed_over_by_name(tmp_path: Path) -> None:
    given = {
        "zero.fa": b"",
        "blank.fa": b"\xef\xbb\xbf\n \r\n",
        "zero.fa.gz": gzip.compress(b""),
        "blank.fa.xz": lzma.compress(b"\n\n"),
        "bins.fa.zst": zstandard.compress(b"\n"),
        "good.fa": b"\n\n>a\nACGT\n",
        "good.fa.gz": gzip.compress(b">b\nACGT\n"),
        "record.fa": b">empty\n",
        "text.fa": b"hello",
        "cut.fa.gz": gzip.compress(b"")[:-3],
    }
    for name, data in given.items():
        (tmp_path / name).write_bytes(data)
    files = [tmp_path / name for name in given] + [tmp_path / "gone.fa", tmp_path]
    said: list[str] = []
    assert nonempty(files, said.append) == files[5:]
    assert said[0].startswith("passed over, because there is nothing in it: ")
    assert said[0].count(str(tmp_path)) == 5
    # Where nothing else is there, reading them tells.
    assert nonempty(files[:3], said.append) == files[:3]
    assert len(said) == 1


def test_a_long_blank_file_is_read_in_bounded_time(tmp_path: Path) -> None:
    (tmp_path / "blank.gz").write_bytes(gzip.compress(b"\n" * (4 << 20)))
    assert nonempty([tmp_path / "blank.gz", tmp_path / "x"]) == [tmp_path / "blank.gz", tmp_path / "x"]


def test_what_can_be_read_once_lies_in_a_file_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_bytes(b">a\nACGT\n")
    with spooled(tmp_path / "a.fa", tmp_path) as path:
        assert path == tmp_path / "a.fa"
    os.mkfifo(tmp_path / "pipe")
    data = gzip.compress(b">b\nACGT\n" * 9)
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    writer.start()
    with spooled(tmp_path / "pipe", tmp_path) as path:
        assert path.read_bytes() == data
        assert list(read_records(path)) == list(read_records(path)) == [("b", b"ACGT")] * 9
    writer.join()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.fa", "pipe"]
