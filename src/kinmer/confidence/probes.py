"""Fragments of an index's own genomes, by which its answers are calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import LineageBook
from kinmer.fasta import base_count
from kinmer.index import Storage
from kinmer.index.manifest import Entry, sketch_scale
from kinmer.index.pieces import Embedder, RecordBlock
from kinmer.index.sequences import EntryLetters
from kinmer.molecules import PLASMID
from kinmer.progress import counted
from kinmer.sketches import SKETCH_K, sketch, sketch_positions

# From the shortest on that anything can be said of. Short ones lie close together, where answers change most.
LENGTHS = (100, 150, 200, 300, 500, 700, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
# Fragments of one length, in all and of one genome.
PER_LENGTH, PER_GENOME = 500, 4
# Dot products of all fragments with all rows, some minutes of a core, and the fewest fragments whatever they
# cost. Below 5 million rows there are as many fragments as of a small index.
MOST_PRODUCTS, LEAST = 3e10, 3_000
# Genomes of one species that fragments are cut from, and the part of all that cells, or viruses, have at
# least where there are so many of them: few among very many would not be met.
PER_SPECIES, REALM = 3, 4
LEAST_LETTERS = 500
# Substitutions a letter between strains of a species: identities of 96 to 99.5 %.
STRAIN_DISTANCE = (0.005, 0.04)
FRAGMENTS_AT_ONCE = 512
# Rare cases, of what is far from all, are simulated for every so-many-th fragment.
TURNS = 3
_ACGT = np.frombuffer(b"ACGT", np.uint8)
_IS_BASE = np.array([base_count(bytes([byte])) for byte in range(256)], np.int64)

Vectors = NDArray[np.float32]


@dataclass(frozen=True)
class Probes:
    """Queries cut from an index's own sequences.

    vectors : (q, dim). strains : (q, dim) of the fragments as another strain would have them; None where
    there are no sequences. random : (q, dim) of random sequences in the place of some fragments, else 0; None
    as well. entry, genome : (q,) numbers that they are of. start, stop : (q,) in letters. bases : (q,) of A,
    C, G and T. sketches, strain_sketches, random_sketches : of the same sequences; None where the index has
    none. elsewhere : (q,) hashes of a sketch that the entry also has outside of the fragment.
    """

    vectors: Vectors
    strains: Vectors | None
    random: Vectors | None
    entry: NDArray[np.int64]
    genome: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    bases: NDArray[np.int64]
    sketches: list[NDArray[np.uint64]] | None = None
    strain_sketches: list[NDArray[np.uint64]] | None = None
    random_sketches: list[NDArray[np.uint64]] | None = None
    elsewhere: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.entry)


class _Span(NamedTuple):
    entry: int
    genome: int
    start: int
    stop: int


def sample_probes(
    index: Storage, book: LineageBook, letters: EntryLetters, *, seed: int, threads: int | None
) -> Probes:
    """Fragments of `LENGTHS` of genomes of as many species as possible, where sequences are long enough."""
    rng = np.random.default_rng(seed)
    total = max(LEAST, min(PER_LENGTH * len(LENGTHS), int(MOST_PRODUCTS / max(1, len(index.rows)))))
    per_length = total // len(LENGTHS)
    genomes = _some_genomes(index, book, per_length, rng)
    by_entry: dict[int, list[_Span]] = {}
    for span in _spans(index, book, genomes, per_length, rng):
        by_entry.setdefault(span.entry, []).append(span)
    embedder = Embedder(index.encoder, None, threads)
    parts: list[Probes] = []
    waiting: list[_Fragment] = []
    scale = sketch_scale(index.manifest)
    for number, text in counted(letters.each(sorted(by_entry)), "Fragments", len(by_entry)):
        found = _filled(text, by_entry[number])
        waiting += starmap(_Fragment, zip(*_cut(text, found, scale), strict=True))
        if len(waiting) >= FRAGMENTS_AT_ONCE:
            parts.append(_embedded(waiting, embedder, rng, scale))
            waiting = []
    parts.append(_embedded(waiting, embedder, rng, scale))
    return _joined(parts, sketched=index.has_sketches)


class _Fragment(NamedTuple):
    """A fragment, and how many hashes of its sketch are elsewhere in its entry."""

    span: _Span
    text: bytes
    elsewhere: int


def _cut(
    text: bytes, found: list[tuple[_Span, bytes]], scale: int
) -> tuple[list[_Span], list[bytes], list[int]]:
    values, starts = sketch_positions(text, scale)
    unique, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    elsewhere = []
    for span, _ in found:
        inside = inverse[(starts >= span.start) & (starts + SKETCH_K <= span.stop)]
        within = np.bincount(inside, minlength=len(unique))
        elsewhere.append(int(((within > 0) & (counts > within)).sum()))
    return [span for span, _ in found], [part for _, part in found], elsewhere


def _joined(parts: Sequence[Probes], *, sketched: bool) -> Probes:
    arrays = ("vectors", "strains", "random", "entry", "genome", "start", "stop", "bases")
    lists = ("sketches", "strain_sketches", "random_sketches")
    values: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) for name in arrays
    }
    if sketched:
        values |= {name: [one for part in parts for one in getattr(part, name)] for name in lists}
        values["elsewhere"] = np.concatenate([part.elsewhere for part in parts if part.elsewhere is not None])
    return Probes(**values)


def _embedded(
    fragments: Sequence[_Fragment], embedder: Embedder, rng: np.random.Generator, scale: int
) -> Probes:
    """The fragments that have a vector, with those of other strains and of random sequences."""
    texts = [fragment.text for fragment in fragments]
    changed = [_strain(text, rng) for text in texts]
    strange = [_random(text, rng) for text in texts[::TURNS]]
    own, strains = (_vectors(embedder, some) for some in (texts, changed))
    random = np.zeros_like(own)
    random[::TURNS] = np.nan_to_num(_vectors(embedder, strange))
    kept = np.isfinite(own).all(axis=1) & np.isfinite(strains).all(axis=1)
    bases = np.array([base_count(text) for text in texts], np.int64)
    spans = np.array([fragment.span for fragment in fragments], dtype=np.int64).reshape(-1, 4)
    entry, genome, start, stop = spans[kept].T
    rows = np.flatnonzero(kept).tolist()
    nothing = np.empty(0, np.uint64)
    return Probes(
        own[kept],
        strains[kept],
        random[kept],
        entry,
        genome,
        start,
        stop,
        bases[kept],
        [sketch(texts[row], scale) for row in rows],
        [sketch(changed[row], scale) for row in rows],
        [nothing if row % TURNS else sketch(strange[row // TURNS], scale) for row in rows],
        np.array([fragments[row].elsewhere for row in rows], np.int64),
    )


def _vectors(embedder: Embedder, texts: Sequence[bytes]) -> Vectors:
    """(n, dim) of the texts, NaN for one without a k-mer."""
    vectors = np.full((len(texts), embedder.dim), np.nan, np.float32)
    for row, cut in enumerate(embedder.cut(RecordBlock("", 1, [""] * len(texts), list(texts)))):
        if cut is not None:
            vectors[row] = cut.vectors[0]
    return vectors


def _filled(text: bytes, spans: Sequence[_Span]) -> list[tuple[_Span, bytes]]:
    """Spans and their sequences, longer ones where gaps are in them: all have the bases of their length.

    Those are left out whose sequence ends before, or that are more gap than bases.
    """
    result = []
    for span in map(_Span._make, spans):
        size, stop = span.stop - span.start, span.stop
        if base_count(text[span.start : stop]) < size:
            counts = np.cumsum(_IS_BASE[np.frombuffer(text[span.start : span.start + 2 * size], np.uint8)])
            if not len(counts) or counts[-1] < size:
                continue
            stop = span.start + int(np.searchsorted(counts, size)) + 1
        result.append((span._replace(stop=stop), text[span.start : stop]))
    return result


def _strain(text: bytes, rng: np.random.Generator) -> bytes:
    """The sequence with substitutions, as many as between strains of a species."""
    letters = np.frombuffer(text.upper(), np.uint8).copy()
    hit = np.flatnonzero(rng.random(len(letters)) < rng.uniform(*STRAIN_DISTANCE))
    at = np.searchsorted(_ACGT, letters[hit])
    # Other codes than the four stay.
    good = _ACGT[np.minimum(at, 3)] == letters[hit]
    hit, at = hit[good], at[good]
    letters[hit] = _ACGT[(at + rng.integers(1, 4, len(hit))) % 4]
    return letters.tobytes()


def _random(text: bytes, rng: np.random.Generator) -> bytes:
    """As many letters as there are bases, in random order, or, every other time, of any composition."""
    size = base_count(text)
    if rng.random() < 0.5:
        letters = np.frombuffer(text.upper(), np.uint8)
        return rng.permutation(letters[_IS_BASE[letters] > 0]).tobytes()
    strong = rng.uniform(0.2, 0.8) / 2
    return rng.choice(_ACGT, size, p=[0.5 - strong, strong, strong, 0.5 - strong]).tobytes()


def sample_entries(index: Storage, book: LineageBook, *, seed: int) -> Probes:
    """Whole sequences of known length as they are in the index, where there are no sequences to cut."""
    rng = np.random.default_rng(seed)
    spans: list[_Span] = []
    first: list[int] = []
    for genome in _some_genomes(index, book, PER_LENGTH, rng).tolist():
        able = [entry for entry in index.table.members(genome) if (entry.length or 0) >= LEAST_LETTERS]
        for at in rng.permutation(len(able))[:PER_GENOME].tolist():
            spans.append(_Span(able[at].number, genome, 0, int(able[at].length or 0)))
            first.append(able[at].first)
    vectors = np.array(index.rows.vectors[first], dtype=np.float32).reshape(-1, index.dim)
    numbers = np.array(spans, dtype=np.int64).reshape(-1, 4)
    entry, genome, start, stop = numbers.T
    # How many of the letters are gaps is not known here.
    probes = Probes(vectors, None, None, entry, genome, start, stop, stop)
    if not index.has_sketches:
        return probes
    kept, nothing = index.entry_sketches(entry), np.empty(0, np.uint64)
    sketches = [kept.get(number, nothing) for number in entry.tolist()]
    return replace(probes, sketches=sketches, elsewhere=np.zeros(len(probes), np.int64))


def _some_genomes(
    index: Storage, book: LineageBook, number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """At most so many genomes, first one of each species, then a second one, in random order.

    Of cells and of viruses some are among them where there are any.
    """
    genomes = np.array(sorted(index.table.genomes()), dtype=np.int64)
    species = book.codes(genomes)[:, -1]
    order = rng.permutation(len(genomes))
    seen: dict[int, int] = {}
    turn = np.empty(len(genomes), dtype=np.int64)
    for at in order.tolist():
        # Genomes without a species are each their own.
        name = int(species[at]) if species[at] >= 0 else -2 - at
        turn[at] = seen[name] = seen.get(name, -1) + 1
    able = order[turn[order] < PER_SPECIES]
    able = able[np.argsort(turn[able], kind="stable")]
    viral = book.lineages().viral[book.positions(genomes[able])]
    first = [np.flatnonzero(viral == realm)[: number // REALM] for realm in (False, True)]
    chosen = np.unique(np.concatenate([*first, np.arange(len(able))]), return_index=True)[1]
    return np.sort(genomes[able[np.argsort(chosen, kind="stable")[:number]]])


def _spans(
    index: Storage, book: LineageBook, genomes: NDArray[np.int64], number: int, rng: np.random.Generator
) -> Iterator[_Span]:
    """Fragments as the genomes are, and besides one of a plasmid, where there is one."""
    each = min(PER_GENOME, max(1, number // max(1, len(genomes))))
    for genome in genomes.tolist():
        members = index.table.members(genome)
        kinds = book.molecules(np.array([entry.number for entry in members], dtype=np.int64))
        plasmids = [entry for entry, kind in zip(members, kinds.tolist(), strict=True) if kind == PLASMID]
        for length in LENGTHS:
            yield from _cuts(members, genome, length, each, rng)
            yield from _cuts(plasmids, genome, length, 1, rng)


def _cuts(
    entries: Sequence[Entry], genome: int, length: int, number: int, rng: np.random.Generator
) -> Iterator[_Span]:
    able = [entry for entry in entries if (entry.length or 0) >= length]
    if not able:
        return
    sizes = np.array([entry.length for entry in able], dtype=np.float64)
    for at in rng.choice(len(able), number, p=sizes / sizes.sum()).tolist():
        start = int(rng.integers(0, int(sizes[at]) - length + 1))
        yield _Span(able[at].number, genome, start, start + length)
