"""How results are written down: every format says what the results say, and nothing more."""

from __future__ import annotations

import io
import json
import math
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinmer.errors import UsageError
from kinmer.queries import (
    WRITERS,
    Evidence,
    Hit,
    MoleculeCall,
    QueryResult,
    RankCall,
    write_blast,
    write_calls,
    write_json,
    write_jsonl,
    write_krona,
    write_lineage,
    write_tsv,
    writer_of,
)
from kinmer.taxonomy import RANKS

HIT_COLUMNS = "query_id\trank\thit_id\tdistance\tlength\tgc\tgenome\tstart\tstop"
RESULT = QueryResult(
    "query|ü",
    1500,
    (
        Hit(1, "hit\t1", 0.1234567, None, 0.51234, {"species": "E.\ncoli", "n": 1e-5, "x": None, "y": ""}),
        Hit(
            2,
            "hit 2",
            2.0,
            10**10,
            None,
            {"species": None, "n": 10**6, "x": "a", "y": "b"},
            genome="G 2",
            start=0,
            stop=10**5,
        ),
    ),
    {"species": RankCall("E. coli", 0.98765)},
)


def called(name: str, length: int | None, *names: str, **settings: Any) -> QueryResult:
    """A query that was assigned these names from domain down."""
    calls = {rank: RankCall(one, 0.9, 0.87654) for rank, one in zip(RANKS, names, strict=False)}
    rank = RANKS[len(names) - 1] if names else None
    settings = {"hits": (), "verdict": f"{rank} {names[-1]}" if names else "nothing near", **settings}
    return QueryResult(
        name, length, consensus=calls, rank=rank, name=names[-1] if names else None, **settings
    )


ALIGNED = called(
    "a",
    1000,
    "Bacteria",
    "P",
    hits=(
        Hit(1, "c1", 0.01, 5000, 0.5, {"ani": "own"}, "g1", 100, 2100, Evidence(0.98765, 0.5, "both")),
        Hit(
            2, "c2", 0.25, 4000, 0.5, {"ani": "own"}, "g2", None, None, Evidence(None, 0, "composition only")
        ),
    ),
    molecule=MoleculeCall("plasmid", 0.75, {"chromosome": 0.2, "plasmid": 0.75, "virus": 0.05}),
    facets={"virus": (Hit(1, "v", 0.5, 9, None, {"ani": None}),)},
)


def written(write: Any, *results: QueryResult, **settings: Any) -> str:
    stream = io.StringIO()
    assert write(iter(results), stream, **settings) == len(results)
    return stream.getvalue()


def test_the_table_is_plain() -> None:
    assert written(write_tsv, QueryResult("lonely", 5, (), {}), RESULT).splitlines() == [
        f"{HIT_COLUMNS}\tspecies\tn\tx\ty",
        "query|ü\t1\thit 1\t0.123457\t\t0.5123\t\t\t\tE. coli\t0.00001\t\t",
        "query|ü\t2\thit 2\t2.000000\t10000000000\t\tG 2\t0\t100000\t\t1000000\ta\tb",
    ]
    assert written(write_tsv) == f"{HIT_COLUMNS}\n"


def test_evidence_and_facets_have_columns_where_there_are_any() -> None:
    header = f"{HIT_COLUMNS}\tani\taligned_fraction\thomology\tfacet\thit_ani"
    lines = [
        header,
        "a\t1\tc1\t0.010000\t5000\t0.5000\tg1\t100\t2100\t0.9877\t0.5000\tboth\t\town",
        "a\t2\tc2\t0.250000\t4000\t0.5000\tg2\t\t\t\t0.0000\tcomposition only\t\town",
        "a\t1\tv\t0.500000\t9\t\t\t\t\t\t\t\tvirus\t",
    ]
    assert written(write_tsv, ALIGNED).splitlines() == lines
    # A first query without any must not take the columns from those that follow.
    first = replace(ALIGNED, facets={}, hits=(replace(ALIGNED.hits[1], evidence=None),))
    asked = written(writer_of("tsv", evidence=True, facets=True), first, ALIGNED).splitlines()
    assert asked[0] == header
    assert asked[2:] == lines[1:]
    plain = written(writer_of("tsv"), ALIGNED).splitlines()
    assert plain[0] == f"{HIT_COLUMNS}\tani"
    assert len(plain) == 3


def test_json_is_nested_by_query() -> None:
    first, second = json.loads(written(write_json, RESULT, RESULT))
    assert first == second
    assert first["query_id"] == "query|ü"
    assert first["consensus"] == {"species": {"name": "E. coli", "share": 0.9877, "probability": None}}
    assert first["hits"][0]["distance"] == 0.123457
    assert first["hits"][0]["metadata"] == {"species": "E.\ncoli", "n": 1e-5, "x": None, "y": ""}
    assert [hit["hit_id"] for hit in first["hits"]] == ["hit\t1", "hit 2"]
    assert [(hit["genome"], hit["start"], hit["stop"]) for hit in first["hits"]] == [
        (None, None, None),
        ("G 2", 0, 10**5),
    ]
    assert (first["molecule"], first["facets"], first["rank"]) == (None, {}, None)
    assert json.loads(written(write_json)) == []


