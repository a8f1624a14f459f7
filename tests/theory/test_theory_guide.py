"""The examples of docs/theory.md run, and the tests that it names are there."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
GUIDE = (TESTS.parents[1] / "docs" / "theory.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
ERRATA = [
    line.split("|")[1:-1] for line in GUIDE.split("## Where the print is wrong or misleads")[1].splitlines()
]


@pytest.mark.parametrize("example", EXAMPLES[:2], ids=["regressor", "soft MDP"])
def test_an_example_prints_what_it_says(example, capsys):
    exec(compile(example, "theory.md", "exec"), {})
    assert re.match(r"\[1\.4\d+ 2\.[45]\d+\]|True 9\.\d+e-05", capsys.readouterr().out)


def test_the_table_of_divergences_has_what_its_example_prints(capsys):
    exec(compile(EXAMPLES[2], "theory.md", "exec"), {})
    *rows, shared = capsys.readouterr().out.splitlines()
    assert len(rows) == 6
    assert [row for row in rows if f"\n{row} " not in GUIDE] == []
    assert f"the nats on which both agree, {shared.removeprefix('Shared: ')} with this noise" in GUIDE


def named_tests(path):
    """Names and docstrings of a file's tests, in lower case."""
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    texts = [f"{function.name} {ast.get_docstring(function)}" for function in functions]
    return [re.sub("[_-]", " ", text.lower()) for text in texts if text.startswith("test_")]


def test_every_erratum_names_a_test():
    rows = [row for row in ERRATA if len(row) == 4 and "`test" in row[3] and row[0].strip() != "where"]
    assert len(rows) == 28
    for *_, test in rows:
        file, _, words = test.strip().partition("`: ")
        path = TESTS.parent / "paper/test_figures.py" if "figures" in file else TESTS / f"{file[1:]}.py"
        words = words.lower().replace("-", " ").split()
        assert words
        assert any(all(word in text for word in words) for text in named_tests(path)), test
