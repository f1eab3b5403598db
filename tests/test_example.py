"""The example in docs/ runs as it stands, and finds kin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "docs" / "example.py"


@pytest.mark.slow
def test_example() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    share = re.search(r"same species for (\d+)% of 600 pieces", done.stdout)
    assert share
    # Eight molecules of four species: by chance it would be about 25 %.
    assert int(share[1]) > 50
