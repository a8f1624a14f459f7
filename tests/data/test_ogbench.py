"""OGBench's layout: its terminals mark the ends of trajectories, masks the goals reached."""

import numpy as np
import pytest

from xql_jax.data import load_dataset
from xql_jax.data.npz import read_npz, read_ogbench
from xql_jax.errors import UserError
from xql_jax.tasks import get_task

# Two trajectories of three and two transitions, as OGBench stores them: the last row has no successor.
ROWS = {
    "observations": np.array([0, 1, 2, 3, 10, 11, 12], np.float32)[:, None],
    "actions": np.arange(7, dtype=np.float32)[:, None] / 10,
    "terminals": np.array([0, 0, 0, 1, 0, 0, 1], bool),
    "qpos": np.zeros((7, 5), np.float32),
}
REWARDED = ROWS | {
    "rewards": np.array([-1, 0, -1, -1, -1, -1, -1], np.float32),
    "masks": np.array([1, 0, 1, 1, 1, 1, 1], np.float32),
}


def their_regular_dataset(rows):
    """What OGBench's loader makes of the rows, in its own terms: next observations by shifting."""
    kept = rows["terminals"] == 0
    shifted = np.append(False, kept[:-1])
    last = np.append(rows["terminals"][1:], True)[kept]
    regular = {key: rows[key][kept] for key in rows if key != "terminals"}
    return {
        **regular,
        "next_observations": rows["observations"][shifted],
        "terminals": last.astype(np.float32),
    }


def write(path, arrays):
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("regular", [False, True])
def test_transitions_are_those_of_ogbench(tmp_path, regular):
    expected = their_regular_dataset(REWARDED)
    dataset = read_ogbench(write(tmp_path / "a.npz", expected if regular else REWARDED))
    for key in ("observations", "actions", "rewards", "masks", "next_observations"):
        np.testing.assert_array_equal(getattr(dataset.batch, key), expected[key], err_msg=key)
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], [0, 1, 2, 10, 11])
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 0], [1, 2, 3, 11, 12])
    np.testing.assert_array_equal(dataset.ends, [0, 1, 1, 0, 1])  # the goal at row 1, and the two time-outs


def test_without_masks_no_state_is_terminal(tmp_path):
    arrays = {key: array for key, array in REWARDED.items() if key != "masks"}
    dataset = read_ogbench(write(tmp_path / "a.npz", arrays))
    np.testing.assert_array_equal(dataset.batch.masks, 1)
    np.testing.assert_array_equal(dataset.ends, [0, 0, 1, 0, 1])


def test_the_prefix_chooses_the_layout(tmp_path):
    path = write(tmp_path / "a.npz", REWARDED)
    assert load_dataset(None, [f"ogbench:{path}"]).size == 5
    with pytest.raises(UserError, match=rf"ogbench:{path}"):
        read_npz(path, 200)


def test_rows_that_could_be_ogbenchs_are_not_guessed_at(tmp_path):
    arrays = {key: array for key, array in REWARDED.items() if key != "masks"}
    path = write(tmp_path / "a.npz", arrays)
    with pytest.raises(
        UserError, match=rf"qpos: if they are OGBench's.*give ogbench:{path}; if not, add timeouts"
    ):
        load_dataset(get_task("antmaze-umaze-v2"), [str(path)])
    path = write(tmp_path / "b.npz", {**arrays, "timeouts": np.zeros(7)})
    assert load_dataset(None, [str(path)]).size == 7  # the last row is terminal then, and stays


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (ROWS, "no array rewards; OGBench's own files have none.*singletask"),
        ({"rewards": np.zeros(3)}, "no array observations, actions, terminals; the file holds rewards"),
        (REWARDED | {"masks": np.full(7, 0.5)}, "masks holds 0.5 at row 0, must be 0 or 1$"),
        (
            REWARDED | {"observations": np.zeros((7, 64, 64, 3), np.uint8)},
            r"observations has shape \(7, 64, 64, 3\)",
        ),
        (REWARDED | {"terminals": np.ones(7)}, "no transition is left"),
    ],
)
def test_what_cannot_be_trained_on_is_said(tmp_path, arrays, message):
    path = write(tmp_path / "a.npz", arrays)
    with pytest.raises(UserError, match=message) as error:
        read_ogbench(path)
    assert str(path) in str(error.value)
