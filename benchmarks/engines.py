"""Vector engines side by side, kills while indexing, and a cold search.

    python benchmarks/engines.py                        # the table, 100,000 × 384, both metrics
    python benchmarks/engines.py --kills 20             # SIGKILLs while indexing with each engine
    python benchmarks/engines.py --cold                 # 1,000 queries of 5 kb from a new process

faiss is measured as it comes, without a store around it. Every engine is measured in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinmer.resources import available_cores
from kinmer.stores import Metric, engine, exact_search
from kinmer.stores.exact import unit_rows

Search = Callable[[NDArray[np.float32], int], NDArray[np.int64]]
ENGINES = ("exact", "hnsw", "faiss", "chroma")
METRICS: tuple[Metric, ...] = ("cosine", "l2")
K = 10


def embeddings(rows: int, dim: int, *, seed: int) -> NDArray[np.float32]:
    """Vectors like those of genomes: strains of species of genera in some 60 directions, and noise in all."""
    places = np.random.default_rng(1)
    basis = places.normal(size=(60, dim)) / 8
    genera = places.normal(size=(200, 60))
    species = genera[places.integers(0, 200, 4000)] + 0.5 * places.normal(size=(4000, 60))
    random = np.random.default_rng(seed)
    # Sequences come genome by genome.
    strains = species[np.sort(random.integers(0, len(species), rows))] + 0.25 * random.normal(size=(rows, 60))
    return np.asarray(strains @ basis + 0.05 * random.normal(size=(rows, dim)), dtype=np.float32)


def faiss_search(
    vectors: NDArray[np.float32], metric: str, folder: Path, *, build: bool
) -> tuple[Search, int]:
    """A faiss HNSW graph of float16 vectors, M 16, ef 128: built and saved, or read."""
    import faiss

    faiss.omp_set_num_threads(available_cores())
    file = str(folder / "faiss.index")
    if build:
        ours = unit_rows(vectors) if metric == "cosine" else vectors
        made: Any = faiss.IndexHNSWSQ(vectors.shape[1], faiss.ScalarQuantizer.QT_fp16, 16)  # type: ignore[arg-type]
        made.hnsw.efConstruction = 128
        made.train(ours)
        made.add(ours)
        faiss.write_index(made, file)
    index: Any = faiss.read_index(file)
    index.hnsw.efSearch = 128

    def search(queries: NDArray[np.float32], k: int) -> NDArray[np.int64]:
        asked = unit_rows(queries) if metric == "cosine" else queries
        return np.asarray(index.search(asked, k)[1])

    return search, int(index.ntotal)


def store_search(
    name: str, vectors: NDArray[np.float32], metric: Any, folder: Path, *, build: bool
) -> tuple[Search, int]:
    """One of kinmer's engines: built and flushed, or opened."""
    dim = vectors.shape[1]
    if build:
        with engine(name).create(folder, dim=dim, metric=metric) as made:
            for start in range(0, len(vectors), 1 << 16):
                part = vectors[start : start + (1 << 16)]
                made.add(np.arange(start, start + len(part)), part)
            made.flush()
    store = engine(name).open(folder, dim=dim, metric=metric)
    return (lambda queries, k: store.search(queries, k)[0]), len(store)


