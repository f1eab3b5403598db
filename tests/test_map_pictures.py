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

import matplotlib
import numpy as np
import pytest
from numpy.typing import NDArray

from kinmer.maps import picture
from kinmer.maps.picture import even_first, write_page, write_picture
from kinmer.plots.scatter import (
    FEW,
    _spread,
    density_difference,
    extent_of,
    map_by_category,
    map_by_number,
    pixels,
    share_gap,
)

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


@pytest.mark.parametrize("points", [100, FEW + 5])
def test_outliers_do_not_squash_the_map(points: int) -> None:
    where = RNG.normal(size=(points, 2))
    assert extent_of(where)[-1] == 0
    where[:2] = 1e6
    x0, x1, y0, y1, outside = extent_of(where)
    assert outside == 2
    assert x1 - x0 == pytest.approx(y1 - y0)
    assert x1 - x0 < 12


def test_what_lies_apart_is_no_outlier() -> None:
    apart = np.concatenate([RNG.normal(size=(900, 2)), RNG.normal(size=(100, 2)) + 200])
    assert extent_of(apart)[-1] == 0
    # Of few points none is, and all but one in one place are no map's width.
    assert extent_of(np.array([[0, 0], [1, 1], [0, 1], [1e6, 0.0]]))[-1] == 0
    assert extent_of(np.array([[0.0, 0]] * 50 + [[7, 7]]))[-1] == 0


def test_a_lonely_pixel_grows_and_hides_nothing() -> None:
    counts = np.zeros((9, 9))
    counts[2, 2], counts[2, 3] = 5, 1
    colors = np.zeros((9, 9, 3))
    colors[2, 2], colors[2, 3] = (1, 0, 0), (0, 1, 0)
    grown, found = _spread(colors, counts)
    assert found[2, 2] == 5
    assert found[2, 3] == 1
    assert (grown[2, 2] == (1, 0, 0)).all()
    assert (grown[2, 3] == (0, 1, 0)).all()
    assert (found > 0).sum() == 8
    assert found[1, 2] == 5
    assert (grown[2, 4] == (0, 1, 0)).all()
    counts[4:9, 4:9] = 2
    # A full area keeps its edge.
    assert (_spread(colors, counts)[1][4:, 3] == 0).all()


def test_the_difference_of_two_groups_is_that_of_their_shares() -> None:
    where = np.array([[0.5, 0.5]] * 6 + [[9.5, 9.5]] * 4, float)
    names = ["a"] * 5 + ["b"] * 5
    gap = share_gap(where, names, ("a", "b"), (0, 10, 0, 10), cells=10)
    # All of a is below left, a fifth of b: blurred, but nothing is lost or made.
    assert float(gap.sum()) == pytest.approx(0, abs=1e-9)
    assert float(gap[5:, :5].sum()) == pytest.approx(800)
    assert float(gap[:5, 5:].sum()) == pytest.approx(-800)


def test_the_largest_names_have_a_color() -> None:
    names = np.repeat([f"g{one}" for one in range(9)], [90, 80, 70, 60, 50, 40, 30, 20, 10])
    figure = map_by_category(RNG.normal(size=(450, 2)), [*names.tolist()])
    legend = figure.axes[0].get_legend()
    assert legend is not None
    shown = [one.get_text() for one in legend.get_texts()]
    assert shown == [f"g{one} ({count})" for one, count in enumerate([90, 80, 70, 60, 50, 40, 30])] + [
        "others (30)"
    ]


def test_names_that_read_the_same_are_one_and_the_unknown_are_others() -> None:
    names = [1, "1", None, float("nan"), "", ".", "b"]
    legend = map_by_category(RNG.normal(size=(7, 2)), names).axes[0].get_legend()
    assert legend is not None
    assert [one.get_text() for one in legend.get_texts()] == ["1 (2)", "b (1)", "others (4)"]


