"""Checksums of a store: of every chunk, of every node's metadata, and of the table of these itself.

They stand in the store's description among the attributes of the root file, so that they change together
with the rows that readers see. A chunk ends in the CRC-32C that Zarr's own codec has put there and compares
when it is read; the table repeats these four bytes, so that a chunk that was exchanged for another whole one
is noticed too. The last, partly filled chunk of an array that grows is written again by an append while
readers still see the old rows: of this the table has a checksum over the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError

__all__ = [
    "NodeSums",
    "checksum",
    "checksums_in",
    "chunk_sums",
    "document_sum",
    "rows_sum",
    "stamped",
    "without",
]

TABLE, OWN = "checksums", "checksum"
CRC = {"name": "crc32c"}
_HEX = 8


@dataclass(frozen=True)
class NodeSums:
    """Checksums of a node, in hexadecimal digits, eight each.

    document : of its metadata. chunks : of its files in their order, one after the other; empty where they
    have none. rows : of the rows behind these, which are the whole of the last chunk that readers see.
    provenance : of what the store tells about a matrix's making.
    """

    document: str
    chunks: str = ""
    rows: str = ""
    provenance: str = ""

    def chunk(self, number: int) -> bytes | None:
        """The four bytes that the chunk ends in; None where the table has none of it."""
        return bytes.fromhex(self.chunks[_HEX * number : _HEX * (number + 1)]) or None


def checksum(data: bytes | NDArray[np.uint8]) -> str:
    """CRC-32C, eight hexadecimal digits.

    Not isal's CRC-32: after it, on processors with AVX-512, unpacking a chunk takes 1.3 times as long.
    """
    return f"{google_crc32c.value(data):08x}"


def document_sum(document: Any) -> str:
    """The checksum of a JSON value, whatever the order of its keys and the spaces between.

    Metadata of a group may repeat that of the nodes below it, which does not count.
    """
    if isinstance(document, Mapping):
        document = {key: value for key, value in document.items() if key != "consolidated_metadata"}
    return checksum(json.dumps(document, sort_keys=True, separators=(",", ":")).encode())


def rows_sum(rows: NDArray[Any]) -> str:
    """The checksum of numbers or texts."""
    if rows.dtype.kind in "OTU":
        return checksum("\n".join(rows.tolist()).encode())
    return checksum(np.ascontiguousarray(rows).reshape(-1).view(np.uint8))


def chunk_sums(folder: Path, document: Mapping[str, Any], *, first: int = 0, stop: int | None = None) -> str:
    """The checksums that the chunks first … stop of the array in `folder` end in; "" where they have none.

    Chunks hold whole rows, as kinmer writes them.
    """
    try:
        if document.get("node_type") != "array" or document["codecs"][-1:] != [CRC]:
            return ""
        shape, chunks = document["shape"], document["chunk_grid"]["configuration"]["chunk_shape"]
        count = -(-shape[0] // chunks[0]) if shape else 1
    except (ArithmeticError, LookupError, TypeError) as error:
        raise FormatError("the metadata of an array are damaged", str(error), place=folder) from error
    ends = []
    for number in range(first, count if stop is None else stop):
        name = "/".join(map(str, [number, *(0 for _ in shape[1:])] if shape else []))
        try:
            with (folder / "c" / name).open("rb") as file:
                file.seek(-4, os.SEEK_END)
                ends.append(file.read(4).hex())
        except OSError as error:
            raise FormatError("a piece of the store is missing", str(error), place=folder) from error
    return "".join(ends)


def without(description: Mapping[str, Any]) -> dict[str, Any]:
    """A store's description without its checksums."""
    return {key: value for key, value in description.items() if key not in (TABLE, OWN)}


def stamped(description: Mapping[str, Any], sums: Mapping[str, NodeSums]) -> dict[str, Any]:
    """A store's description with the table of its nodes' checksums, and its own."""
    table = {
        name: {key: value for key, value in asdict(one).items() if value}
        for name, one in sorted(sums.items())
    }
    whole = {**without(description), TABLE: table}
    return {**whole, OWN: document_sum(whole)}


def checksums_in(description: Mapping[str, Any]) -> dict[str, NodeSums] | None:
    """The table of checksums in a store's description; None where it has none, as of kinmer 0.1.0.

    Raises FormatError where the description is not what was written.
    """
    if TABLE not in description and OWN not in description:
        return None
    whole = {key: value for key, value in description.items() if key != OWN}
    if description.get(OWN) != document_sum(whole):
        raise FormatError("the description of the store is damaged", "its checksum is another one")
    try:
        return {name: NodeSums(**one) for name, one in whole[TABLE].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise FormatError("the table of checksums is damaged", str(error)) from error
