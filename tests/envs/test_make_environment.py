"""The way from a task's name to its environment."""

import pytest

from xql_jax.envs import SUITES, make_environment
from xql_jax.errors import UserError
from xql_jax.tasks import ONLINE_TASKS, TASKS, Task


@pytest.mark.parametrize(
    "task",
    [task for task in (TASKS | ONLINE_TASKS).values() if task.suite in SUITES],
    ids=lambda task: task.name,
)
def test_every_task_of_a_known_suite_can_be_played(task):
    if task.suite == "kitchen":
        pytest.importorskip("gymnasium_robotics")
    env = make_environment(task)
    start, _ = env.reset(seed=0)
    assert env.observation_space.contains(start)
    observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(observation)
    assert (terminated, truncated) == (False, task.episode_limit == 1)
    env.close()


def test_other_suites_say_what_to_do():
    task = Task("cave-v0", "caves", None, 0.0, 1.0, 10)
    words = r"cave-v0.*suite caves.*--eval_episodes=0.*there are environments for: .*kitchen"
    with pytest.raises(UserError, match=words):
        make_environment(task)
