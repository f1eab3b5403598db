"""Sketches in an index: every way in keeps them, they share what sets say, damage is told or mended."""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest

from kinmer.errors import FormatError
from kinmer.fasta import read_records
from kinmer.folders import Workshop
from kinmer.index import engine
from kinmer.library import KinIndex, build_index, build_reference, check_index, describe_index, open_index
from kinmer.sketches import HASH_BYTES, sketch
from tests.organisms import encoder_of, organisms

Shares = set[tuple[int, str, int]]


def fasta(path: Path, seed: int, share: Path | None = None) -> Path:
    """A genome of some contigs; of another one the first half of each, where one is given."""
    rng = np.random.default_rng(seed)
    halves = [text[: len(text) // 2] for _, text in read_records(share)] if share else [b"", b"", b""]
    drawn = [half + bytes(rng.choice(list(b"ACGT"), 3000 - len(half)).tolist()) for half in halves]
    path.write_bytes(b"".join(b">c%d\n%s\n" % (at, text) for at, text in enumerate(drawn)))
    return path


@pytest.fixture
def genomes(tmp_path: Path) -> list[Path]:
    (tmp_path / "in").mkdir()
    first = fasta(tmp_path / "in" / "a.fna", 1)
    return [first, fasta(tmp_path / "in" / "b.fna", 2, first), fasta(tmp_path / "in" / "c.fna", 3)]


@pytest.fixture
def db(tmp_path: Path, genomes: list[Path]) -> Path:
    path = tmp_path / "kin.db"
    build_reference(tmp_path / "in", path, encoder=encoder_of(), calibrate=False, threads=1).close()
    return path


def wanted(files: dict[str, Path], queries: list[Path]) -> Shares:
    """By sets."""
    have = {
        name: {v for _, text in read_records(path) for v in sketch(text).tolist()}
        for name, path in files.items()
    }
    asked = [text for path in queries for _, text in read_records(path)]
    found = {
        (at, name, len(hashes.intersection(sketch(text).tolist())))
        for at, text in enumerate(asked)
        for name, hashes in have.items()
    }
    return {line for line in found if line[2]}


def shares(index: KinIndex, queries: list[Path]) -> Shares:
    found = index.shared([sketch(text) for path in queries for _, text in read_records(path)])
    order = np.lexsort((found.genome, found.query))
    assert np.array_equal(order, np.arange(len(order)))
    names = {one.number: one.name for one in index.table.genomes().values()}
    return {
        (query, names[genome], count)
        for query, genome, count in zip(
            *(one.tolist() for one in (found.query, found.genome, found.count)), strict=True
        )
    }


def test_every_way_in_keeps_sketches(db: Path, tmp_path: Path, genomes: list[Path]) -> None:
    a, b, c = genomes
    with open_index(db) as index:
        assert index.has_sketches
        assert shares(index, genomes) == wanted({"a": a, "b": b, "c": c}, genomes)
        d = fasta(tmp_path / "d.fna", 4, c)
        index.add(d, genome="d", calibrate=False)
        assert shares(index, [*genomes, d]) == wanted({"a": a, "b": b, "c": c, "d": d}, [*genomes, d])
        old = b.read_bytes()
        fasta(b, 5, c)
        index.update(b, calibrate=False)
        before = tmp_path / "before.fna"
        before.write_bytes(old)
        asked = [*genomes, d, before]
        assert shares(index, asked) == wanted({"a": a, "b": b, "c": c, "d": d}, asked)
        index.delete(genomes=["a"])
        left = wanted({"b": b, "c": c, "d": d}, asked)
        assert shares(index, asked) == left
        index.compact()
        assert shares(index, asked) == left
        assert index.has_sketches
        members = {one.name: index.table.members(one.number) for one in index.table.genomes().values()}
        numbers = np.array([one.number for one in members["d"]])
        texts = dict(read_records(d))
        kept = index.entry_sketches(np.append(numbers, 10_000))
        assert kept.keys() == set(numbers.tolist())
        for one in members["d"]:
            assert np.array_equal(kept[one.number], sketch(texts[one.id]))
        sizes = index.genome_sketch_sizes(np.array([members["d"][0].genome, 10_000, members["b"][0].genome]))
        assert sizes[:2].tolist() == [sum(map(len, kept.values())), 0]
        total = sum(len(sketch(text)) for path in (b, c, d) for _, text in read_records(path))
    assert describe_index(db).sketch_bytes == HASH_BYTES * total
    assert (db / "sketches-1.bin").stat().st_size == HASH_BYTES * total
    assert check_index(db).whole
    with open_index(db) as index:
        assert shares(index, asked) == left


def test_an_index_of_embeddings_has_none(tmp_path: Path, genomes: list[Path], db: Path) -> None:
    build_index(organisms(8), tmp_path / "e.db", encoder=encoder_of(), calibrate=False, threads=1).close()
    with open_index(tmp_path / "e.db") as index:
        assert not index.has_sketches
        assert shares(index, genomes) == set()
        assert not (index.path / "homology").exists()
    with open_index(db) as index:
        index.add(organisms(8), calibrate=False)
        assert index.has_sketches == ("length" not in organisms(8).obs)
        assert len(shares(index, genomes)) > 9
    assert check_index(tmp_path / "e.db").whole
    assert check_index(db).whole


@pytest.mark.parametrize("name", ["stamp.json", "starts.i8", "low.u4", "entry.u4", ""])
@pytest.mark.parametrize("how", ["gone", "flipped", "cut"])
def test_the_homology_is_built_again(db: Path, genomes: list[Path], name: str, how: str) -> None:
    with open_index(db) as index:
        right = shares(index, genomes)
    path = db / "homology" / (name or "low.u4")
    data = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
    else:
        data[len(data) // 2] ^= 16
        path.write_bytes(data if how == "flipped" else data[: len(data) // 2])
    report = check_index(db)
    # One that is not there at all is made by the next use.
    assert report.whole == ((name, how) == ("stamp.json", "gone"))
    assert any("homology" in line for line in (*report.problems, *report.notes))
    if not name:
        # Nobody can write: it is made in memory.
        with Workshop(db), open_index(db, log=(said := list[str]()).append) as index:
            assert shares(index, genomes) == right
        assert any("another process" in line for line in said)
        assert check_index(db).problems == report.problems
    with open_index(db, log=(said := list[str]()).append) as index:
        assert shares(index, genomes) == right
    assert any("the homology is built again" in line for line in said)
    assert check_index(db).whole


def test_damaged_sketches_are_told(db: Path, genomes: list[Path]) -> None:
    path = db / "sketches-0.bin"
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    assert any("sketches-0.bin" in line for line in check_index(db).problems)
    (db / "homology" / "stamp.json").unlink()
    with open_index(db) as index, pytest.raises(FormatError, match="damaged"):
        shares(index, genomes)


def test_a_sketch_of_other_letters_is_told(db: Path) -> None:
    with open_index(db) as index:
        index.table.connection.execute("UPDATE sketches SET entry = entry + 100 WHERE entry < 2")
        index.table.connection.execute("UPDATE sketches SET entry = 101 - entry WHERE entry > 99")
    assert any("not of its letters" in line for line in check_index(db).problems)


def test_additions_wait_until_they_are_many(
    db: Path, tmp_path: Path, genomes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (db / "homology" / "stamp.json").read_bytes()
    with open_index(db) as index:
        index.add(fasta(tmp_path / "d.fna", 4), genome="d", calibrate=False)
        assert (db / "homology" / "stamp.json").read_bytes() == before
        monkeypatch.setattr(engine, "LATE_HASHES", 10)
        index.add(fasta(tmp_path / "e.fna", 5), genome="e", calibrate=False)
        assert (db / "homology" / "stamp.json").read_bytes() != before
        files = {path.stem: path for path in (*genomes, tmp_path / "d.fna", tmp_path / "e.fna")}
        assert shares(index, list(files.values())) == wanted(files, list(files.values()))


@pytest.mark.parametrize("damage", ["", "low.u4", "stamp.json"])
def test_late_entries_have_files_of_their_own(
    db: Path, tmp_path: Path, genomes: list[Path], monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    """Additions leave the base as it is until they are a share of it; what is deleted never counts."""
    monkeypatch.setattr(engine, "LATE_HASHES", 10)
    monkeypatch.setattr(engine, "LATE_SHARE", 5.0)
    base, files = (db / "homology" / "stamp.json").read_bytes(), {path.stem: path for path in genomes}
    with open_index(db) as index:
        for seed, name in enumerate("defg", 4):
            files[name] = fasta(tmp_path / f"{name}.fna", seed, genomes[seed % 3])
            index.add(files[name], genome=name, calibrate=False)
            assert shares(index, list(files.values())) == wanted(files, list(files.values()))
        asked = list(files.values())
        index.delete(genomes=["a", "e"])
        left = {name: path for name, path in files.items() if name not in "ae"}
        assert shares(index, asked) == wanted(left, asked)
        assert (db / "homology" / "stamp.json").read_bytes() == base
        if damage:
            path = db / "homology" / "late" / damage
            path.write_bytes(path.read_bytes()[:-2] + b"}}")
            assert not check_index(db).whole
            with open_index(db) as again:
                assert shares(again, asked) == wanted(left, asked)
        assert check_index(db).whole
        monkeypatch.setattr(engine, "LATE_SHARE", 0.02)
        files["h"] = left["h"] = fasta(tmp_path / "h.fna", 9)
        index.add(files["h"], genome="h", calibrate=False)
        assert not (db / "homology" / "late").exists()
        assert shares(index, list(files.values())) == wanted(left, list(files.values()))
    total = sum(len(sketch(text)) for path in left.values() for _, text in read_records(path))
    assert (db / "homology" / "low.u4").stat().st_size == 4 * total
    assert check_index(db).whole


def test_an_index_without_sketches_takes_sketched_entries(tmp_path: Path, genomes: list[Path]) -> None:
    with tarfile.open(Path(__file__).parent / "formats" / "index-2.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    with open_index(tmp_path / "index-2.db") as index:
        assert not index.has_sketches
        assert shares(index, genomes) == set()
        assert index.genome_sketch_sizes(np.array([0])).tolist() == [0]
        assert index.entry_sketches(np.array([0])) == {}
        index.add(genomes[0], genome="a", calibrate=False)
        assert not index.has_sketches
        assert shares(index, genomes) == wanted({"a": genomes[0]}, genomes)
    assert check_index(tmp_path / "index-2.db").whole
