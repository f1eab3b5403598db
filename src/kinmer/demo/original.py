"""The original pipeline on a simulated community: count, train its network, embed, index, search, verify.

One strain of every species is cut into the database, another one into queries of five lengths.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

import kinmer
from kinmer.demo import DemoReport, Log, Steps, read_table, write_table
from kinmer.evaluate.retrieval import agreement, precision_and_recall
from kinmer.files import remove, write_bytes, write_json
from kinmer.fragments import fragment
from kinmer.inputs import read_json
from kinmer.simulate import Community
from kinmer.stores import exact_search

if TYPE_CHECKING:
    from kinmer.training import TrainSettings

STEPS = ("simulate", "fragment", "count", "train", "embed", "index", "search", "verify", "report")
LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)
QUERIES_PER_SEQUENCE = 4
METHODS = ("embedding", "raw CLR")
NOTE = """\
The network is behind the raw profiles on short queries: it learns to reconstruct profiles, not to tell
species apart, and has seen 8,000 fragments for a minute. kinmer's own encoder is fitted to tell genomes
apart: `kinmer demo` shows it."""


def run_original_demo(
    folder: str | Path = "demo-original",
    *,
    seed: int = 0,
    threads: int | None = None,
    log: Log | None = None,
    community: Community | None = None,
    fragments: int = 8_000,
    settings: TrainSettings | None = None,
) -> OriginalReport:
    """Run the original pipeline on a simulated community: count, train its network, embed, index, search.

    Parameters
    ----------
    folder, seed, threads, log : as in `run_demo`; None is one thread for the training.
    community, fragments, settings : of the simulation, the database and the training, instead of the demo's.

    Raises
    ------
    UsageError
        Where `folder` holds anything but an earlier demo, or torch is not installed.
    """
    from kinmer.training import TrainSettings

    # Long plasmids and phages, so that all of the queries' lengths can be cut from them.
    whole = community or Community(chromosome=1_200_000, plasmid=60_000, phage=60_000, seed=seed)
    few = TrainSettings(epochs=40, warmup_epochs=5, batch=256, learning_rate=1e-3, seed=seed)
    return _Original(Path(folder), STEPS, seed, threads, log).run(whole, fragments, settings or few)


@dataclass(frozen=True)
class OriginalReport(DemoReport):
    """The results of `run_original_demo`."""

    def table(self) -> str:
        """The figures as aligned text."""
        lines = [f"{'':<10}{'':>9}" + "".join(f"{name:^46}" for name in METHODS)]
        lines.append(f"{'query':<10}{'queries':>9}" + f"{'species':^23}{'genus':^23}" * len(METHODS))
        for row in self.data["retrieval"]:
            cells = (_cell(row[method][rank]) for method in METHODS for rank in ("species", "genus"))
            lines.append(f"{row['length']:<10}{row['queries']:>9}" + "".join(f"{cell:^23}" for cell in cells))
        lines += ["", f"{'molecule of the nearest':<26}{'queries':>8}{'precision':>11}{'recall':>8}"]
        for name, (precision, recall, number) in self.data["molecules"].items():
            lines.append(f"{name:<26}{number:>8}{_number(precision):>11}{_number(recall):>8}")
        lines += ["", NOTE]
        return "\n".join(line.rstrip() for line in lines)


class _Original(Steps):
    """The original pipeline, one strain of every species against another."""

    def run(self, community: Community, fragments: int, settings: TrainSettings) -> OriginalReport:
        cut = {"database": fragments, "queries": QUERIES_PER_SEQUENCE, "seed": self.seed}
        self.step(["community"], lambda: self.simulate(community), asdict(community))
        self.step(["database.fna", "queries.fna"], lambda: self._fragment(fragments), cut)
        self.step(["database.zarr", "queries.zarr"], self._count)
        self.step(["encoder"], lambda: self._train(settings), settings.to_dict())
        self.step([], self._embed)
        self.step(["kin.db"], self._index)
        self.step(["hits.tsv"], self._search)
        self.step(["verify.tsv", "verify.json", "pictures"], self._verify)
        self.step(["report.json"], self._report)
        self.log(f"FASTA, store, encoder, index, hits and pictures: {self.folder}")
        return OriginalReport(self.folder, read_json(self.folder / "report.json"))

    def _fragment(self, number: int) -> str:
        labels = self.folder / "community" / "taxonomy.tsv"
        database = fragment(
            self.genomes(1),
            self.folder / "database.fna",
            length=(1_000, 100_000),
            number=number,
            seed=self.seed,
            labels=labels,
            force=True,
        )
        parts = [self.folder / f"queries-{length}.fna" for length in LENGTHS]
        for length, part in zip(LENGTHS, parts, strict=True):
            fragment(
                self.genomes(2),
                part,
                length=length,
                per_sequence=QUERIES_PER_SEQUENCE,
                seed=self.seed + length,
                labels=labels,
                force=True,
            )
        tables = [part.with_name(f"{part.name}.tsv") for part in parts]
        queries = pd.concat(map(read_table, tables))
        write_table(queries, self.folder / "queries.fna.tsv")
        write_bytes(self.folder / "queries.fna", b"".join(part.read_bytes() for part in parts))
        for path in (*parts, *tables):
            remove(path)
        cut = f"{database.fragments} fragments of 1-100 kb as database"
        return f"{cut}, {len(queries)} queries of another strain"

    def _count(self) -> str:
        for name in ("database", "queries"):
            fasta = self.folder / f"{name}.fna"
            kinmer.count([fasta], fasta.with_suffix(".zarr"), threads=self.threads, force=True)
        store = kinmer.ProfileStore.open(self.folder / "database.zarr")
        return f"{len(store)} profiles of {store.layout.width} k-mers"

    def _train(self, settings: TrainSettings) -> str:
        encoder = kinmer.train(
            self.folder / "database.zarr",
            self.folder / "encoder",
            settings=settings,
            device="cpu",
            # Such small steps gain little from a second thread, and lose much where its core is taken.
            threads=self.threads or 1,
            log=lambda line: self.log(f"    {line}"),
        )
        results = encoder.training["results"]
        return f"{results['epochs']} epochs, validation MSE {results['mse']:.3f}"

    def _embed(self) -> str:
        kinmer.embed(self.folder / "database.zarr", self.folder / "encoder", force=True)
        store = kinmer.ProfileStore.open(self.folder / "database.zarr")
        return f"{len(store)} embeddings of {store.read_obsm('X_kinmer', 0, 1).shape[1]} dimensions"

    def _index(self) -> str:
        index = kinmer.build_index(
            self.folder / "database.zarr",
            self.folder / "kin.db",
            encoder=self.folder / "encoder",
            metadata=self.folder / "database.fna.tsv",
            force=True,
        )
        return f"{len(index)} entries, {index.engine}, {index.metric}"

    def _search(self) -> str:
        found = kinmer.search(self.folder / "queries.fna", self.folder / "kin.db", k=10, n_jobs=self.threads)
        found.write(self.folder / "hits.tsv", force=True)
        return f"{len(read_table(self.folder / 'queries.fna.tsv'))} queries, 10 nearest each"

    def _verify(self) -> str:
        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        report = kinmer.verify(self.folder / "database.zarr", encoder=self.folder / "encoder", seed=self.seed)
        report.save_pictures(pictures / "verify")
        report.write_tsv(self.folder / "verify.tsv")
        write_json(self.folder / "verify.json", report.to_dict())
        by_metric = ", ".join(f"{one.metric} ρ {_number(one.spearman.value)}" for one in report.metrics)
        return f"latent distance against k-mer MSE: {by_metric}"

    def _report(self) -> str:
        queries = read_table(self.folder / "queries.fna.tsv")
        labels = read_table(self.folder / "database.fna.tsv").set_index("id")
        hits = read_table(self.folder / "hits.tsv")
        first = hits[hits["rank"] == "1"].set_index("query_id").hit_id
        found = {
            "embedding": labels.loc[first[queries.id]],
            "raw CLR": labels.loc[self._nearest_raw()[queries.id]],
        }
        retrieval = []
        for length in LENGTHS:
            of = (queries.length == str(length)).to_numpy()
            row: dict[str, Any] = {"length": f"{length // 1000} kb", "queries": int(of.sum())}
            for method in METHODS:
                row[method] = {}
                for rank in ("species", "genus"):
                    columns = (queries[rank], found[method][rank], queries.genome_id)
                    share, _ = agreement(*(column[of].tolist() for column in columns), seed=self.seed)
                    row[method][rank] = asdict(share)
            retrieval.append(row)
        self._pictures(retrieval, labels)
        data = {
            "seed": self.seed,
            "retrieval": retrieval,
            "molecules": precision_and_recall(
                queries.molecule.tolist(), found["embedding"].molecule.tolist()
            ),
            "verify": read_json(self.folder / "verify.json"),
        }
        write_json(self.folder / "report.json", data)
        return "table and pictures"

    def _nearest_raw(self) -> pd.Series:
        """Id of the nearest database fragment of every query, in CLR space by cosine: what to beat."""
        base, asked = (
            kinmer.ProfileStore.open(self.folder / f"{name}.zarr") for name in ("database", "queries")
        )
        theirs, mine = (np.asarray(kinmer.Clr()(one.read(0, len(one)), one.layout)) for one in (base, asked))
        rows, _ = exact_search(theirs, None, mine, 1, "cosine")
        return pd.Series(base.ids[rows[:, 0]], index=asked.ids)

    def _pictures(self, retrieval: list[dict[str, Any]], labels: pd.DataFrame) -> None:
        from sklearn.decomposition import PCA

        from kinmer import plots

        folder = self.folder / "pictures"
        series = {}
        for method in METHODS:
            shares = pd.DataFrame([row[method]["species"] for row in retrieval], dtype=float)
            series[method] = (shares["value"], shares["low"], shares["high"])
        plots.save(plots.retrieval_bars([row["length"] for row in retrieval], series), folder / "species")
        store = kinmer.ProfileStore.open(self.folder / "database.zarr")
        plots.save(plots.lengths_and_gc(store.obs["length"], store.obs["gc"]), folder / "database")
        pca = PCA(2, svd_solver="full")
        points = pca.fit_transform(np.asarray(store.read_obsm("X_kinmer"), np.float64))
        panels = {name: labels[name].loc[list(store.ids)].tolist() for name in ("phylum", "molecule")}
        axes = [
            f"PC{at + 1} of the embeddings ({share:.0%})"
            for at, share in enumerate(pca.explained_variance_ratio_)
        ]
        figure = plots.scatter_by_category(points, panels, xlabel=axes[0], ylabel=axes[1])
        plots.save(figure, folder / "embeddings")


def _cell(share: dict[str, float | None]) -> str:
    value, low, high = share["value"], share["low"], share["high"]
    if value is None or low is None or high is None:
        return _number(value)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None) -> str:
    return "." if value is None else f"{value:.2f}"
