"""Measures environment steps per second, of the simulators alone and of whole evaluations.

  alone     one environment, stepped with random actions in a Python loop
  together  ten episodes of an `Evaluator` at once, as in a run's evaluations. One call of a policy with two
            hidden layers of 256 acts in all of them.

Example:
  python benchmarks/evaluation.py --tasks=hopper-medium-v2,kitchen-complete-v0
"""

import json
import os
import time

import jax
import numpy as np
from absl import app, flags

from xql_jax.envs import environment_maker
from xql_jax.learners.registry import make_learner
from xql_jax.rollout.evaluation import Evaluator
from xql_jax.suites.tasks import SUITES, TASKS, Task, get_task
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Batch

DEFAULT_TASKS = [
    "halfcheetah-medium-v2", "hopper-medium-v2", "walker2d-medium-v2",
    "antmaze-umaze-v2", "antmaze-medium-play-v2", "antmaze-large-play-v2",
    "kitchen-complete-v0", "pen-human-v1", "door-human-v1", "hammer-human-v1", "relocate-human-v1",
    "maze2d-umaze-v1", "maze2d-medium-v1", "maze2d-large-v1",
]  # fmt: skip
flags.DEFINE_list("tasks", DEFAULT_TASKS, f"Tasks from the suites {', '.join(SUITES)}.")
flags.DEFINE_float("seconds", 3.0, "Shortest time of one timing.", lower_bound=0.0)
FLAGS = flags.FLAGS

EPISODES = 10  # as in IQL's evaluations for locomotion


def main() -> int:
    tasks = [get_task(name) for name in FLAGS.tasks]
    print(f"{os.cpu_count()} cores; policy on {jax.devices()[0].device_kind}; {len(TASKS)} tasks are known")
    print(f"{'environment steps/s':26}{'alone':>10}{'together':>10}{'to make one [s]':>17}")
    results = {}
    for task in tasks:
        started = time.perf_counter()
        environment = environment_maker(task).make(task)
        make_seconds = time.perf_counter() - started
        alone = steps_alone(environment)
        environment.close()
        together = steps_together(task)
        results[task.name] = {"alone": alone, "together": together, "make_seconds": make_seconds}
        print(f"{task.name:26}{alone:>10,.0f}{together:>10,.0f}{make_seconds:>17.2f}", flush=True)
    print(json.dumps(results))
    return 0


def steps_alone(environment) -> float:
    random = np.random.default_rng(0)
    low, high = environment.action_space.low, environment.action_space.high
    actions = random.uniform(low, high, (1000, *low.shape))
    environment.reset(seed=0)
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < FLAGS.seconds or steps == 0:
        _, _, terminated, truncated, _ = environment.step(actions[steps % 1000])
        steps += 1
        if terminated or truncated:
            environment.reset(seed=steps)
    return steps / (time.perf_counter() - started)


def steps_together(task: Task) -> float:
    evaluator = Evaluator(task, num_members=1, num_episodes=EPISODES, seed=0, maker=environment_maker(task))
    data = Batch(
        np.zeros((2, evaluator.sizes[0]), np.float32),
        np.zeros((2, evaluator.sizes[1]), np.float32),
        *(np.zeros(2, np.float32),) * 2,
        np.zeros((2, evaluator.sizes[0]), np.float32),
    )
    population = Population(make_learner("bc", {}), make_members([0], {}), resident(data, 2))
    policy = OfflineTrainer(population).policy()
    policy(np.zeros((1, EPISODES, evaluator.sizes[0]), np.float32))  # compiles
    evaluator.run(policy)  # makes the environments
    steps, started = 0, time.perf_counter()
    while time.perf_counter() - started < FLAGS.seconds or steps == 0:
        steps += int(evaluator.run(policy).lengths.sum())
    speed = steps / (time.perf_counter() - started)
    evaluator.close()
    return speed


if __name__ == "__main__":
    app.run(lambda _: main())
