"""The index: whole or not there, the same answers in every engine, nothing lost by a kill."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from numpy.typing import NDArray

from kinmer.embedding import embed
from kinmer.errors import (
    FormatError,
    InputError,
    KinmerError,
    MismatchError,
    ProfileError,
    UsageError,
)
from kinmer.folders import Trust
from kinmer.index.manifest import line_checksum
from kinmer.library import KinIndex, build_index, open_index
from kinmer.profiles import ProfileWriter
from kinmer.stores import ENGINES, Metric
from tests.organisms import encoder_of, organisms

ROWS = 300
TABLE = organisms(ROWS)
ENCODER = encoder_of()
VECTORS = ENCODER.embed(TABLE.X)


def needs(engine: str) -> None:
    if engine == "chroma":
        pytest.importorskip("chromadb", reason="the extra chroma is not installed")


def brute(queries: NDArray[Any], metric: str, k: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The k nearest rows of VECTORS in double precision."""
    asked, base = queries.astype(np.float64), VECTORS.astype(np.float64)
    if metric == "cosine":
        lengths = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(base, axis=1)
        table = 1 - asked @ base.T / lengths
    else:
        table = np.sqrt(((asked[:, None] - base) ** 2).sum(axis=2))
    order = np.argsort(table, axis=1, kind="stable")[:, :k]
    return order, np.take_along_axis(table, order, axis=1)


def store_of(path: Path, table: AnnData) -> Path:
    """A profile store of the table's rows."""
    from kinmer.profiles import open_profiles

    with ProfileWriter.create(path, open_profiles(table).layout, signature={}, force=True) as writer:
        writer.append(
            table.obs_names.tolist(), table.X, lengths=table.obs["length"].to_numpy(), sources="a.fna"
        )
        writer.commit({})
        writer.finish({"command": "test"})
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("index") / "kin.db"
    build_index(TABLE, path, encoder=ENCODER).close()
    return path


@pytest.fixture
def index(built: Path, tmp_path: Path) -> Path:
    """A copy that may be damaged."""
    return Path(shutil.copytree(built, tmp_path / "kin.db"))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_every_engine_gives_the_same_numbers(engine: str, metric: Metric, tmp_path: Path) -> None:
    needs(engine)
    queries = ENCODER.embed(organisms(40, seed=1).X)
    labels, distances = brute(queries, metric, 10)
    with build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER, engine=engine, metric=metric) as index:
        assert (len(index), index.engine, index.metric, index.dim) == (ROWS, engine, metric, 8)
        found, far, _ = index.search(queries, 10)
        np.testing.assert_array_equal(found, labels)
        np.testing.assert_allclose(far, distances, atol=1e-6)
        other: Metric = "l2" if metric == "cosine" else "cosine"
        np.testing.assert_array_equal(
            index.search(queries, 10, metric=other)[0], brute(queries, other, 10)[0]
        )
        everything = index.search(queries[:2], ROWS + 5)
        assert (everything[0][:, ROWS:] == -1).all()
        assert np.isinf(everything[1][:, ROWS:]).all()
        np.testing.assert_array_equal(np.sort(everything[0][:, :ROWS]), [np.arange(ROWS)] * 2)
        assert not index.rebuilt


def test_what_is_told_of_entries(built: Path) -> None:
    with open_index(built) as index:
        assert index.ids.tolist() == TABLE.obs_names.tolist()
        assert index.columns == ("kind",)
        frame = index.metadata
        np.testing.assert_array_equal(frame["kind"], TABLE.obs["kind"])
        np.testing.assert_array_equal(frame["length"], TABLE.obs["length"])
        np.testing.assert_array_equal(index.vectors, VECTORS)
        assert index.numbers_of(["s7", "nobody", "s0"]).tolist() == [7, -1, 0]
        assert index.encoder.fingerprint == ENCODER.fingerprint
        entry = index.entries(np.array([[5, -1]]))[5]
        assert (entry.id, entry.values) == ("s5", (int(TABLE.obs["kind"].iloc[5]),))


def test_an_entry_can_be_left_out_of_its_own_hits(built: Path) -> None:
    with open_index(built) as index:
        own = np.arange(0, ROWS, 3)
        labels, distances, _ = index.search(VECTORS[own], 4, exclude=own)
        assert not (labels == own[:, None]).any()
        expected, _ = brute(VECTORS[own], "cosine", 5)
        rest = [[one for one in row if one != me][:4] for row, me in zip(expected.tolist(), own, strict=True)]
        np.testing.assert_array_equal(labels, rest)
        assert (np.diff(distances, axis=1) >= 0).all()


