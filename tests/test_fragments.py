"""Fragments: that they are what the table says, evenly drawn, and the same for the same seed."""

from __future__ import annotations

import csv
import gzip
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fragments import FragmentReport, fragment

COMPLEMENT = {"A": "T", "C": "G", "G": "C", "T": "A", "N": "N", "R": "Y", "Y": "R"}
LENGTHS = {"a": 50_000, "b": 20_000, "c": 5_000, "d|1": 900}


def sequences(seed: int = 0) -> dict[str, str]:
    random = np.random.default_rng(seed)
    return {name: "".join(random.choice(list("ACGT"), size)) for name, size in LENGTHS.items()}


def write_fasta(path: Path, records: dict[str, str]) -> Path:
    path.write_text("".join(f">{name}\n{letters}\n" for name, letters in records.items()))
    return path


def read_fasta(path: Path) -> dict[str, str]:
    text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
    lines = text.splitlines()
    assert all(line.startswith(">") for line in lines[::2])
    found = dict(zip((line[1:] for line in lines[::2]), lines[1::2], strict=True))
    assert len(found) == len(lines) // 2
    return found


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    return write_fasta(tmp_path / "in.fna", sequences())


def check_rows(fragments: dict[str, str], rows: list[dict[str, str]], whole: dict[str, str]) -> None:
    """Every fragment is the piece of its sequence that its row names."""
    assert list(fragments) == [row["id"] for row in rows]
    for row in rows:
        start, end = int(row["start"]), int(row["end"])
        piece = whole[row["sequence_id"]][start:end]
        if row["strand"] == "-":
            piece = "".join(COMPLEMENT[letter] for letter in reversed(piece))
        assert fragments[row["id"]] == piece
        assert int(row["length"]) == end - start == len(piece)
        assert row["id"] == f"{row['sequence_id']}:{start}-{end}:{row['strand']}"


@pytest.mark.parametrize("name", ["out.fna", "out.fna.gz"])
def test_fragments_are_what_their_rows_say(fasta: Path, tmp_path: Path, name: str) -> None:
    report = fragment([fasta], tmp_path / name, length=(1000, 10_000), per_sequence=40)
    fragments, rows = read_fasta(tmp_path / name), read_table(tmp_path / f"{name}.tsv")
    check_rows(fragments, rows, sequences())
    assert report == FragmentReport(
        fragments=120,
        bases=sum(map(len, fragments.values())),
        sequences=3,
        too_short=1,
        given_up=0,
        unlabelled=0,
    )
    assert {row["strand"] for row in rows} == {"+", "-"}
    assert all(1000 <= len(letters) <= 10_000 for letters in fragments.values())
    assert (
        max(
            len(letters)
            for row, letters in zip(rows, fragments.values(), strict=True)
            if row["sequence_id"] == "c"
        )
        <= 5000
    )
    assert "1 sequences too short" in report.summary()


def test_lengths_are_log_uniform_and_places_uniform(fasta: Path, tmp_path: Path) -> None:
    from scipy import stats

    fragment([fasta], tmp_path / "a.fna", length=(1000, 10_000), per_sequence=3000, both_strands=False)
    rows = [row for row in read_table(tmp_path / "a.fna.tsv") if row["sequence_id"] == "a"]
    assert len(rows) == 3000
    lengths = np.array([int(row["length"]) for row in rows])
    starts = np.array([int(row["start"]) for row in rows])
    spread = np.log10(lengths / 1000)
    assert stats.kstest(spread, "uniform").pvalue > 1e-3
    assert stats.kstest(starts / (50_000 - lengths), "uniform").pvalue > 1e-3
    assert {row["strand"] for row in rows} == {"+"}


@pytest.mark.parametrize("number", [1, 10, 997])
def test_a_number_is_met_exactly_and_shared_out_by_length(fasta: Path, tmp_path: Path, number: int) -> None:
    report = fragment([fasta], tmp_path / "a.fna", length=1000, number=number)
    assert report.fragments == number
    counted = Counter(row["sequence_id"] for row in read_table(tmp_path / "a.fna.tsv"))
    assert sum(counted.values()) == number
    assert all(abs(counted[name] - number * LENGTHS[name] / 75_000) < 1 for name in "abc")


