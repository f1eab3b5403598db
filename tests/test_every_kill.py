"""Every command that writes an index, killed at every step that reaches the disk.

Whatever the step: `db check` calls whole what can be searched and nothing else, a reader that was there
before goes on, all that is in has been whole, and the same command again ends as if nothing had happened.
``KINMER_KILLS=all`` tries every step of every command, a number all commits and so many of each; else few.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kinmer.errors import KinmerError
from kinmer.library import check_index, describe_index, index_rows, open_index
from kinmer.queries import search, search_ids
from tests.kill_worker import Runner
from tests.organisms import encoder_of

THREADS = ("--threads", "1")
# Commands by name; those with "new" make an index, the others change the one that is there.
COMMANDS: dict[str, tuple[str, ...]] = {
    "index new": ("index", "a.fna", "b.fna", "-o", "new.db", "-e", "enc", "--sample-from-file", "--pieces",
                  "2000", "--metadata", "samples.tsv", "--keep-sequences", *THREADS),
    "index force": ("index", "b.fna", "c.fna", "-o", "kin.db", "-e", "enc", "--sample-from-file", "--force",
                    *THREADS),
    "reference new": ("reference", "genomes", "-o", "new.db", "-e", "enc", "--pieces", "2000", "--metadata",
                      "taxa.tsv", *THREADS),
    "reference add": ("reference", "more", "-o", "kin.db", "--metadata", "taxa.tsv", *THREADS),
    "add": ("db", "add", "kin.db", "c.fna", "--genome", "c", "--metadata", "taxa.tsv", *THREADS),
    "update": ("db", "update", "kin.db", "genomes/a.fna", *THREADS),
    "metadata": ("db", "update", "kin.db", "--metadata", "moves.tsv", *THREADS),
    "delete ids": ("db", "delete", "kin.db", "a:contig_1", "b:contig_0"),
    "delete genome": ("db", "delete", "kin.db", "--genome", "b"),
    "delete where": ("db", "delete", "kin.db", "--where", 'genome == "a" or id == "contig_2"'),
    "compact": ("db", "compact", "kin.db", *THREADS),
    "calibrate": ("db", "calibrate", "kin.db", *THREADS),
    "rebuild": ("index", "--rebuild", "kin.db", *THREADS),
}  # fmt: skip
ATOMIC = ("delete ids", "delete genome", "delete where", "metadata", "compact", "calibrate", "rebuild")


def fasta(path: Path, seed: int) -> None:
    """Contigs as every assembler names them; the last one is short."""
    rng = np.random.default_rng(seed)
    share = rng.dirichlet(np.full(4, 4.0))
    lines = []
    for at, length in enumerate((3600, 2400, 1300)):
        lines.append(f">contig_{at}\n{''.join(rng.choice(list('ACGT'), length, p=share).tolist())}\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Runner]]:
    """A folder of inputs, and the process that runs commands."""
    folder = tmp_path_factory.mktemp("ready")
    encoder_of().save(folder / "enc")
    (folder / "genomes").mkdir()
    (folder / "more").mkdir()
    for seed, name in enumerate(("a.fna", "b.fna", "c.fna", "genomes/a.fna", "genomes/b.fna", "more/d.fna")):
        fasta(folder / name, seed)
    ranks = "domain\tgenus\tspecies"
    lines = [f"{name}\tBacteria\tG\tS{name}\n" for name in "abcd"]
    (folder / "taxa.tsv").write_text(f"id\t{ranks}\n" + "".join(lines))
    (folder / "samples.tsv").write_text("id\tgenome\na:contig_0\tx\nb:contig_0\tx\n")
    (folder / "moves.tsv").write_text("id\tgenome\tnote\na:contig_1\tb2\nb:contig_0\tb2\tmoved\n")
    runner = Runner(COMMANDS["index new"], folder)
    shutil.rmtree(folder / "new.db")
    yield folder, runner
    runner.close()


Contents = dict[tuple[str, str], tuple[bytes, str]]


def contents(db: Path) -> Contents:
    """Every entry's vectors and metadata by genome and id."""
    with open_index(db, threads=1) as index, index.reading():
        genomes = index.table.genomes()
        return {
            (genomes[one.genome].name, one.id): (
                index.rows.vectors[one.first : one.first + one.rows].tobytes(),
                repr(one.values),
            )
            for one in index.table.scan()
        }


Answers = list[tuple[str, list[tuple[str | None, str, float]]]]


def answers(db: Path, queries: Path) -> Answers:
    """All that is read of an index: hits of both kinds, by its entries too, its list, its description."""
    found: Answers = []
    for merge in ("sequence", "genome"):
        results = [
            *search(queries, db, k=4, by=merge, exclude_self=True, n_jobs=1),
        ]
        with open_index(db, threads=1) as index:
            names = index.ids.tolist()
        results += search_ids(db, names, k=4, by=merge, n_jobs=1) if names else []
        found += [
            (one.id, [(hit.genome, hit.id, round(hit.distance, 5)) for hit in one.hits]) for one in results
        ]
    assert len(list(index_rows(db))) == describe_index(db).entries
    return found


def names_in(folder: Path) -> set[str]:
    """Files that are there, whatever the generation."""
    return {
        re.sub(r"-\d+\.", "-N.", str(path.relative_to(folder)))
        for path in folder.rglob("*")
        if path.name not in (".kinmer-lock", "entries.sqlite-journal", "checked.json")
        # ChromaDB gives its own files new names at every build.
        and "engine-chroma" not in path.parent.parts
    }


