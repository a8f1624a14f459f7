"""What every suite's environments have in common: spaces, seeds, limits, ends, scores and pictures."""

import dataclasses
import functools
import itertools

import numpy as np
import pytest

from xql_jax.envs import SUITES, Simulation, action_bounds, choose_suite, make_environment
from xql_jax.errors import UserError
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.tasks import ONLINE_TASKS, TASKS, Task, get_task

slow = functools.partial(pytest.param, marks=pytest.mark.slow)
OF_EACH_SUITE = [
    "pointmaze-umaze-v0", "maze2d-large-dense-v1", "hopper-medium-v2", "halfcheetah-medium-v2",
    slow("walker2d-medium-v2"), "antmaze-umaze-v2", slow("antmaze-large-play-v0"), "kitchen-mixed-v0",
    "pen-human-v1", "door-human-v1", slow("hammer-human-v1"), slow("relocate-human-v1"), "cheetah-run",
    "lqr-lqr_2_1", slow("quadruped-escape"), "HalfCheetah-v5", "own_maze:Line-v0", "jax_point_mass:PointMass",
]  # fmt: skip
EACH_SUITE = pytest.mark.parametrize("name", OF_EACH_SUITE)


@pytest.fixture
def vector_env():
    """Makes vector environments of a task, and closes them."""
    made = []

    def make(name, num_envs=1, limit=None):
        if get_task(name).suite in ("kitchen", "adroit"):
            pytest.importorskip("gymnasium_robotics")
        task = dataclasses.replace(get_task(name), **({"episode_limit": limit} if limit else {}))
        made.append(choose_suite(task).vector_env(task, num_envs))
        return made[-1]

    yield make
    for env in made:
        env.close()


def actions_of(env, steps):
    shape = steps, env.num_envs, *env.action_space.shape
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def episode(env, seed, steps=8, look=lambda: None):
    """Observations and rewards of an episode's first steps; `look` is called after each."""
    rows = [[*env.reset([seed])[0], 0.0]]
    for action in actions_of(env, steps):
        step = env.step(action)
        rows.append([*step.final_observations[0], step.rewards[0]])
        look()
    return np.array(rows)


@pytest.mark.parametrize(
    "task",
    [task for task in (TASKS | ONLINE_TASKS).values() if task.suite in SUITES],
    ids=lambda task: task.name,
)
def test_every_task_can_be_played(task):
    if task.suite in ("kitchen", "adroit"):
        pytest.importorskip("gymnasium_robotics")
    env = make_environment(task)
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
    env.close()


@EACH_SUITE
def test_an_episode_depends_on_its_seed_alone(vector_env, name):
    used, fresh = vector_env(name), vector_env(name)
    first, other = episode(used, seed=5), episode(used, seed=2**32 - 1)
    assert (first != other)[:, :-1].any(axis=1).all()
    np.testing.assert_array_equal(episode(used, seed=5), first)
    np.testing.assert_array_equal(episode(fresh, seed=5), first)


@pytest.mark.parametrize("name", OF_EACH_SUITE[:-1])  # the last one's limit is its class's
def test_an_episode_is_truncated_at_its_limit(vector_env, name):
    env = vector_env(name, 2, limit=3)
    for _ in range(2):
        env.reset([0, 1])
        steps = [env.step(np.zeros((2, *env.action_space.shape), np.float32)) for _ in range(3)]
        assert [step.truncations.tolist() for step in steps] == [[False] * 2] * 2 + [[True] * 2]
        assert not any(step.terminals.any() for step in steps)


@pytest.mark.parametrize("name", ["hopper-medium-v2", "Hopper-v5"])
def test_a_terminal_state_at_the_limit_is_terminal_only(vector_env, name):
    def ends(limit):
        env, found = vector_env(name, limit=limit), []
        env.reset([0])
        while env.running.any():
            step = env.step(np.ones((1, *env.action_space.shape)))
            found.append((bool(step.terminals[0]), bool(step.truncations[0])))
        return found

    unlimited = ends(100)
    assert unlimited[-1] == (True, False)
    assert ends(len(unlimited)) == unlimited
    assert ends(len(unlimited) - 1)[-1] == (False, True)


@pytest.mark.draws
@pytest.mark.parametrize("name", OF_EACH_SUITE[:-2])
def test_pictures_show_the_state_and_leave_it_alone(vector_env, name):
    env, pictures = vector_env(name), []
    unseen = episode(env, 1)
    np.testing.assert_array_equal(episode(env, 1, look=lambda: pictures.append(env.render())), unseen)
    assert {(picture.dtype, picture.shape[2]) for picture in pictures} == {(np.dtype(np.uint8), 3)}
    assert pictures[0].std() > 1
    assert all((before != after).any() for before, after in itertools.pairwise(pictures))


# Task, D4RL's backend or legacy masses, episodes; what the mean return of random actions must be, and an
# episode's standard deviation, both measured over 10000 episodes (halfcheetah: 1000); None: D4RL's reference,
# and the deviation of these episodes. Hopper's reference, -20.27, is out of reach: survival alone gives 22.
RANDOM_POLICIES = [
    ("halfcheetah-medium-v2", {}, 30, -284.5, 81.0),
    ("halfcheetah-medium-v2", {"legacy_inertia": True}, 30, -281.4, 78.0),
    ("halfcheetah-medium-v2", {}, 30, None, 81.0),
    ("hopper-medium-v2", {}, 100, 18.31, 16.9),
    ("walker2d-medium-v2", {}, 200, 2.69, 6.0),
    ("walker2d-medium-v2", {"legacy_inertia": True}, 200, 1.73, 5.6),
    ("walker2d-medium-v2", {"legacy_inertia": True}, 200, None, 5.6),  # 18 errors from today's masses
    *((f"{robot}-human-v1", {}, 50, None, None) for robot in ("pen", "door", "hammer", "relocate")),
    # 0 by definition: here 5 of 100 episodes do one task by accident, which is a score of 1.25.
    ("kitchen-complete-v0", {}, 8, 0.05, 0.22),
    ("bullet-hopper-medium-v0", {"env_backend": "d4rl"}, 100, None, None),
]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "options", "episodes", "mean", "deviation"), RANDOM_POLICIES)
def test_random_actions_earn_the_reference_return(name, options, episodes, mean, deviation, request):
    if "env_backend" in options:
        request.getfixturevalue("d4rl_package")
    task, rng = get_task(name), np.random.default_rng(0)
    suite = dataclasses.replace(choose_suite(task, Simulation(**options)), max_environments=4)
    evaluator = Evaluator(task, 1, episodes, seed=0, suite=suite)
    size = evaluator.sizes[1]
    returns = evaluator.run(lambda observations: rng.uniform(-1, 1, (*observations.shape[:2], size))).returns
    evaluator.close()
    error = (deviation or returns.std(ddof=1)) / np.sqrt(episodes)
    assert abs(returns.mean() - (task.min_return if mean is None else mean)) < 3 * error


def test_other_suites_say_what_to_do():
    task = Task("cave-v0", "caves", None, 0.0, 1.0, 10)
    words = r"cave-v0.*suite caves.*--eval_episodes=0.*there are environments for: .*kitchen"
    with pytest.raises(UserError, match=words):
        make_environment(task)
