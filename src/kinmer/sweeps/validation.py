"""What a sweep trains on and is scored with: checked, described, and laid out for its trials."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kinmer.errors import UsageError
from kinmer.evaluate.retrieval import evaluate_retrieval
from kinmer.fasta import read_records
from kinmer.files import built_aside
from kinmer.fragments import Benchmark, open_benchmark, read_labels
from kinmer.fragments.benchmarks import FOLDS
from kinmer.fragments.cuts import clean
from kinmer.profiles import open_profiles

if TYPE_CHECKING:
    from anndata import AnnData

    from kinmer.encoder import Encoder
    from kinmer.profiles import Profiles

Say = Callable[[str], None]
RETRIEVAL, LOSS = "species@1", "validation loss"
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
        cells: dict[str, dict[str, float]] = {case: {} for case in CASES}
        for one in report.scores:
            wanted = one.rank == "species" and one.measure == "at_1" and one.domain == "all"
            if wanted and one.case in CASES and one.length != "all" and one.value is not None:
                cells[one.case][one.length] = one.value
        return {case: some for case, some in cells.items() if some}


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
        for name, sequence in read_records(benchmark.queries):
            if name in chosen:
                file.write(b">%b\n%b\n" % (name.encode(), sequence))
    lines = benchmark.query_labels.read_text(encoding="utf-8").splitlines(keepends=True)
    column = lines[0].rstrip("\n").split("\t").index("id")
    kept = [line for line in lines[1:] if line.rstrip("\n").split("\t")[column] in chosen]
    (folder / LABELS).write_text("".join([lines[0], *kept]), encoding="utf-8")


def trained_on(ids: Iterable[Any], benchmark: Benchmark, folds: Container[str] | None) -> tuple[int, int]:
    """How many of the training rows `ids` are of the benchmark's genomes, and how many of these of `folds`.

    Rows are known by their ids: a sequence's, or one of its fragments'. None: all folds.
    """
    labels = read_labels(benchmark.folder / FOLDS)
    fold_of = {clean(one): labels.value(one, "fold") for one in labels.rows}
    known = inside = 0
    for one in map(str, ids):
        cut = FRAGMENT.fullmatch(one)
        home = fold_of.get(clean(one)) or (fold_of.get(cut.group(1)) if cut else None)
        known += home is not None
        inside += home is not None and (folds is None or home in folds)
    return known, inside


class Data(NamedTuple):
    """What `sweep` was given; the meaning is described there."""

    source: str | Path | AnnData | Profiles
    ids: str | Path | None
    benchmark: str | Path | None
    fold: int | None
    leave_out: tuple[int, ...]
    metric: str

    @property
    def left_out(self) -> set[str]:
        """Folds that are not trained on."""
        return {str(one) for one in (self.fold, *self.leave_out) if one is not None}


class Prepared(NamedTuple):
    """signature : JSON-able, of data and score. source, options : of `kinmer.train`, JSON where on disk."""

    signature: dict[str, Any]
    source: Any
    options: dict[str, Any]
    benchmark: Benchmark | None

    def validation(self, given: Data, folder: Path) -> Validation | None:
        """The queries, in `folder`; None without a benchmark."""
        if self.benchmark is None:
            return None
        return write_validation(self.benchmark, given.fold, folder, given.metric)


def prepared(given: Data, say: Say) -> Prepared:
    """Check what was given and describe it.

    Raises UsageError for what does not go together, and where species of the validation are trained on.
    """
    if given.metric not in ("cosine", "l2"):
        raise UsageError(f"the metric is cosine or l2, not {given.metric!r}")
    if given.benchmark is None and given.left_out:
        raise UsageError("a fold is one of a benchmark's", check="give the benchmark too")
    benchmark = None if given.benchmark is None else open_benchmark(given.benchmark)
    profiles = open_profiles(given.source, ids=given.ids)
    facts: dict[str, Any] = {
        "profiles": Path(given.source).name if isinstance(given.source, str | Path) else "in memory",
        "rows": len(profiles),
        "ids": profiles.fingerprint,
        "layout": profiles.layout.fingerprint,
    }
    score = LOSS
    if benchmark is not None:
        _check_apart(list(profiles.ids), benchmark, given, say)
        score = RETRIEVAL
        facts |= {"benchmark": benchmark.folder.name, "benchmark_fingerprint": benchmark.fingerprint}
        facts |= {"fold": given.fold, "left_out": list(given.leave_out), "metric": given.metric}
    signature = {"data": facts, "score": score, "maximise": score != LOSS}
    options = {"ids": None if given.ids is None else _absolute(given.ids)}
    return Prepared(signature, _absolute(given.source), options, benchmark)


def _check_apart(ids: Sequence[Any], benchmark: Benchmark, given: Data, say: Say) -> None:
    known, inside = trained_on(ids, benchmark, given.left_out if given.fold is not None else None)
    if inside:
        raise UsageError(
            f"{inside:,} of {len(ids):,} training rows are of the validation species or of a fold left out",
            "a score on species that were trained on says little",
            "train on sequences of other folds (folds.tsv in the benchmark), or choose another --fold",
            place=benchmark.folder,
        )
    if not known:
        say("no training row has an id of the benchmark: that no species is in both is not checked")


def _absolute(source: Any) -> Any:
    """A path as a whole one; what is in memory as it is."""
    return str(Path(source).absolute()) if isinstance(source, str | Path) else source
