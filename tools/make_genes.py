"""Makes the protein families that come with kinmer, from a folder of labelled genomes.

    python tools/make_genes.py GENOMES [--without QUERIES.tsv] [--output src/kinmer/box]

GENOMES is a folder as for ``make_box.py``, with a ``plasmids.tsv`` (columns sequence_id, ptu). Proteins are
stop-free frames; those that share a word and lie on one diagonal of a longer one with `LEAST_ID` identity are
its family. Kept are families of three pairs of genus and kind of molecule, or of plasmids of two genera.
Weights are learned from fragments, their own genus, plasmid unit and cluster left out of the families. For a
benchmark, ``--without`` leaves out genomes (column genome), their species, units and clusters, altogether.
The same genomes give the same files. One thread, some minutes, 4 GB.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numba import njit
from numpy.typing import NDArray
from scipy.optimize import minimize

from kinmer.fasta import read_records
from kinmer.molecules import MOLECULES
from kinmer.proteins.families import COUNTED, Families, windows_of, write_tensors
from kinmer.proteins.homologs import GAP, GROUP, NUCLEOTIDES, read_frames
from kinmer.proteins.odds import GENES, GeneOdds, window_features

# Contigs so long are hardly ever of plasmids.
CHROMOSOME = 100_000
# Letters that are read of a genus by kind, and of one chromosome: families are of many genera.
CAPS, PART = (1_300_000, 2_200_000, 400_000), 650_000
# Codons of a frame. Words of so many letters, and how many of lowest hash stand for a protein.
LEAST_CODONS, WORD, WORDS = 80, 8, 24
LEAST_ID, LEAST_COVER = 0.3, 0.6
# Fragments of a kind, shortest, longest; the ridge.
FRAGMENTS, SHORTEST, LONGEST, RIDGE = 4_000, 800, 12_000, 0.01
SEED = 1
CARD = """# genes-1

Families of proteins, and which genera have them on which kind of molecule:
{:,} representatives of {:,} amino acids.
Weights say how far the families in a contig change the odds of chromosome, plasmid and virus. Made by
`tools/make_genes.py`.

| kind | records | genera | families |
| --- | --- | --- | --- |
{}

