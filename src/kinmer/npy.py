"""Moves profiles between the old ``.npy`` + ids pair and the profile store.

The pair: float32 frequencies, every k normalised on its own. 2,773 columns: sequence length, then 6- to
1-mers; 10,965 columns: row index, then 7- to 1-mers (read only). Ids stand one a line in a text file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import NDArray

from kinmer.errors import ProfileError, UsageError
from kinmer.files import write_bytes, written_together
from kinmer.folders import check_output
from kinmer.layout import Layout, kmer_layout
from kinmer.profiles import NpyProfiles, Profiles, ProfileStore, ProfileWriter, open_profiles
from kinmer.profiles.root import STORE
from kinmer.progress import step

if TYPE_CHECKING:
    from anndata import AnnData

BLOCK_ROWS = 4096
EXPORT_K = 6


def import_profiles(
    table: str | Path,
    ids: str | Path | None,
    output: str | Path,
    *,
    max_k: int | None = None,
    force: bool = False,
) -> ProfileStore:
    """Write the profile store `output` from an ``.npy`` table; a killed import resumes where it was.

    Parameters
    ----------
    ids : str | Path | None
        Text file, one id a line; None: the one beside the table. max_k : leave larger k-mers out (6 drops
    Notes
    -----
    the 7-mers of a table of 10,965 columns). The store holds frequencies; it has no column ``length`` where
    the table has none.

    Raises ProfileError (see `kinmer.profiles.NpyProfiles`), UsageError where the output exists or the table
    has no k-mers of `max_k`.
    """
    check_output(output, force=force, kind=STORE)
    profiles = NpyProfiles(table, ids)
    layout = _narrowed(profiles.layout, max_k)
    columns = _columns_of(profiles.layout, layout)
    stat = profiles.path.stat()
    inputs = {
        "table": str(profiles.path.absolute()),
        "bytes": stat.st_size,
        "modified_ns": stat.st_mtime_ns,
        "ids": profiles.fingerprint,
        "max_k": layout.ks[0],
    }
    lengths = profiles.obs["length"].to_numpy(dtype=np.int64) if profiles.has_lengths else None
    with (
        ProfileWriter.create(
            output,
            layout,
            values="frequencies",
            signature={"command": "import", **inputs},
            lengths=profiles.has_lengths,
            force=force,
        ) as writer,
        step("importing", len(profiles)) as shown,
    ):
        shown.advance(writer.rows)
        for start in range(writer.rows, len(profiles), BLOCK_ROWS):
            stop = min(start + BLOCK_ROWS, len(profiles))
            writer.append(
                profiles.ids[start:stop].tolist(),
                profiles.read(start, stop)[:, columns],
                lengths=None if lengths is None else lengths[start:stop],
                sources=profiles.path.name,
            )
            writer.commit({})
            shown.advance(stop - start)
        writer.finish({"command": "import", "table": str(profiles.path), "max_k": layout.ks[0]})
    return ProfileStore.open(output)


def export_profiles(
    source: str | Path | AnnData | Profiles, table: str | Path, ids: str | Path, *, force: bool = False
) -> int:
    """Write profiles as the pair of 2,773 columns: `table` (``.npy``, float32) and `ids` (text).

    Parameters
    ----------
    source : str | Path | AnnData | Profiles
        Anything `open_profiles` takes, with 6- to 1-mers and sequence lengths; larger k-mers and
    Notes
    -----
    reading frames are left out, counts become frequencies. Returns the number of rows. Both files appear
    whole or not at all.

    Raises ProfileError where lengths or 6-mers are missing, UsageError where an output exists.
    """
    if Path(table).absolute() == Path(ids).absolute():
        raise UsageError("the table and its ids cannot be one file", place=table)
    table, ids = check_output(table, force=force), check_output(ids, force=force)
    profiles = open_profiles(source)
    layout = _narrowed(profiles.layout, EXPORT_K)
    columns = _columns_of(profiles.layout, layout)
    obs = profiles.obs
    if "length" not in obs:
        raise ProfileError(
            "the sequence lengths are not known",
            "column 0 of the table is the length",
            "was the store imported from a table of 10,965 columns?",
        )
    lengths = obs["length"].to_numpy(dtype=np.float32)
    header = {
        "descr": npy_format.dtype_to_descr(np.dtype("<f4")),
        "fortran_order": False,
        "shape": (len(profiles), layout.width + 1),
    }
    with (
        written_together(table, ids) as (table_aside, ids_aside),
        table_aside.open("wb") as file,
        step("exporting", len(profiles)) as shown,
    ):
        npy_format.write_array_header_1_0(file, header)
        for start in range(0, len(profiles), BLOCK_ROWS):
            rows = profiles.read(start, min(start + BLOCK_ROWS, len(profiles)))
            block = np.empty((len(rows), layout.width + 1), dtype="<f4")
            block[:, 0] = lengths[start : start + len(rows)]
            block[:, 1:] = _frequencies(rows[:, columns], layout)
            file.write(block.data)
            shown.advance(len(rows))
        write_bytes(ids_aside, "".join(f"{name}\n" for name in profiles.ids).encode())
    return len(profiles)


def _narrowed(layout: Layout, max_k: int | None) -> Layout:
    if max_k is None:
        return layout
    if max_k not in layout.ks:
        raise ProfileError(
            f"the profiles have no {max_k}-mers",
            f"they hold k = {layout.ks[0]} to {layout.ks[-1]}",
            "count again with a larger --max-k",
        )
    return kmer_layout(max_k)


def _columns_of(layout: Layout, kept: Layout) -> slice:
    """The columns of `layout` that hold the k-mers of `kept`."""
    stop = layout.bases.stop
    return slice(stop - kept.width, stop)


def _frequencies(rows: NDArray[Any], layout: Layout) -> NDArray[np.float32]:
    """Every block divided by its sum; a block without any count stays zero."""
    out = np.empty(rows.shape, dtype=np.float32)
    for block in layout.blocks:
        part = rows[:, block.columns]
        total = part.sum(axis=1, keepdims=True, dtype=np.float64)
        out[:, block.columns] = part / np.where(total == 0, 1, total)
    return out
