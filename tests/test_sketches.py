"""Sketches, against plain Python over letters."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from kinmer.sketches import (
    HASH_BYTES,
    SKETCH_K,
    SKETCH_SCALE,
    pack_sketch,
    postings,
    sketch,
    sketch_many,
    sketch_positions,
    unpack_sketch,
)
from kinmer.sketches.postings import (
    AT_ONCE,
    MOST_POSTINGS,
    Block,
    Postings,
    arranged,
    count_prefixes,
    count_shared,
    merged,
)

_WRAP = 2**64 - 1
_MATES = str.maketrans("ACGT", "TGCA")


def hashes(letters: bytes) -> list[tuple[int, int]]:
    """Hash and start of every word that a sketch of the letters takes, one word after the other."""
    text, found = letters.decode("latin1").upper().replace("U", "T"), []
    for start in range(len(text) - SKETCH_K + 1):
        word = text[start : start + SKETCH_K]
        if set(word) <= set("ACGT"):
            both = (word, word.translate(_MATES)[::-1])
            low = min(int("".join(str("ACGT".index(one)) for one in strand), 4) for strand in both)
            for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
                low = (low ^ low >> 33) * factor & _WRAP
            low ^= low >> 33
            if low < (2**64 - 1) // SKETCH_SCALE:
                found.append((low * SKETCH_SCALE >> 16, start))
    return found


def sequences(alphabet: str = "ACGT" * 8 + "acgtuUNnRYK-*\n\xff") -> SearchStrategy[bytes]:
    """Long enough that a sketch of them is seldom empty."""
    return st.builds(
        lambda size, seed: bytes(
            np.random.default_rng(seed).choice(np.frombuffer(alphabet.encode("latin1"), np.uint8), size)
        ),
        st.integers(0, 3000),
        st.integers(0, 1 << 30),
    )


@settings(max_examples=40, deadline=None)
@given(sequences())
def test_a_sketch_is_what_plain_python_finds(letters: bytes) -> None:
    wanted = hashes(letters)
    values, starts = sketch_positions(letters)
    assert list(zip(values.tolist(), starts.tolist(), strict=True)) == wanted
    assert sketch(letters).tolist() == sorted({value for value, _ in wanted})
    array = np.frombuffer(letters, np.uint8)
    assert np.array_equal(sketch(array), sketch(letters))
    assert all(value < 2**48 for value, _ in wanted)


@settings(max_examples=40, deadline=None)
@given(sequences("ACGT" * 30 + "N"))
def test_strands_and_case_make_no_difference(letters: bytes) -> None:
    mates = bytes.maketrans(b"ACGT", b"TGCA")
    assert np.array_equal(sketch(letters), sketch(letters.translate(mates)[::-1]))
    assert np.array_equal(sketch(letters), sketch(letters.lower().replace(b"t", b"u")))


@settings(max_examples=40, deadline=None)
@given(sequences("ACGT"), sequences("ACGT"))
def test_a_break_between_sequences_joins_their_sketches_and_none_adds_the_words_across(
    first: bytes, second: bytes
) -> None:
    both = np.union1d(sketch(first), sketch(second))
    assert np.array_equal(sketch(first + b"N" + second), both)
    edge = first[max(0, len(first) - SKETCH_K + 1) :] + second[: SKETCH_K - 1]
    assert np.array_equal(sketch(first + second), np.union1d(both, sketch(edge)))


def test_one_word_in_fifty_is_taken() -> None:
    letters = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 1_000_000)
    # Of a binomial distribution, five standard deviations.
    assert abs(len(sketch(letters)) - 20_000) < 5 * np.sqrt(20_000)
    # The values are spread evenly over all 48 bits.
    assert np.abs(np.bincount((sketch(letters) >> np.uint64(46)).astype(int)) / 5000 - 1).max() < 0.1


def test_a_repeat_of_low_hashes_has_room() -> None:
    letters = np.random.default_rng(1).choice(np.frombuffer(b"ACGT", np.uint8), 10_000).tobytes()
    ((value, start), *_) = hashes(letters)
    word = letters[start : start + SKETCH_K]
    values, starts = sketch_positions((word + b"N") * 10_000)
    assert (values == value).all()
    assert np.array_equal(starts, np.arange(10_000) * (SKETCH_K + 1))


@pytest.mark.parametrize("letters", [b"", b"A", b"ACGT" * 5, b"N" * 1000])
def test_nothing_to_take(letters: bytes) -> None:
    assert sketch(letters).shape == (0,)
    assert sketch(letters).dtype == np.uint64


def test_threads_make_no_difference() -> None:
    rng = np.random.default_rng(2)
    many = [rng.choice(np.frombuffer(b"ACGT", np.uint8), size).tobytes() for size in (5000, 0, 20, 9000)]
    for one, two, three in zip(sketch_many(many), sketch_many(many, threads=2), many, strict=True):
        assert np.array_equal(one, two)
        assert np.array_equal(one, sketch(three))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 1 << 30), st.sampled_from([1, 7, 40, AT_ONCE]), st.booleans(), st.sampled_from([3, 4096])
)
def test_shared_hashes_are_those_of_sets(seed: int, at_once: int, many: bool, most: int) -> None:
    """Any split into two parts and into passes; entries that are gone, hashes that too many have."""
    rng = np.random.default_rng(seed)
    entries, genomes = int(rng.integers(0, 30)), int(rng.integers(1, 9))
    # Few different values, of few prefixes, the first and the last among them.
    room = rng.choice(rng.integers(0, 1 << 48, 40, dtype=np.uint64) | np.uint64(many), 50)
    room[:4] = 0, (1 << 48) - 1, 1 << 32, (1 << 32) - 1
    drawn = [np.unique(rng.choice(room, int(rng.integers(0, 30)))) for _ in range(entries + 10)]
    kept, asked = drawn[:entries], drawn[entries:]
    split = int(rng.integers(0, entries + 1))
    home = rng.integers(-1, genomes, entries)
    # Entries behind the last known one are passed over too.
    home = home[: int(rng.integers(0, entries + 1))] if many else home

    def part(first: int, stop: int) -> Postings:
        def blocks() -> list[Block]:
            return [(kept[at], at) for at in range(first, stop)]

        starts = count_prefixes(blocks())
        parts = [*arranged(blocks, starts, at_once)]
        assert all(len(one.low) <= max(at_once, np.diff(starts).max()) for one in parts)
        empty = [np.empty(0, np.uint32)]
        lows, numbers = (np.concatenate([*empty, *(one[at] for one in parts)]) for at in (0, 1))
        made = Postings.of(blocks)
        assert np.array_equal(made.low, lows)
        assert np.array_equal(made.entry, numbers)
        return made

    alive = rng.random(entries) < 0.7
    left = Postings.of(lambda: [(kept[at], at) for at in range(entries) if alive[at]])
    lines = list(merged((part(0, split), Postings.none(), part(split, entries)), alive, at_once))
    assert np.array_equal(np.concatenate([one.low for one in lines]), left.low)
    assert np.array_equal(np.concatenate([one.entry for one in lines]), left.entry)
    assert np.array_equal(np.cumsum(np.concatenate([one.counts for one in lines])), left.starts[1:])
    names = np.arange(genomes) * 3 + 5
    with pytest.MonkeyPatch.context() as patch:
        if most != MOST_POSTINGS:
            # The kernel knows the limit as a constant: in plain Python it is another.
            for name in ("_shared", "_postings", "_alive", "_note"):
                patch.setattr(postings, name, getattr(postings, name).py_func)
            patch.setattr(postings, "MOST_POSTINGS", most)
        middle = (split + entries) // 2
        three = (part(0, split), part(split, middle), part(middle, entries))
        found = count_shared(asked, three, names, home)
    wanted = []
    for at, one in enumerate(asked):
        counts = Counter[int]()
        for value in one.tolist():
            holders = [home[entry] for entry in range(len(home)) if home[entry] >= 0 and value in kept[entry]]
            counts.update(set(holders) if len(holders) <= most else ())
        wanted += [(at, int(names[genome]), count) for genome, count in sorted(counts.items())]
    assert list(zip(found.query.tolist(), found.genome.tolist(), found.count.tolist(), strict=True)) == wanted


@given(st.sets(st.integers(0, 2**48 - 1)))
def test_a_kept_sketch_comes_back(values: set[int]) -> None:
    made = np.array(sorted(values), np.uint64)
    kept = pack_sketch(made)
    assert len(kept) == HASH_BYTES * len(made)
    assert np.array_equal(unpack_sketch(kept), made)
