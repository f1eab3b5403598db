"""The original pipeline's chain at the original's size, measured: count, embed, index, search, cluster, map.

    python benchmarks/original_scale.py WORK [--contigs 30000,100000,300000,1000000,4776770]
        [--stages count,embed] [--table] [--threads 2]

Contigs are simulated (original_contigs.py), a shard at a time. Every stage is a command of its own, and what
it took is one line of WORK/results.jsonl: CPU and wall seconds, the largest resident and anonymous memory,
and the size of what it wrote. Stages that have their line are left out, so a run that was stopped goes on.
Profiles are the original's 2,772 k-mers, vectors have 384 dimensions (kin-1-kmers). With `--coding` reading
frames are counted too and kin-2 embeds in 512 dimensions, as kinmer does by itself. Give that a WORK of its
own.
`--table` prints the lines as tables, with exponents between the sizes. At the largest size the chain needs
about 45 GB of disk; the index of ChromaDB and the trained network can be left out with --stages.

Recall: 1,000 contigs of the index and 1,000 new fragments, ten nearest each, against every row looked at.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from original_contigs import CONTIGS, SHARD, fasta, queries

QUERIES, QUERY_LENGTH = 10_000, 10_000
ASKED, NEAREST, BLOCK_ROWS = 1_000, 10, 1 << 16
TRUSTED = 100_000
KINMER = [sys.executable, "-m", "kinmer"]
EVERY = 0.2


class Chain:
    """The stages for one number of contigs, in a folder of their own."""

    def __init__(self, work: Path, contigs: int, threads: int, coding: bool) -> None:
        self.folder, self.contigs, self.threads = work / str(contigs), contigs, threads
        self.coding, self.encoder = (["--coding"], "kin-2") if coding else ([], "kin-1-kmers")
        self.folder.mkdir(parents=True, exist_ok=True)
        self.results = work / "results.jsonl"
        self.store, self.index = self.folder / "contigs.zarr", self.folder / "contigs.db"
        self.queries = work / "queries.fna"
        if not self.queries.exists():
            part = self.queries.with_suffix(".part")
            part.write_bytes(b"".join(queries(QUERIES, QUERY_LENGTH)))
            part.rename(self.queries)

    def run(self, stages: Sequence[str]) -> None:
        """Run those of the stages that have no line yet, in order."""
        for stage in stages:
            if stage not in self.done():
                work: Callable[[], dict[str, Any]] = getattr(self, stage)
                self.note(stage, work())

    def done(self) -> dict[str, dict[str, Any]]:
        """Lines of this size by stage; those of parts are named ``count:3``."""
        lines = [json.loads(line) for line in self.results.open()] if self.results.exists() else []
        return {line["stage"]: line for line in lines if line["contigs"] == self.contigs}

    def note(self, stage: str, figures: dict[str, Any]) -> None:
        """Write a line, and print it."""
        line = json.dumps({"contigs": self.contigs, "stage": stage, **figures})
        with self.results.open("a") as file:
            file.write(line + "\n")
        print(line, flush=True)

    def command(self, *arguments: object, threads: bool = True) -> dict[str, Any]:
        """Run a command of kinmer and measure it."""
        words = [*KINMER, *map(str, arguments)]
        return measured(words + ["--threads", str(self.threads)] * threads)

    def count(self) -> dict[str, Any]:
        """Shard by shard; each is written, counted, and deleted."""
        shards, temporary = -(-self.contigs // SHARD), self.folder / "shard"
        temporary.mkdir(exist_ok=True)
        for shard in range(shards):
            if f"count:{shard}" in self.done():
                continue
            path = temporary / f"shard-{shard:02d}.fna"
            began = time.process_time()
            with path.open("wb") as file:
                for block in fasta(shard, min(SHARD, self.contigs - shard * SHARD)):
                    file.write(block)
            made = time.process_time() - began
            # A shard that was counted by a run that was stopped before it could say so is not counted again.
            again = ["--append"] if self.store.exists() else []
            figures = self.command("count", path, "-o", self.store, *self.coding, *again)
            self.note(f"count:{shard}", {**figures, "made_cpu": made, "mbp": path.stat().st_size / 1e6})
            path.unlink()
        parts = [line for stage, line in self.done().items() if stage.startswith("count:")]
        total = {key: sum(part[key] for part in parts) for key in ("cpu", "wall", "made_cpu", "mbp")}
        peaks = {key: max(part[key] for part in parts) for key in ("peak_gb", "anonymous_gb")}
        return {**total, **peaks, "disk_gb": size_of(self.store)}

    def embed(self) -> dict[str, Any]:
        """Vectors, into the store."""
        before = size_of(self.store)
        return {
            **self.command("embed", self.store, "--encoder", self.encoder),
            "disk_gb": size_of(self.store) - before,
        }

    def hnsw(self) -> dict[str, Any]:
        """The index with the default engine."""
        figures = self.command("index", self.store, "-o", self.index, "--no-calibrate")
        engine = sum(size_of(path) for path in self.index.glob("engine-*"))
        return {**figures, "disk_gb": size_of(self.index), "engine_gb": engine}

    def chroma(self) -> dict[str, Any]:
        """The index with ChromaDB."""
        other = self.folder / "chroma.db"
        figures = self.command("index", self.store, "-o", other, "--no-calibrate", "--engine", "chroma")
        return {**figures, "disk_gb": size_of(other)}

    def search(self) -> dict[str, Any]:
        """10,000 new sequences of 10 kb."""
        return self._search(self.index, self.folder / "hits.tsv")

    def search_chroma(self) -> dict[str, Any]:
        """The same of ChromaDB's index."""
        return self._search(self.folder / "chroma.db", self.folder / "hits-chroma.tsv")

    def _search(self, index: Path, output: Path) -> dict[str, Any]:
        one = self.folder / "one.fna"
        one.write_bytes(b"".join(queries(1, QUERY_LENGTH)))
        again = ["--db", index, "-o", output, "--force"]
        cold = self.command("search", one, *again)
        return {
            **self.command("search", self.queries, *again),
            "cold_cpu": cold["cpu"],
            "cold_wall": cold["wall"],
        }

    def recall(self) -> dict[str, Any]:
        """Of the true ten nearest, the share that a search gives."""
        return self._recall(self.index)

    def recall_chroma(self) -> dict[str, Any]:
        """The same of ChromaDB's index."""
        return self._recall(self.folder / "chroma.db")

    def _recall(self, index: Path) -> dict[str, Any]:
        return measured([sys.executable, __file__, str(index), "--recall", str(self.queries)], answer=True)

    def neighbors(self) -> dict[str, Any]:
        """Distances of a sample of 100,000 to their nearest."""
        return self.command("analyze", "neighbors", self.index, "-o", self.folder / "neighbors", "--force")

    def counts(self) -> dict[str, Any]:
        """Number of sequences by distance, and fits."""
        return self.command("analyze", "counts", self.index, "-o", self.folder / "counts", "--force")

    def verify(self) -> dict[str, Any]:
        """Distances against k-mers, as the original checks its network."""
        output = ["-o", self.folder / "verify", "--force"]
        return self.command("verify", self.store, *output, threads=False)

    def cluster(self) -> dict[str, Any]:
        """Clusters of all."""
        return self.command("cluster", self.index, "-o", self.folder / "clusters", "--force")

    def map(self) -> dict[str, Any]:
        """t-SNE of every point, picture and page."""
        figures = self.command("map", self.index, "-o", self.folder / "map", "--force")
        return {**figures, "disk_gb": sum(size_of(path) for path in self.folder.glob("map*"))}

    def trust(self) -> dict[str, Any]:
        """Trustworthiness of the map at a sample, beside that of a map of the sample alone."""
        return measured([sys.executable, __file__, str(self.folder), "--trust"], answer=True)

    def train(self) -> dict[str, Any]:
        """An epoch of the original network, profiles streamed from the store."""
        output = ["-o", self.folder / "original", "--force"]
        return self.command("train", self.store, "--preset", "original", "--epochs", 1, *output)


