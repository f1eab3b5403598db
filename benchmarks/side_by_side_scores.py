"""Right, wrong or no answer: the tables of `side_by_side.py`.

Shares of queries; those of all draws count together. Precision: right of what is answered; recall: right of
all; F1: their harmonic mean. Intervals: 95 %, by resampling kinds (species) of the queries.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from side_by_side_draw import CASES, GENUS, LENGTHS, SPECIES, STRAIN

# Lengths whose mean the summary shows: most viruses are too short for 50 kb.
SHORT = LENGTHS[:-1]
RIGHT, WRONG = "right", "wrong"


NOTES = """
The encoder of "kinmer" and "kinmer, evidence" has seen no genus of references or queries; that of "kinmer,
shipped encoder" was trained on these very genomes. "kinmer, evidence": `--rank-by-evidence`, by which an ANI
of 95 % over half of the query proves a species, and one below 92 % disproves it (92 was chosen on set 0).
"""


class Measure(NamedTuple):
    """A table: of the queries of a `case`, `value` of right and wrong answers at a rank."""

    title: str
    case: str
    rank: str
    share: str


MEASURES = (
    Measure("Known strain: species right", STRAIN, "species", RIGHT),
    Measure("Known strain: species wrong", STRAIN, "species", WRONG),
    Measure("Known strain: genus right", STRAIN, "genus", RIGHT),
    Measure("Known strain: genus wrong", STRAIN, "genus", WRONG),
    Measure("New species: a species is named (wrong)", SPECIES, "species", WRONG),
    Measure("New species: genus right", SPECIES, "genus", RIGHT),
    Measure("New species: genus wrong", SPECIES, "genus", WRONG),
    Measure("New genus: a species is named (wrong)", GENUS, "species", WRONG),
    Measure("New genus: a genus is named (wrong)", GENUS, "genus", WRONG),
    Measure("New genus: lowest rank that is known, right", GENUS, "above", RIGHT),
    Measure("New genus: lowest rank that is known, wrong", GENUS, "above", WRONG),
)


def judged(queries: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """The queries with columns ``RANK_right``, ``RANK_wrong``: 1, 0, or NaN where nothing can be judged."""
    found = queries.copy()
    for rank in ("species", "genus", "above"):
        if rank == "above":
            named = pd.Series(_at(answers, queries["above"].tolist()), index=queries.index)
            truth, can = queries["above_name"], queries["above"].ne("")
        else:
            named, truth = answers[rank], queries[rank]
            can = queries["has_genus"].eq("1") if rank == "genus" else truth.eq(truth)
        sets = [set(names.split(";")) - {""} for names in truth]
        right = np.array([name in names for name, names in zip(named, sets, strict=True)])
        found[f"{rank}_{RIGHT}"] = np.where(can, right, np.nan)
        found[f"{rank}_{WRONG}"] = np.where(can, named.ne("") & ~right, np.nan)
    return found


def _at(answers: pd.DataFrame, ranks: Sequence[str]) -> list[str]:
    """Every answer's name at a rank of its own."""
    return [answers[rank].iloc[row] if rank else "" for row, rank in enumerate(ranks)]


def honest(table: pd.DataFrame) -> NDArray[np.float64]:
    """1 where all that is said of species and genus is right, as deep as the references allow."""
    genus = table["genus_right"].eq(1)
    right = np.select(
        [table["case"].eq(STRAIN), table["case"].eq(SPECIES)],
        [table["species_right"].eq(1), genus & table["species_wrong"].eq(0)],
        default=table["species_wrong"].eq(0) & table["genus_wrong"].eq(0),
    )
    return right.astype(float)


