"""docs/hyperparameters.md is what its program writes now, and says what configs and methods say."""

import re
import runpy

from guides import ROOT

from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner

PAGE = (ROOT / "docs" / "hyperparameters.md").read_text("utf-8")
PROGRAM = "docs/site/hyperparameters.py"


def test_the_page_is_up_to_date():
    made = runpy.run_path(str(ROOT / PROGRAM))["page"]()
    assert made.splitlines() == PAGE.splitlines(), f"run `python {PROGRAM}`"


def test_a_table_has_all_hyperparameters_and_the_papers_values():
    """Table 4's values that are not in parentheses, and Table 5's batches."""
    names = {name: hyperparameters(make_learner(name)).keys() for name in (*OFFLINE, *ONLINE)}
    cells = {}
    for method, section in re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S):
        lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
        head, _, *rows = [[cell.strip("|` ") for cell in line] for line in lines]
        cells[method] = {row[0]: dict(zip(head, row, strict=False)) for row in rows}
    for method, known in names.items():
        assert known <= cells[method].keys()
    betas = [cells["xql"]["beta"][column] for column in ("default", "antmaze", "kitchen", "adroit")]
    assert betas == ["2", "0.6", "5", "8"]
    assert cells["awac"]["awr_temperature"]["mujoco"] == "*3*"  # the method's own
    assert cells["xsac"]["batch_size"]["xsac"] == "1024"
    assert "| `antmaze-umaze-v0` | 1 | 7 | 256 | 4 |" in PAGE  # --tuned
