"""What the interface promises by its types: to mypy, and of the values that it returns."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

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