def test_groups_share_evenly(fasta: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text(
        "species\tsequence_id\tlength\nx\ta\t50000\nx\tb\t20000\ny\tc\t5000\n"
    )
    fragment(
        [fasta],
        tmp_path / "a.fna",
        length=1000,
        number=200,
        labels=tmp_path / "labels.tsv",
        group="species",
    )
    rows = read_table(tmp_path / "a.fna.tsv")
    assert list(rows[0]) == [
        "id",
        "sequence_id",
        "start",
        "end",
        "length",
        "strand",
        "species",
        "sequence_length",
    ]
    assert Counter(row["species"] for row in rows) == {"x": 100, "y": 100}
    assert Counter(row["sequence_id"] for row in rows) == {"a": 71, "b": 29, "c": 100}
    assert {row["sequence_length"] for row in rows if row["sequence_id"] == "b"} == {"20000"}


@given(st.permutations(list(LENGTHS)), st.integers(0, 2**40), st.booleans())
@settings(max_examples=10, deadline=None)
def test_order_and_company_of_the_files_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, order: list[str], seed: int, together: bool
) -> None:
    folder = tmp_path_factory.mktemp("order")
    whole = sequences()
    write_fasta(folder / "all.fna", whole)
    if together:
        files = [write_fasta(folder / "other.fna", {name: whole[name] for name in order})]
    else:
        files = [write_fasta(folder / f"in{row}.fna", {name: whole[name]}) for row, name in enumerate(order)]
    for given_files, name in (([folder / "all.fna"], "1.fna"), (files, "2.fna")):
        fragment(given_files, folder / name, length=(500, 2000), number=60, seed=seed)
    first, second = read_fasta(folder / "1.fna"), read_fasta(folder / "2.fna")
    assert first == second
    fragment([folder / "all.fna"], folder / "3.fna", length=(500, 2000), number=60, seed=seed + 1)
    assert read_fasta(folder / "3.fna") != first


def test_no_fragment_with_too_many_ambiguous_letters(tmp_path: Path) -> None:
    letters = "ACGT" * 1000 + "N" * 8000 + "ACGR" * 1000
    fasta = write_fasta(tmp_path / "in.fna", {"a": letters, "n": "N" * 9000})
    report = fragment([fasta], tmp_path / "a.fna", length=1000, per_sequence=30, max_ambiguous=0.26)
    fragments = read_fasta(tmp_path / "a.fna")
    check_rows(fragments, read_table(tmp_path / "a.fna.tsv"), {"a": letters})
    assert all(sum(letter in "NRY" for letter in one) <= 260 for one in fragments.values())
    assert any("Y" in one for one in fragments.values())
    assert 25 <= report.fragments <= 30
    assert report.fragments + report.given_up == 60


def test_a_sequence_gives_no_fragment_twice(tmp_path: Path) -> None:
    fasta = write_fasta(tmp_path / "in.fna", {"a": "ACGTTGCAGG"})
    report = fragment([fasta], tmp_path / "a.fna", length=9, per_sequence=50)
    assert (report.fragments, report.given_up) == (4, 46)
    assert len(read_fasta(tmp_path / "a.fna")) == 4


