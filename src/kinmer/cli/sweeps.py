"""The command that compares training settings: sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kinmer.cli.options import Force, Ids, Threads, note, whole_numbers
from kinmer.cli.output import say

__all__ = ["register"]

SHOWN = 20


def register(app: typer.Typer) -> None:
    """Add this file's command to `app`."""
    app.command("sweep")(sweep)


def _fasta(help: str, *names: str, **more: Any) -> Any:  # noqa: A002
    """An option for FASTA files alone."""
    return typer.Option(*names, help=help, rich_help_panel="Fragments of FASTA files", **more)


def sweep(
    source: Annotated[
        list[Path],
        typer.Argument(help="What kinmer train takes: a profile store, or FASTA files.", show_default=False),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder of the sweep.", show_default=False)],
    grid: Annotated[
        list[str] | None,
        typer.Option("--grid", metavar="NAME=A,B", help="Values of a training setting; repeatable."),
    ] = None,
    ranges: Annotated[
        list[str] | None,
        typer.Option("--range", metavar="NAME=LOW:HIGH[:log]", help="Range to draw from; repeatable."),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A setting of all trials; repeatable."),
    ] = None,
    preset: Annotated[str, typer.Option(help="What the settings are changes of.")] = "default",
    seeds: Annotated[str, typer.Option(help="Seeds that every setting is trained with.")] = "0",
    draws: Annotated[
        int | None, typer.Option("--random", min=1, help="Settings to draw (grid: the whole product).")
    ] = None,
    search: Annotated[
        Literal["grid", "random", "tpe"] | None,
        typer.Option(help="How settings are found (default: grid, with --random random)."),
    ] = None,
    search_seed: Annotated[int, typer.Option(min=0, help="Seed of the draws.")] = 0,
    benchmark: Annotated[
        Path | None, typer.Option(help="Score by retrieval on it (default: by validation loss).")
    ] = None,
    fold: Annotated[
        int | None, typer.Option(min=0, help="Only queries of this fold of the benchmark.")
    ] = None,
    leave_out: Annotated[
        str | None, typer.Option("--leave-out", metavar="F,G", help="Folds that are not trained on either.")
    ] = None,
    metric: Annotated[Literal["cosine", "l2"], typer.Option(help="Distance of the retrieval.")] = "cosine",
    labels: Annotated[Path | None, _fasta("TSV with sequence_id, genome_id, species, …", "--labels")] = None,
    max_k: Annotated[int, _fasta("Largest k.", "--max-k", min=1, max=8)] = 6,
    coding: Annotated[bool, _fasta("Reading frames beside k-mers.", "--coding/--no-coding")] = True,
    genetic_code: Annotated[
        Literal["auto", "11", "4"], _fasta("By which reading frames are found.", "--genetic-code")
    ] = "auto",
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Trials at a time.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Threads = None,
    memory: Annotated[float | None, typer.Option(help="GB that profiles may take, of all jobs.")] = None,
    ids: Ids = None,
    force: Force = False,
) -> None:
    """Train with a grid of settings, or drawn ones, and seeds; compare them; called again, it goes on."""
    from kinmer.layout import GeneticCode, profile_layout
    from kinmer.sweeps import sweep as run_sweep
    from kinmer.training.settings import fasta_files

    files = fasta_files(source)
    codes: dict[str, GeneticCode] = {"auto": "auto", "11": 11, "4": 4}
    layout = profile_layout(max_k, coding=coding, genetic_code=codes[genetic_code])
    report = run_sweep(
        source[0] if files is None else files,
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
        labels=labels,
        layout=None if files is None else layout,
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


def _pairs(given: list[str] | None, option: str) -> dict[str, Any]:
    """NAME=VALUE of a repeatable option."""
    from kinmer.errors import UsageError

    found: dict[str, Any] = {}
    for one in given or ():
        name, equals, value = one.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option} takes NAME=VALUE, not {one!r}")
        if name in found:
            raise UsageError(f"{option} is given twice for {name}", check="part its values by commas")
        found[name] = value
    return found
