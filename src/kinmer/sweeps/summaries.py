"""What a sweep measured: means over seeds with spread and interval, in tables, a page and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from scipy import special

from kinmer.files import replaced_text, write_json
from kinmer.tables import write_table
from kinmer.training.settings import flat, text_of

Record = Mapping[str, Any]
CONFIDENCE = 0.95
FORMAT, KIND = 1, "kinmer sweep"
OUTPUT, ENCODERS = "sweep.json", "encoders"
# The figure that is the score, by its name, where there is no benchmark.
SCORES = {"validation loss": "validation_loss"}
# Figures whose spread says nothing.
PLAIN = ("last_epoch", "parameters")
# Figures that the page leaves to the tables.
NOT_SHOWN = ("last_epoch", "scoring_seconds", "score")


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
    figures: dict[str, float | None] = {"score": record["score"]}
    lengths = {length for case in cells.values() for length in case}
    for length in sorted(lengths, key=lambda one: int(one.split("-")[0])):
        figures[f"species@1_{length}"] = fmean(case[length] for case in cells.values() if length in case)
    for name, case in cells.items():
        figures[f"species@1_{name}"] = fmean(case.values())
    for name in ("validation_loss", "kl", "mse"):
        figures[name] = record.get(name)
    for block, error in record.get("blocks", {}).items():
        figures[f"mse_{block.replace('-', '')}"] = error
    # Names that no setting has: both are columns of one table.
    figures["best_epoch"], figures["last_epoch"] = record.get("epoch"), record.get("epochs")
    for name in ("seconds", "scoring_seconds", "parameters"):
        figures[name] = record.get(name)
    return {name: float(value) for name, value in figures.items() if value is not None}


def differing(records: Sequence[Record], first: Sequence[str]) -> tuple[str, ...]:
    """Names of the settings that tell the trials apart, without the seed; those in `first` in any case."""
    values: dict[str, set[str]] = {}
    for record in records:
        for name, value in flat(record["settings"]).items():
            values.setdefault(name, set()).add(text_of(value))
    return (
        *first,
        *(name for name, some in values.items() if len(some) > 1 and name not in (*first, "seed")),
    )


def _key(record: Record, names: Sequence[str]) -> tuple[str, ...]:
    settings = flat(record["settings"])
    return tuple(text_of(settings.get(name)) for name in names)


def summaries(records: Sequence[Record], names: Sequence[str], *, maximise: bool) -> list[Summary]:
    """A summary for every setting, the best first; settings with a failed trial come behind the others."""
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        groups.setdefault(_key(record, names), []).append(record)

    def rank(one: Summary) -> tuple[bool, bool, float]:
        value = 0.0 if one.score is None else -one.score.mean if maximise else one.score.mean
        return one.score is None, one.failed > 0, value

    return sorted((_summary(some, names) for some in groups.values()), key=rank)


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


def figure(values: Sequence[float]) -> Figure:
    """Mean, standard deviation (n - 1) and Student's interval of the mean."""
    n, mean = len(values), fmean(values)
    if n < 2:
        return Figure(mean, None, None, None)
    sd = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Figure(mean, sd, mean - half, mean + half)


def t_quantile(freedom: int, confidence: float = CONFIDENCE) -> float:
    """t such that a Student variable of so many degrees of freedom lies within ±t with this probability."""
    return float(special.stdtrit(freedom, (1 + confidence) / 2))


