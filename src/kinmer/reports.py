"""The report: everything known of a set of sequences, on one page, with a folder of the numbers."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np

from kinmer import __version__
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
from kinmer.clusters import Agreement, cluster
from kinmer.clusters.partition import CLUSTERING
from kinmer.embedding import KEY
from kinmer.errors import KinmerError, UsageError
from kinmer.files import FolderKind, check_output, write_bytes, written_together
from kinmer.maps import tsne
from kinmer.maps.picture import write_picture
from kinmer.profiles import info
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.vectors import Space, space_of

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["SECTIONS", "Context", "Section", "Table", "report"]


# Rows of a list that are shown; the files have all.
SHOWN = 15
# A map that is not there is made for the report up to this many sequences: some minutes.
MAP_UP_TO = 100_000


@dataclass(frozen=True)
class Table:
    """A small table; a header of none is a list of names and values."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page. figures, files : in the folder of the report."""

    title: str
    about: str
    tables: Sequence[Table] = ()
    figures: Sequence[Path] = ()
    files: Sequence[Path] = ()
    markdown: str = ""


@dataclass(frozen=True)
class Context:
    """What sections are made from, and `folder`, where their files go."""

    space: Space
    folder: Path
    by: str | None
    seed: int
    threads: int | None
    notes: list[str] = field(default_factory=list)
    kept: dict[str, Any] = field(default_factory=dict)


def data_card(given: Context) -> Section:
    """What the sequences are."""
    space = given.space
    rows = [("from", space.place), ("sequences", f"{len(space):,}"), ("vectors", _vectors(space))]
    figures: list[Path] = []
    if space.profiles is not None:
        told = info(space.profiles)
        rows += [("profiles", f"{told.features:,} {told.values}: {', '.join(told.blocks)}")]
        if told.length_quantiles is not None:
            shortest, _, median, _, longest = (f"{one:,}" for one in told.length_quantiles)
            rows.append(("letters", f"{told.length_total:,}"))
            rows.append(("lengths", f"{shortest} to {longest}, median {median}, N50 {told.n50:,}"))
        if told.gc_mean is not None:
            rows.append(("GC", f"{told.gc_mean:.3f} ± {told.gc_sd:.3f}"))
        sources = [f"{name} ({count:,})" for name, count in list(told.sources.items())[:SHOWN]]
        more = len(told.sources) - len(sources)
        rows.append(("sources", ", ".join(sources) + (f" and {more:,} more" if more else "")))
        rows.append(("fingerprint", space.profiles.fingerprint))
    if {"length", "gc"} <= set(space.obs.columns):
        from kinmer import plots

        gc = space.obs["gc"].to_numpy(np.float64)
        there = np.isfinite(gc)
        if there.any():
            lengths = space.obs["length"].to_numpy(np.float64)[there]
            figures = plots.save(plots.lengths_and_gc(lengths, gc[there]), given.folder / "lengths-and-gc")
    return Section("The sequences", "", [Table((), rows)], figures[:1], figures)


def encoder_card(given: Context) -> Section | None:
    """What the encoder says of itself."""
    told = given.space.encoder
    if not told:
        return None
    origin = str(told.get("encoder") or "")
    rows = [
        ("encoder", Path(origin).name if origin else "in memory"),
        ("fingerprint", str(told.get("encoder_fingerprint", "unknown"))),
    ]
    card = located(origin) / "card.md" if origin else None
    markdown = card.read_text(encoding="utf-8") if card is not None and card.is_file() else ""
    return Section(
        "The encoder", "What embedded the sequences, in its own words.", [Table((), rows)], markdown=markdown
    )


def distances(given: Context) -> Section:
    """Random pairs."""
    found = analyze_distances(given.space, seed=given.seed)
    rows = [
        (
            {"l2": "Euclidean", "cosine": "cosine"}[metric],
            f"{one.mean:.4f} ± {one.sd:.4f}",
            f"{one.quantiles['0.05']:.4f} – {one.quantiles['0.95']:.4f}",
            str(one.modes),
            "–" if one.several is None else f"{100 * one.several:.0f} % of resamples",
            "–" if one.split is None else f"{100 * one.split:.0f} %",
        )
        for metric, one in found.by_metric.items()
    ]
    header = ("distance", "mean ± sd", "5–95 %", "modes", "several modes in", "variance between GC groups")
    about = (
        f"{found.pairs:,} random pairs. More than one mode often goes with GC: pairs within and across two GC"
        " groups are drawn apart."
    )
    return _analysis(given, "distances", "Distances between any two", about, found, Table(header, rows))