STAGES = (
    *(
        "count",
        "embed",
        "hnsw",
        "search",
        "recall",
        "neighbors",
        "counts",
        "verify",
        "cluster",
        "map",
        "trust",
    ),
    *("train", "chroma", "search_chroma", "recall_chroma"),
)


def measured(words: list[str], *, answer: bool = False) -> dict[str, Any]:
    """Run a command; CPU and wall seconds, largest memory in GB, and its answer, a line of JSON."""
    began = time.monotonic()
    process = subprocess.Popen(words, stdout=subprocess.PIPE if answer else subprocess.DEVNULL)
    peaks, over = {"VmHWM": 0, "RssAnon": 0}, threading.Event()

    def watch() -> None:
        while not over.wait(EVERY):
            for name in peaks:
                peaks[name] = max(peaks[name], _status(process.pid, name))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    text = process.stdout.read() if process.stdout else b""
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    thread.join()
    if status:
        raise SystemExit(f"{' '.join(words)} ended with {os.waitstatus_to_exitcode(status)}")
    figures = {"cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - began}
    figures |= {"peak_gb": peaks["VmHWM"] / 1e9, "anonymous_gb": peaks["RssAnon"] / 1e9}
    return {
        **{key: round(value, 3) for key, value in figures.items()},
        **(json.loads(text) if answer else {}),
    }


def _status(process: int, name: str) -> int:
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), 0)


