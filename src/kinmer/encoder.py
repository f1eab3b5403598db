"""An encoder: a layout, a transform and a network, in one folder that is checked when it is opened.

The folder holds ``config.json``, ``weights.safetensors``, ``metrics.jsonl`` and ``card.md``; nothing in it is
pickled. The fingerprint covers all that a vector depends on, so that vectors of two encoders never meet.
"""

from __future__ import annotations

import hashlib
import json
import platform
import zlib
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from kinmer.box import located
from kinmer.clr import Clr
from kinmer.errors import (
    FormatError,
    InputError,
    KinmerError,
    MismatchError,
    NotInstalledError,
    ProfileError,
    UsageError,
)
from kinmer.files import built_aside, write_bytes, write_json
from kinmer.folders import FolderKind, check_output
from kinmer.inputs import check_weights, described, is_sealed, parse_json, read_bytes, read_json, sealed
from kinmer.layout import Layout
from kinmer.linear import LINEAR, Columns, EncoderNetwork, Projection, build

FORMAT = 1
CONFIG, WEIGHTS, METRICS, CARD = "config.json", "weights.safetensors", "metrics.jsonl", "card.md"
# Beside those four a training leaves its curve and TensorBoard's log.
ENCODER = FolderKind(
    "encoder",
    CONFIG,
    lambda told: told.get("kind") == "kinmer encoder",
    r"config\.json|weights\.safetensors|metrics\.jsonl|card\.md|training\.png"
    r"|tensorboard/events\.out\.tfevents\.[^/]+",
)
Precision = Literal["fp32", "bf16"]


def library_versions() -> dict[str, str]:
    """Versions of what the vectors were made with."""
    known = {"python": platform.python_version()}
    for name in ("kinmer", "torch", "numpy"):
        try:
            known[name] = version(name)
        except PackageNotFoundError:  # PyTorch, which linear encoders do without.
            continue
    return known


def check_encoder_output(path: str | Path, *, force: bool = False) -> Path:
    """`check_output` of an encoder's folder."""
    return check_output(path, force=force, kind=ENCODER)


