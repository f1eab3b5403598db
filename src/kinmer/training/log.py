"""What a training tells: a line an epoch, TensorBoard files, and the encoder's card."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinmer.training.cards import markdown_table

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

__all__ = ["EpochLog", "card", "epoch_line"]


def epoch_line(record: Mapping[str, Any], epochs: int) -> str:
    """One epoch's record as a line; the errors are those of the validation rows."""
    blocks = " ".join(f"{name.replace('-', '')}={mse:.4g}" for name, mse in record["blocks"].items())
    return (
        f"epoch {record['epoch']}/{epochs}  recon {record['reconstruction']:.2f}"
        f"  KL {record['kl']:.2f} × {record['beta']:.3g}  val {record['validation_loss']:.2f}"
        f"  MSE {record['mse']:.4g} [{blocks}]  lr {record['learning_rate']:.2g}"
        f"  {record['rows_per_second']:,.0f} rows/s{'  best' if record['best'] else ''}"
    )


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
        """Tell a line as it is."""
        if self._say is not None:
            self._say(line)

    def epoch(self, record: Mapping[str, Any]) -> None:
        """Tell one epoch."""
        self.note(epoch_line(record, self._epochs))
        if self._writer is None:
            return
        at = record["epoch"]
        names = ("reconstruction", "kl", "validation_loss", "validation_kl", "mse", "beta", "learning_rate")
        for name in (*names, "rows_per_second"):
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
    kept = metrics[results["epoch"] - 1]
    constant = data["constant"]
    named = ", ".join(constant[:20]) + (" …" if len(constant) > 20 else "")
    facts = [
        ("source", data["source"]),
        ("profiles", f"{data['rows']:,} ({data['values']}; {data['layout']})"),
        ("training / validation rows", f"{data['training_rows']:,} / {data['validation_rows']:,}"),
        ("data fingerprint", f"`{data['fingerprint']}`"),
        ("features with one value in all profiles", f"{len(constant)} ({named})" if constant else "none"),
    ]
    found = [
        ("kept epoch", f"{results['epoch']} of {results['epochs']} ({results['ended']})"),
        ("validation loss", f"{kept['validation_loss']:.4f}"),
        ("validation reconstruction", f"{kept['validation_reconstruction']:.4f}"),
        ("validation KL", f"{kept['validation_kl']:.4f} nats"),
        ("validation MSE", f"{kept['mse']:.6f}"),
        *((f"validation MSE, {name}", f"{mse:.6f}") for name, mse in kept["blocks"].items()),
    ]
    settings = [(name, f"`{value}`") for name, value in training["settings"].items()]
    sections = [
        "# kinmer encoder",
        "A variational autoencoder of k-mer profiles; a sequence's vector is its latent distribution's mean.",
        "## Data",
        markdown_table(("", ""), facts),
        "## Results",
        markdown_table(("", ""), found),
        "![Training](training.png)",
        "## Settings",
        markdown_table(("setting", "value"), settings),
        "## Versions",
        markdown_table(("", ""), list(versions.items())),
    ]
    return "\n\n".join(sections) + "\n"
