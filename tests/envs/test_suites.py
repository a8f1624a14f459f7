"""What every suite's environments have in common, and what the guide says of each."""

import dataclasses
import fnmatch
import functools
import re
from pathlib import Path

import h5py
import numpy as np
import pytest

from xql_jax.data.arrays import Layout, from_arrays
from xql_jax.envs import action_bounds, environment_maker
from xql_jax.envs.simulated import SimulatedEnv
from xql_jax.runs.config_files import choose_config
from xql_jax.runs.kinds import Offline
from xql_jax.runs.load import load_run
from xql_jax.runs.resolve import settings_from
from xql_jax.runs.train import train_run
from xql_jax.suites import DataFolder, Suite
from xql_jax.suites.tasks import LISTED_TASKS, SUITES, TASKS, Task, get_task
from xql_jax.workshop.tools.evaluate import EvaluationSettings, evaluate

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
OF_EACH_SUITE = [
    "pointmaze-umaze-v0", "maze2d-large-dense-v1", "hopper-medium-v2", "halfcheetah-medium-v2",
    slow("walker2d-medium-v2"), "antmaze-umaze-v2", slow("antmaze-large-play-v0"), "kitchen-mixed-v0",
    "pen-human-v1", "door-human-v1", slow("hammer-human-v1"), slow("relocate-human-v1"), "cheetah-run",
    "lqr-lqr_2_1", slow("quadruped-escape"), "HalfCheetah-v5",
    slow("playground:CartpoleSwingup"), "own_maze:Line-v0", "jax_point_mass:PointMass",
]  # fmt: skip
EACH_SUITE = pytest.mark.parametrize("name", OF_EACH_SUITE)
NEEDED = {"kitchen": "gymnasium_robotics", "adroit": "gymnasium_robotics", "playground": "mujoco_playground"}
LIMIT_OF_ITS_OWN = {"jax_point_mass:PointMass": 20}
EACH_TASK = pytest.mark.parametrize(
    "task",
    [task for task in LISTED_TASKS.values() if not task.suite.is_compiled],
    ids=lambda task: task.name,
)
GUIDE = Path(__file__).resolve().parents[2]
PAGE = (GUIDE / "docs" / "tasks.md").read_text()
# The text of each section of the environments by its anchor.
SECTIONS = {
    heading.replace(" ", "-"): text
    for heading, text in re.findall(r"^### (.+)\n((?:(?!#).*\n)*)", PAGE.split("## Environments")[1], re.M)
}


@pytest.fixture
def maker_of():
    """Returns what makes a task's environments, where their packages are installed."""

    def find(task):
        if needed := NEEDED.get(task.suite.name) or NEEDED.get(task.name.partition(":")[0]):
            pytest.importorskip(needed)
        return environment_maker(task)

    return find


