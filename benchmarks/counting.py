"""Counting: the kernel against NumPy and pykmertools, files to the written store, memory of large inputs.

    python benchmarks/counting.py                    # the tables, one core, some 300 Mbp
    python benchmarks/counting.py --memory           # 3 Gbp through a pipe: as one record, and as contigs
    python benchmarks/counting.py --million          # a million contigs of 5 kb through a pipe

Every measurement runs in a process of its own that may use `--cores` cores (1). Figures are the best of
`--repeats` runs: wall time says what a user waits for, processor time what a busy machine hides.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from kinmer.counting import count_files
from kinmer.fasta import read_blocks
from kinmer.kmers import KmerCounter
from kinmer.layout import kmer_layout
from kinmer.profiles import ProfileStore
from kinmer.resources import available_cores
from kinmer.simulate import random_contigs, write_random_contigs

LAYOUT = kmer_layout(6)
WIDTH = 80


def best(work: Callable[[], Any], repeats: int) -> tuple[float, float]:
    """Least wall and processor seconds of several runs."""
    wall, cpu = [], []
    for _ in range(repeats):
        started, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - started)
        cpu.append(time.process_time() - used)
    return min(wall), min(cpu)


def canonical_words(k: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The canonical words of k letters and their reverse complements, as numbers."""
    words = np.arange(4**k)
    mates, rest = np.zeros_like(words), words.copy()
    for _ in range(k):
        mates, rest = (mates << 2) | (3 - (rest & 3)), rest >> 2
    return words[words <= mates], mates[words <= mates]


def numpy_counter() -> Callable[[NDArray[np.uint8]], NDArray[np.int64]]:
    """Vectorised NumPy: codes, words by shifts, bincount, for every k; letters must be ACGT."""
    codes_of = np.zeros(256, dtype=np.int64)
    codes_of[list(b"ACGT")] = range(4)
    folds = [canonical_words(k) for k in range(6, 0, -1)]

    def count(letters: NDArray[np.uint8]) -> NDArray[np.int64]:
        codes = codes_of[letters]
        rows = []
        for k, (words, mates) in zip(range(6, 0, -1), folds, strict=True):
            n = len(codes) - k + 1
            found = np.zeros(n, dtype=np.int64)
            for i in range(k):
                found = (found << 2) | codes[i : i + n]
            full = np.bincount(found, minlength=4**k)
            rows.append(np.where(words == mates, full[words], full[words] + full[mates]))
        return np.concatenate(rows)

    return count


