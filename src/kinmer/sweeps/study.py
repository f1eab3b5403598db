"""Which settings are tried next: an optuna study in a journal beside the trials."""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from kinmer.errors import FormatError, KinmerError, UsageError, require
from kinmer.files import clear_temporaries, read_json, remove, write_json
from kinmer.folders import FolderKind
from kinmer.layout import Layout
from kinmer.resources import available_cores, available_memory
from kinmer.sweeps.parameters import Range, Space, trial_name
from kinmer.sweeps.summaries import ENCODERS, FORMAT, KIND, OUTPUT, SweepReport, short
from kinmer.sweeps.trials import Data, Setup, Task, is_final, prepared
from kinmer.sweeps.workers import Here, Processes, Runner
from kinmer.training.settings import flat

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles
    from kinmer.sweeps.search import Draw, Search, SearchKind

__all__ = ["opened", "stamp", "sweep"]


LOCK = ".lock"
# Of the folders of a trial only the encoders are looked into by name: a training keeps its own files.
SWEEP = FolderKind(
    "sweep",
    OUTPUT,
    lambda told: told.get("kind") == KIND,
    r"\.lock|(?:trials|settings)\.tsv|sweep\.(?:md|json)|\.?sweep(?:-map)?\.(?:png|svg)(?:\.new)?"
    r"|search\.journal(?:\.lock)?|trials/[^/]+\.json|validation/(?:queries\.fna(?:\.tsv)?|folds\.tsv)"
    r"|encoders/[^/]+/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md|training\.png)"
    r"|encoders/[^/]+/tensorboard/[^/]+|encoders/\.[^/]+/.*|\.validation\..*",
)


@contextmanager
def opened(folder: Path, force: bool) -> Iterator[None]:
    """Hold the sweep's folder, which is made where there is none; `force` empties it.

    Raises UsageError where it holds something else or another process sweeps in it.
    """
    if not folder.absolute().parent.is_dir():
        raise UsageError(f"the folder {folder.absolute().parent} does not exist", place=folder)
    if folder.exists() and not folder.is_dir():
        raise UsageError("the output is a file", "a sweep is a folder", place=folder)
    if folder.is_dir() and not (folder / OUTPUT).exists() and SWEEP.strange(folder) is not None:
        raise UsageError("the output holds no sweep", check="choose a new folder", place=folder)
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError("another process is at this sweep", check="wait for it", place=folder) from None
        clear_temporaries(folder)
        if force:
            if (strange := SWEEP.strange(folder)) is not None:
                raise UsageError(
                    f"the output holds {strange}, which kinmer did not write",
                    "starting afresh would remove it",
                    "move it away, or choose a new folder",
                    place=folder,
                )
            for path in folder.iterdir():
                if path.name != LOCK:
                    remove(path)
        yield


def stamp(folder: Path, signature: Mapping[str, Any]) -> None:
    """Write the signature where there is none; refuse another one: its scores could not be compared."""
    if not (folder / OUTPUT).exists():
        write_json(folder / OUTPUT, {"kind": KIND, "format": FORMAT, "signature": signature})
        return
    there = read_json(folder / OUTPUT)
    if there.get("kind") != KIND or there.get("format") != FORMAT:
        raise FormatError(f"this is no sweep of format {FORMAT}", place=folder)
    old = there.get("signature", {})
    if old != signature:
        before, now = old.get("data", {}), signature["data"]
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        raise UsageError(
            "the folder holds a sweep of other data",
            f"it differs in {', '.join(names) or 'the score'}",
            "choose a new folder, or --force to start afresh",
            place=folder,
        )


Record = Mapping[str, Any]
Say = Callable[[str], None]
JOURNAL, TRIALS, VALIDATION = "search.journal", "trials", "validation"
# Of the available memory, for the profiles of all trials that run at a time.
MEMORY_SHARE = 0.5


