"""Are vectors that are close also alike in k-mers? The check behind ``kinmer verify``.

Queries are random validation sequences. Their nearest neighbors in latent space are found exactly in a
sample, and the k-mer MSE in CLR space between query and neighbor is compared with the latent distance,
beside random pairs. The rank correlation is circular (raw CLR vectors score 1) and grows with the sample:
it says that an embedding is sound, not that it finds the right species.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.errors import InputError, UsageError, require
from kinmer.evaluate.searches import nearest
from kinmer.evaluate.statistics import Estimate, correlations, mean_by_column, resampled
from kinmer.files import write_json, written_together
from kinmer.profiles import Profiles, open_profiles
from kinmer.progress import step
from kinmer.stores import Metric
from kinmer.tables import write_table
from kinmer.vectors import open_vectors

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder

RANKS = (1, 5, 10, 20, 50)
DISTANCE_NAMES = {"cosine": "cosine distance", "l2": "Euclidean distance"}
# Bytes of CLR rows held at a time.
CLR_BYTES = 1 << 29
RANDOM_PAIRS = 10  # for every query


@dataclass(frozen=True)
class RankMse:
    """k-mer MSE of the neighbors at one rank: mean with its interval, standard deviation over queries."""

    rank: int
    mean: Estimate
    sd: float


@dataclass(frozen=True)
class MetricLocality:
    """The figures of one metric; `distances` and `mses` of its pairs are (queries, neighbors)."""

    metric: Metric
    pearson: Estimate
    spearman: Estimate
    ranks: tuple[RankMse, ...]
    distances: NDArray[np.float64] = field(repr=False, compare=False)
    mses: NDArray[np.float64] = field(repr=False, compare=False)

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Mean MSE at every rank and its interval's ends, each (ranks,)."""
        value, low, high = (
            np.array([getattr(at.mean, part) for at in self.ranks], float)
            for part in ("value", "low", "high")
        )
        return value, low, high

    def to_dict(self) -> dict[str, Any]:
        """JSON form, without the pairs."""
        return {
            "metric": self.metric,
            "pearson": asdict(self.pearson),
            "spearman": asdict(self.spearman),
            "ranks": [asdict(one) for one in self.ranks],
        }


@dataclass(frozen=True)
class RandomPairs:
    """k-mer MSE between queries and random other sequences of the sample."""

    pairs: int
    min: float
    max: float
    mean: float
    median: float
    sd: float

    @classmethod
    def of(cls, mses: NDArray[np.float64]) -> RandomPairs:
        """From the MSEs of all pairs."""
        shown = (mses.min(), mses.max(), mses.mean(), np.median(mses), mses.std())
        return cls(mses.size, *map(float, shown))


@dataclass(frozen=True)
class LocalityReport:
    """The results of `verify`; `validation`: whether the queries were held out of the training."""

    sequences: int
    sample: int
    queries: int
    neighbours: int
    validation: bool
    key: str
    clr: str
    seed: int
    bootstrap: int
    metrics: tuple[MetricLocality, ...]
    random: RandomPairs

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        shown = {one.name: getattr(self, one.name) for one in fields(self)}
        return shown | {
            "metrics": [one.to_dict() for one in self.metrics],
            "random": asdict(self.random),
        }

    def rows(self) -> Iterator[tuple[str, str, float | None, float | None, float | None, float | None]]:
        """(metric, what, value, low, high, sd) of every figure."""
        for one in self.metrics:
            for name, value in (("pearson_r", one.pearson), ("spearman_rho", one.spearman)):
                yield one.metric, name, value.value, value.low, value.high, None
            for at in one.ranks:
                yield one.metric, f"mse_rank_{at.rank}", at.mean.value, at.mean.low, at.mean.high, at.sd
        for name in ("min", "max", "mean", "median", "sd"):
            yield "random_pairs", f"mse_{name}", getattr(self.random, name), None, None, None

    def write_tsv(self, path: str | Path) -> None:
        """The figures as a table: metric, statistic, value, low, high, sd; empty for none."""
        write_table(path, ("metric", "statistic", "value", "low", "high", "sd"), self.rows())

    def table(self) -> str:
        """The figures as aligned text."""
        kind = "validation" if self.validation else "random"
        lines = [
            f"{self.queries} {kind} queries, {self.neighbours} nearest of a sample of {self.sample}"
            f" ({self.sequences} sequences); k-mer MSE in CLR space ({self.clr})",
            "95 % bootstrap intervals over queries; ± is the standard deviation over queries",
            "",
            f"{'':<16}" + "".join(f"{DISTANCE_NAMES[one.metric]:<30}" for one in self.metrics),
            f"{'Pearson r':<16}" + "".join(f"{one.pearson!s:<30}" for one in self.metrics),
            f"{'Spearman ρ':<16}" + "".join(f"{one.spearman!s:<30}" for one in self.metrics),
        ]
        for number, at in enumerate(self.metrics[0].ranks):
            cells = (one.ranks[number] for one in self.metrics)
            lines.append(
                f"{f'MSE, rank {at.rank}':<16}" + "".join(f"{f'{c.mean} ± {c.sd:.3f}':<30}" for c in cells)
            )
        drawn = self.random
        lines += [
            "",
            f"{drawn.pairs} random pairs: MSE {drawn.mean:.3f} ± {drawn.sd:.3f}, median {drawn.median:.3f},"
            f" {drawn.min:.3f} to {drawn.max:.3f}",
        ]
        return "\n".join(line.rstrip() for line in lines)

    @staticmethod
    def outputs(stem: str | Path) -> list[Path]:
        """The files that `write` makes."""
        require("matplotlib", "the pictures of an output need it", "explore")
        stem = Path(stem)
        pictures = [f"-{name}.{kind}" for name in ("distance", "rank") for kind in ("png", "svg")]
        return [stem.with_name(f"{stem.name}{ending}") for ending in (".json", ".tsv", *pictures)]

    def write(self, stem: str | Path) -> list[Path]:
        """``stem.json``, ``stem.tsv`` and the pictures, all of them together; the paths."""
        paths = self.outputs(stem)
        with written_together(*paths) as (data, table, *_):
            write_json(data, self.to_dict())
            self.write_tsv(table)
            self.save_pictures(data.with_name(Path(stem).name))
        return paths

    def save_pictures(self, stem: str | Path) -> list[Path]:
        """``stem-distance.png/.svg`` and ``stem-rank.png/.svg``; the paths written."""
        from kinmer import plots

        stem = Path(stem)
        by_name = {DISTANCE_NAMES[one.metric]: one for one in self.metrics}
        pairs = {name: (one.distances, one.mses) for name, one in by_name.items()}
        notes = {
            name: f"r = {_short(one.pearson)}   ρ = {_short(one.spearman)}" for name, one in by_name.items()
        }
        ranks = [at.rank for at in self.metrics[0].ranks]
        curves = {name: one.curve() for name, one in by_name.items()}
        by_rank = plots.mse_by_rank(ranks, curves, random=(self.random.mean, self.random.sd))
        return [
            *plots.save(
                plots.distance_against_mse(pairs, notes=notes), stem.with_name(f"{stem.name}-distance")
            ),
            *plots.save(by_rank, stem.with_name(f"{stem.name}-rank")),
        ]


