"""Lineages: how they are written down, NCBI's and GTDB's files."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinmer.errors import FormatError, InputError
from kinmer.taxonomy import (
    RANKS,
    Taxdump,
    is_lineage,
    normal_accession,
    parse_lineage,
    rank_columns,
    taxon,
)


def test_rank_columns_are_found_in_any_case() -> None:
    columns = ["note", "Species", "GENUS", "source"]
    assert rank_columns(columns) == {"genus": "GENUS", "species": "Species"}
    assert list(rank_columns([])) == []


COLI = (
    "Bacteria",
    "Pseudomonadota",
    "Gammaproteobacteria",
    "Enterobacterales",
    "Enterobacteriaceae",
    "Escherichia",
    "Escherichia coli",
)
GTDB_COLI = (
    "d__Bacteria;p__Pseudomonadota;c__Gammaproteobacteria;o__Enterobacterales;f__Enterobacteriaceae;"
    "g__Escherichia;s__Escherichia coli"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GTDB_COLI, COLI),
        (GTDB_COLI.replace(";", "; ") + ";", COLI),
        (GTDB_COLI.replace("d__", "k__"), COLI),
        (GTDB_COLI.replace("d__Bacteria;", "d__Bacteria;k__Pseudomonadati;"), COLI),
        (GTDB_COLI + ";t__SGB10068", COLI),
        ("d__Bacteria;p__;c__;o__;f__;g__;s__", ("Bacteria", *[None] * 6)),
        ("d__Archaea;g__Halobium", ("Archaea", None, None, None, None, "Halobium", None)),
        ("d__Viruses; s__a__b = c's (d)", ("Viruses", None, None, None, None, None, "a__b = c's (d)")),
    ],
)
def test_lineages_as_gtdb_writes_them(text: str, expected: tuple[str | None, ...]) -> None:
    assert is_lineage(text)
    assert parse_lineage(text) == expected


NAMES_OF_TAXA = st.text(alphabet="abcXYZ 0_-()'é.", max_size=8).map(lambda name: name.strip() or None)


@given(st.tuples(*[NAMES_OF_TAXA] * 7))
def test_a_lineage_written_down_is_read_again(names: tuple[str | None, ...]) -> None:
    text = ";".join(f"{rank[0]}__{name or ''}" for rank, name in zip(RANKS, names, strict=True))
    # A dot is no name, nor is a species that ends with "sp.".
    assert parse_lineage(text) == tuple(taxon(rank, name) for rank, name in zip(RANKS, names, strict=True))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has the part ''"),
        ("Bacteria", "has the part 'Bacteria'"),
        ("d__Bacteria;Pseudomonadota", "has the part 'Pseudomonadota'"),
        ("d__Bacteria;x__A", "has the part 'x__A'"),
        ("d__Bacteria;d__Archaea", "its domain below its domain"),
        ("d__Bacteria;s__A b;g__A", "its genus below its species"),
        ("d__Bacteria;;g__A", "has the part ''"),
    ],
)
def test_what_is_no_lineage_is_told(text: str, said: str) -> None:
    with pytest.raises(InputError, match=f"^t.tsv, line 3: .*{said}"):
        parse_lineage(text, place="t.tsv, line 3")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("RS_GCF_000005845.2", "GCF_000005845.2"),
        ("GB_GCA_000005845.2 ", "GCA_000005845.2"),
        ("GCF_000005845.2_ASM584v2_genomic.fna.gz", "GCF_000005845.2"),
        ("GCF_000005845.2", "GCF_000005845.2"),
        ("RS_1", "RS_1"),
        ("NC_000913.3", "NC_000913.3"),
        ("GCF_000005845.2|contig_1", "GCF_000005845.2|contig_1"),
    ],
)
def test_accessions_of_assemblies(text: str, expected: str) -> None:
    assert normal_accession(text) == expected


def dump_line(*fields: object) -> str:
    return "\t|\t".join(str(field) for field in fields) + "\t|\n"


# Taxid, parent, rank, name: as they stand in NCBI's dumps, before and since the change of 2025.
BELOW = [
    (1224, 2, "phylum", "Pseudomonadota"),
    (1236, 1224, "class", "Gammaproteobacteria"),
    (91347, 1236, "order", "Enterobacterales"),
    (543, 91347, "family", "Enterobacteriaceae"),
    (561, 543, "genus", "Escherichia"),
    (562, 561, "species", "Escherichia coli"),
    (83333, 562, "strain", "Escherichia coli K-12"),
    (2732396, 2559587, "kingdom", "Orthornavirae"),
    (2497569, 2732396, "phylum", "Negarnaviricota"),
    (11320, 2497569, "no rank", "Influenza A virus"),
    (2955291, 2497569, "species", "Alphainfluenzavirus influenzae"),
]
OLD = [
    (1, 1, "no rank", "root"),
    (131567, 1, "no rank", "cellular organisms"),
    (2, 131567, "superkingdom", "Bacteria"),
    (10239, 1, "superkingdom", "Viruses"),
    (2559587, 10239, "clade", "Riboviria"),
    *BELOW,
]
NEW = [
    (1, 1, "no rank", "root"),
    (131567, 1, "cellular root", "cellular organisms"),
    (2, 131567, "domain", "Bacteria"),
    (10239, 1, "acellular root", "Viruses"),
    (2559587, 10239, "realm", "Riboviria"),
    *BELOW,
]
# Dumps made of ICTV's taxonomy begin with realms.
ICTV = [(1, 1, "no rank", "root"), (2559587, 1, "realm", "Riboviria"), *BELOW[7:]]


def write_dump(folder: Path, nodes: list[tuple[int, int, str, str]], seed: int = 0) -> Path:
    """A dump with all fields that NCBI's have, and names of other classes."""
    folder.mkdir(exist_ok=True)
    lines = list(nodes)
    random.Random(seed).shuffle(lines)
    (folder / "nodes.dmp").write_text(
        "".join(dump_line(one, up, rank, "", 8, 0, 1, 0, 0, 0, 0, 0, "") for one, up, rank, _ in lines)
    )
    (folder / "names.dmp").write_text(
        "".join(
            dump_line(one, f"{name} of old", "", "synonym")
            + dump_line(one, name, f"{name} <unique>", "scientific name")
            + dump_line(one, f"{name} again", "", "authority")
            for one, _, _, name in lines
        )
    )
    (folder / "merged.dmp").write_text(dump_line(469598, 562) + dump_line(12, 74109))
    (folder / "delnodes.dmp").write_text(dump_line(3119) + dump_line(2))
    return folder


