"""The report: everything known of a set of sequences, on one page, with a folder of the numbers."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

import numpy as np

from kinmer._version import __version__
from kinmer.analyses import (
    analyze_counts,
    analyze_distances,
    analyze_groups,
    analyze_hubs,
    analyze_neighbors,
    analyze_one,
)
from kinmer.analyses.outputs import Analysis
from kinmer.box import located
from kinmer.clusters import cluster
from kinmer.clusters.partition import CLUSTERING
from kinmer.embedding import KEY
from kinmer.errors import KinmerError, UsageError, require
from kinmer.files import write_bytes, written_together
from kinmer.folders import FolderKind, check_output
from kinmer.library import open_labeled
from kinmer.maps import make_map
from kinmer.maps.picture import rendered, write_picture
from kinmer.profiles import info
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.vectors import Vectors

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

TEMPLATE = Path(__file__).with_suffix(".html")
# Rows of a list on the page; the files hold all.
SHOWN = 15
# Up to so many sequences a missing map is made for the report, which takes some minutes.
MAP_UP_TO = 100_000
# What the sections write; the folder has no marker of its own.
_STEMS = "lengths-and-gc|map|map-clusters|distances|neighbors|counts|hubs|one|groups"
FILES = FolderKind(
    "folder of a report",
    "",
    bool,
    rf"(?:{_STEMS})(?:-\w+)?\.(?:png|svg|tsv|json)|clusters/(?:{CLUSTERING.names})",
)


def report(
    source: Any,
    output: str | Path,
    *,
    vectors: str | Path | Encoder = KEY,
    ids: str | Path | None = None,
    metric: Metric | None = None,
    metadata: str | Path | None = None,
    by: str | None = None,
    title: str | None = None,
    seed: int = 0,
    threads: int | None = None,
    force: bool = False,
) -> Path:
    """Write everything known of a set of sequences on one HTML page; returns its path.

    The page ``NAME.html`` holds its pictures and needs no network. The tables, and pictures for papers, are
    in the folder ``NAME-files`` beside it. What the data do not allow is left out, with a note.

    Parameters
    ----------
    source, vectors, ids, metric : Any
        As of `kinmer.vectors.open_vectors`.
    output : str | Path
        The page.
    metadata : str | Path | None
        A TSV whose columns are joined by id.
    by : str | None
        Column whose groups are compared.

    Raises
    ------
    UsageError : an output that exists or is not an .html.
    """
    require("matplotlib", "the pictures of a report need it", "explore")
    page = check_output(output, force=force)
    if page.suffix != ".html":
        raise UsageError("the report must be named .html", place=page)
    folder = check_output(page.with_name(f"{page.stem}-files"), force=force, kind=FILES)
    opened = open_labeled(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    with written_together(page, folder) as (page_aside, aside):
        aside.mkdir()
        context = Context(opened, aside, by, seed, threads)
        with step("Report", len(SECTIONS)) as progress:
            for name, section in SECTIONS.items():
                try:
                    context.add(section(context))
                except KinmerError as error:
                    context.notes.append(f"{name}: {error}")
                progress.advance()
        text = _page(context, folder.name, title or Path(opened.place).name)
        write_bytes(page_aside, text.encode())
    return page


class Table(NamedTuple):
    """A small table; with an empty header, a list of names and values."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


class Section(NamedTuple):
    """A part of the page; `figures` of the page and all `files` are in the folder of the report."""

    title: str
    about: str
    tables: Sequence[Table] = ()
    figures: Sequence[Path] = ()
    files: Sequence[Path] = ()
    markdown: str = ""


@dataclass(frozen=True)
class Context:
    """What sections are made from; map and cluster numbers are there once their sections are made."""

    vectors: Vectors
    folder: Path
    by: str | None
    seed: int
    threads: int | None
    notes: list[str] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)

    def add(self, section: Section | None) -> None:
        """Add a section, if there is one."""
        if section is not None:
            self.sections.append(section)


