"""What stands for "not known" is no taxon and no label, wherever it comes in; one rule for all."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from hypothesis import given
from hypothesis import strategies as st

import kinmer
from kinmer.clusters.agreement import agreement_of, evaluate_clusters
from kinmer.confidence.pool import LineageBook
from kinmer.estimators import KinmerClassifier
from kinmer.estimators.transformer import RowError
from kinmer.evaluate.measures import label_table
from kinmer.fasta import read_records
from kinmer.fragments import read_labels
from kinmer.library import KinIndex, add_to_index, build_index, build_reference, update_index
from kinmer.library.join import homonyms
from kinmer.library.packages import find_genomes
from kinmer.queries import write_calls, write_krona, write_lineage
from kinmer.simulate import Community, write_community
from kinmer.taxonomy import RANKS, known_rows, parse_lineage, rank_columns, rule_of, taxon
from tests.organisms import encoder_of, organisms

# What is missing in any column, in columns of labels, and in those of ranks.
ANYWHERE = [
    "",
    " ",
    ".",
    "NA",
    "na",
    "N/A",
    "n/a",
    "#N/A",
    "nan",
    "NaN",
    "None",
    "NULL",
    "null",
    "<NA>",
    "NaT",
]
LABELS = ["-", "?", "unknown", "Unknown", "unclassified", "Unassigned", "not available", "not_assigned"]
RANKED = ["s__", "g__", "d__ ", "unclassified Bacillus", "Bacillus_unclassified", "uncultured bacterium"]
RANKED += ["g__unclassified", "Unclassified Bacteria", "Incertae Sedis", "unidentified", "Unknown Family"]
NO_SPECIES = ["Bacillus sp.", "Bacillus sp", "Vibrio spp.", "bacterium", "Clostridiales bacterium"]
NO_SPECIES += ["gut metagenome", "metagenome", "environmental samples"]
REAL = ["Natrinema", "Nanoarchaeum equitans", "Nonlabens", "Bacillus sp. FJAT-1", "Candidatus Carsonella"]
REAL += [
    "[Clostridium] symbiosum",
    "Tobacco mosaic virus",
    "s__Escherichia coli",
    "Flavobacterium",
    "0",
    "N A",
]
REAL += ["Lachnospiraceae bacterium 3_1_57FAA", "Family XI Incertae Sedis", "Nullibacter", "Unclassifiedia"]


def test_the_rule() -> None:
    for text in ANYWHERE:
        for column in ("anything", "genome", "species", "Genus"):
            assert rule_of(column)(text) is None
    for value in (None, float("nan"), np.nan, pd.NA, pd.NaT, np.float32("nan")):
        assert rule_of("anything")(value) is None
    for text in LABELS:
        assert rule_of("anything")(text) == text
        assert rule_of("Genome_ID")(text) is rule_of("molecule")(text) is rule_of("SPECIES")(text) is None
    for text in RANKED:
        assert rule_of("genome")(text) == text or text.lower() in ("incertae sedis", "unidentified")
        for rank in RANKS:
            assert taxon(rank, text) is None
    for text in NO_SPECIES:
        assert taxon("species", text) is None
    assert taxon("genus", "Bacillus sp.") == "Bacillus sp."
    for text in REAL:
        assert taxon("species", f" {text} ") == rule_of("superkingdom")(text) == text
    for number in (0, 1.5, True, np.int64(3)):
        assert rule_of("genus")(number) is number


@given(
    st.lists(st.sampled_from([*ANYWHERE, *LABELS, *RANKED, *NO_SPECIES, *REAL, None, np.nan, 3]), max_size=9)
)
def test_columns_by_the_rule_of_their_values(values: list[Any]) -> None:
    for column in ("species", "genome", "anything"):
        rule = rule_of(column)
        assert known_rows(column, values).tolist() == [rule(one) is not None for one in values]


def test_columns_of_ranks_by_any_name() -> None:
    told = ["id", "SPECIES", "Genus", "superkingdom", "division", "kingdom", "realm"]
    assert rank_columns(told) == {
        "domain": "superkingdom",
        "phylum": "division",
        "genus": "Genus",
        "species": "SPECIES",
    }
    # The rank's own name comes first, wherever it stands.
    assert rank_columns(["Superkingdom", "Domain"]) == rank_columns(["Domain", "Superkingdom"])
    assert rank_columns(["Superkingdom", "Domain"])["domain"] == "Domain"


def test_lineages() -> None:
    text = "d__Bacteria;p__;c__NA;o__unclassified Bacilli;f__nan;g__Natrinema;s__uncultured bacterium"
    assert parse_lineage(text) == ("Bacteria", None, None, None, None, "Natrinema", None)


@pytest.fixture(scope="module")
def genomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of genomes, and `taxonomy.tsv` with sequence_id, genome_id and ranks."""
    folder = tmp_path_factory.mktemp("missing") / "community"
    write_community(
        folder,
        community=Community(phyla=2, genera=2, species=2, strains=2, plasmids=0, phages=0, chromosome=10_000),
    )
    return folder


