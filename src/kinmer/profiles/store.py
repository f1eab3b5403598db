"""The profile store: a Zarr directory that AnnData opens, read in blocks; its matrices are written so too."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from kinmer.errors import FormatError, MismatchError, ProfileError, UsageError
from kinmer.files import remove
from kinmer.folders import Workshop
from kinmer.inputs import described, kind_of
from kinmer.layout import Layout
from kinmer.profiles.arrays import MatrixWriter, check_writable, clear_unfinished, write_array
from kinmer.profiles.guard import GuardedStore
from kinmer.profiles.protocol import NpyProfiles, Profiles, Values
from kinmer.profiles.root import (
    AGAIN,
    EMBEDDING,
    Root,
    document_sum,
    part_of,
    read_root,
    replace_node,
    rows_sum,
    translated,
    without,
    write_group,
    write_root,
)
from kinmer.profiles.stored import AnnDataProfiles, H5adProfiles, StoredProfiles

if TYPE_CHECKING:
    from anndata import AnnData


# What kinmer knows of a store is of these: where other software has written one of them, its rows are
# checked like those of any AnnData.
ESSENTIAL = ("X", "obs/_index")


class ProfileStore(StoredProfiles):
    """A whole profile store on disk; opened by `open`, reads only what is asked for.

    Whatever is read is compared with its checksum. Also opens what AnnData has written to Zarr itself (a
    subset of a store, say), in either of its formats, where the variables are the k-mers of a layout.

    checksums : "all" where kinmer's checksums cover the profiles and ids, "none" where there are none (a
    store of kinmer 0.1.0, or AnnData's).
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__(Path(path))
        _check_place(self.path)
        self._load()
        description = self._root.description
        sums = self._root.sums
        try:
            if description is not None:
                self.uns = without(description)
                self._native = not self._root.rewritten.intersection(ESSENTIAL)
            with translated(self.path, "the store is damaged"):
                if self._native:
                    self._open_native()
                else:
                    self._open_foreign()
        except ProfileError:
            if self._native or description is None:
                raise
            raise ProfileError(
                "other software has written X or the ids of this store again, and they are not profiles",
                "what kinmer knows of the store is not of these rows",
                AGAIN,
                place=self.path,
            ) from None
        covered = sums is not None and all(
            name in sums and sums[name].chunks + sums[name].rows for name in ESSENTIAL
        )
        self.checksums = "all" if covered else "none"

    @classmethod
    def open(cls, path: str | Path) -> ProfileStore:
        """Open the store at `path` without reading its rows (milliseconds).

        Raises FormatError: nothing there, no store, unfinished, damaged, of another version; MismatchError
        (a FormatError): parts that do not belong together; ProfileError: columns of no layout.
        """
        return cls(path)

    def _load(self) -> None:
        self._root = read_root(self.path) if (self.path / "zarr.json").exists() else Root({}, {})
        self._guard = GuardedStore(self.path, self._root)
        with translated(self.path, "the store is damaged"):
            self._group = zarr.open_group(self._guard, mode="r")
        self._nodes: dict[str, Any] = {}

    def _open_native(self) -> None:
        assert self._root.description is not None
        self.layout = Layout.from_dict(self.uns["layout"])
        self.values = self.uns["values"]
        if self.values not in ("counts", "frequencies"):
            raise ValueError(f"{self.values!r} are not profiles")
        self._fingerprint = str(self.uns["fingerprint"])
        table = self._table()
        if table.dtype != np.dtype(self._dtype):
            raise MismatchError(f"X holds {table.dtype}, the store says {self.values}", place=self.path)
        self._check_shape()
        rows = len(self)
        if self.uns["layout_fingerprint"] != self.layout.fingerprint:
            raise MismatchError("the layout's fingerprint is another one", place=self.path)
        if self.uns["rows"] != rows:
            raise MismatchError(f"X has {rows} rows, the store says {self.uns['rows']}", place=self.path)
        chunks = -(-rows // self.chunk_rows)
        present = sum(1 for child in (self.path / "X/c").iterdir() if child.name.isdecimal())
        if present < chunks:
            raise FormatError(
                f"{chunks - present} of {chunks} pieces of X are missing",
                check="was the store copied whole? Copy it again, or count again",
                place=self.path,
            )

    def _node(self, name: str) -> Any:
        if name in self._guard.refused:
            why = self._guard.refused[name]
            raise FormatError(f"{name} cannot be read: {why.what}", why.why, why.check, place=self.path)
        if name not in self._nodes:  # Zarr parses its metadata each time.
            with translated(self.path, f"{name} is damaged"):
                self._nodes[name] = self._group.get(name)
        return self._nodes[name]

    def obsm_keys(self) -> list[str]:
        """Names of the matrices beside the profiles; those that cannot be read among them."""
        refused = {name.removeprefix("obsm/") for name in self._guard.refused if name.startswith("obsm/")}
        return sorted({*super().obsm_keys(), *(name for name in refused if "/" not in name)})

    def is_dense(self, key: str) -> bool:
        """Whether the matrix `key` can be read."""
        return f"obsm/{key}" not in self._guard.refused and super().is_dense(key)

    def _read_scalar(self, node: Any) -> Any:
        with translated(self.path, f"{node.name} is damaged"):
            return node[()]

    def _bytes_on_disk(self, name: str, array: Any) -> int:
        return sum(file.stat().st_size for file in (self.path / name).rglob("*") if file.is_file())

    def _read_rows(self, name: str, array: Any, start: int, stop: int) -> NDArray[Any]:
        """Rows of an array; those of the last chunk are read as a whole where its checksum is over rows."""
        rows, chunk = array.shape[0], array.chunks[0]
        sums = (self._root.sums or {}).get(name)
        edge = rows - rows % chunk
        behind = sums is not None and sums.rows and stop > edge
        first, last = (min(start, edge), rows) if behind else (start, stop)
        with translated(self.path, f"{name} is damaged in the rows {start + 1} to {stop}"):
            values = np.asarray(array[first:last])
        if values.dtype.kind in "TU":
            values = values.astype(object)
        if behind and sums is not None and rows_sum(values[edge - first :]) != sums.rows:
            raise FormatError(
                f"{name} is damaged in the rows {edge + 1} to {rows}",
                "their checksum is another one: they were damaged, exchanged, or changed by other software",
                AGAIN,
                place=self.path,
            )
        return values[start - first : stop - first]

    def check_ends(self, names: Iterable[str]) -> None:
        """Read the last rows of these arrays, which an append writes again; FormatError for damaged ones."""
        for name in names:
            array = self._array(name)
            if array.shape[0]:
                self._read_rows(name, array, array.shape[0] - 1, array.shape[0])

    def _provenance(self) -> Mapping[str, Any]:
        made: Any = self._root.attributes.get(EMBEDDING)
        return made if isinstance(made, Mapping) else super()._provenance()

    def obsm_writer(
        self, key: str, width: int, *, provenance: Mapping[str, Any], commit_seconds: float = 1.0
    ) -> MatrixWriter:
        """A writer of ``obsm[key]``, (n, width) float32, in row blocks.

        Parameters
        ----------
        provenance : Mapping[str, Any]
            What the matrix is made with (JSON-able, such as the encoder's fingerprint): an unfinished one
            of equal provenance is resumed from `MatrixWriter.rows`.

        Notes
        -----
        Raises UsageError where another process writes the store.
        """
        return MatrixWriter(
            self.path,
            key,
            width,
            len(self),
            fingerprint=self.fingerprint,
            provenance=provenance,
            commit_seconds=commit_seconds,
            finished=self.refresh,
        )

    def write_obs(self, name: str, values: NDArray[Any]) -> None:
        """Add or replace a column of obs, (n,) numbers or text.

        Raises ProfileError where it does not fit, UsageError where another process writes the store.
        """
        if len(values) != len(self) or name in ("", "_index") or "/" in name or name.startswith("."):
            raise ProfileError(f"the column {name!r} of {len(values)} values does not fit {len(self)} rows")
        check_writable(self.path)
        with Workshop(self.path):
            clear_unfinished(self.path)
            staged = self.path / f".kinmer-obs-{name}"
            remove(staged)
            write_array(staged, values)
            replace_node(self.path, f"obs/{name}", staged)
            root = read_root(self.path)
            shown = dict(root.nodes["obs"]["attributes"])
            shown["column-order"] = [column for column in shown["column-order"] if column != name] + [name]
            write_group(self.path / "obs", shown)
            frame = {**root.nodes["obs"], "attributes": shown}
            sums = dict(root.sums or {})
            if "obs" in sums:
                sums["obs"] = replace(sums["obs"], document=document_sum(frame))
            write_root(self.path, Root({**root.nodes, "obs": frame}, root.attributes, sums))
        self.refresh()

    def refresh(self) -> None:
        """See what was added to the store since it was opened."""
        self._load()
        self._obs = None


def _check_place(path: Path) -> None:
    if part_of(path).is_dir() and not path.exists():
        raise FormatError(
            "the store is unfinished",
            f"what was committed is in {part_of(path).name}",
            "run the same command again to go on, or with --force to begin again",
            place=path,
        )
    if not path.exists():
        raise FormatError("no such store", check="is the path right?", place=path)
    if not path.is_dir() or not any((path / name).is_file() for name in ("zarr.json", ".zgroup")):
        raise FormatError(
            "this is not a profile store",
            f"it is {described(path)}",
            "make one with kinmer count",
            place=path,
        )


SOURCES_SHOWN = 5


def open_profiles(source: str | Path | AnnData | Profiles, *, ids: str | Path | None = None) -> Profiles:
    """The profiles in `source`: the path of a store, of an AnnData (Zarr of either format, ``.h5ad``) or of
    an ``.npy`` table; an AnnData, or profiles already.

    Parameters
    ----------
    ids : str | Path | None
        The ids file of an ``.npy`` table; without it one beside the table is taken.

    Notes
    -----
    Raises FormatError and ProfileError as `ProfileStore.open`, `NpyProfiles` and `AnnDataProfiles` do;
    UsageError for `ids` with anything but a table, or a source that is none of these.
    """
    if isinstance(source, (str, Path)):
        path = Path(source)
        # What is named as a table and is not one, or is not there, is to be refused as a table.
        kind = kind_of(path)
        if kind == "npy":
            return NpyProfiles(path, ids)
        _refuse_ids(ids)
        return H5adProfiles(path) if kind == "h5ad" and path.is_file() else ProfileStore.open(path)
    _refuse_ids(ids)
    anndata = sys.modules.get("anndata")  # Who hands over an AnnData has imported it.
    if anndata is not None and isinstance(source, anndata.AnnData):
        return AnnDataProfiles(source)
    if isinstance(source, Profiles):
        return source
    raise UsageError(f"profiles come from a path, an AnnData or Profiles, not from {type(source).__name__}")


def stamp_of(source: object) -> list[int] | None:
    """Size and time of what holds a source's rows, another where they change; None for what is in memory."""
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    root = path / "zarr.json" if path.is_dir() else path
    # Zarr of format 2 has no file that is written again with every change.
    files = [root] if root.is_file() else [file for file in path.rglob("*") if file.is_file()]
    states = [file.stat() for file in files]
    return [sum(state.st_size for state in states), max(state.st_mtime_ns for state in states)]


@dataclass(frozen=True, kw_only=True)
class ProfilesInfo:
    """What is known of a table of profiles; None where it is not."""

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
            lowest, lower, median, upper, longest = (f"{length:,}" for length in self.length_quantiles)
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
            made = "" if provenance is None else f", {_words(provenance)}"
            lines.append((key, f"{width:,} columns{made}"))
        lines += [("made by", _words(made_by)) for made_by in self.provenance.get("made", [])]
        if self.bytes_on_disk is not None:
            each = self.bytes_on_disk / max(self.rows, 1)
            lines.append(("on disk", f"{self.bytes_on_disk / 1e6:,.1f} MB, {each:,.0f} bytes a row"))
        if self.checksums == "none":
            lines.append(("checksums", "none: damage is not noticed; count again to have them"))
        lines.append(("fingerprint", self.fingerprint))
        return "\n".join(f"{name:<12} {value}" for name, value in lines)


def _words(facts: Mapping[str, Any]) -> str:
    """Facts of how something was made in a line for people; the JSON has all of them."""
    parts = []
    for name, value in facts.items():
        if isinstance(value, Mapping):
            parts.append(_words(value))
        elif isinstance(value, list):
            parts.append(f"{name} {' '.join(map(str, value))}")
        elif value is not None and "fingerprint" not in name:
            parts.append(f"{name} {value}")
    return ", ".join(filter(None, parts))


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
        length_quantiles=None if quantiles is None else tuple(map(int, quantiles)),
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
