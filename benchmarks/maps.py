"""Memory and time of `kinmer map` by the number of points, and its quality beside plain openTSNE.

    python benchmarks/maps.py VECTORS.npy -o maps.json [--sizes 50000,100000,200000,500000] [--plain 100000]

Every run is a process of its own, which reads its peak from the kernel's VmHWM (a new program's own, unlike
ru_maxrss, which starts with that of the process that forks it). `anonymous` is the largest sampled RssAnon:
without the pages of mapped files, which the kernel drops where memory is short. What is kept of
neighbourhoods is asked at random points against their true nearest among all.

The peak does not depend on the number of iterations but for the grid of the repulsion, which grows with the
extent of the map up to 1000 cells a side. `grid_gb` is what the largest grid takes beyond the smallest: runs
of few iterations (--iterations 60, small extents) with it added are above the peak of any long one.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS_AIMED_AT = 4_800_000
ASKED, TRUST_SAMPLE = 5000, 5000


def main() -> None:
    """Parse, run, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("vectors", type=Path)
    parser.add_argument("-o", "--output", type=Path)
    parser.add_argument("--sizes", default="50000,100000,200000,500000")
    parser.add_argument("--plain", type=int, default=100_000, help="points of the comparison; 0: none")
    parser.add_argument("--iterations", type=int, default=750)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", choices=["kinmer", "openTSNE", "grid"], help=argparse.SUPPRESS)
    parser.add_argument("--target", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options)
        return
    sizes = [int(one) for one in options.sizes.split(",") if one]
    with tempfile.TemporaryDirectory(dir=options.vectors.absolute().parent) as work:
        found = _all(options, sizes, Path(work))
    text = json.dumps(found, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


def _all(options: argparse.Namespace, sizes: list[int], work: Path) -> dict[str, Any]:
    runs: list[dict[str, Any]] = []
    found: dict[str, Any] = {"threads": options.threads, "iterations": options.iterations, "runs": runs}
    for points in sizes:
        runs.append(_run("kinmer", points, options, work))
        print(json.dumps(runs[-1]), file=sys.stderr, flush=True)
    if len(sizes) > 1:
        found["grid_gb"] = _grid_gb()
        found["line"] = _line(runs)
    if options.plain:
        compared = {who: _run(who, options.plain, options, work) for who in ("kinmer", "openTSNE")}
        for who, told in compared.items():
            told |= _quality(work / f"{options.plain}.npy", work / f"{who}-{options.plain}.npy")
        compared["kinmer / openTSNE"] = {
            key: compared["kinmer"][key] / compared["openTSNE"][key] for key in ("seconds", "cpu", "peak_gb")
        }
        found["compared"] = compared
    return found


def _run(who: str, points: int, options: argparse.Namespace, work: Path) -> dict[str, Any]:
    """One map in a process of its own."""
    part = work / f"{points}.npy"
    if not part.exists():
        vectors = np.load(options.vectors, mmap_mode="r")
        rows = np.sort(np.random.default_rng(points).choice(len(vectors), points, replace=False))
        np.save(part, vectors[rows])
        part.with_suffix(".txt").write_text("".join(f"{row}\n" for row in rows))
    target = work / f"{who}-{points}.npy"
    settings = ["--iterations", str(options.iterations), "--threads", str(options.threads)]
    command = [sys.executable, __file__, str(part), "--child", who, "--target", str(target), *settings]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"who": who, "points": points, **told}


def _child(options: argparse.Namespace) -> None:
    began, cpu = time.monotonic(), time.process_time()
    if options.child == "grid":
        _grid(options)
        return
    with _sampled() as peaks:
        points, divergence = (_kinmer if options.child == "kinmer" else _plain)(options)
    told = {
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "peak_gb": _status("VmHWM") / 1e9,
        "anonymous_gb": max(peaks) / 1e9,
        "divergence": divergence,
        "extent": float(np.ptp(points, axis=0).max()),
    }
    np.save(options.target, points)
    print(json.dumps(told))


