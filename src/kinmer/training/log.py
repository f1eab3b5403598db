"""What a training reports: a line an epoch, TensorBoard files, curves, and the encoder's card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch.utils.tensorboard import SummaryWriter


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def training_curve(records: Sequence[Mapping[str, Any]], path: str | Path) -> None:
    """Draw the epochs' loss, KL, error per block and learning rate; the file's suffix sets the format.

    Parameters
    ----------
    records : one mapping an epoch with ``epoch``, ``validation_loss``, ``reconstruction``, ``kl``, ``beta``,
        ``learning_rate`` and ``blocks`` (block name to validation MSE), as in ``metrics.jsonl``.
    """
    from matplotlib.figure import Figure

    epochs = [record["epoch"] for record in records]
    figure = Figure(figsize=(11, 7), layout="constrained")
    loss, kl, blocks, rate = figure.subplots(2, 2).ravel()
    marker = "." if len(records) < 50 else None

    def draw(axes: Axes, label: str, values: list[Any]) -> None:
        axes.plot(epochs, values, marker=marker, label=label)

    draw(loss, "validation loss", [r["validation_loss"] for r in records])
    draw(loss, "training reconstruction", [r["reconstruction"] for r in records])
    loss.set(yscale="log", ylabel="loss")
    kept = [record for record in records if record.get("best")]
    if kept:
        loss.axvline(kept[-1]["epoch"], color="0.6", linestyle="--", label="kept")
    loss.legend()

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


# What TensorBoard and the card show of an epoch.
_SCALARS = (
    *("reconstruction", "kl", "validation_loss", "validation_kl"),
    *("mse", "beta", "learning_rate", "rows_per_second"),
)
_RESULTS = (
    ("validation_loss", "validation loss", "{:.4f}"),
    ("validation_reconstruction", "validation reconstruction", "{:.4f}"),
    ("validation_kl", "validation KL", "{:.4f} nats"),
    ("mse", "validation MSE", "{:.6f}"),
)


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch's record as a line; the errors are those of the validation rows."""
    blocks = " ".join(f"{name.replace('-', '')}={mse:.4g}" for name, mse in record["blocks"].items())
    parts = [
        f"epoch {record['epoch']}/{epochs}",
        f"recon {record['reconstruction']:.2f}  KL {record['kl']:.2f} × {record['beta']:.3g}",
        f"val {record['validation_loss']:.2f}",
        f"MSE {record['mse']:.4g} [{blocks}]",
        f"lr {record['learning_rate']:.2g}",
        f"{record['rows_per_second']:,.0f} rows/s",
    ]
    return "  ".join(parts + ["best"] * record["best"])


class EpochLog:
    """Sends every epoch's record to a callback as a line, and to TensorBoard files where it is installed.

    Parameters
    ----------
    say : takes a line; None where nobody listens.
    folder : of the TensorBoard files; None writes none.
    after : the epochs that are there already; of later ones, what a killed run wrote is taken back.
    """

    def __init__(
        self, say: Callable[[str], None] | None, folder: Path | None, *, epochs: int, after: int
    ) -> None:
        self._say, self._epochs = say, epochs
        self._writer = None if folder is None else _tensorboard(folder, after + 1)

    def note(self, line: str) -> None:
        """Pass a line on as it is."""
        if self._say is not None:
            self._say(line)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Report one epoch."""
        self.note(epoch_line(record, self._epochs))
        if self._writer is None:
            return
        at = record["epoch"]
        for name in _SCALARS:
            self._writer.add_scalar(name, record[name], at)
        for name, mse in record["blocks"].items():
            self._writer.add_scalar(f"mse/{name}", mse, at)

    def close(self) -> None:
        """Finish the TensorBoard files."""
        if self._writer is not None:
            self._writer.close()


def _tensorboard(folder: Path, purge_step: int) -> SummaryWriter | None:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=purge_step)


def card(
    training: Mapping[str, Any], metrics: Sequence[Mapping[str, Any]], versions: Mapping[str, str]
) -> str:
    """The card (Markdown) of an encoder: data, settings, results, versions."""
    data, results = training["data"], training["results"]
    rows = [("kept epoch", f"{results['epoch']} of {results['epochs']} ({results['ended']})")]
    rows += [(label, form.format(results[name])) for name, label, form in _RESULTS]
    rows += [(f"validation MSE, {name}", f"{mse:.6f}") for name, mse in results["blocks"].items()]
    settings = [(name, f"`{value}`") for name, value in training["settings"].items()]
    sections = [
        "# kinmer encoder",
        "A variational autoencoder of profiles; a sequence's vector is its latent distribution's mean.",
        "## Data",
        markdown_table(("", ""), _facts(data)),
        "## Results",
        markdown_table(("", ""), rows),
        "![Training](training.png)",
        "## Settings",
        markdown_table(("setting", "value"), settings),
        "## Versions",
        markdown_table(("", ""), list(versions.items())),
    ]
    return "\n\n".join(sections) + "\n"


def _facts(data: Mapping[str, Any]) -> list[tuple[str, str]]:
    constant = data["constant"]
    named = ", ".join(constant[:20]) + (" …" if len(constant) > 20 else "")
    return [
        ("source", data["source"]),
        ("profiles", f"{data['rows']:,} ({data['values']}; {data['layout']})"),
        ("training / validation rows", f"{data['training_rows']:,} / {data['validation_rows']:,}"),
        ("data fingerprint", f"`{data['fingerprint']}`"),
        ("features with one value in all profiles", f"{len(constant)} ({named})" if constant else "none"),
    ]
