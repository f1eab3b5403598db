"""Plasmid taxonomic units: those of copies and of what is far, and what is learned of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kinmer import build_index
from kinmer.confidence import unit
from kinmer.confidence.pool import LineageBook, pool_of
from kinmer.index import Storage
from kinmer.units import FEATURES, UnitEvidence, fit_units, unit_evidence
from tests.organisms import encoder_of


def test_the_nearest_row_that_has_a_unit_counts() -> None:
    distances = np.array([[0.01, 0.02, 0.2, 0.4], [0.1, 0.2, np.inf, np.inf]], np.float32)
    units = np.array([[-1, 5, 3, 5], [-1, -1, 7, -1]], np.int32)
    molecules = np.array([[0, 1, 1, 1], [1, 0, 1, 1]], np.int8)
    found = unit_evidence(distances, units, molecules, np.array([10_000, 0]))
    assert found.codes.tolist() == [5, -1]
    near, other, bare, first = found.features[0, :4]
    np.testing.assert_allclose(near, np.log(0.02), rtol=1e-5)
    np.testing.assert_allclose(other, np.log(0.2 / 0.02), rtol=1e-5)
    # No plasmid without a unit is there: as far as the farthest row.
    np.testing.assert_allclose(bare, np.log(0.4 / 0.02), rtol=1e-5)
    np.testing.assert_allclose(first, np.log(0.01 / 0.02), rtol=1e-5)
    nothing = unit_evidence(distances[:, :0], units[:, :0], molecules[:, :0], np.zeros(2, np.int64))
    assert nothing.codes.tolist() == [-1, -1]
    assert nothing.features.shape == found.features.shape == (2, FEATURES)
    joined = UnitEvidence.joined([found, nothing]).take(np.array([3, 0]))
    assert joined.codes.tolist() == [-1, 5]


def test_near_units_are_right_and_far_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    own = rng.integers(-1, 6, 400)
    near = (rng.random(400) < 0.5) & (own >= 0)
    distances = np.sort(rng.uniform(0.2, 0.5, (400, 6)), axis=1).astype(np.float32)
    distances[near, 0] = 0.01
    units = rng.integers(0, 6, (400, 6)).astype(np.int32)
    units[near, 0] = own[near]
    units[~near, 0] = (own[~near] + 1 + rng.integers(0, 5, (~near).sum())) % 6
    molecules = np.ones((400, 6), np.int8)
    evidence = unit_evidence(distances, units, molecules, np.full(400, 5_000))
    model = fit_units(evidence, own.astype(np.int64), np.ones(400))
    assert model is not None
    right = model.predict(evidence.features)[:, 1]
    assert right[near].min() > 0.9
    assert right[~near & (evidence.codes >= 0)].mean() < 0.3
    few = np.flatnonzero(near)[:9]
    rows = np.concatenate([few, np.flatnonzero(~near)])
    assert fit_units(evidence.take(rows), own[rows].astype(np.int64), np.ones(len(rows))) is None


def test_a_copy_of_a_labeled_plasmid_has_its_unit(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    # Each has letters of its own, so that vectors lie apart.
    texts = ["".join(rng.choice(list("ACGT"), 3_000, p=rng.dirichlet(np.ones(4)))) for _ in range(6)]
    fasta, table = tmp_path / "in.fna", tmp_path / "in.tsv"
    fasta.write_text("".join(f">p{at}\n{text}\n" for at, text in enumerate(texts)))
    units = ["PTU-A", "", "PTU-B", "-", "PTU-A", ""]
    lines = [f"p{at}\tplasmid\t{unit}\n" for at, unit in enumerate(units)]
    table.write_text("id\tmolecule\tPTU\n" + "".join(lines))
    build_index(
        fasta, tmp_path / "x.db", encoder=encoder_of(), metadata=table, calibrate=False, threads=1
    ).close()
    with Storage.open(tmp_path / "x.db") as index, index.reading():
        book = LineageBook(index)
        assert book.has_units
        entries = index.rows.entry[np.flatnonzero(index.rows.alive)]
        codes = book.units(entries[:, None])[:, 0]
        names = [book.unit_names()[code] if code >= 0 else "" for code in codes]
        found = {index.entries(entries)[entry].id: name for entry, name in zip(entries, names, strict=True)}
        assert found == {f"p{at}": unit.strip("-") for at, unit in enumerate(units)} | {"p3": ""}
        vectors = np.asarray(index.rows.vectors[index.rows.alive])
        labels, distances = index.nearest(vectors, 6)
        pool = pool_of(index, book, labels, distances, np.full(len(vectors), 3_000), unit(vectors))
        assert pool.units is not None
        own = codes >= 0
        np.testing.assert_array_equal(pool.units.codes[own], codes[own])
        assert (pool.units.features[own, 0] < pool.units.features[~own, 0].min()).all()
