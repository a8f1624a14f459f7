"""Preprocessing on numbers worked by hand: fitted to a dataset, saved, applied wherever a learner looks."""

import json

import numpy as np
import pytest

from xql_jax.data.dataset import Dataset
from xql_jax.data.preprocessing import Preprocessing, fit_preprocessing
from xql_jax.errors import UserError
from xql_jax.files import write_record
from xql_jax.tasks import get_task
from xql_jax.types import Batch

HOPPER = get_task("hopper-medium-v2")
ACTIONS = (0.0, 1.0, -1.0, 3.0, 0.5)
EVERYTHING = Preprocessing(
    action_bound=0.5,
    reward_scale=2.0,
    reward_shift=-1.0,
    observation_mean=(1.0, -1.0),
    observation_std=(2.0, 0.5),
    most_rows=7.0,
)


def dataset(rewards=(1.0, 2.0, 4.0, -1.0, 0.5), ends=(0, 1, 0, 0, 1), actions=ACTIONS):
    """The returns of two trajectories are 3 and 3.5."""
    column = np.array(actions, np.float32)[:, None]
    batch = Batch(column, column, np.array(rewards, np.float32), np.ones(5, np.float32), column)
    return Dataset(batch, np.array(ends, bool), "file")


def fitted(data, task=None, **options):
    return fit_preprocessing(data, task, **options).dataset(data)


def test_returns_by_trajectory():
    np.testing.assert_array_equal(dataset().trajectory_returns(), [3.0, 3.5])
    np.testing.assert_array_equal(dataset(ends=(1, 1, 1, 1, 1)).trajectory_returns(), dataset().batch.rewards)


def test_clipped_actions_leave_all_else():
    before = dataset()
    after = fitted(before)
    np.testing.assert_allclose(after.batch.actions[:, 0], [0, 0.99999, -0.99999, 0.99999, 0.5], rtol=1e-7)
    assert np.abs(after.batch.actions).max() < 1
    np.testing.assert_array_equal(after.batch.observations[:, 0], ACTIONS)
    np.testing.assert_array_equal(after.batch.rewards, before.batch.rewards)
    np.testing.assert_array_equal(before.batch.actions[:, 0], ACTIONS)  # untouched
    assert after.source == "file"


@pytest.mark.parametrize(
    ("name", "rewards", "scale", "shift"),
    [
        # The returns 3 and 3.5 are 0.5 apart: to span 1000 the factor is 2000.
        *(
            (name, [2000, 4000, 8000, -2000, 1000], 2000.0, 0.0)
            for name in ("hopper-medium-v2", "bullet-hopper-medium-v0", "Hopper-v5")
        ),
        ("antmaze-umaze-v2", [0, 1, 3, -2, -0.5], 1.0, -1.0),
        *(
            (name, [1, 2, 4, -1, 0.5], 1.0, 0.0)
            for name in (
                "kitchen-mixed-v0",
                "pen-human-v1",
                "maze2d-umaze-v1",
                "pointmaze-umaze-v0",
                "bullet-maze2d-umaze-v0",
                None,
            )
        ),
    ],
)
def test_what_iql_does_to_a_task(name, rewards, scale, shift):
    record = fit_preprocessing(dataset(), name and get_task(name))
    assert record == Preprocessing(action_bound=1 - 1e-5, reward_scale=scale, reward_shift=shift)
    after = record.dataset(dataset())
    np.testing.assert_array_equal(after.batch.rewards, np.float32(rewards))
    assert after.batch.rewards.dtype == np.float32
    assert np.abs(after.batch.actions).max() == np.float32(1 - 1e-5)
    if scale != 1.0:
        assert np.ptp(after.trajectory_returns()) == 1000


def test_a_factor_that_is_no_float32_is_rounded_once():
    """Returns 7 apart: 1000 / 7 as float32, then the products, as IQL's rewards have been computed here."""
    data = dataset(rewards=(1.0, 2.0, 9.0, 0.5, 0.5))
    rewards = fitted(data, HOPPER).batch.rewards
    np.testing.assert_array_equal(rewards, data.batch.rewards * np.float32(1000.0 / 7.0))


@pytest.mark.parametrize(
    ("rewards", "ends", "message"),
    [
        ((1, 2, 3, 0, 0), (0, 1, 0, 0, 1), "file: .*all 2 trajectories return 3"),
        ((1, 2, 3, 0, 0), (0, 0, 0, 0, 1), "file: .*all 1 trajectories return 6"),
    ],
)
def test_equal_returns_cannot_be_scaled(rewards, ends, message):
    with pytest.raises(UserError, match=message):
        fit_preprocessing(dataset(rewards, ends), HOPPER)
    fit_preprocessing(dataset(rewards, ends), None)


def test_observations_have_mean_0_and_std_1():
    generator = np.random.default_rng(0)
    observations = generator.normal([0.0, 100.0, -5.0], [1.0, 0.01, 30.0], (500, 3)).astype(np.float32)
    observations[:, 2] = -7.0  # does not vary: it is centred, and left as large as it is
    actions, numbers = np.zeros((500, 1), np.float32), np.ones(500, np.float32)
    data = Dataset(Batch(observations, actions, numbers, numbers, observations + 1), numbers > 0, "file")
    record = fit_preprocessing(data, None, normalize_observations=True)
    seen = record.dataset(data).batch.observations
    assert seen.dtype == np.float32
    np.testing.assert_allclose(seen.mean(0, np.float64), 0.0, atol=2e-3)  # 100 has float32s 8e-6 apart
    np.testing.assert_allclose(seen.std(0, dtype=np.float64), [1.0, 1.0, 0.0], atol=1e-3)
    np.testing.assert_array_equal(seen[:, 2], 0.0)
    assert record.observation_std[2] == 1e-3


