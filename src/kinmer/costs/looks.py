"""What an input holds, from a quick look: sizes of files, a sample of their text, counts of stores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.costs.prices import DIM
from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fasta import FastaLook, is_stream, look_into, nonempty
from kinmer.index.pieces import pieces_of
from kinmer.inputs import kind_of

# Text that is looked at in all, and the fewest of it in one file; files that are looked into.
TEXT, LEAST_TEXT, FILES = 1 << 27, 1 << 19, 128
# Lengths whose pieces are counted one by one.
CUT = 5000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Contents:
    """What an input holds.

    kind : FASTA, a table of profiles, or an index. lengths, weights : (n,) bases of some sequences, and of
    how many each stands for. genomes : files, or genomes of an index. stored : bytes. packed : share of the
    bases that are in compressed files. looked : share that was read; where it is 1 the counts are exact.
    rows, dim : vectors of an index, and their numbers.
    """

    name: str
    kind: Literal["fasta", "profiles", "index"]
    lengths: Floats
    weights: Floats
    genomes: int
    stored: int
    packed: float = 0.0
    looked: float = 1.0
    rows: int = 0
    dim: int = DIM

    def total(self, amount: Callable[[Floats], Floats]) -> float:
        """The sum over all sequences of what `amount` gives for their lengths."""
        return float((amount(self.lengths) * self.weights).sum())

    @property
    def sequences(self) -> float:
        """Sequences in all."""
        return float(self.weights.sum())

    @property
    def bases(self) -> float:
        """Bases in all."""
        return self.total(lambda lengths: lengths)

    def at_least(self, bases: int, *, empty: bool = False) -> Contents:
        """Without shorter sequences; InputError where none is left, which may be if `empty`."""
        long = self.lengths >= bases
        if not long.any() and not empty:
            raise InputError(
                f"no sequence of {bases:,} bases was seen", "shorter ones are left out", "set --min-length",
                place=self.name,
            )  # fmt: skip
        return replace(self, lengths=self.lengths[long], weights=self.weights[long])

    def scaled(self, share: float) -> Contents:
        """The like of it with this share of the sequences."""
        return replace(self, weights=self.weights * share)

    def vectors(self, lengths: Sequence[int]) -> float:
        """Vectors of all sequences: one each, and one for every piece that those of these lengths have."""
        pieces = pieces_of(lengths)
        if pieces is None:
            return self.sequences
        order = np.argsort(self.lengths)
        order = order[self.lengths[order] > pieces.lengths[0]]
        groups = (
            np.array_split(order, CUT) if len(order) > CUT else [order[i : i + 1] for i in range(len(order))]
        )
        more = 0.0
        for group in groups:
            tiles = len(pieces.tiles(round(float(self.lengths[group].mean())))) - 1
            more += float(self.weights[group].sum()) * sum(len(firsts) for _, firsts in pieces.starts(tiles))
        return self.sequences + more


def contents_of(inputs: Sequence[str | Path]) -> Contents:
    """What FASTA files, a folder or manifest of genomes, a store, a table or an index holds.

    Raises UsageError for several inputs that are not all FASTA and for a pipe, InputError for what is missing
    or cannot be used.
    """
    if not inputs:
        raise UsageError("no input is given")
    kinds = [kind_of(one) for one in inputs]
    if len(inputs) == 1 and kinds[0] == "index":
        return _of_index(inputs[0])
    if len(inputs) == 1 and kinds[0] in ("store", "npy", "h5ad"):
        return _of_profiles(inputs[0])
    if odd := [f"{path}" for path, kind in zip(inputs, kinds, strict=True) if kind not in _SEQUENCES]:
        raise UsageError(
            "several inputs must all be FASTA"
            if len(inputs) > 1
            else f"nothing is known of what {odd[0]} takes",
            check="give FASTA, a folder of genomes, a profile store or an index",
            place=odd[0],
        )
    files: list[Path] = []
    absent = 0
    for path, kind in zip(inputs, kinds, strict=True):
        if is_stream(path):
            raise UsageError("a pipe cannot be looked into", "it can be read only once", place=str(path))
        if kind == "missing":
            raise SequenceError("no such file", check="is the path right?", place=path)
        found = _genomes(Path(path)) if kind == "folder" or _is_manifest(Path(path)) else ([Path(path)], 0)
        files, absent = [*files, *found[0]], absent + found[1]
    return _of_files(str(inputs[0]) if len(inputs) == 1 else f"{len(inputs):,} inputs", files, absent)


_SEQUENCES = ("fasta", "folder", "missing")


def _is_manifest(path: Path) -> bool:
    from kinmer.inputs import described

    return described(path) == "a table"


def _genomes(source: Path) -> tuple[list[Path], int]:
    """Files of the genomes in a folder or a manifest, and how many are yet to be downloaded."""
    from kinmer.library import find_genomes

    found = find_genomes(source)
    return [one.path for one in found if one.path is not None], sum(one.path is None for one in found)


def _of_files(name: str, files: list[Path], absent: int) -> Contents:
    files = nonempty(files)
    if not files:
        raise InputError(
            f"all {absent:,} genomes are yet to be downloaded", "nothing can be looked into", place=name
        )
    sizes = np.array([path.stat().st_size for path in files], float)
    chosen = np.unique(np.linspace(0, len(files) - 1, min(FILES, len(files))).astype(np.int64)).tolist()
    each = max(LEAST_TEXT, TEXT // len(chosen))
    looks = [look_into(files[one], each) for one in chosen]
    # Other files, and those yet to come, are taken to be as those that were seen, by their bytes.
    share = float(sizes.sum()) / max(1.0, float(sizes[chosen].sum())) * (len(files) + absent) / len(files)
    bases = sum(look.bases for look in looks)
    packed = sum(look.bases for look in looks if look.compressed) / max(bases, 1.0)
    read = sum(look.looked * look.stored for look in looks) / max(1.0, float(sizes.sum()))
    return Contents(
        name,
        "fasta",
        np.concatenate([look.lengths for look in looks]),
        np.concatenate([_weights(look) for look in looks]) * share,
        len(files) + absent,
        round(float(sizes.sum())),
        packed,
        1.0 if share == 1 and all(look.looked == 1 for look in looks) else min(read, 1 - 1e-9),
    )


def _weights(look: FastaLook) -> Floats:
    return np.full(len(look.lengths), look.sequences / len(look.lengths))


def _of_profiles(source: str | Path) -> Contents:
    from kinmer.inputs import map_array
    from kinmer.profiles import open_profiles

    if kind_of(source) == "npy" and (shape := map_array(source).shape) and shape[1:] and shape[1] < 2000:
        # Vectors, whose sequences are not known.
        none, size = np.zeros(1), Path(source).stat().st_size
        return Contents(str(source), "profiles", none, none + shape[0], 0, size, dim=shape[1])
    profiles = open_profiles(source)
    lengths = np.zeros(len(profiles))
    if "length" in profiles.obs:
        lengths = profiles.obs["length"].to_numpy(float)
    return Contents(str(source), "profiles", lengths, np.ones(len(lengths)), 0, _bytes_in(Path(source)))


def _of_index(source: str | Path) -> Contents:
    from kinmer.library import describe_index

    facts = describe_index(source)
    mean = np.array([facts.letters / max(1, facts.entries)])
    weights = np.array([float(facts.entries)])
    rows = facts.wholes + facts.pieces + facts.genome_vectors
    return Contents(
        str(source), "index", mean, weights, facts.genomes, facts.bytes_on_disk, rows=rows, dim=facts.dim
    )


def _bytes_in(path: Path) -> int:
    files = [path] if path.is_file() else path.rglob("*")
    return sum(file.stat().st_size for file in files if file.is_file())