def read_all(folders: Sequence[Path], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """By variant: all its answers, judged; only those that have answered every draw."""
    found: dict[str, list[pd.DataFrame]] = {}
    for number, folder in enumerate(folders):
        queries = pd.read_csv(folder / "queries.tsv", sep="\t", dtype=str, keep_default_na=False)
        queries = queries.set_index("query").assign(draw=number)
        for path in (folder / "answers" / f"{name}.tsv" for name in names):
            if path.exists():
                answers = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
                for variant, one in answers.groupby("variant", sort=False):
                    told = one.set_index("query")
                    found.setdefault(str(variant), []).append(judged(queries.loc[told.index], told))
    whole = {variant: tables for variant, tables in found.items() if len(tables) == len(folders)}
    return {variant: pd.concat(tables) for variant, tables in whole.items()}


def report(folders: Sequence[Path], names: Sequence[str], bootstrap: int) -> str:
    """All tables as Markdown."""
    found = read_all(folders, names)
    # Those that were asked a sample come by themselves.
    size = max(len(table) for table in found.values())
    groups = [{name: one for name, one in found.items() if len(one) == size}]
    sampled = {name: one for name, one in found.items() if len(one) < size}
    if sampled:
        one = next(iter(sampled.values()))
        keys = list(zip(one["draw"], one.index, strict=True))
        groups.append({name: _only(one, keys) for name, one in found.items()})
    lines = [NOTES]
    for tables in groups:
        first = next(iter(tables.values()))
        lines += [
            f"\n## {len(first):,} queries of {first['genome'].nunique()} genomes, {len(folders)} sets\n"
        ]
        for group in ("cells", "viruses"):
            own = {name: one[one["group"] == group] for name, one in tables.items()}
            lines += [f"\n### {group}: lengths up to 10 kb together\n", *summary(own, bootstrap)]
            if tables is groups[0]:
                for measure in MEASURES:
                    lines += [f"\n{group}. {measure.title}\n", *by_length(own, measure)]
    lines += ["\n## Costs\n", *costs(folders, names)]
    return "\n".join([*lines, "\n### Times kinmer's\n", *ratios(folders, names)])


def _only(table: pd.DataFrame, keys: list[tuple[int, str]]) -> pd.DataFrame:
    wanted = set(keys)
    here = [key in wanted for key in zip(table["draw"], table.index, strict=True)]
    return table[here]


def by_length(tables: Mapping[str, pd.DataFrame], measure: Measure) -> Iterator[str]:
    """Rows of variants, columns of lengths."""
    yield "| | " + " | ".join(f"{length // 1000} kb" for length in LENGTHS) + " |"
    yield "| --- " * (len(LENGTHS) + 1) + "|"
    sizes: list[str] = []
    for name, table in tables.items():
        own = table[table["case"] == measure.case]
        cells = [own.loc[own["length"] == str(one), f"{measure.rank}_{measure.share}"] for one in LENGTHS]
        sizes = [f"{one.count():,}" for one in cells]
        yield f"| {name} | " + " | ".join(share(one.mean()) for one in cells) + " |"
    yield "| *queries* | " + " | ".join(sizes) + " |"


def share(value: float) -> str:
    """Three figures without the nought; a dot for nothing."""
    return "." if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


# Sums of right answers, wrong answers and queries in the last axis.
Sums = NDArray[np.float64]


def precision(sums: Sums) -> Sums:
    """Right of what is answered."""
    return sums[..., 0] / np.maximum(sums[..., 0] + sums[..., 1], 1e-12)


def recall(sums: Sums) -> Sums:
    """Right of all."""
    return sums[..., 0] / np.maximum(sums[..., 2], 1e-12)


def f1(sums: Sums) -> Sums:
    """Harmonic mean of the two: 2 r / (r + w + n)."""
    return np.asarray(2 * sums[..., 0] / np.maximum(sums.sum(axis=-1), 1e-12))


def wrong(sums: Sums) -> Sums:
    """Wrong of all."""
    return sums[..., 1] / np.maximum(sums[..., 2], 1e-12)


class Column(NamedTuple):
    """Of the summary."""

    title: str
    case: str
    rank: str
    value: Callable[[Sums], Sums]


SUMMARY = (
    Column("strain: species precision", STRAIN, "species", precision),
    Column("species recall", STRAIN, "species", recall),
    Column("species F1", STRAIN, "species", f1),
    Column("genus F1", STRAIN, "genus", f1),
    Column("new species: named as one", SPECIES, "species", wrong),
    Column("genus precision", SPECIES, "genus", precision),
    Column("genus recall", SPECIES, "genus", recall),
    Column("genus F1", SPECIES, "genus", f1),
    Column("new genus: species named", GENUS, "species", wrong),
    Column("genus named", GENUS, "genus", wrong),
)


def summary(tables: Mapping[str, pd.DataFrame], bootstrap: int) -> Iterator[str]:
    """A line for a variant, with intervals; the last column is the mean of `honest` over the cases."""
    yield "| | " + " | ".join((*(one.title for one in SUMMARY), "all is right")) + " |"
    yield "| --- " * (len(SUMMARY) + 2) + "|"
    for name, table in tables.items():
        short = table[table["length"].astype(int).isin(SHORT)]
        kinds, at = np.unique(short["kind"], return_inverse=True)
        # The same resamples for every variant: those that were asked the same have the same kinds.
        rng = np.random.default_rng(0)
        weights = rng.multinomial(len(kinds), np.full(len(kinds), 1 / len(kinds)), size=bootstrap)
        weights = np.concatenate([np.ones((1, len(kinds)), np.int64), weights])
        cells = [with_interval(one.value(_sums(short, at, weights, one))) for one in SUMMARY]
        cells.append(with_interval(_honest(short, at, weights)))
        yield f"| {name} | " + " | ".join(cells) + " |"


def _sums(table: pd.DataFrame, at: NDArray[np.intp], weights: NDArray[np.int64], column: Column) -> Sums:
    """(1 + bootstrap, 3) right, wrong and queries; the first without resampling."""
    own = table["case"].eq(column.case).to_numpy() & table[f"{column.rank}_{RIGHT}"].notna().to_numpy()
    values = table[[f"{column.rank}_{RIGHT}", f"{column.rank}_{WRONG}"]].assign(queries=1.0).to_numpy()
    return np.asarray(weights @ _by_kind(np.where(own[:, None], values, 0), at, weights.shape[1]))


def _by_kind(values: NDArray[np.float64], at: NDArray[np.intp], kinds: int) -> NDArray[np.float64]:
    found = np.zeros((kinds, values.shape[1]))
    np.add.at(found, at, values)
    return found


def _honest(table: pd.DataFrame, at: NDArray[np.intp], weights: NDArray[np.int64]) -> Sums:
    right = honest(table)
    shares = []
    for case in CASES:
        own = table["case"].eq(case).to_numpy()
        sums = weights @ _by_kind(np.stack([own * right, own], axis=1), at, weights.shape[1])
        shares.append(sums[:, 0] / np.maximum(sums[:, 1], 1e-12))
    return np.asarray(np.mean(shares, axis=0))


def with_interval(values: Sums) -> str:
    """The first value, and between which 95 % of the others lie."""
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return f"{share(values[0])} ({low:.2f}–{high:.2f})"


def costs(folders: Sequence[Path], names: Sequence[str]) -> Iterator[str]:
    """Of all sets together; a variant's search without those of its tool's other variants."""
    yield (
        "| | version | build: wall s | CPU-s | peak GB | index MB a set | search: wall s | CPU-s | peak GB"
        " | queries |"
    )
    yield "| --- | --- " + "| ---: " * 8 + "|"
    for name in names:
        paths = [folder / "answers" / f"{name}.json" for folder in folders]
        if all(path.exists() for path in paths):
            told = [json.loads(path.read_text()) for path in paths]
            index = np.mean([one["index"] for one in told]) / 1e6
            build = _spent(told, told[0]["build"])
            for variant, steps in told[0]["searches"].items():
                asked = sum(one["queries"] for one in told)
                yield (
                    f"| {variant} | {told[0]['version']} | {build} | {index:,.0f}"
                    f" | {_spent(told, steps)} | {asked:,} |"
                )


def ratios(folders: Sequence[Path], names: Sequence[str]) -> Iterator[str]:
    """Costs as multiples of those of the first variant that is there; searches by query."""
    yield "| | build: CPU | search: CPU a query | peak memory | index |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    first: list[float] = []
    for name in names:
        paths = [folder / "answers" / f"{name}.json" for folder in folders]
        if all(path.exists() for path in paths):
            told = [json.loads(path.read_text()) for path in paths]
            for variant, steps in told[0]["searches"].items():
                used = [one["steps"][step] for one in told for step in (*told[0]["build"], *steps)]
                build, search = (
                    sum(one["steps"][step]["cpu"] for one in told for step in part)
                    for part in (told[0]["build"], steps)
                )
                search /= sum(one["queries"] for one in told)
                index = sum(one["index"] for one in told)
                found = [build, search, max(one["peak"] for one in used), index]
                first = first or found
                shown = (f"{one / other:.2g}" for one, other in zip(found, first, strict=True))
                yield f"| {variant} | {' | '.join(shown)} |"


def _spent(told: Sequence[dict[str, Any]], steps: Sequence[str]) -> str:
    used = [one["steps"][step] for one in told for step in steps]
    wall, cpu = (sum(one[what] for one in used) for what in ("wall", "cpu"))
    return f"{wall:,.0f} | {cpu:,.0f} | {max(one['peak'] for one in used) / 1e9:.2f}"
