"""Preprocessing on numbers worked by hand: fitted to a dataset, saved, applied wherever a learner looks."""

import h5py
import numpy as np
import pytest

from xql_jax.data.d4rl_rewards import POSITIONS, kitchen_rewards
from xql_jax.data.dataset import Dataset, best_trajectories, summed
from xql_jax.data.preprocessing import (
    Preprocessing,
    PreprocessingSettings,
    fit_preprocessing,
    task_of_rewards,
)
from xql_jax.errors import Damaged, UserError
from xql_jax.files import write_record
from xql_jax.suites.tasks import get_task
from xql_jax.types import Batch

HOPPER, KITCHEN = get_task("hopper-medium-v2"), get_task("kitchen-complete-v0")
ACTIONS = (0.0, 1.0, -1.0, 3.0, 0.5)
EVERYTHING = Preprocessing(
    action_bound=0.5,
    reward_scale=2.0,
    reward_shift=-1.0,
    observation_mean=(1.0, -1.0),
    observation_std=(2.0, 0.5),
)


def dataset(rewards=(1.0, 2.0, 4.0, -1.0, 0.5), ends=(0, 1, 0, 0, 1), actions=ACTIONS):
    """The returns of two trajectories are 3 and 3.5."""
    column = np.array(actions, np.float32)[:, None]
    batch = Batch(column, column, np.array(rewards, np.float32), np.ones(5, np.float32), column)
    return Dataset(batch, np.array(ends, bool), "file")


def fitted(data, task=None, **options):
    settings = PreprocessingSettings(**options)
    kept = best_trajectories(data, settings.top_returns)
    return fit_preprocessing(kept, task, settings, whole=data).dataset(kept)


def iqls(data, suite):
    """What IQL's train_offline.py does: `clip_to_eps`, `normalize`, AntMaze's shift; its loops over rows."""
    trajectories = np.split(data.batch.rewards, np.flatnonzero(data.ends)[:-1] + 1)
    returns = sorted(sum(float(reward) for reward in trajectory) for trajectory in trajectories)
    rewards = data.batch.rewards
    if suite == "locomotion":
        rewards = rewards * np.float32(1000.0 / (returns[-1] - returns[0]))  # rounded once
    elif suite == "antmaze":
        rewards = rewards - np.float32(1.0)
    return np.clip(data.batch.actions, -(1 - 1e-5), 1 - 1e-5), rewards


LOCOMOTION = ["hopper-medium-v2", "Hopper-v5"]
NEITHER = ["kitchen-mixed-v0", "pen-human-v1", "maze2d-umaze-v1", None]
SUITES = dict.fromkeys(LOCOMOTION, "locomotion") | {"antmaze-umaze-v2": "antmaze"}


@pytest.mark.parametrize("name", [*SUITES, *NEITHER])
def test_what_iql_does_to_a_task(name):
    task, suite = name and get_task(name), SUITES.get(name)
    for rewards in ((1.0, 2.0, 4.0, -1.0, 0.5), (1.0, 2.0, 9.0, 0.5, 0.5)):  # returns 0.5 and 7 apart
        before = dataset(rewards)
        after = fitted(before, task)
        actions, expected = iqls(before, suite)
        np.testing.assert_array_equal(after.batch.actions, actions, strict=True)
        np.testing.assert_array_equal(after.batch.rewards, expected, strict=True)
        np.testing.assert_array_equal(after.batch.observations[:, 0], ACTIONS)
        np.testing.assert_array_equal(before.batch.actions[:, 0], ACTIONS)  # untouched
        # A method whose settings are for rewards as they are keeps them.
        assert fit_preprocessing(before, task, PreprocessingSettings(scale_rewards=False)).reward_scale == 1.0


def test_unit_rewards_have_a_root_mean_square_of_one():
    """The squares of these five rewards sum to 125; of the first two, whose return is larger, to 109."""
    data = dataset((10.0, 3.0, 0.0, 0.0, 4.0))
    assert fit_preprocessing(data, None, unit_rewards=True).reward_scale == pytest.approx(0.2)
    best = fit_preprocessing(best_trajectories(data, 0.4), None, unit_rewards=True)
    assert best.reward_scale == pytest.approx((2 / 109) ** 0.5)
    assert fit_preprocessing(dataset((0.0,) * 5), None, unit_rewards=True).reward_scale == 1.0


