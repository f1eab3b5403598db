"""The encoders that come with kinmer: whole, released once, used where none is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import kinmer
from kinmer.box import BOXED, boxed, boxed_for, located, origin_of, version_note
from kinmer.cli import run
from kinmer.encoder import Encoder
from kinmer.errors import MismatchError, UsageError
from kinmer.layout import kmer_layout, profile_layout
from kinmer.simulate import Community, write_community
from tests.organisms import encoder_of

# A released encoder never changes: indexes are made with it. A new one is a new name.
RELEASED = {
    "kin-2": "790dd232d047b5972f2016da3c82d5d1ca6aa4b76b0d4cdc84b68cad132d35de",
    "kin-1": "f46c6baca14ed107d127d84afa0bf1e9b3a0a412e7e8692e487af1237b691218",
    "kin-1-kmers": "6a0292c72c12084bdb1586a63a9e582f40544cf51d25086d54c966c15c7aa24a",
}
COMMUNITY = Community(
    phyla=2, families=1, genera=2, species=2, strains=1, chromosome=30_000, phages=1, seed=4
)


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("box") / "community"
    write_community(folder, community=COMMUNITY)
    return folder


def _files(genomes: Path) -> list[str]:
    return [str(file) for file in sorted((genomes / "genomes").iterdir())]


@pytest.mark.parametrize("name", BOXED)
def test_what_is_released_is_what_is_there(name: str) -> None:
    encoder = Encoder.load(name)
    assert encoder.fingerprint == RELEASED[name]
    assert encoder.name == name
    for words in ("## Data", "## Retrieval", "## Known limits", "## Settings"):
        assert words in encoder.card
    newest = next(one for one in BOXED if Encoder.load(one).layout.fingerprint == encoder.layout.fingerprint)
    assert boxed_for(encoder.layout) == boxed(newest)


def test_all_of_them_are_small() -> None:
    size = sum(file.stat().st_size for name in BOXED for file in boxed(name).iterdir())
    assert size <= 20e6


def test_every_genome_of_the_newest_has_a_source() -> None:
    sources = pd.read_csv(boxed() / "sources.tsv", sep="\t", dtype=str, keep_default_na=False)
    card = Encoder.load(boxed()).training["data"]
    assert len(sources) == sources["genome_id"].nunique() == card["groups"]
    assert (sources["source"] != "").all()


def test_names_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert boxed() == boxed(BOXED[0])
    assert origin_of("kin-1") == origin_of(boxed("kin-1")) == "kin-1"
    encoder_of().save(tmp_path / "mine")
    assert origin_of(tmp_path / "mine") == str(tmp_path / "mine")
    # A folder of that name, where one works, is the user's own.
    monkeypatch.chdir(tmp_path)
    encoder_of().save("kin-1")
    assert located("kin-1") == Path("kin-1")
    with pytest.raises(UsageError, match="comes with kinmer"):
        boxed("kin-0")
    with pytest.raises(UsageError, match="takes"):
        boxed_for(kmer_layout(5))
    assert boxed_for(profile_layout(coding=True)) != boxed_for(kmer_layout())


@pytest.mark.parametrize("coding", [True, False])
def test_an_encoder_is_chosen_by_the_profiles(genomes: Path, tmp_path: Path, coding: bool) -> None:
    store = kinmer.count(_files(genomes), tmp_path / "my.zarr", coding=coding)
    name = "kin-2" if coding else "kin-1-kmers"
    kinmer.embed(store.path)
    made = kinmer.open_profiles(store.path)
    assert isinstance(made, kinmer.ProfileStore)
    told = made.embedding("X_kinmer")
    assert told is not None
    assert (told["encoder"], told["encoder_fingerprint"]) == (name, RELEASED[name])
    wanted = Encoder.load(name).embed(made.read(0, 3))
    np.testing.assert_array_equal(made.read_obsm("X_kinmer", 0, 3), wanted)
    with kinmer.build_index(store.path, tmp_path / "kin.db") as index:
        assert index.encoder.name == name


def test_from_fasta_to_kin_without_training(
    genomes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, db = str(tmp_path / "my.zarr"), str(tmp_path / "kin.db")
    assert run(["count", *_files(genomes), "--coding", "-o", store]) == 0
    assert run(["index", store, "-o", db]) == 0
    capsys.readouterr()
    assert run(["search", _files(genomes)[0], "--db", db, "-k", "1"]) == 0
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert len(lines) > 1
    # A sequence that is in the index is its own nearest.
    assert all(line[0] == line[2] and float(line[3]) < 1e-5 for line in lines[1:])
    assert run(["embed", _files(genomes)[0], "-o", str(tmp_path / "v.npy")]) == 0
    assert np.load(tmp_path / "v.npy").shape == (len(lines) - 1, Encoder.load("kin-2").dim)


def test_an_index_of_another_version_says_so(genomes: Path, tmp_path: Path) -> None:
    older = Encoder.load("kin-1-kmers")
    older.training["name"] = "kin-0"
    older.save(tmp_path / "older")
    store = kinmer.count(_files(genomes), tmp_path / "my.zarr")
    kinmer.build_index(store.path, tmp_path / "old.db", encoder=tmp_path / "older").close()
    kinmer.build_index(store.path, tmp_path / "new.db").close()
    for name, expected in (("old.db", True), ("new.db", False)):
        notes: list[str] = []
        hits = list(kinmer.search(_files(genomes)[0], tmp_path / name, k=1, log=notes.append))
        assert hits
        assert any("made with the encoder kin-0" in note for note in notes) is expected
    assert version_note("kin-7-kmers")
    assert not version_note("")
    assert not version_note("my own")


def test_profiles_that_do_not_fit_are_told(genomes: Path, tmp_path: Path) -> None:
    store = kinmer.count(_files(genomes), tmp_path / "my.zarr")
    with pytest.raises(MismatchError):
        kinmer.embed(store.path, "kin-1")
