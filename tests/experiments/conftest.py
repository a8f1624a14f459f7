"""What files share: the run of the tests of mistakes, and that of those that break runs."""

import pytest

pytest.register_assert_rewrite("broken_runs", "driver", "mistakes")

from broken_runs import Bench  # noqa: E402
from mistakes import make_place  # noqa: E402

from xql_jax.data import loading  # noqa: E402


@pytest.fixture(autouse=True)
def _little_patience(monkeypatch):
    """Downloads are given up soon. For each test by itself: others may run in the same process."""
    monkeypatch.setattr(loading, "TIMEOUT", (1.0, 1.0))


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("mistakes"))


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench.make(tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="session")
def unbroken(bench):
    """The folder of a run that compiles its programs."""
    return bench.run(bench.folder / "unbroken")
