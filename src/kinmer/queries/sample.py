"""What a run says about its queries: each is scored alone, and judged by what the sample holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isnan
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinmer.confidence import (
    UNSURE,
    WHY,
    Calibration,
    Judgements,
    KindShares,
    Lineages,
    Nearest,
    Scores,
    SharedHashes,
    candidates_of,
    discovery_limit,
    discovery_limits,
    even_kinds,
    judge,
    known_of,
    mixture,
    score,
    unit,
    verdicts,
)
from kinmer.confidence.pool import pool_of
from kinmer.errors import UsageError
from kinmer.index import Storage
from kinmer.index.manifest import sketch_scale
from kinmer.kinds import EVEN, GENES_LIMIT, USUAL_KINDS, kinds_of, posterior, with_odds
from kinmer.molecules import MOLECULES, PLASMID
from kinmer.proteins import gene_log_odds
from kinmer.queries.intake import Genes, Queries
from kinmer.queries.results import MoleculeCall, RankCall, UnitCall
from kinmer.resources import available_cores
from kinmer.sketches import thinned
from kinmer.stores import Metric, row_distances, sort_hits
from kinmer.taxonomy import RANKS

Log = Callable[[str], None]
# How frequent known and new queries are: as the sample says, as is usual, or shares of known species, of new
# species, and of new genera and all that is farther. Or how frequent some kinds of molecule are.
Prior = Literal["sample", "usual"] | Sequence[float] | Mapping[str, float]
# Queries by which a sample is known.
SAMPLE = 4096
# A kind of molecule that is so likely without genes is not asked of them.
CERTAIN = 0.95


@dataclass(frozen=True)
class Judgement:
    """The verdict on one query; see `kinmer.queries.results.QueryResult`."""

    consensus: Mapping[str, RankCall] = field(default_factory=dict)
    verdict: str = ""
    rank: str | None = None
    name: str | None = None
    molecule: MoleculeCall | None = None
    why: str = ""
    ptu: UnitCall | None = None


@dataclass(frozen=True)
class Scored:
    """Scores of queries, and the names of the lineages and plasmid units that they have."""

    scores: Scores
    lineages: Lineages
    units: tuple[str, ...] = ()


def check_prior(prior: Prior) -> None:
    """UsageError unless a prior is "sample", "usual", three shares that sum to 1, or shares of kinds."""
    if isinstance(prior, str):
        if prior not in ("sample", "usual"):
            raise UsageError(f"the prior is sample, usual or shares, not {prior!r}")
        return
    if isinstance(prior, Mapping):
        known = set(prior) <= set(MOLECULES)
        if (
            not known
            or not all(0 <= share <= 1 for share in prior.values())
            or sum(prior.values()) > 1 + 1e-3
        ):
            raise UsageError(
                "shares of molecules are 0 to 1 and together not more than 1",
                f"kinds are {', '.join(MOLECULES)}",
                "such as plasmid=0.1",
            )
        return
    shares = [float(share) for share in prior]
    # Asked this way round, nan is no share.
    if len(shares) != 3 or not all(share >= 0 for share in shares) or not abs(sum(shares) - 1) <= 1e-3:
        raise UsageError(
            "a prior is three shares that sum to 1",
            "of known species, of new species, and of new genera and all that is farther",
            "such as 0.5,0.25,0.25",
        )


def kind_shares(given: Mapping[str, float]) -> NDArray[np.float64]:
    """(5,) shares of `MOLECULES`: those given, and the rest as is usual."""
    usual = np.array(
        [0.0 if name in given else share for name, share in zip(MOLECULES, USUAL_KINDS, strict=True)]
    )
    own = np.array([given.get(name, 0.0) for name in MOLECULES])
    return np.asarray(own + usual * max(0.0, 1 - own.sum()) / max(usual.sum(), 1e-300))


class Judge:
    """Judges the queries of one run; keeps the lineages that it has read until the index changes.

    Raises UsageError where probabilities are asked for and the index has no calibration.
    """

    def __init__(
        self,
        index: Storage,
        *,
        min_probability: float | None,
        prior: Prior,
        fdr: float | None,
        log: Log,
        threads: int | None = None,
    ) -> None:
        self._index, self._log, self._threads = index, log, threads or available_cores()
        self._least, self._wanted, self._rate = min_probability, prior, fdr
        self._epoch, self._warned = -1, ""
        self._calibration: Calibration | None = None
        self._prior: NDArray[np.float64] | None = None
        self._kinds = KindShares()
        self._limits: NDArray[np.float64] | None = None
        self._kind_limit = min_probability
        self._refresh()
        asked = min_probability is not None or fdr is not None or prior != "sample"
        if asked and self._calibration is None:
            raise UsageError(
                "the index has no calibration, and so there are no probabilities",
                check="give the index a taxonomy (kinmer db update --metadata), then kinmer db calibrate",
            )

    def score(
        self,
        queries: Queries,
        labels: NDArray[np.int64],
        distances: NDArray[np.float32],
        metric: Metric,
        own: NDArray[np.int64] | None,
    ) -> Scored:
        """Score queries by their nearest rows (q, c), -1 for none, and distances by `metric`.

        own : (q,) entries that the queries are, and that say nothing of them, -1 for none.
        """
        self._refresh()
        index = self._index
        if metric != "cosine":
            distances = row_distances(queries.vectors, index.rows.vectors, labels, "cosine")
            labels, distances = sort_hits(labels, distances, max(1, labels.shape[1]))
        sizes = queries.counted or queries.bases or queries.lengths
        lengths = np.array([size or 0 for size in sizes], dtype=np.int64)
        vectors = unit(queries.vectors)
        pool = pool_of(index, self._book, labels, distances, lengths, vectors)
        to_means = self._means.distances(vectors)
        shared = self._shared(queries)
        if own is not None:
            genomes = self._genomes_of(own)
            columns = self._means.columns(genomes)
            if to_means is not None:
                rows = np.flatnonzero(columns >= 0)
                to_means[rows, columns[rows]] = np.inf
            kept = shared.genome != genomes[shared.query]
            shared = SharedHashes(shared.query[kept], shared.genome[kept], shared.count[kept], shared.hashes)
        nearest = Nearest(labels, distances, to_means, vectors, lengths, masked=own is not None)
        found = candidates_of(index, self._means, self._book, nearest, shared)
        lineages = self._book.lineages()
        scores = score(pool, found, self._means, lineages, self._calibration)
        if queries.genes:
            scores = _with_genes(scores, queries.genes, self._threads)
        return Scored(scores, lineages, self._book.unit_names())

    def settle(self, sample: Sequence[Scored]) -> None:
        """Take in what the first queries say: how many are known, and which names keep the rate of errors."""
        calibration = self._calibration
        if calibration is None or not sample:
            return
        scores = Scores.joined([scored.scores for scored in sample])
        prior = self._wanted
        if isinstance(prior, str | Mapping):
            if prior != "usual":
                self._prior, estimated = mixture(scores)
                for realm, shares in zip(("cells", "viruses"), self._prior, strict=True):
                    if estimated[realm == "viruses"]:
                        self._log(f"{realm} of the sample: {_shares_text(shares)}")
        else:
            usual = np.array(calibration.prior)
            known, species, farther = map(float, prior)
            parts = (known / usual[:2].sum(), species / usual[2], farther / usual[3:].sum())
            self._prior = np.tile(usual * np.repeat(parts, (2, 1, len(usual) - 3)), (2, 1))
        if prior != "usual":
            self._kinds = self._kinds_of(scores)
        if self._rate is not None:
            judged = judge(scores, self._prior, self._kinds)
            self._limits = discovery_limits(judged, self._rate)
            self._kind_limit = discovery_limit(judged.molecule.max(axis=1), self._rate)

    def _kinds_of(self, scores: Scores) -> KindShares:
        """How frequent kinds of molecule are: as given, or as the sample says."""
        if isinstance(self._wanted, Mapping):
            shares = kind_shares(self._wanted)
            return KindShares(shares, shares)
        estimated = kinds_of(even_kinds(scores, self._prior))
        if estimated is None:
            return KindShares()
        parts = [
            f"{share:.0%} {name}" for share, name in zip(estimated, MOLECULES, strict=True) if share > 0.005
        ]
        self._log(f"molecules of the sample: {', '.join(parts)}")
        return KindShares(estimated)

    def judgements(self, scored: Scored) -> list[Judgement]:
        """The judgement on every query."""
        if not len(scored.scores):
            return []
        judged = judge(scored.scores, self._prior, self._kinds)
        given = verdicts(judged, scored.lineages, self._least, self._limits)
        calls = _consensus(judged, scored.lineages)
        return [
            Judgement(
                calls[row],
                verdict.text if self._calibration is not None else "",
                verdict.rank,
                verdict.name,
                _molecule(judged, row, self._kind_limit),
                WHY[int(judged.why[row])] if (judged.names[row] >= 0).any() else "",
                _unit(judged, scored, row),
            )
            for row, verdict in enumerate(given)
        ]

    def _shared(self, queries: Queries) -> SharedHashes:
        if queries.sketches is None or not self._index.has_sketches:
            return SharedHashes.nothing(len(queries.ids))
        scale = sketch_scale(self._index.manifest)
        sketches = [thinned(sketch, scale) for sketch in queries.sketches]
        found = self._index.shared(sketches)
        hashes = np.array([len(sketch) for sketch in sketches], dtype=np.int64)
        return SharedHashes(found.query, found.genome, found.count, hashes)

    def _genomes_of(self, entries: NDArray[np.int64]) -> NDArray[np.int64]:
        """(q,) numbers of the genomes of entries, -1 for none."""
        known = self._index.entries(entries)
        return np.array([known[one].genome if one in known else -1 for one in entries.tolist()], np.int64)

    def _refresh(self) -> None:
        """Start again where the index has changed."""
        if self._epoch == self._index.table.epoch:
            return
        self._epoch = self._index.table.epoch
        known = known_of(self._index)
        self._book, self._means, kept = known.book, known.means, known.calibrated
        self._calibration = None if kept is None else kept.calibration
        if kept is not None and (line := kept.warning(self._index.table)) and line != self._warned:
            self._warned = line
            self._log(line)


def _with_genes(scores: Scores, genes: Sequence[Genes], threads: int) -> Scores:
    """The scores with what the protein families in queries say of kinds, where it can matter."""
    # Nothing is known yet of the sample.
    even = even_kinds(scores, np.ones((2, scores.classes.shape[1])))
    rows = np.flatnonzero(posterior(even, np.array(USUAL_KINDS)).max(axis=1) < CERTAIN)
    limit = np.where(np.isfinite(scores.plasmid_limit), GENES_LIMIT, np.nan)
    if not rows.size:
        return replace(scores, plasmid_limit=limit)
    asked = [genes[row] for row in rows.tolist()]
    new = [one for one in asked if one.odds is None]
    for one, odds in zip(new, gene_log_odds([one.letters for one in new], threads), strict=True):
        one.odds = odds
    molecule = scores.molecule.copy()
    molecule[rows] = with_odds(molecule[rows], np.array([one.odds for one in asked])[:, None])
    return replace(scores, molecule=molecule, plasmid_limit=limit)


def _shares_text(shares: NDArray[np.float64]) -> str:
    known, species, farther = shares[:2].sum(), shares[2], shares[3:].sum()
    return f"{known:.0%} of known species, {species:.0%} new species, {farther:.0%} new genera or farther"


def _consensus(judged: Judgements, lineages: Lineages) -> list[dict[str, RankCall]]:
    """What every query is called at each rank that has a name."""
    lines = zip(judged.names.tolist(), judged.share.tolist(), judged.probability.tolist(), strict=True)
    return [
        {
            rank: RankCall(names[code], share, None if isnan(likely) else likely)
            for rank, names, code, share, likely in zip(RANKS, lineages.names, *line, strict=True)
            if code >= 0
        }
        for line in lines
    ]


def _molecule(judged: Judgements, row: int, limit: float | None) -> MoleculeCall | None:
    """The likeliest kind, "unsure" below a limit; None: as is the default."""
    probabilities = judged.molecule[row].astype(float).tolist()
    if np.isnan(probabilities).any():
        return None
    best = int(np.argmax(probabilities))
    called = judged.called[row] if limit is None else probabilities[best] >= limit
    by_name = dict(zip(MOLECULES, probabilities, strict=True))
    return MoleculeCall(MOLECULES[best] if called else UNSURE, probabilities[best], by_name)


def _unit(judged: Judgements, scored: Scored, row: int) -> UnitCall | None:
    """The unit of the nearest plasmid that has one, where the query is likelier of it than not."""
    probability = float(judged.molecule[row, PLASMID] * scored.scores.unit_right[row])
    # Asked this way round, nan is not likely.
    if not probability >= EVEN:
        return None
    return UnitCall(scored.units[int(scored.scores.unit[row])], probability)
