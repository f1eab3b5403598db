"""What is in a profile store beside its rows: groups, variables, and how it describes itself.

The description stands twice: among the attributes of the root file, where kinmer reads it (replaced together
with the visible rows), and in ``uns["kinmer"]`` for people who open the store with AnnData.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kinmer import __version__
from kinmer.errors import FormatError, MismatchError
from kinmer.files import remove
from kinmer.layout import Layout
from kinmer.profiles.arrays import write_array
from kinmer.profiles.base import Values
from kinmer.profiles.checksums import without
from kinmer.profiles.root import FORMAT_VERSION, Root, write_group

__all__ = ["FORMAT_VERSION", "begin_append", "chunk_rows_of", "describe", "write_skeleton", "write_uns"]

CHUNK_BYTES = 6 << 20


def chunk_rows_of(width: int) -> int:
    """Rows of one chunk of 4-byte values: the power of two that makes 3 to 6 MB (512 at 2,772 features)."""
    return 1 << min(12, max(4, (CHUNK_BYTES // (4 * width)).bit_length() - 1))


def describe(
    layout: Layout, values: Values, *, rows: int, fingerprint: str, made: list[dict[str, Any]]
) -> dict[str, Any]:
    """The store's description of itself; `made`: how, one entry for every run that wrote rows."""
    return {
        "format_version": FORMAT_VERSION,
        "kinmer_version": __version__,
        "layout": layout.to_dict(),
        "layout_fingerprint": layout.fingerprint,
        "values": values,
        "rows": rows,
        "fingerprint": fingerprint,
        "made": made,
    }


def write_skeleton(folder: Path, layout: Layout) -> None:
    """Groups and variables of an empty store; no root file, so that nobody takes it for whole."""
    for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
        write_group(folder / name)
    frame = {"_index": "_index", "encoding-type": "dataframe", "encoding-version": "0.2.0"}
    categorical = {"ordered": False, "encoding-type": "categorical", "encoding-version": "0.2.0"}
    write_group(folder / "obs", {"column-order": [], **frame})
    write_group(folder / "obs/source", categorical)
    write_group(folder / "var", {"column-order": ["k", "block"], **frame})
    sizes = [block.size for block in layout.blocks]
    write_array(folder / "var/_index", list(layout.features))
    write_array(
        folder / "var/k", np.repeat(np.array([block.k for block in layout.blocks], dtype=np.int64), sizes)
    )
    write_array(folder / "var/block", np.repeat([block.name for block in layout.blocks], sizes))


def write_uns(folder: Path, description: Mapping[str, Any]) -> None:
    """The copy of the description in ``uns["kinmer"]``; nested parts as JSON text."""
    remove(folder / "uns/kinmer")
    write_group(folder / "uns/kinmer")
    for name, value in without(description).items():
        flat = value if isinstance(value, (str, int)) else json.dumps(value)
        write_array(folder / "uns/kinmer" / name, flat)
    ks = Layout.from_dict(description["layout"]).ks
    write_array(folder / "uns/kinmer/k", np.array(ks, dtype=np.int64))


def begin_append(
    path: Path, root: Root, layout: Layout, values: Values, journal: dict[str, Any] | None
) -> dict[str, Any]:
    """Where to go on in the whole store at `path`: its end, or that of an unfinished append."""
    nodes, description = root.nodes, root.description or {}
    if (
        description.get("format_version") != FORMAT_VERSION
        or "obs/source/codes" not in nodes
        or root.rewritten.intersection(("X", "obs/_index", "obs/source/codes", "obs/source/categories"))
    ):
        raise FormatError(
            "this store cannot be appended to",
            "it was written by AnnData or another version of kinmer",
            "count into a new store",
            place=path,
        )
    kept = Layout.from_dict(description["layout"])
    if description["layout_fingerprint"] != layout.fingerprint or description["values"] != values:
        raise MismatchError(
            f"the store holds {description['values']} of {kept}, not {values} of {layout}",
            check="append with the same --max-k and --coding",
            place=path,
        )
    if kept.genetic_code != layout.genetic_code:
        raise MismatchError(
            f"the store's frames are of genetic code {kept.genetic_code}, not {layout.genetic_code}",
            check="append with the same --genetic-code",
            place=path,
        )
    rows, sources = int(nodes["X"]["shape"][0]), int(nodes["obs/source/categories"]["shape"][0])
    if journal is not None and journal["base"] == rows:
        return journal
    # No unfinished append, or one whose last step was done when it was killed.
    return {"base": rows, "rows": rows, "sources": sources, "state": None}
