"""The command report: everything that is known of a store, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinmer.cli.analysis import Metadata, Metric, Source, Vectors
from kinmer.cli.options import Force, Ids, Seed, Threads, note

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("report")(report)


def report(
    source: Source,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Page to write (default: the source's name with .html)."),
    ] = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    by: Annotated[str | None, typer.Option(help="Column whose groups are compared, such as source.")] = None,
    title: Annotated[str | None, typer.Option(help="Title of the page (default: the source's name).")] = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Everything that is known of a store or an index, on one page that needs no network."""
    from kinmer.reports import report as make

    page = make(
        source,
        output or Path(f"{source.name.removesuffix(source.suffix)}.html"),
        vectors=vectors,
        ids=ids,
        metric=metric,
        metadata=metadata,
        by=by,
        title=title,
        seed=seed,
        threads=threads,
        force=force,
    )
    note(f"written: {page} and the folder {page.stem}-files")