def sweep(
    source: str | Path | AnnData | Profiles | Sequence[str | Path],
    output: str | Path,
    *,
    grid: Mapping[str, Sequence[Any]] | None = None,
    ranges: Mapping[str, Range | str] | None = None,
    fixed: Mapping[str, Any] | None = None,
    preset: str = "default",
    seeds: Sequence[int] = (0,),
    draws: int | None = None,
    search: SearchKind | None = None,
    search_seed: int = 0,
    benchmark: str | Path | None = None,
    fold: int | None = None,
    leave_out: Sequence[int] = (),
    metric: str = "cosine",
    labels: str | Path | None = None,
    layout: Layout | None = None,
    jobs: int = 1,
    ids: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    memory: int | None = None,
    force: bool = False,
    log: Say | None = None,
) -> SweepReport:
    """Train with many settings and seeds, score each, and write tables and pictures; goes on when cut off.

    Parameters
    ----------
    source, ids, labels, layout : what `kinmer.train` takes; on disk where `jobs` is above 1.
    output : folder of the sweep. A trial is known by its settings: what an earlier call finished there is
        not run again, a training that was cut off goes on with its checkpoint, and another grid adds to it.
    grid, ranges, fixed : training settings by name (``clr.scope`` for a part of one): values to try (a text
        is split at commas), ranges (``"1e-5:1e-3:log"``), and values of all trials.
    preset : that the settings are changes of.
    seeds : every setting is trained with each.
    draws, search, search_seed : ``grid`` takes the whole product; ``random`` draws so many settings, ``tpe``
        (Bergstra et al. 2011, NeurIPS 24:2546) learns from the scores; the draws follow from the seed.
    benchmark, fold, metric : score by retrieval, with the queries of one fold (None: of all) that have their
        species in the database: the share whose nearest entry is of their species, the mean over lengths
        and the cases strain and genome. Without a benchmark the score is the validation loss, of a training
        on FASTA files its own retrieval of held-out species.
    leave_out : other folds that are not trained on, such as that of the final table. FASTA files of the
        benchmark are trained on without them and without `fold`; rows of profiles are refused.
    jobs : trials at a time, each in a process of its own.
    threads, memory : of all trials together: cores, and bytes that profiles may take.
    force : drop what another sweep left in the folder.
    log : takes a line a trial, and notes.

    Raises UsageError (settings, folder of another sweep, species of the queries among the training rows) and
    what `open_profiles` and `open_benchmark` raise; KinmerError where no trial ended well;
    KeyboardInterrupt, with what is done in the tables.
    """
    kind = _search_kind(search, draws, ranges)
    space = Space.of(preset, grid or {}, ranges or {}, fixed or {})
    _check_numbers(seeds, jobs, threads, kind, draws)
    given = Data(
        source=source,
        ids=ids,
        labels=labels,
        layout=layout,
        benchmark=benchmark,
        fold=fold,
        leave_out=tuple(leave_out),
        metric=metric,
    )
    folder, say = Path(output), log or (lambda line: None)
    found = prepared(given, say)
    if jobs > 1 and not isinstance(found.source, str | list):
        raise UsageError("profiles in memory are for one job", check="write a store, or give jobs=1")
    if not isinstance(found.source, list):
        _refuse_pairs(space)
    with opened(folder, force):
        stamp(folder, found.signature)
        for name in (ENCODERS, TRIALS):
            (folder / name).mkdir(exist_ok=True)
        threads, memory = _shares(jobs, threads, memory)
        setup = Setup(
            source=found.source,
            validation=found.validation(given, folder / VALIDATION),
            options=found.options,
            device=device,
            threads=threads,
            memory=memory,
        )

        wanted = len(space.product()) if kind == "grid" else draws or 0
        study = Search(
            folder / JOURNAL,
            space,
            kind,
            draws=wanted,
            seed=search_seed,
            maximise=found.signature["maximise"],
        )
        run = _Run(folder, found.signature, space, study, tuple(seeds), wanted, say)
        return run.all(Processes(setup, jobs) if jobs > 1 else Here(setup))


def _search_kind(
    search: SearchKind | None, draws: int | None, ranges: Mapping[str, Any] | None
) -> SearchKind:
    require("optuna", "a sweep needs it", "sweep")
    require("torch", "training needs it", "train")

    kind = search or ("random" if draws is not None else "grid")
    if kind not in get_args(SearchKind):
        raise UsageError(f"the search is grid, random or tpe, not {kind!r}")
    if kind == "grid" and (ranges or draws is not None):
        raise UsageError("a grid has values, no ranges and no draws", check="search at random, or with tpe")
    if kind != "grid" and (draws is None or draws < 1):
        raise UsageError(f"{kind} search needs a number of settings to draw, at least 1")
    return kind


def _refuse_pairs(space: Space) -> None:
    """UsageError where a training of the sweep needs sequences."""
    if any(space.settings(one, 0).objective != "vae" for one in space.product()):
        raise UsageError(
            "profiles are no pairs of fragments",
            "pairs are drawn from the sequences themselves",
            "give the FASTA files, or train with the objective vae",
        )


