"""How long runs take, by the rates of methods and environments that benchmarks/rates.py measured on a CPU.

methods.csv has updates per second at some batch size and size of the networks, environments.csv steps per
second, by the beginning of a task's name or by its suite. Both are scaled to the speed of this machine.
"""

import csv
import functools
import importlib.resources
import math
import time
from typing import Any

import jax
import numpy as np

from xql_jax.learners.registry import method_of
from xql_jax.runs.run import Job

PARTS = ("compile", "update", "evaluation")  # of a run's time, as in summary.json's `seconds`
ANY_METHOD, ANY_ENVIRONMENT = "xql", "gymnasium"  # whose rates those that are in no table have
FIXED_SHARE = 0.05  # of an update's time at the table's size, which smaller networks and batches take, too
ACTING_SECONDS = 4e-4  # of a step on the host, besides the simulator's: the call of the policy


def expected_seconds(job: Job) -> dict[str, float]:
    """Returns how long the whole run takes on this machine: by `PARTS`."""
    settings, schedule, task = job.settings, job.settings.schedule, job.settings.task
    acting, members = job.acting, len(job.members)
    methods, speed = _table("methods"), gflops_per_second()
    rate = methods.get(method_of(settings.config.algorithm), methods[ANY_METHOD])
    size = (acting or settings).batch_size * numbers_in_state(job.learner)
    share = size / (rate["batch_size"] * rate["numbers"])
    an_update = (FIXED_SHARE + (1 - FIXED_SHARE) * share) / rate["updates_per_second"]
    an_update *= rate["gflops_per_second"] / speed

    environments = _table("environments")
    found = [name for name in environments if task.name.startswith(name) or task.suite == name]
    environment = environments[found[0] if found else ANY_ENVIRONMENT]
    a_step = environment["gflops_per_second"] / speed / environment["steps_per_second"]
    before = schedule.handover or 0 if acting else schedule.max_steps
    steps = schedule.max_steps - before
    updates = before + (acting.updates_by(steps) if acting else 0)
    length = task.episode_limit or 1_000  # a guess, if the environment ends its episodes itself
    evaluations = math.ceil(schedule.max_steps / schedule.eval_interval) + (schedule.handover == 0)
    return {
        "compile": rate["compile_seconds"],
        "update": members * (updates * an_update + steps * (a_step + ACTING_SECONDS)),
        "evaluation": members * evaluations * settings.eval_episodes * length * a_step,
    }


@functools.cache
def gflops_per_second() -> float:
    """Returns the best speed of products of 1024 x 1024 x 1024 in float32 here, in 1e9 operations a second.

    It hardly depends on what else the machine does. NumPy makes them, so that no accelerator is taken from
    the processes that train.
    """
    matrix = np.full((1024, 1024), 1 / 1024, np.float32)
    started, best = time.perf_counter(), math.inf
    while (now := time.perf_counter()) - started < 0.4:
        _ = matrix @ matrix
        best = min(best, time.perf_counter() - now)
    return 2e-9 * 1024**3 / best


@functools.cache  # counting takes a tenth of a second
def numbers_in_state(learner: Any) -> int:
    """Returns how many numbers a member's state holds, for observations and actions of hopper's sizes."""
    key = jax.eval_shape(lambda: jax.random.key(0))
    example = (jax.ShapeDtypeStruct((1, size), np.float32) for size in (11, 3))
    return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(learner.init, key, *example)))


@functools.cache
def _table(name: str) -> dict[str, dict[str, float]]:
    """Returns the table's rows by their first column."""
    text = (importlib.resources.files(__package__) / f"{name}.csv").read_text("utf-8")
    (_, *columns), *rows = csv.reader(text.splitlines())
    return {first: dict(zip(columns, map(float, rest), strict=True)) for first, *rest in rows}
