"""Results of a search: they are read once or kept, make tables, write themselves, and close the index."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest

import kinmer
from kinmer.errors import UsageError
from kinmer.index import Storage
from kinmer.library import build_index
from kinmer.queries import WRITERS, SearchResults, search, search_ids, write_tsv
from tests.small_world import World, make_world


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.fixture(scope="module")
def db(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    db = tmp_path_factory.mktemp("made") / "kin.db"
    build_index(world.references, db, metadata=world.metadata, threads=1).close()
    return db


def test_iterating_gives_results_one_after_the_other_and_only_once(db: Path, world: World) -> None:
    results = search(world.queries, db)
    first = next(results)
    rest = list(results)
    assert [first, *rest] == list(search(world.queries, db))
    with pytest.raises(UsageError, match="have been read"):
        list(results)
    with pytest.raises(UsageError, match="have been read"):
        _ = results.calls
    with pytest.raises(UsageError, match="have been read"):
        results.write(io.StringIO())


def test_tables_keep_the_results_which_can_then_be_read_again(db: Path, world: World) -> None:
    results = search(world.queries, db, k=3)
    calls, hits = results.calls, results.hits
    kept = list(results)
    assert kept == list(results) == list(search(world.queries, db, k=3))
    assert calls["query_id"].tolist() == [result.id for result in kept]
    assert len(hits) == sum(len(result.hits) for result in kept)
    for result, (_, row) in zip(kept, calls.iterrows(), strict=True):
        assert row["verdict"] == result.verdict
        assert row["species_p"] == result.consensus["species"].probability
        assert row["nearest_distance"] == result.hits[0].distance
    assert hits["hit_id"].tolist() == [hit.id for result in kept for hit in result.hits]
    assert hits["genus"].tolist() == [hit.metadata["genus"] for result in kept for hit in result.hits]


def test_tables_are_what_is_written(db: Path, world: World) -> None:
    results = search(world.queries, db, k=2, facets=["plasmid"])
    for form, frame in (("calls", results.calls), ("tsv", results.hits)):
        stream = io.StringIO()
        assert results.write(stream, form) == len(results.calls)
        stream.seek(0)
        written = pd.read_csv(stream, sep="\t", dtype={"strain": str})
        assert list(written.columns) == list(frame.columns)
        pd.testing.assert_frame_equal(written, frame, check_dtype=False, atol=1e-4)


@pytest.mark.parametrize("form", list(WRITERS))
def test_every_format_of_the_command_line_is_written(
    db: Path, world: World, tmp_path: Path, form: str
) -> None:
    stream, path = io.StringIO(), tmp_path / "out"
    count = search(world.queries, db).write(stream, form)
    assert count == search(world.queries, db).write(path, form)
    assert path.read_text() == stream.getvalue()
    with pytest.raises(UsageError, match="exists"):
        search(world.queries, db).write(path, form)
    assert search(world.queries, db).write(path, form, force=True) == count


def test_an_unknown_format_is_refused_before_anything_is_computed(db: Path, world: World) -> None:
    results = search(world.queries, db)
    with pytest.raises(UsageError, match="unknown format 'xml'"):
        results.write(io.StringIO(), "xml")
    assert list(results)


def test_the_index_is_closed_at_the_end_by_close_and_by_with(
    db: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[Path] = []
    close = Storage.close

    def noted(self: Storage) -> None:
        closed.append(self.path)
        close(self)

    monkeypatch.setattr(Storage, "close", noted)
    list(search(world.queries, db))
    assert closed == [db]
    results = search(world.queries, db)
    next(results)
    results.close()
    assert closed == [db] * 2
    with pytest.raises(UsageError):
        list(results)
    with search(world.queries, db) as results:
        next(results)
    assert closed == [db] * 3
    search(world.queries, db).write(io.StringIO())
    assert closed == [db] * 4
    # What is given open stays open.
    with kinmer.open_index(db) as index:
        assert len(search(world.queries, index).calls)
        assert closed == [db] * 4
        assert len(index)


def test_entries_as_queries_have_tables_too(db: Path) -> None:
    with kinmer.open_index(db) as index:
        names = index.ids[:3].tolist()
        results = search_ids(index, names, k=2)
        assert isinstance(results, SearchResults)
        assert results.calls["query_id"].tolist() == names
        assert not (results.hits["hit_id"] == results.hits["query_id"]).any()


def test_old_keywords_warn_and_work(db: Path, world: World) -> None:
    with pytest.warns(DeprecationWarning, match="n_jobs"):
        old = search(world.queries, db, threads=1)
    with pytest.warns(DeprecationWarning, match="by"):
        by_genome = search(world.queries, db, merge="genome")
    assert list(old) == list(search(world.queries, db, n_jobs=-1))
    assert list(by_genome) == list(search(world.queries, db, by="genome"))
    with pytest.raises(TypeError, match="neighbors"):
        search(world.queries, db, neighbors=3)  # type: ignore[call-arg]


def test_a_generator_of_results_is_written_by_the_functions(db: Path, world: World) -> None:
    stream, other = io.StringIO(), io.StringIO()
    write_tsv((result for result in search(world.queries, db)), stream)
    search(world.queries, db).write(other)
    assert stream.getvalue() == other.getvalue()
    json.loads(_text(search(world.queries, db)))


def _text(results: SearchResults) -> str:
    stream = io.StringIO()
    results.write(stream, "json")
    return stream.getvalue()
