"""docs/hyperparameters.md is what its program writes now, and says what configs and methods say."""

import runpy

from guides import ROOT

PAGE = (ROOT / "docs" / "hyperparameters.md").read_text("utf-8")
PROGRAM = "docs/site/hyperparameters.py"


def test_the_page_is_up_to_date():
    made = runpy.run_path(str(ROOT / PROGRAM))["page"]()
    assert made.splitlines() == PAGE.splitlines(), f"run `python {PROGRAM}`"
