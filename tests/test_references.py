"""Genomes of folders, manifests and packages: who they are, what is told of them, what is refused."""

from __future__ import annotations

import gzip
import hashlib
import json
import string
import zipfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kinmer.errors import InputError
from kinmer.library.downloads import fetch
from kinmer.library.genomes import GenomeFile, verify_genome
from kinmer.library.packages import find_genomes, is_taxonomy
from tests.web_server import Page, serving

FASTA = b">a\nACGT\n"
LINEAGE = "d__Bacteria;p__Pseudomonadota;c__Gammaproteobacteria;o__Enterobacterales;f__Enterobacteriaceae;"
COLI = f"{LINEAGE}g__Escherichia;s__Escherichia coli"
RANKS = {
    "domain": "Bacteria",
    "phylum": "Pseudomonadota",
    "class": "Gammaproteobacteria",
    "order": "Enterobacterales",
    "family": "Enterobacteriaceae",
    "genus": "Escherichia",
}


def put(path: Path, data: bytes = FASTA) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def manifest(folder: Path, *rows: str) -> Path:
    return put(folder / "m.tsv", "\n".join(rows).encode() + b"\n")


def names(folder: Path) -> list[str]:
    return [file.genome for file in find_genomes(folder)]


def test_a_folder_is_searched_to_its_depths(tmp_path: Path) -> None:
    for name in (
        "b.fna",
        "a.FASTA",
        "deep/er/c.fa.gz",
        "deep/d.fna.zst",
        "e.x.fas.xz",
        "z.fsa.bz2",
        "1.fna.bgz",
    ):
        put(tmp_path / name)
    for name in (".hidden.fna", ".dir/x.fna", "x.fna.part", "proteins.faa", "genes.ffn", "notes.txt", "fna"):
        put(tmp_path / name)
    for name in ("cds_from_genomic.fna", "rna.fna.gz", "GCF_000001.1_x_rna_from_genomic.fna.gz"):
        put(tmp_path / "beside" / name)
    assert names(tmp_path) == ["1", "a", "b", "e.x", "z", "d", "c"]
    assert find_genomes(tmp_path)[-1] == GenomeFile(tmp_path / "deep" / "er" / "c.fa.gz", None, "c")


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "real" / "a.fna")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "to").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "back").symlink_to(tmp_path / "real")
    (tmp_path / "set" / "b.fna").symlink_to(tmp_path / "real" / "a.fna")
    assert names(tmp_path / "set") == ["b", "a"]


def test_a_genome_is_called_by_its_accession(tmp_path: Path) -> None:
    put(tmp_path / "GCF_000005845.2_ASM584v2_genomic.fna.gz")
    put(tmp_path / "GCA_000009999.13" / "contigs.fa")
    put(tmp_path / "mine.v2.fna")
    assert names(tmp_path) == ["GCF_000005845.2", "mine.v2", "GCA_000009999.13"]
    assert names(tmp_path / "mine.v2.fna") == ["mine.v2"]


@pytest.mark.parametrize("name", ["a.fna", "a.seq", "a"])
def test_one_file_is_known_by_its_content(tmp_path: Path, name: str) -> None:
    for data in (FASTA, b"\n" + FASTA, gzip.compress(FASTA)):
        (file,) = find_genomes(put(tmp_path / name, data))
        assert file.path == tmp_path / name
        assert file.genome == "a" if name == "a.fna" else name


def test_nothing_to_find_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no FASTA in the folder"):
        find_genomes(tmp_path)
    with pytest.raises(InputError, match="no such file or folder"):
        find_genomes(tmp_path / "none")
    with zipfile.ZipFile(tmp_path / "ncbi_dataset.zip", "w") as archive:
        archive.writestr("README.md", "x")
    with pytest.raises(InputError, match="unpack it"):
        find_genomes(tmp_path / "ncbi_dataset.zip")


def test_one_name_for_two_genomes_is_refused(tmp_path: Path) -> None:
    put(tmp_path / "x" / "genome.fna")
    put(tmp_path / "y" / "genome.fna")
    with pytest.raises(InputError, match=r"'genome' has two files, .*x/genome.fna and .*y/genome.fna"):
        find_genomes(tmp_path)


