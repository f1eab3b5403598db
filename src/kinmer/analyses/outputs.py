"""What all analyses share: samples and columns of their points, and how their results are written."""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from kinmer.errors import UsageError, require
from kinmer.files import replaced_text, written_together
from kinmer.tables import write_table
from kinmer.vectors import Vectors

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
# Header and rows.
Table = tuple[Sequence[str], Iterable[Sequence[object]]]


class Analysis(ABC):
    """Numbers of an analysis; written as STEM.json, STEM.tsv and a picture."""

    # Endings of the other files.
    MORE: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def text(self) -> str:
        """Some lines for people."""

    @abstractmethod
    def summary(self) -> dict[str, Any]:
        """The numbers, JSON-able."""

    @abstractmethod
    def table(self) -> Table:
        """Header and rows of STEM.tsv."""

    @abstractmethod
    def figure(self) -> Figure | None:
        """The picture; None where there is nothing to draw."""

    def more_tables(self) -> dict[str, Table]:
        """Header and rows of STEM-NAME.tsv, by name."""
        return {}

    def more_figures(self) -> dict[str, Figure]:
        """The pictures STEM-NAME, by name."""
        return {}

    @classmethod
    def outputs(cls, stem: str | Path) -> list[Path]:
        """The files that `write` may write."""
        require("matplotlib", "the pictures of an analysis need it", "explore")
        return [Path(f"{stem}{ending}") for ending in (".json", ".tsv", ".png", ".svg", *cls.MORE)]

    def write(self, stem: str | Path) -> list[Path]:
        """Write the numbers, the tables and the pictures, all of them together; gives their paths."""
        stem = Path(stem)
        with written_together(*self.outputs(stem)) as (aside, *_):
            written = self._write(aside.with_name(stem.name))
        return [stem.with_name(path.name) for path in written]

    def _write(self, stem: Path) -> list[Path]:
        paths = [Path(f"{stem}.json")]
        with replaced_text(paths[0]) as file:
            file.write(json.dumps(self.summary(), indent=1, default=plain, allow_nan=False) + "\n")
        for name, table in {"": self.table(), **self.more_tables()}.items():
            paths.append(Path(f"{stem}-{name}.tsv" if name else f"{stem}.tsv"))
            write_table(paths[-1], *table)
        for name, figure in {"": self.figure(), **self.more_figures()}.items():
            if figure is not None:
                from kinmer import plots

                paths += plots.save(figure, f"{stem}-{name}" if name else stem)
        return paths


def column(points: Vectors, name: str) -> NDArray[np.float64]:
    """Numbers (n,) of a column of what is known; NaN where there is none, or no number."""
    if name not in points.obs:
        return np.full(len(points), np.nan)
    return pd.to_numeric(points.obs[name].astype(object), errors="coerce").to_numpy(np.float64)


def listed(points: Vectors, rows: NDArray[np.int64], **columns: Any) -> pd.DataFrame:
    """A table of some rows: the columns given, then all that is known of the sequences."""
    table = pd.DataFrame(columns)
    for name in points.obs.columns:
        table[name] = points.obs[name].to_numpy()[rows]
    return table


def sampled(points: int, sample: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows (min(points, sample),), ascending, each at most once."""
    if sample >= points:
        return np.arange(points)
    return np.sort(rng.choice(points, sample, replace=False))


def quantiles(values: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Quantiles of values (n,), n > 0, by their share."""
    return {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(values, QUANTILES), strict=True)}


def described(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Mean, standard deviation, extremes and quantiles of values (n,), n > 0."""
    return {
        "mean": float(values.mean()),
        "sd": float(values.std()),
        "minimum": float(values.min()),
        "maximum": float(values.max()),
        "quantiles": quantiles(values),
    }


def plain(value: Any) -> Any:
    """NumPy's numbers and arrays as Python's."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not a number")


def known(value: float) -> float | None:
    """The number, or None where it is NaN or infinite."""
    return float(value) if math.isfinite(value) else None


def need_explore(module: str) -> None:
    """UsageError where a library of the extra ``explore`` is missing."""
    if find_spec(module) is None:
        raise UsageError(
            f"{module} is not installed", "this analysis needs it", "pip install 'kinmer[explore]'"
        )
