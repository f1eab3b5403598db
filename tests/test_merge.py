"""Indexes that become one: it is the index that all their sequences would have made at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from anndata import AnnData
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer import merge_indexes
from kinmer.cli import run
from kinmer.errors import InputError, MismatchError, UsageError
from kinmer.index import IndexWriter, Storage
from kinmer.index.sequences import EntryLetters
from kinmer.library import (
    KinIndex,
    add_to_index,
    build_index,
    build_reference,
    check_index,
    delete_from_index,
    index_rows,
    open_index,
    update_index,
)
from kinmer.queries import search
from tests.kill_worker import Runner
from tests.organisms import encoder_of, organisms

ENCODER = encoder_of()
# The genomes of each index.
PARTS = (("a", "b"), ("c",), ("d", "e"))
GENOMES = [name for part in PARTS for name in part]


def fasta(path: Path, name: str) -> Path:
    """Contigs as every assembler names them, of one genome; the last one is not cut."""
    rng = np.random.default_rng(list(name.encode()))
    share = rng.dirichlet(np.full(4, 4.0))
    lengths = (9000, 5200, 1500)
    lines = [
        f">contig_{at}\n{''.join(rng.choice(list('ACGT'), n, p=share))}N\n" for at, n in enumerate(lengths)
    ]
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text("".join(lines))
    return path


def reference(folder: Path, names: Sequence[str], **options: object) -> Path:
    """An index of genomes."""
    for name in names:
        fasta(folder / f"{''.join(names)}" / f"{name}.fna", name)
    lines = [f"{one}\tBacteria\tG{one}\tS {one}\n" for one in GENOMES]
    (folder / "taxa.tsv").write_text("genome\tdomain\tgenus\tspecies\n" + "".join(lines))
    path = folder / f"{''.join(names)}.db"
    given = {"pieces": (2000, 4000), "metadata": folder / "taxa.tsv", "calibrate": False, **options}
    build_reference(folder / "".join(names), path, encoder=ENCODER, threads=1, **given).close()  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The parts, ``all.db`` of all at once, ``merged.db`` of the parts."""
    folder = tmp_path_factory.mktemp("merge")
    parts = [reference(folder, part) for part in PARTS]
    reference(folder, GENOMES).rename(folder / "all.db")
    merge_indexes(parts, folder / "merged.db", calibrate=False, threads=1).close()
    return folder


@pytest.fixture
def folder(built: Path, tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(built, tmp_path / "work"))


Contents = dict[tuple[str, str], tuple[object, ...]]


def contents(db: Path) -> Contents:
    """All that an index knows of its entries, by genome and id; means of genomes by name and nothing."""
    with open_index(db, threads=1) as index:
        genomes, numbers = index.table.genomes(), index.numbers
        kept = index.table.blobs("letters", numbers)
        letters = dict(EntryLetters(index).each(list(kept)))
        sketches = index.entry_sketches(numbers)
        found: Contents = {}
        for one in index.table.scan():
            rows = slice(one.first, one.first + one.rows)
            spans = index.rows.records[rows][["start", "stop", "kind"]].tolist()
            values = tuple(
                sorted((k, v) for k, v in zip(index.columns, one.values, strict=True) if v is not None)
            )
            found[genomes[one.genome].name, one.id] = (
                *(one.length, one.gc, values, spans, index.rows.vectors[rows].tobytes()),
                *(letters.get(one.number), sketches.get(one.number, np.empty(0)).tolist()),
            )
        for number, row in index.rows.means.items():
            found[genomes[number].name, ""] = (index.rows.vectors[row].tobytes(),)
    return found


def calls(db: Path, queries: Path) -> list[object]:
    return [
        [(one.id, one.verdict, [(hit.genome, hit.id, hit.distance) for hit in one.hits]) for one in results]
        for by in ("sequence", "genome")
        for results in [search(queries, db, k=6, by=by, n_jobs=1)]
    ]


