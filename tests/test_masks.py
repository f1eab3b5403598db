"""What the cases of calibration hide: twins, hashes and means, against sets; and searches that rest on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kinmer.cli import run
from kinmer.confidence import CASES, WHY, Candidates, GenomeMeans, Lineages
from kinmer.confidence.cases import masked_samples
from kinmer.confidence.features import vote
from kinmer.confidence.pool import LineageBook
from kinmer.confidence.probes import sample_probes
from kinmer.fasta import read_records
from kinmer.index.sequences import EntryLetters
from kinmer.library import build_index, open_index
from kinmer.queries import search
from kinmer.sketches import SKETCH_K, sketch
from tests.small_world import World, make_world

SPECIES = 6


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world") / "community")


@pytest.fixture(scope="module")
def twinned(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index in which one genome is there twice, the second time by another species' name."""
    folder = tmp_path_factory.mktemp("twinned")
    first = world.references[0]
    records = list(read_records(first))
    copy = folder / "twin.fna"
    copy.write_bytes(b"".join(b">twin_%b\n%b\n" % (name.encode(), text) for name, text in records))
    rows = world.taxonomy.loc[[name for name, _ in records]].copy()
    rows.index = pd.Index([f"twin_{name}" for name in rows.index], name="sequence_id")
    rows["genome_id"], rows["species"] = "twin", "Twin of another name"
    table = folder / "taxonomy.tsv"
    pd.concat([world.taxonomy, rows]).to_csv(table, sep="\t")
    db = folder / "kin.db"
    build_index(
        [*world.references, copy], db, metadata=table, keep_sequences=True, calibrate=False, threads=1
    ).close()
    return db


