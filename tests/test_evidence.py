"""Evidence by alignment: identities known by construction, and the same answer however it is asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kinmer.queries.evidence as aligners
from kinmer.errors import UsageError
from kinmer.queries.evidence import (
    ALIGNERS,
    Alignment,
    GenomeAligner,
    aligner,
    homologous,
    kind_of,
    rank_by_both,
    strength,
)

# Not every Python has wheels of both.
ENGINES = [name for name in ALIGNERS if find_spec(f"py{name}") is not None]
LETTERS = np.frombuffer(b"ACGT", np.uint8)
COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")


def measure(
    queries: Sequence[bytes],
    candidates: Sequence[Sequence[int]],
    references: Callable[[int], Sequence[bytes]],
    **settings: Any,
) -> list[list[Alignment]]:
    """The alignments of one batch."""
    return GenomeAligner(references, **settings).measure(queries, candidates)


def drawn(length: int, seed: int) -> bytes:
    """A random sequence."""
    return LETTERS[np.random.default_rng(seed).integers(0, 4, length)].tobytes()


def mutated(letters: bytes, rate: float, seed: int) -> bytes:
    """With every letter replaced by another one at a rate: an identity of 1 − rate."""
    random = np.random.default_rng(seed)
    codes = np.searchsorted(LETTERS, np.frombuffer(letters, np.uint8))
    hit = random.random(len(codes)) < rate
    return bytes(LETTERS[(codes + hit * random.integers(1, 4, len(codes))) % 4])


GENOME = drawn(200_000, 1)
OTHER = drawn(100_000, 2)


def one(query: bytes, reference: list[bytes], engine: str) -> Alignment:
    return measure([query], [[0]], lambda _: reference, engine=engine, threads=1)[0][0]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("identity", [1.0, 0.98, 0.95, 0.92])
@pytest.mark.parametrize("length", [10_000, 50_000])
def test_the_identity_is_that_by_construction(engine: str, identity: float, length: int) -> None:
    query = mutated(GENOME[60_000 : 60_000 + length], 1 - identity, 3)
    found = one(query, [GENOME], engine)
    # Both estimate it from shared k-mers, the fewer the further.
    assert found.ani == pytest.approx(identity, abs=0.01 if identity >= 0.98 else 0.02)
    assert found.aligned_fraction > 0.9


@pytest.mark.parametrize("engine", ENGINES)
def test_the_fraction_is_that_by_construction(engine: str) -> None:
    for share in (0.2, 0.5, 0.8):
        aligned = int(share * 50_000)
        query = GENOME[:aligned] + drawn(50_000 - aligned, 4)
        found = one(query, [GENOME], engine)
        assert found.aligned_fraction == pytest.approx(share, abs=0.05)
        assert found.ani == pytest.approx(1.0, abs=0.02)


def test_a_thousand_letters_of_another_strain_are_found() -> None:
    queries = [mutated(GENOME[at : at + 1000], 0.03, at) for at in range(0, 200_000, 4000)]
    found = measure(queries, [[0]] * len(queries), lambda _: [GENOME])
    assert np.mean([homologous(row[0]) for row in found]) >= 0.9


@pytest.mark.parametrize("engine", ENGINES)
def test_the_other_strand_the_case_and_rna_do_not_matter(engine: str) -> None:
    query = mutated(GENOME[20_000:26_000], 0.02, 5)
    plain = one(query, [GENOME], engine)
    assert one(query.lower(), [GENOME.lower()], engine) == plain
    assert one(query.replace(b"T", b"u"), [GENOME.replace(b"T", b"U")], engine) == plain
    turned = one(query.translate(COMPLEMENT)[::-1], [GENOME], engine)
    assert turned.ani == pytest.approx(plain.ani, abs=0.01)
    assert turned.aligned_fraction == pytest.approx(plain.aligned_fraction, abs=0.05)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "query", [b"", b"A", b"N" * 3000, b"A" * 3000, GENOME[:400], drawn(5000, 6)], ids=len
)
def test_what_aligns_to_nothing(engine: str, query: bytes) -> None:
    for reference in ([GENOME], [b"N" * 2000], [b"", b"ACGT"], []):
        assert one(query, reference, engine) == Alignment(None, 0.0)


@pytest.mark.skipif("fastani" not in ENGINES, reason="FastANI is not installed")
@pytest.mark.parametrize("reference", [[b"N" * 2000], [b"N" * 2000] * 3, [b"", b"ACGT"], []], ids=len)
def test_what_has_nothing_to_map_to_is_not_given_to_fastani(reference: list[bytes]) -> None:
    # The library would read outside its memory, and crash or not as it happens.
    assert aligners.FastAni().sketch(reference) is None


def test_a_genome_in_pieces() -> None:
    pieces = [GENOME[at : at + 20_000] for at in range(0, 200_000, 20_000)]
    query = mutated(GENOME[30_000:80_000], 0.03, 7)
    whole, cut = one(query, [GENOME], "auto"), one(query, pieces, "auto")
    assert cut.ani == pytest.approx(whole.ani, abs=0.005)
    assert cut.aligned_fraction == pytest.approx(whole.aligned_fraction, abs=0.1)


@pytest.mark.parametrize("engine", ENGINES)
def test_batches_threads_and_memory_change_nothing(engine: str) -> None:
    genomes = [[GENOME], [OTHER, GENOME[:30_000]], [mutated(GENOME, 0.04, 8)], [b""]]
    queries = [mutated(GENOME[at : at + 5000], 0.02, at) for at in range(0, 40_000, 8000)] + [
        OTHER[:1500],
        b"",
    ]
    candidates = [[0, 1, 2, 3], [2, 0], [1], [], [3, 3, 0], [0, 1], [1, 2]]
    whole = measure(queries, candidates, lambda at: genomes[at], engine=engine, threads=1)
    assert [len(row) for row in whole] == [len(row) for row in candidates]
    for threads in (1, 3):
        for memory in (0, 1_000_000, 1 << 30):
            asked = GenomeAligner(lambda at: genomes[at], engine=engine, threads=threads, memory=memory)
            assert asked.measure(queries, candidates) == whole
            alone = [asked.measure([query], [row])[0] for query, row in zip(queries, candidates, strict=True)]
            assert alone == whole
    # The true answer of each, by construction.
    assert whole[0][0].ani == pytest.approx(0.98, abs=0.015)
    assert whole[0][2].ani == pytest.approx(0.94, abs=0.02)
    assert whole[0][3] == Alignment(None, 0.0)
    assert whole[5][0] == Alignment(None, 0.0)
    assert whole[5][1].ani == pytest.approx(1.0, abs=0.001)


def test_a_genome_is_read_once_for_a_sample() -> None:
    read: list[int] = []

    def references(at: int) -> list[bytes]:
        read.append(at)
        return [GENOME[at * 20_000 : (at + 1) * 20_000]]

    asked = GenomeAligner(references, threads=2)
    for at in range(0, 10):
        asked.measure([GENOME[at * 9000 : at * 9000 + 3000]] * 2, [[0, 1, 2], [2, 1]])
    assert sorted(read) == [0, 1, 2]
    # With room for two sketches of three, what is held comes first: one more is read each time.
    small = GenomeAligner(references, threads=1, memory=2 * (aligner().bytes_per_letter * 20_000 + 4096))
    read.clear()
    for _ in range(5):
        small.measure([GENOME[:3000]], [[0, 1, 2]])
    assert len(read) == 3 + 4


def test_what_references_raises_comes_through() -> None:
    def references(at: int) -> list[bytes]:
        if at == 2:
            raise KeyError(at)
        return [GENOME]

    with pytest.raises(KeyError):
        measure([GENOME[:2000]], [[0, 1, 2]], references, threads=2)


def test_settings_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="auto, skani or fastani"):
        aligner("blast")
    with pytest.raises(UsageError):
        GenomeAligner(lambda _: [GENOME], threads=0)
    with pytest.raises(UsageError):
        GenomeAligner(lambda _: [GENOME], memory=-1)
    with pytest.raises(UsageError, match="2 queries"):
        measure([GENOME, GENOME], [[0]], lambda _: [GENOME])
    monkeypatch.setattr(aligners, "find_spec", lambda name: None if name == "pyskani" else name)
    assert aligner().name == "fastani"
    with pytest.raises(UsageError, match=r"kinmer\[evidence\]"):
        aligner("skani")
    monkeypatch.setattr(aligners, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"kinmer\[evidence\]"):
        aligner()


def test_the_libraries_are_imported_when_they_align() -> None:
    code = "import kinmer.queries.evidence, sys; print('pyskani' in sys.modules, 'pyfastani' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_strength_is_the_share_of_words_that_are_kept() -> None:
    for identity in (0.9, 0.95, 0.99):
        changed = np.frombuffer(mutated(GENOME, 1 - identity, 9), np.uint8)
        same = changed == np.frombuffer(GENOME, np.uint8)
        kept = np.lib.stride_tricks.sliding_window_view(same, 10).all(axis=1).mean()
        assert strength(Alignment(identity, 1.0)) == pytest.approx(kept, abs=0.01)
    assert strength(Alignment(None, 0.0)) == 0


def test_what_a_hit_rests_on() -> None:
    near, far = Alignment(0.99, 0.9), Alignment(0.85, 0.9)
    assert (homologous(near), homologous(far)) == (True, False)
    assert kind_of(near, True) == "both"
    assert kind_of(near, False) == "homologous"
    assert kind_of(far, True) == kind_of(Alignment(None, 0.0), True) == "composition only"


ALIGNMENTS = st.one_of(
    st.just(Alignment(None, 0.0)), st.builds(Alignment, st.floats(0.7, 1), st.floats(0.01, 1))
)


@given(st.lists(st.tuples(st.integers(0, 5), ALIGNMENTS), max_size=30))
def test_homologues_come_first_and_composition_orders_the_rest(given: list[tuple[int, Alignment]]) -> None:
    distances, alignments = [float(far) for far, _ in given], [alignment for _, alignment in given]
    order = rank_by_both(distances, alignments).tolist()
    assert sorted(order) == list(range(len(given)))
    first = [at for at in order if homologous(alignments[at])]
    rest = [at for at in order if not homologous(alignments[at])]
    assert order == first + rest
    assert first == sorted(first, key=lambda at: (-strength(alignments[at]), distances[at], at))
    assert rest == sorted(rest, key=lambda at: (distances[at], at))
