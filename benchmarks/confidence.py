"""How far can kinmer's answers be trusted? Accuracy, calibration, absent species and molecules.

    python benchmarks/confidence.py GENOMES WORK [--draws 5] [--threads 2] [--tables FILE.md]

References, queries and encoders are those of `side_by_side.py`, made where WORK has none; beside these,
pieces of 20 kb, and pieces of the plasmids of the genomes that are asked for. The draw's encoder has seen no
genus of references or queries. Answers are kept in WORK/draw*/answers; --again asks anew.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from confidence_draw import ask, write_extra
from confidence_report import report
from confidence_table import read
from peers_scores import machine
from side_by_side import prepare
from side_by_side_draw import read_genomes

from kinmer.resources import available_cores


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--first", type=int, default=0, help="the first draw that is told of")
    parser.add_argument("--threads", type=int, default=available_cores())
    parser.add_argument("--again", action="store_true", help="ask again")
    parser.add_argument("--shipped", action="store_true", help="the encoder that comes with kinmer instead")
    parser.add_argument("--tables", type=Path, help="write the tables here too")
    args = parser.parse_args()
    folders = prepare(args.genomes, args.work, range(args.draws), args.threads)
    source = read_genomes(args.genomes)
    name = f"confidence{'-shipped' if args.shipped else ''}.jsonl.gz"
    for number, folder in list(enumerate(folders))[2 * args.first :]:
        write_extra(source, folder, number % 2, number // 2)
        if args.again or not (folder / "answers" / name).exists():
            encoder = None if args.shipped else str(folder / "encoder")
            ask(folder, folder / "answers" / name, encoder, args.threads)
            print(f"{folder.name}: answered", file=sys.stderr)
    told = f"{report(read(folders[2 * args.first :], name, source))}\n\n{machine(args.threads)}\n"
    print(told)
    if args.tables is not None:
        args.tables.write_text(told)


if __name__ == "__main__":
    main()
