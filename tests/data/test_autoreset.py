"""Rows of Gymnasium's vector environments: those in which an environment only resets are left out."""

import gymnasium as gym
import numpy as np
import pytest
from guides import blocks
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from xql_jax.data.arrays import from_arrays
from xql_jax.data.suspicions import suspicions

COUNT, STEPS = 3, 200  # environments, steps of each
NAMES = ("observations", "actions", "rewards", "next_observations", "terminals", "timeouts")


class Reach(gym.Env):
    """A hand that goes to a goal by its action and some noise; episodes end after 6 to 9 steps."""

    observation_space, action_space = (
        spaces.Box(-np.inf, np.inf, (3,), np.float32),
        spaces.Box(-1, 1, (1,), np.float32),
    )

    def __init__(self, sparse, kind):
        self.sparse, self.kind = sparse, kind

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.hand, self.goal, self.time = self.np_random.uniform(-1, 1), self.np_random.uniform(-1, 1), 0
        self.limit = int(self.np_random.integers(6, 10))
        return self.seen(), {}

    def seen(self):
        return np.float32([self.hand, self.goal, 0.1 * self.time])

    def step(self, action):
        self.time += 1
        self.hand += 0.1 * action[0] + 0.01 * self.np_random.normal()
        distance, ended = abs(self.hand - self.goal), self.time == self.limit
        is_terminal = ended and (self.kind == "terminal" or (self.kind == "either" and self.limit % 2 == 0))
        reward = float(is_terminal) if self.sparse else -distance
        return self.seen(), reward, is_terminal, ended and not is_terminal, {}


def recorded(sparse, kind, mode=AutoresetMode.NEXT_STEP):
    """What a loop over a vector environment appends, [STEPS, COUNT, ...] by name."""
    envs = gym.vector.SyncVectorEnv([lambda: Reach(sparse, kind)] * COUNT, autoreset_mode=mode)
    envs.action_space.seed(0)
    seen, rows = envs.reset(seed=0)[0], []
    for _ in range(STEPS):
        action = envs.action_space.sample()
        following, reward, terminal, timeout, _ = envs.step(action)
        rows.append((seen.copy(), action, reward, following.copy(), terminal, timeout))
        seen = following
    return dict(zip(NAMES, map(np.array, zip(*rows, strict=True)), strict=True))


def in_turn(arrays):
    return {name: each.reshape(-1, *each.shape[2:]) for name, each in arrays.items()}


def one_after_another(arrays):
    rows = in_turn({name: each.swapaxes(0, 1) for name, each in arrays.items()})
    is_last = np.arange(STEPS * COUNT) % STEPS == STEPS - 1
    return rows | {"timeouts": rows["timeouts"] | (is_last & ~rows["terminals"])}


def only_resets(arrays):
    """By the wrapper's rule, and by nothing that the data say: the step after an end."""
    ended = arrays["terminals"] | arrays["timeouts"]
    return np.concatenate([np.zeros((1, COUNT), bool), ended[:-1]])


@pytest.mark.parametrize("order", [in_turn, one_after_another])
@pytest.mark.parametrize("kind", ["terminal", "timeout", "either"])
@pytest.mark.parametrize("sparse", [False, True])
def test_transitions_that_are_left_are_the_environments_own(sparse, kind, order):
    arrays = recorded(sparse, kind)
    rows, resets = order(arrays), order({"resets": only_resets(arrays)} | arrays)["resets"]
    dataset = from_arrays(rows, "arrays")
    for name in ("observations", "actions", "rewards", "next_observations"):
        np.testing.assert_array_equal(
            getattr(dataset.batch, name), rows[name][~resets].astype(np.float32), err_msg=name
        )
    np.testing.assert_array_equal(dataset.terminals, rows["terminals"][~resets])
    assert f"{resets.sum()} of {resets.size} rows are left out" in str(dataset.notes[0])
    assert "autoreset" in str(dataset.notes[0])


@pytest.mark.parametrize("kind", ["terminal", "timeout", "either"])
@pytest.mark.parametrize("sparse", [False, True])
def test_rows_without_next_observations_have_the_episodes_last_ones(sparse, kind):
    """The row that only resets tells them, so no step at a time-out is lost but the environments' last."""
    arrays = recorded(sparse, kind)
    rows, resets = one_after_another(arrays), one_after_another({"r": only_resets(arrays)} | arrays)["r"]
    is_last = np.arange(STEPS * COUNT) % STEPS == STEPS - 1
    batch = from_arrays({name: rows[name] for name in NAMES if name != "next_observations"}, "arrays").batch
    kept = ~resets & (~is_last | rows["terminals"])
    np.testing.assert_array_equal(batch.rewards, rows["rewards"][kept].astype(np.float32))
    known = batch.masks == 1
    np.testing.assert_array_equal(batch.next_observations[known], rows["next_observations"][kept][known])


def told_of(rows, *left_out):
    kept = {name: each for name, each in rows.items() if name not in left_out}
    return [line for line in suspicions(from_arrays(kept, "arrays")) if "autoreset" in line]


