"""Compares online training with a straightforward loop, in steps per second, and shows where the time goes.

For each step, the straightforward loop makes one jitted call to act, steps the environment, inserts the
transition into a NumPy buffer, draws a minibatch from it and makes one jitted update. The other rows are the
program's own loop. Those without updates show the cost of moving transitions to the device and inserting
them. All are timed alternately in several turns, in one process; a ratio is the median over turns.

  python benchmarks/online.py --algorithm=xsac --env_name=cheetah-run
"""

import functools
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from hopper_size import learner_of

from xql_jax.data import replay
from xql_jax.envs import environment_maker
from xql_jax.learners.registry import ONLINE
from xql_jax.suites.tasks import get_task
from xql_jax.training.acting import HostTrainer
from xql_jax.training.members import Member
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import ActingSchedule
from xql_jax.types import Batch

flags.DEFINE_enum("algorithm", "xsac", ONLINE, "Learner.")
flags.DEFINE_string("env_name", "cheetah-run", "Task.")
flags.DEFINE_integer("steps", 2_000, "Steps of each timing, a multiple of 50.", lower_bound=100)
flags.DEFINE_integer("turns", 5, "How often all are timed.", lower_bound=1)
FLAGS = flags.FLAGS
BATCH_SIZE, CAPACITY, ROUND = 256, 1_000_000, 50
flags.register_validator("steps", lambda steps: steps % ROUND == 0, f"must be a multiple of {ROUND}")


def main(_: list[str]) -> None:
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as experiments/train_online.py has it
    task = get_task(FLAGS.env_name)
    learner = learner_of(FLAGS.algorithm)
    make = functools.partial(environment_maker(task).make, task)
    with tempfile.TemporaryDirectory() as folder:
        runs: dict[str, Callable[[int], float]] = {"straightforward": straightforward_loop(learner, make)}
        trainers = {}
        schedules = {
            "overlapped": ActingSchedule(warmup_steps=0, round_steps=ROUND),
            "no updates": ActingSchedule(warmup_steps=0, updates_per_step=1e-6),
            "no updates, rounds": ActingSchedule(warmup_steps=0, updates_per_step=1e-6, round_steps=ROUND),
        }
        for name, schedule in schedules.items():
            files = ReplayFiles(Path(folder) / name)
            trainers[name] = trainer = HostTrainer(learner, [Member(0, {})], make, schedule, files)
            runs[name] = functools.partial(advance, trainer)
        runs["updates alone"] = updates_alone(learner, make)
        for run in runs.values():
            run(200)  # warm
        speeds = {name: [] for name in runs}
        for _ in range(FLAGS.turns):
            for name, run in runs.items():
                speeds[name].append(FLAGS.steps / run(FLAGS.steps))
        results = {}
        for name, values in speeds.items():
            ratio = np.median(np.divide(values, speeds["straightforward"]))
            bound = np.median(np.divide(values, speeds["updates alone"]))
            results[name] = float(np.median(values))
            speed = f"{name:18} {np.median(values):7.0f} steps/s"
            print(f"{speed}  {ratio:.2f} of the first  {bound:.2f} of the bound")
        for trainer in trainers.values():
            trainer.close()
        print(json.dumps(results))


def advance(trainer: HostTrainer, steps: int) -> float:
    started = time.perf_counter()
    trainer.advance(trainer.step + steps)
    return time.perf_counter() - started


def straightforward_loop(learner, make) -> Callable[[int], float]:
    environment = make()
    sizes = environment.observation_space.shape[0], environment.action_space.shape[0]
    buffer = jax.tree.map(np.array, replay.empty(CAPACITY, *sizes).data)  # a NumPy ring
    random, key = np.random.default_rng(0), jax.random.key(0)
    act = jax.jit(functools.partial(learner.act, deterministic=False))
    update = jax.jit(learner.update, donate_argnums=0)
    state = jax.jit(learner.init)(key, jnp.zeros((1, sizes[0])), jnp.zeros((1, sizes[1])))
    observation, _ = environment.reset(seed=0)
    count = 0

    def run(steps: int) -> float:
        nonlocal state, key, observation, count
        started = time.perf_counter()
        for _ in range(steps):
            key, key_act, key_update = jax.random.split(key, 3)
            action = np.asarray(act(learner.actor(state), observation[None], key_act))[0]
            following, reward, terminated, truncated, _ = environment.step(action)
            row = Batch(observation, action, reward, 1.0 - terminated, following)
            for field, value in zip(buffer, row, strict=True):
                field[count % CAPACITY] = value
            count += 1
            observation = environment.reset()[0] if terminated or truncated else following
            indices = random.integers(min(count, CAPACITY), size=BATCH_SIZE)
            state, _ = update(state, Batch(*(field[indices] for field in buffer)), key_update)
        jax.block_until_ready(state)
        return time.perf_counter() - started

    return run


def updates_alone(learner, make) -> Callable[[int], float]:
    """Returns the upper bound on the speed: only updates, in one compiled loop, with data on the device."""
    environment = make()
    sizes = environment.observation_space.shape[0], environment.action_space.shape[0]
    random, key = np.random.default_rng(0), jax.random.key(0)
    data = jax.tree.map(
        lambda field: jnp.asarray(random.normal(size=(10_000, *field.shape[1:])), jnp.float32),
        replay.empty(1, *sizes).data,
    )
    state = jax.jit(learner.init)(key, data.observations[:1], data.actions[:1])

    @jax.jit
    def updates(state, count):
        def update(step, state):
            key_batch, key_update = jax.random.split(jax.random.fold_in(key, step))
            rows = jax.random.randint(key_batch, (BATCH_SIZE,), 0, len(data.rewards))
            return learner.update(state, jax.tree.map(lambda field: field[rows], data), key_update)[0]

        return jax.lax.fori_loop(0, count, update, state)

    def run(steps: int) -> float:
        started = time.perf_counter()
        jax.block_until_ready(updates(state, steps))
        return time.perf_counter() - started

    return run


if __name__ == "__main__":
    app.run(main)
