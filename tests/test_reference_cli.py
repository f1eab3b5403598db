"""`kinmer reference` from the command line: what comes in, once, with its ranks, also after a kill."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kinmer.cli import run
from kinmer.library import check_index, open_index
from kinmer.simulate import Community, write_community
from kinmer.taxonomy import RANKS
from tests.organisms import encoder_of
from tests.test_taxonomy import COLI, GTDB_COLI, NEW, write_dump

Kinmer = Callable[..., tuple[int, str, str]]
COLI_RANKS = dict(zip(RANKS, COLI, strict=True))
SETTINGS = ("-e", "encoder", "--pieces", "2000", "--threads", "1", "--no-calibrate")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Genomes of eight species, a chromosome and a plasmid each, with their taxonomy, and an encoder."""
    folder = tmp_path_factory.mktemp("world")
    community = Community(
        phyla=2, families=1, genera=2, species=2, strains=1, plasmids=1, phages=0, chromosome=20_000,
        plasmid=3000,
    )  # fmt: skip
    write_community(folder / "community", community=community)
    encoder_of().save(folder / "encoder")
    return folder


@pytest.fixture
def genomes(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Eight files in the folder ``genomes`` of the current folder."""
    shutil.copytree(world / "community", tmp_path, dirs_exist_ok=True)
    shutil.copytree(world / "encoder", tmp_path / "encoder")
    monkeypatch.chdir(tmp_path)
    return sorted(Path("genomes").iterdir())


@pytest.fixture
def kinmer(capsys: pytest.CaptureFixture[str]) -> Kinmer:
    """Run a command; gives exit code, stdout and stderr."""

    def call(*argv: str | Path) -> tuple[int, str, str]:
        code = run([str(one) for one in argv])
        out, err = capsys.readouterr()
        return code, out, err

    return call


def content(db: str) -> dict[str, tuple[str, dict[str, Any], bytes]]:
    """Genome, metadata and vectors of every entry of a whole index."""
    assert check_index(db).whole
    with open_index(db) as index:
        entries = index.entries(index.numbers)
        names = index.genomes(np.array([one.genome for one in entries.values()]))
        return {
            one.id: (
                names[one.genome].name,
                dict(zip(index.columns, one.values, strict=True)),
                np.asarray(index.rows.vectors[one.first : one.first + one.rows]).tobytes(),
            )
            for one in entries.values()
        }


def test_a_folder_comes_in_once_and_what_is_new_later(genomes: list[Path], kinmer: Kinmer) -> None:
    with Path("taxonomy.tsv").open() as file:
        told = {row["sequence_id"]: row for row in csv.DictReader(file, delimiter="\t")}
    assert len(genomes) == 8
    assert len(told) == 16
    later = genomes[5].rename(genomes[5].name)
    command = ("reference", "genomes", "-o", "r.db", "--metadata", "taxonomy.tsv", "--threads", "1")
    code, _, err = kinmer(*command, "-e", "encoder", "--pieces", "2000", "--no-calibrate")
    assert code == 0, err
    assert "14 entries of 7 genomes" in err
    found = content("r.db")
    assert set(found) == {name for name, row in told.items() if row["genome_id"] != later.stem}
    for name, (genome, values, _) in found.items():
        assert genome == told[name]["genome_id"]
        assert {rank: values[rank] for rank in RANKS} == {rank: told[name][rank] for rank in RANKS}
        assert values["molecule"] == told[name]["molecule"]

    stamps = {path: path.stat().st_mtime_ns for path in Path("r.db").glob("*.f32")}
    code, _, err = kinmer(*command, "--no-calibrate")
    assert (code, "7 of 7 files are in already" in err, "0 sequences added" in err) == (0, True, True)
    assert stamps == {path: path.stat().st_mtime_ns for path in Path("r.db").glob("*.f32")}

    later.rename(genomes[5])
    code, _, err = kinmer(*command, "--no-calibrate")
    assert (code, "7 of 8 files are in already" in err, "2 sequences added to 14" in err) == (0, True, True)
    whole = content("r.db")
    assert set(whole) == set(told)
    assert {name: whole[name] for name in found} == found
    assert whole[f"{later.stem}_chr"][1]["species"] == told[f"{later.stem}_chr"]["species"]

    # The very first command again, with the encoder that the index has; and with another one.
    code, _, err = kinmer(*command, "-e", "encoder", "--pieces", "2000", "--no-calibrate")
    assert (code, "8 of 8 files are in already" in err) == (0, True), err
    encoder_of(seed=5).save("other")
    code, _, err = kinmer(*command, "-e", "other")
    assert (code, "an index keeps its encoder" in err) == (2, True)

    code, out, err = kinmer("search", genomes[5], "--db", "r.db", "-k", "1", "--threads", "1")
    assert code == 0, err
    lines = list(csv.DictReader(out.splitlines(), delimiter="\t"))
    assert [(one["hit_id"], one["genome"]) for one in lines] == [
        (one["query_id"], later.stem) for one in lines
    ]
    where = 'molecule == "plasmid" and length < 5000'
    code, out, _ = kinmer("search", genomes[5], "--db", "r.db", "-k", "16", "--where", where)
    hits = {one["hit_id"] for one in csv.DictReader(out.splitlines(), delimiter="\t")}
    assert hits == {name for name, row in told.items() if row["molecule"] == "plasmid"}
    assert len(hits) == 8


KILL = """
import os, signal, sys
from kinmer.cli import run
from kinmer.index import IndexWriter
add, left = IndexWriter.add, int(sys.argv[1])
def killing(self, *given, **named):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *given, **named)
IndexWriter.add = killing
run(sys.argv[2:])
"""


@pytest.mark.parametrize(("begun", "commits"), [(False, 1), (False, 6), (True, 3)])
def test_a_killed_call_is_gone_on_with(
    begun: bool, commits: int, genomes: list[Path], kinmer: Kinmer
) -> None:
    command = ["reference", "genomes", "--metadata", "taxonomy.tsv", "--threads", "1", "--no-calibrate"]
    first = [] if begun else ["-e", "encoder", "--pieces", "2000"]
    if begun:
        # An index of two genomes is added to.
        Path("two").mkdir()
        for one in genomes[:2]:
            shutil.copy(one, "two")
        code, _, err = kinmer("reference", "two", "-o", "r.db", "--metadata", "taxonomy.tsv", *SETTINGS)
        assert code == 0, err
    done = subprocess.run(
        [sys.executable, "-c", KILL, str(commits), *command, "-o", "r.db", *first],
        capture_output=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert Path("r.db").exists() == begun
    code, _, err = kinmer(*command, "-o", "r.db", *first)
    assert code == 0, err
    assert begun or "resuming after" in err
    code, _, err = kinmer(*command, "-o", "whole.db", "-e", "encoder", "--pieces", "2000")
    assert code == 0, err
    assert content("r.db") == content("whole.db")
    assert not [path.name for path in Path().iterdir() if path.name.startswith(".")]


def test_ranks_from_taxids_of_a_manifest(genomes: list[Path], kinmer: Kinmer) -> None:
    write_dump(Path("dump"), NEW)
    lines = ["path\tgenome\ttaxid\tnote", f"{genomes[0]}\tA\t562\tx", f"{genomes[1]}\tB\t\ty"]
    Path("m.tsv").write_text("\n".join([*lines, f"{genomes[2]}\tC\t469598\t"]) + "\n")
    code, _, err = kinmer("reference", "m.tsv", "-o", "r.db", "--taxdump", "dump", *SETTINGS)
    assert code == 0, err
    told = {genome: values for genome, values, _ in content("r.db").values()}
    assert told["A"] == {"taxid": "562", "note": "x", **COLI_RANKS}
    assert told["B"] == {"taxid": None, "note": "y", **dict.fromkeys(RANKS)}
    assert told["C"] == {"taxid": "469598", "note": None, **COLI_RANKS}

    Path("m.tsv").write_text(f"{lines[0]}\n{genomes[3]}\tD\t999\t\n")
    code, _, err = kinmer("reference", "m.tsv", "-o", "r.db", "--taxdump", "dump", "--no-calibrate")
    assert (code, "m.tsv, line 2: the taxid 999 is unknown" in err) == (2, True)
    Path("m.tsv").write_text(f"{lines[0]}\n{genomes[3]}\tD\t83333\t\n")
    code, _, err = kinmer("reference", "m.tsv", "-o", "r.db", "--taxdump", "dump", "--no-calibrate")
    assert code == 0, err
    assert {genome: values for genome, values, _ in content("r.db").values()}["D"]["genus"] == "Escherichia"


def test_ranks_from_lineages_of_a_manifest(genomes: list[Path], kinmer: Kinmer) -> None:
    Path("m.tsv").write_text(f"path\tgenome\tlineage\n{genomes[0]}\tA\t{GTDB_COLI}\n{genomes[1]}\tB\t.\n")
    code, _, err = kinmer("reference", "m.tsv", "-o", "r.db", *SETTINGS)
    assert code == 0, err
    told = {genome: values for genome, values, _ in content("r.db").values()}
    assert told["A"] == {"lineage": GTDB_COLI, **COLI_RANKS}
    assert told["B"] == dict.fromkeys(("lineage", *RANKS))


def test_ranks_of_a_package_by_its_taxids_or_by_gtdb(genomes: list[Path], kinmer: Kinmer) -> None:
    data = Path("package/ncbi_dataset/data")
    accessions = ("GCF_000005845.2", "GCA_000008085.1")
    for accession, genome in zip(accessions, genomes, strict=False):
        (data / accession).mkdir(parents=True)
        shutil.copy(genome, data / accession / f"{accession}_ASM1v1_genomic.fna")
    report = {"accession": accessions[0], "organism": {"taxId": 83333, "organismName": "E. coli K-12"}}
    (data / "assembly_data_report.jsonl").write_text(json.dumps(report) + "\n")
    write_dump(Path("dump"), NEW)
    code, _, err = kinmer("reference", "package", "-o", "r.db", "--taxdump", "dump", *SETTINGS)
    assert code == 0, err
    told = {genome: values for genome, values, _ in content("r.db").values()}
    assert told[accessions[0]] == {"organism": "E. coli K-12", "taxid": "83333", **COLI_RANKS}
    assert told[accessions[1]]["genus"] is None

    Path("gtdb.tsv").write_text(f"RS_{accessions[0]}\t{GTDB_COLI}\nGB_{accessions[1]}\td__Archaea;p__N\n")
    code, _, err = kinmer("reference", "package", "-o", "g.db", "--metadata", "gtdb.tsv", *SETTINGS)
    assert code == 0, err
    assert "2 of 2 genomes have a lineage" in err
    told = {genome: values for genome, values, _ in content("g.db").values()}
    assert told[accessions[0]] == {"organism": "E. coli K-12", "taxid": "83333", **COLI_RANKS}
    assert (told[accessions[1]]["phylum"], told[accessions[1]]["species"]) == ("N", None)

    # The same tables renew an index that is there.
    Path("gtdb.tsv").write_text(f"RS_{accessions[0]}\td__Bacteria;s__New name\n")
    code, _, err = kinmer("db", "update", "r.db", "--metadata", "gtdb.tsv", "--no-calibrate")
    assert code == 0, err
    told = {genome: values for genome, values, _ in content("r.db").values()}
    assert (told[accessions[0]]["species"], told[accessions[0]]["organism"]) == ("New name", "E. coli K-12")
    code, _, err = kinmer(
        "db", "update", "r.db", "--metadata", data / "assembly_data_report.jsonl", "--taxdump", "dump",
        "--no-calibrate",
    )  # fmt: skip
    assert code == 0, err
    renewed = {genome: values for genome, values, _ in content("r.db").values()}[accessions[0]]
    assert renewed == {
        **told[accessions[0]],
        **COLI_RANKS,
        "strain": None,
        "assembly_level": None,
    }


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("genomes", "--taxdump", "dump"), "the genomes' taxids are not known"),
        (("genomes", "--metadata", "taxonomy.tsv", "--taxdump", "dump"), "the genomes' taxids are not known"),
        (("genomes", "--metadata", "none.tsv"), "none.tsv: no such file"),
        (("genomes", "--metadata", "strange.tsv"), "none of the source's ids"),
        (("genomes", "--metadata", "gtdb.tsv"), "none of the genomes' accessions"),
        (("none",), "no such file or folder"),
        (("empty",), "no FASTA in the folder"),
    ],
)
def test_what_cannot_be_is_told_and_nothing_is_left(
    given: tuple[str, ...], said: str, genomes: list[Path], kinmer: Kinmer
) -> None:
    write_dump(Path("dump"), NEW)
    Path("empty").mkdir()
    Path("strange.tsv").write_text("id\tx\nnobody\t1\n")
    Path("gtdb.tsv").write_text(f"RS_GCF_000005845.2\t{GTDB_COLI}\n")
    before = sorted(Path().iterdir())
    code, _, err = kinmer("reference", *given, "-o", "r.db", *SETTINGS)
    assert (code, said in err) == (2, True), err
    assert sorted(Path().iterdir()) == before


def test_another_version_of_a_file_is_told(genomes: list[Path], kinmer: Kinmer) -> None:
    assert kinmer("reference", "genomes", "-o", "r.db", *SETTINGS)[0] == 0
    before = content("r.db")
    genomes[0].write_text(genomes[0].read_text().replace("ACGT", "AGCT"))
    code, _, err = kinmer("reference", "genomes", "-o", "r.db", "--no-calibrate", "--threads", "1")
    assert (code, genomes[0].name in err, "in the index already" in err) == (2, True, True)
    assert content("r.db") == before
