"""Compact indexes: smaller, with answers of what they hold; and the archive that one comes in."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kinmer import merge_indexes
from kinmer.box import boxed as boxed_encoder
from kinmer.box import reference as boxed
from kinmer.cli import run
from kinmer.confidence import calibration_of
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, UsageError
from kinmer.index import Storage
from kinmer.index.manifest import COMPACT_SCALE, sketch_scale
from kinmer.index.pieces import COMPACT_PIECES
from kinmer.index.rows import ROW, ByteVectors, RowFiles, map_vectors, quantized, rounded, row_files
from kinmer.index.sequences import EntryLetters
from kinmer.library import add_to_index, build_reference, check_index, compact_index, delete_from_index
from kinmer.queries import search
from kinmer.sketches import SKETCH_SCALE, sketch, thinned
from kinmer.stores import pairwise
from tests.test_merge import fasta

NAMES = ("a", "b", "c")
FLOATS = st.floats(-1e3, 1e3, width=32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genomes with the encoder that comes with kinmer: ``full.db``, and ``small.db``, which is compact."""
    folder = tmp_path_factory.mktemp("compact")
    for name in NAMES:
        fasta(folder / "genomes" / f"{name}.fna", name)
    for name, compact in (("full", False), ("small", True)):
        path = folder / f"{name}.db"
        build_reference(folder / "genomes", path, compact=compact, engine="exact", threads=1).close()
    return folder


@given(arrays.arrays(np.float32, (3, 5), elements=FLOATS))
def test_rounded_vectors_are_near_and_stay(vectors: np.ndarray) -> None:
    once = rounded(vectors)
    steps, scales = quantized(once)
    assert np.array_equal(steps.astype(np.float32) * scales, once)
    assert np.array_equal(rounded(once), once)
    largest = np.abs(vectors).max(axis=1, keepdims=True)
    # Numbers far below the smallest normal one have no eight bits left.
    normal = np.broadcast_to(largest > 1e-35, vectors.shape)
    assert (np.abs(once - vectors) <= np.broadcast_to(largest, vectors.shape) / 126)[normal].all()


@given(arrays.arrays(np.float32, (6, 5), elements=FLOATS), st.data())
def test_vectors_in_bytes_are_the_rounded_ones(vectors: np.ndarray, data: st.DataObject) -> None:
    once, records = rounded(vectors), np.zeros(6, ROW)
    with TemporaryDirectory() as name:
        folder = Path(name)
        # Two goes; what a killed run left behind the first is cut off.
        for rows, part in ((0, slice(0, 6)), (2, slice(2, 6))):
            with RowFiles(folder, {"generation": 3, "rounded": True}, 5, rows) as files:
                files.append(once[part], records[part])
        path, _ = row_files(folder, 3)
        assert path.name == "vectors-3.i8"
        assert path.stat().st_size == 6 * (4 + 5)
        kept = map_vectors(path, 6, 5)
        which = data.draw(
            st.one_of(
                st.integers(-6, 5),
                st.slices(6),
                st.lists(st.integers(-6, 5)).map(lambda rows: np.array(rows, np.int64)),
                arrays.arrays(bool, 6),
            )
        )
        assert np.array_equal(kept[which], once[which])
        assert np.asarray(kept[which]).dtype == np.float32
        assert np.array_equal(np.asarray(kept), once)
        assert kept.shape == once.shape


def test_distances_to_vectors_that_are_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    vectors, queries = rounded(rng.normal(size=(30, 8)).astype(np.float32)), rng.normal(size=(9, 8))
    asked, rows = queries.astype(np.float32), rng.integers(-1, 30, (9, 7))
    stored = np.empty(30, [("scale", "<f4"), ("steps", "i1", (8,))])
    stored["steps"], scales = quantized(vectors)
    stored["scale"] = scales[:, 0]
    for room in (1, 100, 1 << 20):
        monkeypatch.setattr(pairwise, "GATHERED", room)
        for metric in ("cosine", "l2"):
            expected = pairwise.row_distances(asked, vectors, rows, metric)
            assert np.array_equal(pairwise.row_distances(asked, ByteVectors(stored), rows, metric), expected)


