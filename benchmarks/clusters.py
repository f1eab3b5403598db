"""Clusters of real fragments against their labels: kin, raw profiles and principal components.

    python benchmarks/clusters.py WORK [--seeds 5] [--shortest 20000] [--method infomap]
    python benchmarks/clusters.py WORK --sizes [--shortest 20000]

Reads the benchmarks and the encoders of folds of ``benchmarks/encoders.py``: the database's pieces of every
fold's species are clustered in the space of an encoder that has not seen these species. Longest edge and
resolution are chosen for every encoder and fold on the other folds, by the V-measure of species, so no
encoder is tuned less than another and none on what is reported. Prints Markdown: means over folds and seeds,
with the 95 % interval of a mean over folds (Student's), and of the differences between encoders.

``--sizes``: one setting for few and for many species: raw profiles (which have seen nobody) of the species of
a fold, and of all folds together, at the default longest edge.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import t as student

from kinmer import Clr, Encoder
from kinmer.clusters.agreement import Agreement, agreement_of
from kinmer.clusters.communities import FENCE, communities, edges_of, numbered, usual_distance
from kinmer.counting import count_batches
from kinmer.layout import kmer_layout
from kinmer.vectors import Graph, neighbor_graph, open_vectors

FOLDS, K = 5, 15
ALL = -1
FENCES, RESOLUTIONS = (0.0, 0.5, 1.0, 1.5, 2.5, 10.0), (1.0, 3.0, 10.0)
TRAVELLING = (("infomap", 1.0), ("leiden", 1.0), ("leiden", 3.0), ("leiden", 10.0), ("leiden", 30.0))
RANKS = ("species", "genus")
SHOWN = ("purity", "completeness_share", "v_measure", "ari", "f1", "fragmentation")


def graphs(work: Path, name: str, seed: int, shortest: int) -> dict[int, tuple[Graph, pd.DataFrame]]:
    """The neighbour graph of the pieces of every fold's species, and their labels; raw: of `ALL`, too."""
    path = work / f"bench{seed}/database.fna.gz"
    table = pd.read_csv(f"{path}.tsv", sep="\t", dtype=str, keep_default_na=False)
    folds = pd.read_csv(work / f"bench{seed}/folds.tsv", sep="\t", dtype=str).set_index("sequence_id").fold
    fold = table.sequence_id.map(folds).to_numpy()
    long = table.length.astype(int).to_numpy() >= shortest
    found = {}
    for number in (*range(FOLDS), *((ALL,) if name == "raw" else ())):
        rows = np.flatnonzero(long & ((fold == str(number)) | (number == ALL)))
        if name != "raw" or number == 0:
            vectors = embedded(path, None if name == "raw" else Encoder.load(work / name / f"fold{number}"))
        with tempfile.TemporaryDirectory() as folder:
            np.save(f"{folder}/v.npy", vectors[rows])
            Path(f"{folder}/v.txt").write_text("".join(f"{one}\n" for one in table.id[rows]))
            graph = neighbor_graph(open_vectors(Path(f"{folder}/v.npy")), K)
        found[number] = graph, table.iloc[rows].reset_index(drop=True)
    return found


def embedded(path: Path, encoder: Encoder | None) -> NDArray[np.float32]:
    """Vectors of a FASTA file's sequences; without an encoder raw CLR profiles."""
    layout, clr = (kmer_layout(), Clr()) if encoder is None else (encoder.layout, None)
    parts = []
    for batch in count_batches([path], layout):
        if len(batch.ids):
            parts.append(
                encoder.embed(batch.counts)
                if encoder is not None
                else np.asarray(clr(batch.counts, layout), np.float32)
            )
    return np.concatenate(parts)


def measured(
    graph: Graph, labels: pd.DataFrame, fence: float, resolution: float, method: str
) -> list[Agreement]:
    """Agreement with species and genus at one setting."""
    edges = edges_of(graph, max_distance=usual_distance(graph, fence), max_in_degree=4 * K)
    cluster = numbered(communities(edges, method, resolution=resolution, seed=0), 2)
    length = labels.length.to_numpy(np.float64)
    found = [agreement_of(cluster, labels[rank], rank=rank, length=length) for rank in RANKS]
    return [one for one in found if one is not None]


