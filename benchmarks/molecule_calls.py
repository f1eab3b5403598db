"""Chromosome, plasmid or virus: how often is the likeliest kind right where species or genus are held out?

    kinmer evaluate answers GENOMES --metadata TABLE -o STEM --answers ANSWERS.tsv
    python benchmarks/molecule_calls.py ANSWERS.tsv [--completeness 1.0]

Contigs of drafts, which may be of plasmids, are left out. F1, even: with kinds that weigh alike. Intervals:
95 %, by resampling species.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.evaluate.splits import GENUS, SPECIES
from kinmer.evaluate.statistics import Estimate, intervals, resampled

MOLECULES = ("chromosome", "plasmid", "virus")
TITLES = ("precision", "recall", "F1", "F1, even")


def scores_of(table: pd.DataFrame, name: str, bootstrap: int = 1000) -> list[Estimate]:
    """The figures of `TITLES` of a kind of molecule, over all queries of the table."""
    own, said = table["molecule"].eq(name).to_numpy(), table["molecule_called"].eq(name).to_numpy()
    even = 1 / table.groupby("molecule")["kind"].transform("size").to_numpy(float)
    above = np.stack([own & said, own & said, 2 * (own & said), 2 * even * (own & said)], axis=1)
    below = np.stack([said, own, 0.0 + own + said, even * (0.0 + own + said)], axis=1)
    unit, kinds = pd.factorize(table["kind"])
    sums = np.zeros((2, len(kinds), len(TITLES)))
    np.add.at(sums[0], unit, above)
    np.add.at(sums[1], unit, below)
    return intervals(sums[0], sums[1], resampled(len(kinds), bootstrap, np.random.default_rng(0)))


def report(table: pd.DataFrame) -> Iterator[str]:
    """A table with a row for every kind and figure, a column for every length."""
    lengths = sorted(set(table["length"]))
    yield "| | " + " | ".join(f"{length / 1000:g} kb" for length in lengths) + " |"
    yield "| --- " * (len(lengths) + 1) + "|"
    for kind in MOLECULES:
        columns = [scores_of(table[table["length"] == length], kind) for length in lengths]
        for title, row in zip(TITLES, zip(*columns, strict=True), strict=True):
            yield f"| {kind}: {title} | " + " | ".join(map(str, row)) + " |"
        counts = (str(int((table["length"].eq(one) & table["molecule"].eq(kind)).sum())) for one in lengths)
        yield f"| *{kind}: queries* | " + " | ".join(counts) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("answers", type=Path)
    parser.add_argument("--completeness", type=float, default=1.0)
    args = parser.parse_args()
    table = pd.read_csv(args.answers, sep="\t", keep_default_na=False)
    held = table["case"].isin((SPECIES, GENUS)) & table["completeness"].eq(args.completeness)
    print("\n".join(report(table[held & table["molecule"].isin(MOLECULES)])))


if __name__ == "__main__":
    main()
