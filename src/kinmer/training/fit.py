"""Encoders in one pass: raw profiles, one block of them, principal components, discriminant directions.

They need no epochs and no PyTorch: fragments are drawn and counted, and a few products of matrices give the
encoder. They are the baselines of any training.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from kinmer.clr import Clr
from kinmer.encoder import Encoder, check_encoder_output, library_versions
from kinmer.errors import UsageError
from kinmer.fasta import nonempty
from kinmer.fragments.packed import KINDS, PackedSequences
from kinmer.fragments.samples import sample_fragments
from kinmer.inputs import kind_of
from kinmer.layout import GeneticCode, Layout, profile_layout
from kinmer.linear import Columns, EncoderNetwork, Projection
from kinmer.profiles import Profiles, open_profiles
from kinmer.resources import available_cores, cpu_threads
from kinmer.training.log import markdown_table
from kinmer.training.settings import BLOCK_CLR

if TYPE_CHECKING:
    from anndata import AnnData

from kinmer.training.directions import Sample, column_weights, fit_discriminant, fit_principal, genome_weights

Method = Literal["raw", "4-mer", "pca", "discriminant"]
# Plasmids are many and viruses short: at full weight they cost the cells a point or two.
SHARES: Mapping[str, float] = {"plasmid": 0.15, "virus": 0.2, "eukaryote": 0.05}
# Rows of a store that are read together.
BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to make an encoder in closed form; raises UsageError where a value makes no sense.

    Parameters
    ----------
    method : Method
        ``raw``, the transformed profile itself; ``4-mer``, its block of 4-mers; ``pca``, principal
        components; ``discriminant``, directions in which genomes differ more than within themselves.
    dim : int
        Dimensions of ``pca`` and ``discriminant``.
    max_k : int
        Largest k of the k-mers.
    coding : bool
        Blocks of reading frames beside them; genetic_code : by which they are recognized.
    per_group : int
        Fragments drawn of every genome (of every sequence without a label).
    lengths : tuple[int, int]
        Their shortest and longest; log-uniform between them.
    shares : Mapping[str, float]
        Share of all the weight that classes of genomes have, by their names in `KINDS`; the classes that are
        not named divide the rest by their genomes.
    anchor : float
        Last coordinate of ``discriminant``, the same for all sequences (see `kinmer.linear`), as a multiple
        of the median length of genomes' vectors; 0: none.
    components, power, ridge, neighbors : int
        See `fit_discriminant`; genomes of one species or 95 % cluster are no neighbors.
    codon, phase : float
        See `column_weights`.
    clr : Clr
        The transform. seed : of the fragments.
    """

    method: Method = "discriminant"
    dim: int = 512
    max_k: int = 6
    coding: bool = True
    genetic_code: GeneticCode = "auto"
    per_group: int = 100
    lengths: tuple[int, int] = (1_000, 100_000)
    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    components: int = 1536
    power: float = 0.8
    ridge: float = 0.5
    neighbors: int = 5
    codon: float = 3.0
    phase: float = 2.0
    anchor: float = 1.0
    clr: Clr = BLOCK_CLR
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"there is no method {self.method!r}", check=", ".join(get_args(Method)))
        for name, low in (("dim", 1), ("per_group", 1), ("components", 1), ("neighbors", 0), ("seed", 0)):
            if getattr(self, name) < low:
                raise UsageError(
                    f"{name} must be a whole number of at least {low}, not {getattr(self, name)}"
                )
        if not 0 <= self.power <= 1:
            raise UsageError("power lies between 0 and 1")
        if unknown := set(self.shares) - set(KINDS):
            raise UsageError(f"there is no class {min(unknown)!r} of genomes", check=", ".join(KINDS))
        if min(self.shares.values(), default=0.0) < 0 or not sum(self.shares.values()) <= 1:
            raise UsageError("shares of the weight are not negative, and together at most 1")
        if not 0 <= self.anchor < math.inf:
            raise UsageError(f"anchor must be a number of at least 0, not {self.anchor}")
        if not self.ridge > 0 or not (self.codon > 0 and self.phase > 0):
            raise UsageError("ridge, codon and phase must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """JSON form: only what the method uses."""
        values = asdict(self) | {
            "lengths": list(self.lengths),
            "shares": dict(self.shares),
            "clr": self.clr.to_dict(),
        }
        unused = {
            "raw": set(values) - {"method", "max_k", "coding", "genetic_code", "clr"},
            "4-mer": set(values) - {"method", "max_k", "clr"},
            "pca": {"power", "ridge", "neighbors", "components", "anchor"},
            "discriminant": set(),
        }[self.method]
        return {name: value for name, value in values.items() if name not in unused}


class _Drawn(NamedTuple):
    """What an encoder is fitted on: blocks of counts with their groups, and what the card says of them."""

    layout: Layout
    values: str
    blocks: Iterator[tuple[NDArray[Any], NDArray[np.int64]]]
    group_weight: NDArray[np.float64] | None
    kin: NDArray[np.int64] | None
    facts: Mapping[str, Any]


def fit(
    source: str | Path | AnnData | Profiles | Sequence[str | Path] | None,
    output: str | Path,
    *,
    settings: FitSettings | None = None,
    labels: str | Path | None = None,
    folds: str | Path | None = None,
    fold: str | int | None = None,
    ids: str | Path | None = None,
    threads: int | None = None,
    force: bool = False,
    log: Callable[[str], None] | None = None,
) -> Encoder:
    """Make an encoder in closed form and write it.

    Parameters
    ----------
    source : str | Path | AnnData | Profiles | Sequence[str | Path] | …
        FASTA files, of which fragments are drawn; or (not for ``discriminant``) profiles, as
        `open_profiles` takes them. None for ``raw`` and ``4-mer``, which learn nothing.
    output : str | Path
        Folder of the encoder, whole or absent.
    labels : str | Path | None
        TSV with ``sequence_id`` and any of ``genome_id``, ``species``, ``ani95_cluster``, ``domain``:
        fragments of one genome belong together. Without it those of one sequence do.
    folds, fold : str | Path | None
        Table of `kinmer.benchmark`, and the fold whose sequences are left out.

    Raises
    ------
    UsageError : settings that make no sense, or an output that exists.
    TrainingError : too few fragments; and what the source's reader raises.
    """
    chosen = settings or FitSettings()
    path = check_encoder_output(output, force=force)
    began = time.monotonic()
    files = fasta_files(source)
    with cpu_threads(threads):
        if chosen.method in ("raw", "4-mer"):
            layout = None if source is None or files is not None else open_profiles(source, ids=ids).layout
            network, layout = _columns(chosen, layout)
            facts: Mapping[str, Any] = {}
        else:
            if source is None:
                raise UsageError(f"{chosen.method} is fitted on sequences", check="give FASTA or a store")
            if files is None:
                drawn = _drawn_of_store(chosen, open_profiles(source, ids=ids), labels or folds)
            else:
                low = chosen.lengths[0]
                packed = PackedSequences.read(
                    nonempty(files, log), labels, folds=folds, fold=fold, min_length=low
                )
                drawn = _drawn_of_files(chosen, packed, fold, threads or available_cores())
            network, layout, facts = _fitted(chosen, drawn, log), drawn.layout, drawn.facts
    training = {"settings": chosen.to_dict(), "data": dict(facts)}
    card = _card(chosen, training, network.dim)
    Encoder(network, layout, chosen.clr, training=training, card=card).save(path, force=force)
    if log is not None:
        log(f"{chosen.method}: {layout.width} -> {network.dim} in {time.monotonic() - began:.0f} s")
    return Encoder.load(path)


def fasta_files(source: object) -> list[str | Path] | None:
    """The FASTA files that a source is; None for what `open_profiles` takes."""
    if isinstance(source, list | tuple):
        return fasta_files(source[0]) if len(source) == 1 else list(source)
    if isinstance(source, str | Path) and kind_of(source) in ("fasta", "missing"):
        return [source]
    return None


def _columns(settings: FitSettings, layout: Layout | None) -> tuple[EncoderNetwork, Layout]:
    """The network of ``raw`` and ``4-mer``, for the settings' layout or that of a store."""
    if layout is None:
        layout = profile_layout(settings.max_k, coding=settings.coding and settings.method == "raw")
    start, stop = 0, layout.width
    if settings.method == "4-mer":
        block = next((one for one in layout.blocks if one.name == "4-mer"), None)
        if block is None:
            raise UsageError("the profiles have no 4-mers")
        start, stop = block.start, block.stop
    return Columns(width=layout.width, start=start, stop=stop), layout


def _drawn_of_store(settings: FitSettings, profiles: Profiles, labels: object) -> _Drawn:
    if settings.method == "discriminant" or labels is not None:
        raise UsageError(
            "a store has no fragments to draw",
            "discriminant directions, labels and folds go with several fragments of every genome",
            "give the FASTA files",
        )
    starts = range(0, len(profiles), BLOCK_ROWS)
    blocks = (
        (rows, np.arange(start, start + len(rows)))
        for start in starts
        for rows in [profiles.read(start, min(start + BLOCK_ROWS, len(profiles)))]
    )
    facts = {"profiles": len(profiles), "fingerprint": profiles.fingerprint}
    return _Drawn(profiles.layout, profiles.values, blocks, None, None, facts)


def _drawn_of_files(
    settings: FitSettings, packed: PackedSequences, fold: str | int | None, threads: int
) -> _Drawn:
    layout = profile_layout(settings.max_k, coding=settings.coding, genetic_code=settings.genetic_code)
    fragments = sample_fragments(
        packed,
        layout,
        per_group=settings.per_group,
        lengths=settings.lengths,
        seed=settings.seed,
        threads=threads,
    )
    kind = packed.groups.kind
    facts: dict[str, Any] = {
        "sequences": len(packed),
        "letters": int(packed.lengths.sum()),
        "groups": len(packed.groups),
        "groups by class": {name: int((kind == at).sum()) for at, name in enumerate(KINDS)},
        "kin": len(set(packed.groups.kin.tolist())),
        "fragments": len(packed.groups) * settings.per_group,
        "fold left out": None if fold is None else str(fold),
        "fingerprint": packed.fingerprint,
    }
    weight = genome_weights(kind, settings.shares, np.arange(len(kind)))
    blocks = ((counts, groups) for counts, groups, _ in fragments)
    return _Drawn(layout, "counts", blocks, weight, packed.groups.kin, facts)


def _fitted(settings: FitSettings, drawn: _Drawn, log: Callable[[str], None] | None) -> Projection:
    layout = drawn.layout
    sample = Sample(
        drawn.blocks,
        layout,
        settings.clr,
        values=drawn.values,
        columns=column_weights(layout, codon=settings.codon, phase=settings.phase),
        group_weight=drawn.group_weight,
        total=drawn.facts.get("fragments", drawn.facts.get("profiles")),
    )
    if settings.method == "pca":
        directions = fit_principal(sample, settings.dim)
    else:
        directions = fit_discriminant(
            sample,
            settings.dim - (settings.anchor > 0),
            components=settings.components,
            power=settings.power,
            ridge=settings.ridge,
            neighbors=settings.neighbors,
            kin=drawn.kin,
            log=log,
        )
    network = Projection(**directions.shape(layout, settings.anchor))
    return network.load({"mean": directions.mean, "weight": directions.weight})


def _card(settings: FitSettings, training: Mapping[str, Any], dim: int) -> str:
    what = {
        "raw": "The transformed profile itself.",
        "4-mer": "The transformed 4-mers.",
        "pca": "Principal components of transformed profiles.",
        "discriminant": "A linear map of transformed profiles in which fragments of one genome lie together.",
    }[settings.method]
    sections = [
        "# kinmer encoder",
        f"{what} {dim} dimensions; compare by cosine.",
        "## Data",
        markdown_table(("", ""), list(training["data"].items())) if training["data"] else "None.",
        "## Settings",
        markdown_table(("setting", "value"), [(k, f"`{v}`") for k, v in training["settings"].items()]),
        "## Versions",
        markdown_table(("", ""), list(library_versions().items())),
    ]
    return "\n\n".join(sections) + "\n"
