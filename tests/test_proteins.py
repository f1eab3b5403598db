"""Protein families: frames and extension against brute force, what is found, what it says of molecules."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import kinmer
from kinmer.box.reference import REFERENCE
from kinmer.confidence.pool import POOL
from kinmer.errors import FormatError
from kinmer.index import Storage
from kinmer.kinds import GENES_LIMIT, USUAL_KINDS, posterior, with_odds
from kinmer.proteins import Families, GeneOdds, families, gene_log_odds
from kinmer.proteins.families import read_tensors, windows_of, write_tensors
from kinmer.proteins.homologs import AMINO_ACIDS, BLOSUM62, GAP, NUCLEOTIDES, extend, read_frames
from kinmer.proteins.odds import VARIABLE, boxed_genes, window_features
from kinmer.queries.intake import read_queries
from kinmer.queries.sample import CERTAIN, Judge

CODE = {
    a + b + c: "FFLLSSSSYY**CC*WLLLLPPPPHHQQRRRRIIIMTTTTNNKKSSRRVVVVAAAADDEEGGGG"[16 * i + 4 * j + k]
    for i, a in enumerate("TCAG")
    for j, b in enumerate("TCAG")
    for k, c in enumerate("TCAG")
}
CODONS = {letter: [codon for codon, one in CODE.items() if one == letter] for letter in AMINO_ACIDS}
CHROMOSOME, PLASMID = 0, 1


def reverse(text: str) -> str:
    return text[::-1].translate(str.maketrans("ACGT", "TGCA"))


def longest_frames(text: str, least: int) -> list[str]:
    """Stop-free frames by translating all six, the longest first, without those of which > 40 % is taken."""
    short = max(1, min(least, int(len(text) * 0.15)))
    spans = []
    for flip, strand in enumerate((text, reverse(text))):
        for frame in range(3):
            codons = [strand[i : i + 3] for i in range(frame, len(strand) - 2, 3)]
            run: list[str] = []
            for at, codon in enumerate([*codons, "TAA"]):
                if CODE.get(codon, "*") != "*":
                    run.append(CODE[codon])
                    continue
                start, end = frame + 3 * (at - len(run)), frame + 3 * at
                if len(run) >= short:
                    spans.append(
                        ((start, end) if not flip else (len(text) - end, len(text) - start), "".join(run))
                    )
                run = []
    taken: set[int] = set()
    kept = []
    for (start, end), protein in sorted(spans, key=lambda one: -len(one[1])):
        own = set(range(start, end))
        if len(own & taken) <= 0.4 * len(own):
            taken |= own
            kept.append(protein)
    return kept


@settings(deadline=None, max_examples=60)
@given(st.text("ACGTN", max_size=90) | st.text("ACG", max_size=200), st.integers(1, 20))
def test_frames_are_those_of_a_translation(text: str, least: int) -> None:
    letters, ends = np.empty(len(text) + 2, np.uint8), np.empty(200, np.int64)
    count = read_frames(NUCLEOTIDES[np.frombuffer(text.encode(), np.uint8)], least, letters, ends)
    starts = [1, *(ends[:count] + 1)]
    found = [
        "".join(AMINO_ACIDS[one] for one in letters[a:b]) for a, b in zip(starts, ends[:count], strict=False)
    ]
    assert found == longest_frames(text, least)
    assert letters[0] == GAP or not count
    assert (letters[ends[:count]] == GAP).all()


@given(st.integers(0, 1000), st.integers(5, 60))
def test_a_segment_is_the_best_on_its_diagonal(seed: int, length: int) -> None:
    """Of proteins alike enough that no score falls far, by all segments through the place."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 20, length).astype(np.uint8)
    y = np.where(rng.random(length) < 0.1, rng.integers(0, 20, length), x).astype(np.uint8)
    i = int(rng.integers(length))
    ended = [np.concatenate([[GAP], one, [GAP]]).astype(np.uint8) for one in (x, y)]
    score, first, last = extend(ended[0], i + 1, ended[1], i + 1, BLOSUM62)
    along = BLOSUM62[x, y]
    falls = [
        max(np.maximum.accumulate(sums) - sums)
        for sums in (np.r_[0, along[i:].cumsum()], np.r_[0, along[:i][::-1].cumsum()])
    ]
    best = max(along[a:b].sum() for a in range(i + 1) for b in range(i, length + 1))
    assert score == along[first - 1 : last].sum() <= best
    if max(falls) <= 16:
        assert score == best


def coded(protein: NDArray[np.uint8], rng: np.random.Generator) -> str:
    return "".join(str(rng.choice(CODONS[AMINO_ACIDS[one]])) for one in protein)


