"""Retrieval by label: every figure against a count by hand, brute force or scikit-learn."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.stats import skew
from sklearn.metrics import average_precision_score, precision_recall_fscore_support

from kinmer.errors import FormatError, InputError, KinmerError, MismatchError, ProfileError, UsageError
from kinmer.evaluate.measures import (
    Neighbors,
    Rank,
    barred_pairs,
    domain_groups,
    label_table,
    measure,
    measure_names,
    ranks_of,
)
from kinmer.evaluate.retrieval import DRAWS, FRACTIONS, compare_retrieval, evaluate_retrieval
from kinmer.evaluate.scores import RetrievalReport
from kinmer.evaluate.searches import Pool, Trial, nearest, vector_trial
from kinmer.evaluate.statistics import Cells, intervals, resampled
from tests.organisms import encoder_of, organisms

Table = Mapping[str, Any]


def write_table(path: Path, columns: Table) -> Path:
    pd.DataFrame(columns).to_csv(path, sep="\t", index=False)
    return path


def write_vectors(stem: Path, vectors: NDArray[Any], ids: Sequence[str]) -> Path:
    np.save(stem.with_suffix(".npy"), vectors.astype(np.float32))
    stem.with_suffix(".txt").write_text("".join(f"{one}\n" for one in ids))
    return stem.with_suffix(".npy")


class Made:
    """Random vectors around the centres of species, with labels of which some are missing."""

    def __init__(self, folder: Path, seed: int = 0, *, entries: int = 90, asked: int = 60) -> None:
        rng = np.random.default_rng(seed)
        centres = rng.normal(size=(12, 6))
        self.vectors, self.labels, self.paths, self.tables = [], [], [], []
        for name, size in (("d", entries), ("q", asked)):
            kind = rng.integers(0, 12, size)
            vectors = (centres[kind] + rng.normal(size=(size, 6))).astype(np.float32)
            ids = [f"{name}{row}" for row in range(size)]
            known = rng.random((3, size)) < 0.85
            labels = {
                "id": ids,
                "genome_id": [f"g{name}{row % 25}" for row in range(size)],
                "length": rng.choice([1000, 5000], size),
                "species": np.where(known[0], [f"S{one}" for one in kind], ""),
                "genus": np.where(known[1], [f"G{one // 3}" for one in kind], "."),
                # Clusters cut across species: neither follows from the other.
                "ani95_cluster": np.where(
                    known[2], [f"C{one % 5}" for one in kind + rng.integers(0, 2, size)], ""
                ),
                "domain": np.where(kind < 8, "Bacteria", "Viruses"),
                "molecule": np.where(kind < 4, "chromosome", np.where(kind < 8, "contig", "virus")),
            }
            if name == "q":
                labels["case"] = rng.choice(["strain", "genus"], size)
            self.vectors.append(vectors)
            self.labels.append({key: np.asarray(value, object) for key, value in labels.items()})
            self.paths.append(write_vectors(folder / name, vectors, ids))
            self.tables.append(write_table(folder / f"{name}.tsv", labels))

    def report(self, **more: Any) -> RetrievalReport:
        given_ = {"database": self.paths[0], "queries": self.paths[1]}
        labels = {"database_labels": self.tables[0], "query_labels": self.tables[1]}
        return evaluate_retrieval(**{**given_, **labels, "bootstrap": 50, **more})

    def trial(self) -> Trial:
        return vector_trial(self.paths[0], self.paths[1], self.tables[0], self.tables[1], None)

    def distances(self, metric: Literal["cosine", "l2"]) -> NDArray[np.float64]:
        kind = "cosine" if metric == "cosine" else "euclidean"
        return np.asarray(cdist(self.vectors[1].astype(float), self.vectors[0].astype(float), kind))


def told(label: object) -> bool:
    return label not in ("", ".", "contig")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return Made(tmp_path_factory.mktemp("made"))


def right_of(made: Made, rank: str) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(q,) queries with a label and (q, n) which entries have it, pair by pair."""
    database, queries = made.labels
    keys = ["species", "ani95_cluster"] if rank == "species or cluster" else [rank]
    asked = np.array([any(told(queries[key][q]) for key in keys) for q in range(len(queries["id"]))])
    right = np.array(
        [
            [
                any(told(queries[key][q]) and queries[key][q] == database[key][d] for key in keys)
                for d in range(len(database["id"]))
            ]
            for q in range(len(queries["id"]))
        ]
    )
    return asked, right