def neighbors(given: Context) -> Section:
    """Nearest others."""
    found = analyze_neighbors(given.space, seed=given.seed, threads=given.threads)
    far = found.distances
    rows = [
        ("mean", f"{far.mean():.4f} ± {far.std():.4f}"),
        ("minimum, median", f"{far.min():.4f}, {np.median(far):.4f}"),
        *((f"below {level:g}", f"{100 * share:.2f} %") for level, share in found.below.items()),
        (f"pairs at {found.duplicate_distance:g} or nearer", f"{len(found.duplicates):,}"),
    ]
    tables = [Table((), rows)]
    if found.duplicates:
        listed = [(one.id, one.other, f"{one.distance:.5f}") for one in found.duplicates[:SHOWN]]
        tables.append(Table(("nearly the same", "as", "distance"), listed))
    about = f"{found.sampled:,} sequences asked for their nearest among all; {found.metric} distance."
    return _analysis(given, "neighbors", "The nearest other", about, found, *tables)


def counts(given: Context) -> Section:
    """Counts against distance."""
    found = analyze_counts(given.space, seed=given.seed, threads=given.threads)
    rows = [
        (
            f"{one.low:.3g}–{one.high:.3g}",
            *(
                "–" if value is None else f"{value:{form}}"
                for value, form in zip(one[3:], (".3f", ".1f", ".1f"), strict=True)
            ),
        )
        for one in found.fits
    ]
    one = found.dimension
    told = "undefined" if one.value is None else f"{one.value:.1f} ({one.low:.1f}–{one.high:.1f})"
    about = (
        "Sequences counted by the distance to their nearest, and lines through the counts. Intrinsic"
        f" dimension by TwoNN: {told}."
    )
    header = ("range", "R²", "slope", "intercept")
    return _analysis(given, "counts", "Counts against distance", about, found, Table(header, rows))


def hubs(given: Context) -> Section:
    """Hubs."""
    found = analyze_hubs(given.space, threads=given.threads)
    skew = "undefined" if found.skewness is None else f"{found.skewness:.2f}"
    rows = [
        ("largest", f"{found.in_degree.max():,} of {found.points:,}"),
        ("skewness", skew),
        ("near nobody", f"{100 * found.never:.1f} %"),
    ]
    top = [
        (str(name), f"{degree:,}")
        for name, degree in found.top[["id", "in_degree"]].head(5).itertuples(index=False)
    ]
    about = (
        f"How often a sequence is among the {found.k} nearest of another. Hubs are near to much that is"
        " no kin of theirs."
    )
    return _analysis(given, "hubs", "Hubs", about, found, Table((), rows), Table(("hub", "times"), top))


def one(given: Context) -> Section:
    """A random sequence."""
    found = analyze_one(given.space, seed=given.seed)
    rows = [
        (str(name), f"{l2:.4f}", f"{cosine:.4f}")
        for name, l2, cosine in found.closest[["id", "l2", "cosine"]].head(8).itertuples(index=False)
    ]
    about = f"{found.id}, drawn at random: its distances to all others, and its closest."
    return _analysis(
        given, "one", "One sequence", about, found, Table(("closest", "Euclidean", "cosine"), rows)
    )


def the_map(given: Context) -> Section | None:
    """The map, by GC or length; that of the store, or one that is made now."""
    space = given.space
    where = space.beside("X_tsne")
    if where is None and len(space) > MAP_UP_TO:
        given.notes.append(f"map: there is none, and {len(space):,} sequences take long: run kinmer map")
        return None
    if where is None:
        where = tsne(space, keep=False, seed=given.seed, threads=given.threads).coordinates
    given.kept["map"] = where
    by = next((name for name in ("gc", "length") if name in space.obs), None)
    values = None if by is None else space.obs[by].to_numpy()
    written = write_picture(given.folder / "map", where, values, label=by or "")
    about = "t-SNE: what lies together is alike; distances far apart say little."
    return Section("The map", about, (), written[:1], written)


def the_clusters(given: Context) -> Section:
    """Clusters as they are made now, also where the store has some: their settings are then known."""
    space = given.space
    made = cluster(space, keep=False, seed=given.seed, threads=given.threads)
    written = made.write(given.folder / "clusters")
    figures = [path for path in written if path.name == "clusters.png"]
    if "map" in given.kept:
        pictures = write_picture(
            given.folder / "map-clusters", given.kept["map"], made.cluster, label="cluster"
        )
        figures, written = [*pictures[:1], *figures], [*written, *pictures]
    given.kept["cluster"] = made.cluster
    inside = int((made.cluster > 0).sum())
    rows = [("clusters", f"{made.clusters:,}"), ("sequences in one", f"{inside:,} of {len(space):,}")]
    if made.gc is not None:
        rows.append(("sd of GC", f"{made.gc[0]:.4f} within clusters, {made.gc[1]:.4f} over all"))
    tables = [Table((), rows)]
    if made.agreement:
        header = ("labels", "purity", "completeness", "V-measure", "ARI", "F1 of pairs")
        tables.append(Table(header, [_agreed(one) for one in made.agreement]))
    about = "Communities of the graph of nearest neighbours (Infomap)."
    return Section("Clusters", about, tables, figures, written)


