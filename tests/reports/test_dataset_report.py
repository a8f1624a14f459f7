"""The report on datasets worked by hand, and each warning on data that deserve it."""

import re

import numpy as np
import pytest

from xql_jax.data.dataset import Dataset, best_trajectories
from xql_jax.data.suspicions import warn_of_suspicions
from xql_jax.errors import UserError
from xql_jax.suites.tasks import get_task
from xql_jax.types import Batch
from xql_jax.workshop.reports.dataset_report import describe_dataset

HOPPER = get_task("hopper-medium-v2")  # limit 1000, references -20.272305 and 3234.3


def dataset(
    rewards=(1.0, 2.0, 0.0, 4.0, 0.0),
    terminals=(3,),
    ends=(1, 3, 4),
    observations=None,
    actions=None,
    following=None,
):
    """Trajectories of 2, 2 and 1 steps, of which the second ends in a terminal."""
    size = len(rewards)
    if observations is None:
        observations = np.stack([np.arange(size), np.full(size, 7), -np.arange(size) / 2], axis=1)
    if actions is None:
        actions = np.linspace(-0.5, 0.5, size)[:, None]
    observations, actions = np.array(observations, np.float32), np.array(actions, np.float32)
    masks = 1 - np.isin(np.arange(size), terminals).astype(np.float32)
    following = observations + 1 if following is None else np.array(following, np.float32)
    batch = Batch(observations, actions, np.array(rewards, np.float32), masks, following)
    return Dataset(batch, np.isin(np.arange(size), ends), "file")


def summary(*numbers):
    return dict(zip(("least", "mean", "median", "most"), numbers, strict=True))


def test_numbers_by_hand():
    report = describe_dataset(dataset(), HOPPER)
    scores = report.pop("scores")
    assert scores["least"] == pytest.approx(100 * 20.272305 / 3254.572305)
    assert scores["most"] == pytest.approx(100 * 24.272305 / 3254.572305)
    assert report == {
        "source": "file", "notes": [], "transitions": 5, "observation_dim": 3, "action_dim": 1,
        "trajectories": 3, "terminals": 1, "cut_off": 2, "lengths": summary(1, 5 / 3, 2, 2),
        "returns": summary(0, 7 / 3, 3, 4), "rewards": summary(0, 1.4, 1, 4), "zero_rewards": 0.4,
        "actions": summary(-0.5, 0, 0, 0.5), "action_ranges": [[-0.5, 0.5]], "actions_at_bound": 0,
        "observation_ranges": [[0, 4], [7, 7], [-2, 0]],
        "constant_observations": [1], "duplicates": 0, "advice": [], "warnings": [],
    }  # fmt: skip
    assert describe_dataset(dataset(), None)["scores"] is None


def episodes_of(returns, length=10):
    """Episodes of equal length whose last reward is all."""
    rewards = np.zeros((len(returns), length))
    rewards[:, -1] = returns
    last = np.arange(rewards.size) % length == length - 1
    return dataset(rewards.ravel(), np.flatnonzero(last), np.flatnonzero(last))


def test_cloning_of_the_successes_is_named_where_most_episodes_failed():
    """60 of 260 succeed: the named share keeps these 60 and no other."""
    generator = np.random.default_rng(0)
    for noise in (0.0, 0.1):
        returns = generator.permutation(np.repeat([1.0, 0.0], [60, 200])) + noise * generator.normal(size=260)
        data = episodes_of(returns)
        (line,) = describe_dataset(data, None)["advice"]
        share = float(re.search(r"--top_returns=(\S+) ", line)[1])
        kept = best_trajectories(data, share).trajectory_returns()
        assert len(kept) == 60
        assert kept.min() > 0.5


def test_cloning_of_all_is_named_where_episodes_are_alike():
    """By a standard deviation of up to 10% of the mean, whatever its sign; few rows ask for dropout."""
    for mean in (100.0, -100.0):
        returns = mean + 9.9 * np.resize([-1.0, 1.0], 20)
        (line,) = describe_dataset(episodes_of(returns), None)["advice"]
        assert line.startswith(f"the 20 episodes have returns alike, {mean:g} ± 9.9, ")
        assert "--method=bc --dropout_rate=0.1 " in line
    (line,) = describe_dataset(episodes_of(returns, length=500), None)["advice"]
    assert "--method=bc " in line
    assert "dropout" not in line


def test_cloning_of_the_best_tenth_is_named_where_returns_have_one_heap():
    """Whatever their law: normal, uniform, exponential, with a far one, and alike by more than 10%."""
    generator = np.random.default_rng(0)
    for returns in (
        generator.normal(size=260), generator.random(260), generator.exponential(size=260),
        np.where(np.arange(260) == 7, 90.0, generator.random(260)), 100.0 + 15.0 * generator.normal(size=260),
    ):  # fmt: skip
        data = episodes_of(returns)
        (line,) = describe_dataset(data, None)["advice"]
        kept = best_trajectories(data, 0.1).trajectory_returns()
        assert line.startswith(
            f"the best {len(kept)} of 260 episodes have returns of about {kept.mean():.4g}, "
        )
        assert "--method=bc10 " in line


def test_mostly_successes_are_cloned_without_the_failures():
    (line,) = describe_dataset(episodes_of(np.where(np.arange(260) % 4, 1.0, 0.0)), None)["advice"]
    assert "--top_returns=0.75 clones the 195 alone" in line