def agree(db: Path, queries: Path) -> bool:
    """Whether an index can be searched; `db check` must say the same."""
    reasons = list[str]()
    try:
        report = check_index(db)
        whole = report.whole
        reasons += report.problems
    except KinmerError as error:
        whole = False
        reasons.append(str(error))
    try:
        answers(db, queries)
        read = True
    except KinmerError as error:
        read = False
        reasons.append(str(error))
    assert whole == read, reasons
    return read


@dataclass
class Trial:
    """A command, and what it makes of a folder that nobody interrupts it in."""

    name: str
    start: Path
    runner: Runner
    before: Contents
    after: Contents
    told: Answers
    left: set[str]
    steps: tuple[str, ...]

    @property
    def db(self) -> str:
        return "new.db" if "new" in self.name else "kin.db"

    def kill(self, at: int, folder: Path) -> None:
        """Kill the command at a step, look, and give it again."""
        work = Path(shutil.copytree(self.start, folder / "work"))
        db, where = work / self.db, f"{self.name}, step {at}: {self.steps[at - 1]}"
        reader = open_index(db, threads=1) if db.exists() and "force" not in self.name else None
        outcome = self.runner.run(COMMANDS[self.name], work, kill_at=at)
        assert outcome.code == -9, (where, outcome)
        if reader is not None:
            with reader:
                queries = np.random.default_rng(at).standard_normal((3, reader.dim)).astype(np.float32)
                for by in ("sequence", "genome"):
                    numbers, _, _ = reader.search(queries, 5, by=by)
                    assert (numbers[:, 0] >= 0).all() or not len(reader), where
                    if by == "sequence":
                        reader.entries(numbers)
                    else:
                        reader.table.first_members(np.unique(numbers[numbers >= 0]).tolist())
        # Whoever looks mends what is derived: a copy is looked at.
        look = Path(shutil.copytree(work, folder / "look"))
        assert agree(look / self.db, look / "c.fna") == (look / self.db).exists(), where
        if (look / self.db).exists():
            now = contents(look / self.db)
            if self.name in ATOMIC:
                assert now in (self.before, self.after), where
            else:
                known = [(key, value[0]) for one in (self.before, self.after) for key, value in one.items()]
                assert all((key, value[0]) in known for key, value in now.items()), where
        # From the last removal on a new index is there and whole: nothing is left that tells of the kill.
        told = self.name == "index new" and db.exists() and not (db / "making.json").exists()
        again = self.runner.run(COMMANDS[self.name], work)
        assert again.code == (2 if told else 0), (where, again.output)
        assert not told or "exists already" in again.output, where
        assert contents(db) == self.after, where
        assert check_index(db).whole, where
        assert check_index(db).notes == (), where
        assert answers(db, work / "c.fna") == self.told, where
        assert names_in(work) == self.left, where
        for name in ("work", "look"):
            shutil.rmtree(folder / name)


def trial(name: str, engine: str, ready: tuple[Path, Runner], folder: Path) -> Trial:
    """What the command makes of a folder where nobody interrupts it."""
    inputs, runner = ready
    work = Path(shutil.copytree(inputs, folder / "work"))

    def do(*argv: str) -> tuple[str, ...]:
        outcome = runner.run(argv, work)
        assert outcome.code == 0, outcome.output
        return outcome.steps

    do(*COMMANDS["reference new"])
    (work / "new.db").rename(work / "kin.db")
    if engine != "hnsw":
        do("index", "--rebuild", "kin.db", "--engine", engine)
    if name == "compact":
        do("db", "delete", "kin.db", "a:contig_0")
    # A new version of a file, for what takes it in again.
    fasta(work / "genomes" / "a.fna", 77)
    before = contents(work / "kin.db")
    start = Path(shutil.copytree(work, folder / "start"))
    steps = do(*COMMANDS[name])
    db = work / ("new.db" if "new" in name else "kin.db")
    made = Trial(
        name, start, runner, before, contents(db), answers(db, work / "c.fna"), names_in(work), steps
    )
    shutil.rmtree(work)
    return made


def some(steps: tuple[str, ...], name: str, engine: str) -> list[int]:
    """Numbers of steps to kill at: all, or some, those between a commit and the end among them."""
    wanted = os.environ.get("KINMER_KILLS", "1")
    if wanted == "all":
        return list(range(1, len(steps) + 1))
    commits = [at for at, step in enumerate(steps, 1) if step == "after commit"]
    rng = np.random.default_rng([*name.encode(), *engine.encode()])
    drawn = rng.choice(np.arange(1, len(steps) + 1), min(int(wanted), len(steps)), replace=False).tolist()
    return sorted({*drawn, *(commits if int(wanted) > 1 else commits[:1])})


# What an engine has a part in, and what it has not.
CASES = [
    *((name, "hnsw") for name in COMMANDS),
    *((name, "exact") for name in ("add", "delete genome", "compact")),
    ("delete genome", "chroma"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "engine"), CASES, ids=lambda one: str(one).replace(" ", "-"))
def test_the_same_command_again_ends_right(
    name: str,
    engine: str,
    ready: tuple[Path, Runner],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if engine == "chroma":
        pytest.importorskip("chromadb")
    made = trial(name, engine, ready, tmp_path)
    assert made.before != made.after or name in ("compact", "calibrate", "rebuild")
    kinds = Counter(step.split()[1] for step in made.steps if " " in step)
    assert kinds["commit"] or name == "rebuild", kinds
    tried = some(made.steps, name, engine)
    for at in tried:
        made.kill(at, tmp_path)
    with (tmp_path_factory.getbasetemp() / "kills.tsv").open("a") as file:
        file.write(f"{name}\t{engine}\t{len(tried)}\t{len(made.steps)}\n")
