"""Training curves: records of epochs to a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["training_curve"]


def training_curve(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the epochs' loss, KL, error per block and learning rate; the file's suffix sets the format.

    Parameters
    ----------
    records : one mapping an epoch with ``epoch``, ``validation_loss``, ``reconstruction``, ``kl``, ``beta``,
        ``learning_rate`` and ``blocks`` (block name to validation MSE), as in ``metrics.jsonl``.
    """
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(11, 7), layout="constrained")
    loss, kl, blocks, rate = figure.subplots(2, 2).ravel()
    marker = "." if len(records) < 50 else None

    loss.plot(epochs, [r["validation_loss"] for r in records], marker=marker, label="validation loss")
    loss.plot(epochs, [r["reconstruction"] for r in records], marker=marker, label="training reconstruction")
    loss.set(yscale="log", ylabel="loss")
    kept = [record for record in records if record.get("best")]
    if kept:
        loss.axvline(kept[-1]["epoch"], color="0.6", linestyle="--", label="kept")
    loss.legend()

    kl.plot(epochs, [r["kl"] for r in records], marker=marker, label="KL")
    kl.set(ylabel="KL (nats)")
    weight = kl.twinx()
    weight.plot(epochs, [r["beta"] for r in records], color="0.6", linestyle=":", label="weight")
    weight.set(ylabel="weight β")

    for name in records[0]["blocks"] if records else ():
        blocks.plot(epochs, [r["blocks"][name] for r in records], marker=marker, label=name)
    blocks.set(yscale="log", ylabel="validation MSE", xlabel="epoch")
    if records:
        blocks.legend(ncols=2)

    rate.plot(epochs, [r["learning_rate"] for r in records], marker=marker)
    rate.set(yscale="log", ylabel="learning rate", xlabel="epoch")
    figure.savefig(Path(path), dpi=120)
