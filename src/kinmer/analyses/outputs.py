"""What all analyses share: where their points come from, and how their results are written."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import UsageError
from kinmer.files import replaced_text, written_together
from kinmer.vectors import Space

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "QUANTILES",
    "Analysis",
    "column",
    "known",
    "need_explore",
    "plain",
    "quantiles",
    "sampled",
    "write_table",
]


QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


class Analysis(ABC):
    """Numbers of an analysis; written as STEM.json, STEM.tsv and a picture."""

    @abstractmethod
    def text(self) -> str:
        """Some lines for people."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The numbers, JSON-able."""

    @abstractmethod
    def table(self) -> tuple[Sequence[str], Iterable[Sequence[object]]]:
        """Header and rows of STEM.tsv."""

    @abstractmethod
    def figure(self) -> Figure | None:
        """The picture; None where there is nothing to draw."""

    def more_tables(self) -> dict[str, tuple[Sequence[str], Iterable[Sequence[object]]]]:
        """Header and rows of STEM-NAME.tsv, by name."""
        return {}

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        return [Path(f"{stem}{suffix}") for suffix in (".json", ".tsv", ".png", ".svg")]

    def write(self, stem: str | Path) -> list[Path]:
        """Write the numbers, the tables and the picture, all of them together; gives their paths."""
        stem = Path(stem)
        with written_together(*self.outputs(stem)) as (aside, *_):
            written = self._write(aside.with_name(stem.name))
        return [stem.with_name(path.name) for path in written]

    def _write(self, stem: Path) -> list[Path]:
        paths = [Path(f"{stem}.json"), Path(f"{stem}.tsv")]
        with replaced_text(paths[0]) as file:
            file.write(json.dumps(self.summary(), indent=1, default=plain, allow_nan=False) + "\n")
        write_table(paths[1], *self.table())
        for name, (header, rows) in self.more_tables().items():
            paths.append(Path(f"{stem}-{name}.tsv"))
            write_table(paths[-1], header, rows)
        figure = self.figure()
        if figure is not None:
            from kinmer import plots

            paths += plots.save(figure, stem)
        return paths


def column(space: Space, name: str) -> NDArray[np.float64]:
    """Numbers (n,) of a column of what is known; NaN where there is none, or no number."""
    if name not in space.obs:
        return np.full(len(space), np.nan)
    values = pd.to_numeric(space.obs[name].astype(object), errors="coerce")
    return values.to_numpy(np.float64)


def sampled(points: int, sample: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows (min(points, sample),), ascending, each at most once."""
    if sample >= points:
        return np.arange(points)
    return np.sort(rng.choice(points, sample, replace=False))


def quantiles(values: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Quantiles of values (n,), n > 0, by their share."""
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def write_table(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table with tabs; empty fields where nothing is known, numbers with six digits."""
    with replaced_text(path) as file:
        file.write("\t".join(header) + "\n")
        for row in rows:
            file.write("\t".join(_shown(one) for one in row) + "\n")


def _shown(value: object) -> str:
    if value is None or value != value:
        return ""
    if isinstance(value, float | np.floating):
        return f"{value:.6g}"
    text = str(value)
    return " ".join(text.split()) if "\t" in text or "\n" in text else text


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no number")


def known(value: float) -> float | None:
    """The number, or None where it is none."""
    return float(value) if math.isfinite(value) else None


def need_explore(module: str) -> None:
    """UsageError where a library of the extra ``explore`` is not there."""
    if find_spec(module) is None:
        raise UsageError(
            f"{module} is not installed", "this analysis needs it", "pip install 'kinmer[explore]'"
        )