def test_queries_without_direction_are_as_far_from_all(tmp_path: Path) -> None:
    with build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER) as index:
        labels, distances, _ = index.search(np.zeros((2, 8), np.float32), 3)
        assert labels.tolist() == [[0, 1, 2]] * 2
        assert distances.tolist() == [[1, 1, 1]] * 2


def test_sources_of_every_kind_give_the_same_index(tmp_path: Path) -> None:
    store = store_of(tmp_path / "my.zarr", TABLE)
    ENCODER.save(tmp_path / "encoder")
    on_the_way = build_index(store, tmp_path / "a.db", encoder=tmp_path / "encoder", engine="exact")
    embed(store, tmp_path / "encoder")
    embedded = build_index(store, tmp_path / "b.db", engine="exact")
    embed(store, tmp_path / "encoder", output=tmp_path / "v.npy")
    table = build_index(tmp_path / "v.npy", tmp_path / "c.db", encoder=ENCODER, engine="exact")
    mine = TABLE.copy()
    embed(mine, tmp_path / "encoder")
    memory = build_index(mine, tmp_path / "d.db", engine="exact")
    for index in (on_the_way, embedded, table, memory):
        assert index.ids.tolist() == TABLE.obs_names.tolist()
        np.testing.assert_array_equal(index.vectors, VECTORS)
        index.close()
    assert embedded.columns == ("source",)
    assert table.columns == ()


def test_metadata_are_joined_by_id(tmp_path: Path) -> None:
    lines = [
        'species\tsequence_id\tLength\tquoted "x"\tkind',
        "E. coli\ts3\t7\tö\tmine",
        "\ts1",
        ".\tnobody\t1\t2\t3",
    ]
    (tmp_path / "m.tsv").write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n")
    said: list[str] = []
    with build_index(
        TABLE,
        tmp_path / "kin.db",
        encoder=ENCODER,
        engine="exact",
        metadata=tmp_path / "m.tsv",
        log=said.append,
    ) as index:
        assert index.columns == ("species", 'quoted "x"', "kind")
        frame = index.metadata
        length = TABLE.obs["length"].iloc[3]
        known = {"length": length, "gc": None, "species": "E. coli", 'quoted "x"': "ö", "kind": "mine"}
        assert frame.iloc[3].to_dict() == known
        assert frame.iloc[1].isna().tolist() == [False, True, True, True, True]
        assert frame["species"].notna().sum() == 1
    assert any("Length" in line for line in said)
    assert any("2 of 300" in line for line in said)


@pytest.mark.parametrize(
    ("text", "error", "place"),
    [
        ("id\tx\ns1\ta\ns2\tb\ns1\tc\n", InputError, "line 4"),
        ("id\tx\ns1\ta\tb\n", InputError, "line 2"),
        ("id\tx\n\ta\n", InputError, "line 2"),
        ("id\tx\tX\ns1\ta\tb\n", InputError, "line 1"),
        ("id\tdistance\ns1\ta\n", InputError, "line 1"),
        ("id\t\ns1\ta\n", InputError, "line 1"),
        ("", InputError, "m.tsv"),
        ("id\tx\nnobody\ta\n", MismatchError, "m.tsv"),
    ],
)
def test_bad_metadata_are_told_with_their_line(
    text: str, error: type[Exception], place: str, tmp_path: Path
) -> None:
    (tmp_path / "m.tsv").write_text(text)
    with pytest.raises(error, match=place):
        build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER, metadata=tmp_path / "m.tsv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tsv"]


