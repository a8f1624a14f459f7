"""Replay buffers as data, sets of several parts, and the returns that score a task, in tiny runs."""

import dataclasses

import gymnasium
import numpy as np
import pytest
from slow_cases import slow_but
from tiny_runs import online_settings, stopped_at

from xql_jax.data.rows import read_rows
from xql_jax.envs.registered import Registered
from xql_jax.errors import UserError
from xql_jax.runs.train import train_run as run_online
from xql_jax.suites import tasks
from xql_jax.workshop.tools.collect import CollectionSettings, collect

ENV_NAME = "InvertedPendulum-v5"
LIMIT = 9  # steps; random actions let the pole fall after 3 to some 20
STEPS = 120
SCHEDULE = {"max_steps": STEPS, "log_interval": 20, "eval_interval": 20, "checkpoint_interval": 20}
RANDOM = {"env_name": ENV_NAME, "policy": "random"}


@pytest.fixture(scope="module", autouse=True)
def _short_episodes():
    """So that there are terminals and time-outs."""
    with pytest.MonkeyPatch.context() as patch:
        task = dataclasses.replace(tasks.get_task(ENV_NAME), episode_limit=LIMIT)
        patch.setitem(tasks.LISTED_TASKS, ENV_NAME, task)
        yield


def online_run(folder, *, keep=0, buffer_size=1000, **changes):
    of_run = {"env_name": ENV_NAME, "keep_checkpoints": keep, "save_dir": str(folder), "seed": 0}
    acting = {"buffer_size": buffer_size, "warmup_steps": 20, "bellman_error_interval": 0}
    settings = online_settings(folder, **of_run, **SCHEDULE, **acting, **changes)
    return run_online(settings).path


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """An online run that kept all its checkpoints, and what its environment met."""
    met = {}  # by environment
    step, reset = Registered.step, Registered.reset

    def noted_reset(self, **options):
        start = reset(self, **options)
        self.seen = start[0]
        return start

    def noted_step(self, action):
        outcome = step(self, action)
        met.setdefault(id(self), []).append((self.seen, np.array(action), *outcome[:4]))
        self.seen = outcome[0]
        return outcome

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Registered, "step", noted_step)
        patch.setattr(Registered, "reset", noted_reset)
        path = online_run(tmp_path_factory.mktemp("online"))
    (of_training,) = (steps for steps in met.values() if len(steps) == STEPS)
    names = ("observations", "actions", "next_observations", "rewards", "terminals", "timeouts")
    return path, dict(zip(names, map(np.array, zip(*of_training, strict=True)), strict=True))


def collected(folder, **settings):
    summary = collect(CollectionSettings(output=str(folder / "set.hdf5"), **settings))
    return read_rows(folder / "set.hdf5")[0], summary


@pytest.mark.parametrize("until", [None, 50])
def test_a_replay_buffer_becomes_the_episodes_that_were_met(known, tmp_path, until):
    path, met = known
    rows, summary = collected(tmp_path, replay=str(path), until=until)
    count = until or STEPS
    assert summary["transitions"] == count
    for key, array in met.items():
        if key != "timeouts":
            np.testing.assert_array_equal(rows[key], array[:count].astype(rows[key].dtype), err_msg=key)
    assert rows["terminals"].any()
    assert met["timeouts"][: count - 1].any()
    np.testing.assert_array_equal(rows["timeouts"][:-1], met["timeouts"][: count - 1])
    assert rows["timeouts"][-1] != rows["terminals"][-1]
    step = int(min((path / "checkpoints").iterdir(), key=lambda one: int(one.name)).name)
    assert step < STEPS
    (tmp_path / "part").mkdir()
    _, part = collected(tmp_path / "part", replay=str(path / "checkpoints" / str(step)), until=until)
    assert part["transitions"] == (until or step)
    with pytest.raises(UserError, match=r"has transitions 0 to 120 of the run, not those up to 121"):
        collected(tmp_path / "more", replay=str(path), until=STEPS + 1)


@pytest.mark.slow
def test_a_buffer_of_several_environments_and_members(tmp_path):
    path = online_run(tmp_path / "runs", num_environments=2, num_seeds=2)
    with pytest.raises(UserError, match="the run has 2 members: choose one with --member"):
        collected(tmp_path, replay=str(path))
    rows, _ = collected(tmp_path, replay=str(path), member=1)
    ends = rows["terminals"] | rows["timeouts"]
    same = (rows["next_observations"][:-1] == rows["observations"][1:]).all(1)
    np.testing.assert_array_equal(same, ~ends[:-1])
    assert np.diff(np.flatnonzero(ends), prepend=-1).max() == LIMIT  # taken in turns, all would have 1
    assert ends[STEPS // 2 - 1]  # where the second environment's begin


class Numbered(gymnasium.Env):
    """Episode k has k % 7 + 5 steps, each pays k; it ends in a terminal state if k % 3 is 0."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.number, self.t = int(self.np_random.integers(1000)), 0
        return np.float32([self.number, 0]), {}

    def step(self, action):
        self.t += 1
        over, is_terminal = self.t > self.number % 7 + 4, self.number % 3 == 0
        seen = np.float32([self.number, self.t])
        return seen, float(self.number), over and is_terminal, over and not is_terminal, {}


gymnasium.register("Numbered-v0", entry_point=Numbered)  # without a limit


@pytest.mark.parametrize("n_step", slow_but([1, 3], 1))
def test_only_a_stop_or_the_end_cuts_an_episode_off(tmp_path, n_step):
    of_run = {"env_name": f"{__name__}:Numbered-v0", "num_environments": 2, "n_step": n_step, "resume": True}
    acting = {"buffer_size": 101, "warmup_steps": 20, "bellman_error_interval": 0}
    settings = online_settings(tmp_path, seed=43, **of_run, **SCHEDULE, **acting)
    with stopped_at("step 60: return") as stop:
        run_online(settings, stop)
    rows, summary = collected(tmp_path, replay=str(run_online(settings).path))
    ends = np.flatnonzero(rows["terminals"] | rows["timeouts"])
    starts = np.append(0, ends[:-1] + 1)
    number, t = rows["observations"].astype(int).T
    whole = (t[starts] == 0) & (t[ends] == number[ends] % 7 + 4)
    is_cut = ~whole & (t[starts] == 0)
    assert is_cut.sum() == 4  # of both environments, at the stop and at the end
    assert (whole & rows["timeouts"][ends]).sum() >= 5
    means = number[ends] * (number[ends] % 7 + 5.0)
    assert summary["mean_return"] == pytest.approx(means[whole].mean())
    assert (summary["episodes"], summary["whole_episodes"]) == (len(ends), whole.sum())