@given(st.binary(min_size=30, max_size=4000).map(lambda data: bytes(b"ACGT"[byte & 3] for byte in data)))
def test_a_coarser_sketch_is_part_of_a_finer_one(letters: bytes) -> None:
    fine, coarse = sketch(letters), sketch(letters, 200)
    assert np.array_equal(thinned(fine, 200), coarse)
    assert np.array_equal(coarse, fine[fine < 2**48 * SKETCH_SCALE // 200])


def test_it_is_small_and_whole(folder: Path) -> None:
    with Storage.open(folder / "full.db") as full, Storage.open(folder / "small.db") as small:
        assert sketch_scale(small.manifest) == COMPACT_SCALE
        assert np.array_equal(rounded(full.vectors), small.vectors)
        kept, fine = small.entry_sketches(small.numbers), full.entry_sketches(full.numbers)
        assert {n: one.tolist() for n, one in kept.items()} == {
            n: thinned(one, COMPACT_SCALE).tolist() for n, one in fine.items()
        }
        assert not small.table.state["letters"]
    assert check_index(folder / "small.db").whole


def test_what_is_added_is_compact_too(folder: Path, tmp_path: Path) -> None:
    new = fasta(tmp_path / "d.fna", "d")
    for db in ("once.db", "twice.db"):
        build_reference(folder / "genomes", tmp_path / db, compact=True, engine="exact", threads=1).close()
    add_to_index(tmp_path / "once.db", new, genome="d", threads=1)
    build_reference(new, tmp_path / "twice.db", compact=True, threads=1).close()
    for db in ("once.db", "twice.db"):
        with Storage.open(tmp_path / db) as index:
            assert len(index) == 12
            assert np.array_equal(rounded(np.asarray(index.rows.vectors)), index.rows.vectors)
            assert not index.table.state["letters"]
        delete_from_index(tmp_path / db, ids=["d:contig_0"])
        assert check_index(tmp_path / db).whole
    with pytest.raises(UsageError, match="not compact"):
        build_reference(new, folder / "full.db", compact=True)


def test_one_of_an_earlier_version_is_read_and_compacted(folder: Path, tmp_path: Path) -> None:
    """Its vectors have 32 bits a number, though they are rounded, until it is compacted."""
    db = tmp_path / "old.db"
    shutil.copytree(folder / "small.db", db)
    with Storage.open(db) as index:
        before = np.array(index.rows.vectors)
    (db / "vectors-0.i8").unlink()
    before.tofile(db / "vectors-0.f32")
    assert check_index(db).whole
    add_to_index(db, fasta(tmp_path / "d.fna", "d"), genome="d", threads=1)
    assert check_index(db).whole
    assert not (db / "vectors-0.i8").exists()
    with Storage.open(db) as index:
        rows = len(index.rows)
        assert np.array_equal(index.rows.vectors[: len(before)], before)
        added = np.array(index.rows.vectors)
    assert (db / "vectors-0.f32").stat().st_size == added.nbytes
    compact_index(db, threads=1)
    assert check_index(db).whole
    assert (db / "vectors-1.i8").stat().st_size == rows * (4 + added.shape[1])
    assert not list(db.glob("vectors-*.f32"))
    with Storage.open(db) as index:
        assert np.array_equal(np.asarray(index.rows.vectors), added)


@pytest.mark.parametrize("at", [2, 9], ids=["scale", "number"])
def test_a_damaged_vector_in_bytes_is_found(folder: Path, tmp_path: Path, at: int) -> None:
    db = tmp_path / "bad.db"
    shutil.copytree(folder / "small.db", db)
    data = bytearray((db / "vectors-0.i8").read_bytes())
    data[at] ^= 0x40
    (db / "vectors-0.i8").write_bytes(data)
    assert not check_index(db).whole


def test_answers_are_those_of_the_full_index(folder: Path) -> None:
    queries = folder / "genomes" / "b.fna"
    near, same = (search(queries, folder / db, k=3, n_jobs=1) for db in ("small.db", "full.db"))
    for one, other in zip(near, same, strict=True):
        assert (
            (one.hits[0].genome, one.hits[0].id) == (other.hits[0].genome, other.hits[0].id) == ("b", one.id)
        )
        # A distance of zero is one of two roundings; cosines of others move by less than a thousandth.
        assert one.hits[0].distance == pytest.approx(0, abs=1e-3)
        assert [hit.distance for hit in one.hits] == pytest.approx(
            [hit.distance for hit in other.hits], abs=5e-3
        )


def test_it_merges_with_a_full_index(folder: Path, tmp_path: Path) -> None:
    for name in ("e", "f"):
        fasta(tmp_path / "more" / f"{name}.fna", name)
    more = tmp_path / "more.db"
    build_reference(tmp_path / "more", more, engine="exact", calibrate=False, threads=1).close()
    for order in ([folder / "small.db", more], [more, folder / "small.db"]):
        merge_indexes(order, tmp_path / "both.db", calibrate=False, threads=1, force=True).close()
        assert check_index(tmp_path / "both.db").whole
        with Storage.open(tmp_path / "both.db") as both, Storage.open(more) as own:
            assert sketch_scale(both.manifest) == COMPACT_SCALE
            assert not both.table.state.get("rounded")
            (number,), (before,) = both.numbers_of(["e:contig_1"]), own.numbers_of(["e:contig_1"])
            found, whole = both.entry_sketches(np.array([number])), own.entry_sketches(np.array([before]))
            assert np.array_equal(found[number], thinned(whole[before], COMPACT_SCALE))


def packed(folder: Path, path: Path) -> Path:
    with Storage.open(folder / "small.db") as index:
        steps, scales = quantized(np.asarray(index.rows.vectors))
        sizes = [blob.bytes for blob in index.table.blobs("sketches", index.numbers).values()]
        name = index.encoder.name
        boxed.pack(
            index.path, path, encoder=name, about="3 genomes", steps=steps, scales=scales, blob_sizes=sizes
        )
    return path


def test_the_archive_gives_the_index_back(folder: Path, tmp_path: Path) -> None:
    boxed.unpack(packed(folder, tmp_path / "small.zip"), tmp_path / "again.db")
    assert check_index(tmp_path / "again.db").problems == ()
    with Storage.open(folder / "small.db") as one, Storage.open(tmp_path / "again.db") as other:
        assert np.array_equal(one.rows.vectors, other.rows.vectors)
        assert np.array_equal(one.rows.records, other.rows.records)
        assert one.metadata.equals(other.metadata)
    assert packed(folder, tmp_path / "twice.zip").read_bytes() == (tmp_path / "small.zip").read_bytes()


def test_a_damaged_archive_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    whole = packed(folder, tmp_path / "small.zip").read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[:200] + bytes([whole[200] ^ 255]) + whole[201:], b""):
        (tmp_path / "bad.zip").write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged"):
            boxed.unpack(tmp_path / "bad.zip", tmp_path / "bad.db")
        assert not (tmp_path / "bad.db").exists()
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
        archive.writestr("other", "")
    with pytest.raises(FormatError, match="damaged"):
        boxed.unpack(tmp_path / "bad.zip", tmp_path / "bad.db")


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    db = tmp_path / "c.db"
    assert run(["reference", str(folder / "genomes"), "-o", str(db), "--compact", "--threads", "1"]) == 0
    with Storage.open(db) as index:
        assert index.manifest["pieces"]["lengths"] == list(COMPACT_PIECES)
        assert EntryLetters(index).lacking() == ""
    assert run(["db", "check", str(db)]) == 0
    assert "whole" in capsys.readouterr().out


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_search_needs_no_index(folder: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    queries = str(folder / "genomes" / "a.fna")
    for first in (True, False):
        assert run(["search", queries, "--threads", "1"]) == 0
        out, said = capsys.readouterr()
        assert len(out.splitlines()) == 31
        assert "2,215 genomes of" in said
        assert ("unpacking" in said) == first
    (db,) = cache.glob("kinmer/*/kin-ref-1.db")
    own = [str(db), "kin-ref-1"]
    answers = [search(queries, one, n_jobs=1) for one in own]
    assert [one.hits for one in answers[0]] == [one.hits for one in answers[1]]
    assert run(["search", queries, "--db", "kin-ref-1", "--db", str(folder / "full.db"), "-k", "1"]) == 0
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    # What was released stays as it is.
    before = {path: path.read_bytes() for path in db.glob("*.*")}
    for words in (["add", "kin-ref-1", queries], ["delete", "kin-ref-1", "--where", "length > 0"]):
        assert run(["db", *words]) == 2
    assert run(["db", "calibrate", str(db)]) == 2
    assert capsys.readouterr().err.count("stays as it is") == 3
    assert {path: path.read_bytes() for path in db.glob("*.*")} == before
    assert {row[rows[0].index("db")] for row in rows[1:]} == {"full.db"}


def test_a_cache_that_cannot_be_written(folder: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    (one, *_) = search(folder / "genomes" / "a.fna", n_jobs=1)
    assert len(one.hits) == 10


def test_the_reference_that_is_released(cache: Path) -> None:
    assert boxed.FILE.stat().st_size <= 15e6
    assert boxed.REFERENCE in boxed.FILE.with_suffix(".md").read_text()
    with Storage.open(boxed.REFERENCE) as index:
        assert index.manifest["index"] == boxed.REFERENCE
        assert index.encoder_fingerprint == Encoder.load(boxed_encoder()).fingerprint
        assert not any("/" in file.path for file in index.table.files())
        assert calibration_of(index) is not None
        assert index.table.state["genomes"] == 2215
    assert check_index(next(cache.glob("kinmer/*/*.db"))).problems == ()
