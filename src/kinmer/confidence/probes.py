"""Probes of an index's own genomes, by which its answers are calibrated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence.pool import LineageBook
from kinmer.fasta import base_count
from kinmer.index.database import Storage
from kinmer.index.manifest import Entry
from kinmer.index.pieces import Embedder, RecordBlock
from kinmer.index.sequences import EntryLetters

__all__ = ["LENGTHS", "TURNS", "Probes", "sample_entries", "sample_probes"]


# From the shortest on that anything can be said of; the short ones lie close, where answers change most.
LENGTHS = (100, 150, 200, 300, 500, 700, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
# Probes of one length, in all and of one genome.
PER_LENGTH, PER_GENOME = 500, 4
# Dot products of all fragments with all rows, and the fewest fragments whatever they cost.
MOST_PRODUCTS, LEAST = 6e9, 1_200
# Genomes of one species that fragments are cut from.
PER_SPECIES = 3
LEAST_LETTERS = 500
# Substitutions a letter between strains of a species: identities of 96 to 99.5 %.
STRAIN_DISTANCE = (0.005, 0.04)
_ACGT = np.frombuffer(b"ACGT", np.uint8)
_IS_BASE = np.array([base_count(bytes([byte])) for byte in range(256)], np.int64)
FRAGMENTS_AT_ONCE = 512
# Rare cases, which tell of what is far from all, are simulated for every so-many-th fragment.
TURNS = 3

# Entry, genome, start, stop of a fragment, and whether it is one of those of plasmids.
_Place = tuple[int, int, int, int, bool]


@dataclass(frozen=True)
class Probes:
    """Queries cut from an index's own sequences.

    vectors : (q, dim). entry, genome : (q,) numbers that they are of. start, stop : (q,) letters.
    bases : (q,) A, C, G, T among them.
    extra : (q,) whether it is a plasmid's, cut beside those that are cut as the genomes are.
    strains : (q, dim) of the fragments as another strain would have them; None where there are no letters.
    random : (q, dim) of random letters in place of some of the fragments, else 0; None as well.
    """

    vectors: NDArray[np.float32]
    strains: NDArray[np.float32] | None
    random: NDArray[np.float32] | None
    entry: NDArray[np.int64]
    genome: NDArray[np.int64]
    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    bases: NDArray[np.int64]
    extra: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.entry)


def sample_probes(
    index: Storage, book: LineageBook, letters: EntryLetters, *, seed: int, threads: int | None
) -> Probes:
    """Probes of `LENGTHS` of genomes of as many species as possible, where sequences are long enough."""
    rng = np.random.default_rng(seed)
    total = max(LEAST, min(PER_LENGTH * len(LENGTHS), int(MOST_PRODUCTS / max(1, len(index.rows)))))
    per_length = total // len(LENGTHS)
    genomes = _some_genomes(index, book, per_length, rng)
    places = list(_places(index, book, genomes, per_length, rng))
    parts: list[NDArray[np.float32]] = []
    strains: list[NDArray[np.float32]] = []
    random: list[NDArray[np.float32]] = []
    kept: list[_Place] = []
    bases: list[int] = []
    embedder = Embedder(index.encoder, None, threads)
    waiting: list[tuple[_Place, bytes]] = []

    def embed() -> None:
        texts = [text for _, text in waiting]
        cuts = _cut(embedder, texts)
        others = _cut(embedder, [_strain(text, rng) for text in texts])
        chance = _cut(embedder, [_random(text, rng) for text in texts[::TURNS]])
        for at, ((place, text), cut, other) in enumerate(zip(waiting, cuts, others, strict=True)):
            if cut is not None and other is not None:
                kept.append(place)
                bases.append(base_count(text))
                parts.append(cut)
                strains.append(other)
                drawn = None if at % TURNS else chance[at // TURNS]
                random.append(np.zeros_like(cut) if drawn is None else drawn)
        waiting.clear()

    by_entry: dict[int, list[_Place]] = {}
    for place in places:
        by_entry.setdefault(place[0], []).append(place)
    for number, text in letters.each(sorted(by_entry)):
        waiting += _filled(text, by_entry[number])
        if len(waiting) >= FRAGMENTS_AT_ONCE:
            embed()
    if waiting:
        embed()
    nothing = np.empty((0, index.dim), np.float32)
    vectors, others, chance = (np.concatenate([nothing, *some]) for some in (parts, strains, random))
    return _fragments(vectors, others, chance, kept, bases)


def _filled(text: bytes, places: Sequence[_Place]) -> list[tuple[_Place, bytes]]:
    """Places and what stands there, longer ones where gaps are in them: all have the bases of their length.

    Those are left out whose sequence ends before, or that are more gap than bases.
    """
    found = []
    for entry, genome, start, stop, extra in places:
        piece, size = text[start:stop], stop - start
        if base_count(piece) < size:
            there = np.cumsum(_IS_BASE[np.frombuffer(text[start : start + 2 * size], np.uint8)])
            if not len(there) or there[-1] < size:
                continue
            stop = start + int(np.searchsorted(there, size)) + 1
            piece = text[start:stop]
        found.append(((entry, genome, start, stop, extra), piece))
    return found


def _cut(embedder: Embedder, texts: list[bytes]) -> list[NDArray[np.float32] | None]:
    block = RecordBlock("", 1, [""] * len(texts), texts)
    return [None if one is None else one.vectors for one in embedder.cut(block)]


def _strain(text: bytes, rng: np.random.Generator) -> bytes:
    """The letters with substitutions, as many as between strains of a species."""
    letters = np.frombuffer(text.upper(), np.uint8).copy()
    hit = np.flatnonzero(rng.random(len(letters)) < rng.uniform(*STRAIN_DISTANCE))
    at = np.searchsorted(_ACGT, letters[hit])
    # What is none of the four stays.
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
    """Whole sequences of known length as they lie in the index, where there are no letters to cut."""
    rng = np.random.default_rng(seed)
    genomes = _some_genomes(index, book, PER_LENGTH, rng)
    kept: list[_Place] = []
    first: list[int] = []
    for genome in genomes.tolist():
        able = [one for one in index.table.members(genome) if one.length and one.length >= LEAST_LETTERS]
        for at in rng.permutation(len(able))[:PER_GENOME].tolist():
            kept.append((able[at].number, genome, 0, int(able[at].length or 0), False))
            first.append(able[at].first)
    vectors = np.array(index.rows.vectors[first], dtype=np.float32).reshape(-1, index.dim)
    # How many of its letters are gaps nobody knows here.
    return _fragments(vectors, None, None, kept, [stop for *_, stop, _ in kept])


def _fragments(
    vectors: NDArray[np.float32],
    strains: NDArray[np.float32] | None,
    random: NDArray[np.float32] | None,
    kept: Sequence[_Place],
    bases: Sequence[int],
) -> Probes:
    told = np.array([place[:4] for place in kept], dtype=np.int64).reshape(-1, 4)
    extra = np.array([place[4] for place in kept], dtype=bool)
    return Probes(
        vectors,
        strains,
        random,
        told[:, 0],
        told[:, 1],
        told[:, 2],
        told[:, 3],
        np.array(bases, np.int64),
        extra,
    )


def _some_genomes(
    index: Storage, book: LineageBook, number: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """At most so many genomes, first one of each species, then a second one, in random order."""
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
    return np.sort(genomes[able[:number]])


def _places(
    index: Storage, book: LineageBook, genomes: NDArray[np.int64], number: int, rng: np.random.Generator
) -> Iterator[_Place]:
    """Entry, genome, start, stop of fragments, and whether it is one of those of plasmids."""
    each = min(PER_GENOME, max(1, number // max(1, len(genomes))))
    for genome in genomes.tolist():
        members = index.table.members(genome)
        kinds = book.molecules(np.array([one.number for one in members], dtype=np.int64))
        plasmids = [one for one, kind in zip(members, kinds.tolist(), strict=True) if kind == 1]
        for length in LENGTHS:
            yield from _cuts(members, genome, length, each, False, rng)
            yield from _cuts(plasmids, genome, length, 1, True, rng)


def _cuts(
    entries: Sequence[Entry],
    genome: int,
    length: int,
    number: int,
    extra: bool,
    rng: np.random.Generator,
) -> Iterator[_Place]:
    able = [one for one in entries if (one.length or 0) >= length]
    if not able:
        return
    sizes = np.array([one.length for one in able], dtype=np.float64)
    for at in rng.choice(len(able), number, p=sizes / sizes.sum()).tolist():
        start = int(rng.integers(0, int(sizes[at]) - length + 1))
        yield able[at].number, genome, start, start + length, extra
