"""A map, and its files: ``STEM.tsv`` with the coordinates, ``STEM.json`` with how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer._version import __version__
from kinmer.errors import FormatError, InputError, UsageError, require
from kinmer.files import hash_ids, write_json, written_together
from kinmer.folders import check_output
from kinmer.inputs import described, kind_of, read_json
from kinmer.profiles import AnnDataProfiles, Profiles, ProfileStore, StoredProfiles, open_profiles
from kinmer.tables import write_table

Method = Literal["tsne", "umap"]
# Where the coordinates of a method are kept in ``obsm``.
KEYS: dict[str, str] = {"tsne": "X_tsne", "umap": "X_umap"}
FORMAT = 1
SUFFIXES = (".tsv", ".json", ".png", ".svg", ".html")


@dataclass(frozen=True)
class MapResult:
    """A map of n sequences.

    Attributes
    ----------
    ids : ndarray
        (n,) str, unique.
    coordinates : ndarray
        (n, 2) float32.
    obs : pd.DataFrame
        (n rows, index = ids) what is known of the sequences.
    method : str
        ``tsne`` or ``umap``.
    settings : Mapping[str, Any]
        What it was made with: perplexity, neighbors, iterations, metric, seed, …
    source : Mapping[str, Any]
        Where the points come from: location, vectors, encoder, fingerprint of ids and vectors.
    divergence : float | None
        Kullback-Leibler divergence in nats (t-SNE), or None.
    notes : tuple[str, ...]
        What a reader should know, such as a perplexity that was lowered.
    """

    ids: NDArray[np.object_]
    coordinates: NDArray[np.float32]
    obs: pd.DataFrame
    method: str
    settings: Mapping[str, Any]
    source: Mapping[str, Any]
    divergence: float | None = None
    notes: tuple[str, ...] = field(default=())

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def key(self) -> str:
        """The key of the coordinates in ``obsm``."""
        return KEYS[self.method]

    @property
    def provenance(self) -> dict[str, Any]:
        """How the map was made, for JSON."""
        return {
            "settings": dict(self.settings),
            "source": dict(self.source),
            "divergence": self.divergence,
            "notes": list(self.notes),
        }


# Writes more files of a map, given a stem, and returns their paths.
More = Callable[[MapResult, Path], list[Path]]


def stem_of(output: str | Path) -> Path:
    """``map`` of ``map``, ``map.html``, ``map.tsv``, ``map.png`` and ``map.json``."""
    path = Path(output)
    stem = path.with_suffix("") if path.suffix in SUFFIXES else path
    if not stem.name:
        raise UsageError(f"{str(output)!r} is not a valid name for a map")
    return stem


def check_outputs(output: str | Path | None, *, force: bool) -> Path | None:
    """The stem of an output, if there is one; UsageError if its table or JSON exists."""
    if output is None:
        return None
    require("matplotlib", "the pictures of a map need it", "explore")
    stem = stem_of(output)
    for suffix in (".tsv", ".json"):
        check_output(f"{stem}{suffix}", force=force)
    return stem


def write_map(result: MapResult, stem: str | Path, *, more: More | None = None) -> list[Path]:
    """Write the table and the JSON, and what `more` adds, all together; returns the paths.

    more : is called with the map and a stem to write at, and returns the paths that it has written.
    """
    stem = Path(stem)
    with written_together(*(Path(f"{stem}{suffix}") for suffix in SUFFIXES)) as (table, record, *_):
        _write_table(result, table)
        head = {"format": FORMAT, "kinmer": __version__, "points": len(result), "ids": hash_ids(result.ids)}
        write_json(record, {**head, **result.provenance})
        written = [table, record, *(more(result, table.with_name(stem.name)) if more is not None else ())]
    return [stem.with_name(path.name) for path in written]


def _write_table(result: MapResult, path: Path) -> None:
    columns = [name for name in result.obs.columns if name not in ("id", "x", "y")]
    # Nine digits give every float32 back.
    points = ((f"{value:.9g}" for value in result.coordinates[:, axis]) for axis in (0, 1))
    rows = zip(result.ids, *points, *(result.obs[name] for name in columns), strict=True)
    write_table(path, ["id", "x", "y", *map(str, columns)], rows)


def open_map(source: Any, *, method: Method = "tsne") -> MapResult:
    """Open a map that was made before.

    Parameters
    ----------
    source : Any
        Its stem or one of its files, or a profile store or an AnnData with the map in ``obsm``.
    method : Method
        Which of the maps in ``obsm``: ``X_tsne`` or ``X_umap``.

    Raises
    ------
    InputError : there is no map. FormatError : it is damaged.
    """
    location = source if isinstance(source, str | Path) else None
    if location is not None:
        stem = stem_of(location)
        if Path(f"{stem}.json").is_file() and not (Path(location) / "zarr.json").exists():
            return _from_files(stem)
        if not Path(location).exists():
            raise InputError("there is no such map", check="is the path right?", place=location)
        if kind_of(location) not in ("npy", "h5ad", "store"):
            raise FormatError(
                "this is not a map",
                f"it is {described(location)}",
                "give a map's stem or one of its files, or a store that has one",
                place=location,
            )
    profiles, key = open_profiles(source), KEYS[method]
    if not isinstance(profiles, StoredProfiles | AnnDataProfiles) or key not in profiles.obsm_keys():
        raise InputError(
            f"there is no {key} beside the profiles", check="run kinmer map first", place=location
        )
    record = profiles.embedding(key) or {}
    return MapResult(
        ids=profiles.ids,
        coordinates=np.ascontiguousarray(profiles.read_obsm(key)[:, :2], np.float32),
        obs=profiles.obs,
        method=method,
        settings=record.get("settings", {}),
        source=record.get("source", {}),
        divergence=record.get("divergence"),
        notes=tuple(record.get("notes", ())),
    )


def _from_files(stem: Path) -> MapResult:
    record, table = _read_record(Path(f"{stem}.json")), Path(f"{stem}.tsv")
    try:
        # kinmer 0.1.0 wrote a dot for a missing value, but an id may be a dot.
        rows = pd.read_csv(
            table, sep="\t", na_values=["", "."], keep_default_na=False, dtype={"id": str}, quoting=3
        )
        coordinates = rows[["x", "y"]].to_numpy(np.float32)
        ids = rows.pop("id").fillna(".").to_numpy(object)
    except (OSError, KeyError, ValueError) as error:
        raise FormatError("the map's table cannot be read", str(error), place=table) from error
    if len(rows) != record["points"] or hash_ids(ids) != record["ids"]:
        raise FormatError("the table is not the one that was written", "rows have changed", place=table)
    if not np.isfinite(coordinates).all():
        raise FormatError("a point has no coordinates", "x and y must be numbers", place=table)
    return MapResult(
        ids=ids,
        coordinates=coordinates,
        obs=rows.drop(columns=["x", "y"]).set_index(pd.Index(ids)),
        method=str(record["settings"].get("method", "tsne")),
        settings=record["settings"],
        source=record["source"],
        divergence=record["divergence"],
        notes=tuple(record["notes"]),
    )


def _read_record(path: Path) -> dict[str, Any]:
    """The JSON of a map; FormatError if this version cannot read it."""
    record = read_json(path)
    kinds = {"settings": dict, "source": dict, "notes": list, "points": int, "ids": str}
    origin = {"place": str, "vectors": str, "metric": str, "dim": int, "fingerprint": str}
    valid = (
        record.get("format") == FORMAT
        and all(isinstance(record.get(name), kind) for name, kind in kinds.items())
        and isinstance(record.get("divergence"), float | None)
        and record["settings"].get("method", "tsne") in tuple(KEYS)
        and all(isinstance(note, str) for note in record["notes"])
        and (not record["source"] or all(isinstance(record["source"].get(n), k) for n, k in origin.items()))
    )
    if not valid:
        raise FormatError("this is not a map that this kinmer reads", place=path)
    return record


def check_stored(profiles: Profiles | None, key: str, asked: Mapping[str, Any], *, force: bool) -> None:
    """UsageError if a store has a map under `key` that was made with other settings or of another source."""
    if force or not isinstance(profiles, ProfileStore) or key not in profiles.obsm_keys():
        return
    stored = profiles.embedding(key) or {}
    if any(stored.get(name) != dict(value) for name, value in asked.items()):
        raise UsageError(
            f"the store has {key} already",
            "it was made with other settings or of other vectors",
            "use --force to replace it, or --no-keep to leave it",
            place=profiles.path,
        )


def save_map(result: MapResult, profiles: Profiles | None, stem: Path | None, *, more: More | None) -> None:
    """Store a map in ``obsm`` of its profiles, if there are any, and write its files, if there is a stem."""
    if profiles is not None:
        _store(profiles, result)
    if stem is not None:
        write_map(result, stem, more=more)


def _store(profiles: Profiles, result: MapResult) -> None:
    record = result.provenance
    if isinstance(profiles, AnnDataProfiles):
        table = profiles.anndata
        table.obsm[result.key] = result.coordinates
        known = table.uns.get("kinmer", {})
        embeddings = {**json.loads(known.get("embedding", "{}")), result.key: record}
        table.uns["kinmer"] = {**known, "embedding": json.dumps(embeddings)}
    elif isinstance(profiles, ProfileStore):
        if profiles.embedding(result.key) == json.loads(json.dumps(record)):
            return
        with profiles.obsm_writer(result.key, 2, provenance=record) as writer:
            writer.append(np.ascontiguousarray(result.coordinates[writer.rows :]))
            writer.finish()