def verify(
    source: str | Path | AnnData | Profiles,
    *,
    key: str = "X_kinmer",
    encoder: str | Path | Encoder | None = None,
    clr: Clr | None = None,
    ids: str | Path | None = None,
    sample: int = 10_000,
    queries: int = 1000,
    k: int = 50,
    metrics: Sequence[Metric] = ("cosine", "l2"),
    seed: int = 0,
    bootstrap: int = 1000,
    neighbours: int | None = None,
) -> LocalityReport:
    """Compare latent distance with k-mer MSE (in CLR space) between queries and their nearest neighbors.

    Memory grows with `sample` × dimensions, not with the source.

    Parameters
    ----------
    source : str | Path | AnnData | Profiles
        Profiles with embeddings in ``obsm[key]``. Where there are none, or for a `.npy` pair with its
        `ids`, the `encoder` embeds the rows that are needed.
    encoder : str | Path | Encoder | None
        Its transform is used, and its validation rows are the queries where `source` is what it was trained
        on. Otherwise queries are random.
    clr : Clr | None
        Transform to use instead (`REFERENCE_CLR` is that of the original pipeline, and the default).
    sample : int
        Sequences among which neighbors are sought. A query is never its own neighbor.
    queries, k, bootstrap : int
        Queries, neighbors of each (once called `neighbours`), resamples for the intervals.

    Raises
    ------
    UsageError, InputError : impossible settings; fewer than 2 sequences, or no embeddings.
    """
    k = _renamed(k, neighbours)
    _check(sample, queries, k, metrics, bootstrap)
    profiles = open_profiles(source, ids=ids)
    if len(profiles) < 2:
        raise InputError("there is only one sequence", "locality is about neighbors", "give at least 2")
    loaded = _load(encoder)
    clr = clr or (REFERENCE_CLR if loaded is None else loaded.clr)
    rng = np.random.default_rng(seed)
    pool = np.sort(rng.choice(len(profiles), min(sample, len(profiles)), replace=False))
    held_out = _validation_rows(profiles, loaded)
    candidates = np.arange(len(profiles)) if held_out is None else held_out
    asked = np.sort(rng.choice(candidates, min(queries, candidates.size), replace=False))
    held = key in getattr(profiles, "obsm_keys", tuple)()
    points = open_vectors(profiles, key if held or loaded is None else loaded, lazy=True)
    vectors, asking = points.take(pool), points.take(asked)
    near = {metric: nearest(asking, vectors, asked, pool, k, metric) for metric in metrics}
    results, drawn = _measure(profiles, clr, asked, pool, near, rng, bootstrap)
    found = {"neighbours": near[metrics[0]][0].shape[1], "validation": held_out is not None}
    given = {"key": key, "clr": str(clr), "seed": seed, "bootstrap": bootstrap}
    sizes = {"sequences": len(profiles), "sample": pool.size, "queries": asked.size}
    return LocalityReport(**sizes, **found, **given, metrics=results, random=drawn)  # type: ignore[arg-type]


