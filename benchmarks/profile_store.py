"""Profile store and CLR: rows a second, bytes a row, memory. By hand: python profile_store.py [rows]

Counts are drawn, not real: every contig has 5,000 letters from one of 50 compositions.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.layout import kmer_layout
from kinmer.profiles import ProfileStore, ProfileWriter, info

LAYOUT = kmer_layout()
LETTERS = 5000
BLOCK = 6500  # contigs of 5 kb in 32 MB of FASTA


def draw(rows: int, random: np.random.Generator) -> NDArray[np.uint32]:
    """Counts of contigs of one composition after the other, (rows, width)."""
    counts = np.empty((rows, LAYOUT.width), dtype=np.uint32)
    shares = {block.name: random.gamma(3, size=(50, block.size)) for block in LAYOUT.blocks}
    for block in LAYOUT.blocks:
        share = shares[block.name] / shares[block.name].sum(axis=1, keepdims=True)
        drawn = random.poisson(share[np.arange(rows) % 50] * (LETTERS - block.k + 1))
        counts[:, block.columns] = drawn
    return counts


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 50_000
    random = np.random.default_rng(0)
    block = draw(BLOCK, random)
    results: list[tuple[str, str]] = []

    def timed(name: str, count: int, work: object) -> None:
        start, cpu = time.perf_counter(), time.process_time()
        assert callable(work)
        work()
        wall, used = time.perf_counter() - start, time.process_time() - cpu
        results.append((name, f"{count / wall:>11,.0f} rows/s   {count / used:>11,.0f} rows per CPU-s"))

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.zarr"

        def write() -> None:
            with ProfileWriter.create(path, LAYOUT, signature={}) as writer:
                for start in range(0, rows, BLOCK):
                    count = min(BLOCK, rows - start)
                    ids = [f"contig_{row}" for row in range(start, start + count)]
                    lengths = np.full(count, LETTERS)
                    writer.append(ids, block[:count], lengths=lengths, sources="a.fna")
                    writer.commit({"row": start + count})
                writer.finish({})

        timed("write", rows, write)
        start = time.perf_counter()
        store = ProfileStore.open(path)
        results.append(("open", f"{1e3 * (time.perf_counter() - start):.1f} ms"))

        def read() -> None:
            for at in range(0, rows, 4096):
                store.read(at, at + 4096)

        timed("read in blocks", rows, read)
        some = random.permutation(rows)[: min(rows // 5, 10_000)]
        timed(f"take {len(some):,}, shuffled", len(some), lambda: store.take(some))
        timed("ids and obs", rows, lambda: store.obs)
        size = info(store).bytes_on_disk or 0
        results.append(("on disk", f"{size / rows:,.0f} bytes a row"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        results.append(
            ("peak memory so far", f"{peak:,.0f} MB, {block.nbytes / 1e6:,.0f} MB of it the counts")
        )
    torch.set_num_threads(1)
    tensor = torch.from_numpy(block.view(np.int32))
    for clr in (Clr(), REFERENCE_CLR, Clr(pseudocount="counts")):
        name = f"CLR {clr.scope} {clr.pseudocount}"
        clr(tensor[:512], LAYOUT)
        timed(f"{name}, NumPy", BLOCK, lambda clr=clr: clr(block, LAYOUT))
        timed(f"{name}, torch, one thread", BLOCK, lambda clr=clr: clr(tensor, LAYOUT))
    print(", ".join(f"{name} {version(name)}" for name in ("numpy", "zarr", "numcodecs", "torch")))
    for name, value in results:
        print(f"{name:<36} {value}")


if __name__ == "__main__":
    main()
