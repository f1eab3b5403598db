"""The whole way on a simulated community: from genomes to nearest relatives, and how often they are right.

One strain of every species is cut into the database, another one into queries of five lengths. Every step
leaves its outputs in the folder with a stamp of its settings; a second run skips what is there already.
"""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kinmer
from kinmer.clr import Clr
from kinmer.counting import count
from kinmer.embedding import embed
from kinmer.encoder import ENCODER
from kinmer.errors import UsageError
from kinmer.evaluate.locality import verify
from kinmer.evaluate.neighbours import nearest
from kinmer.evaluate.retrieval import agreement, precision_and_recall
from kinmer.evaluate.statistics import Estimate
from kinmer.files import read_json, remove, write_bytes, write_json
from kinmer.folders import FolderKind, check_output
from kinmer.fragments import fragment
from kinmer.index.manifest import INDEX
from kinmer.library import build_index
from kinmer.profiles import ProfileStore
from kinmer.profiles.root import STORE
from kinmer.queries import search, write_tsv
from kinmer.simulate import COMMUNITY, Community, write_community
from kinmer.training import TrainSettings, train

__all__ = ["DemoReport", "run_demo"]

LENGTHS = (1_000, 2_000, 5_000, 10_000, 50_000)
QUERIES_PER_SEQUENCE = 4
METHODS = ("embedding", "raw CLR")
# By the name of a folder, or its ending.
KINDS = {
    "community": COMMUNITY,
    "zarr": STORE,
    "encoder": ENCODER,
    "db": INDEX,
    "pictures": FolderKind("folder of pictures", "", bool, r"[\w-]+\.(?:png|svg)"),
}
STEPS = ("simulate", "fragment", "count", "train", "embed", "index", "search", "verify", "report")


@dataclass(frozen=True)
class DemoReport:
    """What the demo found; `data` is what ``report.json`` holds."""

    folder: Path
    data: dict[str, Any]

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
        return "\n".join(line.rstrip() for line in lines)


def run_demo(
    folder: str | Path = "demo-output",
    *,
    seed: int = 0,
    threads: int | None = None,
    log: Callable[[str], None] | None = None,
    community: Community | None = None,
    fragments: int = 8_000,
    settings: TrainSettings | None = None,
) -> DemoReport:
    """Simulate a community and go the whole way: count, train, embed, index, search, verify.

    Parameters
    ----------
    folder : is made where it is not there; an earlier demo in it is gone on with.
    seed : of everything that is drawn.
    threads : of counting, training and search; None for all cores, and one for the training.
    log : takes a line per step and per epoch.
    community, fragments, settings : of the simulation, the database and the training, instead of the demo's.

    Raises UsageError where `folder` holds anything but an earlier demo.
    """
    # Long plasmids and phages, so that all of the queries' lengths can be cut from them.
    whole = community or Community(chromosome=1_200_000, plasmid=60_000, phage=60_000, seed=seed)
    few = TrainSettings(epochs=40, warmup_epochs=5, batch=256, learning_rate=1e-3, seed=seed)
    demo = _Demo(
        _own_folder(Path(folder)),
        whole,
        fragments,
        settings or few,
        seed,
        threads,
        log or (lambda line: None),
    )
    return demo.run()


def _own_folder(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise UsageError("the demo's folder is a file", place=folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "demo.json").is_file():
        raise UsageError(
            "the folder holds something else than a demo", check="name a new folder", place=folder
        )
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "demo.json").is_file():
        write_json(folder / "demo.json", {})
    return folder


def _cell(share: dict[str, float | None]) -> str:
    value, low, high = share["value"], share["low"], share["high"]
    if value is None or low is None or high is None:
        return _number(value)
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _number(value: float | None) -> str:
    return "." if value is None else f"{value:.2f}"


