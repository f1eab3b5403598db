"""Linear maps in closed form: principal components, and directions that tell genomes apart.

The discriminant solution is Fisher's for many classes (Rao, C. R. (1948). The utilization of multiple
measurements in problems of biological classification. J. R. Stat. Soc. B 10, 159–203): what varies within a
genome is noise and is made small, and of what is left the directions are kept in which the genomes' means
differ. A fragment's genome is its class; no label of a species is needed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kinmer.clr import Clr
from kinmer.encoder import Encoder, check_encoder_output, library_versions
from kinmer.errors import TrainingError, UsageError
from kinmer.fasta import nonempty
from kinmer.fragments.packed import PackedSequences
from kinmer.fragments.pairs import sample_fragments
from kinmer.layout import GeneticCode, Layout, profile_layout
from kinmer.linear import NOTHING, Columns, EncoderNetwork, Projection
from kinmer.profiles import Profiles, open_profiles
from kinmer.progress import step
from kinmer.resources import available_cores, cpu_threads
from kinmer.training.log import markdown_table
from kinmer.training.settings import BLOCK_CLR, fasta_files

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "Directions",
    "FitSettings",
    "Method",
    "Sample",
    "column_weights",
    "fit",
    "fit_discriminant",
    "fit_principal",
    "optional_spans",
]


Floats = NDArray[np.float64]

# A class with fewer fragments says too little about where it lies.
LEAST_FRAGMENTS = 10
# Share of the mean variance within genomes that is added to that of every component: rare directions, seen in
# few fragments, would otherwise be blown up.
RIDGE = 1e-3


@dataclass(frozen=True)
class Directions:
    """A linear map: ``(x - mean) @ weight.T``; mean (width,), weight (dim, width), float32.

    length : median length of the vectors of groups' means; 0 where that is not known.
    """

    mean: NDArray[np.float32]
    weight: NDArray[np.float32]
    length: float = 0.0


def optional_spans(layout: Layout) -> list[tuple[int, int]]:
    """Spans of columns that a sequence may lack altogether: side by side, those of its reading frames."""
    columns = [block.columns for block in layout.blocks if block.kind != "k-mer"]
    return [(columns[0].start, columns[-1].stop)] if columns else []


def column_weights(layout: Layout, *, codon: float = 3.0, phase: float = 2.0) -> NDArray[np.float32]:
    """(width,) what every column of transformed profiles is multiplied with before a fit: 1 for k-mers."""
    weights = np.ones(layout.width, np.float32)
    for block in layout.blocks:
        weights[block.columns] = {"k-mer": 1.0, "codon": codon, "phase": phase}[block.kind]
    return weights


class Sample:
    """Fragments to fit on, held compactly, with the group (genome) of each.

    Parameters
    ----------
    blocks : counts (n, width) and groups (n,), whole numbers from 0, block by block.
    layout, clr : of the counts, and their transform.
    columns : (width,) factors of the transformed columns.
    group_weight : (g,) weight of every group's fragments, together; None: every fragment counts the same.

    Raises TrainingError for fewer than two fragments.
    """

    def __init__(
        self,
        blocks: Iterator[tuple[NDArray[Any], NDArray[np.int64]]],
        layout: Layout,
        clr: Clr,
        *,
        values: str = "counts",
        columns: NDArray[np.float32] | None = None,
        group_weight: NDArray[np.float64] | None = None,
    ) -> None:
        self.layout, self._clr, self._values = layout, clr, values
        self._columns = np.ones(layout.width, np.float32) if columns is None else columns
        self._blocks: list[NDArray[Any]] = []
        groups = [np.empty(0, np.int64)]
        for counts, which in blocks:
            self._blocks.append(_compact(counts))
            groups.append(which)
        self.groups = np.concatenate(groups)
        if len(self.groups) < 2:
            raise TrainingError(f"{len(self.groups)} fragments are too few to fit an encoder on")
        self.sizes = np.bincount(self.groups)
        each = np.ones(len(self.sizes)) if group_weight is None else group_weight / np.maximum(self.sizes, 1)
        weights = each[self.groups]
        self.weights = weights / weights.sum()
        self.spans = optional_spans(layout)

    def __len__(self) -> int:
        return len(self.groups)

    def centred(
        self, mean: NDArray[np.float32]
    ) -> Iterator[tuple[slice, NDArray[np.float32], list[NDArray[np.bool_]]]]:
        """Rows, their transformed profiles minus the mean, and of each optional span where it was counted.

        Columns of a span that was not counted are zero: the sequence says nothing of them.
        """
        start = 0
        with step("fitting", len(self)) as progress:
            for counts in self._blocks:
                x = np.asarray(self._clr(counts, self.layout, self._values), np.float32) * self._columns
                there = [np.abs(x[:, first:last]).max(axis=1) > NOTHING for first, last in self.spans]
                x -= mean
                for (first, last), counted in zip(self.spans, there, strict=True):
                    x[~counted, first:last] = 0
                yield slice(start, start + len(x)), x, there
                start += len(x)
                progress.advance(len(x))

    def mean(self) -> NDArray[np.float32]:
        """(width,) weighted mean of every column over the fragments in which it was counted."""
        sums, total = np.zeros(self.layout.width), np.zeros(self.layout.width)
        for rows, x, there in self.centred(np.zeros(self.layout.width, np.float32)):
            weights = self.weights[rows]
            sums += weights @ x
            total += weights.sum()
            for (first, last), counted in zip(self.spans, there, strict=True):
                total[first:last] -= weights[~counted].sum()
        return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0).astype(np.float32)

    def scatter(self, mean: NDArray[np.float32]) -> Floats:
        """(width, width) weighted covariance around `mean`."""
        total = np.zeros((self.layout.width, self.layout.width))
        for rows, x, _ in self.centred(mean):
            x *= np.sqrt(self.weights[rows])[:, None].astype(np.float32)
            total += x.T @ x
        return total

    def centres(self, mean: NDArray[np.float32], basis: NDArray[np.float32]) -> Floats:
        """(g, p) weighted mean of every group's fragments in a basis (width, p)."""
        sums = np.zeros((len(self.sizes), basis.shape[1]))
        for rows, x, _ in self.centred(mean):
            np.add.at(sums, self.groups[rows], (x @ basis) * self.weights[rows, None])
        weight = np.bincount(self.groups, weights=self.weights)
        return sums / np.maximum(weight, np.finfo(float).tiny)[:, None]

    def unscaled(self, mean: NDArray[np.float32], weight: Floats, length: float = 0.0) -> Directions:
        """A map of the multiplied columns as one of the columns themselves."""
        scale = self._columns
        return Directions(
            np.divide(mean, scale, out=np.zeros_like(mean), where=scale > 0),
            np.ascontiguousarray(weight * scale, np.float32),
            length,
        )


