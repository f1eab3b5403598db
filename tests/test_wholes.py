"""A whole sequence in an index has the very vector that it has as a query, and is its own nearest."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kinmer
from kinmer.box import boxed
from kinmer.counting import count_batches
from kinmer.encoder import Encoder
from kinmer.errors import SequenceError
from kinmer.estimators.transformer import embed_rows
from kinmer.index import pieces as module
from kinmer.index.manifest import save_manifest
from kinmer.index.pieces import Embedder, Pieces, RecordBlock, pieces_of, read_blocks_of
from kinmer.library import add_to_index, build_index, describe_index, update_index

LETTERS = np.frombuffer(b"ACGT", np.uint8)
# Codons without a stop, so that frames run across tiles and windows.
SENSE = [a + b + c for a in "ACGT" for b in "ACGT" for c in "ACGT" if a + b + c not in ("TAA", "TAG", "TGA")]


@lru_cache
def encoder() -> Encoder:
    """The default one: its profiles have k-mers and reading frames."""
    return Encoder.load(boxed())


def sequence(length: int, kind: str, seed: int) -> bytes:
    """Uniform letters (few long frames), letters like genes, or such with gaps, other cases and letters."""
    rng = np.random.default_rng(seed)
    if kind == "uniform":
        return bytes(LETTERS[rng.integers(0, 4, length)])
    words = rng.choice(SENSE, length // 3 + 1)
    text = np.frombuffer("".join(words)[:length].encode(), np.uint8).copy()
    if kind == "odd":
        for at in rng.integers(0, length, 12).tolist():
            text[at : at + int(rng.integers(1, max(2, length // 40)))] = ord(rng.choice(list("NRX-.")))
        lower = rng.random(length) < 0.1
        text[lower & (text > 64)] |= 32
        text[text == ord("T")] = ord("U")
    return text.tobytes()


def mutant(letters: bytes, share: float, seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    text = np.frombuffer(letters, np.uint8).copy()
    at = np.flatnonzero(rng.random(len(text)) < share)
    text[at] = LETTERS[rng.integers(0, 4, len(at))]
    return text.tobytes()


def fasta(path: Path, records: dict[str, bytes], width: int = 70) -> Path:
    with path.open("wb") as file:
        for name, letters in records.items():
            lines = [letters[at : at + width] for at in range(0, len(letters), width)]
            file.write(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n")
    return path


def counted(path: Path, threads: int = 1, block_bytes: int = 1 << 24) -> NDArray[np.float32]:
    """Vectors of the records of a file as `kinmer.search` has them."""
    batches = count_batches([path], encoder().layout, threads=threads, block_bytes=block_bytes)
    return encoder().embed(np.concatenate([one.counts for one in batches]))


@settings(max_examples=15, deadline=None)
@given(
    lengths=st.lists(st.integers(100, 140_000), min_size=1, max_size=3),
    kind=st.sampled_from(["uniform", "genes", "odd"]),
    cut=st.sampled_from([(), (2000,), (2000, 6000), (5000, 10_000), (10_000, 20_000, 50_000)]),
    block_bytes=st.sampled_from([1000, 4096, 70_001, 1 << 24]),
    together=st.sampled_from([(1, 1), (3, 2), (2048, 4096)]),
    threads=st.integers(1, 2),
    width=st.sampled_from([60, 1000, 1 << 20]),
    seed=st.integers(0, 1 << 30),
)
# 10,001 letters have three tiles where 10,000 have one; 65,536 fill a window of frames.
@example([10_000, 10_001, 65_537], "genes", (10_000, 20_000, 50_000), 1000, (3, 2), 2, 60, 1)
def test_a_whole_has_the_vector_of_its_query(
    tmp_path_factory: pytest.TempPathFactory,
    lengths: list[int],
    kind: str,
    cut: tuple[int, ...],
    block_bytes: int,
    together: tuple[int, int],
    threads: int,
    width: int,
    seed: int,
) -> None:
    records = {f"r{at}": sequence(length, kind, seed + at) for at, length in enumerate(lengths)}
    path = fasta(tmp_path_factory.mktemp("whole") / "one.fna", records, width)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TILES_AT_ONCE", together[0])
        patch.setattr(module, "ROWS_AT_ONCE", together[1])
        patch.setattr(module, "BLOCK_LETTERS", 40_000)
        embedder = Embedder(encoder(), pieces_of(cut), threads)
        wholes = [one.vectors[0] for block in read_blocks_of(path) for one in embedder.cut(block) if one]
    queries = counted(path, 3 - threads, block_bytes)
    assert np.array_equal(np.array(wholes), queries)
    rows = embed_rows(list(records.values()), encoder(), threads=threads)
    assert np.array_equal(rows, queries)


def test_long_sequences_on_many_threads(tmp_path: Path) -> None:
    """Above 2 MB a sequence is shared out between threads."""
    letters = sequence(2_600_000, "odd", 3)
    path = fasta(tmp_path / "long.fna", {"long": letters})
    cut = Embedder(encoder(), Pieces((50_000,)), 2).cut(RecordBlock("long.fna", 1, ["long"], [letters]))[0]
    assert cut is not None
    for threads, block_bytes in ((1, 1 << 24), (2, 1 << 20)):
        assert np.array_equal(counted(path, threads, block_bytes)[0], cut.vectors[0])


@pytest.fixture(scope="module")
def records() -> dict[str, bytes]:
    """Sequences of 8 to 140 kb, and of each two mutants, of .1 and 2 %, that stand before and behind it."""
    found: dict[str, bytes] = {}
    for at, (length, kind) in enumerate(
        [(8000, "genes"), (60_000, "uniform"), (60_001, "genes"), (66_000, "odd"), (140_000, "genes")]
    ):
        letters = sequence(length, kind, 10 + at)
        found |= {f"close{at}": mutant(letters, 0.001, at), f"own{at}": letters}
        found[f"far{at}"] = mutant(letters, 0.02, at)
    return found


def check_own_nearest(queries: Path, db: Path, records: dict[str, bytes], evidence: bool = False) -> None:
    answers = list(kinmer.search(queries, db, k=4, evidence=evidence))
    assert [one.id for one in answers] == list(records)
    for one in answers:
        assert one.hits[0].id == one.id
        assert one.hits[0].distance <= 1e-6
        assert one.hits[1].distance > one.hits[0].distance


@pytest.mark.parametrize("engine", ["exact", "hnsw"])
@pytest.mark.parametrize("cut", [(), (2000, 10_000), (10_000, 20_000, 50_000)])
def test_a_sequence_is_its_own_nearest(
    engine: str, cut: tuple[int, ...], records: dict[str, bytes], tmp_path: Path
) -> None:
    path = fasta(tmp_path / "all.fna", records)
    db = tmp_path / "kin.db"
    build_index(path, db, engine=engine, pieces=cut, calibrate=False).close()
    check_own_nearest(path, db, records)


def test_however_it_came_in_and_is_asked_for(records: dict[str, bytes], tmp_path: Path) -> None:
    """By `add` and `update`; asked for with letters, from a store, as estimators embed it."""
    names = list(records)
    half = {name: records[name] for name in names[:7]}
    other = {name: mutant(records[name], 0.3, 1) for name in names[5:]}
    db, path = tmp_path / "kin.db", fasta(tmp_path / "all.fna", records)
    first, second = fasta(tmp_path / "first.fna", half), fasta(tmp_path / "second.fna", other)
    build_index(first, db, calibrate=False, keep_sequences=True).close()
    add_to_index(db, fasta(tmp_path / "rest.fna", dict(list(other.items())[2:])), calibrate=False)
    update_index(db, second, by_id=True, calibrate=False)
    update_index(db, path, by_id=True, calibrate=False)
    check_own_nearest(path, db, records)
    check_own_nearest(path, db, records, evidence=True)
    store = tmp_path / "all.zarr"
    kinmer.count(path, store, coding=True)
    check_own_nearest(store, db, records)


def test_an_index_of_the_first_release_is_told_apart(records: dict[str, bytes], tmp_path: Path) -> None:
    """Its settings lack ``whole``; it is searched as before."""
    db, path = tmp_path / "kin.db", fasta(tmp_path / "all.fna", {"own0": records["own0"]})
    build_index(path, db, calibrate=False).close()
    said: list[str] = []
    assert len(list(kinmer.search(path, db, log=said.append))) == 1
    assert describe_index(db).exact_wholes
    assert not any("earlier version" in line for line in [*said, describe_index(db).text()])
    manifest = json.loads((db / "index.json").read_text())
    assert manifest["pieces"].pop("whole") == "exact"
    save_manifest(db, manifest)
    assert len(list(kinmer.search(path, db, log=said.append))) == 1
    assert not describe_index(db).exact_wholes
    assert "built by an earlier version" in describe_index(db).text()
    assert any("built by an earlier version" in line for line in said)


def test_more_letters_than_counts_have_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_LETTERS", 999)
    block = RecordBlock("a.fna", 1, ["a"], [sequence(1000, "uniform", 1)])
    with pytest.raises(SequenceError, match="counts are exact up to 999"):
        Embedder(encoder(), None, 1).cut(block)
