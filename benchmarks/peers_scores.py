"""Scores of tools' answers in the cells of kinmer's own evaluation, as Markdown and JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from peers_answers import Rows
from peers_bench import Bench
from peers_run import Result, Usage

from kinmer.evaluate.measures import EITHER, Rank, ranks_of
from kinmer.evaluate.statistics import ALL, Cells, intervals

# The ranks at which the database has an answer for a case.
RANKS = {"strain": ("species", EITHER), "genome": ("species", EITHER), "genus": ("genus",)}
ASKED = ("species", EITHER, "genus")
AT_1, ANSWERED = "at_1", "answered"


class Score(NamedTuple):
    """A share of a cell's queries; `ceiling`: of those that the database has an answer for."""

    tool: str
    rank: str
    case: str
    domain: str
    length: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    ceiling: float
    queries: int
    genomes: int


def score(
    benches: Sequence[Bench],
    found: Sequence[Mapping[str, Result]],
    tools: Sequence[str],
    bootstrap: int,
    seed: int,
) -> list[Score]:
    """All scores of `tools`; the queries of several benchmarks are pooled, as kinmer's evaluation does."""
    queries = _stacked([bench.query_table for bench in benches])
    database = _stacked([bench.database_table for bench in benches])
    # `open_benchmark` has checked the files, and a benchmark's queries overlap none of its entries.
    nothing = np.empty(0, np.int64)
    ranks = [rank for rank in ranks_of(queries, database, (nothing, nothing)) if rank.name in ASKED]
    cells = Cells(queries, bootstrap=bootstrap, seed=seed)
    scores: list[Score] = []
    for rank in ranks:
        rows = np.stack([_pooled(benches, found, tool, rank.name) for tool in tools])
        scores += _of_rank(rank, rows, cells, tools)
    return scores


def _stacked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    numbered = [table.assign(set=at) for at, table in enumerate(tables)]
    return pd.concat(numbered, ignore_index=True).fillna("")


def _pooled(benches: Sequence[Bench], found: Sequence[Mapping[str, Result]], tool: str, rank: str) -> Rows:
    """(q,) a tool's answers as places in the databases one behind the other, -1 for none."""
    pooled, first = [], 0
    for bench, results in zip(benches, found, strict=True):
        answers = results[tool].answers
        rows = answers.genus if rank == "genus" else answers.species
        pooled.append(np.where(rows >= 0, rows + first, -1))
        first += len(bench.database_table)
    return np.concatenate(pooled)


def _of_rank(rank: Rank, rows: Rows, cells: Cells, tools: Sequence[str]) -> Iterator[Score]:
    """Scores at a rank of (tools, q) answers."""
    every = np.arange(rows.shape[1])
    right = np.stack([rank.right(every, one[:, None])[:, 0] for one in rows])
    values = np.stack([right, rows >= 0], axis=2).astype(float)
    can = rank.relevant() > 0
    for cell in cells.of(rank.asked):
        sums = cell.sums(values).transpose(1, 0, 2).reshape(cell.starts.size, -1)
        told = iter(intervals(sums, cell.sizes[:, None], cells.weights(cell)))
        most, size = float(can[cell.rows].mean()), (cell.rows.size, cell.starts.size)
        for tool in tools:
            for measure in (AT_1, ANSWERED):
                one = next(told)
                place = (tool, rank.name, cell.case, cell.domain, cell.length, measure)
                yield Score(*place, one.value, one.low, one.high, most if measure == AT_1 else 1.0, *size)


