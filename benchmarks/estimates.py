"""What `kinmer estimate` says, beside what commands take.

    python benchmarks/estimates.py GENOMES WORK [--metadata TSV] [--threads 1] [--contigs 30000] [--only map]

GENOMES is a folder of real genomes, a file each. Contigs of 5 kb and of 1 to 3 kb are cut from them into
WORK. Every command is a process of its own; what was estimated before it and what it took is one line of
WORK/estimates.jsonl, and all lines are printed as the table of docs/tasks/sizes.md, with the steps of each
estimate below. A step whose price is wrong is mended in src/kinmer/costs/prices.py.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import kinmer

KINMER = [sys.executable, "-m", "kinmer", "-q"]
HEADER = ("command", "input", "CPU s", "memory MB", "disk MB")


def bytes_in(paths: list[Path]) -> int:
    """Of files, and of all files in folders."""
    files = [file for path in paths for file in (path.rglob("*") if path.is_dir() else [path])]
    return sum(file.stat().st_size for file in files if file.is_file())


def taken(argv: list[str]) -> dict[str, float]:
    """CPU and wall seconds and the largest memory of a command."""
    began = time.monotonic()
    _, status, used = os.wait4(os.posix_spawn(sys.executable, [*KINMER, *argv], os.environ), 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"kinmer {' '.join(argv)} failed")
    seconds = used.ru_utime + used.ru_stime
    return {"cpu": seconds, "wall": time.monotonic() - began, "memory": used.ru_maxrss * 1024}


def commands(work: Path, genomes: Path, metadata: Path | None) -> list[tuple[list[str], str, str]]:
    """Commands without their output, its name (empty: none), and the pattern of what is written."""
    contigs, short, store = f"{work}/contigs.fna", f"{work}/short.fna", f"{work}/contigs.zarr"
    reference = ["reference", str(genomes), *(["--metadata", str(metadata)] if metadata else [])]
    return [
        (["count", short, "--coding"], "short.zarr", "short.zarr"),
        (["count", contigs, "--coding"], "contigs.zarr", "contigs.zarr"),
        (["embed", store], "", "contigs.zarr/obsm"),
        (["index", store], "contigs.db", "contigs.db"),
        (["cluster", store], "clusters", "clusters"),
        (["map", store], "map", "map.*"),
        (["search", contigs, "--format", "calls"], "calls.tsv", "calls.tsv"),
        ([*reference, "--compact"], "compact.db", "compact.db"),
        (reference, "full.db", "full.db"),
    ]


def table(lines: list[dict[str, Any]]) -> str:
    """Estimated and measured, and their ratio."""
    rows = [HEADER, ["---"] * len(HEADER)]
    for line in lines:
        row = [line["command"], line["input"]]
        for what, unit in (("cpu", 1), ("memory", 1e6), ("disk", 1e6)):
            said, was = line["estimated"][what] / unit, line["measured"][what] / unit
            row.append(f"{said:,.0f} · {was:,.0f} ({said / max(was, 1e-9):.2f})")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--metadata", type=Path)
    parser.add_argument("--threads", default="1")
    parser.add_argument("--contigs", type=int, default=30_000)
    parser.add_argument("--only", default="")
    given = parser.parse_args()
    given.work.mkdir(exist_ok=True)
    files = sorted(given.genomes.glob("*.fna*"))
    for name, length in (("contigs", 5000), ("short", (1000, 3000))):
        if not (given.work / f"{name}.fna").exists():
            kinmer.fragment(files, given.work / f"{name}.fna", length=length, number=given.contigs)
    lines = []
    for argv, output, written in commands(given.work, given.genomes, given.metadata):
        if given.only and argv[0] not in given.only.split(","):
            continue
        made = kinmer.estimate(argv[1], argv[0], compact="--compact" in argv, threads=int(given.threads))
        cost, held = made.commands[0], made.contents
        argv += ["-o", f"{given.work}/{output}", "--force"] if output else []
        found = taken([*argv, "--threads", given.threads])
        found["disk"] = bytes_in(list(given.work.glob(written)))
        lines.append(
            {
                "command": cost.command,
                "input": f"{held.sequences:,.0f} sequences, {held.bases / 1e6:,.0f} Mbp",
                "estimated": {"cpu": cost.cpu, "memory": cost.memory, "disk": cost.disk},
                "measured": found,
                "steps": {step.name: round(step.cpu, 2) for step in cost.steps},
            }
        )
        with (given.work / "estimates.jsonl").open("a") as file:
            file.write(json.dumps(lines[-1]) + "\n")
    print(table(lines))
    for line in lines:
        print(f"\n{line['command']}: {line['steps']}")


if __name__ == "__main__":
    main()
