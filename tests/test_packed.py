"""Packed sequences and the fragments drawn of them: letters, labels, places, determinism."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kinmer.errors import InputError, SequenceError, UsageError
from kinmer.fragments import samples
from kinmer.fragments.cuts import _COMPLEMENT
from kinmer.fragments.packed import PackedSequences, Places
from kinmer.fragments.samples import count_fragments, sample_fragments
from kinmer.kmers import KmerCounter
from kinmer.layout import profile_layout
from tests.brute_force import brute_force

THREE = profile_layout(3)


def fasta(path: Path, sequences: dict[str, str]) -> Path:
    path.write_text("".join(f">{name} told\n{letters}\n" for name, letters in sequences.items()))
    return path


def table(path: Path, header: str, *rows: str) -> Path:
    path.write_text("\n".join([header, *rows]).replace(" ", "\t") + "\n")
    return path


def random_letters(length: int, seed: int) -> str:
    return "".join(np.random.default_rng(seed).choice(list("ACGT"), length))


def letters_of(
    packed: PackedSequences, sequence: int, begin: int, size: int, *, reverse: bool = False
) -> bytes:
    buffer, starts, ends = packed.unpack(
        np.array([sequence]), np.array([begin]), np.array([size]), np.array([reverse])
    )
    return buffer[starts[0] : ends[0]].tobytes()


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> PackedSequences:
    """Twelve genomes of two sequences; g0 and g1, g2 and g3 … are of one species; the last four viruses."""
    folder = tmp_path_factory.mktemp("packed")
    rows, sequences = [], {}
    for genome in range(12):
        for part, length in (("a", 9_000), ("b", 3_000)):
            name = f"g{genome:02d}{part}"
            sequences[name] = random_letters(length, 2 * genome + (part == "b"))
            domain = "Viruses" if genome >= 8 else "Bacteria"
            rows.append(f"{name} g{genome:02d} s{genome // 2} n{genome // 4} {domain}")
    labels = table(folder / "l.tsv", "sequence_id genome_id species genus domain", *rows)
    return PackedSequences.read([fasta(folder / "a.fna", sequences)], labels)


# --- packed letters ---------------------------------------------------------------------------------------


@given(
    letters=st.text("ACGTacgtUuNnRYSWKMBDHVX-.", min_size=1, max_size=300),
    place=st.tuples(st.integers(0, 299), st.integers(0, 300)),
    before=st.integers(0, 9),
    reverse=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_letters_come_back(
    tmp_path_factory: Any, letters: str, place: tuple[int, int], before: int, reverse: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.fna"
    packed = PackedSequences.read([fasta(path, {"x": "ACGTN"[:before] or "A", "y": letters})], min_length=1)
    begin = min(place[0], len(letters))
    end = min(max(begin, place[1]), len(letters))
    wanted = letters[begin:end].upper().replace("U", "T").encode()
    wanted = bytes(one if one in b"ACGT" else ord("N") for one in wanted)
    if reverse:
        wanted = wanted.translate(_COMPLEMENT)[::-1]
    assert letters_of(packed, 1, begin, end - begin, reverse=reverse) == wanted
    ambiguous = packed.ambiguous(np.array([1]), np.array([begin]), np.array([end - begin]))
    assert ambiguous.tolist() == [wanted.count(b"N")]


def test_many_runs_of_ambiguous_letters(tmp_path: Path) -> None:
    letters = "ACGNNTRA" * 500
    packed = PackedSequences.read([fasta(tmp_path / "a.fna", {"x": letters, "y": letters})])
    assert letters_of(packed, 1, 0, 4000).decode() == letters.replace("R", "N")
    assert len(packed.spans) == 2 * 2 * 500


def test_a_quarter_of_a_byte_a_letter(packed: PackedSequences) -> None:
    assert packed.packed.nbytes == packed.lengths.sum() / 4
    assert not len(packed.spans)


def test_compressed_files_are_read_too(tmp_path: Path) -> None:
    letters = random_letters(2_000, 1)
    (tmp_path / "a.fna.gz").write_bytes(gzip.compress(f">x\n{letters}\n".encode()))
    packed = PackedSequences.read([tmp_path / "a.fna.gz"])
    assert letters_of(packed, 0, 0, 2_000).decode() == letters


def test_bad_letters_and_ids_twice_are_told(tmp_path: Path) -> None:
    with pytest.raises(SequenceError, match=r"record 2 \('y'\).*'E' at position 3"):
        PackedSequences.read([fasta(tmp_path / "a.fna", {"x": "ACGT", "y": "ACEF"})], min_length=1)
    one = fasta(tmp_path / "b.fna", {"x": "ACGT"})
    two = fasta(tmp_path / "c.fna", {"x": "ACGT"})
    with pytest.raises(SequenceError, match="twice"):
        PackedSequences.read([one, two], min_length=1)
    with pytest.raises(SequenceError, match="1 are shorter than 5 letters"):
        PackedSequences.read([one], min_length=5)


# --- labels and folds -------------------------------------------------------------------------------------


def test_groups_kin_genus_and_viruses(packed: PackedSequences) -> None:
    groups = packed.groups
    assert groups.names == tuple(f"g{one:02d}" for one in range(12))
    assert packed.group.tolist() == [one // 2 for one in range(24)]
    assert len(set(groups.kin.tolist())) == 6
    assert (groups.kin[::2] == groups.kin[1::2]).all()
    assert groups.genus.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert groups.virus.tolist() == [False] * 8 + [True] * 4


def test_kin_by_species_or_cluster_and_without_labels(tmp_path: Path) -> None:
    file = fasta(tmp_path / "a.fna", dict.fromkeys("abcdef", "ACGT"))
    labels = table(
        tmp_path / "l.tsv",
        "sequence_id species ani95_cluster",
        "a s1 c1",
        "b s2 c1",
        "c s2 c2",
        "d s3 .",
        "e . .",
    )
    packed = PackedSequences.read([file], labels, min_length=1)
    kin = packed.groups.kin.tolist()
    # a and b share a cluster, b and c a species.
    assert kin[0] == kin[1] == kin[2]
    assert len(set(kin)) == 4
    assert packed.unlabelled == 1
    alone = PackedSequences.read([file], min_length=1)
    assert len(set(alone.groups.kin.tolist())) == 6
    assert alone.fingerprint != packed.fingerprint


def test_a_fold_is_left_out(tmp_path: Path) -> None:
    file = fasta(tmp_path / "a.fna", {"a": "ACGT", "b": "CCGT", "c": "GCGT"})
    folds = table(tmp_path / "f.tsv", "sequence_id fold", "a 0", "b 1", "c 0", "z 2")
    packed = PackedSequences.read([file], folds=folds, fold=0, min_length=1)
    assert packed.ids == ("b",)
    assert packed.left_out == 2
    with pytest.raises(UsageError, match="no sequence is of the fold '2'"):
        PackedSequences.read([file], folds=folds, fold=2, min_length=1)
    with pytest.raises(UsageError, match="give both"):
        PackedSequences.read([file], folds=folds)
    short = table(tmp_path / "g.tsv", "sequence_id fold", "a 0")
    with pytest.raises(InputError, match=r"'b' has no fold"):
        PackedSequences.read([file], folds=short, fold=0, min_length=1)


# --- places -----------------------------------------------------------------------------------------------


def test_lengths_are_log_uniform_strands_even_and_places_uniform(tmp_path: Path) -> None:
    packed = PackedSequences.read([fasta(tmp_path / "a.fna", {"x": random_letters(40_000, 0)})])
    drawn = Places(packed, (1_000, 8_000)).draw(np.zeros(500, np.int64), 20, key=(1, 2), first=7)
    uniform = np.log(drawn.sizes / 1_000) / np.log(8_001 / 1_000)
    assert stats.kstest(uniform, "uniform").pvalue > 0.01
    assert stats.kstest(drawn.begins / (40_000 - drawn.sizes), "uniform").pvalue > 0.01
    assert stats.binomtest(int(drawn.reverse.sum()), 10_000).pvalue > 0.01
    assert drawn.sizes.min() >= 1_000
    assert drawn.sizes.max() <= 8_000


def test_a_sequence_in_proportion_to_its_room(packed: PackedSequences) -> None:
    drawn = Places(packed, (1_000, 100_000)).draw(np.full(2_000, 5), 1, key=(0, 0), first=0)
    assert set(drawn.sequences.tolist()) == {10, 11}
    share = int((drawn.sequences == 10).sum())
    assert stats.binomtest(share, 2_000, 8_001 / (8_001 + 2_001)).pvalue > 0.01
    assert (drawn.begins + drawn.sizes <= packed.lengths[drawn.sequences]).all()
    assert drawn.sizes[drawn.sequences == 11].max() <= 3_000


def test_a_draw_depends_on_its_number_alone(packed: PackedSequences) -> None:
    places, groups = Places(packed, (1_000, 5_000)), np.array([3, 0, 7, 7, 11])
    whole = places.draw(groups, 6, key=(4, 1), first=100)
    part = places.draw(groups[2:4], 6, key=(4, 1), first=102)
    assert (part.begins == whole.begins[12:24]).all()
    assert (part.sizes == whole.sizes[12:24]).all()
    other = places.draw(groups, 6, key=(5, 1), first=100)
    assert (other.begins != whole.begins).any()


def test_ambiguous_stretches_are_avoided(tmp_path: Path) -> None:
    letters = random_letters(10_000, 0) + "N" * 10_000
    packed = PackedSequences.read([fasta(tmp_path / "a.fna", {"x": letters, "y": "N" * 2_000})])
    places = Places(packed, (1_000, 2_000))
    drawn = places.draw(np.zeros(2_000, np.int64), 1, key=(0, 0), first=0)
    share = packed.ambiguous(drawn.sequences, drawn.begins, drawn.sizes) / drawn.sizes
    # One try in two is bad: four in a row are one in sixteen.
    assert stats.binomtest(int((share > 0.1).sum()), 2_000, 0.5**4).pvalue > 1e-4
    # What holds nothing else is drawn all the same.
    assert places.draw(np.array([1]), 3, key=(0, 0), first=0).sizes.min() >= 1_000


# --- samples ----------------------------------------------------------------------------------------------


def test_fragments_against_brute_force(packed: PackedSequences) -> None:
    drawn = Places(packed, (1_000, 3_000)).draw(np.array([0, 3, 9]), 2, key=(9, 9), first=0)
    counts = count_fragments(packed, KmerCounter(THREE), drawn)
    for row in range(len(drawn)):
        letters = letters_of(
            packed,
            int(drawn.sequences[row]),
            int(drawn.begins[row]),
            int(drawn.sizes[row]),
            reverse=bool(drawn.reverse[row]),
        )
        assert np.array_equal(counts[row], brute_force(letters.decode(), THREE))


def test_a_sample_for_closed_forms(packed: PackedSequences, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = list(sample_fragments(packed, THREE, per_group=5, lengths=(1_000, 2_000), seed=3))
    counts, groups, lengths = (np.concatenate(part) for part in zip(*blocks, strict=True))
    assert groups.tolist() == np.repeat(np.arange(12), 5).tolist()
    assert (counts[:, : THREE.blocks[0].size].sum(axis=1) == lengths - 2).all()
    # Whatever block a group comes in, its fragments are those of its number.
    monkeypatch.setattr(samples, "SAMPLE_ROWS", 15)
    small = list(sample_fragments(packed, THREE, per_group=5, lengths=(1_000, 2_000), seed=3))
    assert [len(block[0]) for block in small] == [15] * 4
    assert (np.concatenate([block[0] for block in small]) == counts).all()
