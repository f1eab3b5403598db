"""Answers of a reference: what the cases mean, what is cut, and what is counted."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinmer import build_reference, evaluate_answers
from kinmer.cli import run
from kinmer.confidence import calibration_error as plain_error
from kinmer.errors import InputError, UsageError
from kinmer.evaluate.answer_scores import answers_report, calibration_error, mixed
from kinmer.evaluate.answers import Run, judged
from kinmer.evaluate.collection import GROUPS, open_collection
from kinmer.evaluate.splits import (
    CASES,
    GENUS,
    PART,
    SPECIES,
    STRAIN,
    SplitSettings,
    Stretch,
    accepted,
    cases_of,
    draw,
    kept_parts,
    windows,
    with_kinds,
)
from kinmer.fasta import read_records
from kinmer.simulate import Community, write_community
from kinmer.taxonomy import RANKS
from tests.organisms import encoder_of

GENOMES = os.environ.get("KINMER_GENOMES")
Kinmer = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def community(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated genomes, their names, and an untrained encoder."""
    folder = tmp_path_factory.mktemp("answers")
    shape = Community(
        phyla=2,
        families=1,
        genera=2,
        species=3,
        strains=3,
        chromosome=20_000,
        plasmid=4_000,
        phage=6_000,
        seed=3,
    )
    write_community(folder / "all", community=shape)
    encoder_of(4, dim=12).save(folder / "encoder")
    return folder


