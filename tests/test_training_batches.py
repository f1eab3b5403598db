"""Batches: every row once an epoch, mixed over the whole file, the same from memory and from a stream."""

from __future__ import annotations

import threading
from pathlib import Path

import anndata
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import FormatError, ProfileError
from kinmer.profiles import Profiles, open_profiles
from kinmer.training.data import Batches, HeldRows, RowOrder, share_rows, split_rows, survey
from tests.organisms import organisms

TABLE = organisms(700)
PROFILES = open_profiles(TABLE)
HELD = HeldRows(PROFILES, np.arange(700), survey(PROFILES).dtypes)


orders = st.builds(
    lambda rows, batch, seed, group_rows, piece_rows: RowOrder(
        rows=np.array(sorted(rows)), batch=batch, seed=seed, group_rows=group_rows, piece_rows=piece_rows
    ),
    rows=st.sets(st.integers(0, 699), min_size=2, max_size=300),
    batch=st.integers(2, 200),
    seed=st.integers(0, 99),
    group_rows=st.none() | st.integers(1, 400),
    piece_rows=st.integers(1, 100),
)


@given(order=orders, epoch=st.integers(0, 5))
def test_an_epoch_is_a_permutation_and_repeatable(order: RowOrder, epoch: int) -> None:
    seen = np.concatenate(order.groups(epoch))
    assert np.array_equal(np.sort(seen), order.rows)
    assert np.array_equal(seen, np.concatenate(order.groups(epoch)))


@given(n=st.integers(2, 5000), batch=st.integers(2, 1100))
def test_batches_are_even_and_never_of_one_row(n: int, batch: int) -> None:
    order = RowOrder(rows=np.arange(n), batch=batch, seed=0)
    sizes = np.diff(order.edges)
    assert sizes.sum() == n
    assert sizes.max() - sizes.min() <= 1
    assert sizes.min() >= 2
    assert sizes.max() <= max(batch, 3)
    assert len(sizes) == order.steps


