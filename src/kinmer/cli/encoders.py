"""Commands that make and use encoders: fit, train, sweep, embed, model summary."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kinmer.cli.options import (
    ADVANCED,
    Command,
    Force,
    Group,
    Ids,
    Seed,
    Threads,
    command,
    note,
    option,
    parse_code,
    parse_length,
    shares,
    whole_numbers,
)
from kinmer.cli.output import say

Code = Literal["auto", "11", "4"]
FASTA = "Fragments of FASTA files"
# Settings shown of a sweep.
SHOWN = 20
# Options that `train` had for its settings; they are still read.
OLD_OPTIONS = {
    "--warmup": "warmup_epochs",
    "--patience": "stop_patience",
    "--clr": "clr.scope",
    "--pseudocount": "clr.pseudocount",
    "--pseudocount-value": "clr.value",
    **{
        f"--{name.replace('_', '-')}": name
        for name in (
            *("hidden", "beta", "validation", "precision", "embedding_precision"),
            *("compile", "weight_decay"),
        )
    },
}
OLD_FLAG = "--compile"


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    panel = "Encoders"
    command(app, "fit", "kinmer fit *.fna.gz --labels labels.tsv -o encoder", panel)(fit)
    command(app, "train", "kinmer train contigs.zarr -o encoder --latent 256", panel, cls=_Train)(train)
    command(app, "sweep", "kinmer sweep contigs.zarr -o sweep --grid latent=256,384", panel)(sweep)
    model = typer.Typer(cls=Group, help="Look at a network's layers.", no_args_is_help=True)
    command(model, "summary", "kinmer model summary encoder")(summary)
    app.add_typer(model, name="model", rich_help_panel=panel)


def _setting(help: str, *names: str) -> Any:  # noqa: A002
    return option(f"{help} (default: the preset's).", *names)


def _fasta(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    return option(help, *names, rich_help_panel=FASTA, **more)


Output = Annotated[Path, option("Folder of the encoder to write.", "--output", "-o")]
Encoder = Annotated[
    Path | None,
    typer.Option("--encoder", "-e", help="Folder or name of the encoder (default: kinmer's own)."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Memory = Annotated[
    float | None,
    option("GB that profiles may take; more is streamed.", "--memory", rich_help_panel=ADVANCED),
]
Labels = Annotated[
    Path | None,
    _fasta(
        "TSV with sequence_id and any of genome_id, species, ani95_cluster, genus, domain; without it every "
        "sequence is a genome of its own.",
        "--labels",
    ),
]
Folds = Annotated[Path | None, _fasta("TSV with sequence_id and fold.", "--folds")]
Fold = Annotated[str | None, _fasta("The fold whose sequences are left out.", "--fold")]
MaxK = Annotated[
    int, _fasta("Largest k; all smaller ones come with it.", "--max-k", min=1, max=8, show_default=True)
]
Coding = Annotated[bool, _fasta("Reading frames beside k-mers.", "--coding/--no-coding", show_default=True)]
GeneticCode = Annotated[
    Code, _fasta("By which reading frames are recognized.", "--genetic-code", show_default=True)
]
Shares = Annotated[
    list[str] | None,
    typer.Option(
        metavar="CLASS=SHARE",
        help="Share of the weight that plasmids (virus, eukaryote, cell) have; repeatable, and the classes"
        " not named divide the rest. Default: plasmid=0.15, virus=0.2, eukaryote=0.05.",
    ),
]
Fixed = Annotated[
    list[str] | None,
    option("Any training setting (see train --list-settings); repeatable.", "--set", metavar="NAME=VALUE"),
]


def _list_settings(wanted: bool) -> None:
    if wanted:
        from kinmer.training.settings import settings_table

        say(settings_table())
        raise typer.Exit()


TrainingSource = Annotated[
    Path, typer.Argument(help="Profile store (*.zarr) or k-mer table (*.npy).", show_default=False)
]
Preset = Annotated[
    str, typer.Option(help="default (a VAE) or original (the same with joint CLR, 1e-6, 500 epochs).")
]
ListSettings = Annotated[
    bool,
    option("Print all settings and end.", "--list-settings", is_eager=True, callback=_list_settings),
]
FitSource = Annotated[
    list[Path] | None,
    typer.Argument(help="FASTA files, or a store for pca (raw and 4-mer need neither).", show_default=False),
]
Method = Annotated[
    Literal["raw", "4-mer", "pca", "discriminant"], typer.Option(help="How the encoder is made.")
]
Power = Annotated[float, typer.Option(min=0, max=1, help="Of the whitening of what varies within a genome.")]
Anchor = Annotated[
    float, typer.Option(min=0, help="Constant last coordinate, in lengths of genomes' vectors; 0: none.")
]
OriginalClr = Annotated[
    bool, typer.Option("--original-clr", help="Joint CLR with 1e-6, as the original pipeline.")
]
Grid = Annotated[
    list[str] | None, option("Values of a training setting; repeatable.", "--grid", metavar="NAME=A,B")
]
Ranges = Annotated[
    list[str] | None,
    option("Range to draw from; repeatable.", "--range", metavar="NAME=LOW:HIGH[:log]"),
]
Draws = Annotated[
    int | None, typer.Option("--random", min=1, help="Settings to draw (grid: the whole product).")
]
SearchKind = Annotated[
    Literal["grid", "random", "tpe"] | None,
    typer.Option(help="How settings are chosen (default: grid, with --random random)."),
]
Benchmark = Annotated[
    Path | None, typer.Option(help="Score by retrieval on it (default: by validation loss).")
]
ScoreFold = Annotated[int | None, typer.Option(min=0, help="Only queries of this fold of the benchmark.")]
LeaveOut = Annotated[
    str | None, typer.Option("--leave-out", metavar="F,G", help="Folds that are not trained on either.")
]


class _Train(Command):
    """`train`, which also takes its former options."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _without_old_options(args))