@pytest.fixture
def vector_env(maker_of):
    """Makes vector environments of a task, and closes them."""
    made = []

    def make(name, num_envs=1, limit=None):
        task = get_task(name)
        task = dataclasses.replace(task, episode_limit=limit or task.episode_limit)
        maker = maker_of(task)
        if task.suite.name == "gymnasium":
            maker = dataclasses.replace(maker, make=functools.partial(maker.make, render_mode="rgb_array"))
        made.append(maker.vector_env(task, num_envs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def episode(env, seed, steps=8, look=lambda: None):
    """Observations and rewards of an episode's first steps; `look` is called after each."""
    rows = [[*env.reset([seed])[0], 0.0]]
    for action in np.random.default_rng(0).uniform(-1, 1, (steps, 1, *env.action_space.shape)):
        step = env.step(action.astype(np.float32))
        rows.append([*step.final_observations[0], step.rewards[0]])
        look()
    return np.array(rows)


@EACH_TASK
def test_every_task_can_be_played(maker_of, task):
    env = maker_of(task).make(task)
    start, info = env.reset(seed=0)
    assert info == {}
    assert env.observation_space.contains(start)
    low, high = action_bounds(task)  # those that learners scale by
    assert (env.action_space.low == (low or -1)).all()
    assert (env.action_space.high == (high or 1)).all()
    observation, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert np.isfinite(reward)
    assert (terminated, truncated) == (False, task.episode_limit == 1)
    for row in rows_of(task):
        assert env.observation_space.shape == (int(row["observation"].split(":")[0]),)
        assert env.action_space.shape == (int(row["actions"]),)
    env.close()


@EACH_SUITE
def test_an_episode_depends_on_its_seed_alone(vector_env, name):
    used, fresh = vector_env(name), vector_env(name)
    first, other = episode(used, seed=5), episode(used, seed=2**32 - 1)
    assert (first != other)[:, :-1].any(axis=1).all()
    np.testing.assert_array_equal(episode(used, seed=5), first)
    np.testing.assert_array_equal(episode(fresh, seed=5), first)


@EACH_SUITE
def test_an_episode_is_truncated_at_its_limit(vector_env, name):
    limit = LIMIT_OF_ITS_OWN.get(name, 3)
    env = vector_env(name, 2, limit)
    for _ in range(2):
        env.reset([0, 1])
        steps = [env.step(np.zeros((2, *env.action_space.shape), np.float32)) for _ in range(limit)]
        assert [step.truncations.tolist() for step in steps] == [[False] * 2] * (limit - 1) + [[True] * 2]
        assert not any(step.terminals.any() for step in steps)


class Walk(SimulatedEnv):
    """The environment of a suite that there is not: a point that is to walk to 1."""

    def __init__(self, task):
        super().__init__(1, 1, episode_limit=task.longest, steps_per_second=10.0)

    def start(self, seed):
        self.place = self.np_random.uniform(-1.0, 0.0)
        return [self.place]

    def act(self, action):
        self.place += 0.2 * float(action[0])
        return [self.place], -abs(self.place - 1.0), False, {"success": self.place > 0.9}


def write_walks(task, path):
    places = np.random.default_rng(0).uniform(-1.0, 1.0, (200, 1)).astype(np.float32)
    timeouts = np.arange(200) % task.episode_limit == task.episode_limit - 1
    with h5py.File(path, "w") as file:
        file.update({"place": places, "step": np.ones((200, 1), np.float32), "is_last": timeouts})
        file.update({"distance": 1.0 - places[:, 0]})


def read_walks(path, task):
    names = {"observations": "place", "actions": "step", "timeouts": "is_last", "rewards": "distance"}
    with h5py.File(path) as file:
        arrays = {ours: file[theirs][()] for ours, theirs in names.items()}
    arrays |= {"rewards": -arrays["rewards"], "terminals": np.zeros(200, bool)}
    return from_arrays(arrays, str(path), Layout(task.episode_limit))


def test_a_suite_is_its_record_and_its_environment(tmp_path, monkeypatch):
    """Its data, in their own layout, are made, read and preprocessed; a policy learns and is evaluated."""
    functions = {"environment": Walk, "generates": write_walks, "reader": read_walks}
    code = {name: f"{__name__}:{one.__name__}" for name, one in functions.items()}
    folder, rule = DataFolder("WALKS", "~/walks"), {"reward_shift": -3.0, "takes_any_config": True}
    suite = Suite("walks", config="own", packages=("numpy",), data_folder=folder, **code, **rule)
    task = Task("walk-v0", suite, None, -20.0, 0.0, 10)
    monkeypatch.setitem(SUITES, suite.name, suite)
    monkeypatch.setitem(LISTED_TASKS, task.name, task)
    monkeypatch.setitem(TASKS, task.name, task)
    monkeypatch.setenv("WALKS", str(tmp_path))
    value = choose_config(Offline, "bc", env_name=task.name)
    how = {"save_dir": str(tmp_path / "runs"), "log_interval": 2, "eval_episodes": 2, "tqdm": False}
    run = train_run(settings_from(value, {"env_name": task.name, "max_steps": 4, **how})).path
    assert load_run(run).preprocessing.reward_shift == -3.0
    report = evaluate(EvaluationSettings(checkpoint=str(run), episodes=3, tqdm=False))
    [member] = report["members"]
    assert member["lengths"] == [10] * 3
    assert member["score_mean"] == pytest.approx(100 + 5 * member["return_mean"])
    assert member["success_rate"] is not None


# The guide, and the report's pointer into it.


def rows_of(task):
    """The task's rows of its section's table by the names of its columns."""
    lines = [line for line in SECTIONS[task.suite.name].splitlines() if line.startswith("|")]
    cells = [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]
    rows = [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]
    return [row for row in rows if fnmatch.fnmatchcase(task.name, row["tasks"])]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_task_has_one_row_that_says_what_it_does(task):
    (row,) = rows_of(task)
    assert int(row["steps"]) == task.episode_limit
    if task.by_success:
        return
    columns = "return at 0", "return at 100"
    printed = [f"{value:.2f}".replace("-", "−") for value in (task.min_return, task.max_return)]
    assert [row[column] for column in columns] == printed  # the typographic minus
