"""Which encoder finds the right species? The tables of docs/benchmarks/encoders.md, from genomes to Markdown.

Makes one benchmark a seed (queries, database, cases), and of every method an encoder a fold of species, which
has not seen the fold's species, and evaluates them together, with paired differences to the first.

    python benchmarks/encoders.py GENOMES WORK [--seeds 5] [--methods raw,pca,…] [--threads 2]

GENOMES is a folder of FASTA files with a ``genomes.tsv``, and a ``plasmids.tsv`` with PTUs. Database and
queries are of all genomes but those of plasmids alone. An encoder of a fold has seen no genome that shares
species, 95 % cluster or PTU with a genome of the fold, directly or over others. kin-1 is fitted on the
genomes of its time. What WORK holds already is not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from kinmer import FitSettings, benchmark, count, evaluate_retrieval, fit, fragment, train
from kinmer.evaluate.measures import EITHER
from kinmer.evaluate.scores import RetrievalReport
from kinmer.fragments.labels import genomes_of, groups_of, read_labels
from kinmer.training import train_settings
from kinmer.training.fit import SHARES

FOLDS = 5
PER_LENGTH = 6
PER_GROUP = 60
VAE_FRAGMENTS, VAE_EPOCHS = 24_000, 20
# kin-1 as it was made, and of which clusters: those that came later have higher numbers.
FIRST = FitSettings(
    per_group=PER_GROUP, dim=384, components=768, ridge=1e-3, neighbors=0, shares={"virus": 0.2}
)
FIRST_CLUSTERS = 1000
# Named in the table as they are here; the first is the one that the others are compared with.
CLOSED = {
    "kin-2": FitSettings(per_group=PER_GROUP),
    "kin-1": FIRST,
    "discriminant": replace(FIRST, coding=False, shares=SHARES, anchor=0),
    "pca": FitSettings(method="pca", dim=384, per_group=PER_GROUP, coding=False),
    "4-mer": FitSettings(method="4-mer"),
}
VAES = {"vae-reference": "reference", "vae": "default"}
CASES = [(case, rank) for case in ("strain", "genome") for rank in ("species", EITHER)] + [("genus", "genus")]
LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)


def make(path: Path, what: str, work: Callable[[], Any]) -> None:
    """Do what is not done yet, and say how long it took."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    work()
    print(f"{what}: {time.perf_counter() - began:.0f} s", flush=True)


def read_genomes(folder: Path) -> pd.DataFrame:
    """The labels of all sequences, with their PTU and whether their genome is of plasmids alone."""
    table = pd.read_csv(folder / "genomes.tsv", sep="\t", dtype=str, keep_default_na=False, quoting=3)
    units = pd.read_csv(folder / "plasmids.tsv", sep="\t", dtype=str, keep_default_na=False, quoting=3)
    table["ptu"] = table["sequence_id"].map(units.set_index("sequence_id")["ptu"]).fillna("")
    table["alone"] = (table["molecule"] == "plasmid").groupby(table["genome_id"]).transform("all")
    return table


def write_labels(table: pd.DataFrame, work: Path) -> Path:
    """The labels of what is asked for and searched in: all but the genomes of plasmids alone."""
    path = work / "labels.tsv"
    path.parent.mkdir(parents=True, exist_ok=True)
    table[~table["alone"]].drop(columns=["ptu", "alone"]).to_csv(path, sep="\t", index=False)
    return path


def write_left_out(table: pd.DataFrame, work: Path, fold: int) -> Path:
    """A table of folds for `fit` in which all kin of a fold's genomes are of the fold."""
    folds = pd.read_csv(work / "bench0/folds.tsv", sep="\t", dtype=str)
    labels = read_labels(work / "all.tsv")
    group = table["genome_id"].map(groups_of(genomes_of(labels, "labels").values(), "species"))
    asked = set(folds.loc[folds["fold"] == str(fold), "genome_id"])
    out = group.isin(set(group[table["genome_id"].isin(asked)]))
    units = set(table.loc[out, "ptu"]) - {""}
    linked = set(table.loc[table["ptu"].isin(units), "genome_id"])
    out |= table["genome_id"].isin(linked)
    path = work / f"left-out{fold}.tsv"
    shown = table[["sequence_id", "genome_id"]].assign(fold=out.map({True: "out", False: "in"}))
    shown.to_csv(path, sep="\t", index=False)
    return path


