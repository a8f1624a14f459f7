"""Measures the updates per second of each offline learner, and relates them to its number of operations.

All learners have the same networks (two hidden layers of 256), batches, and data of hopper's size, so they
differ only in their arithmetic. If a method takes F times XQL's floating-point operations, as counted by XLA,
the speed allowed to it is 1 / F of XQL's; its share is its speed divided by the allowed one. In each turn,
every method is timed right after XQL, because memory and clock rates depend on what ran before. A ratio is
the median over these pairs.

Example:
  python benchmarks/learners.py --methods=iql,sql,td3_bc,cql --turns=5
  python benchmarks/learners.py --methods='xql:beta_nats=1;policy_nats=0.3'   # both divergences held
"""

import csv
import json
import os
import time

import jax
import numpy as np
from absl import app, flags
from hopper_size import learner_of, random_data, trainer_of
from tqdm import tqdm

from xql_jax.data.dataset import Dataset
from xql_jax.data.sampling import sample
from xql_jax.data.views import view_for
from xql_jax.learners.registry import OFFLINE
from xql_jax.training.trainer import OfflineTrainer

flags.DEFINE_list(
    "methods",
    [],
    "Methods, METHOD+POLICY or METHOD:FIELD=NUMBER;FIELD=NUMBER, to compare with xql. Default: all.",
)
flags.DEFINE_integer("turns", 5, "How often each is timed; one more turn warms up.", lower_bound=1)
flags.DEFINE_float("seconds", 1.0, "Approximate time of one timing.", lower_bound=0.01)
flags.DEFINE_integer("transitions", 100_000, "Size of the dataset.", lower_bound=1000)
flags.DEFINE_integer("batch_size", 256, "Transitions per update.", lower_bound=1)
flags.DEFINE_string("csv", None, "File to which each timing is written, beside XQL's in the same turn.")
FLAGS = flags.FLAGS


def main() -> int:
    methods = ["xql", *(name for name in FLAGS.methods or OFFLINE if name != "xql")]
    data = random_data(FLAGS.transitions)
    made = {name: make(name, data) for name in tqdm(methods, desc="compile", disable=None)}
    counts = {name: max(1, round(FLAGS.seconds * speed(trainer, 10))) for name, (trainer, _) in made.items()}

    def timed(name: str) -> float:
        trainer, _ = made[name]
        speed(trainer, max(1, counts[name] // 4))
        return speed(trainer, counts[name])

    turns = [
        {name: (timed("xql"), timed(name)) for name in made}
        for _ in tqdm(range(1 + FLAGS.turns), desc="turns", disable=None)
    ][1:]
    device = jax.devices()[0].device_kind
    print(f"{device}, {os.cpu_count()} cores, jax {jax.__version__}, batch {FLAGS.batch_size}")
    print(f"{'':18}{'updates/s':>10}{'min':>8}{'max':>8}{'MFLOP':>8}{'/ xql':>8}{'allowed':>9}{'share':>7}")
    results = {}
    operations_of_xql = made["xql"][1]
    for name, (_, operations) in made.items():
        measured = np.array([turn[name][1] for turn in turns])
        ratio = float(np.median([own / of_xql for of_xql, own in (turn[name] for turn in turns)]))
        allowed = operations_of_xql / operations
        results[name] = {
            "updates_per_second": float(np.median(measured)),
            "flops": operations,
            "over_xql": ratio,
            "share_of_allowed": ratio / allowed,
        }
        print(
            f"{name:18}{np.median(measured):>10.0f}{measured.min():>8.0f}{measured.max():>8.0f}"
            f"{operations / 1e6:>8.0f}{ratio:>8.2f}{allowed:>9.2f}{ratio / allowed:>7.2f}"
        )
    print(json.dumps(results))
    if FLAGS.csv:
        with open(FLAGS.csv, "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("method", "turn", "updates_per_second", "of_xql"))
            for name in made:
                writer.writerows(
                    (name, index, *np.round(turn[name][::-1], 1)) for index, turn in enumerate(turns)
                )
    return 0


def make(name: str, data: Dataset) -> tuple[OfflineTrainer, float]:
    """Returns a population of one member (seed), and the number of floating-point operations of an update."""
    learner, trainer = learner_of(name), trainer_of(name, data, FLAGS.batch_size)
    state = jax.tree.map(lambda leaf: leaf[0], trainer.population.states)
    batch = sample(jax.device_put(view_for(learner, data).batch), jax.random.key(0), FLAGS.batch_size)
    compiled = jax.jit(learner.update).lower(state, batch, jax.random.key(0)).compile()
    return trainer, float(compiled.cost_analysis()["flops"])


def speed(trainer: OfflineTrainer, updates: int) -> float:
    """Returns updates per second."""
    started = time.perf_counter()
    trainer.advance(trainer.step + updates)
    jax.block_until_ready(trainer.population.states)
    return updates / (time.perf_counter() - started)


if __name__ == "__main__":
    app.run(lambda _: main())