def sizes(work: Path, seeds: int, shortest: int) -> None:
    """Agreement with species at fixed settings, a fold's species alone and all together: means over seeds."""
    print("| | a fold: V | F1 of pairs | all: V | F1 of pairs |\n| --- |" + " --- |" * 4)
    made = [graphs(work, "raw", seed, shortest) for seed in range(seeds)]
    for method, resolution in TRAVELLING:
        few: list[Agreement] = []
        many: list[Agreement] = []
        for one in made:
            for number, (graph, labels) in one.items():
                (many if number == ALL else few).append(measured(graph, labels, FENCE, resolution, method)[0])
        cells = [
            f"{np.mean([getattr(one, name) for one in part]):.3f}"
            for part in (few, many)
            for name in ("v_measure", "f1")
        ]
        setting = method if method == "infomap" else f"{method}, resolution {resolution:g}"
        print(f"| {setting} | " + " | ".join(cells) + " |", flush=True)


def chosen_elsewhere(found: dict[tuple[int, int], list[list[Agreement]]]) -> dict[int, int]:
    """Of every fold the setting with the best V-measure of species on the other folds."""
    v = {key: np.array([one[0].v_measure for one in agreed]) for key, agreed in found.items()}
    return {
        fold: int(np.argmax(np.mean([one for (_, other), one in v.items() if other != fold], axis=0)))
        for fold in range(FOLDS)
    }


def told(values: NDArray[np.float64], sign: str = "") -> str:
    """Mean over folds (FOLDS,) with the 95 % interval of the mean."""
    half = student.ppf(0.975, FOLDS - 1) * values.std(ddof=1) / np.sqrt(FOLDS)
    return f"{values.mean():{sign}.3f} ± {half:.3f}"


def compare(args: argparse.Namespace) -> None:
    """The table of encoders, and differences to the first of them, fold by fold."""
    settings = list(itertools.product(FENCES, RESOLUTIONS if args.method == "leiden" else (1.0,)))
    heading = f"| | | {' | '.join(SHOWN)} |\n| --- | --- |" + " --- |" * len(SHOWN)
    # (encoder, rank, measure) -> mean over seeds, by fold
    means: dict[tuple[str, str, str], NDArray[np.float64]] = {}
    names = args.encoders.split(",")
    print(heading)
    for name in names:
        # (seed, fold) -> setting -> agreement by rank
        found: dict[tuple[int, int], list[list[Agreement]]] = {}
        for seed in range(args.seeds):
            for fold, (graph, labels) in graphs(args.work, name, seed, args.shortest).items():
                if fold != ALL:
                    found[seed, fold] = [measured(graph, labels, *one, args.method) for one in settings]
        chosen = chosen_elsewhere(found)
        for (at, rank), measure in itertools.product(enumerate(RANKS), SHOWN):
            means[name, rank, measure] = np.array(
                [
                    np.mean(
                        [getattr(found[seed, fold][chosen[fold]][at], measure) for seed in range(args.seeds)]
                    )
                    for fold in range(FOLDS)
                ]
            )
        for rank in RANKS:
            cells = " | ".join(told(means[name, rank, measure]) for measure in SHOWN)
            print(f"| {name} | {rank} | {cells} |", flush=True)
        print(f"| | chosen | {sorted({settings[one] for one in chosen.values()})} |")
    print(f"\n{heading}")
    for name, rank in itertools.product(names[1:], RANKS):
        cells = " | ".join(
            told(means[names[0], rank, measure] - means[name, rank, measure], "+") for measure in SHOWN
        )
        print(f"| {names[0]} minus {name} | {rank} | {cells} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sizes", action="store_true")
    parser.add_argument("--shortest", type=int, default=20_000)
    parser.add_argument("--method", default="infomap")
    parser.add_argument("--encoders", default="kin,raw,pca")
    args = parser.parse_args()
    if args.sizes:
        sizes(args.work, args.seeds, args.shortest)
    else:
        compare(args)


if __name__ == "__main__":
    main()
