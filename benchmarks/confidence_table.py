"""Every query of `confidence.py` with what is right for it and what kinmer said, in a row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from confidence_draw import PLASMIDS, QUERIES
from side_by_side_answers import kinmer_lineage
from side_by_side_draw import PLASMIDS as GROUP
from side_by_side_draw import RANKS, Genomes

MOLECULES = ("chromosome", "plasmid", "virus")
# Ranks whose names may be alike within an ANI cluster; the right ones stand in ``queries.tsv``.
ALIKE = ("genus", "species")


def read(folders: Sequence[Path], answers: str, source: Genomes) -> pd.DataFrame:
    """All queries of all sets. Columns beside those of ``queries.tsv``:

    set, source : which set, and which file of queries. For every rank RANK_name, RANK_p : the name of the
    consensus and its probability (NaN for none); RANK_given : 1 where it is part of the answer; RANK_right :
    1, 0, or NaN where it cannot be judged; of genus and species also RANK_alike, where the names of an ANI
    cluster count as one. molecule : the kind, blank where unknown; told : the kind that is said.
    """
    tables = []
    for number, folder in enumerate(folders):
        asked = pd.concat([_queries(folder / f"{name}.tsv").assign(source=name) for name in QUERIES])
        found = pd.DataFrame(_lines(folder / "answers" / answers)).set_index("query")
        if set(asked["query"]) != set(found.index):
            raise SystemExit(f"{folder}: {answers} is of other queries; ask --again")
        # Entries that are only plasmids have no labels here.
        asked = asked[asked["group"].ne(GROUP)]
        tables.append(asked.assign(set=number).join(found, on="query"))
    table = pd.concat(tables, ignore_index=True).astype({"length": int})
    return judged(table, source.genomes, _kinds(source))


def _queries(path: Path) -> pd.DataFrame:
    """A table of queries, which is empty where a draw has no plasmids."""
    if not path.read_text().strip():
        return pd.DataFrame({"query": pd.Series(dtype=str)})
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt") as lines:
        for line in lines:
            yield row_of(json.loads(line))


def row_of(result: dict[str, Any]) -> dict[str, Any]:
    """The columns that say what kinmer answered."""
    row: dict[str, Any] = {"query": result["query_id"]}
    for rank, name in zip(RANKS, kinmer_lineage(result), strict=True):
        call = result["consensus"].get(rank) or {}
        chance = call.get("probability")
        row |= {f"{rank}_name": call.get("name") or "", f"{rank}_given": int(bool(name))}
        row[f"{rank}_p"] = np.nan if chance is None else float(chance)
    molecule = result["molecule"] or {"name": "", "probabilities": {}}
    row["told"] = molecule["name"]
    return row | {f"p_{kind}": molecule["probabilities"].get(kind, np.nan) for kind in MOLECULES}


def _kinds(source: Genomes) -> pd.Series[str]:
    """Of every genome the kind of its molecules that are no plasmids; blank for drafts: it is unknown."""
    other = source.sequences[source.sequences["molecule"] != "plasmid"]
    kinds = other.groupby("genome_id")["molecule"].agg(lambda own: own.iloc[0] if own.nunique() == 1 else "")
    return kinds.where(kinds.isin(MOLECULES), "")


def judged(table: pd.DataFrame, genomes: pd.DataFrame, kinds: pd.Series[str]) -> pd.DataFrame:
    """The table with RANK_right, RANK_alike and molecule."""
    found = table.copy()
    names = genomes.loc[table["genome"]].reset_index(drop=True)
    for rank in RANKS:
        can = names[rank].ne("").to_numpy()
        # The names of new species and genera are no reference's, so that none that is said can be right.
        right = table[f"{rank}_name"].to_numpy() == names[rank].to_numpy()
        found[f"{rank}_right"] = np.where(can, right, np.nan)
        if rank in ALIKE:
            pairs = zip(table[f"{rank}_name"], table[rank], strict=True)
            alike = [name in names_of.split(";") for name, names_of in pairs]
            can_too = can | (table["has_genus"].eq("1").to_numpy() if rank == "genus" else False)
            found[f"{rank}_alike"] = np.where(can_too, right | np.array(alike), np.nan)
        # What was not said is not right.
        for column in (f"{rank}_right", f"{rank}_alike"):
            if column in found:
                found.loc[table[f"{rank}_name"].eq("") & found[column].notna(), column] = 0.0
    plasmids = table["source"].eq(PLASMIDS)
    found["molecule"] = np.where(plasmids, "plasmid", kinds.reindex(table["genome"]).fillna("").to_numpy())
    return found
