"""Chromosome, plasmid or virus: a classifier on raw profiles, beside what neighbours say.

For every fold of species a logistic regression is trained on the raw CLR profiles (a CLR per k, 0.5/n) of
fragments that ``benchmarks/encoders.py`` cut of all other species, and asked for the queries of that fold.
F1 per class and length, pooled over folds and benchmarks; neighbours' F1 is in WORK/retrieval.tsv.

    python benchmarks/molecules.py GENOMES WORK [--seeds 5]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.preprocessing import StandardScaler

from kinmer import Clr, count, kmer_layout, open_profiles

FOLDS = 5
CLASSES = ("chromosome", "plasmid", "virus")
# Rows of the training set: more do not change the figures by a point.
ROWS = 12_000


def raw(profiles: NDArray[np.uint32]) -> NDArray[np.float32]:
    """(n, 2772) CLR profiles."""
    return np.asarray(Clr()(profiles, kmer_layout()), np.float32)


def trained(work: Path, fold: int, molecule: dict[str, str]) -> tuple[StandardScaler, LogisticRegression]:
    """A classifier that has not seen the fold's species; contigs of unknown kind are left out."""
    table = pd.read_csv(work / f"pieces{fold}.fna.gz.tsv", sep="\t", dtype=str, keep_default_na=False)
    kind = table.sequence_id.map(molecule).to_numpy()
    rows = np.flatnonzero(np.isin(kind, CLASSES))
    rows = np.sort(np.random.default_rng(fold).permutation(rows)[:ROWS])
    store = open_profiles(work / f"pieces{fold}.zarr")
    if list(store.ids) != list(table.id):
        raise SystemExit("the store is not of these fragments")
    x = raw(store.take(rows))
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=1e-3, class_weight="balanced", max_iter=150)
    return scaler, model.fit(scaler.transform(x), kind[rows])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    labels = pd.read_csv(args.genomes / "genomes.tsv", sep="\t", dtype=str, keep_default_na=False)
    molecule = dict(zip(labels.sequence_id, labels.molecule, strict=True))
    queries, profiles = [], []
    for seed in range(args.seeds):
        folder = args.work / f"bench{seed}"
        queries.append(pd.read_csv(folder / "queries.fna.gz.tsv", sep="\t", dtype=str, keep_default_na=False))
        profiles.append(np.asarray(count(folder / "queries.fna.gz", min_length=0).X))
    asked, x = pd.concat(queries, ignore_index=True), raw(np.concatenate(profiles))
    given = np.empty(len(asked), object)
    for fold in range(FOLDS):
        scaler, model = trained(args.work, fold, molecule)
        rows = np.flatnonzero(asked.fold == str(fold))
        given[rows] = model.predict(scaler.transform(x[rows]))
        print(f"fold {fold}: {len(rows)} queries", flush=True)
    known = asked.molecule.isin(CLASSES).to_numpy()
    print("| F1 | " + " | ".join(CLASSES) + " |\n| --- |" + " --- |" * len(CLASSES))
    for length, rows in asked[known].groupby(asked.length.astype(int)).groups.items():
        f1 = f1_score(asked.molecule[rows], given[rows], labels=CLASSES, average=None, zero_division=0)
        print(f"| {int(str(length)) // 1000} kb | " + " | ".join(f"{one:.3f}" for one in f1) + " |")


if __name__ == "__main__":
    main()