def test_it_is_the_index_of_all_sequences(built: Path, tmp_path: Path) -> None:
    merged, whole = built / "merged.db", built / "all.db"
    assert contents(merged) == contents(whole)
    with Storage.open(merged) as one, Storage.open(whole) as other:
        assert one.columns == other.columns
        assert np.array_equal(one.rows.vectors, other.rows.vectors)
        assert np.array_equal(one.rows.records, other.rows.records)
        assert one.has_sketches
        assert len(one.rows.means) == len(GENOMES)
        said = {name: fact for name, fact in one.manifest.items() if name not in ("index", "crc")}
        assert said == {name: other.manifest[name] for name in said}
        files, theirs = one.table.files(), other.table.files()
        assert [file[2:] for file in files] == [file[2:] for file in theirs]
        assert [Path(file.path).name for file in files] == [f"{name}.fna" for name in GENOMES]
        assert one.metadata.equals(other.metadata)
        holders = one.table.holders(["contig_1"])["contig_1"]
        assert (
            [Path(held.path or "").stem for held in holders] == [held.genome for held in holders] == GENOMES
        )
    for name in ("c", "x"):
        queries = fasta(tmp_path / "q.fna", name)
        assert calls(merged, queries) == calls(whole, queries)
    assert list(index_rows(merged)) == list(index_rows(whole))
    report = check_index(merged)
    assert report.whole, report.problems
    assert report.notes == ()


def test_it_is_calibrated_as_any_index(built: Path, tmp_path: Path) -> None:
    told = list[str]()
    parts = [built / "ab.db", built / "c.db"]
    with merge_indexes(parts, tmp_path / "m.db", threads=1, log=told.append) as made:
        assert made.calibrated() is not None
    assert any("calibrated" in line for line in told), told
    with merge_indexes(parts, tmp_path / "n.db", calibrate=False, threads=1) as made:
        assert made.calibrated() is None


def test_it_can_be_changed(tmp_path: Path) -> None:
    """It is known where sequences came from: files that are in are passed over, or replaced."""
    parts = [reference(tmp_path, part) for part in PARTS[:2]]
    db = tmp_path / "m.db"
    merge_indexes(parts, db, calibrate=False, threads=1).close()
    before = contents(db)
    file = tmp_path / "c" / "c.fna"
    assert add_to_index(db, file, calibrate=False, threads=1) == 0
    assert update_index(db, file, calibrate=False, threads=1) == 3
    assert contents(db) == before
    file.write_text(file.read_text().replace("A", "C", 900))
    assert update_index(db, file, calibrate=False, threads=1) == 3
    after = contents(db)
    assert after.keys() == before.keys()
    assert {genome for genome, _ in after if after[genome, "contig_0"] != before[genome, "contig_0"]} == {"c"}
    delete_from_index(db, genomes=["c"])
    assert {genome for genome, _ in contents(db)} == {"a", "b"}
    assert check_index(db).whole


def test_what_one_index_lacks(folder: Path, tmp_path: Path) -> None:
    """No letters of half the entries, and columns of both, whatever their case."""
    bare = reference(tmp_path, ("d", "e"), keep_sequences=False)
    (tmp_path / "more.tsv").write_text("genome\tGenus\tnote\nd\tother\tseen\n")
    update_index(bare, metadata=tmp_path / "more.tsv", calibrate=False)
    told, out = list[str](), tmp_path / "m.db"
    merge_indexes([folder / "ab.db", bare], out, calibrate=False, threads=1, log=told.append).close()
    assert told[0] == f"kept sequences are left out, because {bare} lacks some"
    wanted = {
        key: (*value[:5], None, *value[6:]) if key[1] else value
        for db in (folder / "ab.db", bare)
        for key, value in contents(db).items()
    }
    found = contents(out)
    for key in wanted:
        if key[1]:
            values = {str(name).lower(): value for name, value in wanted[key][2]}  # type: ignore[attr-defined]
            wanted[key] = (*wanted[key][:2], tuple(sorted(values.items())), *wanted[key][3:])
    assert found == wanted
    with open_index(out) as index:
        assert index.columns == ("domain", "genus", "species", "note")
        assert index.has_sketches
        # The files are still there to read.
        assert EntryLetters(index).lacking() == ""
        assert len(dict(EntryLetters(index).each(index.numbers.tolist()))) == len(index)
    assert check_index(out).whole


def test_means_are_taken_over(folder: Path) -> None:
    """An index may hold fewer pieces than its means are of."""
    mean = np.arange(ENCODER.dim, dtype=np.float32)
    with IndexWriter(folder / "c.db") as writer:
        number = writer.table.genome_number("c")
        assert number is not None
        writer.set_means({number: mean})
    merge_indexes([folder / "ab.db", folder / "c.db"], folder / "m.db", calibrate=False, threads=1).close()
    assert contents(folder / "m.db")["c", ""] == (mean.tobytes(),)
    assert contents(folder / "m.db")["a", ""] == contents(folder / "all.db")["a", ""]
    # Neither finds the mean in the pieces that are left.
    assert check_index(folder / "m.db").problems == check_index(folder / "c.db").problems != ()


