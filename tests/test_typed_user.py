"""What the interface promises by its types: to mypy, and of the values that it returns."""

import os
import runpy
import subprocess
import sys
import types
import typing
from pathlib import Path

import numpy as np
import pytest
from guides import blocks

import xql_jax

pytestmark = pytest.mark.slow
PROGRAM = Path(__file__).with_name("typed_user.py")
# Their functions have no types, and they make each variable anew.
PAGES = ("README.md", "docs/python.md", "docs/theory.md")
LENIENT = "# mypy: allow-untyped-defs, allow-redefinition\n"


def test_a_strict_program_is_accepted_and_its_mistakes_are_found(tmp_path, pytestconfig):
    files = [PROGRAM]
    for page in PAGES:
        files.append(tmp_path / f"{Path(page).stem}_page.py")
        files[-1].write_text(LENIENT + "\n".join(block.code for block in blocks(page, "python")))
    # Elsewhere the package is what is installed, of which mypy sees no types unless it has py.typed.
    environment = os.environ | {"PYTHONPATH": str(Path(xql_jax.__file__).parents[1])}
    options = ["--strict", "--config-file=", f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"]
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", *options, *files],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stdout


def is_a(value, kind):
    """Whether a value is what a type says."""
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return value.keys() == hints.keys() and all(is_a(value[name], hints[name]) for name in hints)
    if isinstance(kind, types.UnionType):
        return any(is_a(value, one) for one in typing.get_args(kind))
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is np.ndarray:
        return isinstance(value, np.ndarray) and value.dtype == typing.get_args(arguments[1])[0]
    if origin is list:
        return isinstance(value, list) and all(is_a(one, arguments[0]) for one in value)
    return isinstance(value, kind)


def test_values_are_what_their_types_say(tmp_path, monkeypatch):
    asserted = []

    def assert_type(value, kind):
        assert is_a(value, kind), f"{value!r} is no {kind}"
        asserted.append(kind)
        return value

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(typing, "assert_type", assert_type)
    runpy.run_path(str(PROGRAM), run_name="__main__")
    assert len(asserted) > 20
