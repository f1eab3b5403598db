"""The examples of docs/tasks/python.md run and give what they say."""

from __future__ import annotations

import doctest
from pathlib import Path


def test_the_page() -> None:
    page = Path(__file__).parent.parent / "docs" / "tasks" / "python.md"
    done = doctest.testfile(str(page), module_relative=False)
    assert done.attempted > 10
    assert done.failed == 0