@dataclass(frozen=True, kw_only=True)
class SweepReport:
    """Trials and settings of a sweep's folder.

    folder : of the sweep. signature : data, score and direction. names : of the settings that vary.
    trials : a record a trial, in the order of `settings`. settings : the best first.
    """

    folder: Path
    signature: Mapping[str, Any]
    names: tuple[str, ...]
    trials: tuple[Record, ...] = field(repr=False)
    settings: tuple[Summary, ...] = field(repr=False)

    @classmethod
    def of(
        cls, folder: Path, signature: Mapping[str, Any], records: Sequence[Record], first: Sequence[str]
    ) -> SweepReport:
        """Of the records of all trials; settings named in `first` are columns even where they do not vary."""
        names = differing(records, first)
        settings = summaries(records, names, maximise=signature["maximise"])
        rank = {tuple(map(text_of, one.varied.values())): number for number, one in enumerate(settings)}
        trials = sorted(records, key=lambda one: (rank[_key(one, names)], one["settings"]["seed"]))
        return cls(
            folder=folder, signature=signature, names=names, trials=tuple(trials), settings=tuple(settings)
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
            shown = [_text(one.figures.get(name), spread=name not in PLAIN) for name in figures]
            lines.append([str(number), *varied, *counts, _text(one.score, interval=True), *shown])
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
        for path, (header, *rows) in zip(paths, (self._trial_rows(), self._setting_rows()), strict=False):
            write_table(path, header, ([_cell(one) for one in row] for row in rows))
        with replaced_text(paths[2]) as file:
            file.write(self.page())
        write_json(paths[3], self.to_dict())
        return paths

    def draw(self) -> list[Path]:
        """The pictures; the paths."""
        from kinmer import plots

        scored = [(one, one.score.mean) for one in self.settings if one.score is not None]
        scores = [score for _, score in scored]
        points = {name: ([_plain(one.varied[name]) for one, _ in scored], scores) for name in self.names}
        label = str(self.signature["score"])
        if not scored or not points:
            return []
        written = plots.save(plots.sweep_panels(points, ylabel=label), self.folder / "sweep")
        varying = [name for name, (values, _) in points.items() if len(set(values)) > 1]
        if len(varying) != 2:
            return written
        first, second = (points[name][0] for name in varying)
        cells: dict[tuple[Any, Any], list[float]] = {}
        for column, row, score in zip(first, second, scores, strict=True):
            cells.setdefault((column, row), []).append(score)
        columns, rows = sorted(set(first), key=_in_order), sorted(set(second), key=_in_order)
        # A picture of cells makes sense where most of them are filled: not of values drawn at random.
        if 2 * len(cells) < len(columns) * len(rows):
            return written
        grid = [
            [fmean(cells[column, row]) if (column, row) in cells else None for column in columns]
            for row in rows
        ]
        axes = [
            (name, [short(one) for one in some]) for name, some in zip(varying, (columns, rows), strict=True)
        ]
        picture = plots.sweep_map(grid, columns=axes[0], rows=axes[1], label=label)
        return written + plots.save(picture, self.folder / "sweep-map")

    def page(self) -> str:
        """``sweep.md``."""
        signature = self.signature
        lines = [
            "# kinmer sweep",
            f"{len(self.trials)} trials of {len(self.settings)} settings"
            + (f", {self.failed} failed." if self.failed else "."),
            f"Score: {signature['score']}, {'larger' if signature['maximise'] else 'smaller'} is better; mean"
            " ± standard deviation over seeds, in brackets Student's 95 % interval of the mean. It shows how"
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
            named = [
                f"- `{one['name']}` (seed {one['settings']['seed']}): {one['error']}" for one in failures
            ]
            lines += ["## Failed", "\n".join(named)]
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
            settings, measured, name = flat(record["settings"]), figures_of(record), record["name"]
            yield [
                name,
                f"{ENCODERS}/{name}" if record["state"] == "done" else None,
                *(settings.get(name) for name in self.names),
                settings["seed"],
                record["state"],
                *(measured.get(name) for name in figures),
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
                cell = one.figures.get(name, Figure(math.nan, None, None, None))
                row += [cell.mean] if name in PLAIN else [cell.mean, cell.sd]
                row += [cell.low, cell.high] if name == "score" else []
            yield row


def _plain(value: Any) -> Any:
    """Numbers as they are, anything else as text."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else text_of(value)


def _in_order(value: Any) -> tuple[bool, float, str]:
    return (True, 0.0, value) if isinstance(value, str) else (False, float(value), "")


def _text(cell: Figure | None, *, spread: bool = True, interval: bool = False) -> str:
    if cell is None:
        return "."
    text = short(cell.mean)
    if cell.sd is not None and spread:
        text += f" ± {cell.sd:.2g}"
    if interval and cell.low is not None and cell.high is not None:
        text += f" [{short(cell.low)}, {short(cell.high)}]"
    return text


def short(value: Any) -> str:
    """A number with four digits, whole ones whole."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() or abs(value) >= 1e4 else f"{value:.4g}"
    return text_of(value)


def _cell(value: Any) -> str:
    """Empty for what is not known; whole numbers without a point, floats so that they read back the same."""
    if value is None or value != value:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return " ".join(text_of(value).split())
