"""The genomes that may be a query's, against every genome scored in plain Python."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from kinmer.confidence import Candidates, GenomeMeans, Nearest, SharedHashes, candidates, candidates_of, unit
from kinmer.confidence.features import Spread, case_features, name_features, own_features, vote
from kinmer.confidence.pool import LineageBook
from kinmer.index import Storage
from kinmer.index.rows import GENOME
from kinmer.library import build_index, open_index
from kinmer.queries.intake import Queries, read_queries
from tests.small_world import make_world

# Fewer rows than there are: some genomes have none among the nearest.
WIDTH = 12
Asked = tuple[Queries, NDArray[np.int64], NDArray[np.float32]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Storage]:
    folder = tmp_path_factory.mktemp("candidates")
    world = make_world(folder / "community")
    db = folder / "kin.db"
    build_index(world.references, db, metadata=world.metadata, calibrate=False, threads=1).close()
    with open_index(db) as opened, opened.reading():
        yield opened


@pytest.fixture(scope="module")
def asked(index: Storage, tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Queries of known and of strange genomes, and of none, with their nearest rows."""
    world = tmp_path_factory.getbasetemp() / "candidates0" / "community" / "queries.fna"
    fasta = tmp_path_factory.mktemp("asked") / "queries.fna"
    noise = np.random.default_rng(0).choice(np.frombuffer(b"ACGT", np.uint8), 3_000).tobytes()
    fasta.write_bytes(world.read_bytes() + b">random\n" + noise + b"\n>short\n" + noise[:150] + b"\n")
    settings = {"ids": None, "min_length": 0, "sequences": False, "threads": 1, "log": print}
    (queries,) = read_queries(fasta, index, **settings)  # type: ignore[arg-type]
    labels, distances = index.nearest(queries.vectors, WIDTH, metric="cosine")
    return queries, labels, distances


def found_of(
    index: Storage, asked: Asked, *, sketches: bool, rows: Sequence[int] | None = None
) -> Candidates:
    queries, labels, distances = asked
    at = np.arange(len(queries.ids)) if rows is None else np.array(rows)
    means, vectors = GenomeMeans(index), unit(queries.vectors[at])
    shared = SharedHashes.nothing(len(at))
    if sketches:
        assert queries.sketches is not None
        some = [queries.sketches[row] for row in at.tolist()]
        found = index.shared(some)
        shared = SharedHashes(found.query, found.genome, found.count, np.array(list(map(len, some))))
    lengths = np.array([size or 0 for size in queries.lengths], np.int64)[at]
    nearest = Nearest(labels[at], distances[at], means.distances(vectors), vectors, lengths)
    return candidates_of(index, means, LineageBook(index), nearest, shared)


def brute(
    index: Storage, asked: Asked, row: int, *, sketches: bool
) -> list[tuple[float, int, float, float, int]]:
    """Score, number, distances of the nearest row and of the mean, and shared hashes of all genomes."""
    queries, labels, _ = asked
    query = queries.vectors[row].astype(float)

    def far(vector: NDArray[np.float32]) -> float:
        other = vector.astype(float)
        return max(0.0, 1 - float(query @ other / np.linalg.norm(query) / np.linalg.norm(other)))

    sketch = set() if queries.sketches is None else set(queries.sketches[row].tolist())
    rows, result = index.rows, []
    beyond = max(far(rows.vectors[at]) for at in labels[row].tolist()) + 0.03
    for number in index.table.genomes():
        mine = np.flatnonzero(rows.alive & (rows.genome == number))
        mean = [at for at in mine.tolist() if rows.kinds[at] == GENOME]
        # A genome without a mean has a single whole sequence.
        whole = [at for at in mine.tolist() if rows.kinds[at] == 1]
        mean_far = far(rows.vectors[(mean or whole)[0]])
        seen = [far(rows.vectors[at]) for at in labels[row].tolist() if at in mine and at not in mean]
        near = min(seen, default=beyond)
        entries = np.array(sorted(entry.number for entry in index.table.members(number)))
        hashes = set().union(*(one.tolist() for one in index.entry_sketches(entries).values()))
        count = len(sketch & hashes) if sketches else 0
        share = count / max(1, len(sketch))
        result.append(
            (0.3 * near + 0.7 * mean_far - 0.4 * max(share - 0.2, 0), number, near, mean_far, count)
        )
    return sorted(result)


