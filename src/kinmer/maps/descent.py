"""The optimization of a map: openTSNE's, with an attraction over lean affinities; it can be resumed."""

# mypy: disallow_untyped_decorators=False

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from kinmer.errors import TrainingError
from kinmer.files import replaced
from kinmer.folders import Journal, Workshop
from kinmer.maps.affinity import Affinities
from kinmer.progress import step

# The first iterations, in which all attraction is 12 times as strong (openTSNE's defaults).
EXAGGERATED, EXAGGERATION, MOMENTUM = 250, 12.0, 0.8
# From here on repulsion is interpolated on a grid (Linderman et al. 2019), below it comes from a tree
# (van der Maaten 2014): openTSNE's own threshold.
FAST_ABOVE = 10_000
# Up to so many points the reported divergence is that of all pairs.
EXACT = 5000
# Iterations between two looks at the clock; each look costs an evaluation of the divergence.
LOOK = 10
SAVE_SECONDS = 60.0


@dataclass
class State:
    """All that the optimization needs to resume; points, update and gains (n, 2); `done`: iterations."""

    points: NDArray[np.float64]
    done: int = 0
    update: NDArray[np.float64] | None = None
    gains: NDArray[np.float64] | None = None


class Objective:
    """What openTSNE calls for divergence and gradient: its repulsion, and our attraction over float32 rows.

    A fifth faster than openTSNE's own at 100,000 points, in three quarters of the memory. `exaggeration` is
    a factor here instead of one in P, so P stays as it is.
    """

    def __init__(self, affinities: Affinities, threads: int, exaggeration: float = 1.0) -> None:
        from scipy.sparse import csr_matrix

        self.affinities, self.exaggeration = affinities, exaggeration
        self._pool = ThreadPoolExecutor(threads)
        starts, size = affinities.starts, len(affinities)
        edges = np.searchsorted(starts, np.linspace(0, starts[-1], 4 * threads + 1)[1:-1])
        self._edges = np.concatenate([[0], edges, [size]])
        # openTSNE returns repulsion and attraction together. With one entry on the diagonal there is no
        # attraction, and its divergence is the logarithm of the sum of all q.
        self.alone: Any = csr_matrix(([1.0], ([0], [0])), shape=(size, size))

    def __call__(
        self, embedding: Any, P: Any, *, should_eval_error: bool = False, **settings: Any
    ) -> tuple[float, NDArray[np.float64]]:
        from openTSNE import tsne

        part = tsne.kl_divergence_bh if len(self.affinities) < FAST_ABOVE else tsne.kl_divergence_fft
        log_sum, gradient = part(embedding, self.alone, should_eval_error=True, **settings)[:2]
        points, gradient, rows = np.asarray(embedding), np.asarray(gradient), self.affinities
        parts = (rows.starts, rows.columns, rows.values, points)
        self._each(_attract, *parts, self.exaggeration, gradient)
        if not should_eval_error:
            return np.nan, gradient
        sums = np.sum(self._each(_divergence, *parts), axis=0)
        return float(sums[0] + sums[1] * log_sum), gradient

    def _each(self, kernel: Callable[..., Any], *arguments: Any) -> list[Any]:
        spans = zip(self._edges[:-1], self._edges[1:], strict=True)
        jobs = [self._pool.submit(kernel, int(first), int(last), *arguments) for first, last in spans]
        return [job.result() for job in jobs]


