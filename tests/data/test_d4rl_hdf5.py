"""The HDF5 reader against the real `d4rl.qlearning_dataset`, and on files that are no good."""

import types

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xql_jax.data.d4rl_hdf5 import qlearning_dataset, read_hdf5
from xql_jax.errors import UserError


def random_rows(seed, count, terminals, timeouts=None):
    generator = np.random.default_rng(seed)
    rows = {
        "observations": generator.normal(size=(count, 3)),  # float64: the cast is part of the comparison
        "actions": generator.uniform(-1, 1, size=(count, 2)).astype(np.float32),
        "rewards": generator.normal(size=count),
        "terminals": terminals,
        "timeouts": timeouts,
    }
    return {key: array for key, array in rows.items() if array is not None}


def write(path, arrays):
    with h5py.File(path, "w") as file:
        for key, array in arrays.items():
            file[key] = array
    return path


def theirs(d4rl_package, rows, limit):
    return d4rl_package.qlearning_dataset(types.SimpleNamespace(_max_episode_steps=limit), dataset=rows)


def assert_batch_equals(batch, expected):
    np.testing.assert_array_equal(batch.masks, 1.0 - expected["terminals"])
    for key in ("observations", "actions", "rewards", "next_observations"):
        array = getattr(batch, key)
        assert array.dtype == expected[key].dtype == np.float32
        np.testing.assert_array_equal(array, expected[key], err_msg=key)


@st.composite
def marked_rows(draw):
    """Rows with terminals (and time-outs, or none) anywhere, from rare to nearly everywhere."""
    count = draw(st.integers(2, 60))
    marks = st.lists(st.booleans(), min_size=count, max_size=count).map(np.array)
    rare = marks.map(lambda mark: mark & (np.arange(count) % 7 == 3))
    timeouts = draw(st.none() | marks | rare)
    return random_rows(draw(st.integers(0, 99)), count, draw(marks | rare), timeouts)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=marked_rows(), limit=st.integers(1, 12))
def test_transitions_are_those_of_d4rl(d4rl_package, rows, limit):
    expected = theirs(d4rl_package, rows, limit)
    ours = qlearning_dataset(rows, limit)
    assert len(ours["rewards"]) == len(expected["rewards"])
    if len(ours["rewards"]):  # D4RL's empty arrays have lost their second axis
        np.testing.assert_array_equal(ours["terminals"], expected["terminals"])
        for key in ("observations", "actions", "rewards", "next_observations"):
            np.testing.assert_array_equal(ours[key].astype(np.float32), expected[key], err_msg=key)


@pytest.mark.parametrize("with_timeouts", [True, False])
def test_file_gives_the_transitions_of_d4rl(d4rl_package, tmp_path, with_timeouts):
    generator = np.random.default_rng(0)
    terminals, timeouts = generator.random((2, 3000)) < 0.02
    rows = random_rows(1, 3000, terminals, timeouts if with_timeouts else None)
    more = {"next_observations": np.zeros((3000, 3)), "infos/goal": np.zeros((7, 2))}  # D4RL reads neither
    dataset = read_hdf5(write(tmp_path / "rows.hdf5", {**rows, **more}), episode_limit=25)
    assert 2000 < dataset.size < 2999
    assert_batch_equals(dataset.batch, theirs(d4rl_package, rows, 25))


def test_kitchen_file_gives_the_transitions_of_d4rl(d4rl_package, kitchen_file):
    with h5py.File(kitchen_file) as file:
        rows = {key: file[key][()] for key in ("observations", "actions", "rewards", "terminals", "timeouts")}
    dataset = read_hdf5(kitchen_file, episode_limit=280)
    assert_batch_equals(dataset.batch, theirs(d4rl_package, rows, 280))
    # 3,680 rows without a time-out, the last of them unused; 19 demonstrations, of which 18 end in their
    # terminal row and the last at the end of the data.
    assert dataset.size == 3679
    assert dataset.ends.sum() == 19
    assert (dataset.batch.masks == 0).sum() == 18
    assert (dataset.observation_dim, dataset.action_dim) == (60, 9)


