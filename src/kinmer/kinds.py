"""Kinds of molecule in a sample: how frequent they are, and how likely one has to be to be called."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# How frequent `kinmer.molecules.MOLECULES` are among contigs where a sample does not say: nine chromosomes to
# one plasmid.
USUAL_KINDS = (0.8, 0.09, 0.07, 0.02, 0.02)
# Queries from which on their shares are estimated. What is usual counts for so many queries, or for such a
# part of the sample: what looks like a plasmid in new genera does so in many queries alike. Chosen on draws.
LEAST_KINDS, USUAL_QUERIES, USUAL_PART = 100, 10.0, 0.02
ROUNDS = 200
# Calls of a kind of which so many are to be right among new species where kinds are as frequent as usual, the
# least limit, and the highest: beyond it nothing can be learned of some hundred genera.
PRECISION, EVEN, HIGHEST = 0.8, 0.5, 0.95
# The same limit where protein families speak too: on tuning draws, with nine chromosomes to a plasmid, .79 to
# 1 of such calls were right.
GENES_LIMIT = 0.7
# Logs of lengths that count as alike.
ALIKE = 0.75

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rows = NDArray[np.int64]


def likeliest_shares(likely: Floats, usual: Floats, weight: float) -> Floats:
    """(k,) shares of classes in a sample, from likelihoods (n, k) of its members, by expectation maximization
    (Saerens et al. 2002, doi:10.1162/089976602753284446). What is `usual` counts for `weight` members.
    """
    shares = usual
    for _ in range(ROUNDS):
        total = posterior(likely, shares).sum(axis=0) + weight * usual
        shares = total / total.sum()
    return shares


def posterior(likely: Floats, prior: Floats) -> Floats:
    """(n, k) probabilities of classes that are as frequent as `prior`, (k,) or (n, k)."""
    grown = likely * prior
    return np.asarray(grown / np.maximum(grown.sum(axis=1, keepdims=True), 1e-300))


def with_odds(likely: Floats, log_odds: Floats) -> Floats:
    """(…, k) probabilities, the odds of the first classes changed among each other by `log_odds` (…, m)."""
    some = likely[..., : log_odds.shape[-1]]
    changed = some * np.exp(log_odds - log_odds.max(axis=-1, keepdims=True))
    changed *= some.sum(axis=-1, keepdims=True) / np.maximum(changed.sum(axis=-1, keepdims=True), 1e-300)
    return np.concatenate([changed, likely[..., log_odds.shape[-1] :]], axis=-1)


def kinds_of(even: Floats) -> Floats | None:
    """(k,) shares of kinds in a sample, from probabilities (n, k) as if all were as frequent, NaN for
    unknown; None of fewer than `LEAST_KINDS` queries.
    """
    known = even[np.isfinite(even).all(axis=1)]
    if len(known) < LEAST_KINDS:
        return None
    return likeliest_shares(known, np.array(USUAL_KINDS), max(USUAL_QUERIES, USUAL_PART * len(known)))


def limits_of(even: Floats, kinds: Rows, genera: Rows, size: Floats, sizes: Floats, kind: int) -> Floats:
    """(l,) the probability from which on a kind is called, at each of the logs of lengths `sizes` (l,).

    The lowest, from `EVEN` to `HIGHEST`, at which `PRECISION` of the calls are right where kinds are as
    frequent as usual and their genera alike. even, kinds, genera, size : (n, k) and (n,) of queries of new
    species, by models that had not seen their genus.
    """
    result = np.full(len(sizes), HIGHEST)
    usual = np.array(USUAL_KINDS)
    for at, middle in enumerate(sizes.tolist()):
        rows = np.flatnonzero(np.abs(size - middle) <= ALIKE)
        pairs, inverse, queries = np.unique(
            np.stack([kinds[rows], genera[rows]]), axis=1, return_inverse=True, return_counts=True
        )
        weights = (usual / np.maximum(np.bincount(pairs[0], minlength=len(usual)), 1))[kinds[rows]]
        weights = weights / queries[inverse.ravel()]
        result[at] = _limit(posterior(even[rows], usual)[:, kind], kinds[rows] == kind, weights)
    return result


def _limit(likely: Floats, right: Bools, weights: Floats) -> float:
    order = np.argsort(-likely, kind="stable")
    likely = likely[order]
    called, found = np.cumsum(weights[order]), np.cumsum((weights * right)[order])
    # Equal ones are called together.
    enough = (found >= PRECISION * called) & (np.diff(likely, append=-1) < 0)
    return float(np.clip(likely[enough].min(), EVEN, HIGHEST)) if enough.any() else HIGHEST