@pytest.mark.parametrize("returns", [np.zeros(260), np.ones(4)])
def test_without_rewards_or_with_few_episodes_nothing_is_advised(returns):
    assert describe_dataset(episodes_of(returns), None)["advice"] == []


def test_nothing_is_advised_that_training_refuses():
    """Rows in no order, each a trajectory by itself, have no episodes to choose from."""
    rewards = np.random.default_rng(0).normal(size=260)
    shuffled = dataset(rewards, (), range(260))
    with pytest.raises(UserError, match="260 of 260 transitions do not lead to the next row"):
        best_trajectories(shuffled, 0.1)
    assert describe_dataset(shuffled, None)["advice"] == []


def test_duplicates_are_counted_bit_for_bit():
    # Rows 0, 1 and 4 are one; row 3 differs from them in the reward, row 2 in one bit of an observation.
    observations = np.ones((5, 2), np.float32)
    observations[2, 1] = np.nextafter(np.float32(1), np.float32(2))
    same = dataset((3, 3, 3, 4, 3), (), (4,), observations, np.zeros((5, 1)))
    assert describe_dataset(same, None)["duplicates"] == 2
    hidden = dataset((3, 3), (0, 1), (0, 1), np.ones((2, 2)), np.zeros((2, 1)), [[1, 2], [3, 4]])
    assert describe_dataset(hidden, None)["duplicates"] == 1  # the mask hides where terminals lead
    swapped = dataset((0, 0), (), (1,), [[1, 2], [2, 1]], np.zeros((2, 1)), np.zeros((2, 2)))
    assert describe_dataset(swapped, None)["duplicates"] == 0


AT_LIMIT = {"rewards": np.arange(1000), "terminals": (999,), "ends": (999,)}
# Three trajectories of four steps; one of four steps among shorter ones.
ALIKE = {"rewards": np.arange(12), "terminals": (3, 7, 11), "ends": (3, 7, 11)}
UNLIKE = {"rewards": np.arange(12), "terminals": (1, 4, 8, 11), "ends": (1, 4, 8, 11)}
WITH_TIMEOUTS = {"rewards": np.arange(3000), "terminals": (1999,), "ends": (999, 1999, 2999)}
DISCRETE = {"rewards": np.arange(60), "actions": np.arange(60)[:, None] % 3 / 2, "ends": (59,)}


@pytest.mark.parametrize(
    ("change", "task", "message"),
    [
        ({"rewards": np.zeros(5)}, None, "every reward is 0"),
        ({"rewards": [1, 2, 1, 2, 9e3]}, HOPPER, "scores reach 277, and an expert's is 100"),
        ({"rewards": [1, 2, 3e6, 4, 0]}, None, r"the largest reward is 3e\+06"),
        ({"rewards": [1, 1, 4, 4, 0], "terminals": (1, 3)}, None, "at all 2 terminals the reward is that"),
        (ALIKE, None, "no time-out is marked, and 3 of 3 trajectories end after 4 steps"),
        (AT_LIMIT, HOPPER, "1 terminals are at the episode limit, 1000 steps"),
        ({"terminals": (), "ends": (4,)}, None, "one trajectory without a terminal"),
        ({"actions": [[0], [0.5], [-2.5], [0], [0]]}, None, "20% of the actions' entries are .*up to 2.5"),
        (DISCRETE, None, "actions look discrete"),
        ({"observations": np.diag([1, 1001, -1e4, 1e6, 5])}, None, r"beyond ±1,000, .*: 1-3$"),
        ({"observations": np.ones((5, 2)), "rewards": [1, 2, 1, 2, 1], "actions": np.ones((5, 1)) / 2},
         None, r"2 transitions \(40%\) are there more than once"),
        ({"ends": (0, 2, 3, 4)}, None, "3 of 5 transitions do not lead to the next row's observation"),
        ({"following": [[0], [1], [2], [0], [0]], "observations": np.arange(5)[:, None]},
         None, "in 3 of 4 transitions the next observation is the observation itself"),
    ],
)  # fmt: skip
def test_each_warning_on_data_that_deserve_it(change, task, message):
    warnings = describe_dataset(dataset(**change), task)["warnings"]
    assert len([warning for warning in warnings if re.search(message, warning)]) == 1, warnings


def test_training_warns_of_terminals_at_the_limit_as_well(caplog):
    warn_of_suspicions(dataset(**AT_LIMIT), HOPPER)
    assert "1 terminals are at the episode limit, 1000 steps: are these time-outs?" in caplog.text
    caplog.clear()
    warn_of_suspicions(dataset(**WITH_TIMEOUTS), HOPPER)
    assert "episode limit" not in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        # One-step episodes, and time-outs that are marked.
        {"rewards": [1, 2, 1, 2, 3], "terminals": range(5), "ends": range(5), "following": np.zeros((5, 3))},
        {"terminals": (2, 3, 4), "ends": (2, 3, 4)},  # episodes of one step: no next observation is a row's
        WITH_TIMEOUTS,  # a goal in the last step
        UNLIKE,
    ],
)
def test_no_warning_on_data_that_deserve_none(change):
    known = "observation itself|longer than|at the episode limit|no time-out is marked"
    warnings = [
        one for task in (HOPPER, None) for one in describe_dataset(dataset(**change), task)["warnings"]
    ]
    assert not [warning for warning in warnings if re.search(known, warning)]
