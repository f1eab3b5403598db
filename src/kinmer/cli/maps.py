"""The command that draws the map: map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.options import Force, Ids, Seed, Threads, note

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("map")(map_)


def map_(
    source: Annotated[
        Path,
        typer.Argument(
            help="Embedded profile store, index (*.db), or .npy vectors with ids.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Stem of .tsv and .json to write.", show_default=False)
    ],
    vectors: Annotated[
        str, typer.Option(help="Key of obsm; raw, raw-joint; or an encoder, which embeds the profiles now.")
    ] = "X_kinmer",
    ids: Ids = None,
    metric: Annotated[
        Literal["cosine", "l2"] | None, typer.Option(help="Distance (default: the index's, else cosine).")
    ] = None,
    method: Annotated[
        Literal["tsne", "umap"], typer.Option(help="t-SNE, or UMAP where umap-learn is installed.")
    ] = "tsne",
    perplexity: Annotated[float, typer.Option(min=1, help="How many others a point attracts.")] = 30,
    iterations: Annotated[int, typer.Option(min=1, help="All of them, the exaggerated ones too.")] = 750,
    into: Annotated[
        Path | None, typer.Option(help="Place the sequences into this map, which stays as it is.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="With --into: the map's own vectors, where they have been moved.")
    ] = None,
    metadata: Annotated[Path | None, typer.Option(help="TSV: id and any columns to show and keep.")] = None,
    keep: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep the coordinates in obsm of a store, too.")
    ] = True,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Every embedding as a point of a plane; new sequences placed into a map that is there."""
    from kinmer.maps import place, tsne
    from kinmer.maps.saving import stem_of

    if into is None:
        if reference is not None:
            raise _usage("--reference is for --into")
        made = tsne(
            source,
            vectors=vectors,
            ids=ids,
            metric=metric,
            metadata=metadata,
            method=method,
            perplexity=perplexity,
            iterations=iterations,
            seed=seed,
            threads=threads,
            output=output,
            keep=keep,
            force=force,
        )
    else:
        made = place(
            source,
            into,
            vectors=vectors,
            ids=ids,
            reference=reference,
            metadata=metadata,
            threads=threads,
            output=output,
            keep=keep,
            force=force,
        )
    for line in made.notes:
        note(line)
    found = "" if made.divergence is None else f", Kullback–Leibler divergence {made.divergence:.3f}"
    typer.echo(f"{len(made):,} sequences{found}")
    for suffix in (".tsv", ".json"):
        note(f"written: {stem_of(output)}{suffix}")


def _usage(what: str) -> Exception:
    from kinmer.errors import UsageError

    return UsageError(what)