def test_equal_returns_cannot_be_scaled():
    data = dataset((1, 2, 3, 0, 0))
    with pytest.raises(UserError, match=r"file: .*all 2 trajectories return 3 to 3; --noscale_rewards"):
        fit_preprocessing(data, HOPPER)
    assert fit_preprocessing(data, None).reward_scale == 1.0


@pytest.mark.parametrize(
    ("rewards", "is_refused"), [((25, 25, 50.4, 0, 0), True), ((25, 25, 50.6, 0, 0), False)]
)
def test_returns_are_scaled_if_they_range_over_a_hundredth_of_their_size(rewards, is_refused, caplog):
    """And what they are multiplied by is logged."""
    caplog.set_level("INFO")
    if is_refused:
        with pytest.raises(UserError, match=r"return 50 to 50\.4; --noscale_rewards leaves them"):
            fit_preprocessing(dataset(rewards), HOPPER)
    else:
        fit_preprocessing(dataset(rewards), HOPPER)
        assert "rewards are multiplied by 1667" in caplog.text  # 1,000 / 0.6


def test_observations_that_hardly_vary_are_told_if_they_are_divided_by_their_spread(caplog):
    column = np.linspace(0, 1, 50)
    entries = (column, 1e3 + column, 0 * column, 7 + 0 * column, -100 - 1.1 * column)
    observations = np.stack(entries, axis=1).astype(np.float32)
    numbers = np.ones(50, np.float32)
    data = Dataset(Batch(observations, observations, numbers, numbers, observations), numbers > 0, "file")
    fit_preprocessing(data, None)
    assert not caplog.text
    fit_preprocessing(data, None, PreprocessingSettings(normalize_observations=True))
    assert "file: observation entries 1, 3 vary by less than 1% of their size" in caplog.text
    assert "--nonormalize_observations" in caplog.text


def test_equal_returns_are_equal_whatever_was_summed_before():
    """Tiny costs before a large reward: one running sum would round each trajectory in its own way."""
    rewards = np.tile(np.float32([-1e-3] * 9 + [100.0]), 300)
    ends = np.arange(3_000) % 10 == 9
    assert len(set(summed(rewards, ends))) == 1
    returns = summed(np.float32([1e17, 4.0, 6.0, 9.0]), np.bool_([1, 0, 1, 0]))
    np.testing.assert_allclose(returns, [1e17, 10.0], rtol=1e-7)


@pytest.mark.parametrize("rewards", [(0.1, 0.5, 0.6, 0.0, 0.0), (0.3, 0.3, 0.1, 0.2, 0.3)])
def test_returns_that_differ_by_rounding_alone_cannot_be_scaled(rewards):
    with pytest.raises(UserError, match="all 2 trajectories return"):
        fit_preprocessing(dataset(rewards), HOPPER)


def test_observations_have_mean_0_and_std_1():
    generator = np.random.default_rng(0)
    observations = generator.normal([0.0, 100.0, -5.0], [1.0, 0.01, 30.0], (500, 3)).astype(np.float32)
    observations[:, 2] = -7.0  # does not vary: it is centred, and left as large as it is
    numbers = np.ones(500, np.float32)
    data = Dataset(Batch(observations, observations, numbers, numbers, observations), numbers > 0, "file")
    seen = fitted(data, normalize_observations=True).batch.observations
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean(0, np.float64), 0.0, atol=2e-3)  # 100 has float32s 8e-6 apart
    np.testing.assert_allclose(seen.std(0, dtype=np.float64), [1.0, 1.0, 0.0], atol=1e-3)
    normalized = PreprocessingSettings(normalize_observations=True)
    assert fit_preprocessing(data, None, normalized).observation_std[2] == 1e-3


def test_every_number_has_its_place():
    """0.5 clips 0.75, 2 r - 1, (o - mean) / std: each by hand."""
    row = Batch(*(np.float32(x) for x in ([3.0, 0.0], [0.75, -0.25], 4.0, 1.0, [1.0, -1.0])))
    after = EVERYTHING.batch(row)
    assert [np.asarray(field).tolist() for field in after] == [[1.0, 2.0], [0.5, -0.25], 7.0, 1.0, [0.0, 0.0]]