def by_hand(made: Made, rank: str, metric: Literal["cosine", "l2"]) -> dict[str, list[tuple[float, float]]]:
    """(value, ceiling) of every query with a label, measure by measure."""
    asked, right = right_of(made, rank)
    apart = made.distances(metric)
    database = made.labels[0]
    found: dict[str, list[tuple[float, float]]] = {}
    for query in np.flatnonzero(asked):
        order = np.argsort(apart[query], kind="stable")
        ranked = right[query][order]
        number = int(ranked.sum())
        figures = {
            "at_1": (float(ranked[0]), float(number > 0)),
            "at_10": (ranked[:10].mean(), min(number, 10) / 10),
            "recall_10": (ranked[:10].sum() / max(number, 1), min(number, 10) / max(number, 1)),
            "recall_100": (float(number > 0), float(number > 0)),
            "any_10": (float(ranked[:10].any()), float(number > 0)),
            "map_100": (0.0, float(number > 0)),
        }
        if number:
            score = average_precision_score(right[query], -apart[query])
            figures["map_100"] = (score, 1.0)
        if rank != "species or cluster":
            votes: dict[object, float] = {}
            scale = (
                1.0 if metric == "cosine" else 2 * float((made.vectors[1][query].astype(float) ** 2).sum())
            )
            for entry in order[:10]:
                far = apart[query][entry] if metric == "cosine" else apart[query][entry] ** 2 / scale
                if told(database[rank][entry]):
                    votes[database[rank][entry]] = votes.get(database[rank][entry], 0) + math.exp(-far / 0.03)
            best = max(votes, key=lambda name: votes[name]) if votes else None
            figures["vote_10"] = (float(best == made.labels[1][rank][query]), float(number > 0))
        for name, pair in figures.items():
            found.setdefault(name, []).append(pair)
    return found


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("rank", ["species", "genus", "ani95_cluster", "species or cluster"])
def test_figures_and_ceilings_are_those_counted_by_hand(
    made: Made, rank: str, metric: Literal["cosine", "l2"]
) -> None:
    report = made.report(metric=metric)
    for name, pairs in by_hand(made, rank, metric).items():
        score = report.score("vectors", rank, name)
        assert score is not None
        value, ceiling = np.mean(pairs, axis=0)
        assert score.value == pytest.approx(value, abs=1e-6), name
        assert score.ceiling == pytest.approx(ceiling, abs=1e-12), name
        assert score.queries == len(pairs)
        assert score.low is not None
        assert score.high is not None
        assert score.low - 1e-6 <= value <= score.high + 1e-6
        assert value <= ceiling + 1e-12


def test_every_cell_holds_its_queries(made: Made) -> None:
    report = made.report()
    queries = made.labels[1]
    asked, right = right_of(made, "genus")
    first = made.distances("cosine").argmin(axis=1)
    hit = right[np.arange(len(first)), first]
    for case in ("all", "strain", "genus"):
        for domain in ("all", "cells", "viruses"):
            for length in ("all", "1000", "5000"):
                chosen = asked & np.array(
                    [
                        case in ("all", queries["case"][q])
                        and domain in ("all", "viruses" if queries["domain"][q] == "Viruses" else "cells")
                        and length in ("all", str(queries["length"][q]))
                        for q in range(len(asked))
                    ]
                )
                score = report.score("vectors", "genus", case=case, domain=domain, length=length)
                assert score is not None
                assert score.value == pytest.approx(hit[chosen].mean())
                assert score.queries == chosen.sum()
                assert score.genomes == len(set(queries["genome_id"][chosen]))