def size_of(path: Path) -> float:
    """GB on disk of a file or folder."""
    files = [path] if path.is_file() else [one for one in path.rglob("*") if one.is_file()]
    return round(sum(one.stat().st_blocks * 512 for one in files) / 1e9, 3)


def recall(index: Path, fasta_file: Path) -> dict[str, float]:
    """Recall of an index's own rows and of new fragments, and milliseconds a query, one at a time."""
    from kinmer import KinIndex, embed

    with KinIndex.open(index) as opened:
        rng = np.random.default_rng(0)
        rows = np.sort(rng.choice(len(opened.rows), ASKED, replace=False))
        lines = fasta_file.open("rb").read(ASKED * (QUERY_LENGTH + 100))
        part = index.parent / "asked.fna"
        part.write_bytes(b">".join(lines.split(b">")[: ASKED // 2 + 1]))
        embed(part, output=part.with_suffix(".npy"), encoder=opened.encoder, force=True)
        new = np.load(part.with_suffix(".npy"))
        found: dict[str, float] = {}
        for name, asked in (("own", np.asarray(opened.rows.vectors[rows])), ("new", new)):
            true = _true(opened, asked)
            took = []
            hits = np.full(true.shape, -1, np.int64)
            for at, one in enumerate(asked):
                began = time.perf_counter()
                hits[at] = opened.search(one[None], NEAREST)[0][0]
                took.append(time.perf_counter() - began)
            same = [len(set(a) & set(b)) / NEAREST for a, b in zip(true, hits, strict=True)]
            found[f"recall_{name}"] = round(float(np.mean(same)), 5)
            found[f"ms_p50_{name}"], found[f"ms_p99_{name}"] = np.round(
                1e3 * np.percentile(took, [50, 99]), 2
            )
        return found


def _true(opened: Any, asked: np.ndarray) -> np.ndarray:
    """(q, NEAREST) numbers of the entries nearest by cosine, all rows being looked at."""
    unit = asked / np.linalg.norm(asked, axis=1, keepdims=True)
    best, labels = np.full((len(asked), 0), 0.0, np.float32), np.zeros((len(asked), 0), np.int64)
    rows = opened.rows
    for start in range(0, len(rows), BLOCK_ROWS):
        block = np.asarray(rows.vectors[start : start + BLOCK_ROWS])
        near = unit @ (block / np.linalg.norm(block, axis=1, keepdims=True)).T
        best = np.concatenate([best, near], axis=1)
        own = np.broadcast_to(rows.entry[start : start + len(block)], near.shape)
        labels = np.concatenate([labels, own], axis=1)
        kept = np.argpartition(-best, NEAREST, axis=1)[:, :NEAREST]
        best, labels = np.take_along_axis(best, kept, 1), np.take_along_axis(labels, kept, 1)
    return labels


def trust(folder: Path) -> dict[str, float]:
    """Trustworthiness (Venna and Kaski 2001), k = NEAREST, of `ASKED` points among a sample of the map."""
    from kinmer.maps import open_map
    from kinmer.vectors import open_vectors

    points, whole = open_vectors(folder / "contigs.db"), open_map(folder / "map")
    rng = np.random.default_rng(0)
    rows = np.sort(rng.choice(len(points), min(TRUSTED, len(points)), replace=False))
    vectors, sample = points.take(rows), folder / "sample.npy"
    np.save(sample, vectors)
    sample.with_suffix(".txt").write_text("".join(f"{name}\n" for name in points.ids[rows]))
    alone = folder / "map-alone"
    subprocess.run([*KINMER, "map", sample, "-o", alone, "--force"], check=True, stdout=subprocess.DEVNULL)
    asked = rng.choice(len(rows), min(ASKED, len(rows)), replace=False)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    ranks = np.empty((len(asked), len(rows)), np.int32)
    for line, one in enumerate(asked):
        ranks[line, np.argsort(-(unit @ unit[one]), kind="stable")] = np.arange(len(rows))
    return {
        "trust_whole": _trustworthiness(whole.coordinates[rows], asked, ranks),
        "trust_alone": _trustworthiness(open_map(alone).coordinates, asked, ranks),
    }


def _trustworthiness(coordinates: np.ndarray, asked: np.ndarray, ranks: np.ndarray) -> float:
    """ranks (q, n): of every point among the neighbors of those asked, themselves being 0."""
    from scipy.spatial import KDTree

    near = KDTree(coordinates).query(coordinates[asked], NEAREST + 1)[1][:, 1:]
    beyond = np.maximum(np.take_along_axis(ranks, near, 1) - NEAREST, 0).sum()
    scale = 2 / (len(asked) * NEAREST * (2 * len(coordinates) - 3 * NEAREST - 1))
    return round(1 - float(beyond) * scale, 5)


def table(work: Path) -> None:
    """Print CPU, wall, memory and disk of every stage by number of contigs, and exponents of CPU."""
    lines = [json.loads(line) for line in (work / "results.jsonl").open()]
    sizes = sorted({line["contigs"] for line in lines})
    by = {(line["stage"], line["contigs"]): line for line in lines}
    print(
        "| stage | "
        + " | ".join(f"{size:,}" for size in sizes)
        + " | exponent |\n|"
        + " --- |" * (len(sizes) + 2)
    )
    for stage in STAGES:
        cells, known = [], [size for size in sizes if (stage, size) in by]
        for size in sizes:
            one = by.get((stage, size))
            cells.append(
                f"{one['cpu']:,.0f} · {one['wall']:,.0f} · {one['peak_gb']:.1f} ({one['anonymous_gb']:.1f})"
                f" · {one.get('disk_gb', 0):.1f}" if one else ""
            )  # fmt: skip
        slopes = [
            np.log(by[stage, b]["cpu"] / by[stage, a]["cpu"]) / np.log(b / a) for a, b in pairwise(known)
        ]
        print(
            f"| {stage} | " + " | ".join(cells) + " | " + ", ".join(f"{slope:.2f}" for slope in slopes) + " |"
        )


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("work", type=Path)
    parser.add_argument("--contigs", default="30000,100000,300000,1000000," + str(CONTIGS))
    parser.add_argument("--stages", default=",".join(STAGES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--coding", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--recall", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--trust", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.recall:
        print(json.dumps(recall(options.work, options.recall)))
    elif options.trust:
        print(json.dumps(trust(options.work)))
    elif options.table:
        table(options.work)
    else:
        for contigs in options.contigs.split(","):
            Chain(options.work, int(contigs), options.threads, options.coding).run(options.stages.split(","))


if __name__ == "__main__":
    main()
