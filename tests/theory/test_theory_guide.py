"""The examples of docs/theory.md run."""

import re
from pathlib import Path

import pytest

GUIDE = (Path(__file__).resolve().parents[2] / "docs" / "theory.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=["regressor", "soft MDP"])
def test_an_example_prints_what_it_says(example, capsys):
    exec(compile(example, "theory.md", "exec"), {})
    assert re.match(r"\(3, 3\)|True 9\.\d+e-05", capsys.readouterr().out)
