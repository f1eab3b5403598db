"""The encoder: the same vectors after saving, however it is asked, and no damaged folder is taken for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.clr import REFERENCE_CLR, Clr
from kinmer.encoder import Encoder
from kinmer.errors import FormatError, MismatchError, ProfileError, UsageError
from kinmer.inputs import sealed
from kinmer.layout import kmer_layout
from kinmer.networks import CPU_TILE, Network, Vae, torch_device
from tests.organisms import encoder_of, organisms

TABLE = organisms(600)
ENCODER = encoder_of()
VECTORS: dict[str, np.ndarray] = {}


def state_of(encoder: Encoder) -> dict[str, torch.Tensor]:
    assert isinstance(encoder.network, Network)
    return dict(encoder.network.state_dict())


def vectors_by_hand(encoder: Encoder, counts: np.ndarray) -> np.ndarray:
    """CLR per block and the layers, written out in float64."""
    rows = []
    for block in encoder.layout.blocks:
        part = counts[:, block.columns].astype(np.float64)
        logs = np.log(part / part.sum(axis=1, keepdims=True) + 0.5 / block.size)
        rows.append(logs - logs.mean(axis=1, keepdims=True))
    weights = {name: tensor.double().numpy() for name, tensor in state_of(encoder).items()}
    x = np.concatenate(rows, axis=1)
    for layer in (0, 3):
        dense, norm = f"encoder.hidden.{layer}", f"encoder.hidden.{layer + 1}"
        x = x @ weights[f"{dense}.weight"].T + weights[f"{dense}.bias"]
        x = (x - weights[f"{norm}.running_mean"]) / np.sqrt(weights[f"{norm}.running_var"] + 1e-3)
        x = x * weights[f"{norm}.weight"] + weights[f"{norm}.bias"]
        x = np.where(x > 0, x, 0.2 * x)
    mean: np.ndarray = x @ weights["encoder.z_mean.weight"].T + weights["encoder.z_mean.bias"]
    return mean


def test_vectors_are_the_mean_of_the_formula() -> None:
    encoder = encoder_of(seed=3)
    with torch.no_grad():
        for name, tensor in state_of(encoder).items():
            if "running_mean" in name or name.endswith("bias"):
                tensor.uniform_(-0.5, 0.5)
            elif "running_var" in name:
                tensor.uniform_(0.5, 2)
    vectors = encoder.embed(TABLE.X)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, vectors_by_hand(encoder, TABLE.X), rtol=1e-4, atol=1e-5)


@given(start=st.integers(0, 599), size=st.integers(1, 2 * CPU_TILE))
@settings(deadline=None, max_examples=25)
def test_a_vector_does_not_depend_on_what_is_embedded_with_it(start: int, size: int) -> None:
    part = TABLE.X[start : start + size]
    assert np.array_equal(ENCODER.embed(part), ENCODER.embed(TABLE.X)[start : start + size])


def test_vectors_and_threads() -> None:
    """The same vectors to the last bit on one thread and on three, and PyTorch's own setting stays."""
    before = torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            for precision in ("fp32", "bf16"):
                encoder = Encoder(ENCODER.network, ENCODER.layout, ENCODER.clr, precision=precision)
                wanted = VECTORS.setdefault(precision, encoder.embed(TABLE.X))
                assert np.array_equal(encoder.embed(TABLE.X), wanted)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_number_types_and_no_rows() -> None:
    wanted = ENCODER.embed(TABLE.X[:9])
    for dtype in (np.uint16, np.int64, np.float64):
        assert np.array_equal(ENCODER.embed(TABLE.X[:9].astype(dtype)), wanted)
    assert ENCODER.embed(TABLE.X[:0]).shape == (0, 8)
    assert np.array_equal(ENCODER.embed(np.asfortranarray(TABLE.X[:9])), wanted)


def test_frequencies_give_the_vectors_of_their_counts() -> None:
    frequencies = organisms(600, values="frequencies").X
    np.testing.assert_allclose(ENCODER.embed(frequencies, "frequencies"), ENCODER.embed(TABLE.X), atol=1e-5)
    counting = encoder_of(clr=Clr(pseudocount="counts", value=0.5))
    with pytest.raises(ProfileError, match="counts"):
        counting.embed(frequencies, "frequencies")