def test_json_lines_hold_all_that_is_known() -> None:
    text = written(write_jsonl, ALIGNED, RESULT)
    objects = [json.loads(line) for line in text.splitlines()]
    assert objects == json.loads(written(write_json, ALIGNED, RESULT))
    one = objects[0]
    assert (one["rank"], one["name"], one["verdict"]) == ("phylum", "P", "phylum P")
    assert one["consensus"]["phylum"] == {"name": "P", "share": 0.9, "probability": 0.8765}
    assert one["molecule"] == {
        "name": "plasmid",
        "probability": 0.75,
        "probabilities": {"chromosome": 0.2, "plasmid": 0.75, "virus": 0.05},
    }
    assert one["hits"][0]["evidence"] == {"ani": 0.9877, "aligned_fraction": 0.5, "homology": "both"}
    assert one["hits"][1]["evidence"]["ani"] is None
    assert [hit["hit_id"] for hit in one["facets"]["virus"]] == ["v"]


def test_blast_columns_claim_no_alignment_that_there_is_not() -> None:
    names = [
        "qseqid",
        "sseqid",
        "pident",
        "length",
        "mismatch",
        "gapopen",
        "qstart",
        "qend",
        "sstart",
        "send",
        "evalue",
        "bitscore",
    ]
    text = written(write_blast, ALIGNED, RESULT)
    table = pd.read_csv(io.StringIO(text), sep="\t", names=names)
    assert table["qseqid"].tolist() == ["a", "a", "query|ü", "query|ü"]
    assert table["sseqid"].tolist() == ["c1", "c2", "hit_1", "hit_2"]
    # ANI where something aligns; the composition's similarity is no identity.
    assert table["pident"].tolist() == [98.765, 0.0, 0.0, 0.0]
    assert table["length"].tolist() == [500, 0, 0, 0]
    # 1.235 % of 500.
    assert table["mismatch"].tolist() == [6, 0, 0, 0]
    assert table[["qstart", "qend", "sstart", "send"]].to_numpy().tolist() == [
        [1, 1000, 101, 2100],
        [1, 1000, 1, 4000],
        [1, 1500, 0, 0],
        [1, 1500, 1, 100000],
    ]
    assert (table[["gapopen", "bitscore"]] == 0).all().all()
    # No threshold of E-values takes it for significant.
    assert not (table["evalue"] <= 1e300).any()
    assert table["evalue"].isna().all()


@pytest.mark.skipif(shutil.which("awk") is None, reason="there is no awk")
def test_no_filter_of_blast_tables_takes_composition_for_an_alignment(tmp_path: Path) -> None:
    """awk compares what is no number as text: "nan" and "NA" would be at least 95."""
    path = tmp_path / "hits.tsv"
    path.write_text(written(write_blast, ALIGNED, RESULT))
    for wanted, kept in (
        ("$3 >= 95", ["a\tc1"]),
        ("$4 > 0", ["a\tc1"]),
        ("$11 <= 1e-5", []),
        ("$12 > 0", []),
    ):
        done = subprocess.run(["awk", wanted, path], capture_output=True, text=True, check=True)
        assert ["\t".join(line.split("\t")[:2]) for line in done.stdout.splitlines()] == kept
    for line in path.read_text().splitlines():
        numbers = line.split("\t")[2:]
        # The types that Biopython, UCSC and scikit-bio read the columns as.
        assert float(numbers[0]) >= 0
        assert all(isinstance(float(one), float) for one in numbers[8:])
        assert min(map(int, numbers[1:8])) >= 0


def test_calls_have_a_line_a_query() -> None:
    table = pd.read_csv(
        io.StringIO(written(write_calls, ALIGNED, RESULT, called("n", None))),
        sep="\t",
        dtype=str,
        keep_default_na=False,
    )
    assert table["query_id"].tolist() == ["a", "query|ü", "n"]
    first, second, last = table.to_dict("records")
    assert (first["rank"], first["name"], first["verdict"]) == ("phylum", "P", "phylum P")
    assert (first["phylum"], first["phylum_p"], first["class"]) == ("P", "0.8765", "")
    assert (first["molecule"], first["molecule_p"], first["virus_p"]) == ("plasmid", "0.7500", "0.0500")
    assert (first["nearest"], first["nearest_distance"]) == ("c1", "0.010000")
    assert (second["species"], second["species_p"], second["rank"], second["verdict"]) == (
        "E. coli",
        "",
        "",
        "",
    )
    assert set(list(last.values())[3:]) == {""}
    assert last["verdict"] == "nothing near"


SAMPLE = (
    called("q1", 100, "Bacteria", "P1", "C1"),
    called("q2", 50, "Bacteria", "P1"),
    called("q3", 200, "Viruses"),
    called("q4", 30),
    called("q5", None, "Bacteria", "P2"),
    called("q6", 20, "Bacteria", "P1", "C1"),
)


