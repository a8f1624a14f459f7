"""What files share: a fork server, the run of those of mistakes, and that of those that break runs."""

import pytest

pytest.register_assert_rewrite("broken_runs", "main_runs", "mistakes")

from broken_runs import Bench  # noqa: E402
from main_runs import ForkServer  # noqa: E402
from mistakes import make_place  # noqa: E402


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    made = ForkServer(tmp_path_factory.mktemp("streams"))
    yield made
    made.close()


@pytest.fixture(scope="session")
def place(server, tmp_path_factory):
    return make_place(tmp_path_factory.mktemp("mistakes"), server)


@pytest.fixture(scope="session")
def bench(tmp_path_factory):
    return Bench.make(tmp_path_factory.mktemp("broken"))


@pytest.fixture(scope="session")
def unbroken(bench):
    """The folder of a run that compiles its programs."""
    return bench.run(bench.folder / "unbroken")
