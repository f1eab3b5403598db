"""The counter against brute force: every k-mer of every window, one by one in Python."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer import kmers
from kinmer.errors import UsageError
from kinmer.kmers import KmerCounter
from kinmer.layout import kmer_layout
from tests.brute_force import brute_force

NUCLEOTIDES = "ACGT" * 8 + "acgt" * 2 + "UuNnRYSWKMBDHVX-.ryswkmbdhvx"
LAYOUTS = {k: kmer_layout(k) for k in range(1, 9)}

sequences = st.text(st.sampled_from(NUCLEOTIDES), max_size=400)


def wrap(sequence: str, width: int, end: str = "\n") -> bytes:
    return "".join(sequence[i : i + width] + end for i in range(0, len(sequence), width)).encode()


def random_sequence(length: int, seed: int, letters: str = "ACGT") -> str:
    return "".join(random.Random(seed).choices(letters, k=length))


@pytest.fixture
def _small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Split sequences between threads from a few dozen bytes on."""
    monkeypatch.setattr(kmers, "_UNIT", 32)


@pytest.mark.parametrize("max_k", range(1, 9))
def test_counts_equal_brute_force(max_k: int) -> None:
    layout = LAYOUTS[max_k]
    texts = ["", "A", "ACGTA", "ACGTAC", "NNNNNNNNNN", "ACGTANACGTACGT", "acgtnACGUacgu", "TTTTTTTTT"]
    texts += [random_sequence(n, n, letters) for n in (50, 3000) for letters in ("ACGT", NUCLEOTIDES)]
    done = KmerCounter(layout).count_sequences([text.encode() for text in texts])
    assert done.counts.dtype == np.uint32
    for text, row in zip(texts, done.counts, strict=True):
        np.testing.assert_array_equal(row, brute_force(text, layout))
    np.testing.assert_array_equal(done.lengths, [len(text) for text in texts])
    assert (done.invalid == -1).all()


@given(sequences, st.sampled_from([1, 2, 3, 4, 6]))
@settings(max_examples=150, deadline=None)
def test_any_sequence_equals_brute_force(sequence: str, max_k: int) -> None:
    done = KmerCounter(LAYOUTS[max_k]).count_sequences([sequence.encode()])
    np.testing.assert_array_equal(done.counts[0], brute_force(sequence, LAYOUTS[max_k]))
    assert done.lengths[0] == len(sequence)


@given(sequences)
@settings(max_examples=60, deadline=None)
def test_reverse_complement_and_case_change_nothing(sequence: str) -> None:
    turned = sequence.upper().replace("U", "T")
    turned = turned.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    done = KmerCounter(LAYOUTS[6]).count_sequences(
        [sequence.encode(), turned.encode(), turned.lower().encode()]
    )
    np.testing.assert_array_equal(done.counts[1], done.counts[0])
    np.testing.assert_array_equal(done.counts[2], done.counts[0])


@given(
    st.text(st.sampled_from("ACGT" * 60 + "N"), min_size=1, max_size=6000),
    st.one_of(st.integers(1, 130), st.sampled_from([1000, 2046, 2047, 2048, 2049, 5000])),
    st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
)
@settings(max_examples=60, deadline=None)
def test_line_width_and_line_ends_change_nothing(sequence: str, width: int, end: str) -> None:
    plain, wrapped = sequence.encode(), wrap(sequence, width, end)
    done = KmerCounter(LAYOUTS[6]).count_sequences([plain, wrapped, wrapped.rstrip()])
    np.testing.assert_array_equal(done.counts[1], done.counts[0])
    np.testing.assert_array_equal(done.counts[2], done.counts[0])
    assert set(done.lengths) == {len(sequence)}


@pytest.mark.parametrize("width", [1, 7, 60, 70, 1000, 2047, 3000, 20_000])
def test_wrapped_sequences_equal_brute_force(width: int) -> None:
    sequence = random_sequence(9000, width, "ACGT" * 200 + "NR")
    done = KmerCounter(LAYOUTS[6]).count_sequences([wrap(sequence, width), wrap(sequence, width, "\r\n")])
    for row in done.counts:
        np.testing.assert_array_equal(row, brute_force(sequence, LAYOUTS[6]))


def test_lines_of_changing_width_equal_brute_force() -> None:
    rng = random.Random(5)
    lines = [
        random_sequence(rng.choice([0, 1, 3, 60, 60, 60, 61, 300]), i, "ACGT" * 50 + "N") for i in range(200)
    ]
    done = KmerCounter(LAYOUTS[6]).count_sequences(["\n".join(lines).encode()])
    np.testing.assert_array_equal(done.counts[0], brute_force("".join(lines), LAYOUTS[6]))


