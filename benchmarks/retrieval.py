"""Which encoder finds the right species among real genomes?

Of every species with two or more genomes in a labelled collection, fragments of one genome are queries; the
pieces (up to 100 kb) of all other genomes are the database. Printed: how often the nearest piece is of the
same species, the same genus and the same genome cluster (``ani95_cluster``), by query length, for raw CLR
profiles and for every encoder given, with 95 % bootstrap intervals over the query genomes.

    python benchmarks/retrieval.py GENOMES [--encoder DIR ...] [--kind cells|viruses|all] [--per-length 12]
    python benchmarks/retrieval.py GENOMES --write-training-fasta train.fna

GENOMES is a folder of FASTA files with a ``genomes.tsv`` (columns sequence_id, file, genome_id, species,
genus, domain, ani95_cluster). For an honest figure an encoder must not have seen the queried species:
``--write-training-fasta`` writes the sequences of all genomes that share neither species nor cluster with a
query, and their labels beside them.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.encoder import Encoder
from kinmer.evaluate.neighbours import nearest
from kinmer.evaluate.retrieval import agreement
from kinmer.fasta import read_records
from kinmer.index import build_index
from kinmer.kmers import KmerCounter
from kinmer.layout import Layout, kmer_layout

LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)
LABELS = ("species", "genus", "ani95_cluster")
PIECE = 100_000
COMPLEMENT = bytes.maketrans(b"ACGT", b"TGCA")
RAW = {
    "raw, joint CLR 1e-6": REFERENCE_CLR,
    "raw, CLR per k 0.5/n": Clr(scope="block", pseudocount="relative", value=0.5),
}
Metric = Literal["cosine", "l2"]
METRICS: tuple[Metric, ...] = ("cosine", "l2")


@dataclass
class Profiled:
    """Counted sequences with their labels; `table` has a row for each."""

    counts: NDArray[np.uint32]
    table: pd.DataFrame


def split(genomes: pd.DataFrame, kind: str, seed: int) -> tuple[set[str], set[str]]:
    """Query genomes and database genomes: of every species with two or more, one is the query."""
    if kind != "all":
        genomes = genomes[(genomes.domain == "Viruses") == (kind == "viruses")]
    alone = genomes.drop_duplicates("genome_id")
    rng = np.random.default_rng(seed)
    queries = set()
    for _, members in alone[alone.species != ""].groupby("species", sort=True):
        if len(members) > 1:
            queries.add(str(rng.choice(sorted(members.genome_id))))
    return queries, set(alone.genome_id) - queries


def pieces(sequence: bytes) -> Iterator[tuple[int, bytes]]:
    """A sequence in equal pieces of at most PIECE bases."""
    number = -(-len(sequence) // PIECE)
    edges = np.linspace(0, len(sequence), number + 1).astype(int)
    for start, end in pairwise(edges):
        yield int(start), sequence[start:end]


def fragments(sequences: list[bytes], length: int, number: int, seed: int) -> Iterator[bytes]:
    """Up to `number` random fragments of a genome, on a random strand, with at most 5 % of other letters."""
    rng = np.random.default_rng([seed, length])
    room = np.array([max(len(one) - length + 1, 0) for one in sequences])
    # Sequences that hold less than `number` fragments side by side would only repeat themselves.
    number = min(number, int(sum(len(one) // length for one in sequences)))
    for _ in range(number if room.sum() else 0):
        which = int(rng.choice(room.size, p=room / room.sum()))
        start = int(rng.integers(room[which]))
        cut = sequences[which][start : start + length]
        if sum(cut.count(letter) for letter in (b"A", b"C", b"G", b"T")) >= 0.95 * length:
            yield cut if rng.random() < 0.5 else cut.translate(COMPLEMENT)[::-1]


def read_genome(folder: Path, rows: pd.DataFrame) -> dict[str, bytes]:
    """Sequences of one genome by id."""
    wanted = set(rows.sequence_id)
    found: dict[str, bytes] = {}
    for file in sorted(set(rows.file)):
        found |= {name: sequence for name, sequence in read_records(folder / file) if name in wanted}
    return found


def profile(
    folder: Path, genomes: pd.DataFrame, args: argparse.Namespace, layout: Layout
) -> tuple[Profiled, Profiled]:
    """Count the database's pieces and the queries' fragments."""
    queried, kept = split(genomes, args.kind, args.seed)
    counter = KmerCounter(layout, threads=args.threads)
    counts: dict[bool, list[NDArray[np.uint32]]] = {True: [], False: []}
    rows: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
    chosen = sorted(queried | kept)
    for number, (genome, members) in enumerate(genomes[genomes.genome_id.isin(chosen)].groupby("genome_id")):
        first = members.iloc[0]
        labels = {name: first[name] for name in ("genome_id", "domain", *LABELS)}
        sequences = read_genome(folder, members)
        cut: list[bytes] = []
        query = genome in queried
        if query:
            for length in LENGTHS:
                made = list(fragments(list(sequences.values()), length, args.per_length, args.seed + number))
                cut += made
                rows[True] += [{**labels, "length": length} for _ in made]
        else:
            for name, sequence in sequences.items():
                for start, piece in pieces(sequence):
                    if len(piece) >= 1_000:
                        cut.append(piece)
                        rows[False].append({**labels, "length": len(piece), "id": f"{name}:{start}"})
        if cut:
            counts[query].append(counter.count_sequences(cut).counts)
    return tuple(  # type: ignore[return-value]
        Profiled(np.concatenate(counts[query]), pd.DataFrame(rows[query])) for query in (False, True)
    )


def nearest_raw(
    clr: Clr, layout: Layout, base: Profiled, asked: Profiled, metric: Metric
) -> NDArray[np.int64]:
    """Nearest database row of every query in CLR space, exactly."""
    mine, theirs = (np.asarray(clr(one.counts, layout), np.float32) for one in (asked, base))
    new = len(theirs) + np.arange(len(mine))
    return nearest(mine, theirs, new, np.arange(len(theirs)), 1, metric)[0][:, 0]


def nearest_embedded(
    encoder: Encoder, base: Profiled, asked: Profiled, metric: Metric, engine: str
) -> NDArray[np.int64]:
    """Nearest entry of a real index on the encoder's vectors."""
    blocks, sizes = encoder.layout.blocks, [block.size for block in encoder.layout.blocks]
    ks = np.repeat([block.k for block in blocks], sizes)
    names = np.repeat([block.name for block in blocks], sizes)
    var = pd.DataFrame({"k": ks, "block": names}, index=list(encoder.layout.features))
    obs = base.table[["length"]].set_index(pd.Index(base.table.id))
    table = AnnData(X=base.counts, obs=obs, var=var)
    with tempfile.TemporaryDirectory() as folder:
        index = build_index(table, Path(folder) / "kin.db", encoder=encoder, engine=engine, metric=metric)
        labels, _ = index.search(encoder.embed(asked.counts), 1)
    return np.asarray(labels)[:, 0]