def test_a_manifest_tells_all(tmp_path: Path) -> None:
    put(tmp_path / "in" / "GCF_000005845.2_x_genomic.fna")
    other = put(tmp_path / "other.fna")
    digest = hashlib.sha256(FASTA).hexdigest()
    source = manifest(
        tmp_path,
        "\ufeffPath\tURL\tgenome\tSHA256\tmd5\tsize\tspecies\tNote",
        "in/GCF_000005845.2_x_genomic.fna\t.\t\t\t\t\tEscherichia coli\tx\r",
        "",
        f"{other}\t\tmine\t{digest.upper()}\t{'0' * 32}\t8\t.",
        "gone.fna\thttps://a.org/GCA_1.1/download?x=1\t\t\t\t\tY",
        f"\tftp://ftp.ncbi.nlm.nih.gov/genomes/b.fna.gz\t\t{digest}",
    )
    files = find_genomes(source)
    assert files == [
        GenomeFile(
            tmp_path / "in" / "GCF_000005845.2_x_genomic.fna",
            None,
            "GCF_000005845.2",
            metadata={"species": "Escherichia coli", "Note": "x"},
        ),
        GenomeFile(other, None, "mine", digest, "0" * 32, 8),
        GenomeFile(None, "https://a.org/GCA_1.1/download?x=1", "GCA_1.1", metadata={"species": "Y"}),
        GenomeFile(None, "https://ftp.ncbi.nlm.nih.gov/genomes/b.fna.gz", "b", digest),
    ]
    assert files[1].place == f"{source}, line 4"


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([], "neither a column path"),
        (["genome\tspecies", "a\tb"], "line 1: .*neither a column path nor a column url"),
        (["a.fna", "b.fna"], "line 1: .*neither a column path"),
        (["path\tPATH", "a\tb"], "line 1: the column 'path' occurs twice"),
        (["path\t", "a\tb"], "line 1: a column has no name"),
        (["path"], "lists no genome"),
        (["path", "a.fna\tx"], "line 2: 2 fields, the header has 1"),
        (["path\tgenome", "a.fna", "\tg"], "line 3: the genome has neither a path nor a URL"),
        (["path", "a.fna", "", "none.fna"], "line 4: the file .*none.fna does not exist"),
        (["path", "folder"], "line 2: the file .*folder is a folder"),
        (["path\tgenome", "a.fna\tx", "b.fna\tx"], "line 3: the genome 'x' has two files"),
        (["path\tgenome", "a.fna\tx", "a.fna\ty"], "line 3: .*a.fna is the file of two genomes, 'x' and 'y'"),
        (["path\tmd5", f"a.fna\t{'0' * 31}"], "line 2: '0{31}' is not a md5"),
        (["path\tsha256", f"a.fna\t{'g' * 64}"], "line 2: 'g{64}' is not a sha256"),
        (["path\tsize", "a.fna\t-1"], "line 2: '-1' is not a size"),
        (["path\tsize", "a.fna\t٣"], "line 2: '٣' is not a size"),
        (["url", "ftp://a.org/x.fna"], "line 2: 'ftp://a.org/x.fna' is not a URL of http or https"),
        (["url", "a.fna"], "line 2: 'a.fna' is not a URL"),
        (["url", "http://[a/x.fna"], "line 2: .* is not a URL"),
        (["path", "a.fna\x00"], "line 2: the file is not text"),
    ],
)
def test_what_is_wrong_in_a_manifest_is_told_with_its_line(
    tmp_path: Path, rows: list[str], says: str
) -> None:
    put(tmp_path / "a.fna")
    put(tmp_path / "b.fna")
    (tmp_path / "folder").mkdir()
    with pytest.raises(
        InputError, match=f"m.tsv(, |: ){says}" if says.startswith("line") else says
    ) as caught:
        find_genomes(manifest(tmp_path, *rows))
    assert "\n" not in str(caught.value)


def test_a_manifest_in_another_encoding_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not UTF-8"):
        find_genomes(put(tmp_path / "m.tsv", "path\tspecies\na.fna\tÄ".encode("latin-1")))


FIELD = st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r\x00"), max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=8))
def test_metadata_come_through_as_they_are(tmp_path: Path, values: list[tuple[str, str]]) -> None:
    rows = [f"https://a.org/{at}.fna\t{one}\t{two}" for at, (one, two) in enumerate(values)]
    files = find_genomes(manifest(tmp_path, "url\tone\tTwo", *rows))
    for file, (one, two) in zip(files, values, strict=True):
        told = {"one": one.strip(), "Two": two.strip()}
        assert file.metadata == {key: value for key, value in told.items() if value not in ("", ".")}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=200), st.text(string.printable, max_size=200).map(str.encode)))
def test_whatever_the_bytes_there_is_a_list_or_one_line(tmp_path: Path, data: bytes) -> None:
    for data_ in (data, b"path\turl\tsize\n" + data):
        try:
            said = find_genomes(put(tmp_path / "m.tsv", data_))[0].genome
        except InputError as error:
            said = str(error)
        assert said
        assert "\n" not in said


