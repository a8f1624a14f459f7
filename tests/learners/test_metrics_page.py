"""docs/results.md explains the columns of metrics.csv that the learners write, and no others."""

import re
from pathlib import Path

import jax
import pytest
from learner_runs import REPLACED, fitting, init, make, make_batch

from xql_jax.learners.registry import OFFLINE, ONLINE

PAGE = Path(__file__).parents[2] / "docs" / "results.md"


def columns_of(name):
    learner = make(name)
    state = jax.eval_shape(init, learner, make_batch())
    _, metrics = jax.eval_shape(learner.update, state, fitting(learner, make_batch()), jax.random.key(0))
    return set(metrics)


def documented():
    """The columns that the page's tables explain: of training on data, and of online training."""
    section = PAGE.read_text().split("## metrics.csv")[1].split("\n## ")[0]
    cells = [
        re.findall(r"^\| (`.+?`) \|", part, re.MULTILINE) for part in section.split("Online, where rows")
    ]
    return [{name for cell in of_part for name in re.findall(r"`([^`]+)`", cell)} for of_part in cells]


@pytest.mark.parametrize(
    ("methods", "of_runs", "table"), [([*OFFLINE, *REPLACED], set(), 0), (ONLINE, {"episode"}, 1)]
)
def test_the_page_explains_every_column_and_no_others(methods, of_runs, table):
    written = set().union(*map(columns_of, methods))
    explained = {name for name in documented()[table] if name.split("/")[0] not in of_runs}
    assert explained == written