def kernel_job(length: int, total: int, repeats: int) -> dict[str, Any]:
    """Letters in memory to counts: kinmer, NumPy and pykmertools on the same contigs."""
    number = total // length
    sequences = [sequence for _, sequence in random_contigs(number, length, seed=1)]
    lines = [b"\n".join(one[i : i + WIDTH] for i in range(0, length, WIDTH)) for one in sequences]
    buffer = np.frombuffer(bytearray(b"".join(lines)), dtype=np.uint8)
    ends = np.cumsum([len(one) for one in lines])
    starts = ends - [len(one) for one in lines]
    counter = KmerCounter(LAYOUT)
    counted = counter.count(buffer, starts, ends).counts
    letters = number * length
    figures: dict[str, Any] = {
        "kinmer": letters / best(lambda: counter.count(buffer, starts, ends), repeats)[1]
    }
    # The others are slow: a part of the contigs tells their pace.
    part = sequences[: max(4, number // 20)]
    arrays = [np.frombuffer(one, dtype=np.uint8) for one in part]
    with_numpy = numpy_counter()
    assert all((with_numpy(one) == row).all() for one, row in zip(arrays, counted, strict=False))
    used = best(lambda: [with_numpy(one) for one in arrays], repeats)[1]
    figures["NumPy"] = len(part) * length / used
    try:
        from pykmertools import OligoComputer
    except ImportError:
        return figures
    texts = [one.decode() for one in part]
    computers = [OligoComputer(k) for k in range(6, 0, -1)]
    used = best(lambda: [one.vectorise_batch(texts, norm=False, mins=True) for one in computers], repeats)[1]
    figures["pykmertools"] = len(part) * length / used
    return figures


def store_job(file: str, folder: str, repeats: int) -> dict[str, Any]:
    """A file to the written store."""
    output = Path(folder) / "store.zarr"
    threads = available_cores()
    count_files([file], output, threads=threads, force=True)
    reports = []

    def run() -> None:
        reports.append(count_files([file], output, threads=threads, force=True))

    wall, cpu = best(run, repeats)
    read = best(lambda: [block.consumed for block in read_blocks(file)], repeats)[1]
    size = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    letters = reports[0].letters
    return {
        "wall": letters / wall,
        "cpu": letters / cpu,
        "read": letters / read,
        "rows": reports[0].sequences / cpu,
        "bytes": size / reports[0].sequences,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def pipe_job(output: str) -> dict[str, Any]:
    """Standard input to the written store."""
    resident: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.25):
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            resident.append(pages * resource.getpagesize())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started, used = time.perf_counter(), time.process_time()
    report = count_files(["-"], output, threads=available_cores())
    wall, cpu = time.perf_counter() - started, time.process_time() - used
    over.set()
    watcher.join()
    size = sum(path.stat().st_size for path in Path(output).rglob("*") if path.is_file())
    assert len(ProfileStore.open(output)) == report.sequences
    half = len(resident) // 2
    return {
        "sequences": report.sequences,
        "letters": report.letters,
        "wall": report.letters / wall,
        "cpu": report.letters / cpu,
        "bytes": size / report.sequences,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "peak_first_half": max(resident[:half], default=0),
        "peak_second_half": max(resident[half:], default=0),
    }


def lines_of_letters() -> bytes:
    """64 Mi random letters in lines, to cut contigs from."""
    letters = next(random_contigs(1, 1 << 26, seed=2))[1]
    rows = np.frombuffer(letters, dtype=np.uint8)[: len(letters) // WIDTH * WIDTH].reshape(-1, WIDTH)
    return np.hstack([rows, np.full((len(rows), 1), 10, dtype=np.uint8)]).tobytes()


def contigs(total: int, length: int) -> Iterator[bytes]:
    """FASTA of `total` letters in records of `length`, in writable pieces."""
    lines = lines_of_letters()
    step = length // WIDTH * (WIDTH + 1)
    rng = np.random.default_rng(3)
    for i in range(total // length):
        yield b">contig_%d\n" % i
        if step >= len(lines):
            for _ in range(length // (len(lines) // (WIDTH + 1) * WIDTH)):
                yield lines
        else:
            at = int(rng.integers((len(lines) - step) // (WIDTH + 1))) * (WIDTH + 1)
            yield lines[at : at + step]


def run_job(name: str, *arguments: object, cores: int, data: Iterator[bytes] | None = None) -> dict[str, Any]:
    """One measurement in a process of its own, on the last `cores` cores."""
    allowed = sorted(os.sched_getaffinity(0))[-cores:]
    command = [sys.executable, __file__, "--job", name, *map(str, arguments)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE if data is not None else subprocess.DEVNULL,
        preexec_fn=lambda: os.sched_setaffinity(0, allowed),
    ) as child:
        if data is not None:
            stdin: IO[bytes] | None = child.stdin
            assert stdin is not None
            for piece in data:
                stdin.write(piece)
            stdin.close()
        assert child.stdout is not None
        answer = child.stdout.read()
    if child.returncode:
        raise SystemExit(f"{name} failed")
    found: dict[str, Any] = json.loads(answer)
    return found


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "kernel": lambda length, total, repeats: kernel_job(int(length), int(total), int(repeats)),
    "store": lambda file, folder, repeats: store_job(file, folder, int(repeats)),
    "pipe": lambda output: pipe_job(output),
}


def tables(folder: Path, total: int, cores: int, repeats: int) -> None:
    """Kernel and store tables."""
    print("letters in memory to counts of 6…1-mers, Mbp per processor second")
    for length in (30_000, 5_000, 1_000):
        found = run_job("kernel", length, total // 3, repeats, cores=1)
        others = "".join(
            f"   {name} {pace / 1e6:,.1f} ({found['kinmer'] / pace:.1f}×)"
            for name, pace in found.items()
            if name != "kinmer"
        )
        print(f"  contigs of {length:>6,}: kinmer {found['kinmer'] / 1e6:,.0f}{others}")
    files = {}
    for length in (30_000, 5_000, 1_000):
        files[f"{length:,} plain"] = folder / f"{length}.fna"
        write_random_contigs(files[f"{length:,} plain"], total // length, length, seed=length)
    files["30,000 gzip"] = folder / "30000.fna.gz"
    with (
        files["30,000 plain"].open("rb") as plain,
        gzip.open(files["30,000 gzip"], "wb", compresslevel=6) as packed,
    ):
        shutil.copyfileobj(plain, packed, 1 << 20)
    print(f"\nfile to written store, {cores} core(s)")
    print("  contigs          Mbp/s   Mbp per CPU-s   reading alone   rows per CPU-s   bytes a row   peak MB")
    for name, file in files.items():
        one = run_job("store", file, folder, repeats, cores=cores)
        print(
            f"  {name:<14} {one['wall'] / 1e6:7,.0f} {one['cpu'] / 1e6:15,.0f} {one['read'] / 1e6:15,.0f}"
            f" {one['rows']:16,.0f} {one['bytes']:13,.0f} {one['peak'] / 1e6:9,.0f}"
        )


def piped(folder: Path, shapes: dict[str, tuple[int, int]], cores: int) -> None:
    """Large inputs through a pipe: (letters, length of a record) by name."""
    print("\nthrough a pipe to the written store")
    for name, (total, length) in shapes.items():
        output = folder / "piped.zarr"
        one = run_job("pipe", output, cores=cores, data=contigs(total, length))
        shutil.rmtree(output)
        peaks = [one[key] / 1e6 for key in ("peak", "peak_first_half", "peak_second_half")]
        print(
            f"  {name}: {one['sequences']:,} sequences, {one['letters'] / 1e9:.2f} Gbp,"
            f" {one['wall'] / 1e6:,.0f} Mbp/s, {one['cpu'] / 1e6:,.0f} Mbp per CPU-s,"
            f" {one['bytes']:,.0f} bytes a row, peak {peaks[0]:,.0f} MB"
            f" (first half {peaks[1]:,.0f}, second half {peaks[2]:,.0f})"
        )


def versions() -> str:
    names = ("kinmer", "numpy", "numba", "isal", "zarr", "pykmertools")
    found = []
    for name in names:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    machine = f"{platform.machine()}, Python {platform.python_version()}"
    return f"{machine}, {', '.join(found)}, load {os.getloadavg()[0]:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cores", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--letters", type=int, default=300_000_000)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.job:
        name, *arguments = args.job
        print(json.dumps(JOBS[name](*arguments)))
        return
    print(versions())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if args.million:
            piped(folder, {"contigs of 5 kb": (5_000_000_000, 5_000)}, args.cores)
        elif args.memory:
            shapes = {
                "one record": (3_000_000_000, 3_000_000_000),
                "contigs of 30 kb": (3_000_000_000, 30_000),
            }
            piped(folder, shapes, args.cores)
        else:
            tables(folder, args.letters, args.cores, args.repeats)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
