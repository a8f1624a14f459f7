"""The inspector at the command line: what it prints and writes, and how it tells of mistakes."""

import json

import numpy as np
import pytest
from main_runs import INSPECT, write_dataset


def test_prints_and_writes_what_is_in_two_files(server, tmp_path):
    write_dataset(tmp_path / "a.npz")  # 120 rows, each 40th a time-out and the last unused: 117 transitions
    write_dataset(tmp_path / "b.hdf5", size=81)
    arguments = [
        "--env_name=pointmaze-umaze-v0", "--dataset=a.npz", "--dataset=b.hdf5", "--plot=new/a.png",
        "--json=a.json",
    ]  # fmt: skip
    outcome = server.run(arguments, tmp_path, main=INSPECT)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(
        "a.npz, b.hdf5\n  transitions   195: observations of 4 entries, actions of 2\n"
    )
    assert "\n  trajectories  5: 0 end in a terminal, 5 are cut off" in outcome.out
    assert outcome.out.endswith("  written: new/a.png\n  written: a.json\n")
    assert (tmp_path / "new" / "a.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    numbers = json.loads((tmp_path / "a.json").read_text())
    assert (numbers["transitions"], numbers["lengths"]["most"]) == (195, 39)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ((), ("name a D4RL task or give a dataset file",)),
        (
            ("--dataset=nan.npz",),
            ("nan.npz", "observations holds nan at row 7", "3 rows in all, 7, 30, 90", "rewards"),
        ),
        (("--dataset=minari:no/such-v0",), ("minari download no/such-v0",)),
        (("--env_name=hopper-medium-v2", "--dataset_url=data.hdf5"), ("'data.hdf5'", "http://")),
    ],
)
def test_a_mistake_is_one_line(server, tmp_path, arguments, parts):
    observations = np.zeros((120, 4))
    observations[[7, 30, 90], 1] = np.nan
    write_dataset(tmp_path / "nan.npz", observations=observations, rewards=np.full(120, np.inf))
    outcome = server.run(arguments, tmp_path, main=INSPECT, MINARI_DATASETS_PATH=str(tmp_path))
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.count("\n") == 1
    assert outcome.err.startswith("error: ")
    for part in parts:
        assert part in outcome.err
