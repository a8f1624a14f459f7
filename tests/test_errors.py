"""A mistake's line: one line, of a length that can be read, and nothing that a terminal obeys."""

import pytest

from xql_jax.errors import Damaged, UserError, printable


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("plain, ±1 and 東京", "plain, ±1 and 東京"),
        ("two\nlines\r\n and\ttabs", "two lines and tabs"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("right\u202eto left", r"right\u202eto left"),
        ("no UTF-8: \udcff", r"no UTF-8: \udcff"),
        ("\x00\x7f\x9b", r"\x00\x7f\x9b"),
    ],
)
def test_the_line(message, line):
    assert str(UserError(message)) == line
    assert str(Damaged(f"{UserError(message)}")) == line  # what is quoted does not change again
    line.encode()


def test_what_is_too_long_loses_its_middle():
    line = str(UserError("first" + "x" * 10**6 + "last"))
    assert len(line) == 600
    assert line.startswith("firstxxx")
    assert line.endswith("xxxlast")
    assert "x ... x" in line
    assert len(str(UserError("x" * 600))) == 600
    assert len(str(UserError("\x1b" * 600))) == 600  # four times as long when it can be seen
    assert printable("x" * 99, 100) == "x" * 99