@pytest.mark.parametrize("sketches", [False, True])
def test_they_are_all_genomes_in_the_order_of_their_scores(
    index: Storage, asked: Asked, sketches: bool
) -> None:
    found = found_of(index, asked, sketches=sketches)
    queries = asked[0]
    assert index.has_sketches
    assert queries.sketches is not None
    book, far_ones, shared = LineageBook(index), 0, 0
    for row in range(len(found)):
        scores, numbers, near, mean, count = map(
            list, zip(*brute(index, asked, row, sketches=sketches), strict=True)
        )
        there = found.genomes[row] >= 0
        assert sorted(found.numbers[row, there].tolist()) == sorted(numbers)
        np.testing.assert_allclose(found.score[row, there], scores, atol=2e-6)
        order = {number: at for at, number in enumerate(numbers)}
        at = np.array([order[number] for number in found.numbers[row, there].tolist()])
        np.testing.assert_allclose(found.near[row, there], np.array(near)[at], atol=2e-6)
        np.testing.assert_allclose(found.mean[row, there], np.array(mean)[at], atol=2e-6)
        assert found.shared[row, there].tolist() == np.array(count)[at].tolist()
        assert found.hashes[row] == (len(queries.sketches[row]) if sketches else -1)
        assert np.isinf(found.score[row, ~there]).all()
        far_ones += len(numbers) - len(set(index.rows.genome[asked[1][row]].tolist()))
        shared += sum(count)
    assert far_ones > 0
    assert (shared > 0) == sketches
    np.testing.assert_array_equal(found.genomes, book.positions(found.numbers))


def test_they_come_by_rows_by_means_and_by_shared_hashes(
    index: Storage, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BY_MEAN", "BY_KMERS"):
        monkeypatch.setattr(candidates, name, 2)
    monkeypatch.setattr(candidates, "CANDIDATES", 6)
    found = found_of(index, asked, sketches=True)
    monkeypatch.setattr(candidates, "MOST_MEANS", 1)
    without = found_of(index, asked, sketches=True)
    for row in range(len(found)):
        every = brute(index, asked, row, sketches=True)
        labels = asked[1][row]
        by_row = set(index.rows.genome[labels[index.rows.kinds[labels] != GENOME]].tolist())
        by_mean = {number for _, number, *_ in sorted(every, key=lambda one: one[3])[:2]}
        most = sorted((-count, number) for _, number, _, _, count in every if count)[:2]
        by_kmers = {number for _, number in most}
        for some, ways in ((found, by_row | by_mean | by_kmers), (without, by_row | by_kmers)):
            expected = [number for _, number, *_ in every if number in ways][:6]
            assert some.numbers[row][some.numbers[row] >= 0].tolist() == expected


def test_each_query_has_its_own_whatever_else_is_asked(index: Storage, asked: Asked) -> None:
    together = found_of(index, asked, sketches=True)
    for row in range(0, len(together), 5):
        alone = found_of(index, asked, sketches=True, rows=[row])
        for name in ("numbers", "near", "mean", "shared", "score"):
            np.testing.assert_array_equal(getattr(alone, name)[0], getattr(together, name)[row], err_msg=name)


def test_features_are_finite_even_of_nothing(index: Storage, asked: Asked) -> None:
    book, means = LineageBook(index), GenomeMeans(index)
    found = found_of(index, asked, sketches=True)
    book.positions(means.numbers)
    width = found.genomes.shape[1]
    none, far = np.full((3, width), -1), np.full((3, width), np.inf)
    hashes, lengths = np.array([-1, 0, 5]), np.array([0, 100, 10**9])
    nothing = Candidates(none, none, none, far, far, none * 0, far, hashes, lengths)
    with np.errstate(all="raise", under="ignore"):
        for some in (found, nothing, Candidates.joined([found, nothing]), found.take(np.arange(0))):
            votes = vote(some, book.lineages())
            own = own_features(votes)
            assert np.isfinite(own).all()
            for homology in (False, True):
                limits = (100.0, 50_000.0)
                parts = [name_features(votes, rank, limits, homology=homology) for rank in range(7)]
                parts.append(case_features(votes, means, own, limits, homology=homology))
                assert all(len(part) == len(some) and np.isfinite(part).all() for part in parts)


def test_a_spread_comes_back_as_it_was() -> None:
    rng = np.random.default_rng(0)
    known = {number: (rng.normal(size=5), rng.random(5) + 0.5) for number in (3, 17, 10**9)}
    spread = Spread(np.log([1e3, 1e4]), rng.normal(size=(2, 5)), rng.random((2, 5)) + 0.1, known)
    again = Spread.from_dict(spread.to_dict())
    values, lengths = rng.normal(size=(4, 5)), np.array([0, 900, 3_000, 10**6])
    genomes = np.array([3, 17, 4, -1])
    np.testing.assert_array_equal(
        again.deviations(values, lengths, genomes), spread.deviations(values, lengths, genomes)
    )
    assert again.to_dict() == spread.to_dict()
    stored = spread.to_dict()
    for name, damage in (
        ("lengths", stored["lengths"][::-1]),
        ("usual", stored["usual"][:1]),
        ("values", [line[:-1] for line in stored["values"]]),
        ("genomes", stored["genomes"][:2]),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            Spread.from_dict({**stored, name: damage})
