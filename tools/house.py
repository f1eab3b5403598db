"""Counts the house: `python tools/house.py [ROOT]` prints its files, lines, functions and arrows.

The limits and the floors stand here once; tests/test_house.py holds them.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A room imports only from floors below its own: the lowest floor comes first.
FLOORS = {
    room: floor
    for floor, rooms in enumerate(
        (
            "_version errors kinds logistic",
            "inputs molecules resources",
            "files layout linear plots progress units",
            "clr fasta folders kmers networks tables taxonomy where",
            "fragments profiles proteins simulate sketches stores",
            "box",
            "counting encoder npy",
            "embedding estimators index training",
            "confidence vectors",
            "library",
            "merge queries",
            "costs",
            "evaluate",
            "analyses clusters maps sweeps",
            "reports",
            "demo",
            "cli",
            "__main__",
        )
    )
    for room in rooms.split()
}
LONGEST_FILE = 450
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 12
MOST_FILES = 12
MOST_FLOORS = 6
RULES = (
    "long files",
    "full rooms",
    "high rooms",
    "long functions",
    "wide functions, outside cli",
    "circles",
    "upward imports",
    "names of two files",
    "files named ...ing",
)


@dataclass(frozen=True)
class Function:
    """A function with its size: lines from `def` to its end, parameters without self and cls."""

    file: str
    name: str
    lines: int
    parameters: int


@dataclass(frozen=True)
class House:
    """The modules of a package: text, imports among themselves, functions."""

    lines: dict[str, int]
    imports: dict[str, set[str]]
    functions: list[Function]

    def room(self, module: str) -> str:
        """The package or root module that a module belongs to."""
        return module.split(".")[0]

    def rooms(self) -> dict[str, list[str]]:
        """The modules of every room that is a package."""
        rooms = defaultdict(list)
        for module in self.lines:
            if "." in module or f"{module}." in " ".join(self.lines):
                rooms[self.room(module)].append(module)
        return {room: modules for room, modules in rooms.items() if len(modules) > 1}

    def upward(self) -> list[str]:
        """Imports of a room on the same floor or above."""
        return [
            f"{module} -> {other}"
            for module, others in self.imports.items()
            for other in others
            if module and self.room(module) != self.room(other)
            if FLOORS.get(self.room(other), 99) >= FLOORS.get(self.room(module), -1)
        ]

    def circles(self) -> list[list[str]]:
        """Groups of modules that import each other, directly or not."""
        return [group for group in _components(self.imports) if len(group) > 1]

    def inner_floors(self, room: str) -> int:
        """The longest chain of imports inside a room; the room's ``__init__`` counts as one."""
        inside = {
            module: {other for other in others if self.room(other) == room and other != module}
            for module, others in self.imports.items()
            if self.room(module) == room
        }
        known: dict[str, int] = {}

        def depth(module: str, seen: tuple[str, ...] = ()) -> int:
            if module not in known:
                below = [depth(other, (*seen, module)) for other in inside[module] if other not in seen]
                known[module] = 1 + max(below, default=0)
            return known[module]

        return max(depth(module) for module in inside)


def read_house(package: Path) -> House:
    """Read all modules below a package's folder."""
    files = {_module(path, package): path for path in sorted(package.rglob("*.py"))}
    lines, imports, functions = {}, {}, []
    for module, path in files.items():
        text = path.read_text()
        tree = ast.parse(text)
        lines[module] = text.count("\n")
        imports[module] = {other for other in _imports(tree, files) if other != module}
        functions += _functions(tree, str(path.relative_to(package)))
    return House(lines, imports, functions)


def _module(path: Path, package: Path) -> str:
    parts = path.relative_to(package).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(tree: ast.Module, files: dict[str, Path]) -> Iterator[str]:
    """Modules of the house that a module imports, anywhere in it; the package itself does not count."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "kinmer":
            base = node.module.removeprefix("kinmer").removeprefix(".")
            for alias in node.names:
                name = f"{base}.{alias.name}".removeprefix(".")
                yield from (found for found in (name if name in files else base,) if found in files and found)
        elif isinstance(node, ast.Import):
            names = (alias.name.removeprefix("kinmer.") for alias in node.names)
            yield from (name for name in names if name in files)


def _functions(tree: ast.Module, file: str) -> Iterator[Function]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            given = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = sum(one.arg not in ("self", "cls") for one in given)
            yield Function(file, node.name, (node.end_lineno or node.lineno) - node.lineno + 1, count)


def _components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components (Tarjan 1972)."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    groups = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            cut = stack.index(node)
            groups.append(stack[cut:])
            del stack[cut:]

    for node in graph:
        if node not in order:
            visit(node)
    return groups


def twice_named(house: House) -> list[str]:
    """Base names that more than one file has, ``__init__`` aside."""
    seen = defaultdict(list)
    for module in house.lines:
        if module not in house.rooms():
            seen[module.split(".")[-1]].append(module)
    return [" = ".join(modules) for modules in seen.values() if len(modules) > 1]


def over_the_limits(house: House) -> dict[str, list[str]]:
    """What breaks a rule of the house, by rule."""
    rooms = house.rooms()
    floors = {room: house.inner_floors(room) for room in rooms}
    long = [function for function in house.functions if function.lines > LONGEST_FUNCTION]
    wide = [
        function
        for function in house.functions
        if function.parameters > MOST_PARAMETERS and not function.file.startswith("cli")
    ]
    found = (
        [f"{module} {lines}" for module, lines in house.lines.items() if lines > LONGEST_FILE],
        [f"{room} {len(files)}" for room, files in rooms.items() if len(files) > MOST_FILES],
        [f"{room} {count}" for room, count in floors.items() if count > MOST_FLOORS],
        [f"{one.file}:{one.name} {one.lines}" for one in long],
        [f"{one.file}:{one.name} {one.parameters}" for one in wide],
        [" ".join(group) for group in house.circles()],
        house.upward(),
        twice_named(house),
        [module for module in house.lines if module.endswith("ing")],
    )
    return dict(zip(RULES, found, strict=True))


def main() -> None:
    """Print the figures, and what is over a limit."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1]
    house = read_house(root / "src" / "kinmer")
    sizes = list(house.lines.values())
    print(f"files {len(sizes)}   lines {sum(sizes):,}   median file {statistics.median(sizes):.0f}")
    for rule, broken in over_the_limits(house).items():
        print(f"\n{rule}: {len(broken)}")
        print("".join(f"  {line}\n" for line in sorted(broken)), end="")
    print("\nroom          files  lines  inner floors")
    for room, files in sorted(house.rooms().items()):
        lines = sum(house.lines[module] for module in files)
        print(f"  {room:12} {len(files):3} {lines:6,} {house.inner_floors(room):3}")


if __name__ == "__main__":
    main()