def five_trajectories():
    """Trajectories of 2, 1, 3, 1 and 2 rows, returns 5, -1, 9, 5 and 0; a row's number is its observation."""
    rewards = np.array([2, 3, -1, 4, 4, 1, 5, 1, -1], np.float32)
    ends = np.array([0, 1, 1, 0, 0, 1, 1, 0, 1], bool)
    column = np.arange(9, dtype=np.float32)[:, None]
    masks = 1 - ends.astype(np.float32)
    return Dataset(Batch(column, column, rewards, masks, column + 1), ends, "file")


@pytest.mark.parametrize(
    ("share", "rows"),
    [
        (1.0, range(9)),
        (0.9, [0, 1, 3, 4, 5, 6, 7, 8]),  # 8.1 rows
        (0.8, [0, 1, 3, 4, 5, 6]),  # 7.2 rows: the next best has two more than these six
        (0.6, [0, 1, 3, 4, 5]),  # the earlier of two that are equally good
        (0.01, [3, 4, 5]),  # one in any case
    ],
)
def test_top_returns_are_the_best_trajectories_whole(share, rows):
    """Chosen by returns before they are scaled (from -1 to 9: times 100), normalised over what is kept."""
    before, rows = five_trajectories(), list(rows)
    after = fitted(before, HOPPER, top_returns=share)
    np.testing.assert_array_equal(after.batch.observations[:, 0], rows)
    np.testing.assert_array_equal(after.ends, before.ends[rows])
    np.testing.assert_array_equal(after.batch.rewards, 100 * before.batch.rewards[rows])
    normalised = fitted(before, top_returns=share, normalize_observations=True)
    np.testing.assert_allclose(normalised.batch.observations.mean(0), 0.0, atol=1e-6)


@pytest.mark.parametrize("record", [Preprocessing(), EVERYTHING])
def test_what_is_saved_is_what_is_loaded(tmp_path, record):
    file = tmp_path / "preprocessing.json"
    file.write_text("damaged")
    record.save(file, "run")
    assert Preprocessing.load(file, "run") == record
    with pytest.raises(Damaged, match="of another run; this one is other"):
        Preprocessing.load(file, "other")


def test_the_record_of_a_run_that_chose_rows_itself_is_loaded(tmp_path):
    """As 1.x wrote it; which rows are learned from is the setting `top_returns`."""
    content = {**vars(EVERYTHING), "most_rows": 7.0, "run": "run"}
    write_record(tmp_path / "preprocessing.json", content)
    assert Preprocessing.load(tmp_path / "preprocessing.json", "run") == EVERYTHING


def test_what_another_version_fitted_besides_is_refused(tmp_path):
    """As runs of 1.0.0 have it."""
    write_record(tmp_path / "preprocessing.json", {"counts_kitchen_tasks": False, "run": "run"})
    with pytest.raises(UserError, match="another version of the program: counts_kitchen_tasks is not known"):
        Preprocessing.load(tmp_path / "preprocessing.json", "run")


# The reward of D4RL's kitchen data from observations: against the real file and the simulator.

GOAL = {11: -0.88, 12: -0.01, 22: -0.75}  # of a burner and the microwave, in D4RL's numbers


def seen(**positions):
    """An observation in which all is 0 but the goal and the given positions."""
    observation = np.zeros(2 * POSITIONS, np.float32)
    for place, value in GOAL.items():
        observation[POSITIONS + place] = value
    for place, value in positions.items():
        observation[int(place.removeprefix("at"))] = value
    return observation


@pytest.mark.parametrize(
    ("positions", "reward"),
    [
        ({}, 0.0),
        ({"at11": -0.88}, 1.0),  # 0.01 from the burner's goal
        ({"at22": -0.46}, 1.0),  # 0.29 from the microwave's
        ({"at22": -0.44}, 0.0),  # 0.31
        ({"at11": -0.63, "at12": -0.18}, 0.0),  # 0.25 and 0.17: each is near, both together are not
        ({"at11": -0.88, "at22": -0.75, "at19": 0.37}, 2.0),  # at19 is no task of this goal
    ],
)
def test_tasks_done_by_hand(positions, reward):
    batch = kitchen_rewards(KITCHEN, np.stack([seen(**positions), seen()])[None])
    np.testing.assert_array_equal(batch, [[reward, 0.0]])
    assert batch.dtype == np.float32


