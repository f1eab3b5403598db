"""Reading frames against plain Python: segments found codon by codon on each strand's own text."""

from __future__ import annotations

import gzip
import os
import random
from collections import Counter, defaultdict
from itertools import pairwise, product
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from typer.testing import CliRunner

import kinmer
from kinmer import kmers
from kinmer.cli import app
from kinmer.clr import Clr
from kinmer.counting import count_files
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, MismatchError, UsageError
from kinmer.kmers import KmerCounter
from kinmer.layout import (
    CODONS,
    GeneticCode,
    Layout,
    kmer_layout,
    profile_layout,
    reverse_complement,
)
from kinmer.networks import Vae
from tests.brute_force import brute_force

LAYOUT = profile_layout(2, coding=True)
LAYOUTS: dict[GeneticCode, Layout] = {
    code: profile_layout(2, coding=True, genetic_code=code) for code in ("auto", 11, 4)
}
FRAMES = slice(LAYOUT.bases.stop, LAYOUT.width)
SENSE = ["".join(letters) for letters in product("ACGT", repeat=3)]
STOPS: dict[int, set[str]] = {11: {"TAA", "TAG", "TGA"}, 4: {"TAA", "TAG"}}

# --- the oracle


def segments_of(window: str, code: int, least: int) -> list[tuple[int, int, bool]]:
    """Start, end, strand of every stop-free run of at least `least` codons, on the given strand's places."""
    found = []
    for reverse, text in ((False, window), (True, reverse_complement(window))):
        for frame in range(3):
            start = frame
            for at in [*range(frame, len(text) - 2, 3), None]:
                end = start + (len(text) - start) // 3 * 3 if at is None else at
                codon = "" if at is None else text[at : at + 3]
                if at is None or codon in STOPS[code] or set(codon) - set("ACGT"):
                    if end - start >= 3 * least:
                        found.append(
                            (len(text) - end, len(text) - start, True) if reverse else (start, end, False)
                        )
                    start = end + 3
    return found


def chosen_texts(window: str, code: int, least: int) -> list[str]:
    """The texts, as read, of the segments that are counted."""
    by_key = defaultdict(list)
    for start, end, reverse in segments_of(window, code, least):
        text = window[start:end]
        text = reverse_complement(text) if reverse else text
        score = sum(2 if letter in "AG" else -1 for letter in text[::3]) - text[1::3].count("G")
        by_key[score, len(text)].append((start, end, text))
    used, texts = np.zeros(len(window), dtype=bool), []
    for key in sorted(by_key, reverse=True):
        kept = [one for one in by_key[key] if used[one[0] : one[1]].sum() <= (one[1] - one[0]) / 5]
        for start, end, text in kept:
            used[start:end] = True
            texts.append(text)
    return texts


def texts_of(sequence: str, code: int, window: int) -> list[str]:
    windows = [sequence[i : i + window] for i in range(0, len(sequence), window)]
    texts = [text for one in windows for text in chosen_texts(one, code, 100)]
    return texts or [text for one in windows for text in chosen_texts(one, code, 60)]


def frames_by_hand(
    sequence: str, genetic_code: GeneticCode = "auto", window: int = 65_536
) -> NDArray[np.uint32]:
    """The columns of `LAYOUT` behind the k-mers."""
    sequence = sequence.upper().replace("U", "T")
    texts = {code: texts_of(sequence, code, window) for code in (11, 4)}
    codons = {
        code: Counter(one[i : i + 3] for one in texts[code] for i in range(0, len(one), 3))
        for code in (11, 4)
    }
    code = genetic_code
    if code == "auto":
        gained = codons[4].total() - codons[11].total()
        code = 4 if codons[4]["TGA"] > codons[4]["TGG"] and gained > 15 * codons[4]["TGA"] else 11
    counts: Counter[str] = Counter({f"codon:{codon}": number for codon, number in codons[code].items()})
    for text in texts[code]:
        for at in (1, 2, 3):
            counts.update(
                f"{at}:{text[i : i + 4]}" for i in range(at - 1, len(text) - 3, 3) if i + 7 - at <= len(text)
            )
    return np.array([counts[name] for name in LAYOUT.features[FRAMES]], dtype=np.uint32)


