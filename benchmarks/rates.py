"""Measures the rates that plans of sweeps are made of, and writes them to xql_jax/sweeps/*.csv.

methods.csv: updates per second of each method, with two hidden layers of 256. Each is timed right after XQL,
because other work changes the machine's speed; a rate is the median ratio, times the best speed of XQL. It
holds at the best speed of matrix products (see `rates.gflops_per_second`). environments.csv: steps per second
of evaluations of ten episodes.

Example, on a quiet machine; 8 minutes:
  JAX_PLATFORMS=cpu python benchmarks/rates.py
"""

import csv
import os
import statistics
import time
from pathlib import Path
from typing import Any

import evaluation
import jax
from absl import app, flags
from hopper_size import learner_of, population_of, random_data
from tqdm import tqdm

from xql_jax.data.dataset import Dataset
from xql_jax.learners.registry import OFFLINE, ONLINE
from xql_jax.sweeps import rates
from xql_jax.tasks import get_task
from xql_jax.training.population import Population

BATCH_SIZES = {"dt": 64}  # its authors'; 256 for the others
TASKS = {  # by the environments' names in the table, which are tasks' beginnings or suites
    "halfcheetah": "halfcheetah-medium-v2", "hopper": "hopper-medium-v2", "walker2d": "walker2d-medium-v2",
    "antmaze": "antmaze-medium-play-v2", "kitchen": "kitchen-complete-v0", "pen": "pen-human-v1",
    "door": "door-human-v1", "hammer": "hammer-human-v1", "relocate": "relocate-human-v1",
    "maze2d": "maze2d-medium-v1", "pointmaze": "pointmaze-medium-v0", "cartpole": "cartpole-swingup",
    "dm_control": "cheetah-run", "gymnasium": "HalfCheetah-v5",
}  # fmt: skip
flags.DEFINE_list("methods", [*OFFLINE, *ONLINE], "Methods to measure; the others' rows stay.")
flags.DEFINE_list("environments", [*TASKS], "Environments to measure; the others' rows stay.")
flags.DEFINE_integer("turns", 5, "How often each is timed; one more turn warms up.", lower_bound=1)
flags.DEFINE_float("method_seconds", 0.5, "Approximate time of one timing of a method.", lower_bound=0.01)
flags.DEFINE_string("folder", str(Path(rates.__file__).parent), "Where the tables are read and written.")
FLAGS = flags.FLAGS


def main() -> int:
    data = random_data(100_000)
    xql, *_ = row_of("xql", data)
    best_products = best_xql = 0.0
    ratios: dict[str, tuple[float, Any]] = {}
    for name in tqdm(FLAGS.methods, desc="methods"):
        own, *about = row_of(name, data)
        of_xql = []
        for _ in range(1 + FLAGS.turns):
            best_products = max(best_products, rates.gflops_per_second.__wrapped__())
            pair = speed(xql), speed(own)
            best_xql = max(best_xql, pair[0])
            of_xql.append(pair[1] / pair[0])
        ratios[name] = statistics.median(of_xql[1:]), about
        rows = {name: (f"{ratio * best_xql:.4g}", *others) for name, (ratio, others) in ratios.items()}
        write("methods", rows, best_products)
    environments = {}
    for name in tqdm(FLAGS.environments, desc="environments"):
        environments[name] = (f"{evaluation.steps_together(get_task(TASKS[name])):.4g}",)
        best_products = max(best_products, rates.gflops_per_second.__wrapped__())
        write("environments", environments, best_products)
    load = os.getloadavg()[0]
    print(f"{os.cpu_count()} cores, products of 1024^3 at {best_products:.0f} GFLOP/s, load {load:.1f}")
    return 0


def row_of(name: str, data: Dataset) -> tuple[Population, str, int, int]:
    """Returns a compiled population of one member (seed), and the rest of its row."""
    size, began = BATCH_SIZES.get(name, 256), time.process_time()
    made = population_of(name, data, size)
    compiled = min(made.compile_seconds, time.process_time() - began)  # on a busy machine the latter is less
    return made, f"{compiled:.1f}", size, rates.numbers_in_state(learner_of(name))


def speed(population: Population) -> float:
    """Returns updates per second."""
    done, spent, started = 0, 0.0, time.perf_counter()
    while spent < FLAGS.method_seconds:
        updates = max(1, int(done * (FLAGS.method_seconds - spent) / spent)) if done else 1
        population.advance(population.step + updates)
        jax.block_until_ready(population.states)
        done, spent = done + updates, time.perf_counter() - started
    return done / spent


def write(name: str, rows: dict[str, Any], gflops: float) -> None:
    path = Path(FLAGS.folder) / f"{name}.csv"
    head, *before = csv.reader(path.read_text().splitlines())
    known = {row[0]: row[1:] for row in before} | {key: [*row, f"{gflops:.4g}"] for key, row in rows.items()}
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([head, *([key, *row] for key, row in known.items())])


if __name__ == "__main__":
    app.run(lambda _: main())