@pytest.fixture(scope="module")
def spoilt(genomes: Path) -> pd.DataFrame:
    """Its taxonomy where half of the genomes have no genus and species, each in another way."""
    table = pd.read_csv(genomes / "taxonomy.tsv", sep="\t", dtype=str, keep_default_na=False)
    table = table.rename(columns={"sequence_id": "id", "species": "SPECIES", "domain": "superkingdom"})
    ways = [*ANYWHERE, *LABELS, *RANKED]
    for at in range(0, len(table), 2):
        table.loc[at, ["genus", "SPECIES"]] = [ways[at % len(ways)], ways[(at + 7) % len(ways)]]
    return table


def files_of(folder: Path) -> list[Path]:
    return sorted((folder / "genomes").iterdir())


def names_of(db: Path) -> list[set[str]]:
    """All names that an index has, by rank."""
    with KinIndex.open(db) as index:
        book = LineageBook(index)
        book.codes(np.array(sorted(index.table.genomes()), np.int64))
        return [set(names) for names in book.lineages().names]


def expected(table: pd.DataFrame) -> list[set[str]]:
    known = table.iloc[1::2]
    ranks = {rank: {"species": "SPECIES", "domain": "superkingdom"}.get(rank, rank) for rank in RANKS}
    whole = {rank: known if rank in ("genus", "species") else table for rank in RANKS}
    return [set(whole[rank][ranks[rank]]) for rank in RANKS]


@pytest.mark.parametrize("way", ["metadata", "update", "manifest", "store", "anndata", "old"])
def test_an_index_knows_no_such_taxon(way: str, genomes: Path, spoilt: pd.DataFrame, tmp_path: Path) -> None:
    """By a table, a later table, a manifest, obs of a store; and in an index that kinmer 0.1.0 wrote."""
    db, tsv = tmp_path / "kin.db", tmp_path / "meta.tsv"
    spoilt.to_csv(tsv, sep="\t", index=False)
    files, encoder = files_of(genomes), encoder_of()
    how: dict[str, Any] = {"encoder": encoder, "calibrate": False}
    if way == "metadata":
        build_index(files, db, metadata=tsv, **how).close()
    elif way == "update":
        build_index(files[:3], db, **how).close()
        add_to_index(db, files[3:], calibrate=False)
        update_index(db, metadata=tsv, calibrate=False)
    elif way == "manifest":
        by_genome = spoilt.drop_duplicates("genome_id").set_index("genome_id")
        rows = by_genome.loc[[path.name.split(".")[0] for path in files]].drop(columns=["id"])
        rows.insert(0, "path", [str(path) for path in files])
        rows.to_csv(tmp_path / "manifest.tsv", sep="\t")
        assert all("NA" not in one.metadata.values() for one in find_genomes(tmp_path / "manifest.tsv"))
        build_reference(tmp_path / "manifest.tsv", db, **how).close()
    elif way in ("store", "anndata"):
        table = organisms(len(spoilt))
        obs = spoilt.set_index("id").rename_axis(None)
        made = AnnData(
            table.X, obs=table.obs[["length"]].set_index(obs.index).join(obs.drop(columns="length"))
        )
        made.var_names, made.uns = table.var_names, table.uns
        made.obs.loc[made.obs_names[0], ["genus", "SPECIES"]] = [np.nan, None]
        if way == "anndata":
            made.obs["genus"] = made.obs["genus"].astype("category")
        build_index(made, db, **how).close()
    else:
        build_index(files, db, metadata=tsv, **how).close()
        with KinIndex.open(db) as index:
            (number,) = index.numbers[:1]
            entry = index.entries(np.array([number]))[number]
        # As 0.1.0 kept it.
        from kinmer.index.commit import Change
        from kinmer.index.table import EntryTable

        table = EntryTable(db / "entries.sqlite")
        change = Change(table)
        with change.begin():
            values = [
                one if name not in ("genus", "SPECIES") else "NA"
                for name, one in zip(table.columns, entry.values, strict=True)
            ]
            change.set_values(entry, values)
        table.close()
    assert names_of(db) == expected(spoilt)


