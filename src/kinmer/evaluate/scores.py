"""The results of `evaluate_retrieval`: figures by cell, as text, table, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.evaluate.measures import MOLECULE
from kinmer.evaluate.statistics import ALL, Cells
from kinmer.files import replaced_text, write_bytes, written_together

__all__ = ["Difference", "Hubs", "Measured", "RetrievalReport", "Score", "asked_of", "panels", "text"]


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
    """What `evaluate_retrieval` found; `cells` and `measured` hold it query by query."""

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
        found = {score[:6]: score for score in self.scores}
        object.__setattr__(self, "_places", found)

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
        """One figure; None where no query tells it."""
        places: dict[tuple[str, ...], Score] = self._places  # type: ignore[attr-defined]
        return places.get((encoder, rank, case, domain, str(length), measure))

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
        stem = Path(stem)
        paths = self.outputs(stem, differences=bool(self.differences))
        with written_together(*paths) as aside:
            _write_table(aside[0], Score._fields, self.scores)
            # Not indented: that would make it four times as large.
            write_bytes(aside[1], (json.dumps(self.to_dict(), allow_nan=False) + "\n").encode())
            self._pictures(aside[0].with_name(stem.name))
            if self.differences:
                _write_table(aside[-1], Difference._fields, self.differences)
        return paths

    @staticmethod
    def outputs(stem: str | Path, *, differences: bool) -> list[Path]:
        """The files that `write` makes."""
        stem = Path(stem)
        endings = [".tsv", ".json", ".png", ".svg", *(["-differences.tsv"] if differences else [])]
        return [stem.with_name(f"{stem.name}{ending}") for ending in endings]

    def _pictures(self, stem: Path) -> None:
        from kinmer import plots

        plots.save(plots.retrieval_panels(panels(self)), stem)


def _write_table(path: Path, header: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> None:
    """A table with empty fields for what is not known."""
    with replaced_text(path) as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            file.write("\t".join(_fields(row)) + "\n")


def _fields(row: tuple[Any, ...]) -> Iterator[str]:
    for one in row:
        yield "" if one is None else f"{one:.6g}" if isinstance(one, float) else str(one)


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
        told = dict(zip(names, rounded, strict=False))
        inner.setdefault("measures", {})[row[depth - 1]] = told
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
    """(case, rank) pairs that are told; without cases all queries at every taxonomic rank."""
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
    lines += _whole(report, width)
    lines += _molecules(report, width)
    lines += ["", f"{'hubs (k = 10)':<{width}}{'largest':>10}{'skewness':>10}{'never hit':>11}"]
    for name, hubs in report.hubs.items():
        skewness = "." if hubs.skewness is None else f"{hubs.skewness:.2f}"
        lines.append(f"{name:<{width}}{hubs.largest:>10,}{skewness:>10}{100 * hubs.never:>9.1f} %")
    lines += _against(report, width)
    return "\n".join(line.rstrip() for line in lines)


def _domains(report: RetrievalReport) -> list[str]:
    return list(report.cells.domains) if len(report.cells.domains) > 1 else [ALL]


def _by_length(report: RetrievalReport, case: str, rank: str, domain: str, width: int) -> Iterator[str]:
    """Agreement of the nearest, a column for every length."""
    lengths = [*report.cells.lengths, ALL]
    place = {"case": case, "domain": domain}
    first = [report.score(report.encoders[0], rank, length=one, **place) for one in lengths]
    if not any(first):
        return
    yield ""
    yield f"nearest is of the same {rank}: {_told(case, domain)}"
    yield f"{'':<{width}}" + "".join(f"{_kilobases(one):>20}" for one in lengths)
    for name in report.encoders:
        cells = [report.score(name, rank, length=one, **place) for one in lengths]
        yield f"{name:<{width}}" + "".join(f"{_cell(one):>20}" for one in cells)
    yield f"{'  ceiling':<{width}}" + "".join(f"{_ceiling(one):>20}" for one in first)
    counts = ("" if one is None else f"{one.queries:,} / {one.genomes:,}" for one in first)
    yield f"{'  queries / genomes':<{width}}" + "".join(f"{one:>20}" for one in counts)


def _whole(report: RetrievalReport, width: int) -> Iterator[str]:
    """All measures over all lengths, and the database's size."""
    for case, rank in asked_of(report):
        yield ""
        yield f"all lengths, {rank}: {_told(case, ALL)}"
        yield f"{'':<{width}}" + "".join(f"{one:>12}" for one in SHOWN.values())
        for name in report.encoders:
            found = [report.score(name, rank, one, case=case) for one in SHOWN]
            yield f"{name:<{width}}" + "".join(f"{_value(one):>12}" for one in found)
        most = [report.score(report.encoders[0], rank, one, case=case) for one in SHOWN]
        yield f"{'  ceiling':<{width}}" + "".join(f"{_ceiling(one):>12}" for one in most)
        yield f"{'  @1 among':<{width}}" + "".join(f"{one + ' genomes':>16}" for one in CURVE.values())
        for name in report.encoders:
            found = [report.score(name, rank, one, case=case) for one in CURVE]
            yield f"{name:<{width}}" + "".join(f"{f'{_value(one)} of {_ceiling(one)}':>16}" for one in found)


