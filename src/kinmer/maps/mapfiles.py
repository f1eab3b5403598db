"""A map, and its files: ``STEM.tsv`` with the coordinates, ``STEM.json`` with how they were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer import __version__
from kinmer.errors import FormatError, InputError, UsageError
from kinmer.files import check_output, hash_ids, read_json, replaced_text, write_json, written_together
from kinmer.inputs import described
from kinmer.profiles import AnnDataProfiles, Profiles, ProfileStore, StoredProfiles, open_profiles, table_kind

__all__ = [
    "KEYS",
    "MapResult",
    "Method",
    "More",
    "check_method",
    "check_outputs",
    "check_room",
    "keep_in",
    "need",
    "open_map",
    "stem_of",
    "write_map",
]


Method = Literal["tsne", "umap"]
KEYS: dict[str, str] = {"tsne": "X_tsne", "umap": "X_umap"}


@dataclass(frozen=True)
class MapResult:
    """A map of n sequences.

    Attributes
    ----------
    ids : (n,) str, unique.
    coordinates : (n, 2) float32.
    obs : (n rows, index = ids) what is known of the sequences.
    method : ``tsne`` or ``umap``.
    settings : what it was made with: perplexity, neighbours, iterations, metric, seed, …
    source : where the points come from: place, vectors, encoder, fingerprint of ids and vectors.
    divergence : Kullback–Leibler divergence in nats (t-SNE), or None.
    notes : what a reader should know, such as a perplexity that was lowered.
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
        """The name under which the coordinates stand in ``obsm``."""
        return KEYS[self.method]


def check_method(method: str) -> None:
    """UsageError where there is no such method, or it is not installed."""
    if method not in get_args(Method):
        raise UsageError(f"the method must be one of {', '.join(get_args(Method))}, not {method!r}")
    need("openTSNE" if method == "tsne" else "umap", "explore" if method == "tsne" else "umap")


def need(module: str, extra: str) -> None:
    """UsageError where a library of an extra is not there."""
    if find_spec(module) is None:
        raise UsageError(f"{module} is not installed", "maps need it", f"pip install 'kinmer[{extra}]'")


FORMAT = 1
SUFFIXES = (".tsv", ".json", ".png", ".svg", ".html")
ROWS = 1 << 16

# Draws a map, at a stem; gives the paths.
More = Callable[[MapResult, Path], list[Path]]


def stem_of(output: str | Path) -> Path:
    """``map`` of ``map``, ``map.html``, ``map.tsv``, ``map.png`` and ``map.json``."""
    path = Path(output)
    stem = path.with_suffix("") if path.suffix in SUFFIXES else path
    if not stem.name:
        raise UsageError(f"{str(output)!r} is no name for a map")
    return stem


def check_outputs(stem: Path, *, force: bool) -> Path:
    """The stem, where nothing is in the way."""
    for suffix in (".tsv", ".json"):
        check_output(f"{stem}{suffix}", force=force)
    return stem


def write_map(result: MapResult, stem: str | Path, *, more: More | None = None) -> list[Path]:
    """Write the table, what is told of it, and what `more` draws beside them, all together; gives the paths.

    more : is given the map and a stem to write at, and gives the paths that it has written.
    """
    stem = Path(stem)
    with written_together(*(Path(f"{stem}{suffix}") for suffix in SUFFIXES)) as (table, told, *_):
        _write_table(result, table)
        write_json(
            told,
            {
                "format": FORMAT,
                "kinmer": __version__,
                "points": len(result),
                "ids": hash_ids(result.ids),
                "settings": dict(result.settings),
                "source": dict(result.source),
                "divergence": result.divergence,
                "notes": list(result.notes),
            },
        )
        written = [table, told, *(more(result, table.with_name(stem.name)) if more is not None else ())]
    return [stem.with_name(path.name) for path in written]


def _write_table(result: MapResult, path: Path) -> None:
    known = [name for name in result.obs.columns if name not in ("id", "x", "y")]
    with replaced_text(path) as file:
        file.write("\t".join(["id", "x", "y", *(str(name) for name in known)]) + "\n")
        for start in range(0, len(result), ROWS):
            part = slice(start, start + ROWS)
            # Nine digits give every float32 back.
            places = ([f"{one:.9g}" for one in result.coordinates[part, axis]] for axis in (0, 1))
            rest = (_shown(result.obs[name].iloc[part]) for name in known)
            rows = zip(result.ids[part], *places, *rest, strict=True)
            file.write("".join("\t".join(row) + "\n" for row in rows))


