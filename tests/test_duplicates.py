"""Near-duplicates: known by their words, whatever the encoder, and brought together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2_contingency

import kinmer
from kinmer.kmers import KmerCounter
from kinmer.layout import kmer_layout
from kinmer.library import build_index
from kinmer.profiles import open_profiles
from kinmer.vectors import Neighbors, contracted, neighbor_graph, open_vectors
from kinmer.vectors.duplicates import dispersions, least_dispersions, word_counts
from tests.organisms import encoder_of, organisms
from tests.test_vectors import clumps, oracle, table_of

LETTERS = np.frombuffer(b"ACGT", np.uint8)
Codes = NDArray[np.uint8]


def contigs(
    species: int, each: int, length: int | tuple[int, int], seed: int = 0
) -> tuple[list[Codes], NDArray[np.int64]]:
    """Contigs of order-2 Markov chains with gamma weights, and their species."""
    rng = np.random.default_rng(seed)
    made: list[Codes] = []
    for _ in range(species):
        weights = rng.gamma(1.0, size=(16, 4)) + 0.05
        bounds = np.cumsum(weights / weights.sum(axis=1, keepdims=True), axis=1)[:, :3]
        # All contigs of a species grow side by side.
        low, high = (length, length) if isinstance(length, int) else length
        lengths = np.exp(rng.uniform(np.log(low), np.log(high), each)).astype(int)
        letters = np.empty((lengths.max(), each), np.uint8)
        state = rng.integers(0, 16, each)
        for row in letters:
            row[:] = (rng.random(each)[:, None] >= bounds[state]).sum(axis=1)
            state = (4 * state + row) % 16
        made += [letters[:size, number].copy() for number, size in enumerate(lengths)]
    return made, np.repeat(np.arange(species), each)


def copy_of(contig: Codes, kind: str, rng: np.random.Generator) -> Codes:
    """The contig as another sample has it: per cent of letters substituted, trimmed, or reversed."""
    if kind == "reverse":
        return np.asarray(3 - contig[::-1], np.uint8)
    if kind == "trim":
        gone = contig.size // 10
        start = int(rng.integers(0, gone + 1))
        return contig[start : contig.size - (gone - start)]
    changed = contig.copy()
    where = rng.random(contig.size) < float(kind) / 100
    changed[where] = (changed[where] + rng.integers(1, 4, where.sum())) % 4
    return changed


def store_of(samples: list[list[Codes]], folder: Path, *, coding: bool = False) -> Path:
    """A profile store of the contigs of samples, s0_0, s0_1 …, s1_0 …"""
    fasta, store = folder / "all.fna", folder / "all.zarr"
    with fasta.open("wb") as file:
        for number, sample in enumerate(samples):
            for place, one in enumerate(sample):
                file.write(b">s%d_%d\n%s\n" % (number, place, LETTERS[one].tobytes()))
    kinmer.count(fasta, store, coding=coding)
    return store


counts = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=3, max_size=60)


@given(counts)
@settings(deadline=None)
def test_dispersion_is_that_of_pearsons_test(rows: list[tuple[int, int]]) -> None:
    table = np.array(rows, np.uint16).T
    (found,) = dispersions(table, np.array([[0, 1]]))
    there = table[:, table.any(axis=0)]
    if not table.any(axis=1).all() or there.shape[1] < 2:
        assert found == np.inf
        return
    assert found == pytest.approx(chi2_contingency(there, correction=False).statistic / (there.shape[1] - 1))


@pytest.mark.parametrize("length", [1000, 5000, 40_000])
def test_copies_are_known_from_contigs_of_one_genome(length: int) -> None:
    rng = np.random.default_rng(length)
    made, _ = contigs(3, 12, length, seed=length)
    kinds = ("0", "1", "trim", "reverse")
    every = [*made, *(copy_of(one, kind, rng) for kind in kinds for one in made)]
    ends = np.cumsum([one.size for one in every])
    counter = KmerCounter(kmer_layout(6))
    counted = counter.count(LETTERS[np.concatenate(every)], ends - [one.size for one in every], ends).counts
    words = counted[:, :2080].astype(np.uint16)
    here = np.arange(36)
    shared = {
        kind: dispersions(words, np.stack([here, here + 36 * (1 + number)], axis=1))
        for number, kind in enumerate(kinds)
    }
    assert shared["0"].max() == shared["reverse"].max() == 0
    # A tenth of one is not in the other: 1 / 19 of both, and a little more where most words occur once.
    assert shared["trim"].mean() == pytest.approx(1 / 19, abs=0.04)
    # Six words in a hundred letters are others.
    assert 0.05 < shared["1"].mean() < 0.2
    assert 0 < shared["1"].min() < shared["1"].max() < 0.3
    others = np.array([(a, b) for a in range(36) for b in range(a) if a // 12 == b // 12])
    independent = dispersions(words, others)
    assert independent.mean() == pytest.approx(1, abs=0.03)
    assert independent.min() > 0.75 > least_dispersions(2080).max()


def test_few_words_make_no_near_duplicates() -> None:
    least = least_dispersions(512)
    assert (np.diff(least) >= 0).all()
    assert least[:30].max() < 0.2
    assert least[400] == 0.5
    # As many draws of few words as chance needs: none is taken for a copy.
    rng = np.random.default_rng(1)
    for kinds in (4, 12, 40, 120):
        words = rng.multinomial(60, rng.dirichlet(np.full(kinds, 3.0)), 4000).astype(np.uint16)
        pairs = np.stack([np.arange(2000), np.arange(2000, 4000)], axis=1)
        occur = ((words[:2000] + words[2000:]) > 0).sum(axis=1)
        assert (dispersions(words, pairs) >= least[occur]).all()


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("share", [0.9, 0.3])
@pytest.mark.parametrize("exact", [True, False])
def test_neighbors_among_some_are_those_of_all_pairs(
    tmp_path: Path, metric: Any, share: float, exact: bool
) -> None:
    vectors = clumps(700)
    among = np.random.default_rng(2).random(700) < share
    kept = np.flatnonzero(among)
    with Neighbors(open_vectors(table_of(tmp_path, vectors), metric=metric), exact=exact) as neighbors:
        first = neighbors.graph(6)
        found = neighbors.graph(9, rows=kept, among=among)
        few = neighbors.graph(9, rows=kept[:4], among=among & (np.arange(700) < kept[5]))
    assert first.distances == pytest.approx(oracle(vectors, 6, metric), abs=2e-6)
    assert found.distances == pytest.approx(oracle(vectors[kept], 9, metric), abs=2e-6)
    assert among[found.indices].all()
    assert not (found.indices == kept[:, None]).any()
    # Of five that may be neighbors there are four others.
    assert ((few.indices >= 0).sum(axis=1) == 4).all()
    assert np.isinf(few.distances[:, 4:]).all()


def test_words_of_every_source_are_the_same(tmp_path: Path) -> None:
    made, _ = contigs(2, 6, (1500, 4000))
    store = store_of([made], tmp_path)
    space = open_vectors(store, vectors="raw")
    words = word_counts(space)
    assert words is not None
    assert words.shape == (12, 512)
    profiles = open_profiles(store)
    table = organisms(12, max_k=6)
    table.obs_names, table.X = list(profiles.ids), profiles.read(0, 12)
    shares = table.X.astype(np.float32)
    for block in profiles.layout.blocks:
        shares[:, block.columns] /= shares[:, block.columns].sum(axis=1, keepdims=True)
    table.X, table.obs["length"] = shares, [one.size for one in made]
    assert (word_counts(open_vectors(table, vectors="raw")) == words).all()  # type: ignore[union-attr]
    del table.obs["length"]
    assert word_counts(open_vectors(table, vectors="raw")) is None
    encoder = encoder_of(6)
    build_index([tmp_path / "all.fna"], tmp_path / "kin.db", encoder=encoder)
    indexed = open_vectors(tmp_path / "kin.db")
    order = [indexed.ids.tolist().index(name) for name in profiles.ids]
    of_index = word_counts(indexed)
    assert of_index is not None
    assert (of_index[order] == words).all()
    np.save(tmp_path / "v.npy", clumps(12))
    (tmp_path / "v.txt").write_text("".join(f"s{row}\n" for row in range(12)))
    assert word_counts(open_vectors(tmp_path / "v.npy")) is None


def test_a_count_that_does_not_fit_makes_no_copy() -> None:
    table = organisms(2, max_k=3)
    table.X = np.full(table.shape, 70_000, np.uint32)
    words = word_counts(open_vectors(table, vectors="raw"))
    assert words is not None
    assert not words.any()


@pytest.mark.parametrize(("copies", "exact"), [(2, True), (30, True), (2, False), (9, False)])
def test_representatives_have_neighbors_that_are_no_copies(tmp_path: Path, copies: int, exact: bool) -> None:
    made, _ = contigs(2, 8, 3000)
    rng = np.random.default_rng(5)
    samples = [made, *([copy_of(one, "1", rng) for one in made] for _ in range(copies - 1))]
    space = open_vectors(store_of(samples, tmp_path), vectors="raw")
    with Neighbors(space, exact=exact) as neighbors:
        found = contracted(space, neighbors.graph, 5)
    assert (found.representative[found.representative] == found.representative).all()
    assert (found.representative % 16 == np.arange(16 * copies) % 16).all()
    assert found.graph.points == len(np.unique(found.representative)) == 16
    assert (found.graph.indices >= 0).all()
    kept = np.unique(found.representative)
    np.save(tmp_path / "kept.npy", space.take(kept))
    (tmp_path / "kept.txt").write_text("".join(f"s{row}\n" for row in kept))
    fresh = neighbor_graph(open_vectors(tmp_path / "kept.npy"), 5)
    assert (found.graph.indices == fresh.indices).all()
    assert found.graph.distances == pytest.approx(fresh.distances, abs=2e-6)


def test_of_two_that_overlap_the_longer_stands_for_both(tmp_path: Path) -> None:
    made, _ = contigs(1, 6, 4000)
    rng = np.random.default_rng(7)
    space = open_vectors(
        store_of([[copy_of(one, "trim", rng) for one in made], made], tmp_path), vectors="raw"
    )
    with Neighbors(space) as neighbors:
        found = contracted(space, neighbors.graph, 5)
    assert found.representative.tolist() == [6, 7, 8, 9, 10, 11] * 2


def test_of_vectors_alone_equal_ones_are_brought_together(tmp_path: Path) -> None:
    vectors = clumps(90)
    vectors[60:] = vectors[:30]
    space = open_vectors(table_of(tmp_path, vectors))
    with Neighbors(space) as neighbors:
        found = contracted(space, neighbors.graph, 7)
    assert not found.by_words
    assert found.representative.tolist() == [*range(60), *range(30)]