def machine(threads: int) -> str:
    """The machine in a line."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):  # not on Linux
        pass
    return f"{model}, {threads} threads, {platform.system()}, load {os.getloadavg()[0]:.1f} at the end"


def tables(
    scores: Sequence[Score], found: Sequence[Mapping[str, Result]], tools: Sequence[str], facts: str
) -> str:
    """Markdown: agreement by case, domain and length; share answered; costs."""
    at: dict[tuple[str, ...], Score] = {one[:6]: one for one in scores}
    lengths = sorted({one.length for one in scores}, key=lambda one: (one == ALL, len(one), one))
    cases = sorted({one.case for one in scores} - {ALL}) or [ALL]
    domains = sorted({one.domain for one in scores} - {ALL}) or [ALL]
    lines = ["Shares of queries with 95 % bootstrap intervals over genomes; no answer is a wrong one."]
    for case in cases:
        for rank in RANKS.get(case, ASKED):
            for domain in domains:
                lines += _share_table(at, tools, (rank, case, domain), lengths, AT_1)
    for case in cases:
        for domain in domains:
            place = (RANKS.get(case, ASKED)[0], case, domain)
            lines += _share_table(at, tools, place, lengths, ANSWERED)
    return "\n".join([*lines, "", *_cost_table(found, tools), "", facts])


def _share_table(
    at: Mapping[tuple[str, ...], Score],
    tools: Sequence[str],
    place: tuple[str, str, str],
    lengths: Sequence[str],
    measure: str,
) -> Iterator[str]:
    rank, case, domain = place
    first = [at.get((tools[0], *place, length, measure)) for length in lengths]
    if not any(first):
        return
    title = f"best answer is of the same {rank}" if measure == AT_1 else f"answered ({rank})"
    yield f"\n{title}: case {case}, {domain}\n"
    yield "| | " + " | ".join(f"{int(one) / 1000:g} kb" if one.isdigit() else one for one in lengths) + " |"
    yield "| --- " * (len(lengths) + 1) + "|"
    for tool in tools:
        shown = (_share(at.get((tool, *place, length, measure))) for length in lengths)
        yield f"| {tool} | " + " | ".join(shown) + " |"
    if measure == AT_1:
        yield (
            "| *ceiling* | " + " | ".join("" if one is None else f"{one.ceiling:.3f}" for one in first) + " |"
        )
        counts = ("" if one is None else f"{one.queries:,} / {one.genomes:,}" for one in first)
        yield "| *queries / genomes* | " + " | ".join(counts) + " |"


def _share(one: Score | None) -> str:
    if one is None or one.value is None:
        return "."
    interval = "" if one.low is None or one.high is None else f" [{one.low:.2f}, {one.high:.2f}]"
    return f"{one.value:.3f}{interval}"


def costs(found: Sequence[Mapping[str, Result]], tool: str) -> dict[str, Usage]:
    """Step -> times summed and memory at its largest over the benchmarks."""
    summed = {}
    for step in found[0][tool].steps:
        used = [one[tool].steps[step] for one in found]
        wall, cpu = (sum(getattr(one, name) for one in used) for name in ("wall", "cpu"))
        summed[step] = Usage(wall, cpu, max(one.peak for one in used))
    return summed


def _cost_table(found: Sequence[Mapping[str, Result]], tools: Sequence[str]) -> Iterator[str]:
    yield "| tool | version | step | wall s | processor s | peak memory | index |"
    yield "| --- | --- | --- | ---: | ---: | ---: | ---: |"
    for tool in tools:
        index = max(one[tool].index for one in found)
        for step, used in costs(found, tool).items():
            shown = f"{index / 1e6:,.0f} MB" if step == "index" else ""
            yield (
                f"| {tool} | {found[0][tool].version} | {step} | {used.wall:,.1f} | {used.cpu:,.1f}"
                f" | {used.peak / 1e6:,.0f} MB | {shown} |"
            )


def write_json(
    path: Path,
    scores: Sequence[Score],
    found: Sequence[Mapping[str, Result]],
    tools: Sequence[str],
    facts: str,
) -> None:
    """Scores, costs, versions and command lines."""
    told = {
        tool: {
            "version": found[0][tool].version,
            "commands": found[0][tool].commands,
            "steps": {step: asdict(used) for step, used in costs(found, tool).items()},
            "index_bytes": max(one[tool].index for one in found),
        }
        for tool in tools
    }
    shown = {"machine": facts, "tools": told, "scores": [one._asdict() for one in scores]}
    path.write_text(json.dumps(shown, indent=1) + "\n")
