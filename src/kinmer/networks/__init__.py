"""The networks: tensors in, tensors out, and losses whose parts have names.

A network of the registry `NETWORKS` is built from plain settings (`build_network`) and gives, whatever it
is inside, ``embed(x) -> (n, dim)``. Training asks more (`Vae.forward`, `vae_loss`); an encoder does not.
"""

from __future__ import annotations

from typing import Any

from kinmer.errors import FormatError, UsageError
from kinmer.networks.base import Network, parameter_count, summary
from kinmer.networks.linear import Columns, Linear, Residual
from kinmer.networks.losses import LossParts, block_mse, pair_loss, vae_loss
from kinmer.networks.vae import Vae, VaeOutput

__all__ = [
    "NETWORKS",
    "Columns",
    "Linear",
    "LossParts",
    "Network",
    "Residual",
    "Vae",
    "VaeOutput",
    "block_mse",
    "build_network",
    "pair_loss",
    "parameter_count",
    "summary",
    "vae_loss",
]

NETWORKS: dict[str, type[Network]] = {one.name: one for one in (Vae, Linear, Residual, Columns)}


def build_network(name: str, settings: dict[str, Any]) -> Network:
    """The network `name` of the registry with `settings`; FormatError where either is unknown."""
    if name not in NETWORKS:
        raise FormatError(
            f"the network {name!r} is unknown", check=f"this version knows {', '.join(sorted(NETWORKS))}"
        )
    try:
        return NETWORKS[name](**settings)
    except (TypeError, ValueError, OverflowError, RuntimeError, UsageError) as error:
        raise FormatError(f"the settings of the network {name!r} cannot be used", str(error)) from error
