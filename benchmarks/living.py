"""What it costs to add to an index, beside building it anew; and that what is deleted never comes back.

    python benchmarks/living.py [--entries 100000] [--added 10000] [--dim 384] [--threads 2]

Vectors are clustered as embeddings of genomes are: centres of species, pieces around them.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.index import IndexWriter
from kinmer.index.commit import NewSequence
from kinmer.index.manifest import ENCODER, ENTRIES, write_manifest
from kinmer.index.table import EntryTable
from kinmer.library import check_index, delete_from_index, open_index


class Timer:
    """Wall and CPU seconds of a step, printed."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> Timer:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall, self.cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(f"{self._what}: {self.wall:.1f} s, {self.cpu:.1f} CPU-s, peak {peak:.2f} GB", flush=True)


def vectors_of(count: int, dim: int, seed: int) -> NDArray[np.float32]:
    """Rows around one centre for every twenty of them."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(1, count // 20), dim))
    near = centres[rng.integers(0, len(centres), count)] + 0.5 * rng.standard_normal((count, dim))
    return np.asarray(near, dtype=np.float32)


def empty_index(path: Path, dim: int) -> None:
    """An index without entries; its encoder is a small one that is never asked."""
    from kinmer.clr import Clr
    from kinmer.encoder import Encoder
    from kinmer.layout import kmer_layout
    from kinmer.networks import Vae

    layout = kmer_layout(3)
    encoder = Encoder(Vae(width=layout.width, latent=dim, hidden=(32, 16), seed=0), layout, Clr())
    path.mkdir()
    EntryTable.create(path / ENTRIES, [], {"index": "bench"}).close()
    encoder.save(path / ENCODER)
    write_manifest(
        path, index="bench", engine="hnsw", metric="cosine", encoder=encoder, pieces={"lengths": []}
    )


def add(writer: IndexWriter, vectors: NDArray[np.float32], name: str) -> None:
    """Add vectors as sequences of their own, some thousands a commit."""
    for start in range(0, len(vectors), 8192):
        part = vectors[start : start + 8192]
        ids = [f"{name}{start + one}" for one in range(len(part))]
        writer.add([NewSequence(one, one, 5000, 0.5, {}, part[row : row + 1]) for row, one in enumerate(ids)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--added", type=int, default=10_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    old, new = vectors_of(args.entries, args.dim, 0), vectors_of(args.added, args.dim, 1)
    with tempfile.TemporaryDirectory() as folder:
        first, second = Path(folder) / "kin.db", Path(folder) / "anew.db"
        times: dict[str, Any] = {}
        empty_index(first, args.dim)
        with Timer(f"building {args.entries:,}"), IndexWriter(first, threads=args.threads) as writer:
            add(writer, old, "a")
            writer.finish(behind=0)
        with (
            Timer(f"adding {args.added:,}") as times["add"],
            IndexWriter(first, threads=args.threads) as writer,
        ):
            add(writer, new, "b")
        with Timer("adding one"), IndexWriter(first, threads=args.threads) as writer:
            add(writer, new[:1] + 1, "c")
        empty_index(second, args.dim)
        with Timer("building all anew") as times["anew"], IndexWriter(second, threads=args.threads) as writer:
            add(writer, np.concatenate([old, new]), "a")
            writer.finish(behind=0)
        wall, cpu = (getattr(times["add"], one) / getattr(times["anew"], one) for one in ("wall", "cpu"))
        print(f"adding / building anew: {wall:.3f} of the time, {cpu:.3f} of the CPU time")
        with open_index(first) as grown, open_index(second) as anew:
            asked = new[::20]
            a, b = grown.search(asked, 10)[1], anew.search(asked, 10)[1]
            print(f"distances of the ten nearest that are the same: {np.isclose(a, b, atol=1e-6).mean():.5f}")
        gone = [f"a{one}" for one in range(0, args.entries, 10)]
        with Timer(f"deleting {len(gone):,}"):
            delete_from_index(first, ids=gone)
        with Timer("compacting"), IndexWriter(first, threads=args.threads) as writer:
            before = hits_of(first, old[::10], set(gone))
            writer.compact()
            writer.finish(behind=0)
        after = hits_of(first, old[::10], set(gone))
        print(
            f"deleted entries among the ten nearest of themselves: {before} before, {after} after compaction"
        )
        with Timer("checking"):
            print(check_index(first).text())


def hits_of(path: Path, vectors: NDArray[np.float32], ids: set[str]) -> int:
    """How many hits of the vectors have one of these ids."""
    with open_index(path) as index:
        numbers = index.search(vectors, 10)[0]
        entries = index.entries(numbers)
        return sum(entries[one].id in ids for one in numbers.ravel().tolist() if one >= 0)


if __name__ == "__main__":
    main()