@pytest.fixture
def kinmer(capsys: pytest.CaptureFixture[str]) -> Kinmer:
    """Run a command; gives exit code, stdout and stderr."""

    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run([str(one) for one in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def names(seed: int) -> pd.DataFrame:
    """Genera of several species, species of several genomes, hosts of plasmids; clusters of two species."""
    rng = np.random.default_rng(seed)
    rows = []
    for genus in range(24):
        for species in range(int(rng.integers(1, 5))):
            for strain in range(int(rng.integers(1, 5))):
                group = GROUPS[genus % 2] if strain < 3 or genus % 2 else "plasmids"
                # The first two species of every third genus are one cluster.
                cluster = f"{genus}-{species if genus % 3 else max(species, 1)}"
                ptu = f"u{rng.integers(6)}" if group == "plasmids" else ""
                name = f"{genus}-{species}-{strain}"
                rows.append((name, f"G{genus}", f"G{genus} s{species}", cluster, ptu, group))
    table = pd.DataFrame(rows, columns=["genome", "genus", "species", "cluster", "ptu", "group"])
    return with_kinds(table.set_index("genome"))


@pytest.mark.parametrize("seed", range(8))
def test_cases_mean_what_they_say(seed: int) -> None:
    genomes = names(seed)
    chosen = draw(genomes, np.random.default_rng(seed))
    assert chosen == draw(genomes, np.random.default_rng(seed))
    cases = cases_of(genomes, chosen, np.random.default_rng(0), parts=True)
    references = genomes.loc[chosen.references]
    assert set(cases.values()) == set(CASES)
    for name, case in cases.items():
        row = genomes.loc[name]
        assert (name in references.index) == (case == PART)
        cluster = references["cluster"].eq(row["cluster"]) & references["group"].eq(row["group"])
        alike = references["species"].eq(row["species"])
        if row["group"] != "plasmids":
            alike |= cluster
        elif case in (SPECIES, GENUS):
            assert row["ptu"] not in set(references["ptu"])
        assert alike.any() == (case in (STRAIN, PART))
        assert references["genus"].eq(row["genus"]).any() == (case != GENUS)
        if case == STRAIN and row["group"] != "plasmids":
            assert (references["species"].eq(row["species"]) & cluster).any()
    # About a quarter of the genera of cells and of viruses are held out.
    for group in ("cells", "viruses"):
        own = genomes[genomes["group"] == group]
        gone = own[~own["genus"].isin(references["genus"])]
        assert 2 <= gone["genus"].nunique() <= 4


def test_too_few_genera_and_odd_settings_are_refused() -> None:
    genomes = names(0)
    with pytest.raises(InputError, match="too few genera with a name: 3"):
        draw(genomes[genomes["genus"].isin(["G0", "G1", "G2"])], np.random.default_rng(0))
    odd: tuple[dict[str, Any], ...] = (
        {"draws": 0},
        {"lengths": (10,)},
        {"completeness": (0.0,)},
        {"completeness": (1.5,)},
        {"seed": -1},
        {"groups": ("fungi",)},
    )
    for settings in odd:
        with pytest.raises(UsageError):
            SplitSettings(**settings)


def test_names_of_a_cluster_count_as_one() -> None:
    rows = [("a", "G", "G a", "1"), ("b", "H", "H b", "1"), ("c", "G", "G c", ""), ("d", "G", "", "2")]
    table = pd.DataFrame(rows, columns=["genome", "genus", "species", "cluster"]).set_index("genome")
    genomes = with_kinds(table.assign(group="cells", ptu=""))
    assert accepted(genomes, "species").to_dict() == {"a": "G a;H b", "b": "G a;H b", "c": "G c", "d": ""}
    assert accepted(genomes, "genus")["a"] == "G;H"
    assert genomes["kind"].tolist() == [0, 0, 2, 3]
    # All are of one block: the cluster has both genera.
    assert genomes["block"].nunique() == 1


def test_windows_do_not_overlap_and_are_known() -> None:
    rng = np.random.default_rng(1)
    letters = bytes(rng.choice(list(b"ACGT"), 20_000).tolist())
    parts = [Stretch("n", 0, b"N" * 20_000), Stretch("a", 7, letters), Stretch("short", 0, b"ACGT")]
    found = list(windows(parts, 1000, 6, rng))
    assert len(found) == 6
    assert {one.name for one in found} == {"a"}
    assert all(letters[one.start - 7 :][:1000] == one.letters for one in found)
    assert min(np.diff(sorted(one.start for one in found))) >= 1000
    assert list(windows([Stretch("a", 0, letters[:999])], 1000, 6, rng)) == []


@pytest.mark.parametrize("share", [1.0, 0.6])
def test_what_is_written_is_what_the_cases_say(community: Path, tmp_path: Path, share: float) -> None:
    collection = open_collection(community / "all", tmp_path, metadata=community / "all/taxonomy.tsv")
    genomes = with_kinds(collection.genomes)
    chosen = draw(genomes, np.random.default_rng(4))
    parts = kept_parts(collection, chosen.references, share, np.random.default_rng(5))
    held = chosen._replace(references=list(parts))
    cases = cases_of(genomes, held, np.random.default_rng(0), parts=share < 1)
    settings = SplitSettings(lengths=(500, 1000), per_genome=3)
    truth = Run(collection, genomes, settings, None, 1).write(tmp_path, parts, cases, 0)
    assert set(truth["case"]) == {*CASES} - ({PART} if share == 1 else set())
    labels = pd.read_csv(tmp_path / "references.tsv", sep="\t", index_col="id")
    references = dict(read_records(tmp_path / "references.fna"))
    queries = dict(read_records(tmp_path / "queries.fna"))
    assert list(queries) == truth["query"].tolist()
    whole = {name: dict(read_records(path)) for name, path in collection.genomes["file"].items()}
    for name, letters in references.items():
        own = [full for full in whole[labels["genome"][name]].values() if letters in full]
        assert len(own) == 1
        assert len(letters) == round(share * len(own[0]))
    for one in truth.to_dict("records"):
        letters, start = queries[one["query"]], one["start"]
        assert letters == whole[one["genome"]][one["sequence"]][start : start + one["length"]]
        assert one["group"] != "cells" or one["molecule"] == "chromosome"
        own_parts = labels.index[labels["genome"] == one["genome"]]
        assert (len(own_parts) > 0) == (one["case"] == PART)
        # Not even the ends of the query lie in what the references hold of its own genome.
        assert not any(end in references[part] for part in own_parts for end in (letters[:40], letters[-40:]))


def table_of(rows: list[tuple[Any, ...]]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Truth and calls, from (genome, case, rank, name of species, p, genus, p, nearest)."""
    blank = dict.fromkeys((*RANKS, *(f"{rank}_p" for rank in RANKS), "molecule"))
    truth, calls = [], []
    for number, (genome, case, rank, species, chance, genus, likely, nearest) in enumerate(rows):
        query = f"q{number}"
        truth.append({"query": query, "length": 1000, "group": "cells", "case": case, "genome": genome})
        called = {"species": species, "species_p": chance, "genus": genus, "genus_p": likely}
        ends = {"query_id": query, "length": 1000, "rank": rank, "name": "", "nearest": nearest}
        calls.append(blank | called | ends)
    return pd.DataFrame(truth).assign(completeness=1.0, molecule="chromosome"), pd.DataFrame(calls)


@pytest.fixture
def answers() -> pd.DataFrame:
    """Six answers; the references are a1 (G a), b1 (G b), whose cluster is that of a2 (G c), and h1 (H h)."""
    rows = [
        ("a1", "G", "G a", ""),
        ("a2", "G", "G c", "1"),
        ("b1", "G", "G b", "1"),
        ("h1", "H", "H h", ""),
        ("a3", "G", "G a", ""),
        ("g4", "G", "G d", ""),
        ("n5", "N", "N n", ""),
    ]
    genomes = pd.DataFrame(rows, columns=["genome", "genus", "species", "cluster"]).set_index("genome")
    genomes = with_kinds(genomes.assign(group="cells", ptu="", **dict.fromkeys(RANKS[:-2], "")))
    truth, calls = table_of(
        [
            ("a3", STRAIN, "species", "G a", 0.9, "G", 0.95, "a1"),
            # Another name of its cluster.
            ("a2", STRAIN, "species", "G b", 0.8, "G", 0.95, "b1"),
            # Right, and not said.
            ("a3", STRAIN, "genus", "G a", 0.4, "G", 0.9, "h1"),
            ("g4", SPECIES, "species", "G a", 0.7, "G", 0.8, "a1"),
            ("g4", SPECIES, "genus", "G a", 0.2, "G", 0.8, "a1"),
            ("n5", GENUS, None, "H h", 0.1, "H", 0.3, "h1"),
        ]
    )
    truth = truth.assign(kind=genomes.loc[truth["genome"], "kind"].to_numpy())
    return judged(truth, calls, genomes, ["a1", "b1", "h1"])


def test_answers_are_judged_by_hand(answers: pd.DataFrame) -> None:
    assert answers["species"].tolist() == ["G a", "G b;G c", "G a", "G d", "G d", "N n"]
    assert answers["species_there"].tolist() == [True] * 3 + [False] * 3
    assert answers["genus_there"].tolist() == [True] * 5 + [False]
    assert answers["species_called"].tolist() == ["G a", "G b", "", "G a", "", ""]
    assert answers["genus_called"].tolist() == ["G"] * 5 + [""]
    assert answers["species_right"].tolist() == [1, 1, 1, 0, 0, 0]
    assert answers["nearest_right"].tolist() == [True, True, False, False, False, False]
    assert answers["all_right"].tolist() == [True, True, False, False, True, True]
    assert answers["domain_right"].isna().all()


def test_scores_are_those_by_hand(answers: pd.DataFrame) -> None:
    report = answers_report(answers, {"seed": 1}, bootstrap=50)
    assert [one.case for one in report.scores] == [STRAIN, SPECIES, GENUS]
    known, new, genus = ({name: value.value for name, value in one.figures.items()} for one in report.scores)
    assert known == pytest.approx(
        {
            **{"species_named": 2 / 3, "species_right": 2 / 3, "species_wrong": 0, "species_precision": 1},
            **{"genus_named": 1, "genus_right": 1, "genus_wrong": 0, "genus_precision": 1},
            **{"nearest_right": 2 / 3, "all_right": 2 / 3},
        }
    )
    assert (new["species_named"], new["species_wrong"], new["species_precision"]) == (0.5, 0.5, 0)
    assert (new["species_right"], new["nearest_right"]) == (None, None)
    assert (new["genus_right"], new["all_right"]) == (1, 0.5)
    assert (genus["genus_named"], genus["genus_right"], genus["all_right"]) == (0, None, 1)
    first = report.scores[0]
    assert (first.queries, first.genomes, first.kinds, first.genus_queries) == (3, 2, 2, 3)
    # Of the species' two queries one is right, of the other's one: a resample is one of the three mixes.
    right = first.figures["species_right"]
    assert (right.low, right.high) == pytest.approx((0.5, 1))


def test_calibration_errors_are_those_by_hand(answers: pd.DataFrame) -> None:
    # Weights: .5 / 3, .25 / 2, .25. Bins .9: said .9, right 1; .8: .8, 1; .4: .4, 1; .7: .7, 0; .2, .1: 0.
    gaps = 0.5 / 3 * (0.1 + 0.2 + 0.6) + 0.125 * (0.7 + 0.2) + 0.25 * 0.1
    found = calibration_error(answers, "species", (0.5, 0.25, 0.25), bootstrap=10, seed=0)
    assert found.value == pytest.approx(gaps)
    known = answers[answers["case"] == STRAIN]
    assert calibration_error(known, "species", (0.5, 0.25, 0.25), bootstrap=10, seed=0).value is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(CASES),
            st.sampled_from([1000, 5000]),
            st.floats(0, 1),
            st.booleans(),
            st.integers(0, 3),
        ),
        max_size=40,
    )
)
def test_calibration_error_is_that_of_weighted_queries(rows: list[tuple[Any, ...]]) -> None:
    three = [(case, 1000, 0.5, True, 0) for case in (STRAIN, SPECIES, GENUS)]
    columns = ["case", "length", "species_p", "species_right", "kind"]
    table = pd.DataFrame([*three, *rows], columns=columns).astype({"species_right": float})
    mixture = (0.1, 0.3, 0.6)
    weights = mixed(table, mixture)
    assert weights.sum() == pytest.approx(1)
    for case, share in zip((SPECIES, GENUS), mixture[1:], strict=True):
        assert weights[table["case"].eq(case)].sum() == pytest.approx(share)
    found = calibration_error(table, "species", mixture, bootstrap=2, seed=0)
    likely, right = table["species_p"].to_numpy(), table["species_right"].eq(1).to_numpy()
    assert found.value == pytest.approx(plain_error(likely, right, weights))


@pytest.fixture(scope="module")
def written(community: Path) -> list[str]:
    """The arguments of a command that has been run."""
    argv = ["evaluate", "answers", community / "all", "--metadata", community / "all/taxonomy.tsv"]
    argv += ["--encoder", community / "encoder", "-o", community / "out", "--answers", community / "each.tsv"]
    options = ["--draws", "1", "--lengths", "500,1000", "--per-genome", "2", "--bootstrap", "20", "-t", "1"]
    whole = [*map(str, argv), *options]
    assert run(whole) == 0
    return whole


def test_a_command_writes_the_tables(community: Path, written: list[str], kinmer: Kinmer) -> None:
    scores = pd.read_csv(community / "out.tsv", sep="\t")
    each = pd.read_csv(community / "each.tsv", sep="\t", keep_default_na=False)
    assert set(scores["group"]) == {"cells", "viruses"}
    assert scores["queries"].sum() == len(each)
    assert set(each.loc[each["completeness"] == 1, "case"]) == {STRAIN, SPECIES, GENUS}
    assert set(each.loc[each["completeness"] == 0.6, "case"]) == set(CASES)
    facts = json.loads((community / "out.json").read_text())
    assert (facts["seed"], facts["per_genome"], facts["queries"]) == (0, 2, len(each))
    assert [one["queries"] for one in facts["scores"]] == scores["queries"].tolist()
    code, _, err = kinmer(*written)
    assert code == 2
    assert "out.tsv" in err


def test_an_index_is_asked_with_its_own_names_and_encoder(
    community: Path, written: list[str], tmp_path: Path
) -> None:
    table, db = community / "all/taxonomy.tsv", tmp_path / "my.db"
    more: Any = {"calibrate": False, "min_length": 0, "threads": 1, "encoder": community / "encoder"}
    build_reference(community / "all", db, metadata=table, **more).close()
    report = evaluate_answers(
        db, draws=1, lengths=(500, 1000), per_genome=2, completeness=(0.6,), bootstrap=0, threads=1
    )
    each = pd.read_csv(community / "each.tsv", sep="\t", keep_default_na=False)
    each = each[each["completeness"] == 0.6].reset_index(drop=True)
    columns = ["query", "genome", "case", "length", "start", "species_called", "genus_called", "nearest"]
    assert report.answers[columns].to_numpy().tolist() == each[columns].to_numpy().tolist()
    assert f"| {PART} | species right |" in report.table()
    assert report.score("cells", PART, 500, 0.6) is not None
    assert report.score("cells", PART, 500, 1.0) is None
    with pytest.raises(InputError, match="an index has its own metadata"):
        evaluate_answers(db, metadata=table)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ((), "no genome has a genus"),
        (("--completeness", "2"), "completeness is a share above 0"),
        (("--completeness", "x"), "--completeness takes numbers"),
        (("--cluster-column", "none"), "there is no column 'none'"),
        (("--groups", "plasmids"), "too few genera with a name: 0"),
        (("--groups", "fungi"), "'fungi' is none of the groups"),
    ],
)
def test_wrong_input(
    community: Path, kinmer: Kinmer, tmp_path: Path, more: tuple[str, ...], message: str
) -> None:
    table = ["--metadata", community / "all/taxonomy.tsv"] if more else []
    code, _, err = kinmer("evaluate", "answers", community / "all", "-o", tmp_path / "x", *table, *more)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_too_few_genomes(community: Path, kinmer: Kinmer, tmp_path: Path) -> None:
    few = community / "all/genomes/s000_1.fna"
    table = community / "all/taxonomy.tsv"
    code, _, err = kinmer("evaluate", "answers", few, "--metadata", table, "-o", tmp_path / "x")
    assert code == 2
    assert "too few genera with a name: 1" in err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.skipif(GENOMES is None, reason="KINMER_GENOMES is not set")
def test_known_strains_of_real_genomes_are_named() -> None:
    table = Path(str(GENOMES)) / "genomes.tsv"
    report = evaluate_answers(
        str(GENOMES), metadata=table, draws=1, lengths=(5000,), completeness=(1.0,), per_genome=2, bootstrap=0
    )
    known, new = (report.score("cells", case, 5000) for case in (STRAIN, GENUS))
    assert known is not None
    assert new is not None
    assert (known.figures["species_precision"].value or 0) > 0.9
    assert (known.figures["nearest_right"].value or 0) > 0.8
    assert (new.figures["species_wrong"].value or 0) < 0.15