def test_learners_see_them_online_in_place_of_the_environments():
    """Observations are read before they are normalised. The data stay as they are."""
    rows = np.stack([seen(), seen(at22=-0.75)])
    batch = Batch(rows, rows[:, :9], np.float32([7.0, 7.0]), np.float32([1.0, 0.0]), rows)
    normalising = Preprocessing(observation_mean=(3.0,) * 60, observation_std=(2.0,) * 60)
    for others in (Preprocessing(), normalising):
        counting = Preprocessing(**{**vars(others), "rewards_as_in": KITCHEN.name})
        online = counting.of_environment(batch)
        np.testing.assert_array_equal(online.rewards, [0.0, 1.0])
        np.testing.assert_array_equal(online.masks, [1.0, 1.0])  # in the data, reward goes on
        np.testing.assert_array_equal(counting.rewards_met(rows, batch.rewards), [0.0, 1.0])
        for field, expected in zip(counting.batch(batch), others.batch(batch), strict=True):
            np.testing.assert_array_equal(field, expected)
        for field, expected in zip(others.of_environment(batch), others.batch(batch), strict=True):
            np.testing.assert_array_equal(field, expected)


def test_they_are_the_real_files_rewards(kitchen_file):
    with h5py.File(kitchen_file) as file:
        observations, rewards = file["observations"][()], file["rewards"][()]
    np.testing.assert_array_equal(kitchen_rewards(KITCHEN, observations), rewards)


def test_returns_that_are_not_known_scale_and_choose_nothing():
    """Where transitions are shuffled, each row would be a trajectory."""
    column = np.array([0.0, 4, 2, 6, 1, 9], np.float32)[:, None]
    batch = Batch(column, column, column[:, 0], np.ones(6, np.float32), column + 1)
    shuffled = Dataset(batch, np.ones(6, bool), "file")
    for needing, words in (
        (lambda: fit_preprocessing(shuffled, HOPPER), "noscale_rewards"),
        (lambda: best_trajectories(shuffled, 0.5), "highest"),
    ):
        with pytest.raises(UserError, match=f"6 of 6 transitions do not lead to .*{words}.* shuffled"):
            needing()
    assert best_trajectories(shuffled, 1.0) is shuffled
    assert fit_preprocessing(shuffled, HOPPER, PreprocessingSettings(scale_rewards=False)).reward_scale == 1.0


@pytest.mark.parametrize("reward", [1.0, 0.0])
def test_the_data_tell_whose_reward_they_have(reward):
    """In each of these rows the microwave is open, which is one task done."""
    rows = np.stack([seen(at22=-0.75)] * 5)
    batch = Batch(rows, rows[:, :9], np.full(5, reward, np.float32), np.ones(5, np.float32), rows)
    data = Dataset(batch, np.ones(5, bool), "file")
    assert task_of_rewards(data, KITCHEN) == (KITCHEN.name if reward == 1.0 else "")


@pytest.mark.parametrize(
    ("task", "factor", "is_fit"),
    [
        *((None, 1e-36, True), (None, 1e-40, False), (None, 1e30, True), (None, 5e37, False)),
        *((HOPPER, 1e-30, True), (HOPPER, 1e-36, False), (HOPPER, 5e37, True)),
    ],
)
def test_rewards_that_float32_cannot_scale_are_refused(task, factor, is_fit):
    """Their root mean square is 2.11 times the factor; 1 by it is no float32, or has lost its digits."""
    rewards, is_unit = np.array([1.0, 2.0, 4.0, -1.0, 0.5]), task is None
    data = dataset(rewards * factor)
    if not is_fit:
        with pytest.raises(UserError, match=r"^file: rewards have a root mean square of .*: give them in an"):
            fit_preprocessing(data, task, unit_rewards=is_unit)
        return
    scaled = fit_preprocessing(data, task, unit_rewards=is_unit).dataset(data).batch.rewards
    size = 1 / np.sqrt(np.mean(np.square(rewards))) if is_unit else 1000 / 0.5
    np.testing.assert_allclose(scaled, size * rewards, rtol=1e-4)