def fit_principal(sample: Sample, dim: int) -> Directions:
    """The `dim` directions of largest variance (fewer where there are fewer fragments or columns)."""
    mean = sample.mean()
    basis, _ = _components(sample.scatter(mean), min(dim, len(sample) - 1))
    return sample.unscaled(mean, basis.T)


def fit_discriminant(
    sample: Sample,
    dim: int,
    *,
    components: int = 768,
    power: float = 0.8,
    ridge: float = RIDGE,
    log: Callable[[str], None] | None = None,
) -> Directions:
    """The `dim` directions in which groups differ most, for what varies within them.

    components : principal components in which the solution is sought.
    power : of the whitening of what varies within groups: 0 leaves it, 1 makes it the same in all directions.
    ridge : added to the variances within groups, as a share of their mean.

    Groups with fewer than ten fragments count for what varies within groups only. Raises TrainingError where
    fewer than two groups have as many.
    """
    known = np.flatnonzero(sample.sizes >= LEAST_FRAGMENTS)
    if len(known) < 2:
        raise TrainingError(
            f"{len(known)} genomes or sequences have {LEAST_FRAGMENTS} fragments or more",
            "the discriminant directions need two",
            "draw more fragments of each, or fit principal components",
        )
    mean = sample.mean()
    basis, variances = _components(sample.scatter(mean), min(components, len(sample) - 1))
    centres = sample.centres(mean, basis.astype(np.float32))
    weight = np.bincount(sample.groups, weights=sample.weights)
    within = np.diag(variances) - (centres * weight[:, None]).T @ centres
    spread, turned = scipy.linalg.eigh(within)
    spread = np.maximum(spread, 0)
    whitened = turned * (spread + ridge * spread.mean()) ** (-power / 2)
    between = centres[known] - np.average(centres[known], axis=0, weights=weight[known])
    _, strength, axes = np.linalg.svd(between @ whitened, full_matrices=False)
    kept = min(dim, int((strength > strength[0] * 1e-9).sum()))
    if log is not None and kept < dim:
        log(f"{len(known)} groups span {kept} directions: the encoder has as many dimensions, not {dim}")
    directions = whitened @ axes[:kept].T
    length = float(np.median(np.linalg.norm(centres[known] @ directions, axis=1)))
    return sample.unscaled(mean, (basis @ directions).T, length)


