"""Runs are made by the hundred, and half a second of each is drawing: tests/reports and others try that."""

import pytest

from xql_jax.pictures import style


@pytest.fixture(scope="module", autouse=True)
def blank_pictures():
    """Pictures are files without content, but for those of runs that several modules share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(style, "render", lambda figure, kind="png": b"")
        yield
