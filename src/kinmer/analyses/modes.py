"""Modes of the distances of pairs: how many, how sure, and whether GC is what parts them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kinmer.evaluate.statistics import resampled

__all__ = ["dip_of", "gc_parting", "modes_of", "several_modes"]

# Steps of the curve between the smallest and the largest distance, and around them.
STEPS, FRAME = 1024, 256
# Pairs that the curve's smoothness is chosen for. A density of pairs of n points is known as well as a mean
# of n (Frees 1994, J Am Stat Assoc 89:517), so it may be sharper than one of n single values.
CURVE = 20_000
# A peak stands out of the valleys beside it by this share of the highest.
PROMINENCE = 0.05
RESAMPLES, RESAMPLED_PAIRS = 100, 200_000
Floats = NDArray[np.float64]


def modes_of(values: Floats) -> int:
    """Peaks (at least 1) of the curve of distances (p,), a Gaussian kernel density by Silverman's rule."""
    if _alike(values):
        return 1
    places, sigma = _steps(values)
    return _peaks(np.bincount(places, minlength=STEPS), sigma)


def several_modes(
    values: Floats, first: NDArray[np.int64], second: NDArray[np.int64], points: int, rng: np.random.Generator
) -> float | None:
    """Share of bootstrap samples of the points in which distances (p,) have more than one mode.

    The pairs share points, so it is these that are drawn anew; a pair counts as often as both of its ends
    together. Near 0 there is one mode, near 1 there are more; with few points it is in between by chance.
    None where nothing varies.
    """
    if _alike(values) or points < 3:
        return None
    few = slice(None, None, -(-len(values) // RESAMPLED_PAIRS))
    first, second = first[few], second[few]
    places, sigma = _steps(values[few])
    found = 0
    for _ in range(RESAMPLES):
        drawn = resampled(points, 1, rng)[0]
        counts = np.bincount(places, drawn[first] * drawn[second], minlength=STEPS)
        found += int(counts.any() and _peaks(counts, sigma) > 1)
    return found / RESAMPLES


def dip_of(values: Floats) -> tuple[float | None, float | None]:
    """Hartigan's dip and its p of independent distances (m,); None where nothing varies.

    p is the probability of a dip as large where there is one mode only (Hartigan and Hartigan 1985, Ann Stat
    13:70), by interpolation in a table that goes to m = 72,000.
    """
    if len(values) < 4 or _alike(values):
        return None, None
    import diptest

    dip, p = diptest.diptest(values)
    return float(dip), float(p)


def gc_parting(gc: Floats, seed: int) -> float | None:
    """GC at which two groups of sequences part: of equal density in a mixture of two normal distributions.

    gc : (n,), NaN where it is not known. None where it does not vary.
    """
    told = gc[np.isfinite(gc)]
    if len(told) < 4 or np.ptp(told) < 1e-6:
        return None
    from sklearn.mixture import GaussianMixture

    mixture = GaussianMixture(2, random_state=seed, n_init=3).fit(told[:, None])
    low, high = np.sort(mixture.means_.ravel())
    between = np.linspace(low, high, 513)
    changed = np.flatnonzero(np.diff(mixture.predict(between[:, None])))
    return float(between[changed[0] + 1]) if changed.size else float((low + high) / 2)


def _alike(values: Floats) -> bool:
    return bool(np.ptp(values) <= 1e-9 * max(1.0, float(values.max())))


def _steps(values: Floats) -> tuple[NDArray[np.int64], float]:
    """The step (p,) that each value lies on, and the bandwidth in steps."""
    low = values.min()
    width = (values.max() - low) / STEPS
    places = np.minimum(((values - low) / width).astype(np.int64), STEPS - 1)
    bandwidth = values.std() * (0.75 * min(len(values), CURVE)) ** -0.2
    return places, float(bandwidth / width)


def _peaks(counts: NDArray[np.int64] | Floats, sigma: float) -> int:
    from scipy.ndimage import gaussian_filter1d
    from scipy.signal import find_peaks

    # Framed by nothing, so that a mode at the edge is a peak too.
    curve = gaussian_filter1d(np.pad(counts.astype(np.float64), FRAME), max(sigma, 1.0), mode="constant")
    peaks, _ = find_peaks(curve, prominence=PROMINENCE * curve.max())
    return max(1, len(peaks))
