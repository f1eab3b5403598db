"""Tables of metadata: whoever made them, ids, columns and ranks come out, or the line that is wrong."""

from __future__ import annotations

import gzip
import json
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import FormatError, InputError, KinmerError
from kinmer.library.metadata import Metadata, stage_metadata
from kinmer.taxonomy import RANKS
from tests.test_taxonomy import COLI, GTDB_COLI, NEW, write_dump

COLI_RANKS = dict(zip(RANKS, COLI, strict=True))
NO_RANKS = dict.fromkeys(RANKS)


def staged(path: Path, text: str, **settings: object) -> tuple[Metadata, dict[str, dict[str, str | None]]]:
    """The staged table, and its lines by id."""
    path.write_text(text)
    return read(stage_metadata(path, path.with_suffix(".sqlite"), **settings))  # type: ignore[arg-type]


def read(table: Metadata) -> tuple[Metadata, dict[str, dict[str, str | None]]]:
    connection = sqlite3.connect(table.database)
    lines = connection.execute("SELECT * FROM metadata").fetchall()
    connection.close()
    assert len(lines) == table.rows
    # Columns of ranks that were not found are there, empty, behind the others.
    return table, {one[0]: dict(zip(table.columns, one[2:], strict=False)) for one in lines}


@pytest.mark.parametrize("name", ["gtdb_taxonomy", "Classification", "taxonomy", "lineage"])
def test_a_lineage_becomes_the_seven_ranks(name: str, tmp_path: Path) -> None:
    text = (
        f"id\t{name}\tnote\na\t{GTDB_COLI}\tx\nb\t\ty\nc\tUnclassified Bacteria\nd\td__Archaea; p__; s__\tz\n"
    )
    table, lines = staged(tmp_path / "t.tsv", text)
    assert table.columns == (name, "note", *RANKS)
    assert lines["a"] == {name: GTDB_COLI, "note": "x", **COLI_RANKS}
    assert lines["b"] == {name: None, "note": "y", **NO_RANKS}
    assert lines["c"] == {name: "Unclassified Bacteria", "note": None, **NO_RANKS}
    assert lines["d"] == {name: "d__Archaea; p__; s__", "note": "z", **NO_RANKS, "domain": "Archaea"}


def test_ranks_that_the_table_has_stay_its_own(tmp_path: Path) -> None:
    text = f"id\tGenus\tlineage\na\tShigella\t{GTDB_COLI}\nb\t\t{GTDB_COLI}\n"
    table, lines = staged(tmp_path / "t.tsv", text)
    assert table.columns == ("Genus", "lineage", *(rank for rank in RANKS if rank != "genus"))
    assert (lines["a"]["Genus"], lines["a"]["species"]) == ("Shigella", "Escherichia coli")
    assert lines["b"]["Genus"] is None
    full = "id\tlineage\t" + "\t".join(RANKS) + "\na\tno lineage at all\t" + "\t".join("1234567") + "\n"
    table, lines = staged(tmp_path / "t.tsv", full)
    assert table.columns == ("lineage", *RANKS)
    assert lines["a"]["species"] == "7"


def test_texts_in_such_a_column_are_texts(tmp_path: Path) -> None:
    table, lines = staged(
        tmp_path / "t.tsv", "id\tlineage\na\tB.1.1.7\nb\t\nc\tcellular organisms; Bacteria\n"
    )
    assert table.columns == ("lineage",)
    assert lines["a"] == {"lineage": "B.1.1.7"}
    # Another column may hold the lineages.
    text = f"id\tclassification\ttaxonomy\na\tpathogen\t\nb\tharmless\t{GTDB_COLI}\n"
    table, lines = staged(tmp_path / "t.tsv", text)
    assert table.columns == ("classification", "taxonomy", *RANKS)
    assert lines["b"]["genus"] == "Escherichia"
    # Nothing at all is known.
    assert staged(tmp_path / "t.tsv", "id\tlineage\na\t\n")[0].columns == ("lineage",)


