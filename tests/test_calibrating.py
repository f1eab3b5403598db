"""How an index learns what its answers are worth, keeps it, and says it."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from kinmer.confidence import HIDDEN, NO_KIN, TOO_SHORT, GenomeMeans, known_of
from kinmer.confidence.calibrator import Changes, Extent, calibration_of
from kinmer.confidence.cases import masked_samples
from kinmer.confidence.pool import LineageBook
from kinmer.confidence.probes import _some_genomes, sample_entries, sample_probes
from kinmer.errors import FormatError, SequenceError, UsageError
from kinmer.fasta import read_records
from kinmer.index.manifest import CALIBRATION
from kinmer.index.sequences import EntryLetters
from kinmer.library import (
    KinIndex,
    add_to_index,
    build_index,
    calibrate_index,
    check_index,
    delete_from_index,
    describe_index,
    open_index,
    update_index,
)
from kinmer.queries import QueryResult, search
from tests.organisms import encoder_of, organisms
from tests.small_world import World, make_world

GENUS, SPECIES = 5, 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the references, calibrated. Not to be changed."""
    db = tmp_path_factory.mktemp("made") / "kin.db"
    build_index(world.references, db, metadata=world.metadata, keep_sequences=True, threads=1).close()
    return db


@pytest.fixture
def db(made: Path, tmp_path: Path) -> Path:
    """A copy of it that may be changed."""
    return Path(shutil.copytree(made, tmp_path / "kin.db"))


def ask(db: Path, world: World, **settings: object) -> list[QueryResult]:
    return list(search(world.queries, db, n_jobs=1, **settings))  # type: ignore[arg-type]


