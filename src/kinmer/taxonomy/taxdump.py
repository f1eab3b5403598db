"""NCBI's taxonomy from the files of a taxdump: a taxid's names from domain to species.

The format is described in the dump's readme.txt: fields between ``\\t|\\t``, lines that end with ``\\t|``.
Dumps made of GTDB's or ICTV's taxonomy by other tools have the same form; their taxids may be any below 2³¹.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, InputError
from kinmer.inputs import read_lines
from kinmer.progress import step
from kinmer.taxonomy.lineage import RANKS, Lineage, taxon

NODES, NAMES, MERGED, DELETED = "nodes.dmp", "names.dmp", "merged.dmp", "delnodes.dmp"
SEPARATOR, SCIENTIFIC = b"\t|\t", b"scientific name"
# NCBI called the domains superkingdoms until 2025, Viruses among them, which have been an "acellular root"
# since then, with realms below.
VIRUSES, VIRUSES_NAME = 10239, "Viruses"
NO_RANK, REALM = len(RANKS), len(RANKS) + 1
CODES = {rank.encode(): code for code, rank in enumerate(RANKS)}
CODES |= {b"superkingdom": 0, b"acellular root": 0, b"realm": REALM}
LARGEST = (1 << 31) - 1
# Real lineages have fewer than 50 nodes.
DEEPEST = 1000
KEPT = 1 << 16
# Citations, the longest lines of all, have some ten thousand bytes.
LONGEST_LINE = 1 << 20


class Taxdump:
    """The tree of a dump in the folder `path`, in arrays of a row a taxid in ascending order.

    The full dump of NCBI (2.7 million nodes) takes some 150 MB.

    Raises InputError where a file is missing, FormatError with file and line where one is damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_dir():
            raise InputError(
                "no folder of a taxdump",
                check=f"unpack NCBI's taxdump.tar.gz and give the folder that holds {NODES}",
                place=path,
            )
        with step("Reading the taxonomy", 2) as progress:
            self._ids, self._parents, self._ranks = self._read_nodes()
            progress.advance(1)
            self._names, self._spans = self._read_names()
            progress.advance(1)
        self._merged = self._read_merged()
        self._deleted = np.sort(np.frombuffer(self._columns(DELETED, 1)[0], dtype=np.int32))
        self._known: dict[int, Lineage] = {}

    def __len__(self) -> int:
        return len(self._ids)

    def lineage(self, taxid: int, *, place: str | None = None) -> Lineage:
        """Names (7,) of a taxid from domain to species, None at a rank that it has none at.

        A merged taxid is that of the node it went into. Viruses are a domain. Nodes such as ``uncultured
        bacterium`` name nothing; see `kinmer.taxonomy.taxon`.

        place : where the taxid stands, for errors.

        Raises InputError for a taxid that is unknown or was deleted.
        """
        found = self._known.get(taxid)
        if found is None:
            found = self._climb(self._row(taxid, place))
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[taxid] = found
        return found

    def _row(self, taxid: int, place: str | None) -> int:
        row = _find(self._ids, taxid)
        if row < 0 and (at := _find(self._merged[0], taxid)) >= 0:
            row = _find(self._ids, int(self._merged[1][at]))
        if row < 0:
            deleted = _find(self._deleted, taxid) >= 0
            raise InputError(
                f"the taxid {taxid} {'was deleted' if deleted else 'is unknown'}",
                f"the taxonomy in {self.path} has no such node",
                "look up its present taxid" if deleted else "is the taxdump as new as the table?",
                place=place,
            )
        return row

    def _climb(self, row: int) -> Lineage:
        names: list[str | None] = [None] * len(RANKS)
        realm = False
        for _ in range(DEEPEST):
            rank, parent = int(self._ranks[row]), int(self._parents[row])
            if rank < NO_RANK:
                names[rank] = taxon(RANKS[rank], self._name(row))
            realm |= rank == REALM
            if parent == row:
                if realm and names[0] is None:
                    names[0] = VIRUSES_NAME
                return tuple(names)
            row = parent
        raise FormatError("the tree has a loop", f"at the taxid {self._ids[row]}", place=self.path / NODES)

    def _name(self, row: int) -> str:
        start, stop = self._spans[row]
        if stop <= start:
            raise FormatError(f"the taxid {self._ids[row]} has no scientific name", place=self.path / NAMES)
        return self._names[start:stop].decode()

    def _read_nodes(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.uint8]]:
        """Taxids, rows of their parents, codes of their ranks."""
        path = self.path / NODES
        taxids, above, codes = array("i"), array("i"), bytearray()
        for number, fields in _lines(path):
            try:
                taxids.append(_taxid(fields[0]))
                above.append(_taxid(fields[1]))
                codes.append(CODES.get(fields[2], NO_RANK))
            except (ValueError, IndexError):
                raise _damaged(path, number) from None
        if not taxids:
            raise FormatError("the file is empty", place=path)
        ids, order = np.unique(np.frombuffer(taxids, dtype=np.int32), return_index=True)
        if len(ids) < len(taxids):
            raise FormatError("a taxid has two nodes", place=path)
        asked = np.frombuffer(above, dtype=np.int32)[order]
        parents = np.minimum(np.searchsorted(ids, asked), len(ids) - 1)
        lost = np.flatnonzero(ids[parents] != asked)
        if lost.size:
            raise FormatError(
                f"the taxid {ids[lost[0]]} has the parent {asked[lost[0]]}, which has no node",
                check="was the dump copied whole?",
                place=path,
            )
        ranks = np.frombuffer(codes, dtype=np.uint8)[order].copy()
        ranks[ids == VIRUSES] = 0
        return ids, parents.astype(np.int32), ranks

    def _read_names(self) -> tuple[bytes, NDArray[np.int64]]:
        """The scientific names behind one another, and start and stop (n, 2) of every row's."""
        path = self.path / NAMES
        taxids, edges, text = array("i"), array("q", [0]), bytearray()
        for number, fields in _lines(path):
            try:
                if fields[3] != SCIENTIFIC:
                    continue
                taxids.append(_taxid(fields[0]))
                text += fields[1].decode().strip().encode()
            except (ValueError, IndexError):
                raise _damaged(path, number) from None
            edges.append(len(text))
        spans = np.zeros((len(self._ids), 2), dtype=np.int64)
        named = np.frombuffer(taxids, dtype=np.int32)
        rows = np.minimum(np.searchsorted(self._ids, named), len(self._ids) - 1)
        there = self._ids[rows] == named
        limits = np.frombuffer(edges, dtype=np.int64)
        spans[rows[there]] = np.column_stack([limits[:-1], limits[1:]])[there]
        return bytes(text), spans

    def _read_merged(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Old taxids in ascending order, and those that took their place."""
        old, new = (np.frombuffer(one, dtype=np.int32) for one in self._columns(MERGED, 2))
        order = np.argsort(old, kind="stable")
        return old[order], new[order]

    def _columns(self, name: str, number: int) -> list[array[int]]:
        """The first columns of taxids of a file; empty ones where there is no such file."""
        path = self.path / name
        found = [array("i") for _ in range(number)]
        if not path.exists():
            return found
        for line, fields in _lines(path):
            try:
                for column, place in zip(found, range(number), strict=True):
                    column.append(_taxid(fields[place]))
            except (ValueError, IndexError):
                raise _damaged(path, line) from None
        return found


def _find(ids: NDArray[np.int32], taxid: int) -> int:
    """The row of a taxid among ascending ones, -1 where it is none of them."""
    if not 0 < taxid <= LARGEST:
        return -1
    row = int(np.searchsorted(ids, np.int32(taxid)))
    return row if row < len(ids) and ids[row] == taxid else -1


def _taxid(field: bytes) -> int:
    # Python takes longer numbers than these, up to 4,300 digits.
    taxid = int(field) if len(field) <= 10 else 0
    if not 0 < taxid <= LARGEST:
        raise ValueError(field)
    return taxid


def _lines(path: Path) -> Iterator[tuple[int, list[bytes]]]:
    """Number and fields of every line that is not blank."""
    if not path.exists():
        raise InputError(
            "no such file",
            "a taxdump has one",
            f"unpack NCBI's taxdump.tar.gz into {path.parent}",
            place=path,
        )
    for number, line in read_lines(path, longest=LONGEST_LINE):
        if text := line.removesuffix(b"\t|"):
            yield number, text.split(SEPARATOR)


def _damaged(path: Path, number: int) -> FormatError:
    return FormatError(
        "the line is damaged",
        "a taxdump's fields stand between tab, bar, tab",
        place=f"{path}, line {number}",
    )
