"""docs/tutorial.ipynb runs from the first cell to the last, and what it prints is what it says."""

import json
import re

import pytest
from guides import ROOT

NOTEBOOK = ROOT / "docs" / "tutorial.ipynb"


def check(notebook):
    """The same of the outputs that were committed and of new ones."""
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert all(output.get("name") != "stderr" for output in outputs)
    text = "".join("".join(output["text"]) for output in outputs if output["output_type"] == "stream")
    # Lemma 3.2: the loss is lowest at beta log E[exp(x / beta)].
    lowest = re.findall(r"v = ([\d.]+);  β log E\[exp\(x / β\)\] = ([\d.]+)", text)
    assert len(lowest) == 3
    assert all(float(found) == pytest.approx(float(law), abs=0.011) for found, law in lowest)
    # XQL reaches the goal and stays; the clone earns what wandering does.
    assert float(re.search(r"XQL: (-?\d+),", text)[1]) > 60
    assert float(re.search(r"cloning: (-?\d+),", text)[1]) < 20


def test_the_outputs_that_are_shown():
    check(json.loads(NOTEBOOK.read_text("utf-8")))


@pytest.mark.slow
def test_it_runs(tmp_path, monkeypatch):
    nbformat = pytest.importorskip("nbformat", reason="jupyter is not installed: pip install '.[docs]'")
    client = pytest.importorskip("nbclient", reason="jupyter is not installed: pip install '.[docs]'")
    pytest.importorskip("ipykernel", reason="jupyter is not installed: pip install '.[docs]'")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the tests' own, with which notebooks show no pictures
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    where = {"metadata": {"path": str(tmp_path)}}
    client.NotebookClient(notebook, timeout=600, kernel_name="python3", resources=where).execute()
    check(notebook)
