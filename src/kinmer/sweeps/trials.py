"""Queries of a benchmark that trials are scored with, and that none of their species is trained on."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinmer.errors import KinmerError, UsageError
from kinmer.evaluate.retrieval import evaluate_retrieval
from kinmer.fasta import nonempty, read_blocks, read_records
from kinmer.files import built_aside, hash_file, hash_ids, replaced_text
from kinmer.fragments import Benchmark, open_benchmark, read_labels
from kinmer.fragments.benchmarks import FOLDS
from kinmer.fragments.cuts import clean
from kinmer.layout import Layout, profile_layout
from kinmer.profiles import open_profiles
from kinmer.training.settings import fasta_files, refuse_labels

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.profiles import Profiles

__all__ = [
    "CASES",
    "Data",
    "Prepared",
    "Setup",
    "Task",
    "Validation",
    "failure",
    "folds_of",
    "is_final",
    "prepared",
    "run_trial",
    "score_of",
    "trained_on",
    "write_validation",
]


# The database has the species in these cases, as another strain or another part of the genome.
CASES = ("strain", "genome")
QUERIES, LABELS = "queries.fna", "queries.fna.tsv"
FRAGMENT = re.compile(r"(.*):\d+-\d+:[+-]")


@dataclass(frozen=True)
class Validation:
    """A database, the queries that are asked of it, and the labels of both."""

    database: str
    queries: str
    database_labels: str
    query_labels: str
    metric: str = "cosine"

    def measure(self, encoder: Encoder, *, device: str, threads: int | None) -> dict[str, dict[str, float]]:
        """Share of the queries whose nearest entry is of their species, by case and length."""
        report = evaluate_retrieval(
            encoders={"trial": encoder},
            database=self.database,
            queries=self.queries,
            database_labels=self.database_labels,
            query_labels=self.query_labels,
            metric="l2" if self.metric == "l2" else "cosine",
            bootstrap=0,
            device=device,
            threads=threads,
        )
        found: dict[str, dict[str, float]] = {case: {} for case in CASES}
        for one in report.scores:
            wanted = one.rank == "species" and one.measure == "at_1" and one.domain == "all"
            if wanted and one.case in CASES and one.length != "all" and one.value is not None:
                found[one.case][one.length] = one.value
        return {case: cells for case, cells in found.items() if cells}


def score_of(cells: Mapping[str, Mapping[str, float]]) -> float:
    """The mean over all cases and lengths, each counting the same however many queries it has."""
    values = [value for lengths in cells.values() for value in lengths.values()]
    return sum(values) / len(values)


def write_validation(benchmark: Benchmark, fold: int | None, folder: Path, metric: str) -> Validation:
    """Put the queries of `fold` (None: of all folds) that have a species to find into `folder`.

    Raises UsageError where there are none.
    """
    labels = read_labels(benchmark.query_labels, ("id",))
    chosen = {
        one
        for one in labels.rows
        if labels.value(one, "case") in CASES
        and labels.value(one, "species")
        and (fold is None or labels.value(one, "fold") == str(fold))
    }
    if not chosen:
        folds = sorted({labels.value(one, "fold") for one in labels.rows})
        raise UsageError(
            "no query of the benchmark has a species to find" + ("" if fold is None else f" in fold {fold}"),
            f"folds with queries: {', '.join(folds)}",
            place=benchmark.folder,
        )
    if not (folder / LABELS).exists():
        with built_aside(folder) as aside:
            _write_queries(benchmark, chosen, aside)
    return Validation(
        database=str(benchmark.database.absolute()),
        queries=str((folder / QUERIES).absolute()),
        database_labels=str(benchmark.database_labels.absolute()),
        query_labels=str((folder / LABELS).absolute()),
        metric=metric,
    )


def _write_queries(benchmark: Benchmark, chosen: set[str], folder: Path) -> None:
    with (folder / QUERIES).open("wb") as file:
        for name, letters in read_records(benchmark.queries):
            if name in chosen:
                file.write(b">%b\n%b\n" % (name.encode(), letters))
    lines = benchmark.query_labels.read_text(encoding="utf-8").splitlines(keepends=True)
    place = lines[0].rstrip("\n").split("\t").index("id")
    kept = [line for line in lines[1:] if line.rstrip("\n").split("\t")[place] in chosen]
    (folder / LABELS).write_text("".join([lines[0], *kept]), encoding="utf-8")


def folds_of(benchmark: Benchmark) -> dict[str, str]:
    """The fold of every labelled sequence."""
    labels = read_labels(benchmark.folder / FOLDS)
    return {one: labels.value(one, "fold") for one in labels.rows}


def trained_on(ids: Iterable[Any], benchmark: Benchmark, folds: Container[str] | None) -> tuple[int, int]:
    """How many of the training rows `ids` are of the benchmark's genomes, and how many of these of `folds`.

    Rows are told by their ids: a sequence's, or one of its fragments'. None: all folds.
    """
    fold_of = {clean(one): fold for one, fold in folds_of(benchmark).items()}
    known = inside = 0
    for one in map(str, ids):
        cut = FRAGMENT.fullmatch(one)
        found = fold_of.get(clean(one)) or (fold_of.get(cut.group(1)) if cut else None)
        known += found is not None
        inside += found is not None and (folds is None or found in folds)
    return known, inside


Say = Callable[[str], None]
RETRIEVAL, HELD_OUT, LOSS = "species@1", "retrieval of held-out species", "validation loss"
OUT, IN = "out", "in"


@dataclass(frozen=True, kw_only=True)
class Data:
    """What `sweep` was given; the meaning is told there."""

    source: str | Path | AnnData | Profiles | Sequence[str | Path]
    ids: str | Path | None
    labels: str | Path | None
    layout: Layout | None
    benchmark: str | Path | None
    fold: int | None
    leave_out: tuple[int, ...]
    metric: str


class Prepared(NamedTuple):
    """signature : JSON-able, of data and score. source, options : of `kinmer.train`, JSON where on disk."""

    signature: dict[str, Any]
    source: Any
    options: dict[str, Any]
    benchmark: Benchmark | None

    def validation(self, given: Data, folder: Path) -> Validation | None:
        """The queries, in `folder`, and beside them the folds that a training on FASTA leaves out."""
        if self.benchmark is None:
            return None
        found = write_validation(self.benchmark, given.fold, folder, given.metric)
        if self.options.get("fold") is not None:
            out = _left_out(given)
            with replaced_text(folder / FOLDS) as file:
                file.write("sequence_id\tfold\n")
                for one, fold in folds_of(self.benchmark).items():
                    file.write(f"{one}\t{OUT if fold in out else IN}\n")
            self.options["folds"] = str((folder / FOLDS).absolute())
        return found


def prepared(given: Data, say: Say) -> Prepared:
    """Check what was given and describe it.

    Raises UsageError for what does not go together, and where species of the validation are trained on.
    """
    if given.metric not in ("cosine", "l2"):
        raise UsageError(f"the metric is cosine or l2, not {given.metric!r}")
    if given.benchmark is None and (given.fold is not None or given.leave_out):
        raise UsageError("a fold is one of a benchmark's", check="give the benchmark too")
    found = None if given.benchmark is None else open_benchmark(given.benchmark)
    files = fasta_files(given.source)
    if files is None:
        refuse_labels(given.labels, given.layout)
        facts, source, options, ids = _profiles(given)
    else:
        facts, source, options, ids = _fasta(given, nonempty(files, say), found)
    score = LOSS if files is None else HELD_OUT
    if found is not None:
        score = RETRIEVAL
        facts |= {"benchmark": found.folder.name, "benchmark_fingerprint": found.fingerprint}
        facts |= {"fold": given.fold, "left_out": list(given.leave_out), "metric": given.metric}
        if files is None:
            _check_apart(ids, found, given, say)
    signature = {"data": facts, "score": score, "maximise": score != LOSS}
    return Prepared(signature, source, options, found)


def _profiles(given: Data) -> tuple[dict[str, Any], Any, dict[str, Any], Sequence[Any]]:
    profiles = open_profiles(given.source, ids=given.ids)
    facts = {
        "profiles": Path(given.source).name if isinstance(given.source, str | Path) else "in memory",
        "rows": len(profiles),
        "ids": profiles.fingerprint,
        "layout": profiles.layout.fingerprint,
    }
    options = {"ids": None if given.ids is None else _absolute(given.ids)}
    source = given.source if not isinstance(given.source, str | Path) else _absolute(given.source)
    return facts, source, options, list(profiles.ids)


def _fasta(
    given: Data, files: Sequence[str | Path], benchmark: Benchmark | None
) -> tuple[dict[str, Any], Any, dict[str, Any], Sequence[Any]]:
    if given.ids is not None:
        raise UsageError("ids are those of a table of profiles", check="leave out --ids")
    if benchmark is not None and given.fold is None:
        raise UsageError(
            "the fold to score with is not given",
            "its sequences are not trained on",
            "give one of the benchmark's folds",
        )
    layout = given.layout or profile_layout(coding=True)
    ids: list[str] = []
    for file in files:
        for block in read_blocks(file):
            ids += block.ids[int(block.continues) :]
    if benchmark is not None:
        known = folds_of(benchmark)
        strange = next((one for one in ids if one not in known), None)
        if strange is not None:
            raise UsageError(
                f"the sequence {strange!r} is not in the benchmark's folds",
                "whether its species is asked about cannot be told",
                "train on files that the benchmark was made of",
                place=benchmark.folder,
            )
    if given.labels is not None:
        read_labels(given.labels)
    facts = {
        "files": len(files),
        "first_file": Path(files[0]).name,
        "sequences": len(ids),
        "ids": hash_ids(ids),
        "labels": None if given.labels is None else hash_file(given.labels),
        "layout": layout.fingerprint,
        "genetic_code": layout.genetic_code,
    }
    options = {
        "labels": None if given.labels is None else _absolute(given.labels),
        "fold": None if benchmark is None else OUT,
        "layout": layout.to_dict(),
    }
    return facts, [_absolute(file) for file in files], options, ids


def _check_apart(ids: Sequence[Any], benchmark: Benchmark, given: Data, say: Say) -> None:
    known, inside = trained_on(ids, benchmark, _left_out(given) if given.fold is not None else None)
    if inside:
        raise UsageError(
            f"{inside:,} of {len(ids):,} training rows are of the validation species or of a fold left out",
            "a score on species that were trained on says little",
            "train on sequences of other folds (folds.tsv in the benchmark), or choose another --fold",
            place=benchmark.folder,
        )
    if not known:
        say("no training row has an id of the benchmark: that no species is in both is not checked")


def _left_out(given: Data) -> set[str]:
    """Folds that are not trained on."""
    return {str(one) for one in (given.fold, *given.leave_out) if one is not None}


def _absolute(path: str | Path) -> str:
    return str(Path(path).absolute())


# Such errors come again however often the trial is run; others (memory, disk, a kill) may not.
FINAL = ("TrainingError", "UsageError")


@dataclass(frozen=True, kw_only=True)
class Setup:
    """What all trials have in common; JSON but for a `source` in memory. options : more of `kinmer.train`."""

    source: Any
    options: dict[str, Any]
    validation: Validation | None
    device: str
    threads: int | None
    memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON form, for sources on disk."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Setup:
        """Inverse of `to_dict`."""
        validation = data["validation"]
        return cls(**{**data, "validation": None if validation is None else Validation(**validation)})


@dataclass(frozen=True)
class Task:
    """A trial that is to be run. name : by `trial_name`. settings : JSON form. encoder : folder to write."""

    name: str
    settings: dict[str, Any]
    encoder: str


def run_trial(task: Task, setup: Setup) -> dict[str, Any]:
    """Train (or go on with what was cut off), score, and give the record; an error is recorded too.

    Raises KeyboardInterrupt, after a checkpoint.
    """
    try:
        return _run(task, setup)
    except KinmerError as error:
        return failure(task, type(error).__name__, str(error))
    except Exception as error:
        return failure(task, type(error).__name__, f"{type(error).__name__}: {' '.join(str(error).split())}")


def failure(task: Task, kind: str, error: str) -> dict[str, Any]:
    """The record of a trial that failed."""
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "failed",
        "kind": kind,
        "error": error,
        "score": None,
    }


def is_final(record: Mapping[str, Any]) -> bool:
    """Whether a trial's record stays as it is when the sweep is run again."""
    return record["state"] == "done" or record.get("kind") in FINAL


