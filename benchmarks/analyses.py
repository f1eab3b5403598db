"""What the space is like: figures of real sequences beside those reported for the reference system.

    python benchmarks/analyses.py STORE [--vectors X_kinmer,raw,raw-joint]

STORE is a profile store with embeddings. Prints Markdown for docs/benchmarks/maps-and-clusters.md.
The reported figures are of
4.8 million metagenomic contigs, so shape and size are what can be compared.
"""

from __future__ import annotations

import argparse
import time

from kinmer import analyze_counts, analyze_distances, analyze_hubs, analyze_neighbors
from kinmer.vectors import open_vectors

REPORTED = {
    "sequences; asked for their nearest": "4,776,770; 100,000",
    "Euclidean distances": "–",
    "Euclidean: modes (more than one in so many resamples; dip test)": "one",
    "Euclidean: variance between pairs of one and of two GC groups": "–",
    "cosine distances": "–",
    "cosine: modes (more than one in so many resamples; dip test)": "two",
    "cosine: variance between pairs of one and of two GC groups": "–",
    "nearest, cosine: below 0.1": "1.05 %",
    "nearest, cosine: minimum": "0.0005",
    "nearest, cosine: mean": "0.5216",
    "counts 0–0.2: R², slope, intercept": "0.917, 439.2, −1.2",
    "counts 0–0.5: R², slope, intercept": "0.954, 1644.7, −70.2",
    "counts 0–0.7: R², slope, intercept": "0.677, 4196.2, −469.6",
    "intrinsic dimension (TwoNN)": "–",
    "hubs: largest, skewness, never": "–",
}


def figures(store: str, vectors: str) -> dict[str, str]:
    """One column of the table."""
    space = open_vectors(store, vectors=vectors)
    far, near = analyze_distances(space), analyze_neighbors(space)
    counts, hubs = analyze_counts(space), analyze_hubs(space)
    told: dict[str, str] = {}
    for name, metric in (("Euclidean", "l2"), ("cosine", "cosine")):
        one = far.by_metric[metric]  # type: ignore[index]
        told[f"{name} distances"] = f"{one.mean:.3f} ± {one.sd:.3f}"
        told[f"{name}: modes (more than one in so many resamples; dip test)"] = (
            f"{one.modes} ({shown(one.several, '.0%')}; p = {shown(one.p, '.2g')})"
        )
        told[f"{name}: variance between pairs of one and of two GC groups"] = shown(one.split, ".0%")
    told["nearest, cosine: below 0.1"] = f"{100 * near.below[0.1]:.2f} %"
    told["nearest, cosine: minimum"] = f"{near.distances.min():.4f}"
    told["nearest, cosine: mean"] = f"{near.distances.mean():.4f}"
    for fit in counts.fits:
        line = (shown(fit.r2, ".3f"), shown(fit.slope, ".1f"), shown(fit.intercept, ".1f"))
        told[f"counts {fit.low:g}–{fit.high:g}: R², slope, intercept"] = ", ".join(line)
    value, *ends = (shown(one, ".1f") for one in counts.dimension[:3])
    told["intrinsic dimension (TwoNN)"] = f"{value} ({'–'.join(ends)})"
    skewness = shown(hubs.skewness, ".2f")
    told["hubs: largest, skewness, never"] = f"{hubs.in_degree.max()}, {skewness}, {100 * hubs.never:.1f} %"
    told["sequences; asked for their nearest"] = f"{near.points:,}; {near.sampled:,}"
    return told


def shown(value: float | None, form: str) -> str:
    """A figure; a dash where there is none."""
    text = "–" if value is None else f"{value:{form}}".replace("-", "−")
    return text.replace("%", " %")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store")
    parser.add_argument("--vectors", default="X_kinmer,raw,raw-joint")
    args = parser.parse_args()
    wanted = args.vectors.split(",")
    began = time.perf_counter()
    columns = [figures(args.store, name) for name in wanted]
    print("| | reported | " + " | ".join(wanted) + " |\n| --- |" + " --- |" * (len(wanted) + 1))
    for name, reported in REPORTED.items():
        print(f"| {name} | {reported} | " + " | ".join(column[name] for column in columns) + " |")
    print(f"\n{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