def _agreed(one: Agreement) -> tuple[str, ...]:
    shown = (one.purity, one.completeness_share, one.v_measure, one.ari, one.f1)
    return (one.rank, *("–" if value is None else f"{value:.3f}" for value in shown))


def groups(given: Context) -> Section | None:
    """Groups over clusters and on the map."""
    if given.by is None:
        return None
    space = replace(given.space, obs=given.space.obs.assign(cluster=given.kept["cluster"]))
    found = analyze_groups(space, given.by, coordinates=given.kept.get("map"))
    v = "undefined" if found.cramers_v is None else f"{found.cramers_v:.3f}"
    rows = [(str(name), f"{count:,}") for name, count in found.counts.sum(axis=0).items()]
    about = f"Sequences by {given.by}, over the clusters and the map; Cramér's V {v}."
    table = Table((given.by, "sequences"), rows[:SHOWN])
    return _analysis(given, "groups", "Groups compared", about, found, table)


SECTIONS: tuple[Callable[[Context], Section | None], ...] = (
    data_card,
    the_map,
    the_clusters,
    groups,
    distances,
    neighbors,
    counts,
    hubs,
    one,
    encoder_card,
)


def _vectors(space: Space) -> str:
    return f"{space.vectors}, {space.dim} dimensions, {space.metric}"


def _analysis(given: Context, name: str, title: str, about: str, found: Analysis, *tables: Table) -> Section:
    written = found.write(given.folder / name)
    figures = [path for path in written if path.suffix == ".png"]
    return Section(title, about, tables, figures, written)


def attempted(section: Callable[[Context], Section | None], given: Context) -> Section | None:
    """The section; where the data do not allow it (too few sequences, say), None and a note."""
    try:
        return section(given)
    except KinmerError as error:
        given.notes.append(f"{section.__name__.removeprefix('the_').replace('_', ' ')}: {error}")
        return None


TEMPLATE = Path(__file__).with_suffix(".html")
# What the sections write, each under a name of its own; the folder has no file that says whose it is.
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
    """Everything that is known of a store or an index, on one HTML page; gives its path.

    The page ``NAME.html`` holds its pictures and needs no network; the tables, and pictures for papers, stand
    in the folder ``NAME-files`` beside it. What the data do not allow is left out, and said.

    Parameters
    ----------
    source, vectors, ids, metric : what `kinmer.vectors.open_space` takes, or a Space.
    output : the page.
    metadata : a TSV with what is known of the sequences.
    by : column whose groups are compared.

    Raises UsageError where an output exists or is no .html, and what opening the source raises.
    """
    page = check_output(output, force=force)
    if page.suffix != ".html":
        raise UsageError("the report must be named .html", place=page)
    folder = check_output(page.with_name(f"{page.stem}-files"), force=force, kind=FILES)
    space = space_of(source, vectors=vectors, ids=ids, metric=metric, metadata=metadata)
    with written_together(page, folder) as (page_aside, aside):
        aside.mkdir()
        given = Context(space, aside, by, seed, threads)
        found: list[Section] = []
        with step("Report", len(SECTIONS)) as progress:
            for section in SECTIONS:
                made = attempted(section, given)
                found += [made] if made is not None else []
                progress.advance()
        text = _page(found, given, folder.name, title or Path(space.place).name)
        write_bytes(page_aside, text.encode())
    return page


def _page(sections: list[Section], given: Context, folder: str, title: str) -> str:
    """The page as HTML; everything that comes from the data is escaped."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        title=title,
        version=__version__,
        date=datetime.date.today().isoformat(),
        notes=given.notes,
        sections=[_shown(one, given.folder, folder) for one in sections],
    )


def _shown(section: Section, made_in: Path, folder: str) -> dict[str, Any]:
    figures = [
        f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}" for path in section.figures
    ]
    files = [
        {"name": path.name, "href": quote(f"{folder}/{path.relative_to(made_in).as_posix()}")}
        for path in section.files
    ]
    return {
        "title": section.title,
        "about": section.about,
        "tables": section.tables,
        "figures": figures,
        "files": files,
        "card": _card(section.markdown),
    }


def _card(markdown: str) -> Any:
    """Markdown as HTML, its raw HTML escaped and its headings below the page's."""
    if not markdown:
        return ""
    from markdown_it import MarkdownIt
    from markupsafe import Markup

    below = "\n".join(f"##{line}" if line.startswith("#") else line for line in markdown.splitlines())
    return Markup(MarkdownIt("js-default", {"html": False}).enable("table").render(below))
