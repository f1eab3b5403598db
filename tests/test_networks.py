"""Networks: sizes, loss and its parts against closed forms, and what an encoder relies on."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kinmer.errors import FormatError, UsageError
from kinmer.layout import kmer_layout
from kinmer.linear import summary
from kinmer.networks import NETWORKS, Vae, VaeOutput, build_network, parameter_count
from kinmer.training.losses import block_mse, vae_loss


def dense(inputs: int, outputs: int) -> int:
    return inputs * outputs + outputs


def test_parameters_at_latent_256_are_the_references() -> None:
    vae = Vae(width=kmer_layout().width, latent=256)
    assert parameter_count(vae.encoder) == 3_633_152
    assert parameter_count(vae.decoder) == 3_504_340
    by_hand = dense(2772, 1024) + 4 * 1024 + dense(1024, 512) + 4 * 512 + 2 * dense(512, 256)
    assert parameter_count(vae.encoder) == by_hand


def test_summary_adds_up() -> None:
    text = summary(Vae(width=2772, latent=256))
    assert "3,633,152" in text
    assert "3,504,340" in text
    assert "7,137,492" in text
    layers = [line for line in text.splitlines()[1:] if "." in line]
    assert sum(int(line.split()[-1].replace(",", "")) for line in layers) == 7_137_492
    assert "encoder.z_log_var" in text


def test_weights_start_glorot_uniform_with_zero_biases() -> None:
    vae = Vae(width=300, latent=40, hidden=(200, 100))
    for module in vae.modules():
        if isinstance(module, torch.nn.Linear):
            limit = math.sqrt(6 / (module.in_features + module.out_features))
            assert module.weight.abs().max() <= limit
            assert module.weight.std().item() == pytest.approx(limit / math.sqrt(3), rel=0.03)
            assert not module.bias.any()


def test_the_seed_alone_fixes_the_start() -> None:
    torch.manual_seed(1)
    first = Vae(width=30, latent=4, hidden=(8,), seed=5).state_dict()
    torch.manual_seed(2)
    second = Vae(width=30, latent=4, hidden=(8,), seed=5).state_dict()
    other = Vae(width=30, latent=4, hidden=(8,), seed=6).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["encoder.z_mean.weight"], other["encoder.z_mean.weight"])


@given(
    n=st.integers(1, 6),
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    beta=st.floats(0, 2),
    seed=st.integers(0, 2**31),
)
@settings(deadline=None)
def test_loss_equals_the_formula_in_float64(n: int, sizes: list[int], beta: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    width, dim = sum(sizes), 3
    x, r = rng.normal(size=(2, n, width))
    mean, log_var = rng.normal(size=(2, n, dim))
    output = VaeOutput(*(torch.tensor(a, dtype=torch.float32) for a in (r, mean, log_var)))
    parts = vae_loss(output, torch.tensor(x, dtype=torch.float32), beta=beta)
    mse = ((x - r) ** 2).mean()
    # KL of N(m, s²) from N(0, 1), written as ln(1/s) + (s² + m²)/2 - 1/2.
    s = np.exp(log_var / 2)
    kl = (np.log(1 / s) + (s**2 + mean**2) / 2 - 0.5).sum(axis=1).mean()
    assert parts.mse.item() == pytest.approx(mse, rel=1e-5)
    assert parts.reconstruction.item() == pytest.approx(width * mse, rel=1e-5)
    assert parts.kl.item() == pytest.approx(kl, rel=1e-4, abs=1e-5)
    assert parts.total.item() == pytest.approx(width * mse + beta * kl, rel=1e-4)
    per_block = block_mse(output.reconstruction, torch.tensor(x, dtype=torch.float32), sizes)
    edges = np.cumsum([0, *sizes])
    for value, start, stop in zip(per_block.tolist(), edges, edges[1:], strict=False):
        assert value == pytest.approx(((x - r) ** 2)[:, start:stop].mean(), rel=1e-5)


def test_kl_is_zero_for_the_prior_and_known_for_a_shifted_normal() -> None:
    zeros = torch.zeros(2, 3)
    assert vae_loss(VaeOutput(zeros, zeros, zeros), zeros, beta=1).total.item() == 0
    shifted = VaeOutput(zeros, torch.full((2, 3), 2.0), zeros)
    assert vae_loss(shifted, zeros, beta=1).kl.item() == pytest.approx(3 * 2.0**2 / 2)


def test_log_variance_is_clipped() -> None:
    vae = Vae(width=4, latent=2, hidden=(3,)).eval()
    with torch.no_grad():
        vae.encoder.z_log_var.bias.copy_(torch.tensor([1e4, -1e4]))
    output = vae(torch.randn(5, 4), torch.zeros(5, 2))
    assert output.log_var[:, 0].eq(2).all()
    assert output.log_var[:, 1].eq(-20).all()


def test_embedding_is_the_mean_and_the_reconstruction_follows_the_noise() -> None:
    vae = Vae(width=12, latent=3, hidden=(8, 5)).eval()
    x = torch.randn(7, 12)
    quiet, loud = vae(x, torch.zeros(7, 3)), vae(x, torch.ones(7, 3))
    assert torch.equal(vae.embed(x), quiet.mean)
    assert torch.allclose(quiet.reconstruction, vae.decoder(quiet.mean))
    assert torch.allclose(loud.reconstruction, vae.decoder(quiet.mean + torch.exp(quiet.log_var / 2)))


def test_layers_are_in_the_references_order() -> None:
    kinds = [type(layer).__name__ for layer in Vae(width=9, latent=2).encoder.hidden]
    assert kinds == ["Linear", "BatchNorm1d", "LeakyReLU"] * 2
    x = torch.tensor([[-1.0, 1.0]])
    vae = Vae(width=2, latent=1, hidden=(2,)).eval()
    with torch.no_grad():
        vae.encoder.hidden.get_parameter("0.weight").copy_(torch.eye(2))
    # Running statistics of a new network are mean 0 and variance 1, the epsilon is Keras's.
    wanted = torch.tensor([[-0.2, 1.0]]) / math.sqrt(1 + 1e-3)
    assert torch.allclose(vae.encoder.hidden(x), wanted)


def test_registry_rebuilds_a_network_from_its_settings() -> None:
    vae = Vae(width=12, latent=3, hidden=(8, 5))
    again = build_network("vae", vae.settings())
    again.load_state_dict(vae.state_dict())
    x = torch.randn(4, 12)
    assert torch.equal(vae.eval().embed(x), again.eval().embed(x))
    assert NETWORKS["vae"] is Vae


@pytest.mark.parametrize(
    ("name", "given_settings"),
    [("gan", {}), ("vae", {}), ("vae", {"width": 4, "depth": 3}), ("vae", {"width": 4, "latent": 0})],
)
def test_unknown_networks_and_settings_are_format_errors(name: str, given_settings: dict[str, int]) -> None:
    with pytest.raises(FormatError, match=name):
        build_network(name, given_settings)


@pytest.mark.parametrize("hidden", [(), (0,), (8, -1)])
def test_sizes_are_checked(hidden: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="layer sizes"):
        Vae(width=4, latent=2, hidden=hidden)
