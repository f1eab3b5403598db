"""Makes the encoder that comes with kinmer, from a folder of labelled genomes.

    python tools/make_box.py GENOMES [--retrieval WORK/retrieval.tsv] [--output src/kinmer/box]

GENOMES is a folder of FASTA files with a ``genomes.tsv`` (columns sequence_id, genome_id, species, domain,
molecule, ani95_cluster, source, license). The retrieval tables of the card come from
``benchmarks/encoders.py``, which fits the same settings without a fold of species at a time. Beside the card
stands ``sources.tsv``, with source and license of every genome. The same genomes give the same weights, but
for the rounding of another processor. Encoders that were released before stay as they are.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from kinmer import Encoder, FitSettings, fit
from kinmer.training.log import markdown_table

PER_GROUP = 60
MADE = {"kin-2": (FitSettings(per_group=PER_GROUP), "kin-2")}
CASES = [
    (domain, case, rank)
    for domain in ("cells", "viruses", "plasmids", "eukaryotes")
    for case, rank in (
        ("strain", "species"),
        ("genome", "species"),
        ("genome", "species or cluster"),
        ("genus", "genus"),
    )
]
LENGTHS = ("1000", "2000", "5000", "10000", "50000")
SOURCES = "sources.tsv"
LIMITS = """## Known limits

- The genomes are few: 317 of cells, most of them of well-known bacteria, 473 of viruses, 1,342 plasmids, and
  83 organelles and parts of eukaryotes, by far not the tree of life. Retrieval was measured on species,
  clusters and plasmid units that the encoder had not seen, but of the same collection.
- A sequence below 2 kb is mostly noise: about a third of the nearest entries are of another species.
- Composition does not tell apart what shares it: *Shigella* and *Escherichia coli*, the *Brucella* species.
- Plasmids and prophages often look like their hosts.
- Reading frames of genetic codes other than 11 and 4 are not found; of eukaryotes there are organelles, and
  parts of four genomes.
"""


def tables(scores: Iterable[Mapping[str, str]], encoder: str) -> str:
    """Retrieval of the encoder's settings on species left out, by case and length, as Markdown."""
    found = {
        (one["rank"], one["case"], one["domain"], one["length"]): one
        for one in scores
        if one["encoder"] == encoder and one["measure"] == "at_1"
    }
    rows = []
    for domain, case, rank in CASES:
        cells = []
        for length in LENGTHS:
            one = found.get((rank, case, domain, length))
            value, low, high = (one[key] if one else "" for key in ("value", "low", "high"))
            known = value not in ("", ".") and low not in ("", ".")
            cells.append(f"{float(value):.2f} ({float(low):.2f}–{float(high):.2f})" if known else "–")
        if set(cells) != {"–"}:
            rows.append((f"{domain}, {case}: same {rank}", *cells))
    header = ("nearest entry", *(f"{int(length) // 1000} kb" for length in LENGTHS))
    said = (
        "Share of queries whose nearest entry is right, on species, clusters and plasmid units that were left"
        " out (five folds; brackets: 95 % bootstrap over genomes). Eukaryotes are organelles, almost all. The"
        " species of a plasmid is its host's. strain: the database has another genome of the species; genome:"
        " it has another part of this one; genus: it has other species of the genus."
    )
    return f"## Retrieval\n\n{said}\n\n{markdown_table(header, rows)}\n\n"


def sources(genomes: Path, path: Path) -> str:
    """Write source and license of every genome; returns the table of licenses for the card, as Markdown."""
    with (genomes / "genomes.tsv").open(newline="") as file:
        rows = {one["genome_id"]: one for one in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)}
    columns = ("genome_id", "species", "source", "license")
    lines = ["\t".join(rows[one][name] for name in columns) for one in sorted(rows)]
    path.write_text("\n".join(("\t".join(columns), *lines)) + "\n", encoding="utf-8")
    number = Counter(one["license"] or "not stated" for one in rows.values())
    listed = markdown_table(("license of the source", "genomes"), number.most_common())
    said = (
        f"The genomes were gathered from public repositories; `{SOURCES}` names source and license of each."
    )
    return f"## Sources\n\n{said}\n\n{listed}\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("--retrieval", type=Path)
    parser.add_argument("--output", type=Path, default=Path("src/kinmer/box"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--card-only", action="store_true", help="write the card of an encoder made before anew"
    )
    args = parser.parse_args()
    scores = []
    if args.retrieval is not None:
        with args.retrieval.open(newline="") as file:
            scores = list(csv.DictReader(file, delimiter="\t"))
    for name, (settings, measured) in MADE.items():
        path = args.output / name
        (path / SOURCES).unlink(missing_ok=True)
        if not args.card_only:
            files, labels = sorted(args.genomes.glob("*.fna.gz")), args.genomes / "genomes.tsv"
            fit(files, path, settings=settings, labels=labels, threads=args.threads, force=True, log=print)
        encoder = Encoder.load(path)
        head, _, settings_on = encoder.card.partition("## Settings")
        for part in ("## Sources", "## Retrieval", "## Known limits"):
            head = head.partition(part)[0]
        head = head.replace("# kinmer encoder", f"# {name}")
        shown = tables(scores, measured) if scores else ""
        encoder.training["name"] = name
        listed = sources(args.genomes, args.output / SOURCES)
        encoder.card = f"{head}{listed}{shown}{LIMITS}\n## Settings{settings_on}"
        encoder.save(path, force=True)
        (args.output / SOURCES).rename(path / SOURCES)
        print(f"{name}: {encoder.fingerprint}")


if __name__ == "__main__":
    main()
