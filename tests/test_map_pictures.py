"""Maps as pictures and as pages: what is drawn and packed is what was given."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from kinmer.maps.paging import write_page
from kinmer.maps.picturing import write_picture
from kinmer.plots.maps import FEW, density_difference, extent_of, map_by_category, pixels

RNG = np.random.default_rng(0)
BAD = ["</script><script>alert(1)</script>", "a\"b'c", "ü — 名", "<!-- x", "tab\there"]


def packed(text: str, part: str) -> bytes:
    """What a part of a page unpacks to."""
    found = re.search(rf'<script type="text/plain" id="{part}">([^<]*)</script>', text)
    assert found
    return zlib.decompress(base64.b64decode(found[1]), -15)


def about(text: str) -> dict[str, Any]:
    """What the page tells of its columns."""
    found = re.search(r'<script type="application/json" id="about">(.*?)</script>', text, re.S)
    assert found
    told: dict[str, Any] = json.loads(found[1])
    return told


def test_pixels_are_numpys_histogram() -> None:
    where, weights = RNG.normal(size=(5000, 2)), RNG.uniform(size=5000)
    extent = (-2.0, 2.0, -2.0, 2.0)
    edges = np.linspace(-2, 2, 41)
    for given in (None, weights):
        wanted, _, _ = np.histogram2d(where[:, 1], where[:, 0], bins=(edges, edges), weights=given)
        assert pixels(where, extent, given, size=40) == pytest.approx(wanted[::-1])


def test_outliers_do_not_squash_the_map() -> None:
    where = RNG.normal(size=(FEW + 5, 2))
    where[:5] = 1e6
    x0, x1, y0, y1, outside = extent_of(where)
    assert 5 <= outside < 60
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert x1 - x0 < 12
    # Of few points all are shown.
    assert extent_of(where[:100])[-1] == 0


def test_the_difference_of_two_groups_is_that_of_their_shares() -> None:
    where = np.array([[0.5, 0.5]] * 6 + [[9.5, 9.5]] * 4, float)
    names = ["a"] * 5 + ["b"] * 5
    gap = density_difference(where, names, ("a", "b"), cells=10).axes[0].images[0].get_array()
    assert gap is not None
    # All of a is below left, a fifth of b: blurred, but nothing is lost or made.
    assert float(gap.sum()) == pytest.approx(0, abs=1e-9)
    assert float(gap[5:, :5].sum()) == pytest.approx(800)
    assert float(gap[:5, 5:].sum()) == pytest.approx(-800)


def test_the_largest_names_have_a_colour() -> None:
    names = np.repeat([f"g{one}" for one in range(9)], [90, 80, 70, 60, 50, 40, 30, 20, 10])
    figure = map_by_category(RNG.normal(size=(450, 2)), [*names.tolist()])
    legend = figure.axes[0].get_legend()
    assert legend is not None
    shown = [one.get_text() for one in legend.get_texts()]
    assert shown == [f"g{one} ({count})" for one, count in enumerate([90, 80, 70, 60, 50, 40, 30])] + [
        "others (30)"
    ]


@pytest.mark.parametrize("points", [1, 2, 100, FEW + 1000])
@pytest.mark.parametrize("same", [False, True])
def test_any_number_of_points_is_drawn(tmp_path: Path, points: int, same: bool) -> None:
    where = np.ones((points, 2)) if same else RNG.normal(size=(points, 2))
    numbers = np.full(points, np.nan)
    names = np.array([None, "a", ""] * points, object)[:points]
    for values in (None, numbers, names, np.arange(points) + 0.5):
        for path in write_picture(tmp_path / "p", where, values, title="t", label="l"):
            assert path.stat().st_size > 1000
    page = write_page(
        tmp_path / "p.html", [f"s{one}" for one in range(points)], where, {"n": numbers, "g": names}
    )
    assert "kinmerMap" in page.read_text()


def columns_of(rows: int) -> dict[str, NDArray[Any]]:
    return {
        "gc": np.where(np.arange(rows) % 7 == 0, np.nan, RNG.uniform(0.2, 0.8, rows)),
        "length": RNG.integers(1000, 900_000, rows),
        "genus": np.array([*BAD, None, ""] * rows, object)[:rows],
        "cluster": RNG.integers(0, 500, rows),
    }


def test_a_page_holds_what_it_was_given(tmp_path: Path) -> None:
    rows = 700
    where = RNG.normal(size=(rows, 2)) * (3, 1) + (100, -5)
    ids = [f"{BAD[row % 5]}{row}" for row in range(rows)]
    columns = columns_of(rows)
    text = write_page(tmp_path / "m.html", ids, where, columns, color="gc", title=BAD[0]).read_text()
    # Nothing of the data is markup, and nothing comes from elsewhere.
    assert "alert(1)</script>" not in text
    assert text.count("<script") == text.count("</script>") == 3 + 3 + 4
    outside = re.sub(r"(?s)<script.*?</script>", "", text)
    assert not re.search(r"(src|href)=|url\(|@import", outside)
    assert packed(text, "ids").decode().split("\n") == [" ".join(one.split()) for one in ids]
    x, y = (np.frombuffer(packed(text, axis), "<u2").astype(float) / 65_535 for axis in "xy")
    extent = np.ptp(where[:, 0])
    for found, given in ((x, where[:, 0]), (y, where[:, 1])):
        assert (found - found[0]) * extent == pytest.approx(given - given[0], abs=2 * extent / 65_535)
    told = {one["name"]: one for one in about(text)["columns"]}
    assert about(text)["color"] == "gc"
    gc = np.frombuffer(packed(text, told["gc"]["part"]), "<f4")
    assert gc == pytest.approx(columns["gc"].astype(float), nan_ok=True)
    assert (told["length"]["kind"], told["length"]["whole"], told["length"]["log"]) == ("number", True, True)
    assert told["cluster"]["kind"] == "names"
    kinds = {"uint8": "u1", "uint16": "<u2"}
    for name in ("genus", "cluster"):
        codes = np.frombuffer(packed(text, told[name]["part"]), kinds[told[name]["type"]])
        wanted = ["–" if one in (None, "") else str(one) for one in columns[name]]
        assert [told[name]["names"][code] for code in codes] == wanted
        assert sum(told[name]["counts"]) == rows
        assert len(told[name]["colours"]) == len(told[name]["shown"]) == len(told[name]["counts"])


def test_too_many_names_are_left_out(tmp_path: Path) -> None:
    names = np.array([f"n{one}" for one in range(70_000)], object)
    text = write_page(tmp_path / "m.html", names, RNG.normal(size=(70_000, 2)), {"name": names}).read_text()
    assert about(text)["columns"] == []


@pytest.fixture
def browsing() -> Any:
    """The driver of the benchmarks."""
    pytest.importorskip("websockets")
    path = Path(__file__).parent.parent / "benchmarks" / "browser.py"
    spec = importlib.util.spec_from_file_location("browser", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browser"] = module
    spec.loader.exec_module(module)
    if module.chromium() is None:
        pytest.skip("no Chromium to open a page in")
    return module


@pytest.mark.slow
def test_a_page_opens_without_a_network_and_finds_an_id(tmp_path: Path, browsing: Any) -> None:
    where = RNG.normal(size=(3000, 2))
    ids = [f"contig_{one}" for one in range(3000)]
    columns = {
        "gc": RNG.uniform(size=3000),
        "genus": np.array(["<b>Vibrio</b>", "Bacillus", None] * 1000, object),
    }
    page = write_page(tmp_path / "m.html", ids, where, columns, color="genus", title="A map")
    with browsing.Browser() as browser:
        browser.open(page)
        browser.wait("!!globalThis.kinmerMap")
        legend = browser.ask("[...document.querySelectorAll('#legend span')].map((one) => one.textContent)")
        assert legend == ["<b>Vibrio</b>", "Bacillus", "–"]
        browser.ask(
            "(() => { const box = document.getElementById('find'); box.value = 'contig_77';"
            " box.dispatchEvent(new Event('input')); })()"
        )
        hits = browser.ask("[...document.querySelectorAll('#hits button')].map((one) => one.textContent)")
        assert hits[0] == "contig_77"
        assert "contig_770" in hits
        browser.ask("document.querySelector('#hits button').click()")
        tip = browser.wait(
            "(() => { const t = document.getElementById('tip'); return !t.hidden && t.textContent; })()", 20
        )
        assert tip.startswith("contig_77")
        assert "<b>Vibrio</b>" in tip or "Bacillus" in tip or "–" in tip
        assert browser.wait("document.getElementById('number').textContent", 20) == "1 chosen"
        # Another colour, and one name alone.
        browser.ask("(() => { const m = document.getElementById('color'); m.value = 'gc'; m.onchange(); })()")
        browser.wait("!!document.getElementById('bar')", 20)
        time.sleep(0.5)
        browser.picture(tmp_path / "shot.png")
        from matplotlib.image import imread

        # The map is drawn: there is colour in it.
        shot = imread(tmp_path / "shot.png")[:, :1000, :3]
        assert (np.ptp(shot, axis=2) > 0.2).sum() > 500
