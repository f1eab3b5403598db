"""Training curves: records of epochs to a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["training_curve"]


def training_curve(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the epochs' loss, KL, error per block and learning rate; the file's suffix sets the format.

    Parameters
    ----------
    records : one mapping an epoch with ``epoch``, ``validation_loss``, ``reconstruction``, ``kl``, ``beta``,
        ``learning_rate`` and ``blocks`` (block name to validation MSE), as in ``metrics.jsonl``; of pairs
        ``pair_loss`` and ``retrieval``.
    """
    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(11, 7), layout="constrained")
    loss, kl, blocks, rate = figure.subplots(2, 2).ravel()
    marker = "." if len(records) < 50 else None

    def draw(axes: Axes, label: str, values: list[Any]) -> None:
        axes.plot(epochs, values, marker=marker, label=label)

    draw(loss, "validation loss", [r["validation_loss"] for r in records])
    for name, label in (("reconstruction", "training reconstruction"), ("pair_loss", "training pair loss")):
        if records and name in records[0]:
            draw(loss, label, [r[name] for r in records])
    loss.set(yscale="log", ylabel="loss")
    kept = [record for record in records if record.get("best")]
    if kept:
        loss.axvline(kept[-1]["epoch"], color="0.6", linestyle="--", label="kept")
    loss.legend()

    if records and "kl" not in records[0]:
        draw(kl, "retrieval", [r["retrieval"] for r in records])
        kl.set(ylabel="retrieval of held-out kin")
        blocks.set_visible(False)
    else:
        draw(kl, "KL", [r["kl"] for r in records])
        kl.set(ylabel="KL (nats)")
        weight = kl.twinx()
        weight.plot(epochs, [r["beta"] for r in records], color="0.6", linestyle=":", label="weight")
        weight.set(ylabel="weight β")
        for name in records[0]["blocks"] if records else ():
            draw(blocks, name, [r["blocks"][name] for r in records])
        blocks.set(yscale="log", ylabel="validation MSE", xlabel="epoch")
        if records:
            blocks.legend(ncols=2)

    rate.plot(epochs, [r["learning_rate"] for r in records], marker=marker)
    rate.set(yscale="log", ylabel="learning rate", xlabel="epoch")
    figure.savefig(Path(path), dpi=120)
