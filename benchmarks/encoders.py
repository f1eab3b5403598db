"""Which encoder finds the right species? The tables of docs/benchmarks/encoders.md, from genomes to Markdown.

Makes one benchmark a seed (queries, database, cases), and of every method an encoder a fold of species, which
has not seen the fold's species, and evaluates them together, with paired differences to the first.

    python benchmarks/encoders.py GENOMES WORK [--seeds 5] [--methods raw,pca,…] [--threads 2]

GENOMES is a folder of FASTA files with a ``genomes.tsv``. What WORK holds already is not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from kinmer import FitSettings, benchmark, count, evaluate_retrieval, fit, fragment, train
from kinmer.evaluate.scores import RetrievalReport
from kinmer.training import train_settings

FOLDS = 5
PER_LENGTH = 6
PER_GROUP = 60
VAE_FRAGMENTS, VAE_EPOCHS = 24_000, 20
# Named in the table as they are here; the first is the one that the others are compared with.
CLOSED = {
    "kin": FitSettings(per_group=PER_GROUP),
    "kin-kmers": FitSettings(per_group=PER_GROUP, coding=False),
    "discriminant": FitSettings(per_group=PER_GROUP, coding=False, anchor=0),
    "pca": FitSettings(method="pca", per_group=PER_GROUP, coding=False),
    "4-mer": FitSettings(method="4-mer"),
}
VAES = {"vae-reference": "reference", "vae": "default"}
LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)


def make(path: Path, what: str, work: Callable[[], Any]) -> None:
    """Do what is not done yet, and say how long it took."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    work()
    print(f"{what}: {time.perf_counter() - began:.0f} s", flush=True)


def make_encoder(args: argparse.Namespace, name: str, fold: int) -> None:
    """The encoder of one method without the species of one fold; the fold is also its seed."""
    output = args.work / name / f"fold{fold}"
    files = sorted(args.genomes.glob("*.fna.gz"))
    labels, folds = args.genomes / "genomes.tsv", args.work / "bench0/folds.tsv"
    if name in CLOSED:
        settings = FitSettings(**{**vars(CLOSED[name]), "seed": fold})
        given = {"labels": labels, "folds": folds, "fold": fold, "threads": args.threads}
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
            labels=folds,
            leave_out={"fold": [str(fold)]},
            seed=fold,
        ),
    )
    make(store, f"profiles without fold {fold}", lambda: count(pieces, store, threads=args.threads))
    chosen = train_settings(VAES[name], epochs=VAE_EPOCHS, seed=fold)
    make(output, f"{name}, fold {fold}", lambda: train(store, output, settings=chosen, threads=args.threads))


def table(report: RetrievalReport, rank: str, measure: str, case: str, domain: str) -> str:
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
    for seed, folder in enumerate(benches):
        labels = args.genomes / "genomes.tsv"
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
        for case, rank in (("strain", "species"), ("genome", "species"), ("genus", "genus")):
            for measure in ("at_1", "vote_10"):
                print(
                    f"\n{domain}, {case}: {rank}, {measure}\n\n{table(report, rank, measure, case, domain)}"
                )
    print(json.dumps({name: vars(hubs) for name, hubs in report.hubs.items()}, default=float))


if __name__ == "__main__":
    main()
