"""Estimators in folders: JSON, safetensors and an encoder's folder, never pickles; whole or not at all."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from kinmer._version import __version__
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, MismatchError
from kinmer.files import built_aside, hash_file, write_bytes, write_json
from kinmer.folders import FolderKind, check_output
from kinmer.inputs import check_weights, described, read_json

FORMAT = 1
KIND = "kinmer estimator"
MODEL, ARRAYS, ENCODER = "model.json", "arrays.safetensors", "encoder"
ESTIMATOR = FolderKind(
    "estimator",
    MODEL,
    lambda recorded: recorded.get("kind") == KIND,
    r"model\.json|arrays\.safetensors|encoder/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md)",
)

Arrays = Mapping[str, NDArray[Any]]
Made = TypeVar("Made")


def save_estimator(
    estimator: Any,
    folder: str | Path,
    *,
    encoder: Encoder | None,
    state: Mapping[str, Any] | None = None,
    arrays: Arrays | None = None,
    force: bool = False,
) -> None:
    """Write an estimator's settings, what it has learnt (`state`: JSON-able; `arrays`) and its encoder."""
    path = check_output(folder, force=force, hint="use force=True to replace it", kind=ESTIMATOR)
    with built_aside(path) as aside:
        recorded = {
            "kind": KIND,
            "format": FORMAT,
            "estimator": type(estimator).__name__,
            "settings": {name: _plain(value) for name, value in estimator.get_params(deep=False).items()},
            "state": dict(state or {}),
            "arrays": None,
            "encoder": None if encoder is None else encoder.fingerprint,
            "kinmer_version": __version__,
        }
        if encoder is not None:
            encoder.save(aside / ENCODER)
        if arrays is not None:
            write_bytes(
                aside / ARRAYS, save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            )
            recorded["arrays"] = hash_file(aside / ARRAYS)
        write_json(aside / MODEL, {**recorded, "checksum": _checksum(recorded)})


def load_estimator(kind: type[Made], folder: str | Path) -> tuple[Made, dict[str, Any], Arrays]:
    """An estimator with its settings, and the state and arrays that were saved with it.

    Its ``encoder`` is the folder of the encoder in `folder`, where there is one. Raises FormatError for what
    is missing, damaged, of another version or class.
    """
    path = Path(folder)
    recorded = _recorded(path, kind.__name__)
    settings = dict(recorded["settings"])
    if recorded["encoder"] is not None:
        found = read_json(path / ENCODER / "config.json").get("fingerprint")
        if found != recorded["encoder"]:
            raise MismatchError("the encoder is not the one it was saved with", place=path / ENCODER)
        settings["encoder"] = str(path / ENCODER)
    try:
        made = kind(**settings)
    except TypeError as error:
        raise FormatError(
            "its settings are not those of this version", str(error), place=path / MODEL
        ) from error
    return made, recorded["state"], _read_arrays(path / ARRAYS, recorded["arrays"])


def _recorded(path: Path, name: str) -> dict[str, Any]:
    if not path.is_dir():
        raise FormatError("there is no such estimator", "it is a folder, written by save", place=path)
    if not (path / MODEL).is_file():
        raise FormatError(
            f"this is not an estimator, but {described(path)}", f"an estimator has a {MODEL}", place=path
        )
    recorded = read_json(path / MODEL)
    if recorded.get("kind") != KIND:
        raise FormatError("this is not an estimator", "its model.json says nothing of one", place=path)
    if recorded.get("format") != FORMAT:
        raise FormatError(
            f"the estimator has format {recorded.get('format')}, this version reads {FORMAT}",
            check=f"kinmer {recorded.get('kinmer_version', '?')} wrote it; use that or a newer one",
            place=path,
        )
    checksum = recorded.pop("checksum", None)
    if checksum != _checksum(recorded):
        raise FormatError(
            "model.json is damaged", "its checksum is another", "copy the folder again", place=path / MODEL
        )
    if lacking := {"estimator", "settings", "state", "arrays", "encoder"} - recorded.keys():
        raise FormatError(f"model.json lacks {', '.join(sorted(lacking))}", place=path / MODEL)
    if recorded["estimator"] != name:
        raise MismatchError(f"this is a {recorded['estimator']}, not a {name}", place=path)
    return recorded


def _read_arrays(path: Path, digest: str | None) -> Arrays:
    if digest is None:
        return {}
    try:
        check_weights(path)
        if hash_file(path) != digest:
            raise FormatError("the arrays are damaged", "their checksum is another", place=path)
        arrays: Arrays = load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError("the arrays cannot be read", str(error), place=path) from error
    return arrays


def _checksum(recorded: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recorded, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """A setting as JSON has it; an encoder that is not a path is left out: its folder is saved."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, Path):
        return str(value)
    return None if isinstance(value, Encoder) else value
