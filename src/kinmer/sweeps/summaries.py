"""Records of trials to figures of settings: means over seeds, with spread and interval."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kinmer.files import replaced_text, write_json
from kinmer.training.settings import flat, text_of

__all__ = [
    "ENCODERS",
    "FORMAT",
    "KIND",
    "OUTPUT",
    "Figure",
    "Summary",
    "SweepReport",
    "differing",
    "figure",
    "figures_of",
    "short",
    "summaries",
    "t_quantile",
]


Record = Mapping[str, Any]
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Figure:
    """A mean over n seeds; sd and 95 % interval are None for a single one."""

    mean: float
    sd: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """A setting. varied : its values by name. seeds : of the trials that ended well. figures : by name."""

    varied: Mapping[str, Any]
    seeds: tuple[int, ...]
    failed: int
    figures: Mapping[str, Figure]

    @property
    def score(self) -> Figure | None:
        return self.figures.get("score")


def figures_of(record: Record) -> dict[str, float]:
    """All that is measured of a trial, by name of its column; nothing for one that failed."""
    if record["state"] != "done":
        return {}
    cells: Mapping[str, Mapping[str, float]] = record.get("retrieval") or {}
    found: dict[str, float | None] = {"score": record["score"]}
    for length in sorted({one for lengths in cells.values() for one in lengths}, key=_first_number):
        found[f"species@1_{length}"] = _mean([cells[case][length] for case in cells if length in cells[case]])
    for case, lengths in cells.items():
        found[f"species@1_{case}"] = _mean(list(lengths.values()))
    for name in ("held_out_retrieval", "validation_loss", "kl", "mse"):
        found[name] = record.get(name)
    for block, error in record.get("blocks", {}).items():
        found[f"mse_{block.replace('-', '')}"] = error
    # Names that no setting has: both are columns of one table.
    found["best_epoch"], found["last_epoch"] = record.get("epoch"), record.get("epochs")
    for name in ("seconds", "scoring_seconds", "parameters"):
        found[name] = record.get(name)
    return {name: float(value) for name, value in found.items() if value is not None}


def differing(records: Sequence[Record], first: Sequence[str]) -> tuple[str, ...]:
    """Names of the settings that tell the trials apart, without the seed; those in `first` in any case."""
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in flat(record["settings"]).items():
            values.setdefault(name, set()).add(text_of(value))
    more = (name for name, some in values.items() if len(some) > 1 and name not in (*first, "seed"))
    return (*first, *more)


def summaries(records: Sequence[Record], names: Sequence[str], *, maximise: bool) -> list[Summary]:
    """A summary for every setting, the best first; settings with a failed trial come behind the others."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        settings = flat(record["settings"])
        groups.setdefault(tuple(text_of(settings.get(name)) for name in names), []).append(record)
    found = [_summary(some, names) for some in groups.values()]

    def rank(one: Summary) -> tuple[bool, bool, float]:
        score = one.score
        value = 0.0 if score is None else -score.mean if maximise else score.mean
        return score is None, one.failed > 0, value

    return sorted(found, key=rank)


def figure(values: Sequence[float]) -> Figure:
    """Mean, standard deviation (n - 1) and Student's interval of the mean."""
    n, mean = len(values), _mean(values)
    if n < 2:
        return Figure(mean, None, None, None)
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Figure(mean, sd, mean - half, mean + half)


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """t such that a Student variable of so many degrees of freedom lies within ±t with this probability.

    By halving, on the closed forms of Abramowitz and Stegun (1964), 26.7.3 and 26.7.4.
    """
    low, high = 0.0, 1.0
    while _t_within(high, freedom) < confidence:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_within(middle, freedom) < confidence else (low, middle)
    return (low + high) / 2


def _t_within(t: float, freedom: int) -> float:
    """Probability that a Student variable lies within ±t."""
    angle = math.atan(t / math.sqrt(freedom))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    # cos for odd, 1 for even degrees of freedom, then each term out of the one before.
    term, total = (cosine if odd else 1.0), 0.0
    for power in range(2 + odd, freedom + 1, 2):
        total += term
        term *= cosine**2 * (power - 1) / power
    return (angle + sine * total) * 2 / math.pi if odd else sine * total


def _summary(records: Sequence[Record], names: Sequence[str]) -> Summary:
    settings = flat(records[0]["settings"])
    done = [one for one in records if one["state"] == "done"]
    columns: dict[str, list[float]] = {}
    for record in done:
        for name, value in figures_of(record).items():
            columns.setdefault(name, []).append(value)
    return Summary(
        {name: settings.get(name) for name in names},
        tuple(sorted(one["settings"]["seed"] for one in done)),
        len(records) - len(done),
        {name: figure(values) for name, values in columns.items()},
    )


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)


