"""The command that makes encoders in closed form: fit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.options import Force, Ids, Seed, Threads, note, parse_length

__all__ = ["register"]

Method = Literal["raw", "4-mer", "pca", "discriminant"]


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("fit")(fit)


def fit(
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the encoder to write.")],
    source: Annotated[
        list[Path] | None,
        typer.Argument(
            help="FASTA files, or a store for pca (raw and 4-mer need neither).", show_default=False
        ),
    ] = None,
    method: Annotated[Method, typer.Option(help="How the encoder is made.")] = "discriminant",
    labels: Annotated[
        Path | None, typer.Option(help="TSV: sequence_id, genome_id and any ranks.", show_default=False)
    ] = None,
    folds: Annotated[
        Path | None, typer.Option(help="Table of folds, of a benchmark.", show_default=False)
    ] = None,
    fold: Annotated[str | None, typer.Option(help="The fold to leave out.", show_default=False)] = None,
    dim: Annotated[int, typer.Option(min=1, help="Dimensions of pca and discriminant.")] = 384,
    max_k: Annotated[int, typer.Option(min=1, max=8, help="Largest k; all smaller ones come with it.")] = 6,
    coding: Annotated[
        bool, typer.Option("--coding/--no-coding", help="Reading frames beside k-mers.")
    ] = True,
    genetic_code: Annotated[
        Literal["auto", "11", "4"], typer.Option(help="By which reading frames are found.")
    ] = "auto",
    per_group: Annotated[int, typer.Option(min=1, help="Fragments of every genome.")] = 100,
    length: Annotated[str, typer.Option(help="Bases of a fragment: low-high, log-uniform.")] = "1000-100000",
    virus_share: Annotated[float, typer.Option(min=0, max=1, help="Viruses' share of the weight.")] = 0.2,
    power: Annotated[
        float, typer.Option(min=0, max=1, help="Of the whitening of what varies within a genome.")
    ] = 0.8,
    anchor: Annotated[
        float, typer.Option(min=0, help="Constant last coordinate, in lengths of genomes' vectors; 0: none.")
    ] = 1.0,
    reference: Annotated[
        bool, typer.Option("--reference-clr", help="Joint CLR with 1e-6, as the reference system's.")
    ] = False,
    ids: Ids = None,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """Make an encoder in closed form: raw profiles, principal components, discriminant directions."""
    from kinmer.clr import REFERENCE_CLR
    from kinmer.layout import GeneticCode
    from kinmer.training.fit import FitSettings
    from kinmer.training.fit import fit as fit_encoder
    from kinmer.training.settings import BLOCK_CLR

    codes: dict[str, GeneticCode] = {"auto": "auto", "11": 11, "4": 4}
    bases = parse_length(length)
    settings = FitSettings(
        method=method,
        dim=dim,
        max_k=max_k,
        coding=coding,
        genetic_code=codes[genetic_code],
        per_group=per_group,
        lengths=(bases, bases) if isinstance(bases, int) else bases,
        virus_share=virus_share,
        power=power,
        anchor=anchor,
        clr=REFERENCE_CLR if reference else BLOCK_CLR,
        seed=seed,
    )
    files: Path | list[str | Path] | None = list(source) if source else None
    if source and len(source) == 1 and (source[0].is_dir() or source[0].suffix == ".npy"):
        files = source[0]
    fit_encoder(
        files,
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
