"""A mistake is told in one line."""

import pytest

from xql_jax.errors import Damaged, UserError, described


def test_the_line():
    assert str(UserError("two\nlines\r\n and\ttabs, ±1 and 東京")) == "two lines and tabs, ±1 and 東京"
    assert str(Damaged(f"{UserError('two  words')}")) == "two words"


def test_what_code_of_others_raises_is_one_line():
    assert described(ValueError("no viewer:\n  open it")) == "ValueError: no viewer: open it"
    with pytest.raises(StopIteration) as raised:
        next(iter(()))
    assert described(raised.value).startswith("StopIteration: at 'next(iter(()))' of test_errors.py")
