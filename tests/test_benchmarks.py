"""Benchmarks of retrieval: nothing leaks from the database to the queries or from fold to fold."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import FormatError, InputError, KinmerError, SequenceError, UsageError
from kinmer.fragments import benchmark, fragment, open_benchmark
from kinmer.fragments.labels import GenomeLabels, deal_cases, deal_folds, groups_of
from tests.test_fragments import check_rows, read_fasta, read_table, write_fasta

COLUMNS = ("sequence_id", "genome_id", "species", "genus", "domain", "ani95_cluster", "molecule", "length")
# genome -> species, genus, domain, cluster, lengths of its sequences
GENOMES: dict[str, tuple[str, str, str, str, tuple[int, ...]]] = {
    "a1": ("A one", "A", "Bacteria", "c1", (60_000, 8_000)),
    "a2": ("A one", "A", "Bacteria", "c1", (50_000,)),
    "a3": ("A two", "A", "Bacteria", "c2", (40_000,)),
    "b1": ("B one", "B", "Bacteria", "c3", (30_000,)),
    "b2": ("B one", "B", "Bacteria", "c3", (30_000,)),
    "b3": ("B one", "B", "Bacteria", "c4", (30_000,)),
    "d1": ("D one", "", "Bacteria", "c4", (20_000,)),
    "e1": ("", "", "Bacteria", "", tuple(range(2_000, 14_000, 1_000))),
    "f1": ("F one", "F", "Archaea", "", (25_000, 999, 500)),
    "v1": ("V one", "V", "Viruses", "c5", (9_000,)),
    "v2": ("V two", "V", "Viruses", "c6", (9_000,)),
    "v3": ("V two", "V", "Viruses", "c6", (9_000,)),
    "w1": ("A one", ".", "Viruses", "c7", (7_000,)),
}
SETTINGS: dict[str, Any] = {"lengths": (1_000, 5_000), "per_length": 6, "piece": 9_000, "folds": 3}


def sequences() -> dict[str, str]:
    rng = np.random.default_rng(7)
    found = {}
    for genome, (*_, lengths) in GENOMES.items():
        for number, size in enumerate(lengths):
            found[f"{genome}.{number}"] = "".join(rng.choice(list("ACGT"), size))
    found["e1.3"] = "N" * 3_000 + found["e1.3"][3_000:]
    return found


WHOLE = sequences()


def label_rows() -> list[list[str]]:
    rows = []
    for name, letters in WHOLE.items():
        genome = name.split(".")[0]
        species, genus, domain, cluster, _ = GENOMES[genome]
        molecule = "virus" if domain == "Viruses" else "contig"
        rows.append([name, genome, species, genus, domain, cluster, molecule, str(len(letters))])
    return rows


def write_labels(path: Path, rows: list[list[str]], columns: tuple[str, ...] = COLUMNS) -> Path:
    path.write_text("".join("\t".join(row) + "\n" for row in [list(columns), *rows]))
    return path


@pytest.fixture(scope="module")
def given_files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("given")
    return write_fasta(folder / "all.fna", WHOLE), write_labels(folder / "labels.tsv", label_rows())


@pytest.fixture(scope="module")
def made(
    given_files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[dict[str, str]], list[dict[str, str]]]:
    """A benchmark with its tables of database and queries."""
    fasta, labels = given_files
    folder = tmp_path_factory.mktemp("made") / "bench"
    benchmark([fasta], folder, labels=labels, seed=3, **SETTINGS)
    return folder, read_table(folder / "database.fna.gz.tsv"), read_table(folder / "queries.fna.gz.tsv")


Made = tuple[Path, list[dict[str, str]], list[dict[str, str]]]


def test_rows_are_what_they_say(made: Made) -> None:
    folder, database, queries = made
    for name, rows in (("database", database), ("queries", queries)):
        check_rows(read_fasta(folder / f"{name}.fna.gz"), rows, WHOLE)
        for row in rows:
            species, genus, domain, cluster, _ = GENOMES[row["genome_id"]]
            # A dot says that nobody knows, which an empty field says too.
            assert (row["species"], row["genus"], row["domain"]) == (species, genus.strip("."), domain)
            assert row["ani95_cluster"] == cluster
            assert int(row["sequence_length"]) == len(WHOLE[row["sequence_id"]])
    assert list(queries[0])[-2:] == ["case", "fold"]
    assert list(queries[0])[:-2] == list(database[0])


def test_no_query_overlaps_the_database(made: Made) -> None:
    _, database, queries = made
    spans: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in database:
        spans[row["sequence_id"]].append((int(row["start"]), int(row["end"])))
    shared = 0
    for row in queries:
        for start, end in spans[row["sequence_id"]]:
            assert int(row["end"]) <= start or end <= int(row["start"])
            shared += 1
    assert shared > 0


def test_the_database_knows_what_the_case_says(made: Made) -> None:
    _, database, queries = made
    genomes = {row["genome_id"] for row in database}
    species = {(row["domain"], row["species"]) for row in database}
    genera = {(row["domain"], row["genus"]) for row in database}
    cases = {row["genome_id"]: row["case"] for row in queries}
    assert all(cases[row["genome_id"]] == row["case"] for row in queries)
    for genome, case in cases.items():
        of, genus, domain = GENOMES[genome][:3]
        assert (genome in genomes) == (case == "genome")
        if case == "genus":
            assert (domain, of) not in species
            assert (domain, genus) in genera
        elif case == "strain":
            assert (domain, of) in species
    # The only species of a single genome in their genus, and one genome of the species that have several.
    assert {genome for genome, case in cases.items() if case == "genus"} == {"a3", "v1"}
    strains = Counter(GENOMES[genome][0] for genome, case in cases.items() if case == "strain")
    assert strains == {"A one": 1, "B one": 1, "V two": 1}
    # A species of viruses that is called as one of bacteria is another one.
    assert cases["w1"] == "genome"


def test_pieces_and_queries_keep_their_bounds(made: Made) -> None:
    _, database, queries = made
    by_sequence: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row in database:
        by_sequence[row["sequence_id"]].append((int(row["start"]), int(row["end"])))
        assert 1_000 <= int(row["length"]) <= 9_000
        assert row["strand"] == "+"
    cases = {row["genome_id"]: row["case"] for row in queries}
    for name, spans in by_sequence.items():
        genome, size = name.split(".")[0], len(WHOLE[name])
        assert [end for _, end in spans[:-1]] == [start for start, _ in spans[1:]]
        lengths = [end - start for start, end in spans]
        assert max(lengths) - min(lengths) <= 1
        assert (spans[0][0], spans[-1][1]) == (0, size if genome == "e1" else int(0.6 * size))
        assert cases.get(genome, "genome") == "genome"
    asked = Counter((row["genome_id"], int(row["length"])) for row in queries)
    behind = {
        name: len(letters)
        if cases.get(name.split(".")[0]) in ("genus", "strain")
        else 0
        if name.startswith("e1")
        else len(letters) - int(0.6 * len(letters))
        for name, letters in WHOLE.items()
    }
    for genome in GENOMES:
        if genome != "e1":
            for length in (1_000, 5_000):
                fit = sum(size // length for name, size in behind.items() if name.startswith(f"{genome}."))
                assert asked[genome, length] == min(6, fit), (genome, length)
    assert {row["strand"] for row in queries} == {"+", "-"}


def test_short_contigs_go_whole_to_one_side(made: Made) -> None:
    _, database, queries = made
    sides = [{row["sequence_id"] for row in rows if row["genome_id"] == "e1"} for rows in (database, queries)]
    assert all(sides)
    assert not sides[0] & sides[1]


def test_no_species_or_cluster_is_on_two_folds(made: Made) -> None:
    folder, _, queries = made
    rows = read_table(folder / "folds.tsv")
    assert [row["sequence_id"] for row in rows] == sorted(WHOLE)
    fold = {row["genome_id"]: row["fold"] for row in rows}
    assert all(row["fold"] == fold[row["genome_id"]] for row in queries)
    group = {row["genome_id"]: row["group"] for row in rows}
    # A one is one species, in bacteria and (by its name) in a virus; B one and D one share a cluster.
    assert group["a1"] == group["a2"] == group["w1"]
    assert group["b1"] == group["b3"] == group["d1"]
    assert len({group[one] for one in ("a1", "a3", "b1", "e1", "f1", "v1", "v2")}) == 7
    assert set(fold.values()) == {"0", "1", "2"}


NAMES = st.sampled_from(["", "x", "y", "z", "u", "v"])


@given(
    st.lists(st.tuples(NAMES, NAMES, st.sampled_from(["", "Bacteria", "Viruses"])), min_size=3, max_size=30),
    st.integers(1, 5),
    st.integers(0, 2**30),
)
@settings(deadline=None)
def test_folds_of_any_labels_part_no_group(rows: list[tuple[str, str, str]], folds: int, seed: int) -> None:
    genomes = {
        f"g{number:02}": GenomeLabels(f"g{number:02}", (f"s{number}",), domain, species, "", cluster)
        for number, (species, cluster, domain) in enumerate(rows)
    }
    groups = groups_of(genomes.values(), "species")
    shuffled = list(genomes.values())
    random.Random(seed).shuffle(shuffled)
    assert groups_of(shuffled, "species") == groups
    # The oracle: labels are passed on until nothing changes.
    known = {name: name for name in genomes}
    for _ in genomes:
        for kind in ("species", "ani95_cluster"):
            least: dict[str, str] = {}
            for name, genome in genomes.items():
                label = getattr(genome, kind)
                if label:
                    least[label] = min(least.get(label, known[name]), known[name])
            known |= {
                name: min(known[name], least.get(getattr(genome, kind), known[name]))
                for name, genome in genomes.items()
            }
    assert known == groups
    number = len(set(groups.values()))
    if folds > number:
        with pytest.raises(UsageError, match="cannot be dealt"):
            deal_folds(genomes, groups, folds, seed)
        return
    dealt = deal_folds(genomes, groups, folds, seed)
    assert len({(groups[name], fold) for name, fold in dealt.items()}) == number
    sizes = Counter({groups[name]: fold for name, fold in dealt.items()}.values())
    assert max(sizes.values()) - min(sizes[fold] for fold in range(folds)) <= 1
    assert deal_folds(dict(reversed(genomes.items())), groups, folds, seed) == dealt
    assert set(groups_of(genomes.values(), "genome").values()) == set(genomes)


def test_cases_are_drawn_with_the_seed() -> None:
    genomes = [GenomeLabels(f"g{at}", (f"s{at}",), "Bacteria", f"S {at // 2}", "G", "") for at in range(12)]
    left_out, strains = Counter[str](), Counter[str]()
    for seed in range(600):
        cases = deal_cases(genomes, seed)
        assert Counter(cases.values()) == {"genus": 2, "strain": 5, "genome": 5}
        left_out.update(one.species for one in genomes if cases[one.id] == "genus")
        strains.update(name for name, case in cases.items() if case == "strain")
    # Two genomes of one of six species: 200 of 1,200 each; a strain of the five others: 250 of 600.
    assert all(abs(number - 200) < 5 * (2 * 600 * 5 / 36) ** 0.5 * 2**0.5 for number in left_out.values())
    assert all(abs(number - 250) < 5 * (600 * 250 / 600 * 350 / 600) ** 0.5 for number in strains.values())
    assert len(left_out) == 6
    assert len(strains) == 12


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_same_seed_makes_the_same_bytes_whatever_the_files(
    made: Made, given_files: tuple[Path, Path], tmp_path: Path
) -> None:
    names = list(WHOLE)
    random.Random(1).shuffle(names)
    parts = [names[at::4] for at in range(4)]
    files = [
        write_fasta(tmp_path / f"{at}.fna", {name: WHOLE[name] for name in part})
        for at, part in enumerate(parts)
    ]
    rows = label_rows()
    random.Random(2).shuffle(rows)
    labels = write_labels(tmp_path / "shuffled.tsv", rows)
    benchmark(files, tmp_path / "again", labels=labels, seed=3, **SETTINGS)
    assert contents(tmp_path / "again") == contents(made[0])
    assert set(contents(made[0])) == {
        "benchmark.json",
        "database.fna.gz",
        "database.fna.gz.tsv",
        "folds.tsv",
        "queries.fna.gz",
        "queries.fna.gz.tsv",
    }
    fasta, labels = given_files
    report = benchmark([fasta], tmp_path / "other", labels=labels, seed=4, **SETTINGS)
    other = contents(tmp_path / "other")
    assert other["folds.tsv"] == contents(made[0])["folds.tsv"]
    assert other["queries.fna.gz"] != contents(made[0])["queries.fna.gz"]
    assert report.fingerprint != open_benchmark(made[0]).fingerprint
    benchmark([fasta], tmp_path / "dealt", labels=labels, seed=3, fold_seed=1, **SETTINGS)
    dealt = contents(tmp_path / "dealt")
    assert dealt["folds.tsv"] != other["folds.tsv"]
    assert dealt["queries.fna.gz"] == contents(made[0])["queries.fna.gz"]


def test_the_report_counts_what_is_there(given_files: tuple[Path, Path], tmp_path: Path) -> None:
    _, labels = given_files
    some = {name: letters for name, letters in WHOLE.items() if not name.startswith("b2")}
    fasta = write_fasta(tmp_path / "some.fna", {**some, "stranger": "ACGT" * 1000})
    report = benchmark([fasta], tmp_path / "bench", labels=labels, **SETTINGS)
    database = read_table(tmp_path / "bench/database.fna.gz.tsv")
    queries = read_table(tmp_path / "bench/queries.fna.gz.tsv")
    assert (report.database, report.queries) == (len(database), len(queries))
    assert report.database_bases == sum(int(row["length"]) for row in database)
    assert report.database_genomes == len({row["genome_id"] for row in database})
    assert report.queries_by_case == Counter(row["case"] for row in queries)
    assert (report.unlabelled, report.absent) == (1, 1)
    assert "stranger" not in {row["sequence_id"] for row in (*database, *queries)}
    assert sum(report.folds) == len(GENOMES)
    assert f"{len(queries):,} " in report.summary()
    facts = json.loads((tmp_path / "bench/benchmark.json").read_text())
    assert facts["settings"]["lengths"] == [1_000, 5_000]
    assert facts["counts"]["queries"] == len(queries)
    assert facts["fingerprint"] == report.fingerprint


def test_without_genomes_every_sequence_is_one(tmp_path: Path) -> None:
    whole = {name: WHOLE[name] for name in ("a1.0", "a2.0", "a3.0", "b1.0")}
    fasta = write_fasta(tmp_path / "a.fna", whole)
    labels = write_labels(
        tmp_path / "labels.tsv", [[name, f"S {name[0]}"] for name in whole], ("sequence_id", "species")
    )
    report = benchmark([fasta], tmp_path / "bench", labels=labels, lengths=(1000,), folds=2)
    assert report.query_genomes == {"genus": 0, "strain": 1, "genome": 3}
    rows = read_table(tmp_path / "bench/folds.tsv")
    assert {row["genome_id"] for row in rows} == set(whole)
    assert len({row["fold"] for row in rows if row["sequence_id"].startswith("a")}) == 1
    benchmark([fasta], tmp_path / "by_genome", labels=labels, lengths=(1000,), folds=4, split="genome")
    rows = read_table(tmp_path / "by_genome/folds.tsv")
    assert len({row["fold"] for row in rows}) == 4


def test_queries_have_few_other_letters(tmp_path: Path) -> None:
    letters = "ACGT" * 2_000 + "N" * 4_000 + "ACGGT" * 2_000
    fasta = write_fasta(tmp_path / "a.fna", {"a": letters, "b": "ACCGT" * 4_000})
    labels = write_labels(tmp_path / "labels.tsv", [["a", "S"], ["b", "S"]], ("sequence_id", "species"))
    report = benchmark([fasta], tmp_path / "bench", labels=labels, lengths=(2_000,), folds=1, piece=1_500)
    fragments = read_fasta(tmp_path / "bench/queries.fna.gz")
    assert all(one.count("N") <= 0.05 * len(one) for one in fragments.values())
    pieces = read_fasta(tmp_path / "bench/database.fna.gz")
    assert all(len(one) - one.count("N") >= 1_000 for one in pieces.values())
    assert report.queries == len(fragments)


@pytest.mark.parametrize(
    ("change", "line", "message"),
    [
        ({3: (2, "A three")}, 4, "two names in the column species: 'A one' in line"),
        ({3: (1, "")}, 5, "has no genome_id"),
        ({3: (0, "a1.0")}, 5, "labelled twice"),
        ({3: (7, "5\t6")}, 5, "9 fields, 8 in the header"),
    ],
)
def test_labels_that_cannot_be_used(
    given_files: tuple[Path, Path],
    tmp_path: Path,
    change: dict[int, tuple[int, str]],
    line: int,
    message: str,
) -> None:
    rows = label_rows()
    rows.insert(2, ["absent", "a1", "A one", "A", "Bacteria", "c1", "contig", "10"])
    rows.insert(3, ["missing", "a1", "A one", "A", "Bacteria", "c1", "contig", "10"])
    for row, (column, value) in change.items():
        rows[row][column] = value
    labels = write_labels(tmp_path / "labels.tsv", rows)
    with pytest.raises(InputError, match=message) as caught:
        benchmark([given_files[0]], tmp_path / "bench", labels=labels, **SETTINGS)
    place = str(caught.value)
    assert str(labels) in place
    if "names" not in message:
        assert f"line {line}" in place
    else:
        assert "line 5" in place
    assert [path.name for path in tmp_path.iterdir()] == ["labels.tsv"]


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"lengths": ()}, UsageError, "lengths"),
        ({"lengths": (1000, 1000)}, UsageError, "lengths"),
        ({"per_length": 0}, UsageError, "at least one query"),
        ({"piece": 999}, UsageError, "1,000 letters"),
        ({"seed": -1}, UsageError, "negative"),
        ({"split": "genus"}, UsageError, "species or genome"),
        ({"folds": 100}, UsageError, "cannot be dealt into 100"),
        ({"lengths": (10**6,)}, SequenceError, "nothing is left for the queries"),
    ],
)
def test_settings_that_do_not_go_together(
    given_files: tuple[Path, Path],
    tmp_path: Path,
    wrong: dict[str, Any],
    error: type[KinmerError],
    message: str,
) -> None:
    fasta, labels = given_files
    with pytest.raises(error, match=message):
        benchmark([fasta], tmp_path / "bench", labels=labels, **{**SETTINGS, **wrong})
    assert not list(tmp_path.iterdir())


def test_folds_by_species_need_species(given_files: tuple[Path, Path], tmp_path: Path) -> None:
    labels = write_labels(tmp_path / "labels.tsv", [[name, "G"] for name in WHOLE], ("sequence_id", "genus"))
    with pytest.raises(UsageError, match="neither species nor ani95_cluster"):
        benchmark([given_files[0]], tmp_path / "bench", labels=labels, **SETTINGS)


def test_only_benchmarks_are_replaced_and_damage_is_told(
    given_files: tuple[Path, Path], tmp_path: Path
) -> None:
    fasta, labels = given_files
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/text").write_text("precious")
    with pytest.raises(UsageError, match="would remove other files"):
        benchmark([fasta], tmp_path / "thesis", labels=labels, force=True, **SETTINGS)
    bench = tmp_path / "bench"
    benchmark([fasta], bench, labels=labels, **SETTINGS)
    with pytest.raises(UsageError, match="exists already"):
        benchmark([fasta], bench, labels=labels, **SETTINGS)
    benchmark([fasta], bench, labels=labels, force=True, **SETTINGS)
    assert open_benchmark(bench).settings["seed"] == 0
    table = bench / "queries.fna.gz.tsv"
    table.write_bytes(table.read_bytes() + b"x")
    with pytest.raises(FormatError, match=r"queries\.fna\.gz\.tsv is not the file"):
        open_benchmark(bench)
    with pytest.raises(FormatError, match="no benchmark"):
        open_benchmark(tmp_path / "none")
    facts = json.loads((bench / "benchmark.json").read_text())
    (bench / "benchmark.json").write_text(json.dumps({**facts, "format": 99}))
    with pytest.raises(FormatError, match="no benchmark of format"):
        open_benchmark(bench)


def test_fragments_leave_out_a_fold(made: Made, given_files: tuple[Path, Path], tmp_path: Path) -> None:
    folds = made[0] / "folds.tsv"
    report = fragment(
        [given_files[0]],
        tmp_path / "train.fna",
        length=500,
        number=400,
        labels=folds,
        group="genome_id",
        leave_out={"fold": ["1"]},
    )
    rows = read_table(tmp_path / "train.fna.tsv")
    assert {row["fold"] for row in rows} == {"0", "2"}
    unseen = {row["genome_id"] for row in read_table(folds) if row["fold"] == "1"}
    assert report.left_out == sum(name.split(".")[0] in unseen for name in WHOLE)
    assert {row["genome_id"] for row in rows} == set(GENOMES) - unseen
    assert report.fragments == 400
    with pytest.raises(UsageError, match="no column 'part'"):
        fragment(
            [given_files[0]], tmp_path / "b.fna", per_sequence=1, labels=folds, leave_out={"part": ["1"]}
        )
