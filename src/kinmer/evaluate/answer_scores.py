"""The result of `evaluate_answers`: shares and calibration errors, with intervals over species."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.evaluate.collection import GROUPS
from kinmer.evaluate.splits import CASES, GENUS, PART, SPECIES, STRAIN
from kinmer.evaluate.statistics import Estimate, estimate, intervals, resampled
from kinmer.files import write_bytes, written_together
from kinmer.tables import write_table
from kinmer.taxonomy import RANKS

Floats = NDArray[np.float64]
# Shares of queries of known species, new species and new genera.
MIXTURES = ((0.8, 0.1, 0.1), (0.5, 0.25, 0.25), (0.1, 0.3, 0.6))
KNOWN = (STRAIN, PART)
BINS = 10
MEASURES = (
    *("species_named", "species_right", "species_wrong", "species_precision"),
    *("genus_named", "genus_right", "genus_wrong", "genus_precision"),
    *("nearest_right", "all_right"),
)


class AnswerScore(NamedTuple):
    """The figures of the queries of a group, case, length and completeness, by their names in `MEASURES`.

    genus_queries : those whose genus is known; the genus's figures are shares of these.
    """

    group: str
    case: str
    completeness: float
    length: int
    queries: int
    genomes: int
    kinds: int
    genus_queries: int
    figures: Mapping[str, Estimate]


class CalibrationError(NamedTuple):
    """The expected calibration error of a rank's probabilities where queries are mixed so.

    mixture : shares of known species, new species and new genera.
    """

    group: str
    completeness: float
    mixture: tuple[float, float, float]
    rank: str
    queries: int
    error: Estimate


@dataclass(frozen=True, kw_only=True)
class AnswersReport:
    """The results of `evaluate_answers`.

    answers : a row a query, with the columns of `kinmer.evaluate.answers.judged`.
    """

    settings: Mapping[str, Any]
    bootstrap: int
    scores: tuple[AnswerScore, ...] = field(repr=False)
    calibration: tuple[CalibrationError, ...] = field(repr=False)
    answers: pd.DataFrame = field(repr=False, compare=False)

    def score(self, group: str, case: str, length: int, completeness: float = 1.0) -> AnswerScore | None:
        """The figures of a row; None where there is no such query."""
        wanted = (group, case, completeness, length)
        return next((one for one in self.scores if one[:4] == wanted), None)

    def table(self) -> str:
        """The figures that matter most, as Markdown."""
        return "\n".join(_text(self))

    def to_dict(self) -> dict[str, Any]:
        """JSON form: settings, calibration errors, and the rows of the table."""
        return {
            **self.settings,
            "bootstrap": self.bootstrap,
            "queries": len(self.answers),
            "calibration": [
                {**one._asdict(), "error": one.error.value, "low": one.error.low, "high": one.error.high}
                for one in self.calibration
            ],
            "scores": [dict(zip(_header(), _row(one), strict=True)) for one in self.scores],
        }

    def write(self, stem: str | Path, *, answers: str | Path | None = None) -> list[Path]:
        """``stem.tsv``, a row a group, case, completeness and length, and ``stem.json``; gives the paths.

        answers : a table with a row a query, too.
        """
        paths = self.outputs(stem, answers=answers)
        with written_together(*paths) as aside:
            write_table(aside[0], _header(), map(_row, self.scores))
            write_bytes(aside[1], (json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n").encode())
            if answers is not None:
                write_table(aside[2], list(map(str, self.answers)), self.answers.itertuples(index=False))
        return paths

    @staticmethod
    def outputs(stem: str | Path, *, answers: str | Path | None = None) -> list[Path]:
        """The files that `write` makes."""
        stem = Path(stem)
        more = [] if answers is None else [Path(answers)]
        return [*(stem.with_name(f"{stem.name}{ending}") for ending in (".tsv", ".json")), *more]


def _header() -> list[str]:
    return [*AnswerScore._fields[:-1], *(f"{one}{end}" for one in MEASURES for end in ("", "_low", "_high"))]


def _row(score: AnswerScore) -> list[Any]:
    found = (score.figures[one] for one in MEASURES)
    return [*score[:-1], *(value for one in found for value in (one.value, one.low, one.high))]


def answers_report(answers: pd.DataFrame, settings: Mapping[str, Any], *, bootstrap: int) -> AnswersReport:
    """Score judged answers; whole species are drawn in the bootstrap, with the seed of the settings."""
    scores, errors = [], []
    order = {name: number for number, name in enumerate((*GROUPS, *CASES))}
    by = ["group", "completeness", "case", "length"]
    firsts = ((rows[by].iloc[0].tolist(), rows) for _, rows in answers.groupby(by))
    cells = [(str(g), float(c), str(k), int(n), rows) for (g, c, k, n), rows in firsts]
    cells.sort(key=lambda one: (order[one[0]], -one[1], order[one[2]], one[3]))
    seed = int(settings.get("seed", 0))
    for group, share, case, length, rows in cells:
        figures = _figures(rows, bootstrap, seed)
        scores.append(AnswerScore(group, case, share, length, *_counts(rows), figures))
    for group in GROUPS:
        for share in sorted(set(answers["completeness"]), reverse=True):
            rows = answers[answers["group"].eq(group) & answers["completeness"].eq(share)]
            for mixture in MIXTURES:
                for rank in RANKS if len(rows) else ():
                    one = calibration_error(rows, rank, mixture, bootstrap=bootstrap, seed=seed)
                    seen = int((rows[f"{rank}_p"].notna() & rows[f"{rank}_right"].notna()).sum())
                    errors.append(CalibrationError(group, share, mixture, rank, seen, one))
    return AnswersReport(
        settings=settings,
        bootstrap=bootstrap,
        scores=tuple(scores),
        calibration=tuple(errors),
        answers=answers,
    )


def _counts(rows: pd.DataFrame) -> tuple[int, int, int, int]:
    return len(rows), rows["genome"].nunique(), rows["kind"].nunique(), int(rows["genus"].ne("").sum())


def _figures(rows: pd.DataFrame, bootstrap: int, seed: int) -> dict[str, Estimate]:
    """The figures of a cell. What the references lack cannot be right, and has no nearest."""
    every = np.ones(len(rows), bool)
    above, below = {}, {}
    for rank, able in (("species", every), ("genus", rows["genus"].ne("").to_numpy())):
        named = able & rows[f"{rank}_called"].ne("").to_numpy()
        right = named & rows[f"{rank}_right"].eq(1).to_numpy()
        there = able & rows[f"{rank}_there"].to_numpy(bool)
        for name, share_of in (
            ("named", (named, able)),
            ("right", (right, there)),
            ("wrong", (named & ~right, able)),
            ("precision", (right, named)),
        ):
            above[f"{rank}_{name}"], below[f"{rank}_{name}"] = share_of
    there = rows["species_there"].to_numpy(bool)
    above["nearest_right"], below["nearest_right"] = there & rows["nearest_right"].to_numpy(bool), there
    above["all_right"], below["all_right"] = rows["all_right"].to_numpy(bool), every
    unit, names = pd.factorize(rows["kind"], sort=True)
    over, under = (_sums(np.stack([one[name] for name in MEASURES], axis=1), unit) for one in (above, below))
    weights = resampled(len(names), bootstrap, np.random.default_rng(seed))
    return dict(zip(MEASURES, intervals(over, under, weights), strict=True))


def _sums(values: NDArray[Any], unit: NDArray[np.int64]) -> Floats:
    """(units, columns) sums of (n, columns) values."""
    found = np.zeros((int(unit.max(initial=-1)) + 1, values.shape[1]))
    np.add.at(found, unit, values.astype(float))
    return found


def mixed(rows: pd.DataFrame, mixture: Sequence[float]) -> Floats:
    """(n,) weights: known, new species and new genera come to the mixture, lengths alike in each."""
    case = rows["case"].where(~rows["case"].isin(KNOWN), STRAIN)
    size = rows.groupby([case, "length"])["length"].transform("size").to_numpy(float)
    lengths = rows["length"].groupby(case).transform("nunique").to_numpy(float)
    shares = dict(zip((STRAIN, SPECIES, GENUS), mixture, strict=True))
    return np.asarray(case.map(shares).to_numpy(float) / (size * lengths))


def calibration_error(
    rows: pd.DataFrame, rank: str, mixture: Sequence[float], *, bootstrap: int, seed: int
) -> Estimate:
    """The expected calibration error (Naeini et al. 2015, AAAI) at a rank, over ten bins of equal width.

    Over queries that have a probability and whose name is known. None where one of the three kinds of
    queries is lacking. An interval lies high: chance adds to the error of every resample.
    """
    seen = rows[rows[f"{rank}_p"].notna() & rows[f"{rank}_right"].notna()]
    case = seen["case"].where(~seen["case"].isin(KNOWN), STRAIN)
    if case.nunique() < len(mixture):
        return Estimate(None)
    likely, right = seen[f"{rank}_p"].to_numpy(float), seen[f"{rank}_right"].to_numpy(float)
    weights = mixed(seen, mixture)
    values = np.zeros((len(seen), 3, BINS))
    place = np.minimum((likely * BINS).astype(np.int64), BINS - 1)
    for column, one in enumerate((weights, weights * likely, weights * right)):
        values[np.arange(len(seen)), column, place] = one
    unit, names = pd.factorize(seen["kind"], sort=True)
    sums = _sums(values.reshape(len(seen), -1), unit)
    drawn = resampled(len(names), bootstrap, np.random.default_rng(seed)) @ sums
    return estimate(float(_error(sums.sum(axis=0)[None])[0]), _error(drawn))


def _error(sums: Floats) -> Floats:
    """(m,) weighted mean gaps of (m, 3 BINS) sums of weights, probabilities and truths by bin."""
    weight, likely, right = sums.reshape(len(sums), 3, BINS).transpose(1, 0, 2)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(likely - right).sum(axis=1) / weight.sum(axis=1))


# What is told of a case, and what it is called.
SHOWN = {
    STRAIN: ("species_right", "species_precision", "nearest_right", "genus_right", "all_right"),
    PART: ("species_right", "species_precision", "nearest_right", "genus_right", "all_right"),
    SPECIES: ("species_wrong", "genus_right", "genus_wrong", "all_right"),
    GENUS: ("species_wrong", "genus_wrong", "all_right"),
}
WORDS = {
    "species_right": "species right",
    "species_wrong": "species wrong",
    "species_precision": "right, of species named",
    "nearest_right": "nearest genome's species right",
    "genus_right": "genus right",
    "genus_wrong": "genus wrong",
    "all_right": "all right",
}


def _text(report: AnswersReport) -> Iterator[str]:
    facts = report.settings
    star = "; names of one cluster count as one" if facts.get("clusters") else ""
    yield (
        f"{len(report.answers):,} queries of {report.answers['genome'].nunique():,} genomes, "
        f"{facts.get('draws')} draws; 95 % intervals over species{star}"
    )
    lengths = sorted(set(report.answers["length"]))
    heads = [f"{one / 1000:g} kb" for one in lengths]
    pairs = dict.fromkeys((one.group, one.completeness) for one in report.scores)
    for group, share in pairs:
        yield from ("", f"{group}, {share:.0%} of every genome in the references", "")
        yield f"| case | | {' | '.join(heads)} |"
        yield "| --- " * (len(lengths) + 2) + "|"
        for case in CASES:
            cells = [report.score(group, case, length, share) for length in lengths]
            if not any(cells):
                continue
            for name in SHOWN[case]:
                told = (_shown(None if one is None else one.figures[name]) for one in cells)
                yield f"| {case} | {WORDS[name]} | {' | '.join(told)} |"
            counts = ("." if one is None else f"{one.queries:,} / {one.genomes:,}" for one in cells)
            yield f"| {case} | *queries / genomes* | {' | '.join(counts)} |"
    yield from ("", "Expected calibration error by the mix of known species / new species / new genera", "")
    yield f"| | references | mix | {' | '.join(RANKS)} |"
    yield "| --- " * (len(RANKS) + 3) + "|"
    rows: dict[tuple[Any, ...], list[str]] = {}
    for error in report.calibration:
        value = error.error.value
        rows.setdefault(error[:3], []).append("." if value is None else f"{value:.3f}")
    for (group, share, mixture), errors in rows.items():
        mix = "/".join(f"{100 * part:.0f}" for part in mixture)
        if set(errors) != {"."}:
            yield f"| {group} | {share:.0%} | {mix} | {' | '.join(errors)} |"


def _shown(one: Estimate | None) -> str:
    if one is None or one.value is None:
        return "."
    if one.low is None or one.high is None:
        return f"{one.value:.2f}"
    return f"{one.value:.2f} ({one.low:.2f}–{one.high:.2f})"
