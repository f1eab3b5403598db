"""AnnData on disk in every form that AnnData writes, what others change in a store, and hostile arrays."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pytest
import zarr
from numcodecs import zstd
from numpy.typing import NDArray
from scipy import sparse

from kinmer import embed
from kinmer.cli import run
from kinmer.errors import FormatError, KinmerError, ProfileError, UsageError
from kinmer.files import write_json
from kinmer.inputs import read_json
from kinmer.layout import kmer_layout
from kinmer.profiles import (
    H5adProfiles,
    Profiles,
    ProfileStore,
    ProfileWriter,
    StoredProfiles,
    info,
    open_profiles,
    stamp_of,
)
from kinmer.vectors import open_embedded

LAYOUT = kmer_layout(6)
ROWS = 40
FORMS = ("zarr 2", "zarr 2, not consolidated", "zarr 3", "zarr 3, shards", "h5ad")


def some_counts(rows: int = ROWS) -> NDArray[np.uint32]:
    counts = np.random.default_rng(rows).poisson(0.3, (rows, LAYOUT.width)).astype(np.uint32)
    counts[:, -2:] = 700
    return counts


def write_store(path: Path, rows: int = ROWS) -> ProfileStore:
    with ProfileWriter.create(path, LAYOUT, signature={}) as writer:
        ids = [f"contig {row}|ü" for row in range(rows)]
        writer.append(ids, some_counts(rows), lengths=1400 + np.arange(rows), sources="a.fna")
        writer.finish({"command": "test"})
    return ProfileStore.open(path)


def write_anndata(data: anndata.AnnData, folder: Path, form: str) -> Path:
    path = folder / ("other.h5ad" if form == "h5ad" else "other.zarr")
    version = 2 if form.startswith("zarr 2") else 3
    shards = form.endswith("shards")
    with (
        warnings.catch_warnings(),
        anndata.settings.override(zarr_write_format=version, auto_shard_zarr_v3=shards),
    ):
        warnings.simplefilter("ignore")
        if form == "h5ad":
            data.write_h5ad(path)
        else:
            data.write_zarr(path)
    if form.endswith("consolidated"):
        (path / ".zmetadata").unlink()
    return path


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with embeddings by an encoder that comes with kinmer."""
    path = tmp_path_factory.mktemp("embedded") / "some.zarr"
    write_store(path)
    embed(path, "kin-1-kmers", threads=1)
    return path


def unchanged(embedded: Path, folder: Path, form: str) -> Path:
    """The store as AnnData writes it in this form, written once."""
    kept = embedded.parent / form
    if not kept.exists():
        kept.mkdir()
        write_anndata(anndata.read_zarr(embedded), kept, form)
    shutil.copytree(kept, folder, dirs_exist_ok=True)
    return folder / next(kept.iterdir()).name


