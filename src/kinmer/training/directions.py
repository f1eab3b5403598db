"""Linear maps in closed form: principal components, and directions that tell genomes apart.

The discriminant solution is Fisher's for many classes (Rao, C. R. (1948). The utilization of multiple
measurements in problems of biological classification. J. R. Stat. Soc. B 10, 159–203): what varies within a
genome is noise and is made small, and of what is left the directions are kept in which the genomes' means
differ. A fragment's genome is its class; no label of a species is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

from kinmer.clr import Clr
from kinmer.errors import TrainingError
from kinmer.fragments.packed import KINDS
from kinmer.layout import Layout
from kinmer.linear import NOTHING
from kinmer.progress import step

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

    def shape(self, layout: Layout, anchor: float) -> dict[str, Any]:
        """Sizes of a linear network of this map. anchor : last coordinate, in typical lengths; 0: none."""
        anchor *= self.length
        dim = len(self.weight) + (anchor > 0)
        return {"width": layout.width, "dim": dim, "optional": optional_spans(layout), "anchor": anchor}


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
    total : fragments to come, for the bar.

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
        total: int | None = None,
    ) -> None:
        self.layout, self._clr, self._values = layout, clr, values
        self._columns = np.ones(layout.width, np.float32) if columns is None else columns
        self._blocks: list[NDArray[Any]] = []
        groups = [np.empty(0, np.int64)]
        with step("Reading fragments", total) as bar:
            for counts, which in blocks:
                self._blocks.append(_compact(counts))
                groups.append(which)
                bar.advance(len(which))
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

    def centered(
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
        for rows, x, there in self.centered(np.zeros(self.layout.width, np.float32)):
            weights = self.weights[rows]
            sums += weights @ x
            total += weights.sum()
            for (first, last), counted in zip(self.spans, there, strict=True):
                total[first:last] -= weights[~counted].sum()
        return np.divide(sums, total, out=np.zeros_like(sums), where=total > 0).astype(np.float32)

    def scatter(self, mean: NDArray[np.float32]) -> Floats:
        """(width, width) weighted covariance around `mean`."""
        total = np.zeros((self.layout.width, self.layout.width))
        for rows, x, _ in self.centered(mean):
            x *= np.sqrt(self.weights[rows])[:, None].astype(np.float32)
            total += x.T @ x
        return total

    def centers(self, mean: NDArray[np.float32], basis: NDArray[np.float32]) -> Floats:
        """(g, p) weighted mean of every group's fragments in a basis (width, p)."""
        sums = np.zeros((len(self.sizes), basis.shape[1]))
        for rows, x, _ in self.centered(mean):
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
    neighbors: int = 0,
    kin: NDArray[np.int64] | None = None,
    log: Callable[[str], None] | None = None,
) -> Directions:
    """The `dim` directions in which groups differ most, for what varies within them.

    components : principal components in which the solution is sought.
    power : of the whitening of what varies within groups: 0 leaves it, 1 makes it the same in all directions.
    ridge : added to the variances within groups, as a share of their mean.
    neighbors : each group is told from so many of the nearest ones (see `apart`); 0: all groups from their
    mean. kin : (g,) groups that share a number are not told apart; None: all are.

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
    centers = sample.centers(mean, basis.astype(np.float32))
    weight = np.asarray(np.bincount(sample.groups, weights=sample.weights), np.float64)
    within = np.diag(variances) - (centers * weight[:, None]).T @ centers
    spread, turned = scipy.linalg.eigh(within)
    spread = np.maximum(spread, 0)
    whitened = turned * (spread + ridge * spread.mean()) ** (-power / 2)
    points = (centers[known] - np.average(centers[known], axis=0, weights=weight[known])) @ whitened
    if neighbors:
        names = known if kin is None else kin[known]
        points = apart(points, weight[known], names, neighbors) if len(set(names.tolist())) > 1 else points
    _, strength, axes = np.linalg.svd(points, full_matrices=False)
    kept = min(dim, int((strength > strength[0] * 1e-9).sum()))
    if log is not None and kept < dim:
        log(f"{len(known)} groups span {kept} directions: the encoder has as many dimensions, not {dim}")
    directions = whitened @ axes[:kept].T
    length = float(np.median(np.linalg.norm(centers[known] @ directions, axis=1)))
    return sample.unscaled(mean, (basis @ directions).T, length)


def apart(points: Floats, weight: Floats, kin: NDArray[np.int64], neighbors: int) -> Floats:
    """(m, p) steps of one length from points (g, p) to their nearest ones of other kin, by weight (g,).

    What tells a genome from those that it could be taken for is a matter of its neighborhood; differences
    from the mean of all are those of far relatives (Loog, M. et al. (2001). Multiclass linear dimension
    reduction by weighted pairwise Fisher criteria. IEEE T. Pattern Anal. 23, 762–766).
    """
    square = (points**2).sum(axis=1)
    distances = np.maximum(square[:, None] + square - 2 * points @ points.T, 0)
    distances[kin[:, None] == kin] = np.inf
    near = np.argsort(distances, axis=1, kind="stable")[:, :neighbors]
    far = np.take_along_axis(distances, near, axis=1)
    here, which = np.nonzero(np.isfinite(far) & (far > 0))
    scale = np.sqrt(weight[here] / far[here, which])
    return np.asarray((points[near[here, which]] - points[here]) * scale[:, None])


def _components(scatter: Floats, number: int) -> tuple[Floats, Floats]:
    """(width, number) eigenvectors of the largest eigenvalues, descending, and these; none that is zero."""
    width = len(scatter)
    number = max(1, min(number, width))
    with step("Eigenvectors"):
        values, vectors = scipy.linalg.eigh(scatter, subset_by_index=[width - number, width - 1])
    kept = values[::-1] > max(values[-1], 0) * 1e-7
    kept[0] = True
    return vectors[:, ::-1][:, kept], values[::-1][kept]


def _compact(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest type that holds them."""
    if counts.dtype.kind not in "ui":
        return counts
    return counts.astype(np.min_scalar_type(int(counts.max(initial=0))), copy=False)


def genome_weights(
    kind: NDArray[np.int64], shares: Mapping[str, float] | None, groups: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(g,) weights of genomes by which the classes among `groups` have their shares of all the weight.

    kind : (g,) class of every genome in `KINDS`. shares : of the classes named; the others divide the rest by
    their genomes. None: every genome weighs the same. Classes that are not there leave theirs to all.
    """
    number = np.bincount(kind[groups], minlength=len(KINDS))
    each = np.ones(len(KINDS))
    if shares is not None:
        named = np.array([name in shares for name in KINDS])
        share = np.array([shares.get(name, 0.0) for name in KINDS])
        rest = max(0.0, 1 - share.sum()) / max(1, number[~named].sum())
        each = np.where(named, share / np.maximum(number, 1), rest)
    weights: Floats = each[kind]
    weights /= max(weights[groups].sum(), np.finfo(float).tiny)
    return weights
