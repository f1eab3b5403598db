"""A small simulated world: references with a taxonomy, and queries of what they know and do not know."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.fasta import read_records
from kinmer.simulate import Community, write_community

__all__ = ["World", "make_world"]

COMMUNITY = Community(
    phyla=2, families=1, genera=3, species=2, strains=2, plasmids=1, phages=1, chromosome=60_000,
    plasmid=12_000,
)  # fmt: skip


@dataclass(frozen=True)
class World:
    """references : files of genomes; later : of two more; metadata : of all. queries : FASTA with fragments
    ``known-…`` of strains whose species the references have, and ``strange-…`` of a genus that they have not.
    """

    references: list[Path]
    later: list[Path]
    metadata: Path
    queries: Path
    taxonomy: pd.DataFrame

    def species_of(self, query: str) -> str:
        """The species of a fragment."""
        return str(self.taxonomy.loc[query.split(":")[1], "species"])


def make_world(folder: Path) -> World:
    """Write it: first strains are references, but for those of the first genus; second ones are asked for."""
    write_community(folder, community=COMMUNITY)
    table = pd.read_csv(folder / "taxonomy.tsv", sep="\t", dtype=str).set_index("sequence_id")
    cells = table[table["domain"] == "Bacteria"]
    strange = cells["genus"].iloc[0]
    by_genome = table.drop_duplicates("genome_id").set_index("genome_id")
    files = {path.stem: path for path in sorted((folder / "genomes").iterdir())}
    told = {name: by_genome.loc[name] for name in files}
    rng = np.random.default_rng(4)
    lines = []
    for name, path in files.items():
        if told[name]["domain"] == "Bacteria" and (
            told[name]["strain"] == "2" or told[name]["genus"] == strange
        ):
            kind = "strange" if told[name]["genus"] == strange else "known"
            for record, letters in read_records(path):
                for length in (2000, 10_000) if len(letters) > 20_000 else ():
                    at = int(rng.integers(0, len(letters) - length))
                    piece = letters[at : at + length].decode()
                    lines.append(f">{kind}-{length}:{record}\n{piece}\n")
    queries = folder / "queries.fna"
    queries.write_text("".join(lines))
    kept = [
        path for name, path in files.items() if told[name]["genus"] != strange and told[name]["strain"] != "2"
    ]
    return World(kept[:-2], kept[-2:], folder / "taxonomy.tsv", queries, table)
