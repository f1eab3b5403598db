"""The house: a room imports only from floors below its own, and some rooms may not know some things."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import kinmer

HOUSE = Path(kinmer.__file__).parent

FLOORS = {
    0: {"errors", "_version"},
    1: {"inputs", "resources"},
    2: {"layout", "progress", "linear", "plots", "files"},
    3: {"networks", "tables", "folders", "fasta", "kmers", "clr", "taxonomy", "where", "box"},
    4: {"profiles", "fragments", "simulate", "stores"},
    5: {"encoder", "counting", "npy"},
    6: {"training", "embedding", "index", "estimators"},
    7: {"confidence", "vectors"},
    8: {"library"},
    9: {"queries", "evaluate"},
    10: {"sweeps", "analyses", "maps", "clusters"},
    11: {"reports"},
    12: {"demo"},
    13: {"cli"},
    14: {"__main__"},
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms}

FORBIDDEN = {
    "fasta": {"kinmer.kmers", "kinmer.layout"},
    "clr": {"torch", "kinmer.files", "pathlib"},
    "encoder": {"torch"},
    "linear": {"torch"},
    "networks": {"kinmer.files", "pathlib", "anndata", "zarr"},
    "training": {"kinmer.stores", "kinmer.taxonomy", "kinmer.index"},
    "stores": {"kinmer.fasta", "kinmer.encoder", "torch"},
    "plots": {"kinmer"},
}


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
            found.add(node.module)
    return found


def room(path: Path) -> str:
    """The room that a file belongs to: its module or its package under kinmer."""
    return path.relative_to(HOUSE).parts[0].removesuffix(".py")


FILES = sorted(path for path in HOUSE.rglob("*.py") if path != HOUSE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_a_room_imports_only_from_floors_below(path: Path) -> None:
    own = room(path)
    assert own in FLOOR_OF, f"{own} has no floor: give it one here and in docs/architecture.md"
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "kinmer" or len(parts) < 2 or parts[1] == own:
            continue
        assert parts[1] in FLOOR_OF, f"{own} imports {name}, which has no floor"
        assert FLOOR_OF[parts[1]] < FLOOR_OF[own], f"{own} (floor {FLOOR_OF[own]}) imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(HOUSE)))
def test_rooms_do_not_know_what_is_not_theirs(path: Path) -> None:
    own = room(path)
    names = imports(path)
    barred = set(FORBIDDEN.get(own, ()))
    if own not in ("cli", "__main__"):
        barred |= {"typer", "argparse", "click", "sys.exit"}
    for name in names:
        if name.split(".")[:2] == ["kinmer", own]:
            continue
        assert not any(name == bad or name.startswith(f"{bad}.") for bad in barred), f"{own} imports {name}"


def test_every_room_is_in_the_plan() -> None:
    plan = (HOUSE.parent.parent / "docs" / "architecture.md").read_text()
    for name in FLOOR_OF.keys() - {"__main__"}:
        assert f"{name}.py" in plan or f"{name}/" in plan, f"docs/architecture.md does not show {name}"


@pytest.mark.parametrize(
    "heavy", ["torch", "optuna", "chromadb", "matplotlib", "anndata", "numba", "usearch", "requests"]
)
def test_import_is_light(heavy: str) -> None:
    code = f"import kinmer, kinmer.cli, sys; print({heavy!r} in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_public_names_are_all_there() -> None:
    for name in kinmer.__all__:
        assert getattr(kinmer, name) is not None
    assert sorted(kinmer.__all__, key=str.lower) == list(kinmer.__all__)
    # And nothing else, but for the version.
    assert set(dir(kinmer)) - {"__version__"} == set(kinmer.__all__)
