"""Why is the default encoder what it is? One setting changed at a time, the rest as it is.

    python benchmarks/defaults.py GENOMES WORK [--threads 2] [--only power,dim]

Fits every variant without the species of each fold and asks the queries of that fold, on a benchmark of its
own (seed 100; ``benchmarks/encoders.py`` reports others). Prints the share of queries whose nearest entry is
of the same species, cells, mean of the cases strain and genome, and the mean difference from the default.
What WORK holds already is not made again.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders import FOLDS, PER_GROUP, PER_LENGTH, make

from kinmer import Clr, FitSettings, benchmark, evaluate_retrieval, fit
from kinmer.evaluate.scores import RetrievalReport
from kinmer.training.fit import SHARES

SEED = 100
LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)
DEFAULT = FitSettings(per_group=PER_GROUP)
VARIANTS: dict[str, tuple[Any, ...]] = {
    "coding": (False,),
    "dim": (256, 512),
    "power": (0.6, 1.0),
    "codon": (1.0, 5.0),
    "phase": (1.0, 3.0),
    "shares": ({"virus": 0.2}, {**SHARES, "virus": 0.05}, {**SHARES, "virus": 0.7}),
    "anchor": (0.0, 2.0),
    "clr": (Clr(value=0.2), Clr(value=1.0), Clr(scope="joint")),
    "per_group": (30, 120),
    "components": (512,),
    "ridge": (1e-2,),
    "lengths": ((1_000, 10_000),),
    "max_k": (5,),
}


def variants(only: list[str]) -> dict[str, FitSettings]:
    """The default, and every variant by what is changed."""
    found = {"default": DEFAULT}
    for name, values in VARIANTS.items():
        if only and name not in only:
            continue
        for value in values:
            shown = f"{value.scope} {value.value}" if isinstance(value, Clr) else str(value)
            found[f"{name} {shown}"] = replace(DEFAULT, **{name: value})
    return found


def row(report: RetrievalReport, name: str) -> str:
    """A line of the table: shares by length, and the mean difference from the default up to 10 kb."""
    shares, differences = [], []
    for length in LENGTHS:
        both = [
            report.score(encoder, "species", case=case, domain="cells", length=length)
            for encoder in (name, "default")
            for case in ("strain", "genome")
        ]
        values = [one.value for one in both if one is not None and one.value is not None]
        shares.append(sum(values[:2]) / 2)
        differences.append((sum(values[:2]) - sum(values[2:])) / 2)
    mean = 100 * sum(differences[:4]) / 4
    return f"| {name} | " + " | ".join(f"{one:.3f}" for one in shares) + f" | {mean:+.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", default="")
    args = parser.parse_args()
    files, labels = sorted(args.genomes.glob("*.fna.gz")), args.genomes / "genomes.tsv"
    bench = args.work / f"bench{SEED}"
    make(bench, "benchmark", lambda: benchmark(files, bench, labels=labels, per_length=PER_LENGTH, seed=SEED))
    wanted = variants([name for name in args.only.split(",") if name])
    for name, settings in wanted.items():
        for fold in range(FOLDS):
            output = args.work / name.replace(" ", "_") / f"fold{fold}"
            given = {"labels": labels, "folds": bench / "folds.tsv", "fold": fold, "threads": args.threads}
            seeded = replace(settings, seed=fold)
            make(output, f"{name}, fold {fold}", lambda: fit(files, output, settings=seeded, **given))  # noqa: B023
    print("\n| setting | " + " | ".join(f"{n // 1000} kb" for n in LENGTHS) + " | mean, 1–10 kb |")
    print("| --- |" + " --- |" * (len(LENGTHS) + 1))
    encoders = {name: str(args.work / name.replace(" ", "_") / "fold{fold}") for name in wanted}
    report = evaluate_retrieval([bench], encoders=encoders, bootstrap=0, threads=args.threads)
    for name in wanted:
        print(row(report, name))


if __name__ == "__main__":
    main()