def test_molecules_are_told_by_the_nearest_that_has_one(made: Made) -> None:
    database, queries = made.labels
    known = np.array([told(one) for one in database["molecule"]])
    asked = np.array([told(one) for one in queries["molecule"]])
    first = np.where(known, made.distances("cosine"), np.inf).argmin(axis=1)
    true, given_ = queries["molecule"][asked].astype(str), database["molecule"][first][asked].astype(str)
    labels = ["chromosome", "virus"]
    wanted = precision_recall_fscore_support(true, given_, labels=labels)
    report = made.report()
    assert not any("contig" in score.measure for score in report.scores)
    for row, name in enumerate(("precision", "recall", "f1")):
        for column, label in enumerate(labels):
            score = report.score("vectors", "molecule", f"{name}:{label}")
            assert score is not None
            assert score.value == pytest.approx(wanted[row][column])
    at_1 = report.score("vectors", "molecule")
    assert at_1 is not None
    assert at_1.value == pytest.approx((true == given_).mean())


def test_hubs(made: Made) -> None:
    near = np.argsort(made.distances("cosine"), axis=1)[:, :10]
    hits = np.bincount(near.ravel(), minlength=90)
    hubs = made.report().hubs["vectors"]
    assert hubs.largest == hits.max()
    assert hubs.skewness == pytest.approx(skew(hits))
    assert hubs.never == pytest.approx((hits == 0).mean())


def test_a_smaller_database_finds_less_and_its_ceiling_tells(made: Made) -> None:
    pool = Pool([made.trial()])
    inside = pool.subsamples(FRACTIONS, DRAWS, 5)
    genomes = made.labels[0]["genome_id"]
    for row, fraction in enumerate(np.repeat(FRACTIONS, DRAWS)):
        kept = set(genomes[inside[row]])
        assert len(kept) == round(fraction * 25)
        assert not kept & set(genomes[~inside[row]])
    known, right = right_of(made, "species")
    apart = made.distances("cosine")
    report = made.report(seed=5)
    for at, name in enumerate(("at_1_of_1/8", "at_1_of_1/4", "at_1_of_1/2")):
        masks = inside[at * DRAWS : (at + 1) * DRAWS]
        values = [
            right[np.arange(len(known)), np.where(mask, apart, np.inf).argmin(axis=1)][known]
            for mask in masks
        ]
        could = [np.asarray(right[:, mask].any(axis=1))[known] for mask in masks]
        score = report.score("vectors", "species", name)
        assert score is not None
        assert score.value == pytest.approx(np.mean(values))
        assert score.ceiling == pytest.approx(np.mean(could))


def test_neighbours_behind_the_hundredth_are_searched(tmp_path: Path) -> None:
    # A hundred pieces of one genome stand around the query: subsamples without it have others to find.
    rng = np.random.default_rng(0)
    near, far = rng.normal([1, 0, 0, 0], 0.01, (120, 4)), rng.normal(size=(40, 4))
    database = np.concatenate([near, far])
    labels = {
        "id": [f"d{row}" for row in range(160)],
        "genome_id": ["hub"] * 120 + [f"g{row}" for row in range(40)],
        "species": ["hub"] * 120 + ["x", "y"] * 20,
    }
    asked = rng.normal([1, 0, 0, 0], 0.01, (20, 4))
    query_labels = {"id": [f"q{row}" for row in range(20)], "species": ["x"] * 20}
    report = evaluate_retrieval(
        database=write_vectors(tmp_path / "d", database, labels["id"]),
        queries=write_vectors(tmp_path / "q", asked, query_labels["id"]),
        database_labels=write_table(tmp_path / "d.tsv", labels),
        query_labels=write_table(tmp_path / "q.tsv", query_labels),
        metric="l2",
        bootstrap=2,
    )
    paths = tmp_path / "d.npy", tmp_path / "q.npy", tmp_path / "d.tsv", tmp_path / "q.tsv"
    inside = Pool([vector_trial(paths[0], paths[1], paths[2], paths[3], None)]).subsamples(
        FRACTIONS, DRAWS, 0
    )
    apart = cdist(asked.astype(np.float32), database.astype(np.float32))
    species = np.array(labels["species"])
    wanted = [(species[np.where(mask, apart, np.inf).argmin(axis=1)] == "x").mean() for mask in inside]
    assert max(wanted) > 0
    names = ("at_1_of_1/8", "at_1_of_1/4", "at_1_of_1/2")
    scores = [report.score("vectors", "species", name) for name in names]
    values = [np.nan if one is None else one.value for one in scores]
    assert values == pytest.approx(np.reshape(wanted, (3, DRAWS)).mean(axis=1))


