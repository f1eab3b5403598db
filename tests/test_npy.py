"""The old .npy + ids pair: there and back, and every way in which such a pair is wrong."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kinmer.errors import FormatError, ProfileError, UsageError
from kinmer.layout import Layout, kmer_layout
from kinmer.npy import export_profiles, import_profiles
from kinmer.profiles import NpyProfiles, ProfileStore, ProfileWriter, open_profiles

IDS = ["contig 1|x", "ü", "c.3", "日本", "e"]


def frequencies(rows: int, layout: Layout, seed: int = 0) -> NDArray[np.float32]:
    """Rows of counts, every block divided by its sum, in the order that SPEC gives for the files."""
    counts = np.random.default_rng(seed).poisson(2, (rows, layout.width)).astype(np.float64)
    for block in layout.blocks:
        counts[:, block.columns] /= counts[:, block.columns].sum(axis=1, keepdims=True)
    return counts.astype(np.float32)


def pair(folder: Path, table: NDArray[Any], ids: list[str], *, name: str = "k.npy") -> tuple[Path, Path]:
    np.save(folder / name, table)
    (folder / "ids.txt").write_text("".join(f"{one}\n" for one in ids))
    return folder / name, folder / "ids.txt"


def new_table(rows: int = 5) -> NDArray[np.float32]:
    lengths = np.arange(rows, dtype=np.float32)[:, None] * 1000 + 5000
    return np.hstack([lengths, frequencies(rows, kmer_layout(6))])


def old_table(rows: int = 5) -> NDArray[np.float32]:
    return np.hstack([np.arange(rows, dtype=np.float32)[:, None], frequencies(rows, kmer_layout(7))])


def test_columns_are_where_the_format_says(tmp_path: Path) -> None:
    new, old = new_table(), old_table()
    profiles = NpyProfiles(*pair(tmp_path, new, IDS))
    # Column numbers as the format's description gives them, counted from 0 in the file.
    for k, first, last in (
        (6, 1, 2080),
        (5, 2081, 2592),
        (4, 2593, 2728),
        (3, 2729, 2760),
        (2, 2761, 2770),
        (1, 2771, 2772),
    ):
        block = next(block for block in profiles.layout.blocks if block.k == k)
        np.testing.assert_array_equal(profiles.read(0, 5)[:, block.columns], new[:, first : last + 1])
    assert list(profiles.obs["length"]) == [5000, 6000, 7000, 8000, 9000]
    np.testing.assert_allclose(profiles.obs["gc"], new[:, 2772], atol=1e-6)
    assert list(profiles.ids) == IDS
    np.testing.assert_array_equal(profiles.take(np.array([3, 0, 3])), new[[3, 0, 3], 1:])

    profiles = NpyProfiles(*pair(tmp_path, old, IDS))
    for k, first, last in (
        (7, 1, 8192),
        (6, 8193, 10272),
        (5, 10273, 10784),
        (4, 10785, 10920),
        (1, 10963, 10964),
    ):
        block = next(block for block in profiles.layout.blocks if block.k == k)
        np.testing.assert_array_equal(profiles.read(0, 5)[:, block.columns], old[:, first : last + 1])
    assert "length" not in profiles.obs


def test_import_gives_a_store_and_export_gives_the_table_back(tmp_path: Path) -> None:
    table = new_table()
    store = import_profiles(*pair(tmp_path, table, IDS), tmp_path / "a.zarr")
    assert (store.values, store.layout) == ("frequencies", kmer_layout(6))
    data = anndata.read_zarr(tmp_path / "a.zarr")
    np.testing.assert_array_equal(data.X, table[:, 1:])
    assert list(data.obs.columns) == ["length", "gc", "source"]
    assert list(data.obs["length"]) == list(table[:, 0])
    assert data.obs["source"].astype(str).unique().tolist() == ["k.npy"]
    assert export_profiles(tmp_path / "a.zarr", tmp_path / "b.npy", tmp_path / "b.txt") == 5
    back = np.load(tmp_path / "b.npy", allow_pickle=False)
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, table, rtol=1e-6)
    assert (tmp_path / "b.txt").read_text().splitlines() == IDS
    assert NpyProfiles(tmp_path / "b.npy").fingerprint == store.fingerprint


@pytest.mark.parametrize("max_k", [None, 7, 6, 3])
def test_import_of_the_older_table(tmp_path: Path, max_k: int | None) -> None:
    table = old_table()
    store = import_profiles(*pair(tmp_path, table, IDS), tmp_path / "a.zarr", max_k=max_k)
    assert store.layout == kmer_layout(max_k or 7)
    np.testing.assert_array_equal(store.read(0, 5), table[:, -store.layout.width :])
    assert list(store.obs.columns) == ["gc", "source"]
    with pytest.raises(ProfileError, match="no 6-mers" if max_k == 3 else "lengths are not known"):
        export_profiles(store, tmp_path / "b.npy", tmp_path / "b.txt")
    assert not list(tmp_path.glob("*b.*"))


@pytest.mark.parametrize("max_k", [6, 7])
def test_export_of_counts_gives_frequencies(tmp_path: Path, max_k: int) -> None:
    layout = kmer_layout(max_k)
    counts = np.random.default_rng(1).poisson(3, (4, layout.width)).astype(np.uint32)
    counts[2] = 0
    with ProfileWriter.create(tmp_path / "a.zarr", layout, signature={}) as writer:
        writer.append(IDS[:4], counts, lengths=np.array([7, 8, 9, 10]), sources="a.fna")
        writer.finish({})
    export_profiles(tmp_path / "a.zarr", tmp_path / "b.npy", tmp_path / "b.txt")
    table = np.load(tmp_path / "b.npy", allow_pickle=False)
    assert list(table[:, 0]) == [7, 8, 9, 10]
    narrow = counts[:, -2772:].astype(np.float64)
    for block in kmer_layout(6).blocks:
        part = narrow[:, block.columns]
        expected = part / np.maximum(part.sum(axis=1, keepdims=True), 1)
        np.testing.assert_allclose(table[:, 1:][:, block.columns], expected, rtol=1e-6)
    assert not table[2, 1:].any()


@pytest.mark.parametrize("ending", [".txt", ".ids", ".ids.txt", "_ids.txt"])
def test_ids_beside_the_table_are_found(tmp_path: Path, ending: str) -> None:
    table, ids = pair(tmp_path, new_table(), IDS, name="k.all.npy")
    with pytest.raises(ProfileError, match="--ids"):
        open_profiles(table)
    ids.rename(tmp_path / f"k.all{ending}")
    assert list(open_profiles(table).ids) == IDS


def spoil(row: int, column: int, value: float) -> Callable[[NDArray[np.float32]], NDArray[Any]]:
    def spoiled(table: NDArray[np.float32]) -> NDArray[Any]:
        table[row, column] = value
        return table

    return spoiled


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (spoil(3, 17, np.nan), "row 4: a value that is not a finite number"),
        (spoil(0, 2772, np.inf), "row 1: a value that is not a finite number"),
        (spoil(4, 1, -0.001), "row 5: a negative frequency"),
        (spoil(2, 2600, 0.5), r"row 3: the 4-mer frequencies sum to 1\.\d+, not to 1"),
        (spoil(1, 0, 0.5), r"row 2: column 0 holds 0\.5, which is not a sequence length"),
        (spoil(1, 0, np.nan), "row 2: column 0 holds nan"),
        (lambda table: table[:, 1:], "2,772 columns"),
        (lambda table: table[0], "not a table of rows"),
        (lambda table: table.astype(np.int32), "int32"),
        (lambda table: table[:0], "no rows"),
        (lambda table: table.astype(object), "not an .npy table"),
    ],
)
def test_wrong_tables_are_told_with_their_row(
    tmp_path: Path, change: Callable[[NDArray[np.float32]], NDArray[Any]], message: str
) -> None:
    files = pair(tmp_path, change(new_table()), IDS)
    with pytest.raises(ProfileError, match=message):
        import_profiles(*files, tmp_path / "a.zarr")
    assert sorted(child.name for child in tmp_path.iterdir()) == ["ids.txt", "k.npy"]


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (IDS[:4], "4 ids for the 5 rows"),
        ([*IDS, "f"], "6 ids for the 5 rows"),
        ([*IDS[:4], "ü"], r"line 5: the id 'ü' occurs twice \(first in line 2\)"),
        ([*IDS[:4], ""], "line 5: the id '' cannot be used"),
    ],
)
def test_wrong_ids_are_told_with_their_line(tmp_path: Path, ids: list[str], message: str) -> None:
    with pytest.raises(ProfileError, match=message):
        open_profiles(pair(tmp_path, new_table(), ids)[0], ids=tmp_path / "ids.txt")


def test_wrong_files_are_told(tmp_path: Path) -> None:
    table, ids = pair(tmp_path, new_table(), IDS)
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ProfileError, match="cut off"):
        open_profiles(table, ids=ids)
    table.write_bytes(b"")
    with pytest.raises(ProfileError, match=r"not an \.npy table"):
        open_profiles(table, ids=ids)
    with pytest.raises(ProfileError, match="no such file"):
        open_profiles(tmp_path / "none.npy")
    table.write_bytes(whole)
    with pytest.raises(ProfileError, match="cannot be read"):
        open_profiles(table, ids=tmp_path / "none.txt")
    ids.write_bytes(b"\xff\xfe\n" * 5)
    with pytest.raises(ProfileError, match="UTF-8"):
        open_profiles(table, ids=ids)
    ids.write_bytes("\r\n".join(IDS).encode())
    assert list(open_profiles(table, ids=ids).ids) == IDS


def test_outputs_that_exist_are_kept(tmp_path: Path) -> None:
    files = pair(tmp_path, new_table(), IDS)
    import_profiles(*files, tmp_path / "a.zarr")
    with pytest.raises(UsageError, match="exists already"):
        import_profiles(*files, tmp_path / "a.zarr")
    import_profiles(*files, tmp_path / "a.zarr", force=True)
    with pytest.raises(UsageError, match="exists already"):
        export_profiles(tmp_path / "a.zarr", tmp_path / "b.npy", files[1])
    with pytest.raises(UsageError, match="one file"):
        export_profiles(tmp_path / "a.zarr", tmp_path / "b.npy", tmp_path / "b.npy")
    with pytest.raises(FormatError, match="no such store"):
        export_profiles(tmp_path / "none.zarr", tmp_path / "b.npy", tmp_path / "b.txt")
    assert not list(tmp_path.glob("*b.*"))


@given(rows=st.integers(1, 40), first=st.integers(1, 40))
@settings(max_examples=10, deadline=None)
def test_a_killed_import_goes_on_to_the_same_store(
    tmp_path_factory: pytest.TempPathFactory, rows: int, first: int
) -> None:
    folder = tmp_path_factory.mktemp("import")
    table = new_table(rows)
    files = pair(folder, table, [f"s{row}" for row in range(rows)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kinmer.npy.BLOCK_ROWS", first)
        patch.setattr(ProfileWriter, "finish", interrupt)
        with pytest.raises(KeyboardInterrupt):
            import_profiles(*files, folder / "a.zarr")
    assert not (folder / "a.zarr").exists()
    store = import_profiles(*files, folder / "a.zarr")
    np.testing.assert_array_equal(store.read(0, rows), table[:, 1:])
    assert list(store.ids) == [f"s{row}" for row in range(rows)]
    assert isinstance(store, ProfileStore)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_memory_does_not_grow_with_the_table(tmp_path: Path) -> None:
    def peak(rows: int) -> int:
        files = pair(tmp_path, np.repeat(new_table(), rows // 5, axis=0), [f"s{row}" for row in range(rows)])
        tracemalloc.start()
        import_profiles(*files, tmp_path / f"{rows}.zarr")
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    small, large = peak(8_000), peak(24_000)
    assert large < 1.3 * small
