"""How good are the answers of a reference? Its genomes are held out in draws, and asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np
import pandas as pd

from kinmer import __version__
from kinmer.errors import InputError, UsageError
from kinmer.evaluate.answer_scores import AnswersReport, answers_report
from kinmer.evaluate.collection import CLUSTER, Collection, open_collection
from kinmer.evaluate.splits import (
    Parts,
    SplitOptions,
    SplitSettings,
    accepted,
    cases_of,
    draw,
    kept_parts,
    left_out,
    windows,
    with_kinds,
)
from kinmer.library.build import build_index
from kinmer.progress import step
from kinmer.queries import search as queries_to
from kinmer.tables import write_table
from kinmer.taxonomy import RANKS

if TYPE_CHECKING:
    from kinmer.encoder import Encoder

Log = Callable[[str], None]
# Ranks at which the names of a cluster count as one.
ALIKE = ("genus", "species")


def evaluate_answers(
    source: str | Path,
    *,
    metadata: str | Path | None = None,
    taxdump: str | Path | None = None,
    cluster_column: str = CLUSTER,
    encoder: str | Path | Encoder | None = None,
    bootstrap: int = 1000,
    threads: int | None = None,
    log: Log | None = None,
    **options: Unpack[SplitOptions],
) -> AnswersReport:
    """Measure how well queries from the genomes of a reference are named, whether it has them or not.

    In each draw about a quarter of the genera leave the references (case "new genus"), a quarter of the
    species of other genera ("new species"), and of species with several genomes one ("known strain"). Where
    references hold only a part of every genome, the rest is asked for too ("other part"). An index is built
    and calibrated of what stays, as `kinmer.build_reference` does.

    Parameters
    ----------
    source : str | Path
        A folder of genomes or a manifest, as `kinmer.build_reference` takes it, or an index that has its
        sequences.
    metadata, taxdump : str | Path, optional
        The names of the genomes; as in `kinmer.build_reference`. A column ``molecule`` tells plasmids.
    cluster_column : str
        Genomes that share a value are one species, whatever they are called. Used where it is there.
    encoder : str | Path | Encoder, optional
        Default: kin-2, or that of the index.
    bootstrap : int
        Resamples of the species for the 95 % intervals; 0 for none.
    threads : int, optional
        Default: all cores.
    log : callable, optional
        Gets a line a draw.
    **options : draws, lengths, completeness, per_genome, groups, seed
        See `kinmer.evaluate.splits.SplitSettings`.

    Raises
    ------
    UsageError : settings that cannot be. InputError : no names, or too few genomes.
    KinmerError : as `kinmer.build_reference`.
    """
    settings = SplitSettings(**options)
    if bootstrap < 0:
        raise UsageError("a bootstrap is not negative")
    with TemporaryDirectory(prefix="kinmer-answers-") as place:
        room = Path(place)
        collection = open_collection(
            source, room, metadata=metadata, taxdump=taxdump, cluster_column=cluster_column, log=log
        )
        genomes = collection.genomes[collection.genomes["group"].isin(settings.groups)]
        run = Run(collection, with_kinds(genomes), settings, encoder or collection.encoder, threads)
        tables = list(run.answers(room, log or (lambda _: None)))
    facts: dict[str, Any] = {"source": str(source), "kinmer": __version__, "genomes": len(genomes)}
    facts |= asdict(settings) | {"clusters": bool(genomes["cluster"].ne("").any())}
    return answers_report(pd.concat(tables, ignore_index=True), facts, bootstrap=bootstrap)


class Run(NamedTuple):
    """What all draws share; `genomes` are the collection's, with kinds and blocks."""

    collection: Collection
    genomes: pd.DataFrame
    settings: SplitSettings
    encoder: str | Path | Encoder | None
    threads: int | None

    def answers(self, room: Path, log: Log) -> Iterator[pd.DataFrame]:
        """The judged answers of every draw and completeness."""
        for number in range(self.settings.draws):
            chosen = draw(self.genomes, self._rng(number, 0))
            for share in self.settings.completeness:
                key = round(share * 1_000_000)
                parts = kept_parts(self.collection, chosen.references, share, self._rng(number, 1, key))
                held = chosen._replace(references=list(parts))
                cases = cases_of(self.genomes, held, self._rng(number, 2), parts=share < 1)
                with TemporaryDirectory(dir=room) as folder:
                    truth = self.write(Path(folder), parts, cases, number)
                    log(
                        f"draw {number + 1} of {self.settings.draws}, {share:.0%} of every genome: "
                        f"{len(parts):,} references, {len(truth):,} queries"
                    )
                    found = self.search(Path(folder))
                truth = truth.assign(draw=number + 1, completeness=share)
                yield judged(truth, found, self.genomes, held.references)

    def _rng(self, *key: int) -> np.random.Generator:
        return np.random.default_rng([self.settings.seed, *key])

    def write(self, folder: Path, parts: Parts, cases: dict[str, str], number: int) -> pd.DataFrame:
        """References and queries in files, their names numbered; what is known of the queries."""
        labels: list[tuple[str, ...]] = []
        truth: list[dict[str, Any]] = []
        numbers = {name: row for row, name in enumerate(self.genomes.index)}
        molecules = self.collection.sequences.groupby("genome")[["id", "molecule"]]
        wanted = [name for name in self.genomes.index if name in parts or name in cases]
        with (
            (folder / "references.fna").open("wb") as references,
            (folder / "queries.fna").open("wb") as queries,
            step("Writing references and queries", len(wanted)) as progress,
        ):
            for genome in wanted:
                kept, row = parts.get(genome, {}), self.genomes.loc[genome]
                kind = dict(molecules.get_group(genome).to_numpy().tolist())
                for name, letters in self.collection.records(genome) if kept else ():
                    if name in kept:
                        first, last = kept[name]
                        own = f"r{len(labels)}"
                        references.write(b">%b\n%b\n" % (own.encode(), letters[first:last]))
                        labels.append((own, genome, kind[name], *row[list(RANKS)]))
                if genome in cases:
                    told = {
                        "group": row["group"],
                        "case": cases[genome],
                        "genome": genome,
                        "kind": row["kind"],
                    }
                    left = left_out(self.collection.records(genome), kind, row["group"], kept)
                    for length in self.settings.lengths:
                        rng = self._rng(number, 3, numbers[genome], length)
                        for one in windows(left, length, self.settings.per_genome, rng):
                            name = f"q{len(truth)}"
                            queries.write(b">%b\n%b\n" % (name.encode(), one.letters))
                            known = {"molecule": kind[one.name], "sequence": one.name, "start": one.start}
                            truth.append({"query": name, "length": length} | told | known)
                progress.advance()
        if not truth or not labels:
            raise InputError(
                "too few genomes: no query can be cut",
                "species with several genomes, genera with several species, or whole genera are held out",
                "give more genomes, or shorter --lengths",
            )
        write_table(folder / "references.tsv", ("id", "genome", "molecule", *RANKS), labels)
        return pd.DataFrame(truth)

    def search(self, folder: Path) -> pd.DataFrame:
        """The calls of all queries, and the nearest genome, by the index of the references."""
        more: Any = {} if self.collection.pieces is None else {"pieces": self.collection.pieces or (0,)}
        build_index(
            folder / "references.fna",
            folder / "kin.db",
            metadata=folder / "references.tsv",
            encoder=self.encoder,
            min_length=1,
            keep_sequences=True,
            threads=self.threads,
            **more,
        ).close()
        found = queries_to(folder / "queries.fna", folder / "kin.db", k=1, by="genome", n_jobs=self.threads)
        with found as results:
            return results.calls


