"""Commands that describe the distances among embeddings: analyze distances … groups."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kinmer.cli.explore import Distance, Metadata, Source, Vectors
from kinmer.cli.options import Force, Group, Ids, Seed, Threads, argument, command, note, option, stem
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.analyses.outputs import Analysis

Output = Annotated[Path | None, option("Stem of .json, .tsv, .png and .svg to write.", "--output", "-o")]
Sample = Annotated[
    int, option("Sequences whose nearest is found among all.", "--sample", min=1, show_default=True)
]

analyze = typer.Typer(
    name="analyze", cls=Group, help="Describe the distances among embeddings.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.add_typer(analyze, rich_help_panel="Explore")


def _analyze(
    kind: type[Analysis], call: Callable[..., Analysis], output: Path | None, force: bool, **given: Any
) -> None:
    """Check the outputs, make one analysis, print it and write it."""
    from kinmer.folders import check_output

    for path in kind.outputs(stem(output)) if output is not None else ():
        check_output(path, force=force)
    result = call(given.pop("source"), **given)
    say(result.text())
    if output is not None:
        for path in result.write(output):
            note(f"written: {path}")


@command(analyze, "distances", "kinmer analyze distances contigs.zarr -o distances")
def distances(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metadata: Metadata = None,
    pairs: Annotated[int, option("Random pairs.", "--pairs", min=1, show_default=True)] = 1_000_000,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distances of random pairs, Euclidean and cosine, their modes, and how they depend on GC."""
    from kinmer.analyses import DistanceAnalysis, analyze_distances

    _analyze(
        DistanceAnalysis,
        analyze_distances,
        output,
        force,
        source=source,
        vectors=vectors,
        ids=ids,
        metadata=metadata,
        pairs=pairs,
        seed=seed,
    )


@command(analyze, "neighbors", "kinmer analyze neighbors contigs.zarr -o neighbors")
def neighbors(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    metadata: Metadata = None,
    sample: Sample = 100_000,
    below: Annotated[
        str, option("Report the shares below these distances.", "--below", show_default=True)
    ] = "0.01,0.05,0.1,0.2,0.5",
    duplicates: Annotated[
        float, option("List pairs up to this distance.", "--duplicates", min=0, show_default=True)
    ] = 0.01,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Distance to the nearest other sequence: shares below thresholds, mean, near-duplicates."""
    from kinmer.analyses import NeighborAnalysis, analyze_neighbors

    _analyze(
        NeighborAnalysis,
        analyze_neighbors,
        output,
        force,
        source=source,
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


@command(analyze, "counts", "kinmer analyze counts contigs.zarr -o counts")
def counts(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    sample: Sample = 100_000,
    width: Annotated[float | None, option("Width of a bin (default: 0.01 of the scale).", "--width")] = None,
    ranges: Annotated[
        str | None,
        option("Ranges of the linear fits (default: 0-0.2,0-0.5,0-0.7 of the scale).", "--ranges"),
    ] = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Number of sequences by distance to their nearest, linear fits, intrinsic dimension."""
    from kinmer.analyses import CountAnalysis, analyze_counts

    _analyze(
        CountAnalysis,
        analyze_counts,
        output,
        force,
        source=source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        sample=sample,
        width=width,
        ranges=None if ranges is None else [_range(part) for part in ranges.split(",")],
        seed=seed,
        threads=threads,
    )


@command(analyze, "one", "kinmer analyze one contigs.zarr contig_7")
def one(
    source: Source,
    name: Annotated[str | None, argument("Id of the sequence (default: a random one).")] = None,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    metadata: Metadata = None,
    closest: Annotated[
        int, option("Closest sequences to list.", "-k", "--closest", min=1, show_default=True)
    ] = 20,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Distances of one sequence to all others, and its closest."""
    from kinmer.analyses import OneAnalysis, analyze_one

    _analyze(
        OneAnalysis,
        analyze_one,
        output,
        force,
        source=source,
        name=name,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        closest=closest,
        seed=seed,
    )


@command(analyze, "hubs", "kinmer analyze hubs contigs.zarr")
def hubs(
    source: Source,
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    metadata: Metadata = None,
    k: Annotated[int, option("Neighbors of a sequence.", "-k", min=1, show_default=True)] = 10,
    top: Annotated[int, option("Hubs to list.", "--top", min=1, show_default=True)] = 20,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Sequences that are among the nearest of very many others."""
    from kinmer.analyses import HubAnalysis, analyze_hubs

    _analyze(
        HubAnalysis,
        analyze_hubs,
        output,
        force,
        source=source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        k=k,
        top=top,
        threads=threads,
    )


@command(analyze, "groups", "kinmer analyze groups contigs.zarr --by source")
def groups(
    source: Source,
    by: Annotated[str, option("Column of the groups, such as source.", "--by", show_default=True)] = "source",
    cluster: Annotated[str, option("Column of the clusters.", "--cluster", show_default=True)] = "cluster",
    output: Output = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metadata: Metadata = None,
    force: Force = False,
) -> None:
    """How the sequences of each group spread over the clusters."""
    from kinmer.analyses import GroupAnalysis, analyze_groups

    _analyze(
        GroupAnalysis,
        analyze_groups,
        output,
        force,
        source=source,
        by=by,
        cluster=cluster,
        vectors=vectors,
        ids=ids,
        metadata=metadata,
    )


def _number(text: str) -> float:
    from kinmer.errors import UsageError

    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{text!r} is not a valid number") from None


def _range(text: str) -> tuple[float, float]:
    from kinmer.errors import UsageError

    low, mark, high = text.partition("-")
    if not mark:
        raise UsageError(f"a range is low-high, such as 0-0.5, not {text!r}")
    return _number(low), _number(high)