def dna(length: int, rng: np.random.Generator) -> str:
    return "".join(rng.choice(list("ACGT"), length))


@pytest.fixture(scope="module")
def library() -> Families:
    """A hundred families, the first half of plasmids of four genera, the others of chromosomes of five."""
    rng = np.random.default_rng(0)
    proteins = [rng.integers(0, 20, 150).astype(np.uint8) for _ in range(100)]
    pairs = [
        np.array([3 * genus + (PLASMID if one < 50 else CHROMOSOME) for genus in range(4 + (one >= 50))])
        for one in range(100)
    ]
    return Families.of(proteins, [one.astype(np.int32) for one in pairs], tuple("abcdefg"))


def planted(library: Families, numbers: list[int], rng: np.random.Generator, changed: float = 0.4) -> bytes:
    """A contig with relatives of representatives, on either strand."""
    text = ""
    for at, number in enumerate(numbers):
        protein = library.letters[library.starts[number] : library.starts[number + 1] - 1]
        other = rng.integers(0, 20, len(protein)).astype(np.uint8)
        gene = coded(np.where(rng.random(len(protein)) < changed, other, protein), rng)
        text += dna(120, rng) + (reverse(gene) if at % 2 else gene)
    return (text + dna(120, rng)).encode()


def test_relatives_are_found_on_either_strand(library: Families) -> None:
    rng = np.random.default_rng(1)
    text = planted(library, [3, 70], rng)
    sequence, spans, owners = windows_of([text, dna(3000, rng).encode()])
    frames, rows = library.search(sequence, spans)
    assert owners.tolist() == [0, 1]
    assert sorted(map(tuple, rows[0][rows[0, :, 1] > 0][:, 2:].tolist())) == [(0, 4, 0), (5, 0, 0)]
    assert (frames[:, 1] == rows[:, :, 0].sum(axis=1)).all()
    # Nothing is like random letters.
    assert not rows[1, :, 1:].any()
    assert library.number.tolist() == [5, 4, 1]
    # What is not known of a representative says nothing.
    pairs = library.pairs.copy()
    pairs[library.bounds[3] : library.bounds[4]] = -1
    _, rows = replace(library, pairs=pairs).search(sequence, spans)
    assert rows[0, :, 2:].sum(axis=0).tolist() == [5, 0, 0]


def test_results_depend_on_no_threads_or_batches(library: Families) -> None:
    rng = np.random.default_rng(2)
    texts = [planted(library, rng.integers(0, 100, 4).tolist(), rng) for _ in range(12)]
    texts += [b"", b"A", b"ACGT" * 9000]
    genes = GeneOdds(library, boxed_genes().weights)
    all_ = genes.log_odds(texts, 3)
    assert (all_ == np.concatenate([genes.log_odds([one]) for one in texts])).all()
    assert (all_[-3:-1] == 0).all()


def test_families_of_plasmids_speak_for_plasmids(library: Families) -> None:
    rng = np.random.default_rng(3)
    genes = GeneOdds(library, boxed_genes().weights)
    odds = genes.log_odds([planted(library, [1, 2, 3, 4], rng), planted(library, [60, 61, 62, 63], rng)])
    assert odds[0, PLASMID] > odds[0, CHROMOSOME] + 1
    assert odds[1, CHROMOSOME] > odds[1, PLASMID] + 1


def test_a_frame_without_kin_changes_no_feature_of_kin(library: Families) -> None:
    rng = np.random.default_rng(4)
    sequence, spans, _ = windows_of([dna(4000, rng).encode()])
    frames, rows = library.search(sequence, spans)
    features = window_features(library, frames, rows, np.array([4000.0]))
    assert features.shape == (1, boxed_genes().weights.shape[1])
    assert features[0, :2] == pytest.approx(np.log1p(frames[0]))
    assert not features[0, 2:31].any()
    assert features[0, 31:] == pytest.approx(features[0, :31] * np.log(0.4))


def test_windows_lie_spread_over_a_sequence() -> None:
    _, spans, owners = windows_of([b"A" * 15_000, b"C" * 900_000, b""])
    assert spans[:2].tolist() == [[0, 10_000], [5000, 15_000]]
    assert np.bincount(owners).tolist() == [2, families.WINDOWS, 1]
    assert (spans[-2] == [915_000 - families.WINDOW, 915_000]).all()


