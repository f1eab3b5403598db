"""Right, wrong or no answer: the tables of `side_by_side.py`.

Shares of queries; those of all draws count together. Intervals: 95 %, by resampling kinds (species) of the
queries, with the same resamples for every tool.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from side_by_side_draw import CASES, GENUS, GROUPS, LENGTHS, OTHER, SETS, SPECIES, STRAIN

RIGHT, WRONG = "right", "wrong"
ALL_CASES = (STRAIN, OTHER, *CASES[1:])
# Whose costs the others' are multiples of, and who is compared.
BASE, OURS = "Kraken2", "kinmer"
# Of which case, at which rank, right and wrong answers are told.
MEASURES = (
    (STRAIN, "species"),
    (STRAIN, "genus"),
    (OTHER, "species"),
    (OTHER, "genus"),
    (SPECIES, "species"),
    (SPECIES, "genus"),
    (GENUS, "species"),
    (GENUS, "genus"),
    (GENUS, "above"),
)
NOTES = """
"All that was asked is right": of a known strain or another part of a reference the species is named
rightly; of a new species its genus is, and no species is named; of a new genus neither is named. Known
strains, new species and new genera are asked of whole references, other parts of references that hold 60 %
of every record.
kinmer's encoder has seen no genus of references or queries. An asterisk marks a tool's best variant: the one
with the highest mean over all cells.
"""

# By tool: by variant: all its answers, judged.
Found = dict[str, dict[str, pd.DataFrame]]
# A group, a case and a length of the queries.
Cell = tuple[str, str, int]


class Share(NamedTuple):
    """With its interval; NaN where nothing was asked."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return share(self.value) + ("" if np.isnan(self.value) else f" ({self.low:.2f}–{self.high:.2f})")


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
        [table["case"].isin([STRAIN, OTHER]), table["case"].eq(SPECIES)],
        [table["species_right"].eq(1), genus & table["species_wrong"].eq(0)],
        default=table["species_wrong"].eq(0) & table["genus_wrong"].eq(0),
    )
    return right.astype(float)


def read_all(folders: Sequence[Path], names: Sequence[str]) -> Found:
    """The answers of the tools that have answered every set."""
    parts: dict[str, dict[str, list[pd.DataFrame]]] = defaultdict(lambda: defaultdict(list))
    for folder in (folder / one for folder in folders for one in SETS):
        queries = _read(folder / "queries.tsv").set_index("query")
        for name in names:
            path = folder / "answers" / f"{name}.tsv"
            if path.exists():
                for variant, one in _read(path).groupby("variant", sort=False):
                    told = one.set_index("query")
                    found = judged(queries.loc[told.index], told).astype({"length": int})
                    parts[name][str(variant)].append(found.assign(all_right=honest(found)))
    whole: Found = defaultdict(dict)
    for name, variants in parts.items():
        for variant, tables in variants.items():
            if len(tables) == len(folders) * len(SETS):
                whole[name][variant] = pd.concat(tables)
    return dict(whole)