@given(sequences, st.lists(st.integers(0, 440), max_size=6), st.sampled_from([1, 2, 6]), st.integers(1, 70))
@settings(max_examples=200, deadline=None)
def test_a_record_may_be_cut_anywhere(sequence: str, cuts: list[int], max_k: int, width: int) -> None:
    data = wrap(sequence, width)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    record = KmerCounter(LAYOUTS[max_k]).open_record()
    for start, end in pairwise(edges):
        record.add(np.frombuffer(data[start:end], dtype=np.uint8), 0, end - start)
    assert record.letters == len(sequence)
    np.testing.assert_array_equal(record.finish(), brute_force(sequence, LAYOUTS[max_k]))


@pytest.mark.usefixtures("_small_units")
@given(st.lists(sequences, min_size=1, max_size=8), st.integers(1, 90), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_threads_change_nothing(texts: list[str], width: int, threads: int) -> None:
    data = [wrap(text, width) for text in texts]
    one = KmerCounter(LAYOUTS[6]).count_sequences(data)
    many = KmerCounter(LAYOUTS[6], threads).count_sequences(data)
    np.testing.assert_array_equal(many.counts, one.counts)
    np.testing.assert_array_equal(many.lengths, one.lengths)


def test_one_long_sequence_is_shared_between_threads() -> None:
    sequence = random_sequence(5_000_000, 1).encode()
    one = KmerCounter(LAYOUTS[6]).count_sequences([b"ACGTACGT", sequence, sequence[:1500]])
    two = KmerCounter(LAYOUTS[6], 2).count_sequences([b"ACGTACGT", sequence, sequence[:1500]])
    np.testing.assert_array_equal(two.counts, one.counts)
    letters = Counter(sequence.decode())
    assert one.counts[1, -2:].tolist() == [letters["A"] + letters["T"], letters["C"] + letters["G"]]
    for block in LAYOUTS[6].blocks:
        assert one.counts[1, block.columns].sum() == len(sequence) - block.k + 1


@pytest.mark.parametrize("letter", "EFILPQZJO*0>@;~\x00é")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("_small_units")
def test_letters_of_no_nucleotide_are_told(letter: str, threads: int) -> None:
    before, after = random_sequence(150, 3), random_sequence(200, 4)
    data = wrap(before, 60).rstrip() + letter.encode() + b"L" + after.encode()
    done = KmerCounter(LAYOUTS[6], threads).count_sequences([b"ACGT", data, b"ACGTACGT"])
    assert done.invalid.tolist() == [-1, data.index(letter.encode()), -1]
    assert done.lengths.tolist() == [4, 150, 8]
    measured = KmerCounter(LAYOUTS[6]).measure(
        np.frombuffer(data, np.uint8), np.array([0]), np.array([len(data)])
    )
    assert (measured.invalid[0], measured.lengths[0]) == (done.invalid[1], 150)


def test_a_letter_of_no_nucleotide_in_a_later_piece() -> None:
    record = KmerCounter(LAYOUTS[6]).open_record()
    for piece in (b"ACGTN\nAC", b"GT*ACGT", b"ACGT"):
        record.add(np.frombuffer(piece, np.uint8), 0, len(piece))
    assert (record.invalid, record.letters) == (2, 9)


@given(st.lists(sequences, max_size=10))
@settings(max_examples=30, deadline=None)
def test_measure_gives_the_lengths(texts: Sequence[str]) -> None:
    data = [wrap(text, 11, "\r\n") for text in texts]
    ends = np.cumsum([len(one) for one in data], dtype=np.int64)
    starts = np.array([end - len(one) for end, one in zip(ends, data, strict=True)], dtype=np.int64)
    buffer = np.frombuffer(b"".join(data), dtype=np.uint8)
    measured = KmerCounter(LAYOUTS[6]).measure(buffer, starts, ends)
    assert measured.lengths.tolist() == [len(text) for text in texts]
    assert (measured.invalid == -1).all()


def test_spans_outside_the_buffer_are_refused() -> None:
    with pytest.raises(ValueError, match="outside"):
        KmerCounter(LAYOUTS[6]).count(np.zeros(4, np.uint8), np.array([0]), np.array([5]))


def test_threads_are_checked() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        KmerCounter(LAYOUTS[6], 0)
