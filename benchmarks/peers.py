"""How well do other tools find the kin of a benchmark's queries? Their best answers, scored as kinmer's.

    kinmer fragment --benchmark GENOMES/*.fna.gz --labels GENOMES/genomes.tsv -o BENCH
    python benchmarks/peers.py BENCH [BENCH …] [--tools minimap2,blast] [--json FILE]

The database's pieces are a tool's references. Its best answer to every query counts; no answer is a wrong
one. Tools that are not installed are passed over: minimap2, ncbi-blast+, mash and kraken2 come from the
system's packages, sourmash and vamb from PyPI. `--sourmash-python` and `--vamb-python` name the interpreters
of the environments that these two live in, so that they need not share kinmer's.

`blastn` (words of 11 letters) takes hours for a whole benchmark and is left out unless it is asked for:
`--tools blast,blastn --every 50` compares the two on every 50th query.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import peers_answers as answers
from peers_bench import Bench, read_bench
from peers_kraken import write_library
from peers_run import Result, Step, Tool, ToolError, run_tool
from peers_scores import machine, score, tables, write_json

from kinmer.resources import available_cores

HERE = Path(__file__).resolve().parent

# What is run, and why so. {database} and {queries} are plain FASTA whose records are called by their numbers.
TOOLS = {
    # 15-mers, as for reads with errors: kin differ more than asm20's 19-mers and sr's 21-mers bear, and the
    # queries of all lengths are contigs, not short reads. -c aligns base by base; the best score answers.
    "minimap2": Tool(
        version="minimap2 --version",
        steps=(
            Step("index", "minimap2 -x map-ont -t {threads} -d {work}/index.mmi {database}"),
            Step("search", "minimap2 -x map-ont -c -t {threads} -N 5 {work}/index.mmi {queries}", "hits"),
        ),
        index="index.mmi",
        read=answers.from_paf,
    ),
    # Words of 16 letters instead of megablast's 28, which long exact matches only begin. -max_target_seqs is
    # far above the one answer that is used, because BLAST prunes by it before it knows the final scores.
    "blast": Tool(
        version="blastn -version",
        steps=(
            Step("index", "makeblastdb -dbtype nucl -in {database} -out {work}/index"),
            Step(
                "search",
                "blastn -task megablast -word_size 16 -evalue 1e-3 -max_target_seqs 50 -max_hsps 1"
                " -outfmt '6 qseqid sseqid bitscore'"
                " -num_threads {threads} -db {work}/index -query {queries}",
                "hits",
            ),
        ),
        index="index.n*",
        read=answers.from_blast,
    ),
    # The most sensitive search of nucleotides: words of 11 letters. Too slow for a whole benchmark.
    "blastn": Tool(
        version="blastn -version",
        steps=(
            Step("index", "makeblastdb -dbtype nucl -in {database} -out {work}/index"),
            Step(
                "search",
                "blastn -task blastn -evalue 1e-3 -max_target_seqs 50 -max_hsps 1"
                " -outfmt '6 qseqid sseqid bitscore'"
                " -num_threads {threads} -db {work}/index -query {queries}",
                "hits",
            ),
        ),
        index="index.n*",
        read=answers.from_blast,
    ),
    # A tenth of all 21-mers, some 100 of a query of 1 kb (sourmash's default keeps one of them). The piece
    # that shares most of a query's hashes answers: containment, since a query is shorter than a piece.
    "sourmash": Tool(
        version="{python} -c 'import sourmash; print(sourmash.VERSION)'",
        steps=(
            Step(
                "index", "{python} {here}/peers_sourmash.py sketch -k 21 --scaled 10 {database} {work}/index"
            ),
            Step(
                "search",
                "{python} {here}/peers_sourmash.py search -k 21 --scaled 10 {queries} {work}/index",
                "hits",
            ),
        ),
        index="index.*",
        read=answers.from_pairs,
    ),
    # Sketches of 1,000 hashes, all 21-mers of a query of 1 kb; the least distance answers. Mash compares
    # whole against whole, so a query much shorter than a piece (100 kb) shares few hashes with it.
    "mash": Tool(
        version="mash --version",
        steps=(
            Step("index", "mash sketch -i -k 21 -s 1000 -p {threads} -o {work}/index {database}"),
            Step("sketch", "mash sketch -i -k 21 -s 1000 -p {threads} -o {work}/queries {queries}"),
            Step("search", "mash dist -p {threads} -d 0.5 {work}/index.msh {work}/queries.msh", "hits"),
        ),
        index="index.msh",
        read=answers.from_mash,
    ),
    # Defaults (35-mers, minimizers of 31), no confidence asked for. Its taxonomy are the labels' ranks, so
    # it answers with a species or, where species share a k-mer, with a rank above. One thread builds: more
    # either wait for each other or, with --fast-build, do not give the same database twice.
    "kraken2": Tool(
        version="kraken2 --version",
        prepare=write_library,
        steps=(
            Step("library", "kraken2-build --db {work}/kraken --add-to-library {work}/library.fna"),
            Step("index", "kraken2-build --db {work}/kraken --build --threads 1"),
            Step("search", "kraken2 --db {work}/kraken --threads {threads} {queries}", "hits"),
        ),
        index="kraken/*.k2d",
        read=answers.from_kraken,
    ),
    # VAMB's composition alone: 103 projected tetranucleotide frequencies, each scaled by the database's mean
    # and spread as VAMB does before training; the nearest piece by Euclidean distance answers.
    "vamb-tnf": Tool(
        version="{python} -c 'import vamb; print(vamb.__version_str__)'",
        steps=(
            Step("index", "{python} {here}/peers_vamb.py embed {database} {work}/index.npy"),
            Step("search", "{python} {here}/peers_vamb.py search {queries} {work}/index.npy", "hits"),
        ),
        index="index.npy",
        read=answers.from_pairs,
    ),
}
DEFAULT = [name for name in TOOLS if name != "blastn"]


def run(bench: Bench, names: list[str], pythons: dict[str, str], threads: int) -> dict[str, Result]:
    """Every tool's answers to one benchmark; those that fail or are absent say so and are left out."""
    found = {}
    for name in names:
        facts = {"python": pythons.get(name, sys.executable), "here": str(HERE), "threads": str(threads)}
        with tempfile.TemporaryDirectory(prefix="peers-") as work:
            try:
                found[name] = run_tool(TOOLS[name], bench, Path(work), facts)
            except ToolError as error:
                print(f"{name}: {error}", file=sys.stderr)
                continue
        spent = sum(step.wall for step in found[name].steps.values())
        print(f"{name}: {spent:.0f} s", file=sys.stderr)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmarks", nargs="+", type=Path, metavar="BENCH")
    parser.add_argument("--tools", default=",".join(DEFAULT), help=f"of {', '.join(TOOLS)}")
    parser.add_argument("--sourmash-python", default=sys.executable, help="interpreter that has sourmash")
    parser.add_argument("--vamb-python", default=sys.executable, help="interpreter that has vamb")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--every", type=int, default=1, help="ask only every so many-th query")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--json", type=Path, help="write all scores and costs here too")
    args = parser.parse_args()
    names = args.tools.split(",")
    if unknown := set(names) - set(TOOLS):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}")
    pythons = {"sourmash": args.sourmash_python, "vamb-tnf": args.vamb_python}
    found: list[dict[str, Result]] = []
    benches: list[Bench] = []
    for folder in args.benchmarks:
        with tempfile.TemporaryDirectory(prefix="peers-") as plain:
            bench = read_bench(folder, Path(plain), args.every)
            found.append(run(bench, names, pythons, args.threads))
        benches.append(replace(bench, folder=folder))
    able = [name for name in names if all(name in one for one in found)]
    if not able:
        parser.exit(1, "no tool has answered\n")
    scores = score(benches, found, able, args.bootstrap, args.seed)
    facts = machine(args.threads)
    print(tables(scores, found, able, facts))
    if args.json is not None:
        write_json(args.json, scores, found, able, facts)


if __name__ == "__main__":
    main()
