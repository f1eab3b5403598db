"""The tables of `confidence.py` as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from confidence_draw import ALL_LENGTHS, PLASMIDS
from confidence_figures import (
    Bools,
    Figure,
    calibration_error,
    case_rows,
    reliability,
    scores_of,
    share,
    weights_of,
)
from confidence_table import ALIKE, MOLECULES
from side_by_side_draw import CASES, GENUS, RANKS, SPECIES, STRAIN

# Length at which names of absent species are counted; lengths of the calibration error.
AT = 10_000
CALIBRATED = tuple(length for length in ALL_LENGTHS if length >= 2_000)
LEAST = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
GROUPS = ("cells and viruses", "cells", "viruses")
TITLES = ("precision", "recall", "F1", "F1, even")
# Cases in which the references have the right name of a rank.
PRESENT = {"species": (STRAIN,), "genus": (STRAIN, SPECIES)}


def report(table: pd.DataFrame) -> str:
    """Everything; plasmids count only for the molecules."""
    own = table[table["source"].ne(PLASMIDS)].reset_index(drop=True)
    lines = [
        f"{len(own):,} queries of {own['genome'].nunique()} genomes and {own['kind'].nunique()} kinds in "
        f"{own['set'].nunique()} sets, and {len(table) - len(own):,} of plasmids for the molecules.",
        "95 % intervals: kinds resampled; an error of calibration is larger in a resample than in the whole, "
        "so that its interval lies high. *: names of one cluster of 95 % ANI taken as one.",
        "Mixture: ½ known strains, ¼ new species, ¼ new genera; lengths alike.",
    ]
    for group in GROUPS:
        lines += [f"\n## Names at the default threshold: {group}", *names(of_group(own, group))]
    lines += ["\n## Calibration, 2–50 kb: expected error", *errors(own)]
    for rank in ALIKE:
        lines += [f"\n### Reliability of the {rank}, mixture, 2–50 kb", *reliable(own, rank)]
    for group in GROUPS:
        lines += [f"\n## Absent species at 10 kb: {group}", *absent(of_group(own, group))]
    held = table[table["case"].isin((SPECIES, GENUS)) & table["molecule"].ne("")].reset_index(drop=True)
    return "\n".join([*lines, "\n## Molecule: species and genera that are held out", *molecules(held)])


def of_group(table: pd.DataFrame, group: str) -> pd.DataFrame:
    """The queries of cells, of viruses, or all."""
    return table if group == GROUPS[0] else table[table["group"] == group].reset_index(drop=True)


def shown(one: Figure) -> str:
    """A share with its interval; a dot for none."""
    if np.isnan(one.value):
        return "."
    value = f"{one.value:.3f}".replace("0.", ".", 1)
    return f"{value} ({one.low:.2f}–{one.high:.2f})"


def _head(first: str, columns: Sequence[str]) -> Iterator[str]:
    yield ""
    yield f"| {first} | " + " | ".join(columns) + " |"
    yield "| --- " * (len(columns) + 1) + "|"


def names(table: pd.DataFrame) -> Iterator[str]:
    """By rank and case, of every length: right of all, answered of all, right of the answered."""
    for rank in ("species", "genus"):
        yield from _head(rank, [f"{length // 1000} kb" for length in ALL_LENGTHS])
        judged = table[f"{rank}_right"].notna().to_numpy()
        given = table[f"{rank}_given"].eq(1).to_numpy()
        right, alike = (given & table[f"{rank}_{one}"].eq(1).to_numpy() for one in ("right", "alike"))
        for case in CASES:
            here = judged & case_rows(table, (case,))
            if case in PRESENT[rank]:
                yield _line(f"{case}: accuracy", table, right, here)
                yield _line(f"{case}: accuracy*", table, alike, here)
                yield _line(f"{case}: coverage", table, given, here)
                yield _line(f"{case}: precision", table, right, here & given)
                yield _line(f"{case}: precision*", table, alike, here & given)
            else:
                yield _line(f"{case}: named (wrong)", table, given, here)
        yield _line("mixture: coverage", table, given, judged, mixed=True)
        yield _line("mixture: precision", table, right, judged & given, mixed=True)
        yield _line("mixture: precision*", table, alike, judged & given, mixed=True)
        sizes = (
            [str(int((judged & case_rows(table, (case,)) & _long(table, one)).sum())) for case in CASES]
            for one in ALL_LENGTHS
        )
        yield "| *queries by case* | " + " | ".join(" · ".join(one) for one in sizes) + " |"


def _long(table: pd.DataFrame, length: int) -> Bools:
    return np.asarray(table["length"].eq(length).to_numpy())


def _line(title: str, table: pd.DataFrame, over: Bools, under: Bools, *, mixed: bool = False) -> str:
    weights = weights_of(table) if mixed else None
    cells = (share(table, over, under & _long(table, length), weights) for length in ALL_LENGTHS)
    return f"| {title} | " + " | ".join(map(shown, cells)) + " |"


def errors(table: pd.DataFrame) -> Iterator[str]:
    """By rank: of the mixture, of its groups, of its cases and of its lengths."""
    longer = table[table["length"].isin(CALIBRATED)].reset_index(drop=True)
    parts = {group: of_group(longer, group) for group in GROUPS}
    parts |= {case: longer[longer["case"] == case].reset_index(drop=True) for case in CASES}
    parts |= {f"{one // 1000} kb": longer[_long(longer, one)].reset_index(drop=True) for one in CALIBRATED}
    yield from _head("", list(parts))
    for rank in RANKS:
        for mark, column in (("", f"{rank}_right"), ("*", f"{rank}_alike")):
            if column in table:
                cells = (calibration_error(one, rank, column, weights_of(one)) for one in parts.values())
                yield f"| {rank}{mark} | " + " | ".join(map(shown, cells)) + " |"


def reliable(table: pd.DataFrame, rank: str) -> Iterator[str]:
    """By bin of probability what was said and what was right."""
    longer = table[table["length"].isin(CALIBRATED)].reset_index(drop=True)
    strict, alike = (
        reliability(longer, rank, f"{rank}_{one}", weights_of(longer)) for one in ("right", "alike")
    )
    yield from _head("probability", ["queries", "share", "mean said", "right", "right*"])
    values = np.column_stack([strict[["weight", "said", "right"]].to_numpy(float), alike["right"]])
    for row, (count, line) in enumerate(zip(strict["queries"].tolist(), values, strict=True)):
        cells = " | ".join("." if np.isnan(value) else f"{value:.3f}" for value in line)
        yield f"| {row / 10:.1f}–{(row + 1) / 10:.1f} | {count:,} | {cells} |"


def absent(table: pd.DataFrame) -> Iterator[str]:
    """At 10 kb: absent species left without a name, present ones named; by least probability."""
    own = table[table["length"] == AT].reset_index(drop=True)
    yield from _head(
        "least probability",
        ["absent: no name", "new species", "new genus", "present: named", "right", "right*", "wrong*"],
    )
    yield f"| default | {_absent_row(own, own['species_given'].eq(1).to_numpy())} |"
    for least in LEAST:
        yield f"| {least:g} | {_absent_row(own, own['species_p'].ge(least).to_numpy())} |"
    sizes = [
        int(case_rows(own, cases).sum()) for cases in ((SPECIES, GENUS), (SPECIES,), (GENUS,), (STRAIN,))
    ]
    yield "| *queries* | " + " | ".join(map(str, sizes)) + " | | | |"


def _absent_row(table: pd.DataFrame, named: Bools) -> str:
    present, weights = case_rows(table, (STRAIN,)), weights_of(table)
    right, alike = (table[f"species_{one}"].eq(1).to_numpy() for one in ("right", "alike"))
    cells = (
        share(table, ~named, case_rows(table, (SPECIES, GENUS)), weights),
        share(table, ~named, case_rows(table, (SPECIES,))),
        share(table, ~named, case_rows(table, (GENUS,))),
        share(table, named, present),
        share(table, named & right, present),
        share(table, named & alike, present),
        share(table, named & ~alike, present),
    )
    return " | ".join(map(shown, cells))


def molecules(table: pd.DataFrame) -> Iterator[str]:
    """By class and length; precision depends on how many of each are asked, F1 of even classes does not."""
    yield (
        "\nThe likeliest kind is the answer. Contigs of drafts, which may be of plasmids, are left out."
        "\nF1, even: with classes that weigh alike."
    )
    yield from _head("", [f"{length // 1000} kb" for length in ALL_LENGTHS])
    for kind in MOLECULES:
        found = [scores_of(table[_long(table, length)], kind) for length in ALL_LENGTHS]
        for name, title in zip(("precision", "recall", "f1", "even"), TITLES, strict=True):
            cells = " | ".join(shown(getattr(one, name)) for one in found)
            yield f"| {kind}: {title} | {cells} |"
        yield f"| *{kind}: queries* | " + " | ".join(str(one.queries) for one in found) + " |"
