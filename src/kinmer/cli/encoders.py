"""Commands that make and use encoders: train, embed, model summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kinmer.cli.options import Force, Ids, Threads, note

__all__ = ["register"]

Encoder = Annotated[Path, typer.Option("--encoder", "-e", help="Folder of the encoder.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("train")(train)
    app.command("embed")(embed)
    model = typer.Typer(help="Look at networks and encoders.", no_args_is_help=True)
    model.command("summary")(summary)
    app.add_typer(model, name="model")


def _setting(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    return typer.Option(*names, help=f"{help} (default: the preset's).", show_default=False, **more)


def train(
    source: Annotated[Path, typer.Argument(help="Profile store (*.zarr) or k-mer table (*.npy).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the encoder to write.")],
    preset: Annotated[
        str, typer.Option(help="default, or reference (joint CLR, 1e-6, 500 epochs).")
    ] = "default",
    latent: Annotated[int | None, _setting("Latent dimensions", "--latent")] = None,
    hidden: Annotated[str | None, _setting("Hidden layers, such as 1024,512", "--hidden")] = None,
    beta: Annotated[float | None, _setting("Weight of the KL part", "--beta")] = None,
    warmup: Annotated[int | None, _setting("Epochs of the KL warm-up", "--warmup")] = None,
    epochs: Annotated[int | None, _setting("Epochs at most", "--epochs")] = None,
    batch: Annotated[int | None, _setting("Rows of a step", "--batch")] = None,
    rate: Annotated[float | None, _setting("Learning rate of Adam", "--learning-rate")] = None,
    validation: Annotated[float | None, _setting("Share of rows held out", "--validation")] = None,
    stop: Annotated[
        int | None, _setting("Epochs without progress before the end; 0: never", "--patience")
    ] = None,
    scope: Annotated[str | None, _setting("CLR of each block, or joint", "--clr")] = None,
    pseudocount: Annotated[str | None, _setting("relative, constant or counts", "--pseudocount")] = None,
    value: Annotated[float | None, _setting("The pseudocount's value", "--pseudocount-value")] = None,
    precision: Annotated[str | None, _setting("auto, fp32 or bf16", "--precision")] = None,
    embedding_precision: Annotated[
        str | None, _setting("fp32, or bf16: faster, within 1e-3 of a distance", "--embedding-precision")
    ] = None,
    compiled: Annotated[bool | None, _setting("Compile the step", "--compile/--no-compile")] = None,
    seed: Annotated[int | None, _setting("Seed of everything random", "--seed")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Threads = None,
    memory: Annotated[float | None, typer.Option(help="GB that profiles may take; more is streamed.")] = None,
    ids: Ids = None,
    force: Force = False,
) -> None:
    """Train a variational autoencoder on profiles; killed and called again, it goes on."""
    from kinmer.training import clr_settings, train_settings
    from kinmer.training import train as train_encoder

    given: dict[str, Any] = {
        "latent": latent,
        "hidden": _sizes(hidden),
        "beta": beta,
        "warmup_epochs": warmup,
        "epochs": epochs,
        "batch": batch,
        "learning_rate": rate,
        "validation": validation,
        "stop_patience": stop,
        "precision": precision,
        "embedding_precision": embedding_precision,
        "compile": compiled,
        "seed": seed,
    }
    changes = {name: setting for name, setting in given.items() if setting is not None}
    settings = train_settings(preset, **changes)
    settings = clr_settings(settings, scope=scope, pseudocount=pseudocount, value=value)
    train_encoder(
        source,
        output,
        settings=settings,
        ids=ids,
        device=device,
        threads=threads,
        memory=None if memory is None else int(memory * 1e9),
        force=force,
        log=note,
    )
    note(f"encoder written to {output}")


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    from kinmer.errors import UsageError

    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise UsageError(f"--hidden takes whole numbers such as 1024,512, not {text!r}") from None


def embed(
    source: Annotated[Path, typer.Argument(help="Profile store, k-mer table or FASTA (- is stdin).")],
    encoder: Encoder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write an .npy and its ids here (a store keeps its own otherwise)."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Rows embedded together.")] = 4096,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Threads = None,
    min_length: Annotated[int, typer.Option(min=0, help="Leave out shorter sequences of a FASTA.")] = 1000,
    ids: Ids = None,
    force: Force = False,
) -> None:
    """Embed every sequence: the mean of its latent distribution."""
    from kinmer.embedding import embed as embed_source

    written = embed_source(
        source if str(source) != "-" else "-",
        encoder,
        output=output,
        ids=ids,
        min_length=min_length,
        batch=batch,
        device=device,
        threads=threads,
        force=force,
    )
    note(f"embeddings written to {written if isinstance(written, Path) else output or source}")


def summary(
    encoder: Annotated[
        Path | None, typer.Argument(help="An encoder's folder (default: the reference network).")
    ] = None,
    latent: Annotated[int, typer.Option(min=1, help="Latent dimensions.")] = 256,
    max_k: Annotated[int, typer.Option(min=1, max=8, help="Largest k.")] = 6,
) -> None:
    """Print the layers of a network and their parameters."""
    from kinmer.layout import kmer_layout
    from kinmer.networks import Network, Vae
    from kinmer.networks import summary as summarise

    network: Network = Vae(width=kmer_layout(max_k).width, latent=latent)
    if encoder is not None:
        from kinmer.encoder import Encoder as StoredEncoder

        network = StoredEncoder.load(encoder).network
    typer.echo(summarise(network))