# --- sequences with genes


def gene(codons: int, rng: random.Random, code: int = 11) -> str:
    sense = [codon for codon in SENSE if codon not in STOPS[code]]
    if code == 4:
        # Tryptophan is TGA for the most part where TGA is no stop.
        sense.remove("TGG")
    weights = [
        1 if codon == "TGA" else (4 if codon[0] in "AG" else 1) / (3 if codon[1] == "G" else 1)
        for codon in sense
    ]
    return "".join(rng.choices(sense, weights, k=codons))


def genome(seed: int, genes: int, code: int = 11, codons: tuple[int, int] = (40, 300)) -> str:
    """Genes on both strands with stops and a few letters between them, some of them N."""
    rng = random.Random(seed)
    parts = []
    for _ in range(genes):
        text = gene(rng.randint(*codons), rng, code) + "TAA"
        parts.append(text if rng.random() < 0.5 else reverse_complement(text))
        parts.append("".join(rng.choices("ACGT", k=rng.choice([0, 1, 5, 40]))) + "N" * (rng.random() < 0.1))
    return "".join(parts)


genomes = st.builds(
    genome,
    st.integers(0, 1 << 30),
    st.integers(0, 6),
    st.sampled_from([11, 4]),
    st.sampled_from([(10, 90), (40, 300), (95, 105)]),
)


def counted(sequence: str | bytes, layout: Layout = LAYOUT, threads: int = 1) -> NDArray[np.uint32]:
    data = sequence.encode() if isinstance(sequence, str) else sequence
    row: NDArray[np.uint32] = KmerCounter(layout, threads).count_sequences([data]).counts[0]
    return row


def wrap(sequence: str, width: int, end: str = "\n") -> bytes:
    return "".join(sequence[i : i + width] + end for i in range(0, len(sequence), width)).encode()