def _run(task: Task, setup: Setup) -> dict[str, Any]:
    # Here, and not above: the house's other processes need no torch to read records.
    from kinmer.encoder import Encoder
    from kinmer.layout import Layout
    from kinmer.training import TrainSettings, train

    path = Path(task.encoder)
    if path.is_dir():
        encoder = Encoder.load(path)
    else:
        options = dict(setup.options)
        if "layout" in options:
            options["layout"] = Layout.from_dict(options["layout"])
        encoder = train(
            setup.source,
            path,
            settings=TrainSettings.from_dict(task.settings),
            **options,
            # Its own checkpoint is gone on with; one that another device or version left is not.
            force=True,
            device=setup.device,
            threads=setup.threads,
            memory=setup.memory,
        )
    results = encoder.training["results"]
    started, cells = time.monotonic(), None
    if setup.validation is not None:
        cells = setup.validation.measure(encoder.to(setup.device), device=setup.device, threads=setup.threads)
    loss, held_out = results["validation_loss"], results.get("retrieval")
    own = loss if held_out is None else held_out
    return {
        "name": task.name,
        "settings": task.settings,
        "state": "done",
        "error": None,
        "score": own if cells is None else score_of(cells),
        "retrieval": cells,
        "held_out_retrieval": held_out,
        "validation_loss": loss,
        "kl": results.get("validation_kl"),
        "mse": results.get("mse"),
        "blocks": results.get("blocks", {}),
        "epoch": results["epoch"],
        "epochs": results["epochs"],
        "seconds": sum(one.get("seconds", 0.0) for one in encoder.metrics),
        "scoring_seconds": None if cells is None else time.monotonic() - started,
        "parameters": sum(layer.parameters for layer in encoder.network.layers()),
        "fingerprint": encoder.fingerprint,
    }