def _measure(
    profiles: Profiles,
    clr: Clr,
    asked: NDArray[np.int64],
    pool: NDArray[np.int64],
    near: dict[Metric, tuple[NDArray[np.int64], NDArray[np.float64]]],
    rng: np.random.Generator,
    bootstrap: int,
) -> tuple[tuple[MetricLocality, ...], RandomPairs]:
    """The figures of every metric's neighbors, `near` as `nearest` gives them, and of random pairs."""
    columns = [*(pool[rows] for rows, _ in near.values()), _strangers(asked, pool, rng)]
    mses = _pair_mses(profiles, clr, asked, np.concatenate(columns, axis=1))
    *of_metrics, of_strangers = np.split(mses, np.cumsum([one.shape[1] for one in columns[:-1]]), axis=1)
    weights = resampled(asked.size, bootstrap, rng)
    results = tuple(
        _summary(metric, distances, apart, weights)
        for (metric, (_, distances)), apart in zip(near.items(), of_metrics, strict=True)
    )
    return results, RandomPairs.of(of_strangers)


def _short(one: Estimate) -> str:
    return "undefined" if one.value is None else f"{one.value:.3f}"


def _renamed(k: int, neighbours: int | None) -> int:
    """`k`, or what its old name gives, with a warning."""
    if neighbours is None:
        return k
    warnings.warn("verify(neighbours=) is now called k", DeprecationWarning, stacklevel=3)
    return neighbours


def _check(sample: int, queries: int, k: int, metrics: Sequence[str], bootstrap: int) -> None:
    if sample < 2 or queries < 1 or k < 1 or bootstrap < 0:
        raise UsageError("verify needs a sample of at least 2, 1 query, 1 neighbor and no negative bootstrap")
    if not metrics or len(set(metrics)) != len(metrics) or set(metrics) - set(DISTANCE_NAMES):
        raise UsageError(f"metrics are cosine and l2, each at most once, not {', '.join(metrics) or 'none'}")


def _load(encoder: str | Path | Encoder | None) -> Encoder | None:
    if not isinstance(encoder, str | Path):
        return encoder
    from kinmer.encoder import Encoder

    return Encoder.load(encoder)


def _validation_rows(profiles: Profiles, encoder: Encoder | None) -> NDArray[np.int64] | None:
    """Rows that were held out when the encoder was trained on these very profiles; None where it was not."""
    if encoder is None:
        return None
    from kinmer.training.data import split_rows, survey

    settings, data = encoder.training.get("settings", {}), encoder.training.get("data", {})
    # The fingerprint takes a pass over the profiles: only where their number fits.
    if data.get("rows") != len(profiles) or data.get("fingerprint") != survey(profiles).fingerprint:
        return None
    return split_rows(len(profiles), settings["validation"], settings["seed"])[1]


def _strangers(
    asked: NDArray[np.int64], pool: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """(q, RANDOM_PAIRS) random rows of the pool, never the query itself."""
    own = np.searchsorted(pool, asked)
    inside = np.isin(asked, pool)
    drawn = rng.integers(0, pool.size - inside.astype(np.int64)[:, None], (asked.size, RANDOM_PAIRS))
    return pool[drawn + (inside[:, None] & (drawn >= own[:, None]))]


def _pair_mses(
    profiles: Profiles, clr: Clr, asked: NDArray[np.int64], others: NDArray[np.int64]
) -> NDArray[np.float64]:
    """(q, m) mean squared difference of CLR rows between query `asked[i]` and row `others[i, j]`."""
    width = profiles.layout.width
    most = max(2, CLR_BYTES // (4 * width))
    mses = np.empty(others.shape)
    start = 0
    with step("k-mer MSE", asked.size) as progress:
        while start < asked.size:
            stop = asked.size
            while stop > start + 1 and np.unique(others[start:stop]).size + stop - start > most:
                stop = start + (stop - start + 1) // 2
            rows, where = np.unique(
                np.concatenate([asked[start:stop, None], others[start:stop]], axis=1), return_inverse=True
            )
            values = np.asarray(clr(profiles.take(rows), profiles.layout, profiles.values), np.float32)
            where = where.reshape(stop - start, -1)
            for query, places in enumerate(where):
                apart = values[places[1:]] - values[places[0]]
                mses[start + query] = np.einsum("ij,ij->i", apart, apart, dtype=np.float64) / width
                progress.advance()
            start = stop
    return mses


def _summary(
    metric: Metric, distances: NDArray[np.float64], mses: NDArray[np.float64], weights: NDArray[np.float64]
) -> MetricLocality:
    pearson, spearman = correlations(distances, mses, weights)
    ranks = [rank for rank in RANKS if rank <= mses.shape[1]]
    at_rank = mses[:, np.array(ranks) - 1]
    means = mean_by_column(at_rank, weights)
    spread = at_rank.std(axis=0)
    return MetricLocality(
        metric,
        pearson,
        spearman,
        tuple(RankMse(rank, mean, float(sd)) for rank, mean, sd in zip(ranks, means, spread, strict=True)),
        distances,
        mses,
    )
