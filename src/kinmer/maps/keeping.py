"""Coordinates beside the profiles that they belong to, under ``obsm``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from kinmer.errors import UsageError
from kinmer.maps.base import KEYS, MapResult
from kinmer.profiles import AnnDataProfiles, Profiles, ProfileStore

__all__ = ["check_room", "keep_in"]


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