class Encoder:
    """Turns profiles of its layout into vectors; always the network's mean, never a sample.

    Parameters
    ----------
    network : EncoderNetwork
        A `Projection` or `Columns` (NumPy), or a network of `kinmer.networks` (PyTorch); its `width` must
        be the layout's.
    layout, clr : Layout
        The profiles it takes and the transform between them and the network.
    precision : Precision
        Of the network's matrix products; part of the encoder, because vectors of a query and of an index
        must be made alike. The transform and the result are float32 with either.
    training : Mapping[str, Any] | None
        JSON-able account of the training: settings, data fingerprint, results.
    metrics : Sequence[Mapping[str, Any]]
        One mapping an epoch.
    card : str
        The card's Markdown.

    Attributes
    ----------
    dim : length of a vector.
    fingerprint : SHA-256 over weights, layout, transform, network settings and precision.
    """

    def __init__(
        self,
        network: EncoderNetwork,
        layout: Layout,
        clr: Clr,
        *,
        precision: Precision = "fp32",
        training: Mapping[str, Any] | None = None,
        metrics: Sequence[Mapping[str, Any]] = (),
        card: str = "",
        versions: Mapping[str, str] | None = None,
    ) -> None:
        if network.width != layout.width:
            raise MismatchError(f"the network takes {network.width} features, the layout has {layout.width}")
        if precision not in get_args(Precision):
            raise UsageError(f"the precision must be fp32 or bf16, not {precision!r}")
        self.network = network
        self.layout, self.clr, self.precision = layout, clr, precision
        self.dim = network.dim
        self.training, self.metrics, self.card = dict(training or {}), [dict(one) for one in metrics], card
        self.versions = dict(versions or library_versions())
        self.fingerprint = _fingerprint(self._identity(), network.weights())
        self.to(network.place)

    def __repr__(self) -> str:
        return f"Encoder({self.layout.width} -> {self.dim}, {self.fingerprint[:12]})"

    @property
    def name(self) -> str:
        """What an encoder that comes with kinmer is called; empty for others."""
        return str(self.training.get("name", ""))

    def to(self, device: str) -> Encoder:
        """Embed on `device` from now on; returns the encoder itself.

        A linear encoder stays with NumPy for ``auto`` and ``cpu``. Raises UsageError where the device cannot
        be used, or PyTorch is needed for it and not installed.
        """
        network = self.network
        if isinstance(network, Projection | Columns) and device not in ("auto", "cpu"):
            from kinmer.networks import on_device

            network = on_device(network, device)
        self.device, self._ready = network.ready(device, self.precision)
        return self

    def embed(self, profiles: NDArray[Any], values: str = "counts") -> NDArray[np.float32]:
        """Embed (n, width) counts or frequencies (`values` says which); (n, dim) float32.

        Raises MismatchError for another number of columns and ProfileError for values that give no number.
        """
        if profiles.ndim != 2 or profiles.shape[1] != self.layout.width:
            raise MismatchError(
                f"the encoder takes profiles of {self.layout.width} features, these are {profiles.shape}",
                check=f"count with {self.layout.options}",
            )
        vectors = self._ready.vectors(profiles, lambda rows: self.clr(rows, self.layout, values))
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            raise ProfileError(
                "a profile cannot be embedded",
                "it holds a negative value or no number",
                place=f"row {int(np.argmin(finite)) + 1}",
            )
        return vectors

    def _identity(self) -> dict[str, Any]:
        """What else than its weights makes this encoder."""
        return {
            "layout": self.layout.to_dict(),
            "clr": self.clr.to_dict(),
            "network": {"name": self.network.name, "settings": self.network.settings()},
            "precision": self.precision,
        }

    def write(self, folder: str | Path) -> None:
        """Write the encoder's files into a folder that exists."""
        folder = Path(folder)
        weights = {name: np.asarray(array, order="C") for name, array in self.network.weights().items()}
        write_bytes(folder / WEIGHTS, safetensors.numpy.save(weights))
        told = {
            METRICS: "".join(json.dumps(one) + "\n" for one in self.metrics).encode(),
            CARD: self.card.encode(),
        }
        for name, data in told.items():
            write_bytes(folder / name, data)
        # The config comes last: without it a folder is no encoder.
        config = {
            "kind": "kinmer encoder",
            "format": FORMAT,
            **self._identity(),
            "fingerprint": self.fingerprint,
            "training": self.training,
            "versions": self.versions,
            # The fingerprint covers what a vector depends on, these all the rest.
            "files": {name: zlib.crc32(data) for name, data in told.items()},
        }
        write_json(folder / CONFIG, sealed(config))

    def save(self, directory: str | Path, *, force: bool = False) -> None:
        """Write the encoder to a new folder (`force`: in place of what is there), whole or not at all."""
        with built_aside(check_encoder_output(directory, force=force)) as folder:
            self.write(folder)

    @classmethod
    def load(cls, directory: str | Path, *, device: str = "cpu") -> Encoder:
        """Open an encoder, by its folder or the name of one that comes with kinmer, and check all of it.

        Raises FormatError for a folder that is no encoder, is damaged, or was written by another version.
        """
        directory = located(directory)
        if not directory.is_dir():
            raise FormatError(
                "there is no encoder", "it is a folder, written by kinmer train", place=directory
            )
        if not (directory / CONFIG).is_file():
            raise FormatError(
                f"this is no encoder, but {described(directory)}",
                f"an encoder has a {CONFIG}",
                "give the folder that kinmer train or fit wrote",
                place=directory,
            )
        config = read_json(directory / CONFIG)
        if config.get("kind") != "kinmer encoder":
            raise FormatError("this is no encoder", "its config says nothing of one", place=directory)
        if config.get("format") != FORMAT or isinstance(config["format"], bool):
            raise FormatError(
                f"the encoder has format {config.get('format')}, this version reads {FORMAT}",
                check="use the version of kinmer that wrote it, or train again",
                place=directory,
            )
        # Encoders of kinmer 0.1.0 have no checksum.
        if "crc" in config and not is_sealed(config):
            raise _damaged(directory / CONFIG, "its checksum is another")
        try:
            encoder = cls._from_config(config, directory)
        except NotInstalledError:
            raise
        except KinmerError as error:
            raise FormatError(error.what, error.why, error.check, place=directory) from error
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise FormatError(
                "the encoder's config is damaged",
                f"{type(error).__name__}: {error}",
                place=directory / CONFIG,
            ) from error
        if encoder.fingerprint != config.get("fingerprint"):
            raise _damaged(directory, "its weights or settings are not those it was saved with")
        return encoder.to(device)

    @classmethod
    def _from_config(cls, config: dict[str, Any], directory: Path) -> Encoder:
        name, settings = config["network"]["name"], config["network"]["settings"]
        network = _network(name, settings, directory / WEIGHTS)
        return cls(
            network,
            Layout.from_dict(config["layout"]),
            Clr.from_dict(config["clr"]),
            precision=config["precision"],
            training=config["training"],
            metrics=_read_metrics(directory / METRICS, config),
            card=_read_text(directory / CARD, config),
            versions=config["versions"],
        )


