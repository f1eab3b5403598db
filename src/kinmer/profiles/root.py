"""The root file of a store: which rows and nodes readers see, and their checksums.

`anndata.read_zarr` and `zarr.open` believe the consolidated metadata in the root ``zarr.json`` where there is
one. Rows and nodes are therefore written first, beyond what that file knows of, and become visible all at
once when it is replaced (`write_root`).

The checksums stand in the store's description among the attributes of the root file, so that they change
together with the rows that readers see. A chunk ends in the CRC-32C that Zarr's own codec has put there and
compares when it is read. The table repeats these four bytes, so that a chunk that was exchanged for another
whole one is noticed too. An append writes the last, partly filled chunk of an array again while readers still
see the old rows: of this chunk the table has a checksum over the rows.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from kinmer.errors import FormatError, KinmerError
from kinmer.files import remove, sync_directory, write_bytes, write_json
from kinmer.folders import FolderKind
from kinmer.inputs import read_json

TABLE, OWN = "checksums", "checksum"
CRC = {"name": "crc32c"}
_HEX = 8


@dataclass(frozen=True)
class NodeSums:
    """Checksums of a node, in hexadecimal digits, eight each.

    document : of its metadata. chunks : of its files in their order, one after the other; empty where they
    have none. rows : of the rows behind these, which are the whole of the last chunk that readers see.
    provenance : of what the store records about a matrix's making.
    """

    document: str
    chunks: str = ""
    rows: str = ""
    provenance: str = ""

    def chunk(self, number: int) -> bytes | None:
        """The four bytes that the chunk ends in; None where the table has none of it."""
        return bytes.fromhex(self.chunks[_HEX * number : _HEX * (number + 1)]) or None


def checksum(data: bytes | NDArray[np.uint8]) -> str:
    """CRC-32C, eight hexadecimal digits."""
    # Not isal's CRC-32: after it, on processors with AVX-512, unpacking a chunk takes 1.3 times as long.
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
    filled = {name: asdict(sums[name]).items() for name in sorted(sums)}
    table = {name: {key: value for key, value in items if value} for name, items in filled.items()}
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
        return {name: NodeSums(**fields) for name, fields in whole[TABLE].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise FormatError("the table of checksums is damaged", str(error)) from error


# Attributes of the root: the store's description of itself, and what its matrices were made with.
KINMER, EMBEDDING = "kinmer", "kinmer_embedding"
AGAIN = "copy the store again, or count again"
FORMAT_VERSION = 1
JOURNAL, PART = ".kinmer-journal.json", ".part"
# Zarr's groups and arrays, whoever has put them in: metadata and chunks, and unfinished chunks.
STORE = FolderKind(
    "profile store",
    "zarr.json",
    lambda known: "kinmer" in known["attributes"],
    r"(?:[^.].*/)?zarr\.(?:json|\w+\.partial)|[^.].*/c(?:/\d+)*(?:\.\w+\.partial)?",
)
# A key that every description has.
_MARK = "layout_fingerprint"


@dataclass(frozen=True)
class Root:
    """What the root file says.

    nodes : metadata of every visible node, by path. attributes : of the root. sums : checksums of the nodes
    that are as kinmer wrote them; None where the store has no table of these. rewritten : nodes of the table
    that other software has written or removed since.
    """

    nodes: dict[str, dict[str, Any]]
    attributes: dict[str, Any]
    sums: dict[str, NodeSums] | None = None
    rewritten: frozenset[str] = frozenset()

    @property
    def description(self) -> dict[str, Any] | None:
        """The store's description of itself; None where kinmer did not write it."""
        known = self.attributes.get(KINMER)
        return known if isinstance(known, dict) else None


@contextmanager
def translated(place: object, what: str) -> Iterator[None]:
    """Whatever Zarr raises over metadata and chunks, which is nearly anything, as one FormatError."""
    try:
        yield
    except KinmerError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"[:300]
        raise FormatError(what, reason, AGAIN, place=str(place)) from error


def part_of(path: Path) -> Path:
    """Where a new store grows before it takes the name `path`."""
    return path.with_name(path.name + PART)