def _without_old_options(args: list[str]) -> list[str]:
    """Former options of settings, written as ``--set``, with a warning."""
    left, new = list(args), list[str]()
    while left:
        argument = left.pop(0)
        option, equals, value = argument.partition("=")
        flag = option.replace("--no-", "--", 1)
        name = OLD_OPTIONS.get(flag if flag == OLD_FLAG else option)
        if name is None or (flag != OLD_FLAG and not equals and not left):
            new.append(argument)
            continue
        if flag == OLD_FLAG:
            value = str(flag == option).lower()
        elif not equals:
            value = left.pop(0)
        note(f"warning: {option} is an old name · write --set {name}={value}")
        new += ["--set", f"{name}={value}"]
    return new


def train(
    source: TrainingSource,
    output: Output,
    preset: Preset = "default",
    epochs: Annotated[int | None, _setting("Epochs at most", "--epochs")] = None,
    batch: Annotated[int | None, _setting("Rows of a step", "--batch")] = None,
    latent: Annotated[int | None, _setting("Dimensions of the embedding", "--latent")] = None,
    rate: Annotated[float | None, _setting("Learning rate of Adam", "--learning-rate")] = None,
    seed: Annotated[int | None, _setting("Seed of everything random", "--seed")] = None,
    fixed: Fixed = None,
    list_settings: ListSettings = False,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    memory: Memory = None,
    ids: Ids = None,
) -> None:
    """Train a network on profiles (needs PyTorch). Resumes if run again."""
    from kinmer.errors import UsageError
    from kinmer.training import train as train_encoder
    from kinmer.training import train_settings

    own = {"epochs": epochs, "batch": batch, "latent": latent, "learning_rate": rate, "seed": seed}
    changes = {name: value for name, value in own.items() if value is not None}
    more = _pairs(fixed, "--set")
    if twice := sorted(changes.keys() & more.keys()):
        raise UsageError(f"the training setting {twice[0]} is given twice")
    train_encoder(
        source,
        output,
        settings=train_settings(preset, **changes, **more),
        ids=ids,
        device=device,
        threads=threads,
        memory=None if memory is None else int(memory * 1e9),
        force=force,
        log=note,
    )
    note(f"encoder written to {output}")


