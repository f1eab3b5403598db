"""What does alignment add to composition? The table of docs/benchmarks/other-tools.md: each alone, and both.

    python benchmarks/evidence.py WORK [--draws 2,3,4] [--encoder 'WORK/kin/fold{fold}'] [--engine skani]
        [--candidates 50] [--threads 1] [--output TABLE.md]

WORK holds the benchmarks bench0 … bench4 of benchmarks/encoders.py and the encoders of its folds, which have
not seen the fold's species. Every query's genomes are put in order by composition alone (the nearer of the
best piece and of the genome's mean, mean + .01, brute force), by alignment alone (the same aligner against
every genome of the database), and by both (`kinmer.queries.evidence.rank_by_both` of the first by
composition). Right is the species of the first genome, in the case ``genus`` its genus. The rule's
threshold was chosen on draws 0 and 1.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import Encoder
from kinmer.evaluate.searches import Trial, benchmark_trials
from kinmer.fasta import read_records
from kinmer.fragments import open_benchmark
from kinmer.queries.evidence import Alignment, GenomeAligner, Skani, homologous, rank_by_both, strength

CASES = {"strain": "another strain", "genome": "another part", "genus": "genus known (genus)"}
BATCH = 200
MEAN_BONUS = 0.01


@dataclass
class Draw:
    """A benchmark: labels of queries and genomes, sequences, and the genomes that composition puts first."""

    queries: pd.DataFrame
    genomes: pd.DataFrame
    letters: list[bytes]
    references: list[list[bytes]]
    order: NDArray[np.int64]
    distances: NDArray[np.float32]


@dataclass
class Answers:
    """Of every query the first genome of each way (-1: none), and whether there was a homologue; seconds."""

    composition: NDArray[np.int64]
    alignment: NDArray[np.int64]
    both: NDArray[np.int64]
    homologue: NDArray[np.bool_]
    seconds: dict[int, float] = field(default_factory=dict)
    whole_seconds: float = 0.0


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length one."""
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def nearest_genomes(
    trial: Trial, codes: NDArray[np.int64], encoder: str, candidates: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """(q, candidates) genomes by composition and their distances, every query by its fold's encoder."""
    assert trial.queries is not None
    lengths = trial.database_table["length"].to_numpy().astype(np.float32)
    folds = trial.query_table["fold"].astype(str).to_numpy()
    by_genome = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[by_genome], np.arange(codes.max() + 1))
    shape = (len(folds), min(candidates, len(starts)))
    order, distances = np.empty(shape, np.int64), np.empty(shape, np.float32)
    for fold in sorted(set(folds)):
        model = Encoder.load(encoder.replace("{fold}", fold), device="cpu")
        rows = np.flatnonzero(folds == fold)
        pieces, asked = unit(trial.database.vectors(model)), unit(trial.queries.vectors(model, rows))
        means = np.zeros((len(starts), pieces.shape[1]), np.float32)
        np.add.at(means, codes, pieces * lengths[:, None])
        best = np.maximum.reduceat((asked @ pieces.T)[:, by_genome], starts, axis=1)
        far = 1 - np.maximum(best, asked @ unit(means).T + MEAN_BONUS)
        order[rows] = np.argsort(far, axis=1, kind="stable")[:, : shape[1]]
        distances[rows] = np.take_along_axis(far, order[rows], 1)
    return order, distances


def read_draw(folder: Path, encoder: str, candidates: int) -> Draw:
    """A benchmark with all that is asked of it."""
    [trial] = benchmark_trials([folder], 1)
    found = open_benchmark(folder)
    database = trial.database_table
    codes, names = pd.factorize(database["genome_id"], sort=True)
    references: list[list[bytes]] = [[] for _ in names]
    for code, (_, letters) in zip(codes, read_records(found.database), strict=True):
        references[code].append(bytes(letters).upper())
    queries = [bytes(letters).upper() for _, letters in read_records(found.queries)]
    order, distances = nearest_genomes(trial, codes.astype(np.int64), encoder, candidates)
    table = trial.query_table.assign(length=trial.query_table["length"].astype(int))
    return Draw(table, database.groupby(codes).first(), queries, references, order, distances)