@given(order=orders, epoch=st.integers(0, 3), skip=st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_memory_and_stream_give_the_rows_of_the_order(order: RowOrder, epoch: int, skip: int) -> None:
    wanted = np.split(TABLE.X[np.concatenate(order.groups(epoch))], order.edges[1:-1])[skip:]
    sources = [HELD] if order.group_rows is None else [HELD, None]
    for held in sources:
        got = list(Batches(order, PROFILES, held).epoch(epoch, skip=skip))
        assert len(got) == len(wanted)
        for one, other in zip(got, wanted, strict=True):
            assert one.dtype == np.float32
            assert np.array_equal(one, other)


def test_epochs_differ_and_validation_stays() -> None:
    order = RowOrder(rows=np.arange(50), batch=8, seed=3)
    assert not np.array_equal(order.groups(0)[0], order.groups(1)[0])
    fixed = RowOrder(rows=np.arange(50), batch=8, seed=None, group_rows=16, piece_rows=4)
    assert np.array_equal(np.concatenate(fixed.groups(1)), np.arange(50))


def test_streamed_batches_mix_the_whole_file() -> None:
    """The file is sorted by organism: a batch read in the file's order holds one or two, a mixed one many."""
    order = RowOrder(rows=np.arange(700), batch=70, seed=0, group_rows=200, piece_rows=50)
    kinds = TABLE.obs["kind"].to_numpy()
    for rows in np.split(np.concatenate(order.groups(0)), order.edges[1:-1]):
        assert len(set(kinds[rows])) >= 5
        assert rows.max() - rows.min() > 350


@given(seed=st.integers(0, 99), group_rows=st.integers(50, 400))
def test_every_group_covers_the_file_evenly(seed: int, group_rows: int) -> None:
    order = RowOrder(rows=np.arange(700), batch=64, seed=seed, group_rows=group_rows, piece_rows=1)
    groups = order.groups(0)
    for group in groups:
        assert abs(len(group) - 700 / len(groups)) <= 1
        # The k-th smallest row of a group lies among the k-th neighbours, of which each group gets one.
        assert np.array_equal(np.sort(group) // len(groups), np.arange(len(group)))


def test_what_is_not_wanted_is_not_read_and_threads_end() -> None:
    before = threading.active_count()
    order = RowOrder(rows=np.arange(700), batch=10, seed=0, group_rows=50, piece_rows=10)
    batches = Batches(order, PROFILES).epoch(0)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_while_reading_comes_out(tmp_path: Path) -> None:
    store = tmp_path / "a.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        TABLE.write_zarr(store, chunks=(64, TABLE.n_vars))
    profiles = open_profiles(store)
    chunk = sorted(path for path in (store / "X").rglob("*") if path.is_file() and path.name != "zarr.json")[
        3
    ]
    chunk.write_bytes(chunk.read_bytes()[:20])
    order = RowOrder(rows=np.arange(700), batch=10, seed=0, group_rows=100, piece_rows=64)
    with pytest.raises(FormatError, match="damaged"):
        list(Batches(order, profiles).epoch(0))


@given(rows=st.integers(10, 3000), share=st.floats(0.01, 0.9), seed=st.integers(0, 9))
def test_the_split_parts_the_rows(rows: int, share: float, seed: int) -> None:
    training, validation = split_rows(rows, share, seed)
    assert np.array_equal(np.sort(np.concatenate([training, validation])), np.arange(rows))
    assert len(validation) == max(1, round(rows * share))
    assert np.array_equal(np.sort(validation), validation)


def test_the_split_is_shuffled_by_the_seed() -> None:
    first, other = split_rows(1000, 0.1, 0)[1], split_rows(1000, 0.1, 1)[1]
    assert not np.array_equal(first, other)
    assert np.array_equal(first, split_rows(1000, 0.1, 0)[1])
    # A tenth of every tenth, as far as chance goes: 10 expected, standard deviation 3.
    assert np.histogram(first, 10, (0, 1000))[0].max() < 22


@given(n=st.integers(64, 2000), world=st.integers(1, 4), piece=st.integers(1, 8))
def test_shares_are_even_and_never_overlap(n: int, world: int, piece: int) -> None:
    rows = np.arange(n) * 3
    shares = [share_rows(rows, rank, world, 5, piece_rows=piece) for rank in range(world)]
    assert len({len(share) for share in shares}) == 1
    joined = np.concatenate(shares)
    assert len(set(joined)) == len(joined)
    assert set(joined) <= set(rows)
    assert len(joined) >= n - world * piece


@pytest.mark.parametrize(
    ("value", "dtype"), [(200, np.uint8), (60_000, np.uint16), (70_000, np.uint32), (2**32 - 1, np.uint32)]
)
def test_blocks_are_held_in_the_smallest_type_that_loses_nothing(value: int, dtype: type) -> None:
    table = organisms(60)
    table.X[:, :32] %= 100
    table.X[7, 3] = value
    profiles = open_profiles(table)
    found = survey(profiles)
    assert found.dtypes[0] == dtype
    assert found.row_bytes == 32 * np.dtype(dtype).itemsize + sum(
        size * one.itemsize for size, one in zip((10, 2), found.dtypes[1:], strict=True)
    )
    rows = np.array([50, 7, 0])
    held = HeldRows(profiles, np.arange(60), found.dtypes)
    assert np.array_equal(held(rows), table.X[rows].astype(np.float32))


def test_the_survey_tells_constant_features_and_the_data() -> None:
    table = organisms(60)
    table.X[:, [1, 40]] = 0
    table.X[:, 5] = 17
    found = survey(open_profiles(table))
    assert found.constant == tuple(table.var_names[[1, 5, 40]])
    assert found.rows == 60
    assert survey(open_profiles(table)).fingerprint == found.fingerprint
    table.X[3, 3] += 1
    assert survey(open_profiles(table)).fingerprint != found.fingerprint
    renamed = organisms(60)
    renamed.obs_names = [f"t{i}" for i in range(60)]
    assert survey(open_profiles(renamed)).fingerprint != survey(open_profiles(organisms(60))).fingerprint


def test_frequencies_are_held_as_they_are() -> None:
    table = organisms(80, values="frequencies")
    profiles: Profiles = open_profiles(table)
    found = survey(profiles)
    assert set(found.dtypes) == {np.dtype(np.float32)}
    rows = np.array([3, 79, 3])
    assert np.array_equal(HeldRows(profiles, np.array([3, 79]), found.dtypes)(rows), table.X[rows])


def test_no_number_is_refused() -> None:
    table = organisms(80, values="frequencies")
    table.X[41, 2] = np.nan
    with pytest.raises(ProfileError):
        survey(open_profiles(table))
