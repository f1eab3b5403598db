"""The results of `evaluate_retrieval`: figures by cell, as text, table, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import require
from kinmer.evaluate.measures import MOLECULE
from kinmer.evaluate.statistics import ALL, Cells
from kinmer.files import write_bytes, written_together
from kinmer.tables import write_table


class Score(NamedTuple):
    """A figure of one encoder in one cell; `ceiling`: the most that the database allows."""

    encoder: str
    rank: str
    case: str
    domain: str
    length: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    ceiling: float | None
    queries: int
    genomes: int


class Difference(NamedTuple):
    """An encoder's figure minus the baseline's, on the same queries."""

    encoder: str
    baseline: str
    rank: str
    case: str
    domain: str
    length: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    queries: int
    genomes: int


@dataclass(frozen=True)
class Hubs:
    """How often entries are among the ten nearest of a query (Radovanović et al. 2010, JMLR 11:2487)."""

    largest: int
    skewness: float | None
    never: float  # share of the entries

    @classmethod
    def of(cls, hits: NDArray[np.int64]) -> Hubs:
        """From every entry's number of occurrences."""
        spread = hits.std()
        skewness = float(((hits - hits.mean()) ** 3).mean() / spread**3) if spread > 0 else None
        return cls(int(hits.max()), skewness, float((hits == 0).mean()))


