"""One run, its data and a fork server for all files of mistakes."""

import pytest
from mistakes import make_place


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    made = make_place(tmp_path_factory.mktemp("mistakes"), tmp_path_factory.mktemp("streams"))
    yield made
    made.server.close()