def sequences(context: Context) -> Section:
    """Source, lengths and GC."""
    vectors = context.vectors
    rows = [
        ("from", vectors.place),
        ("sequences", f"{len(vectors):,}"),
        ("vectors", f"{vectors.name}, {vectors.dim} dimensions, {vectors.metric}"),
    ]
    if vectors.profiles is not None:
        known = info(vectors.profiles)
        rows.append(("profiles", f"{known.features:,} {known.values}: {', '.join(known.blocks)}"))
        if known.length_quantiles is not None:
            shortest, _, median, _, longest = (f"{length:,}" for length in known.length_quantiles)
            rows.append(("total length", f"{known.length_total:,} bases"))
            rows.append(("lengths", f"{shortest} to {longest}, median {median}, N50 {known.n50:,}"))
        if known.gc_mean is not None:
            rows.append(("GC", f"{known.gc_mean:.3f} ± {known.gc_sd:.3f}"))
        listed = [f"{name} ({count:,})" for name, count in list(known.sources.items())[:SHOWN]]
        more = len(known.sources) - len(listed)
        rows.append(("sources", ", ".join(listed) + (f" and {more:,} more" if more else "")))
        rows.append(("fingerprint", vectors.profiles.fingerprint))
    figures: list[Path] = []
    if {"length", "gc"} <= set(vectors.obs.columns):
        gc = vectors.obs["gc"].to_numpy(np.float64)
        finite = np.isfinite(gc)
        if finite.any():
            from kinmer import plots

            lengths = vectors.obs["length"].to_numpy(np.float64)[finite]
            figure = plots.lengths_and_gc(lengths, gc[finite])
            figures = plots.save(figure, context.folder / "lengths-and-gc")
    return Section("The sequences", "", [Table((), rows)], figures[:1], figures)


def encoder(context: Context) -> Section | None:
    """The card of the encoder."""
    known = context.vectors.provenance
    if not known:
        return None
    origin = str(known.get("encoder") or "")
    rows = [
        ("encoder", Path(origin).name if origin else "in memory"),
        ("fingerprint", str(known.get("encoder_fingerprint", "unknown"))),
    ]
    card = located(origin) / "card.md" if origin else None
    markdown = card.read_text(encoding="utf-8") if card is not None and card.is_file() else ""
    about = "The encoder that turned the sequences into vectors. Its card describes it."
    return Section("The encoder", about, [Table((), rows)], markdown=markdown)


def distances(context: Context) -> Section:
    """Random pairs."""
    made = analyze_distances(context.vectors, seed=context.seed)
    rows = [
        (
            {"l2": "Euclidean", "cosine": "cosine"}[metric],
            f"{of.mean:.4f} ± {of.sd:.4f}",
            f"{of.quantiles['0.05']:.4f} – {of.quantiles['0.95']:.4f}",
            str(of.modes),
            "–" if of.several is None else f"{100 * of.several:.0f} % of resamples",
            "–" if of.split is None else f"{100 * of.split:.0f} %",
        )
        for metric, of in made.by_metric.items()
    ]
    header = ("distance", "mean ± sd", "5–95 %", "peaks", "several peaks in", "variance between GC groups")
    about = (
        f"Distances of {made.pairs:,} random pairs. Several peaks often reflect GC content, so pairs within a"
        " GC group and pairs between the two groups are drawn separately."
    )
    return _analysis(context, "distances", "Distances between sequences", about, made, Table(header, rows))