def test_a_file_gives_the_same_families(library: Families, tmp_path: Path) -> None:
    genes, path = GeneOdds(library, np.arange(186.0).reshape(3, 62)), tmp_path / "genes.safetensors"
    write_tensors(path, genes.to_tensors())
    first = path.read_bytes()
    kept = GeneOdds.read(path)
    for name in ("letters", "starts", "pairs", "bounds"):
        assert (getattr(kept.families, name) == getattr(library, name)).all()
    assert kept.families.genera == library.genera
    assert (kept.weights == genes.weights).all()
    write_tensors(path, kept.to_tensors())
    assert path.read_bytes() == first
    for damaged in (first[: len(first) // 2], b""):
        path.write_bytes(damaged)
        with pytest.raises(FormatError, match="damaged"):
            GeneOdds.read(path)
    with pytest.raises(FormatError, match="nothing"):
        GeneOdds.read(tmp_path / "nothing")
    write_tensors(path, {**read_tensors_of(genes, tmp_path), "numbers": np.zeros(100, np.uint16)})
    with pytest.raises(FormatError, match="damaged"):
        GeneOdds.read(path)


def read_tensors_of(genes: GeneOdds, folder: Path) -> dict[str, NDArray[np.generic]]:
    write_tensors(folder / "other", genes.to_tensors())
    return read_tensors(folder / "other")


def test_a_benchmark_names_its_own_families(
    library: Families, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "other.safetensors"
    write_tensors(path, GeneOdds(library, np.ones((3, 62))).to_tensors())
    monkeypatch.setenv(VARIABLE, str(path))
    assert boxed_genes.__wrapped__().families.genera == library.genera


@given(st.integers(0, 1000))
def test_odds_change_among_some_kinds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    likely, odds = rng.dirichlet(np.ones(5), 4), rng.normal(0, 3, (4, 3))
    likely[3] = np.nan
    changed = with_odds(likely, odds)
    assert changed[:3, 3:].tolist() == likely[:3, 3:].tolist()
    assert changed[:3].sum(axis=1) == pytest.approx(np.ones(3))
    for a in range(3):
        before, after = np.log(likely[:3, a] / likely[:3, 0]), np.log(changed[:3, a] / changed[:3, 0])
        assert after - before == pytest.approx(odds[:3, a] - odds[:3, 0])
    assert np.isnan(changed[3, :3]).all()


def test_a_search_takes_genes_into_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    rng, boxed = np.random.default_rng(5), boxed_genes().families
    kinds = [set((pairs % 3).tolist()) for pairs in np.split(boxed.pairs, boxed.bounds[1:-1])]
    texts = []
    for wanted in ({PLASMID}, {CHROMOSOME}):
        own = [at for at, kind in enumerate(kinds) if kind == wanted][::200][:4]
        texts.append(planted(boxed, own, rng, changed=0.2))
    odds = gene_log_odds(texts)
    assert odds[0, PLASMID] - odds[0, CHROMOSOME] > 1 > odds[1, PLASMID] - odds[1, CHROMOSOME]
    path = tmp_path / "contigs.fna"
    path.write_bytes(b"".join(b">c%d\n%b\n" % (at, text) for at, text in enumerate(texts)))
    with Storage.open(REFERENCE) as index, index.reading():
        how = {"ids": None, "min_length": 0, "sequences": False, "threads": 1, "log": print}
        (queries,) = read_queries(path, index, **how)  # type: ignore[arg-type]
        assert queries.genes is not None
        assert [one.letters for one in queries.genes] == texts
        judge = Judge(index, min_probability=None, prior="usual", fdr=None, log=print)
        labels, distances = index.nearest(queries.vectors, POOL)
        plain, changed = (
            judge.score(one, labels, distances, "cosine", None).scores
            for one in (replace(queries, genes=None), queries)
        )
    # Of what is all but certain genes are not asked.
    known = plain.classes[:, :2].sum(axis=1)[:, None]
    mixed = known * plain.molecule[:, 0] + (1 - known) * plain.molecule[:, 1]
    unsure = posterior(mixed, np.array(USUAL_KINDS)).max(axis=1) < CERTAIN
    assert unsure.any()
    told = np.where(unsure[:, None], odds, 0)
    assert changed.molecule == pytest.approx(with_odds(plain.molecule, told[:, None]))
    assert (changed.plasmid_limit == GENES_LIMIT).all()
    found = [one.molecule for one in kinmer.search(path, prior="usual", n_jobs=1)]
    called = [one.probabilities["plasmid"] for one in found if one is not None]
    assert called[0] > 0.5 > called[1]
    # Another index does not ask again.
    assert [one.odds is None for one in queries.genes] == (~unsure).tolist()
    # Profiles have no letters.
    (queries,) = read_queries(kinmer.count(path, coding=True), index, **how)  # type: ignore[arg-type]
    assert queries.genes is None
