"""A mistake is told in one line."""

from xql_jax.errors import Damaged, UserError


def test_the_line():
    assert str(UserError("two\nlines\r\n and\ttabs, ±1 and 東京")) == "two lines and tabs, ±1 and 東京"
    assert str(Damaged(f"{UserError('two  words')}")) == "two words"
