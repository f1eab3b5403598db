"""sourmash's sketches of genomes, and ``sourmash multigather`` with the references held in memory.

Run by the interpreter that has sourmash. The command itself reads all references anew for every query;
this calls the same functions, and writes one table for all queries, which ``sourmash tax`` takes.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import screed
from sourmash import MinHash, SourmashSignature, load_file_as_index
from sourmash.index import LinearIndex
from sourmash.search import GatherDatabases
from sourmash.sourmash_args import SaveSignaturesToLocation


def sketched(sequences: list[str], name: str, k: int, scaled: int) -> SourmashSignature:
    """The sketch of a genome or a query."""
    sketch = MinHash(n=0, ksize=k, scaled=scaled)
    for one in sequences:
        # force: windows with other letters than ACGT are passed over.
        sketch.add_sequence(one, force=True)
    return SourmashSignature(sketch, name=name).to_frozen()


def genomes(path: str, table: str) -> Iterator[tuple[str, list[str]]]:
    """Names and sequences of genomes whose records follow each other."""
    with Path(table).open() as lines:
        genome_of = dict(line.rstrip("\n").split("\t") for line in lines)
    name, held = "", []
    for record in screed.open(path):
        genome = genome_of[record.name]
        if genome != name and held:
            yield name, held
            held = []
        name = genome
        held.append(record.sequence)
    yield name, held


def sketch(args: argparse.Namespace) -> None:
    """Write a sketch of every genome."""
    with SaveSignaturesToLocation(args.index) as out:
        for name, sequences in genomes(args.fasta, args.genomes):
            out.add(sketched(sequences, name, args.k, args.scaled))


def gather(args: argparse.Namespace) -> None:
    """Write what every query has in common with which genomes, one after the other."""
    references = LinearIndex(list(load_file_as_index(args.index).signatures()))
    writer = None
    with Path(args.output).open("w", newline="") as file:
        for record in screed.open(args.fasta):
            query = sketched([record.sequence], record.name, args.k, args.scaled)
            if not query.minhash:
                continue
            counter = references.counter_gather(query, 0)
            if not len(counter):
                continue
            for result in GatherDatabases(query, [counter], threshold_bp=0, ignore_abundance=True):
                row = result.gatherresultdict
                if writer is None:
                    # Not the row's own: an identity that cannot be told is left out of it.
                    writer = csv.DictWriter(file, fieldnames=result.write_cols)
                    writer.writeheader()
                writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("step", choices=("sketch", "gather"))
    parser.add_argument("fasta")
    parser.add_argument("index")
    parser.add_argument("-k", type=int, required=True)
    parser.add_argument("--scaled", type=int, required=True)
    parser.add_argument("--genomes", help="TSV: sequence, genome")
    parser.add_argument("--output", help="table to write")
    args = parser.parse_args()
    (sketch if args.step == "sketch" else gather)(args)


if __name__ == "__main__":
    main()