def test_values_of_every_kind_survive(tmp_path: Path) -> None:
    table = TABLE[:4].copy()
    table.obs = pd.DataFrame(
        {
            "length": [1000, 2000, 3000, 2**40],
            "gc": [0.5, np.nan, 0.25, 1.0],
            "whole": np.array([1, -2, 3, 2**62]),
            "float": np.array([0.1, np.nan, 1e300, -0.0]),
            "text": ["a\tb", "", ".", "ü"],
            "group": pd.Categorical(["x", None, "y", "x"]),
            "flag": [True, False, True, False],
            "line": ["1", "2", "3", "4"],
        },
        index=["a b", "c|d", "é", "'; DROP TABLE entries; --"],
    )
    with build_index(table, tmp_path / "kin.db", encoder=ENCODER, engine="exact") as index:
        frame = index.metadata
        assert index.ids.tolist() == table.obs_names.tolist()
        assert frame["length"].tolist() == [1000, 2000, 3000, 2**40]
        assert frame["whole"].tolist() == [1, -2, 3, 2**62]
        assert frame["float"].replace(np.nan, None).tolist() == [0.1, None, 1e300, -0.0]
        assert frame["text"].tolist() == ["a\tb", None, None, "ü"]
        assert frame["group"].tolist() == ["x", None, "y", "x"]
        assert frame["flag"].tolist() == [1, 0, 1, 0]
        assert index.numbers_of(["'; DROP TABLE entries; --"]).tolist() == [3]


def test_wrong_sources_and_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="encoder"):
        build_index(TABLE, tmp_path / "kin.db")
    with pytest.raises(MismatchError, match="encoder takes"):
        build_index(TABLE, tmp_path / "kin.db", encoder=encoder_of(2))
    mine = TABLE.copy()
    embed(mine, ENCODER)
    with pytest.raises(MismatchError, match="another encoder"):
        build_index(mine, tmp_path / "kin.db", encoder=encoder_of(seed=1))
    mine.obsm["X_kinmer"][5, 2] = np.nan
    with pytest.raises(ProfileError, match="row 6"):
        build_index(mine, tmp_path / "kin.db", encoder=ENCODER)
    for wrong in ({"engine": "fast"}, {"metric": "euclid"}):
        with pytest.raises(UsageError):
            build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER, **wrong)  # type: ignore[arg-type]
    np.save(tmp_path / "v.npy", np.zeros((3, 5), np.float32))
    with pytest.raises(MismatchError, match="5 columns"):
        build_index(tmp_path / "v.npy", tmp_path / "kin.db", encoder=ENCODER)
    (tmp_path / "v.npy").unlink()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kin.db").mkdir()
    (tmp_path / "kin.db" / "thesis.txt").write_text("all of it")
    with pytest.raises(UsageError, match="exists"):
        build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER)
    with pytest.raises(UsageError, match="no index"):
        build_index(TABLE, tmp_path / "kin.db", encoder=ENCODER, force=True)
    assert (tmp_path / "kin.db" / "thesis.txt").read_text() == "all of it"


def test_force_replaces_an_index(index: Path) -> None:
    build_index(TABLE[:20], index, encoder=ENCODER, force=True).close()
    with open_index(index) as found:
        assert len(found) == 20
    assert sorted(path.name for path in index.parent.iterdir()) == ["kin.db"]


def test_rebuild_changes_engine_and_metric(index: Path) -> None:
    queries = VECTORS[::17]
    with open_index(index) as found:
        found.rebuild(engine="exact", metric="l2")
        np.testing.assert_array_equal(found.search(queries, 5)[0], brute(queries, "l2", 5)[0])
    with open_index(index) as found:
        assert (found.engine, found.metric) == ("exact", "l2")
        assert not (index / "engine-hnsw").exists()
        found.rebuild(engine="hnsw")
    with open_index(index) as found:
        np.testing.assert_array_equal(found.search(queries, 5)[0], brute(queries, "l2", 5)[0])
        assert not found.rebuilt
        with pytest.raises(UsageError):
            found.rebuild(engine="faiss")


def damage_nothing(index: Path) -> None:
    """For comparison."""


def remove_engine(index: Path) -> None:
    shutil.rmtree(index / "engine-hnsw")


