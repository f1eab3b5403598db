"""The profile store: what AnnData sees, what survives a kill, what is refused."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError, UsageError
from kinmer.files import hash_ids, write_json
from kinmer.inputs import read_json
from kinmer.layout import Layout, kmer_layout
from kinmer.profiles import (
    AnnDataProfiles,
    Profiles,
    ProfileStore,
    ProfileWriter,
    info,
    open_profiles,
)
from kinmer.profiles.arrays import RowArray, create_rows
from kinmer.profiles.protocol import SeenIds, check_ids, hash_texts

LAYOUT = kmer_layout(3)
SIGNATURE = {"files": ["a.fna"], "max_k": 3}


def some_counts(rows: int, layout: Layout = LAYOUT, seed: int = 0) -> NDArray[np.uint32]:
    return np.random.default_rng(seed).integers(0, 9, (rows, layout.width), dtype=np.uint32)


def names(start: int, stop: int) -> list[str]:
    return [f"contig {row}|ü" for row in range(start, stop)]


def write_store(path: Path, counts: NDArray[np.uint32], *, parts: int = 1, **settings: Any) -> ProfileStore:
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, **settings) as writer:
        first = writer.rows
        for part in np.array_split(np.arange(len(counts)), parts):
            ids = [f"contig {first + row}|ü" for row in part]
            writer.append(ids, counts[part], lengths=1000 + first + part, sources=f"{part[0]}.fna")
        writer.finish({"command": "test"})
    return ProfileStore.open(path)


def write_with_anndata(data: anndata.AnnData, path: Path, version: int) -> None:
    with warnings.catch_warnings(), anndata.settings.override(zarr_write_format=version):
        warnings.filterwarnings("ignore", "zarr v3 autosharding", UserWarning)
        warnings.filterwarnings("ignore", "Writing zarr v2 data", UserWarning)
        data.write_zarr(path)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some.zarr"


def test_anndata_sees_what_was_written(path: Path) -> None:
    counts = some_counts(700)
    counts[7] = 0
    store = write_store(path, counts, parts=3)
    data = anndata.read_zarr(path)
    np.testing.assert_array_equal(data.X, counts)
    assert data.X.dtype == np.uint32
    assert list(data.obs_names) == names(0, 700)
    assert list(data.var_names) == list(LAYOUT.features)
    assert list(data.var["k"]) == [len(name) for name in LAYOUT.features]
    assert set(data.var["block"]) == {"3-mer", "2-mer", "1-mer"}
    a_count, c_count = counts[:, -2].astype(float), counts[:, -1].astype(float)
    np.testing.assert_array_equal(data.obs["bases"], a_count + c_count)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(data.obs["gc"], c_count / (a_count + c_count))
    np.testing.assert_array_equal(data.obs["length"], np.arange(1000, 1700))
    assert data.obs["source"].value_counts().to_dict() == {"0.fna": 234, "234.fna": 233, "467.fna": 233}
    uns = data.uns["kinmer"]
    assert uns["fingerprint"] == hash_ids(names(0, 700)) == store.fingerprint
    assert (uns["values"], uns["rows"], list(uns["k"])) == ("counts", 700, [3, 2, 1])
    pd.testing.assert_frame_equal(store.obs, data.obs, check_index_type=False)


def test_the_files_are_those_that_anndata_itself_would_write(path: Path, tmp_path: Path) -> None:
    write_store(path, some_counts(10))
    data = anndata.read_zarr(path)
    write_with_anndata(data, tmp_path / "theirs.zarr", 3)

    def encodings(folder: Path) -> dict[str, tuple[Any, Any]]:
        nodes = read_json(folder / "zarr.json")["consolidated_metadata"]["metadata"]
        found = {}
        for name, node in nodes.items():
            found[name] = (dict(node["attributes"]), node.get("data_type"))
        return found

    ours, theirs = encodings(path), encodings(tmp_path / "theirs.zarr")
    theirs.pop("raw", None)
    for frame in ("obs/source/codes", "var/block", "var/block/categories", "var/block/codes"):
        # We keep more than 127 categories, and block names as plain text.
        ours.pop(frame, None)
        theirs.pop(frame, None)
    assert ours == theirs


@pytest.mark.parametrize("rows", [1, 4095, 4096, 4097, 9000])
def test_read_and_take_around_chunk_edges(path: Path, rows: int) -> None:
    counts = some_counts(rows)
    store = write_store(path, counts, parts=min(rows, 4))
    assert len(store) == rows
    np.testing.assert_array_equal(store.read(0, rows), counts)
    random = np.random.default_rng(rows)
    for _ in range(5):
        start, stop = sorted(random.integers(0, rows + 1, 2))
        np.testing.assert_array_equal(store.read(start, stop), counts[start:stop])
    chosen = random.integers(0, rows, 300)
    np.testing.assert_array_equal(store.take(chosen), counts[chosen])
    assert store.take(np.array([], dtype=np.int64)).shape == (0, LAYOUT.width)
    with pytest.raises(IndexError):
        store.take(np.array([rows]))


@given(sizes=st.lists(st.integers(0, 12), max_size=12), flush=st.integers(0, 2), text=st.booleans())
@settings(max_examples=40, deadline=None)
def test_rows_array_holds_what_was_appended(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], flush: int, text: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows") / "a"
    array = create_rows(folder, dtype=np.dtypes.StringDType() if text else np.int64, chunk_rows=5)
    values = np.arange(sum(sizes))
    told = np.array([f"ü{one}" for one in values], dtype=object) if text else values
    for number, size in enumerate(sizes):
        array.append(told[array.rows : array.rows + size])
        if flush and number % flush == 0:
            array.flush()
    assert list(array.read(0, array.rows)) == list(told)
    array.finish()
    assert np.asarray(zarr.open_array(str(folder), mode="r")[:]).tolist() == list(told)
    kept = len(told) // 2
    again = RowArray(folder, kept)
    assert list(again.read(0, kept)) == list(told[:kept])
    again.append(told[:3])
    again.finish()
    assert np.asarray(zarr.open_array(str(folder), mode="r")[:]).tolist() == [*told[:kept], *told[:3]]


WRITE = """
import sys, numpy as np
from pathlib import Path
from kinmer.layout import kmer_layout
from kinmer.profiles import ProfileWriter
path, total, append = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "append"
layout = kmer_layout(3)
counts = np.random.default_rng(5).integers(0, 9, (total, layout.width), dtype=np.uint32)
with ProfileWriter.create(
    path, layout, signature={"n": total, "append": append}, append=append, commit_seconds=0
) as writer:
    at = writer.state["at"] if writer.state else 0
    assert writer.rows - writer.base == at
    while at < total:
        stop = min(at + 700, total)
        ids = [f"{append}{row}" for row in range(at, stop)]
        writer.append(ids, counts[at:stop], lengths=np.arange(at, stop), sources=f"{at}.fna")
        at = stop
        writer.commit({"at": at})
        print(at, flush=True)
    writer.finish({})
    print("done", flush=True)
