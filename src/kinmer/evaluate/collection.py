"""Labeled genomes with their files: of a folder, a manifest, or an index that has its sequences."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from kinmer.errors import InputError
from kinmer.fasta import read_records
from kinmer.index.manifest import MANIFEST
from kinmer.index.sequences import EntryLetters
from kinmer.library.build import genome_files
from kinmer.library.join import Joined
from kinmer.library.metadata import staged_metadata
from kinmer.library.sources import Settings
from kinmer.library.update import KinIndex
from kinmer.progress import step
from kinmer.taxonomy import RANKS, known_values, rank_columns

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

CLUSTER = "ani95_cluster"
CELLS, VIRUSES, PLASMIDS = "cells", "viruses", "plasmids"
GROUPS = (CELLS, VIRUSES, PLASMIDS)
_LABELS = (*RANKS, "molecule", "cluster", "ptu")


@dataclass(frozen=True)
class Collection:
    """Genomes whose names are known.

    sequences : a row a sequence: genome, id, length (letters), molecule, ranks, cluster, ptu ("" for none).
    genomes : by name: file, group (of `GROUPS`), and the same labels, each that of its first sequence with
        one. encoder, pieces : of the index that it comes from, else None.
    """

    sequences: pd.DataFrame
    genomes: pd.DataFrame
    encoder: Encoder | None = None
    pieces: tuple[int, ...] | None = None

    def records(self, genome: str) -> Iterator[tuple[str, bytes]]:
        """Ids and letters of a genome's sequences."""
        return read_records(self.genomes["file"][genome])


def open_collection(
    source: str | Path,
    room: Path,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    cluster_column: str = CLUSTER,
    log: Callable[[str], None] | None = None,
) -> Collection:
    """Read which genomes there are; each sequence is read once, and none is kept in memory.

    Parameters
    ----------
    source, metadata, taxdump : as `kinmer.build_reference` takes them, or an index, which has its own labels.
    room : folder for what has to be written: the sequences of an index, one file a genome.
    cluster_column : that says which genomes are one species whatever they are called.

    Raises
    ------
    InputError : no species or genera, no such column, sequences of an index that cannot be read.
    KinmerError : as `kinmer.build_reference`.
    """
    if (Path(source) / MANIFEST).is_file():
        if metadata is not None or taxdump is not None:
            raise InputError(
                "an index has its own metadata",
                check="kinmer db update --metadata changes them",
                place=source,
            )
        with KinIndex.open(source, log=log) as index:
            names, rows = index.columns, _of_index(index, room)
            pieces = tuple(index.manifest.get("pieces", {}).get("lengths", ()))
            return _collection(rows, names, cluster_column, source, encoder=index.encoder, pieces=pieces)
    settings = Settings(metadata=metadata, taxdump=taxdump, log=log)
    files, settings = genome_files(Path(source), Path(f"{source}.downloads"), settings)
    staged = staged_metadata(room / "metadata.sqlite", settings.metadata, settings.taxdump)
    rows = []
    with Joined(staged) as joined, step("Reading genomes", len(files)) as progress:
        for file in files:
            name = str(file.genome)
            records = [(one, len(letters)) for one, letters in read_records(file.path)]
            found = joined.lookup([(one, name) for one, _ in records])
            for (one, length), values in zip(records, found, strict=True):
                own = {key: value for key, value in (values or {}).items() if value is not None}
                known = known_values(file.values) | own
                rows.append((name, one, length, file.path, known))
            progress.advance()
        if staged is not None and not joined.matched:
            raise joined.strange("the metadata have none of the genomes")
    columns = {name: None for *_, values in rows for name in values}
    return _collection(rows, [*joined.columns, *columns], cluster_column, metadata or source)


# Genome, id, length, file and labels of a sequence.
Row = tuple[str, str, int, Path, Mapping[str, Any]]


def _of_index(index: KinIndex, room: Path) -> list[Row]:
    """The sequences of an index, written into one file a genome."""
    reader = EntryLetters(index)
    if lacking := reader.lacking():
        raise InputError(
            "the sequences of the index cannot be read",
            lacking,
            "give the folder of genomes",
            place=index.path,
        )
    homes = {number: one.name for number, one in index.table.genomes().items()}
    files = {number: room / f"{number}.fna" for number in homes}
    entries = {entry.number: entry for entry in index.table.scan()}
    lengths = {}
    with step("Reading the index", len(entries)) as progress:
        # In the order of the numbers: a genome's sequences lie as they came.
        for number, letters in reader.each(sorted(entries)):
            lengths[number] = len(letters)
            with files[entries[number].genome].open("ab") as file:
                file.write(b">%b\n%b\n" % (entries[number].id.encode(), letters))
            progress.advance()
    return [
        (
            homes[entry.genome],
            entry.id,
            lengths[number],
            files[entry.genome],
            known_values(dict(zip(index.columns, entry.values, strict=True))),
        )
        for number, entry in entries.items()
    ]


def _collection(
    rows: Sequence[Row], names: Sequence[str], cluster: str, place: str | Path, **more: Any
) -> Collection:
    lower = {name.lower() for name in names}
    if cluster != CLUSTER and cluster.lower() not in lower:
        raise InputError(f"there is no column {cluster!r}", check="is --cluster-column right?", place=place)
    if missing := next((rank for rank in ("genus", "species") if rank not in rank_columns(names)), None):
        raise InputError(
            f"no genome has a {missing}",
            "an answer is right or wrong by the genome's names",
            "give --metadata with the ranks",
            place=place,
        )
    labels = [
        (genome, one, size, file, *_labels(values, cluster)) for genome, one, size, file, values in rows
    ]
    table = pd.DataFrame(labels, columns=["genome", "id", "length", "file", *_LABELS])
    genomes = table.groupby("genome", sort=False)[["file", *_LABELS]].first()
    text = list(_LABELS)
    genomes[text], table[text] = genomes[text].fillna(""), table[text].fillna("")
    genomes["group"] = _groups(table).reindex(genomes.index)
    return Collection(table.drop(columns="file"), genomes, **more)


def _labels(values: Mapping[str, Any], cluster: str) -> list[str | None]:
    """The values of `_LABELS` in a row of metadata."""
    columns = _columns(tuple(values), cluster)
    found = [None if name is None else values[name] for name in columns]
    return [None if one is None else str(one) for one in found]


@lru_cache(1 << 10)
def _columns(names: tuple[str, ...], cluster: str) -> list[str | None]:
    ranks, lower = rank_columns(names), {name.lower(): name for name in names}
    return [*map(ranks.get, RANKS), *(lower.get(one) for one in ("molecule", cluster.lower(), "ptu"))]


def _groups(table: pd.DataFrame) -> pd.Series:
    """By genome: viruses by their domain, else by their molecules; plasmids where there is nothing else."""
    kind, domain = table["molecule"].str.lower(), table["domain"].str.lower()
    told = pd.DataFrame({"virus": kind.eq("virus"), "plasmid": kind.eq("plasmid")})
    all_of = told.groupby(table["genome"], sort=False).all()
    named = domain.groupby(table["genome"], sort=False).first()
    virus = named.str.startswith("vir") | (named.eq("") & all_of["virus"])
    group = np.select([virus, all_of["plasmid"]], [VIRUSES, PLASMIDS], CELLS)
    return pd.Series(group, index=all_of.index)