def _read(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def interval(table: pd.DataFrame, column: str, bootstrap: int) -> Share:
    """The mean of a column, kinds resampled."""
    kinds, at = np.unique(table["kind"], return_inverse=True)
    if not len(kinds):
        return Share(np.nan, np.nan, np.nan)
    sums = np.zeros((len(kinds), 2))
    np.add.at(sums, at, np.stack([table[column].to_numpy(float), np.ones(len(table))], axis=1))
    weights = np.random.default_rng(0).multinomial(
        len(kinds), np.full(len(kinds), 1 / len(kinds)), size=bootstrap
    )
    drawn = weights @ sums
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return Share(float(table[column].mean()), float(low), float(high))


def cells_of(table: pd.DataFrame, bootstrap: int) -> dict[Cell, Share]:
    """All that was asked is right: by group, case and length."""
    return {
        (group, case, length): interval(
            table[table["group"].eq(group) & table["case"].eq(case) & table["length"].eq(length)],
            "all_right",
            bootstrap,
        )
        for group in GROUPS
        for case in ALL_CASES
        for length in LENGTHS
    }


def report(folders: Sequence[Path], names: Sequence[str], bootstrap: int) -> str:
    """All tables as Markdown."""
    found = read_all(folders, names)
    cells = {
        variant: cells_of(table, bootstrap)
        for variants in found.values()
        for variant, table in variants.items()
    }
    # Of every tool the variant that is best on the whole.
    best = {
        max(variants, key=lambda one: np.nanmean([cell.value for cell in cells[one].values()]))
        for variants in found.values()
    }
    first = next(iter(next(iter(found.values())).values()))
    lines = [NOTES, f"{len(first):,} queries of {first['genome'].nunique()} entries, {len(folders)} draws."]
    lines += [
        "\n## Beside every tool's best variant\n",
        *ranked({name: cells[name] for name in cells if name in best}),
    ]
    lines += ["\n## Beside whichever variant is best in a cell\n", *ranked(cells)]
    for group in GROUPS:
        for case in ALL_CASES:
            lines += [f"\n## {group}, {case}: all that was asked is right\n", *HEAD]
            sizes = first[first["group"].eq(group) & first["case"].eq(case)].groupby("length")["kind"]
            for variant, own in cells.items():
                shown = " | ".join(str(own[group, case, length]) for length in LENGTHS)
                lines.append(f"| {variant}{' *' if variant in best else ''} | {shown} |")
            for title, counts in (("queries", sizes.size()), ("species", sizes.nunique())):
                shown = " | ".join(f"{counts.get(length, 0):,}" for length in LENGTHS)
                lines.append(f"| *{title}* | {shown} |")
    for group in GROUPS:
        for case, rank in MEASURES:
            title = f"\n## {group}, {case}: {rank} right · wrong\n"
            lines += [
                title,
                *by_length({k: v for one in found.values() for k, v in one.items()}, group, case, rank),
            ]
    return "\n".join([*lines, "\n## Costs\n", *costs(folders, names)])


HEAD = (
    "| | " + " | ".join(f"{one // 1000} kb" for one in LENGTHS) + " |",
    "| --- " * (len(LENGTHS) + 1) + "|",
)


def ranked(cells: Mapping[str, Mapping[Cell, Share]]) -> Iterator[str]:
    """In every cell `OURS` beside the first other tool; "level" where their intervals overlap."""
    yield from HEAD
    counts: dict[str, int] = defaultdict(int)
    for group in GROUPS:
        for case in ALL_CASES:
            shown = []
            for length in LENGTHS:
                ours = cells[OURS][group, case, length] if OURS in cells else None
                here = {
                    name: own[group, case, length] for name, own in cells.items() if not name.startswith(OURS)
                }
                if not here or np.isnan(max(here.values()).value):
                    shown.append(".")
                    continue
                name = max(here, key=lambda one: here[one].value)
                place = "" if ours is None else place_of(ours, here[name])
                counts[place] += 1
                shown.append(f"{place} {ours or ''} · {name} {here[name]}".removeprefix("  · "))
            yield f"| {group}, {case} | {' | '.join(shown)} |"
    if OURS in cells:
        yield "\n" + ", ".join(f"{place} in {number} cells" for place, number in sorted(counts.items()))


def place_of(ours: Share, other: Share) -> str:
    """First; level, where the intervals overlap; or behind."""
    if ours.value >= other.value:
        return "first"
    return "level" if ours.high >= other.low else "**behind**"


def by_length(tables: Mapping[str, pd.DataFrame], group: str, case: str, rank: str) -> Iterator[str]:
    """Rows of variants, columns of lengths."""
    yield from HEAD
    for name, table in tables.items():
        own = table[table["group"].eq(group) & table["case"].eq(case)].groupby("length")
        right, wrong = (own[f"{rank}_{what}"].mean() for what in (RIGHT, WRONG))
        cells = (f"{share(right.get(one, np.nan))} · {share(wrong.get(one, np.nan))}" for one in LENGTHS)
        yield f"| {name} | {' | '.join(cells)} |"


def share(value: float) -> str:
    """Three figures without the nought; a dot for nothing."""
    return "." if np.isnan(value) else f"{value:.3f}".replace("0.", ".", 1)


def costs(folders: Sequence[Path], names: Sequence[str]) -> Iterator[str]:
    """Of the whole references of all draws; times `BASE` in brackets."""
    yield "| | version | build: CPU-s a set | index: MB a set | search: CPU-ms a query | peak GB |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    rows: dict[str, tuple[str, list[float], float]] = {}
    for name in names:
        paths = [folder / "answers" / f"{name}.json" for folder in folders]
        told = [json.loads(path.read_text()) for path in paths if path.exists()]
        for variant, steps in told[0]["searches"].items() if len(told) == len(paths) else ():
            build, search = (
                sum(one["steps"][step]["cpu"] for one in told for step in part)
                for part in (told[0]["build"], steps)
            )
            peak = max(one["steps"][step]["peak"] for one in told for step in (*told[0]["build"], *steps))
            index = sum(one["index"] for one in told) / len(told) / 1e6
            asked = sum(one["queries"] for one in told)
            rows[variant] = (
                told[0]["version"],
                [build / len(told), index, 1000 * search / asked],
                peak / 1e9,
            )
    base = rows.get(BASE, ("", [np.nan] * 3, 0.0))[1]
    for variant, (version, values, peak) in rows.items():
        shown = (f"{one:,.3g} ({one / other:.2g})" for one, other in zip(values, base, strict=True))
        yield f"| {variant} | {version} | {' | '.join(shown)} | {peak:.2f} |"
