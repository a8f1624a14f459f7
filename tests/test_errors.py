"""A mistake is told in one line."""

import runpy
import sys
from pathlib import Path

import pytest

from xql_jax.errors import Damaged, UserError, described


def test_the_line():
    assert str(UserError("two\nlines\r\n and\ttabs, ±1 and 東京")) == "two lines and tabs, ±1 and 東京"
    assert str(Damaged(f"{UserError('two  words')}")) == "two words"


def test_what_code_of_others_raises_is_one_line():
    """Also where it is warned of, as when an environment cannot be closed."""
    assert described(ValueError("no viewer:\n  open it")) == "ValueError: no viewer: open it"
    with pytest.raises(StopIteration) as raised:
        next(iter(()))
    assert described(raised.value).startswith("StopIteration: at 'next(iter(()))' of test_errors.py")


def test_a_python_that_is_not_supported_is_named_before_anything_is_resolved(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 1))
    with pytest.raises(SystemExit, match=r"3\.11 to 3\.13"):
        runpy.run_path(str(Path(__file__).resolve().parents[1] / "setup.py"))
