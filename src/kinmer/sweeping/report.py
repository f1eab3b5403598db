"""What a sweep found: tables of trials and settings, JSON, a page and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kinmer.files import replaced_text, write_json
from kinmer.sweeping.aggregates import Figure, Summary, differing, figures_of, summaries
from kinmer.sweeping.space import flat, text_of

__all__ = ["ENCODERS", "FORMAT", "KIND", "OUTPUT", "SweepReport", "short"]

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
