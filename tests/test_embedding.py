"""Embedding: every place holds the encoder's own vectors, and a killed run ends with the same ones."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import torch

from kinmer.clr import Clr
from kinmer.counting import count
from kinmer.embedding import KEY, embed
from kinmer.encoder import Encoder
from kinmer.errors import MismatchError, ProfileError, UsageError
from kinmer.profiles import ProfileStore, ProfileWriter, open_profiles
from tests.organisms import encoder_of, organisms

TABLE = organisms(1500)
ENCODER = encoder_of()
VECTORS = ENCODER.embed(TABLE.X)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """The same sums in the same order as the child processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """The table as AnnData writes it."""
    path = tmp_path / "a.zarr"
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        TABLE.write_zarr(path, chunks=(64, TABLE.n_vars))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ENCODER.save(tmp_path / "encoder")
    return tmp_path / "encoder"


@pytest.mark.parametrize("batch", [1, 7, 100, 4096])
def test_an_anndata_gets_its_vectors_in_place(batch: int) -> None:
    table = TABLE[:300].copy()
    table.uns["kinmer"] = {"kept": 1}
    embedded: Any = embed(table, ENCODER, batch=batch)
    assert embedded is table
    assert table.obsm[KEY].dtype == np.float32
    assert np.array_equal(table.obsm[KEY], VECTORS[:300])
    assert table.uns["kinmer"]["kept"] == 1
    made = json.loads(table.uns["kinmer"]["embedding"])[KEY]
    assert made["encoder_fingerprint"] == ENCODER.fingerprint


def test_a_store_keeps_its_vectors(store: Path, folder: Path) -> None:
    embedded = embed(store, folder, batch=100)
    assert isinstance(embedded, ProfileStore)
    assert np.array_equal(ProfileStore.open(store).read_obsm(KEY), VECTORS)
    assert np.array_equal(anndata.read_zarr(store).obsm[KEY], VECTORS)
    made = embedded.embedding(KEY)
    assert made == {"encoder_fingerprint": ENCODER.fingerprint, "encoder": str(folder), "dim": 8}
    # Again: there is nothing to do.
    before = (store / "zarr.json").stat().st_mtime_ns
    embed(store, folder)
    assert (store / "zarr.json").stat().st_mtime_ns == before


def test_another_encoders_vectors_are_replaced_by_force_only(store: Path) -> None:
    embed(store, ENCODER)
    other = encoder_of(seed=5, dim=4)
    with pytest.raises(UsageError, match="another encoder"):
        embed(store, other)
    assert np.array_equal(ProfileStore.open(store).read_obsm(KEY), VECTORS)
    embed(store, other, force=True)
    assert np.array_equal(ProfileStore.open(store).read_obsm(KEY), other.embed(TABLE.X))


