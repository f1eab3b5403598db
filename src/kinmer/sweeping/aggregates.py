"""Records of trials to figures of settings: means over seeds, with spread and interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kinmer.sweeping.space import flat, text_of

__all__ = ["Figure", "Summary", "differing", "figure", "figures_of", "summaries", "t_quantile"]

Record = Mapping[str, Any]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A mean over n seeds; sd and 95 % interval are None for a single one."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """A setting. varied : its values by name. seeds : of the trials that ended well. figures : by name."""

    varied: Mapping[str, Any]
    seeds: tuple[int, ...]
    failed: int
    figures: Mapping[str, Figure]

    @property
    def score(self) -> Figure | None:
        return self.figures.get("score")


def figures_of(record: Record) -> dict[str, float]:
    """All that is measured of a trial, by name of its column; nothing for one that failed."""
    if record["state"] != "done":
        return {}
    cells: Mapping[str, Mapping[str, float]] = record.get("retrieval") or {}
    found: dict[str, float | None] = {"score": record["score"]}
    for length in sorted({one for lengths in cells.values() for one in lengths}, key=_first_number):
        found[f"species@1_{length}"] = _mean([cells[case][length] for case in cells if length in cells[case]])
    for case, lengths in cells.items():
        found[f"species@1_{case}"] = _mean(list(lengths.values()))
    for name in ("held_out_retrieval", "validation_loss", "kl", "mse"):
        found[name] = record.get(name)
    for block, error in record.get("blocks", {}).items():
        found[f"mse_{block.replace('-', '')}"] = error
    # Names that no setting has: both are columns of one table.
    found["best_epoch"], found["last_epoch"] = record.get("epoch"), record.get("epochs")
    for name in ("seconds", "scoring_seconds", "parameters"):
        found[name] = record.get(name)
    return {name: float(value) for name, value in found.items() if value is not None}


def differing(records: Sequence[Record], first: Sequence[str]) -> tuple[str, ...]:
    """Names of the settings that tell the trials apart, without the seed; those in `first` in any case."""
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in flat(record["settings"]).items():
            values.setdefault(name, set()).add(text_of(value))
    more = (name for name, some in values.items() if len(some) > 1 and name not in (*first, "seed"))
    return (*first, *more)


def summaries(records: Sequence[Record], names: Sequence[str], *, maximise: bool) -> list[Summary]:
    """A summary for every setting, the best first; settings with a failed trial come behind the others."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        settings = flat(record["settings"])
        groups.setdefault(tuple(text_of(settings.get(name)) for name in names), []).append(record)
    found = [_summary(some, names) for some in groups.values()]

    def rank(one: Summary) -> tuple[bool, bool, float]:
        score = one.score
        value = 0.0 if score is None else -score.mean if maximise else score.mean
        return score is None, one.failed > 0, value

    return sorted(found, key=rank)


def figure(values: Sequence[float]) -> Figure:
    """Mean, standard deviation (n - 1) and Student's interval of the mean."""
    n, mean = len(values), _mean(values)
    if n < 2:
        return Figure(mean, None, None, None)
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Figure(mean, sd, mean - half, mean + half)


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """t such that a Student variable of so many degrees of freedom lies within ±t with this probability.

    By halving, on the closed forms of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _t_within(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def _t_within(t: float, freedom: int) -> float:
    """Probability that a Student variable lies within ±t."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    # cos for odd, 1 for even degrees of freedom, then each term out of the one before.
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def _summary(records: Sequence[Record], names: Sequence[str]) -> Summary:
    settings = flat(records[0]["settings"])
    done = [one for one in records if one["state"] == "done"]
    columns: dict[str, list[float]] = {}
    for record in done:
        for name, value in figures_of(record).items():
            columns.setdefault(name, []).append(value)
    return Summary(
        {name: settings.get(name) for name in names},
        tuple(sorted(one["settings"]["seed"] for one in done)),
        len(records) - len(done),
        {name: figure(values) for name, values in columns.items()},
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _first_number(length: str) -> int:
    return int(length.split("-")[0])