"""


def run_killed(path: Path, total: int, mode: str, rows: int, random: np.random.Generator) -> int:
    """Run the writer, killing it at random moments, until the store has `rows` rows; gives the kills."""
    kills = 0
    while not path.exists() or len(ProfileStore.open(path)) < rows:
        process = subprocess.Popen(
            [sys.executable, "-c", WRITE, str(path), str(total), mode], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        if kills < 4:
            for _ in range(int(random.integers(1, 4))):
                process.stdout.readline()
            time.sleep(float(random.uniform(0, 0.03)))
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
    return kills


@pytest.mark.slow
def test_kills_at_random_moments_lose_and_double_nothing(path: Path) -> None:
    random = np.random.default_rng()
    assert run_killed(path, 9000, "new", 9000, random) == 4
    counts = np.random.default_rng(5).integers(0, 9, (9000, LAYOUT.width), dtype=np.uint32)
    store = ProfileStore.open(path)
    np.testing.assert_array_equal(store.read(0, 9000), counts)
    assert list(store.ids) == [f"False{row}" for row in range(9000)]

    # While an append is killed, both readers see the old rows; afterwards the new ones behind them.
    assert run_killed(path, 5000, "append", 14000, random) >= 2
    more = np.random.default_rng(5).integers(0, 9, (5000, LAYOUT.width), dtype=np.uint32)
    data = anndata.read_zarr(path)
    np.testing.assert_array_equal(data.X, np.concatenate([counts, more]))
    np.testing.assert_array_equal(data.obs["length"], [*range(9000), *range(5000)])
    assert list(data.obs_names[9000:]) == [f"True{row}" for row in range(5000)]
    assert not [*path.rglob("*.partial"), *path.glob(".kinmer*")]


def test_an_unfinished_store_is_taken_for_whole_by_nobody(path: Path) -> None:
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        writer.append(names(0, 5), some_counts(5), lengths=np.arange(5), sources="a")
        writer.commit({"file": 0})
    assert not path.exists()
    with pytest.raises(FormatError, match=r"unfinished.*same command again"):
        ProfileStore.open(path)
    with pytest.raises(FormatError, match="not a profile store"):
        ProfileStore.open(path.with_name("some.zarr.part"))
    with pytest.raises(UsageError, match="other input or settings"):
        ProfileWriter.create(path, LAYOUT, signature={"files": ["b.fna"]})
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        assert (writer.rows, writer.state) == (5, {"file": 0})
        assert list(writer.ids(1, 3)) == names(1, 3)
        with pytest.raises(ProfileError, match="occurs twice"):
            writer.append(names(4, 6), some_counts(2), lengths=np.arange(2), sources="a")
        assert writer.rows == 5
    with ProfileWriter.create(path, LAYOUT, signature={"files": ["b.fna"]}, force=True) as writer:
        assert (writer.rows, writer.state) == (0, None)
        writer.abandon()
    assert list(path.parent.iterdir()) == []


def test_a_chunk_that_is_half_written_is_written_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(packed: bytes) -> int:
        raise KeyboardInterrupt

    rows = some_counts(70_000)
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer, monkeypatch.context() as patched:
        patched.setattr("google_crc32c.value", killed)
        with pytest.raises(KeyboardInterrupt):
            writer.append(names(0, 70_000), rows, lengths=np.arange(70_000), sources="a")
    part = path.with_name("some.zarr.part")
    assert list(part.rglob("*.partial"))
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        assert not list(part.rglob("*.partial"))
        writer.append(names(0, 70_000), rows, lengths=np.arange(70_000), sources="a")
        writer.finish({})
    assert np.array_equal(ProfileStore.open(path).read(0, 70_000), rows)


def test_commits_within_a_moment_are_kept_at_the_latest_at_the_end(path: Path) -> None:
    def interrupted() -> None:
        with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, commit_seconds=3600) as writer:
            writer.append(names(0, 5), some_counts(5), lengths=np.arange(5), sources="a")
            writer.commit({"at": 5})
            writer.append(names(5, 9), some_counts(4), lengths=np.arange(4), sources="b")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        assert (writer.rows, writer.state) == (5, {"at": 5})
        writer.append(names(5, 6), some_counts(1, seed=3), lengths=np.arange(1), sources="c")
        writer.finish({})
    store = ProfileStore.open(path)
    np.testing.assert_array_equal(store.read(0, 6), np.concatenate([some_counts(5), some_counts(1, seed=3)]))
    assert list(store.obs["source"].astype(str)) == ["a"] * 5 + ["c"]


@pytest.mark.parametrize("moment", range(1, 8))
def test_an_interrupt_within_an_append_loses_no_commit(
    path: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = some_counts(20_000)
    wait = [moment]

    def write(array: RowArray, start: int, rows: NDArray[Any], whole: Any = RowArray._write) -> None:
        wait[0] -= 1
        if wait[0] == 0:
            raise KeyboardInterrupt
        whole(array, start, rows)

    def interrupted() -> None:
        with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, commit_seconds=3600) as writer:
            monkeypatch.setattr(RowArray, "_write", write)
            for start in range(0, 20_000, 3000):
                part = counts[start : start + 3000]
                ids = names(start, start + len(part))
                writer.append(ids, part, lengths=np.zeros(len(part), dtype=np.int64), sources="a")
                writer.commit({"rows": start + len(part)})
            writer.finish({})

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    monkeypatch.undo()
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        assert writer.state == ({"rows": writer.rows} if writer.rows else None)
        assert writer.rows >= 3000
        rest = np.arange(writer.rows, 20_000)
        ids = [f"contig {row}|ü" for row in rest]
        writer.append(ids, counts[rest], lengths=0 * rest, sources="a")
        writer.finish({})
    store = ProfileStore.open(path)
    np.testing.assert_array_equal(store.read(0, 20_000), counts)
    assert list(store.ids) == names(0, 20_000)


def test_append_shows_old_rows_until_it_is_finished_and_then_drops_what_does_not_cover_the_new(
    path: Path,
) -> None:
    store = write_store(path, some_counts(5000))
    with store.obsm_writer("X_kinmer", 3, provenance={"encoder": "abc"}) as matrix:
        matrix.append(np.ones((5000, 3), dtype=np.float32))
        matrix.finish()
    store.write_obs("cluster", np.arange(5000) % 7)
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, append=True, commit_seconds=0) as writer:
        assert (writer.base, writer.rows, writer.state) == (5000, 5000, None)
        with pytest.raises(ProfileError, match="occurs twice"):
            writer.append(names(10, 11), some_counts(1), lengths=np.arange(1), sources="b")
        writer.append(names(5000, 9999), some_counts(4999, seed=1), lengths=np.arange(4999), sources="b")
        writer.commit({})
        for shown in (anndata.read_zarr(path), open_profiles(path)):
            assert len(shown) == 5000
        assert list(anndata.read_zarr(path).obsm) == ["X_kinmer"]
        writer.finish({"second": True})
    store = ProfileStore.open(path)
    expected = np.concatenate([some_counts(5000), some_counts(4999, seed=1)])
    np.testing.assert_array_equal(store.read(0, 9999), expected)
    assert store.fingerprint == hash_ids(names(0, 9999))
    assert store.uns["made"] == [{"command": "test"}, {"second": True}]
    assert store.obsm_keys() == []
    assert store.embedding("X_kinmer") is None
    assert list(store.obs.columns) == ["length", "bases", "gc", "source"]
    data = anndata.read_zarr(path)
    assert (data.shape, list(data.obsm)) == ((9999, LAYOUT.width), [])
    assert not (path / "obsm/X_kinmer").exists()


def test_an_abandoned_append_leaves_the_store_as_it_was(path: Path) -> None:
    write_store(path, some_counts(10))

    def files() -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in path.rglob("*") if file.is_file()}

    store = ProfileStore.open(path)
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, append=True, commit_seconds=0) as writer:
        writer.append(names(50, 5000), some_counts(4950), lengths=np.arange(4950), sources="b")
        writer.commit({})
        writer.abandon()
    again = ProfileStore.open(path)
    np.testing.assert_array_equal(again.read(0, 10), some_counts(10))
    pd.testing.assert_frame_equal(again.obs, store.obs)
    whole = zarr.open_group(str(path), mode="r", use_consolidated=False)
    assert whole["X"].shape == (10, LAYOUT.width)  # type: ignore[union-attr]
    assert not [name for name in files() if ".kinmer" in name]


def test_an_output_that_exists_is_kept_until_the_new_one_is_whole(path: Path) -> None:
    write_store(path, some_counts(3))
    with pytest.raises(UsageError, match="exists already"):
        ProfileWriter.create(path, LAYOUT, signature=SIGNATURE)
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE, force=True) as writer:
        writer.append(["new"], some_counts(1), lengths=np.array([1]), sources="a")
        writer.commit({}, now=True)
        assert len(ProfileStore.open(path)) == 3
        writer.finish({})
    assert list(ProfileStore.open(path).ids) == ["new"]
    assert [child.name for child in path.parent.iterdir()] == [path.name]


def test_two_writers_of_one_store(path: Path) -> None:
    with (
        ProfileWriter.create(path, LAYOUT, signature=SIGNATURE),
        pytest.raises(UsageError, match="another process"),
    ):
        ProfileWriter.create(path, LAYOUT, signature=SIGNATURE)
    store = write_store(path, some_counts(3))
    with (
        store.obsm_writer("X_a", 2, provenance={}),
        pytest.raises(UsageError, match="another process"),
    ):
        store.write_obs("cluster", np.arange(3))
    store.write_obs("cluster", np.arange(3))
    assert list(ProfileStore.open(path).obs["cluster"]) == [0, 1, 2]


def test_another_layout_cannot_be_appended(path: Path) -> None:
    write_store(path, some_counts(3))
    with pytest.raises(MismatchError, match="max-k"):
        ProfileWriter.create(path, kmer_layout(2), signature=SIGNATURE, append=True)
    with pytest.raises(MismatchError, match="counts of"):
        ProfileWriter.create(path, LAYOUT, values="frequencies", signature=SIGNATURE, append=True)
    assert len(write_store(path, some_counts(3), append=True)) == 6


def test_an_empty_store_is_refused(path: Path) -> None:
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        with pytest.raises(ProfileError, match="no profile"):
            writer.finish({})
        writer.abandon()
    assert not any(path.parent.iterdir())


def test_one_file_may_give_very_many_rows(path: Path) -> None:
    rows, layout = 400_000, kmer_layout(1)
    counts = np.arange(2 * rows, dtype=np.uint32).reshape(rows, 2)
    with ProfileWriter.create(path, layout, signature=SIGNATURE) as writer:
        writer.append(
            [f"c{row}" for row in range(rows)], counts, lengths=np.arange(rows) + 1, sources="a.fna"
        )
        writer.finish({})
    store = ProfileStore.open(path)
    assert set(store.obs["source"]) == {"a.fna"}
    assert len(store.obs) == rows


@pytest.mark.parametrize(
    ("ids", "rows", "what"),
    [
        (["a"], np.full((1, LAYOUT.width), 2**32), "above 4,294,967,295"),
        (["a", "b"], np.stack([np.zeros(LAYOUT.width, int), np.full(LAYOUT.width, -1)]), "row 2: a negative"),
        (["a"], np.zeros((1, 7), dtype=np.uint32), "44 columns"),
        (["a"], np.zeros((1, LAYOUT.width)), "whole numbers"),
        (["a", "a"], some_counts(2), "occurs twice"),
        ([""], some_counts(1), "cannot be used"),
        (["a\tb"], some_counts(1), "cannot be used"),
        (["a\nb"], some_counts(1), "cannot be used"),
        (["\ud800"], some_counts(1), "cannot be used"),
        (["a"], some_counts(2), "different numbers"),
    ],
)
def test_bad_rows_are_refused_and_nothing_is_added(
    path: Path, ids: list[str], rows: NDArray[Any], what: str
) -> None:
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        with pytest.raises(ProfileError, match=what):
            writer.append(ids, rows, lengths=np.ones(len(ids), dtype=np.int64), sources="a")
        assert writer.rows == 0
        writer.append(["ok"], some_counts(1), lengths=np.array([9]), sources="a")
        writer.finish({})
    assert list(ProfileStore.open(path).ids) == ["ok"]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), unique=True, max_size=20), st.data())
def test_ids_seen_before_are_known(texts: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(texts)))
    seen = SeenIds()
    for one in texts[:cut]:
        seen.add(hash_texts(np.array([one], dtype=object)))
    if texts:
        known = seen.known(hash_texts(np.array(texts, dtype=object)))
        assert known.tolist() == [row < cut for row in range(len(texts))]


@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from("abcdef"), max_size=4))
def test_suspects_are_known_ids_and_second_ones(texts: list[str], before: list[str]) -> None:
    seen = SeenIds()
    if before:
        seen.add(hash_texts(np.array(before, dtype=object)))
    wanted = [row for row, text in enumerate(texts) if text in before or text in texts[:row]]
    assert seen.suspects(hash_texts(np.array(texts, dtype=object))).tolist() == wanted


def test_chunks_of_counts_are_the_files_that_zarr_writes(tmp_path: Path) -> None:
    rows = np.random.default_rng(1).integers(0, 1 << 20, (50, 40)).astype(np.uint32)
    ours, theirs = (
        create_rows(tmp_path / name, dtype=np.uint32, chunk_rows=16, width=40, codec="profiles")
        for name in ("ours", "theirs")
    )
    assert ours._packer is not None
    theirs._packer = None
    for array in (ours, theirs):
        for start in range(0, 50, 7):
            array.append(rows[start : start + 7])
        array.finish()
    files = [path for path in (tmp_path / "ours").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        assert path.read_bytes() == (tmp_path / "theirs" / path.relative_to(tmp_path / "ours")).read_bytes()
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path / "ours"), mode="r")[...], rows)


def test_where_a_double_id_stands_is_told() -> None:
    check_ids(["a b|c", "ü", "日本"])
    with pytest.raises(ProfileError, match=r"ids.txt, line 4: the id 'x' occurs twice \(first in line 2\)"):
        check_ids(["a", "x", "b", "x"], place="ids.txt", first_line=1)


def damaged(path: Path, what: str) -> None:
    if what == "piece":
        shutil.rmtree(path / "X/c/0")
    elif what == "file":
        (path / "X/c/1/0").unlink()
    elif what == "cut":
        file = path / "X/c/1/0"
        file.write_bytes(file.read_bytes()[:50])
    elif what == "ids":
        (path / "obs/_index/c/0").unlink()
    elif what == "root":
        (path / "zarr.json").write_text("{")
    else:
        document = read_json(path / "zarr.json")
        description = document["attributes"]["kinmer"]
        # As kinmer 0.1.0 wrote it, without checksums: with these a changed description is damaged.
        del description["checksums"], description["checksum"]
        if what == "version":
            description["format_version"] = 99
        elif what == "rows":
            description["rows"] += 1
        else:
            description["layout"] = kmer_layout(2).to_dict()
        write_json(path / "zarr.json", document)


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("piece", FormatError, "1 of 2 pieces of X are missing"),
        ("file", FormatError, r"X/c/1/0: a piece of the store is missing"),
        ("cut", FormatError, r"X/c/1/0: a piece of X is damaged"),
        ("ids", FormatError, "a piece of the store is missing"),
        ("root", FormatError, "damaged"),
        ("version", FormatError, "format 99"),
        ("rows", MismatchError, "5000 rows"),
        ("layout", MismatchError, "44 columns"),
    ],
)
def test_damage_is_told_not_read_as_zeros(
    path: Path, what: str, error: type[Exception], message: str
) -> None:
    def used() -> None:
        store = ProfileStore.open(path)
        np.testing.assert_array_equal(store.read(0, 5000), some_counts(5000))
        assert len(store.ids) == 5000

    write_store(path, some_counts(5000))
    used()
    damaged(path, what)
    with pytest.raises(error, match=message):
        used()


@pytest.mark.parametrize("what", ["nothing", "file", "folder"])
def test_what_is_no_store_is_told(path: Path, what: str) -> None:
    if what == "file":
        path.write_text(">a\nACGT\n")
    elif what == "folder":
        path.mkdir()
    with pytest.raises(FormatError, match="no such store" if what == "nothing" else "not a profile store"):
        open_profiles(path)


def test_a_matrix_goes_on_after_a_kill_with_equal_provenance_only(path: Path) -> None:
    store = write_store(path, some_counts(5000))
    matrix = np.random.default_rng(0).normal(size=(5000, 300)).astype(np.float32)
    with store.obsm_writer("X_kinmer", 300, provenance={"encoder": 1}, commit_seconds=0) as writer:
        writer.append(matrix[:4999])
    assert ProfileStore.open(path).obsm_keys() == []
    assert list(anndata.read_zarr(path).obsm) == []
    with store.obsm_writer("X_kinmer", 300, provenance={"encoder": 2}) as writer:
        assert writer.rows == 0
        writer.append(matrix[:4097])
    with store.obsm_writer("X_kinmer", 300, provenance={"encoder": 2}) as writer:
        assert writer.rows == 4097
        with pytest.raises(ValueError, match="4097 of 5000"):
            writer.finish()
        writer.append(matrix[4097:])
        writer.finish()
    assert store.obsm_keys() == ["X_kinmer"]
    assert store.embedding("X_kinmer") == {"encoder": 2}
    np.testing.assert_array_equal(store.read_obsm("X_kinmer", 4000, 4500), matrix[4000:4500])
    data = anndata.read_zarr(path)
    np.testing.assert_array_equal(data.obsm["X_kinmer"], matrix)
    with store.obsm_writer("X_kinmer", 2, provenance={"encoder": 3}) as writer:
        writer.append(matrix[:, :2])
        assert ProfileStore.open(path).embedding("X_kinmer") == {"encoder": 2}
        writer.finish()
    np.testing.assert_array_equal(ProfileStore.open(path).read_obsm("X_kinmer"), matrix[:, :2])
    assert not [*path.glob(".kinmer*")]
    with pytest.raises(FormatError, match="no X_tsne"):
        store.read_obsm("X_tsne")


@pytest.mark.parametrize(
    "values", [np.arange(9), np.linspace(0, 1, 9), np.array(list("abcdefghü"), dtype=object)]
)
def test_columns_are_added_and_replaced(path: Path, values: NDArray[Any]) -> None:
    store = write_store(path, some_counts(9))
    store.write_obs("cluster", np.zeros(9))
    store.write_obs("cluster", values)
    assert list(store.obs["cluster"]) == list(values)
    data = anndata.read_zarr(path)
    assert list(data.obs.columns) == ["length", "bases", "gc", "source", "cluster"]
    assert list(data.obs["cluster"]) == list(values)
    with pytest.raises(ProfileError, match="8 values"):
        store.write_obs("cluster", values[:8])


@pytest.mark.parametrize("version", [2, 3])
def test_a_subset_that_anndata_wrote_is_a_store_too(path: Path, tmp_path: Path, version: int) -> None:
    counts = some_counts(50)
    counts[:9] = 0
    write_store(path, counts)
    part = anndata.read_zarr(path)[10:0:-1].copy()
    part.obs["habitat"] = pd.array([1, None, *range(8)], dtype="Int64")
    write_with_anndata(part, tmp_path / "part.zarr", version)
    store = ProfileStore.open(tmp_path / "part.zarr")
    assert isinstance(store, Profiles)
    np.testing.assert_array_equal(store.read(0, 10), counts[10:0:-1])
    assert store.fingerprint == hash_ids(names(1, 11)[::-1])
    assert store.layout == LAYOUT
    assert store.obs["habitat"].isna().sum() == 1
    if version == 3:
        with store.obsm_writer("X_kinmer", 2, provenance={}) as writer:
            writer.append(np.ones((10, 2), dtype=np.float32))
            writer.finish()
        assert anndata.read_zarr(tmp_path / "part.zarr").obsm["X_kinmer"].sum() == 20
        with pytest.raises(FormatError, match="cannot be appended"):
            ProfileWriter.create(tmp_path / "part.zarr", LAYOUT, signature=SIGNATURE, append=True)
    else:
        with pytest.raises(FormatError, match="Zarr format 2"):
            store.obsm_writer("X_kinmer", 2, provenance={})


def in_memory(rows: NDArray[Any], ids: list[str] | None = None) -> anndata.AnnData:
    obs = pd.DataFrame(index=ids or names(0, rows.shape[0]))
    return anndata.AnnData(rows, obs=obs, var=pd.DataFrame(index=list(LAYOUT.features)))


@pytest.mark.parametrize("kind", [np.uint32, np.int64, np.float32, np.float64, "sparse"])
def test_anndata_in_memory(kind: Any) -> None:
    from scipy import sparse

    counts = some_counts(20)
    data = in_memory(sparse.csr_matrix(counts) if kind == "sparse" else counts.astype(kind))
    profiles = open_profiles(data)
    assert isinstance(profiles, AnnDataProfiles)
    assert (profiles.values, len(profiles), profiles.layout) == ("counts", 20, LAYOUT)
    assert profiles.read(3, 9).dtype == np.uint32
    np.testing.assert_array_equal(profiles.read(3, 9), counts[3:9])
    np.testing.assert_array_equal(profiles.take(np.array([7, 7, 0])), counts[[7, 7, 0]])
    assert profiles.fingerprint == hash_ids(names(0, 20))


def test_frequencies_in_memory_keep_their_kind() -> None:
    rows = np.full((3, LAYOUT.width), 0.0)
    for block in LAYOUT.blocks:
        rows[:, block.columns] = 1 / block.size
    profiles = open_profiles(in_memory(rows))
    assert profiles.values == "frequencies"
    assert profiles.read(0, 1).dtype == np.float32
    rows[2, 0] += 0.1
    with pytest.raises(ProfileError, match=r"row 3: the 3-mer frequencies sum to 1\.1"):
        open_profiles(in_memory(rows))


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_bad_values_in_memory_are_refused(value: float) -> None:
    rows = some_counts(5).astype(np.float64)
    rows[3, 5] = value
    with pytest.raises(ProfileError, match="row 4"):
        open_profiles(in_memory(rows))


def test_bad_tables_in_memory_are_refused() -> None:
    with pytest.raises(ProfileError, match="row 1: the id"):
        open_profiles(in_memory(some_counts(2), ["a\t", "b"]))
    data = in_memory(some_counts(2))
    with pytest.raises(ProfileError, match="filtered"):
        open_profiles(data[:, 1:].copy())
    with pytest.raises(ProfileError, match="sorted"):
        open_profiles(data[:, ::-1].copy())
    with pytest.raises(ProfileError, match="no rows"):
        open_profiles(data[:0].copy())
    with pytest.raises(UsageError, match="not from int"):
        open_profiles(7)


def test_info_tells_the_numbers(path: Path) -> None:
    counts = some_counts(5)
    with ProfileWriter.create(path, LAYOUT, signature=SIGNATURE) as writer:
        lengths = np.array([10, 20, 30, 40, 100])
        writer.append(names(0, 5), counts, lengths=lengths, sources=["a", "b", "a", "a", "b"])
        writer.finish({"command": "count"})
    store = ProfileStore.open(path)
    facts = info(store)
    assert (facts.rows, facts.features, facts.blocks) == (5, 44, ("3-mer", "2-mer", "1-mer"))
    assert (facts.length_total, facts.length_quantiles, facts.n50) == (200, (10, 20, 30, 40, 100), 100)
    assert facts.sources == {"a": 3, "b": 2}
    assert facts.gc_mean == pytest.approx(float(np.mean(counts[:, -1] / counts[:, -2:].sum(1))))
    on_disk = sum(os.path.getsize(file) for file in path.rglob("*") if file.is_file())  # noqa: PTH202
    assert facts.bytes_on_disk == on_disk
    assert facts.to_dict()["provenance"]["made"] == [{"command": "count"}]
    for told in ("5 × 44 counts", "median 30", "N50 100", "a (3), b (2)", store.fingerprint):
        assert told in facts.text()
    assert info(open_profiles(anndata.read_zarr(path))).length_quantiles == facts.length_quantiles


def test_profiles_pass_through(path: Path) -> None:
    store = write_store(path, some_counts(2))
    assert open_profiles(store) is store
    with pytest.raises(UsageError, match="npy table only"):
        open_profiles(path, ids="ids.txt")
