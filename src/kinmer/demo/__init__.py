"""The demo: contigs of a simulated community, named by a reference of their relatives.

Some of the species are left out of the reference, so that answers can be right, open or wrong, and the
demo says which. `kinmer.demo.original` trains the network of the original pipeline on such a community.

Every step leaves its outputs in one folder with a stamp of its settings. A second run keeps what is there
already, and a killed run resumes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import kinmer
from kinmer.encoder import ENCODER
from kinmer.errors import UsageError
from kinmer.evaluate.retrieval import precision_and_recall
from kinmer.files import remove, write_json
from kinmer.folders import FolderKind, check_output
from kinmer.fragments import fragment
from kinmer.index.manifest import INDEX
from kinmer.inputs import read_json
from kinmer.profiles.root import STORE
from kinmer.simulate import COMMUNITY, RANKS, Community, write_community

__all__ = ["DemoReport", "Steps", "read_table", "run_demo", "write_table"]

Log = Callable[[str], None]
STEPS = ("simulate", "reference", "contigs", "embed", "search", "map", "report", "table")
CASES = ("a species it holds", "a new species", "a new family")
OUTCOMES = ("species", "genus", "higher", "open", "wrong")
MOLECULES = ("chromosome", "plasmid", "virus")
# What a folder of the demo's may hold, by its name or its ending.
KINDS = {
    "community": COMMUNITY,
    "genomes": FolderKind("folder of genomes", "", bool, r"[\w-]+\.fna"),
    "zarr": STORE,
    "encoder": ENCODER,
    "db": INDEX,
    "pictures": FolderKind("folder of pictures", "", bool, r"[\w-]+\.(?:png|svg)"),
}


@dataclass(frozen=True)
class DemoReport:
    """The demo's results; `data` is the content of ``report.json``, `seconds` the time of every step."""

    folder: Path
    data: dict[str, Any]
    seconds: Mapping[str, float] = field(default_factory=dict)

    def table(self) -> str:
        """The answers as aligned text, and the commands to go on with."""
        data, seconds = self.data, self.seconds
        lines = [
            f"{data['contigs']:,} contigs of 1 to 50 kb, searched in {seconds.get('search', 0):.0f} s among"
            f" {data['genomes']} genomes (made a reference in {seconds.get('reference', 0):.0f} s)",
            "",
            f"{'':<30}{'named right, down to':^30}{'left':>7}{'named':>8}",
            f"{'contigs from':<22}{'contigs':>8}" + _row("species", "genus", "family +", "open", "wrong"),
        ]
        for case, row in data["cases"].items():
            shares = (f"{row[name] / max(1, row['contigs']):.0%}" for name in OUTCOMES)
            lines.append(f"{case:<22}{row['contigs']:>8,}" + _row(*shares))
        lines += ["", f"{'molecule':<22}{'contigs':>8}{'found':>10}{'right':>10}"]
        for name, (precision, recall, number) in data["molecules"].items():
            lines.append(f"{name:<22}{number:>8,}{_percent(recall):>10}{_percent(precision):>10}")
        lines += ["", f"{'contig':<32}{'comes from':<24}answer"]
        lines += [f"{one['id']:<32}{one['truth']:<24}{one['verdict']}" for one in data["examples"]]
        return "\n".join(line.rstrip() for line in [*lines, "", *self._next()])

    def _next(self) -> list[str]:
        """Commands that work as they stand, with this folder's paths."""
        folder, kinmer_ = self.folder, _program()
        return [
            "The reference does not hold the new ones, so an open answer or a higher rank is right for them.",
            f"See the contigs on a map: {folder / 'map.html'} · all about them: {folder / 'report.html'}",
            "",
            "Go on, with the demo's files and then with yours:",
            f"  {kinmer_} search {folder / 'contigs.fna'} --db {folder / 'reference.db'} --format calls",
            f"  {kinmer_} reference {folder / 'genomes'} --metadata {folder / 'taxonomy.tsv'} -o my.db",
            f"  {kinmer_} search {folder / 'contigs.fna'} --db my.db --format calls -o calls.tsv",
        ]


def run_demo(
    folder: str | Path = "demo-output",
    *,
    seed: int = 0,
    threads: int | None = None,
    log: Log | None = None,
    community: Community | None = None,
    contigs: int = 1_000,
) -> DemoReport:
    """Simulate a community, make a reference of a part of it, and name the contigs of other strains.

    Parameters
    ----------
    folder : str | Path
        Is made where it is not there. An earlier demo in it is resumed.
    seed : int
        Of everything that is drawn.
    threads : int | None
        Of all steps; None for all cores.
    log : Log | None
        Takes a line per step.
    community, contigs : Community | None
        Of the simulation, and how many contigs are cut, instead of the demo's.

    Raises
    ------
    UsageError
        Where `folder` holds anything but an earlier demo.
    """
    whole = community or Community(
        families=3, strains=3, chromosome=400_000, plasmid=60_000, phage=60_000, seed=seed
    )
    return _Demo(Path(folder), STEPS, seed, threads, log).run(whole, contigs)