def test_a_pixel_has_the_mean_of_its_points_and_the_name_of_most() -> None:
    where = np.repeat(np.array([[0.0, 0.0], [1.0, 1.0]]), FEW, axis=0)
    values = np.concatenate([np.tile([0.0, 1.0], FEW // 2), np.tile([2.0, 4.0], FEW // 2)])
    image = map_by_number(where, values).axes[0].images[0].get_array()
    assert image is not None
    filled = np.argwhere(np.asarray(image)[..., 3] > 0)
    # The upper row is that of the larger y: a mean of three, nearer the yellow end.
    colors = [tuple(np.asarray(image)[row, column, :3]) for row, column in filled]
    high, low = np.array(colors[0]), np.array(colors[-1])
    scale = matplotlib.colormaps["viridis"]
    assert high == pytest.approx(np.array(scale(0.75)[:3]), abs=1e-6)
    assert low == pytest.approx(np.array(scale(0.125)[:3]), abs=1e-6)
    names = np.array(["a", "a", "b"] * (2 * FEW), object)[: 2 * FEW]
    image = map_by_category(where, names).axes[0].images[0].get_array()
    assert image is not None
    drawn = np.asarray(image)
    assert drawn[drawn[..., 3] > 0][:, :3] == pytest.approx(np.array([[0, 114, 178]] * 10) / 255, abs=1e-6)


def test_denser_first_group_is_violet_and_second_orange() -> None:
    where = np.array([[0.0, 0]] * 10 + [[10.0, 10]] * 10 + [[0.0, 10]] * 10)
    names = ["a"] * 10 + ["b"] * 10 + ["a", "b"] * 5
    (discs,) = density_difference(where, names, ("a", "b")).axes[0].collections
    first, second, both = (np.asarray(discs.get_facecolor())[at, :3] for at in (0, 10, 20))
    assert first[2] > first[0]
    assert second[0] > second[2]
    assert np.ptp(both) < 0.05


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


KINDS = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4", "float32": "<f4"}


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
    assert text.count("<script") == text.count("</script>") == 3 + 3 + 4 + 2
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
    for name in ("genus", "cluster"):
        part = told[name]["part"]
        codes = np.frombuffer(packed(text, part), KINDS[told[name]["type"]])
        names = packed(text, f"{part}-names").decode().split("\n")
        wanted = ["–" if one in (None, "") else " ".join(str(one).split()) for one in columns[name]]
        assert [names[code] for code in codes] == wanted
        assert sum(told[name]["counts"]) == rows
        assert len(told[name]["colors"]) == len(told[name]["shown"]) == len(told[name]["counts"])


def test_too_many_names_are_left_out(tmp_path: Path) -> None:
    names = np.array([f"n{one}" for one in range(70_000)], object)
    text = write_page(tmp_path / "m.html", names, RNG.normal(size=(70_000, 2)), {"name": names}).read_text()
    assert about(text)["columns"] == []


def test_many_names_stay_where_they_name_groups(tmp_path: Path) -> None:
    names = np.array([f"n{one // 4}" for one in range(4 * 66_000)], object)
    text = write_page(
        tmp_path / "m.html", names, RNG.normal(size=(len(names), 2)), {"name": names}
    ).read_text()
    (told,) = about(text)["columns"]
    assert told["type"] == "uint32"
    listed = np.array(packed(text, f"{told['part']}-names").decode().split("\n"))
    assert (listed[np.frombuffer(packed(text, told["part"]), "<u4")] == names).all()


@pytest.mark.parametrize("few", [700, 3000, 20_000])
def test_a_sample_in_front_shows_what_all_points_do(few: int) -> None:
    steps = np.concatenate([RNG.normal(20_000, 900, (9_990, 2)), RNG.integers(0, 65_536, (10, 2))])
    steps = np.ascontiguousarray(np.clip(steps, 0, 65_535).astype(np.uint16).T)
    order = even_first(steps, few)
    assert (np.sort(order) == np.arange(10_000)).all()
    if few == 20_000:
        assert (order == np.arange(10_000)).all()
        return
    front, rest = order[:few], order[few:]
    cells = steps[0] // 256 * 256 + steps[1] // 256
    filled = len(np.unique(cells))
    # No filled cell is empty where there is room for all, and dense parts stay dense.
    assert len(np.unique(cells[front])) == min(few, filled) or filled > few
    if filled < few:
        assert set(range(9_990, 10_000)) <= set(front.tolist())
        for axis in (0, 1):
            assert np.median(steps[axis][front]) == pytest.approx(np.median(steps[axis]), abs=150)
    # Both parts run along the Z curve: the bits of x and y taken in turn.
    for part in (front if filled < few else np.array([], int), rest):
        codes = [
            int("".join(b + a for a, b in zip(f"{x:016b}", f"{y:016b}", strict=True)), 2)
            for x, y in steps.T[part].tolist()
        ]
        assert codes == sorted(codes)


def test_a_large_page_holds_its_points_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "DRAWN", 1000)
    monkeypatch.setattr(picture, "BLOCK", 1500)
    rows = 4321
    where, columns = RNG.normal(size=(rows, 2)), columns_of(rows)
    ids = [f"s{row}" for row in range(rows)]
    text = write_page(tmp_path / "m.html", ids, where, columns, color="gc").read_text()
    told = about(text)
    assert told["blocks"] == [0, 1000, 2500, 4000, 4321]
    # What the first picture needs stands in front of the script, everything else behind it.
    script = text.index("async function main")
    assert text.index('id="column0"') < script < text.index('id="x-1"') < text.index('id="ids"')

    def whole(part: str, kind: str) -> NDArray[Any]:
        names = [part if not block else f"{part}-{block}" for block in range(4)]
        return np.concatenate([np.frombuffer(packed(text, name), kind) for name in names])

    read = "\n".join(packed(text, f"ids-{block}" if block else "ids").decode() for block in range(4)).split(
        "\n"
    )
    order = np.array([int(one[1:]) for one in read])
    assert (np.sort(order) == np.arange(rows)).all()
    x = whole("x", "<u2") / 65_535
    assert (x - x[0]) * np.ptp(where, axis=0).max() == pytest.approx(
        where[order, 0] - where[order[0], 0], abs=1e-3
    )
    for column in told["columns"]:
        found = whole(column["part"], KINDS[column["type"]])
        if column["kind"] == "number":
            assert found == pytest.approx(columns[column["name"]][order].astype(float), nan_ok=True, rel=1e-6)


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
        # Another color, and one name alone.
        browser.ask("(() => { const m = document.getElementById('color'); m.value = 'gc'; m.onchange(); })()")
        browser.wait("!!document.getElementById('bar')", 20)
        time.sleep(0.5)
        browser.picture(tmp_path / "shot.png")
        from matplotlib.image import imread

        # The map is drawn: there is color in it.
        shot = imread(tmp_path / "shot.png")[:, :1000, :3]
        assert (np.ptp(shot, axis=2) > 0.2).sum() > 500


@pytest.mark.slow
def test_a_large_page_finds_shows_and_chooses_what_its_sample_lacks(tmp_path: Path, browsing: Any) -> None:
    rows = 400_000
    where = RNG.normal(size=(rows, 2))
    where[-1] = 0.001, 0.002
    page = write_page(tmp_path / "m.html", [f"c{one}" for one in range(rows)], where, {"v": np.arange(rows)})
    drawn = "kinmerMap.plot.get('points').length"
    with browsing.Browser() as browser:
        browser.open(page)
        browser.wait("!!globalThis.kinmerMap")
        assert browser.ask(drawn) == picture.DRAWN
        # Every id is found, drawn or not, and is on the screen with its values then.
        for row in (rows - 1, 7, 123_456):
            found = f"(async () => {{ await kinmerMap.fly(kinmerMap.find('C{row}')[0]); }})()"
            browser.ask(found)
            tip = browser.ask("document.getElementById('tip').textContent")
            assert tip == f"c{row}v{row:,}"
            state = browser.ask("document.getElementById('state').textContent")
            assert state == "", "all of what is in view is drawn"
        # A line around all chooses all, also what is not drawn.
        browser.ask("document.getElementById('whole').click()")
        browser.wait(f"{drawn} >= {picture.DRAWN}", 20)
        browser.ask("kinmerMap.plot.lassoSelect([[-2, -2], [2, -2], [2, 2], [-2, 2]], {isGl: true})")
        assert browser.wait("kinmerMap.listed().length > 1 && kinmerMap.listed().length", 20) == rows
