"""Commands that tell what the space is like: analyze distances, neighbors, counts, one, hubs, groups."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kinmer.cli.options import Force, Ids, Seed, Threads, note, stem
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.analyses.outputs import Analysis

__all__ = ["register"]

Source = Annotated[
    Path,
    typer.Argument(
        help="Embedded profile store, index (*.db), or .npy vectors with ids.", show_default=False
    ),
]
Vectors = Annotated[
    str, typer.Option(help="Key of obsm; raw, raw-joint; or an encoder, which embeds the profiles now.")
]
Metric = Annotated[
    Literal["cosine", "l2"] | None, typer.Option(help="Distance (default: the index's, else cosine).")
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="Stem of .json, .tsv, .png and .svg to write.")
]
Sample = Annotated[int, typer.Option(min=1, help="Sequences asked for their nearest among all.")]
Metadata = Annotated[Path | None, typer.Option(help="TSV: id and any columns, told of what is listed.")]

analyze = typer.Typer(name="analyze", help="Tell what the space of embeddings is like.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.add_typer(analyze)


def _checked(output: Path | None, kind: type[Analysis], force: bool) -> None:
    from kinmer.folders import check_output

    for path in kind.outputs(stem(output)) if output is not None else ():
        check_output(path, force=force)


def _shown(found: Analysis, output: Path | None) -> None:
    say(found.text())
    if output is not None:
        for path in found.write(output):
            note(f"written: {path}")


@analyze.command("distances")
def distances(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metadata: Metadata = None,
    pairs: Annotated[int, typer.Option(min=1, help="Random pairs.")] = 1_000_000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distances of random pairs, Euclidean and cosine: their modes, and what GC has to do with them."""
    from kinmer.analyses import DistanceAnalysis, analyze_distances

    _checked(output, DistanceAnalysis, force)
    _shown(
        analyze_distances(source, vectors=vectors, ids=ids, metadata=metadata, pairs=pairs, seed=seed), output
    )


@analyze.command("neighbors")
def neighbors(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    sample: Sample = 100_000,
    below: Annotated[
        str, typer.Option(help="Distances below which the share is told.")
    ] = "0.01,0.05,0.1,0.2,0.5",
    duplicates: Annotated[
        float, typer.Option(min=0, help="Distance up to which near-duplicates are listed.")
    ] = 0.01,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Distance to the nearest other sequence: shares below thresholds, mean, near-duplicates."""
    from kinmer.analyses import NeighborAnalysis, analyze_neighbors

    _checked(output, NeighborAnalysis, force)
    found = analyze_neighbors(
        source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        sample=sample,
        thresholds=[_number(part) for part in below.split(",")],
        duplicates=duplicates,
        seed=seed,
        threads=threads,
    )
    _shown(found, output)


@analyze.command("counts")
def counts(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    sample: Sample = 100_000,
    width: Annotated[float | None, typer.Option(help="Width of a bin (default: 0.01 of the scale).")] = None,
    ranges: Annotated[
        str | None,
        typer.Option("--ranges", help="Ranges of the linear fits (default: 0-0.2,0-0.5,0-0.7 of the scale)."),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Sequences counted by distance to their nearest, with linear fits, and the intrinsic dimension."""
    from kinmer.analyses import CountAnalysis, analyze_counts

    _checked(output, CountAnalysis, force)
    found = analyze_counts(
        source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        sample=sample,
        width=width,
        ranges=None if ranges is None else [_range(part) for part in ranges.split(",")],
        seed=seed,
        threads=threads,
    )
    _shown(found, output)


@analyze.command("one")
def one(
    source: Source,
    name: Annotated[
        str | None, typer.Argument(help="Id of the sequence (default: a random one).", show_default=False)
    ] = None,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    closest: Annotated[int, typer.Option("--closest", "-k", min=1, help="Closest to list.")] = 20,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distances of one sequence to all others, and its closest."""
    from kinmer.analyses import OneAnalysis, analyze_one

    _checked(output, OneAnalysis, force)
    found = analyze_one(
        source,
        name,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        closest=closest,
        seed=seed,
    )
    _shown(found, output)


@analyze.command("hubs")
def hubs(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Nearest others of a sequence.")] = 10,
    top: Annotated[int, typer.Option(min=1, help="Hubs to list.")] = 20,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Sequences that are among the nearest of very many others."""
    from kinmer.analyses import HubAnalysis, analyze_hubs

    _checked(output, HubAnalysis, force)
    found = analyze_hubs(
        source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        k=k,
        top=top,
        threads=threads,
    )
    _shown(found, output)


@analyze.command("groups")
def groups(
    source: Source,
    by: Annotated[str, typer.Option(help="Column that tells the groups, such as source.")] = "source",
    cluster: Annotated[str, typer.Option(help="Column that tells the clusters.")] = "cluster",
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metadata: Metadata = None,
    force: Force = False,
) -> None:
    """Groups compared: how the sequences of each spread over the clusters."""
    from kinmer.analyses import GroupAnalysis, analyze_groups

    _checked(output, GroupAnalysis, force)
    found = analyze_groups(source, by, cluster=cluster, vectors=vectors, ids=ids, metadata=metadata)
    _shown(found, output)


def _number(text: str) -> float:
    from kinmer.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is no number") from None


def _range(text: str) -> tuple[float, float]:
    from kinmer.errors import UsageError

    low, mark, high = text.partition("-")
    if not mark:
        raise UsageError(f"a range is low-high, such as 0-0.5, not {text!r}")
    return _number(low), _number(high)