@pytest.mark.parametrize("packed", [False, True])
def test_gtdbs_own_tables_have_no_header(packed: bool, tmp_path: Path) -> None:
    text = f"RS_GCF_000005845.2\t{GTDB_COLI}\nGB_GCA_000008085.1\td__Archaea;p__Nanobdellota\n"
    path = tmp_path / ("bac120_taxonomy_r220.tsv.gz" if packed else "bac120_taxonomy_r220.tsv")
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    table, lines = read(stage_metadata(path, tmp_path / "t.sqlite"))
    assert table.columns == ("gtdb_taxonomy", *RANKS)
    assert list(lines) == ["GCA_000008085.1", "GCF_000005845.2"]
    assert lines["GCF_000005845.2"] == {"gtdb_taxonomy": GTDB_COLI, **COLI_RANKS}
    assert lines["GCA_000008085.1"]["phylum"] == "Nanobdellota"
    # An index looks names up as they stand in its files.
    assert table.matches(["x", "RS_GCF_000005845.2"])
    assert table.matches(["GCF_000005845.2"])
    assert not table.matches(["GCF_000005845.1"])


def test_gtdbs_tables_of_metadata(tmp_path: Path) -> None:
    text = f"accession\tgtdb_taxonomy\tncbi_taxid\tgc\nRS_GCF_000005845.2\t{GTDB_COLI}\t562\t.5\n"
    table, lines = staged(tmp_path / "t.tsv", text)
    assert (table.columns, table.left_out) == (("gtdb_taxonomy", "ncbi_taxid", *RANKS), ("gc",))
    assert lines["GCF_000005845.2"]["species"] == "Escherichia coli"
    # Whoever gives a taxdump asks for its names.
    dump = write_dump(tmp_path / "dump", [(*one[:3], f"NCBI {one[3]}") for one in NEW])
    _, lines = staged(tmp_path / "t.tsv", text, taxdump=dump)
    assert lines["GCF_000005845.2"]["species"] == "NCBI Escherichia coli"