def package(root: Path) -> list[str]:
    """An NCBI Datasets package of two genomes, as `datasets download genome` and unzip leave it."""
    data = root / "ncbi_dataset" / "data"
    reports, sums = [], []
    told = (("GCF_000005845.2", 511145, "Escherichia coli"), ("GCA_000008885.1", 36870, "Wigglesworthia"))
    for accession, taxid, organism in told:
        genome = put(data / accession / f"{accession}_ASM1v1_genomic.fna", f">{accession}\nACGT\n".encode())
        put(data / accession / "cds_from_genomic.fna")
        put(data / accession / "genomic.gff")
        reports.append(
            {
                "accession": accession,
                "assemblyInfo": {"assemblyLevel": "Complete Genome", "assemblyName": "ASM1v1"},
                "organism": {
                    "infraspecificNames": {"strain": "K-12"} if taxid == 511145 else {},
                    "organismName": organism,
                    "taxId": taxid,
                },
            }
        )
        digest = hashlib.md5(genome.read_bytes()).hexdigest()
        sums.append(f"{digest}  {genome.relative_to(root)}")
    put(data / "assembly_data_report.jsonl", "".join(json.dumps(one) + "\n" for one in reports).encode())
    put(data / "dataset_catalog.json", b"{}")
    put(root / "md5sum.txt", "".join(f"{line}\n" for line in sums).encode())
    put(root / "README.md", b"NCBI")
    return [line[:32] for line in sums]


def test_a_package_of_ncbi_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coli, wiggle = package(tmp_path / "one")
    files = find_genomes(tmp_path)
    assert {file.genome: (file.md5, file.metadata) for file in files} == {
        "GCF_000005845.2": (
            coli,
            {
                "organism": "Escherichia coli",
                "taxid": "511145",
                "strain": "K-12",
                "assembly_level": "Complete Genome",
            },
        ),
        "GCA_000008885.1": (
            wiggle,
            {"organism": "Wigglesworthia", "taxid": "36870", "assembly_level": "Complete Genome"},
        ),
    }
    # From wherever one looks, and with relative paths.
    for inside in (
        "one",
        "one/ncbi_dataset",
        "one/ncbi_dataset/data",
        "one/ncbi_dataset/data/GCA_000008885.1",
    ):
        monkeypatch.chdir(tmp_path / inside)
        again = [(file.genome, file.md5, file.metadata) for file in find_genomes(".")]
        first = [(file.genome, file.md5, file.metadata) for file in files]
        assert again == (first[:1] if inside.endswith(".1") else first)
    for file in files:
        assert file.path is not None
        assert verify_genome(file) == hashlib.sha256(file.path.read_bytes()).hexdigest()
    assert files[0].path is not None
    files[0].path.write_bytes(b">x\nACCT\n")
    with pytest.raises(InputError, match=f"the md5 is .*, expected {wiggle}"):
        verify_genome(files[0])


def test_a_package_that_is_not_rehydrated_is_told(tmp_path: Path) -> None:
    package(tmp_path)
    data = tmp_path / "ncbi_dataset" / "data"
    listed = sorted(data.glob("*/*.fna"))
    lines = [
        f"https://api.ncbi.nlm.nih.gov/x/{n}\t9\tdata/{one.parent.name}/{one.name}"
        for n, one in enumerate(listed)
    ]
    put(tmp_path / "ncbi_dataset" / "fetch.txt", ("\n".join(lines) + "\n").encode())
    assert len(find_genomes(tmp_path)) == 2
    genome = next(data.glob("GCF*/*_genomic.fna"))
    packed = put(genome.with_name(f"{genome.name}.gz"), gzip.compress(genome.read_bytes()))
    genome.unlink()
    assert [file.path for file in find_genomes(tmp_path)][1] == packed
    packed.unlink()
    with pytest.raises(
        InputError, match=f"1 files of the package .* datasets rehydrate --directory {tmp_path}"
    ):
        find_genomes(tmp_path)


