"""What is a sequence, and do we know it at all? kinmer beside Kraken2, minimap2, BLAST, sourmash and MMseqs2.

    python benchmarks/side_by_side.py GENOMES WORK [--draws 0,1,2] [--tools kraken2,blast] [--threads 2]
        [--sourmash-python VENV/bin/python] [--tables FILE.md]

GENOMES is a folder of FASTA files with a ``genomes.tsv`` and a ``plasmids.tsv``. Every draw makes two sets
of whole genomes and plasmids as references, of two halves of the genera, and pieces of known strains, new
species and new genera as queries; and of each set one of partial references, with pieces of what is left out
as queries (`side_by_side_draw.py`, `side_by_side_plasmids.py`). All tools get the same. What WORK holds
already is not made again; a tool whose answers are to be made again is named with --again. With --tools ""
the tables alone are made. kraken2, minimap2, mmseqs2 and ncbi-blast+ come from the system's packages,
sourmash from PyPI, if need be in an environment of its own.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from peers_run import ToolError, Usage, filled, run_step, version_of
from peers_scores import machine
from side_by_side_answers import Known, table_of
from side_by_side_draw import SETS, draw, other_parts, read_genomes, write_draw
from side_by_side_plasmids import with_plasmids
from side_by_side_scores import report
from side_by_side_tools import PEERS, Peer

from kinmer import FitSettings, fit
from kinmer.resources import available_cores

HERE = Path(__file__).resolve().parent
PER_GROUP = 60


def prepare(genomes: Path, work: Path, seeds: Sequence[int], threads: int) -> list[Path]:
    """References, queries and an encoder of every half of every draw; folders of the whole references."""
    source = read_genomes(genomes)
    folders = []
    for number in (2 * seed + half for seed in seeds for half in (0, 1)):
        seed, half = divmod(number, 2)
        folder = work / f"draw{seed}-{half}"
        folders.append(folder)
        if not (folder / "encoder").exists():
            chosen = with_plasmids(source, draw(source.genomes, half, seed), half, seed)
            write_draw(source, replace(chosen, parts=other_parts(source, chosen, seed)), folder, seed)
            fit(
                source.files(chosen.training),
                folder / "encoder",
                settings=FitSettings(per_group=PER_GROUP, seed=number),
                labels=genomes / "genomes.tsv",
                threads=threads,
            )
            print(f"{folder.name}: made", file=sys.stderr)
    return folders


def ask(name: str, peer: Peer, folder: Path, facts: dict[str, str]) -> None:
    """Build, search, and write ``answers/NAME.tsv`` and ``.json`` in the folder of a set."""
    queries = pd.read_csv(folder / "queries.tsv", sep="\t", usecols=["query"], dtype=str)["query"].tolist()
    known = Known.read(folder / "references.tsv")
    with tempfile.TemporaryDirectory(prefix="side-by-side-") as place:
        work = Path(place)
        places = {**facts, "folder": str(folder), "work": place, "queries": str(folder / "queries.fna")}
        version = version_of(filled(peer.version, places))
        if peer.prepare is not None:
            peer.prepare(folder, known, work)
        steps = (*peer.build, *peer.searches.values())
        usage = {step.name: run_step(step, filled(step.command, places), work) for step in steps}
        tables = {
            variant: table_of(one.read(work / one.output, known), queries)
            for variant, one in peer.variants.items()
        }
        index = sum(path.stat().st_size for glob in peer.index for path in work.glob(glob) if path.is_file())
    _write(folder / "answers", name, peer, (version, usage, index), pd.concat(tables, names=["variant"]))


def _write(
    output: Path, name: str, peer: Peer, told: tuple[str, dict[str, Usage], int], table: pd.DataFrame
) -> None:
    version, usage, index = told
    searches = {
        variant: [peer.searches[step].name for step in one.steps] for variant, one in peer.variants.items()
    }
    facts = {
        "version": version,
        "commands": {step.name: step.command for step in (*peer.build, *peer.searches.values())},
        "build": [step.name for step in peer.build],
        "searches": searches,
        "steps": {step: asdict(used) for step, used in usage.items()},
        "index": index,
        "queries": len(table) // len(peer.variants),
    }
    output.mkdir(exist_ok=True)
    table.to_csv(output / f"{name}.tsv", sep="\t")
    (output / f"{name}.json").write_text(json.dumps(facts, indent=1) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--draws", default="0,1,2", help="numbers of draws")
    parser.add_argument("--tools", default=",".join(PEERS), help=f"of {', '.join(PEERS)}")
    parser.add_argument("--again", action="store_true", help="ask the named tools again")
    parser.add_argument("--sourmash-python", default=sys.executable, help="interpreter that has sourmash")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--tables", type=Path, help="write the tables here too")
    args = parser.parse_args()
    names = [name for name in args.tools.split(",") if name]
    if unknown := set(names) - set(PEERS):
        parser.error(f"no such tool: {', '.join(sorted(unknown))}")
    folders = prepare(args.genomes, args.work, [int(one) for one in args.draws.split(",")], args.threads)
    python = Path(args.sourmash_python)
    facts = {
        "threads": str(args.threads),
        "here": str(HERE),
        "sourmash_python": str(python),
        "sourmash": str(python.with_name("sourmash")),
        "kinmer": str(Path(sys.executable).with_name("kinmer")),
    }
    for name in names:
        for draw_folder, folder in ((one, one / part) for one in folders for part in SETS):
            if args.again or not (folder / "answers" / f"{name}.json").exists():
                label = f"{folder.relative_to(args.work)}, {name}"
                try:
                    ask(name, PEERS[name], folder, {**facts, "encoder": str(draw_folder / "encoder")})
                except ToolError as error:
                    print(f"{label}: {error}", file=sys.stderr)
                else:
                    print(f"{label}: answered", file=sys.stderr, flush=True)
    told = f"{report(folders, list(PEERS), args.bootstrap)}\n{machine(args.threads)}\n"
    print(told)
    if args.tables is not None:
        args.tables.write_text(told)


if __name__ == "__main__":
    main()
