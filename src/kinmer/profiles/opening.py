"""Any table of profiles by one name, and what is to be said about it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kinmer.errors import UsageError
from kinmer.profiles.base import Profiles, Values
from kinmer.profiles.memory import AnnDataProfiles
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.table import NpyProfiles

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["ProfilesInfo", "info", "open_profiles"]

SOURCES_SHOWN = 5


def open_profiles(source: str | Path | AnnData | Profiles, *, ids: str | Path | None = None) -> Profiles:
    """The profiles in `source`: a store's path, an ``.npy`` table's path, an AnnData, or profiles already.

    ids : the ids file of an ``.npy`` table; without it one beside the table is taken.

    Raises FormatError and ProfileError as `ProfileStore.open`, `NpyProfiles` and `AnnDataProfiles` do;
    UsageError for `ids` with anything but a table, or a source that is none of these.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        # A table is told by its magic bytes; a path that does not exist by its name, for the right message.
        if path.is_dir() or (not _is_npy(path) and path.suffix != ".npy"):
            _refuse_ids(ids)
            return ProfileStore.open(path)
        return NpyProfiles(path, ids)
    _refuse_ids(ids)
    anndata = sys.modules.get("anndata")  # Who hands over an AnnData has imported it.
    if anndata is not None and isinstance(source, anndata.AnnData):
        return AnnDataProfiles(source)
    if isinstance(source, Profiles):
        return source
    raise UsageError(f"profiles come from a path, an AnnData or Profiles, not from {type(source).__name__}")


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
    store = profiles if isinstance(profiles, ProfileStore) else None
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
        matrices={key: (store.obsm_width(key), store.embedding(key)) for key in store.obsm_keys()}
        if store
        else {},
        provenance=store.uns if store else {},
        bytes_on_disk=_size(getattr(profiles, "path", None)),
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


def _is_npy(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(6) == b"\x93NUMPY"
    except OSError:
        return False


def _refuse_ids(ids: object) -> None:
    if ids is not None:
        raise UsageError("a file of ids goes with an .npy table only", check="leave out --ids")