def test_krona_text_by_hand() -> None:
    assert written(write_krona, *SAMPLE).splitlines() == [
        "200\tViruses",
        "50\tBacteria\tP1",
        "120\tBacteria\tP1\tC1",
        "0\tBacteria\tP2",
        "30\tunassigned",
    ]
    assert written(write_krona) == ""


def test_lineage_report_by_hand() -> None:
    assert written(write_lineage, *SAMPLE).splitlines() == [
        "percent\tbases\tbases_here\tqueries\tqueries_here\trank\tname",
        "7.50\t30\t30\t1\t1\tU\tunassigned",
        "92.50\t370\t0\t5\t0\tR\troot",
        "50.00\t200\t200\t1\t1\tD\t  Viruses",
        "42.50\t170\t0\t4\t0\tD\t  Bacteria",
        "42.50\t170\t50\t3\t1\tP\t    P1",
        "30.00\t120\t120\t2\t2\tC\t      C1",
        "0.00\t0\t0\t1\t1\tP\t    P2",
    ]
    assert written(write_lineage).splitlines()[1:] == ["0.00\t0\t0\t0\t0\tU\tunassigned"]


def test_a_lineage_ends_at_the_assigned_rank_and_passes_ranks_without_names() -> None:
    calls = {rank: RankCall(rank[0], 1.0) for rank in ("domain", "class", "genus", "species")}
    result = QueryResult("q", 1, (), calls, rank="genus", name="g")
    assert result.lineage == (("domain", "d"), ("class", "c"), ("genus", "g"))
    assert replace(result, rank=None, name=None).lineage == ()
    assert written(write_krona, result) == "1\td\tc\tg\n"


LINEAGES = st.lists(st.sampled_from(["x", "y"]), max_size=7)


@given(st.lists(st.tuples(LINEAGES, st.integers(0, 10**6)), max_size=12))
def test_no_base_is_lost(rows: list[tuple[list[str], int]]) -> None:
    results = [called(str(number), size, *names) for number, (names, size) in enumerate(rows)]
    total = sum(size for _, size in rows)
    assert sum(int(line.split("\t")[0]) for line in written(write_krona, *results).splitlines()) == total
    report = pd.read_csv(io.StringIO(written(write_lineage, *results)), sep="\t")
    assert report["bases_here"].sum() == total
    assert report["queries_here"].sum() == len(rows)
    # Of every taxon, all that is assigned to it or to one below, by brute force.
    above: list[str] = []
    for bases, name in zip(report["bases"], report["name"], strict=True):
        depth = (len(name) - len(name.lstrip())) // 2
        if depth:
            above = [*above[: depth - 1], name.strip()]
            assert bases == sum(size for names, size in rows if names[:depth] == above)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


@given(
    st.lists(
        st.tuples(TEXT, TEXT, st.floats(0, 2), st.none() | TEXT | st.integers() | st.floats()), max_size=4
    )
)
def test_every_line_has_every_field(rows: list[tuple[str, str, float, Any]]) -> None:
    results = [
        QueryResult(query, None, (Hit(1, name, far, None, None, {"column": value}, name),), {}, query)
        for query, name, far, value in rows
    ]
    for write, width, lines in ((write_tsv, 10, 1), (write_calls, 31, 1), (write_blast, 12, 0)):
        split = [line.split("\t") for line in written(write, *results).splitlines()]
        assert len(split) == len(rows) + lines
        assert {len(line) for line in split} <= {width, 9 if not rows else width}
        # BLAST's columns are never empty; in tables of kinmer that is what is missing.
        assert write is not write_blast or all(field for line in split for field in line)


@given(st.lists(TEXT, min_size=1, max_size=6, unique_by=str.lower))
def test_columns_have_names_of_their_own(names: list[str]) -> None:
    some = [*names, "start", "hit_start", "Query_ID"]
    metadata = dict.fromkeys(dict.fromkeys(some), "x")
    header = written(write_tsv, QueryResult("q", 1, (Hit(1, "h", 0.1, 1, 0.5, dict(metadata)),), {}))
    columns = header.splitlines()[0].split("\t")
    assert len(columns) == 9 + len(metadata)
    assert columns.count("start") == 1
    assert "hit_start" in columns
    assert "hit_hit_start" in columns or columns.count("hit_start") == 1


def test_results_are_written_as_they_come() -> None:
    stream = io.StringIO()

    def watched() -> Iterator[QueryResult]:
        size = 0
        for number in range(5):
            if number > 1:
                assert len(stream.getvalue()) > size
            size = len(stream.getvalue())
            yield ALIGNED

    for form in ("tsv", "json", "jsonl", "blast", "calls"):
        stream = io.StringIO()
        assert WRITERS[form](watched(), stream) == 5


def test_unknown_formats_are_refused() -> None:
    with pytest.raises(UsageError, match="known are tsv, json"):
        writer_of("xml")
    assert math.isnan(float(written(write_blast, ALIGNED).split("\t")[10]))