Known limits: proteins are stop-free frames, read by the genetic code 11; families
without gaps, from few genomes. Organelles and eukaryotes have none.
`kin-2/sources.tsv` has the source and the license of every genome.
"""

Rows = NDArray[np.int64]


def read_table(folder: Path, without: Path | None) -> pd.DataFrame:
    """A row for every labelled record: kind, genus, unit, cluster, letters (none of those left out)."""
    table = pd.read_csv(folder / "genomes.tsv", sep="\t", keep_default_na=False, dtype=str)
    units = pd.read_csv(folder / "plasmids.tsv", sep="\t", keep_default_na=False, dtype=str)
    units = units.drop_duplicates("sequence_id").set_index("sequence_id")["ptu"]
    table["unit"] = table["sequence_id"].map(units).fillna("").replace("-", "")
    long = table["molecule"].eq("contig") & (table["length"].astype(int) >= CHROMOSOME)
    kinds = {name: code for code, name in enumerate(MOLECULES[:COUNTED])}
    table["kind"] = table["molecule"].mask(long, "chromosome").map(kinds)
    name = table["species"].where(table["species"].ne(""), table["genome_id"])
    table["group"] = table["genus"].where(table["genus"].ne(""), name)
    if without is not None:
        asked = table["genome_id"].isin(pd.read_csv(without, sep="\t", dtype=str)["genome"])
        for column in ("species", "unit", "ani95_cluster"):
            asked |= table[column].isin(set(table.loc[asked, column]) - {""})
        table = table[~asked]
    table = table[table["kind"].notna()].drop_duplicates("sequence_id").reset_index(drop=True)
    letters: dict[str, bytes] = {}
    for file in table["file"].unique():
        letters.update((name.split()[0], bytes(text)) for name, text in read_records(folder / file))
    table["letters"] = table["sequence_id"].map(letters)
    return table[table["letters"].notna()].reset_index(drop=True)


def proteins_of(table: pd.DataFrame) -> tuple[list[NDArray[np.uint8]], Rows]:
    """Proteins in the frames of the records, up to `CAPS` letters of a genus and kind, and whose they are."""
    rng, found, owners = np.random.default_rng(SEED), [], []
    for (kind, _), own in table.groupby(["kind", "group"]):
        left = CAPS[int(kind)]
        for row in rng.permutation(own.index.to_numpy()).tolist():
            text = table.at[row, "letters"]
            size = min(len(text), left, PART if kind == 0 else left)
            if size < 2000 and left < CAPS[int(kind)]:
                continue
            start = int(rng.integers(0, len(text) - size + 1))
            dna = NUCLEOTIDES[np.frombuffer(text[start : start + size], np.uint8)]
            letters, ends = np.empty(len(dna) + 2, np.uint8), np.empty(len(dna) // 90 + 64, np.int64)
            first = 1
            for end in ends[: read_frames(dna, LEAST_CODONS, letters, ends)].tolist():
                found.append(letters[first:end].copy())
                owners.append(row)
                first = end + 1
            left -= size
    return found, np.array(owners, np.int64)


@njit(cache=True)
def words(letters: Any, starts: Any, groups: Any, hashes: Any, places: Any) -> None:
    """The `WORDS` lowest hashes of words of every protein, and where they are; -1 for none."""
    own = np.empty(1 << 16, np.uint64)
    for s in range(len(starts) - 1):
        count = min(starts[s + 1] - starts[s] - WORD + 1, len(own))
        for i in range(count):
            value = np.uint64(1)
            for j in range(WORD):
                value = value * np.uint64(13) + np.uint64(groups[letters[starts[s] + i + j]])
            value ^= value >> np.uint64(33)
            value *= np.uint64(0xFF51AFD7ED558CCD)
            own[i] = value ^ (value >> np.uint64(33))
        order = np.argsort(own[:count])
        for t in range(min(WORDS, count)):
            hashes[s, t], places[s, t] = own[order[t]], order[t]


@njit(cache=True)
def centers(letters: Any, starts: Any, hashes: Any, owners: Any, places: Any) -> Any:
    """The longest protein that shares a word with each one and lies on its diagonal; -1 for none.

    hashes, owners, places : of words, by hash and the longest protein first.
    """
    best = np.full(len(starts) - 1, -1, np.int64)
    first = 0
    for i in range(len(hashes)):
        if hashes[i] != hashes[first]:
            first = i
        c, s = owners[first], owners[i]
        long, short = starts[c + 1] - starts[c], starts[s + 1] - starts[s]
        if c == s or (best[s] >= 0 and starts[best[s] + 1] - starts[best[s]] >= long):
            continue
        shift = places[first] - places[i]
        low, high = max(0, -shift), min(short, long - shift)
        if high - low < LEAST_COVER * max(long, short):
            continue
        same = 0
        for j in range(low, high):
            same += letters[starts[s] + j] == letters[starts[c] + j + shift]
        if same >= LEAST_ID * (high - low):
            best[s] = c
    return best


def family_of(proteins: list[NDArray[np.uint8]]) -> Rows:
    """(n,) the representative of every protein."""
    lengths = np.array([len(one) for one in proteins])
    letters, starts = np.concatenate(proteins), np.concatenate([[0], np.cumsum(lengths)])
    shape = (len(proteins), WORDS)
    hashes, places = np.zeros(shape, np.uint64), np.full(shape, -1, np.int32)
    words(letters, starts, GROUP, hashes, places)
    own, at = np.nonzero(places >= 0)
    hashes, places = hashes[own, at], places[own, at]
    order = np.lexsort((own, -lengths[own], hashes))
    center = centers(letters, starts, hashes[order], own[order], places[order])
    center = np.where(center < 0, np.arange(len(center)), center)
    for _ in range(8):
        # Centers of centers: a representative is its own.
        center = center[center]
    return np.where(center[center] == center, center, np.arange(len(center)))


@dataclass(frozen=True)
class Made:
    """Families, and of every pair the record of the member that it is of; the representative's is first."""

    families: Families
    members: Rows


def make_families(table: pd.DataFrame) -> Made:
    """Families of the records' proteins; a pair for every member."""
    proteins, owners = proteins_of(table)
    center = family_of(proteins)
    genera = sorted(set(table["group"]))
    number = table["group"].map({name: at for at, name in enumerate(genera)}).to_numpy()
    pair = (number * COUNTED + table["kind"].to_numpy(int))[owners]
    order = np.lexsort((np.arange(len(center)) != center, center))
    kept, members, pairs = [], [], []
    for own in np.split(order, np.flatnonzero(np.diff(center[order])) + 1):
        known = np.unique(pair[own])
        if len(known) >= 3 or (known % COUNTED == MOLECULES.index("plasmid")).sum() >= 2:
            kept.append(proteins[own[0]])
            members.append(owners[own])
            pairs.append(pair[own].astype(np.int32))
    print(f"{len(proteins):,} proteins, {len(kept):,} families, {sum(map(len, kept)):,} letters", flush=True)
    return Made(Families.of(kept, pairs, tuple(genera)), np.concatenate(members))


def fragments_of(table: pd.DataFrame) -> tuple[list[bytes], Rows]:
    """`FRAGMENTS` of every kind, of genera by the roots of their letters, and the record of each."""
    rng, texts, rows = np.random.default_rng(SEED), [], []
    size = table["letters"].map(len)
    for kind in range(COUNTED):
        own = table[table["kind"].eq(kind) & (size >= SHORTEST)]
        length = size[own.index]
        weight = (length / length.groupby(own["group"]).transform("sum") ** 0.5).to_numpy()
        for row in rng.choice(own.index.to_numpy(), FRAGMENTS, p=weight / weight.sum()).tolist():
            text = table.at[row, "letters"]
            wanted = min(len(text), int(np.exp(rng.uniform(np.log(SHORTEST), np.log(LONGEST)))))
            start = int(rng.integers(0, len(text) - wanted + 1))
            texts.append(text[start : start + wanted])
            rows.append(row)
    return texts, np.array(rows)


