"""An index that lives: whatever comes, moves and goes, it answers as a plain list would."""

from __future__ import annotations

import shutil
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.errors import (
    FormatError,
    InputError,
    MismatchError,
    ProfileError,
    SequenceError,
    UsageError,
)
from kinmer.folders import Workshop
from kinmer.index import IndexWriter, Storage
from kinmer.index.commit import Change, NewSequence
from kinmer.index.manifest import ENTRIES
from kinmer.index.names import numbers_of
from kinmer.index.pieces import Embedder, Pieces, RecordBlock
from kinmer.index.sequences import read_letters
from kinmer.index.table import EntryTable
from kinmer.index.writer import write_compacted
from kinmer.library import (
    KinIndex,
    add_to_index,
    build_index,
    check_index,
    compact_index,
    delete_from_index,
    describe_index,
    index_rows,
    open_index,
    update_index,
)
from kinmer.stores.graph import HnswStore
from tests.organisms import encoder_of, organisms

ENCODER = encoder_of()
DIM = ENCODER.dim
START = organisms(40)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("living") / "kin.db"
    build_index(START, path, encoder=ENCODER).close()
    return path


@pytest.fixture
def db(built: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(built, tmp_path / "kin.db"))


@dataclass
class Known:
    """What the model remembers of a sequence."""

    genome: str
    vectors: NDArray[np.float32]
    lengths: list[int]
    kind: int


Model = dict[str, Known]


def new_sequence(name: str, genome: str, rng: np.random.Generator) -> tuple[NewSequence, Known]:
    pieces = int(rng.integers(0, 4))
    vectors = rng.standard_normal((1 + pieces, DIM)).astype(np.float32)
    spans = [(1000 * one, 1000 * one + 2000) for one in range(pieces)]
    length, kind = 1000 * (pieces + 1) + 7, int(rng.integers(3))
    known = Known(genome, vectors, [length] + [2000] * pieces, kind)
    return NewSequence(name, genome, length, 0.5, {"kind": kind}, vectors, spans), known


def model_of(table: Any) -> Model:
    vectors = ENCODER.embed(table.X)
    lengths = table.obs["length"].tolist()
    return {
        name: Known(name, vectors[at : at + 1], [lengths[at]], int(table.obs["kind"].iloc[at]))
        for at, name in enumerate(table.obs_names)
    }


def distance(query: NDArray[np.float32], vectors: NDArray[np.float32]) -> float:
    a, b = query.astype(np.float64), vectors.astype(np.float64)
    return float((1 - b @ a / np.linalg.norm(b, axis=1) / np.linalg.norm(a)).min())


def mean_of(model: Model, genome: str) -> NDArray[np.float64] | None:
    """The mean of a genome's pieces by its definition."""
    parts = [
        (vector, min(length, 100_000))
        for one in model.values()
        if one.genome == genome
        for vector, length in list(zip(one.vectors, one.lengths, strict=True))[len(one.vectors) > 1 :]
    ]
    if len(parts) < 2:
        return None
    weights = np.array([weight for _, weight in parts], float)
    return np.asarray(
        sum(w * v.astype(float) for (v, _), w in zip(parts, weights, strict=True)) / weights.sum()
    )