def _grid(options: argparse.Namespace) -> None:
    """Peak of the repulsion of few points as far apart as the file's name says."""
    from openTSNE.tsne import kl_divergence_fft
    from scipy.sparse import csr_matrix

    before = _status("VmHWM")
    points = np.random.default_rng(0).uniform(0, float(options.vectors.name), (1000, 2))
    settings = {"n_interpolation_points": 3, "min_num_intervals": 50, "ints_in_interval": 1}
    kl_divergence_fft(points, csr_matrix((1000, 1000)), 1, settings)
    print(json.dumps((_status("VmHWM") - before) / 1e9))


def _grid_gb() -> float:
    """What the largest grid takes beyond the smallest."""
    peaks = []
    for extent in ("50", "2000"):
        command = [sys.executable, __file__, extent, "--child", "grid"]
        peaks.append(float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout))
    return peaks[1] - peaks[0]


def _kinmer(options: argparse.Namespace) -> tuple[NDArray[Any], float]:
    from kinmer import make_map

    stem = options.target.with_suffix("")
    made = make_map(
        options.vectors, iterations=options.iterations, threads=options.threads, output=stem, force=True
    )
    assert made.divergence is not None
    return made.coordinates, made.divergence


def _plain(options: argparse.Namespace) -> tuple[NDArray[Any], float]:
    from openTSNE import TSNE

    early = min(250, options.iterations // 3)
    model = TSNE(
        metric="cosine",
        early_exaggeration_iter=early,
        n_iter=options.iterations - early,
        n_jobs=options.threads,
        random_state=0,
    )
    made = model.fit(np.load(options.vectors))
    return np.asarray(made), float(made.kl_divergence)


@contextmanager
def _sampled(every: float = 0.05) -> Iterator[list[int]]:
    """Sizes of the process's anonymous memory, in bytes, while the block runs."""
    peaks, over = [0], threading.Event()

    def watch() -> None:
        while not over.wait(every):
            peaks[0] = max(peaks[0], _status("RssAnon"))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peaks
    finally:
        over.set()
        thread.join()


def _status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(name)


def _line(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Peaks as lines over the number of points, and where they lead."""
    points = np.array([run["points"] for run in runs], float)
    found: dict[str, Any] = {}
    for key in ("peak_gb", "anonymous_gb"):
        peaks = np.array([run[key] for run in runs])
        slope, intercept = np.polyfit(points, peaks, 1)
        found[key] = {
            "intercept": float(intercept),
            "kb_per_point": float(slope) * 1e6,
            "largest_residual": float(np.abs(peaks - intercept - slope * points).max()),
            f"at {POINTS_AIMED_AT}": float(intercept + slope * POINTS_AIMED_AT),
        }
    return found


def _quality(vectors_at: Path, points_at: Path) -> dict[str, float]:
    """What the map keeps of the 10 and 30 nearest (cosine), and trustworthiness among a sample."""
    from sklearn.manifold import trustworthiness
    from sklearn.neighbors import NearestNeighbors

    vectors, points = np.load(vectors_at), np.load(points_at)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    rng = np.random.default_rng(0)
    asked = rng.choice(len(points), min(ASKED, len(points)), replace=False)
    near = [_nearest(units, row, 30) for row in np.array_split(asked, 50)]
    true = np.concatenate(near)
    drawn = NearestNeighbors(n_neighbors=31).fit(points).kneighbors(points[asked], return_distance=False)
    shown = np.array([row[row != own][:30] for row, own in zip(drawn, asked, strict=True)], dtype=object)
    kept = {
        f"kept_of_{k}": float(
            np.mean([len(set(a[:k]) & set(b[:k])) / k for a, b in zip(true, shown, strict=True)])
        )
        for k in (10, 30)
    }
    some = rng.choice(len(points), min(TRUST_SAMPLE, len(points)), replace=False)
    trust = trustworthiness(units[some], points[some], n_neighbors=10, metric="cosine")
    return {**kept, "trustworthiness": float(trust)}


def _nearest(units: NDArray[Any], rows: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    near = units[rows] @ units.T
    near[np.arange(len(rows)), rows] = -np.inf
    few = np.argpartition(-near, k, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(near, few, axis=1), axis=1)
    return np.asarray(np.take_along_axis(few, order, axis=1))


if __name__ == "__main__":
    main()