@pytest.mark.parametrize("name", ["md5sum.txt", "ncbi_dataset/data/assembly_data_report.jsonl"])
@pytest.mark.parametrize("line", [b"half a li", b'"text"', b"{}", b"[1]", b"\xff\xfe"])
def test_a_damaged_package_is_one_line(tmp_path: Path, name: str, line: bytes) -> None:
    package(tmp_path)
    put(tmp_path / name, (tmp_path / name).read_bytes() + line)
    with pytest.raises(InputError, match=Path(name).name) as caught:
        find_genomes(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("middle", ["database/", ""])
@pytest.mark.parametrize("packed", [False, True])
def test_the_tree_of_gtdb(tmp_path: Path, middle: str, packed: bool) -> None:
    reps = tmp_path / "gtdb_genomes_reps_r226"
    put(reps / f"{middle}GCA/000/008/885/GCA_000008885.1_genomic.fna.gz")
    put(reps / f"{middle}GCF/000/005/845/GCF_000005845.2_genomic.fna.gz")
    put(reps / f"{middle}GCF/000/001/001/GCF_000001001.1_genomic.fna.gz")
    put(reps / "genome_paths.tsv", b"GCA_000008885.1_genomic.fna.gz GCA/000/008/885/\n")
    bacteria = f"RS_GCF_000005845.2\t{COLI}\nGB_GCA_999999999.9\t{COLI}\n".encode()
    archaea = b"GB_GCA_000008885.1\td__Archaea;p__;c__;o__;f__;g__;s__\n"
    end, pack = (".tsv.gz", gzip.compress) if packed else (".tsv", bytes)
    put(tmp_path / f"bac120_taxonomy_r226{end}", pack(bacteria))
    put(tmp_path / f"ar53_taxonomy_r226{end}", pack(archaea))
    notes: list[str] = []
    for folder in (tmp_path, reps):
        files = find_genomes(folder, log=notes.append)
        assert {file.genome: file.metadata for file in files} == {
            "GCA_000008885.1": {"domain": "Archaea"},
            "GCF_000005845.2": {**RANKS, "species": "Escherichia coli"},
            "GCF_000001001.1": {},
        }
    assert all(note.startswith("2 of 3 genomes have a lineage") for note in notes)


def test_a_table_of_gtdb_from_elsewhere(tmp_path: Path) -> None:
    put(tmp_path / "in" / "GCF_000005845.2_genomic.fna")
    put(tmp_path / "in" / "bac120_taxonomy.tsv", b"RS_GCF_000005845.2\td__Archaea\n")
    table = put(tmp_path / "any.tsv", f"RS_GCF_000005845.2\t{COLI}\n".encode())
    source = manifest(tmp_path, "path\tgenus\tnote", "in/GCF_000005845.2_genomic.fna\tSalmonella\tx")
    ranks = {**RANKS, "species": "Escherichia coli"}
    assert [one.metadata for one in find_genomes(tmp_path / "in", taxonomy=[table])] == [ranks]
    assert [one.metadata for one in find_genomes(source, taxonomy=[table])] == [ranks | {"note": "x"}]
    assert is_taxonomy(table)
    for other in (
        source,
        tmp_path,
        tmp_path / "none",
        put(tmp_path / "e.tsv", b""),
        put(tmp_path / "f", b"\xff\tb"),
    ):
        assert not is_taxonomy(other)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("RS_GCF_000005845.2\tnone", "line 2: the lineage 'none'"),
        ("RS_GCF_000005845.2", "line 2: 1 fields"),
        (f"RS_GCF_000005845.2\t{LINEAGE}g__;s__", "line 2: the genome GCF_000005845.2 has another lineage"),
    ],
)
def test_a_damaged_taxonomy_is_told_with_its_line(tmp_path: Path, line: str, says: str) -> None:
    put(tmp_path / "GCF_000005845.2_genomic.fna")
    put(tmp_path / "bac120_taxonomy_r226.tsv", f"RS_GCF_000005845.2\t{COLI}\n{line}\n".encode())
    with pytest.raises(InputError, match=f"bac120_taxonomy_r226.tsv, {says}"):
        find_genomes(tmp_path)


def test_sums_of_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not here yet"):
        verify_genome(GenomeFile(None, "https://a.org/x.fna", "x"))
    with pytest.raises(InputError, match="cannot be read"):
        verify_genome(GenomeFile(tmp_path / "x.fna", None, "x"))
    with pytest.raises(InputError, match="the size is 8 bytes, expected 9"):
        verify_genome(GenomeFile(put(tmp_path / "x.fna"), None, "x", size=9))


def test_from_a_manifest_of_urls_to_genomes_that_are_here(tmp_path: Path) -> None:
    put(tmp_path / "here.fna")
    body = gzip.compress(FASTA)
    with serving(**{"there.fna.gz": Page(body)}) as web:
        row = f"\t{web.url}/there.fna.gz\t{hashlib.md5(body).hexdigest()}\tEscherichia coli"
        source = manifest(tmp_path, "path\turl\tmd5\tspecies", row, "here.fna")
        there, here = fetch(find_genomes(source), tmp_path / "to")
    assert (there.genome, there.metadata) == ("there", {"species": "Escherichia coli"})
    assert verify_genome(there) == hashlib.sha256(body).hexdigest()
    assert (here.genome, here.path) == ("here", tmp_path / "here.fna")
