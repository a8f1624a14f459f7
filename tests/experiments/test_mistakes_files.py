"""Data that is not as it should be, at the real command lines that read it."""

import numpy as np
import pytest
from main_runs import contents, write_dataset
from mistakes import assert_told

ROWS = 120

# By name: what --dataset is told, and what the message must say. Two mains read alike; every other defect of
# data is in tests/data/test_readers.py.
SOURCES = {
    "no such file": ("nowhere/a.hdf5", "nowhere/a.hdf5", "no such file"),
    "unknown suffix": ("data.csv", "data.csv", "'.csv'", ".hdf5", ".npz"),
    "a link to itself": ("loop.npz", "loop.npz"),
    "a name that is too long": ("{long}.npz", "too long"),
    "truncated HDF5": ("truncated.hdf5", "truncated.hdf5", "not a readable HDF5 file"),
    "missing key": ("missing.npz", "missing.npz", "rewards", "observations"),
    "NaN": ("nan.hdf5", "nan.hdf5", "observations", "nan", "row 77"),
    "a folder without episodes": ("episodes_none", "episodes_none", "no .npz"),
    "OGBench's as a plain file": ("ogbench.npz", "ogbench.npz", "ogbench:"),
    "Minari's that is not there": ("minari:no/such-v0", "no/such-v0", "minari download no/such-v0"),
}

# Data and environment, and several sources.
TOGETHER = {
    "observations of another size": (
        "train --dataset=five.hdf5", "five.hdf5", "observations", "5", "4", "pointmaze-umaze-v0"
    ),
    "actions of another size": (
        "train --dataset=three.npz", "three.npz", "actions", "3", "2", "pointmaze-umaze-v0"
    ),
    "data of another task": (
        "train --env_name=kitchen-mixed-v0 --config={configs}/kitchen_config.py --dataset=good.hdf5",
        "good.hdf5", "observations", "4", "60", "kitchen-mixed-v0",
    ),
    "sources of two sizes": (
        "inspect --dataset=good.hdf5 --dataset=five.hdf5", "do not fit together", "good.hdf5", "five.hdf5"
    ),
    "a bad one among good ones": (
        "train --dataset=good.hdf5 --dataset=nan.hdf5 --dataset=good.hdf5", "nan.hdf5", "row 77"
    ),
    "the report among a dataset's files": (
        "inspect --dataset=episodes --json=episodes/0.npz", "that is in the folder of an input", "episodes",
    ),
    "no time-outs and no task": ("inspect --dataset=untimed.npz", "untimed.npz", "timeouts", "limit"),
    "returns that span nothing": (
        "train --env_name=hopper-medium-v2 --config={configs}/mujoco_config.py --dataset=equal.npz",
        "equal.npz", "range of returns", "trajectories return",
    ),
    "windows of rows that are no trajectories": (
        "train --config={configs}/pointmaze_config.py:dt --dataset=loose.npz", "loose.npz", "no two rows"
    ),
    "windows of rows without an end": (
        "train --config={configs}/pointmaze_config.py:dt --dataset=unended.npz", "unended.npz", "timeouts"
    ),
}  # fmt: skip

MISTAKES = {
    **{f"{name}: {main}": (f"{main} --dataset={source}", *words)
       for main in ("bare", "inspect") for name, (source, *words) in SOURCES.items()},
    **TOGETHER,
}  # fmt: skip


def write_files(folder):
    good = (folder / "good.hdf5").read_bytes()
    (folder / "data.csv").write_text("1,2\n")
    (folder / "loop.npz").symlink_to("loop.npz")
    (folder / "truncated.hdf5").write_bytes(good[: len(good) // 2])
    for name in ("episodes", "episodes_none"):
        (folder / name).mkdir()
    observations = np.zeros((ROWS, 4), np.float32)
    np.savez(
        folder / "episodes" / "0.npz",
        **dict.fromkeys(("observations", "actions"), observations),
        rewards=np.zeros(ROWS),
    )
    observations[77, 2] = np.nan
    write_dataset(folder / "nan.hdf5", observations=observations)
    write_dataset(folder / "missing.npz", rewards=None)
    write_dataset(folder / "five.hdf5", observations=np.zeros((ROWS, 5)))
    write_dataset(folder / "three.npz", actions=np.zeros((ROWS, 3)))
    write_dataset(folder / "untimed.npz", timeouts=None)
    write_dataset(folder / "unended.npz", timeouts=np.zeros(ROWS, bool))
    write_dataset(folder / "loose.npz", next_observations=np.full((ROWS, 4), 9.0))
    write_dataset(
        folder / "equal.npz", observations=np.zeros((ROWS, 11)), actions=np.zeros((ROWS, 3)),
        rewards=np.zeros(ROWS),
    )  # fmt: skip
    write_dataset(folder / "ogbench.npz", timeouts=None, qpos=np.zeros((ROWS, 2)))


@pytest.fixture(scope="module")
def outcomes(place):
    write_files(place.folder)
    return place.outcomes(MISTAKES)


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_ends_with_one_line(outcomes, name):
    assert_told(outcomes[name], [word.replace("{long}", "x" * 300) for word in MISTAKES[name][1:]])


def test_alone_they_end_alike(place, outcomes):
    place.assert_same_alone(MISTAKES, outcomes)


def test_a_bad_setting_does_not_spoil_a_resumption(place, outcomes):
    before = contents(place.run)
    assert_told(place.main("--resume", "--dataset=nan.hdf5"), ["nan.hdf5"])
    assert_told(place.main("--resume", "--config.beta=0"), ["beta"])
    assert contents(place.run) == before
    outcome = place.main("--resume")  # the run has ended: its results are told again, and not a byte changes
    assert (outcome.code, outcome.err) == (0, "")
    assert "last score" in outcome.out
    assert str(place.run) in outcome.out
    assert contents(place.run) == before