def judged(
    truth: pd.DataFrame, calls: pd.DataFrame, genomes: pd.DataFrame, references: list[str]
) -> pd.DataFrame:
    """What is right about every answer.

    Parameters
    ----------
    truth : a row a query: query, genome and whatever else is known of it.
    calls : `kinmer.SearchResults.calls` of the same queries.
    genomes : by name, with ranks, clusters and groups. references : names of those that the index has.

    Returns
    -------
    The truth with, for genus and species: RANK, the names that are right (``;`` between), RANK_there: whether
    the references have one, RANK_called: the name that is given, "" for none. For every rank RANK_p: the
    probability of the likeliest name, RANK_right: whether that is right, NaN where the right one is not
    known. nearest, nearest_right: the nearest genome, and whether its species is right; all_right: genus and
    species are named where the references have them, rightly, and not named where they do not.
    """
    calls = calls.drop(columns="length").rename(columns={"molecule": "molecule_called"})
    table = truth.merge(calls, left_on="query", right_on="query_id")
    if len(table) != len(truth):
        raise InputError("some queries were not answered", f"{len(table):,} of {len(truth):,} were")
    depth = table["rank"].map({rank: number for number, rank in enumerate(RANKS)}).fillna(-1).to_numpy()
    known, own = genomes.loc[references], genomes.loc[table["genome"]]
    found = truth.copy().reset_index(drop=True)
    fine = np.ones(len(table), bool)
    for number, rank in enumerate(RANKS):
        named = table[rank].fillna("").to_numpy(str)
        names = (accepted(genomes, rank).loc[table["genome"]] if rank in ALIKE else own[rank]).to_numpy(str)
        right = np.array(
            [name != "" and name in some.split(";") for name, some in zip(named, names, strict=True)]
        )
        found[f"{rank}_p"] = table[f"{rank}_p"].to_numpy(float)
        found[f"{rank}_right"] = np.where(names != "", right, np.nan)
        if rank in ALIKE:
            there = set(known[rank]) - {""}
            found[rank] = names
            found[f"{rank}_there"] = [bool(there & set(some.split(";"))) for some in names]
            found[f"{rank}_called"] = np.where(depth >= number, named, "")
            told = found[f"{rank}_called"].ne("")
            correct = np.where(found[f"{rank}_there"], told & right, ~told)
            # A species without a name is still none of the references'.
            fine &= correct.astype(bool) | ((names == "") & (rank == "genus"))
    nearest = table["nearest"].fillna("")
    near = genomes["species"].reindex(nearest).fillna("").to_numpy(str)
    found["nearest"] = nearest
    found["nearest_right"] = [
        name in some.split(";") for name, some in zip(near, found["species"], strict=True)
    ]
    text = {name: table[name].fillna("").to_numpy() for name in ("rank", "name", "molecule_called")}
    return found.assign(**text, all_right=fine)