def _network(name: str, settings: Mapping[str, Any], path: Path) -> EncoderNetwork:
    """The network with the weights in a file, which has them in its shapes."""
    if name != "vae":
        linear: Projection | Columns = build(LINEAR, name, settings)
        return linear.load(_read_weights(path, linear.shapes()))
    from kinmer.networks import build_network, planned_shapes

    # The settings are not trusted: nothing is allocated before the weights are seen to be as large.
    weights = _read_weights(path, planned_shapes(name, settings))
    return build_network(name, settings).load(weights)


def _fingerprint(identity: Mapping[str, Any], weights: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 (hex) over settings and every array's name, type, shape and bytes."""
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode())
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")
        # PyTorch's name of the type: the fingerprints of 0.1.0 have it.
        digest.update(f"{name} torch.{array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def _read_weights(path: Path, wanted: Mapping[str, list[int]]) -> dict[str, NDArray[Any]]:
    """The weights in a file that has those of the network, in their shapes."""
    check_weights(path)
    try:
        with safetensors.safe_open(path, framework="np") as file:
            held = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        if held != wanted:
            name = min(name for name in {*held, *wanted} if held.get(name) != wanted.get(name))
            raise FormatError(
                "the weights do not fit the network", f"{name} is {held.get(name)}, not {wanted.get(name)}"
            )
        return safetensors.numpy.load_file(path)
    except (OSError, SafetensorError) as error:
        raise FormatError("the weights cannot be read", str(error)) from error


def _damaged(path: Path, why: str) -> FormatError:
    return FormatError("the encoder is damaged", why, "copy it again, or train again", place=path)


def _read_text(path: Path, config: dict[str, Any]) -> str:
    """A file of text that is the one `config` was written with."""
    try:
        data = read_bytes(path)
        if "files" in config and config["files"][path.name] != zlib.crc32(data):
            raise FormatError(f"{path.name} is damaged", "its checksum is another")
        return data.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise FormatError(f"{path.name} cannot be read", str(error)) from error
    except InputError as error:
        raise FormatError(f"{path.name} cannot be read", error.what) from error


def _read_metrics(path: Path, config: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        # A loss may have become NaN.
        return [parse_json(line, nan=True) for line in _read_text(path, config).splitlines()]
    except ValueError as error:
        raise FormatError(f"{path.name} is damaged", str(error)) from error