def _molecules(report: RetrievalReport, width: int) -> Iterator[str]:
    """Precision, recall and F1 of every molecule."""
    if MOLECULE not in report.ranks:
        return
    labels = [one.measure.removeprefix("f1:") for one in report.scores if one.measure.startswith("f1:")]
    yield ""
    yield "molecule of the nearest entry that tells one: precision, recall, F1"
    kinds = list(dict.fromkeys(labels))
    yield f"{'':<{width}}" + "".join(f"{one:>20}" for one in kinds)
    for name in report.encoders:
        cells = (
            " ".join(
                _value(report.score(name, MOLECULE, f"{what}:{kind}"))
                for what in ("precision", "recall", "f1")
            )
            for kind in kinds
        )
        yield f"{name:<{width}}" + "".join(f"{one:>20}" for one in cells)


def _against(report: RetrievalReport, width: int) -> Iterator[str]:
    """Differences of the agreement, over all domains."""
    found = {(one.encoder, *one[2:7]): one for one in report.differences}
    if not found:
        return
    lengths = [*report.cells.lengths, ALL]
    baseline = report.differences[0].baseline
    for case, rank in asked_of(report):
        yield ""
        yield f"nearest is of the same {rank}, minus {baseline} on the same queries: {_told(case, ALL)}"
        yield f"{'':<{width}}" + "".join(f"{_kilobases(one):>24}" for one in lengths)
        for name in report.encoders:
            if name != baseline:
                cells = (found.get((name, rank, case, ALL, one, "at_1")) for one in lengths)
                yield f"{name:<{width}}" + "".join(
                    f"{'' if one is None or one.value is None else _signed(one.value, one.low, one.high):>24}"
                    for one in cells
                )


def panels(report: RetrievalReport) -> dict[str, tuple[str, list[str], Panel]]:
    """For `plots.retrieval_panels`: title -> (axis, places, encoder -> (value, low, high, ceiling))."""
    found = {}
    lengths = list(report.cells.lengths) or [ALL]
    for domain in _domains(report):
        for case, rank in asked_of(report):
            title = f"{rank}: {_told(case, domain)}"
            found[title] = (
                "query length",
                [_kilobases(one) for one in lengths],
                {
                    name: _series(
                        [report.score(name, rank, case=case, domain=domain, length=one) for one in lengths]
                    )
                    for name in report.encoders
                },
            )
        case, rank = asked_of(report)[0]
        found[f"{rank}: {_told(case, domain)}, by size"] = (
            "share of the database's genomes",
            list(CURVE.values()),
            {
                name: _series([report.score(name, rank, one, case=case, domain=domain) for one in CURVE])
                for name in report.encoders
            },
        )
    return found


def _series(scores: list[Score | None]) -> tuple[list[float], list[float], list[float], list[float]]:
    def column(name: str) -> list[float]:
        values = (None if one is None else getattr(one, name) for one in scores)
        return [float("nan") if value is None else float(value) for value in values]

    return column("value"), column("low"), column("high"), column("ceiling")


def _told(case: str, domain: str) -> str:
    queries = "all queries" if case == ALL else f"case {case}"
    return queries if domain == ALL else f"{queries}, {domain}"


def _cell(one: Score | None) -> str:
    if one is None or one.value is None:
        return "."
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"


def _signed(value: float, low: float | None, high: float | None) -> str:
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _value(one: Score | None) -> str:
    return "." if one is None or one.value is None else f"{one.value:.3f}"


def _ceiling(one: Score | None) -> str:
    return "." if one is None or one.ceiling is None else f"{one.ceiling:.3f}"


def _kilobases(length: str) -> str:
    """``5000`` as ``5 kb``; bins and all as they are."""
    if not length.isdigit():
        return "all lengths" if length == ALL else length
    return f"{int(length) / 1000:g} kb" if int(length) >= 1000 else f"{length} b"