def assert_same(path: Path, model: Model, rng: np.random.Generator) -> None:
    """The index answers as the model does, and is whole."""
    report = check_index(path)
    assert report.whole, report.problems
    assert report.entries == len(model)
    with open_index(path) as index:
        assert sorted(index.ids.tolist()) == sorted(model)
        told = index.metadata
        assert {name: told.loc[name, "kind"] for name in model} == {
            name: one.kind for name, one in model.items()
        }
        genomes = {one.name: one for one in index.table.genomes().values()}
        assert set(genomes) == {one.genome for one in model.values()}
        for name, genome in genomes.items():
            mean = mean_of(model, name)
            assert (mean is None) == (genome.label is None)
            if mean is not None:
                np.testing.assert_allclose(index.rows.vectors[genome.label], mean, rtol=1e-5, atol=1e-6)
        queries = rng.standard_normal((4, DIM)).astype(np.float32)
        numbers, far, _ = index.search(queries, 5)
        entries = index.entries(numbers)
        for query, line, distances in zip(queries, numbers, far, strict=True):
            names = [entries[one].id for one in line.tolist() if one >= 0]
            every = {name: distance(query, one.vectors) for name, one in model.items()}
            assert len(set(names)) == len(names) == min(5, len(model))
            # Each has its own distance, and these are the smallest; who ties within rounding may come first.
            own = [every[name] for name in names]
            np.testing.assert_allclose(distances[: len(names)], own, atol=1e-6)
            np.testing.assert_allclose(own, sorted(every.values())[:5], atol=1e-6)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(("add", "replace", "delete", "genome", "move", "compact")), st.integers(0, 10**6)
    ),
    min_size=1,
    max_size=6,
)


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(actions=ACTIONS)
def test_any_history_leaves_what_a_plain_list_would_hold(
    actions: list[tuple[str, int]], built: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = Path(shutil.copytree(built, tmp_path_factory.mktemp("history") / "kin.db"))
    model = model_of(START)
    for action, seed in actions:
        apply(path, model, action, seed)
    assert_same(path, model, np.random.default_rng(0))


def apply(path: Path, model: Model, action: str, seed: int) -> None:
    """Do one thing to the index and to the model."""
    rng = np.random.default_rng(seed)
    names = sorted(model)
    with IndexWriter(path) as writer:
        if action in ("add", "replace") and (action == "add" or names):
            chosen = [f"n{seed}_{one}" for one in range(rng.integers(1, 5))]
            if action == "replace":
                chosen = rng.choice(names, min(3, len(names)), replace=False).tolist()
            made = [new_sequence(name, f"g{rng.integers(3)}", rng) for name in chosen]
            if action == "add":
                made = [one for one in made if one[0].id not in model]
            replaced = writer.numbers_of(chosen) if action == "replace" else ()
            writer.add([one for one, _ in made], replace=replaced)
            model.update({one.id: known for one, known in made})
        elif action == "delete" and names:
            gone = rng.choice(names, min(4, len(names)), replace=False).tolist()
            writer.delete(writer.numbers_of(gone))
            for name in gone:
                del model[name]
        elif action == "genome" and names:
            genome = model[names[seed % len(names)]].genome
            number = writer.table.genome_number(genome)
            assert number is not None
            writer.delete(np.array([one.number for one in writer.table.members(number)]))
            for name in [one for one in names if model[one].genome == genome]:
                del model[name]
        elif action == "move" and names:
            moved = {one: (f"g{rng.integers(3)}", int(rng.integers(9))) for one in names[:: max(1, seed % 5)]}
            told = {one: {"genome": home, "kind": kind} for one, (home, kind) in moved.items()}
            writer.set_metadata(
                ("kind",), lambda keys: [told.get(name) for name, _ in keys], genome_column="genome"
            )
            for name, (home, kind) in moved.items():
                model[name].genome, model[name].kind = home, kind
        elif action == "compact":
            writer.finish()
            writer.compact()


def test_deleted_entries_never_come_back(db: Path) -> None:
    vectors = ENCODER.embed(START.X)
    gone = START.obs_names[::2].tolist()
    with open_index(db) as reader:
        before, _, _ = reader.search(vectors, 1)
        assert before[:, 0].tolist() == list(range(40))
        assert delete_from_index(db, ids=gone) == 20
        for _ in range(2):
            numbers, far, _ = reader.search(vectors, 40)
            assert set(numbers[numbers >= 0].tolist()) == set(range(1, 40, 2))
            assert (numbers[:, 20:] == -1).all()
            assert np.isinf(far[:, 20:]).all()
            compact_index(db)
    add_to_index(db, START[::2], calibrate=False)
    with open_index(db) as index:
        numbers, far, _ = index.search(vectors, 1)
        assert (far[:, 0] == 0).all()
        assert numbers[::2, 0].tolist() == list(range(40, 60))


def test_a_reader_sees_every_commit_whole(db: Path) -> None:
    """Pairs come and go together: a reader that saw one of a pair would have seen half a commit."""
    rng = np.random.default_rng(3)
    pairs = rng.standard_normal((30, DIM)).astype(np.float32)
    seen: list[int] = []
    stop = threading.Event()
    failures: list[str] = []

    def read() -> None:
        with open_index(db) as reader:
            while not stop.is_set():
                _, far, _ = reader.search(pairs, 2)
                both = (far < 1e-6).sum(axis=1)
                if not set(both.tolist()) <= {0, 2}:
                    failures.append(str(both))
                seen.append(int((both == 2).sum()))

    thread = threading.Thread(target=read)
    thread.start()
    with IndexWriter(db) as writer:
        for number, vector in enumerate(pairs):
            names = (f"a{number}", f"b{number}")
            writer.add([NewSequence(one, one, 100, 0.5, {}, vector[None]) for one in names])
            if number % 3 == 0:
                writer.delete(writer.numbers_of(list(names)))
            if number == 20:
                writer.finish(behind=0)
                writer.compact()
            # Now and then the reader gets a look at what is there, however slow it is; else they race.
            looks = len(seen) + 2
            while number % 10 == 1 and len(seen) < looks and thread.is_alive():
                time.sleep(0.001)
    stop.set()
    thread.join()
    assert not failures
    assert len(set(seen)) > 2


@pytest.mark.parametrize("how", ["delete", "part", "replace", "move"])
def test_between_a_commit_and_the_end_of_its_command_the_index_is_whole(how: str, db: Path) -> None:
    """What follows a commit may never come: no genome is without an entry, no mean counts what is gone."""
    rng = np.random.default_rng(5)
    model = model_of(START)
    with IndexWriter(db) as writer:
        made = [new_sequence(f"n{at}", "g" if at < 3 else "h", rng) for at in range(5)]
        writer.add([one for one, _ in made])
        model.update({one.id: known for one, known in made})
    assert_same(db, model, rng)
    reader = open_index(db)
    writer = IndexWriter(db)
    own = ["n0", "n1", "n2"]
    numbers = writer.numbers_of(own)
    if how == "delete":
        writer.delete(numbers)
    elif how == "part":
        own = own[:1]
        writer.delete(numbers[:1])
    elif how == "replace":
        renewed = [new_sequence(name, "h", rng) for name in own]
        writer.add([one for one, _ in renewed], replace=numbers)
    else:
        told = {name: {"genome": "h"} for name in own}
        writer.set_metadata((), lambda keys: [told.get(name) for name, _ in keys], genome_column="genome")
    # Killed here, as it were.
    writer.close()
    report = check_index(db)
    assert report.whole, report.problems
    assert (report.notes == ()) == (how == "delete")
    for index in (reader, open_index(db)):
        with index:
            queries = np.stack([known.vectors[-1] for _, known in made])
            found, _, rows = index.search(queries, 8, by="genome")
            entries = index.table.first_members(np.unique(found[found >= 0]).tolist())
            names = {one.name for one in index.genomes(found).values()}
            assert names <= {one.name for one in index.table.genomes().values()}
            assert ("g" in {index.table.genomes()[one].name for one in entries}) == (how == "part")
            # The old mean of g is nobody's.
            means = rows[(rows >= 0) & (index.rows.kinds[rows] == 2)]
            assert all(index.table.genomes()[int(index.rows.genome[row])].name == "h" for row in means)
    with pytest.raises(InputError):
        delete_from_index(db, ids=["nobody"])
    # Even a writer that was refused has finished it.
    assert check_index(db).notes == ()
    if how in ("delete", "part"):
        for name in own:
            del model[name]
        assert_same(db, model, rng)


def test_a_deletion_that_was_never_told_of_may_be_given_again(db: Path) -> None:
    calls: list[dict[str, Any]] = [{"ids": ["s1", "s2"]}, {"genomes": ["s3"]}, {"where": "length < 3000"}]
    for call in calls:
        said: list[str] = []
        gone = delete_from_index(db, **call)
        assert gone
        before = describe_index(db)
        assert delete_from_index(db, **call, log=said.append) == gone
        assert said == ["the same call has deleted these entries before"]
        assert describe_index(db).entries == before.entries
    # Not once anything else has changed.
    add_to_index(db, START[1:2], calibrate=False)
    assert delete_from_index(db, ids=["s1"]) == 1
    add_to_index(db, START[1:2], calibrate=False)
    assert delete_from_index(db, ids=["s1"]) == 1
    with pytest.raises(InputError, match="no entry 's2'"):
        delete_from_index(db, ids=["s2"])


def test_a_second_writer_is_told_or_waits(db: Path) -> None:
    lock = Workshop(db)
    with pytest.raises(UsageError, match="another process"):
        IndexWriter(db, wait=0)
    threading.Timer(0.5, lock.release).start()
    with IndexWriter(db, wait=20) as writer:
        writer.delete(np.array([0]))
    assert len(list(index_rows(db))) == 39


def test_taxonomy_is_replaced_without_embedding(db: Path, tmp_path: Path) -> None:
    before = (db / "vectors-0.f32").stat().st_mtime_ns
    taxa = tmp_path / "taxa.tsv"
    taxa.write_text(
        "id\tspecies\tgenus\n" + "".join(f"s{one}\tSpecies {one % 3}\tGenus\n" for one in range(30))
    )
    assert update_index(db, metadata=taxa) == 30
    rows = {row.id: row.metadata for row in index_rows(db)}
    assert rows["s4"] == {"kind": int(START.obs["kind"].iloc[4]), "species": "Species 1", "genus": "Genus"}
    assert rows["s35"]["species"] is None
    assert (db / "vectors-0.f32").stat().st_mtime_ns == before
    taxa.write_text("id\tspecies\ns4\tNew name\n")
    assert update_index(db, metadata=taxa) == 1
    rows = {row.id: row.metadata for row in index_rows(db)}
    assert (rows["s4"]["species"], rows["s4"]["genus"], rows["s5"]["species"]) == (
        "New name",
        "Genus",
        "Species 2",
    )
    taxa.write_text("id\tspecies\nnobody\tX\n")
    with pytest.raises(MismatchError, match="none of the index's ids"):
        update_index(db, metadata=taxa)
    assert check_index(db).whole


def fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return path


def letters_of(count: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), count).tolist())