def earlier(table: pd.DataFrame) -> set[str]:
    """The files that kin-1 was made of."""
    number = table["ani95_cluster"].str.removeprefix("c").replace("", "0").astype(int)
    known = (number <= FIRST_CLUSTERS) & ~table["alone"] & (table["domain"] != "Eukaryota")
    return set(table.loc[known, "file"])


def make_encoder(args: argparse.Namespace, name: str, fold: int) -> None:
    """The encoder of one method without the species of one fold; the fold is also its seed."""
    output = args.work / name / f"fold{fold}"
    files = sorted(args.genomes.glob("*.fna.gz"))
    table = read_genomes(args.genomes)
    left_out = write_left_out(table, args.work, fold)
    if name in CLOSED:
        settings = replace(CLOSED[name], seed=fold)
        if name == "kin-1":
            files = [file for file in files if file.name in earlier(table)]
        given = {"labels": args.work / "all.tsv", "folds": left_out, "fold": "out", "threads": args.threads}
        make(output, f"{name}, fold {fold}", lambda: fit(files, output, settings=settings, **given))
        return
    pieces, store = args.work / f"pieces{fold}.fna.gz", args.work / f"pieces{fold}.zarr"
    make(
        pieces,
        f"fragments without fold {fold}",
        lambda: fragment(
            files,
            pieces,
            number=VAE_FRAGMENTS,
            group="genome_id",
            labels=left_out,
            leave_out={"fold": ["out"]},
            seed=fold,
        ),
    )
    make(store, f"profiles without fold {fold}", lambda: count(pieces, store, threads=args.threads))
    chosen = train_settings(VAES[name], epochs=VAE_EPOCHS, seed=fold)
    make(output, f"{name}, fold {fold}", lambda: train(store, output, settings=chosen, threads=args.threads))


def shown(report: RetrievalReport, rank: str, measure: str, case: str, domain: str) -> str:
    """Markdown: encoders by lengths, with intervals, and the ceiling."""
    lines = ["| | " + " | ".join(f"{length // 1000} kb" for length in LENGTHS) + " |"]
    lines.append("| --- |" + " --- |" * len(LENGTHS))
    for encoder in report.encoders:
        cells = []
        for length in LENGTHS:
            one = report.score(encoder, rank, measure, case=case, domain=domain, length=length)
            known = one is not None and one.value is not None and one.low is not None and one.high is not None
            cells.append(f"{one.value:.3f} ({one.low:.2f}–{one.high:.2f})" if known and one else "–")
        lines.append(f"| {encoder} | " + " | ".join(cells) + " |")
    last = [
        report.score(report.encoders[0], rank, measure, case=case, domain=domain, length=n) for n in LENGTHS
    ]
    lines.append(
        "| *ceiling* | "
        + " | ".join(f"{one.ceiling:.2f}" if one and one.ceiling is not None else "–" for one in last)
        + " |"
    )
    lines.append("| *queries* | " + " | ".join(str(one.queries) if one else "–" for one in last) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--methods", default=",".join((*CLOSED, "raw", "raw-joint", "vae-reference")))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    packages = ", ".join(f"{name} {version(name)}" for name in ("kinmer", "numpy", "torch"))
    print(f"{platform.machine()}, Python {platform.python_version()}, {packages}")
    files = sorted(args.genomes.glob("*.fna.gz"))
    benches = [args.work / f"bench{seed}" for seed in range(args.seeds)]
    table = read_genomes(args.genomes)
    labels = write_labels(table, args.work)
    table.to_csv(args.work / "all.tsv", sep="\t", index=False)
    for seed, folder in enumerate(benches):
        work = partial(benchmark, files, folder, labels=labels, per_length=PER_LENGTH, seed=seed)
        make(folder, f"benchmark {seed}", work)
    methods = args.methods.split(",")
    for fold in range(FOLDS):
        for name in methods:
            if name in CLOSED or name in VAES:
                make_encoder(args, name, fold)
    encoders = {
        name: name if name.startswith("raw") else str(args.work / name / "fold{fold}") for name in methods
    }
    began = time.perf_counter()
    report = evaluate_retrieval(benches, encoders=encoders, baseline=methods[0], threads=args.threads)
    report.write(args.work / "retrieval")
    print(f"evaluation: {time.perf_counter() - began:.0f} s")
    for domain in ("cells", "viruses"):
        for case, rank in CASES:
            for measure in ("at_1", "vote_10"):
                print(
                    f"\n{domain}, {case}: {rank}, {measure}\n\n{shown(report, rank, measure, case, domain)}"
                )
    print(json.dumps({name: vars(hubs) for name, hubs in report.hubs.items()}, default=float))


if __name__ == "__main__":
    main()
