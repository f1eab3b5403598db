"""Commands killed before any change of a file: called again they end as if nothing had been, without litter.

``python -m tests.test_command_kills 300`` kills so many runs, of all commands or of those named behind.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command_worker import act

LETTERS = np.frombuffer(b"ACGT", np.uint8)
# By name: arguments, run in a folder with what `inputs` makes.
COMMANDS = {
    "count": "count a.fa b.fa -o new.zarr --max-k 3",
    "count over": "count a.fa -o raw.zarr --max-k 3 --force",
    "count more": "count b.fa -o raw.zarr --max-k 3 --append",
    "import": "import table.npy table.txt -o new.zarr",
    "export": "export six.zarr new.npy new.txt",
    "embed": "embed raw.zarr -e encoder",
    "embed apart": "embed raw.zarr -e encoder -o new.npy",
    "embed sequences": "embed a.fa -e encoder -o new.npy",
    "embed into a store": "embed a.fa -e encoder -o new.zarr",
    "fragment": "fragment a.fa b.fa -o new.fna.gz --length 500 --per-sequence 2",
    "benchmark": "fragment a.fa b.fa -o new --benchmark --labels labels.tsv --lengths 500 --folds 2",
    "fit": "fit -o new --method 4-mer",
    "fit over": "fit a.fa -o encoder --method raw --max-k 3 --no-coding --force",
    "train": "train raw.zarr -o new --epochs 2 --threads 1",
    "map": "map embedded.zarr -o new --iterations 30 --threads 1",
    "map apart": "map embedded.zarr -o new --iterations 30 --threads 1 --no-keep",
    "map over": "map embedded.zarr -o old --iterations 30 --threads 1 --no-keep --force",
    "cluster": "cluster embedded.zarr -o new --threads 1",
    "cluster over": "cluster embedded.zarr -o clusters --threads 1 --no-keep --force",
    "analyze": "analyze distances embedded.zarr -o new --pairs 500",
    "report": "report embedded.zarr -o new.html --threads 1",
    "verify": "verify embedded.zarr -o new --bootstrap 2 -k 5",
    "clusters": "evaluate clusters clusters/cluster_members.tsv --labels labels.tsv --rank genome_id -o new",
    "search": "search a.fa --db kin.db -o new.tsv --threads 1",
}
# Their outputs tell how long they took.
TIMED = {"train"}


def run(folder: Path, command: str, kill: int | None = None, number: int = signal.SIGKILL) -> tuple[Any, ...]:
    """Exit code (negative: the signal), what was said, and events; of a killed one the code alone."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.command_worker"])
    ours, theirs = context.Pipe(duplex=False)
    argv = ["--quiet", *command.split()]
    worker = context.Process(target=act, args=(folder, argv, kill, number, theirs), daemon=True)
    worker.start()
    theirs.close()
    try:
        assert ours.poll(600), "the command hangs"
        return tuple(ours.recv())
    except EOFError:
        worker.join()
        # Its end is told as soon as its first files are closed; its locks may be among the last ones.
        while worker.pid is not None and Path(f"/proc/{worker.pid}").exists():
            time.sleep(0.01)
        return (worker.exitcode,)


def inputs(folder: Path) -> Path:
    """A folder with something for every command."""
    folder.mkdir()
    rng = np.random.default_rng(5)
    labels = ["sequence_id\tgenome_id\tspecies"]
    for file, number in (("a", 12), ("b", 9)):
        with (folder / f"{file}.fa").open("w") as fasta:
            for at in range(number):
                shares = rng.dirichlet(np.full(4, 3.0))
                letters = LETTERS[rng.choice(4, size=3000, p=shares)].tobytes().decode()
                fasta.write(f">{file}{at}\n{letters}\n")
                labels.append(f"{file}{at}\tg{file}{at // 2}\ts{file}{at // 4}")
    (folder / "labels.tsv").write_text("\n".join(labels) + "\n")
    for command in (
        "count a.fa -o raw.zarr --max-k 3",
        "count a.fa -o six.zarr",
        "export six.zarr table.npy table.txt",
        "fit a.fa -o encoder --method raw --max-k 3 --no-coding",
        "count a.fa b.fa -o embedded.zarr --max-k 3",
        "embed embedded.zarr -e encoder",
        "map embedded.zarr -o old --iterations 20 --threads 1 --no-keep",
        "cluster embedded.zarr -o clusters --threads 1 --no-keep -k 5",
        "index embedded.zarr -o kin.db --engine exact",
    ):
        code, said, _ = run(folder, command)
        assert code == 0, (command, said)
    return folder