@pytest.fixture
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 1,000 letters, and sequences shared out between threads from a few windows on."""
    monkeypatch.setattr(kmers, "WINDOW", 1000)
    monkeypatch.setattr(kmers, "_UNIT", 2000)


# --- the kernel


@pytest.mark.parametrize("code", ["auto", 11, 4])
@given(genomes)
@settings(max_examples=60, deadline=None)
def test_frames_equal_brute_force(code: GeneticCode, sequence: str) -> None:
    row = counted(sequence, LAYOUTS[code])
    np.testing.assert_array_equal(row[FRAMES], frames_by_hand(sequence, code))
    np.testing.assert_array_equal(row[: FRAMES.start], brute_force(sequence, kmer_layout(2)))


@given(st.text(st.sampled_from("ACGT" * 30 + "N"), max_size=3000))
@settings(max_examples=40, deadline=None)
def test_any_letters_equal_brute_force(sequence: str) -> None:
    np.testing.assert_array_equal(counted(sequence)[FRAMES], frames_by_hand(sequence))


@pytest.mark.parametrize("word", ["A", "C", "AC", "CCG", "AAGCTT", "GCA"])
@pytest.mark.parametrize("length", [299, 300, 301, 302, 303, 304, 1001])
def test_ties_of_repeats_equal_brute_force(word: str, length: int) -> None:
    sequence = (word * length)[:length]
    np.testing.assert_array_equal(counted(sequence)[FRAMES], frames_by_hand(sequence))
    np.testing.assert_array_equal(counted(reverse_complement(sequence)), counted(sequence))


@given(genomes)
@settings(max_examples=60, deadline=None)
def test_reverse_complement_and_case_change_nothing(sequence: str) -> None:
    turned = sequence.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    row = counted(sequence)
    for other in (turned, turned.lower(), sequence.replace("T", "U")):
        np.testing.assert_array_equal(counted(other), row)


@pytest.mark.usefixtures("_small_windows")
@given(genomes, st.integers(1, 130), st.sampled_from(["\n", "\r\n", "\n\n", " \n"]))
@settings(max_examples=40, deadline=None)
def test_line_width_and_line_ends_change_nothing(sequence: str, width: int, end: str) -> None:
    row = counted(sequence)
    np.testing.assert_array_equal(row[FRAMES], frames_by_hand(sequence, window=1000))
    np.testing.assert_array_equal(counted(wrap(sequence, width, end)), row)


@pytest.mark.usefixtures("_small_windows")
@given(genomes, st.lists(st.integers(0, 6000), max_size=8), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_record_may_be_cut_anywhere(sequence: str, cuts: list[int], threads: int) -> None:
    data = wrap(sequence, 70)
    record = KmerCounter(LAYOUT, threads).open_record()
    for start, end in pairwise([0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]):
        record.add(np.frombuffer(data[start:end], dtype=np.uint8), 0, end - start)
    assert record.letters == len(sequence)
    np.testing.assert_array_equal(record.finish()[FRAMES], frames_by_hand(sequence, window=1000))


def test_long_sequences_are_shared_between_threads() -> None:
    sequence = genome(5, 6000, 11, (100, 400))
    assert len(sequence) > 4 << 20
    data = wrap(sequence, 80)
    row = counted(data, threads=2)
    np.testing.assert_array_equal(row, counted(data))
    assert row[LAYOUT.blocks[-4].columns].sum() > len(sequence) / 4


def test_windows_of_65536_letters_equal_brute_force() -> None:
    sequence = genome(6, 180, 11, (100, 400))
    assert len(sequence) > 2 * 65_536
    np.testing.assert_array_equal(counted(wrap(sequence, 61))[FRAMES], frames_by_hand(sequence))
    assert frames_by_hand(sequence).tolist() != frames_by_hand(sequence, window=1 << 20).tolist()


@pytest.mark.usefixtures("_small_windows")
def test_every_letter_moves_the_windows() -> None:
    sequence = genome(7, 9)
    for head in ("N", "NN", "N" * 999):
        np.testing.assert_array_equal(
            counted(head + sequence)[FRAMES], frames_by_hand(head + sequence, window=1000)
        )


# --- what is found


def codon_counts(sequence: str, code: GeneticCode = 11) -> dict[str, int]:
    block = next(block for block in LAYOUT.blocks if block.kind == "codon")
    row = counted(sequence, LAYOUTS[code])[block.columns]
    return {codon: int(number) for codon, number in zip(CODONS, row, strict=True) if number}


def test_one_gene_gives_its_codons() -> None:
    text = gene(120, random.Random(1))
    # The flanks have a stop in all six frames within twelve letters.
    flank = "TTAATTAATTAA"
    expected = Counter(text[i : i + 3] for i in range(0, len(text), 3))
    for sequence in (flank + text + flank, reverse_complement(flank + text + flank)):
        found = Counter(codon_counts(sequence))
        assert found >= expected
        assert found.total() <= 120 + 8


def test_a_letter_that_is_none_breaks_a_frame() -> None:
    text = gene(220, random.Random(2))
    expected = Counter(text[i : i + 3] for i in range(0, len(text), 3))
    assert Counter(codon_counts(text)) == expected
    for letter in "NR-":
        broken = text[:331] + letter + text[332:]
        assert Counter(codon_counts(broken)) == expected - Counter([text[330:333]])
        # What remains is too short for a segment.
        assert codon_counts("".join(text[i : i + 150] + letter for i in range(0, len(text), 150))) == {}


def test_short_segments_count_only_where_there_is_no_longer_one() -> None:
    short, long = gene(70, random.Random(3)), gene(130, random.Random(4))
    stop = "TTAATTAATTAA"
    assert sum(codon_counts(stop + short + stop).values()) in range(70, 79)
    assert sum(codon_counts(stop + short + stop + long + stop).values()) in range(130, 139)
    assert codon_counts(stop + short[:150] + stop) == {}


@pytest.mark.parametrize("code", [11, 4])
def test_auto_finds_the_code(code: int) -> None:
    sequence = genome(3, 40, code, (250, 400))
    row, fixed = counted(sequence), counted(sequence, LAYOUTS[4 if code == 4 else 11])
    np.testing.assert_array_equal(row, fixed)
    other = counted(sequence, LAYOUTS[11 if code == 4 else 4])
    assert (row != other).any()
    assert (row[LAYOUT.features.index("codon:TGA")] > 0) == (code == 4)


@pytest.mark.parametrize("sequence", ["", "ACGT", "TTAATTAATTAA" * 50, "N" * 500])
def test_nothing_found_gives_zeros_that_the_transform_takes(sequence: str) -> None:
    row = counted(sequence)
    assert not row[FRAMES].any()
    transformed = np.asarray(Clr()(row[None], LAYOUT))
    np.testing.assert_allclose(transformed[0, FRAMES], 0, atol=1e-5)


# --- the layout


def test_layout_of_reading_frames() -> None:
    layout = profile_layout(6, coding=True)
    assert layout.width == 2772 + 62 + 3 * 256
    assert [(block.name, block.kind, block.k, block.size) for block in layout.blocks[6:]] == [
        ("codon", "codon", 3, 62),
        ("4-mer@1", "phase", 4, 256),
        ("4-mer@2", "phase", 4, 256),
        ("4-mer@3", "phase", 4, 256),
    ]
    assert layout.ks == (6, 5, 4, 3, 2, 1)
    assert "codon:TGA" in layout.features
    assert not {"codon:TAA", "codon:TAG"} & set(layout.features)
    assert Layout.from_dict(layout.to_dict()) == layout
    fixed = profile_layout(6, coding=True, genetic_code=4)
    assert Layout.from_dict(fixed.to_dict()).genetic_code == 4
    assert fixed.fingerprint == layout.fingerprint != kmer_layout(6).fingerprint


def test_layouts_of_kmers_are_as_before() -> None:
    # Written by the first version; stores and encoders carry it.
    assert kmer_layout(6).fingerprint == "b423b2549bef57e748ab406d2cb5300ebc3b9753b54e610d0cc3338c45f49e0d"
    assert profile_layout(6) == kmer_layout(6)
    assert kmer_layout(2).to_dict() == {"blocks": [{"name": "2-mer", "k": 2}, {"name": "1-mer", "k": 1}]}
    assert Layout.from_dict(kmer_layout(2).to_dict()) == kmer_layout(2)


@pytest.mark.parametrize("change", [("name", "codons"), ("kind", "protein"), ("k", 2)])
def test_unknown_blocks_are_refused(change: tuple[str, object]) -> None:
    written = profile_layout(2, coding=True).to_dict()
    written["blocks"][2][change[0]] = change[1]
    if change == ("k", 2):
        del written["blocks"][2]
    with pytest.raises(FormatError):
        Layout.from_dict(written)


def test_other_genetic_codes_are_refused() -> None:
    with pytest.raises(UsageError, match="auto, 11 or 4"):
        profile_layout(6, coding=True, genetic_code=1)  # type: ignore[arg-type]


# --- stores, encoders, tables


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "contigs.fna"
    records = [(f"c{i}", genome(i, 12, 4 if i == 2 else 11)) for i in range(4)]
    path.write_bytes(b"".join(f">{name}\n".encode() + wrap(text, 70) for name, text in records))
    return path


def test_store_round_trip(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    count_files(fasta, path, coding=True, genetic_code=4, threads=2, block_bytes=4096)
    store = kinmer.open_profiles(path)
    assert store.layout == profile_layout(6, coding=True, genetic_code=4)
    for i, row in enumerate(store.read(0, 4)):
        np.testing.assert_array_equal(row[2772:], frames_by_hand(genome(i, 12, 4 if i == 2 else 11), 4))
    data = anndata.read_zarr(path)
    assert data.var["k"].tolist() == [block.k for block in store.layout.blocks for _ in range(block.size)]
    assert data.var["block"].astype(str).unique().tolist() == [block.name for block in store.layout.blocks]
    assert data.obs["bases"].tolist() == [int(row[2770:2772].sum()) for row in store.read(0, 4)]
    assert kinmer.open_profiles(data).layout == store.layout
    with anndata.settings.override(zarr_write_format=3, auto_shard_zarr_v3=False):
        data[1:].copy().write_zarr(tmp_path / "part.zarr")
    assert kinmer.open_profiles(tmp_path / "part.zarr").layout == store.layout


def test_only_the_same_kind_is_appended(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    count_files(fasta, path, coding=True)
    more = tmp_path / "more.fna"
    more.write_bytes(fasta.read_bytes().replace(b">c", b">d"))
    with pytest.raises(MismatchError, match="4-mer@3"):
        count_files(more, path, append=True)
    with pytest.raises(MismatchError, match="genetic code auto, not 4"):
        count_files(more, path, coding=True, genetic_code=4, append=True)
    count_files(more, path, coding=True, append=True)
    rows = kinmer.open_profiles(path).read(0, 8)
    np.testing.assert_array_equal(rows[:4], rows[4:])


def test_command(fasta: Path, tmp_path: Path) -> None:
    path = tmp_path / "out.zarr"
    done = CliRunner().invoke(app, ["count", str(fasta), "-o", str(path), "--coding", "--genetic-code", "11"])
    assert done.exit_code == 0, done.output
    assert kinmer.open_profiles(path).layout.genetic_code == 11


def test_export_writes_the_kmers(fasta: Path, tmp_path: Path) -> None:
    for name, coding in (("plain", False), ("coding", True)):
        count_files(fasta, tmp_path / f"{name}.zarr", coding=coding)
        kinmer.export_profiles(tmp_path / f"{name}.zarr", tmp_path / f"{name}.npy", tmp_path / f"{name}.txt")
    assert (tmp_path / "coding.npy").read_bytes() == (tmp_path / "plain.npy").read_bytes()


def test_an_encoder_counts_by_its_layout(fasta: Path, tmp_path: Path) -> None:
    layout = profile_layout(6, coding=True, genetic_code=4)
    encoder = Encoder(Vae(width=layout.width, latent=8, hidden=(16,), seed=1), layout, Clr())
    encoder.save(tmp_path / "encoder")
    kinmer.count(fasta, tmp_path / "out.zarr", coding=True, genetic_code=4)
    kinmer.embed(tmp_path / "out.zarr", tmp_path / "encoder")
    kinmer.embed(fasta, tmp_path / "encoder", output=tmp_path / "read.zarr")
    stored, read = (anndata.read_zarr(tmp_path / name).obsm["X_kinmer"] for name in ("out.zarr", "read.zarr"))
    np.testing.assert_array_equal(stored, read)
    assert np.abs(stored).max() > 0
    assert kinmer.open_profiles(tmp_path / "read.zarr").layout == layout


# --- real genomes


@pytest.mark.genomes
def test_real_genomes_equal_brute_force_and_have_their_code() -> None:
    folder = Path(os.environ.get("KINMER_GENOMES", ""))
    if not os.environ.get("KINMER_GENOMES") or not (folder / "genomes.tsv").is_file():
        pytest.skip("KINMER_GENOMES names no folder of genomes")
    table = pd.read_csv(folder / "genomes.tsv", sep="\t")
    whole = table[(table["molecule"] == "chromosome") & (table["domain"] == "Bacteria")]
    fourth = whole["genus"] == "Mycoplasmoides"
    rng = random.Random(1)
    for code, chosen in ((4, whole[fourth].head(2)), (11, whole[~fourth].sample(4, random_state=1))):
        for file, name in zip(chosen["file"], chosen["sequence_id"], strict=True):
            with gzip.open(folder / file, "rt") as lines:
                records = dict(one.split("\n", 1) for one in lines.read().split(">")[1:])
            text = next(text for head, text in records.items() if head.split()[0] == name).replace("\n", "")
            start = rng.randrange(len(text) - 100_000)
            piece = text[start : start + 100_000]
            row = counted(piece)
            np.testing.assert_array_equal(row[FRAMES], frames_by_hand(piece))
            np.testing.assert_array_equal(row, counted(piece, LAYOUTS[4 if code == 4 else 11]))
            # Genes cover most of a bacterial genome.
            assert row[LAYOUT.blocks[-4].columns].sum() * 3 > 0.7 * len(piece)
