"""The commands that show a set of sequences: map and report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kinmer.cli.analysis import Metadata, Metric, Source, Vectors
from kinmer.cli.options import Force, Ids, Seed, Threads, note
from kinmer.cli.output import say

if TYPE_CHECKING:
    from kinmer.maps import MapResult

__all__ = ["register"]

Stem = Annotated[
    Path,
    typer.Option("--output", "-o", help="Stem of .tsv, .json, .png, .svg and .html.", show_default=False),
]
Page = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Page to write (default: the source's name with .html)."),
]
Method = Annotated[Literal["tsne", "umap"], typer.Option(help="t-SNE, or UMAP if umap-learn is installed.")]
Perplexity = Annotated[float, typer.Option(min=1, help="About how many neighbors a sequence attracts.")]
Iterations = Annotated[int, typer.Option(min=1, help="Iterations of t-SNE.")]
Into = Annotated[
    Path | None, typer.Option(help="Place the sequences on this existing map, which stays as it is.")
]
Reference = Annotated[
    Path | None, typer.Option(help="With --into: the map's own vectors, if they have been moved.")
]
Color = Annotated[
    str | None, typer.Option(help="Column that colors picture and page (default: gc, else length).")
]
Title = Annotated[str | None, typer.Option(help="Title of picture and page (default: the source's name).")]
FromStore = Annotated[
    bool, typer.Option("--from-store", help="Draw an existing map, of a store or of files, again.")
]
Picture = Annotated[bool, typer.Option("--picture/--no-picture", help="Write the .png and .svg.")]
WithPage = Annotated[bool, typer.Option("--page/--no-page", help="Write the interactive .html.")]
Keep = Annotated[
    bool, typer.Option("--store/--no-store", help="Also keep the coordinates in the obsm of a store.")
]
By = Annotated[str | None, typer.Option(help="Column whose groups are compared, such as source.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("map")(map_)
    app.command("report")(report)


def map_(
    source: Source,
    output: Stem,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    method: Method = "tsne",
    perplexity: Perplexity = 30,
    iterations: Iterations = 750,
    into: Into = None,
    reference: Reference = None,
    metadata: Metadata = None,
    color: Color = None,
    title: Title = None,
    from_store: FromStore = False,
    picture: Picture = True,
    page: WithPage = True,
    keep: Keep = True,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Draw all sequences on a map, similar ones close together, or place new ones on an existing map."""
    from kinmer.folders import check_output
    from kinmer.library import open_labeled
    from kinmer.maps import draw, make_map, open_map, place
    from kinmer.maps.mapfiles import stem_of
    from kinmer.maps.picture import beside, check_color

    stem = stem_of(output)
    endings = (".tsv", ".json", *[".png", ".svg"] * picture, *[".html"] * page)
    _check_map(stem, into, reference, from_store)
    for ending in endings:
        check_output(f"{stem}{ending}", force=force)
    known = None if into is None else open_map(into)

    def drawn(made: MapResult, at: Path) -> list[Path]:
        shown = made if known is None else beside(known, made)
        return draw(shown, at, color=color, title=title or source.name, picture=picture, page=page)

    written: Any = {"output": stem, "keep": keep, "force": force, "threads": threads, "more": drawn}
    if from_store:
        made = _redrawn(source, method, metadata, color, stem, drawn)
    elif known is None:
        space = open_labeled(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
        check_color(space.obs, color)
        made = make_map(
            space, method=method, perplexity=perplexity, iterations=iterations, seed=seed, **written
        )
    else:
        opening: Any = {"vectors": vectors, "ids": ids, "reference": reference, "metadata": metadata}
        made = place(source, known, **opening, **written)
    for line in made.notes:
        note(line)
    fit = "" if made.divergence is None else f", Kullback–Leibler divergence {made.divergence:.3f}"
    say(f"{len(made):,} sequences{fit}")
    for ending in endings:
        note(f"written: {stem}{ending}")


def _check_map(stem: Path, into: Path | None, reference: Path | None, from_store: bool) -> None:
    from kinmer.errors import UsageError
    from kinmer.maps.mapfiles import stem_of

    if from_store and into is not None:
        raise UsageError("--from-store computes nothing, so it does not go with --into")
    if reference is not None and into is None:
        raise UsageError("--reference is for --into")
    if into is not None and stem_of(into).absolute() == stem.absolute():
        raise UsageError("the output is the map that is placed into", check="choose another output")


def _redrawn(
    source: Path, method: Any, metadata: Path | None, color: str | None, stem: Path, drawn: Any
) -> MapResult:
    from kinmer.maps import known_more, open_map, write_map
    from kinmer.maps.picture import check_color

    made = open_map(source, method=method)
    made = made if metadata is None else known_more(made, metadata)
    check_color(made.obs, color)
    write_map(made, stem, more=drawn)
    return made


def report(
    source: Source,
    output: Page = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Metric = None,
    metadata: Metadata = None,
    by: By = None,
    title: Title = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Write everything known of a set of sequences on one page: map, clusters, distances, encoder."""
    from kinmer.reports import report as write_report

    page = write_report(
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
