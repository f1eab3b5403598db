"""Benchmarks of retrieval: a database, queries with answers at known ranks, and folds.

A folder with ``database.fna.gz``, ``queries.fna.gz``, a table beside each, ``folds.tsv`` and
``benchmark.json``. `kinmer.evaluate_retrieval` reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from kinmer.errors import FormatError, SequenceError, UsageError
from kinmer.files import built_aside, hash_file, replaced_text, write_json
from kinmer.folders import FolderKind, check_output
from kinmer.fragments.cuts import COLUMNS, Cutter, FragmentWriter, Place, fragment_writer, records
from kinmer.fragments.labels import (
    CASES,
    Case,
    GenomeLabels,
    Labels,
    Split,
    deal_cases,
    deal_folds,
    genomes_of,
    groups_of,
    key_of,
    read_labels,
)
from kinmer.inputs import described, read_json
from kinmer.progress import step


class Shelf:
    """Sequences by id in one temporary file, so that genomes come whole and in any order.

    Memory holds their positions only. The file in `folder` has no name and goes with the shelf.
    """

    def __init__(self, folder: str | Path) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (closed by `closing`)
        self._spans: dict[str, tuple[int, int]] = {}
        self.close = self._file.close

    def __contains__(self, sequence_id: str) -> bool:
        return sequence_id in self._spans

    def fill(self, files: Sequence[str | Path], wanted: Container[str]) -> int:
        """Keep the sequences whose ids are wanted; gives the number of the others."""
        others = 0
        for sequence_id, letters in records(files, "reading"):
            if sequence_id in wanted:
                self._spans[sequence_id] = (self._file.seek(0, os.SEEK_END), len(letters))
                self._file.write(letters)
            else:
                others += 1
        return others

    def take(self, sequence_id: str) -> bytes:
        """A sequence that is kept."""
        start, size = self._spans[sequence_id]
        self._file.seek(start)
        return self._file.read(size)


FORMAT = 1
KIND = "kinmer benchmark"
DATABASE, QUERIES, FOLDS, DESCRIPTION = "database.fna.gz", "queries.fna.gz", "folds.tsv", "benchmark.json"
FILES = (DATABASE, f"{DATABASE}.tsv", QUERIES, f"{QUERIES}.tsv", FOLDS)
MORE_COLUMNS = ("case", "fold")
BENCHMARK = FolderKind(
    "benchmark",
    DESCRIPTION,
    lambda facts: facts.get("kind") == KIND,
    r"(?:database|queries)\.fna\.gz(?:\.tsv)?|folds\.tsv|benchmark\.json",
)
# Of a genome that is known in part, this share of every long sequence goes to the database.
KNOWN_SHARE = 0.6
# Sequences shorter than this go whole to one side where a genome has more than MANY of them.
SHORT, MANY = 20_000, 3
LEAST_PIECE = 1_000
MAX_AMBIGUOUS = 0.05


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """The counts of `benchmark`."""

    database: int  # pieces
    database_bases: int
    database_genomes: int
    queries: int
    query_genomes: Mapping[str, int]  # by case
    queries_by_case: Mapping[str, int]
    groups: int
    folds: tuple[int, ...]  # labeled genomes in every fold
    given_up: int  # queries asked for that are missing: too ambiguous
    unlabelled: int  # sequences without a row in the labels: left out
    absent: int  # rows of the labels without a sequence
    fingerprint: str

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def summary(self) -> str:
        """Some lines for people."""
        cases = ", ".join(
            f"{name} {self.queries_by_case[name]:,} of {self.query_genomes[name]:,} genomes"
            for name in self.queries_by_case
        )
        lines = [
            f"database: {self.database:,} pieces ({self.database_bases / 1e6:,.1f} Mbp)"
            f" of {self.database_genomes:,} genomes",
            f"queries: {self.queries:,} ({cases})",
            f"folds: {', '.join(map(str, self.folds))} genomes, {self.groups:,} groups",
        ]
        for number, what in (
            (self.given_up, "queries not found (too many ambiguous letters)"),
            (self.unlabelled, "sequences without labels left out"),
            (self.absent, "labeled sequences not in the files"),
        ):
            if number:
                lines.append(f"{number:,} {what}")
        return "\n".join(lines)


@dataclass(frozen=True, kw_only=True)
class _Settings:
    split: Split
    folds: int
    lengths: tuple[int, ...]
    per_length: int
    piece: int
    seed: int
    fold_seed: int

    def __post_init__(self) -> None:
        if self.split not in ("species", "genome"):
            raise UsageError(f"folds are split by species or genome, not by {self.split!r}")
        if not self.lengths or min(self.lengths) < 1 or len(set(self.lengths)) != len(self.lengths):
            raise UsageError("query lengths are whole numbers from 1 on, each once")
        if self.per_length < 1:
            raise UsageError("at least one query of every genome and length must be asked for")
        if self.piece < LEAST_PIECE:
            raise UsageError(f"pieces of the database are at least {LEAST_PIECE:,} letters long")
        if min(self.seed, self.fold_seed) < 0:
            raise UsageError("seeds are not negative")


def benchmark(
    files: Sequence[str | Path],
    output: str | Path,
    *,
    labels: str | Path,
    split: Split = "species",
    folds: int = 5,
    fold_seed: int = 0,
    lengths: Sequence[int] = (1_000, 2_000, 5_000, 10_000, 50_000),
    per_length: int = 12,
    piece: int = 100_000,
    seed: int = 0,
    force: bool = False,
) -> BenchmarkReport:
    """Make a benchmark of retrieval out of labeled FASTA `files` in the new folder `output`.

    A genome of the case ``genome`` gives the first 60 % of every sequence to the database and the rest to
    the queries; its short contigs, where there are many, go whole to one side. The same seed gives the same
    bytes, whatever the order of the files. Memory: the labels and the largest genome.

    Parameters
    ----------
    labels : str | Path
        TSV with a column ``sequence_id``; ``genome_id``, ``species``, ``genus``, ``domain`` and
        ``ani95_cluster`` are used where they are there, all columns are handed on. Without ``genome_id``
        every sequence is a genome. Sequences without a row are left out.
    split, folds, fold_seed : Split
        See `groups_of` and `deal_folds`. Folds follow from the labels and `fold_seed` alone, so that
        benchmarks of several seeds share the encoders of the folds.
    lengths, per_length : Sequence[int]
        Of every genome asked about and length at most so many queries, never more than fit side by side, on
        a random strand, with at most 5 % of letters other than ACGT.
    piece : the database's sequences are cut in equal pieces of at most so many letters.
    seed : of the cases (`deal_cases`), the queries and the sides of short contigs.

    Raises
    ------
    UsageError, InputError, SequenceError : settings, output or too few groups; labels; bad FASTA.
    """
    chosen = {"split": split, "folds": folds, "per_length": per_length, "piece": piece, "seed": seed}
    settings = _Settings(**chosen, lengths=tuple(sorted(lengths)), fold_seed=fold_seed)  # type: ignore[arg-type]
    output = check_output(output, force=force, kind=BENCHMARK)
    known = _labels_for(split, labels)
    genomes = genomes_of(known, labels)
    groups = groups_of(genomes.values(), split)
    fold_of = deal_folds(genomes, groups, folds, fold_seed)
    with built_aside(output) as aside, closing(Shelf(output.absolute().parent)) as shelf:
        unlabeled = shelf.fill(files, known.rows)
        counts = _write_sides(aside, settings, known, genomes, fold_of, shelf)
        _write_folds(aside / FOLDS, genomes, groups, fold_of)
        counts |= {
            "groups": len(set(groups.values())),
            "folds": tuple(Counter(fold_of.values())[one] for one in range(folds)),
            "unlabelled": unlabeled,
            "absent": sum(one not in shelf for one in known.rows),
        }
        return BenchmarkReport(**counts, fingerprint=_describe(aside, settings, counts))


def _labels_for(split: Split, path: str | Path) -> Labels:
    """The labels; UsageError where genomes cannot be parted by them."""
    known = read_labels(path)
    if split == "species" and not {"species", "ani95_cluster"} & set(known.columns):
        raise UsageError(
            "the labels have neither species nor ani95_cluster",
            "folds part genomes that share one of them",
            "give such labels, or --split genome",
        )
    return known


def _write_sides(
    folder: Path,
    settings: _Settings,
    labels: Labels,
    genomes: Mapping[str, GenomeLabels],
    fold_of: Mapping[str, int],
    shelf: Shelf,
) -> dict[str, Any]:
    """Write database and queries, genome after genome."""
    present = {
        name: [one for one in genome.sequences if one in shelf]
        for name, genome in genomes.items()
        if any(one in shelf for one in genome.sequences)
    }
    cases = deal_cases((genomes[name] for name in present), settings.seed)
    columns = labels.joined((*COLUMNS, *MORE_COLUMNS))
    database_genomes, given_up = 0, 0
    queries: Counter[str] = Counter()
    query_genomes: Counter[str] = Counter()
    with (
        fragment_writer(folder / DATABASE, columns) as database,
        fragment_writer(folder / QUERIES, (*columns, *MORE_COLUMNS)) as asked,
        step("cutting", len(present)) as shown,
    ):
        for name, sequences in present.items():
            letters = {one: shelf.take(one) for one in sequences}
            edges = _edges(name, letters, cases[name], settings.seed)
            before = database.fragments, asked.fragments
            for one, edge in edges.items():
                for place in _pieces(letters[one][:edge], settings.piece):
                    database.write(one, place, labels.of(one))
            more = (cases[name], str(fold_of[name]))
            given_up += _write_queries(asked, name, letters, edges, settings, labels, more)
            database_genomes += database.fragments > before[0]
            queries[cases[name]] += asked.fragments - before[1]
            query_genomes[cases[name]] += asked.fragments > before[1]
            shown.advance()
        if not (database.fragments and asked.fragments):
            side = "database" if not database.fragments else "queries"
            raise SequenceError(f"nothing is left for the {side}", check="are the sequences long enough?")
    return {
        "database": database.fragments,
        "database_bases": database.bases,
        "database_genomes": database_genomes,
        "queries": asked.fragments,
        "query_genomes": {case: query_genomes[case] for case in CASES},
        "queries_by_case": {case: queries[case] for case in CASES},
        "given_up": given_up,
    }


def _edges(genome: str, letters: Mapping[str, bytes], case: Case, seed: int) -> dict[str, int]:
    """Where every sequence is parted: the letters before go to the database, those behind to the queries."""
    if case != "genome":
        return dict.fromkeys(letters, 0)
    random = np.random.default_rng(key_of(f"{seed}\0sides\0{genome}"))
    edges = {}
    for one, sequence in letters.items():
        size = len(sequence)
        if size < SHORT and len(letters) > MANY:
            edges[one] = size if random.random() < KNOWN_SHARE else 0
        else:
            edges[one] = int(size * KNOWN_SHARE)
    return edges


def _pieces(letters: bytes, piece: int) -> Iterator[Place]:
    """Equal pieces with enough nucleotides to be found by."""
    number = -(-len(letters) // piece)
    cuts = [len(letters) * one // max(number, 1) for one in range(number + 1)]
    for start, end in pairwise(cuts):
        part = letters[start:end]
        if len(part) - len(part.translate(None, b"ACGTU")) >= LEAST_PIECE:
            yield Place(start, end, "+", part)


def _write_queries(
    writer: FragmentWriter,
    genome: str,
    letters: Mapping[str, bytes],
    edges: Mapping[str, int],
    settings: _Settings,
    labels: Labels,
    more: Sequence[str],
) -> int:
    """Write a genome's queries of all lengths; returns how many were not found."""
    given_up = 0
    for length in settings.lengths:
        fit = {one: (len(sequence) - edges[one]) // length for one, sequence in letters.items()}
        total = sum(fit.values())
        random = np.random.default_rng(key_of(f"{settings.seed}\0queries\0{genome}\0{length}"))
        # Every place where a fragment fits side by side with the others is as likely as any other.
        wanted = random.multivariate_hypergeometric(list(fit.values()), min(settings.per_length, total))
        cutter = Cutter(length, length, f"{settings.seed}\0{length}", True, MAX_AMBIGUOUS)
        for one, number in zip(fit, wanted.tolist(), strict=True):
            before = writer.fragments
            for place in cutter.places(one, letters[one], number, edges[one]) if number else ():
                writer.write(one, place, (*labels.of(one), *more))
            given_up += number - (writer.fragments - before)
    return given_up


def _write_folds(
    path: Path, genomes: Mapping[str, GenomeLabels], groups: Mapping[str, str], fold_of: Mapping[str, int]
) -> None:
    with replaced_text(path) as file:
        file.write("sequence_id\tgenome_id\tgroup\tfold\n")
        for name, genome in genomes.items():
            for one in genome.sequences:
                file.write(f"{one}\t{name}\t{groups[name]}\t{fold_of[name]}\n")


def _describe(folder: Path, settings: _Settings, counts: Mapping[str, Any]) -> str:
    """Write ``benchmark.json``, last; returns the fingerprint of settings and files."""
    facts = {
        "kind": KIND,
        "format": FORMAT,
        "settings": asdict(settings),
        "counts": dict(counts),
        "files": {name: hash_file(folder / name) for name in FILES},
    }
    fingerprint = _fingerprint(facts)
    write_json(folder / DESCRIPTION, {**facts, "fingerprint": fingerprint})
    return fingerprint


def _fingerprint(facts: Mapping[str, Any]) -> str:
    """SHA-256 (hex) over the description of a benchmark."""
    described = {name: one for name, one in facts.items() if name != "fingerprint"}
    return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Benchmark:
    """A benchmark's folder, checked."""

    folder: Path
    database: Path
    queries: Path
    settings: Mapping[str, Any]
    fingerprint: str

    @property
    def database_labels(self) -> Path:
        return self.database.with_name(f"{self.database.name}.tsv")

    @property
    def query_labels(self) -> Path:
        return self.queries.with_name(f"{self.queries.name}.tsv")


def open_benchmark(folder: str | Path) -> Benchmark:
    """The benchmark in `folder`; raises FormatError where it is none, of another format, or damaged."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FormatError(
            "there is no benchmark", "it is a folder, written by kinmer fragment --benchmark", place=folder
        )
    if not (folder / DESCRIPTION).is_file():
        raise FormatError(
            f"this is no benchmark, but {described(folder)}",
            f"a benchmark has a {DESCRIPTION}",
            "make one with kinmer fragment --benchmark",
            place=folder,
        )
    facts = read_json(folder / DESCRIPTION)
    if facts.get("kind") != KIND or facts.get("format") != FORMAT:
        raise FormatError(
            f"this is no benchmark of format {FORMAT}", check="make it again with this version", place=folder
        )
    # It names files: nothing of it is believed before it is known to be what was written.
    if facts.get("fingerprint") != _fingerprint(facts):
        raise FormatError(
            f"{DESCRIPTION} is damaged",
            "its fingerprint is another",
            "copy the benchmark again, or make it again",
            place=folder,
        )
    for name, digest in facts["files"].items():
        if not (folder / name).is_file() or hash_file(folder / name) != digest:
            raise FormatError(
                f"{name} is not the file that the benchmark was made with",
                check="copy the benchmark again, or make it again",
                place=folder,
            )
    return Benchmark(
        folder, folder / DATABASE, folder / QUERIES, facts["settings"], str(facts["fingerprint"])
    )