@pytest.mark.parametrize("kind", ["terminal", "timeout", "either"])
def test_environments_in_turn_are_told_where_rows_have_no_next_observations(kind):
    """The next row is another environment's: no number learned from such transitions means anything."""
    arrays = recorded(False, kind)
    [line] = told_of(in_turn(arrays), "next_observations")
    assert f"those {COUNT} rows later" in line
    assert not told_of(in_turn(arrays))  # each row has its next observation
    assert not told_of(one_after_another(arrays), "next_observations")


@pytest.mark.parametrize("period", [5, 7, 40])
def test_a_motion_that_repeats_itself_is_no_turn(period):
    phase = 2 * np.pi * np.arange(2_000) / period
    generator = np.random.default_rng(0)
    walk = (
        np.stack([np.sin(phase), np.cos(phase), np.sin(phase) ** 2], 1)
        + generator.normal(size=(2_000, 3)) / 50
    )
    walk[:, 2] = generator.normal(size=2_000).cumsum() / 5  # such as a place
    rows = {
        "observations": walk,
        "actions": walk.clip(-1, 1),
        "rewards": walk[:, 0],
        "terminals": np.zeros(2_000),
    }
    assert not told_of(rows | {"timeouts": np.arange(2_000) % 100 == 99})


def test_resets_are_told_where_no_end_is_marked():
    arrays = recorded(False, "timeout")
    rows = one_after_another(arrays)
    rows |= {"timeouts": np.zeros(COUNT * STEPS), "terminals": np.zeros(COUNT * STEPS)}
    [line] = told_of(rows)
    assert f"{only_resets(arrays).sum()} rows have the reward 0" in line


@pytest.mark.parametrize("sparse", [False, True])
def test_no_end_is_lost_where_an_environment_s_last_row_has_no_next_observation(sparse):
    rows = one_after_another(recorded(sparse, "timeout"))
    del rows["next_observations"]
    dataset = from_arrays(rows, "arrays")
    assert not [line for line in suspicions(dataset) if "split" in line]
    assert dataset.stated[dataset.ends][:-1].all()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("order", [in_turn, one_after_another])
def test_rows_of_other_modes_are_all_kept(sparse, order):
    """By hand, or where an environment resets in the same step and the last observation is stored."""
    arrays = recorded(sparse, "terminal", AutoresetMode.SAME_STEP)
    dataset = from_arrays(order(arrays), "arrays")
    assert dataset.size == STEPS * COUNT
    assert not any("autoreset" in str(note) for note in dataset.notes)


def test_a_reset_in_the_same_step_is_told_of_if_it_is_the_next_observation_of_time_outs():
    rows = one_after_another(recorded(False, "timeout", AutoresetMode.SAME_STEP))
    assert [line for line in suspicions(from_arrays(rows, "arrays")) if "final_obs" in line]


@pytest.mark.parametrize("rewards", ["dense", "sparse", "first is 0"])
def test_a_walk_that_goes_on_after_its_ends_is_kept_whole(rewards):
    """As in D4RL's mazes and OGBench's play: the row after an end leads on from there, as any other."""
    generator = np.random.default_rng(0)
    size = 3_000
    walk = generator.uniform(-1, 1, (size + 1, 3)).cumsum(axis=0)
    ends = np.arange(size) % 50 == 49
    reward = {"dense": generator.normal(size=size), "sparse": 1.0 * ends}.get(rewards)
    if reward is None:  # as dm_env's rewards, a row late
        reward = np.where(np.arange(size) % 50 == 0, 0.0, generator.normal(size=size))
        walk = np.concatenate([generator.normal(size=(1, 3)) + walk[i : i + 50] for i in range(0, size, 50)])
    rows = {
        "observations": walk[:size],
        "actions": generator.uniform(-1, 1, (size, 2)),
        "rewards": reward,
        "terminals": np.zeros(size),
        "timeouts": ends,
    }
    if rewards != "first is 0":
        assert from_arrays(rows | {"next_observations": walk[1:]}, "arrays").size == size
    assert not any("autoreset" in str(note) for note in from_arrays(rows, "arrays").notes)


def test_the_guides_loop_records_what_the_environment_did(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = [block.code for block in blocks("docs/data.md", "python") if "AutoresetMode" in block.code]
    exec(compile(code, "docs/data.md", "exec"), {})
    with np.load("vector.npz") as file:
        rows = dict(file)
    dataset = from_arrays(rows, "vector.npz")
    assert dataset.size == len(rows["rewards"])
    assert not [line for line in suspicions(dataset) if "actions" not in line]  # they are within ±2
    ends = (rows["terminals"] | rows["timeouts"]).astype(bool)
    np.testing.assert_array_equal(
        rows["next_observations"][:-1][~ends[:-1]], rows["observations"][1:][~ends[:-1]]
    )
    assert (
        (rows["next_observations"][:-1][ends[:-1]] != rows["observations"][1:][ends[:-1]]).any(axis=1).all()
    )