def _components(scatter: Floats, number: int) -> tuple[Floats, Floats]:
    """(width, number) eigenvectors of the largest eigenvalues, descending, and these; none that is zero."""
    width = len(scatter)
    number = max(1, min(number, width))
    values, vectors = scipy.linalg.eigh(scatter, subset_by_index=[width - number, width - 1])
    kept = values[::-1] > max(values[-1], 0) * 1e-7
    kept[0] = True
    return vectors[:, ::-1][:, kept], values[::-1][kept]


def _compact(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest type that holds them."""
    if counts.dtype.kind not in "ui":
        return counts
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))), copy=False)


Method = Literal["raw", "4-mer", "pca", "discriminant"]
# Rows of a store that are read together.
BLOCK_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How to make an encoder in closed form; raises UsageError where a value makes no sense.

    method : ``raw``, the transformed profile itself; ``4-mer``, its block of 4-mers; ``pca``, principal
        components; ``discriminant``, directions in which genomes differ more than within themselves.
    dim : dimensions of ``pca`` and ``discriminant``.
    max_k : largest k of the k-mers.
    coding : blocks of reading frames beside them; genetic_code : by which they are found.
    per_group : fragments drawn of every genome (of every sequence without a label).
    lengths : their shortest and longest; log-uniform between them.
    virus_share : share of all the weight that viruses have among other genomes.
    anchor : last coordinate of ``discriminant``, the same for all sequences (see `kinmer.linear`),
        as a multiple of the median length of genomes' vectors; 0: none.
    components, power, ridge : see `fit_discriminant`. codon, phase : see `column_weights`.
    clr : the transform. seed : of the fragments.
    """

    method: Method = "discriminant"
    dim: int = 384
    max_k: int = 6
    coding: bool = True
    genetic_code: GeneticCode = "auto"
    per_group: int = 100
    lengths: tuple[int, int] = (1_000, 100_000)
    virus_share: float = 0.2
    components: int = 768
    power: float = 0.8
    ridge: float = 1e-3
    codon: float = 3.0
    phase: float = 2.0
    anchor: float = 1.0
    clr: Clr = BLOCK_CLR
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in get_args(Method):
            raise UsageError(f"there is no method {self.method!r}", check=", ".join(get_args(Method)))
        for name, low in (("dim", 1), ("per_group", 1), ("components", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise UsageError(
                    f"{name} must be a whole number of at least {low}, not {getattr(self, name)}"
                )
        if not 0 <= self.power <= 1 or not 0 <= self.virus_share <= 1:
            raise UsageError("power and virus_share lie between 0 and 1")
        if not 0 <= self.anchor < math.inf:
            raise UsageError(f"anchor must be a number of at least 0, not {self.anchor}")
        if not self.ridge > 0 or not (self.codon > 0 and self.phase > 0):
            raise UsageError("ridge, codon and phase must be above 0")

    def to_dict(self) -> dict[str, Any]:
        """JSON form: only what the method uses."""
        found = asdict(self) | {"lengths": list(self.lengths), "clr": self.clr.to_dict()}
        unused = {
            "raw": set(found) - {"method", "max_k", "coding", "genetic_code", "clr"},
            "4-mer": set(found) - {"method", "max_k", "clr"},
            "pca": {"power", "ridge", "components", "anchor"},
            "discriminant": set(),
        }[self.method]
        return {name: value for name, value in found.items() if name not in unused}


class _Drawn(NamedTuple):
    """What an encoder is fitted on: blocks of counts with their groups, and what the card tells of them."""

    layout: Layout
    values: str
    blocks: Iterator[tuple[NDArray[Any], NDArray[np.int64]]]
    group_weight: NDArray[np.float64] | None
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
    source : FASTA files, of which fragments are drawn; or (not for ``discriminant``) profiles, as
        `open_profiles` takes them. None for ``raw`` and ``4-mer``, which learn nothing.
    output : folder of the encoder, whole or absent.
    labels : TSV with ``sequence_id`` and any of ``genome_id``, ``species``, ``ani95_cluster``, ``domain``:
        fragments of one genome belong together. Without it those of one sequence do.
    folds, fold : table of `kinmer.benchmark`, and the fold whose sequences are left out.

    Raises UsageError (settings, output exists), TrainingError (too few fragments), and what the source's
    reader raises.
    """
    chosen = settings or FitSettings()
    path = check_encoder_output(output, force=force)
    began = time.monotonic()
    cores = threads or available_cores()
    with cpu_threads(threads):
        if chosen.method in ("raw", "4-mer"):
            network, layout, facts = _columns(chosen, source, ids)
        else:
            drawn = _drawn(chosen, source, labels, folds, fold, ids, cores, log)
            network, layout, facts = _fitted(chosen, drawn, log), drawn.layout, drawn.facts
    training = {"settings": chosen.to_dict(), "data": dict(facts)}
    card = _card(chosen, training, network.dim)
    Encoder(network, layout, chosen.clr, training=training, card=card).save(path, force=force)
    if log is not None:
        log(f"{chosen.method}: {layout.width} -> {network.dim} in {time.monotonic() - began:.0f} s")
    return Encoder.load(path)


def _columns(
    settings: FitSettings, source: Any, ids: str | Path | None
) -> tuple[EncoderNetwork, Layout, Mapping[str, Any]]:
    """The network of ``raw`` and ``4-mer``."""
    files = source is None or fasta_files(source) is not None
    if files:
        layout = profile_layout(settings.max_k, coding=settings.coding and settings.method == "raw")
    else:
        layout = open_profiles(source, ids=ids).layout
    start, stop = 0, layout.width
    if settings.method == "4-mer":
        block = next((one for one in layout.blocks if one.name == "4-mer"), None)
        if block is None:
            raise UsageError("the profiles have no 4-mers")
        start, stop = block.start, block.stop
    return Columns(width=layout.width, start=start, stop=stop), layout, {}


def _drawn(
    settings: FitSettings,
    source: Any,
    labels: str | Path | None,
    folds: str | Path | None,
    fold: str | int | None,
    ids: str | Path | None,
    threads: int,
    log: Callable[[str], None] | None,
) -> _Drawn:
    files = fasta_files(source)
    if files is not None:
        return _drawn_of_files(settings, nonempty(files, log), labels, folds, fold, threads)
    if source is None:
        raise UsageError(f"{settings.method} is fitted on sequences", check="give FASTA files or a store")
    if settings.method == "discriminant" or labels is not None or folds is not None:
        open_profiles(source, ids=ids)  # What is no store is refused as that.
        raise UsageError(
            "a store has no fragments to draw",
            "discriminant directions, labels and folds go with several fragments of every genome",
            "give the FASTA files",
        )
    profiles = open_profiles(source, ids=ids)
    starts = range(0, len(profiles), BLOCK_ROWS)
    blocks = (
        (rows, np.arange(start, start + len(rows)))
        for start in starts
        for rows in [profiles.read(start, min(start + BLOCK_ROWS, len(profiles)))]
    )
    facts = {"profiles": len(profiles), "fingerprint": profiles.fingerprint}
    return _Drawn(profiles.layout, profiles.values, blocks, None, facts)


def _drawn_of_files(
    settings: FitSettings,
    files: Sequence[str | Path],
    labels: str | Path | None,
    folds: str | Path | None,
    fold: str | int | None,
    threads: int,
) -> _Drawn:
    layout = profile_layout(settings.max_k, coding=settings.coding, genetic_code=settings.genetic_code)
    packed = PackedSequences.read(files, labels, folds=folds, fold=fold, min_length=settings.lengths[0])
    fragments = sample_fragments(
        packed,
        layout,
        per_group=settings.per_group,
        lengths=settings.lengths,
        seed=settings.seed,
        threads=threads,
    )
    virus = packed.groups.virus
    weight = np.where(virus, settings.virus_share / max(1, virus.sum()), 0.0)
    weight += np.where(virus, 0.0, (1 - settings.virus_share) / max(1, (~virus).sum()))
    facts: dict[str, Any] = {
        "sequences": len(packed),
        "letters": int(packed.lengths.sum()),
        "groups": len(packed.groups),
        "viruses": int(virus.sum()),
        "kin": len(set(packed.groups.kin.tolist())),
        "fragments": len(packed.groups) * settings.per_group,
        "fold left out": None if fold is None else str(fold),
        "fingerprint": packed.fingerprint,
    }
    return _Drawn(layout, "counts", ((counts, groups) for counts, groups, _ in fragments), weight, facts)


def _fitted(settings: FitSettings, drawn: _Drawn, log: Callable[[str], None] | None) -> Projection:
    layout = drawn.layout
    sample = Sample(
        drawn.blocks,
        layout,
        settings.clr,
        values=drawn.values,
        columns=column_weights(layout, codon=settings.codon, phase=settings.phase),
        group_weight=drawn.group_weight,
    )
    if settings.method == "pca":
        found = fit_principal(sample, settings.dim)
    else:
        found = fit_discriminant(
            sample,
            settings.dim - (settings.anchor > 0),
            components=settings.components,
            power=settings.power,
            ridge=settings.ridge,
            log=log,
        )
    anchor = settings.anchor * found.length
    dim = len(found.weight) + (anchor > 0)
    network = Projection(width=layout.width, dim=dim, optional=optional_spans(layout), anchor=anchor)
    return network.load({"mean": found.mean, "weight": found.weight})


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
