"""The commands that show a set of sequences: map and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from kinmer.cli.analysis import Metadata, Metric, Source, Vectors
from kinmer.cli.options import Force, Ids, Seed, Threads, note
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.maps import MapResult

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("map")(map_)
    app.command("report")(report)


def map_(
    source: Annotated[
        Path,
        typer.Argument(
            help="Embedded profile store, index (*.db), or .npy vectors with ids.", show_default=False
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Stem of .tsv, .json, .png, .svg and .html.", show_default=False),
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
    color: Annotated[
        str | None, typer.Option(help="Column that colours picture and page (default: gc, else length).")
    ] = None,
    title: Annotated[str | None, typer.Option(help="Title of picture and page.")] = None,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="Draw the map that is there, in obsm or files, again.")
    ] = False,
    picture: Annotated[bool, typer.Option("--picture/--no-picture", help="Write the .png and .svg.")] = True,
    page: Annotated[bool, typer.Option("--page/--no-page", help="Write the .html to look around in.")] = True,
    keep: Annotated[
        bool, typer.Option("--store/--no-store", help="Keep the coordinates in obsm of a store, too.")
    ] = True,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Every embedding as a point of a plane; new sequences placed into a map that is there."""
    from kinmer.errors import UsageError
    from kinmer.files import check_output
    from kinmer.maps import known_more, open_map, place, space_of, tsne
    from kinmer.maps.mapfiles import stem_of, write_map
    from kinmer.maps.picture import beside, check_color, draw

    def drawn(made: MapResult, at: Path) -> list[Path]:
        shown = made if known is None else beside(known, made)
        return draw(shown, at, color=color, title=title or source.name, picture=picture, page=page)

    if from_store and into is not None:
        raise UsageError("--from-store computes nothing, so it does not go with --into")
    if reference is not None and into is None:
        raise UsageError("--reference is for --into")
    stem = stem_of(output)
    endings = (".tsv", ".json", *[".png", ".svg"] * picture, *[".html"] * page)
    for ending in endings:
        check_output(f"{stem}{ending}", force=force)
    known = None if into is None else open_map(into)
    if into is not None and stem_of(into).absolute() == stem.absolute():
        raise UsageError("the output is the map that is placed into", check="choose another output")
    if from_store:
        made = open_map(source, method=method)
        made = made if metadata is None else known_more(made, metadata)
        check_color(made.obs, color)
        write_map(made, stem, more=drawn)
    elif known is None:
        space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
        check_color(space.obs, color)
        made = tsne(
            space,
            method=method,
            perplexity=perplexity,
            iterations=iterations,
            seed=seed,
            threads=threads,
            output=stem,
            keep=keep,
            force=force,
            more=drawn,
        )
    else:
        made = place(
            source,
            known,
            vectors=vectors,
            ids=ids,
            reference=reference,
            metadata=metadata,
            threads=threads,
            output=stem,
            keep=keep,
            force=force,
            more=drawn,
        )
    for line in made.notes:
        note(line)
    say(_told(made))
    for ending in endings:
        note(f"written: {stem}{ending}")


def _told(made: MapResult) -> str:
    """One line for people."""
    found = "" if made.divergence is None else f", Kullback–Leibler divergence {made.divergence:.3f}"
    return f"{len(made):,} sequences{found}"


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
