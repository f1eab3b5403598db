"""A sweep: optuna draws settings and runs them, each with every seed; what was measured goes in tables.

The study lies in a journal in the sweep's folder, and every trial has a record of its own beside it. A trial
is known by its settings, so that a sweep that is called again runs only what has no record.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from typing import TYPE_CHECKING, Any, get_args

import optuna

from kinmer.errors import FormatError, KinmerError, UsageError
from kinmer.files import clear_temporaries, write_json
from kinmer.folders import FolderKind, Workshop
from kinmer.inputs import read_json
from kinmer.resources import available_cores, available_memory
from kinmer.sweeps.parameters import Range, Sampler, Search, SearchKind, Space, trial_name
from kinmer.sweeps.summaries import ENCODERS, FORMAT, KIND, OUTPUT, SweepReport, short
from kinmer.sweeps.validation import Data, prepared
from kinmer.sweeps.workers import Setup, Task, Workers, is_final
from kinmer.training.settings import TrainSettings, flat

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.profiles import Profiles

Say = Callable[[str], None]
JOURNAL, TRIALS, VALIDATION = "search.journal", "trials", "validation"
# Of the available memory, for the profiles of all trials that run at a time.
MEMORY_SHARE = 0.5
# Of the folders of a trial only the encoders are looked into by name: a training keeps its own files.
SWEEP = FolderKind(
    "sweep",
    OUTPUT,
    lambda marker: marker.get("kind") == KIND,
    r"\.lock|(?:trials|settings)\.tsv|sweep\.(?:md|json)|\.?sweep(?:-map)?\.(?:png|svg)(?:\.new)?"
    r"|search\.journal(?:\.lock)?|trials/[^/]+\.json|validation/(?:queries\.fna(?:\.tsv)?|folds\.tsv)"
    r"|encoders/[^/]+/(?:config\.json|weights\.safetensors|metrics\.jsonl|card\.md|training\.png)"
    r"|encoders/[^/]+/tensorboard/[^/]+|encoders/\.[^/]+/.*|\.validation\..*",
)


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """What a sweep varies and how it scores; raises UsageError where a value makes no sense.

    Parameters
    ----------
    grid, ranges, fixed : training settings by name (``clr.scope`` for a part of one): values to try (a text
        is split at commas), ranges (``"1e-5:1e-3:log"``), and values of all trials.
    preset : that the settings are changes of.
    seeds : every setting is trained with each.
    draws, search, search_seed : ``grid`` takes the whole product; ``random`` draws so many settings, ``tpe``
        (Bergstra et al. 2011, NeurIPS 24:2546) learns from the scores; the draws follow from the seed.
    benchmark, fold, metric : score by retrieval, with the queries of one fold (None: of all) that have their
        species in the database: the share whose nearest entry is of their species, the mean over lengths
        and the cases strain and genome. Without a benchmark the score is the validation loss.
    leave_out : other folds that are not trained on, such as that of the final table. Rows of profiles that
        are of them, or of `fold`, are refused.
    """

    grid: Mapping[str, Sequence[Any]] | None = None
    ranges: Mapping[str, Range | str] | None = None
    fixed: Mapping[str, Any] | None = None
    preset: str = "default"
    seeds: Sequence[int] = (0,)
    draws: int | None = None
    search: SearchKind | None = None
    search_seed: int = 0
    benchmark: str | Path | None = None
    fold: int | None = None
    leave_out: Sequence[int] = ()
    metric: str = "cosine"

    def __post_init__(self) -> None:
        seeds, kind = self.seeds, self.kind
        if kind not in get_args(SearchKind):
            raise UsageError(f"the search is grid, random or tpe, not {kind!r}")
        if kind == "grid" and (self.ranges or self.draws is not None):
            raise UsageError(
                "a grid has values, no ranges and no draws", check="search at random, or with tpe"
            )
        if kind != "grid" and (self.draws is None or self.draws < 1):
            raise UsageError(f"{kind} search needs a number of settings to draw, at least 1")
        whole = all(type(one) is int and one >= 0 for one in seeds)
        if not seeds or len(set(seeds)) != len(seeds) or not whole:
            raise UsageError("seeds are whole numbers of at least 0, one or more, each once")

    @property
    def kind(self) -> SearchKind:
        """How settings are chosen."""
        return self.search or ("random" if self.draws is not None else "grid")

    def space(self) -> Space:
        """All settings that may be tried."""
        return Space.of(self.preset, self.grid or {}, self.ranges or {}, self.fixed or {})


def sweep(
    source: str | Path | AnnData | Profiles,
    output: str | Path,
    *,
    ids: str | Path | None = None,
    jobs: int = 1,
    device: str = "auto",
    threads: int | None = None,
    memory: int | None = None,
    force: bool = False,
    log: Say | None = None,
    **settings: Any,
) -> SweepReport:
    """Train with many settings and seeds, score each, and write tables and pictures.

    Parameters
    ----------
    source, ids : str | Path | AnnData | Profiles
        What `kinmer.train` takes; on disk where `jobs` is above 1.
    output : str | Path
        Folder of the sweep. The same call resumes it: what is finished is not run again, a training that
        was cut off resumes at its checkpoint. Another grid adds to it.
    jobs : int
        Trials at a time, each in a process of its own.
    threads, memory : int | None
        Of all trials together: cores, and bytes that profiles may take.
    force : bool
        Drop what another sweep left in the folder.
    log : Say | None
        Takes a line a trial, and notes.
    settings : the fields of `SweepSettings`: ``grid``, ``seeds``, ``benchmark`` and so on.

    Raises
    ------
    UsageError : settings, a folder of another sweep, species of the queries among the training rows.
    KinmerError : no trial ended well; and what `open_profiles` and `open_benchmark` raise.
    KeyboardInterrupt : with what is done in the tables.
    """
    given = SweepSettings(**settings)
    space = given.space()
    if jobs < 1 or (threads is not None and threads < 1):
        raise UsageError("jobs and threads are at least 1")
    asked = Data(source, ids, given.benchmark, given.fold, tuple(given.leave_out), given.metric)
    say = log or (lambda line: None)
    data = prepared(asked, say)
    if jobs > 1 and not isinstance(data.source, str):
        raise UsageError("profiles in memory are for one job", check="write a store, or give jobs=1")
    folder = Path(output)
    with opened(folder, force):
        stamp(folder, data.signature)
        for name in (ENCODERS, TRIALS):
            (folder / name).mkdir(exist_ok=True)
        validation = data.validation(asked, folder / VALIDATION)
        setup = Setup(data.source, data.options, validation, device, *_shares(jobs, threads, memory))
        plan = Search(given.kind, space, given.draws or 0, given.search_seed, data.signature["maximise"])
        return _Run(folder, data.signature, plan, tuple(given.seeds), Workers(setup, jobs), say).all()


def _shares(jobs: int, threads: int | None, memory: int | None) -> tuple[int | None, int | None]:
    """Threads and memory of one trial; what one alone takes is left to it."""
    if jobs == 1:
        return threads, memory
    whole = int(available_memory() * MEMORY_SHARE) if memory is None else memory
    return max(1, (threads or available_cores()) // jobs), whole // jobs


# ---- the folder


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
    with Workshop(folder, make=True, busy="another process is at this sweep") as workshop:
        clear_temporaries(folder)
        if force:
            if (strange := SWEEP.strange(folder)) is not None:
                raise UsageError(
                    f"the output holds {strange}, which kinmer did not write",
                    "starting afresh would remove it",
                    "move it away, or choose a new folder",
                    place=folder,
                )
            workshop.clear()
        yield


def stamp(folder: Path, signature: Mapping[str, Any]) -> None:
    """Write the signature where there is none; refuse another one: its scores could not be compared."""
    if not (folder / OUTPUT).exists():
        write_json(folder / OUTPUT, {"kind": KIND, "format": FORMAT, "signature": signature})
        return
    there = read_json(folder / OUTPUT)
    if there.get("kind") != KIND or there.get("format") != FORMAT:
        raise FormatError(f"this is not a sweep of format {FORMAT}", place=folder)
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


# ---- the run


class _FailedError(Exception):
    """A setting without a score: one of its trials failed."""


class _Run:
    """One call: what is left of the sweep, setting by setting."""

    def __init__(
        self,
        folder: Path,
        signature: Mapping[str, Any],
        search: Search,
        seeds: tuple[int, ...],
        workers: Workers,
        say: Say,
    ) -> None:
        self._folder, self._signature, self._search = folder, signature, search
        self._seeds, self._workers, self._say = seeds, workers, say
        self._records = {path.stem: read_json(path) for path in sorted((folder / TRIALS).glob("*.json"))}
        self._names = search.space.names
        self._tried: set[str] = set()  # what this call has run: not again, however it ended
        self._trial_locks: dict[str, Lock] = defaultdict(Lock)
        self._lock = RLock()
        self._broken: BaseException | None = None

    def all(self) -> SweepReport:
        """Run what is left; the report of all that is in the folder."""
        search, seeds = self._search, len(self._seeds)
        study = search.study(self._folder / JOURNAL)
        known = search.known(study)
        number = search.number if search.kind == "tpe" else len(known)
        left = [one for one in known if not self._finished(one)]
        new = number - len(known)
        self._total, self._ended = number * seeds, (len(known) - len(left)) * seeds
        self._say(f"{self._total} trials: {number} settings, {seeds} seeds")
        study.sampler = Sampler(search, left, len(known))
        try:
            if left or new:
                self._optimize(study, len(left) + new)
        finally:
            report = self._report()
            if self._records:
                report.draw()
                report.write()
        if report.best is None:
            first = report.trials[0]["error"] if report.trials else "none was begun"
            raise KinmerError(f"none of the {len(report.trials)} trials ended well", f"the first: {first}")
        return report

    def _finished(self, params: Mapping[str, Any]) -> bool:
        """Whether every trial of a setting has a record that stays."""
        try:
            names = [trial_name(one) for one in self._settings(self._search.varied(params))]
        except UsageError:
            return False
        return all(name in self._records and is_final(self._records[name]) for name in names)

    def _settings(self, varied: Mapping[str, Any]) -> list[TrainSettings]:
        return [self._search.space.settings(varied, seed) for seed in self._seeds]

    def _optimize(self, study: optuna.Study, number: int) -> None:
        """Let optuna run so many settings, as many at a time as there are jobs for."""
        jobs = self._workers.jobs
        if jobs == 1:
            study.optimize(lambda trial: self._score(trial, map), n_trials=number, catch=(_FailedError,))
            return
        # The draws of tpe wait for scores; those of the others do not.
        at_once = -(-jobs // len(self._seeds)) if self._search.kind == "tpe" else jobs
        with ThreadPoolExecutor(jobs) as trials, ThreadPoolExecutor(1) as main:
            # Beside the main thread, so that Ctrl-C is seen here at once.
            done = main.submit(
                study.optimize,
                lambda trial: self._score(trial, trials.map),
                n_trials=number,
                n_jobs=at_once,
                catch=(_FailedError,),
            )
            try:
                done.result()
            except BaseException:
                self._stop(done)
                raise
        if self._broken is not None:
            raise self._broken

    def _stop(self, done: Future[None]) -> None:
        """Interrupt the trials, which then write a checkpoint; a second Ctrl-C ends them at once."""
        try:
            self._workers.interrupt()
            wait([done])
        except KeyboardInterrupt:
            self._workers.kill()

    def _score(self, trial: optuna.Trial, run: Callable[..., Iterator[dict[str, Any]]]) -> float:
        """The mean score of a setting over its seeds: what optuna maximizes or minimizes."""
        varied = self._search.suggested(trial)
        try:
            settings = self._settings(varied)
        except UsageError as error:
            self._say(f"{_named(varied)}  left out: {error}")
            raise _FailedError from None
        try:
            records = list(run(self._record, settings))
        except BaseException as error:
            # optuna's threads keep their last errors to themselves.
            self._broken = self._broken or error
            self._workers.interrupt()
            trial.study.stop()
            raise
        scores = [one["score"] for one in records if one["state"] == "done"]
        if len(scores) < len(records):
            raise _FailedError
        return float(sum(scores) / len(scores))

    def _record(self, settings: TrainSettings) -> dict[str, Any]:
        """The record of one trial, which is run where there is none that stays."""
        name = trial_name(settings)
        with self._lock:
            lock = self._trial_locks[name]
        with lock:
            record = self._records.get(name)
            if record is None or not (is_final(record) or name in self._tried):
                task = Task(name, settings.to_dict(), str((self._folder / ENCODERS / name).absolute()))
                record = self._workers.run(task)
                self._keep(record)
            else:
                self._ended += 1
        return record

    def _keep(self, record: dict[str, Any]) -> None:
        with self._lock:
            name = record["name"]
            write_json(self._folder / TRIALS / f"{name}.json", record)
            self._records[name] = record
            self._tried.add(name)
            self._ended += 1
            self._report().write()
            self._say(f"{self._ended}/{self._total}  {self._line(record)}")

    def _report(self) -> SweepReport:
        return SweepReport.of(self._folder, self._signature, list(self._records.values()), self._names)

    def _line(self, record: Mapping[str, Any]) -> str:
        settings = flat(record["settings"])
        named = _named({name: settings[name] for name in (*self._names, "seed")})
        if record["state"] != "done":
            return f"{named}  failed: {record['error']}"
        loss = f"val {record['validation_loss']:.2f}  epoch {record['epoch']}/{record['epochs']}"
        score = f"{self._signature['score']} {record['score']:.4f}  " if self._signature["maximise"] else ""
        return f"{named}  {score}{loss}  {record['seconds']:.0f} s"


def _named(values: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={short(value)}" for name, value in values.items())