def refused(capsys: pytest.CaptureFixture[str], *argv: object) -> str:
    """The one line of a command that ends with 2."""
    capsys.readouterr()
    assert run(["db", "merge", *map(str, argv), "--no-calibrate", "--threads", "1"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def test_conflicts_are_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = set(folder.iterdir())
    a, c, out = folder / "ab.db", folder / "c.db", folder / "m.db"
    other = folder / "other.db"
    build_index(fasta(folder / "x.fna", "x"), other, encoder=encoder_of(seed=1), calibrate=False).close()
    assert f"{other}: the encoder is not the one of {a}" in refused(capsys, a, other, "-o", out)
    shutil.rmtree(other)
    # Contigs as such: the same id, and each a genome of its own.
    for name in ("x", "y"):
        build_index(fasta(folder / f"{name}.fna", name), folder / f"{name}.db", encoder=ENCODER).close()
    x, y = folder / "x.db", folder / "y.db"
    assert f"the id 'contig_0' is in {x} and in {y}" in refused(capsys, a, x, y, "-o", out)
    shutil.copytree(folder / "all.db", folder / "again.db")
    line = refused(capsys, c, folder / "again.db", "-o", out)
    assert f"the id 'contig_0' of the genome 'c' is in {c} and in {folder / 'again.db'}" in line
    add_to_index(a, folder / "x.fna", genome="c", prefix="x", calibrate=False)
    assert f"the genome 'c' is in {a} and in {c}" in refused(capsys, a, c, "-o", out)
    assert "two indexes or more" in refused(capsys, a, "-o", out)
    assert "two indexes or more" in refused(capsys, a, a, "-o", out)
    assert "exists already" in refused(capsys, x, c, "-o", folder / "de.db")
    assert f"the output is the input {c}" in refused(capsys, x, c, "-o", c, "--force")
    assert "no such index" in refused(capsys, x, folder / "nothing.db", "-o", out)
    with (folder / "de.db" / "vectors-0.f32").open("r+b") as file:
        file.write(b"\xff\xff")
    assert "damaged" in refused(capsys, c, folder / "de.db", "-o", out)
    names = {path.name for path in set(folder.iterdir()) - here}
    assert names == {"x.fna", "y.fna", "x.db", "y.db", "again.db"}


def test_an_output_is_replaced_if_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["db", "merge", str(folder / "ab.db"), str(folder / "c.db"), "-o", str(folder / "all.db")]
    assert run([*argv, "--force", "--no-calibrate"]) == 0
    assert "all.db: 9 entries of 2 indexes" in capsys.readouterr().err
    assert {genome for genome, _ in contents(folder / "all.db")} == {"a", "b", "c"}


def test_an_index_that_changes_meanwhile(folder: Path, tmp_path: Path) -> None:
    bare, out = reference(tmp_path, ("d", "e"), keep_sequences=False), tmp_path / "m.db"
    parts = [folder / "ab.db", bare]

    def meddle(line: str) -> None:
        if "left out" in line and len(list(index_rows(bare))) == 6:
            delete_from_index(bare, genomes=["e"])

    with pytest.raises(UsageError, match="changed while it was merged"):
        merge_indexes(parts, out, calibrate=False, threads=1, log=meddle)
    assert not out.exists()
    with merge_indexes(parts, out, calibrate=False, threads=1) as made:
        assert len(made) == 9
    assert check_index(out).whole


TABLE = organisms(30)


@settings(max_examples=12, deadline=None)
@given(
    home=st.lists(st.integers(0, 2), min_size=30, max_size=30),
    gone=st.sets(st.integers(0, 29), max_size=8),
    engine=st.sampled_from(("exact", "hnsw")),
)
def test_any_parts(
    tmp_path_factory: pytest.TempPathFactory, home: list[int], gone: set[int], engine: str
) -> None:
    """Of embedded sequences, deleted ones among them; some parts are empty."""
    folder = tmp_path_factory.mktemp("parts")
    paths = list[Path]()
    for at in range(3):
        rows = [row for row in range(30) if home[row] == at]
        if not rows:
            continue
        part: AnnData = TABLE[rows].copy()
        paths.append(folder / f"{at}.db")
        build_index(part, paths[-1], encoder=ENCODER, engine=engine, threads=1).close()
        if drop := [f"s{row}" for row in rows if row in gone]:
            delete_from_index(paths[-1], ids=drop)
    left = [row for at in range(3) for row in range(30) if home[row] == at and row not in gone]
    if len(paths) < 2:
        with pytest.raises(UsageError, match="two indexes or more"):
            merge_indexes(paths, folder / "m.db")
        return
    with (
        merge_indexes(paths, folder / "m.db", calibrate=False, threads=1) as merged,
        build_index(
            TABLE[left].copy(), folder / "all.db", encoder=ENCODER, calibrate=False, threads=1
        ) as whole,
    ):
        assert (merged.engine, merged.metric) == (engine, "cosine")
        assert merged.ids.tolist() == whole.ids.tolist() == [f"s{row}" for row in left]
        assert np.array_equal(merged.vectors, whole.vectors)
        assert merged.metadata.equals(whole.metadata)
        queries = np.asarray(whole.vectors[:5]) + np.float32(0.1)
        mine, theirs = merged.search(queries, 4), whole.search(queries, 4)
        assert np.array_equal(mine[0], theirs[0])
        assert np.array_equal(mine[1], theirs[1])
    assert check_index(folder / "m.db").whole


MERGE = ("db", "merge", "ab.db", "c.db", "de.db", "-o", "m.db", "--no-calibrate", "--threads", "1")


@pytest.fixture(scope="module")
def runner(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    warm = Path(shutil.copytree(built, tmp_path_factory.mktemp("warm") / "work"))
    made = Runner(MERGE, warm)
    yield made
    made.close()


def test_a_killed_merge_is_given_again(folder: Path, runner: Runner, tmp_path: Path) -> None:
    """Killed behind every commit and at some other steps: nothing is there that is not whole, and it resumes.

    So it does with a mean that the next writer would compute otherwise.
    """
    mean = np.arange(ENCODER.dim, dtype=np.float32)
    with IndexWriter(folder / "c.db") as writer:
        writer.set_means({0: mean})
    odd = check_index(folder / "c.db").problems
    trial = Path(shutil.copytree(folder, tmp_path / "trial"))
    steps = runner.run(MERGE, trial).steps
    wanted = contents(trial / "m.db")
    commits = [at for at, step in enumerate(steps, 1) if step == "after commit"]
    # A commit for the files, two for the entries of two genomes and one for a genome, means.
    assert len(commits) >= 7, steps
    drawn = np.random.default_rng(0).choice(np.arange(1, len(steps) + 1), 8, replace=False).tolist()
    resumed = 0
    for at in sorted({*commits, *drawn, len(steps) - 1}):
        where, work = f"step {at}: {steps[at - 1]}", Path(shutil.copytree(folder, tmp_path / "again"))
        db = work / "m.db"
        assert runner.run(MERGE, work, kill_at=at).code == -9, where
        if db.exists():
            assert check_index(db).problems == odd, where
            assert contents(db) == wanted, where
        told = db.exists() and not (db / "making.json").exists()
        again = runner.run(MERGE, work)
        assert again.code == (2 if told else 0), (where, again.output)
        assert not told or "exists already" in again.output, where
        resumed += "resuming after" in again.output
        assert contents(db) == wanted, where
        report = check_index(db)
        assert report.problems == odd, where
        assert report.notes == (), where
        assert {path.name for path in work.iterdir()} == {path.name for path in trial.iterdir()}, where
        shutil.rmtree(work)
    assert resumed >= 5


def test_types_of_errors(folder: Path) -> None:
    """What Python raises is what the page says."""
    other = folder / "other.db"
    build_index(fasta(folder / "x.fna", "x"), other, encoder=encoder_of(seed=1), calibrate=False).close()
    with pytest.raises(MismatchError):
        merge_indexes([folder / "c.db", other], folder / "m.db")
    with pytest.raises(InputError, match="contig_0"):
        merge_indexes([folder / "c.db", folder / "all.db"], folder / "m.db")
    assert isinstance(
        merge_indexes([folder / "c.db", folder / "ab.db"], folder / "m.db", threads=1), KinIndex
    )
