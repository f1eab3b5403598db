"""The logic of benchmarks/side_by_side.py and molecule_calls.py that no tool is needed for."""

from __future__ import annotations

import csv
import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RANKS = ("domain", "phylum", "class", "order", "family", "genus", "species")
ONE = ("Bacteria", "P", "C", "O", "F", "G", "G one")
TWO = ("Bacteria", "P", "C", "O", "F", "G", "G two")
OTHER = ("Bacteria", "P", "C", "O", "F", "H", "H one")
NOTHING = ("",) * 7


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Imports a module of the benchmarks' folder."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module


@pytest.fixture
def known(module: Any, tmp_path: Path) -> Any:
    """References a, b, c of two genera."""
    table = pd.DataFrame([ONE, TWO, OTHER], columns=list(RANKS))
    table.insert(0, "sequence_id", ["a", "b", "c"])
    table.insert(1, "genome_id", ["a", "b", "c"])
    table.to_csv(tmp_path / "references.tsv", sep="\t", index=False)
    return module("side_by_side_answers").Known.read(tmp_path / "references.tsv")


def written(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_common_ends_at_the_first_name_that_differs(module: Any) -> None:
    common = module("side_by_side_answers").common
    assert common([ONE, TWO]) == (*ONE[:6], "")
    assert common([ONE, OTHER]) == (*ONE[:5], "", "")
    assert common([ONE]) == ONE
    # A blank says nothing of what is below it.
    assert common([(*ONE[:4], "", *ONE[5:]), ONE]) == (*ONE[:4], "", *ONE[5:])
    assert common([ONE, ("Viruses", *ONE[1:])]) == NOTHING


def test_kraken_and_mmseqs_give_the_names_above_a_taxid(module: Any, known: Any, tmp_path: Path) -> None:
    answers = module("side_by_side_answers")
    # Taxids in the order in which names come first: the root, then seven of a, one of b, two of c.
    kraken = written(
        tmp_path / "k",
        "C\tq1\t8\t9\tx",
        "C\tq2\t7\t9\tx",
        "U\tq3\t0\t9\tx",
        "C\tq4\t9\t9\tx",
        "C\tq5\t1\t9\tx",
    )
    assert dict(answers.from_kraken(kraken, known)) == {
        "q1": ONE,
        "q2": (*ONE[:6], ""),
        "q3": NOTHING,
        "q4": TWO,
        "q5": NOTHING,
    }
    mmseqs = written(tmp_path / "m", "q1\t11\tspecies\tH one", "q2\t0\tno rank\tunclassified")
    assert dict(answers.from_mmseqs(mmseqs, known)) == {"q1": OTHER, "q2": NOTHING}


def test_blast_names_a_species_by_identity_and_else_what_near_hits_share(
    module: Any, known: Any, tmp_path: Path
) -> None:
    answers = module("side_by_side_answers")
    path = written(
        tmp_path / "b",
        # The second is within nine tenths of the first's score, the third is not.
        *("q1\ta\t99.0\t100", "q1\tb\t98.0\t90", "q1\tc\t97.0\t89.9"),
        *("q2\tb\t95.0\t100", "q2\tc\t94.0\t80"),
        "q3\tc\t94.9\t100",
    )
    best = dict(answers.from_blast(path, known))
    assert best == {"q1": ONE, "q2": TWO, "q3": OTHER}
    lca = dict(answers.from_blast_lca(path, known))
    assert lca == {"q1": (*ONE[:6], ""), "q2": TWO, "q3": (*OTHER[:6], "")}


def paf(query: str, begin: int, end: int, entry: str, matches: int, columns: int) -> str:
    """A line of minimap2's, of a query of 1,000 letters."""
    told = (query, 1000, begin, end, "+", entry, 9000, 0, columns, matches, columns, 60, "tp:A:P")
    return "\t".join(map(str, told))


def test_minimap_takes_a_genomes_alignments_together_and_names_what_near_genomes_share(
    module: Any, known: Any, tmp_path: Path
) -> None:
    path = written(
        tmp_path / "paf",
        # a: 460 of 500 in two pieces; a third overlaps the first and counts for nothing; b is within 5 %.
        paf("q1", 0, 300, "a", 280, 300),
        paf("q1", 300, 500, "a", 180, 200),
        paf("q1", 100, 300, "a", 190, 200),
        paf("q1", 0, 500, "b", 440, 500),
        paf("q1", 0, 500, "c", 430, 500),
        # Less than nine tenths: no species. Less than three tenths of the query: nothing.
        paf("q2", 0, 500, "b", 449, 500),
        paf("q3", 0, 299, "b", 299, 299),
        paf("q4", 0, 300, "b", 270, 300),
    )
    found = dict(module("side_by_side_answers").from_minimap(path, known))
    assert found == {"q1": (*ONE[:6], ""), "q2": (*TWO[:6], ""), "q4": TWO}
    strict = dict(module("side_by_side_answers").from_minimap(path, known, same=0.95))
    assert strict == {query: (*names[:6], "") for query, names in found.items()}


def test_sourmash_answers_only_where_it_says_match(module: Any, known: Any, tmp_path: Path) -> None:
    with (tmp_path / "s.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["query_name", "status", "rank", "fraction", "lineage"])
        writer.writerow(["q1", "match", "species", 0.5, ";".join(ONE)])
        writer.writerow(["q2", "match", "genus", 0.5, ";".join(ONE[:6])])
        writer.writerow(["q3", "below_threshold", "species", 0.05, ";".join(ONE)])
    found = dict(module("side_by_side_answers").from_sourmash(tmp_path / "s.csv", known))
    assert found == {"q1": ONE, "q2": (*ONE[:6], "")}


def result(rank: str | None, name: str | None, *hits: dict[str, Any], chance: float = 0.7) -> dict[str, Any]:
    """What kinmer says of a query whose neighbours are of `ONE`."""
    consensus = {
        one: {"name": told, "share": 1.0, "probability": chance} for one, told in zip(RANKS, ONE, strict=True)
    }
    kinds = {"chromosome": 0.2, "plasmid": 0.7, "virus": 0.1}
    molecule = {"name": "plasmid", "probability": 0.7, "probabilities": kinds}
    told = {"query_id": "q1", "rank": rank, "name": name, "consensus": consensus, "molecule": molecule}
    return told | {"hits": list(hits)}


def test_kinmer_answers_down_to_the_assigned_rank(module: Any, known: Any, tmp_path: Path) -> None:
    answers = module("side_by_side_answers")
    lines = (result("genus", "G"), result(None, None) | {"query_id": "q2"})
    path = written(tmp_path / "j", *map(json.dumps, lines))
    assert dict(answers.from_kinmer(path, known)) == {"q1": (*ONE[:6], ""), "q2": NOTHING}
    assert answers.kinmer_lineage(result("species", "G one")) == ONE


def collection(rng: np.random.Generator) -> pd.DataFrame:
    """Genera of several species, species of several genomes; clusters that hold two species together."""
    rows = []
    for genus in range(16):
        for species in range(int(rng.integers(1, 5))):
            for strain in range(int(rng.integers(1, 5))):
                # The first two species of every other genus are one cluster.
                cluster = f"{genus}-{max(species, 1) if genus % 2 else species}"
                domain = "Viruses" if genus % 3 == 0 else "Bacteria"
                rows.append(
                    (f"{genus}-{species}-{strain}", f"G{genus}", f"G{genus} s{species}", cluster, domain)
                )
    return pd.DataFrame(rows, columns=["genome_id", "genus", "species", "ani95_cluster", "domain"])


def hosted(rng: np.random.Generator) -> pd.DataFrame:
    """Plasmids of hosts with genomes and without; clusters and units know no host."""
    hosts = rng.integers(24, size=240)
    species = [f"G{host} s{one}" for host, one in zip(hosts, rng.integers(6, size=240), strict=True)]
    genera = [f"G{host}" for host in hosts]
    names = [f"p{one}" for one in range(240)]
    clusters = [f"c{one}" for one in rng.integers(150, size=240)]
    table = {"genome_id": names, "genus": genera, "species": species, "ani95_cluster": clusters}
    return pd.DataFrame(table).assign(domain="Bacteria", molecule="plasmid")


@pytest.fixture
def source(module: Any, tmp_path: Path) -> Any:
    """A collection with letters: genomes and plasmids, some of which have a unit."""
    rng = np.random.default_rng(5)
    genomes = collection(rng).assign(molecule="chromosome")
    genomes.loc[genomes["domain"].eq("Viruses"), "molecule"] = "virus"
    table = pd.concat([genomes, hosted(rng)], ignore_index=True)
    table = table.assign(sequence_id=table["genome_id"], file=table["genome_id"] + ".fna")
    table[["phylum", "class", "order", "family"]] = "one"
    for name in table["genome_id"]:
        letters = bytes(rng.choice(list(b"ACGT"), 8000).tolist()).decode()
        (tmp_path / f"{name}.fna").write_text(f">{name}\n{letters}\n")
    table.to_csv(tmp_path / "genomes.tsv", sep="\t", index=False)
    units = [f"PTU-{one}" if one < 40 else "" for one in rng.integers(120, size=240)]
    plasmids = pd.DataFrame({"sequence_id": [f"p{one}" for one in range(240)], "ptu": units})
    plasmids.to_csv(tmp_path / "plasmids.tsv", sep="\t", index=False)
    return module("side_by_side_draw").read_genomes(tmp_path)


@pytest.fixture
def genomes(source: Any) -> pd.DataFrame:
    frame: pd.DataFrame = source.genomes
    return frame


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("half", [0, 1])
def test_plasmids_are_known_by_unit_or_host_and_new_in_both(
    module: Any, source: Any, seed: int, half: int
) -> None:
    cut = module("side_by_side_draw")
    alone = cut.draw(source.genomes, half, seed)
    chosen = module("side_by_side_plasmids").with_plasmids(source, alone, half, seed)
    entries = source.entries
    references, training = entries.loc[chosen.references], entries.loc[chosen.training]
    asked = entries.loc[list(chosen.cases)].assign(case=list(chosen.cases.values()))
    # Genomes are drawn as they were without plasmids.
    assert chosen.references[: len(alone.references)] == alone.references
    assert {one: chosen.cases[one] for one in alone.cases} == alone.cases
    assert not set(asked.index) & set(references.index)
    assert not set(training["genus"]) & {*references["genus"], *asked["genus"]}
    plasmids, own = references[references["group"].eq("plasmids")], asked[asked["group"].eq("plasmids")]
    assert set(own["case"]) == set(cut.CASES)
    for row in own.itertuples():
        host = references["species"].eq(row.species).any()
        unit = row.ptu != "" and plasmids["ptu"].eq(row.ptu).any()
        alike = plasmids["ani95_cluster"].eq(row.ani95_cluster).any()
        if row.case == cut.STRAIN:
            assert unit if row.ptu else host
        else:
            assert not host
            assert not unit
            assert not alike
            assert references["genus"].eq(row.genus).any() == (row.case == cut.SPECIES)


def test_other_parts_are_of_what_partial_references_have_not(
    module: Any, source: Any, tmp_path: Path
) -> None:
    from kinmer.fasta import read_records

    cut = module("side_by_side_draw")
    chosen = cut.draw(source.genomes, 0, 1)
    chosen = replace(chosen, parts=cut.other_parts(source, chosen, 1))
    cut.write_draw(source, chosen, tmp_path / "draw", 1)
    whole = dict(read_records(tmp_path / "draw" / "references.fna"))
    partial = dict(read_records(tmp_path / "draw" / "partial" / "references.fna"))
    assert list(whole) == list(partial)
    assert all(len(partial[one]) == 4800 and partial[one] in whole[one] for one in whole)
    told = pd.read_csv(tmp_path / "draw" / "partial" / "queries.tsv", sep="\t").set_index("query")
    queries = dict(read_records(tmp_path / "draw" / "partial" / "queries.fna"))
    assert set(told["case"]) == {cut.OTHER}
    assert set(told["length"]) <= {1000, 2000}
    assert set(told["genome"]) == {one for one in chosen.parts if one in set(told["genome"])} <= set(whole)
    kinds = source.entries.loc[sorted(set(told["genome"])), "kind"]
    assert kinds.is_unique
    for query, genome in zip(told.index.astype(str), told["genome"], strict=True):
        assert queries[query] in whole[genome]
        assert queries[query] not in partial[genome]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("half", [0, 1])
def test_what_is_new_is_nowhere_in_the_references(
    module: Any, genomes: pd.DataFrame, seed: int, half: int
) -> None:
    cut = module("side_by_side_draw")
    chosen = cut.draw(genomes, half, seed)
    assert chosen == cut.draw(genomes, half, seed)
    references, training = genomes.loc[chosen.references], genomes.loc[chosen.training]
    asked = genomes.loc[list(chosen.cases)].assign(case=list(chosen.cases.values()))
    assert set(asked["case"]) == set(cut.CASES)
    assert not set(asked.index) & set(references.index)
    # The encoder has seen no genus of either.
    assert not set(training["genus"]) & {*references["genus"], *asked["genus"]}
    for case, row in zip(asked["case"], asked.itertuples(), strict=True):
        same_species = references["species"].eq(row.species) & references["ani95_cluster"].eq(
            row.ani95_cluster
        )
        any_alike = references["species"].eq(row.species) | references["ani95_cluster"].eq(row.ani95_cluster)
        same_genus = references["genus"].eq(row.genus)
        assert same_species.any() == (case == cut.STRAIN)
        assert any_alike.any() == (case == cut.STRAIN)
        assert same_genus.any() == (case != cut.GENUS)


def test_pieces_are_windows_that_do_not_overlap_and_are_known(module: Any) -> None:
    rng = np.random.default_rng(1)
    letters = bytes(rng.choice(list(b"ACGT"), 20_000).tolist())
    hidden = b"N" * 20_000
    cut = module("side_by_side_draw")
    found = list(cut.pieces([hidden, letters], 1000, rng))
    places = sorted(letters.index(one) for one in found)
    assert len(found) == cut.PER_LENGTH
    assert min(np.diff(places)) >= 1000
    assert list(cut.pieces([letters[:999]], 1000, rng)) == []


def test_who_says_all_is_first_and_who_says_nothing_is_right_of_new_genera(
    module: Any, source: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut, scores = module("side_by_side_draw"), module("side_by_side_scores")
    chosen = module("side_by_side_plasmids").with_plasmids(source, cut.draw(source.genomes, 0, 1), 0, 1)
    chosen = replace(chosen, parts=cut.other_parts(source, chosen, 1))
    cut.write_draw(source, chosen, tmp_path, 1)
    for place in (tmp_path / one for one in cut.SETS):
        (place / "answers").mkdir()
        asked = pd.read_csv(place / "queries.tsv", sep="\t", dtype=str, keep_default_na=False)
        blank = pd.DataFrame("", index=asked["query"], columns=list(RANKS))
        names = asked[["species", "genus"]].apply(lambda column: column.str.split(";").str[0])
        told = {"kinmer": blank.assign(**{rank: names[rank].to_numpy() for rank in names}), "kraken2": blank}
        for name, answers in told.items():
            table = pd.concat({name.title(): answers}, names=["variant"])
            table.to_csv(place / "answers" / f"{name}.tsv", sep="\t")
            used = {"cpu": len(asked) / 1000, "peak": 1e9}
            facts = {"version": "1", "build": ["b"], "searches": {name.title(): ["s"]}, "queries": len(asked)}
            facts |= {"steps": {"b": used, "s": used}, "index": 1e6}
            (place / "answers" / f"{name}.json").write_text(json.dumps(facts))
    monkeypatch.setattr(scores, "OURS", "Kinmer")
    lines = [one.split(" | ") for one in scores.report([tmp_path], ["kinmer", "kraken2"], 50).splitlines()]
    ranks = {one[0].strip("| "): one[1] for one in reversed(lines) if len(one) == 6}
    for group in cut.GROUPS:
        for case in scores.ALL_CASES:
            share = "1.000 (1.00–1.00)" if case == cut.GENUS else ".000 (0.00–0.00)"
            assert ranks[f"{group}, {case}"] == f"first 1.000 (1.00–1.00) · Kraken2 {share}"
    assert any(one[0] == "| Kinmer" and one[4] == "1 (1)" for one in lines)


def test_all_is_right_by_hand(module: Any) -> None:
    scores = module("side_by_side_scores")
    rows = [
        ("known strain", "G one;G two", "G", "G two", "G", 1),
        ("other part", "G one", "G", "", "G", 0),
        ("new species", "", "G", "", "G", 1),
        ("new species", "", "G", "G one", "G", 0),
        ("new species", "", "G", "", "", 0),
        ("new genus", "", "", "", "", 1),
        ("new genus", "", "", "", "H", 0),
    ]
    told = pd.DataFrame(rows, columns=["case", "species", "genus", "named", "named genus", "right"])
    asked = told.assign(has_genus="1", above="order", above_name="O")
    answers = pd.DataFrame({"species": told["named"], "genus": told["named genus"], "order": "O"})
    table = scores.judged(asked, answers)
    assert scores.honest(table).tolist() == told["right"].tolist()
    assert table["above_right"].tolist() == [1] * 7
    # Of two kinds one is right: the interval is all there is.
    pair = pd.DataFrame({"kind": [1, 1, 2, 2], "all_right": [1.0, 1, 0, 0]})
    assert scores.interval(pair, "all_right", 200) == (0.5, 0.0, 1.0)
    assert str(scores.interval(pair[:2], "all_right", 200)) == "1.000 (1.00–1.00)"
    assert str(scores.interval(pair[:0], "all_right", 200)) == "."
    places = [
        scores.place_of(scores.Share(0.5, 0.4, 0.6), scores.Share(*other))
        for other in ((0.5, 0.4, 0.6), (0.7, 0.6, 0.8), (0.7, 0.61, 0.8))
    ]
    assert places == ["first", "level", "**behind**"]


def test_scores_of_a_molecule_are_sklearns(module: Any) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    kinds = np.array(["chromosome", "plasmid", "virus"])
    columns = {"molecule": rng.choice(kinds, 90), "molecule_called": rng.choice(kinds, 90)}
    table = pd.DataFrame(columns | {"kind": rng.integers(9, size=90)})
    called = table["molecule_called"]
    truth = metrics.precision_recall_fscore_support(table["molecule"], called, labels=kinds)
    even = 1 / table.groupby("molecule")["kind"].transform("size")
    weighed = metrics.f1_score(table["molecule"], called, labels=kinds, average=None, sample_weight=even)
    for row, kind in enumerate(kinds):
        found = module("molecule_calls").scores_of(table, kind)
        assert [one.value for one in found[:3]] == pytest.approx([one[row] for one in truth[:3]])
        assert found[3].value == pytest.approx(weighed[row])
        assert found[2].low <= found[2].value <= found[2].high