def test_bf16_is_near_float32_and_another_encoder() -> None:
    exact = ENCODER.embed(TABLE.X)
    rough = Encoder(ENCODER.network, ENCODER.layout, ENCODER.clr, precision="bf16")
    vectors = rough.embed(TABLE.X)
    cosine = (vectors * exact).sum(1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosine.min() > 0.999
    assert vectors.dtype == np.float32
    assert rough.fingerprint != ENCODER.fingerprint


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    ENCODER.save(tmp_path / "e")
    again = Encoder.load(tmp_path / "e")
    assert again.fingerprint == ENCODER.fingerprint
    assert again.layout == ENCODER.layout
    assert again.clr == ENCODER.clr
    assert (again.card, again.metrics, again.dim) == ("# A card\n", [{"epoch": 1}], 8)
    assert np.array_equal(again.embed(TABLE.X), ENCODER.embed(TABLE.X))
    again.save(tmp_path / "copy")
    for name in ("config.json", "weights.safetensors", "metrics.jsonl", "card.md"):
        assert (tmp_path / "copy" / name).read_bytes() == (tmp_path / "e" / name).read_bytes()


def test_the_fingerprint_tells_all_that_vectors_depend_on() -> None:
    changed = [encoder_of(seed=1), encoder_of(max_k=2), encoder_of(dim=4), encoder_of(clr=REFERENCE_CLR)]
    prints = {one.fingerprint for one in (ENCODER, *changed)}
    assert len(prints) == 5
    assert encoder_of().fingerprint == ENCODER.fingerprint


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        # With its checksum: what is told otherwise is to be seen, not that somebody told it.
        (folder / "config.json").write_text(json.dumps(sealed(config)))

    return damage


def flip_a_bit(folder: Path) -> None:
    data = bytearray((folder / "weights.safetensors").read_bytes())
    data[-7] ^= 1
    (folder / "weights.safetensors").write_bytes(data)


def truncate(folder: Path) -> None:
    data = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(data[: len(data) // 2])


def other_shapes(folder: Path) -> None:
    tensors = safetensors.torch.load_file(folder / "weights.safetensors")
    tensors["encoder.z_mean.weight"] = tensors["encoder.z_mean.weight"][:3].contiguous()
    safetensors.torch.save_file(tensors, folder / "weights.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "this is no encoder, but a folder"),
    "no weights": (lambda f: (f / "weights.safetensors").unlink(), "weights"),
    "no card": (lambda f: (f / "card.md").unlink(), "card.md"),
    "no JSON": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "a JSON list": (lambda f: (f / "config.json").write_text("[]"), "damaged"),
    "something else": (edit(lambda c: c.update(kind="index")), "no encoder"),
    "another format": (edit(lambda c: c.update(format=2)), "format 2"),
    "no layout": (edit(lambda c: c.pop("layout")), "damaged"),
    "another layout": (edit(lambda c: c["layout"]["blocks"].pop(0)), "features"),
    "an unknown network": (edit(lambda c: c["network"].update(name="gan")), "gan"),
    "another latent size": (edit(lambda c: c["network"]["settings"].update(latent=9)), "weights do not fit"),
    "another transform": (edit(lambda c: c["clr"].update(value=0.25)), "damaged"),
    "an unknown transform": (edit(lambda c: c["clr"].update(scope="row")), "row"),
    "another precision": (edit(lambda c: c.update(precision="bf16")), "damaged"),
    "an unknown precision": (edit(lambda c: c.update(precision="fp8")), "precision"),
    "a changed weight": (flip_a_bit, "damaged"),
    "half the weights": (truncate, "weights"),
    "weights of other shapes": (other_shapes, "do not fit"),
    "damaged metrics": (lambda f: (f / "metrics.jsonl").write_text("{\n"), "metrics.jsonl"),
    "a card in Latin-1": (lambda f: (f / "card.md").write_bytes(b"\xe9"), "card.md"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_damage_is_one_line_that_names_the_folder(kind: str, tmp_path: Path) -> None:
    damage, text = DAMAGES[kind]
    ENCODER.save(tmp_path / "e")
    damage(tmp_path / "e")
    with pytest.raises(FormatError, match=text) as raised:
        Encoder.load(tmp_path / "e")
    assert str(tmp_path / "e") in str(raised.value)
    assert "\n" not in str(raised.value)


def test_there_is_no_encoder(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no encoder"):
        Encoder.load(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(FormatError, match="no encoder"):
        Encoder.load(tmp_path / "file")


def test_saving_refuses_what_it_should_not_replace(tmp_path: Path) -> None:
    ENCODER.save(tmp_path / "e")
    with pytest.raises(UsageError, match="exists"):
        ENCODER.save(tmp_path / "e")
    other = encoder_of(seed=9)
    other.save(tmp_path / "e", force=True)
    assert Encoder.load(tmp_path / "e").fingerprint == other.fingerprint
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("keep me")
    with pytest.raises(UsageError, match="no encoder"):
        ENCODER.save(tmp_path / "letters", force=True)
    assert (tmp_path / "letters" / "dear.txt").read_text() == "keep me"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "letters"]


def test_profiles_that_do_not_fit() -> None:
    with pytest.raises(MismatchError, match="44 features"):
        ENCODER.embed(organisms(4, max_k=2).X)
    with pytest.raises(MismatchError):
        ENCODER.embed(TABLE.X[0])
    bad = TABLE.X[:5].astype(np.float32)
    bad[3, 2] = np.nan
    with pytest.raises(ProfileError, match="row 4"):
        ENCODER.embed(bad)
    with pytest.raises(MismatchError, match="takes 5 features"):
        Encoder(Vae(width=5, latent=2), kmer_layout(3), Clr())


def test_devices() -> None:
    assert torch_device("cpu") == torch.device("cpu")
    assert torch_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UsageError, match="abacus"):
        torch_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="cuda"):
            torch_device("cuda")


def test_embedding_leaves_the_network_as_it_was() -> None:
    before = {name: tensor.clone() for name, tensor in state_of(ENCODER).items()}
    ENCODER.embed(TABLE.X)
    assert all(torch.equal(before[name], tensor) for name, tensor in state_of(ENCODER).items())