def test_known_species_are_named_and_strange_ones_are_not(made: Path, world: World) -> None:
    results = ask(made, world)
    known = [one for one in results if one.id.startswith("known-10000")]
    strange = [one for one in results if one.id.startswith("strange-10000")]
    assert len(known) >= 8
    assert len(strange) >= 4
    right = [one.rank == "species" and one.name == world.species_of(one.id) for one in known]
    assert np.mean(right) >= 0.8
    assert np.mean([one.rank == "species" for one in strange]) <= 0.25
    for one in results:
        chances = [call.probability for call in one.consensus.values()]
        assert chances
        assert all(chance is not None and 0 <= chance <= 1 for chance in chances)
        assert chances == sorted(chances, reverse=True)  # type: ignore[type-var]
        assert one.verdict
        assert one.molecule is not None
        assert sum(one.molecule.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_the_least_probability_is_heeded(made: Path, world: World) -> None:
    strict, easy = (
        sum(one.rank == "species" for one in ask(made, world, min_probability=least))
        for least in (0.999, 0.01)
    )
    assert strict < easy
    for one in ask(made, world, min_probability=0.9):
        if one.rank is not None:
            assert (one.consensus[one.rank].probability or 0) >= 0.9


def test_what_a_case_takes_out_is_in_no_pool(made: Path) -> None:
    with open_index(made) as index, index.reading():
        book, means = LineageBook(index), GenomeMeans(index)
        fragments = sample_probes(index, book, EntryLetters(index), seed=1, threads=1)
        samples = masked_samples(index, book, fragments, means)
        codes, rows = book.lineages().codes, len(index.rows)
    found = {one.case for one in samples}
    assert found >= {"part", "strain", "new species", "new genus", "new phylum", "new domain"}
    random = [one for one in samples if one.case == NO_KIN]
    # Nothing is taken out for random sequences.
    assert random
    assert all(one.pool.distances.shape[1] == min(256, rows) for one in random)
    for sample in samples:
        far = sample.pool.distances
        assert (far[:, 1:] >= far[:, :-1]).all()
        if sample.case == NO_KIN:
            continue
        candidates = [view.genomes for view in sample.views.values()]
        assert len(candidates) == 2
        for genomes in (sample.pool.genomes, *candidates):
            there = genomes >= 0
            names = codes[np.maximum(genomes, 0)]
            own = names == sample.truth[:, None, :]
            if sample.case not in ("part", "strain"):
                assert not (own[:, :, SPECIES] & there).any()
            if (rank := HIDDEN[sample.case]) is not None:
                assert (sample.truth[:, rank] >= 0).all()
                assert not (own[:, :, rank:] & there[:, :, None] & (names[:, :, rank:] >= 0)).any()
            if sample.case == "new species":
                assert ((own[:, :, GENUS] & there).any(axis=1) | (sample.truth[:, GENUS] < 0)).all()


def test_of_a_part_only_the_rest_of_its_genome_is_left(made: Path) -> None:
    with open_index(made) as index, index.reading():
        book, means = LineageBook(index), GenomeMeans(index)
        fragments = sample_probes(index, book, EntryLetters(index), seed=1, threads=1)
        assert fragments.sketches is not None
        assert fragments.elsewhere is not None
        parts = [one for one in masked_samples(index, book, fragments, means) if one.case == "part"]
        assert parts
        for sample in parts:
            for row in range(0, len(sample), 7):
                fragment, genome = int(sample.fragment[row]), int(sample.genome[row])
                both = sample.views["both"]
                at = np.flatnonzero(both.numbers[row] == genome)
                assert at.size == 1
                assert both.shared[row, at[0]] == fragments.elsewhere[fragment]
                # The mean of the genome's pieces that do not overlap, each by its letters.
                records = index.rows.records
                mine = index.rows.alive & (index.rows.genome == genome) & (index.rows.kinds == 0)
                over = (index.rows.entry == fragments.entry[fragment]) & (
                    (records["start"] < fragments.stop[fragment])
                    & (records["stop"] > fragments.start[fragment])
                )
                rest = np.flatnonzero(mine & ~over)
                if not rest.size or len(index.table.members(genome)) > 1:
                    continue
                letters = (records["stop"] - records["start"])[rest].astype(float)
                mean = letters @ np.asarray(index.rows.vectors[rest], float)
                query = fragments.vectors[fragment].astype(float)
                cosine = query @ mean / np.linalg.norm(query) / np.linalg.norm(mean)
                assert both.mean[row, at[0]] == pytest.approx(1 - cosine, abs=1e-5)


def test_vectors_alone_give_whole_sequences_as_queries(made: Path) -> None:
    with open_index(made) as index, index.reading():
        found = sample_entries(index, LineageBook(index), seed=0)
        entries = index.entries(found.entry)
        for row, number in enumerate(found.entry.tolist()):
            assert np.array_equal(found.vectors[row], index.rows.vectors[entries[number].first])
            assert found.stop[row] == entries[number].length


def test_it_is_told_and_found_whole(db: Path) -> None:
    assert "entries" in describe_index(db).calibrated
    assert check_index(db).whole
    (db / CALIBRATION).write_text((db / CALIBRATION).read_text().replace('"entries": ', '"entries": 1', 1))
    assert any("calibration" in one for one in check_index(db).problems)


def test_damage_is_an_error_until_it_is_made_anew(db: Path, world: World) -> None:
    body = json.loads((db / CALIBRATION).read_text())
    body["calibration"]["within"][0] *= 2
    (db / CALIBRATION).write_text(json.dumps(body))
    with pytest.raises(FormatError, match="calibration"):
        ask(db, world)
    calibrate_index(db, threads=1)
    assert ask(db, world)


def test_what_is_too_short_and_what_is_random_gets_no_name(made: Path, world: World, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    queries = tmp_path / "random.fna"
    known = next(letters for name, letters in read_records(world.queries) if name.startswith("known-10000"))
    with queries.open("wb") as file:
        for size in (8, 20, 30, 50, 80, 99):
            for number in range(10):
                start = 100 * number
                file.write(b">short-%d-%d\n%b\n" % (size, number, known[start : start + size]))
        for size in (100, 150, 300, 500, 1_000, 2_000, 5_000, 10_000, 20_000):
            for number in range(10):
                text = rng.choice(np.frombuffer(b"ACGT", np.uint8), size).tobytes()
                file.write(b">random-%d-%d\n%b\n" % (size, number, text))
    results = {one.id: one for one in search(queries, made, n_jobs=1)}
    assert len(results) == 150
    for name, one in results.items():
        if name.startswith("short"):
            assert (one.verdict, one.rank, one.consensus, one.molecule) == (TOO_SHORT, None, {}, None)
        else:
            assert one.verdict != TOO_SHORT
    named = [name for name, one in results.items() if one.rank is not None]
    assert len(named) <= 1, named
    # Not even where any probability is enough.
    least = [one for one in search(queries, made, n_jobs=1, min_probability=0.01) if "short" in one.id]
    assert {one.verdict for one in least} == {TOO_SHORT}


def test_gaps_in_a_query_change_neither_names_nor_probabilities(
    made: Path, world: World, tmp_path: Path
) -> None:
    whole = [(name, text) for name, text in read_records(world.queries) if "-10000" in name]
    results = {one.id: one for one in ask(made, world)}
    for share in (0.1, 0.5, 0.9):
        gapped = tmp_path / f"gapped-{share}.fna"
        with gapped.open("wb") as file:
            for name, text in whole:
                gap = b"N" * round(len(text) * share / (1 - share))
                file.write(b">%b\n%b%b%b\n" % (name.encode(), text[:5_000], gap, text[5_000:]))
        for evidence in (False, True) if share == 0.5 else (False,):
            found = list(search(gapped, made, n_jobs=1, evidence=evidence, min_length=10_000))
            assert len(found) == len(whole)
            before = [results[one.id] for one in found]
            assert [one.bases for one in found] == [one.length for one in before]
            if not evidence:
                same = [one.verdict == other.verdict for one, other in zip(found, before, strict=True)]
                assert np.mean(same) >= 0.95
            moved = [
                abs((call.probability or 0) - (other.consensus[rank].probability or 0))
                for one, other in zip(found, before, strict=True)
                for rank, call in one.consensus.items()
                if rank in other.consensus and call.name == other.consensus[rank].name and not evidence
            ]
            assert not moved or np.mean(moved) < 0.02
        assert not list(search(gapped, made, n_jobs=1, min_length=9_999))[len(whole) :]
    with pytest.raises(SequenceError, match="bases"):
        list(search(gapped, made, n_jobs=1, min_length=10_001))


def stamp(db: Path) -> int:
    return (db / CALIBRATION).stat().st_mtime_ns


def test_it_is_made_anew_when_enough_has_changed(db: Path, world: World) -> None:
    first = stamp(db)
    add_to_index(db, world.later[:1], metadata=world.metadata, threads=1)
    assert stamp(db) == first
    update_index(db, metadata=world.metadata, threads=1)
    second = stamp(db)
    assert second != first
    with KinIndex.open(db) as index:
        told = calibration_of(index)
        assert told is not None
        assert not told.is_stale(index.table)
    calibrate_index(db, threads=1)
    assert stamp(db) != second


def test_an_index_that_has_become_another_one_says_so(db: Path, world: World) -> None:
    said: list[str] = []

    def heard(words: str) -> bool:
        return any(words in line for line in said)

    add_to_index(db, world.later, metadata=world.metadata, calibrate=False, threads=1, log=said.append)
    with KinIndex.open(db) as index:
        told = calibration_of(index)
        assert told is not None
        changes = told.changes(index.table)
    # Entries are many more than genomes: their share alone would hide what came.
    assert (changes.genomes_added, changes.genomes_deleted) == (2, 0)
    assert 0 < changes.share < 0.2
    assert not heard("no longer fits")
    assert "2 added to the" in describe_index(db).calibrated
    with KinIndex.open(db) as index:
        names = [one.name for one in index.table.genomes().values()]
    delete_from_index(db, genomes=names[: changes.genomes // 4], log=said.append)
    assert heard("the calibration no longer fits")
    assert heard("kinmer db calibrate")
    assert "no longer fits" in describe_index(db).calibrated
    said.clear()
    list(search(world.queries, db, n_jobs=1, log=said.append))
    assert sum("no longer fits" in line for line in said) == 1
    # Added again, so that numbers are what they were: they are other genomes.
    calibrate_index(db, threads=1)
    said.clear()
    list(search(world.queries, db, n_jobs=1, log=said.append))
    assert not heard("no longer fits")


def test_genomes_tell_of_change_where_entries_do_not() -> None:
    then = Extent(entries=1_000, labels=0, genomes=40, next_entry=1_000, next_genome=40)
    changes = Changes(40, 1_000, 20, 0, 20, 0, labels=False)
    assert changes.share == 0.5
    assert changes.stale
    assert Changes(40, 1_000, 4, 4, 20, 0, labels=False).stale is False
    assert Changes(40, 1_000, 5, 4, 0, 0, labels=False).stale
    assert "20 added to the 40 genomes" in changes.text()
    assert then.genomes == 40


@pytest.mark.parametrize("form", [1, 2, 3, 4])
def test_a_calibration_of_an_older_form_is_to_be_made_again(db: Path, world: World, form: int) -> None:
    body = json.loads((db / CALIBRATION).read_text())
    del body["crc"]
    body["calibration"]["form"] = form
    text = json.dumps(body, sort_keys=True)
    (db / CALIBRATION).write_text(json.dumps({**body, "crc": zlib.crc32(text.encode())}))
    said: list[str] = []
    results = list(search(world.queries, db, n_jobs=1, log=said.append))
    assert any("kinmer db calibrate" in line for line in said)
    # The nearest genomes and what they agree on are there all the same.
    assert all(one.verdict == "" and one.rank is None for one in results)
    assert any(one.hits and one.consensus for one in results)
    assert "older version" in describe_index(db).calibrated
    calibrate_index(db, threads=1)
    assert any(one.rank is not None for one in ask(db, world))


def test_a_sample_says_how_many_queries_are_known(
    made: Path, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = ask(made, world, prior="usual")
    said: list[str] = []
    monkeypatch.setattr("kinmer.confidence.verdict.LEAST_SAMPLE", 10)
    together = list(search(world.queries, made, n_jobs=1, log=said.append))
    assert any("of known species" in line for line in said)
    assert [one.id for one in together] == [one.id for one in alone]
    assert [one.hits for one in together] == [one.hits for one in alone]
    # Judged in several parts, with the sample that the first of them are.
    monkeypatch.setattr("kinmer.queries.judge.SAMPLE", 20)
    monkeypatch.setattr("kinmer.queries.intake.BATCH_ROWS", 7)
    parted = list(search(world.queries, made, n_jobs=1))
    assert [one.id for one in parted] == [one.id for one in alone]
    sure, doubtful = (ask(made, world, prior=shares) for shares in ((0.98, 0.01, 0.01), (0.02, 0.49, 0.49)))

    def mean(results: list[QueryResult]) -> float:
        calls = [one.consensus.get("species") for one in results]
        return float(np.mean([call.probability or 0 for call in calls if call is not None]))

    assert mean(doubtful) < mean(alone) < mean(sure)


def test_a_rate_of_errors_is_kept(made: Path, world: World) -> None:
    strict, loose = (ask(made, world, fdr=rate) for rate in (0.01, 0.3))
    named = [sum(one.rank == "species" for one in some) for some in (strict, loose)]
    assert 0 < named[0] < named[1]
    chances = [1 - (one.consensus["species"].probability or 0) for one in strict if one.rank == "species"]
    assert np.mean(chances) <= 0.01 + 1e-6
    for settings in ({"fdr": 1.5}, {"fdr": 0.1, "min_probability": 0.5}, {"prior": (0.5, 0.6, 0.1)}):
        with pytest.raises(UsageError):
            ask(made, world, **settings)


def test_it_says_what_a_name_rests_on(made: Path, world: World) -> None:
    results = [one for one in ask(made, world) if one.consensus]
    assert {one.why for one in results} <= {"composition", "homology", "both"}
    known = [one.why for one in results if one.id.startswith("known")]
    strange = [one.why for one in results if one.id.startswith("strange")]
    assert np.mean([why != "composition" for why in known]) > 0.5
    assert np.mean([why == "composition" for why in strange]) > 0.5


def test_without_a_taxonomy_there_are_no_probabilities(world: World, tmp_path: Path) -> None:
    said: list[str] = []
    build_index(world.references[:2], tmp_path / "plain.db", threads=1, log=said.append).close()
    assert any("no ranks" in line for line in said)
    assert "no ranks" in describe_index(tmp_path / "plain.db").calibrated
    build_index(
        world.references, tmp_path / "none.db", metadata=world.metadata, calibrate=False, threads=1
    ).close()
    assert not (tmp_path / "none.db" / CALIBRATION).exists()
    results = ask(tmp_path / "none.db", world)
    assert all(one.verdict == "" and one.rank is None for one in results)
    assert any(one.consensus for one in results)
    assert all(call.probability is None for one in results for call in one.consensus.values())
    for name in ("plain.db", "none.db"):
        with pytest.raises(UsageError, match="no calibration"):
            ask(tmp_path / name, world, min_probability=0.5)


def test_a_lost_one_is_missed(db: Path, world: World) -> None:
    (db / CALIBRATION).unlink()
    with pytest.raises(FormatError, match="calibration is gone"):
        ask(db, world)
    assert any("calibration" in one for one in check_index(db).problems)


def test_a_kill_leaves_a_whole_one_or_none(world: World, tmp_path: Path) -> None:
    db = tmp_path / "kin.db"
    settings = {"metadata": world.metadata, "keep_sequences": True, "calibrate": False, "threads": 1}
    build_index(world.references, db, **settings).close()  # type: ignore[arg-type]
    script = f"from kinmer.library import calibrate_index\ncalibrate_index({str(db)!r}, threads=1)"
    process = subprocess.Popen([sys.executable, "-c", script])
    time.sleep(2.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert check_index(db).whole
    assert ask(db, world)
    calibrate_index(db, threads=1)
    assert any(one.verdict for one in ask(db, world))


def test_few_viruses_among_many_cells_are_met(tmp_path: Path) -> None:
    """A fourth of the genomes are of each realm, or all that there are; the rest is as it would be."""
    table, lines = organisms(60), ["id\tdomain\tspecies"]
    for row, name in enumerate(table.obs_names):
        lines.append(f"{name}\t{'Viruses' if row in (7, 30, 31) else 'Bacteria'}\tKin s{row}")
    (tmp_path / "m.tsv").write_text("\n".join(lines) + "\n")
    db, metadata = tmp_path / "kin.db", tmp_path / "m.tsv"
    build_index(table, db, encoder=encoder_of(), metadata=metadata, calibrate=False, threads=1).close()
    with open_index(db) as index, index.reading():
        book = LineageBook(index)
        for number, least in ((8, 2), (20, 3), (60, 3)):
            drawn = [_some_genomes(index, book, number, np.random.default_rng(seed)) for seed in range(20)]
            viral = [int(np.isin(one, [7, 30, 31]).sum()) for one in drawn]
            assert {len(one) for one in drawn} == {number}
            assert min(viral) == least
            assert len({tuple(one.tolist()) for one in drawn}) == (20 if number < 60 else 1)


def test_what_is_known_of_a_state_is_made_once(tmp_path: Path) -> None:
    """Lineages are those of the table, however many were read before; a change of the index is met."""
    lines = [f"s{row}\tBacteria\tKin s{row % 700}" for row in range(2500)]
    metadata, db = tmp_path / "m.tsv", tmp_path / "kin.db"
    metadata.write_text("\n".join(["id\tdomain\tspecies", *lines]) + "\n")
    built = build_index(
        organisms(2500), db, metadata=metadata, encoder=encoder_of(), engine="exact", calibrate=False
    )
    built.close()
    with open_index(db) as index:
        known, seen = known_of(index), []
        for start in range(0, 2500, 300):
            part = np.arange(start, min(2500, start + 300))
            codes = known.book.codes(part)
            seen.append((known.book.lineages(), len(part)))
            assert known.book.lineages().names[SPECIES] == tuple(
                f"Kin s{at}" for at in range(min(700, part[-1] + 1))
            )
            assert np.array_equal(codes[:, SPECIES], part % 700)
        sizes = np.cumsum([size for _, size in seen])
        for (lineages, _), size in zip(seen, sizes.tolist(), strict=True):
            assert np.array_equal(lineages.codes[:, SPECIES], np.arange(size) % 700)
        assert known_of(index) is known
        delete_from_index(db, ids=["s3"])
        assert known_of(index) is not known
        assert len(known_of(index).means) == 2499