def measure(name: str, metric: str, rows: int, dim: int, folder: Path, *, build: bool) -> dict[str, Any]:
    """Build (or open) one engine here, and time it."""
    vectors = np.load(folder / "vectors.npy", mmap_mode="r")[:rows]
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / f"truth-{metric}.npy")
    place = folder / f"{name}-{metric}"
    place.mkdir(exist_ok=True)
    base = peak_memory()
    began, cpu = time.perf_counter(), time.process_time()
    if name == "faiss":
        search, entries = faiss_search(vectors, metric, place, build=build)
    else:
        search, entries = store_search(name, vectors, metric, place, build=build)
    assert entries == rows
    search(queries[:1], K)
    told = {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}
    told["peak"] = peak_memory() - base
    if build:
        return told
    # What the index asks for, and puts in order by the true distances itself.
    wide = search(queries, 2 * K + 6)
    shares = [len(set(a[:K]) & set(b)) for a, b in zip(truth.tolist(), wide.tolist(), strict=True)]
    told["recall"] = sum(shares) / (K * len(shares))
    own = np.arange(0, rows, max(1, rows // 5000))
    told["self"] = float((search(np.asarray(vectors[own]), K) == own[:, None]).any(axis=1).mean())
    singles = []
    for query in queries[:300]:
        start = time.perf_counter()
        search(query[None], K)
        singles.append(1000 * (time.perf_counter() - start))
    told["p50"], told["p99"] = np.percentile(singles, [50, 99]).tolist()
    start, cpu = time.perf_counter(), time.process_time()
    search(queries, K)
    told["qps"] = len(queries) / (time.perf_counter() - start)
    told["qps_cpu"] = len(queries) / (time.process_time() - cpu)
    told["disk"] = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) / 1e6
    return told


def peak_memory() -> float:
    """Most MB that this process has held; what getrusage tells of a child begins at its parent's."""
    told = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(told["VmHWM"].split()[0]) / 1024


def in_child(*arguments: object) -> dict[str, Any]:
    """This script in a process of its own; what it prints last is JSON."""
    command = [sys.executable, __file__, "--measure", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(rows: int, dim: int, names: list[str]) -> None:
    """Print the table of engines."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        both = embeddings(rows, dim, seed=2)
        np.save(folder / "vectors.npy", both)
        queries = embeddings(1000, dim, seed=3)
        np.save(folder / "queries.npy", queries)
        for metric in METRICS:
            truth, _ = exact_search(both, None, queries, K, metric)
            np.save(folder / f"truth-{metric}.npy", truth)
        print(f"{rows:,} × {dim}, k = {K}, 1,000 queries, {available_cores()} cores")
        print(
            "| engine | metric | build s | build CPU-s | peak MB | disk MB | recall@10 | finds itself", end=""
        )
        print(" | open + first search s | p50 ms | p99 ms | QPS | QPS per CPU-s |")
        print("|" + " --- |" * 13)
        for metric in METRICS:
            for name in names:
                made = in_child(name, metric, rows, dim, folder, "build")
                used = in_child(name, metric, rows, dim, folder, "use")
                row = [name, metric, f"{made['seconds']:.1f}", f"{made['cpu']:.1f}", f"{made['peak']:.0f}"]
                row += [f"{used['disk']:.0f}", f"{used['recall']:.4f}", f"{used['self']:.4f}"]
                row += [f"{used['seconds']:.2f}", f"{used['p50']:.2f}", f"{used['p99']:.2f}"]
                row += [f"{used['qps']:.0f}", f"{used['qps_cpu']:.0f}"]
                print("| " + " | ".join(row) + " |", flush=True)


def write_source(folder: Path, rows: int, dim: int) -> None:
    """An encoder of the reference's size, untrained, and embeddings as if by it."""
    from kinmer.clr import Clr
    from kinmer.encoder import Encoder
    from kinmer.layout import kmer_layout
    from kinmer.networks import Vae

    layout = kmer_layout(6)
    encoder = Encoder(Vae(width=layout.width, latent=dim), layout, Clr())
    encoder.save(folder / "encoder")
    np.save(folder / "v.npy", embeddings(rows, dim, seed=2))
    (folder / "v.txt").write_text("".join(f"contig_{row}\n" for row in range(rows)))


def index_command(folder: Path, name: str) -> list[str]:
    """Builds ``folder/kin.db`` in a process of its own."""
    code = (
        "import sys; from kinmer.index import build_index; "
        "build_index(sys.argv[1] + '/v.npy', sys.argv[1] + '/kin.db', encoder=sys.argv[1] + '/encoder', "
        "engine=sys.argv[2]).close()"
    )
    return [sys.executable, "-c", code, str(folder), name]


def survive(kills: int, rows: int, dim: int, names: list[str]) -> None:
    """Kill builds at random moments; then go on, open, and count what is lost or doubled."""
    from kinmer.library import open_index

    print(f"{kills} kills (SIGKILL) while indexing {rows:,} × {dim}")
    print("| engine | hit among the vectors | hit later | entries lost | doubled | crashes | one build s |")
    print("|" + " --- |" * 7)
    random = np.random.default_rng(5)
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_source(folder, rows, dim)
            command, output, building = (
                index_command(folder, name),
                folder / "kin.db",
                folder / ".kin.db.building",
            )
            start = time.perf_counter()
            subprocess.run(command, check=True)
            whole = time.perf_counter() - start
            early = late = lost = doubled = crashes = 0
            # A kill that comes after the end is none.
            while early + late < kills:
                if output.exists():
                    subprocess.run(["rm", "-r", str(output)], check=True)
                child, start = subprocess.Popen(command, stderr=subprocess.DEVNULL), time.perf_counter()
                try:
                    child.wait(random.uniform(0.3, 1.0) * whole)
                    whole = min(whole, time.perf_counter() - start)
                except subprocess.TimeoutExpired:
                    built = (building / "index.json").exists()
                    early, late = early + (not built), late + built
                child.kill()
                child.wait()
                if not output.exists():
                    crashes += subprocess.run(command, check=False).returncode != 0
                with open_index(output) as index:
                    ids = index.ids
                    lost += rows - len(set(ids.tolist()))
                    doubled += len(ids) - len(set(ids.tolist()))
                    some = np.arange(0, rows, 97)
                    labels, _ = index.search(np.asarray(index.vectors[some]), 1)
                    lost += int((labels[:, 0] != some).sum())
            print(f"| {name} | {early} | {late} | {lost} | {doubled} | {crashes} | {whole:.1f} |", flush=True)


def cold(rows: int, dim: int, names: list[str]) -> None:
    """Seconds that a new process takes to search 1,000 queries of 5 kb, start and all."""
    code = (
        "import sys; from kinmer.queries import search, write_tsv; "
        "found = search(sys.argv[1] + '/q.fna', sys.argv[1] + '/kin.db'); "
        "write_tsv(found, open(sys.argv[1] + '/h.tsv', 'w'))"
    )
    print(f"1,000 queries of 5 kb at {rows:,} entries × {dim}, process start to last line")
    print("| engine | first run s | second run s |\n| --- | --- | --- |")
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", np.uint8)
    for name in names:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            write_source(folder, rows, dim)
            with (folder / "q.fna").open("wb") as file:
                for number in range(1000):
                    file.write(b">q%d\n" % number + letters[random.integers(0, 4, 5000)].tobytes() + b"\n")
            subprocess.run(index_command(folder, name), check=True)
            taken = []
            for _ in range(2):
                start = time.perf_counter()
                subprocess.run(
                    [sys.executable, "-c", code, str(folder)], check=True, stdout=subprocess.DEVNULL
                )
                taken.append(time.perf_counter() - start)
            print(f"| {name} | {taken[0]:.1f} | {taken[1]:.1f} |", flush=True)


def versions() -> str:
    """What was measured with."""
    found = []
    for name in ("kinmer", "numpy", "usearch", "faiss-cpu", "chromadb", "torch"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"Python {platform.python_version()}, {', '.join(found)}; load before: {load}"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--engines", nargs="+", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cold", action="store_true")
    parser.add_argument("--measure", nargs=6, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        name, metric, rows, dim, folder, how = args.measure
        print(json.dumps(measure(name, metric, int(rows), int(dim), Path(folder), build=how == "build")))
        return
    print(versions())
    ours = [name for name in args.engines if name != "faiss"]
    if args.kills:
        survive(args.kills, args.rows, args.dim, ours)
    elif args.cold:
        cold(args.rows, args.dim, ours)
    else:
        compare(args.rows, args.dim, args.engines)


if __name__ == "__main__":
    main()