@pytest.mark.parametrize("nodes", [OLD, NEW], ids=["superkingdoms", "roots"])
def test_lineages_of_ncbis_dumps(nodes: list[tuple[int, int, str, str]], tmp_path: Path) -> None:
    dump = Taxdump(write_dump(tmp_path / "dump", nodes))
    assert len(dump) == len(nodes)
    assert dump.lineage(562) == COLI
    assert dump.lineage(83333) == COLI
    assert dump.lineage(469598) == COLI
    assert dump.lineage(561) == (*COLI[:6], None)
    assert dump.lineage(1) == dump.lineage(131567) == (None,) * 7
    assert dump.lineage(10239) == ("Viruses", *[None] * 6)
    virus = ("Viruses", "Negarnaviricota", None, None, None, None)
    assert dump.lineage(11320) == (*virus, None)
    assert dump.lineage(2955291) == (*virus, "Alphainfluenzavirus influenzae")


def test_realms_without_a_root_are_viruses(tmp_path: Path) -> None:
    dump = Taxdump(write_dump(tmp_path / "dump", ICTV))
    assert dump.lineage(2955291)[:2] == ("Viruses", "Negarnaviricota")


@pytest.mark.parametrize(
    ("taxid", "said"),
    [
        (999_999, "is unknown"),
        (3119, "was deleted"),
        (12, "is unknown"),
        (-1, "is unknown"),
        (1 << 40, "is unknown"),
        (0, "is unknown"),
    ],
)
def test_taxids_that_are_none_are_told(taxid: int, said: str, tmp_path: Path) -> None:
    dump = Taxdump(write_dump(tmp_path / "dump", NEW))
    with pytest.raises(InputError, match=f"^t.tsv, line 7: the taxid {taxid} {said}"):
        dump.lineage(taxid, place="t.tsv, line 7")