def test_step_counter_by_hand():
    # Limit 3, no terminals: the rows 2, 5 are dropped and, as always, the last (7).
    none = np.zeros(8, bool)
    kept = qlearning_dataset(random_rows(0, 8, none) | {"rewards": np.arange(8)}, 3)["rewards"]
    np.testing.assert_array_equal(kept, [0, 1, 3, 4, 6])
    # After the terminal at row 1 the count goes on from 1, not 0: row 3 is dropped, then row 6.
    terminals = np.arange(8) == 1
    kept = qlearning_dataset(random_rows(0, 8, terminals) | {"rewards": np.arange(8)}, 3)["rewards"]
    np.testing.assert_array_equal(kept, [0, 1, 2, 4, 5])


def test_dropped_timeout_ends_its_trajectory(tmp_path):
    timeouts = np.arange(6) == 2
    dataset = read_hdf5(write(tmp_path / "a.h5", random_rows(0, 6, np.zeros(6, bool), timeouts)), None)
    np.testing.assert_array_equal(dataset.ends, [False, True, False, True])
    np.testing.assert_array_equal(dataset.batch.masks, 1.0)


GOOD = random_rows(0, 6, np.zeros(6, bool), np.zeros(6, bool))


def never_written(path):
    """Claims 4 TB in a file of some thousand bytes."""
    with h5py.File(write(path, GOOD), "a") as file:
        del file["observations"]
        file.create_dataset("observations", (10**9, 1000), "f4", chunks=(1000, 1000))


def without_shape(path):
    with h5py.File(write(path, GOOD), "a") as file:
        del file["rewards"]
        file["rewards"] = h5py.Empty("f4")


def truncated(path):
    path.write_bytes(write(path, GOOD).read_bytes()[:-500])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "a directory, not a file"),
        (lambda path: path.write_bytes(b""), "empty"),
        (truncated, "not a readable HDF5 file.*truncated"),
        (lambda path: path.write_text("observations"), "not a readable HDF5 file"),
        (never_written, "12,000.00 GB of memory are needed, .* are free"),
        (without_shape, "rewards has type object"),
        (lambda path: write(path, {}), "no array observations, actions, rewards, terminals; .*holds nothing"),
        (
            lambda path: write(path, {"states": GOOD["observations"], "rewards": GOOD["rewards"]}),
            "no array observations, actions, terminals; the file holds rewards, states",
        ),
        (lambda path: write(path, GOOD | {"rewards": np.zeros(5)}), "rewards and observations disagree"),
        (lambda path: write(path, GOOD | {"actions": np.zeros(6)}), r"actions has shape \(6,\)"),
        (lambda path: write(path, GOOD | {"rewards": np.full(6, np.nan)}), "rewards holds nan at row 0"),
        (lambda path: write(path, GOOD | {"actions": [["a"]] * 6}), "actions has type object"),
        (lambda path: write(path, {key: array[:1] for key, array in GOOD.items()}), "at least 2 rows"),
        (lambda path: write(path, GOOD | {"timeouts": np.ones(6)}), "no transition is left"),
        (
            lambda path: write(path, {key: array for key, array in GOOD.items() if key != "timeouts"}),
            "no timeouts, and no task",
        ),
        (
            lambda path: write(
                path, {k: v for k, v in GOOD.items() if k != "rewards"} | {"rewards/x": np.zeros(6)}
            ),
            "no array rewards; the file holds .*rewards",  # a folder of that name is no array
        ),
    ],
)
def test_bad_file_is_one_line_that_names_it(tmp_path, make, message):
    path = tmp_path / "data.hdf5"
    make(path)
    with pytest.raises(UserError, match=message) as error:
        read_hdf5(path, episode_limit=None)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
