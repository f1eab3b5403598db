"""Compact indexes of drafts: short contigs are kept and counted, but not searched one by one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from kinmer import merge_indexes
from kinmer.costs import forecast
from kinmer.costs.looks import contents_of
from kinmer.costs.prices import PRICES
from kinmer.index import Storage, pieces
from kinmer.index.nearest import MEAN_BONUS
from kinmer.index.rows import GENOME, PIECE, SHORT, WHOLE, rounded
from kinmer.library import (
    add_to_index,
    build_reference,
    check_index,
    compact_index,
    delete_from_index,
    describe_index,
)
from kinmer.library.update import KinIndex
from kinmer.vectors import open_vectors
from tests.test_merge import ENCODER

LENGTHS = (9000, 6100, 5200, 4900, 3900, 3500, 2600, 2500, 2200, 1800, 1500, 1200)
LIMIT, LONGEST = 5000, 5
PLASMID = len(LENGTHS) - 1


def draft(folder: Path, name: str) -> Path:
    rng = np.random.default_rng(list(name.encode()))
    share = rng.dirichlet(np.full(4, 4.0))
    order = rng.permutation(len(LENGTHS)).tolist()
    texts = {at: "".join(rng.choice(list("ACGT"), LENGTHS[at], p=share)) for at in order}
    folder.mkdir(exist_ok=True, parents=True)
    path = folder / f"{name}.fna"
    path.write_text("".join(f">{name}{at}\n{text}\n" for at, text in texts.items()))
    return path


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Drafts of this module are small."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (pieces, forecast):
            patch.setattr(module, "SHORT_LETTERS", LIMIT)
            patch.setattr(module, "LONGEST", LONGEST)
            patch.setattr(module, "DRAFT_LETTERS", 20_000)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drafts")
    for name in "abc":
        draft(folder / "genomes", name)
    lines = [f"{name}{PLASMID}\tPlasmid" for name in "abcd"]
    (folder / "kinds.tsv").write_text("\n".join(["id\tmolecule", *lines]) + "\n")
    for name, compact in (("full", False), ("small", True)):
        make(folder / "genomes", folder / f"{name}.db", folder / "kinds.tsv", compact=compact)
    return folder


def make(genomes: Path, path: Path, kinds: Path, **options: object) -> None:
    given = {"pieces": (6000,), "metadata": kinds, "calibrate": False, "encoder": ENCODER, **options}
    build_reference(genomes, path, threads=1, **given).close()  # type: ignore[arg-type]


def is_short(at: int) -> bool:
    """By the rule: below the limit, not among the longest, and no plasmid."""
    return LENGTHS[at] < LIMIT and LENGTHS[at] < sorted(LENGTHS)[-LONGEST] and at != PLASMID


def kinds_of(index: Storage) -> dict[str, int]:
    entries = index.entries(index.numbers)
    return {one.id: int(index.rows.kinds[one.first]) for one in entries.values()}


def test_which_contigs_are_short(folder: Path) -> None:
    with Storage.open(folder / "small.db") as index, Storage.open(folder / "full.db") as full:
        assert kinds_of(index) == {
            f"{name}{at}": SHORT if is_short(at) else WHOLE for name in "abc" for at in range(len(LENGTHS))
        }
        assert set(kinds_of(full).values()) == {WHOLE}
        # Nothing of them is lost: they have their vectors and sketches, and are in the means.
        assert np.array_equal(rounded(full.vectors), index.vectors)
        assert index.entry_sketches(index.numbers).keys() == full.entry_sketches(full.numbers).keys()
        means = np.flatnonzero(index.rows.kinds == GENOME)
        for row in means.tolist():
            own = (index.rows.genome == index.rows.genome[row]) & (index.rows.kinds != GENOME)
            cut = np.unique(index.rows.entry[own & (index.rows.kinds == PIECE)])
            own &= (index.rows.kinds == PIECE) | ~np.isin(index.rows.entry, cut)
            records, vectors = index.rows.records[own], np.asarray(index.rows.vectors, np.float64)[own]
            mean = np.average(vectors, axis=0, weights=records["stop"] - records["start"])
            assert np.array_equal(rounded(mean[None].astype(np.float32))[0], index.rows.vectors[row])
    facts = describe_index(folder / "small.db")
    assert (facts.entries, facts.wholes, facts.genome_vectors) == (36, 36, 3)
    assert check_index(folder / "small.db").whole


@pytest.mark.parametrize("engine", ["hnsw", "exact"])
def test_they_are_in_no_answer(folder: Path, tmp_path: Path, engine: str) -> None:
    make(folder / "genomes", tmp_path / "e.db", folder / "kinds.tsv", compact=True, engine=engine)
    with Storage.open(tmp_path / "e.db") as index:
        rows, vectors = index.rows, np.asarray(index.rows.vectors, np.float64)
        searched = np.flatnonzero(rows.kinds != SHORT)
        store, covered = index.opened_engine()
        if store is not None:
            assert covered == len(rows)
            assert np.array_equal(store.contains(np.arange(len(rows))), rows.kinds != SHORT)
        queries = index.vectors[::3] + np.float32(0.01)
        unit = vectors[searched] / np.linalg.norm(vectors[searched], axis=1, keepdims=True)
        asked = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
        far = 1 - asked @ unit.T
        near = index.nearest(queries, 7)
        assert np.allclose(near.distances, np.sort(far, axis=1)[:, :7], atol=1e-6)
        assert np.isin(near.rows, searched).all()
        # All that are left, and no more.
        found = index.search(queries, len(index))
        assert (found.groups >= 0).sum(axis=1).tolist() == [3 * 6] * len(queries)
        found = index.search(queries, 3, by="genome")
        favored = np.maximum(far - MEAN_BONUS * (rows.kinds[searched] == GENOME), 0)
        for line, groups, distances in zip(favored, found.groups, found.distances, strict=True):
            best = {one: line[rows.genome[searched] == one].min() for one in set(rows.genome.tolist())}
            assert groups.tolist() == sorted(best, key=best.__getitem__)
            assert np.allclose(distances, sorted(best.values()), atol=1e-6)
        # As points of a map they are all there.
        points = open_vectors(tmp_path / "e.db")
        assert len(points) == 36
        assert np.array_equal(points.take(np.arange(36)), index.vectors)


def test_a_genome_of_short_ones_alone_keeps_its_mean(folder: Path, tmp_path: Path) -> None:
    db = tmp_path / "left.db"
    make(folder / "genomes", db, folder / "kinds.tsv", compact=True)
    gone = [f"a{at}" for at in range(len(LENGTHS)) if at != 9]
    delete_from_index(db, ids=gone)
    assert check_index(db).whole
    with Storage.open(db) as index:
        (number,) = index.numbers_of(["a9"])
        entry = index.entries(np.array([number]))[int(number)]
        mean = index.rows.means[entry.genome]
        assert np.array_equal(index.rows.vectors[mean], index.rows.vectors[entry.first])
        (group,) = index.search(np.asarray(index.rows.vectors[entry.first])[None], 1, by="genome").groups
        assert group.tolist() == [entry.genome]
    compact_index(db, threads=1)
    assert check_index(db).whole
    with Storage.open(db) as index:
        assert kinds_of(index)["a9"] == SHORT


def test_they_are_added_and_merged(folder: Path, tmp_path: Path) -> None:
    draft(tmp_path / "more", "d")
    small = tmp_path / "small.db"
    make(folder / "genomes", small, folder / "kinds.tsv", compact=True)
    add_to_index(small, tmp_path / "more" / "d.fna", genome="d", metadata=folder / "kinds.tsv", threads=1)
    make(tmp_path / "more", tmp_path / "d.db", folder / "kinds.tsv", compact=True)
    merge_indexes(
        [folder / "small.db", tmp_path / "d.db"], tmp_path / "both.db", calibrate=False, threads=1
    ).close()
    with Storage.open(small) as added, Storage.open(tmp_path / "both.db") as both:
        assert kinds_of(added) == kinds_of(both)
        assert kinds_of(both)["d9"] == SHORT
        assert kinds_of(both)[f"d{PLASMID}"] == WHOLE
    for db in (small, tmp_path / "both.db"):
        assert check_index(db).whole
    # One that moves to another genome counts there.
    (tmp_path / "moved.tsv").write_text("id\tgenome\nd9\ta\n")
    with KinIndex.open(small) as index:
        index.update(metadata=tmp_path / "moved.tsv")
    assert check_index(small).whole


def test_what_it_will_take(folder: Path, tmp_path: Path) -> None:
    """Where nothing is said of plasmids, the graph has as many rows as was foretold."""
    draft(tmp_path / "one", "a")
    build_reference(tmp_path / "one", tmp_path / "one.db", compact=True, calibrate=False, threads=1).close()
    held = contents_of([tmp_path / "one"])
    steps = dict(forecast.steps_of("reference", held, compact=True)[1])
    with Storage.open(tmp_path / "one.db") as index:
        assert steps["entries"] == steps["vectors kept in bytes"] == len(index.rows)
        assert steps["graph"] == steps["graph kept"] == index.rows.searched.sum() < len(index.rows)
        stored = (tmp_path / "one.db" / "vectors-0.i8").stat().st_size
        assert stored == PRICES["vectors kept in bytes"].disk * len(index.rows)