def score(name: str, found: NDArray[np.int64], base: Profiled, asked: Profiled) -> list[dict[str, Any]]:
    """Rows of the result table: a label and a length each."""
    told = []
    for length, group in asked.table.groupby("length"):
        hits = base.table.iloc[found[group.index]]
        for label in LABELS:
            share, number = agreement(list(group[label]), list(hits[label]), list(group.genome_id))
            told.append(
                {
                    "method": name,
                    "length": length,
                    "label": label,
                    "queries": number,
                    "genomes": group.genome_id.nunique(),
                }
                | {"share": share.value, "low": share.low, "high": share.high}
            )
    return told


def show(rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table for every label."""
    table = pd.DataFrame(rows)
    for label in LABELS:
        part = table[table.label == label]
        lengths = sorted(part.length.unique())
        print(f"\nnearest is of the same {label}\n")
        print("| | " + " | ".join(f"{length // 1000} kb" for length in lengths) + " |")
        print("| --- |" + " --- |" * len(lengths))
        for method in dict.fromkeys(part.method):
            one = part[part.method == method].set_index("length")
            cells = []
            for length in lengths:
                row = one.loc[length]
                cells.append("-" if pd.isna(row.share) else f"{row.share:.2f} ({row.low:.2f}-{row.high:.2f})")
            print(f"| {method} | " + " | ".join(cells) + " |")
        print("| *queries* | " + " | ".join(str(one.loc[length].queries) for length in lengths) + " |")


def write_training(folder: Path, genomes: pd.DataFrame, queried: set[str], output: Path, kind: str) -> None:
    """FASTA of all genomes that share neither species nor cluster with a query genome, and their labels."""
    asked = genomes[genomes.genome_id.isin(queried)]
    shared = genomes.species.isin(set(asked.species)) | genomes.ani95_cluster.isin(set(asked.ani95_cluster))
    free = genomes[~shared]
    if kind != "all":
        free = free[(free.domain == "Viruses") == (kind == "viruses")]
    with output.open("wb") as file:
        for _, members in free.groupby("genome_id"):
            for name, sequence in read_genome(folder, members).items():
                lines = (sequence[at : at + 80] for at in range(0, len(sequence), 80))
                file.write(b">" + name.encode() + b"\n" + b"\n".join(lines) + b"\n")
    labels = output.with_name(f"{output.name}.tsv")
    free.to_csv(labels, sep="\t", index=False)
    print(f"{free.genome_id.nunique()} genomes, {len(free)} sequences: {output}, labels: {labels}")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument(
        "--encoder", type=Path, action="append", default=[], help="an encoder's folder; repeatable"
    )
    parser.add_argument("--kind", choices=("cells", "viruses", "all"), default="cells")
    parser.add_argument(
        "--per-length", type=int, default=12, help="fragments of every query genome and length"
    )
    parser.add_argument("--species", type=int, help="only the first N species with two genomes (a trial)")
    parser.add_argument("--engine", default="exact")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    parser.add_argument("--write-training-fasta", type=Path, metavar="FASTA")
    return parser.parse_args()


def main() -> None:
    args = arguments()
    genomes = pd.read_csv(args.genomes / "genomes.tsv", sep="\t", dtype=str, keep_default_na=False)
    chosen = genomes
    if args.species:
        several = genomes.drop_duplicates("genome_id").groupby("species").size()
        names = sorted(name for name in several.index[several > 1] if name)[: args.species]
        chosen = genomes[genomes.species.isin(names)]
    if args.write_training_fasta:
        queried, _ = split(chosen, args.kind, args.seed)
        write_training(args.genomes, genomes, queried, args.write_training_fasta, args.kind)
        return
    packages = ", ".join(f"{name} {version(name)}" for name in ("kinmer", "numpy", "torch", "usearch"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {packages}")
    began = time.perf_counter()
    layout = kmer_layout()
    base, asked = profile(args.genomes, chosen, args, layout)
    genomes_in, genomes_asked = (one.table.genome_id.nunique() for one in (base, asked))
    print(
        f"{genomes_in} genomes in {len(base.table)} pieces, {genomes_asked} query genomes,"
        f" {len(asked.table)} fragments; counted in {time.perf_counter() - began:.0f} s"
    )
    rows: list[dict[str, Any]] = []
    for name, clr in RAW.items():
        for metric in METRICS:
            rows += score(f"{name}, {metric}", nearest_raw(clr, layout, base, asked, metric), base, asked)
    for path in args.encoder:
        encoder = Encoder.load(path)
        for metric in METRICS:
            found = nearest_embedded(encoder, base, asked, metric, args.engine)
            rows += score(f"{path.name}, {metric}", found, base, asked)
    show(rows)
    print(f"\n{time.perf_counter() - began:.0f} s in all")
    if args.json:
        args.json.write_text(json.dumps(rows, indent=1, default=float) + "\n")


if __name__ == "__main__":
    main()
