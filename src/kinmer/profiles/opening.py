"""Any table of profiles by one name, and what is to be said about it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from kinmer.errors import UsageError
from kinmer.profiles.base import Profiles, Values
from kinmer.profiles.h5ad import H5adProfiles
from kinmer.profiles.memory import AnnDataProfiles
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.stored import StoredProfiles
from kinmer.profiles.table import NpyProfiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ProfilesInfo", "info", "open_profiles", "stamp_of", "table_kind"]

SOURCES_SHOWN = 5
MAGIC: dict[Literal["npy", "h5ad"], bytes] = {"npy": b"\x93NUMPY", "h5ad": b"\x89HDF\r\n\x1a\n"}


def open_profiles(source: str | Path | AnnData | Profiles, *, ids: str | Path | None = None) -> Profiles:
    """The profiles in `source`: the path of a store, of an AnnData (Zarr of either format, ``.h5ad``) or of
    an ``.npy`` table; an AnnData, or profiles already.

    ids : the ids file of an ``.npy`` table; without it one beside the table is taken.

    Raises FormatError and ProfileError as `ProfileStore.open`, `NpyProfiles` and `AnnDataProfiles` do;
    UsageError for `ids` with anything but a table, or a source that is none of these.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        # A table is told by its magic bytes; a path that does not exist by its name, for the right message.
        kind = table_kind(path)
        # What is named so and is not one, or is not there, is to be refused as a table.
        if kind == "npy" or (path.suffix == ".npy" and not path.is_dir()):
            return NpyProfiles(path, ids)
        _refuse_ids(ids)
        return H5adProfiles(path) if kind == "h5ad" else ProfileStore.open(path)
    _refuse_ids(ids)
    anndata = sys.modules.get("anndata")  # Who hands over an AnnData has imported it.
    if anndata is not None and isinstance(source, anndata.AnnData):
        return AnnDataProfiles(source)
    if isinstance(source, Profiles):
        return source
    raise UsageError(f"profiles come from a path, an AnnData or Profiles, not from {type(source).__name__}")


def table_kind(path: Path) -> Literal["npy", "h5ad"] | None:
    """What table a file holds, by its first bytes; None for a folder, a file of sequences, or nothing."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(8)
    return next((kind for kind, magic in MAGIC.items() if head.startswith(magic)), None)


def stamp_of(source: object) -> list[int] | None:
    """Size and time of what holds a source's rows, another where they change; None for what is in memory."""
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    root = path / "zarr.json" if path.is_dir() else path
    # Zarr of format 2 has no file that is written again with every change.
    files = [root] if root.is_file() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    return [sum(one.st_size for one in states), max(one.st_mtime_ns for one in states)]


@dataclass(frozen=True, kw_only=True)
class ProfilesInfo:
    """What `info` tells; None where it is not known."""

    rows: int
    features: int
    blocks: tuple[str, ...]
    values: Values
    fingerprint: str
    chunk_rows: int
    length_total: int | None
    length_quantiles: tuple[int, ...] | None  # minimum, quartiles, maximum
    n50: int | None
    gc_mean: float | None
    gc_sd: float | None
    sources: dict[str, int]  # rows of every source, most first
    columns: tuple[str, ...]
    matrices: dict[str, tuple[int, dict[str, Any] | None]]  # width and provenance of every matrix in obsm
    provenance: dict[str, Any]
    bytes_on_disk: int | None
    checksums: str | None  # of a store: "all" of its chunks, or "none"

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def text(self) -> str:
        """Some lines for people."""
        lines = [
            ("profiles", f"{self.rows:,} × {self.features:,} {self.values}"),
            ("blocks", ", ".join(self.blocks)),
        ]
        if self.length_quantiles is not None:
            lowest, lower, median, upper, longest = (f"{one:,}" for one in self.length_quantiles)
            spread = (
                f"{lowest} to {longest}, median {median}, half of them {lower} to {upper}, N50 {self.n50:,}"
            )
            lines.append(("letters", f"{self.length_total:,}"))
            lines.append(("lengths", spread))
        if self.gc_mean is not None:
            lines.append(("GC", f"{self.gc_mean:.3f} ± {self.gc_sd:.3f}"))
        shown = [f"{name} ({count:,})" for name, count in list(self.sources.items())[:SOURCES_SHOWN]]
        more = len(self.sources) - len(shown)
        lines.append(("sources", ", ".join(shown) + (f" and {more:,} more" if more else "")))
        lines.append(("columns", ", ".join(self.columns)))
        for key, (width, provenance) in self.matrices.items():
            made = "" if provenance is None else f", {json.dumps(provenance)}"
            lines.append((key, f"{width:,} columns{made}"))
        for made_by in self.provenance.get("made", []):
            lines.append(("made by", json.dumps(made_by)))
        if self.bytes_on_disk is not None:
            each = self.bytes_on_disk / max(self.rows, 1)
            lines.append(("on disk", f"{self.bytes_on_disk / 1e6:,.1f} MB, {each:,.0f} bytes a row"))
        if self.checksums == "none":
            lines.append(("checksums", "none: damage is not noticed; count again to have them"))
        lines.append(("fingerprint", self.fingerprint))
        return "\n".join(f"{name:<12} {value}" for name, value in lines)


def info(profiles: Profiles) -> ProfilesInfo:
    """Rows, layout, lengths, GC, sources, embeddings and provenance; reads obs, not the profiles."""
    obs = profiles.obs
    lengths = obs["length"].to_numpy(dtype=np.int64) if "length" in obs else None
    gc = obs["gc"].to_numpy(dtype=np.float64) if "gc" in obs else np.empty(0)
    gc = gc[np.isfinite(gc)]
    sources = obs["source"].astype(str).value_counts().to_dict() if "source" in obs else {}
    quantiles = None if lengths is None else np.quantile(lengths, (0, 0.25, 0.5, 0.75, 1), method="nearest")
    store = profiles if isinstance(profiles, StoredProfiles) else None
    matrices = [] if store is None else [key for key in store.obsm_keys() if store.is_dense(key)]
    return ProfilesInfo(
        rows=len(profiles),
        features=profiles.layout.width,
        blocks=tuple(block.name for block in profiles.layout.blocks),
        values=profiles.values,
        fingerprint=profiles.fingerprint,
        chunk_rows=profiles.chunk_rows,
        length_total=None if lengths is None else int(lengths.sum()),
        length_quantiles=None if quantiles is None else tuple(int(one) for one in quantiles),
        n50=None if lengths is None else _n50(lengths),
        gc_mean=float(gc.mean()) if len(gc) else None,
        gc_sd=float(gc.std()) if len(gc) else None,
        sources={str(name): int(count) for name, count in sources.items()},
        columns=tuple(str(name) for name in obs.columns),
        matrices={key: (store.obsm_width(key), store.embedding(key)) for key in matrices} if store else {},
        provenance=store.uns if store else {},
        bytes_on_disk=_size(getattr(profiles, "path", None)),
        checksums=profiles.checksums if isinstance(profiles, ProfileStore) else None,
    )


def _n50(lengths: np.ndarray[Any, np.dtype[np.int64]]) -> int:
    """Length of the sequence at which half of all letters stand in sequences of at least that length."""
    falling = np.sort(lengths)[::-1]
    return int(falling[np.searchsorted(np.cumsum(falling), falling.sum() / 2)])


def _size(path: Path | None) -> int | None:
    if path is None:
        return None
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def _refuse_ids(ids: object) -> None:
    if ids is not None:
        raise UsageError("a file of ids goes with an .npy table only", check="leave out --ids")