class Steps:
    """Steps in order. Each is skipped where its stamp and its outputs are there."""

    def __init__(
        self, folder: Path, names: Sequence[str], seed: int, threads: int | None, log: Log | None
    ) -> None:
        self.folder, self.names, self.seed, self.threads = _own_folder(folder), names, seed, threads
        self.log: Log = log or (lambda line: None)
        self.stamps = read_json(folder / "demo.json")
        self.chain, self.number = kinmer.__version__, 0

    def step(self, outputs: Sequence[str], work: Callable[[], str], settings: object = None) -> None:
        """Do the next step unless its outputs were made with the same settings after the same steps."""
        name = self.names[self.number]
        self.number += 1
        title = f"{self.number}/{len(self.names)} {name}"
        inputs = json.dumps([self.chain, name, settings], default=str)
        self.chain = hashlib.sha256(inputs.encode()).hexdigest()
        paths = [self.folder / output for output in outputs]
        known = self.stamps.get(name, {})
        started = known.get("stamp") == self.chain
        if started and known.get("done") and all(path.exists() for path in paths):
            self.log(f"{title}: {known['said']} (kept)")
            return
        if not started:
            # Unfinished work with other settings, such as a training that was cut off, is of no use.
            for path in paths:
                for stale in self.folder.glob(f".{path.name}*"):
                    remove(stale)
        # The later steps are made from the outputs of this one.
        for later in self.names[self.number :]:
            self.stamps.pop(later, None)
        self._stamp(name, {"stamp": self.chain})
        start = time.perf_counter()
        for path in paths:
            kind = KINDS.get(path.name.rpartition(".")[2])
            if path.is_dir() and kind is not None:
                check_output(path, force=True, kind=kind)
        for path in paths:
            remove(path)
        said = work()
        seconds = time.perf_counter() - start
        self._stamp(name, {"stamp": self.chain, "done": True, "said": said, "seconds": round(seconds, 1)})
        self.log(f"{title}: {said} ({seconds:.1f} s)")

    def _stamp(self, name: str, stamp: dict[str, object]) -> None:
        self.stamps[name] = stamp
        write_json(self.folder / "demo.json", self.stamps)

    def simulate(self, community: Community) -> str:
        """Write the community; one line about it."""
        table = read_table(write_community(self.folder / "community", community=community) / "taxonomy.tsv")
        species = table.species[table.domain != "Viruses"].nunique()
        bases = table.length.astype(int).sum()
        return f"{species} species, {table.genome_id.nunique()} genomes, {bases / 1e6:.0f} Mbp"

    def genomes(self, strain: int) -> list[Path]:
        """The genome files of one strain of everything."""
        return sorted((self.folder / "community" / "genomes").glob(f"*_{strain}.fna"))


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


