"""Settings of a training: checked at once, the same in JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.errors import FormatError, KinmerError, UsageError
from kinmer.layout import Layout

__all__ = [
    "PRESETS",
    "NetworkName",
    "Objective",
    "TrainPrecision",
    "TrainSettings",
    "check_reference",
    "clr_settings",
    "fasta_files",
    "refuse_labels",
    "train_settings",
]


BLOCK_CLR = Clr(scope="block", pseudocount="relative", value=0.5)
TrainPrecision = Literal["auto", "fp32", "bf16"]
Objective = Literal["vae", "pairs", "both"]
NetworkName = Literal["vae", "linear", "residual"]


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """How to train an encoder; raises UsageError where a value makes no sense.

    Without changes these are the reference's settings, with a CLR per block and a pseudocount of 0.5/n in
    place of its joint CLR with 1e-6, because that finds far more kin.

    The settings from `objective` on are of training on pairs of fragments, which are drawn from sequences;
    `lengths`, `reuse`, `hard`, `virus_share` and `epoch_pairs` also of a VAE that is trained on fragments.

    Parameters
    ----------
    latent, hidden : sizes of the latent space and of the encoder's hidden layers (the decoder mirrors them).
    beta : weight of the KL part.
    warmup_epochs : epochs in which that weight rises linearly from 0; never more than half of `epochs`.
    learning_rate, min_learning_rate : of Adam, at first and at least.
    plateau_patience, plateau_factor : after so many epochs without a better validation loss the learning
        rate is multiplied by the factor.
    stop_patience : training ends after so many epochs without a better validation loss; 0: never early.
    batch : rows of a step, over all processes; two of them make a pair.
    epochs : passes over the training rows at most.
    validation : share of the rows held out for validation; of fragments, share of the species.
    seed : of weights, split, order and noise; whole number from 0.
    clr : the transform.
    precision : of the training's matrix products; ``auto`` is bf16 where the machine multiplies it natively.
    embedding_precision : of the trained encoder's.
    compile : compile the step with TorchInductor; needs a C++ compiler.
    objective : ``vae``, reconstruct profiles; ``pairs``, bring two fragments of one genome together and part
        them from all others (`kinmer.networks.pair_loss`); ``both``, the sum.
    network : ``vae``; ``linear``, started from the discriminant directions; ``residual``, that and a network
        with the layers `hidden` on top. The last two are trained on pairs alone.
    temperature : of the pair loss. pair_weight : its weight where there is another one.
    kin_positives : fragments of other genomes of the same kin are partners too (else they are left out).
    lengths : of fragments, log-uniform between them.
    reuse, hard, virus_share : see `kinmer.fragments.pairs.ViewSettings`.
    epoch_pairs : pairs of an epoch.
    anchor : last coordinate of a linear or residual network (see `kinmer.networks.Linear`), in the typical
        length of a vector at the start; 0: none.
    dropout : in the residual network. weight_decay : of all matrices, decoupled (AdamW).
    linear_rate : learning rate of a residual network's linear map, as a share of the rest's.
    """

    latent: int = 384
    hidden: tuple[int, ...] = (1024, 512)
    beta: float = 0.05
    warmup_epochs: int = 10
    learning_rate: float = 1e-4
    min_learning_rate: float = 1e-6
    plateau_patience: int = 10
    plateau_factor: float = 0.5
    stop_patience: int = 40
    batch: int = 1024
    epochs: int = 200
    validation: float = 0.1
    seed: int = 0
    clr: Clr = BLOCK_CLR
    precision: TrainPrecision = "auto"
    embedding_precision: Literal["fp32", "bf16"] = "fp32"
    compile: bool = False
    objective: Objective = "vae"
    network: NetworkName = "vae"
    temperature: float = 0.07
    pair_weight: float = 100.0
    kin_positives: bool = False
    lengths: tuple[int, int] = (1_000, 100_000)
    reuse: int = 8
    hard: float = 0.0
    virus_share: float | None = None
    epoch_pairs: int = 32_768
    anchor: float = 1.0
    dropout: float = 0.0
    weight_decay: float = 0.0
    linear_rate: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        object.__setattr__(self, "lengths", tuple(self.lengths))
        least = {"latent": 1, "warmup_epochs": 0, "plateau_patience": 1, "stop_patience": 0, "batch": 2}
        for name, low in {**least, "epochs": 1, "seed": 0}.items():
            value = getattr(self, name)
            _check(name, value, type(value) is int and value >= low, f"a whole number of at least {low}")
        _check("seed", self.seed, self.seed < 2**63, "below 2^63")
        sizes = all(type(size) is int and size >= 1 for size in self.hidden)
        _check("hidden", self.hidden, bool(self.hidden) and sizes, "one or more whole numbers of at least 1")
        _check("beta", self.beta, _number(self.beta) and self.beta >= 0, "a number of at least 0")
        rate, floor = self.learning_rate, self.min_learning_rate
        _check("learning_rate", rate, _number(rate) and rate > 0, "a number above 0")
        _check(
            "min_learning_rate", floor, _number(floor) and 0 <= floor <= rate, "between 0 and learning_rate"
        )
        for name in ("plateau_factor", "validation"):
            value = getattr(self, name)
            _check(name, value, _number(value) and 0 < value < 1, "between 0 and 1")
        _check("clr", self.clr, isinstance(self.clr, Clr), "a Clr")
        _check("precision", self.precision, self.precision in get_args(TrainPrecision), "auto, fp32 or bf16")
        own = self.embedding_precision
        _check("embedding_precision", own, own in ("fp32", "bf16"), "fp32 or bf16")
        for name in ("compile", "kin_positives"):
            value = getattr(self, name)
            _check(name, value, isinstance(value, bool), "true or false")
        self._check_pairs()

    def _check_pairs(self) -> None:
        """Check the settings of training on pairs."""
        _check("objective", self.objective, self.objective in get_args(Objective), "vae, pairs or both")
        _check("network", self.network, self.network in get_args(NetworkName), "vae, linear or residual")
        fits = self.network == "vae" or self.objective == "pairs"
        _check("objective", self.objective, fits, f"pairs for the network {self.network}")
        for name in ("reuse", "epoch_pairs"):
            value = getattr(self, name)
            _check(name, value, type(value) is int and value >= 1, "a whole number of at least 1")
        _check("temperature", self.temperature, _number(self.temperature) and self.temperature > 0, "above 0")
        for name in ("pair_weight", "weight_decay", "linear_rate", "anchor"):
            value = getattr(self, name)
            _check(name, value, _number(value) and value >= 0, "a number of at least 0")
        _check("dropout", self.dropout, _number(self.dropout) and 0 <= self.dropout < 1, "from 0 to below 1")
        for name, value in (("hard", self.hard), ("virus_share", self.virus_share)):
            share = value is None if name == "virus_share" else False
            _check(name, value, share or (_number(value) and 0 <= (value or 0) <= 1), "from 0 to 1")
        whole = len(self.lengths) == 2 and all(type(one) is int for one in self.lengths)
        _check("lengths", self.lengths, whole and 1 <= self.lengths[0] <= self.lengths[1], "two, ascending")

    def __repr__(self) -> str:
        changed = (f"{name}={value!r}" for name, value in self.changes().items())
        return f"TrainSettings({', '.join(changed)})"

    def changes(self) -> dict[str, Any]:
        """The settings that are not the defaults."""
        pairs = {one.name: (getattr(self, one.name), one.default) for one in fields(self)}
        return {name: value for name, (value, default) in pairs.items() if value != default}

    @property
    def warmup(self) -> int:
        """Warm-up epochs of this training: `warmup_epochs`, but at most half of `epochs`; without KL none."""
        return 0 if self.objective == "pairs" else min(self.warmup_epochs, self.epochs // 2)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        lists = {"hidden": list(self.hidden), "lengths": list(self.lengths)}
        return {**asdict(self), **lists, "clr": self.clr.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainSettings:
        """Inverse of `to_dict`, defaults for what is missing; FormatError for what is unknown."""
        unknown = sorted(set(data) - {one.name for one in fields(cls)})
        if unknown:
            raise FormatError(f"unknown settings of training: {', '.join(unknown)}")
        try:
            values = dict(data)
            if "clr" in values:
                values["clr"] = Clr.from_dict(values["clr"])
            return cls(**values)
        except (KinmerError, TypeError, KeyError, ValueError) as error:
            raise FormatError("the settings of training cannot be read", str(error)) from error


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check(name: str, value: object, right: bool, wanted: str) -> None:
    if not right:
        raise UsageError(f"the training setting {name} must be {wanted}, not {value!r}")


PRESETS: dict[str, TrainSettings] = {
    "default": TrainSettings(),
    # The reference system's final configuration: 500 epochs at most, joint CLR with pseudocount 1e-6.
    "reference": TrainSettings(epochs=500, clr=REFERENCE_CLR),
    # The linear encoder, from the discriminant solution on.
    "pairs": TrainSettings(
        objective="pairs",
        network="linear",
        latent=256,
        epochs=40,
        stop_patience=10,
        plateau_patience=3,
        virus_share=0.2,
    ),
}


def train_settings(preset: str = "default", **changes: Any) -> TrainSettings:
    """The preset's settings with some changed; UsageError for an unknown preset or setting."""
    if preset not in PRESETS:
        raise UsageError(f"there is no preset {preset!r}", check=f"presets: {', '.join(PRESETS)}")
    names = {one.name for one in fields(TrainSettings)}
    unknown = sorted(set(changes) - names)
    if unknown:
        raise UsageError(
            f"unknown settings of training: {', '.join(unknown)}", check=", ".join(sorted(names))
        )
    return replace(PRESETS[preset], **changes)


