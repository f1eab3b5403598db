"""The commands cluster and evaluate clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.analysis import Metadata, Metric, Source, Vectors
from kinmer.cli.evaluation import evaluate
from kinmer.cli.options import Force, Ids, Seed, Threads, note
from kinmer.cli.output import say

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("cluster")(cluster)
    evaluate.command("clusters")(evaluate_clusters)


def cluster(
    source: Source,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder of the tables to write.")
    ] = None,
    method: Annotated[
        Literal["infomap", "leiden", "hdbscan"],
        typer.Option(help="On the neighbour graph: infomap, leiden; on a map: hdbscan."),
    ] = "infomap",
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Neighbours of a sequence.")] = 15,
    max_distance: Annotated[
        float | None,
        typer.Option(min=0, help="Longest edge (default: what is usual for the nearest)."),
    ] = None,
    max_in_degree: Annotated[
        int | None, typer.Option(min=1, help="Edges from others that name a sequence (default: 4 k).")
    ] = None,
    mutual: Annotated[bool, typer.Option("--mutual", help="Edges that both ends name only.")] = False,
    resolution: Annotated[float, typer.Option(help="Of leiden: more gives smaller clusters.")] = 3.0,
    min_size: Annotated[int, typer.Option(min=1, help="Smaller clusters count as none.")] = 2,
    coordinates: Annotated[str, typer.Option(help="Map in obsm that hdbscan looks at.")] = "X_tsne",
    keep: Annotated[
        bool, typer.Option("--store/--no-store", help='Keep the clusters in the store\'s obs["cluster"].')
    ] = True,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Clusters of all sequences, with what labels say of them; copies in other samples go together."""
    from kinmer.clusters import cluster as make

    made = make(
        source,
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        method=method,
        k=k,
        max_distance=max_distance,
        max_in_degree=max_in_degree,
        mutual=mutual,
        resolution=resolution,
        min_size=min_size,
        coordinates=coordinates,
        seed=seed,
        threads=threads,
        output=output,
        keep=keep,
        force=force,
    )
    say(made.text())
    if output is not None:
        note(f"written: {output}")


def evaluate_clusters(
    source: Annotated[
        Path, typer.Argument(help="TSV with id and cluster, or profile store.", show_default=False)
    ],
    labels: Annotated[Path | None, typer.Option(help="TSV: id and any ranks.")] = None,
    column: Annotated[str, typer.Option(help="Column that tells the clusters.")] = "cluster",
    ranks: Annotated[
        list[str] | None, typer.Option("--rank", help="Compare with this column only; repeatable.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stem of .tsv and .json to write.")
    ] = None,
    force: Force = False,
) -> None:
    """How do clusters, by whatever program, agree with labels?"""
    from kinmer.clusters import ClusterReport
    from kinmer.clusters import evaluate_clusters as evaluate_them
    from kinmer.clusters.agreement import RANKS
    from kinmer.folders import check_output

    for path in ClusterReport.outputs(output) if output is not None else ():
        check_output(path, force=force)
    found = evaluate_them(source, labels=labels, column=column, ranks=ranks or RANKS)
    say(found.text())
    if output is not None:
        for path in found.write(output):
            note(f"written: {path}")
