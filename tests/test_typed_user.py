"""What the interface promises by its types: to mypy, and of the values that it returns."""

import os
import runpy
import shutil
import subprocess
import sys
import sysconfig
import types
import typing
from pathlib import Path

import numpy as np
import pytest
from guides import blocks

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = Path(__file__).with_name("typed_user.py")
# Their functions have no types, and they make each variable anew.
PAGES = ("README.md", "docs/python.md", "docs/theory.md")
LENIENT = "# mypy: allow-untyped-defs, allow-redefinition\n"


def installed_in(place):
    """The Python of an environment with a copy of this clone, by README's `pip install --editable`."""
    others = shutil.ignore_patterns(".*", "build", "dist", "results", "*.egg-info", "docs", "tests")
    shutil.copytree(ROOT, place / "clone", ignore=others)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
    python = place / "venv" / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--editable", place / "clone"], check=True)
    [packages] = (place / "venv").glob("lib/python*/site-packages")
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))  # what it needs, without import hooks
    return python


@pytest.mark.parametrize(
    "place",
    [pytest.param("a clone", marks=pytest.mark.slow), pytest.param("installed", marks=pytest.mark.release)],
)
def test_a_strict_program_is_accepted_and_its_mistakes_are_found(tmp_path, pytestconfig, place):
    files = [PROGRAM]
    for page in PAGES:
        files.append(tmp_path / f"{Path(page).stem}_page.py")
        files[-1].write_text(LENIENT + "\n".join(block.code for block in blocks(page, "python")))
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    options = ["--strict", "--config-file=", f"--cache-dir={pytestconfig.cache.mkdir('mypy')}"]
    if place == "installed":
        environment["PYTHONPATH"] = ""
        options += ["--python-executable", installed_in(tmp_path)]
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


@pytest.mark.slow
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