def test_of_equal_distances_the_earlier_entry_is_nearer_and_wins_the_vote(tmp_path: Path) -> None:
    database = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    for order, value in (("abab", 1.0), ("baba", 0.0)):
        report = evaluate_retrieval(
            database=write_vectors(tmp_path / "d", database, ["d0", "d1", "d2", "d3"]),
            queries=write_vectors(tmp_path / "q", np.array([[1, 0], [2, 0]]), ["q0", "q1"]),
            database_labels=write_table(
                tmp_path / "d.tsv", {"id": ["d0", "d1", "d2", "d3"], "species": list(order)}
            ),
            query_labels=write_table(tmp_path / "q.tsv", {"id": ["q0", "q1"], "species": ["a", "a"]}),
            bootstrap=2,
        )
        for name, wanted in (("at_1", value), ("vote_10", value), ("at_10", 0.2), ("recall_10", 1.0)):
            score = report.score("vectors", "species", name)
            assert score is not None
            assert score.value == pytest.approx(wanted)
        score = report.score("vectors", "species", "map_100")
        assert score is not None
        # Right at places 1 and 3, or 2 and 4.
        assert score.value == pytest.approx((1 + 2 / 3) / 2 if value else (1 / 2 + 2 / 4) / 2)


LABEL = st.sampled_from(["", "a", "b", "c"])


@given(
    st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=8),
    st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=14),
    st.data(),
)
@settings(deadline=None)
def test_ranks_of_any_labels(
    asked: list[tuple[str, str]], entries: list[tuple[str, str]], data: st.DataObject
) -> None:
    """Right entries, their number and the votes, with barred pairs and subsamples, against plain loops."""
    pairs = [(q, d) for q in range(len(asked)) for d in range(len(entries))]
    barred = sorted(data.draw(st.sets(st.sampled_from(pairs), max_size=5)))
    inside = np.array(data.draw(st.lists(st.booleans(), min_size=len(entries), max_size=len(entries))))
    mine, theirs = (
        pd.DataFrame(rows, columns=["species", "ani95_cluster"], dtype=object).assign(set=0)
        for rows in (asked, entries)
    )
    who, which = (np.array([pair[side] for pair in barred], np.int64) for side in (0, 1))
    for rank in ranks_of(mine, theirs, (who, which)):
        keys = {"species": (0,), "ani95_cluster": (1,), "species or cluster": (0, 1)}[rank.name]

        def same(q: int, d: int, keys: tuple[int, ...] = keys) -> bool:
            return any(asked[q][key] and asked[q][key] == entries[d][key] for key in keys)

        rows = np.tile(np.arange(len(entries)), (len(asked), 1))
        right = rank.right(np.arange(len(asked)), rows)
        assert right.tolist() == [[same(q, d) for d in range(len(entries))] for q in range(len(asked))]
        assert rank.asked.tolist() == [any(one[key] for key in keys) for one in asked]
        assert rank.labeled.tolist() == [any(one[key] for key in keys) for one in entries]
        for mask in (None, inside):
            seen = [d for d in range(len(entries)) if mask is None or mask[d]]
            assert rank.relevant(mask).tolist() == [
                sum(same(q, d) and (q, d) not in barred for d in seen) for q in range(len(asked))
            ]
        check_votes(rank, len(asked), len(entries))


