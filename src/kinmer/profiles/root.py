"""The root file of a store: it says which rows and nodes readers see, and what their checksums are.

`anndata.read_zarr` and `zarr.open` believe the consolidated metadata in the root ``zarr.json`` where there is
one. Rows and nodes are therefore written first, beyond what that file knows of, and become visible all at
once when it is replaced (`write_root`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kinmer.errors import FormatError
from kinmer.files import read_json, remove, sync_directory, write_bytes, write_json
from kinmer.profiles.checksums import NodeSums, checksums_in, chunk_sums, document_sum, stamped

__all__ = [
    "AGAIN",
    "EMBEDDING",
    "FORMAT_VERSION",
    "KINMER",
    "Root",
    "node_documents",
    "node_names",
    "read_root",
    "replace_node",
    "sums_of",
    "write_group",
    "write_root",
]

# Attributes of the root: the store's description of itself, and what its matrices were made with.
KINMER, EMBEDDING = "kinmer", "kinmer_embedding"
AGAIN = "copy the store again, or count again"
FORMAT_VERSION = 1
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
        found = self.attributes.get(KINMER)
        return found if isinstance(found, dict) else None


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
                "this is no profile store", "its root zarr.json is not an AnnData's", AGAIN, place=folder
            )
        return root
    _check_version(root.description, folder)
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
    for name, one in sums.items():
        document = root.nodes.get(name)
        if document is not None and document_sum(document) == one.document:
            made = described.get(name.removeprefix("obsm/")) if isinstance(described, Mapping) else None
            if one.provenance and document_sum(made) != one.provenance:
                raise _damaged(folder, f"what made {name} is not what was written")
            valid[name] = one
            continue
        try:
            beside = read_json(folder / name / "zarr.json")
        except FormatError:
            beside = None
        if (document is None) != (beside is None) or document_sum(document) != document_sum(beside):
            raise _damaged(folder, f"it does not describe {name} as it was written")
    return valid


def _check_version(description: Mapping[str, Any], folder: Path) -> None:
    version = description.get("format_version")
    if version != FORMAT_VERSION:
        raise FormatError(
            f"the store is of format {version}, this kinmer reads format {FORMAT_VERSION}",
            check=f"kinmer {description.get('kinmer_version', '?')} wrote it; use that or a newer one",
            place=folder,
        )


def _damaged(folder: Path, why: str) -> FormatError:
    return FormatError("the root zarr.json is damaged", why, AGAIN, place=folder)


def _depth_and_name(name: str) -> tuple[int, str]:
    return name.count("/"), name


def write_root(folder: Path, root: Root) -> None:
    """Replace the root file: from now on readers see the nodes of `root` and nothing else."""
    ordered = {name: root.nodes[name] for name in sorted(root.nodes, key=_depth_and_name)}
    attributes = dict(root.attributes)
    if root.description is not None and root.sums is not None:
        kept = {name: one for name, one in root.sums.items() if name in ordered}
        attributes[KINMER] = stamped(root.description, kept)
    document = {
        "attributes": attributes,
        "zarr_format": 3,
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": ordered},
        "node_type": "group",
    }
    write_bytes(folder / "zarr.json", json.dumps(document, allow_nan=False).encode())


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
