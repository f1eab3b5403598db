"""The report: whole, of its own, escaped, and of any data."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from kinmer import analyze_neighbors, cluster, report
from kinmer.cli import run
from kinmer.errors import UsageError
from kinmer.vectors import Vectors
from tests.organisms import organisms
from tests.test_analyses import space_of

BAD = "<script>alert('kin')</script>"


def embedded(rows: int = 60) -> Any:
    """A small AnnData with vectors."""
    table = organisms(rows)
    table.obsm["X_kinmer"] = np.random.default_rng(0).normal(size=(rows, 5)).astype(np.float32)
    return table


def test_a_page_of_its_own_with_the_numbers_beside_it(tmp_path: Path) -> None:
    table = embedded()
    page = report(table, tmp_path / "all.html", title="All")
    text = page.read_text()
    assert not re.search(r"(src|href)=\"?(https?:)?//", text)
    # A picture of the map, two of clusters, one of each of five analyses; each file that is named is there.
    assert text.count("data:image/png;base64,") == 8
    names = re.findall(r'href="(all-files/[^"]+)"', text)
    assert len(names) > 15
    assert all((tmp_path / html.unescape(name)).stat().st_size for name in names)
    assert f"{analyze_neighbors(table).distances.mean():.4f} ±" in text
    assert f"<td>{cluster(table, keep=False).clusters}</td>" in text
    # The data are left as they were.
    assert list(table.obs.columns) == ["kind", "length"]
    assert list(table.obsm) == ["X_kinmer"]
    with pytest.raises(UsageError, match="exists already"):
        report(table, page)
    before = sorted(tmp_path.iterdir())
    report(table, page, force=True)
    assert sorted(tmp_path.iterdir()) == before


def test_what_the_data_say_is_escaped(tmp_path: Path) -> None:
    points = np.random.default_rng(1).normal(size=(30, 3))
    space = space_of(points, tmp_path)
    ids = space.ids.copy()
    ids[:] = [f"{BAD}{row}" for row in range(30)]
    named = Vectors(**{**vars(space), "ids": ids, "obs": pd.DataFrame(index=pd.Index(ids))})
    text = report(named, tmp_path / "x.html", title=BAD).read_text()
    assert BAD not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("points", [np.ones((1, 3)), np.eye(3)[:2], np.ones((100, 3))])
def test_of_any_data_something_is_said(tmp_path: Path, points: Any) -> None:
    text = report(space_of(points, tmp_path), tmp_path / "x.html").read_text()
    assert "The sequences" in text
    # What could not be done is told on the page.
    assert ('class="notes"' in text) == (len(points) < 3)


def test_groups_are_compared_where_they_are_asked_for(tmp_path: Path) -> None:
    table = embedded()
    table.obs["site"] = ["gut", "soil", "sea"] * 20
    text = report(table, tmp_path / "g.html", by="site").read_text()
    assert "Groups compared" in text
    assert (tmp_path / "g-files/groups-difference.png").stat().st_size > 1000
    absent = report(table, tmp_path / "h.html", by="depth").read_text()
    assert "there is no column &#39;depth&#39;" in absent


def test_the_command_writes_all_or_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    space_of(np.random.default_rng(2).normal(size=(20, 3)), tmp_path)
    source = next(tmp_path.glob("*.npy"))
    monkeypatch.chdir(tmp_path)
    assert run(["report", str(source), "-o", "x.txt"]) == 2
    assert "must be named .html" in capsys.readouterr().err
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("kinmer.reports._page", lambda *_: 1 / 0)
        assert run(["report", str(source), "-o", "x.html"]) == 1
    assert sorted(tmp_path.iterdir()) == before
    assert run(["report", str(source)]) == 0
    assert (tmp_path / f"{source.stem}.html").is_file()