def neighbors(context: Context) -> Section:
    """The nearest other sequences."""
    made = analyze_neighbors(context.vectors, seed=context.seed, threads=context.threads)
    nearest = made.distances
    rows = [
        ("mean", f"{nearest.mean():.4f} ± {nearest.std():.4f}"),
        ("minimum, median", f"{nearest.min():.4f}, {np.median(nearest):.4f}"),
        *((f"below {level:g}", f"{100 * share:.2f} %") for level, share in made.below.items()),
        (f"pairs at {made.duplicate_distance:g} or less", f"{len(made.duplicates):,}"),
    ]
    tables = [Table((), rows)]
    if made.duplicates:
        listed = [(pair.id, pair.other, f"{pair.distance:.5f}") for pair in made.duplicates[:SHOWN]]
        tables.append(Table(("sequence", "near-duplicate of", "distance"), listed))
    about = (
        f"The distance ({made.metric}) of {made.sampled:,} sequences to the nearest of all other sequences."
    )
    return _analysis(context, "neighbors", "The nearest other sequence", about, made, *tables)


def counts(context: Context) -> Section:
    """Numbers of sequences by distance."""
    made = analyze_counts(context.vectors, seed=context.seed, threads=context.threads)

    def shown(value: float | None, form: str) -> str:
        return "–" if value is None else f"{value:{form}}"

    rows = [
        (f"{low:.3g}–{high:.3g}", shown(r2, ".3f"), shown(slope, ".1f"), shown(intercept, ".1f"))
        for low, high, _, r2, slope, intercept in made.fits
    ]
    of = made.dimension
    value = "undefined" if of.value is None else f"{of.value:.1f} ({of.low:.1f}–{of.high:.1f})"
    about = (
        "How many sequences have their nearest other at a given distance, with lines fitted to these numbers."
        f" Intrinsic dimension by TwoNN: {value}."
    )
    table = Table(("range", "R²", "slope", "intercept"), rows)
    return _analysis(context, "counts", "Sequences by distance to the nearest", about, made, table)


def hubs(context: Context) -> Section:
    """Sequences that are near many others."""
    made = analyze_hubs(context.vectors, threads=context.threads)
    rows = [
        ("largest", f"{made.in_degree.max():,} of {made.points:,}"),
        ("skewness", "undefined" if made.skewness is None else f"{made.skewness:.2f}"),
        ("never among the nearest", f"{100 * made.never:.1f} %"),
    ]
    largest = made.top[["id", "in_degree"]].head(5).itertuples(index=False)
    top = [(str(name), f"{degree:,}") for name, degree in largest]
    about = (
        f"How often a sequence is among the {made.k} nearest of another. A hub is near to many sequences,"
        " also to unrelated ones."
    )
    return _analysis(context, "hubs", "Hubs", about, made, Table((), rows), Table(("hub", "times"), top))


def single(context: Context) -> Section:
    """A random sequence."""
    made = analyze_one(context.vectors, seed=context.seed)
    closest = made.closest[["id", "l2", "cosine"]].head(8).itertuples(index=False)
    rows = [(str(name), f"{l2:.4f}", f"{cosine:.4f}") for name, l2, cosine in closest]
    about = f"The distances of one random sequence, {made.id}, to all others, and its nearest sequences."
    table = Table(("nearest", "Euclidean", "cosine"), rows)
    return _analysis(context, "one", "One sequence", about, made, table)


def map_(context: Context) -> Section | None:
    """The map of the store, or one that is made now, colored by GC or length."""
    vectors = context.vectors
    points = vectors.beside("X_tsne")
    if points is None and len(vectors) > MAP_UP_TO:
        context.notes.append(f"map: a map of {len(vectors):,} sequences takes long, run kinmer map first")
        return None
    if points is None:
        points = make_map(vectors, keep=False, seed=context.seed, threads=context.threads).coordinates
    context.kept["map"] = points
    by = next((name for name in ("gc", "length") if name in vectors.obs), None)
    values = None if by is None else vectors.obs[by].to_numpy()
    written = write_picture(context.folder / "map", points, values, label=by or "")
    about = "t-SNE: sequences close together are similar. Distances between far groups mean little."
    return Section("The map", about, (), written[:1], written)