@pytest.mark.slow
def test_no_answer_names_it(genomes: Path, spoilt: pd.DataFrame, tmp_path: Path) -> None:
    """Nor do Krona, the lineage report, calls and the judgement by alignment."""
    db, tsv, queries = tmp_path / "kin.db", tmp_path / "meta.tsv", tmp_path / "queries.fna"
    spoilt.to_csv(tsv, sep="\t", index=False)
    build_index(files_of(genomes), db, metadata=tsv, keep_sequences=True, pieces=[2000]).close()
    records = [(name, letters) for path in files_of(genomes) for name, letters in read_records(path)]
    queries.write_text("".join(f">{name}\n{letters.decode()}\n" for name, letters in records))
    for evidence in (False, True):
        answers = list(kinmer.search(queries, db, evidence=evidence, rank_by_evidence=evidence))
        assert any(one.rank in ("genus", "species") for one in answers)
        for one in answers:
            for rank, call in one.consensus.items():
                assert taxon(rank, call.name) == call.name
            assert not {*ANYWHERE[3:], *LABELS, *RANKED} & {*one.verdict.replace(",", "").split(" ")}
        for write in (write_krona, write_lineage, write_calls):
            stream = io.StringIO()
            write(iter(answers), stream)
            words = {field.strip() for field in stream.getvalue().replace("\n", "\t").split("\t")}
            assert not words & {*ANYWHERE[2:], *LABELS, *RANKED}


def test_conditions_and_labels(genomes: Path, spoilt: pd.DataFrame, tmp_path: Path) -> None:
    db, tsv = tmp_path / "kin.db", tmp_path / "meta.tsv"
    spoilt.to_csv(tsv, sep="\t", index=False)
    with build_index(files_of(genomes), db, metadata=tsv, encoder=encoder_of(), calibrate=False) as index:
        without = len(index.select("species is None"))
        assert without == len(spoilt.iloc[::2])
        assert not len(index.select('species == "NA" or genus == "nan"'))
    labels = read_labels(tsv, ("id",))
    assert {"species", "domain"} < set(labels.columns)
    first, second = spoilt["id"].iloc[:2]
    assert (labels.value(first, "species"), labels.value(first, "genus")) == ("", "")
    assert labels.value(second, "species") == spoilt["SPECIES"].iloc[1]
    table = label_table(spoilt["id"].tolist(), tsv)
    assert (table["species"] == "").tolist() == [at % 2 == 0 for at in range(len(spoilt))]
    assert (table["domain"] != "").all()


def test_clusters_are_compared_with_what_is_known(tmp_path: Path) -> None:
    labels = pd.Series(["A a", "A a", "NA", "unclassified A", "B b", np.nan, "-", "s__"])
    found = agreement_of(np.array([1, 1, 1, 1, 2, 2, 2, 2]), labels, rank="species")
    assert found is not None
    assert (found.sequences, found.unlabelled, found.labels, found.purity) == (3, 5, 2, 1.0)
    table = tmp_path / "bins.tsv"
    table.write_text(
        "id\tcluster\tSuperkingdom\na\t1\tBacteria\nb\t1\tBacteria\nc\t2\tunknown\nd\tNA\tArchaea\n"
    )
    (one,) = evaluate_clusters(table).agreement
    assert (one.rank, one.sequences, one.labels, one.clusters) == ("domain", 3, 2, 2)


def test_a_classifier_is_given_labels() -> None:
    vectors = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    for nothing in (None, float("nan"), ""):
        y = np.array(["a", "b", "a", nothing, "b", "a"], dtype=object)
        with pytest.raises((RowError, ValueError)):
            KinmerClassifier(n_neighbors=2).fit(vectors, y)
    with pytest.warns(UserWarning, match="1 labels, such as 'NA' in row 3"):
        made = KinmerClassifier(n_neighbors=2).fit(vectors, ["a", "b", "a", "NA", "b", "a"])
    assert made.classes_.tolist() == ["NA", "a", "b"]


def test_a_species_of_two_genera_is_reported(genomes: Path, tmp_path: Path) -> None:
    table = pd.read_csv(genomes / "taxonomy.tsv", sep="\t", dtype=str, keep_default_na=False)
    table = table.rename(columns={"sequence_id": "id"})
    name = table["species"].iloc[0]
    rows = table.index[table["species"] == name]
    assert len(rows) == 2
    tsv, db = tmp_path / "meta.tsv", tmp_path / "kin.db"
    table.to_csv(tsv, sep="\t", index=False)
    said: list[str] = []
    how: dict[str, Any] = {"encoder": encoder_of(), "calibrate": False, "log": said.append}
    build_index(files_of(genomes), db, metadata=tsv, **how).close()
    assert not any("stands in two" in line for line in said)
    table.loc[rows[1], "genus"] = "Elsewhere"
    table.to_csv(tsv, sep="\t", index=False)
    update_index(db, metadata=tsv, calibrate=False, log=said.append)
    (line,) = [line for line in said if "stands in two" in line]
    first, second = sorted([table["genus"].iloc[rows[0]], "Elsewhere"])
    assert line.startswith(f"warning: the species {name!r} stands in two genera, {first!r} and {second!r}")
    # A missing genus is no other one.
    table.loc[rows[1], "genus"] = "unclassified"
    table.to_csv(tsv, sep="\t", index=False)
    said.clear()
    update_index(db, metadata=tsv, calibrate=False, log=said.append)
    assert not any("stands in two" in line for line in said)
    with KinIndex.open(db) as index:
        assert list(homonyms(index.table)) == []
