"""The notebook runs from its first cell to its last on the demo's data, and draws what it says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_demo import small_original

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebooks" / "explore.ipynb"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    small_original(tmp_path / "demo")
    monkeypatch.setenv("KINMER_STORE", str(tmp_path / "demo/database.zarr"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [one for cell in notebook.cells for one in cell.get("outputs", [])]
    pictures = [one for one in outputs if "image/png" in one.get("data", {})]
    said = "".join(one.get("text", "") for one in outputs)
    assert len(pictures) == 8
    assert re.search(r"\d+ sequences, \d+ dimensions, cosine", said)
    assert "intrinsic dimension" in said
    one = re.search(r"^(\S+:\d+-\d+:[+-])$", said, re.M)
    assert one
    listed = next(cell for cell in notebook.cells if "one.closest" in cell.source)
    assert one[1] not in listed.outputs[-1]["data"]["text/plain"]
