"""Makes the encoders that come with kinmer, from a folder of labelled genomes.

    python tools/make_box.py GENOMES [--retrieval WORK/retrieval.tsv] [--output src/kinmer/box]

GENOMES is a folder of FASTA files with a ``genomes.tsv`` (columns sequence_id, genome_id, species, domain,
ani95_cluster). The retrieval tables of the cards come from ``benchmarks/encoders.py``, which fits the same
settings without a fold of species at a time. The same genomes give the same weights, but for the rounding of
another processor.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinmer import Encoder, FitSettings, fit
from kinmer.training.log import markdown_table

PER_GROUP = 60
MADE = {
    "kin-1": (FitSettings(per_group=PER_GROUP), "kin"),
    "kin-1-kmers": (FitSettings(per_group=PER_GROUP, coding=False), "kin-kmers"),
}
LENGTHS = ("1000", "2000", "5000", "10000", "50000")
CASES = (("strain", "species"), ("genome", "species"), ("genus", "genus"))
LIMITS = """## Known limits

- The genomes are few: about 200 of cells, most of them of well-known bacteria, and 473 of viruses, by far
  not the tree of life. Retrieval was measured on species that the encoder had not seen, but of the same
  collection.
- A sequence below 2 kb is mostly noise: about a third of the nearest entries are of another species.
- Composition does not tell apart what shares it: *Shigella* and *Escherichia coli*, the *Brucella* species.
- Plasmids and prophages often look like their hosts.
- Reading frames of genetic codes other than 11 and 4 are not found; eukaryotes were never seen.
"""


def tables(scores: Iterable[Mapping[str, str]], encoder: str) -> str:
    """Retrieval of the encoder's settings on species left out, by case and length, as Markdown."""
    found = {
        (one["rank"], one["case"], one["domain"], one["length"]): one
        for one in scores
        if one["encoder"] == encoder and one["measure"] == "at_1"
    }
    rows = []
    for domain in ("cells", "viruses"):
        for case, rank in CASES:
            cells = []
            for length in LENGTHS:
                one = found.get((rank, case, domain, length))
                value, low, high = (one[key] if one else "" for key in ("value", "low", "high"))
                known = value not in ("", ".") and low not in ("", ".")
                cells.append(f"{float(value):.2f} ({float(low):.2f}–{float(high):.2f})" if known else "–")
            rows.append((f"{domain}, {case}: same {rank}", *cells))
    header = ("nearest entry", *(f"{int(length) // 1000} kb" for length in LENGTHS))
    said = (
        "Share of queries whose nearest entry is right, on species that were left out (five folds, five draws"
        " of database and queries; brackets: 95 % bootstrap over genomes)."
    )
    return f"## Retrieval\n\n{said}\n\n{markdown_table(header, rows)}\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("--retrieval", type=Path)
    parser.add_argument("--output", type=Path, default=Path("src/kinmer/box"))
    parser.add_argument(
        "--cards-only", action="store_true", help="write the cards of encoders made before anew"
    )
    args = parser.parse_args()
    scores = []
    if args.retrieval is not None:
        with args.retrieval.open(newline="") as file:
            scores = list(csv.DictReader(file, delimiter="\t"))
    for name, (settings, measured) in MADE.items():
        path = args.output / name
        if not args.cards_only:
            files = sorted(args.genomes.glob("*.fna.gz"))
            labels = args.genomes / "genomes.tsv"
            fit(files, path, settings=settings, labels=labels, force=True, log=print)
        encoder = Encoder.load(path)
        head, _, settings_on = encoder.card.partition("## Settings")
        head = (
            head.partition("## Retrieval")[0]
            .partition("## Known limits")[0]
            .replace("# kinmer encoder", f"# {name}")
        )
        shown = tables(scores, measured) if scores else ""
        encoder.card = f"{head}{shown}{LIMITS}\n## Settings{settings_on}"
        encoder.training["name"] = name
        encoder.save(path, force=True)
        print(f"{name}: {encoder.fingerprint}")


if __name__ == "__main__":
    main()
