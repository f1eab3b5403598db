"""The encoders that come with kinmer: folders in this package, made by ``tools/make_box.py``.

A released encoder never changes: a better one gets a new name, and an index goes on with the copy of the one
it was made with.
"""

from __future__ import annotations

from pathlib import Path

from kinmer.errors import UsageError
from kinmer.inputs import read_json
from kinmer.layout import Layout

__all__ = ["BOXED", "boxed", "boxed_for", "located", "origin_of", "version_note"]

# The newest first: of those that take a layout the first is used where none is named.
BOXED = ("kin-2", "kin-1", "kin-1-kmers")
FOLDER = Path(__file__).parent


def boxed(name: str = BOXED[0]) -> Path:
    """The folder of an encoder that comes with kinmer; UsageError for another name."""
    if name not in BOXED:
        raise UsageError(f"no encoder {name!r} comes with kinmer", check=f"there are {', '.join(BOXED)}")
    return FOLDER / name


def boxed_for(layout: Layout) -> Path:
    """The newest encoder that comes with kinmer and takes profiles of this layout.

    Raises UsageError where there is none.
    """
    for name in BOXED:
        theirs = Layout.from_dict(read_json(FOLDER / name / "config.json")["layout"])
        if theirs.fingerprint == layout.fingerprint:
            return FOLDER / name
    raise UsageError(
        f"no encoder that comes with kinmer takes {layout!r}",
        check="count 6-mers, with or without --coding, or give an encoder",
    )


def version_note(name: str) -> str:
    """What an index made with the encoder `name` says where another one is the newest; else nothing.

    Names of users' own encoders, and none, say nothing.
    """
    kind = name.partition("-")[0] == BOXED[0].partition("-")[0]
    if not kind or name in BOXED:
        return ""
    return (
        f"the index was made with the encoder {name}, and goes on with it; this kinmer brings"
        f" {', '.join(BOXED)}: to change, embed the sequences again and index them anew"
    )


def origin_of(encoder: str | Path) -> str:
    """What is written down of where an encoder came from: its name in the box, or its folder."""
    path = located(encoder).absolute()
    return path.name if path.parent == FOLDER else str(path)


def located(encoder: str | Path) -> Path:
    """An encoder's folder, given it or the name of one that comes with kinmer; a folder of that name wins."""
    path = Path(encoder)
    return FOLDER / path.name if str(encoder) in BOXED and not path.exists() else path