class _Demo:
    """The steps in order; each is skipped where its stamp and its outputs are there."""

    def __init__(
        self,
        folder: Path,
        community: Community,
        fragments: int,
        settings: TrainSettings,
        seed: int,
        threads: int | None,
        log: Callable[[str], None],
    ) -> None:
        self.folder, self.community, self.fragments = folder, community, fragments
        self.settings, self.seed, self.threads, self.log = settings, seed, threads, log
        self.stamps = read_json(folder / "demo.json")
        self.chain = kinmer.__version__
        self.number = 0

    def run(self) -> DemoReport:
        fragments = {"database": self.fragments, "queries": QUERIES_PER_SEQUENCE, "seed": self.seed}
        self._step(["community"], self._simulate, asdict(self.community))
        self._step(["database.fna", "queries.fna"], self._fragment, fragments)
        self._step(["database.zarr", "queries.zarr"], self._count)
        self._step(["encoder"], self._train, self.settings.to_dict())
        self._step([], self._embed)
        self._step(["kin.db"], self._index)
        self._step(["hits.tsv"], self._search)
        self._step(["verify.tsv", "verify.json", "pictures"], self._verify)
        self._step(["report.json"], self._report)
        report = DemoReport(self.folder, read_json(self.folder / "report.json"))
        self.log(f"FASTA, store, encoder, index, hits and pictures: {self.folder}")
        return report

    def _step(self, outputs: Sequence[str], work: Callable[[], str], settings: object = None) -> None:
        """Do the next of STEPS unless its outputs were made with the same settings after the same steps."""
        name = STEPS[self.number]
        self.number += 1
        inputs = json.dumps([self.chain, name, settings], default=str)
        self.chain = hashlib.sha256(inputs.encode()).hexdigest()
        paths = [self.folder / output for output in outputs]
        known = self.stamps.get(name, {})
        begun = known.get("stamp") == self.chain
        if begun and known.get("done") and all(path.exists() for path in paths):
            self.log(f"{self.number}/{len(STEPS)} {name}: {known['said']} (kept)")
            return
        if not begun:
            # Unfinished work with other settings, such as a training that was cut off, is of no use.
            for path in paths:
                for stale in self.folder.glob(f".{path.name}*"):
                    remove(stale)
        # What follows was made from what is made anew now.
        for later in STEPS[self.number :]:
            self.stamps.pop(later, None)
        self._stamp(name, {"stamp": self.chain})
        start = time.perf_counter()
        for path in paths:
            self._refuse_strange(path)
        for path in paths:
            remove(path)
        said = work()
        self._stamp(name, {"stamp": self.chain, "done": True, "said": said})
        self.log(f"{self.number}/{len(STEPS)} {name}: {said} ({time.perf_counter() - start:.1f} s)")

    def _refuse_strange(self, path: Path) -> None:
        """UsageError where an output of the demo holds what the demo has not written."""
        kind = KINDS.get(path.name.rpartition(".")[2])
        if path.is_dir() and kind is not None:
            check_output(path, force=True, kind=kind)

    def _stamp(self, name: str, stamp: dict[str, object]) -> None:
        self.stamps[name] = stamp
        write_json(self.folder / "demo.json", self.stamps)

    def _simulate(self) -> str:
        folder = write_community(self.folder / "community", community=self.community)
        rows = _read_table(folder / "taxonomy.tsv")
        species = {row["species"] for row in rows if row["domain"] != "Viruses"}
        bases = sum(int(row["length"]) for row in rows)
        genomes = {row["genome_id"] for row in rows}
        return f"{len(species)} species, {len(genomes)} genomes, {bases / 1e6:.0f} Mbp"

    def _strain_files(self, strain: int) -> list[Path]:
        return sorted((self.folder / "community" / "genomes").glob(f"*_{strain}.fna"))

    def _fragment(self) -> str:
        labels = self.folder / "community" / "taxonomy.tsv"
        database = fragment(
            self._strain_files(1),
            self.folder / "database.fna",
            length=(1_000, 100_000),
            number=self.fragments,
            seed=self.seed,
            labels=labels,
            force=True,
        )
        parts = []
        for length in LENGTHS:
            parts.append(self.folder / f"queries-{length}.fna")
            fragment(
                self._strain_files(2),
                parts[-1],
                length=length,
                per_sequence=QUERIES_PER_SEQUENCE,
                seed=self.seed + length,
                labels=labels,
                force=True,
            )
        tables = [part.with_name(f"{part.name}.tsv").read_bytes().split(b"\n", 1) for part in parts]
        write_bytes(
            self.folder / "queries.fna.tsv", tables[0][0] + b"\n" + b"".join(rows for _, rows in tables)
        )
        write_bytes(self.folder / "queries.fna", b"".join(part.read_bytes() for part in parts))
        for part in parts:
            remove(part)
            remove(part.with_name(f"{part.name}.tsv"))
        found = len(_read_table(self.folder / "queries.fna.tsv"))
        return f"{database.fragments} fragments of 1-100 kb as database, {found} queries of another strain"

    def _count(self) -> str:
        for name in ("database", "queries"):
            count(
                [self.folder / f"{name}.fna"], self.folder / f"{name}.zarr", threads=self.threads, force=True
            )
        store = ProfileStore.open(self.folder / "database.zarr")
        return f"{len(store)} profiles of {store.layout.width} k-mers"

    def _train(self) -> str:
        encoder = train(
            self.folder / "database.zarr",
            self.folder / "encoder",
            settings=self.settings,
            device="cpu",
            # Such small steps gain little from a second thread, and lose much where its core is taken.
            threads=self.threads or 1,
            log=lambda line: self.log(f"    {line}"),
        )
        results = encoder.training["results"]
        return f"{results['epochs']} epochs, validation MSE {results['mse']:.3f}"

    def _embed(self) -> str:
        embed(self.folder / "database.zarr", self.folder / "encoder", force=True)
        store = ProfileStore.open(self.folder / "database.zarr")
        return f"{len(store)} embeddings of {store.read_obsm('X_kinmer', 0, 1).shape[1]} dimensions"

    def _index(self) -> str:
        index = build_index(
            self.folder / "database.zarr",
            self.folder / "kin.db",
            encoder=self.folder / "encoder",
            metadata=self.folder / "database.fna.tsv",
            force=True,
        )
        return f"{len(index)} entries, {index.engine}, {index.metric}"

    def _search(self) -> str:
        aside = self.folder / ".hits.tsv"
        with aside.open("w") as file:
            write_tsv(
                search(self.folder / "queries.fna", self.folder / "kin.db", k=10, threads=self.threads), file
            )
        aside.replace(self.folder / "hits.tsv")
        return f"{len(_read_table(self.folder / 'queries.fna.tsv'))} queries, 10 nearest each"

    def _verify(self) -> str:
        pictures = self.folder / "pictures"
        pictures.mkdir(exist_ok=True)
        report = verify(self.folder / "database.zarr", encoder=self.folder / "encoder", seed=self.seed)
        report.save_pictures(pictures / "verify")
        report.write_tsv(self.folder / "verify.tsv")
        write_json(self.folder / "verify.json", report.to_dict())
        by_metric = ", ".join(f"{one.metric} ρ {_number(one.spearman.value)}" for one in report.metrics)
        return f"latent distance against k-mer MSE: {by_metric}"

    def _report(self) -> str:
        queries = _read_table(self.folder / "queries.fna.tsv")
        labels = {row["id"]: row for row in _read_table(self.folder / "database.fna.tsv")}
        nearest_of = {
            row["query_id"]: row["hit_id"]
            for row in _read_table(self.folder / "hits.tsv")
            if row["rank"] == "1"
        }
        found = {
            "embedding": [labels[nearest_of[row["id"]]] for row in queries],
            "raw CLR": [labels[one] for one in self._nearest_raw([row["id"] for row in queries])],
        }
        retrieval = []
        for length in LENGTHS:
            places = [place for place, row in enumerate(queries) if int(row["length"]) == length]
            row: dict[str, Any] = {"length": _kilobases(length), "queries": len(places)}
            for method in METHODS:
                row[method] = {
                    rank: asdict(self._agreement(queries, found[method], places, rank))
                    for rank in ("species", "genus")
                }
            retrieval.append(row)
        molecules = precision_and_recall(
            [row["molecule"] for row in queries], [row["molecule"] for row in found["embedding"]]
        )
        self._pictures(retrieval, labels)
        verified = read_json(self.folder / "verify.json")
        data = {"seed": self.seed, "retrieval": retrieval, "molecules": molecules, "verify": verified}
        write_json(self.folder / "report.json", data)
        return "table and pictures"

    def _agreement(
        self, queries: list[dict[str, str]], found: list[dict[str, str]], places: list[int], rank: str
    ) -> Estimate:
        return agreement(
            [queries[place][rank] for place in places],
            [found[place][rank] for place in places],
            [queries[place]["genome_id"] for place in places],
            seed=self.seed,
        )[0]

    def _nearest_raw(self, ids: list[str]) -> list[str]:
        """Id of the nearest database fragment of every query, in CLR space by cosine: what to beat."""
        base, asked = (ProfileStore.open(self.folder / f"{name}.zarr") for name in ("database", "queries"))
        theirs, mine = (np.asarray(Clr()(one.read(0, len(one)), one.layout)) for one in (base, asked))
        rows = np.arange(len(base))
        places, _ = nearest(mine, theirs, len(base) + np.arange(len(asked)), rows, 1, "cosine")
        by_id = dict(zip(asked.ids, base.ids[places[:, 0]], strict=True))
        return [str(by_id[one]) for one in ids]

    def _pictures(self, retrieval: list[dict[str, Any]], labels: dict[str, dict[str, str]]) -> None:
        from kinmer import plots

        folder = self.folder / "pictures"
        series = {}
        for method in METHODS:
            shares = [
                [row[method]["species"][part] for row in retrieval] for part in ("value", "low", "high")
            ]
            value, low, high = (np.array(share, float) for share in shares)
            series[method] = (value, low, high)
        plots.save(plots.retrieval_bars([row["length"] for row in retrieval], series), folder / "species")
        store = ProfileStore.open(self.folder / "database.zarr")
        plots.save(plots.lengths_and_gc(store.obs["length"], store.obs["gc"]), folder / "database")
        points, parts = _principal_components(np.asarray(store.read_obsm("X_kinmer"), np.float64))
        panels = {name: [labels[one][name] for one in store.ids] for name in ("phylum", "molecule")}
        axes = [f"PC{place + 1} of the embeddings ({share:.0%})" for place, share in enumerate(parts)]
        figure = plots.scatter_by_category(points, panels, xlabel=axes[0], ylabel=axes[1])
        plots.save(figure, folder / "embeddings")


def _principal_components(vectors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The first two principal components (n, 2) and their shares of the variance (2,)."""
    centred = vectors - vectors.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    # The sign of an axis is arbitrary; its largest part is made positive.
    first = axes[:, :-3:-1]
    first = first * np.sign(first[np.abs(first).argmax(axis=0), np.arange(2)])
    return centred @ first, values[:-3:-1] / values.sum()


def _kilobases(length: int) -> str:
    return f"{length // 1000} kb"


def _read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
