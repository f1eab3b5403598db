"""Length is bases: letters that are no A, C, G, T count nowhere that length decides."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer import count
from kinmer.clusters.agreement import agreements
from kinmer.confidence.probes import _filled, _Span
from kinmer.counting import bases_of, counted_of
from kinmer.errors import SequenceError
from kinmer.fasta import base_count
from kinmer.kmers import KmerCounter
from kinmer.layout import kmer_layout
from kinmer.library import build_index
from kinmer.profiles import open_profiles
from kinmer.queries import QueryResult
from kinmer.queries.formats import write_lineage

RNG = np.random.default_rng(3)


def letters(size: int) -> str:
    return "".join(RNG.choice(list("ACGT"), size))


def gapped(size: int, gap: int) -> str:
    """So many bases with a gap in their middle."""
    text = letters(size)
    return text[: size // 2] + "N" * gap + text[size // 2 :]


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    """A scaffold of 900 bases in 5,000 letters, one of 1,100 in 5,000, and a sequence of 1,000."""
    path = tmp_path / "some.fna"
    records = {"poor": gapped(900, 4_100), "rich": gapped(1_100, 3_900), "whole": letters(1_000).lower()}
    path.write_text("".join(f">{name}\n{text}\n" for name, text in records.items()))
    return path


@given(st.binary(max_size=300))
@settings(max_examples=50, deadline=None)
def test_bases_are_counted_in_either_case(text: bytes) -> None:
    assert base_count(text) == sum(byte in b"ACGTUacgtu" for byte in text)


@pytest.mark.parametrize("k", [1, 4, 6])
def test_what_was_counted_is_as_long_as_the_gapless_sequence(k: int) -> None:
    layout = kmer_layout(k)
    texts = [letters(500), gapped(500, 300), gapped(500, 3), "ACGTA" * 3, "ACGNT" * 100]
    counts = KmerCounter(layout).count_sequences([text.encode() for text in texts]).counts
    assert bases_of(counts, layout).tolist() == [base_count(text.encode()) for text in texts]
    # Every gap costs k - 1; what has no whole k-mer tells nothing.
    runs = [[len(run) for run in text.split("N")] for text in texts]
    windows = [sum(max(0, run - k + 1) for run in own) for own in runs]
    assert counted_of(counts, layout).tolist() == [one + k - 1 if one else 0 for one in windows]
    assert counted_of(counts, layout)[0] == 500


def test_the_least_length_is_of_bases(fasta: Path, tmp_path: Path) -> None:
    # In one block, and in blocks that part every record.
    count([fasta], tmp_path / "one.zarr", max_k=3, min_length=1_000, threads=1)
    assert open_profiles(tmp_path / "one.zarr").ids.tolist() == ["rich", "whole"]
    with build_index(fasta, tmp_path / "kin.db", min_length=1_000, threads=1) as index:
        assert index.ids.tolist() == ["rich", "whole"]
    with pytest.raises(SequenceError, match="bases"):
        build_index(fasta, tmp_path / "none.db", min_length=1_101, threads=1)


def test_a_record_in_several_blocks_counts_by_its_bases(fasta: Path) -> None:
    from kinmer.counting import count_batches

    for block in (64, 1 << 20):
        batches = list(count_batches([fasta], kmer_layout(3), min_length=1_000, block_bytes=block))
        assert [name for batch in batches for name in batch.ids] == ["rich", "whole"]
        assert sum(batch.too_short for batch in batches) == 1


def test_fragments_to_calibrate_by_have_all_the_bases_of_their_length() -> None:
    text = (letters(300) + "N" * 200 + letters(300) + "N" * 700 + letters(100)).encode()
    places = [_Span(0, 0, start, start + 200) for start in (0, 50, 250, 600, 700, 790)]
    found = {place[2]: (place, piece) for place, piece in _filled(text, places)}
    for start, (place, piece) in found.items():
        assert piece == text[start : place[3]]
        assert base_count(piece) == 200
        assert base_count(piece[-1:]) == 1
    # Those of which not half are bases, or whose sequence ends before, are left out.
    assert sorted(found) == [0, 50, 250, 600]


def test_a_sample_counts_bases_and_clusters_weigh_by_them() -> None:
    result = QueryResult("q", 5_000, (), {}, bases=900)
    stream = io.StringIO()
    write_lineage([result], stream)
    assert "\t900\t" in stream.getvalue()
    assert "5000" not in stream.getvalue()
    obs = pd.DataFrame({"length": [100, 900, 100], "bases": [100, 100, 100], "species": ["a", "b", "b"]})
    (agreed,) = agreements(obs, np.array([1, 1, 2]))
    assert agreed.purity_bases == pytest.approx(agreed.purity)