def cut_graph(index: Path) -> None:
    (graph,) = (index / "engine-hnsw").glob("*.usearch")
    os.truncate(graph, graph.stat().st_size // 2)


def scramble_graph(index: Path) -> None:
    (graph,) = (index / "engine-hnsw").glob("*.usearch")
    graph.write_bytes(os.urandom(graph.stat().st_size))


def old_stamp(index: Path) -> None:
    stamp = json.loads((index / "engine-hnsw" / "stamp.json").read_text())
    (index / "engine-hnsw" / "stamp.json").write_text(json.dumps({**stamp, "epoch": 0}))


@pytest.mark.parametrize("damage", [damage_nothing, remove_engine, cut_graph, scramble_graph, old_stamp])
def test_a_damaged_engine_is_built_anew(damage: Any, index: Path) -> None:
    damage(index)
    said: list[str] = []
    with open_index(index, log=said.append) as found:
        np.testing.assert_array_equal(found.search(VECTORS[:9], 5)[0], brute(VECTORS[:9], "cosine", 5)[0])
        assert found.rebuilt == (damage is not damage_nothing)
        assert bool(said) == found.rebuilt
    with open_index(index) as found:
        found.search(VECTORS[:1], 1)
        assert not found.rebuilt


def test_while_another_process_builds_every_vector_is_looked_at(index: Path) -> None:
    from kinmer.folders import Workshop

    remove_engine(index)
    lock = Workshop(index)
    try:
        with open_index(index) as found:
            np.testing.assert_array_equal(found.search(VECTORS[:9], 5)[0], brute(VECTORS[:9], "cosine", 5)[0])
            assert not found.rebuilt
            with pytest.raises(UsageError, match="another process"):
                found.rebuild()
    finally:
        lock.release()


def cut_vectors(index: Path) -> None:
    os.truncate(index / "vectors-0.f32", (index / "vectors-0.f32").stat().st_size - 1)


def cut_entries(index: Path) -> None:
    os.truncate(index / "entries.sqlite", 5000)


def scramble_entries(index: Path) -> None:
    (index / "entries.sqlite").write_bytes(os.urandom(20000))


def lose_an_entry(index: Path) -> None:
    with sqlite3.connect(index / "entries.sqlite") as connection:
        connection.execute("DELETE FROM entries WHERE _entry = 3")
    connection.close()


def other_entries(index: Path) -> None:
    with sqlite3.connect(index / "entries.sqlite") as connection:
        told = ('"another"', line_checksum("index", '"another"'))
        connection.execute("UPDATE state SET value = ?, crc = ? WHERE name = 'index'", told)
    connection.close()


def other_encoder(index: Path) -> None:
    shutil.rmtree(index / "encoder")
    encoder_of(seed=9).save(index / "encoder")


def manifest(**changes: Any) -> Any:
    def change(index: Path) -> None:
        told = json.loads((index / "index.json").read_text())
        (index / "index.json").write_text(json.dumps({**told, **changes}))

    return change


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (cut_vectors, FormatError),
        (cut_entries, FormatError),
        (scramble_entries, FormatError),
        (lose_an_entry, FormatError),
        (other_entries, MismatchError),
        (other_encoder, MismatchError),
        (manifest(format=99), FormatError),
        (manifest(kind="a cake"), FormatError),
        (manifest(dim="8"), FormatError),
        (manifest(metric="euclid"), FormatError),
        (lambda index: (index / "index.json").write_text("{"), FormatError),
        (lambda index: (index / "index.json").unlink(), FormatError),
        (lambda index: (index / "vectors-0.f32").unlink(), FormatError),
        (lambda index: (index / "entries.sqlite").unlink(), FormatError),
        (lambda index: shutil.rmtree(index / "encoder"), FormatError),
        (shutil.rmtree, FormatError),
    ],
)
def test_a_damaged_index_never_answers(damage: Any, error: type[Exception], index: Path) -> None:
    damage(index)
    with pytest.raises(error):
        ask(index)


def ask(path: Path) -> None:
    with open_index(path) as index:
        labels, _, _ = index.search(VECTORS, 3)
        index.entries(labels)


@pytest.mark.parametrize("name", ["vectors-0.f32", "rows-0.bin"])
def test_changed_rows_are_found_out(name: str, index: Path) -> None:
    with (index / name).open("r+b") as file:
        file.seek(8 * 4 * 7)
        old = file.read(4)
        file.seek(8 * 4 * 7)
        file.write(bytes(one ^ 1 for one in old))
    with pytest.raises(FormatError, match="damaged"):
        open_index(index)


def test_rows_that_rot_unseen_are_found_out_when_the_engine_is_built(index: Path) -> None:
    path = index / "vectors-0.f32"
    stat = path.stat()
    with path.open("r+b") as file:
        file.seek(8 * 4 * 7)
        file.write(b"\x00\x00\x80\x3f")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    with pytest.raises(FormatError, match="damaged"):
        open_index(index)
    # A disk that rots leaves the time of change too.
    Trust(index).note([path, index / "rows-0.bin", index / "entries.sqlite"])
    with open_index(index) as found, pytest.raises(FormatError, match="damaged"):
        found.rebuild()


