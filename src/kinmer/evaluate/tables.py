"""What of a retrieval report people read first: agreement by case, domain and length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from kinmer.evaluate.cells import ALL
from kinmer.evaluate.labelled import MOLECULE

if TYPE_CHECKING:
    from kinmer.evaluate.report import RetrievalReport, Score

__all__ = ["asked_of", "panels", "text"]

# The rank at which the database has an answer for a case.
RANK_OF_CASE = {"genus": "genus", "strain": "species", "genome": "species"}
SHOWN = {
    "at_1": "@1",
    "vote_10": "vote of 10",
    "at_10": "@10",
    "map_100": "mAP",
    "recall_10": "recall@10",
    "recall_100": "recall@100",
}
CURVE = {"at_1_of_1/8": "1/8", "at_1_of_1/4": "1/4", "at_1_of_1/2": "1/2", "at_1": "1"}
Panel = dict[str, tuple[list[float], list[float], list[float], list[float]]]


def asked_of(report: RetrievalReport) -> list[tuple[str, str]]:
    """(case, rank) pairs that are told; without cases all queries at every taxonomic rank."""
    pairs = [
        (case, rank)
        for case in report.cells.cases
        if (rank := RANK_OF_CASE.get(case, report.ranks[0])) in report.ranks
    ]
    return pairs or [(ALL, rank) for rank in report.ranks if rank != MOLECULE] or [(ALL, report.ranks[0])]


def text(report: RetrievalReport) -> str:
    """Aligned text."""
    lines = [
        f"{report.queries:,} queries of {report.genomes:,} genomes, {report.database:,} entries,"
        f" {report.metric}; 95 % bootstrap intervals over genomes"
    ]
    width = max(12, *(len(name) + 2 for name in report.encoders))
    for case, rank in asked_of(report):
        for domain in _domains(report):
            lines += _by_length(report, case, rank, domain, width)
    lines += _whole(report, width)
    lines += _molecules(report, width)
    lines += ["", f"{'hubs (k = 10)':<{width}}{'largest':>10}{'skewness':>10}{'never hit':>11}"]
    for name, hubs in report.hubs.items():
        skewness = "." if hubs.skewness is None else f"{hubs.skewness:.2f}"
        lines.append(f"{name:<{width}}{hubs.largest:>10,}{skewness:>10}{100 * hubs.never:>9.1f} %")
    lines += _against(report, width)
    return "\n".join(line.rstrip() for line in lines)


def _domains(report: RetrievalReport) -> list[str]:
    return list(report.cells.domains) if len(report.cells.domains) > 1 else [ALL]


def _by_length(report: RetrievalReport, case: str, rank: str, domain: str, width: int) -> Iterator[str]:
    """Agreement of the nearest, a column for every length."""
    lengths = [*report.cells.lengths, ALL]
    place = {"case": case, "domain": domain}
    first = [report.score(report.encoders[0], rank, length=one, **place) for one in lengths]
    if not any(first):
        return
    yield ""
    yield f"nearest is of the same {rank}: {_told(case, domain)}"
    yield f"{'':<{width}}" + "".join(f"{_kilobases(one):>20}" for one in lengths)
    for name in report.encoders:
        cells = [report.score(name, rank, length=one, **place) for one in lengths]
        yield f"{name:<{width}}" + "".join(f"{_cell(one):>20}" for one in cells)
    yield f"{'  ceiling':<{width}}" + "".join(f"{_ceiling(one):>20}" for one in first)
    counts = ("" if one is None else f"{one.queries:,} / {one.genomes:,}" for one in first)
    yield f"{'  queries / genomes':<{width}}" + "".join(f"{one:>20}" for one in counts)


def _whole(report: RetrievalReport, width: int) -> Iterator[str]:
    """All measures over all lengths, and the database's size."""
    for case, rank in asked_of(report):
        yield ""
        yield f"all lengths, {rank}: {_told(case, ALL)}"
        yield f"{'':<{width}}" + "".join(f"{one:>12}" for one in SHOWN.values())
        for name in report.encoders:
            found = [report.score(name, rank, one, case=case) for one in SHOWN]
            yield f"{name:<{width}}" + "".join(f"{_value(one):>12}" for one in found)
        most = [report.score(report.encoders[0], rank, one, case=case) for one in SHOWN]
        yield f"{'  ceiling':<{width}}" + "".join(f"{_ceiling(one):>12}" for one in most)
        yield f"{'  @1 among':<{width}}" + "".join(f"{one + ' genomes':>16}" for one in CURVE.values())
        for name in report.encoders:
            found = [report.score(name, rank, one, case=case) for one in CURVE]
            yield f"{name:<{width}}" + "".join(f"{f'{_value(one)} of {_ceiling(one)}':>16}" for one in found)