def _shares(jobs: int, threads: int | None, memory: int | None) -> tuple[int | None, int | None]:
    """Threads and memory of one trial; what one alone takes is left to it."""
    if jobs == 1:
        return threads, memory
    whole = int(available_memory() * MEMORY_SHARE) if memory is None else memory
    return max(1, (threads or available_cores()) // jobs), whole // jobs


def _check_numbers(
    seeds: Sequence[int], jobs: int, threads: int | None, kind: SearchKind, draws: int | None
) -> None:
    if not seeds or len(set(seeds)) != len(seeds) or not all(type(one) is int and one >= 0 for one in seeds):
        raise UsageError("seeds are whole numbers of at least 0, one or more, each once")
    if jobs < 1 or (threads is not None and threads < 1):
        raise UsageError("jobs and threads are at least 1")


class _Run:
    """One call: what is left of the sweep, trial by trial."""

    def __init__(
        self,
        folder: Path,
        signature: Mapping[str, Any],
        space: Space,
        study: Search,
        seeds: tuple[int, ...],
        wanted: int,
        say: Say,
    ) -> None:
        self._folder, self._signature, self._space, self._study = folder, signature, space, study
        self._seeds, self._wanted, self._say = seeds, wanted, say
        self._records = {path.stem: read_json(path) for path in sorted((folder / TRIALS).glob("*.json"))}
        self._total = wanted * len(seeds)
        self._running: set[str] = set()
        self._again: set[str] = set()  # what this call has run: not a third time, however it ended
        # Trials that a setting still waits for; draws of the same settings wait for the same trials.
        self._waiting: list[tuple[Draw, list[str]]] = []
        self._ended = 0

    def all(self, runner: Runner) -> SweepReport:
        """Run what is left; the report of all that is in the folder."""
        self._say(f"{self._total} trials: {self._wanted} settings, {len(self._seeds)} seeds")
        try:
            with runner:
                for task, record in runner.run(self._tasks()):
                    self._keep(task, record)
        finally:
            report = self._report()
            if self._records:
                report.draw()
                report.write()
        if report.best is None:
            first = report.trials[0]["error"] if report.trials else "none was begun"
            raise KinmerError(f"none of the {len(report.trials)} trials ended well", f"the first: {first}")
        return report

    def _tasks(self) -> Iterator[Task]:
        """Trials that are left, of settings drawn before and then of new ones."""
        for draw in self._study.begun():
            yield from self._of(draw)
        while (one := self._study.ask()) is not None:
            yield from self._of(one)

    def _of(self, draw: Draw) -> Iterator[Task]:
        """The trials of a setting that nobody has run."""
        try:
            settings = [self._space.settings(draw.varied, seed) for seed in self._seeds]
        except UsageError as error:
            self._say(f"{_named(draw.varied)}  left out: {error}")
            self._ended += len(self._seeds)
            self._study.tell(draw, None)
            return
        names = [trial_name(one) for one in settings]
        for name, one in zip(names, settings, strict=True):
            if name in self._running:
                continue
            if name in self._records and (is_final(self._records[name]) or name in self._again):
                self._ended += 1
                continue
            self._running.add(name)
            yield Task(name, one.to_dict(), str((self._folder / ENCODERS / name).absolute()))
        self._waiting.append((draw, names))
        self._tell()

    def _keep(self, task: Task, record: dict[str, Any]) -> None:
        write_json(self._folder / TRIALS / f"{task.name}.json", record)
        self._records[task.name] = record
        self._running.remove(task.name)
        self._again.add(task.name)
        self._ended += 1
        self._say(f"{self._ended}/{self._total}  {self._line(record)}")
        self._report().write()
        self._tell()

    def _tell(self) -> None:
        """Give the study the means of the settings whose trials are all there."""
        left = []
        for draw, names in self._waiting:
            if self._running.intersection(names):
                left.append((draw, names))
            elif not draw.told:
                records = [self._records[name] for name in names]
                scores = [one["score"] for one in records if one["state"] == "done"]
                self._study.tell(draw, sum(scores) / len(scores) if len(scores) == len(names) else None)
        self._waiting = left

    def _report(self) -> SweepReport:
        return SweepReport.of(self._folder, self._signature, list(self._records.values()), self._space.names)

    def _line(self, record: Record) -> str:
        told = flat(record["settings"])
        named = _named({name: told[name] for name in (*self._space.names, "seed")})
        if record["state"] != "done":
            return f"{named}  failed: {record['error']}"
        loss = f"val {record['validation_loss']:.2f}  epoch {record['epoch']}/{record['epochs']}"
        score = f"{self._signature['score']} {record['score']:.4f}  " if self._signature["maximise"] else ""
        return f"{named}  {score}{loss}  {record['seconds']:.0f} s"


def _named(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in values.items())