def write_group(folder: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """A Zarr group in `folder`; without attributes AnnData's ``dict``."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = {"encoding-type": "dict", "encoding-version": "0.1.0"} if attributes is None else dict(attributes)
    write_json(folder / "zarr.json", {"attributes": shown, "zarr_format": 3, "node_type": "group"})


def node_documents(folder: Path, prefix: str) -> dict[str, dict[str, Any]]:
    """The metadata of node `prefix` of the store in `folder` and of all below it, by path."""
    nodes: dict[str, dict[str, Any]] = {}
    for file in sorted((folder / prefix).rglob("zarr.json")):
        name = file.parent.relative_to(folder).as_posix()
        if name == "." or any(part.startswith(".") for part in Path(name).parts):
            continue
        document = read_json(file)
        if document.get("node_type") == "group":
            document["consolidated_metadata"] = {"kind": "inline", "must_understand": False, "metadata": {}}
        nodes[name] = document
    return nodes


def node_names(folder: Path) -> set[str]:
    """Paths of all nodes of the store in `folder`, visible or not."""
    names = {file.parent.relative_to(folder).as_posix() for file in folder.rglob("zarr.json")}
    return {name for name in names if name != "." and not name.startswith(".")}


def read_root(folder: Path) -> Root:
    """What the root file of the store in `folder` says, compared with its checksums.

    Nodes that other software has written since kinmer did have no checksums in the answer. Raises FormatError
    where the file is damaged.
    """
    document = read_json(folder / "zarr.json")
    try:
        attributes = dict(document.get("attributes", {}))
        consolidated = document.get("consolidated_metadata")
        nodes = node_documents(folder, "") if consolidated is None else dict(consolidated["metadata"])
    except (AttributeError, TypeError, KeyError, ValueError) as error:
        raise FormatError("the root zarr.json is damaged", place=folder) from error
    root = Root(nodes, attributes)
    renamed = [key for key, value in attributes.items() if isinstance(value, dict) and _MARK in value]
    if renamed not in ([], [KINMER]):
        raise _damaged(folder, "the store's description is not there")
    if root.description is None:
        if document.get("node_type") != "group" or attributes.get("encoding-type") != "anndata":
            raise FormatError(
                "this is not a profile store", "its root zarr.json is not an AnnData's", AGAIN, place=folder
            )
        return root
    version = root.description.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store is of format {version}, this kinmer reads format {FORMAT_VERSION}",
            check=f"kinmer {root.description.get('kinmer_version', '?')} wrote it; use that or a newer one",
            place=folder,
        )
    try:
        sums = checksums_in(root.description)
    except FormatError as error:
        raise FormatError(error.what, error.why, AGAIN, place=folder) from None
    if sums is None:
        return root
    valid = _valid(folder, root, sums)
    return replace(root, sums=valid, rewritten=frozenset(sums.keys() - valid.keys()))


def _valid(folder: Path, root: Root, sums: Mapping[str, NodeSums]) -> dict[str, NodeSums]:
    """The checksums of the nodes whose metadata are what kinmer wrote.

    Other software that writes a node writes its metadata twice, beside the chunks and in the root file:
    where both agree the node is that software's now, where they do not the root file is damaged.
    """
    valid = {}
    described = root.attributes.get(EMBEDDING, {})
    for name, node in sums.items():
        document = root.nodes.get(name)
        if document is not None and document_sum(document) == node.document:
            made = described.get(name.removeprefix("obsm/")) if isinstance(described, Mapping) else None
            if node.provenance and document_sum(made) != node.provenance:
                raise _damaged(folder, f"what made {name} is not what was written")
            valid[name] = node
            continue
        try:
            beside = read_json(folder / name / "zarr.json")
        except FormatError:
            beside = None
        if (document is None) != (beside is None) or document_sum(document) != document_sum(beside):
            raise _damaged(folder, f"it does not describe {name} as it was written")
    return valid


def _damaged(folder: Path, why: str) -> FormatError:
    return FormatError("the root zarr.json is damaged", why, AGAIN, place=folder)


def write_root(folder: Path, root: Root) -> None:
    """Replace the root file: from now on readers see the nodes of `root` and nothing else."""
    ordered = {
        name: root.nodes[name] for name in sorted(root.nodes, key=lambda name: (name.count("/"), name))
    }
    attributes = dict(root.attributes)
    if root.description is not None and root.sums is not None:
        kept = {name: node for name, node in root.sums.items() if name in ordered}
        attributes[KINMER] = stamped(root.description, kept)
    write_bytes(folder / "zarr.json", root_bytes(attributes, ordered))


def root_bytes(attributes: Mapping[str, Any], nodes: Mapping[str, Any], *, nan: bool = False) -> bytes:
    """A root file with these attributes and metadata of nodes; ValueError for NaN without `nan`."""
    document = {
        "attributes": dict(attributes),
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": dict(nodes)},
        "node_type": "group",
    }
    return json.dumps(document, allow_nan=nan).encode()


def sums_of(folder: Path, nodes: Mapping[str, Mapping[str, Any]]) -> dict[str, NodeSums]:
    """Checksums of whole nodes of the store in `folder`, all chunks of which are what they will stay."""
    return {
        name: NodeSums(document_sum(document), chunk_sums(folder / name, document))
        for name, document in nodes.items()
    }


def replace_node(folder: Path, name: str, staged: Path, attributes: Mapping[str, Any] | None = None) -> None:
    """Put the node in the folder `staged` at `name`, visible with the root's `attributes` added.

    A node of that name is first made invisible: no reader that opens the store meets a mixture.
    """
    root = read_root(folder)
    gone = {node for node in root.nodes if node == name or node.startswith(f"{name}/")}
    rest = {node: data for node, data in root.nodes.items() if node not in gone}
    if len(rest) < len(root.nodes):
        write_root(folder, replace(root, nodes=rest))
    target = folder / name
    remove(target)
    staged.rename(target)
    sync_directory(target.parent)
    added = node_documents(folder, name)
    shown = {**root.attributes, **(attributes or {})}
    sums = sums_of(folder, added)
    made = shown.get(EMBEDDING, {}).get(name.removeprefix("obsm/"))
    if made is not None and name in sums:
        sums[name] = replace(sums[name], provenance=document_sum(made))
    write_root(folder, Root(rest | added, shown, {**(root.sums or {}), **sums}))
