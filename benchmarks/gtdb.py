"""What a database of so many genomes costs: build, calibrate, search, add, delete, check, list, compact.

    python benchmarks/gtdb.py FOLDER [--genomes 1000 10000 50000 143000] [--contigs 8]
                              [--steps build search …] [--kills 5] [--threads 1] [--remove]

Genomes are simulated, so that nothing has to be counted: a tree of species grows as GTDB's does (143,000
species in about 29,000 genera), and their vectors lie around each other as those of the genomes in
KINMER_GENOMES do, rank by rank. In every fifth genus species are sisters: near each other, with many k-mers
in common. A genome has 3.2 Mb in contigs and 6,400 hashes. All else is the library's own code, as of
`kinmer reference --compact`.

Every step runs in a process of its own and is passed over where its figures are known, so that the same call
goes on. --kills: the build is killed so many times on the way, and has to go on. Printed are CPU and wall
seconds, the most memory (GB, in all and without mapped files) and disk, and the exponents between sizes.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from gtdb_world import HASHES, MOST, World, rng_of

from kinmer.confidence import calibrator
from kinmer.confidence.pool import LineageBook
from kinmer.confidence.probes import LENGTHS, PER_LENGTH, Probes, _some_genomes
from kinmer.index import IndexWriter, Storage
from kinmer.index.commit import Progress
from kinmer.index.manifest import COMPACT_SCALE
from kinmer.index.pieces import COMPACT_PIECES, pieces_of, settings_of
from kinmer.library import (
    KinIndex,
    calibrate_index,
    check_index,
    compact_index,
    delete_from_index,
    describe_index,
)
from kinmer.library.build import build_from
from kinmer.library.check import index_rows
from kinmer.library.feed import Feed, Replace
from kinmer.library.join import Joined
from kinmer.library.metadata import Metadata
from kinmer.library.sources import Settings
from kinmer.library.update import conclude, pour_into
from kinmer.queries.intake import Queries
from kinmer.queries.judge import SearchSettings, results_of
from kinmer.queries.results import QueryResult
from kinmer.taxonomy import RANKS

STEPS = ("build", "calibrate", "cold", "search", "add", "one", "delete", "check", "info", "list", "compact")
# Genomes added and deleted.
MORE = 100
QUERY, QUERIES = 5_000, 100


class SimulatedFeed(Feed):
    """Genomes from `start` to `stop`, a commit each as of FASTA files."""

    def __init__(self, world: World, start: int, stop: int) -> None:
        self._world, self._range, self.encoder = world, range(start, stop), world.encoder
        self.settings = settings_of(pieces_of(COMPACT_PIECES), letters=False)
        self.identity = {"simulated": [start, stop, world.contigs], **self.settings}

    def own_columns(self, staged: Metadata | None) -> tuple[list[str], list[str]]:
        return [*RANKS, "molecule"], []

    def files(self) -> dict[str, str]:
        return {f"G{number:06}.fna": str(number) for number in self._range}

    def pour(self, writer: IndexWriter, joined: Joined, *, replace: Replace | None = None) -> None:
        whole = {file.path for file in writer.table.files() if file.whole}
        for number in self._range:
            path = f"G{number:06}.fna"
            if path in whole:
                continue
            sequences, sketches = self._world.sequences(number)
            new = (path, str(number), path[:-4], "")
            writer.add(sequences, sketches=sketches, file=Progress(-1, None, new))


class Steps:
    """One step each; what they return is noted with the figures."""

    def __init__(self, folder: Path, genomes: int, contigs: int, threads: int) -> None:
        self.world = World(folder, contigs)
        self.path, self.genomes, self.threads = folder / f"{genomes}.db", genomes, threads
        # What opening takes is no part of a step.
        self.world.names(0)

    def build(self) -> dict[str, Any]:
        settings = Settings(rounded=True, sketch_scale=COMPACT_SCALE, calibrate=False, threads=self.threads)
        build_from(SimulatedFeed(self.world, 0, self.genomes), self.path, settings).close()
        kinds = ("vectors-*", "rows-*", "sketches-*", "entries.sqlite", "engine-*/**/*", "homology/**/*")
        return {kind: size_of(self.path.glob(kind)) for kind in kinds}

    def calibrate(self) -> dict[str, Any]:
        calibrator._probes = self._probes
        calibrate_index(self.path, threads=self.threads)
        with KinIndex.open(self.path) as index:
            return {"calibrated": str(index.info().calibrated)}

    def add(self) -> dict[str, Any]:
        feed = SimulatedFeed(self.world, self.genomes, self.genomes + MORE)
        with IndexWriter(self.path, threads=self.threads) as writer:
            pour_into(writer, feed, Settings(calibrate=False))
            conclude(writer, False)
        return {}

    def one(self) -> dict[str, Any]:
        """One genome more."""
        feed = SimulatedFeed(self.world, self.genomes + MORE, self.genomes + MORE + 1)
        with IndexWriter(self.path, threads=self.threads) as writer:
            pour_into(writer, feed, Settings(calibrate=False))
            conclude(writer, False)
        return {}

    def delete(self) -> dict[str, Any]:
        names = [f"G{number:06}" for number in range(0, self.genomes, self.genomes // MORE)][:MORE]
        return {"gone": delete_from_index(self.path, genomes=names)}

    def check(self) -> dict[str, Any]:
        return {"problems": list(check_index(self.path).problems)}

    def info(self) -> dict[str, Any]:
        return {"commits": describe_index(self.path).commits}

    def list(self) -> dict[str, Any]:
        return {"rows": sum(1 for _ in index_rows(self.path))}

    def compact(self) -> dict[str, Any]:
        compact_index(self.path, threads=self.threads)
        return {}

    def cold(self) -> dict[str, Any]:
        """The first search of a process, imports not counted."""
        with KinIndex.open(self.path, threads=self.threads) as index:
            return {"verdict": self._asked(index, self._query(0, 0)).verdict}

    def search(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        with KinIndex.open(self.path, threads=self.threads) as index:
            for case in range(3):
                self._asked(index, self._query(case, QUERIES))
            times, used = [], []
            for case, name in enumerate(("strain", "new species", "new genus")):
                right = wrong = 0
                for at in range(QUERIES):
                    query, began, spent = self._query(case, at), time.perf_counter(), cpu()
                    found = self._asked(index, query)
                    times.append(time.perf_counter() - began)
                    used.append(cpu() - spent)
                    values = self.world.values(self._source(case, at))
                    if found.rank == "species":
                        right += found.name == values["species"]
                        wrong += found.name != values["species"]
                    elif found.rank == "genus" and case == 1:
                        right += found.name == values["genus"]
                result |= {f"{name} right": right / QUERIES, f"{name} wrong": wrong / QUERIES}
            for what, each in (("", times), (" of CPU", used)):
                result |= {f"p{part} ms{what}": float(np.percentile(each, part)) * 1e3 for part in (50, 99)}
            with ThreadPoolExecutor(8) as pool:
                asked, began = [self._query(0, at) for at in range(64)], time.perf_counter()
                list(pool.map(lambda one: self._asked(index, one), asked))
                result["8 at once, ms each"] = (time.perf_counter() - began) / 64 * 1e3
        return result

    def _asked(self, index: Storage, query: Queries) -> QueryResult:
        return next(results_of(iter([query]), index, SearchSettings(n_jobs=self.threads), close=False))

    def _source(self, case: int, at: int) -> int:
        """The genome of a query: one that is in; none, of a genus that is; none, of a genus that is not."""
        if case == 0:
            return int(rng_of(5, at).integers(self.genomes))
        genera = set(self.world.parents[0][: self.genomes].tolist())
        outside = range(self.genomes + 2 * MORE, MOST)
        able = (one for one in outside if (int(self.world.parents[0][one]) in genera) == (case == 1))
        return next(islice(able, at, None))

    def _query(self, case: int, at: int) -> Queries:
        rows, sketches = self.world.genome(self._source(case, at))
        contig = at % len(rows)
        vector, hashes = self.world.fragment(rows[contig], sketches[contig], QUERY, rng_of(6, case, at))
        return Queries([f"q{at}"], [QUERY], vector[None], bases=[QUERY], counted=[QUERY], sketches=[hashes])

    def _probes(self, index: Storage, book: LineageBook, writer: IndexWriter) -> Probes:
        """Fragments as the calibration cuts them from sequences."""
        rng, lines, values = rng_of(7), [], []
        for genome in _some_genomes(index, book, PER_LENGTH, rng).tolist():
            members = index.table.members(genome)
            for length in LENGTHS:
                one = members[int(rng.integers(len(members)))]
                start = int(rng.integers(0, (one.length or 0) - length))
                vector, (kept,) = (
                    index.rows.vectors[one.first],
                    index.entry_sketches(np.array([one.number])).values(),
                )
                own = self.world.fragment(vector, kept, length, rng, 1)
                values.append((own, self.world.fragment(own[0], own[1], 200_000, rng), start))
                lines.append((one.number, genome, start, start + length, length))
        entry, of, start, stop, bases = np.array(lines).T
        whole, strain = (list(zip(*[one[at] for one in values], strict=True)) for at in (0, 1))
        random = np.array(whole[0])[:, rng.permutation(index.dim)]
        random[np.arange(len(random)) % 3 > 0] = 0
        nothing = [np.empty(0, np.uint64)] * len(lines)
        rows = (
            np.array(whole[0], np.float32),
            np.array(strain[0], np.float32),
            np.asarray(random, np.float32),
        )
        zeros = np.zeros(len(lines), np.int64)
        return Probes(*rows, entry, of, start, stop, bases, list(whole[1]), list(strain[1]), nothing, zeros)


class Meter:
    """CPU and wall seconds of a block, and the most memory of the process."""

    def __enter__(self) -> Meter:
        self._used, self._wall, self.anonymous = cpu(), time.perf_counter(), 0
        self._done = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
            self.anonymous = max(self.anonymous, int(lines["RssAnon"].split()[0]))

    def figures(self) -> dict[str, float]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        wall = time.perf_counter() - self._wall
        return {"cpu": cpu() - self._used, "wall": wall, "peak": peak / 1e6, "own": self.anonymous / 1e6}


def cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def size_of(files: Iterable[Path]) -> float:
    """GB that files take."""
    return sum(file.stat().st_size for file in files if file.is_file()) / 1e9


def run_step(args: argparse.Namespace) -> None:
    """One step of one size, in this process."""
    (genomes,), (step,) = args.genomes, args.steps
    steps = Steps(args.folder, genomes, args.contigs, args.threads)
    with Meter() as meter:
        found = getattr(steps, step)()
    disk = size_of(steps.path.rglob("*"))
    line = {"genomes": genomes, "step": step, **meter.figures(), "disk": disk, "found": found}
    with (args.folder / "figures.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")


def figures(folder: Path) -> dict[tuple[int, str], dict[str, Any]]:
    """What is known, by size and step."""
    file = folder / "figures.jsonl"
    lines = map(json.loads, file.read_text().splitlines()) if file.is_file() else ()
    return {(line["genomes"], line["step"]): line for line in lines}


def call(args: argparse.Namespace, genomes: int, step: str) -> None:
    """One step in a process of its own, killed on the way as often as wanted."""
    own = [sys.executable, __file__, str(args.folder), "--genomes", str(genomes), "--steps", step, "--here"]
    own += ["--contigs", str(args.contigs), "--threads", str(args.threads)]
    for kill in range(args.kills if step == "build" else 0):
        began = subprocess.Popen(own)
        building = args.folder / f".{genomes}.db.building"
        while began.poll() is None and committed(building) < genomes * (kill + 1) // (args.kills + 1):
            time.sleep(0.2)
        began.kill()
        began.wait()
        print(f"killed with {committed(building):,} genomes", flush=True)
    subprocess.run(own, check=True)


def committed(building: Path) -> int:
    """Genomes in an unfinished index, by the size of its sketches."""
    return sum(file.stat().st_size for file in building.glob("sketches-*.bin")) // (6 * HASHES)


def table(known: dict[tuple[int, str], dict[str, Any]]) -> Iterator[str]:
    """Lines of Markdown."""
    yield "| step | genomes | CPU-s | wall s | peak GB | own GB | disk GB | exponent | |\n|" + " --- |" * 9
    for step in STEPS:
        lines = sorted(
            (line for (_, name), line in known.items() if name == step), key=lambda one: one["genomes"]
        )
        for before, line in pairwise([{}, *lines]):
            shown = "".join(f" {line[name]:.2f} |" for name in ("cpu", "wall", "peak", "own", "disk"))
            power = ""
            if before:
                power = (
                    f"{np.log(line['cpu'] / before['cpu']) / np.log(line['genomes'] / before['genomes']):.2f}"
                )
            found = ", ".join(
                f"{name} {value:.3f}" if isinstance(value, float) else f"{name} {value}"
                for name, value in line["found"].items()
            )
            yield f"| {step} | {line['genomes']:,} |{shown} {power} | {found} |"


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--genomes", type=int, nargs="+", default=[1_000, 10_000, 50_000, 143_000])
    parser.add_argument("--contigs", type=int, default=8)
    parser.add_argument("--steps", nargs="+", default=list(STEPS), choices=STEPS)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--remove", action="store_true", help="each database when its steps are done")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.folder.mkdir(exist_ok=True)
    if args.here:
        run_step(args)
        return
    for genomes in args.genomes:
        for step in args.steps:
            if (genomes, step) not in figures(args.folder):
                call(args, genomes, step)
        if args.remove:
            shutil.rmtree(args.folder / f"{genomes}.db", ignore_errors=True)
    print("\n".join(table(figures(args.folder))))


if __name__ == "__main__":
    main()
