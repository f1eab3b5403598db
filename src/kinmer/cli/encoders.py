"""Commands that make and use encoders: train, embed, model summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kinmer.cli.options import Force, Ids, Threads, note, parse_length, whole_numbers
from kinmer.cli.output import say

__all__ = ["register"]

Encoder = Annotated[
    Path | None,
    typer.Option("--encoder", "-e", help="Folder or name of the encoder (default: kinmer's own)."),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.command("train")(train)
    app.command("embed")(embed)
    model = typer.Typer(help="Look at networks and encoders.", no_args_is_help=True)
    model.command("summary")(summary)
    app.add_typer(model, name="model")


def _setting(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    return typer.Option(*names, help=f"{help} (default: the preset's).", show_default=False, **more)


def _fasta(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option for FASTA files alone."""
    return typer.Option(
        *names, help=help, rich_help_panel="Fragments of FASTA files", **{"show_default": False, **more}
    )


def _fasta_setting(help: str, *names: str) -> Any:  # noqa: A002
    return _fasta(f"{help} (default: the preset's).", *names)


def train(
    source: Annotated[
        list[Path],
        typer.Argument(
            help="Profile store (*.zarr) or k-mer table (*.npy); or FASTA files, to draw fragments of.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the encoder to write.")],
    preset: Annotated[
        str,
        typer.Option(
            help="default (a VAE), reference (the same with joint CLR, 1e-6, 500 epochs), or pairs (a linear "
            "encoder, from the discriminant solution on, trained on pairs of fragments)."
        ),
    ] = "default",
    objective: Annotated[
        Literal["vae", "pairs", "both"] | None,
        _setting("vae: reconstruct profiles; pairs: tell genomes apart, needs FASTA; both", "--objective"),
    ] = None,
    network: Annotated[
        Literal["vae", "linear", "residual"] | None,
        _setting("vae; linear; or residual, a linear map and --hidden layers on top", "--network"),
    ] = None,
    latent: Annotated[int | None, _setting("Latent dimensions", "--latent")] = None,
    hidden: Annotated[str | None, _setting("Hidden layers, such as 1024,512", "--hidden")] = None,
    beta: Annotated[float | None, _setting("Weight of the KL part", "--beta")] = None,
    warmup: Annotated[int | None, _setting("Epochs of the KL warm-up", "--warmup")] = None,
    epochs: Annotated[int | None, _setting("Epochs at most", "--epochs")] = None,
    batch: Annotated[int | None, _setting("Rows of a step; a pair is two", "--batch")] = None,
    rate: Annotated[float | None, _setting("Learning rate of Adam", "--learning-rate")] = None,
    validation: Annotated[
        float | None, _setting("Share of rows (of FASTA: of species) held out", "--validation")
    ] = None,
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
    labels: Annotated[
        Path | None,
        _fasta(
            "TSV with sequence_id and any of genome_id, species, ani95_cluster, genus, domain; without it "
            "the fragments of a sequence are its pairs.",
            "--labels",
        ),
    ] = None,
    folds: Annotated[Path | None, _fasta("TSV with sequence_id and fold.", "--folds")] = None,
    fold: Annotated[str | None, _fasta("The fold whose sequences are left out.", "--fold")] = None,
    max_k: Annotated[int, _fasta("Largest k.", "--max-k", min=1, max=8, show_default=True)] = 6,
    coding: Annotated[
        bool, _fasta("Reading frames beside k-mers.", "--coding/--no-coding", show_default=True)
    ] = True,
    genetic_code: Annotated[
        Literal["auto", "11", "4"],
        _fasta("By which reading frames are found.", "--genetic-code", show_default=True),
    ] = "auto",
    lengths: Annotated[
        str | None, _fasta_setting("Bases of a fragment: low-high, log-uniform", "--length")
    ] = None,
    epoch_pairs: Annotated[int | None, _fasta_setting("Pairs of an epoch", "--epoch-pairs")] = None,
    reuse: Annotated[
        int | None,
        _fasta_setting("Batches that a counted fragment is in; 1 counts everything afresh", "--reuse"),
    ] = None,
    hard: Annotated[
        float | None, _fasta_setting("Share of a batch's genomes that come by genus", "--hard")
    ] = None,
    virus_share: Annotated[
        float | None, _fasta_setting("Viruses' share of the pairs", "--virus-share")
    ] = None,
    temperature: Annotated[float | None, _fasta_setting("Of the loss of pairs", "--temperature")] = None,
    pair_weight: Annotated[
        float | None, _fasta_setting("Weight of that loss beside the VAE's", "--pair-weight")
    ] = None,
    kin_positives: Annotated[
        bool | None,
        _fasta_setting(
            "Genomes of one species are pairs too, or only no negatives", "--kin-positives/--no-kin-positives"
        ),
    ] = None,
    anchor: Annotated[
        float | None,
        _fasta_setting("Constant coordinate of linear and residual networks; 0: none", "--anchor"),
    ] = None,
    dropout: Annotated[float | None, _fasta_setting("Dropout of the residual network", "--dropout")] = None,
    weight_decay: Annotated[float | None, _fasta_setting("Decay of the weights", "--weight-decay")] = None,
    linear_rate: Annotated[
        float | None,
        _fasta_setting("Learning rate of a residual network's linear map, as a share", "--linear-rate"),
    ] = None,
    ids: Ids = None,
    force: Force = False,
) -> None:
    """Train an encoder on profiles or on pairs of fragments; killed and called again, it goes on."""
    from kinmer.layout import GeneticCode, profile_layout
    from kinmer.training import clr_settings, train_settings
    from kinmer.training import train as train_encoder
    from kinmer.training.settings import fasta_files

    given: dict[str, Any] = {
        "latent": latent,
        "hidden": None if hidden is None else whole_numbers(hidden, "--hidden"),
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
        "objective": objective,
        "network": network,
        "lengths": None if lengths is None else _lengths(lengths),
        "epoch_pairs": epoch_pairs,
        "reuse": reuse,
        "hard": hard,
        "virus_share": virus_share,
        "temperature": temperature,
        "pair_weight": pair_weight,
        "kin_positives": kin_positives,
        "anchor": anchor,
        "dropout": dropout,
        "weight_decay": weight_decay,
        "linear_rate": linear_rate,
    }
    changes = {name: setting for name, setting in given.items() if setting is not None}
    settings = train_settings(preset, **changes)
    settings = clr_settings(settings, scope=scope, pseudocount=pseudocount, value=value)
    files = fasta_files(source)
    layout = None
    if files is not None:
        codes: dict[str, GeneticCode] = {"auto": "auto", "11": 11, "4": 4}
        layout = profile_layout(max_k, coding=coding, genetic_code=codes[genetic_code])
    train_encoder(
        source[0] if files is None else files,
        output,
        settings=settings,
        labels=labels,
        folds=folds,
        fold=fold,
        layout=layout,
        ids=ids,
        device=device,
        threads=threads,
        memory=None if memory is None else int(memory * 1e9),
        force=force,
        log=note,
    )
    note(f"encoder written to {output}")


def _lengths(text: str) -> tuple[int, int]:
    bases = parse_length(text)
    return (bases, bases) if isinstance(bases, int) else bases


def embed(
    source: Annotated[Path, typer.Argument(help="Profile store, k-mer table or FASTA (- is stdin).")],
    encoder: Encoder = None,
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
    """Embed every sequence with an encoder: kinmer's own, or one that you trained."""
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
    say(summarise(network))
