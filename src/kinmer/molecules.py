"""Kinds of molecule: what speaks for each of them in a query's nearest rows and in its own vector."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.kinds import EVEN, limits_of, posterior
from kinmer.logistic import NOBODY, Logistic, best_power, fit_logistic

MOLECULES = ("chromosome", "plasmid", "virus", "organelle", "eukaryote")
PLASMID, VIRUS = MOLECULES.index("plasmid"), MOLECULES.index("virus")
# Which value counts as which kind. Other values say nothing.
MOLECULE_CODES = {name: code for code, name in enumerate(MOLECULES)} | {"contig": 0}
# Below this distance sequences count as equal.
LEAST_DISTANCE = 1e-3
# Rows whose molecules count, and the distance behind the nearest at which their weight falls to 1/e.
ROWS, SCALE = 20, 0.02
# Rows of a kind whose mean distance counts beside that of its nearest.
NEAREST = 5
# How much of the scatter within kinds is taken to be alike in all directions.
SHRINK = 0.1
# What is learned of a kind of fewer queries or genera holds for these alone: it is never called.
LEAST_QUERIES, LEAST_GENERA = 10, 3
# Genera of a kind from which on it says how sure a model may be.
TELLING_GENERA = 8

Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
Rows = NDArray[np.int64]
Bools = NDArray[np.bool_]


def log_distance(distances: NDArray[Any]) -> Floats:
    """Logs of distances, those of nearly equal sequences as one."""
    return np.asarray(np.log(np.maximum(distances, LEAST_DISTANCE)))


def neighbor_features(distances: Vectors, molecules: NDArray[np.int8], size: Floats) -> Floats:
    """(q, p): how near each kind of molecule is, what share of the nearest rows it has, and the length.

    distances : (q, c) ascending, inf for none. molecules : (q, c), -1 unknown. size : (q,) log of the length.
    """
    distances = distances.astype(np.float64)
    valid = np.isfinite(distances)
    first = np.where(valid, distances, np.inf).min(axis=1, initial=np.inf)
    last = np.where(valid, distances, 0).max(axis=1, initial=0)
    closeness = np.exp(-(distances - np.where(np.isfinite(first), first, 0)[:, None]) / SCALE)
    weight = np.where(valid & (molecules >= 0), closeness, 0)[:, :ROWS]
    total = np.maximum(weight.sum(axis=1), 1e-300)
    parts = [size]
    for kind in range(len(MOLECULES)):
        own = valid & (molecules == kind)
        nearest = np.sort(np.where(own, distances, np.inf), axis=1)[:, :NEAREST]
        lacking = NEAREST - nearest.shape[1]
        nearest = np.pad(nearest, ((0, 0), (0, lacking)), constant_values=np.inf)
        nearest = np.where(np.isfinite(nearest), nearest, last[:, None])
        near = log_distance(nearest[:, 0])
        share = np.where(own[:, :ROWS], weight, 0).sum(axis=1) / total
        mean = log_distance(nearest.mean(axis=1))
        common = own.sum(axis=1) / np.maximum(valid.sum(axis=1), 1)
        parts += [near, near * size, share, share * size, mean, common]
    return np.stack(parts, axis=1)


@dataclass(frozen=True)
class MoleculeModel:
    """Probabilities of `MOLECULES`, learned from an index's own fragments.

    directions : (kinds, dim + 1), scores of vectors by shrunken linear discriminants, the last column of the
    constant; 0 for a kind of which the index has too little. known, new : of these scores and the neighbors',
    for queries whose species the references have and for others. limits : (l,) the probability, where kinds
    are as frequent as usual, from which on a query of a new species is called a plasmid. sizes : (l,) logs of
    lengths, ascending.
    """

    directions: Floats
    known: Logistic
    new: Logistic
    limits: Floats
    sizes: Floats

    def predict(self, neighbors: Floats, vectors: Vectors, size: Floats) -> Floats:
        """(q, 2, kinds) as if all kinds were as frequent, where the species is known and where it is new.

        Of `neighbor_features`, vectors (q, dim) of length 1, and logs of lengths (q,).
        """
        features = _features(neighbors, scores_of(self.directions, vectors), size)
        return np.stack([model.predict(features) for model in (self.known, self.new)], axis=1)

    def limit(self, size: Floats) -> Floats:
        """(q,) `limits` at logs of lengths (q,)."""
        return np.interp(size, self.sizes, self.limits)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        numbers = {name: getattr(self, name).tolist() for name in ("directions", "limits", "sizes")}
        return {**numbers, "known": self.known.to_dict(), "new": self.new.to_dict()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> MoleculeModel:
        """From `to_dict`; ValueError, KeyError or TypeError for anything else."""
        # One model of an unreleased version was both, and had no limits.
        known, new = (
            Logistic.from_dict(stored["model" if "model" in stored else name]) for name in ("known", "new")
        )
        directions, kinds = np.array(stored["directions"], np.float64), len(MOLECULES)
        sizes = np.array(stored.get("sizes", [0]), np.float64)
        limits = np.array(stored.get("limits", [EVEN]), np.float64)
        shapes = directions.ndim == 2 and {len(directions), len(known.weights), len(new.weights)} == {kinds}
        if not shapes or sizes.ndim != 1 or limits.shape != sizes.shape or not len(sizes):
            raise ValueError("the shapes of a model do not go together")
        if not all(np.isfinite(values).all() for values in (directions, limits, sizes)):
            raise ValueError("a number of a model is not finite")
        if (np.diff(sizes) <= 0).any():
            raise ValueError("the lengths of a model do not ascend")
        return cls(directions, known, new, limits, sizes)


def fit_molecules(
    neighbors: Floats,
    vectors: Vectors,
    size: Floats,
    kinds: Rows,
    weights: Floats,
    genera: Rows,
    folds: Rows,
    new: Bools,
    sizes: Floats,
) -> MoleculeModel | None:
    """Learn from n queries whose kind is known; None where there are not two kinds with enough.

    Kinds weigh by the square roots of their shares: plasmids are rare among references. That prior is divided
    out. Scores that the model learns from are of directions that have not seen the query's fold;
    how sure it is, and the limits, are learned from models that have not either.

    neighbors, vectors, size : as in `MoleculeModel.predict`. kinds : (n,) positions in `MOLECULES`. weights :
    (n,). genera, folds : (n,) numbers of the query's genus and of its fold. new : (n,) whether the references
    have its species. sizes : (l,) see `MoleculeModel`.
    """
    able = [
        kind
        for kind in range(len(MOLECULES))
        if (kinds == kind).sum() >= LEAST_QUERIES and len(np.unique(genera[kinds == kind])) >= LEAST_GENERA
    ]
    if len(able) < 2:
        return None
    kept = np.isin(kinds, able)
    neighbors, vectors, size, weights = neighbors[kept], vectors[kept], size[kept], weights[kept]
    kinds, folds, genera, new = kinds[kept], folds[kept], genera[kept], new[kept]
    shares = np.bincount(kinds, weights, len(MOLECULES)) / weights.sum()
    even = weights / np.maximum(shares, 1e-300)[kinds]
    parts = [folds == fold for fold in np.unique(folds).tolist()]
    scores = np.zeros((len(kinds), len(MOLECULES)))
    for out in parts:
        scores[out] = scores_of(discriminants(vectors[~out], kinds[~out], even[~out]), vectors[out])
    features = _features(neighbors, scores, size)
    models, unseen = [], np.zeros_like(scores)
    for asked in (~new, new):
        enough = np.bincount(kinds[asked], minlength=len(MOLECULES)) >= LEAST_QUERIES
        own = asked if enough.sum() > 1 else np.ones(len(kinds), bool)
        models.append(_even(features[own], kinds[own], weights[own]))
        for out in parts:
            if len(np.unique(kinds[own & ~out])) > 1 and (asked & out).any():
                rest = own & ~out
                unseen[asked & out] = _even(features[rest], kinds[rest], weights[rest]).predict(
                    features[asked & out]
                )
    power = _power(unseen, kinds, even, genera)
    surer = _power(np.where(new[:, None], 0, unseen), kinds, even, genera)
    rows = np.flatnonzero(new & unseen.any(axis=1))
    likely = posterior(unseen[rows] ** power, np.ones(len(MOLECULES)))
    limits = limits_of(likely, kinds[rows], genera[rows], size[rows], sizes, PLASMID)
    known, strange = _sharpened(models[0], surer), _sharpened(models[1], power)
    return MoleculeModel(discriminants(vectors, kinds, even), known, strange, limits, sizes)


def _even(features: Floats, kinds: Rows, weights: Floats) -> Logistic:
    """A model of kinds as if all were as frequent. They weigh by the square roots of their shares."""
    shares = np.sqrt(np.bincount(kinds, weights, len(MOLECULES)) / weights.sum())
    made = fit_logistic(features, kinds, weights / np.maximum(shares, 1e-300)[kinds], number=len(MOLECULES))
    made.weights[:, -1] -= np.log(np.where(shares > 0, shares, 1))
    return made


def _sharpened(model: Logistic, power: float) -> Logistic:
    made = model.sharpened(power)
    made.weights[model.weights[:, -1] == NOBODY, -1] = NOBODY
    return made


def _power(unseen: Floats, kinds: Rows, weights: Floats, genera: Rows) -> float:
    """How much surer or less sure models should be of genera that they have not seen; never surer."""
    # A few genera cannot say how sure all should be.
    told = [len(np.unique(genera[kinds == kind])) >= TELLING_GENERA for kind in range(len(MOLECULES))]
    telling = np.flatnonzero(told)
    rows = np.flatnonzero(unseen.any(axis=1) & np.isin(kinds, telling))
    among = posterior(unseen[rows][:, telling], np.ones(len(telling)))
    return min(1.0, best_power(among, np.searchsorted(telling, kinds[rows]), weights[rows]))


def discriminants(vectors: Vectors, kinds: Rows, weights: Floats) -> Floats:
    """(kinds, dim + 1) linear discriminants of kinds that are as frequent, the scatter within them shrunken
    towards a sphere (Friedman 1989, doi:10.1080/01621459.1989.10478752). 0 for a kind without vectors.
    """
    dim = vectors.shape[1]
    result, scatter = np.zeros((len(MOLECULES), dim + 1)), np.zeros((dim, dim))
    present = np.unique(kinds[weights > 0]).tolist()
    means = {}
    for kind in present:
        own = (kinds == kind) & (weights > 0)
        shares = weights[own] / weights[own].sum()
        means[kind] = shares @ vectors[own]
        rest = (vectors[own] - means[kind]) * np.sqrt(shares)[:, None]
        scatter += rest.T @ rest / len(present)
    sphere = np.trace(scatter) / dim
    if not sphere > 0:
        return result
    scatter = (1 - SHRINK) * scatter + SHRINK * sphere * np.eye(dim)
    for kind, mean in means.items():
        direction = np.linalg.solve(scatter, mean)
        result[kind, :-1], result[kind, -1] = direction, -mean @ direction / 2
    return result


def scores_of(directions: Floats, vectors: Vectors) -> Floats:
    """(q, kinds) discriminant scores of vectors (q, dim), their mean over the kinds taken off."""
    # Row by row: the same bits whatever queries come together.
    lines = [(vectors * line[:-1]).sum(axis=1) + line[-1] for line in directions]
    scores = np.stack(lines, axis=1)
    return np.asarray(scores - scores.mean(axis=1, keepdims=True))


def _features(neighbors: Floats, scores: Floats, size: Floats) -> Floats:
    return np.concatenate([neighbors, scores, scores * size[:, None]], axis=1)