def check_votes(rank: Rank, asked: int, entries: int) -> None:
    """Votes of a shuffled list with weights that never tie."""
    rng = np.random.default_rng(asked * 100 + entries)
    rows = np.array([rng.permutation(entries)[:10] for _ in range(asked)])
    weights = np.sort(rng.random(rows.shape), axis=1)[:, ::-1]
    found = Neighbors(np.arange(asked), rows, weights, np.zeros((0, asked), np.int64))
    votes = measure(rank, found, np.ones(asked, np.int64), 1)[:, measure_names(rank, ()).index("vote_10")]
    right = rank.right(np.arange(asked), rows)
    for query in range(asked):
        behind: dict[int, float] = {}
        for place, row in enumerate(rows[query]):
            if rank.groups[row] >= 0:
                group = int(rank.groups[row])
                behind[group] = behind.get(group, 0) + weights[query, place]
        wanted = False
        if behind:
            best = max(behind, key=lambda one: behind[one])
            first = next(place for place, row in enumerate(rows[query]) if rank.groups[row] == best)
            wanted = bool(right[query, first])
        assert bool(votes[query]) == wanted


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from(["cosine", "l2"]))
@settings(deadline=None, max_examples=50)
def test_barred_entries_are_no_neighbours(seed: int, k: int, metric: Literal["cosine", "l2"]) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(int(rng.integers(1, 12)), 3)).astype(np.float32)
    asking = rng.normal(size=(int(rng.integers(1, 6)), 3)).astype(np.float32)
    pool = np.sort(rng.choice(50, len(vectors), replace=False))
    forbidden = rng.random((len(asking), 50)) < 0.4
    who, rows = np.nonzero(forbidden)
    barred = who.astype(np.int64), rows.astype(np.int64)
    places, distances = nearest(asking, vectors, np.full(len(asking), -1), pool, k, metric, barred=barred)
    apart = cdist(
        asking.astype(float), vectors.astype(float), "cosine" if metric == "cosine" else "euclidean"
    )
    assert places.shape == (len(asking), min(k, len(vectors)))
    for query in range(len(asking)):
        free = [place for place in np.argsort(apart[query]) if not forbidden[query, pool[place]]]
        wanted = [*free, *[-1] * len(vectors)][: places.shape[1]]
        assert places[query].tolist() == wanted
        known = [place for place in wanted if place >= 0]
        assert distances[query, : len(known)] == pytest.approx(apart[query][known], abs=1e-6)
        assert np.isinf(distances[query, len(known) :]).all()


def test_a_query_meets_neither_itself_nor_what_overlaps_it() -> None:
    queries = pd.DataFrame(
        {
            "id": ["a", "b", "c", "d", "x"],
            "sequence_id": ["s", "s", "t", "s", ""],
            "start": ["0", "100", "0", "", "0"],
            "end": ["100", "200", "50", "9", "9"],
        }
    )
    database = pd.DataFrame(
        {
            "id": ["m", "n", "x", "o", "p"],
            "sequence_id": ["s", "s", "s", "t", ""],
            "start": ["99", "100", "200", "49", "0"],
            "end": ["100", "101", "300", "60", "9"],
        }
    )
    who, rows = barred_pairs(queries, database)
    met = {(queries["id"][q], database["id"][d]) for q, d in zip(who, rows, strict=True)}
    # Ends are not part of a span; unknown places and sequences overlap nothing.
    assert met == {("a", "m"), ("b", "n"), ("c", "o"), ("x", "x")}
    assert (np.diff(who) >= 0).all()
    only_ids = barred_pairs(queries[["id"]], database)
    assert [one.tolist() for one in only_ids] == [[4], [2]]


def test_one_source_is_asked_about_itself(made: Made) -> None:
    report = evaluate_retrieval(database=made.paths[0], database_labels=made.tables[0], bootstrap=2)
    assert (report.queries, report.database) == (90, 90)
    species = made.labels[0]["species"]
    vectors = made.vectors[0].astype(float)
    apart = cdist(vectors, vectors, "cosine")
    np.fill_diagonal(apart, np.inf)
    asked = np.array([one != "" for one in species])
    score = report.score("vectors", "species")
    assert score is not None
    assert score.value == pytest.approx((species[apart.argmin(axis=1)] == species)[asked].mean())
    others = [(species == one).sum() > 1 for one in species[asked]]
    assert score.ceiling == pytest.approx(np.mean(others))


