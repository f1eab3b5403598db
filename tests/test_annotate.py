"""Annotations of an AnnData are what a search says about its sequences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import anndata
import numpy as np
import pandas as pd
import pytest

import kinmer
from kinmer.errors import MismatchError, ProfileError, UsageError
from kinmer.library import build_index
from kinmer.taxonomy import RANKS
from tests.small_world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.fixture(scope="module")
def db(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("made") / "kin.db"
    settings: dict[str, Any] = {"metadata": world.metadata, "keep_sequences": True, "threads": 1}
    build_index(world.references, db, **settings).close()
    return db


@pytest.fixture(scope="module")
def store(world: World, db: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The queries as profiles, embedded by the encoder of the index."""
    store = tmp_path_factory.mktemp("store") / "queries.zarr"
    kinmer.count([world.queries], store, coding=True, threads=1)
    kinmer.embed(store, db / "encoder")
    return store


@pytest.fixture
def adata(store: Path) -> anndata.AnnData:
    return anndata.read_zarr(store)


def test_annotations_are_those_of_a_search(adata: anndata.AnnData, db: Path, store: Path) -> None:
    kinmer.annotate(adata, db)
    # Profiles have no sequences: both rest on composition alone.
    calls = kinmer.search(store, db).calls.set_index("query_id").loc[adata.obs_names]
    assert set(calls["why"].dropna()) == {"composition"}
    assert adata.obs["kin_verdict"].tolist() == calls["verdict"].tolist()
    for column in ("rank", "name", *RANKS, "molecule"):
        shown = adata.obs[f"kin_{column}"]
        assert isinstance(shown.dtype, pd.CategoricalDtype)
        assert [None if pd.isna(value) else value for value in shown] == calls[column].tolist()
    for column in (*RANKS, "molecule"):
        wanted = calls[f"{column}_p"].astype(float)
        np.testing.assert_allclose(adata.obs[f"kin_{column}_p"], wanted, atol=1e-4)
    assert adata.obs["kin_species_p"].notna().any()


def test_profiles_embeddings_and_a_matrix_of_another_name_say_the_same(
    adata: anndata.AnnData, db: Path
) -> None:
    kinmer.annotate(adata, db)
    plain = adata.copy()
    del plain.obsm["X_kinmer"]
    kinmer.annotate(plain, db, key_added="x")
    # X may be anything where the embeddings are named.
    other = anndata.AnnData(np.zeros((adata.n_obs, 2), np.float32), obs=adata.obs[["length"]].copy())
    other.obsm["mine"] = adata.obsm["X_kinmer"]
    kinmer.annotate(other, db, use_rep="mine", key_added="m")
    for column in ("verdict", "genus", "species"):
        assert plain.obs[f"x_{column}"].tolist() == adata.obs[f"kin_{column}"].tolist()
        assert other.obs[f"m_{column}"].tolist() == adata.obs[f"kin_{column}"].tolist()


def test_settings_are_those_of_scanpy(adata: anndata.AnnData, db: Path) -> None:
    before = adata.obs.columns.tolist()
    with kinmer.open_index(db) as index:
        kinmer.annotate(adata, index, n_jobs=1, random_state=5, key_added="a")
        kinmer.annotate(adata, index, n_jobs=-1, random_state=None, key_added="b")
        assert len(index)
    added = [column for column in adata.obs if column not in before]
    assert all(column.startswith(("a_", "b_")) for column in added)
    for column in added:
        if column.startswith("a_"):
            assert adata.obs[column].tolist() == adata.obs[f"b{column[1:]}"].tolist() or column.endswith("_p")
    # A stricter probability names less.
    kinmer.annotate(adata, db, min_probability=0.999, key_added="s")
    assert (adata.obs["s_rank"] == "species").sum() <= (adata.obs["a_rank"] == "species").sum()


def test_a_representation_that_does_not_fit_is_refused(adata: anndata.AnnData, db: Path) -> None:
    columns = adata.obs.columns.tolist()
    with pytest.raises(UsageError, match="obsm has no 'X_pca'"):
        kinmer.annotate(adata, db, use_rep="X_pca")
    adata.obsm["narrow"] = adata.obsm["X_kinmer"][:, :3]
    with pytest.raises(MismatchError, match="columns"):
        kinmer.annotate(adata, db, use_rep="narrow")
    adata.obsm["empty"] = np.full_like(adata.obsm["X_kinmer"], np.nan)
    with pytest.raises(MismatchError, match="not finite"):
        kinmer.annotate(adata, db, use_rep="empty")
    # The encoder that made it is recorded, and is not the one of the index.
    made = json.loads(adata.uns["kinmer"]["embedding"])
    made["X_kinmer"]["encoder_fingerprint"] = "0" * 64
    adata.uns["kinmer"]["embedding"] = json.dumps(made)
    for use_rep in ("X_kinmer", None):
        with pytest.raises(MismatchError, match="another encoder"):
            kinmer.annotate(adata, db, use_rep=use_rep)
    with pytest.raises(ProfileError):
        kinmer.annotate(anndata.AnnData(np.ones((2, 3), np.float32)), db)
    with pytest.raises(UsageError, match="AnnData in memory"):
        kinmer.search("queries.fna", db, use_rep="X_kinmer")
    assert adata.obs.columns.tolist() == columns


def test_a_backed_anndata_is_annotated_in_memory(adata: anndata.AnnData, db: Path, tmp_path: Path) -> None:
    path = tmp_path / "queries.h5ad"
    adata.write_h5ad(path)
    kinmer.annotate(adata, db)
    backed = anndata.read_h5ad(path, backed="r")
    assert backed.isbacked
    kinmer.annotate(backed, db)
    assert backed.obs["kin_verdict"].tolist() == adata.obs["kin_verdict"].tolist()
    backed.file.close()
    # And it can be written with them.
    adata.write_h5ad(tmp_path / "annotated.h5ad")
    again = anndata.read_h5ad(tmp_path / "annotated.h5ad")
    assert again.obs["kin_species"].tolist() == adata.obs["kin_species"].tolist()
