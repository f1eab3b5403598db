"""What `confidence.py` asks beside the queries of `side_by_side.py`, and what kinmer answers to all."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from side_by_side_draw import LENGTHS, Genomes, draw, fragments, write_queries

# Beside the lengths of side_by_side.py; and those of pieces of plasmids.
MORE = (20_000,)
ALL_LENGTHS = (*LENGTHS[:-1], *MORE, *LENGTHS[-1:])
EXTRA, PLASMIDS = "more", "plasmids"
QUERIES = ("queries", EXTRA, PLASMIDS)


def write_extra(source: Genomes, folder: Path, half: int, seed: int) -> None:
    """``more.fna`` and ``plasmids.fna``, with their ``.tsv``, of the genomes that the draw asks for."""
    if not (folder / f"{PLASMIDS}.tsv").exists():
        chosen = draw(source.genomes, half, seed)
        write_queries(fragments(source, chosen, seed, MORE), folder / EXTRA, "m")
        plasmids = fragments(source, chosen, seed, ALL_LENGTHS, plasmids=True)
        write_queries(plasmids, folder / PLASMIDS, "p")


def ask(folder: Path, answers: Path, encoder: str | None, threads: int) -> None:
    """Index the draw's references, search with all queries, keep the JSON Lines packed in `answers`."""
    kinmer, count = str(Path(sys.executable).with_name("kinmer")), ["--threads", str(threads)]
    with tempfile.TemporaryDirectory(prefix="confidence-") as place:
        index, asked, found = (Path(place) / name for name in ("kin.db", "asked.fna", "found.jsonl"))
        with asked.open("wb") as file:
            for name in QUERIES:
                file.write((folder / f"{name}.fna").read_bytes())
        table = ["--metadata", str(folder / "references.tsv")]
        chosen = ["--encoder", encoder] if encoder is not None else []
        build = [kinmer, "index", str(folder / "references.fna"), *table, *chosen, "-o", str(index), *count]
        search = [kinmer, "search", str(asked), "--db", str(index), "--by", "genome", "-k", "1"]
        for command in (build, [*search, "--format", "jsonl", "-o", str(found), *count]):
            told = subprocess.run(command, capture_output=True, text=True, check=False)
            if told.returncode:
                raise SystemExit(f"{folder.name}, kinmer {command[1]}: {told.stderr.strip()[-500:]}")
        answers.parent.mkdir(exist_ok=True)
        part = answers.with_suffix(".part")
        with found.open("rb") as lines, gzip.open(part, "wb") as packed:
            shutil.copyfileobj(lines, packed)
        part.replace(answers)