def clusters(context: Context) -> Section:
    """Clusters as made now, even if the store has some: their settings are then known."""
    vectors = context.vectors
    made = cluster(vectors, keep=False, seed=context.seed, threads=context.threads)
    written = made.write(context.folder / "clusters")
    figures = [path for path in written if path.name == "clusters.png"]
    if "map" in context.kept:
        stem = context.folder / "map-clusters"
        pictures = write_picture(stem, context.kept["map"], made.cluster, label="cluster")
        figures, written = [*pictures[:1], *figures], [*written, *pictures]
    context.kept["cluster"] = made.cluster
    inside = int((made.cluster > 0).sum())
    rows = [("clusters", f"{made.clusters:,}"), ("sequences in a cluster", f"{inside:,} of {len(vectors):,}")]
    if made.gc is not None:
        rows.append(("sd of GC", f"{made.gc[0]:.4f} within clusters, {made.gc[1]:.4f} overall"))
    tables = [Table((), rows)]
    if made.agreement:
        header = ("labels", "purity", "completeness", "V-measure", "ARI", "F1 of pairs")
        figures_of = [
            (of.purity, of.completeness_share, of.v_measure, of.ari, of.f1) for of in made.agreement
        ]
        shown = [["–" if value is None else f"{value:.3f}" for value in of] for of in figures_of]
        tables.append(Table(header, [(of.rank, *row) for of, row in zip(made.agreement, shown, strict=True)]))
    about = "Communities of the graph of nearest neighbors (Infomap)."
    return Section("Clusters", about, tables, figures, written)


def groups(context: Context) -> Section | None:
    """Groups of a column, over the clusters and on the map."""
    if context.by is None:
        return None
    vectors = replace(context.vectors, obs=context.vectors.obs.assign(cluster=context.kept["cluster"]))
    made = analyze_groups(vectors, context.by, coordinates=context.kept.get("map"))
    v = "undefined" if made.cramers_v is None else f"{made.cramers_v:.3f}"
    rows = [(str(name), f"{count:,}") for name, count in made.counts.sum(axis=0).items()]
    about = f"Sequences by {context.by}, over the clusters and on the map. Cramér's V is {v}."
    table = Table((context.by, "sequences"), rows[:SHOWN])
    return _analysis(context, "groups", "Groups compared", about, made, table)


def _analysis(context: Context, name: str, title: str, about: str, made: Analysis, *tables: Table) -> Section:
    written = made.write(context.folder / name)
    return Section(title, about, tables, [path for path in written if path.suffix == ".png"], written)


# In the order of the page, by the name in notes.
SECTIONS: dict[str, Callable[[Context], Section | None]] = {
    "sequences": sequences,
    "map": map_,
    "clusters": clusters,
    "groups": groups,
    "distances": distances,
    "neighbors": neighbors,
    "counts": counts,
    "hubs": hubs,
    "one": single,
    "encoder card": encoder,
}


def _page(context: Context, folder: str, title: str) -> str:
    """The page as HTML; everything that comes from the data is escaped."""
    return rendered(
        TEMPLATE,
        title=title,
        version=__version__,
        date=datetime.date.today().isoformat(),
        notes=context.notes,
        sections=[
            {
                **section._asdict(),
                "figures": [base64.b64encode(path.read_bytes()).decode() for path in section.figures],
                "files": [
                    (path.name, quote(f"{folder}/{path.relative_to(context.folder).as_posix()}"))
                    for path in section.files
                ],
                "card": _card(section.markdown),
            }
            for section in context.sections
        ],
    )


def _card(markdown: str) -> Any:
    """Markdown as HTML, its raw HTML escaped and its headings below the page's."""
    if not markdown:
        return ""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    below = "\n".join(f"##{line}" if line.startswith("#") else line for line in markdown.splitlines())
    return Markup(MarkdownIt("js-default", {"html": False}).enable("table").render(below))