def batches(draw: Draw) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Queries of one length, `BATCH` at a time, as a search would ask them."""
    lengths = draw.queries["length"].to_numpy()
    for length in sorted(set(lengths)):
        rows = np.flatnonzero(lengths == length)
        for at in range(0, len(rows), BATCH):
            yield length, rows[at : at + BATCH]


def strongest(genomes: Sequence[int], alignments: Sequence[Alignment]) -> int:
    """The genome of the strongest alignment, -1 where nothing aligns."""
    found = [strength(one) for one in alignments]
    return int(genomes[int(np.argmax(found))]) if found and max(found) > 0 else -1


def align_to_all(draw: Draw, engine: str) -> list[tuple[list[int], list[Alignment]]]:
    """Of every query the genomes of the whole database that it aligns to."""
    if engine != "skani":
        everything = list(range(len(draw.references)))
        asked = GenomeAligner(draw.references.__getitem__, engine=engine, threads=1)
        found = []
        for at in range(0, len(draw.letters), BATCH):
            part = draw.letters[at : at + BATCH]
            found += [(everything, row) for row in asked.measure(part, [everything] * len(part))]
        return found
    import pyskani

    # One database of all: the same alignments, and a query is sketched once.
    database = pyskani.Database(compression=Skani.DENSITY[0], marker_compression=Skani.DENSITY[1])
    for number, sequences in enumerate(draw.references):
        database.sketch(str(number), *sequences, seed=True)
    found = []
    for letters in draw.letters:
        hits = database.query("query", letters, seed=True, learned_ani=False, cutoff=0.0)
        hits.sort(key=lambda hit: int(hit.reference_name))
        alignments = [Alignment(min(hit.identity, 1.0), min(hit.query_fraction, 1.0)) for hit in hits]
        found.append(([int(hit.reference_name) for hit in hits], alignments))
    return found


def answer(draw: Draw, engine: str, threads: int) -> Answers:
    """The first genome of each way."""
    number = len(draw.letters)
    none = np.full(number, -1, np.int64)
    got = Answers(draw.order[:, 0], none.copy(), none.copy(), np.zeros(number, bool))
    asked = GenomeAligner(draw.references.__getitem__, engine=engine, threads=threads)
    for length, rows in batches(draw):
        began = time.perf_counter()
        found = asked.measure([draw.letters[row] for row in rows], draw.order[rows].tolist())
        for row, alignments in zip(rows, found, strict=True):
            got.both[row] = draw.order[row, rank_by_both(draw.distances[row], alignments)[0]]
            got.homologue[row] = any(map(homologous, alignments))
        got.seconds[length] = got.seconds.get(length, 0.0) + time.perf_counter() - began
    began = time.perf_counter()
    got.alignment[:] = [strongest(*one) for one in align_to_all(draw, engine)]
    got.whole_seconds = time.perf_counter() - began
    return got


def right(draw: Draw, answers: NDArray[np.int64], rank: str, cluster: bool = False) -> NDArray[np.bool_]:
    """Whether the genomes answered are of the queries' rank, or (`cluster`) of their 95 % cluster."""
    columns = (rank, "ani95_cluster") if cluster else (rank,)
    found = np.zeros(len(answers), bool)
    for column in columns:
        own = draw.queries[column].to_numpy()
        found |= (draw.genomes[column].to_numpy()[answers] == own) & (own != "")
    return found & (answers >= 0)


def pooled(parts: Sequence[NDArray[np.bool_]], masks: Sequence[NDArray[np.bool_]]) -> NDArray[np.bool_]:
    """Of every draw the queries that its mask picks, one behind the other."""
    return np.concatenate([part[mask] for part, mask in zip(parts, masks, strict=True)])


def case_table(draws: list[tuple[Draw, Answers]], case: str, lengths: Sequence[int]) -> list[str]:
    """Markdown: ways by lengths."""
    rank = "genus" if case == "genus" else "species"
    picked = [
        [
            (
                (one.queries["case"] == case) & (one.queries[rank] != "") & (one.queries["length"] == n)
            ).to_numpy()
            for one, _ in draws
        ]
        for n in lengths
    ]

    def row(name: str, cells: Sequence[str]) -> str:
        return f"| {name} | " + " | ".join(cells) + " |"

    def correct(way: str, cluster: bool = False) -> list[NDArray[np.bool_]]:
        ok = [right(one, getattr(got, way), rank, cluster) for one, got in draws]
        return [pooled(ok, masks) for masks in picked]

    lines = ["", row(CASES[case], [f"{n // 1000} kb" for n in lengths]), "| --- |" + " --- |" * len(lengths)]
    ways = {way: correct(way) for way in ("composition", "alignment", "both")}
    for way, cells in ways.items():
        lines.append(row(way, [f"{one.mean():.3f}" for one in cells]))
    gains = [b.mean() - max(c.mean(), a.mean()) for c, a, b in zip(*ways.values(), strict=True)]
    lines.append(row("*both − the better one*", [f"{100 * gain:+.1f}" for gain in gains]))
    for name, cluster in (
        ("mended, spoilt", False),
        ("the same, species of one 95 % cluster taken as one", True),
    ):
        pairs = zip(correct("composition", cluster), correct("both", cluster), strict=True)
        lines.append(row(f"*{name}*", [f"{(b & ~c).sum()}, {(c & ~b).sum()}" for c, b in pairs]))
    found = [pooled([got.homologue for _, got in draws], masks) for masks in picked]
    lines.append(row("*with a homologue*", [f"{one.mean():.2f}" for one in found]))
    lines.append(row("*queries*", [str(len(one)) for one in found]))
    return lines


def tables(draws: list[tuple[Draw, Answers]]) -> str:
    """Markdown: a table for each case, and milliseconds."""
    lengths = sorted(set(draws[0][0].queries["length"]))
    lines = [line for case in CASES for line in case_table(draws, case, lengths)]
    cost = []
    for n in lengths:
        number = sum((one.queries["length"] == n).sum() for one, _ in draws)
        cost.append(1000 * sum(got.seconds[n] for _, got in draws) / number)
    lines += ["", "Cost, ms a query: " + " · ".join(f"{one:.1f}" for one in cost)]
    whole = 1000 * sum(got.whole_seconds for _, got in draws) / sum(len(one.letters) for one, _ in draws)
    return "\n".join([*lines, f"Alignment to the whole database, ms a query: {whole:.1f}"])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--draws", default="2,3,4")
    parser.add_argument("--encoder", default="")
    parser.add_argument("--engine", default="skani")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    encoder = args.encoder or str(args.work / "kin" / "fold{fold}")
    names = ("kinmer", "numpy", f"py{args.engine}")
    lines = [
        f"{platform.machine()}, Python {platform.python_version()}, "
        + ", ".join(f"{n} {version(n)}" for n in names)
    ]
    draws = []
    for number in args.draws.split(","):
        draw = read_draw(args.work / f"bench{number}", encoder, args.candidates)
        got = answer(draw, args.engine, args.threads)
        draw.letters, draw.references = [b""] * len(draw.letters), []
        draws.append((draw, got))
        print(f"draw {number} done", flush=True)
    lines += [
        f"Draws {args.draws}, the {args.candidates} nearest genomes, {args.threads} thread(s)",
        tables(draws),
    ]
    print("\n".join(lines))
    if args.output:
        args.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
