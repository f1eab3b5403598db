"""Commands that tell what embeddings are worth: evaluate retrieval."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from kinmer.cli.options import Force, Seed, Threads, note, stem
from kinmer.cli.output import say

__all__ = ["register"]

Metric = Literal["cosine", "l2"]

evaluate = typer.Typer(
    name="evaluate", help="Tell what embeddings are worth, by labels.", no_args_is_help=True
)


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    app.add_typer(evaluate)


@evaluate.callback()
def options() -> None:
    """Tell what embeddings are worth, by labels."""


@evaluate.command("retrieval")
def retrieval(
    benchmarks: Annotated[
        list[Path] | None,
        typer.Argument(help="Benchmarks, by kinmer fragment --benchmark.", show_default=False),
    ] = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(
            "--encoder",
            "-e",
            help="Folder of an encoder, or of one for every fold ('DIR/fold{fold}'), or raw; repeatable.",
        ),
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Compare the others with this encoder.")] = None,
    database: Annotated[
        Path | None, typer.Option(help="Instead of a benchmark: .npy vectors, store or FASTA.")
    ] = None,
    queries: Annotated[
        Path | None, typer.Option(help="Asked of the database (default: every entry of the others).")
    ] = None,
    database_labels: Annotated[Path | None, typer.Option(help="TSV: id and any ranks.")] = None,
    query_labels: Annotated[Path | None, typer.Option(help="TSV: id and any ranks.")] = None,
    metric: Annotated[Metric, typer.Option(help="Distance.")] = "cosine",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Stem of .tsv, .json, .png and .svg to write.")
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=2, help="Resamples of the genomes for the intervals.")] = 1000,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, …")] = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """How often are the nearest entries of the right species, genus, molecule? With intervals, ceilings."""
    from kinmer.evaluate.retrieval import evaluate_retrieval
    from kinmer.evaluate.scores import RetrievalReport
    from kinmer.folders import check_output

    if output is not None:
        for path in RetrievalReport.outputs(stem(output), differences=baseline is not None):
            check_output(path, force=force)
    report = evaluate_retrieval(
        benchmarks or (),
        encoders=encoders or (),
        baseline=baseline,
        database=database,
        queries=queries,
        database_labels=database_labels,
        query_labels=query_labels,
        metric=metric,
        bootstrap=bootstrap,
        seed=seed,
        device=device,
        threads=threads,
    )
    say(report.table())
    if output is not None:
        for path in report.write(output):
            note(f"written: {path}")
