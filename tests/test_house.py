"""The house keeps its rules: tools/house.py counts them, and some rooms may not know some things."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import kinmer

HOUSE = Path(kinmer.__file__).parent
ROOT = Path(__file__).parent.parent


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("house", ROOT / "tools" / "house.py")
    assert spec
    assert spec.loader
    tool = importlib.util.module_from_spec(spec)
    sys.modules["house"] = tool
    spec.loader.exec_module(tool)
    return tool


TOOL = _tool()
FLOOR_OF: dict[str, int] = TOOL.FLOORS

# What is over a limit, and why; a rule that is not here has no exceptions.
EXCEPTIONS = {
    "high rooms": {
        "confidence 8": "from candidates over features and cases to what is learned is a long way",
        "library 8": "from genomes over packages, metadata and feeding to a build is a long way",
    },
    "files named ...ing": {
        "counting": "the noun of the field; `count` is the function",
        "embedding": "the noun of the field; `embed` is the function",
        "training": "the noun of the field; `train` is the function",
    },
}

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


@pytest.mark.parametrize("rule", TOOL.RULES)
def test_the_house_keeps_its_rules(rule: str) -> None:
    broken = set(TOOL.over_the_limits(TOOL.read_house(HOUSE))[rule])
    assert broken == set(EXCEPTIONS.get(rule, ())), f"{rule}: see tools/house.py"


def test_every_room_has_a_floor() -> None:
    assert {room(path) for path in FILES} == set(FLOOR_OF), (
        "tools/house.py and docs/architecture.md say where rooms are"
    )


def test_an_upward_import_and_a_circle_are_found(tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "__init__.py").write_text("")
    (tmp_path / "index" / "first.py").write_text("def f():\n    from kinmer.index import second\n")
    (tmp_path / "index" / "second.py").write_text(
        "from kinmer.index.first import f\nfrom kinmer.cli import app\n"
    )
    (tmp_path / "cli.py").write_text("def app(a, b, c, d, e, f, g, h, i, j, k, l, m):\n" + "    a = 1\n" * 60)
    house = TOOL.read_house(tmp_path)
    broken = TOOL.over_the_limits(house)
    assert broken["upward imports"] == ["index.second -> cli"]
    assert [sorted(one.split()) for one in broken["circles"]] == [["index.first", "index.second"]]
    assert broken["long functions"] == ["cli.py:app 61"]


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
