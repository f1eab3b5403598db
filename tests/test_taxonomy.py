"""Lineages: what the hits agree on, how they are written down, NCBI's and GTDB's files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kinmer.taxonomy import RANKS, Vote, consensus, rank_columns, vote_weights


def lineage(*names: str | None) -> dict[str, object]:
    return dict(zip(RANKS, names, strict=False))


def test_consensus_by_hand() -> None:
    hits = [lineage("B", "p", "c", "o", "f", "g", s) for s in ("s1", "s1", "s2", "s3")]
    agreed = consensus(hits, [1, 1, 1, 1])
    assert list(agreed) == list(RANKS)
    assert agreed["genus"] == Vote("g", 1.0)
    assert agreed["species"] == Vote("s1", 0.5)
    assert "species" not in consensus(hits, [1, 1, 2, 1])
    # Nearer hits weigh more.
    assert consensus(hits, [0.1, 0.1, 2, 0.1])["species"].name == "s2"


def test_consensus_is_coherent_from_the_top() -> None:
    # "g1" has the most weight of all genera, but belongs to a phylum that has not.
    hits = [lineage("B", "p1", None, None, None, "g1"), lineage("B", "p2", None, None, None, "g2")]
    hits += [lineage("B", "p2", None, None, None, "g3")]
    agreed = consensus(hits, [0.4, 0.31, 0.29])
    assert agreed["phylum"].name == "p2"
    assert "genus" not in agreed


def test_a_rank_without_names_is_passed_over() -> None:
    hits = [lineage("Viruses", "p", "c", None, None, "g")] * 3
    assert list(consensus(hits, [1, 1, 1])) == ["domain", "phylum", "class", "genus"]
    assert consensus([], []) == {}
    assert consensus([{}, {}], [1, 1]) == {}


@given(
    st.lists(st.tuples(*[st.sampled_from(["a", "b", None])] * 3, st.floats(0.01, 1)), min_size=1, max_size=8)
)
def test_consensus_is_a_lineage_that_most_of_the_weight_has(rows: list[tuple[Any, ...]]) -> None:
    hits = [dict(zip(RANKS, row[:3], strict=False)) for row in rows]
    weights = [row[3] for row in rows]
    agreed = consensus(hits, weights)
    shares = [agreed[rank].share for rank in RANKS if rank in agreed]
    assert shares == sorted(shares, reverse=True)
    for rank, vote in agreed.items():
        above = [one for one in RANKS[: RANKS.index(rank) + 1] if one in agreed]
        behind = sum(
            weight
            for hit, weight in zip(hits, weights, strict=True)
            if all(hit[one] == agreed[one].name for one in above)
        )
        assert vote.share == pytest.approx(behind / sum(weights))
        assert 0.5 <= vote.share <= 1 + 1e-9


def test_weights_fall_with_the_distance_and_not_with_the_scale() -> None:
    far = np.array([0.1, 0.13, 0.4], dtype=np.float32)
    weights = vote_weights(far, "cosine", 5.0)
    np.testing.assert_allclose(weights, [1, np.exp(-1), np.exp(-10)], rtol=1e-5)
    # Between vectors of one length l2 says the same as cosine.
    l2 = np.sqrt(2 * far) * 7
    np.testing.assert_allclose(vote_weights(l2.astype(np.float32), "l2", 7.0), weights, rtol=1e-4)
    assert vote_weights(far, "l2", 0.0).tolist() == [1, 1, 1]
    assert vote_weights(far[:0], "cosine", 1.0).size == 0


def test_rank_columns_are_found_in_any_case() -> None:
    columns = ["note", "Species", "GENUS", "source"]
    assert rank_columns(columns) == {"genus": "GENUS", "species": "Species"}
    assert list(rank_columns([])) == []
