"""Parametrised tests that are quick in a few of their cases."""

from collections.abc import Iterable
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], *quick: Any) -> list[Any]:
    """Returns the cases for `pytest.mark.parametrize`, marked as slow but for those named."""
    return [case if case in quick else pytest.param(case, marks=pytest.mark.slow) for case in cases]