def descend(
    affinities: Affinities,
    state: State,
    iterations: int,
    *,
    threads: int,
    save: Callable[[State], None] | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Coordinates (n, 2) and their Kullback-Leibler divergence after all `iterations`, from `state` on.

    Learning rate n / exaggeration (Belkina et al. 2019), steps of at most 5: openTSNE's defaults. A run that
    resumes from a saved state ends in the same coordinates as one that was never stopped.

    Raises TrainingError if a coordinate is not a number.
    """
    from openTSNE import TSNEEmbedding, affinity
    from openTSNE.tsne import gradient_descent

    objective = Objective(affinities, threads)
    held = affinity.Affinities()
    held.P = objective.alone
    optimizer = gradient_descent()
    optimizer.update, optimizer.gains = state.update, state.gains
    early = min(EXAGGERATED, iterations // 3)
    moving = TSNEEmbedding(state.points, held, negative_gradient_method=objective, optimizer=optimizer)
    saved, shown, begun = time.monotonic(), 0, 0

    def watch(iteration: int, error: float, embedding: object) -> bool:
        # openTSNE calls this before it makes the step of the iteration.
        nonlocal saved, shown
        progress.advance(iteration - shown, note=f"KL {error:.3f}")
        shown = iteration
        if save is not None and time.monotonic() - saved >= SAVE_SECONDS:
            save(State(np.asarray(moving), begun + iteration - 1, optimizer.update, optimizer.gains))
            saved = time.monotonic()
        return False

    divergence = np.nan
    with step("Map", iterations) as progress:
        progress.advance(state.done)
        for first, last, strength in ((0, early, EXAGGERATION), (early, iterations, 1.0)):
            begun, shown, saved = max(first, state.done), 0, time.monotonic()
            if begun >= last:
                continue
            objective.exaggeration = strength
            moving.optimize(
                n_iter=last - begun,
                inplace=True,
                propagate_exception=True,
                learning_rate=len(affinities) / strength,
                momentum=MOMENTUM,
                n_jobs=threads,
                callbacks=[watch],
                callbacks_every_iters=LOOK,
            )
            divergence = float(moving.kl_divergence)
    points = np.array(moving)
    if not np.isfinite(points).all():
        raise TrainingError("a coordinate is not a number", "the optimization has diverged", "report it")
    return points, _exact_divergence(affinities, points) if len(points) <= EXACT else divergence


def _exact_divergence(affinities: Affinities, points: NDArray[np.float64]) -> float:
    """Kullback-Leibler divergence of a map (n, 2) over all pairs, at least 0.

    The optimization's trees skip points that lie on one another, which small maps may consist of.
    """
    parts = (affinities.starts, affinities.columns, affinities.values, points)
    attraction, mass = _divergence(0, len(points), *parts)
    total = float(-len(points))
    for start in range(0, len(points), 1024):
        gaps = points[start : start + 1024, None, :] - points[None, :, :]
        total += float((1 / (1 + (gaps**2).sum(axis=2))).sum())
    return max(0.0, float(attraction + mass * np.log(total))) if total > 0 else 0.0


@njit(nogil=True, cache=True, fastmath=True)
def _attract(
    first: int,
    last: int,
    starts: Any,
    columns: Any,
    values: Any,
    points: Any,
    strength: float,
    gradient: Any,
) -> None:
    """Add `strength` times the attraction of rows first … last to the gradient (n, 2)."""
    for i in range(first, last):
        x, y, gx, gy = points[i, 0], points[i, 1], 0.0, 0.0
        for edge in range(starts[i], starts[i + 1]):
            j = columns[edge]
            dx, dy = x - points[j, 0], y - points[j, 1]
            force = values[edge] / (1.0 + dx * dx + dy * dy)
            gx += force * dx
            gy += force * dy
        gradient[i, 0] += strength * gx
        gradient[i, 1] += strength * gy


@njit(nogil=True, cache=True)
def _divergence(first: int, last: int, starts: Any, columns: Any, values: Any, points: Any) -> Any:
    """Sums over rows first … last: of p log(p / q), q not normalized, and of p."""
    total, mass = 0.0, 0.0
    for i in range(first, last):
        for edge in range(starts[i], starts[i + 1]):
            p = np.float64(values[edge])
            if p > 0:
                j = columns[edge]
                dx, dy = points[i, 0] - points[j, 0], points[i, 1] - points[j, 1]
                total += p * np.log(p * (1.0 + dx * dx + dy * dy))
                mass += p
    return total, mass


class Unfinished:
    """What a killed map resumes from: the neighbors, and once a minute the state of the optimization.

    Kept in a hidden folder beside the output, tied to a signature of input and settings. What a run with
    other settings has left is removed. Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None, signature: dict[str, Any]) -> None:
        self._shop: Workshop | None = None
        if folder is not None:
            self._shop = Workshop(folder, make=True, busy="another process is making this map")
            journal = Journal(folder / "signature.json", signature)
            if journal.read() is None:
                self._shop.clear()
                journal.write()

    def __enter__(self) -> Unfinished:
        return self

    def __exit__(self, *error: object) -> None:
        if self._shop is not None:
            self._shop.release()

    def neighbors(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Indices and conditional probabilities (n, k); None if they have not been kept."""
        indices, conditional = self._read("indices.npy"), self._read("conditional.npy")
        return None if indices is None or conditional is None else (indices, conditional)

    def keep_neighbors(self, indices: NDArray[np.int32], conditional: NDArray[np.float32]) -> None:
        """Keep what takes longest to find."""
        self._write("indices.npy", indices)
        self._write("conditional.npy", conditional)

    def state(self) -> State | None:
        """The last state that was kept."""
        kept = self._read("state.npy")
        if kept is None:
            return None
        points, update, gains = (part.copy() for part in np.split(kept[1:], 3))
        return State(points, int(kept[0, 0]), update, gains)

    def keep_state(self, state: State) -> None:
        """Replace the state that is kept."""
        assert state.update is not None
        assert state.gains is not None
        # One array in one file, so that it is complete or absent.
        head = np.array([[state.done, 0]], float)
        self._write("state.npy", np.concatenate([head, state.points, state.update, state.gains]))

    def discard(self) -> None:
        """Remove everything: the map is complete."""
        if self._shop is not None:
            self._shop.discard()

    def _read(self, name: str) -> NDArray[Any] | None:
        if self._shop is None:
            return None
        try:
            kept: NDArray[Any] = np.load(self._shop.folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return kept

    def _write(self, name: str, array: NDArray[Any]) -> None:
        if self._shop is not None:
            with replaced(self._shop.folder / name) as file:
                np.save(file, array, allow_pickle=False)