@given(st.integers(0, 10**6))
def test_lineages_of_any_tree(seed: int) -> None:
    import tempfile

    rng = random.Random(seed)
    taxids = rng.sample(range(2, 10**6), 40)
    ranks = [*RANKS, "clade", "no rank", "strain"]
    nodes = [(1, 1, "no rank", "root")]
    for taxid in taxids:
        nodes.append((taxid, rng.choice(nodes)[0], rng.choice(ranks), f"n{taxid} é"))
    by_id = {one[0]: one for one in nodes}
    with tempfile.TemporaryDirectory() as folder:
        dump = Taxdump(write_dump(Path(folder), nodes, seed))
    for taxid in taxids:
        expected: dict[str, str] = {}
        at = by_id[taxid]
        while at[0] != 1:
            # The highest of two nodes of one rank, as which only a broken tree has them, is that of the rank.
            expected[at[2]] = at[3]
            at = by_id[at[1]]
        assert dump.lineage(taxid) == tuple(expected.get(rank) for rank in RANKS)


@pytest.mark.parametrize(
    ("name", "change", "error", "said"),
    [
        ("nodes.dmp", lambda text: text + "77\t|\t1\n", FormatError, r"nodes.dmp, line 17: .*damaged"),
        ("nodes.dmp", lambda text: "x" + text, FormatError, r"nodes.dmp, line 1: .*damaged"),
        ("nodes.dmp", lambda text: text.replace("\t|\t", ","), FormatError, "nodes.dmp, line 1: .*damaged"),
        ("nodes.dmp", lambda text: text + text.splitlines()[3] + "\n", FormatError, "has two nodes"),
        ("nodes.dmp", lambda text: text + dump_line(77, 78, "genus"), FormatError, "77 has the parent 78"),
        ("nodes.dmp", lambda text: "", FormatError, "nodes.dmp: the file is empty"),
        ("names.dmp", lambda text: text + "562\n", FormatError, "names.dmp, line 49: .*damaged"),
        ("merged.dmp", lambda text: text + dump_line("a", 1), FormatError, "merged.dmp, line 3: .*damaged"),
        ("delnodes.dmp", lambda text: dump_line(1 << 31), FormatError, "delnodes.dmp, line 1: .*damaged"),
        ("nodes.dmp", None, InputError, "nodes.dmp: no such file"),
        ("names.dmp", None, InputError, "names.dmp: no such file"),
    ],
)
def test_damaged_dumps_are_told_with_their_line(
    name: str, change: Any, error: type[Exception], said: str, tmp_path: Path
) -> None:
    path = write_dump(tmp_path / "dump", NEW) / name
    if change is None:
        path.unlink()
    else:
        path.write_text(change(path.read_text()))
    with pytest.raises(error, match=said):
        Taxdump(path.parent)


def test_a_dump_may_lack_what_changed(tmp_path: Path) -> None:
    folder = write_dump(tmp_path / "dump", NEW)
    (folder / "merged.dmp").unlink()
    (folder / "delnodes.dmp").unlink()
    assert Taxdump(folder).lineage(562) == COLI
    with pytest.raises(InputError, match="no folder of a taxdump"):
        Taxdump(tmp_path / "none")


def test_loops_and_nameless_nodes_are_told(tmp_path: Path) -> None:
    nodes = [*NEW, (70, 71, "genus", "A"), (71, 70, "family", "B")]
    folder = write_dump(tmp_path / "dump", nodes)
    with pytest.raises(FormatError, match=r"nodes.dmp: the tree has a loop"):
        Taxdump(folder).lineage(70)
    names = folder / "names.dmp"
    names.write_text(names.read_text().replace("562\t|\tEscherichia coli\t", "999\t|\tEscherichia coli\t"))
    with pytest.raises(FormatError, match="562 has no scientific name"):
        Taxdump(folder).lineage(562)