class _Demo(Steps):
    """The product: reference, search, map and report."""

    def run(self, community: Community, contigs: int) -> DemoReport:
        last = community.strains
        self.step(["community"], lambda: self.simulate(community), asdict(community))
        self.step(["genomes", "taxonomy.tsv", "reference.db"], lambda: self._reference(last))
        self.step(
            ["contigs.fna", "contigs.fna.tsv"], lambda: self._contigs(contigs, last), [contigs, self.seed]
        )
        self.step(["contigs.zarr"], self._embed)
        self.step(["calls.tsv"], self._search)
        self.step(["map.html", "map.tsv"], self._map)
        self.step(["report.html"], self._report)
        self.step(["report.json"], self._table)
        seconds = {name: self.stamps[name]["seconds"] for name in self.names}
        return DemoReport(self.folder, read_json(self.folder / "report.json"), seconds)

    def _reference(self, last: int) -> str:
        """Index all strains but the last one of what is not new."""
        table = read_table(self.folder / "community" / "taxonomy.tsv")
        table["case"] = _cases(table)
        genomes = self.folder / "genomes"
        genomes.mkdir()
        held = table[(table.case == CASES[0]) & (table.strain.astype(int) < max(2, last))]
        for name in dict.fromkeys(held.genome_id):
            shutil.copyfile(self.folder / "community" / "genomes" / f"{name}.fna", genomes / f"{name}.fna")
        write_table(held.drop(columns=["length", "case"]), self.folder / "taxonomy.tsv")
        with kinmer.build_reference(
            genomes,
            self.folder / "reference.db",
            metadata=self.folder / "taxonomy.tsv",
            threads=self.threads,
            force=True,
        ) as index:
            entries = len(index)
        return f"{held.genome_id.nunique()} genomes of {held.species.nunique()} species, {entries:,} entries"

    def _contigs(self, number: int, last: int) -> str:
        report = fragment(
            self.genomes(last),
            self.folder / "contigs.fna",
            length=(1_000, 50_000),
            number=number,
            seed=self.seed,
            labels=self.folder / "community" / "taxonomy.tsv",
            force=True,
        )
        return (
            f"{report.fragments:,} contigs of other strains and of new species, {report.bases / 1e6:.0f} Mbp"
        )

    def _embed(self) -> str:
        contigs, store = self.folder / "contigs.fna", self.folder / "contigs.zarr"
        kinmer.count([contigs], store, threads=self.threads, force=True)
        kinmer.embed(store, force=True)
        opened = kinmer.ProfileStore.open(store)
        width = opened.read_obsm("X_kinmer", 0, 1).shape[1]
        return (
            f"{len(opened):,} contigs as points in {width} dimensions, by the encoder that comes with kinmer"
        )

    def _search(self) -> str:
        found = kinmer.search(self.folder / "contigs.fna", self.folder / "reference.db", n_jobs=self.threads)
        found.write(self.folder / "calls.tsv", "calls", force=True)
        return f"{len(read_table(self.folder / 'calls.tsv')):,} verdicts"

    def _shown(self) -> Path:
        """The answers that map and report show, by id."""
        calls, truth = read_table(self.folder / "calls.tsv"), self._truth()
        shown = calls[["query_id", "verdict", "genus", "species", "molecule"]]
        shown = shown.rename(columns={"query_id": "id"}).assign(true_species=truth.species.to_numpy())
        write_table(shown, self.folder / "answers.tsv")
        return self.folder / "answers.tsv"

    def _map(self) -> str:
        from kinmer.maps.picture import draw

        def drawn(made: kinmer.MapResult, stem: Path) -> list[Path]:
            return draw(made, stem, color="genus", title="Contigs of the demo")

        found = kinmer.make_map(
            self.folder / "contigs.zarr",
            metadata=self._shown(),
            seed=self.seed,
            threads=self.threads,
            output=self.folder / "map",
            force=True,
            more=drawn,
        )
        return f"{len(found):,} contigs on a page to look around in, colored by the genus that was named"

    def _report(self) -> str:
        kinmer.report(
            self.folder / "contigs.zarr",
            self.folder / "report.html",
            metadata=self.folder / "answers.tsv",
            title="Contigs of the demo",
            seed=self.seed,
            threads=self.threads,
            force=True,
        )
        return "distances, nearest neighbors, hubs and clusters on one page"

    def _truth(self) -> pd.DataFrame:
        """The contigs' labels, in the order of the file."""
        return read_table(self.folder / "contigs.fna.tsv").assign(case=lambda table: _cases(table))

    def _table(self) -> str:
        truth = self._truth().set_index("id")
        calls = read_table(self.folder / "calls.tsv").set_index("query_id").loc[truth.index]
        outcome = _outcomes(calls, truth)
        cases = {
            case: {"contigs": int((truth.case == case).sum())}
            | {name: int(((truth.case == case) & (outcome == name)).sum()) for name in OUTCOMES}
            for case in CASES
        }
        examples = []
        for case, good in zip(CASES, (["species"], ["genus", "higher"], ["open"]), strict=True):
            for at in np.flatnonzero((truth.case == case) & np.isin(outcome, good))[:1]:
                origin, answer = truth.species.iloc[at], calls.verdict.iloc[at]
                examples.append({"id": truth.index[at], "truth": origin, "verdict": answer})
        data = {
            "seed": self.seed,
            "contigs": len(truth),
            "genomes": len(list((self.folder / "genomes").iterdir())),
            "cases": cases,
            "molecules": precision_and_recall(truth.molecule.tolist(), calls.molecule.tolist()),
            "examples": examples,
        }
        write_json(self.folder / "report.json", data)
        return "how many answers are right"


def _cases(table: pd.DataFrame) -> NDArray[np.object_]:
    """Of every row one of CASES: families and species that the reference does not hold are new."""
    cells = table[table.domain != "Viruses"].sort_values("sequence_id")
    families = list(dict.fromkeys(cells.family))
    new_families = set(families[1::4])
    genera = cells[~cells.family.isin(new_families)].groupby("genus", sort=False).species.unique()
    new_species = {sorted(species)[-1] for species in genera.iloc[::4] if len(species) > 1}
    new = np.where(table.species.isin(new_species), CASES[1], CASES[0])
    return np.where(table.family.isin(new_families), CASES[2], new)


def _outcomes(calls: pd.DataFrame, truth: pd.DataFrame) -> NDArray[np.object_]:
    """One of OUTCOMES for every verdict: the deepest rank that is named, if the name is right."""
    right = np.zeros(len(calls), bool)
    for rank in RANKS:
        right |= ((calls["rank"] == rank) & (calls["name"] == truth[rank])).to_numpy()
    depth = calls["rank"].where(calls["rank"].isin(("species", "genus", "")), "higher")
    return np.where(calls["rank"] == "", "open", np.where(right, depth, "wrong"))


def _row(*cells: str) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, (10, 10, 10, 7, 8), strict=True))


def _percent(value: float | None) -> str:
    return "." if value is None else f"{value:.0%}"


def _program() -> str:
    """How this kinmer is called from a shell."""
    given = Path(sys.argv[0])
    if shutil.which("kinmer"):
        return "kinmer"
    return str(given) if given.name == "kinmer" else f"{sys.executable} -m kinmer"


def read_table(path: Path) -> pd.DataFrame:
    return pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False, quoting=csv.QUOTE_NONE)


def write_table(table: pd.DataFrame, path: Path) -> None:
    table.to_csv(path, sep="\t", index=False, quoting=csv.QUOTE_NONE)