def test_observations_by_hand():
    """The entries 0, 1, -1, 3, 0.5 have the mean 0.7 and the variance 11.25 / 5 - 0.49 = 1.76."""
    record = fit_preprocessing(dataset(), None, normalize_observations=True)
    np.testing.assert_allclose([record.observation_mean, record.observation_std], [[0.7], [1.76**0.5]])
    after = record.dataset(dataset()).batch
    expected = (np.array(ACTIONS) - 0.7) / 1.76**0.5
    np.testing.assert_allclose(after.observations[:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(after.next_observations, after.observations)
    assert after.actions[3, 0] == np.float32(1 - 1e-5)  # are no observations


@pytest.mark.parametrize("record", [EVERYTHING, Preprocessing()])
def test_all_that_a_learner_sees_is_transformed_alike(record):
    """A dataset, a minibatch, a single row, and observations before acting, whatever their leading axes."""
    generator = np.random.default_rng(0)
    shapes = Batch((12, 2), (12, 3), (12,), (12,), (12, 2))
    batch = Batch(*(generator.normal(size=shape).astype(np.float32) for shape in shapes))
    whole = record.batch(batch)
    for rows in (slice(3, 7), 5):
        part = record.batch(Batch(*(field[rows] for field in batch)))
        for field, expected in zip(part, whole, strict=True):
            assert np.asarray(field).tobytes() == expected[rows].tobytes()
    seen = record.observations(batch.observations.reshape(2, 6, 1, 2))
    assert seen.tobytes() == whole.observations.tobytes()
    assert record.observations(batch.next_observations).tobytes() == whole.next_observations.tobytes()
    data = record.dataset(Dataset(batch, np.ones(12, bool), "file"))
    best = np.argsort(-batch.rewards)[: int(min(record.most_rows, 12))]  # each row is a trajectory
    kept = np.isin(np.arange(12), best)
    assert data.batch.observations.tobytes() == whole.observations[kept].tobytes()


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
    return Dataset(Batch(column, column, rewards, np.ones(9, np.float32), column + 1), ends, "file")


@pytest.mark.parametrize(
    ("share", "rows"),
    [
        (1.0, range(9)),
        (0.9, [0, 1, 3, 4, 5, 6, 7, 8]),  # 8.1 rows
        (0.8, [0, 1, 3, 4, 5, 6]),  # 7.2 rows: the next best has two more than these six
        (0.6, [0, 1, 3, 4, 5]),  # the earlier of two that are equally good
        (0.4, [3, 4, 5]),
        (0.01, [3, 4, 5]),  # one in any case
    ],
)
def test_top_returns_are_the_best_trajectories_whole(share, rows):
    before = five_trajectories()
    after = fitted(before, top_returns=share)
    np.testing.assert_array_equal(after.batch.observations[:, 0], list(rows))
    np.testing.assert_array_equal(after.ends, before.ends[list(rows)])
    np.testing.assert_array_equal(after.batch.rewards, before.batch.rewards[list(rows)])


def test_observations_are_normalised_over_what_is_learned_from():
    data = five_trajectories()
    kept = fit_preprocessing(data, None, top_returns=0.4, normalize_observations=True).dataset(data)
    assert 0 < kept.size < data.size
    np.testing.assert_allclose(kept.batch.observations.mean(0), 0.0, atol=1e-6)


def test_rewards_stay_as_they_are_for_a_method_whose_settings_are_for_such():
    assert fit_preprocessing(five_trajectories(), HOPPER).reward_scale == 100.0
    assert fit_preprocessing(five_trajectories(), HOPPER, scale_rewards=False).reward_scale == 1.0


def test_the_best_are_chosen_by_their_returns_before_these_are_scaled():
    after = fitted(five_trajectories(), HOPPER, top_returns=0.2)
    np.testing.assert_array_equal(after.batch.rewards, [400, 400, 100])  # from -1 to 9: times 100


@pytest.mark.parametrize(
    "record",
    [
        Preprocessing(),
        EVERYTHING,
        fit_preprocessing(dataset(), HOPPER, normalize_observations=True, top_returns=0.5),
        Preprocessing(reward_scale=1000 / 7, observation_mean=(0.1,), observation_std=(1 / 3,)),
    ],
)
def test_what_is_saved_is_what_is_loaded(tmp_path, record):
    record.save(tmp_path / "preprocessing.json", "run")
    assert Preprocessing.load(tmp_path / "preprocessing.json", "run") == record


@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "[]",
        "{}",
        json.dumps({"action_bound": 1.0}),
        json.dumps({**vars(EVERYTHING), "reward_scale": "much"}),
        json.dumps({**vars(EVERYTHING), "observation_mean": 3}),
        json.dumps({**vars(EVERYTHING), "observation_std": [None]}),
    ],
)
def test_what_cannot_be_loaded_is_told(tmp_path, content):
    path = tmp_path / "preprocessing.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=r"preprocessing\.json: (missing|damaged|of another)"):
        Preprocessing.load(path, "run")


def test_a_record_from_before_a_field_existed_has_its_default(tmp_path):
    file = tmp_path / "preprocessing.json"
    Preprocessing(reward_scale=2.0).save(file, "a run")
    content = json.loads(file.read_text())
    write_record(file, {name: content[name] for name in content.keys() - {"counts_kitchen_tasks", "digest"}})
    assert Preprocessing.load(file, "a run") == Preprocessing(reward_scale=2.0)