def clr_settings(
    settings: TrainSettings,
    *,
    scope: str | None = None,
    pseudocount: str | None = None,
    value: float | None = None,
) -> TrainSettings:
    """The settings with parts of their transform changed; UsageError where a part makes no sense."""
    given = {"scope": scope, "pseudocount": pseudocount, "value": value}
    changes: dict[str, Any] = {name: part for name, part in given.items() if part is not None}
    return replace(settings, clr=replace(settings.clr, **changes))


# The reference's transform is over the 2,772 features of the 6- to 1-mers.
REFERENCE_K = 6


def fasta_files(source: object) -> list[str | Path] | None:
    """The FASTA files that a source is; None for what `open_profiles` takes."""
    if isinstance(source, list | tuple):
        if len(source) == 1:
            return fasta_files(source[0])
        return list(source)
    if not isinstance(source, str | Path):
        return None
    path = Path(source)
    return None if path.is_dir() or path.suffix in (".npy", ".zarr") else [source]


def refuse_labels(*given: object) -> None:
    """UsageError where labels, folds or a layout are given for profiles."""
    if any(one is not None for one in given):
        raise UsageError(
            "labels, folds and a layout belong to FASTA files",
            "profiles are rows already, one a sequence",
            "give the FASTA files, or leave these out",
        )


def check_reference(settings: TrainSettings, layout: Layout | None) -> None:
    """Refuse 7-mers under the reference's transform: its joint CLR is over the 6- to 1-mers."""
    if layout is not None and settings.clr == REFERENCE_CLR and layout.ks[0] > REFERENCE_K:
        raise UsageError(
            f"the preset reference takes 6- to 1-mers, 2,772 features, these are {layout.width:,}",
            f"{layout.ks[0]}-mers would be another transform than the reference's",
            "leave them out: kinmer import or count with --max-k 6",
        )