def test_what_a_case_leaves_has_what_sets_say(twinned: Path, world: World) -> None:
    with open_index(twinned) as index, index.reading():
        book, means = LineageBook(index), GenomeMeans(index)
        probes = sample_probes(index, book, EntryLetters(index), seed=1, threads=1)
        samples = masked_samples(index, book, probes, means)
        names = {one.name: one.number for one in index.table.genomes().values()}
        twins = {names[world.references[0].stem], names["twin"]}
        sketches = {}
        for number in names.values():
            entries = np.array(sorted(entry.number for entry in index.table.members(number)))
            sketches[number] = set().union(*(one.tolist() for one in index.entry_sketches(entries).values()))
        every = {number: tuple(book.codes(np.array([number]))[0].tolist()) for number in names.values()}
        letters = EntryLetters(index)
        texts = dict(letters.each(sorted(set(probes.entry.tolist()))))
    assert probes.sketches is not None
    assert probes.strain_sketches is not None
    assert probes.random_sketches is not None
    assert probes.elsewhere is not None
    seen = dict.fromkeys(("twin", "changed", "own"), 0)
    assert {one.case for one in samples} <= set(CASES)
    for sample in samples:
        both = sample.views["both"]
        for row in range(0, len(sample), 11):
            fragment, own = int(sample.fragment[row]), int(sample.genome[row])
            there = {int(number): at for at, number in enumerate(both.numbers[row]) if number >= 0}
            species = every[own][SPECIES]
            siblings = {one for one, codes in every.items() if codes[SPECIES] == species} - {own}
            hashes = probes.sketches[fragment]
            if sample.case == "no kin":
                hashes = probes.random_sketches[fragment]
            elif sample.case == "strain":
                assert (own in there) == (not siblings)
                if not siblings:
                    hashes = probes.strain_sketches[fragment]
                    seen["changed"] += 1
            elif sample.case == "part":
                assert own in there
                assert not siblings & there.keys()
                seen["own"] += 1
            else:
                assert own not in there
            if own in twins and sample.case not in ("strain", "no kin"):
                # A copy by another name is hidden with what it is a copy of.
                assert not (twins - {own}) & there.keys()
                seen["twin"] += 1
            assert both.hashes[row] == len(hashes)
            for number, at in there.items():
                count = len(sketches[number] & set(hashes.tolist()))
                if sample.case == "part" and number == own:
                    count = int(probes.elsewhere[fragment])
                assert both.shared[row, at] == count
    assert all(seen.values()), seen
    for at in range(0, len(probes), 23):
        text, start, stop = texts[int(probes.entry[at])], int(probes.start[at]), int(probes.stop[at])
        outside = {
            *sketch(text[: start + SKETCH_K - 1]).tolist(),
            *sketch(text[stop - SKETCH_K + 1 :]).tolist(),
        }
        assert probes.elsewhere[at] == len(outside & set(probes.sketches[at].tolist()))


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An index of the references, calibrated."""
    db = tmp_path_factory.mktemp("made") / "kin.db"
    build_index(world.references, db, metadata=world.metadata, keep_sequences=True, threads=1).close()
    return db


def test_each_query_is_judged_alone_where_the_prior_is_given(
    made: Path, world: World, tmp_path: Path
) -> None:
    whole = {one.id: one for one in search(world.queries, made, prior=(0.6, 0.3, 0.1), n_jobs=1)}
    records = dict(read_records(world.queries))
    for name in list(records)[::7]:
        alone = tmp_path / "alone.fna"
        alone.write_bytes(b">%b\n%b\n" % (name.encode(), records[name]))
        (one,) = search(alone, made, prior=(0.6, 0.3, 0.1), n_jobs=1)
        assert one == whole[name]


def test_without_sketches_verdicts_rest_on_composition(
    made: Path, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_both = list(search(world.queries, made, prior="usual", n_jobs=1))
    assert {one.why for one in with_both if one.consensus} > {"composition"}
    # As an index that an older version has made, and embeddings as queries.
    vectors = tmp_path / "queries.zarr"
    assert run(["count", str(world.queries), "-o", str(vectors), "--max-k", "6", "--coding"]) == 0
    alone = list(search(vectors, made, prior="usual", n_jobs=1))
    monkeypatch.setattr("kinmer.index.Storage.has_sketches", False)
    older = list(search(world.queries, made, prior="usual", n_jobs=1))
    for found in (alone, older):
        assert {one.why for one in found if one.consensus} == {"composition"}
        known = [one for one in found if one.id.startswith("known-10000")]
        right = [one.rank == "species" and one.name == world.species_of(one.id) for one in known]
        assert np.mean(right) >= 0.5
        assert all(one.verdict for one in found)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("--fdr", "0"), "false-discovery rate"),
        (("--fdr", "1"), "false-discovery rate"),
        (("--fdr", "nan"), "false-discovery rate"),
        (("--fdr", "0.1", "--min-probability", "0.5"), "exclude each other"),
        (("--prior", "often"), "not 'often'"),
        (("--prior", ","), "three shares"),
        (("--prior", "0.5,0.5"), "three shares"),
        (("--prior", "0.9,0.9,-0.8"), "three shares"),
        (("--prior", "0.5,0.5,0.5"), "three shares"),
        (("--prior", "nan,nan,nan"), "three shares"),
    ],
)
def test_a_wrong_prior_or_rate_is_told_in_one_line(
    made: Path, world: World, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], words: str
) -> None:
    assert run(["search", str(world.queries), "--db", str(made), *argv]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    (line,) = told.err.splitlines()
    assert line.startswith("error: ")
    assert words in line


def test_a_prior_and_a_rate_reach_the_search(
    made: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    def asked(*argv: str) -> list[dict[str, str]]:
        assert (
            run(
                [
                    "search",
                    str(world.queries),
                    "--db",
                    str(made),
                    "--threads",
                    "1",
                    "--format",
                    "calls",
                    *argv,
                ]
            )
            == 0
        )
        out = capsys.readouterr().out.splitlines()
        header = out[0].split("\t")
        assert header[-3:] == ["why", "ptu", "ptu_p"]
        return [dict(zip(header, line.split("\t"), strict=True)) for line in out[1:]]

    for argv, options in (
        (("--prior", "0.98,0.01,0.01"), {"prior": (0.98, 0.01, 0.01)}),
        (("--prior", "0,0,1"), {"prior": (0, 0, 1)}),
        (("--prior", "usual"), {"prior": "usual"}),
        (("--fdr", "0.05"), {"fdr": 0.05}),
    ):
        told = asked(*argv)
        python = list(search(world.queries, made, n_jobs=1, **options))
        assert [line["verdict"] for line in told] == [one.verdict for one in python]
        assert [line["why"] for line in told] == [one.why for one in python]
    # Where no query is of a known species none is named.
    assert not any(line["rank"] == "species" for line in asked("--prior", "0,0,1"))


def test_composition_or_homology_names_the_reason() -> None:
    world = Lineages(np.arange(14, dtype=np.int32).reshape(2, 7) // 7, (("a", "b"),) * 7)
    # By composition the second genome is nearest; with shared hashes the first.
    genomes, far = np.array([[0, 1]] * 4), np.array([[0.2, 0.1], [0.1, 0.2], [0.1, 0.2], [0.1, 0.2]])
    shared = np.array([[80, 0], [80, 0], [20, 0], [19, 0]])
    score, hashes = np.tile([0.0, 0.1], (4, 1)), np.full(4, 100)
    found = Candidates(genomes, genomes, genomes, far, far, shared, score, hashes, np.full(4, 1_000))
    assert [WHY[at] for at in vote(found, world).why.tolist()] == ["homology", "both", "both", "composition"]