def _first_number(length: str) -> int:
    return int(length.split("-")[0])


FORMAT, KIND = 1, "kinmer sweep"
OUTPUT, ENCODERS = "sweep.json", "encoders"
# Figures that may be the score, by its name.
SCORES = {"validation loss": "validation_loss", "retrieval of held-out species": "held_out_retrieval"}
# Figures that are told as they are: they have no spread that anybody asks for.
PLAIN = ("last_epoch", "parameters")
# Figures that the page leaves to the tables.
NOT_SHOWN = ("last_epoch", "scoring_seconds", "score")


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Trials and settings of a sweep's folder.

    folder : of the sweep. signature : data, score and direction. names : of the settings that vary.
    trials : a record a trial, in the order of `settings`. settings : the best first.
    """

    folder: Path
    signature: Mapping[str, Any]
    names: tuple[str, ...]
    trials: tuple[Mapping[str, Any], ...] = field(repr=False)
    settings: tuple[Summary, ...] = field(repr=False)

    @classmethod
    def of(
        cls,
        folder: Path,
        signature: Mapping[str, Any],
        records: Sequence[Mapping[str, Any]],
        names: Sequence[str],
    ) -> SweepReport:
        """Of the records of all trials; `names` are told even where they do not vary."""
        told = differing(records, names)
        found = summaries(records, told, maximise=signature["maximise"])
        place = {tuple(map(text_of, one.varied.values())): number for number, one in enumerate(found)}

        def order(record: Mapping[str, Any]) -> tuple[int, int]:
            settings = flat(record["settings"])
            return place[tuple(text_of(settings.get(name)) for name in told)], settings["seed"]

        return cls(
            folder=folder,
            signature=signature,
            names=told,
            trials=tuple(sorted(records, key=order)),
            settings=tuple(found),
        )

    @property
    def best(self) -> Summary | None:
        """The best setting; None where every trial failed."""
        return self.settings[0] if self.settings and self.settings[0].score is not None else None

    @property
    def failed(self) -> int:
        """Trials that failed."""
        return sum(one.failed for one in self.settings)

    def table(self, rows: int | None = None) -> str:
        """The best settings with their figures (mean ± sd over seeds), as a table of Markdown."""
        hidden = {*NOT_SHOWN, SCORES.get(self.signature["score"])}
        figures = [name for name in self._figures() if name not in hidden]
        header = ["", *self.names, "seeds", "failed", f"score ({self.signature['score']})", *figures]
        lines = [header, ["---"] * len(header)]
        for number, one in enumerate(self.settings[:rows], 1):
            varied = [short(value) for value in one.varied.values()]
            counts = [str(len(one.seeds)), str(one.failed)]
            shown = [_told(one.figures.get(name), spread=name not in PLAIN) for name in figures]
            lines.append([str(number), *varied, *counts, _told(one.score, interval=True), *shown])
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "kind": KIND,
            "format": FORMAT,
            "signature": dict(self.signature),
            "varied": list(self.names),
            "settings": [asdict(one) for one in self.settings],
            "trials": [dict(one) for one in self.trials],
        }

    def write(self) -> list[Path]:
        """``trials.tsv``, ``settings.tsv``, ``sweep.md`` and, last, ``sweep.json``; the paths."""
        paths = [self.folder / name for name in ("trials.tsv", "settings.tsv", "sweep.md", OUTPUT)]
        _write_table(paths[0], self._trial_rows())
        _write_table(paths[1], self._setting_rows())
        with replaced_text(paths[2]) as file:
            file.write(self.page())
        write_json(paths[3], self.to_dict())
        return paths

    def draw(self) -> list[Path]:
        """The pictures; the paths."""
        from kinmer import plots

        written: list[Path] = []
        points = self._points()
        label = str(self.signature["score"])
        if points and self.names:
            written += plots.save(plots.sweep_panels(points, ylabel=label), self.folder / "sweep")
        varying = [name for name in self.names if len(set(points.get(name, ([], []))[0])) > 1]
        if len(varying) == 2:
            x, y = varying
            (first, score), (second, _) = points[x], points[y]
            means = _cell_means(first, second, score)
            columns, rows = sorted(set(first), key=_in_order), sorted(set(second), key=_in_order)
            # A picture of cells makes sense where most of them are filled: not of values drawn at random.
            if 2 * len(means) >= len(columns) * len(rows):
                grid = [[means.get((column, row)) for column in columns] for row in rows]
                names = ([short(one) for one in columns], [short(one) for one in rows])
                figure = plots.sweep_map(grid, columns=(x, names[0]), rows=(y, names[1]), label=label)
                written += plots.save(figure, self.folder / "sweep-map")
        return written

    def page(self) -> str:
        """``sweep.md``."""
        signature = self.signature
        lines = [
            "# kinmer sweep",
            f"{len(self.trials)} trials of {len(self.settings)} settings"
            + (f", {self.failed} failed." if self.failed else "."),
            f"Score: {signature['score']}, {'larger' if signature['maximise'] else 'smaller'} is better; mean"
            " ± standard deviation over seeds, in brackets Student's 95 % interval of the mean. It tells how"
            " far seeds scatter, not how far other genomes would.",
            self.table(),
        ]
        if signature["maximise"]:
            lines.append(
                "The species that this score was taken on chose the settings: report the chosen ones on"
                " species of another fold."
            )
        facts = [f"- {name}: {value}" for name, value in flat(signature["data"]).items() if value is not None]
        lines += ["## Data", "\n".join(facts), "## Pictures", "![Score over every setting](sweep.png)"]
        if (self.folder / "sweep-map.png").exists():
            lines.append("![Score over two settings](sweep-map.png)")
        failures = [one for one in self.trials if one["state"] != "done"]
        if failures:
            told = [f"- `{one['name']}` (seed {one['settings']['seed']}): {one['error']}" for one in failures]
            lines += ["## Failed", "\n".join(told)]
        return "\n\n".join(lines) + "\n"

    def _figures(self) -> list[str]:
        """Names of all figures, in the order of the first trial that has the most."""
        best = max((figures_of(one) for one in self.trials), key=len, default={})
        rest = {name for one in self.trials for name in figures_of(one)} - set(best)
        return [*best, *sorted(rest)]

    def _trial_rows(self) -> Iterator[list[Any]]:
        figures = self._figures()
        yield ["trial", "encoder", *self.names, "seed", "state", *figures, "error"]
        for record in self.trials:
            settings, found = flat(record["settings"]), figures_of(record)
            done = record["state"] == "done"
            yield [
                record["name"],
                f"{ENCODERS}/{record['name']}" if done else None,
                *(settings.get(name) for name in self.names),
                settings["seed"],
                record["state"],
                *(found.get(name) for name in figures),
                record["error"],
            ]

    def _setting_rows(self) -> Iterator[list[Any]]:
        figures = self._figures()
        header = ["rank", *self.names, "seeds", "failed"]
        for name in figures:
            header += [name] if name in PLAIN else [name, f"{name}_sd"]
            header += ["score_low", "score_high"] if name == "score" else []
        yield header
        for number, one in enumerate(self.settings, 1):
            row: list[Any] = [number, *one.varied.values(), len(one.seeds), one.failed]
            for name in figures:
                found = one.figures.get(name)
                mean, sd = (None, None) if found is None else (found.mean, found.sd)
                row += [mean] if name in PLAIN else [mean, sd]
                if name == "score":
                    row += [None, None] if found is None else [found.low, found.high]
            yield row

    def _points(self) -> dict[str, tuple[list[Any], list[float]]]:
        """Of every name that varies the values and scores of all settings that have one."""
        scored = [one for one in self.settings if one.score is not None]
        scores = [one.score.mean for one in scored if one.score is not None]
        if not scored:
            return {}
        return {name: ([_plain(one.varied[name]) for one in scored], scores) for name in self.names}


def _plain(value: Any) -> Any:
    """Numbers as they are, anything else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)


def _in_order(value: Any) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def _cell_means(
    first: Sequence[Any], second: Sequence[Any], scores: Sequence[float]
) -> dict[tuple[Any, Any], float]:
    cells: dict[tuple[Any, Any], list[float]] = {}
    for column, row, score in zip(first, second, scores, strict=True):
        cells.setdefault((column, row), []).append(score)
    return {place: sum(some) / len(some) for place, some in cells.items()}


def _told(found: Figure | None, *, spread: bool = True, interval: bool = False) -> str:
    if found is None:
        return "."
    text = short(found.mean)
    if found.sd is not None and spread:
        text += f" ± {found.sd:.2g}"
    if interval and found.low is not None and found.high is not None:
        text += f" [{short(found.low)}, {short(found.high)}]"
    return text


def short(value: Any) -> str:
    """A number with four digits, whole ones whole."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1e4 else f"{value:.4g}"
    return text_of(value)


def _write_table(path: Path, rows: Iterator[list[Any]]) -> None:
    with replaced_text(path) as file:
        for row in rows:
            file.write("\t".join(map(_cell, row)) + "\n")


def _cell(value: Any) -> str:
    """Empty for what is not known; whole numbers without a point, floats so that they read back the same."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return " ".join(text_of(value).split())