def test_the_same_call_makes_the_same_bytes(fasta: Path, tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        fragment([fasta], tmp_path / name / "a.fna.gz", length=1000, per_sequence=5)
    assert (tmp_path / "1/a.fna.gz").read_bytes() == (tmp_path / "2/a.fna.gz").read_bytes()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"length": (10, 5)}, "the shorter one comes first"),
        ({"length": 0}, "at least 1"),
        ({"per_sequence": None}, "one of the two"),
        ({"number": 5}, "one of the two"),
        ({"per_sequence": 0}, "at least one"),
        ({"group": "species"}, "labels"),
        ({"max_ambiguous": 1.5}, "between 0 and 1"),
    ],
)
def test_settings_that_do_not_go_together(
    fasta: Path, tmp_path: Path, wrong: dict[str, object], message: str
) -> None:
    settings: dict[str, object] = {"length": 1000, "per_sequence": 5, **wrong}
    with pytest.raises(UsageError, match=message):
        fragment([fasta], tmp_path / "a.fna", **settings)  # type: ignore[arg-type]
    assert [child.name for child in tmp_path.iterdir()] == ["in.fna"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("id\tspecies\na\tx\n", "no column sequence_id"),
        ("sequence_id\tspecies\na\tx\ty\n", "line 2: 3 fields, 2 in the header"),
        ("sequence_id\tspecies\na\tx\na\ty\n", "line 3: the sequence 'a' is labelled twice"),
        ("", "no column sequence_id"),
        (None, "no such file"),
    ],
)
def test_labels_that_cannot_be_used(fasta: Path, tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "labels.tsv").write_text(text)
    with pytest.raises(InputError, match=message):
        fragment([fasta], tmp_path / "a.fna", per_sequence=1, labels=tmp_path / "labels.tsv")
    assert not list(tmp_path.glob("*a.fna*"))


def test_missing_labels_stay_empty_and_are_counted(fasta: Path, tmp_path: Path) -> None:
    (tmp_path / "labels.tsv").write_text("sequence_id\tspecies\na\tx\n")
    report = fragment(
        [fasta], tmp_path / "a.fna", length=1000, per_sequence=1, labels=tmp_path / "labels.tsv"
    )
    assert report.unlabelled == 3
    assert [row["species"] for row in read_table(tmp_path / "a.fna.tsv")] == ["x", "", ""]
    with pytest.raises(UsageError, match="no column 'genus'"):
        fragment(
            [fasta],
            tmp_path / "b.fna",
            length=1000,
            number=9,
            labels=tmp_path / "labels.tsv",
            group="genus",
        )


def test_bad_sequences_leave_nothing(fasta: Path, tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match="'a' occurs twice"):
        fragment([fasta, fasta], tmp_path / "a.fna", length=1000, per_sequence=1)
    with pytest.raises(SequenceError, match="shorter than 90,000"):
        fragment([fasta], tmp_path / "a.fna", length=90_000, per_sequence=1)
    with pytest.raises(SequenceError, match="shorter than 90,000"):
        fragment([fasta], tmp_path / "a.fna", length=90_000, number=1)
    assert [child.name for child in tmp_path.iterdir()] == ["in.fna"]
    fragment([fasta], tmp_path / "a.fna", length=1000, per_sequence=1)
    with pytest.raises(UsageError, match="exists already"):
        fragment([fasta], tmp_path / "a.fna", length=1000, per_sequence=2)
    assert fragment([fasta], tmp_path / "a.fna", length=1000, per_sequence=2, force=True).fragments == 6


@pytest.mark.genomes
def test_fragments_of_real_genomes_carry_their_labels(tmp_path: Path) -> None:
    folder = os.environ.get("KINMER_GENOMES")
    if not folder:
        pytest.skip("KINMER_GENOMES names no folder of real genomes")
    files = sorted(Path(folder).glob("*.fna.gz"))[:5]
    labels = Path(folder) / "genomes.tsv"
    report = fragment(
        files, tmp_path / "a.fna.gz", length=(1000, 5000), number=500, labels=labels, group="genome_id"
    )
    rows = read_table(tmp_path / "a.fna.gz.tsv")
    known = {row["sequence_id"]: row for row in read_table(labels)}
    assert (report.fragments, report.unlabelled) == (500, 0)
    assert set(Counter(row["genome_id"] for row in rows).values()) == {100}
    assert all(row["species"] == known[row["sequence_id"]]["species"] for row in rows)
    assert all(int(row["end"]) <= int(row["sequence_length"]) for row in rows)
