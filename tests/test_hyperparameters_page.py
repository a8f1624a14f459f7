"""docs/hyperparameters.md is what its program writes now, and says what configs and methods say."""

import functools
import re
import runpy

import pytest
from guides import ROOT

from xql_jax.learners.fields import hyperparameters
from xql_jax.learners.registry import OFFLINE, ONLINE, make_learner

PAGE = (ROOT / "docs" / "hyperparameters.md").read_text("utf-8")
PROGRAM = "docs/site/hyperparameters.py"


def test_the_page_is_up_to_date():
    made = runpy.run_path(str(ROOT / PROGRAM))["page"]()
    assert made.splitlines() == PAGE.splitlines(), f"run `python {PROGRAM}`"


@functools.cache
def table_of(method):
    """The table of a method: by row its cells, by the names of the columns."""
    section = re.search(rf"^### {method}\n(.*?)(?=^##|\Z)", PAGE, re.M | re.S)[1]
    head, _, *rows = [
        [cell.strip() for cell in line.split(" | ")] for line in section.splitlines() if line.startswith("|")
    ]
    head, rows = [name.strip("| ") for name in head], [[cell.strip("| `") for cell in row] for row in rows]
    return {row[0]: dict(zip(head, row, strict=True)) for row in rows}


@pytest.mark.parametrize("method", [*OFFLINE, *ONLINE])
def test_a_method_s_table_has_all_its_hyperparameters(method):
    assert hyperparameters(make_learner(method)).keys() <= table_of(method).keys()


@pytest.mark.parametrize(
    ("method", "name", "column", "value"),
    [
        # From the papers: Table 4's values that are not in parentheses, Table 5, IQL's Appendix B.
        ("xql", "beta", "mujoco", ""),
        ("xql", "beta", "default", "2"),
        ("xql", "beta", "antmaze", "0.6"),
        ("xql", "beta", "kitchen", "5"),
        ("xql", "beta", "adroit", "8"),
        ("iql", "expectile", "antmaze", "0.9"),
        ("iql", "expectile", "default", "0.7"),
        ("iql", "expectile", "source of the default", "Expectile"),
        ("awac", "awr_temperature", "mujoco", "*3*"),
        ("xsac", "batch_size", "xsac", "1024"),
        ("xsac", "batch_size", "with `--network=small`", "256"),
        ("xsac", "critic_hidden_dims", "default", "(1024, 1024)"),
    ],
)
def test_values_known_from_elsewhere(method, name, column, value):
    assert table_of(method)[name][column] == value


def test_what_tuned_and_methods_change():
    assert "| `awac` | `batch_size=1024`, `scale_rewards=false` |" in PAGE
    assert "| `antmaze-umaze-v0` | 1 | 7 | 256 | 4 |" in PAGE
    assert "| `walker2d-medium-expert-v2` | 2 | 5 | 1024 | 1 |" in PAGE
