"""Rows that nobody recorded, and ends at which something else is stored."""

import numpy as np
import pytest
from test_conventions import robot

from xql_jax.data.arrays import from_arrays
from xql_jax.data.suspicions import suspicions
from xql_jax.suites.tasks import get_task

ROWS = robot(0, rewards="dense", episodes=60)  # 2,400 rows, in episodes of 40
SIZE = len(ROWS["rewards"])


def padded(number, filling, rows=ROWS):
    """Rows behind the recorded ones."""
    return {
        name: np.append(each, np.full((number, *each.shape[1:]), filling), 0) for name, each in rows.items()
    }


def told_of(rows, task=None):
    return suspicions(from_arrays(rows, "x"), task)


@pytest.mark.parametrize("number", [3, 20, 3_000])
@pytest.mark.parametrize("layout", ["transitions", "rows"])
def test_the_rest_of_a_buffer_that_was_not_filled_is_told_of(number, layout):
    """Also below 1% of the data; without next observations the last row is none."""
    rows = padded(number, 0.0)
    if layout == "rows":
        del rows["next_observations"]
        number -= 1
    assert [line for line in told_of(rows) if line.startswith(f"{number:,} rows are all 0, the first is")]


def test_a_rest_that_holds_another_number_is_told_of():
    rows = padded(20, -1.0) | {"terminals": np.zeros(SIZE + 20), "timeouts": np.zeros(SIZE + 20)}
    rows["timeouts"][:SIZE] = ROWS["timeouts"]
    assert [line for line in told_of(rows) if line.startswith("the last 20 rows are one and the same")]


def test_a_robot_that_rests_at_the_end_of_its_episodes_is_no_filling():
    rows = {name: each.reshape(60, 40, *each.shape[1:]).copy() for name, each in ROWS.items()}
    for name in ("observations", "next_observations", "actions", "rewards"):
        rows[name][:, -8:] = rows[name][:, -8:-7]
    rows["next_observations"][:, -9:] = rows["observations"][:, -1:]
    told = told_of({name: each.reshape(SIZE, *each.shape[2:]) for name, each in rows.items()})
    assert not [line for line in told if "filled" in line or "itself" in line]


@pytest.mark.parametrize("filling", ["zeros", "the last row"])
def test_masks_of_padding_are_told_of(filling):
    """Episodes of 30 steps in 40 rows, and masks that are 0 in the other ten."""
    is_padding = np.arange(SIZE) % 40 >= 30
    last = np.arange(SIZE) - np.maximum(np.arange(SIZE) % 40 - 29, 0)
    rows = {name: each[last] for name, each in ROWS.items() if name not in ("terminals", "timeouts")}
    if filling == "zeros":
        rows = {name: np.where(is_padding.reshape(-1, *[1] * (x.ndim - 1)), 0, x) for name, x in rows.items()}
    rows |= {"masks": 1.0 - is_padding, "ends": np.arange(SIZE) % 40 == 39}
    assert [line for line in told_of(rows) if "padding" in line]


def test_goals_at_which_a_robot_stays_are_no_padding():
    """OGBench's masks: 0 at the goal, in many rows one after the other."""
    rows = ROWS | {"masks": 1.0 - (np.arange(SIZE) % 40 > 30), "ends": np.arange(SIZE) % 40 == 39}
    del rows["terminals"], rows["timeouts"]
    assert told_of(rows) == []


@pytest.mark.parametrize("share", [1, 3])
def test_time_outs_that_lead_to_their_own_observation_are_told_of(share):
    cuts = np.flatnonzero(ROWS["timeouts"])[::share]
    following = ROWS["next_observations"].copy()
    following[cuts] = ROWS["observations"][cuts]
    (told,) = told_of(ROWS | {"next_observations": following})
    assert told.startswith(f"the next observation of {len(cuts)} of 60 time-outs is the observation itself")


# Episodes and the environment's limit.

HOPPER = get_task("Hopper-v5")  # 1,000 steps
LENGTHS = np.array([1_200, 1_010, 640, 1_333, 900])


def episodes(lengths, kind, jumps_at=()):
    """A walk in episodes of these lengths with marked ends; it jumps at some steps of each."""
    generator = np.random.default_rng(0)
    size, ends = sum(lengths), np.cumsum(lengths) - 1
    steps = generator.normal(size=(size + 1, 3))
    walk = 0.01 * steps.cumsum(axis=0)
    for start, length in zip(ends - lengths + 1, lengths, strict=True):
        walk[start : start + length + 1] -= walk[start]
        for at in jumps_at:
            walk[start + at : start + length] += 5.0
    last = np.isin(np.arange(size), ends)
    return {
        "observations": walk[:-1],
        "actions": generator.uniform(-1, 1, (size, 3)),
        "rewards": generator.random(size),
        "terminals": last & (kind == "terminals"),
        "timeouts": last & (kind == "timeouts"),
    }


@pytest.mark.parametrize("kind", ["terminals", "timeouts"])
def test_marked_episodes_may_be_longer_than_the_limit(kind):
    assert not [line for line in told_of(episodes(LENGTHS, kind), HOPPER) if "longer" in line]


@pytest.mark.parametrize(
    "rows",
    [
        episodes(np.array([1_000] * 5 + [2_000]), "timeouts"),  # most end at the limit
        episodes(np.array([1_400, 1_200, 1_600, 300]), "terminals", jumps_at=[1_000]),  # resets are unmarked
    ],
)
def test_time_outs_that_are_not_marked_are_told_of(rows):
    assert [line for line in told_of(rows, HOPPER) if "are time-outs missing?" in line]


@pytest.mark.parametrize(("low", "high"), [(-1, 0), (-5, 5)])
def test_scores_far_below_those_of_a_random_policy_are_told_of(low, high):
    """AntMaze's are 0 to 100 by rewards of 0 and 1; 100 steps of -1 are -100 successes."""
    rows = robot(0, 0.9)
    task = get_task("antmaze-umaze-v0")
    told = told_of(rows | {"rewards": np.where(rows["rewards"] > 0, high, low)}, task)
    assert [line for line in told if line.startswith("scores ")]
    at_goal = rows["timeouts"] & (np.arange(len(rows["rewards"])) % 80 < 40)
    assert not [line for line in told_of(rows | {"rewards": 1.0 * at_goal}, task) if "scores" in line]
