"""Simulated genomes for `gtdb.py`: a tree of species that lie around each other as real ones do."""

from __future__ import annotations

import os
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.box import boxed
from kinmer.encoder import Encoder
from kinmer.fasta import read_records
from kinmer.index.commit import NewSequence
from kinmer.index.manifest import COMPACT_SCALE
from kinmer.index.pieces import Embedder, RecordBlock
from kinmer.sketches import SKETCH_SCALE
from kinmer.taxonomy import RANKS

LETTERS, HASHES = 3_200_000, 6_400
# n things of a rank are in about n ** GROWTH of the rank above. MOST : species of which others are drawn.
GROWTH, MOST = 0.8, 160_000
# Every DENSE-th genus has sisters, so much nearer than other species. The share of k-mers of two species.
DENSE, SISTERS, ALIKE, APART = 5, 0.3, 0.3, 0.03
NOISE = (200, 1_000, 2_000, 5_000, 10_000, 50_000)
Floats = NDArray[np.float32]


def rng_of(*seeds: int) -> np.random.Generator:
    """Random numbers of their own."""
    return np.random.default_rng(seeds)


class Spread:
    """How real genomes lie around each other: deviations (n, dim) by rank, of pieces, and of short pieces."""

    def __init__(self, file: Path) -> None:
        if not file.is_file():
            np.savez(file, **self._measured())  # type: ignore[arg-type]
        self._means, self._roots = dict[str, Floats](), dict[str, Floats]()
        with np.load(file) as kept:
            for name in kept.files:
                mean = kept[name].mean(axis=0)
                self._roots[name] = np.asarray(
                    np.linalg.qr((kept[name] - mean) / np.sqrt(len(kept[name])), "r")
                )
                # Short pieces are off by the same on average, names are not.
                self._means[name] = mean if name[0] == "n" else np.zeros_like(mean)
            self.middle = kept["middle"][0]

    def draw(self, name: str, rng: np.random.Generator, count: int = 1) -> Floats:
        """Deviations (count, dim) with the mean and the covariance of the real ones."""
        root = self._roots[name]
        return self._means[name] + rng.standard_normal((count, len(root)), np.float32) @ root

    @staticmethod
    def _measured() -> dict[str, Floats]:
        folder = Path(os.environ["KINMER_GENOMES"])
        table = pd.read_csv(folder / "genomes.tsv", sep="\t", keep_default_na=False)
        table = table[table.domain.isin(["Bacteria", "Archaea"]) & (table.molecule != "plasmid")]
        embedder, rng = Embedder(Encoder.load(boxed()), None, 1), rng_of(0)
        parts: dict[str, list[Floats]] = {}
        lineages, means = [], []
        for file, lines in table.groupby("file"):
            records = [text for _, text in read_records(folder / str(file)) if len(text) >= 200_000]
            text = max(records, key=len, default=b"")
            if not text or not lines.species.iloc[0]:
                continue
            size = min(LETTERS // 8, len(text) // 2)
            cuts = [text[at : at + size] for at in range(0, len(text) - size + 1, size)][:6]
            pieces = vectors(embedder, cuts)
            means.append(pieces.mean(axis=0))
            parts.setdefault("piece", []).append(pieces - means[-1])
            for length in NOISE:
                starts = rng.integers(0, size - length, 2).tolist()
                short = vectors(embedder, [cuts[0][at : at + length] for at in starts])
                parts.setdefault(f"n{length}", []).append(short - pieces[0])
            lineages.append(lines.iloc[0][list(RANKS)].tolist())
        found = {name: np.concatenate(each) for name, each in parts.items()}
        names, points = np.array(lineages), np.array(means)
        for rank in range(len(RANKS) - 1, 0, -1):
            # Each name once, as the mean of what is below it.
            names, points = averaged(names[:, : rank + 1], points)
            _, centers = averaged(names[:, :rank], points, spread=True)
            found[RANKS[rank]] = points - centers
        return found | {"middle": points.mean(axis=0, keepdims=True)}


def vectors(embedder: Embedder, texts: list[bytes]) -> Floats:
    """(n, dim) of some sequences."""
    cuts = embedder.cut(RecordBlock("", 1, [""] * len(texts), texts))
    return np.array([cut.vectors[0] for cut in cuts if cut is not None])


def averaged(names: NDArray[Any], points: Floats, *, spread: bool = False) -> tuple[NDArray[Any], Floats]:
    """Different names and the means of their points; `spread`: of every point that of its name."""
    unique, inverse = np.unique(names, axis=0, return_inverse=True)
    inverse = inverse.ravel()
    sums = np.zeros((len(unique), points.shape[1]), np.float32)
    np.add.at(sums, inverse, points)
    sums /= np.bincount(inverse)[:, None]
    return unique, sums[inverse] if spread else sums


class World:
    """The simulated genomes, by number; the first n are the same whatever follows."""

    def __init__(self, folder: Path, contigs: int) -> None:
        self.encoder, self.contigs = Encoder.load(boxed()), contigs
        self._spread = Spread(folder / "spread.npz")

    @cached_property
    def parents(self) -> list[NDArray[np.int64]]:
        """From genera up to phyla: the name above of each name, the first of a genome's species."""
        chain, count = [], MOST
        for rank in range(5, 0, -1):
            chain.append(grown(count, rng_of(1, rank)))
            count = int(chain[-1].max()) + 1
        return chain

    def names(self, genome: int) -> list[int]:
        """Numbers of its genus, family, order, class and phylum."""
        result = [genome]
        for above in self.parents:
            result.append(int(above[result[-1]]))
        return result[1:]

    def values(self, genome: int) -> dict[str, str]:
        """Its metadata."""
        genus, family, order, class_, phylum = self.names(genome)
        domain = "Archaea" if phylum % 7 == 3 else "Bacteria"
        names = [domain, f"P{phylum}", f"C{class_}", f"O{order}", f"F{family}", f"G{genus}"]
        return dict(zip(RANKS, [*names, f"G{genus} s{genome}"], strict=True)) | {"molecule": "chromosome"}

    @cache  # noqa: B019
    def _center(self, rank: int, name: int) -> Floats:
        """Of a name, 0 for genera to 4 for phyla."""
        own = self._spread.draw(RANKS[5 - rank], rng_of(2, rank, name))[0]
        above = (
            self._spread.middle if rank == 4 else self._center(rank + 1, int(self.parents[rank + 1][name]))
        )
        return np.asarray(above + own, np.float32)

    def genome(self, number: int) -> tuple[Floats, list[NDArray[np.uint64]]]:
        """Vectors (contigs, dim) and sketches of its contigs."""
        rng, genus = rng_of(3, number), self.names(number)[0]
        dense = genus % DENSE == 0
        own = self._spread.draw("species", rng)[0] * (SISTERS if dense else 1)
        pieces = self._center(0, genus) + own + self._spread.draw("piece", rng, self.contigs)
        hashes = rng_of(4, genus).integers(0, (1 << 48) * SKETCH_SCALE // COMPACT_SCALE, HASHES)
        # Two that have each hash of their genus with this chance have its square alike.
        lost = rng.random(HASHES) >= (ALIKE if dense else APART) ** 0.5
        hashes[lost] = rng.integers(0, (1 << 48) * SKETCH_SCALE // COMPACT_SCALE, int(lost.sum()))
        return pieces, [np.unique(part.astype(np.uint64)) for part in np.array_split(hashes, self.contigs)]

    def fragment(
        self,
        vector: Floats,
        kept: NDArray[np.uint64],
        length: int,
        rng: np.random.Generator,
        same: float = 0.65,
    ) -> tuple[Floats, NDArray[np.uint64]]:
        """Vector and sketch of a piece of a contig; same : the share of k-mers that a strain has alike."""
        near = min(NOISE, key=lambda one: abs(np.log(one / length)))
        noise = self._spread.draw(f"n{near}", rng)[0] * (near / length) ** 0.5
        some = (
            rng.permutation(kept)[: max(1, length // COMPACT_SCALE)] if length >= COMPACT_SCALE else kept[:0]
        )
        strange = rng.integers(0, (1 << 48) * SKETCH_SCALE // COMPACT_SCALE, len(some)).astype(np.uint64)
        return vector + noise, np.unique(np.where(rng.random(len(some)) < same, some, strange))

    def sequences(self, number: int) -> tuple[list[NewSequence], list[NDArray[np.uint64]]]:
        """A genome as the writer takes it."""
        rows, sketches = self.genome(number)
        name, length, values = f"G{number:06}", LETTERS // self.contigs, self.values(number)
        each = [
            NewSequence(f"{name}_{at}", name, length, 0.5, values, rows[at : at + 1])
            for at in range(self.contigs)
        ]
        return each, sketches


def grown(count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Groups (count,) of a Pitman–Yor process: large ones grow, and new ones always come."""
    group, sizes, draws = np.zeros(count, np.int64), [1], rng.random((count, 2))
    for at in range(1, count):
        if draws[at, 0] < (1 + GROWTH * len(sizes)) / (1 + at):
            group[at] = len(sizes)
            sizes.append(1)
            continue
        one = int(group[int(draws[at, 1] * at)])
        while rng.random() < GROWTH / sizes[one]:
            one = int(group[rng.integers(at)])
        group[at] = one
        sizes[one] += 1
    return group
