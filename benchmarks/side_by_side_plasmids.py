"""Plasmids in a draw of `side_by_side.py`: entries of the collection that are only a plasmid.

They carry their host's names, and go with its genus into the same half, so that the draw's encoder has seen
none of them. Known: another plasmid of the same taxonomic unit (PTU) stays in the references, or, without
PTU, the host's species does. New: the host's species or genus has left them, genomes and all; so have the
plasmids of other hosts that share a PTU or an ANI cluster with one that is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pandas as pd
from side_by_side_draw import GENUS, SPECIES, STRAIN, TAKEN, Draw, Genomes, halves, mates, plasmid_units

# Plasmids of a host's species in the collection's draw; kinds (host species) that a case asks for.
PER_HOST, ASKED = 3, 20


def with_plasmids(source: Genomes, chosen: Draw, half: int, seed: int) -> Draw:
    """The draw, plasmids added to its references and cases."""
    rng = np.random.default_rng([seed, 3, half])
    side = halves(source.genomes, np.random.default_rng([seed, 0])) == half
    left = _dealt(source, side, half, seed)
    left = left.loc[rng.permutation(left.index)].groupby("species").head(PER_HOST)
    genomes = source.genomes.loc[chosen.references]
    gone = _gone(source.genomes[side], genomes, left, rng)
    new = pd.Series(
        np.select([left["genus"].isin(gone), left["species"].isin(gone)], [GENUS, SPECIES], ""), left.index
    )
    known = left[new.eq("")]
    # A plasmid inside a genome that stays gives its unit away.
    units = plasmid_units(source.folder)
    inside = source.sequences.loc[source.sequences["genome_id"].isin(genomes.index), "sequence_id"]
    able = ~left["ptu"].isin({units[name] for name in inside if name in units})
    cases: dict[str, str] = {}
    for case in (GENUS, SPECIES):
        rows = left[new.eq(case) & able].drop_duplicates("species").head(ASKED)
        cases.update(dict.fromkeys(rows.index, case))
    for _, row in left.loc[list(cases)].iterrows():
        known = known[~mates(row, known)]
    asked = _strains(known, set(genomes["species"]))
    known = known.drop(index=asked)
    genera = {*genomes["genus"], *known["genus"]}
    kept = {one: case for one, case in cases.items() if case == GENUS or left.loc[one, "genus"] in genera}
    return replace(
        chosen,
        references=[*chosen.references, *known.index],
        cases={**chosen.cases, **kept, **dict.fromkeys(asked, STRAIN)},
    )


def _dealt(source: Genomes, side: pd.Series[bool], half: int, seed: int) -> pd.DataFrame:
    """The plasmids of a half: those of genera with genomes go with these."""
    genera = sorted(set(source.plasmids["genus"]))
    dealt = np.random.default_rng([seed, 3]).integers(2, size=len(genera)) == half
    here = dict(zip(genera, dealt.tolist(), strict=True))
    here |= dict(zip(source.genomes["genus"], side.tolist(), strict=True))
    return source.plasmids[source.plasmids["genus"].map(here).astype(bool)]


def _gone(
    genomes: pd.DataFrame, known: pd.DataFrame, plasmids: pd.DataFrame, rng: np.random.Generator
) -> set[str]:
    """Genera and species that are not in the references.

    Those of the genomes that have left, and `TAKEN` of those that only plasmids have; a genus keeps one.
    """
    gone = {name for rank in ("genus", "species") for name in set(genomes[rank]) - set(known[rank])}
    gone |= _some(set(plasmids["genus"]) - set(genomes["genus"]), rng)
    for genus, own in plasmids[~plasmids["genus"].isin(gone)].groupby("genus"):
        species = set(own["species"]) - set(genomes["species"])
        several = len(species) > 1 or genus in set(known["genus"])
        gone |= _some(species, rng) if species and several else set()
    return gone


def _some(names: Iterable[str], rng: np.random.Generator) -> set[str]:
    """A share of `TAKEN`, one at least."""
    mixed = rng.permutation(sorted(names)).tolist()
    return set(mixed[: max(1, round(TAKEN * len(mixed)))])


def _strains(known: pd.DataFrame, hosts: set[str]) -> list[str]:
    """Plasmids, one of a species, that leave something behind by which they are known."""
    asked: dict[str, str] = {}
    staying: set[str] = set()
    for entry, species, unit in zip(known.index, known["species"], known["ptu"], strict=True):
        others = known[known["ptu"].eq(unit) if unit else known["species"].eq(species)]
        mate = next((one for one in others.index if one != entry and one not in asked.values()), "")
        if entry in staying or species in asked or not (mate or (not unit and species in hosts)):
            continue
        asked[species] = entry
        staying.add(mate)
        if len(asked) == ASKED:
            break
    return list(asked.values())
