"""How the tools of `side_by_side.py` are used: their command lines, and what they need beside the FASTA.

{folder} holds a draw (see `side_by_side_draw.write_draw`), {work} is the tool's own folder.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import side_by_side_answers as answers
from peers_kraken import Taxonomy, write_nodes
from peers_run import Step
from side_by_side_answers import Known, Reader
from side_by_side_draw import RANKS

from kinmer.fasta import read_records


@dataclass(frozen=True)
class Variant:
    """One way to ask a tool: steps beside the build, and how the file ``hits`` in `output` is read."""

    steps: tuple[str, ...]
    output: str
    read: Reader


@dataclass(frozen=True)
class Peer:
    """How a tool is used.

    prepare : what is not measured. build : steps that make the index. searches : by name, steps of the
    search. variants : by the name in the tables, what is asked. index : files of the index.
    """

    version: str
    build: tuple[Step, ...]
    searches: Mapping[str, Step]
    variants: Mapping[str, Variant]
    index: tuple[str, ...]
    prepare: Callable[[Path, Known, Path], None] | None = None


def _kraken(folder: Path, known: Known, work: Path) -> None:
    """A library with a taxid in every header, and the taxonomy."""
    write_nodes(known.taxonomy, work / "kraken" / "taxonomy")
    taxids = dict(zip(known.table["sequence_id"], known.taxonomy.leaves, strict=True))
    with (work / "library.fna").open("wb") as file:
        for name, letters in read_records(folder / "references.fna"):
            file.write(b">%b|kraken:taxid|%d\n%b\n" % (name.encode(), taxids[name], letters))


def _mmseqs(folder: Path, known: Known, work: Path) -> None:
    """The taxonomy as NCBI's dump, and the taxid of every sequence."""
    taxonomy: Taxonomy = known.taxonomy
    write_nodes(taxonomy, work / "taxonomy")
    for name in ("merged.dmp", "delnodes.dmp"):
        (work / "taxonomy" / name).touch()
    pairs = zip(known.table["sequence_id"], taxonomy.leaves, strict=True)
    (work / "mapping.tsv").write_text("".join(f"{name}\t{taxid}\n" for name, taxid in pairs))


def _sourmash(folder: Path, known: Known, work: Path) -> None:
    """The lineages of the genomes, and which sequences a genome has."""
    genomes = known.table.drop_duplicates("genome_id")
    with (work / "lineages.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ident", "superkingdom", *RANKS[1:]])
        writer.writerows(genomes[["genome_id", *RANKS]].itertuples(index=False, name=None))
    known.table[["sequence_id", "genome_id"]].to_csv(
        work / "genomes.tsv", sep="\t", index=False, header=False
    )


def _kraken_search(name: str, options: str) -> Step:
    return Step(name, f"kraken2 --db {{work}}/kraken --threads {{threads}} {options} {{queries}}", name)


def _sourmash_tax(name: str, options: str) -> Step:
    return Step(
        name,
        "{sourmash} tax genome -g {work}/gather.csv -t {work}/lineages.csv --keep-full-identifiers"
        f" --keep-identifier-versions {options} -F csv_summary -o {{work}}/{name}",
    )


def _kinmer(label: str, build: str, search: str) -> Peer:
    """kinmer with an encoder that has seen no genus of the draw."""
    return Peer(
        version="{kinmer} --version",
        build=(
            Step(
                "index",
                "{kinmer} index {folder}/references.fna --metadata {folder}/references.tsv"
                f" --encoder {{encoder}} {build} -o {{work}}/kin.db --threads {{threads}}",
            ),
        ),
        searches={
            "search": Step(
                "search",
                "{kinmer} search {queries} --db {work}/kin.db --by genome -k 1 --format jsonl"
                f" {search} --threads {{threads}}",
                "hits",
            )
        },
        variants={label: Variant(("search",), "hits", answers.from_kinmer)},
        index=("kin.db/**/*",),
    )


_SKETCH = "{sourmash_python} {here}/side_by_side_sourmash.py"