def _pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE of a repeatable option."""
    from kinmer.errors import UsageError

    pairs: dict[str, Any] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} takes NAME=VALUE, not {one!r}")
        if name in pairs:
            raise UsageError(f"{option} is given twice for {name}", check="separate its values by commas")
        pairs[name] = value
    return pairs


def fit(
    output: Output,
    source: FitSource = None,
    method: Method = "discriminant",
    labels: Labels = None,
    folds: Folds = None,
    fold: Fold = None,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of pca and discriminant.")] = 512,
    max_k: MaxK = 6,
    coding: Coding = True,
    genetic_code: GeneticCode = "auto",
    per_group: Annotated[int, typer.Option(min=1, help="Fragments of every genome.")] = 100,
    length: Annotated[str, typer.Option(help="Bases of a fragment: low-high, log-uniform.")] = "1000-100000",
    share: Shares = None,
    power: Power = 0.8,
    anchor: Anchor = 1.0,
    original: OriginalClr = False,
    ids: Ids = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Make an encoder from labeled genomes in minutes, without training."""
    from kinmer.clr import REFERENCE_CLR
    from kinmer.training.fit import SHARES, FitSettings, fasta_files
    from kinmer.training.fit import fit as fit_encoder
    from kinmer.training.settings import BLOCK_CLR

    bases = parse_length(length)
    given = _pairs(share, "--share").items() or SHARES.items()
    settings = FitSettings(
        method=method,
        dim=dim,
        max_k=max_k,
        coding=coding,
        genetic_code=parse_code(genetic_code),
        per_group=per_group,
        lengths=(bases, bases) if isinstance(bases, int) else bases,
        shares={name: sum(shares(str(one), "--share")) for name, one in given},
        power=power,
        anchor=anchor,
        clr=REFERENCE_CLR if original else BLOCK_CLR,
        seed=seed,
    )
    files = fasta_files(source) if source else None
    fit_encoder(
        source[0] if source and files is None else files,
        output,
        settings=settings,
        labels=labels,
        folds=folds,
        fold=fold,
        ids=ids,
        threads=threads,
        force=force,
        log=note,
    )
    note(f"encoder written to {output}")


def sweep(
    source: TrainingSource,
    output: Annotated[Path, option("Folder of the sweep.", "--output", "-o")],
    grid: Grid = None,
    ranges: Ranges = None,
    fixed: Fixed = None,
    preset: Annotated[str, typer.Option(help="What the settings are changes of.")] = "default",
    seeds: Annotated[str, typer.Option(help="Seeds that every setting is trained with.")] = "0",
    draws: Draws = None,
    search: SearchKind = None,
    search_seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    benchmark: Benchmark = None,
    fold: ScoreFold = None,
    leave_out: LeaveOut = None,
    metric: Annotated[Literal["cosine", "l2"], typer.Option(help="Distance of the retrieval.")] = "cosine",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trials at a time.")] = 1,
    device: Device = "auto",
    threads: Threads = None,
    force: Force = False,
    memory: Memory = None,
    ids: Ids = None,
) -> None:
    """Train with many settings and seeds, and compare them. Resumes if run again."""
    from kinmer.sweeps import sweep as run_sweep

    report = run_sweep(
        source,
        output,
        grid=_pairs(grid, "--grid"),
        ranges=_pairs(ranges, "--range"),
        fixed=_pairs(fixed, "--set"),
        preset=preset,
        seeds=whole_numbers(seeds, "--seeds"),
        draws=draws,
        search=search,
        search_seed=search_seed,
        benchmark=benchmark,
        fold=fold,
        leave_out=() if leave_out is None else whole_numbers(leave_out, "--leave-out"),
        metric=metric,
        jobs=jobs,
        ids=ids,
        device=device,
        threads=threads,
        memory=None if memory is None else int(memory * 1e9),
        force=force,
        log=note,
    )
    say(report.table(SHOWN))
    note(f"tables and pictures: {output}")


def summary(
    encoder: Annotated[
        Path | None, typer.Argument(help="An encoder's folder (default: the original network).")
    ] = None,
    latent: Annotated[int, typer.Option(min=1, help="Latent dimensions.")] = 256,
    max_k: Annotated[int, typer.Option(min=1, max=8, help="Largest k.")] = 6,
) -> None:
    """Print the layers of a network and their parameters."""
    from kinmer.layout import kmer_layout
    from kinmer.linear import EncoderNetwork
    from kinmer.linear import summary as layers_of

    network: EncoderNetwork
    if encoder is not None:
        from kinmer.encoder import Encoder as StoredEncoder

        network = StoredEncoder.load(encoder).network
    else:
        from kinmer.networks import Vae

        network = Vae(width=kmer_layout(max_k).width, latent=latent)
    say(layers_of(network))