def test_pieces_do_not_depend_on_what_is_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    from kinmer.index import pieces as module

    block = RecordBlock("a.fna", 1, ["a", "b", "c"], [letters_of(n, n).encode() for n in (23_700, 40, 5100)])
    embedder = Embedder(ENCODER, Pieces((2000, 4000, 8000)), 1)
    whole = embedder.cut(block)
    monkeypatch.setattr(module, "TILES_AT_ONCE", 3)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    for one, other in zip(whole, embedder.cut(block), strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert sorted(one.spans) == sorted(other.spans)
            assert one.gc == other.gc
            assert np.allclose(one.vectors[0], other.vectors[0], atol=1e-5)
            mine = dict(zip(one.spans, one.vectors[1:], strict=True))
            assert all(
                np.allclose(mine[span], vector, atol=1e-5)
                for span, vector in zip(other.spans, other.vectors[1:], strict=True)
            )


def test_files_come_in_whole_in_pieces_and_once(tmp_path: Path) -> None:
    long, short = letters_of(9000, 1), letters_of(1500, 2)
    one = fasta(tmp_path / "one.fna", {"long": long, "short": short, "tiny": "ACGT" * 10})
    two = fasta(tmp_path / "two.fna", {"other": letters_of(5000, 3) + "N" * 400})
    taxa = tmp_path / "taxa.tsv"
    taxa.write_text("id\tgenome\tspecies\nlong\tG\tS\nshort\tG\tS\n")
    db = tmp_path / "kin.db"
    said: list[str] = []
    with build_index(
        [one], db, encoder=ENCODER, metadata=taxa, pieces=[2000, 4000], keep_sequences=True, log=said.append
    ) as index:
        assert index.ids.tolist() == ["long", "short"]
        entry = index.entries(np.array([0]))[0]
        spans = index.rows.records[["start", "stop"]][entry.first : entry.first + entry.rows].tolist()
        short_ones = [(start, start + 2000) for start in range(0, 8000, 1000)]
        assert spans == [(0, 9000), *short_ones, (0, 4000), (2000, 6000), (4000, 8000), (5000, 9000)]
        # A piece's vector is that of its letters, but for the few windows that its two halves meet in.
        piece = ENCODER.embed(counts_of(long[2000:6000]))
        found = index.rows.vectors[entry.first + 10]
        assert distance(found, piece) < 0.01
        assert distance(index.rows.vectors[entry.first], ENCODER.embed(counts_of(long))) < 0.01
        assert index.table.genomes()[0].name == "G"
    assert any("shorter" in line for line in said)
    assert add_to_index(db, [one, two], calibrate=False, log=said.append) == 1
    assert "1 of 2 files were in already" in said
    rows = {row.id: row for row in index_rows(db)}
    assert {name: (row.genome, row.length) for name, row in rows.items()} == {
        "long": ("G", 9000),
        "short": ("G", 1500),
        "other": ("other", 5400),
    }
    table = EntryTable(db / ENTRIES)
    places = table.blobs("letters", numbers_of(table, ["long", "other"]))
    kept = [read_letters(db / "letters-0.bin", place).decode() for place in places.values()]
    table.close()
    assert kept == [long, letters_of(5000, 3) + "N" * 400]
    assert delete_from_index(db, where="length < 5000") == 1
    assert delete_from_index(db, genomes=["other"]) == 1
    compact_index(db)
    assert check_index(db).whole
    assert [row.id for row in index_rows(db)] == ["long"]
    # What was deleted may come again, and only that.
    assert add_to_index(db, [one, two], calibrate=False) == 2
    assert check_index(db).whole


def test_nothing_of_a_bad_file_is_in_and_all_of_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a first build and later; the same call goes on when the file is mended, or is left out."""
    from kinmer.index import pieces as module

    # Every record is committed alone: the bad one comes when some of its file are in.
    monkeypatch.setattr(module, "BLOCK_RECORDS", 1)
    told = {name: {f"{name}{at}": letters_of(3000, 10 * at + ord(name)) for at in range(3)} for name in "abc"}
    one, two, three = (fasta(tmp_path / f"{name}.fna", records) for name, records in told.items())
    good, bad = two.read_text(), two.read_text() + f">protein\n{'MKLVINGEQ' * 300}\n"

    def ids(db: Path) -> list[str]:
        assert check_index(db).whole
        with open_index(db) as index:
            return sorted(index.ids.tolist())

    def build(files: list[Path], db: Path, said: list[str]) -> None:
        build_index(files, db, encoder=ENCODER, pieces=[2000], log=said.append).close()

    db, said = tmp_path / "kin.db", list[str]()
    two.write_text(bad)
    with pytest.raises(SequenceError, match=r"b\.fna, record 4 \('protein'\)"):
        build([one, two, three], db, said)
    assert said == [f"nothing of {two} is in; 3 other entries stay, the same call resumes"]
    assert not db.exists()
    with KinIndex.open(tmp_path / ".kin.db.building") as unfinished:
        assert unfinished.ids.tolist() == ["a0", "a1", "a2"]
    # The first has other letters now: its entries are made anew. The third is left out.
    records = {name: letters_of(3500, 7) for name in ("a0", "new")}
    fasta(one, records)
    two.write_text(good)
    build([one, two], db, said)
    assert "resuming after 0 entries" not in said
    assert ids(db) == ["a0", "b0", "b1", "b2", "new"]
    assert [path.name for path in tmp_path.glob(".kin.db*")] == []
    assert not (db / "making.json").exists()
    build([one, two], tmp_path / "once.db", said)
    with open_index(db) as index, open_index(tmp_path / "once.db") as once:
        queries = np.random.default_rng(0).standard_normal((5, DIM)).astype(np.float32)
        np.testing.assert_allclose(index.search(queries, 5)[1], once.search(queries, 5)[1], atol=1e-6)
    # An index that is there keeps what it had.
    fasta(three, told["c"]).write_text(three.read_text() + ">c0\nACGT\n")
    with pytest.raises(SequenceError, match="'c0' occurs twice"):
        add_to_index(db, [two, three], calibrate=False, log=said.append)
    assert ids(db) == ["a0", "b0", "b1", "b2", "new"]
    fasta(three, told["c"])
    assert add_to_index(db, [two, three], calibrate=False) == 3
    assert ids(db) == ["a0", "b0", "b1", "b2", "c0", "c1", "c2", "new"]


def test_a_file_that_is_in_only_in_part_is_told_of(db: Path, tmp_path: Path) -> None:
    from kinmer.library.sources import Settings
    from kinmer.library.update import feed_of_files, pour_into

    one = fasta(tmp_path / "one.fna", {name: letters_of(2000, at) for at, name in enumerate("abc")})

    def stop(what: str, ids: list[str]) -> None:
        if ids == ["b"]:
            raise KeyboardInterrupt

    def add() -> None:
        with IndexWriter(db, committed=stop) as writer:
            feed = feed_of_files(writer, [one], Settings())
            pour_into(writer, feed, Settings())

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("kinmer.index.pieces.BLOCK_RECORDS", 1)
        with pytest.raises(KeyboardInterrupt):
            add()
    told = check_index(db)
    assert told.whole
    assert told.begun == (str(one),)
    assert f"{one} is in only in part" in told.text()
    assert describe_index(db).files_begun == 1
    assert add_to_index(db, [one], calibrate=False) == 1
    assert check_index(db).begun == ()
    assert describe_index(db).files_begun == 0


def test_a_first_build_of_a_bad_file_alone_leaves_nothing(tmp_path: Path) -> None:
    bad = fasta(tmp_path / "a.fna", {"a": letters_of(3000, 1), "b": "MKLVINGEQ" * 300})
    with pytest.raises(SequenceError, match="record 2"):
        build_index([bad], tmp_path / "kin.db", encoder=ENCODER)
    assert [path.name for path in tmp_path.iterdir()] == ["a.fna"]


def counts_of(letters: str) -> NDArray[Any]:
    from kinmer.kmers import KmerCounter

    return KmerCounter(ENCODER.layout).count_sequences([letters.encode()]).counts


def test_an_index_is_a_folder_that_can_be_copied(db: Path, tmp_path: Path) -> None:
    with IndexWriter(db) as writer:
        writer.add([new_sequence("n1", "g", np.random.default_rng(0))[0]])
        writer.delete(np.array([3]))
    shutil.copytree(db, tmp_path / "copy.db")
    shutil.rmtree(db)
    report = check_index(tmp_path / "copy.db")
    assert report.whole
    assert (report.entries, report.dead) == (40, 1)


@pytest.mark.parametrize("name", ["vectors-0.f32", "rows-0.bin", "engine-hnsw/graph-1.usearch"])
def test_a_check_finds_rot_that_left_no_trace_in_the_times(name: str, db: Path) -> None:
    import os

    path = db / name
    check_index(db)
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(stat.st_size // 2)
        old = file.read(1)
        file.seek(stat.st_size // 2)
        file.write(bytes([old[0] ^ 4]))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    report = check_index(db)
    assert not report.whole
    assert any("checksum" in line for line in report.problems)


def test_wrong_changes_are_told_and_change_nothing(db: Path, tmp_path: Path) -> None:
    before = describe_index(db)
    with pytest.raises(InputError, match="no entry 'nobody'"):
        delete_from_index(db, ids=["s1", "nobody"])
    with pytest.raises(InputError, match="no genome"):
        delete_from_index(db, genomes=["nobody"])
    with pytest.raises(UsageError, match="nothing to delete"):
        delete_from_index(db)
    with pytest.raises(UsageError, match="nothing to update"):
        update_index(db)
    with pytest.raises(ProfileError, match="in the index already"):
        add_to_index(db, START[:3])
    with pytest.raises(InputError, match="no such file"):
        add_to_index(db, [tmp_path / "none.fna"])
    with pytest.raises(FormatError, match="no such index"):
        add_to_index(tmp_path / "none.db", START[:3])
    after = describe_index(db)
    assert (after.entries, after.deleted) == (before.entries, before.deleted)
    with KinIndex.open(db) as index:
        assert index.ids.tolist() == START.obs_names.tolist()


@pytest.mark.parametrize(("share", "stays"), [(40, True), (4, False)])
def test_a_compaction_keeps_graphs_that_have_few_deleted(share: int, stays: bool, tmp_path: Path) -> None:
    db, data = tmp_path / "kin.db", organisms(1500)
    build_index(data, db, encoder=ENCODER, calibrate=False, threads=1).close()
    graphs = {path.stat().st_ino for path in db.glob("engine-hnsw/graph-*")}
    delete_from_index(db, ids=data.obs_names[::share].tolist())
    vectors = ENCODER.embed(data.X)
    left = np.flatnonzero(np.arange(1500) % share > 0)
    with open_index(db) as reader:
        before = reader.search(vectors[left], 5)
        compact_index(db, threads=1)
        after = reader.search(vectors[left], 5)
    assert ({path.stat().st_ino for path in db.glob("engine-hnsw/graph-*")} == graphs) == stays
    for index in (after, open_index(db).search(vectors[left], 5)):
        assert np.array_equal(index[0], before[0])
        assert np.array_equal(index[1], before[1])
    assert check_index(db).whole


def test_a_compaction_that_is_killed_before_its_engine_is_ready(
    db: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: HnswStore, new: object) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(HnswStore, "renumber", killed)
    delete_from_index(db, ids=START.obs_names[:2].tolist())
    with pytest.raises(KeyboardInterrupt):
        compact_index(db, threads=1)
    with open_index(db) as index:
        numbers, far, _ = index.search(ENCODER.embed(START.X)[2:], 1)
    assert numbers[:, 0].tolist() == list(range(2, 40))
    assert (far[:, 0] == 0).all()
    assert check_index(db).whole


def test_large_commits_lock_out_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that changes more pages than are kept: it does not wait for itself, nor readers for it."""
    monkeypatch.setattr("kinmer.index.table.WRITER_CACHE", 20)
    monkeypatch.setattr("kinmer.index.table.PATIENCE", 0.2)
    db = tmp_path / "kin.db"
    build_index(organisms(3000), db, encoder=ENCODER, engine="exact", calibrate=False, threads=1).close()
    delete_from_index(db, ids=["s5"])
    with open_index(db) as reader, IndexWriter(db) as writer:
        change, seen = Change(writer.table), list[int]()
        with Storage.open(db) as index, change.begin(derived=True):
            write_compacted(db, index, change)
            seen.append(len(reader.table.fetch(np.arange(5))))
        assert seen == [5]
    assert check_index(db).whole
    assert describe_index(db).entries == 2999
