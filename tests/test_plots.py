"""Pictures: saved whole, the same bytes each time, and what is drawn is what was given."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from kinmer import plots
from kinmer.plots import scatter
from kinmer.plots.charts import one_and_all
from kinmer.plots.style import plain

RNG = np.random.default_rng(0)


def figures() -> dict[str, Figure]:
    """Every kind of picture, of the same data each time."""
    rng = np.random.default_rng(1)
    x = rng.gamma(2.0, 1.0, 500)
    share = np.array([0.5, 0.75, np.nan])
    return {
        "distance": plots.distance_against_mse({"cosine distance": (x, x**2), "Euclidean distance": (x, x)}),
        "rank": plots.mse_by_rank([1, 5], {"cosine": ([1, 2], [0.9, 1.8], [1.1, 2.2])}, random=(6.0, 3.0)),
        "bars": plots.retrieval_bars(
            ["1 kb", "2 kb", "5 kb"], {"embedding": (share, share - 0.1, share + 0.1)}
        ),
        "panels": plots.retrieval_panels(
            {
                title: (
                    "query length",
                    ["1 kb", "2 kb", "5 kb"],
                    {name: (share, share - 0.1, share + 0.1, [1, 0.9, 1]) for name in ("a", "b")},
                )
                for title in ("strain", "genus")
            }
        ),
        "lengths": plots.lengths_and_gc(np.exp(rng.uniform(7, 11, 300)), rng.uniform(0.3, 0.7, 300)),
        "scatter": plots.scatter_by_category(rng.normal(size=(50, 2)), {"phylum": list("ab" * 25)}),
    }


@pytest.mark.parametrize("name", ["distance", "rank", "bars", "panels", "lengths", "scatter"])
def test_pictures_are_whole_and_the_same_each_time(name: str, tmp_path: Path) -> None:
    png, svg = plots.save(figures()[name], tmp_path / name)
    assert png.read_bytes().startswith(b"\x89PNG")
    assert png.read_bytes().endswith(b"IEND\xaeB`\x82")
    assert svg.read_text().rstrip().endswith("</svg>")
    before = png.read_bytes(), svg.read_bytes()
    plots.save(figures()[name], tmp_path / name)
    assert (png.read_bytes(), svg.read_bytes()) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{name}.png", f"{name}.svg"]


def test_bars_stand_at_their_share() -> None:
    figure = plots.retrieval_bars(
        ["1 kb", "2 kb"], {"a": ([0.5, 0.25], [0.4, 0.2], [0.6, 0.3]), "b": ([1, 0],) * 3}
    )
    heights = [bar.get_height() for bar in figure.axes[0].patches]  # type: ignore[attr-defined]
    assert heights == [50, 25, 100, 0]
    assert [one.get_text() for one in figure.axes[0].get_xticklabels()] == ["1 kb", "2 kb"]
    assert "%" in figure.axes[0].get_ylabel()


def test_panels_show_shares_bands_and_one_ceiling() -> None:
    lines = {"a": ([0.5, 0.7], [0.4, 0.6], [0.6, 0.8], [1, 0.9]), "b": ([0.2, 0.3],) * 4}
    figure = plots.retrieval_panels({"strain": ("query length", ["1 kb", "2 kb"], lines)})
    (axis,) = figure.axes
    drawn = {str(line.get_label()): np.asarray(line.get_ydata()).tolist() for line in axis.lines}
    assert drawn == {"a": [50, 70], "ceiling": [100, 90], "b": [20, 30]}
    assert len(axis.collections) == 2
    assert axis.get_title(loc="left") == "strain"
    assert [one.get_text() for one in axis.get_xticklabels()] == ["1 kb", "2 kb"]


def test_every_pair_and_sequence_is_drawn_once() -> None:
    x, y = RNG.normal(size=400), RNG.normal(size=400)
    figure = plots.distance_against_mse({"cosine distance": (x, y)}, notes={"cosine distance": "r = 0"})
    cells = figure.axes[0].collections[0].get_array()
    assert cells is not None
    assert cells.sum() == 400
    lengths = plots.lengths_and_gc(np.full(70, 5000), np.full(70, 0.5))
    for axis in lengths.axes:
        assert sum(bar.get_height() for bar in axis.patches) == 70  # type: ignore[attr-defined]


def test_categories_keep_their_color_and_the_rest_is_gray() -> None:
    labels = ["common"] * 30 + ["rare"] * 2 + ["middle"] * 10
    figure = plots.scatter_by_category(RNG.normal(size=(42, 2)), {"phylum": labels}, largest=2)
    drawn = [one for one in figure.axes[0].collections if isinstance(one, PathCollection)]
    assert {one.get_label(): len(np.asarray(one.get_offsets())) for one in drawn} == {
        "others": 2,
        "common": 30,
        "middle": 10,
    }
    colors = {tuple(np.asarray(one.get_facecolor())[0]) for one in drawn}
    assert len(colors) == 3


def test_nothing_global_changes() -> None:
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from kinmer import plots; plots.retrieval_bars(['1 kb'], {'a': ([.5], [.4], [.6])})\n"
        "print('matplotlib.pyplot' in sys.modules, matplotlib.rcParams.copy() == before)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


# What names have in them that markup, legends and fonts stumble over.
ODD_NAMES = (
    "$\\badsym$",
    "_under",
    "x" * 30,
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("a$b", "\\frac{1}{2}", "\x1b[31m", "\u202e", "two\nlines", "漢", "^_{}")
    ),
)


@pytest.mark.parametrize("name", ODD_NAMES, ids=map(str, range(len(ODD_NAMES))))
def test_names_are_drawn_letter_by_letter(name: str, tmp_path: Path) -> None:
    x = np.linspace(0, 1, 30)
    points, names = RNG.random((30, 2)), [name] * 20 + ["other"] * 10
    share = np.array([0.5, 0.75])
    drawn = {
        "categories": scatter.map_by_category(points, names, title=name, label=name),
        "numbers": scatter.map_by_number(points, x, title=name, label=name),
        "difference": scatter.density_difference(points, names, (name, "other"), title=name),
        "scatter": plots.scatter_by_category(points, {name: names}, xlabel=name, ylabel=name),
        "bars": plots.retrieval_bars([name, "b"], {name: (share, share, share)}),
        "distance": plots.distance_against_mse({name: (x, x)}, notes={name: name}),
        "rank": plots.mse_by_rank([1, 5], {name: ([1, 2], [0.9, 1.8], [1.1, 2.2])}, random=(6.0, 3.0)),
        "one": one_and_all(name, {"cosine": x}),
        "sweep": plots.sweep_panels({name: ([name, "b"], [1.0, 2.0])}, ylabel=name),
    }
    for stem, figure in drawn.items():
        plots.save(figure, tmp_path / stem)
    for kind in ("categories", "scatter", "bars"):
        legend = drawn[kind].axes[0].get_legend()
        assert legend is not None
        shown = [text.get_text().replace("\\$", "$") for text in legend.get_texts()]
        start = name[:5] if name.isprintable() else name.encode("unicode_escape").decode()[:5]
        assert any(one.removeprefix("\u200b").startswith(start) for one in shown), (kind, shown)
    if name == "$\\badsym$":
        assert "$\\badsym$" in (tmp_path / "scatter.svg").read_text(encoding="utf-8")


def test_an_endless_name_is_cut() -> None:
    assert len(plain("x" * 5000)) == 60
    assert plain("$a$") == r"\$a\$"