def test_shuffled_labels_fall_to_chance(tmp_path: Path) -> None:
    made = Made(tmp_path, seed=4, entries=400, asked=1500)
    rng = np.random.default_rng(1)
    labels = dict(made.labels[0])
    labels["species"] = rng.permutation(labels["species"])
    report = made.report(database_labels=write_table(tmp_path / "shuffled.tsv", labels), bootstrap=400)
    wanted = made.labels[1]["species"]
    chance = np.mean([(labels["species"] == one).mean() for one in wanted[wanted != ""]])
    whole = made.report(bootstrap=2).score("vectors", "species")
    for name in ("at_1", "at_10"):
        score = report.score("vectors", "species", name)
        assert score is not None
        assert score.value is not None
        assert score.low is not None
        assert score.high is not None
        assert score.low <= chance <= score.high
        assert score.high - score.low < 0.1
    assert whole is not None
    assert whole.value is not None
    assert whole.value > 3 * chance


def test_intervals_hold_the_truth_about_95_times_of_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    trials, units, truth = 400, 60, 0.3
    for _ in range(trials):
        # Genomes are hard or easy: the share of a genome is Beta(1.5, 3.5), with mean 0.3.
        sizes = rng.integers(1, 13, units)
        hits = rng.binomial(sizes, rng.beta(1.5, 3.5, units))
        weights = resampled(units, 400, rng)
        (one,) = intervals(hits[:, None].astype(float), sizes[:, None].astype(float), weights)
        assert one.low is not None
        assert one.high is not None
        held += one.low <= truth <= one.high
    # 0.95 ± 4 standard errors, and two points that a percentile interval of 60 units may be short.
    assert 0.95 - 0.02 - 4 * math.sqrt(0.05 * 0.95 / trials) <= held / trials <= 0.995


def test_intervals_are_percentiles_of_what_is_defined() -> None:
    rng = np.random.default_rng(2)
    above, below = rng.integers(0, 3, (5, 4)).astype(float), rng.integers(0, 2, (5, 4)).astype(float)
    below[:, 3] = 0
    weights = resampled(5, 300, rng)
    drawn = weights @ below
    with np.errstate(divide="ignore", invalid="ignore"):
        samples = np.where(drawn > 0, (weights @ above) / drawn, np.nan)
    assert np.isnan(samples[:, :3]).any()
    for column, one in enumerate(intervals(above, below, weights)):
        if column == 3:
            assert (one.value, one.low, one.high) == (None, None, None)
            continue
        assert one.value == pytest.approx(above[:, column].sum() / below[:, column].sum())
        assert (one.low, one.high) == pytest.approx(tuple(np.nanquantile(samples[:, column], (0.025, 0.975))))
    (alone,) = intervals(above[:, :1], np.ones((5, 1)), np.empty((0, 5)))
    assert (alone.low, alone.high) == (None, None)


def test_lengths_are_told_as_they_are_or_in_bins() -> None:
    def cells(lengths: Sequence[object]) -> list[tuple[str, int]]:
        table = pd.DataFrame({"length": lengths, "genome_id": "g"}, dtype=object)
        found = Cells(table, bootstrap=2, seed=0).of(np.ones(len(table), bool))
        return [(cell.length, cell.rows.size) for cell in found]

    assert cells(["5000", "1000", "5000", ""]) == [("all", 4), ("1000", 1), ("5000", 2)]
    many = [str(size) for size in range(900, 2_100, 50)]
    assert cells(many) == [("all", 24), ("500-999", 2), ("1000-1999", 20), ("2000-4999", 2)]


def test_domains_are_told_by_domain_or_molecule() -> None:
    table = pd.DataFrame(
        {"domain": ["Bacteria", "Viruses", "", "", ""], "molecule": ["virus", "", "virus", "plasmid", ""]}
    )
    assert domain_groups(table).tolist() == ["cells", "viruses", "viruses", "cells", ""]
    assert domain_groups(table[[]]).tolist() == [""] * 5