@pytest.mark.parametrize("kind", ["counts", "floats"])
@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_anndata_is_a_store_for_reading(
    embedded: Path, tmp_path: Path, form: str, kind: str
) -> None:
    ours = ProfileStore.open(embedded)
    data = anndata.read_zarr(embedded)
    data.obs["habitat"] = ["soil", "sea"] * (ROWS // 2)
    if kind == "floats":
        data.X = data.X.astype(np.float32)  # As most tools leave counts.
    path = write_anndata(data, tmp_path, form)
    store = open_profiles(path)
    assert isinstance(store, Profiles)
    assert isinstance(store, StoredProfiles)
    assert (store.values, store.layout, len(store)) == ("counts", LAYOUT, ROWS)
    np.testing.assert_array_equal(store.read(0, ROWS), some_counts())
    np.testing.assert_array_equal(store.take(np.array([7, 0])), some_counts()[[7, 0]])
    assert store.ids.tolist() == ours.ids.tolist()
    assert store.fingerprint == ours.fingerprint
    assert list(store.obs["habitat"]) == ["soil", "sea"] * (ROWS // 2)
    assert list(store.obs["length"]) == list(ours.obs["length"])
    np.testing.assert_array_equal(store.read_obsm("X_kinmer", 3, 9), ours.read_obsm("X_kinmer", 3, 9))
    assert store.embedding("X_kinmer") == ours.embedding("X_kinmer")
    assert "X_kinmer" in info(store).text()
    held = open_embedded(path)
    np.testing.assert_array_equal(held.read(0, ROWS), ours.read_obsm("X_kinmer"))
    assert held.identity == open_embedded(path).identity
    before = stamp_of(path)
    os.utime(path / ".zgroup" if (path / ".zgroup").exists() else path, ns=(1, 2**61))
    if path.suffix == ".h5ad" or (path / ".zgroup").exists():
        assert stamp_of(path) != before


@pytest.mark.parametrize("form", ["zarr 2", "h5ad"])
def test_commands_take_anndata_as_anndata_writes_it(
    embedded: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = unchanged(embedded, tmp_path, form)
    db, vectors = tmp_path / "some.db", tmp_path / "vectors.npy"
    assert run(["info", str(path)]) == 0
    assert run(["embed", str(path), "--encoder", "kin-1-kmers", "-o", str(vectors)]) == 0
    ours = ProfileStore.open(embedded).read_obsm("X_kinmer")
    np.testing.assert_allclose(np.load(vectors), ours, atol=1e-6)
    assert run(["index", str(path), "-o", str(db), "--no-calibrate"]) == 0
    capsys.readouterr()
    assert run(["search", str(path), "--db", str(db), "-k", "1", "--format", "tsv"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()[1:]]
    assert [line[0] for line in lines] == [line[2] for line in lines]
    assert len(lines) == ROWS


@pytest.mark.parametrize("form", ["zarr 2", "h5ad"])
def test_what_cannot_be_written_into_is_said(embedded: Path, tmp_path: Path, form: str) -> None:
    data = anndata.read_zarr(embedded)
    del data.obsm["X_kinmer"]
    path = write_anndata(data, tmp_path, form)
    with pytest.raises((FormatError, UsageError), match=r"Zarr format 2.*-o|keep their embeddings"):
        embed(path, "kin-1-kmers", threads=1)


def test_an_embedding_of_unknown_origin_is_not_called_another_encoders(
    embedded: Path, tmp_path: Path
) -> None:
    data = anndata.read_zarr(embedded)
    del data.uns["kinmer"]
    path = write_anndata(data, tmp_path, "zarr 2")
    with pytest.raises(UsageError, match="nothing says which encoder"):
        embed(path, "kin-1-kmers", threads=1)


@pytest.mark.parametrize("form", ["zarr 2", "zarr 3", "h5ad", "memory"])
def test_a_sparse_matrix_beside_the_profiles_is_refused_by_name(
    embedded: Path, tmp_path: Path, form: str
) -> None:
    data = anndata.read_zarr(embedded)
    data.obsm["X_kinmer"] = sparse.csr_matrix(data.obsm["X_kinmer"])
    source: Any = data if form == "memory" else write_anndata(data, tmp_path, form)
    profiles = open_profiles(source)
    np.testing.assert_array_equal(profiles.read(0, ROWS), some_counts())
    info(profiles)
    with pytest.raises(FormatError, match="obsm/X_kinmer is sparse"):
        open_embedded(source)


def test_counts_among_floats_that_cease_to_be_whole_are_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "some.zarr", 600)
    data = anndata.read_zarr(tmp_path / "some.zarr")
    data.X = data.X.astype(np.float32)
    data.X[555, 7] = 0.5
    path = write_anndata(data, tmp_path, "zarr 2")
    with pytest.raises(ProfileError, match=r"row 556: a value that is not a whole number"):
        open_profiles(path).read(0, 600)


def test_twice_the_same_id_in_a_file_of_anndata(embedded: Path, tmp_path: Path) -> None:
    data = anndata.read_zarr(embedded)
    data.obs_names = ["a"] * ROWS
    path = write_anndata(data, tmp_path, "zarr 2")
    with pytest.raises(ProfileError, match="occurs twice"):
        _ = open_profiles(path).ids


# What others do to a store.


def others(path: Path) -> zarr.Group:
    return zarr.open_group(str(path), mode="r+", use_consolidated=False)


def write_elem(group: Any, name: str, values: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        anndata.io.write_elem(group, name, values)


def consolidate(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(path))


def test_what_others_add_is_read_and_the_rest_still_checked(embedded: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    shutil.copytree(embedded, path)
    group = others(path)
    more = np.zeros((ROWS, 2), np.float32)
    write_elem(group["obsm"], "X_pca", more)
    consolidate(path)
    store = ProfileStore.open(path)
    assert store.obsm_keys() == ["X_kinmer", "X_pca"]
    np.testing.assert_array_equal(store.read_obsm("X_pca"), more)
    np.testing.assert_array_equal(store.read(0, ROWS), some_counts())
    assert store.checksums == "all"
    # Zeros that Zarr leaves out are zeros where others wrote them.
    array = others(path).create_array("obsm/X_zero", shape=(ROWS, 2), chunks=(ROWS, 2), dtype="float32")
    array.attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    consolidate(path)
    assert not ProfileStore.open(path).read_obsm("X_zero").any()
    del others(path)["obsm/X_kinmer"]
    consolidate(path)
    assert ProfileStore.open(path).obsm_keys() == ["X_pca", "X_zero"]
    (path / "X/c/0/0").unlink()
    with pytest.raises(FormatError, match="missing"):
        ProfileStore.open(path).read(0, 1)


def test_a_matrix_that_others_wrote_again_is_theirs(embedded: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    shutil.copytree(embedded, path)
    theirs = np.ones((ROWS, 5), np.float32)
    del others(path)["obsm/X_kinmer"]
    write_elem(others(path)["obsm"], "X_kinmer", theirs)
    consolidate(path)
    np.testing.assert_array_equal(ProfileStore.open(path).read_obsm("X_kinmer"), theirs)


def test_profiles_that_others_wrote_again_are_read_as_any_anndata(embedded: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    shutil.copytree(embedded, path)
    doubled = 2 * some_counts()
    del others(path)["X"]
    write_elem(others(path), "X", doubled)
    consolidate(path)
    np.testing.assert_array_equal(ProfileStore.open(path).read(0, ROWS), doubled)
    with pytest.raises(FormatError, match="cannot be appended"):
        ProfileWriter.create(path, LAYOUT, signature={}, append=True)
    del others(path)["X"]
    write_elem(others(path), "X", np.log1p(doubled))
    consolidate(path)
    with pytest.raises(ProfileError, match="frequencies"):
        ProfileStore.open(path).read(0, ROWS)


def test_numbers_that_others_wrote_into_a_chunk_are_said_to_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    write_store(path, 600)
    for row, rows in ((3, (0, 512)), (555, (512, 600))):
        array = others(path)["X"]
        assert isinstance(array, zarr.Array)
        array[row, 0] = 77
        store = ProfileStore.open(path)
        with pytest.raises(FormatError, match="changed by other software"):
            store.read(*rows)


def test_chunks_of_another_store_of_the_same_shape_are_noticed(tmp_path: Path) -> None:
    one, other = tmp_path / "one.zarr", tmp_path / "other.zarr"
    write_store(one, 600)
    with ProfileWriter.create(other, LAYOUT, signature={}) as writer:
        ids = [f"other {row}" for row in range(600)]
        writer.append(ids, some_counts(600)[::-1], lengths=np.arange(600), sources="b.fna")
        writer.finish({})
    for name in ("X/c/0/0", "X/c/1/0", "obs/_index/c/0", "obs/length/c/0", "obs/source/categories/c/0"):
        kept = (one / name).read_bytes()
        (one / name).write_bytes((other / name).read_bytes())
        store = ProfileStore.open(one)
        with pytest.raises(FormatError):
            (store.read(0, 600), store.obs)
        (one / name).write_bytes(kept)
    assert len(ProfileStore.open(one).obs) == 600


def test_an_append_keeps_the_checksums_of_the_old_rows_and_does_not_bless_damage(tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    write_store(path, 1100)
    before = read_json(path / "zarr.json")["attributes"]["kinmer"]["checksums"]["X"]["chunks"]
    whole = {name: (path / name).read_bytes() for name in ("X/c/0/0", "X/c/1/0", "X/c/2/0")}
    (path / "X/c/0/0").write_bytes(whole["X/c/1/0"])
    (path / "X/c/1/0").write_bytes(whole["X/c/0/0"])
    with ProfileWriter.create(path, LAYOUT, signature={}, append=True) as writer:
        writer.append(["new"], some_counts(1), lengths=np.array([5]), sources="b.fna")
        writer.finish({})
    after = read_json(path / "zarr.json")["attributes"]["kinmer"]["checksums"]["X"]["chunks"]
    assert after == before
    store = ProfileStore.open(path)
    np.testing.assert_array_equal(
        store.read(1024, 1101), np.concatenate([some_counts(1100)[1024:], some_counts(1)])
    )
    with pytest.raises(FormatError, match="not the one that kinmer wrote"):
        store.read(0, 1)
    for name in whole:
        (path / name).write_bytes(whole["X/c/1/0"])
    with pytest.raises(FormatError):
        ProfileWriter.create(path, LAYOUT, signature={}, append=True)


def test_ids_damaged_are_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    write_store(path, 50)
    file = path / "obs/_index/c/0"
    data = bytearray(file.read_bytes())
    data[20] ^= 1
    file.write_bytes(data)
    with pytest.raises(FormatError, match="obs/_index"):
        ProfileWriter.create(path, LAYOUT, signature={}, append=True)


def test_a_store_of_kinmer_0_1_0_opens_grows_and_says_what_it_lacks(tmp_path: Path) -> None:
    path, layout = tmp_path / "old.zarr", kmer_layout(3)
    shutil.unpack_archive(Path(__file__).parent / "data/store-0.1.0.zip", path)
    counts = np.random.default_rng(0).integers(0, 9, (9, layout.width), dtype=np.uint32)
    store = ProfileStore.open(path)
    assert (store.checksums, store.layout, store.values) == ("none", layout, "counts")
    np.testing.assert_array_equal(store.read(0, 9), counts)
    assert store.ids.tolist() == [f"contig {row}|ü" for row in range(9)]
    assert store.obs["source"].tolist() == ["a.fna", "b.fna", "c.fna"] * 3
    np.testing.assert_array_equal(store.read_obsm("X_kinmer"), np.arange(27, dtype=np.float32).reshape(9, 3))
    assert store.embedding("X_kinmer") == {"encoder": "e"}
    assert "checksums    none" in info(store).text()
    with store.obsm_writer("X_more", 2, provenance={"a": 1}) as writer:
        writer.append(np.ones((9, 2), np.float32))
        writer.finish()
    store = ProfileStore.open(path)
    assert (store.checksums, store.obsm_keys()) == ("none", ["X_kinmer", "X_more"])
    np.testing.assert_array_equal(store.read(2, 9), counts[2:])
    with ProfileWriter.create(path, layout, signature={}, append=True) as more:
        more.append(["new"], counts[:1], lengths=np.array([5]), sources="a.fna")
        more.finish({})
    store = ProfileStore.open(path)
    np.testing.assert_array_equal(store.read(0, 10), np.concatenate([counts, counts[:1]]))
    # The fingerprint of the ids is compared even there.
    array = others(path)["obs/_index"]
    assert isinstance(array, zarr.Array)
    array[3] = "another"
    with pytest.raises(FormatError, match=r"obs/_index|fingerprint"):
        _ = ProfileStore.open(path).ids


# Hostile arrays.


@contextmanager
def little_memory(more: int = 1 << 30) -> Iterator[None]:
    """No more address space than `more` bytes beyond what the process has; a MemoryError is an error."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * os.sysconf("SC_PAGE_SIZE") + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def read_all(path: Path) -> None:
    profiles = open_profiles(path)
    profiles.read(0, 3)
    _ = (profiles.ids, profiles.obs)
    assert isinstance(profiles, StoredProfiles)
    profiles.read_obsm("X_kinmer")


def refused(path: Path, match: str) -> None:
    with little_memory(), pytest.raises(KinmerError, match=match) as raised:
        read_all(path)
    assert raised.value.exit_code == 2
    assert "MemoryError" not in str(raised.value)
    assert "\n" not in str(raised.value)


class Payload:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def changed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a JSON file."""
    document = read_json(path)
    change(document)
    write_json(path, document)


ARRAYS = ("X", "obs/_index", "obs/length", "obsm/X_kinmer", "var/_index")


@pytest.mark.parametrize("where", ["compressor", "filters"])
@pytest.mark.parametrize("name", ARRAYS)
@pytest.mark.parametrize("form", FORMS[:2])
def test_a_codec_that_runs_code_is_refused_before_it_does(
    embedded: Path, tmp_path: Path, form: str, name: str, where: str
) -> None:
    path = unchanged(embedded, tmp_path, form)
    hostile = {"id": "pickle", "protocol": 5}

    def change(document: dict[str, Any]) -> None:
        document[where] = hostile if where == "compressor" else [hostile]
        if where == "filters":
            document["compressor"] = None

    changed(path / name / ".zarray", change)
    if form == "zarr 2":
        changed(path / ".zmetadata", lambda whole: change(whole["metadata"][f"{name}/.zarray"]))
    for chunk in (path / name).iterdir():
        if not chunk.name.startswith("."):
            chunk.write_bytes(pickle.dumps(Payload(tmp_path / "owned")))
    refused(path, f"{name} cannot be read.*'pickle'")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("name", ["numcodecs.pickle", "numcodecs.lzma", "something"])
@pytest.mark.parametrize("nested", [False, True])
def test_codecs_of_format_3_are_of_a_list(embedded: Path, tmp_path: Path, name: str, nested: bool) -> None:
    path = unchanged(embedded, tmp_path, FORMS[3] if nested else FORMS[2])

    def change(whole: dict[str, Any]) -> None:
        codecs = whole["consolidated_metadata"]["metadata"]["X"]["codecs"]
        (codecs[0]["configuration"]["codecs"] if nested else codecs).append(
            {"name": name, "configuration": {}}
        )

    changed(path / "zarr.json", change)
    refused(path, "X cannot be read")


def text_chunk(count: int, texts: int) -> bytes:
    """A chunk that claims `count` texts and has some."""
    one = b"contig"
    return struct.pack("<I", count) + (struct.pack("<I", len(one)) + one) * texts


ZSTD = {"id": "zstd", "level": 1}
BOMBS: dict[str, Callable[[], bytes]] = {
    "claims 2^30 texts": lambda: zstd.compress(text_chunk(1 << 30, ROWS)),
    "claims 2^31 + 40 texts": lambda: zstd.compress(text_chunk((1 << 31) + ROWS, ROWS)),
    "claims 16 GB": lambda: b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 1 << 34) + bytes(20),
    "is 2 GB of zeros": lambda: zstd.compress(bytes(1 << 21)) * 1024,
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_chunk_of_ids_that_asks_for_gigabytes_is_refused(embedded: Path, tmp_path: Path, bomb: str) -> None:
    data = BOMBS[bomb]()
    path = unchanged(embedded, tmp_path, "zarr 3")
    (path / "obs/_index/c/0").write_bytes(data)
    refused(path, "obs/_index")
    shutil.rmtree(path)
    path = unchanged(embedded, tmp_path, "zarr 2")
    changed(path / ".zmetadata", lambda one: one["metadata"]["obs/_index/.zarray"].update(compressor=ZSTD))
    (path / "obs/_index/0").write_bytes(data)
    refused(path, "obs/_index")


@pytest.mark.parametrize("size", [0, 1 << 30, (1 << 31) - 1])
def test_a_chunk_of_numbers_that_asks_for_another_size_is_refused(
    embedded: Path, tmp_path: Path, size: int
) -> None:
    path = unchanged(embedded, tmp_path, "zarr 2")
    for name in ("X/0.0", "obsm/X_kinmer/0.0", "obs/length/0"):
        data = bytearray((path / name).read_bytes())
        data[4:8] = struct.pack("<I", size)
        kept = (path / name).read_bytes()
        (path / name).write_bytes(data)
        refused(path, name.rpartition("/")[0])
        (path / name).write_bytes(kept)


Sides = dict[str, list[int]]
ABSURD: list[tuple[str, Sides]] = [
    ("X", {"shape": [10**12, LAYOUT.width]}),
    ("X", {"chunks": [10**9, LAYOUT.width]}),
    ("X", {"chunks": [0, 0]}),
    ("obs/_index", {"shape": [10**12]}),
    ("obs/_index", {"shape": [10**12], "chunks": [10**12]}),
    ("obs/length", {"shape": [10**12], "chunks": [10**12]}),
    ("obs/length", {"shape": [-1]}),
    ("obs/source/categories", {"shape": [10**11], "chunks": [10**5]}),
    ("obs/source/codes", {"shape": [10**11], "chunks": [10**5]}),
    ("obsm/X_kinmer", {"shape": [ROWS, 10**10], "chunks": [ROWS, 10**6]}),
    ("obsm/X_kinmer", {"shape": [10**10, 256]}),
    ("var/_index", {"shape": [10**11], "chunks": [10**4]}),
]


@pytest.mark.parametrize("number", range(len(ABSURD)))
@pytest.mark.parametrize("both", [False, True])
def test_absurd_shapes_are_refused(embedded: Path, tmp_path: Path, number: int, both: bool) -> None:
    name, sides = ABSURD[number]
    path = unchanged(embedded, tmp_path, "zarr 2")
    files = [path / ".zmetadata", path / name / ".zarray"]
    if both and name == "X" and "shape" in sides:
        # X and ids agree.
        changed(files[0], lambda one: one["metadata"]["obs/_index/.zarray"].update(shape=[10**12]))
    for file in files:
        changed(file, lambda one: one.get("metadata", {}).get(f"{name}/.zarray", one).update(sides))
    refused(path, "obs/_index claims" if both and number == 0 else name.partition("/")[0])


def test_what_is_no_regular_file_is_not_waited_for(embedded: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    shutil.copytree(embedded, path)
    (path / "X/c/0/0").unlink()
    os.mkfifo(path / "X/c/0/0")
    refused(path, "not a regular file")
    (path / "X/c/0/0").unlink()
    (path / "X/c/0/0").symlink_to("/dev/zero")
    refused(path, "not a regular file")


def test_an_h5ad_that_is_damaged_or_points_elsewhere_is_refused(embedded: Path, tmp_path: Path) -> None:
    import h5py

    path = unchanged(embedded, tmp_path, "h5ad")
    assert isinstance(open_profiles(path), H5adProfiles)
    whole = path.read_bytes()
    with h5py.File(tmp_path / "other.hdf5", "w") as other:
        other["X"] = some_counts()
    with h5py.File(path, "r+") as file:
        del file["X"]
        file["X"] = h5py.ExternalLink(tmp_path / "other.hdf5", "X")
    with pytest.raises(FormatError, match="X is missing"):
        open_profiles(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(FormatError, match="damaged"):
        open_profiles(path)


def test_the_root_file_is_covered(embedded: Path, tmp_path: Path) -> None:
    path = tmp_path / "some.zarr"
    shutil.copytree(embedded, path)
    document = read_json(path / "zarr.json")

    def refuses(change: Callable[[dict[str, Any]], object]) -> None:
        copy = json.loads(json.dumps(document))
        change(copy)
        write_json(path / "zarr.json", copy)
        with pytest.raises(FormatError, match="damaged"):
            ProfileStore.open(path)

    kinmer = "kinmer"
    refuses(lambda one: one["attributes"][kinmer].update(rows=ROWS - 1))
    refuses(lambda one: one["attributes"][kinmer].update(values="frequencies"))
    refuses(lambda one: one["attributes"][kinmer].pop("checksums"))
    refuses(lambda one: one["attributes"][kinmer].pop("checksum"))
    refuses(lambda one: one["attributes"].update(kinmeR=one["attributes"].pop(kinmer)))
    refuses(lambda one: one["attributes"].pop("kinmer_embedding"))
    refuses(lambda one: one["attributes"]["kinmer_embedding"]["X_kinmer"].update(encoder="other"))
    nodes = ("consolidated_metadata", "metadata")
    refuses(lambda one: one[nodes[0]][nodes[1]].pop("obsm/X_kinmer"))
    refuses(lambda one: one[nodes[0]][nodes[1]]["X"].update(fill_value=7))
    refuses(lambda one: one[nodes[0]][nodes[1]]["obs"]["attributes"].update({"column-order": ["gc"]}))
    write_json(path / "zarr.json", document)
    assert len(ProfileStore.open(path)) == ROWS