def tree(folder: Path, *, timed: bool = False) -> dict[str, str]:
    """Hash of every file and folder below, hidden ones among them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        skipped = timed and name.startswith("new/") and path.suffix != ".safetensors"
        # A note of inodes and times, other ones at every layout.
        skipped = skipped or path.name == "checked.json"
        whole = path.is_file() and not skipped and "tensorboard" not in name
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if whole else ""
    # A lock that nobody holds is nobody's: the next writer of the store takes it away.
    return {
        name: one
        for name, one in found.items()
        if "tensorboard/" not in name and not name.endswith("/.kinmer-lock")
    }


class Bench:
    """A folder that is laid out afresh for every run, always under the same path."""

    def __init__(self, folder: Path) -> None:
        self.work = folder / "work"
        self.kept = inputs(folder / "work").rename(folder / "kept")
        self.wanted: dict[str, tuple[dict[str, str], int]] = {}

    def lay(self) -> Path:
        """The inputs, and nothing else."""
        shutil.rmtree(self.work, ignore_errors=True)
        shutil.copytree(self.kept, self.work)
        return self.work

    def undisturbed(self, name: str) -> tuple[dict[str, str], int]:
        """What a run leaves that nobody ends, and how many events it has."""
        if name not in self.wanted:
            code, said, events = run(self.lay(), COMMANDS[name])
            assert code == 0, (name, said)
            self.wanted[name] = tree(self.work, timed=name in TIMED), events
        return self.wanted[name]

    def check(self, name: str, kill: int, number: int = signal.SIGKILL) -> str:
        """Kill a run, and hold what the same command makes of it against an undisturbed one."""
        wanted, _ = self.undisturbed(name)
        first = run(self.lay(), COMMANDS[name], kill, number)
        if number == signal.SIGKILL:
            if first[0] == 0:
                return "not met"  # Threads take turns: this time there were fewer events.
            assert first == (-signal.SIGKILL,), (name, kill, first)
        elif first[0] not in (0, 2):
            assert first[0] == 130, (name, kill, first)
            assert first[1].startswith("interrupted"), first
            assert first[1].count("\n") == 1, first
        code, said, _ = run(self.work, COMMANDS[name])
        found = tree(self.work, timed=name in TIMED)
        differing = sorted(one for one in wanted.keys() | found.keys() if wanted.get(one) != found.get(one))
        assert not differing, (name, kill, code, said, differing[:9])
        # Killed after its last step the first run has done it all.
        assert code == 0 or (code == 2 and ("exists already" in said or "already" in said)), (
            name,
            kill,
            said,
        )
        return "again" if code == 0 else "whole"


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("kills"))


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_killed_command_ends_right_when_it_is_called_again(bench: Bench, name: str) -> None:
    _, events = bench.undisturbed(name)
    # The last events are the renaming of what is whole; one kill anywhere.
    rng = np.random.default_rng(len(name))
    for kill in (int(rng.integers(1, events + 1)), int(rng.integers(max(1, events - 8), events + 1))):
        bench.check(name, kill)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_are_told_and_leave_nothing_that_is_in_the_way(bench: Bench, number: int) -> None:
    for name in ("count", "map apart", "report", "search"):
        _, events = bench.undisturbed(name)
        bench.check(name, max(1, events // 2), number)


def main(kills: int, names: Sequence[str]) -> None:
    """Kill so many runs, at events that are spread over each command."""
    seen: Counter[str] = Counter()
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder).resolve())
        each = -(-kills // len(names))
        for name in names:
            _, events = bench.undisturbed(name)
            chosen = sorted({int(at) for at in np.linspace(1, events, each).round()})
            for kill in chosen:
                try:
                    seen[bench.check(name, kill)] += 1
                except AssertionError as error:
                    wrong.append(str(error)[:900])
                    sys.stderr.write(f"{wrong[-1]}\n")
            sys.stderr.write(
                f"{name:<22}{events:>6} events {len(chosen):>4} kills {len(wrong):>4} wrong so far\n"
            )
    sys.stdout.write(
        json.dumps({"kills": sum(seen.values()) + len(wrong), **seen, "wrong": wrong}, indent=1) + "\n"
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:] or list(COMMANDS))