def test_a_table_and_its_ids(store: Path, folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "vectors.npy"
    assert embed(store, folder, output=path, batch=64) == path
    assert np.array_equal(np.load(path, allow_pickle=False), VECTORS)
    assert (tmp_path / "vectors.txt").read_text().splitlines() == list(TABLE.obs_names)
    assert not [one.name for one in tmp_path.iterdir() if one.name.startswith(".")]
    with pytest.raises(UsageError, match="exists"):
        embed(store, folder, output=path)
    other = encoder_of(seed=5)
    embed(TABLE, other, output=path, force=True)
    assert np.array_equal(np.load(path), other.embed(TABLE.X))
    assert ProfileStore.open(store).obsm_keys() == []


def test_frequencies(tmp_path: Path) -> None:
    table = organisms(200, values="frequencies")
    embed(table, ENCODER)
    np.testing.assert_allclose(table.obsm[KEY], ENCODER.embed(organisms(200).X), atol=1e-5)
    with pytest.raises(ProfileError, match="counts"):
        embed(table, encoder_of(clr=Clr(pseudocount="counts")))


def test_the_old_table_of_profiles(tmp_path: Path) -> None:
    """2,773 columns: the length, then frequencies; it has no place for vectors of its own."""
    encoder = encoder_of(max_k=6)
    counts = organisms(40, max_k=6, kinds=3)
    rows = organisms(40, max_k=6, kinds=3, values="frequencies").X
    np.save(tmp_path / "k.npy", np.column_stack([counts.obs["length"], rows]).astype(np.float32))
    (tmp_path / "k.txt").write_text("".join(f"{one}\n" for one in counts.obs_names))
    embed(tmp_path / "k.npy", encoder, output=tmp_path / "v.npy", ids=tmp_path / "k.txt")
    np.testing.assert_allclose(np.load(tmp_path / "v.npy"), encoder.embed(counts.X), atol=1e-4)
    with pytest.raises(UsageError, match="no output"):
        embed(tmp_path / "k.npy", encoder)


def test_a_store_of_our_own_writing(tmp_path: Path) -> None:
    path = tmp_path / "own.zarr"
    with ProfileWriter.create(path, encoder_of().layout, signature={}) as writer:
        lengths = TABLE.obs["length"].to_numpy()
        writer.append(list(TABLE.obs_names), TABLE.X, lengths=lengths, sources="a.fna")
        writer.finish({})
    embed(path, ENCODER)
    assert np.array_equal(ProfileStore.open(path).read_obsm(KEY), VECTORS)


def test_what_does_not_fit(store: Path, tmp_path: Path) -> None:
    with pytest.raises(MismatchError, match=r"the encoder takes 4-mer, .* have 3-mer"):
        embed(store, encoder_of(max_k=4))
    with pytest.raises(UsageError, match="batch"):
        embed(store, ENCODER, batch=0)
    with pytest.raises(UsageError, match=r"\.npy"):
        embed(store, ENCODER, output=tmp_path / "vectors.tsv")
    with pytest.raises(UsageError, match="does not exist"):
        embed(store, ENCODER, output=tmp_path / "no" / "v.npy")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zarr"]


CHILD = """
import sys, time
from kinmer.encoder import Encoder
import kinmer.embedding
from kinmer.embedding import embed
from kinmer.profiles import ProfileStore
# Every block is committed, not one a second.
kinmer.embedding.COMMIT_SECONDS = ProfileStore.obsm_writer.__kwdefaults__["commit_seconds"] = 0.0
whole = Encoder.embed
def slowly(self, profiles, values="counts"):
    print(len(profiles), flush=True)
    time.sleep(0.05)
    return whole(self, profiles, values)
Encoder.embed = slowly
embed({source!r}, {encoder!r}, output={output!r}, batch=64, threads=1)
"""


def rows_embedded(source: Path, encoder: Path, output: Path | None, *, kill_after: int | None) -> int:
    """Rows that a child process embedded before it ended, or was killed after so many blocks."""
    code = CHILD.format(source=str(source), encoder=str(encoder), output=output and str(output))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    rows = blocks = 0
    with process, process.stdout as lines:  # type: ignore[union-attr]
        for line in lines:
            rows, blocks = rows + int(line), blocks + 1
            if blocks == kill_after:
                time.sleep(0.02)
                process.send_signal(signal.SIGKILL)
    assert process.returncode == (0 if kill_after is None else -signal.SIGKILL)
    return rows


@pytest.mark.parametrize("into", ["store", "table"])
def test_killed_and_called_again_it_goes_on(into: str, store: Path, folder: Path, tmp_path: Path) -> None:
    output = tmp_path / "v.npy" if into == "table" else None
    rows_embedded(store, folder, output, kill_after=9)
    assert not (tmp_path / "v.npy").exists()
    assert ProfileStore.open(store).obsm_keys() == []
    again = rows_embedded(store, folder, output, kill_after=5)
    assert again >= 4 * 64
    last = rows_embedded(store, folder, output, kill_after=None)
    # What the killed runs had committed was not done again.
    assert last < len(TABLE) - 8 * 64
    if output is None:
        assert np.array_equal(ProfileStore.open(store).read_obsm(KEY), VECTORS)
    else:
        assert np.array_equal(np.load(output), VECTORS)
        assert (tmp_path / "v.txt").read_text().splitlines() == list(TABLE.obs_names)
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_a_killed_run_of_another_encoder_is_not_gone_on_with(
    store: Path, folder: Path, tmp_path: Path
) -> None:
    rows_embedded(store, folder, tmp_path / "v.npy", kill_after=9)
    other = encoder_of(seed=5)
    other.save(tmp_path / "other")
    embed(store, tmp_path / "other", output=tmp_path / "v.npy")
    assert np.array_equal(np.load(tmp_path / "v.npy"), other.embed(TABLE.X))


def fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} text\n{sequence}\n" for name, sequence in sequences.items()))
    return path


@pytest.fixture
def sequences() -> dict[str, str]:
    rng = np.random.default_rng(0)
    lengths = rng.integers(50, 3000, 30)
    return {f"c{i}": "".join(rng.choice(list("ACGT"), length)) for i, length in enumerate(lengths)}


@pytest.mark.parametrize("suffix", [".npy", ".zarr"])
def test_sequences(suffix: str, sequences: dict[str, str], folder: Path, tmp_path: Path) -> None:
    source = fasta(tmp_path / "a.fna", sequences)
    output = tmp_path / f"v{suffix}"
    embed(source, folder, output=output, min_length=500)
    counted = open_profiles(count([source], None, max_k=3, min_length=500))
    wanted = ENCODER.embed(counted.read(0, len(counted)))
    long = [name for name, sequence in sequences.items() if len(sequence) >= 500]
    if suffix == ".npy":
        assert np.array_equal(np.load(output), wanted)
        assert (tmp_path / "v.txt").read_text().splitlines() == long
    else:
        assert np.array_equal(ProfileStore.open(output).read_obsm(KEY), wanted)
        assert list(ProfileStore.open(output).ids) == long
    assert not [one for one in tmp_path.iterdir() if one.name.startswith(".")]


def test_sequences_need_a_place(sequences: dict[str, str], folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no output"):
        embed(fasta(tmp_path / "a.fna", sequences), folder)


def test_the_encoder_as_it_is_and_from_its_folder(folder: Path) -> None:
    one, two = TABLE[:9].copy(), TABLE[:9].copy()
    embed(one, ENCODER)
    embed(two, folder)
    assert np.array_equal(one.obsm[KEY], two.obsm[KEY])
    rough = Encoder(ENCODER.network, ENCODER.layout, ENCODER.clr, precision="bf16")
    embed(two, rough)
    assert not np.array_equal(one.obsm[KEY], two.obsm[KEY])
