"""Any table of profiles by one name: a store, an AnnData, an old ``.npy`` table; and what is known of it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import ProfileError, UsageError
from kinmer.files import hash_ids
from kinmer.inputs import map_array, parse_json
from kinmer.layout import Layout, kmer_layout
from kinmer.profiles.protocol import (
    Profiles,
    Values,
    check_ids,
    check_rows,
    gc_of,
    genetic_code_in,
    layout_of_features,
    read_ids,
    whole,
)
from kinmer.profiles.store import ProfileStore
from kinmer.profiles.stored import H5adProfiles, StoredProfiles, dense_only

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "AnnDataProfiles",
    "NpyProfiles",
    "ProfilesInfo",
    "info",
    "open_profiles",
    "stamp_of",
    "table_kind",
]


CHECK_ROWS = 4096


class AnnDataProfiles:
    """The X of an AnnData whose variables are the k-mers of a layout; checked at birth, not copied.

    Whole numbers are counts, in integer or floating point types (as other tools leave them); all else is
    frequencies. Raises ProfileError: variables of no layout, ids that cannot be used, negative or not finite
    values, frequencies that do not sum to 1.
    """

    chunk_rows = 512

    def __init__(self, data: AnnData) -> None:
        self.anndata = data
        self.layout = layout_of_features(
            [str(name) for name in data.var_names],
            genetic_code=genetic_code_in(data.uns.get("kinmer")),
            place="the AnnData",
        )
        if data.X is None or data.n_obs == 0:
            raise ProfileError("the AnnData has no X" if data.X is None else "the AnnData has no rows")
        self._X: Any = data.X
        check_ids(data.obs_names.to_numpy(dtype=object), place="the AnnData's obs_names")
        counts = all(whole(block) for _, block in self._blocks())
        self.values: Values = "counts" if counts else "frequencies"
        for start, block in self._blocks():
            shown = block.astype(np.int64) if counts and block.dtype.kind == "f" else block
            check_rows(shown, self.layout, self.values, place="the AnnData's X", first=start)

    def __len__(self) -> int:
        return int(self.anndata.n_obs)

    def __repr__(self) -> str:
        return f"AnnDataProfiles({len(self)} × {self.layout.width} {self.values})"

    @property
    def ids(self) -> NDArray[np.object_]:
        """Sequence ids, (n,) str."""
        return np.asarray(self.anndata.obs_names, dtype=object)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        return hash_ids(self.ids)

    @property
    def obs(self) -> pd.DataFrame:
        """The AnnData's own obs."""
        frame: pd.DataFrame = self.anndata.obs
        return frame

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows start … stop, (stop - start, width) uint32 or float32."""
        return self._rows(slice(start, stop))

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Any rows in any order, (len(rows), width)."""
        return self._rows(np.asarray(rows, dtype=np.int64))

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles."""
        return sorted(map(str, self.anndata.obsm.keys()))

    def read_obsm(self, key: str) -> NDArray[Any]:
        """A matrix beside the profiles, (n, width); FormatError where it is sparse or a table of columns."""
        matrix = self.anndata.obsm[key]
        if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.dtype.kind not in "buif":
            raise dense_only(f"obsm/{key}", matrix, "the AnnData")
        return matrix

    def embedding(self, key: str) -> dict[str, Any] | None:
        """The provenance that the matrix `key` was written with; None where nothing is known of it."""
        try:
            made = parse_json(self.anndata.uns["kinmer"]["embedding"])[key]
        except (KeyError, TypeError, ValueError):
            return None
        return made if isinstance(made, dict) else None

    def _blocks(self) -> Any:
        for start in range(0, len(self), CHECK_ROWS):
            yield start, _dense(self._X[start : start + CHECK_ROWS])

    def _rows(self, where: Any) -> NDArray[Any]:
        kind = np.uint32 if self.values == "counts" else np.float32
        return _dense(self._X[where]).astype(kind, copy=False)


def _dense(block: Any) -> NDArray[Any]:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)


LENGTH_COLUMN, ROW_COLUMN = 2773, 10965
CHECK_BYTES = 32 << 20


class NpyProfiles:
    """A table of 2,773 columns (sequence length, 6- to 1-mers) or 10,965 (row index, 7- to 1-mers).

    Values are frequencies, float32. Ids stand one a line in `ids`, in the order of the rows; without it in a
    file beside the table: same stem and ``.txt``, ``.ids``, ``.ids.txt`` or ``_ids.txt``. Every value is
    checked at birth, in blocks; the table is never loaded as a whole.

    Raises ProfileError: no such file, no ``.npy`` table, wrong columns or type, ids missing, too few, too
    many or twice, and (with the row, counted from 1) values that are no frequencies.
    """

    values: Values = "frequencies"
    chunk_rows = 512

    def __init__(self, path: str | Path, ids: str | Path | None = None) -> None:
        self.path = Path(path)
        self._table = _map_table(self.path)
        self.has_lengths = self._table.shape[1] == LENGTH_COLUMN
        self.layout: Layout = kmer_layout(6 if self.has_lengths else 7)
        self.ids_path = _find_ids(self.path) if ids is None else Path(ids)
        self.ids: NDArray[np.object_] = _read_ids(self.ids_path, len(self), self.path)
        self._gc = np.empty(len(self))
        rows = max(1, CHECK_BYTES // (4 * self._table.shape[1]))
        for start in range(0, len(self), rows):
            block = np.asarray(self._table[start : start + rows])
            profiles = block[:, 1:]
            check_rows(profiles, self.layout, self.values, place=self.path, first=start)
            if self.has_lengths:
                self._check_lengths(block[:, 0], start)
            self._gc[start : start + rows] = gc_of(profiles, self.layout)

    def __len__(self) -> int:
        return int(self._table.shape[0])

    def __repr__(self) -> str:
        return f"NpyProfiles({str(self.path)!r}: {len(self)} × {self.layout.width} frequencies)"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over the ids in order."""
        return hash_ids(self.ids)

    @cached_property
    def obs(self) -> pd.DataFrame:
        """Index = ids; ``length`` (int64; only where the table has it), ``gc``, ``source``.

        Lengths above 16,777,216 are as exact as float32 holds them.
        """
        columns: dict[str, Any] = {}
        if self.has_lengths:
            columns["length"] = np.asarray(self._table[:, 0]).astype(np.int64)
        columns["gc"] = self._gc
        columns["source"] = pd.Categorical([self.path.name] * len(self))
        return pd.DataFrame(columns, index=pd.Index(self.ids))

    def read(self, start: int, stop: int) -> NDArray[np.float32]:
        """Rows start … stop, (stop - start, width)."""
        return np.array(self._table[start:stop, 1:], dtype=np.float32)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Any rows in any order, (len(rows), width)."""
        return np.array(self._table[np.asarray(rows, dtype=np.int64), 1:], dtype=np.float32)

    def _check_lengths(self, lengths: NDArray[Any], first: int) -> None:
        bad = ~(np.isfinite(lengths) & (lengths >= 1) & (lengths == np.rint(lengths)))
        if bad.any():
            row = int(np.argmax(bad))
            raise ProfileError(
                f"column 0 holds {lengths[row]}, which is no sequence length",
                f"a table of {LENGTH_COLUMN:,} columns has the length of the sequence there",
                place=f"{self.path}, row {first + row + 1}",
            )


def _map_table(path: Path) -> NDArray[Any]:
    table = map_array(path)
    if table.ndim != 2:
        raise ProfileError("this is no table of rows and columns", place=path)
    if table.shape[1] not in (LENGTH_COLUMN, ROW_COLUMN):
        raise ProfileError(
            f"the table has {table.shape[1]:,} columns",
            f"not {LENGTH_COLUMN:,} (length, 6- to 1-mers) or {ROW_COLUMN:,} (row index, 7- to 1-mers)",
            place=path,
        )
    if table.dtype.kind != "f":
        raise ProfileError(f"the table holds {table.dtype}", "frequencies are floats", place=path)
    if not len(table):
        raise ProfileError("the table has no rows", place=path)
    return table


def _find_ids(path: Path) -> Path:
    stem = path.with_suffix("")
    candidates = [stem.with_name(stem.name + ending) for ending in (".txt", ".ids", ".ids.txt", "_ids.txt")]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = ", ".join(candidate.name for candidate in candidates)
    raise ProfileError(
        "no file of ids is beside the table",
        "the rows have no names without it",
        f"give it with --ids, or name it one of {names}",
        place=path,
    )


def _read_ids(path: Path, rows: int, table: Path) -> NDArray[np.object_]:
    return read_ids(path, rows, table.name)


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
