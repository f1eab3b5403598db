"""Commands that measure: evaluate answers, evaluate retrieval, evaluate clusters, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kinmer.cli.options import (
    Force,
    Group,
    Ids,
    MetadataTable,
    Metric,
    Seed,
    TaxdumpFolder,
    Threads,
    advanced,
    argument,
    command,
    note,
    option,
    shares,
    stem,
    whole_numbers,
)
from kinmer.cli.output import say

evaluate = typer.Typer(
    name="evaluate",
    cls=Group,
    help="Measure answers, embeddings or clusters against labels.",
    no_args_is_help=True,
)


def register(app: typer.Typer) -> None:
    """Add this file's commands to `app`."""
    command(app, "verify", "kinmer verify contigs.zarr -o verify", "Encoders")(verify)
    app.add_typer(evaluate, rich_help_panel="Encoders")


@evaluate.callback()
def options() -> None:
    """Measure answers, embeddings or clusters against labels."""


@command(evaluate, "answers", "kinmer evaluate answers genomes/ --metadata taxonomy.tsv -o answers")
def answers(
    source: Annotated[Path, argument("Folder of genomes, manifest, or index that keeps its sequences.")],
    output: Annotated[Path, option("Stem of .tsv and .json to write.", "--output", "-o")],
    metadata: MetadataTable = None,
    taxdump: TaxdumpFolder = None,
    encoder: Annotated[
        str | None, option("Encoder (default: kin-2, or the index's).", "--encoder", "-e")
    ] = None,
    draws: Annotated[int, option("Random draws.", "--draws", min=1, show_default=True)] = 2,
    lengths: Annotated[
        str, option("Lengths of the queries.", "--lengths", show_default=True)
    ] = "1000,2000,5000,10000,50000",
    completeness: Annotated[
        str, option("Shares of each genome that references hold.", "--completeness", show_default=True)
    ] = "1.0,0.6",
    per_genome: Annotated[
        int, option("Queries of a length, from each genome.", "--per-genome", min=1, show_default=True)
    ] = 6,
    per_query: Annotated[Path | None, option("Also write a table with each query.", "--answers")] = None,
    cluster_column: Annotated[
        str,
        advanced("Column of genomes that are one species.", "--cluster-column", show_default=True),
    ] = "ani95_cluster",
    groups: Annotated[
        str, advanced("Genomes to use: cells, viruses, plasmids.", "--groups", show_default=True)
    ] = "cells,viruses,plasmids",
    bootstrap: Annotated[
        int, advanced("Resamples of the species for the intervals.", "--bootstrap", min=2, show_default=True)
    ] = 1000,
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """How good are a reference's answers? Holds genomes out, asks for them, and counts what is right."""
    from kinmer.evaluate.answer_scores import AnswersReport
    from kinmer.evaluate.answers import evaluate_answers
    from kinmer.folders import check_output

    for path in AnswersReport.outputs(stem(output), answers=per_query):
        check_output(path, force=force)
    report = evaluate_answers(
        source,
        metadata=metadata,
        taxdump=taxdump,
        cluster_column=cluster_column,
        encoder=encoder,
        bootstrap=bootstrap,
        threads=threads,
        log=note,
        draws=draws,
        lengths=whole_numbers(lengths, "--lengths"),
        completeness=shares(completeness, "--completeness"),
        per_genome=per_genome,
        groups=groups.split(","),
        seed=seed,
    )
    say(report.table())
    for path in report.write(output, answers=per_query):
        note(f"written: {path}")


@command(evaluate, "retrieval", "kinmer evaluate retrieval bench -e kin-2 -e raw -o result")
def retrieval(
    benchmarks: Annotated[list[Path] | None, argument("Benchmarks, by kinmer fragment --benchmark.")] = None,
    encoders: Annotated[
        list[str] | None,
        option("Encoder, one for each fold ('DIR/fold{fold}'), or raw. Repeatable.", "--encoder", "-e"),
    ] = None,
    baseline: Annotated[str | None, option("Compare the others with this encoder.", "--baseline")] = None,
    database: Annotated[
        Path | None, option("Instead of a benchmark: .npy vectors, store or FASTA.", "--database")
    ] = None,
    queries: Annotated[
        Path | None, option("Queries to the database (default: each entry, among the others).", "--queries")
    ] = None,
    database_labels: Annotated[
        Path | None, option("Table (TSV): id and any ranks.", "--database-labels")
    ] = None,
    query_labels: Annotated[Path | None, option("Table (TSV): id and any ranks.", "--query-labels")] = None,
    metric: Annotated[Metric, option("Distance.", "--metric", show_default=True)] = "cosine",
    output: Annotated[
        Path | None, option("Stem of .tsv, .json, .png and .svg to write.", "--output", "-o")
    ] = None,
    bootstrap: Annotated[
        int, advanced("Resamples of the genomes for the intervals.", "--bootstrap", min=2, show_default=True)
    ] = 1000,
    device: Annotated[str, advanced("auto, cpu, cuda, …", "--device", show_default=True)] = "auto",
    seed: Seed = 0,
    threads: Threads = None,
    force: Force = False,
) -> None:
    """How often the nearest entries have the right species, genus and molecule, with intervals."""
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


@command(evaluate, "clusters", "kinmer evaluate clusters clusters.tsv --labels truth.tsv")
def clusters(
    source: Annotated[Path, argument("Table (TSV) with id and cluster, or profile store.")],
    labels: Annotated[Path | None, option("Table (TSV): id and any ranks.", "--labels")] = None,
    column: Annotated[str, option("Column of the clusters.", "--column", show_default=True)] = "cluster",
    ranks: Annotated[list[str] | None, option("Compare with this column only. Repeatable.", "--rank")] = None,
    output: Annotated[Path | None, option("Stem of .tsv and .json to write.", "--output", "-o")] = None,
    force: Force = False,
) -> None:
    """How clusters, of any program, agree with labels."""
    from kinmer.clusters import ClusterReport
    from kinmer.clusters import evaluate_clusters as evaluate_them
    from kinmer.clusters.agreement import RANKS
    from kinmer.folders import check_output

    for path in ClusterReport.outputs(output) if output is not None else ():
        check_output(path, force=force)
    report = evaluate_them(source, labels=labels, column=column, ranks=ranks or RANKS)
    say(report.text())
    if output is not None:
        for path in report.write(output):
            note(f"written: {path}")


def verify(
    source: Annotated[Path, argument("Embedded profile store, or k-mer table with --encoder.")],
    encoder: Annotated[
        Path | None, option("Use its transform, and its validation rows as queries.", "--encoder", "-e")
    ] = None,
    output: Annotated[
        Path | None, option("Stem of .json, .tsv and pictures to write.", "--output", "-o")
    ] = None,
    sample: Annotated[
        int, option("Sequences to search for neighbors.", "--sample", min=2, show_default=True)
    ] = 10_000,
    queries: Annotated[int, option("Queries.", "--queries", min=1, show_default=True)] = 1000,
    k: Annotated[int, option("Neighbors of each query.", "-k", min=1, show_default=True)] = 50,
    bootstrap: Annotated[
        int, advanced("Resamples of the queries for the intervals.", "--bootstrap", min=2, show_default=True)
    ] = 1000,
    original: Annotated[bool, option("Joint CLR with 1e-6, whatever the encoder.", "--original-clr")] = False,
    ids: Ids = None,
    seed: Seed = 0,
    force: Force = False,
) -> None:
    """Compare latent distance with k-mer distance: correlations, MSE by rank, random pairs."""
    from kinmer.clr import REFERENCE_CLR
    from kinmer.evaluate.locality import LocalityReport
    from kinmer.evaluate.locality import verify as hold
    from kinmer.folders import check_output

    if output is not None:
        stem(output)
        for path in LocalityReport.outputs(output):
            check_output(path, force=force)
    report = hold(
        source,
        encoder=encoder,
        clr=REFERENCE_CLR if original else None,
        ids=ids,
        sample=sample,
        queries=queries,
        k=k,
        bootstrap=bootstrap,
        seed=seed,
    )
    say(report.table())
    if output is not None:
        for path in report.write(output):
            note(f"written: {path}")
