"""What commands will take, before they begin: time, memory and disk, from a quick look at the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinmer.box.reference import REFERENCE, boxed_rows
from kinmer.costs.forecast import Command, CommandCost, StepCost, cost_of, size_of, time_of
from kinmer.costs.looks import Contents, contents_of
from kinmer.costs.machine import Machine, this_machine
from kinmer.errors import UsageError

__all__ = ["Command", "CommandCost", "Contents", "Estimate", "Machine", "StepCost", "estimate"]

_USUAL: dict[str, tuple[Command, ...]] = {
    "fasta": ("search", "count", "embed", "map", "cluster", "index"),
    "genomes": ("reference",),
    "profiles": ("embed", "map", "cluster", "index"),
    "index": ("map", "cluster"),
}


@dataclass(frozen=True)
class Estimate:
    """What an input holds, what the machine has, and what each command takes."""

    contents: Contents
    machine: Machine
    commands: tuple[CommandCost, ...]

    @property
    def fits(self) -> bool:
        """Whether the machine has what every command takes."""
        return all(command.fits for command in self.commands)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        held = self.contents
        facts = {"name": held.name, "kind": held.kind, "sequences": round(held.sequences)}
        facts |= {"bases": round(held.bases), "genomes": held.genomes, "exact": held.looked == 1}
        commands = [command.to_dict() for command in self.commands]
        return {"input": facts, "machine": asdict(self.machine), "commands": commands}

    def text(self) -> str:
        """Some lines for people."""
        held, machine = self.contents, self.machine
        about = "" if held.looked == 1 else "about "
        parts = f" in {held.genomes:,} files" if held.kind == "fasta" else f" of {held.genomes:,} genomes"
        genomes = parts if held.genomes > 1 else ""
        bases = f", {held.bases / 1e6:,.1f} Mbp" if held.bases else ""
        looked = "" if held.looked > 0.99 else f" ({100 * held.looked:.2g} % of it was read)"
        lines = [
            f"{held.name}: {about}{held.sequences:,.0f} sequences{genomes}{bases}{looked}",
            f"this machine: {machine.threads} threads, {machine.speed:.1f} times as fast as that measured, "
            f"{size_of(machine.memory)} of memory and {size_of(machine.disk)} of disk free",
            "",
            f"{'kinmer …':22} {'CPU time':>10} {'wall time':>10} {'memory':>10} {'disk':>10}",
        ]
        for one in self.commands:
            figures = (time_of(one.cpu), time_of(one.wall), size_of(one.memory), size_of(one.disk))
            lines.append(" ".join([f"{one.command:22}", *(f"{figure:>10}" for figure in figures)]))
        return "\n".join([*lines, *(f"warning: {line}" for one in self.commands for line in one.warnings)])


def estimate(
    inputs: str | Path | Sequence[str | Path],
    commands: Command | Sequence[Command] | None = None,
    *,
    coding: bool = True,
    compact: bool | None = None,
    db: str | Path = REFERENCE,
    min_length: int = 1000,
    output: str | Path = ".",
    threads: int | None = None,
) -> Estimate:
    """What commands will take on this machine, from a quick look at their input.

    CPU time, memory and disk are those of measured runs (docs/scale.md), times what the input holds and over
    the speed of this machine's cores, which is timed. They are usually within a factor of 1.5.

    Parameters
    ----------
    inputs : FASTA files, a folder or manifest of genomes, a profile store, a table or an index. Of large
        FASTA parts are read, of many files some.
    commands : "count", "embed", "index", "reference", "map", "cluster", "search"; None: those that are usual
        for the input. From FASTA, embed, map and cluster are of the store that count makes.
    coding : reading frames are counted too.
    compact : of a reference; None: both ways.
    db : the index that is searched.
    min_length : shorter sequences are left out, but not of a search.
    output : where the output is to be: the disk there is looked at.
    threads : to be used; None for all cores.

    Raises
    ------
    UsageError : a pipe, inputs of several kinds, a command that does not take such an input.
    InputError : what is missing, empty, no FASTA of nucleotides, or cannot be read.
    """
    held = contents_of([inputs] if isinstance(inputs, str | Path) else list(inputs))
    kind = "genomes" if held.kind == "fasta" and _are_genomes(inputs) else held.kind
    wanted = [commands] if isinstance(commands, str) else list(commands or _USUAL[kind])
    machine, made = this_machine(output, threads), []
    for command in wanted:
        _check(command, held)
        part = held.at_least(min_length) if held.kind == "fasta" and command != "search" else held
        if command == "reference":
            ways = [compact] if compact is not None else [False, True]
            made += [cost_of(command, part, machine, compact=way) for way in ways]
        else:
            rows = _rows(db) if command == "search" else 0
            made.append(cost_of(command, part, machine, coding=coding, database=rows))
    return Estimate(held, machine, tuple(made))


def _are_genomes(inputs: object) -> bool:
    return isinstance(inputs, str | Path) and Path(inputs).is_dir()


def _rows(db: str | Path) -> int:
    return boxed_rows() if str(db) == REFERENCE and not Path(db).exists() else contents_of([db]).rows


def _check(command: Command, held: Contents) -> None:
    if command not in {one for usual in _USUAL.values() for one in usual}:
        known = dict.fromkeys(one for usual in _USUAL.values() for one in usual)
        raise UsageError(f"there is no estimate of {command!r}", check=f"take one of {', '.join(known)}")
    needs = command in ("count", "reference") and held.kind != "fasta"
    if needs or (command in ("embed", "index") and held.kind == "index"):
        raise UsageError(
            f"{command} does not take such an input", f"it is of the kind {held.kind}", place=held.name
        )
