"""Compares compiled online training with the loop that acts on the host: steps and updates per second.

  compiled   environments, acting, insertion into the replay buffer and updates in one compiled program
  host       the same learner with DM Control's own task, in the same number of environments

Each is measured without updates, with one update each time all environments act, and with one update per
step. They are timed alternately in several turns, in one process; a ratio is the median over turns.

  python benchmarks/compiled.py --env_name=playground:CartpoleSwingup --num_environments=1,16,64
"""

import functools
import json
import os
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
from absl import app, flags
from hopper_size import learner_of

from xql_jax.envs import environment_maker
from xql_jax.envs.compiled import compiled_environment
from xql_jax.learners.registry import ONLINE
from xql_jax.suites.tasks import DM_CONTROL_NAMES, get_task
from xql_jax.training.acting import HostTrainer
from xql_jax.training.compiled_acting import CompiledTrainer
from xql_jax.training.members import Member
from xql_jax.training.replay_files import ReplayFiles
from xql_jax.training.schedule import ActingSchedule
from xql_jax.training.trainer import Trainer

flags.DEFINE_enum("algorithm", "xsac", ONLINE, "Learner.")
flags.DEFINE_string("env_name", "playground:CartpoleSwingup", "A task in JAX.")
flags.DEFINE_list("num_environments", ["1", "16", "64"], "Numbers of environments to measure.")
flags.DEFINE_integer("width", 256, "Width of the two hidden layers.", lower_bound=1)
flags.DEFINE_float("seconds", 2.0, "Approximate time of one timing.", lower_bound=0.0)
flags.DEFINE_integer("turns", 5, "How often all are timed.", lower_bound=1)
FLAGS = flags.FLAGS
BATCH_SIZE, CAPACITY = 256, 100_000
ROUND = 64  # steps per round on the host, about; a round's transitions are inserted and learned from at once


def main() -> int:
    jax.config.update("jax_cpu_enable_async_dispatch", False)  # as experiments/train_online.py has it
    task = get_task(FLAGS.env_name)
    learner = learner_of(FLAGS.algorithm, FLAGS.width)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {jax.devices()[0].device_kind}")
    columns = ("environments", "updates/step", "compiled", "updates/s", "host", "updates/s", "ratio")
    print("  ".join(f"{column:>12}" for column in columns))
    results = []
    for number in map(int, FLAGS.num_environments):
        for updates_per_step in dict.fromkeys((0.0, 1.0 / number, 1.0)):
            with tempfile.TemporaryDirectory() as folder:
                results.append(measured(learner, task, number, updates_per_step, Path(folder)))
    print(json.dumps(results))
    return 0


def measured(learner, task, number: int, updates_per_step: float, folder: Path) -> dict:
    schedule = ActingSchedule(
        num_environments=number,
        round_steps=number,
        buffer_size=CAPACITY,
        batch_size=BATCH_SIZE,
        warmup_steps=0,
        updates_per_step=max(1e-6, updates_per_step),  # 0 is no setting
    )
    rounds = ActingSchedule(**{**vars(schedule), "round_steps": number * max(1, ROUND // number)})
    host_task = get_task(DM_CONTROL_NAMES.get(task.name, task.name))
    make, members = functools.partial(environment_maker(host_task).make, host_task), [Member(0, {})]
    environment, files = compiled_environment(task), ReplayFiles(folder)
    trainers: dict[str, Trainer] = {
        "compiled": CompiledTrainer(learner, members, environment, schedule, files)
    }
    if not host_task.suite.is_compiled:  # an environment of one's own in JAX has no twin on the host
        trainers["host"] = HostTrainer(learner, members, make, rounds, files)
    steps = {}
    for name, trainer in trainers.items():
        trainer.advance(trainer.stride * 4)  # compiles
        took = seconds(trainer, trainer.stride * 4)
        steps[name] = max(1, int(FLAGS.seconds * 4 / took)) * trainer.stride
    speeds: dict[str, list[float]] = {name: [] for name in trainers}
    for _ in range(FLAGS.turns):
        for name, trainer in trainers.items():
            speeds[name].append(steps[name] / seconds(trainer, steps[name]))
    for trainer in trainers.values():
        trainer.close()
    on_host = speeds.get("host", [float("nan")] * FLAGS.turns)
    ratio = float(np.median(np.divide(speeds["compiled"], on_host)))
    compiled, host = float(np.median(speeds["compiled"])), float(np.median(on_host))
    numbers = (updates_per_step, compiled, compiled * updates_per_step, host, host * updates_per_step)
    shown = "  ".join(f"{value:12,.3f}" if value < 1 else f"{value:12,.0f}" for value in numbers)
    print(f"{number:12}  {shown}  {ratio:12.2f}", flush=True)
    return {
        "environments": number,
        "updates_per_step": updates_per_step,
        "compiled": compiled,
        "host": host,
        "ratio": ratio,
        "compile_seconds": trainers["compiled"].population.compile_seconds,
    }


def seconds(trainer: Trainer, steps: int) -> float:
    started = time.perf_counter()
    trainer.advance(trainer.step + steps)
    return time.perf_counter() - started


if __name__ == "__main__":
    app.run(lambda _: main())
