"""What alignments prove, against what composition says."""

from __future__ import annotations

from kinmer.queries.judge import with_proof
from kinmer.queries.results import Evidence, Hit, Homology, RankCall
from kinmer.queries.sample import Judgement
from kinmer.taxonomy import RANKS

ONE = ("D", "P", "C", "O", "F", "G", "G one")
TWO = ("D", "P", "C", "O", "F", "H", "H two")
COLUMNS = dict(zip(RANKS, RANKS, strict=True))
CALLS = {rank: RankCall(name, 0.8, 0.7) for rank, name in zip(RANKS, ONE, strict=True)}
NAMED = Judgement(CALLS, "species G one", "species", "G one")
UNSURE = Judgement(CALLS, "genus G, species unsure", "genus", "G")


def hit(lineage: tuple[str, ...], ani: float | None, part: float, kind: Homology = "both") -> Hit:
    names = dict(zip(RANKS, lineage, strict=True))
    return Hit(1, "x", 0.1, 1000, 0.5, dict(names), evidence=Evidence(ani, part, kind))


def test_an_alignment_names_the_species_and_all_above_it() -> None:
    found = with_proof(UNSURE, [hit(ONE, 0.90, 0.2), hit(TWO, 0.96, 0.9)], COLUMNS)
    assert (found.rank, found.name, found.verdict) == ("species", "H two", "species H two, by alignment")
    assert [found.consensus[rank].name for rank in RANKS] == list(TWO)
    # What composition said too keeps its probability; what it did not say has none.
    assert found.consensus["family"] == RankCall("F", 0.8, 0.7)
    assert found.consensus["genus"] == RankCall("H", 0.0, None)
    assert with_proof(Judgement(), [hit(TWO, 0.95, 0.5)], COLUMNS).name == "H two"


def test_an_alignment_that_is_too_unlike_unnames_the_species() -> None:
    found = with_proof(NAMED, [hit(ONE, 0.91, 0.9)], COLUMNS)
    assert (found.rank, found.name) == ("genus", "G")
    assert found.verdict == "new species of genus G, by alignment"


def test_what_proves_nothing_changes_nothing() -> None:
    for judged in (NAMED, UNSURE, Judgement()):
        for one in (hit(TWO, 0.99, 0.4), hit(ONE, 0.93, 0.9), hit(TWO, None, 0.0, "composition only")):
            assert with_proof(judged, [one], COLUMNS) == judged
        assert with_proof(judged, [], COLUMNS) == judged
    assert with_proof(UNSURE, [hit(ONE, 0.80, 0.9)], COLUMNS) == UNSURE
    nameless = Hit(1, "x", 0.1, 1000, 0.5, {}, evidence=Evidence(0.99, 1.0, "both"))
    assert with_proof(NAMED, [nameless], COLUMNS) == NAMED