def _molecules(report: RetrievalReport, width: int) -> Iterator[str]:
    """Precision, recall and F1 of every molecule."""
    if MOLECULE not in report.ranks:
        return
    labels = [one.measure.removeprefix("f1:") for one in report.scores if one.measure.startswith("f1:")]
    yield ""
    yield "molecule of the nearest entry that tells one: precision, recall, F1"
    kinds = list(dict.fromkeys(labels))
    yield f"{'':<{width}}" + "".join(f"{one:>20}" for one in kinds)
    for name in report.encoders:
        cells = (
            " ".join(
                _value(report.score(name, MOLECULE, f"{what}:{kind}"))
                for what in ("precision", "recall", "f1")
            )
            for kind in kinds
        )
        yield f"{name:<{width}}" + "".join(f"{one:>20}" for one in cells)


def _against(report: RetrievalReport, width: int) -> Iterator[str]:
    """Differences of the agreement, over all domains."""
    found = {(one.encoder, *one[2:7]): one for one in report.differences}
    if not found:
        return
    lengths = [*report.cells.lengths, ALL]
    baseline = report.differences[0].baseline
    for case, rank in asked_of(report):
        yield ""
        yield f"nearest is of the same {rank}, minus {baseline} on the same queries: {_told(case, ALL)}"
        yield f"{'':<{width}}" + "".join(f"{_kilobases(one):>24}" for one in lengths)
        for name in report.encoders:
            if name != baseline:
                cells = (found.get((name, rank, case, ALL, one, "at_1")) for one in lengths)
                yield f"{name:<{width}}" + "".join(
                    f"{'' if one is None or one.value is None else _signed(one.value, one.low, one.high):>24}"
                    for one in cells
                )


def panels(report: RetrievalReport) -> dict[str, tuple[str, list[str], Panel]]:
    """For `plots.retrieval_panels`: title -> (axis, places, encoder -> (value, low, high, ceiling))."""
    found = {}
    lengths = list(report.cells.lengths) or [ALL]
    for domain in _domains(report):
        for case, rank in asked_of(report):
            title = f"{rank}: {_told(case, domain)}"
            found[title] = (
                "query length",
                [_kilobases(one) for one in lengths],
                {
                    name: _series(
                        [report.score(name, rank, case=case, domain=domain, length=one) for one in lengths]
                    )
                    for name in report.encoders
                },
            )
        case, rank = asked_of(report)[0]
        found[f"{rank}: {_told(case, domain)}, by size"] = (
            "share of the database's genomes",
            list(CURVE.values()),
            {
                name: _series([report.score(name, rank, one, case=case, domain=domain) for one in CURVE])
                for name in report.encoders
            },
        )
    return found


def _series(scores: list[Score | None]) -> tuple[list[float], list[float], list[float], list[float]]:
    def column(name: str) -> list[float]:
        values = (None if one is None else getattr(one, name) for one in scores)
        return [float("nan") if value is None else float(value) for value in values]

    return column("value"), column("low"), column("high"), column("ceiling")


def _told(case: str, domain: str) -> str:
    queries = "all queries" if case == ALL else f"case {case}"
    return queries if domain == ALL else f"{queries}, {domain}"


def _cell(one: Score | None) -> str:
    if one is None or one.value is None:
        return "."
    if one.low is None or one.high is None:
        return f"{one.value:.3f}"
    return f"{one.value:.3f} [{one.low:.2f}, {one.high:.2f}]"


def _signed(value: float, low: float | None, high: float | None) -> str:
    return f"{value:+.3f}" if low is None or high is None else f"{value:+.3f} [{low:+.3f}, {high:+.3f}]"


def _value(one: Score | None) -> str:
    return "." if one is None or one.value is None else f"{one.value:.3f}"


def _ceiling(one: Score | None) -> str:
    return "." if one is None or one.ceiling is None else f"{one.ceiling:.3f}"


def _kilobases(length: str) -> str:
    """``5000`` as ``5 kb``; bins and all as they are."""
    if not length.isdigit():
        return "all lengths" if length == ALL else length
    return f"{int(length) / 1000:g} kb" if int(length) >= 1000 else f"{length} b"