def profiles(rows: int, seed: int, name: str) -> tuple[AnnData, dict[str, Sequence[object]]]:
    """Counted organisms under ids of their own, and labels: species is what made them, three to a genus."""
    table = organisms(rows, seed=0)
    keep = np.random.default_rng(seed).permutation(rows)[: rows // 2]
    table = table[np.sort(keep)].copy()
    table.obs.index = pd.Index([f"{name}{row}" for row in range(len(table))])
    kind = table.obs["kind"].to_numpy()
    labels: dict[str, Sequence[object]] = {
        "id": list(table.obs.index),
        "species": [f"S{one}" for one in kind],
        "genome_id": [f"{name}{row // 3}" for row in range(len(table))],
        "fold": [str(one % 2) for one in kind],
    }
    return table, labels


def test_encoders_pairs_and_folds(tmp_path: Path) -> None:
    """Encoders of every fold give what each gives alone on its queries; differences are paired."""
    (base, base_labels), (asked, asked_labels) = profiles(200, 1, "d"), profiles(200, 2, "q")
    paths = [
        write_table(tmp_path / "d.tsv", base_labels),
        write_table(tmp_path / "q.tsv", asked_labels),
    ]
    for number in (0, 1):
        encoder_of(seed=number, dim=3).save(tmp_path / f"fold{number}")
    names = [str(tmp_path / "fold{fold}"), str(tmp_path / "fold0"), str(tmp_path / "fold1")]
    report = evaluate_retrieval(
        database=base,
        queries=asked,
        database_labels=paths[0],
        query_labels=paths[1],
        encoders=names,
        baseline=names[1],
        bootstrap=200,
    )
    values = dict(zip(names, report.measured[0].values[:, :, 0], strict=True))
    fold = np.array(asked_labels["fold"])
    for part in ("0", "1"):
        alone = values[str(tmp_path / f"fold{part}")]
        assert values[names[0]][fold == part].tolist() == alone[fold == part].tolist()
    assert (values[names[1]] != values[names[2]]).any()
    species, entries = np.array(asked_labels["species"]), np.array(base_labels["species"])
    for seed in (0, 1):
        encoder = encoder_of(seed=seed, dim=3)
        mine, theirs = encoder.embed(np.asarray(asked.X)), encoder.embed(np.asarray(base.X))
        first = cdist(mine.astype(float), theirs.astype(float), "cosine").argmin(axis=1)
        assert values[names[1 + seed]].tolist() == (entries[first] == species).astype(float).tolist()

    apart = {
        (one.encoder, one.rank, one.measure): one
        for one in report.differences
        if (one.case, one.domain, one.length) == ("all", "all", "all")
    }
    assert {one.encoder for one in report.differences} == {names[0], names[2]}
    one = apart[names[2], "species", "at_1"]
    wanted = values[names[2]] - values[names[1]]
    assert one.value == pytest.approx(wanted.mean())
    # By hand: whole genomes are drawn, and both encoders are measured on the same draw.
    genomes = np.array(asked_labels["genome_id"])
    units = sorted(set(genomes))
    weights = resampled(len(units), 200, np.random.default_rng(0))
    sums = np.array([wanted[genomes == unit].sum() for unit in units])
    sizes = np.array([(genomes == unit).sum() for unit in units])
    samples = (weights @ sums) / (weights @ sizes)
    assert (one.low, one.high) == pytest.approx(tuple(np.quantile(samples, (0.025, 0.975))))
    assert compare_retrieval(report, names[1]) == list(report.differences)
    with pytest.raises(UsageError, match="none of the encoders"):
        compare_retrieval(report, "nobody")


def test_several_benchmarks_are_pooled(tmp_path: Path) -> None:
    """Queries of two databases together: each finds in its own only; genomes are one unit over both."""
    made = []
    for seed in (0, 1):
        folder = tmp_path / str(seed)
        folder.mkdir()
        made.append(Made(folder, seed=seed))
    pool = Pool([one.trial() for one in made])
    assert len(pool.queries) == 120
    assert len(pool.database) == 180
    rank = next(rank for rank in ranks_of(pool.queries, pool.database, pool.barred) if rank.name == "species")
    single = np.concatenate([right_of(one, "species")[1].sum(axis=1) for one in made])
    assert rank.relevant().tolist() == single.tolist()
    cells = Cells(pool.queries, bootstrap=2, seed=0)
    whole = next(iter(cells.of(np.ones(120, bool))))
    assert whole.starts.size == 25


def wrong(folder: Path, made: Made, what: str) -> dict[str, Any]:
    """Arguments of which one cannot be used."""
    bare = write_table(folder / "bare.tsv", {"id": ["d0"], "colour": ["red"]})
    strangers = write_table(folder / "strangers.tsv", {"id": ["nobody"], "species": ["x"]})
    short = write_vectors(folder / "short", np.ones((3, 6)), ["a", "b"])
    holes = write_vectors(folder / "holes", np.full((60, 6), np.nan), made.labels[1]["id"].tolist())
    other = write_vectors(folder / "other", np.ones((60, 5)), made.labels[1]["id"].tolist())
    arguments: dict[str, dict[str, Any]] = {
        "no labels": {"database_labels": None},
        "no query labels": {"query_labels": None},
        "nothing in common": {"query_labels": None, "queries": None, "database_labels": bare},
        "strangers": {"query_labels": strangers},
        "ids": {"queries": short},
        "holes": {"queries": holes},
        "dimensions": {"queries": other},
        "encoder": {"encoders": [encoder_of()]},
        "metric": {"metric": "euclid"},
        "baseline": {"baseline": "nobody"},
        "both": {"benchmarks": folder},
        "missing": {"queries": folder / "missing.npy"},
    }
    return arguments[what]


@pytest.mark.parametrize(
    ("what", "error", "message"),
    [
        ("no labels", UsageError, "nothing to evaluate"),
        ("no query labels", UsageError, "belong together"),
        ("nothing in common", UsageError, "no label in common"),
        ("strangers", InputError, "none of the sequences"),
        ("ids", ProfileError, "2 ids for the 3 rows"),
        ("holes", ProfileError, "'q0' holds NaN"),
        ("dimensions", MismatchError, "5 dimensions, entries of 6"),
        ("encoder", UsageError, "cannot be embedded again"),
        ("metric", UsageError, "cosine or l2"),
        ("baseline", UsageError, "none of the encoders"),
        ("both", UsageError, "one or the other"),
        ("missing", InputError, "no such file"),
    ],
)
def test_what_cannot_be_used(
    made: Made, tmp_path: Path, what: str, error: type[KinmerError], message: str
) -> None:
    with pytest.raises(error, match=message):
        made.report(**wrong(tmp_path, made, what))


def test_labels_keep_the_order_of_the_ids(tmp_path: Path) -> None:
    path = write_table(tmp_path / "a.tsv", {"Species": ["x", "y"], "sequence_id": ["b", "a"]})
    table = label_table(["a", "c", "b"], path)
    assert table["species"].tolist() == ["y", "", "x"]
    assert table["genome_id"].tolist() == ["a", "c", "b"]
    (tmp_path / "twice.tsv").write_text("id\tspecies\tSpecies\na\tx\ty\n")
    with pytest.raises(InputError, match="one name"):
        label_table(["a"], tmp_path / "twice.tsv")


def test_a_report_is_written_whole(made: Made, tmp_path: Path) -> None:
    report = made.report()
    paths = report.write(tmp_path / "r")
    assert [path.name for path in paths] == ["r.tsv", "r.json", "r.png", "r.svg"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    table = pd.read_csv(paths[0], sep="\t")
    assert len(table) == len(report.scores)
    data = json.loads(paths[1].read_text())
    row = table[(table["rank"] == "genus") & (table.case == "strain") & (table.measure == "map_100")].iloc[0]
    nested = data["scores"]["vectors"]["genus"]["strain"]["all"]["all"]
    assert nested["queries"] == row.queries
    assert nested["measures"]["map_100"]["value"] == pytest.approx(row.value, rel=1e-4)
    text = report.table()
    assert "nearest is of the same species: case strain, viruses" in text
    assert "ceiling" in text
    assert not any(line.endswith(" ") for line in text.splitlines())
    with pytest.raises(FormatError, match="no benchmark"):
        evaluate_retrieval(tmp_path / "none", encoders=["raw"])
