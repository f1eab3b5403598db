"""Several indexes searched as one: the hits of the index merged from them, and the verdict that says most."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import permutations
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import kinmer
from kinmer.cli import run
from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.index import Storage
from kinmer.library import build_index
from kinmer.queries import Hit, MoleculeCall, QueryResult, RankCall, SearchResults, intake, search, search_ids
from kinmer.queries import judge as judges
from kinmer.queries import union as unions
from kinmer.queries.intake import Queries
from tests.organisms import encoder_of
from tests.small_world import World, make_world

RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")


@dataclass(frozen=True)
class Indexes:
    """first, second : calibrated, of one half of the references each; merged : of both. plain : of two more
    genomes, not calibrated. queries : also one without a profile.
    """

    world: World
    first: Path
    second: Path
    merged: Path
    plain: Path
    queries: Path

    @property
    def both(self) -> list[Path]:
        return [self.first, self.second]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Indexes:
    folder = tmp_path_factory.mktemp("union")
    world = make_world(folder / "community")
    table = pd.read_csv(world.metadata, sep="\t", dtype=str)
    other = folder / "other.tsv"
    # Of one index a column is written otherwise, one is not there, and one is its own.
    own = table.drop(columns="strain").rename(columns={"genus": "Genus"})
    own.assign(habitat=["sea" if at % 3 else "soil" for at in range(len(own))]).to_csv(
        other, sep="\t", index=False
    )
    first, second, merged, plain = (folder / f"{name}.db" for name in ("a", "b", "m", "plain"))
    found = Indexes(world, first, second, merged, plain, folder / "queries.fna")
    halves = (world.references[::2], world.metadata), (world.references[1::2], other)
    for (files, metadata), path in zip(halves, found.both, strict=True):
        build_index(files, path, metadata=metadata, engine="exact", threads=1).close()
    build_index(world.later, found.plain, metadata=world.metadata, calibrate=False, threads=1).close()
    kinmer.merge_indexes(found.both, found.merged, calibrate=False, threads=1).close()
    found.queries.write_text(world.queries.read_text() + ">nothing\nNNNNNNNNNN\n")
    return found


def hits_of(results: SearchResults, *, db: bool = False) -> list[Any]:
    """All that hits say, without their index."""
    return [
        (one.id, [(facet, hit if db else replace(hit, db=None)) for facet, hit in one.every_hit()])
        for one in results
    ]


def near(found: list[Any]) -> list[Any]:
    """Of these only which hits there are, and how far."""
    return [(name, [(hit.id, hit.distance) for _, hit in hits]) for name, hits in found]


WANTED: list[dict[str, Any]] = [
    {"k": 4},
    {"k": 1000},
    {"k": 5, "by": "genome"},
    {"k": 3, "metric": "l2"},
    {"k": 4, "max_distance": 0.3},
    {"k": 3, "facets": ("plasmid", "virus")},
    {"k": 3, "where": 'strain == "1" or habitat == "sea"', "facets": ("chromosome",)},
    {"k": 3, "where": 'GENUS != "Nahalla" and habitat is None', "by": "genome"},
]


@pytest.mark.parametrize("wanted", WANTED, ids=str)
def test_the_hits_are_those_of_the_merged_index(made: Indexes, wanted: dict[str, Any]) -> None:
    alone = hits_of(search(made.queries, made.merged, n_jobs=1, **wanted))
    assert sum(len(hits) for _, hits in alone) > 20
    assert hits_of(search(made.queries, made.both, n_jobs=1, **wanted)) == alone
    # No distance is that of two entries here.
    turned = hits_of(search(made.queries, made.both[::-1], n_jobs=1, **wanted))
    assert near(turned) == near(alone)


@pytest.mark.skipif(find_spec("pyskani") is None, reason="skani is not installed")
@pytest.mark.parametrize("wanted", [{}, {"rank_by_evidence": True}, {"by": "genome"}], ids=str)
def test_alignments_are_those_of_the_merged_index(
    made: Indexes, wanted: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (judges, unions):
        monkeypatch.setattr(module, "ALIGNED", 6)
    alone, both = (
        hits_of(search(made.world.queries, db, k=3, evidence=True, n_jobs=1, **wanted))
        for db in (made.merged, made.both)
    )
    assert both == alone
    assert any(hit.evidence and hit.evidence.kind == "both" for _, hits in both for _, hit in hits)


@pytest.mark.skipif(find_spec("pyskani") is None, reason="skani is not installed")
def test_where_an_index_has_no_sequences_the_others_hits_are_aligned(made: Indexes, tmp_path: Path) -> None:
    bare, file = tmp_path / "bare.db", Path(shutil.copy(made.world.references[1], tmp_path))
    build_index(file, bare, engine="exact", keep_sequences=False, calibrate=False, threads=1).close()
    file.unlink()
    told = list[str]()
    options: dict[str, Any] = {"k": 40, "rank_by_evidence": True, "n_jobs": 1}
    with search(made.world.queries, [bare, made.first], log=told.append, **options) as results:
        hits = results.hits
    alone = search(made.world.queries, made.first, **options).hits
    assert hits[hits["db"] == "bare.db"]["homology"].isna().all()
    aligned = hits[hits["db"] == "a.db"]
    assert aligned["ani"].tolist() == pytest.approx(alone["ani"].tolist(), nan_ok=True)
    assert aligned["hit_id"].tolist() == alone["hit_id"].tolist()
    assert sum("no sequences: its hits are not aligned" in line for line in told) == 1
    with pytest.raises(UsageError, match="no sequences to align"):
        list(search(made.world.queries, [bare], evidence=True))


def test_queries_are_not_hits_of_themselves_in_any_index(made: Indexes) -> None:
    entries = made.world.references[1]
    for wanted in ({"k": 3}, {"k": 3, "by": "genome"}):
        alone, both = (
            hits_of(search(entries, db, exclude_self=True, n_jobs=1, **wanted))
            for db in (made.merged, made.both)
        )
        assert both == alone


def test_an_entry_of_two_indexes_is_one_hit(made: Indexes) -> None:
    alone = hits_of(search(made.queries, made.merged, k=6, n_jobs=1))
    doubled = hits_of(search(made.queries, [made.second, made.merged], k=6, n_jobs=1), db=True)
    assert near(doubled) == near(alone)
    with Storage.open(made.second) as index:
        first = set(index.ids.tolist())
    for _, hits in doubled:
        assert all(hit.db == ("b.db" if hit.id in first else "m.db") for _, hit in hits)


def test_the_verdict_is_that_of_one_index_and_none_names_a_deeper_rank(made: Indexes) -> None:
    told = list[str]()
    alone = {path.name: list(search(made.queries, path, k=3, n_jobs=1)) for path in made.both}
    both = list(search(made.queries, made.both, k=3, n_jobs=1, log=told.append))
    assert {one.db for one in both} == {"a.db", "b.db", ""}
    for at, one in enumerate(both):
        if one.no_profile:
            assert (one.db, one.verdict) == ("", alone["a.db"][at].verdict)
            continue
        theirs = alone[str(one.db)][at]
        assert (one.verdict, one.rank, one.name, one.consensus, one.molecule, one.why) == (
            *(theirs.verdict, theirs.rank, theirs.name, theirs.consensus, theirs.molecule, theirs.why),
        )
        depths = [-1 if some[at].rank is None else RANKS.index(some[at].rank) for some in alone.values()]
        assert max(depths) == (-1 if one.rank is None else RANKS.index(one.rank))
        if one.verdict == "nothing near":
            assert {some[at].verdict for some in alone.values()} == {"nothing near"}
    # Every known species is in one of them.
    right = [one.name == made.world.species_of(one.id) for one in both if one.id.startswith("known")]
    assert all(right)
    assert any(line.startswith("a.db: ") for line in told) == any("a.db" in line for line in told)


def result(verdict: str, rank: str | None, name: str, sure: float | None, far: float = 0.1) -> QueryResult:
    """What one index says of a query."""
    calls = {rank or "domain": RankCall(name or "Bacteria", 0.5, sure)}
    return QueryResult("q", 9, (Hit(1, "h", far, 9, 0.5, {}),), calls, verdict, rank, name or None)


SPECIES = result("species S a", "species", "S a", 0.6)
SURER = result("species S b", "species", "S b", 0.7)
PROVEN = result("species S c, by alignment", "species", "S c", None)
NEW = result("new species of genus S", "genus", "S", 0.99)
UNSURE_BELOW = result("genus S, species unsure", "genus", "S", 0.8)
OTHER_GENUS = result("genus T, species unsure", "genus", "T", 0.9)
UNSURE = result("unsure", None, "", 0.8)
NEARER = result("unsure", None, "", 0.8, 0.05)
NOTHING = result("nothing near", None, "", 0.4)
SHORT = result("too short to tell", None, "", None)
VOTES = result("", "species", "S v", None)


@pytest.mark.parametrize(
    ("given", "best"),
    [
        ((SPECIES, NEW, UNSURE), SPECIES),
        ((SPECIES, SURER, NEW), SURER),
        ((SURER, PROVEN), PROVEN),
        ((NEW, OTHER_GENUS), NEW),
        # Nothing is new that another index may have.
        ((NEW, UNSURE_BELOW, NOTHING), UNSURE_BELOW),
        ((NOTHING, UNSURE, SHORT), UNSURE),
        ((UNSURE, NEARER), NEARER),
        ((NOTHING, SHORT), NOTHING),
        ((NOTHING, VOTES), NOTHING),
        ((NOTHING, NOTHING), NOTHING),
    ],
)
def test_what_says_most_stands_in_whatever_order(given: tuple[QueryResult, ...], best: QueryResult) -> None:
    for some in permutations(given):
        assert some[unions._most_telling(some)] == best


def test_molecules_are_those_of_the_verdict_where_it_has_them() -> None:
    union = unions._Union(["a", "b"], [], judges.SearchSettings())
    kind, other = (MoleculeCall(name, 0.9, {}) for name in ("plasmid", "virus"))
    assert union.joined([replace(SPECIES, molecule=kind), replace(SURER, molecule=other)]).molecule == other
    assert union.joined([replace(SPECIES, molecule=kind), SURER]).molecule == kind


def test_without_calibration_there_are_hits_and_a_line(made: Indexes) -> None:
    told = list[str]()
    options: dict[str, Any] = {"k": 40, "min_probability": 0.6, "n_jobs": 1}
    alone = search(made.queries, made.first, **options).calls
    found = search(made.queries, [made.plain, made.first], log=told.append, **options)
    calls, hits = found.calls, found.hits
    assert calls["verdict"].tolist() == alone["verdict"].tolist()
    assert set(calls["db"].dropna()) == {"a.db"}
    assert set(hits["db"]) == {"a.db", "plain.db"}
    assert [line for line in told if "no calibration" in line] == [
        f"{made.plain} has no calibration: it gives hits, and no verdicts"
    ]
    # As with one index, where none has a calibration.
    plain = made.plain.with_name("second.db")
    cells = made.world.references[:3]
    build_index(cells, plain, metadata=made.world.metadata, calibrate=False, threads=1).close()
    told.clear()
    votes = list(search(made.queries, [made.plain, plain], n_jobs=1, log=told.append))
    assert told == []
    singly = [list(search(made.queries, db, n_jobs=1)) for db in (made.plain, plain)]
    assert all(one.consensus for one in votes if not one.no_profile)
    for one, *theirs in zip(votes, *singly, strict=True):
        assert one.consensus in [other.consensus for other in theirs]
        assert one.no_profile or (one.verdict, one.db) in (("", "plain.db"), ("", "second.db"))
    with pytest.raises(UsageError, match="no calibration"):
        list(search(made.queries, [made.plain, plain], min_probability=0.5))


def test_entries_are_queries_whichever_index_has_them(made: Indexes) -> None:
    with Storage.open(made.merged) as index:
        names = index.ids[[20, 0, 13, 1]].tolist()
    alone = hits_of(search_ids(made.merged, names, k=3))
    assert hits_of(search_ids(made.both, names, k=3)) == alone
    assert near(hits_of(search_ids([made.second, made.merged], names, k=3))) == near(alone)
    with pytest.raises(InputError, match="no entry 'none'"):
        search_ids(made.both, [names[0], "none"])


def test_an_id_of_two_genomes_is_refused(made: Indexes, tmp_path: Path) -> None:
    entry = made.world.references[0].read_text().split(">")[1].split()[0]
    file = tmp_path / "elsewhere.fna"
    file.write_text(f">{entry}\n{'ACGTTGCA' * 200}\n")
    kinmer.build_reference(file, tmp_path / "x.db", calibrate=False, threads=1).close()
    with pytest.raises(InputError, match=f"'{entry}' is in several genomes: 'elsewhere', 's0") as caught:
        search_ids([made.first, tmp_path / "x.db"], [entry])
    assert f"say 'elsewhere:{entry}'" in str(caught.value)
    found = next(search_ids([made.first, tmp_path / "x.db"], [f"elsewhere:{entry}"], k=1))
    assert (found.length, found.hits[0].db) == (1600, "a.db")


def test_indexes_that_do_not_go_together_are_refused(
    made: Indexes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    strange, far = tmp_path / "strange.db", tmp_path / "far.db"
    build_index(made.world.later, strange, encoder=encoder_of(), calibrate=False, threads=1).close()
    build_index(made.world.later, far, metric="l2", calibrate=False, threads=1).close()
    with pytest.raises(UsageError, match="no index"):
        search(made.queries, [])
    with pytest.raises(MismatchError, match="encoder"):
        search(made.queries, [made.first, strange])
    (made.first.parent / "link").symlink_to(made.first)
    for other, text in ((strange, "encoder"), (far, "metric"), (made.first.parent / "link", "twice")):
        assert run(["search", str(made.queries), "--db", str(made.first), "--db", str(other)]) == 2
        told = capsys.readouterr().err.strip()
        assert "\n" not in told
        assert text in told
        assert str(made.first) in told
        assert text == "twice" or str(other) in told
    assert list(search(made.queries, [made.first, far], metric="cosine"))


def test_several_are_written_with_their_names_and_one_as_ever(
    made: Indexes, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--quiet", "search", str(made.queries), "-k", "2", "--facet", "plasmid"]
    several = [*asked, "--db", str(made.first), "--db", str(made.second)]
    results = search(made.queries, made.both, k=2, facets=["plasmid"])
    tables = {"calls": results.calls, "tsv": results.hits}
    for form in ("calls", "tsv", "json", "jsonl", "blast", "krona", "lineage"):
        assert run([*several, "--format", form]) == 0
        text = capsys.readouterr().out
        written = io.StringIO()
        results.write(written, form)
        assert text == written.getvalue()
        if form in tables:
            table = pd.read_csv(io.StringIO(text), sep="\t", dtype=str)
            assert list(table.columns) == list(tables[form].columns)
            assert list(table.columns).index("db") == (31 if form == "calls" else 10)
            assert set(table["db"].dropna()) == {"a.db", "b.db"}
        if form == "json":
            first, *_, last = json.loads(text)
            assert first["db"] in ("a.db", "b.db")
            assert last["db"] is None
            assert {hit["db"] for hit in first["hits"]} <= {"a.db", "b.db"}
            assert "habitat" in first["hits"][0]["metadata"]
        alone = io.StringIO()
        search(made.queries, [made.first], k=2, facets=["plasmid"]).write(alone, form)
        assert run([*asked, "--db", str(made.first), "--format", form]) == 0
        assert capsys.readouterr().out == alone.getvalue()
        assert '"db"' not in alone.getvalue()
        assert "\tdb" not in alone.getvalue()


def test_names_of_folders_stand_for_indexes_unless_they_are_equal(made: Indexes, tmp_path: Path) -> None:
    (tmp_path / "a.db").symlink_to(made.second)
    calls = search(made.queries, [made.first, tmp_path / "a.db"]).calls
    assert set(calls["db"].dropna()) == {str(made.first), str(tmp_path / "a.db")}


def test_blocks_and_samples_do_not_matter_and_no_index_runs_ahead(
    made: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = list(search(made.queries, made.both, k=3, prior="usual", n_jobs=1))
    read = 0
    blocks = intake.read_queries

    def one_by_one(*given: Any, **more: Any) -> Iterator[Queries]:
        nonlocal read
        for block in blocks(*given, **more):
            for at in range(len(block.ids)):
                read += 1
                yield block._taken([at])

    monkeypatch.setattr("kinmer.queries._search.read_queries", one_by_one)
    monkeypatch.setattr(judges, "SAMPLE", 4)
    for at, one in enumerate(search(made.queries, made.both, k=3, prior="usual", n_jobs=1)):
        assert one == whole[at]
        assert read <= at + 6


def test_indexes_are_closed_at_the_end_but_not_those_given_open(
    made: Indexes, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[str] = []
    close = Storage.close

    def noted(self: Storage) -> None:
        closed.append(self.path.name)
        close(self)

    monkeypatch.setattr(Storage, "close", noted)
    list(search(made.queries, made.both))
    assert closed == ["a.db", "b.db"]
    with search(made.queries, made.both) as results:
        next(results)
    assert closed == ["a.db", "b.db"] * 2
    with pytest.raises(Exception, match=r"gone\.db"):
        search(made.queries, [*made.both, made.first.with_name("gone.db")])
    assert closed == ["a.db", "b.db"] * 3
    with kinmer.open_index(made.first) as index:
        assert len(search(made.queries, [index, made.second]).calls)
        assert closed == [*["a.db", "b.db"] * 3, "b.db"]
        assert len(index)