BUILD = """
import sys
import kinmer.library.build as build
import kinmer.library.feed as feeding
from kinmer.errors import KinmerError
feeding.BLOCK_ROWS = 16
try:
    build.build_index(sys.argv[1], sys.argv[2], encoder=sys.argv[3], engine=sys.argv[4], metadata=sys.argv[5],
                      log=print).close()
except KinmerError as error:
    sys.exit(str(error))
"""


def kill_while_building(command: list[str], building: Path, seconds: float) -> bool:
    """Start a build and kill it `seconds` after its first commit; whether it was still at work."""
    started = subprocess.Popen(command)
    while started.poll() is None and not (building / "entries.sqlite").exists():
        time.sleep(0.002)
    time.sleep(seconds)
    hit = started.poll() is None
    started.kill()
    started.wait()
    return hit


@pytest.mark.slow
@pytest.mark.parametrize("engine", ENGINES)
def test_kills_lose_and_double_nothing(engine: str, tmp_path: Path) -> None:
    needs(engine)
    table = organisms(1000)
    store = store_of(tmp_path / "my.zarr", table)
    ENCODER.save(tmp_path / "encoder")
    kinds = table.obs["kind"].tolist()
    lines = [f"{one}\tspecies {kind}\n" for one, kind in zip(table.obs_names, kinds, strict=True)]
    (tmp_path / "taxa.tsv").write_text("id\tspecies\n" + "".join(lines))
    output = tmp_path / "kin.db"
    places = [store, output, tmp_path / "encoder", engine, tmp_path / "taxa.tsv"]
    command = [sys.executable, "-c", BUILD, *map(str, places)]
    # Once among the vectors, once later, where the engine is built.
    building = tmp_path / ".kin.db.building"
    assert kill_while_building(command, building, 0.02)
    kill_while_building(command, building, 1.0)
    if not output.exists():
        subprocess.run(command, check=True)
    with open_index(output) as index:
        assert index.ids.tolist() == table.obs_names.tolist()
        np.testing.assert_array_equal(index.vectors, ENCODER.embed(table.X))
        assert index.metadata["species"].tolist() == [f"species {kind}" for kind in kinds]
        labels, distances, _ = index.search(index.vectors[:200], 1)
        assert (distances[:, 0] == 0).all()
        np.testing.assert_array_equal(index.vectors[labels[:, 0]], index.vectors[:200])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["encoder", "kin.db", "my.zarr", "taxa.tsv"]


def test_an_unfinished_build_of_something_else_is_begun_afresh(tmp_path: Path) -> None:
    store = store_of(tmp_path / "my.zarr", TABLE)
    building = tmp_path / ".kin.db.building"
    shutil.rmtree(building, ignore_errors=True)
    build_index(TABLE[:50], tmp_path / "old.db", encoder=ENCODER).close()
    (tmp_path / "old.db").rename(building)
    with build_index(store, tmp_path / "kin.db", encoder=ENCODER) as index:
        assert len(index) == ROWS
        assert index.ids.tolist() == TABLE.obs_names.tolist()


def test_a_build_goes_on_after_the_last_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from kinmer.index import rows
    from kinmer.library import feed

    store = store_of(tmp_path / "my.zarr", TABLE)
    monkeypatch.setattr(feed, "BLOCK_ROWS", 32)
    # A disk that fills up while the seventh block is on its way.
    appended = rows.RowFiles.append

    def append(self: Any, rows: NDArray[np.float32], records: NDArray[Any]) -> None:
        appended(self, rows, records)
        if self._files[0].tell() > 6 * 32 * 8 * 4:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(rows.RowFiles, "append", append)
        with pytest.raises(OSError, match="space"):
            build_index(store, tmp_path / "kin.db", encoder=ENCODER)
    assert not (tmp_path / "kin.db").exists()
    said: list[str] = []
    with build_index(store, tmp_path / "kin.db", encoder=ENCODER, log=said.append) as index:
        assert any("192" in line for line in said)
        assert index.ids.tolist() == TABLE.obs_names.tolist()
        np.testing.assert_array_equal(index.vectors, VECTORS)


def test_errors_carry_their_place(tmp_path: Path) -> None:
    with pytest.raises(KinmerError) as caught:
        KinIndex.open(tmp_path / "none.db")
    assert "none.db" in str(caught.value)
    assert "\n" not in str(caught.value)
