"""The examples in docs/ run as they stand, and find kin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


def output_of(example: str) -> str:
    """What an example prints."""
    done = subprocess.run([sys.executable, str(DOCS / example)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_example() -> None:
    share = re.search(r"same species for (\d+)% of 600 pieces", output_of("example.py"))
    assert share
    # Eight molecules of four species: by chance it would be about 25 %.
    assert int(share[1]) > 50


@pytest.mark.slow
def test_scanpy_works_on_a_store() -> None:
    said = output_of("scanpy_example.py")
    agreement = re.search(r"V-measure ([\d.]+)", said)
    assert agreement
    # Communities that have nothing to do with the species would be near 0.
    assert float(agreement[1]) > 0.6
    picture = re.search(r"written: (.+)", said)
    assert picture
    assert Path(picture[1]).stat().st_size > 10_000
