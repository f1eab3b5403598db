"""Commands that explore a set of sequences: count, embed, map, cluster, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kinmer.cli.encoders import Device, Encoder
from kinmer.cli.options import (
    Force,
    Ids,
    Metric,
    MinLength,
    Seed,
    Threads,
    advanced,
    argument,
    command,
    note,
    option,
)
from kinmer.cli.output import say
from kinmer.cli.tools import count

if TYPE_CHECKING:
    from kinmer.maps import MapResult

Source = Annotated[Path, argument("Profile store with embeddings, index (*.db), or .npy vectors with ids.")]
Vectors = Annotated[
    str,
    advanced(
        "Key of obsm, raw, raw-joint, or an encoder, which embeds the profiles now.",
        "--vectors",
        show_default=True,
    ),
]
Distance = Annotated[Metric | None, advanced("Distance (default: the index's, else cosine).", "--metric")]
Metadata = Annotated[Path | None, option("Table (TSV): id and any columns to show.", "--metadata")]
Stem = Annotated[Path, option("Stem of .tsv, .json, .png, .svg and .html.", "--output", "-o")]
Title = Annotated[str | None, option("Title of picture and page (default: the source's name).", "--title")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    panel = "Explore"
    command(app, "count", "kinmer count contigs.fna.gz -o contigs.zarr --coding", panel)(count)
    command(app, "embed", "kinmer embed contigs.zarr", panel)(embed)
    command(app, "map", "kinmer map contigs.zarr -o map --color gc", panel)(map_)
    command(app, "cluster", "kinmer cluster contigs.zarr -o clusters", panel)(cluster)
    command(app, "report", "kinmer report contigs.zarr -o report.html", panel)(report)


Method = Annotated[
    Literal["tsne", "umap"],
    option("t-SNE, or UMAP if umap-learn is installed.", "--method", show_default=True),
]
Perplexity = Annotated[
    float,
    advanced("About how many neighbors a sequence attracts.", "--perplexity", min=1, show_default=True),
]
Iterations = Annotated[int, advanced("Iterations of t-SNE.", "--iterations", min=1, show_default=True)]
Into = Annotated[
    Path | None, option("Place the sequences on this existing map, which stays as it is.", "--into")
]
Reference = Annotated[
    Path | None, advanced("With --into: the map's own vectors, if they have been moved.", "--reference")
]
Color = Annotated[
    str | None, option("Column that colors picture and page (default: gc, else length).", "--color")
]
FromStore = Annotated[bool, option("Draw an existing map, of a store or of files, again.", "--from-store")]
Picture = Annotated[bool, advanced("Write the .png and .svg.", "--picture/--no-picture", show_default=True)]
Page = Annotated[bool, advanced("Write the interactive .html.", "--page/--no-page", show_default=True)]
Keep = Annotated[
    bool,
    advanced("Also keep the coordinates in the obsm of a store.", "--keep/--no-keep", show_default=True),
]


def embed(
    source: Annotated[Path, argument("Profile store, k-mer table or FASTA (- is stdin).")],
    encoder: Encoder = None,
    output: Annotated[
        Path | None, option("Write an .npy and its ids (default: into the store).", "--output", "-o")
    ] = None,
    batch: Annotated[int, advanced("Rows embedded together.", "--batch", min=1, show_default=True)] = 4096,
    device: Device = "auto",
    threads: Threads = None,
    min_length: MinLength = 1000,
    ids: Ids = None,
    force: Force = False,
) -> None:
    """Turn profiles or sequences into vectors, with kinmer's encoder or your own."""
    from kinmer.embedding import embed as embed_source

    written = embed_source(
        source if str(source) != "-" else "-",
        encoder,
        output=output,
        ids=ids,
        min_length=min_length,
        batch=batch,
        device=device,
        threads=threads,
        force=force,
    )
    note(f"embeddings written to {written if isinstance(written, Path) else output or source}")


def map_(
    source: Source,
    output: Stem,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
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
    page: Page = True,
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
        points = open_labeled(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
        check_color(points.obs, color)
        made = make_map(
            points, method=method, perplexity=perplexity, iterations=iterations, seed=seed, **written
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


Output = Annotated[Path | None, option("Folder of the tables to write.", "--output", "-o")]
ClusterMethod = Annotated[
    Literal["infomap", "leiden", "hdbscan"],
    option("On the neighbor graph: infomap, leiden. On a map: hdbscan.", "--method", show_default=True),
]
KNearest = Annotated[int, option("Neighbors of a sequence.", "-k", min=1, show_default=True)]
MaxDistance = Annotated[
    float | None,
    option("Longest edge (default: what is usual for the nearest).", "--max-distance", min=0),
]
MaxInDegree = Annotated[
    int | None, advanced("Edges from others to one sequence (default: 4 k).", "--max-in-degree", min=1)
]
Mutual = Annotated[bool, advanced("Only edges that both ends have.", "--mutual")]
Resolution = Annotated[
    float, option("Of leiden: more gives smaller clusters.", "--resolution", show_default=True)
]
MinSize = Annotated[int, option("Smaller clusters become cluster 0.", "--min-size", min=1, show_default=True)]
Coordinates = Annotated[str, advanced("Map in obsm that hdbscan uses.", "--coordinates", show_default=True)]
ClusterKeep = Annotated[
    bool,
    advanced('Keep the clusters in obs["cluster"] of a store.', "--keep/--no-keep", show_default=True),
]


def cluster(
    source: Source,
    output: Output = None,
    method: ClusterMethod = "infomap",
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    metadata: Metadata = None,
    k: KNearest = 15,
    max_distance: MaxDistance = None,
    max_in_degree: MaxInDegree = None,
    mutual: Mutual = False,
    resolution: Resolution = 3.0,
    min_size: MinSize = 2,
    coordinates: Coordinates = "X_tsne",
    keep: ClusterKeep = True,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Group sequences that belong together. Copies in other samples stay together."""
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


def report(
    source: Source,
    output: Annotated[
        Path | None, option("Page to write (default: the source's name with .html).", "--output", "-o")
    ] = None,
    vectors: Vectors = "X_kinmer",
    ids: Ids = None,
    metric: Distance = None,
    metadata: Metadata = None,
    by: Annotated[str | None, option("Column whose groups are compared, such as source.", "--by")] = None,
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
