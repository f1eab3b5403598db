"""Tables: what a field is, and files that are whole or absent."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from kinmer.tables import field, line, write_table


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (float("nan"), ""),
        (np.float32("nan"), ""),
        (pd.NA, ""),
        (pd.NaT, ""),
        (3, "3"),
        (np.int64(3), "3"),
        (True, "True"),
        (2.0, "2"),
        (1e6, "1000000"),
        (1e20, "1e+20"),
        (1 / 3, "0.333333"),
        (np.float32(0.1), "0.1"),
        (float("inf"), "inf"),
        ("a  b", "a  b"),
        ("a\tb\nc", "a b c"),
        ("a\u2028b", "a b"),
    ],
)
def test_a_field(value: object, text: str) -> None:
    assert field(value) == text


def test_all_digits() -> None:
    assert field(0.1, digits=None) == "0.1"
    assert field(np.float32(0.1), digits=None) == "0.1"
    assert field(1e-7, digits=None) == "0.0000001"
    assert float(field(1 / 3, digits=None)) == 1 / 3


def test_a_stream_gets_the_rows_as_they_come() -> None:
    stream = io.StringIO()
    assert write_table(stream, ["id", "x"], iter([("a", 0.5), ("b", None)])) == 2
    assert stream.getvalue() == "id\tx\na\t0.5\nb\t\n"
    assert line(("a", 1.25), digits=2) == "a\t1.2\n"


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "table.tsv"
    write_table(path, ["id"], [("a",)])

    def failing() -> object:
        yield ("b",)
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_table(path, ["id"], failing())  # type: ignore[arg-type]
    assert path.read_text() == "id\na\n"
    assert [one.name for one in tmp_path.iterdir()] == ["table.tsv"]


def test_no_header(tmp_path: Path) -> None:
    write_table(tmp_path / "table.tsv", [], [("a", 1)])
    assert (tmp_path / "table.tsv").read_text() == "a\t1\n"