@pytest.mark.parametrize("name", ["taxid", "tax_id", "NCBI_taxid", "Organism Taxonomic ID"])
def test_taxids_become_the_seven_ranks(name: str, tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump", NEW)
    text = f"id\t{name}\na\t562\nb\t83333.0\nc\t\nd\t469598\ne\t11320\n"
    table, lines = staged(tmp_path / "t.tsv", text, taxdump=dump)
    assert table.columns == (name, *RANKS)
    for one, taxid in (("a", "562"), ("b", "83333.0"), ("d", "469598")):
        assert lines[one] == {name: taxid, **COLI_RANKS}
    assert lines["c"] == {name: None, **NO_RANKS}
    assert lines["e"] == {name: "11320", **NO_RANKS, "domain": "Viruses", "phylum": "Negarnaviricota"}
    table, lines = staged(tmp_path / "t.tsv", text)
    assert table.columns == (name,)


REPORT = [
    {
        "accession": "GCF_000005845.2",
        "currentAccession": "GCF_000005845.2",
        "organism": {
            "taxId": 83333,
            "organismName": "Escherichia coli str. K-12",
            "infraspecificNames": {"strain": "K-12"},
        },
        "assemblyInfo": {"assemblyLevel": "Complete Genome"},
        "assemblyStats": {"gcPercent": 51},
    },
    {"accession": "GCA_9.1", "organism": {"taxId": 2}},
]


def test_reports_of_ncbi_datasets(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump", NEW)
    text = "".join(json.dumps(one) + "\n" for one in REPORT)
    told = {
        "organism": "Escherichia coli str. K-12",
        "taxid": "83333",
        "strain": "K-12",
        "assembly_level": "Complete Genome",
    }
    path = tmp_path / "assembly_data_report.jsonl"
    table, lines = staged(path, text, taxdump=dump)
    assert table.columns == (*told, *RANKS)
    assert lines["GCF_000005845.2"] == {**told, **COLI_RANKS}
    assert lines["GCA_9.1"] == {**dict.fromkeys(told), "taxid": "2", **NO_RANKS, "domain": "Bacteria"}
    with pytest.raises(FormatError, match=r"jsonl, line 3: the line is not JSON"):
        staged(path, text + '{"accession":')
    with pytest.raises(InputError, match=r"jsonl, line 3: .*twice \(first in line 1\)"):
        staged(path, text + json.dumps(REPORT[0]))


def test_what_dataformat_writes(tmp_path: Path) -> None:
    dump = write_dump(tmp_path / "dump", NEW)
    names = "Organism Name\tAssembly Accession\tOrganism Taxonomic ID\tAssembly Level\tANI Best ANI match ANI"
    text = f"{names}\nEscherichia coli\tGCF_000005845.2\t562\tScaffold\t99.1\n"
    table, lines = staged(tmp_path / "t.tsv", text, taxdump=dump)
    assert table.columns == ("organism", "taxid", "assembly_level", "ANI Best ANI match ANI", *RANKS)
    assert lines["GCF_000005845.2"]["assembly_level"] == "Scaffold"
    assert lines["GCF_000005845.2"]["species"] == "Escherichia coli"


def test_summaries_of_ncbis_server_begin_with_remarks(tmp_path: Path) -> None:
    text = "##  See README\n#assembly_accession\ttaxid\tinfraspecific_name\nGCF_000005845.2\t562\tstrain=#1\n"
    table, lines = staged(tmp_path / "t.tsv", text, taxdump=write_dump(tmp_path / "dump", NEW))
    assert table.columns == ("taxid", "infraspecific_name", *RANKS)
    assert lines["GCF_000005845.2"]["genus"] == "Escherichia"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f"id\tlineage\na\t{GTDB_COLI}\nb\td__Bacteria;g__A;f__B\n",
            "t.tsv, line 3: .*family below its genus",
        ),
        (f"id\tlineage\na\t{GTDB_COLI}\nb\tBacteria\n", "t.tsv, line 3: .*has the part 'Bacteria'"),
        (
            f"id\tlineage\n\nb\tBacteria\na\t{GTDB_COLI}\n",
            "t.tsv, line 3: 'Bacteria' is not a lineage.*line 4",
        ),
        (f"RS_GCF_000005845.2\t{GTDB_COLI}\nRS_GCF_000005846.1\tBacteria\n", "t.tsv, line 2: .*'Bacteria'"),
        (
            f"GCF_000005845.2\t{GTDB_COLI}\nRS_GCF_000005845.2\t{GTDB_COLI}\n",
            r"line 2: .*twice \(first in line 1",
        ),
        (f"GCF_000005845.2\t{GTDB_COLI}\nRS_GCF_000005846.2\t{GTDB_COLI}\tx\n", "line 2: 3 fields"),
        ("##  remark\n#id\tx\tX\n", "line 2: the column 'X' occurs twice"),
        ("## only\n## remarks\n", "the metadata are empty"),
    ],
)
def test_bad_lineages_are_told_with_their_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        staged(tmp_path / "t.tsv", text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("id\ttaxid\na\t562\nb\t12345\n", "t.tsv, line 3: the taxid 12345 is unknown"),
        ("id\ttaxid\na\t3119\n", "t.tsv, line 2: the taxid 3119 was deleted"),
        ("id\ttaxid\na\tE. coli\n", "t.tsv, line 2: 'E. coli' is not a taxid"),
        ("id\ttaxid\na\t-2\n", "t.tsv, line 2: '-2' is not a taxid"),
        ("id\ttaxid\na\t" + "9" * 40 + "\n", "t.tsv, line 2: .* is not a taxid"),
        (f"id\tlineage\na\t{GTDB_COLI}\n", "t.tsv: the metadata have no column of taxids"),
    ],
)
def test_bad_taxids_are_told_with_their_line(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        staged(tmp_path / "t.tsv", text, taxdump=write_dump(tmp_path / "dump", NEW))


def test_a_broken_gzip_is_told(tmp_path: Path) -> None:
    path = tmp_path / "t.tsv.gz"
    path.write_bytes(gzip.compress("".join(f"id{number}\n" for number in range(10_000)).encode())[:-20])
    with pytest.raises(InputError, match="cannot be read"):
        stage_metadata(path, tmp_path / "t.sqlite")


FIELDS = st.text(alphabet='ab;_ .\tdspgé{}#"1', max_size=12)


@settings(max_examples=150, deadline=None)
@given(st.lists(FIELDS, max_size=6), st.booleans())
def test_any_text_is_a_table_or_an_error(lines: list[str], headed: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.tsv"
        path.write_text(("id\tlineage\n" if headed else "") + "\n".join(lines))
        try:
            table = stage_metadata(path, Path(folder) / "t.sqlite")
        except KinmerError as error:
            assert "t.tsv" in str(error)  # noqa: PT017 – most texts are tables
        else:
            assert len(read(table)[1]) == table.rows
