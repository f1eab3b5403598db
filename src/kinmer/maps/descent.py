"""The optimization of a map: openTSNE's, with an attraction over lean affinities; it can be resumed."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, TrainingError
from kinmer.files import read_json, remove, replaced, write_json
from kinmer.maps import affinity
from kinmer.maps.affinity import Affinities
from kinmer.progress import Step, step

__all__ = ["EXAGGERATED", "FAST_ABOVE", "Journal", "Objective", "State", "descend"]


# The first iterations, in which all attraction is 12 times as strong (openTSNE's defaults).
EXAGGERATED, EXAGGERATION, MOMENTUM = 250, 12.0, 0.8
# From here on repulsion is interpolated on a grid (Linderman et al. 2019), below it comes from a tree
# (van der Maaten 2014): openTSNE's own threshold.
FAST_ABOVE = 10_000
# Points of which all pairs are looked at for the divergence that is reported.
EXACT = 5000
# Iterations from one look at the clock to the next: each costs an evaluation of the divergence.
LOOK = 10
SAVE_SECONDS = 60.0


@dataclass
class State:
    """All that the optimisation needs to go on; points, update and gains (n, 2); `done`: iterations."""

    points: NDArray[np.float64]
    done: int = 0
    update: NDArray[np.float64] | None = None
    gains: NDArray[np.float64] | None = None


@dataclass
class Objective:
    """What openTSNE calls for divergence and gradient: its repulsion, and our attraction over float32 rows.

    Exaggeration is a factor here instead of one in P, so that P stays what it is.
    """

    affinities: Affinities
    threads: int
    exaggeration: float = 1.0
    _pool: ThreadPoolExecutor = field(init=False)
    alone: Any = field(init=False)

    def __post_init__(self) -> None:
        from scipy.sparse import csr_matrix

        self._pool = ThreadPoolExecutor(self.threads)
        starts, pieces = self.affinities.starts, 4 * self.threads
        edges = np.searchsorted(starts, np.linspace(0, starts[-1], pieces + 1)[1:-1])
        self._edges = np.concatenate([[0], edges, [len(self.affinities)]])
        # openTSNE gives repulsion and attraction together. With one entry on the diagonal there is no
        # attraction, and its divergence is the logarithm of the sum of all q.
        shape = (len(self.affinities), len(self.affinities))
        self.alone = csr_matrix(([1.0], ([0], [0])), shape=shape)

    def __call__(
        self, embedding: Any, P: Any, *, should_eval_error: bool = False, **settings: Any
    ) -> tuple[float, NDArray[np.float64]]:
        from openTSNE import tsne

        part = tsne.kl_divergence_bh if len(self.affinities) < FAST_ABOVE else tsne.kl_divergence_fft
        log_sum, gradient = part(embedding, self.alone, should_eval_error=True, **settings)[:2]
        points, gradient, rows = np.asarray(embedding), np.asarray(gradient), self.affinities
        parts = (rows.starts, rows.columns, rows.values, points)
        self._each(affinity.attract, *parts, self.exaggeration, gradient)
        if not should_eval_error:
            return np.nan, gradient
        sums = np.sum(self._each(affinity.divergence, *parts), axis=0)
        return float(sums[0] + sums[1] * log_sum), gradient

    def _each(self, kernel: Callable[..., Any], *arguments: Any) -> list[Any]:
        spans = zip(self._edges[:-1], self._edges[1:], strict=True)
        asked = [self._pool.submit(kernel, int(first), int(last), *arguments) for first, last in spans]
        return [one.result() for one in asked]


class _Watch:
    """Called by openTSNE now and then: shows the divergence, and lets the state be saved."""

    def __init__(
        self, progress: Step, first: int, state: Callable[[int], State], save: Callable[[State], None] | None
    ) -> None:
        self._progress, self._first, self._state, self._save = progress, first, state, save
        self._saved = time.monotonic()
        self._shown = 0

    def __call__(self, iteration: int, error: float, embedding: object) -> bool:
        # openTSNE calls before the step of this iteration is made.
        self._progress.advance(iteration - self._shown, note=f"KL {error:.3f}")
        self._shown = iteration
        if self._save is not None and time.monotonic() - self._saved >= SAVE_SECONDS:
            self._save(self._state(self._first + iteration - 1))
            self._saved = time.monotonic()
        return False


def descend(
    affinities: Affinities,
    state: State,
    iterations: int,
    *,
    threads: int,
    save: Callable[[State], None] | None = None,
) -> tuple[NDArray[np.float64], float]:
    """Coordinates (n, 2) and their Kullback–Leibler divergence after all `iterations`, from `state` on.

    Learning rate n / exaggeration (Belkina et al. 2019), steps of at most 5: openTSNE's defaults. A run that
    goes on from a saved state ends in the very coordinates of one never stopped.

    Raises TrainingError where a coordinate is no number.
    """
    from openTSNE import TSNEEmbedding, affinity
    from openTSNE.tsne import gradient_descent

    objective = Objective(affinities, threads)
    held = affinity.Affinities()
    held.P = objective.alone
    optimiser = gradient_descent()
    optimiser.update, optimiser.gains = state.update, state.gains
    early = min(EXAGGERATED, iterations // 3)
    map_ = TSNEEmbedding(state.points, held, negative_gradient_method=objective, optimizer=optimiser)

    def now(done: int) -> State:
        return State(np.asarray(map_), done, optimiser.update, optimiser.gains)

    divergence = np.nan
    with step("Map", iterations) as progress:
        progress.advance(state.done)
        for first, last, strength in ((0, early, EXAGGERATION), (early, iterations, 1.0)):
            done = max(first, state.done)
            if done >= last:
                continue
            objective.exaggeration = strength
            map_.optimize(
                n_iter=last - done,
                inplace=True,
                propagate_exception=True,
                learning_rate=len(affinities) / strength,
                momentum=MOMENTUM,
                n_jobs=threads,
                callbacks=[_Watch(progress, done, now, save)],
                callbacks_every_iters=LOOK,
            )
            divergence = float(map_.kl_divergence)
    points = np.array(map_)
    if not np.isfinite(points).all():
        raise TrainingError("a coordinate is no number", "the optimisation has run away", "report it")
    return points, exact_divergence(affinities, points) if len(points) <= EXACT else divergence


def exact_divergence(affinities: Affinities, points: NDArray[np.float64]) -> float:
    """Kullback–Leibler divergence of a map (n, 2) over all pairs; never below 0 but for rounding.

    The trees of the optimisation pass over points that lie on one another, which is all of them where they
    are few.
    """
    parts = (affinities.starts, affinities.columns, affinities.values, points)
    found, mass = affinity.divergence(0, len(points), *parts)
    total = float(-len(points))
    for start in range(0, len(points), 1024):
        gaps = points[start : start + 1024, None, :] - points[None, :, :]
        total += float((1 / (1 + (gaps**2).sum(axis=2))).sum())
    return max(0.0, float(found + mass * np.log(total))) if total > 0 else 0.0


FORMAT = 1


class Journal:
    """Neighbours, once they are found, and the state of the descent, once a minute.

    Tied to a signature of input and settings: what another run left is removed. Without a folder nothing is
    kept.
    """

    def __init__(self, folder: Path | None, signature: dict[str, Any]) -> None:
        self._folder = folder
        if folder is None:
            return
        wanted = {"format": FORMAT, "signature": signature}
        try:
            if read_json(folder / "signature.json") == wanted:
                return
        except FormatError:
            pass
        remove(folder)
        folder.mkdir()
        write_json(folder / "signature.json", wanted)

    @property
    def kept(self) -> bool:
        """Whether anything is kept."""
        return self._folder is not None

    def neighbours(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """Indices and conditional probabilities (n, k); None where they were not found yet."""
        found = self._read("indices.npy"), self._read("conditional.npy")
        return None if found[0] is None or found[1] is None else (found[0], found[1])

    def keep_neighbours(self, indices: NDArray[np.int32], conditional: NDArray[np.float32]) -> None:
        """Keep what took longest to find."""
        self._write("indices.npy", indices)
        self._write("conditional.npy", conditional)

    def state(self) -> State | None:
        """The last state that was kept."""
        kept = self._read("state.npy")
        if kept is None:
            return None
        done = int(kept[0, 0])
        points, update, gains = np.split(kept[1:], 3)
        return State(points.copy(), done, update.copy(), gains.copy())

    def keep_state(self, state: State) -> None:
        """Replace the state that is kept."""
        assert state.update is not None
        assert state.gains is not None
        # One array, one file: whole or not there.
        head = np.array([[state.done, 0]], float)
        self._write("state.npy", np.concatenate([head, state.points, state.update, state.gains]))

    def discard(self) -> None:
        """The map is whole: nothing of this is needed any more."""
        if self._folder is not None:
            remove(self._folder)

    def _read(self, name: str) -> NDArray[Any] | None:
        if self._folder is None:
            return None
        try:
            kept: NDArray[Any] = np.load(self._folder / name, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return kept

    def _write(self, name: str, array: NDArray[Any]) -> None:
        if self._folder is not None:
            with replaced(self._folder / name) as file:
                np.save(file, array, allow_pickle=False)
