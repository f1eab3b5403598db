"""The CLR against the formula written out in double precision, and the laws that it obeys."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from kinmer.clr import REFERENCE_CLR, Clr, Pseudocount, Scope
from kinmer.errors import FormatError, ProfileError, UsageError
from kinmer.layout import Layout, kmer_layout

LAYOUT = kmer_layout(3)
COUNTS = hnp.arrays(
    np.uint32, st.tuples(st.integers(1, 6), st.just(LAYOUT.width)), elements=st.integers(0, 5000)
)
CLRS = st.builds(
    Clr,
    scope=st.sampled_from(get_args(Scope)),
    pseudocount=st.sampled_from(get_args(Pseudocount)),
    value=st.floats(1e-6, 2),
)


def oracle(clr: Clr, counts: NDArray[Any], layout: Layout) -> NDArray[np.float64]:
    """Row by row, block by block, in float64."""
    rows = []
    for row in counts.astype(np.float64):
        logs = []
        for block in layout.blocks:
            part = row[block.start : block.stop]
            if clr.pseudocount == "counts":
                part = part + clr.value
                part = part / part.sum()
            else:
                part = part / part.sum() if part.sum() else part
                part = part + (clr.value / len(part) if clr.pseudocount == "relative" else clr.value)
            logs.append(np.log(part))
        if clr.scope == "block":
            rows.append(np.concatenate([log - log.mean() for log in logs]))
        else:
            joint = np.concatenate(logs)
            rows.append(joint - joint.mean())
    return np.array(rows)


@given(COUNTS, CLRS)
def test_equals_the_formula_in_numpy_and_torch(counts: NDArray[np.uint32], clr: Clr) -> None:
    expected = oracle(clr, counts, LAYOUT)
    before = counts.copy()
    result = clr(counts, LAYOUT)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=3e-5)
    np.testing.assert_array_equal(counts, before)
    tensor = clr(torch.from_numpy(counts), LAYOUT)
    assert tensor.dtype == torch.float32
    np.testing.assert_allclose(tensor.numpy(), expected, atol=3e-5)


@pytest.mark.parametrize("dtype", [np.uint32, np.int32, np.int64, np.float32, np.float64])
def test_full_layout_in_many_cache_blocks(dtype: type[np.generic]) -> None:
    layout = kmer_layout()
    counts = np.random.default_rng(0).poisson(1.3, (500, layout.width)).astype(dtype)
    expected = oracle(REFERENCE_CLR, counts, layout)
    np.testing.assert_allclose(REFERENCE_CLR(counts, layout), expected, atol=3e-5)
    np.testing.assert_allclose(REFERENCE_CLR(torch.from_numpy(counts), layout).numpy(), expected, atol=3e-5)


def test_counts_of_a_chromosome_keep_their_precision() -> None:
    layout = kmer_layout(4)
    counts = np.random.default_rng(1).integers(2**30, 2**32, (3, layout.width), dtype=np.uint32)
    np.testing.assert_allclose(Clr()(counts, layout), oracle(Clr(), counts, layout), atol=3e-6)


@given(COUNTS, CLRS)
def test_every_scope_sums_to_zero(counts: NDArray[np.uint32], clr: Clr) -> None:
    result = clr(counts, LAYOUT).astype(np.float64)
    spans = [slice(None)] if clr.scope == "joint" else [block.columns for block in LAYOUT.blocks]
    # The logarithms reach ln(smallest pseudocount); each is rounded twice, their mean about as often.
    rounding = 4 * np.finfo(np.float32).eps * max(1.0, -np.log(clr.value / LAYOUT.width))
    for span in spans:
        np.testing.assert_allclose(result[:, span].mean(axis=1), 0, atol=rounding)


@given(COUNTS, CLRS, st.integers(2, 50))
def test_multiplied_counts_change_nothing_but_with_the_prior_on_counts(
    counts: NDArray[np.uint32], clr: Clr, factor: int
) -> None:
    once, often = clr(counts, LAYOUT), clr(counts * np.uint32(factor), LAYOUT)
    if clr.pseudocount != "counts":
        np.testing.assert_allclose(once, often, atol=3e-5)
        return
    # The prior weighs less against more counts: a row moves away from the centre, as far as the formula says.
    spread = np.square(often.astype(np.float64)).sum(axis=1) - np.square(once.astype(np.float64)).sum(axis=1)
    exact = np.square(oracle(clr, counts * np.uint32(factor), LAYOUT)).sum(axis=1)
    exact -= np.square(oracle(clr, counts, LAYOUT)).sum(axis=1)
    rounding = 4 * 3e-5 * np.maximum(np.abs(often), np.abs(once)).sum(axis=1) + 1e-6
    np.testing.assert_array_less(np.abs(spread - exact), rounding)
    if clr.scope == "block":
        assert (exact > -1e-9).all()


@given(COUNTS, CLRS, st.randoms(use_true_random=False))
def test_features_within_a_block_are_treated_alike(counts: NDArray[np.uint32], clr: Clr, random: Any) -> None:
    order = np.arange(LAYOUT.width)
    for block in LAYOUT.blocks:
        inside = list(range(block.start, block.stop))
        random.shuffle(inside)
        order[block.start : block.stop] = inside
    np.testing.assert_allclose(clr(counts[:, order], LAYOUT), clr(counts, LAYOUT)[:, order], atol=3e-5)


@given(COUNTS, CLRS)
def test_frequencies_give_what_their_counts_give(counts: NDArray[np.uint32], clr: Clr) -> None:
    frequencies = counts.astype(np.float32)
    for block in LAYOUT.blocks:
        part = frequencies[:, block.columns]
        part /= np.maximum(part.sum(axis=1, keepdims=True), 1)
    if clr.pseudocount == "counts":
        with pytest.raises(ProfileError, match="added to counts"):
            clr(frequencies, LAYOUT, "frequencies")
    else:
        np.testing.assert_allclose(clr(frequencies, LAYOUT, "frequencies"), clr(counts, LAYOUT), atol=3e-5)


def test_half_a_count_per_feature_is_the_relative_pseudocount_in_a_block_of_n_counts() -> None:
    layout = kmer_layout(1)  # two features
    counts = np.array([[2, 0]], dtype=np.uint32)
    on_counts = Clr(pseudocount="counts", value=0.5)(counts, layout)
    relative = Clr(pseudocount="relative", value=0.5)(counts, layout)
    constant = Clr(pseudocount="constant", value=0.25)(counts, layout)
    np.testing.assert_allclose(on_counts, relative, atol=1e-6)
    np.testing.assert_allclose(constant, relative, atol=1e-6)
    half_log_five = 0.5 * np.log(5)
    np.testing.assert_allclose(relative, [[half_log_five, -half_log_five]], atol=1e-6)
    longer = counts * np.uint32(10)
    assert Clr(pseudocount="counts")(longer, layout)[0, 0] > relative[0, 0] + 1  # ln 41 / 2 against ln 5 / 2


def test_an_empty_row_is_the_centre_of_every_block() -> None:
    empty = np.zeros((1, LAYOUT.width), dtype=np.uint32)
    np.testing.assert_allclose(Clr()(empty, LAYOUT), 0, atol=1e-6)
    assert np.isfinite(REFERENCE_CLR(empty, LAYOUT)).all()
    assert Clr()(empty[:0], LAYOUT).shape == (0, LAYOUT.width)


@given(CLRS)
@settings(max_examples=20)
def test_json_form_comes_back(clr: Clr) -> None:
    assert Clr.from_dict(clr.to_dict()) == clr


@pytest.mark.parametrize(
    "data", [{"scope": "row"}, {"pseudocount": "half"}, {"value": 0}, {"value": float("nan")}, {"shape": 1}]
)
def test_settings_that_are_none_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(FormatError, match="transform"):
        Clr.from_dict(data)
    if "shape" not in data:
        with pytest.raises(UsageError):
            Clr(**data)


@pytest.mark.parametrize("width", [LAYOUT.width - 1, LAYOUT.width + 1])
def test_other_columns_are_refused(width: int) -> None:
    with pytest.raises(ProfileError, match=f"{LAYOUT.width} columns"):
        Clr()(np.zeros((2, width), dtype=np.uint32), LAYOUT)


def test_values_of_no_kind_are_refused() -> None:
    with pytest.raises(UsageError, match="counts or frequencies"):
        Clr()(np.zeros((2, LAYOUT.width), dtype=np.uint32), LAYOUT, "logits")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_on_the_gpu_the_same() -> None:
    counts = np.random.default_rng(2).poisson(2, (100, LAYOUT.width)).astype(np.int32)
    result = Clr()(torch.from_numpy(counts).cuda(), LAYOUT)
    assert result.device.type == "cuda"
    np.testing.assert_allclose(result.cpu().numpy(), Clr()(counts, LAYOUT), atol=1e-5)
