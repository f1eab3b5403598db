"""Contigs of equal names: an entry is a genome and an id, and what changes one genome touches no other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinmer.counting import count, count_files
from kinmer.errors import InputError, ProfileError, SequenceError, UsageError
from kinmer.index.sequences import EntryLetters
from kinmer.library import (
    KinIndex,
    add_to_index,
    build_index,
    build_reference,
    check_index,
    compact_index,
    delete_from_index,
    index_rows,
    open_index,
    update_index,
)
from kinmer.queries import search, search_ids, writer_of
from kinmer.vectors import open_vectors
from tests.organisms import encoder_of

ENCODER = encoder_of()


def letters(seed: int, count: int = 3000) -> str:
    rng = np.random.default_rng(seed)
    return "".join(rng.choice(list("ACGT"), count, p=rng.dirichlet(np.full(4, 5.0))).tolist())


def fasta(path: Path, seed: int, contigs: int = 3) -> Path:
    """An assembly as Flye names its contigs."""
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f">contig_{at} circular=N\n{letters(10 * seed + at)}\n" for at in range(contigs)))
    return path


def contents(db: Path) -> dict[tuple[str, str], bytes]:
    """Every entry's vectors by genome and id."""
    with open_index(db) as index:
        genomes = index.table.genomes()
        return {
            (genomes[one.genome].name, one.id): index.rows.vectors[one.first : one.first + one.rows].tobytes()
            for one in index.table.scan()
        }


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Two genomes whose contigs have the same names."""
    for at, name in enumerate(("flye1", "flye2")):
        fasta(tmp_path / "genomes" / f"{name}.fna", at)
    path = tmp_path / "kin.db"
    build_reference(
        tmp_path / "genomes", path, encoder=ENCODER, pieces=[2000], calibrate=False, threads=1
    ).close()
    return path


def test_two_assemblies_share_an_index(db: Path, tmp_path: Path) -> None:
    keys = [(f"flye{genome}", f"contig_{at}") for genome in (1, 2) for at in range(3)]
    assert sorted(contents(db)) == keys
    assert check_index(db).whole
    # A third one comes by db add, and its own file changes it alone.
    third = fasta(tmp_path / "third.fna", 2)
    assert add_to_index(db, third, genome="flye3", calibrate=False, threads=1) == 3
    before = contents(db)
    assert sorted(before) == [*keys, *(("flye3", f"contig_{at}") for at in range(3))]
    fasta(third, 7, contigs=4)
    assert update_index(db, third, calibrate=False, threads=1) == 4
    after = contents(db)
    assert sorted(after) == sorted([*before, ("flye3", "contig_3")])
    assert {key for key in before if after[key] != before[key]} == {
        ("flye3", f"contig_{at}") for at in range(3)
    }
    report = check_index(db)
    assert report.whole, report.problems
    assert report.entries == 10
    compact_index(db, threads=1)
    assert contents(db) == after


def test_an_update_from_another_file_replaces_nobody(db: Path, tmp_path: Path) -> None:
    other = fasta(tmp_path / "other.fna", 5)
    before = contents(db)
    with pytest.raises(InputError, match=r"'contig_0' is in the index already, from .*flye1\.fna") as caught:
        update_index(db, other, calibrate=False, threads=1)
    assert "--genome" in str(caught.value)
    assert contents(db) == before
    # Which of two is meant cannot be told by the id.
    with pytest.raises(InputError, match="'contig_0' is in 2 genomes: 'flye1', 'flye2'"):
        update_index(db, other, by_id=True, calibrate=False, threads=1)
    assert contents(db) == before
    assert update_index(db, other, genome="flye2", calibrate=False, threads=1) == 3
    after = contents(db)
    assert {key for key in before if after[key] != before[key]} == {
        ("flye2", f"contig_{at}") for at in range(3)
    }
    assert sorted(after) == sorted(before)
    assert check_index(db).whole


def test_an_update_by_id_takes_entries_of_any_file_and_keeps_their_genomes(tmp_path: Path) -> None:
    first, taxa = fasta(tmp_path / "a.fna", 1), tmp_path / "taxa.tsv"
    taxa.write_text("id\tgenome\ncontig_0\tG\ncontig_1\tG\n")
    db = tmp_path / "kin.db"
    build_index([first], db, encoder=ENCODER, metadata=taxa, pieces=[0], calibrate=False).close()
    keys = [("G", "contig_0"), ("G", "contig_1"), ("contig_2", "contig_2")]
    before = contents(db)
    assert sorted(before) == keys
    assert update_index(db, fasta(tmp_path / "b.fna", 2), by_id=True, calibrate=False) == 3
    after = contents(db)
    assert sorted(after) == keys
    assert all(after[key] != before[key] for key in keys)


def test_what_is_there_already_is_told_with_its_file_and_the_ways_out(tmp_path: Path) -> None:
    one, two = fasta(tmp_path / "one.fna", 1), fasta(tmp_path / "two.fna", 2)
    db = tmp_path / "kin.db"
    with pytest.raises(ProfileError, match=r"'contig_0' is in the index already, from .*one\.fna") as caught:
        build_index([one, two], db, encoder=ENCODER, pieces=[0], calibrate=False)
    assert all(way in str(caught.value) for way in ("--sample-from-file", "--prefix", "two.fna"))
    build_index(
        [one, two], db, encoder=ENCODER, pieces=[0], sample_from_file=True, calibrate=False, force=True
    ).close()
    assert sorted(row.id for row in index_rows(db)) == [
        f"{sample}:contig_{at}" for sample in ("one", "two") for at in range(3)
    ]
    three = fasta(tmp_path / "three.fna", 3)
    assert add_to_index(db, three, prefix="S3C", calibrate=False) == 3
    # The same file is in, under whatever name; other prefixes make other entries.
    assert add_to_index(db, three, calibrate=False) == 0
    assert add_to_index(db, three, prefix="S3C", calibrate=False) == 0
    assert add_to_index(db, three, prefix="S4C", calibrate=False) == 3
    # Once in a file is once: also where nothing is said of samples.
    three.write_text(three.read_text() + f">contig_0\n{letters(9)}\n")
    with pytest.raises(SequenceError, match=r"'S5:contig_0' occurs twice"):
        add_to_index(db, three, prefix="S5:", calibrate=False)
    assert check_index(db).whole
    # Letters are found in the files again, by the names that they have there.
    with open_index(db) as index, index.reading():
        numbers = index.numbers_of(["two:contig_1"])
        assert dict(EntryLetters(index).each(numbers.tolist())) == {int(numbers[0]): letters(21).encode()}
    # Its own file changes a sample, under the same prefix.
    fasta(two, 8)
    before = contents(db)
    assert update_index(db, two, calibrate=False) == 3
    after = contents(db)
    assert sorted(after) == sorted(before)
    assert {key[1].split(":")[0] for key in before if after[key] != before[key]} == {"two"}


def test_a_name_says_one_entry_or_is_refused(db: Path) -> None:
    with open_index(db) as index:
        assert index.ids.tolist() == [f"flye{genome}:contig_{at}" for genome in (1, 2) for at in range(3)]
        assert index.metadata.index.is_unique
        numbers = index.numbers_of(index.ids.tolist())
        assert numbers.tolist() == list(range(6))
        assert index.numbers_of(["flye3:contig_0", "flye1:", "nobody"]).tolist() == [-1, -1, -1]
        assert open_vectors(index).ids.tolist() == index.ids.tolist()
    before = contents(db)
    for call in (
        lambda: delete_from_index(db, ids=["contig_1"]),
        lambda: list(search_ids(db, ["contig_1"])),
    ):
        with pytest.raises(InputError, match="'contig_1' is in 2 genomes: 'flye1', 'flye2'") as caught:
            call()
        assert "'flye1:contig_1'" in str(caught.value)
    assert contents(db) == before
    assert delete_from_index(db, ids=["flye2:contig_1"]) == 1
    assert delete_from_index(db, ids=["contig_0"], genomes=["flye1"]) == 1
    left = sorted(before.keys() - {("flye2", "contig_1"), ("flye1", "contig_0")})
    assert sorted(contents(db)) == left
    # Where an id is of one entry again, it will do.
    assert delete_from_index(db, ids=["contig_1"]) == 1
    with pytest.raises(InputError, match="no genome 'flye3'"):
        delete_from_index(db, ids=["contig_2"], genomes=["flye3"])
    assert delete_from_index(db, where='id == "contig_2" and genome == "flye1"') == 1
    assert sorted(contents(db)) == [("flye2", "contig_0"), ("flye2", "contig_2")]
    assert check_index(db).whole


def test_a_name_with_the_separator_in_it_is_still_that_of_one_entry(tmp_path: Path) -> None:
    """Genome "a" with contig "b:c" and genome "a:b" with contig "c": both would be a:b:c."""
    db = tmp_path / "kin.db"
    one = tmp_path / "one.fna"
    one.write_text(f">b:c\n{letters(1)}\n>c\n{letters(2)}\n")
    two = tmp_path / "two.fna"
    two.write_text(f">c\n{letters(3)}\n>b:c\n{letters(4)}\n")
    build_index([one], db, encoder=ENCODER, pieces=[0], prefix="x", calibrate=False).close()
    add_to_index(db, one, genome="a", calibrate=False)
    add_to_index(db, two, genome="a:b", calibrate=False)
    with open_index(db) as index:
        with pytest.raises(InputError, match="'a:b:c' is in 2 genomes"):
            index.numbers_of(["a:b:c"])
        assert len(set(index.ids.tolist())) == len(index)
    assert delete_from_index(db, ids=["b:c"], genomes=["a"]) == 1
    assert sorted(contents(db)) == [
        ("a", "c"),
        ("a:b", "b:c"),
        ("a:b", "c"),
        ("xb:c", "xb:c"),
        ("xc", "xc"),
    ]


def test_hits_say_which_entry_they_are(db: Path, tmp_path: Path) -> None:
    queries = tmp_path / "genomes" / "flye2.fna"
    found = list(search(queries, db, k=6, n_jobs=1))
    assert [(one.hits[0].id, one.hits[0].genome) for one in found] == [
        (f"contig_{at}", "flye2") for at in range(3)
    ]
    assert [one.hits[0].name for one in found] == [f"flye2:contig_{at}" for at in range(3)]
    # A query of the index's own is left out itself, and not the other genome's contig of its name.
    for one in search(queries, db, k=6, exclude_self=True, n_jobs=1):
        keys = {(hit.genome, hit.id) for hit in one.hits}
        assert len(keys) == 5
        assert ("flye2", one.id) not in keys
        assert ("flye1", one.id) in keys
    (one,) = search_ids(db, ["flye1:contig_2"], k=6)
    assert one.id == "flye1:contig_2"
    keys = {(hit.genome, hit.id) for hit in one.hits}
    assert len(keys) == 5
    assert ("flye1", "contig_2") not in keys
    for form, column in (("blast", 1), ("calls", -5)):
        path = tmp_path / form
        with path.open("w") as file:
            writer_of(form)(iter(found), file)
        lines = [line.split("\t") for line in path.read_text().splitlines() if line.startswith("contig_")]
        assert {line[column].split(":")[0] for line in lines} <= {"flye1", "flye2"}
        assert all(line[column] for line in lines)


def test_metadata_of_equal_ids_are_given_by_genome(db: Path, tmp_path: Path) -> None:
    taxa = tmp_path / "taxa.tsv"
    taxa.write_text("id\tspecies\ncontig_1\tX\n")
    with pytest.raises(InputError, match="'contig_1' is in 2 genomes"):
        update_index(db, metadata=taxa, calibrate=False)
    taxa.write_text("id\tspecies\nflye1\tOne\nflye2\tTwo\nflye2:contig_1\tPlasmid of two\n")
    assert update_index(db, metadata=taxa, calibrate=False) == 6
    told = {(row.genome, row.id): row.metadata["species"] for row in index_rows(db)}
    assert told == {
        **{("flye1", f"contig_{at}"): "One" for at in range(3)},
        **{("flye2", f"contig_{at}"): "Two" for at in range(3)},
        ("flye2", "contig_1"): "Plasmid of two",
    }
    # Two of one name cannot be of one genome.
    taxa.write_text("id\tgenome\nflye2\tflye1\n")
    before = contents(db)
    with pytest.raises(ProfileError, match="'flye1' has a sequence 'contig_0' already"):
        update_index(db, metadata=taxa, calibrate=False)
    assert contents(db) == before
    assert check_index(db).whole


def test_samples_share_a_profile_store(tmp_path: Path) -> None:
    files = [fasta(tmp_path / name, at) for at, name in enumerate(("one.fna", "two.fa"))]
    with pytest.raises(SequenceError, match="'contig_0' occurs twice") as caught:
        count_files(files, tmp_path / "plain.zarr", max_k=2)
    assert "--sample-from-file" in str(caught.value)
    count_files(files, tmp_path / "both.zarr", max_k=2, sample_from_file=True)
    store = count(files, tmp_path / "both.zarr", max_k=2, sample_from_file=True, force=True)
    names = [f"{sample}:contig_{at}" for sample in ("one", "two") for at in range(3)]
    assert store.ids.tolist() == names
    assert list(store.obs["source"]) == ["one.fna"] * 3 + ["two.fa"] * 3
    alone = count(files[1], max_k=2)
    np.testing.assert_array_equal(store.read(3, 6), alone.X)
    more = fasta(tmp_path / "more.fna", 4)
    count_files(more, tmp_path / "both.zarr", max_k=2, prefix="S3C", append=True)
    assert count(more, max_k=2, prefix="S3C").obs_names.tolist() == [f"S3Ccontig_{at}" for at in range(3)]
    with pytest.raises(SequenceError, match=r"'S3Ccontig_0' occurs twice"):
        count_files(more, tmp_path / "both.zarr", max_k=2, prefix="S3C", append=True)


@pytest.mark.parametrize(
    ("names", "settings", "says"),
    [
        (("a/x.fna", "b/x.fa.gz"), {"sample_from_file": True}, "the same sample, 'x'"),
        (("-",), {"sample_from_file": True}, "stdin has no name"),
        (("x.fna",), {"sample_from_file": True, "prefix": "S1:"}, "exclude each other"),
        (("x.fna",), {"prefix": "a b"}, "cannot be used"),
        (("a b.fna",), {"sample_from_file": True}, "gives the sample 'a b'"),
    ],
)
def test_what_gives_no_name_for_a_sample_is_refused(
    names: tuple[str, ...], settings: dict[str, object], says: str
) -> None:
    from kinmer.fasta import prefixes_of

    with pytest.raises(UsageError, match=says):
        prefixes_of(names, **settings)  # type: ignore[arg-type]


def test_an_unfinished_file_of_equal_ids_is_taken_back_alone(
    db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kinmer.index.pieces.BLOCK_RECORDS", 1)
    before = contents(db)
    bad = fasta(tmp_path / "bad.fna", 4)
    bad.write_text(bad.read_text() + ">protein\n" + "MKLVINGEQ" * 300 + "\n")
    with pytest.raises(SequenceError, match="protein"):
        add_to_index(db, bad, genome="bad", calibrate=False, threads=1)
    assert contents(db) == before
    assert check_index(db).whole
    with KinIndex.open(db) as index:
        assert {one.name for one in index.table.genomes().values()} == {"flye1", "flye2"}


def taxonomy(path: Path, names: tuple[str, ...]) -> Path:
    """A table that gives every genome a genus of its own."""
    path.write_text("genome\tgenus\n" + "".join(f"{name}\tGenus{at}\n" for at, name in enumerate(names)))
    return path


def genera(db: Path) -> dict[tuple[str, str], str | None]:
    with open_index(db) as index:
        genomes, at = index.table.genomes(), list(index.table.columns).index("genus")
        return {(genomes[one.genome].name, one.id): one.values[at] for one in index.table.scan()}


def test_an_update_without_metadata_keeps_what_is_known(db: Path, tmp_path: Path) -> None:
    update_index(db, metadata=taxonomy(tmp_path / "t.tsv", ("flye1", "flye2")), calibrate=False, threads=1)
    before = genera(db)
    assert set(before.values()) == {"Genus0", "Genus1"}
    fasta(tmp_path / "genomes" / "flye1.fna", 8)
    assert update_index(db, tmp_path / "genomes" / "flye1.fna", calibrate=False, threads=1) == 3
    assert genera(db) == before
    # A table that comes with the sequences is believed.
    newer = tmp_path / "newer.tsv"
    newer.write_text("genome\tgenus\nflye1\tNewer\n")
    update_index(db, tmp_path / "genomes" / "flye1.fna", metadata=newer, calibrate=False, threads=1)
    assert {name for (genome, _), name in genera(db).items() if genome == "flye1"} == {"Newer"}


def test_a_file_is_the_same_by_any_path(db: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fasta(tmp_path / "genomes" / "flye1.fna", 8)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert update_index(db, "../genomes/flye1.fna", calibrate=False, threads=1) == 3
    assert len(contents(db)) == 6
    assert check_index(db).whole


def test_sequences_without_a_taxonomy_are_reported(db: Path, tmp_path: Path) -> None:
    said: list[str] = []
    third = fasta(tmp_path / "third.fna", 2)
    add_to_index(db, third, genome="flye3", calibrate=False, threads=1, log=said.append)
    # Nobody has a taxonomy here, so nothing is missing.
    assert not any("taxonomy" in line for line in said)
    update_index(db, metadata=taxonomy(tmp_path / "t.tsv", ("flye1", "flye2")), calibrate=False, threads=1)
    fourth = fasta(tmp_path / "fourth.fna", 4)
    add_to_index(db, fourth, genome="flye4", calibrate=False, threads=1, log=said.append)
    assert any("have no taxonomy" in line for line in said)
    said.clear()
    table = taxonomy(tmp_path / "u.tsv", ("flye5",))
    fifth = fasta(tmp_path / "fifth.fna", 5)
    add_to_index(db, fifth, genome="flye5", metadata=table, calibrate=False, threads=1, log=said.append)
    assert not any("have no taxonomy" in line for line in said)