def features_of(made: Made, table: pd.DataFrame, texts: list[bytes], rows: Rows) -> NDArray[np.float64]:
    """Features of fragments, by families without the fragment's own genus, unit and cluster."""
    families, base = made.families, made.families.pairs.copy()
    # Of all members, and kept.
    assert len(families.number) == COUNTED
    codes = [
        pd.factorize(table[name].where(table[name].ne("")))[0] for name in ("group", "unit", "ani95_cluster")
    ]
    keys, inverse = np.unique(np.stack([code[rows] for code in codes], axis=1), axis=0, return_inverse=True)
    order, result = np.argsort(inverse.ravel(), kind="stable"), []
    for own in np.split(order, np.flatnonzero(np.diff(inverse.ravel()[order])) + 1):
        key = keys[inverse.ravel()[own[0]]]
        said = [(code[made.members] == one) & (one >= 0) for code, one in zip(codes, key, strict=True)]
        families.pairs[:] = np.where(np.any(said, axis=0), -1, base)
        dna, spans, owner = windows_of([texts[at] for at in own])
        frames, found = families.search(dna, spans)
        features = window_features(families, frames, found, (spans[:, 1] - spans[:, 0]).astype(float))
        # Of a fragment of two windows the first.
        result.append(features[np.unique(owner, return_index=True)[1]])
    families.pairs[:] = base
    return np.concatenate(result)[np.argsort(order)]


def fit(features: NDArray[np.float64], kinds: Rows, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(kinds, features) a multinomial ridge regression through 0: nothing found says nothing."""
    scale = np.sqrt((features**2).mean(axis=0))
    scale[scale == 0] = 1
    values, right, weights = features / scale, np.eye(COUNTED)[kinds], weights / weights.sum()

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        lines = flat.reshape(COUNTED, -1)
        scores = values @ lines.T
        scores -= scores.max(axis=1, keepdims=True)
        total = np.log(np.exp(scores).sum(axis=1, keepdims=True))
        off = weights[:, None] * (np.exp(scores - total) - right)
        value = -(weights[:, None] * right * (scores - total)).sum() + RIDGE * (flat**2).sum()
        return value, (off.T @ values + 2 * RIDGE * lines).ravel()

    found = minimize(loss, np.zeros(COUNTED * features.shape[1]), jac=True, method="L-BFGS-B").x
    return np.asarray(found.reshape(COUNTED, -1) / scale).round(6)


def learned(made: Made, table: pd.DataFrame) -> NDArray[np.float64]:
    """Weights from fragments; kinds weigh alike, and genera by the roots of their numbers."""
    texts, rows = fragments_of(table)
    features, kinds = features_of(made, table, texts, rows), table["kind"].to_numpy(int)[rows]
    own = pd.DataFrame({"kind": kinds, "group": table["group"].to_numpy()[rows]})
    weights = 1 / np.sqrt(own.groupby(["kind", "group"])["kind"].transform("size"))
    weights /= weights.groupby(own["kind"]).transform("sum")
    weights_ = weights.to_numpy(float)
    lines = fit(features, kinds, weights_)
    right = ((features @ lines.T).argmax(axis=1) == kinds) * weights_
    print(
        f"{len(texts):,} fragments; {right.sum() / weights_.sum():.3f} right without their genera", flush=True
    )
    return lines


def card(small: Families, table: pd.DataFrame) -> str:
    """What the file holds, as Markdown."""
    rows = []
    for kind, name in enumerate(MOLECULES[:COUNTED]):
        own = table[table["kind"] == kind]
        known = [np.isin(kind, pairs % COUNTED) for pairs in np.split(small.pairs, small.bounds[1:-1])]
        rows.append(f"| {name} | {len(own):,} | {own['group'].nunique():,} | {sum(known):,} |")
    return CARD.format(len(small), len(small.letters) - len(small) - 1, "\n".join(rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("genomes", type=Path)
    parser.add_argument("--without", type=Path)
    parser.add_argument("--output", type=Path, default=Path("src/kinmer/box"))
    args = parser.parse_args()
    table = read_table(args.genomes, args.without)
    made = make_families(table)
    weights = learned(made, table)
    kept = made.families
    pairs = [np.unique(kept.pairs[a:b]) for a, b in zip(kept.bounds[:-1], kept.bounds[1:], strict=True)]
    texts = np.split(kept.letters[kept.letters != GAP], np.cumsum(np.diff(kept.starts) - 1)[:-1])
    small = Families.of(texts, pairs, kept.genera)
    path = args.output / f"{GENES}.safetensors"
    write_tensors(path, GeneOdds(small, weights).to_tensors())
    path.with_suffix(".md").write_text(card(small, table))
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