@dataclass(frozen=True)
class Measured:
    """Every query's figures at a rank.

    asked : (q,). values : (encoders, q, measures). limits : (q, measures). names : of the measures.
    """

    rank: str
    names: tuple[str, ...]
    asked: NDArray[np.bool_]
    values: NDArray[np.float32]
    limits: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RetrievalReport:
    """The results of `evaluate_retrieval`; `cells` and `measured` hold it query by query."""

    encoders: tuple[str, ...]
    metric: str
    queries: int
    database: int
    genomes: int
    benchmarks: tuple[str, ...]
    bootstrap: int
    seed: int
    scores: tuple[Score, ...] = field(repr=False)
    hubs: Mapping[str, Hubs]
    cells: Cells = field(repr=False, compare=False)
    measured: tuple[Measured, ...] = field(repr=False, compare=False)
    differences: tuple[Difference, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_cell", {score[:6]: score for score in self.scores})

    @property
    def ranks(self) -> tuple[str, ...]:
        """Ranks that were measured, species first."""
        return tuple(one.rank for one in self.measured)

    def with_differences(self, differences: Sequence[Difference]) -> RetrievalReport:
        """The report with differences to a baseline."""
        return replace(self, differences=tuple(differences))

    def score(
        self,
        encoder: str,
        rank: str,
        measure: str = "at_1",
        *,
        case: str = ALL,
        domain: str = ALL,
        length: str | int = ALL,
    ) -> Score | None:
        """One figure; None where no query gives it."""
        scores: dict[tuple[str, ...], Score] = self._by_cell  # type: ignore[attr-defined]
        return scores.get((encoder, rank, case, domain, str(length), measure))

    def table(self) -> str:
        """The figures that matter most, as aligned text."""
        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON form: scores nested by encoder, rank, case, domain, length and measure."""
        names = ("encoders", "metric", "queries", "database", "genomes", "benchmarks", "bootstrap", "seed")
        shown: dict[str, Any] = {name: getattr(self, name) for name in names}
        shown["hubs"] = {name: asdict(one) for name, one in self.hubs.items()}
        shown["scores"] = _nested(self.scores, 6)
        if self.differences:
            shown["baseline"] = self.differences[0].baseline
            shown["differences"] = _nested(
                [(one.encoder, *one[2:]) for one in self.differences], 6, Difference._fields[7:]
            )
        return shown

    def write(self, stem: str | Path) -> list[Path]:
        """``stem.tsv``, ``stem.json`` and pictures; with a baseline ``stem-differences.tsv``. The paths."""
        from kinmer import plots

        stem = Path(stem)
        paths = self.outputs(stem, differences=bool(self.differences))
        with written_together(*paths) as aside:
            write_table(aside[0], Score._fields, self.scores)
            # Not indented: that would make it four times as large.
            write_bytes(aside[1], (json.dumps(self.to_dict(), allow_nan=False) + "\n").encode())
            plots.save(plots.retrieval_panels(panels(self)), aside[0].with_name(stem.name))
            if self.differences:
                write_table(aside[-1], Difference._fields, self.differences)
        return paths

    @staticmethod
    def outputs(stem: str | Path, *, differences: bool) -> list[Path]:
        """The files that `write` makes."""
        require("matplotlib", "the pictures of an evaluation need it", "explore")
        stem = Path(stem)
        endings = [".tsv", ".json", ".png", ".svg", *(["-differences.tsv"] if differences else [])]
        return [stem.with_name(f"{stem.name}{ending}") for ending in endings]


def _nested(
    rows: Sequence[tuple[Any, ...]], depth: int, names: Sequence[str] = Score._fields[6:]
) -> dict[str, Any]:
    """Rows as dictionaries in dictionaries by their first fields; the last of the `depth` is the measure's.

    names : of the fields behind them, which end with queries and genomes.
    """
    nested: dict[str, Any] = {}
    for row in rows:
        inner = nested
        for key in row[: depth - 1]:
            inner = inner.setdefault(key, {})
        *figures, queries, genomes = row[depth:]
        inner |= {"queries": queries, "genomes": genomes}
        rounded = (None if one is None else round(one, 6) for one in figures)
        inner.setdefault("measures", {})[row[depth - 1]] = dict(zip(names, rounded, strict=False))
    return nested


# The rank at which the database has an answer for a case.
RANK_OF_CASE = {"genus": "genus", "strain": "species", "genome": "species"}
SHOWN = {
    "at_1": "@1",
    "vote_10": "vote of 10",
    "at_10": "@10",
    "map_100": "mAP",
    "recall_10": "recall@10",
    "recall_100": "recall@100",
}
CURVE = {"at_1_of_1/8": "1/8", "at_1_of_1/4": "1/4", "at_1_of_1/2": "1/2", "at_1": "1"}
Panel = dict[str, tuple[list[float], list[float], list[float], list[float]]]


def asked_of(report: RetrievalReport) -> list[tuple[str, str]]:
    """(case, rank) pairs that are shown; without cases all queries at every taxonomic rank."""
    pairs = [
        (case, rank)
        for case in report.cells.cases
        if (rank := RANK_OF_CASE.get(case, report.ranks[0])) in report.ranks
    ]
    return pairs or [(ALL, rank) for rank in report.ranks if rank != MOLECULE] or [(ALL, report.ranks[0])]


def text(report: RetrievalReport) -> str:
    """Aligned text."""
    lines = [
        f"{report.queries:,} queries of {report.genomes:,} genomes, {report.database:,} entries,"
        f" {report.metric}; 95 % bootstrap intervals over genomes"
    ]
    width = max(12, *(len(name) + 2 for name in report.encoders))
    for case, rank in asked_of(report):
        for domain in _domains(report):
            lines += _by_length(report, case, rank, domain, width)
    for case, rank in asked_of(report):
        lines += _whole(report, case, rank, width)
    lines += _molecules(report, width)
    lines += ["", _row("hubs (k = 10)", width, ["largest", "skewness"], 10) + f"{'never hit':>11}"]
    for name, hubs in report.hubs.items():
        skewness = "." if hubs.skewness is None else f"{hubs.skewness:.2f}"
        lines.append(_row(name, width, [f"{hubs.largest:,}", skewness], 10) + f"{100 * hubs.never:>9.1f} %")
    lines += _against(report, width)
    return "\n".join(line.rstrip() for line in lines)


def _row(name: str, width: int, cells: Iterable[str], each: int) -> str:
    """A name, `width` wide, and cells at the right of their columns, `each` wide."""
    return f"{name:<{width}}" + "".join(f"{cell:>{each}}" for cell in cells)


def _domains(report: RetrievalReport) -> list[str]:
    return list(report.cells.domains) if len(report.cells.domains) > 1 else [ALL]


def _by_length(report: RetrievalReport, case: str, rank: str, domain: str, width: int) -> Iterator[str]:
    """Agreement of the nearest, a column for every length."""
    lengths = [*report.cells.lengths, ALL]
    rows = {
        name: [report.score(name, rank, length=one, case=case, domain=domain) for one in lengths]
        for name in report.encoders
    }
    first = rows[report.encoders[0]]
    if not any(first):
        return
    yield from ("", f"nearest is of the same {rank}: {_which(case, domain)}")
    yield _row("", width, map(_kilobases, lengths), 20)
    for name, cells in rows.items():
        yield _row(name, width, map(_cell, cells), 20)
    yield _row("  ceiling", width, map(_ceiling, first), 20)
    counts = ("" if one is None else f"{one.queries:,} / {one.genomes:,}" for one in first)
    yield _row("  queries / genomes", width, counts, 20)


def _whole(report: RetrievalReport, case: str, rank: str, width: int) -> Iterator[str]:
    """All measures over all lengths, and the database's size."""

    def scores(name: str, measures: Iterable[str]) -> list[Score | None]:
        return [report.score(name, rank, one, case=case) for one in measures]

    yield from ("", f"all lengths, {rank}: {_which(case, ALL)}")
    yield _row("", width, SHOWN.values(), 12)
    for name in report.encoders:
        yield _row(name, width, map(_value, scores(name, SHOWN)), 12)
    yield _row("  ceiling", width, map(_ceiling, scores(report.encoders[0], SHOWN)), 12)
    yield _row("  @1 among", width, (f"{one} genomes" for one in CURVE.values()), 16)
    for name in report.encoders:
        yield _row(name, width, (f"{_value(one)} of {_ceiling(one)}" for one in scores(name, CURVE)), 16)


def _molecules(report: RetrievalReport, width: int) -> Iterator[str]:
    """Precision, recall and F1 of every molecule."""
    if MOLECULE not in report.ranks:
        return
    measures = (one.measure for one in report.scores)
    kinds = list(dict.fromkeys(one.removeprefix("f1:") for one in measures if one.startswith("f1:")))
    yield from ("", "molecule of the nearest entry that tells one: precision, recall, F1")
    yield _row("", width, kinds, 20)
    for name in report.encoders:
        figures = {
            kind: [report.score(name, MOLECULE, f"{what}:{kind}") for what in ("precision", "recall", "f1")]
            for kind in kinds
        }
        yield _row(name, width, (" ".join(map(_value, figures[kind])) for kind in kinds), 20)


def _against(report: RetrievalReport, width: int) -> Iterator[str]:
    """Differences of the agreement, over all domains."""
    by_cell = {(one.encoder, *one[2:7]): one for one in report.differences}
    if not by_cell:
        return
    lengths = [*report.cells.lengths, ALL]
    baseline = report.differences[0].baseline
    for case, rank in asked_of(report):
        yield ""
        yield f"nearest is of the same {rank}, minus {baseline} on the same queries: {_which(case, ALL)}"
        yield _row("", width, map(_kilobases, lengths), 24)
        for name in report.encoders:
            if name != baseline:
                cells = (by_cell.get((name, rank, case, ALL, one, "at_1")) for one in lengths)
                yield _row(name, width, map(_signed, cells), 24)


def panels(report: RetrievalReport) -> dict[str, tuple[str, list[str], Panel]]:
    """For `plots.retrieval_panels`: title -> (axis, positions, encoder -> (value, low, high, ceiling))."""
    shown: dict[str, tuple[str, list[str], Panel]] = {}
    lengths = list(report.cells.lengths) or [ALL]
    for domain in _domains(report):
        for case, rank in asked_of(report):
            by_length = {
                name: _series(
                    report.score(name, rank, case=case, domain=domain, length=one) for one in lengths
                )
                for name in report.encoders
            }
            title = f"{rank}: {_which(case, domain)}"
            shown[title] = ("query length", list(map(_kilobases, lengths)), by_length)
        case, rank = asked_of(report)[0]
        by_size = {
            name: _series(report.score(name, rank, one, case=case, domain=domain) for one in CURVE)
            for name in report.encoders
        }
        title = f"{rank}: {_which(case, domain)}, by size"
        shown[title] = ("share of the database's genomes", list(CURVE.values()), by_size)
    return shown


def _series(scores: Iterable[Score | None]) -> tuple[list[float], list[float], list[float], list[float]]:
    """Value, low, high and ceiling of every score, NaN where there is none."""
    rows = [
        [float("nan")] * 4
        if one is None
        else [
            float("nan") if value is None else float(value)
            for value in (one.value, one.low, one.high, one.ceiling)
        ]
        for one in scores
    ]
    value, low, high, ceiling = (list(column) for column in zip(*rows, strict=True))
    return value, low, high, ceiling


def _which(case: str, domain: str) -> str:
    queries = "all queries" if case == ALL else f"case {case}"
    return queries if domain == ALL else f"{queries}, {domain}"


def _cell(one: Score | None) -> str:
    if one is None or one.low is None or one.high is None:
        return _value(one)
    return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"


def _signed(one: Difference | None) -> str:
    if one is None or one.value is None:
        return ""
    if one.low is None or one.high is None:
        return f"{one.value:+.3f}"
    return f"{one.value:+.3f} [{one.low:+.3f}, {one.high:+.3f}]"


def _value(one: Score | None) -> str:
    return "." if one is None or one.value is None else f"{one.value:.3f}"


def _ceiling(one: Score | None) -> str:
    return "." if one is None or one.ceiling is None else f"{one.ceiling:.3f}"


def _kilobases(length: str) -> str:
    """``5000`` as ``5 kb``; bins and all as they are."""
    if not length.isdigit():
        return "all lengths" if length == ALL else length
    return f"{int(length) / 1000:g} kb" if int(length) >= 1000 else f"{length} b"
