"""Makes the reference that comes with kinmer, and its card.

    python tools/make_reference.py GENOMES [--work FOLDER] [--table MARKDOWN] [--output src/kinmer/box]

GENOMES is a folder of FASTA files, one a genome, with a ``genomes.tsv`` (columns sequence_id, file, length,
molecule, genome_id, the ranks, source, license) and perhaps a ``plasmids.tsv`` (sequence_id, ptu). The same
genomes give the same files, but for the rounding of another processor. They must be those that the encoder
was fitted on, beside which their sources stand. `--table` is put into the card: what was measured.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from kinmer.box import boxed
from kinmer.box.reference import REFERENCE, pack
from kinmer.index import Storage
from kinmer.index.manifest import (
    CALIBRATION,
    COMPACT_SCALE,
    read_calibration,
    save_manifest,
    write_calibration,
)
from kinmer.index.rows import quantized
from kinmer.index.writer import Change, IndexWriter
from kinmer.library import build_reference
from kinmer.taxonomy import RANKS

# So that all fits into 15 MB.
PIECES = (400_000,)
COLUMNS = ("sequence_id", *RANKS, "molecule")


def metadata(genomes: Path) -> pd.DataFrame:
    """What the reference says of every sequence."""
    table = pd.read_csv(genomes / "genomes.tsv", sep="\t", dtype=str, keep_default_na=False)
    if (genomes / "plasmids.tsv").is_file():
        plasmids = pd.read_csv(genomes / "plasmids.tsv", sep="\t", dtype=str, keep_default_na=False)
        units = plasmids.drop_duplicates("sequence_id").set_index("sequence_id")["ptu"]
        table["ptu"] = table["sequence_id"].map(units).fillna("")
    return table.drop_duplicates("sequence_id")


def make_index(genomes: Path, table: pd.DataFrame, path: Path) -> None:
    """The compact index, or what is left to do of it."""
    columns = [name for name in (*COLUMNS, "ptu") if name in table]
    labels = path.with_suffix(".tsv")
    table[columns].to_csv(labels, sep="\t", index=False)
    build_reference(
        genomes, path, metadata=labels, compact=True, pieces=PIECES, engine="exact", log=print
    ).close()


def make_anonymous(path: Path) -> None:
    """Let the index at `path` say its released name, and files' names in place of their paths."""
    with IndexWriter(path) as writer:
        body = read_calibration(path, writer.manifest["index"])
        manifest = save_manifest(path, {**writer.manifest, "index": REFERENCE})
        change = Change(writer.table)
        with change.begin(derived=True):
            change.state("index", REFERENCE)
        if body is not None:
            (path / CALIBRATION).unlink()
            kept = {
                name: value for name, value in body.items() if name not in ("kind", "format", "index", "crc")
            }
            write_calibration(path, manifest["index"], kept)
    with closing(sqlite3.connect(path / "entries.sqlite")) as connection:
        names = [(Path(name).name, name) for (name,) in connection.execute("SELECT path FROM files")]
        connection.executemany("UPDATE files SET path = ? WHERE path = ?", names)
        connection.commit()
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")


def make_archive(path: Path, output: Path, about: str) -> None:
    """Pack the index at `path`. about : what it holds."""
    with Storage.open(path) as index:
        steps, scales = quantized(np.asarray(index.rows.vectors))
        # They lie in the order of their entries: nothing was ever deleted.
        sizes = [blob.bytes for blob in index.table.blobs("sketches", index.numbers).values()]
        encoder = boxed().name
        pack(path, output, encoder=encoder, about=about, steps=steps, scales=scales, blob_sizes=sizes)


def make_card(table: pd.DataFrame, archive: Path, figures: str) -> str:
    """What the reference is made of, as Markdown."""
    kinds = table.groupby("molecule", sort=False).agg(
        sequences=("sequence_id", "size"),
        genomes=("genome_id", "nunique"),
        species=("species", lambda names: names[names != ""].nunique()),
        genera=("genus", lambda names: names[names != ""].nunique()),
        letters=("length", lambda lengths: lengths.astype(int).sum()),
    )
    lines = [
        f"| {kind} | " + " | ".join(f"{value:,}" for value in row) + " |" for kind, row in kinds.T.items()
    ]
    licenses = table.drop_duplicates("genome_id")["license"].replace("", "not stated").value_counts()
    shown = ", ".join(f"{name} ({count:,})" for name, count in licenses.items())
    size = f"{table['genome_id'].nunique():,} genomes, {archive.stat().st_size / 1e6:.1f} MB"
    return f"""# {REFERENCE}

The reference that comes with kinmer: {size}. It holds vectors (encoder {boxed().name}), sketches of one k-mer
in {COMPACT_SCALE:,} and names, no sequences.

| kind | sequences | genomes | species | genera | letters |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(lines)}

{figures}
## Known limits

- The genomes are few, most of them of well-known bacteria. A species that is not among them cannot be named.
  For your own work build a reference from GTDB or NCBI: `kinmer reference`.
- Short queries share few of the k-mers that are kept: other strains of known species at 1 kb are named less
  often than beside an index of full size.
- No sequences are kept: `--evidence` cannot align.

## Sources

`{boxed().name}/sources.tsv` has the source and the license of every genome. Licenses, as the repositories of
the files state them: {shown}. The sequences themselves are records of INSDC and RefSeq.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("--work", type=Path, help="folder for the index; what is in it is gone on with")
    parser.add_argument("--table", type=Path, help="Markdown for the card")
    parser.add_argument("--output", type=Path, default=Path("src/kinmer/box"))
    args = parser.parse_args()
    table = metadata(args.genomes)
    listed = pd.read_csv(boxed() / "sources.tsv", sep="\t", dtype=str)
    if set(listed.iloc[:, 0]) != set(table["genome_id"]):
        raise SystemExit(f"these are not the genomes of {boxed().name}")
    with tempfile.TemporaryDirectory() as scratch:
        work = args.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        make_index(args.genomes, table, work / f"{REFERENCE}.db")
        copy = Path(shutil.copytree(work / f"{REFERENCE}.db", Path(scratch) / "copy.db"))
        make_anonymous(copy)
        archive = args.output / f"{REFERENCE}.zip"
        about = f"{table['genome_id'].nunique():,} genomes of {table['species'].nunique():,} species"
        make_archive(copy, archive, about)
    figures = args.table.read_text() if args.table else ""
    (args.output / f"{REFERENCE}.md").write_text(make_card(table, archive, figures))
    print(json.dumps({"bytes": archive.stat().st_size, "genomes": int(table["genome_id"].nunique())}))


if __name__ == "__main__":
    main()
