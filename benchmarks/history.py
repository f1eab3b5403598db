"""Rounds of deletions, updates and additions: whether living entries stay, and what the rounds cost.

    python benchmarks/history.py [--rounds 12] [--rows 20000] [--dim 384] [--share 0.3] [--engines hnsw]
    python benchmarks/history.py --growth       # no deletions: narrow clusters that come one after the other

After every round each entry is asked for by its own vector (k = 10). Recall@10 is of other vectors, beside
exact search of the same state and beside a store that is built at once from what is alive. CPU seconds
contain the flush that follows every call. Vectors are clustered; half of a round's new ones come from
clusters that were there before, half from new ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from kinmer.stores import ENGINES, Metric, VectorStore, engine, exact_search

METRICS: tuple[Metric, ...] = ("cosine", "l2")
K, WIDE, QUERIES = 10, 26, 1000
Floats = NDArray[np.float32]


class Clusters:
    """Vectors around centers, some 25 around each; new centers come when they are asked for."""

    def __init__(self, rows: int, dim: int, noise: float, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.dim, self.noise = dim, noise
        self.centers = np.empty((0, dim))
        self.grow(rows)

    def grow(self, rows: int) -> None:
        """More centers, for so many rows."""
        new = self.random.standard_normal((max(2, rows // 25), self.dim))
        self.centers = np.concatenate([self.centers, new])

    def draw(self, rows: int) -> Floats:
        """Vectors (rows, dim), cluster by cluster."""
        of = self.centers[np.sort(self.random.integers(0, len(self.centers), rows))]
        return np.asarray(of + self.noise * self.random.standard_normal(of.shape), dtype=np.float32)


def lost(store: VectorStore, labels: NDArray[np.int64], vectors: Floats) -> int:
    """How many entries a search for their own vector does not give."""
    found, _ = store.search(vectors, K)
    return int((~(found == labels[:, None]).any(axis=1)).sum())


def recall(store: VectorStore, queries: Floats, truth: NDArray[np.int64]) -> float:
    """Share of the true ten nearest among what an index asks for, and puts in order by the kept vectors."""
    found = store.search(queries, WIDE)[0].tolist()
    return float(np.mean([len(set(a) & set(b)) / K for a, b in zip(found, truth.tolist(), strict=True)]))


def rounds(name: str, metric: Metric, args: argparse.Namespace) -> str:
    """One line of the table."""
    made = Clusters(args.rows, args.dim, args.noise, 0)
    labels, vectors = np.arange(args.rows), made.draw(args.rows)
    cpu: dict[str, float] = defaultdict(float)
    worst, ever, gaps = 0, 0, []
    with tempfile.TemporaryDirectory() as folder:
        store = engine(name).create(folder, dim=args.dim, metric=metric, threads=args.threads)

        def timed(what: str, call: Callable[[], None]) -> None:
            start = time.process_time()
            call()
            store.flush()
            cpu[what] += time.process_time() - start

        timed("build", lambda: store.add(labels, vectors))
        for number in range(1, args.rounds + 1):
            gone = made.random.random(len(labels)) < args.share
            dead = labels[gone]
            timed("delete", lambda dead=dead: store.delete(dead))  # type: ignore[misc]
            labels, vectors = labels[~gone], vectors[~gone]
            made.grow(int(args.share * args.rows))
            which = np.flatnonzero(made.random.random(len(labels)) < args.share)
            vectors[which] = made.draw(len(which))
            changed, moved = labels[which], vectors[which]
            timed("update", lambda at=changed, new=moved: store.update(at, new))  # type: ignore[misc]
            new = made.draw(args.rows - len(labels))
            own = np.arange(len(new)) + number * args.rows
            timed("add", lambda at=own, new=new: store.add(at, new))  # type: ignore[misc]
            labels, vectors = np.concatenate([labels, own]), np.concatenate([vectors, new])
            start = time.process_time()
            missing = lost(store, labels, vectors)
            cpu["search"] += time.process_time() - start
            worst, ever = max(worst, missing), ever + missing
            if number % args.every == 0:
                gaps.append(gap(store, labels, vectors, made.draw(QUERIES), args.threads))
        store.close()
    got, fresh = min(gaps, key=lambda pair: pair[0] - pair[1])
    share = 1 - ever / (args.rounds * args.rows)
    times = " | ".join(f"{cpu[what]:.1f}" for what in ("build", "delete", "update", "add", "search"))
    return f"| {name} | {metric} | {share:.5f} | {worst} | {got:.4f} | {fresh:.4f} | {times} |"


def gap(
    store: VectorStore, labels: NDArray[np.int64], vectors: Floats, queries: Floats, threads: int
) -> tuple[float, float]:
    """Recall of the store and of one that is built at once from the same entries."""
    truth = labels[exact_search(vectors, None, queries, K, store.metric)[0]]
    with tempfile.TemporaryDirectory() as folder:
        kind = type(store)
        with kind.create(folder, dim=store.dim, metric=store.metric, threads=threads) as fresh:
            fresh.add(labels, vectors)
            fresh.flush()
            return recall(store, queries, truth), recall(fresh, queries, truth)


def growth(name: str, metric: Metric, args: argparse.Namespace) -> str:
    """Narrow clusters, some at a time, each brought to disk: what is lost without a deletion."""
    random = np.random.default_rng(6)
    centers = np.repeat(random.normal(size=(60, 24)), 100, axis=0)
    vectors = np.asarray(centers + 0.02 * random.normal(size=centers.shape), dtype=np.float32)
    with (
        tempfile.TemporaryDirectory() as folder,
        engine(name).create(folder, dim=24, metric=metric, threads=args.threads) as store,
    ):
        start = time.process_time()
        for first in range(0, len(vectors), 300):
            labels = np.arange(first, first + 300)
            store.add(labels, vectors[labels])
            store.flush()
        cpu = time.process_time() - start
        return f"| {name} | {metric} | {lost(store, np.arange(len(vectors)), vectors)} | {cpu:.1f} |"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--noise", type=float, default=0.2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=4, help="rounds between comparisons of recall")
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--metrics", nargs="+", default=list(METRICS), choices=METRICS)
    parser.add_argument("--growth", action="store_true")
    args = parser.parse_args()
    if args.growth:
        print("| engine | metric | entries lost | CPU-s |\n| --- | --- | --- | --- |")
    else:
        print(f"{args.rows:,} × {args.dim}, {args.rounds} rounds of {args.share:.0%}, noise {args.noise}")
        print(
            "| engine | metric | found by own vector | most lost | recall@10, worst round | built at once",
            end="",
        )
        print(" | build CPU-s | deletions | updates | additions | own vectors |\n|" + " --- |" * 11)
    for name in args.engines:
        for metric in args.metrics:
            print((growth if args.growth else rounds)(name, metric, args), flush=True)


if __name__ == "__main__":
    main()
