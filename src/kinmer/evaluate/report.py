"""What `evaluate_retrieval` found: figures by cell, as text, table, JSON and pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.evaluate.cells import ALL, Cells
from kinmer.files import replaced_text, write_bytes, written_together

__all__ = ["Difference", "Hubs", "Measured", "RetrievalReport", "Score"]


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
        from kinmer.evaluate.tables import text

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
        from kinmer.evaluate.tables import panels

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