PEERS: Mapping[str, Peer] = {
    # All else by default; and with alignment, which needs the letters.
    "kinmer": _kinmer("kinmer", "", ""),
    "kinmer-evidence": _kinmer("kinmer, evidence", "--keep-sequences", "--evidence --rank-by-evidence"),
    # Defaults (35-mers, minimizers of 31); and 0.2 of the k-mers must agree, which studies of the
    # threshold recommend for large databases. One thread builds, as in `peers.py`.
    "kraken2": Peer(
        version="kraken2 --version",
        prepare=_kraken,
        build=(
            Step("library", "kraken2-build --db {work}/kraken --add-to-library {work}/library.fna"),
            Step("index", "kraken2-build --db {work}/kraken --build --threads 1"),
        ),
        searches={
            "plain": _kraken_search("plain", ""),
            "confident": _kraken_search("confident", "--confidence 0.2"),
        },
        variants={
            "Kraken2": Variant(("plain",), "plain", answers.from_kraken),
            "Kraken2, confidence .2": Variant(("confident",), "confident", answers.from_kraken),
        },
        index=("kraken/*.k2d",),
    ),
    # Nucleotides against nucleotides, all else by default: approximate 2bLCA.
    "mmseqs": Peer(
        version="mmseqs version",
        prepare=_mmseqs,
        build=(
            Step("index", "mmseqs createdb {folder}/references.fna {work}/references"),
            Step(
                "taxonomy",
                "mmseqs createtaxdb {work}/references {work}/tmp --ncbi-tax-dump {work}/taxonomy"
                " --tax-mapping-file {work}/mapping.tsv",
            ),
        ),
        searches={
            "queries": Step("queries", "mmseqs createdb {queries} {work}/queries"),
            "search": Step(
                "search",
                "mmseqs taxonomy {work}/queries {work}/references {work}/result {work}/tmp"
                " --search-type 3 --threads {threads}",
            ),
            "table": Step("table", "mmseqs createtsv {work}/queries {work}/result {work}/hits"),
        },
        variants={"MMseqs2 taxonomy": Variant(("queries", "search", "table"), "hits", answers.from_mmseqs)},
        index=("references*",),
    ),
    # Words of 16 letters, as in `peers.py`: megablast's 28 only begin long exact matches.
    "blast": Peer(
        version="blastn -version",
        build=(Step("index", "makeblastdb -dbtype nucl -in {folder}/references.fna -out {work}/index"),),
        searches={
            "search": Step(
                "search",
                "blastn -task megablast -word_size 16 -evalue 1e-3 -max_target_seqs 50 -max_hsps 1"
                " -outfmt '6 qseqid sseqid pident bitscore'"
                " -num_threads {threads} -db {work}/index -query {queries}",
                "hits",
            )
        },
        variants={
            "megablast, best hit": Variant(("search",), "hits", answers.from_blast),
            "megablast, LCA and 95 %": Variant(("search",), "hits", answers.from_blast_lca),
        },
        index=("index.n*",),
    ),
    # The preset for sequences that differ by some percent; a species from an identity of 90 or of 95 %.
    "minimap2": Peer(
        version="minimap2 --version",
        build=(Step("index", "minimap2 -x asm20 -t {threads} -d {work}/index.mmi {folder}/references.fna"),),
        searches={
            "search": Step(
                "search",
                "minimap2 -x asm20 -c -t {threads} {work}/index.mmi {queries}",
                "hits",
            )
        },
        variants={
            f"minimap2, LCA and {round(100 * same)} %": Variant(
                ("search",), "hits", partial(answers.from_minimap, same=same)
            )
            for same in (0.9, 0.95)
        },
        index=("index.mmi",),
    ),
    # A twentieth of all 21-mers, some 50 of a query of 1 kb; a sketch for every genome. Its default of a
    # thousandth would keep one.
    "sourmash": Peer(
        version="{sourmash_python} -c 'import sourmash; print(sourmash.VERSION)'",
        prepare=_sourmash,
        build=(
            Step(
                "index",
                f"{_SKETCH} sketch -k 21 --scaled 20 {{folder}}/references.fna {{work}}/references.zip"
                " --genomes {work}/genomes.tsv",
            ),
        ),
        searches={
            "gather": Step(
                "gather",
                f"{_SKETCH} gather -k 21 --scaled 20 {{queries}} {{work}}/references.zip"
                " --output {work}/gather.csv",
            ),
            "tax": _sourmash_tax("contained", ""),
            "tax-ani": _sourmash_tax("ani", "--ani-threshold 0.95"),
        },
        variants={
            "sourmash, containment .1": Variant(
                ("gather", "tax"), "contained.classifications.csv", answers.from_sourmash
            ),
            "sourmash, ANI .95": Variant(
                ("gather", "tax-ani"), "ani.classifications.csv", answers.from_sourmash
            ),
        },
        index=("references.zip",),
    ),
}