def open_map(source: Any, *, method: Method = "tsne") -> MapResult:
    """A map that was made before.

    source : its stem or one of its files; or a profile store or an AnnData with ``obsm["X_tsne"]`` (`method`
        ``umap``: ``X_umap``).

    Raises InputError where there is none, FormatError where it is damaged.
    """
    if isinstance(source, str | Path):
        stem = stem_of(source)
        if Path(f"{stem}.json").is_file() and not (Path(source) / "zarr.json").exists():
            return _from_files(stem)
        if not Path(source).exists():
            raise InputError("there is no such map", check="is the path right?", place=source)
        if not (table_kind(Path(source)) or (what := described(source)) == "a profile store"):
            raise FormatError(
                "this is no map",
                f"it is {what}",
                "give a map's stem or one of its files, or a store that has one",
                place=source,
            )
    profiles = open_profiles(source)
    key = KEYS[method]
    told: dict[str, Any] = {}
    if isinstance(profiles, StoredProfiles) and key in profiles.obsm_keys():
        coordinates, told = profiles.read_obsm(key), profiles.embedding(key) or {}
    elif isinstance(profiles, AnnDataProfiles) and key in profiles.obsm_keys():
        coordinates = profiles.read_obsm(key)
    else:
        place = str(source) if isinstance(source, str | Path) else None
        raise InputError(f"there is no {key} beside the profiles", check="run kinmer map first", place=place)
    return MapResult(
        ids=profiles.ids,
        coordinates=np.ascontiguousarray(coordinates[:, :2], np.float32),
        obs=profiles.obs,
        method=method,
        settings=told.get("settings", {}),
        source=told.get("source", {}),
        divergence=told.get("divergence"),
        notes=tuple(told.get("notes", ())),
    )


def _from_files(stem: Path) -> MapResult:
    told = read_json(f"{stem}.json")
    table = Path(f"{stem}.tsv")
    kinds = {"settings": dict, "source": dict, "notes": list, "points": int, "ids": str}
    whole = all(isinstance(told.get(name), kind) for name, kind in kinds.items())
    whole = whole and isinstance(told.get("divergence"), float | None) and _is_known(told)
    if told.get("format") != FORMAT or not whole:
        raise FormatError("this is no map that this kinmer reads", place=f"{stem}.json")
    try:
        # kinmer 0.1.0 wrote a dot where nothing is known; an id may be one.
        rows = pd.read_csv(
            table, sep="\t", na_values=["", "."], keep_default_na=False, dtype={"id": str}, quoting=3
        )
        coordinates = rows[["x", "y"]].to_numpy(np.float32)
        ids = rows.pop("id").fillna(".").to_numpy(object)
    except (OSError, KeyError, ValueError) as error:
        raise FormatError("the map's table cannot be read", str(error), place=table) from error
    if len(rows) != told["points"] or hash_ids(ids) != told["ids"]:
        raise FormatError("the table is not the one that was written", "rows have changed", place=table)
    if not np.isfinite(coordinates).all():
        raise FormatError("a point has no coordinates", "x and y are numbers", place=table)
    return MapResult(
        ids=ids,
        coordinates=coordinates,
        obs=rows.drop(columns=["x", "y"]).set_index(pd.Index(ids)),
        method=str(told["settings"].get("method", "tsne")),
        settings=told["settings"],
        source=told["source"],
        divergence=told["divergence"],
        notes=tuple(told["notes"]),
    )


def _is_known(told: dict[str, Any]) -> bool:
    """Whether a map tells how it was made in words that this version has."""
    settings, source = told["settings"], told["source"]
    made = settings.get("method", "tsne") in tuple(KEYS) and all(
        isinstance(one, str) for one in told["notes"]
    )
    wanted = {"place": str, "vectors": str, "metric": str, "dim": int, "fingerprint": str}
    return made and (not source or all(isinstance(source.get(name), kind) for name, kind in wanted.items()))


def _shown(column: pd.Series) -> list[str]:
    """What stands in the table; nothing where nothing is known."""
    nothing = column.isna().to_numpy()
    if pd.api.types.is_float_dtype(column):
        shown = [f"{one:.6g}" for one in column]
    else:
        shown = [" ".join(str(one).split()) for one in column.astype(object)]
    return ["" if gone else one for one, gone in zip(shown, nothing, strict=True)]


def check_room(
    profiles: Profiles | None,
    method: str,
    settings: Mapping[str, Any],
    source: Mapping[str, Any],
    *,
    force: bool,
) -> None:
    """UsageError where a store has a map already that was made otherwise."""
    key = KEYS[method]
    if force or not isinstance(profiles, ProfileStore) or key not in profiles.obsm_keys():
        return
    if not _is_same(profiles.embedding(key), settings, source):
        raise UsageError(
            f"the store has {key} already",
            "it was made otherwise",
            "use --force to replace it, or --no-store to leave it",
            place=profiles.path,
        )


def keep_in(profiles: Profiles | None, result: MapResult) -> None:
    """Write the coordinates into ``obsm`` of a store or an AnnData; nothing where there is neither."""
    told = {
        "settings": dict(result.settings),
        "source": dict(result.source),
        "divergence": result.divergence,
        "notes": list(result.notes),
    }
    if isinstance(profiles, AnnDataProfiles):
        table = profiles.anndata
        table.obsm[result.key] = result.coordinates
        held = table.uns.get("kinmer", {})
        described = json.loads(held.get("embedding", "{}"))
        table.uns["kinmer"] = {**held, "embedding": json.dumps({**described, result.key: told})}
    elif isinstance(profiles, ProfileStore):
        if profiles.embedding(result.key) == json.loads(json.dumps(told)):
            return
        with profiles.obsm_writer(result.key, 2, provenance=told) as writer:
            writer.append(np.ascontiguousarray(result.coordinates[writer.rows :]))
            writer.finish()


def _is_same(told: Mapping[str, Any] | None, settings: Mapping[str, Any], source: Mapping[str, Any]) -> bool:
    if told is None:
        return False
    return told.get("settings") == dict(settings) and told.get("source") == dict(source)
