"""The examples of docs/python.md run and give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_page() -> None:
    page = Path(__file__).parent.parent / "docs" / "python.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.attempted > 10
    assert done.failed == 0
