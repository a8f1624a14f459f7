"""A folder of episodes, worked by hand, and folders that are no good."""

import numpy as np
import pytest

from xql_jax.data import load_dataset
from xql_jax.data.episodes import read_npz_folder
from xql_jax.errors import UserError


def episode(start, length, extra=1, **more):
    """Observations start, start + 1, ...; rewards the same; `extra` observations beyond the steps."""
    return {
        "observations": np.arange(start, start + length + extra, dtype=np.float64)[:, None],
        "actions": np.full((length, 2), start / 100),
        "rewards": np.arange(start, start + length),
        **more,
    }


def write(folder, **episodes):
    folder.mkdir()
    for name, arrays in episodes.items():
        np.savez(folder / f"{name}.npz", **arrays)
    return folder


def test_episodes_are_joined_by_name(tmp_path):
    folder = write(
        tmp_path / "episodes",
        b=episode(10, 2, terminals=np.array([False, True])),
        a=episode(0, 3),
        c=episode(20, 1, terminated=True),
        d=episode(30, 2, terminations=np.array([0.0])),
    )
    (folder / "notes.txt").write_text("not an episode")
    dataset = load_dataset(None, [str(folder)])
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 2, 10, 11, 20, 30, 31])
    np.testing.assert_array_equal(dataset.batch.observations[:, 0], dataset.batch.rewards)
    np.testing.assert_array_equal(dataset.batch.next_observations[:, 0], dataset.batch.rewards + 1)
    np.testing.assert_allclose(dataset.batch.actions[:, 1], [0, 0, 0, 0.1, 0.1, 0.2, 0.3, 0.3])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 1, 0, 0, 1, 1])
    np.testing.assert_array_equal(dataset.ends, [0, 0, 1, 0, 1, 1, 0, 1])
    assert dataset.source == str(folder)
    assert all(array.dtype == np.float32 for array in dataset.batch)


def test_episodes_that_run_on_seamlessly_still_end(tmp_path):
    # 0, 1, 2 then 2, 3, 4: without the mark, the observations would tell of no jump.
    dataset = read_npz_folder(write(tmp_path / "e", a=episode(0, 2), b=episode(2, 2)))
    np.testing.assert_array_equal(dataset.ends, [0, 1, 0, 1])


def test_without_a_last_observation_the_last_step_stays_only_if_it_is_terminal(tmp_path):
    dataset = read_npz_folder(
        write(tmp_path / "e", a=episode(0, 3, extra=0), b=episode(10, 3, extra=0, terminals=True))
    )
    np.testing.assert_array_equal(dataset.batch.rewards, [0, 1, 10, 11, 12])
    np.testing.assert_array_equal(dataset.batch.next_observations[:4, 0], [1, 2, 11, 12])
    np.testing.assert_array_equal(dataset.batch.masks, [1, 1, 1, 1, 0])
    np.testing.assert_array_equal(dataset.ends, [0, 1, 0, 0, 1])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"rewards": np.zeros(2)}, "no array observations, actions; the file holds rewards"),
        (episode(0, 3) | {"rewards": np.zeros(2)}, "rewards and observations disagree"),
        (episode(0, 3, extra=2), r"actions and observations disagree.*\(3, 2\) and \(5, 1\)"),
        (episode(0, 3, extra=-1), "actions and observations disagree"),
        (episode(0, 0), r"observations has shape \(0, 1\): at least 1 rows"),
        (episode(0, 3) | {"observations": np.float64(3.0)}, r"observations has shape \(\)"),
        (episode(0, 3) | {"actions": np.float64(3.0)}, r"actions has shape \(\)"),
        (episode(0, 3) | {"rewards": np.float64(3.0)}, r"rewards has shape \(\)"),
        (episode(0, 3, terminals=np.zeros((3, 2))), r"terminals has shape \(3, 2\)"),
        (episode(0, 3, terminals=True, terminated=True), "given more than once"),
        (episode(0, 3) | {"rewards": np.array([0, np.nan, 0])}, "rewards holds nan at row 1"),
        (
            episode(0, 3) | {"observations": np.array([[0], [1], [2], [np.inf]])},
            "next_observations holds inf at row 2",
        ),
        (episode(0, 3) | {"rewards": np.array(["a"] * 3)}, "rewards has type <U1"),
    ],
)
def test_an_unfit_episode_is_named(tmp_path, arrays, message):
    folder = write(tmp_path / "e", good=episode(0, 2), worse=arrays)
    with pytest.raises(UserError, match=message) as error:
        read_npz_folder(folder)
    assert str(folder / "worse.npz") in str(error.value)


@pytest.mark.parametrize("key", ["observations", "actions"])
def test_episodes_of_different_sizes(tmp_path, key):
    other = episode(0, 2)
    other[key] = np.concatenate([other[key], other[key]], axis=1)
    size = episode(0, 2)[key].shape[1]
    folder = write(tmp_path / "e", a=episode(0, 2), b=episode(0, 2), c=other)
    with pytest.raises(UserError, match=f"{key} have {size} entries in the first and {2 * size} in number 3"):
        read_npz_folder(folder)


def test_no_transition_is_left(tmp_path):
    with pytest.raises(UserError, match="no transition is left"):
        read_npz_folder(write(tmp_path / "e", a=episode(0, 1, extra=0)))


def test_a_folder_without_episodes(tmp_path):
    with pytest.raises(UserError, match=r"no .npz file, an episode each, in this directory"):
        load_dataset(None, [str(write(tmp_path / "e"))])
