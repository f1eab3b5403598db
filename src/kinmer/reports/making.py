"""Makes the report: all sections, one page that holds its pictures, and a folder with the numbers."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from kinmer import __version__
from kinmer.clusters.partition import CLUSTERING
from kinmer.embedding import KEY
from kinmer.errors import UsageError
from kinmer.files import FolderKind, check_output, write_bytes, written_together
from kinmer.progress import step
from kinmer.reports.sections import SECTIONS, Context, Section, attempted
from kinmer.stores import Metric
from kinmer.vectors import space_of

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

__all__ = ["report"]

TEMPLATE = Path(__file__).with_name("page.html")
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
