"""Updates per second of offline training, beside the machine's limit and beside the usual loop.

The data has hopper's size (1,000,000 transitions, 11 observations, 3 actions); batch 256, hidden 256, 256.
All is timed in turn, several times over, so that a machine whose speed drifts treats each alike:

  loop        one jitted update per Python step, batches drawn by NumPy, as in the authors' code
  compiled    `Population` with one member: many updates per compiled call, batches drawn on the device
  population  the same with --members members, in updates of all members together
  peak        matrix products of 1024 x 1024 x 1024 in float32

Ratios are medians of the turns' own ratios.

Example:
  python benchmarks/throughput.py --algorithm=xql --turns=5
"""

import json
import os
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from xql_jax import command_line
from xql_jax.learners.registry import make_learner
from xql_jax.training.population import Population, make_members
from xql_jax.types import Batch

flags.DEFINE_enum("algorithm", "xql", ("xql", "iql", "bc"), "The learner.")
flags.DEFINE_integer("members", 4, "Members of the population.", lower_bound=1)
flags.DEFINE_integer("turns", 5, "How often everything is timed; one more turn warms up.", lower_bound=1)
flags.DEFINE_integer("updates", 1000, "Updates per timing.", lower_bound=1)
flags.DEFINE_integer("transitions", 1_000_000, "Size of the dataset.", lower_bound=1)
FLAGS = flags.FLAGS

OBSERVATION_DIM, ACTION_DIM, BATCH_SIZE = 11, 3, 256


def main() -> int:
    data = jax.device_put(random_data(FLAGS.transitions))
    learner = make_learner(FLAGS.algorithm, {})
    alone = Population(learner, make_members([0], {}), data, BATCH_SIZE)
    together = Population(learner, make_members(range(FLAGS.members), {}), data, BATCH_SIZE)
    loop = python_loop(learner, jax.tree.map(np.asarray, data))
    peak = matrix_products()

    turns = []
    for _ in range(1 + FLAGS.turns):
        turns.append(
            {
                "loop": FLAGS.updates / seconds(loop, FLAGS.updates),
                "compiled": FLAGS.updates / seconds(advance(alone), FLAGS.updates),
                "population": FLAGS.members * FLAGS.updates / seconds(advance(together), FLAGS.updates),
                "peak": 40 * 2 * 1024**3 / seconds(peak, 40),
            }
        )
    measured = {name: np.array([turn[name] for turn in turns[1:]]) for name in turns[0]}
    flops = update_flops()
    ratios = {
        "compiled / loop": measured["compiled"] / measured["loop"],
        "population / compiled": measured["population"] / measured["compiled"],
        "compiled / peak": measured["compiled"] * flops / measured["peak"],
    }

    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}; {FLAGS.algorithm}")
    print(f"{'':24}{'median':>10}{'min':>10}{'max':>10}")
    for name in ("loop", "compiled", "population"):
        print_row(f"{name} [updates/s]", measured[name], ".0f")
    print_row("peak [GFLOP/s]", measured["peak"] / 1e9, ".0f")
    for name, values in ratios.items():
        print_row(name, values, ".2f")
    print(f"{flops / 1e6:.0f} MFLOP an update; compiled in {alone.compile_seconds:.1f} s")
    rows = [array for array in jax.live_arrays() if array.shape[:1] == (FLAGS.transitions,)]
    shards = [shard.data for array in rows for shard in array.addressable_shards]
    buffers = {shard.unsafe_buffer_pointer(): shard.nbytes for shard in shards}  # arrays may share one
    held, size = sum(buffers.values()) / 2**20, sum(array.nbytes for array in data) / 2**20
    print(f"data on the device: {held:.1f} MiB for {1 + FLAGS.members} members, the dataset: {size:.1f} MiB")
    print(json.dumps({name: float(np.median(values)) for name, values in (measured | ratios).items()}))
    return 0


def random_data(size: int) -> Batch:
    random = np.random.default_rng(0)
    shapes = ((size, OBSERVATION_DIM), (size, ACTION_DIM), (size,), (size,), (size, OBSERVATION_DIM))
    observations, actions, rewards, masks, next_observations = (
        random.standard_normal(shape, dtype=np.float32) for shape in shapes
    )
    return Batch(observations, np.tanh(actions), rewards, np.ones_like(masks), next_observations)


def python_loop(learner, data: Batch):
    """The usual loop: NumPy draws the batch, one jitted update a step."""
    random = np.random.default_rng(0)
    key = jax.random.key(0)
    update = jax.jit(learner.update)
    state = jax.jit(learner.init)(key, data.observations[:1], data.actions[:1])

    def run(num_updates: int) -> None:
        nonlocal state, key
        for _ in range(num_updates):
            rows = random.integers(len(data.rewards), size=BATCH_SIZE)
            key, key_update = jax.random.split(key)
            state, _ = update(state, Batch(*(array[rows] for array in data)), key_update)
        jax.block_until_ready(state)

    return run


def advance(population: Population):
    def run(num_updates: int) -> None:
        population.advance(population.step + num_updates)
        jax.block_until_ready(population.states)

    return run


def matrix_products():
    matrix = jnp.eye(1024) + 1e-3

    @jax.jit
    def multiply(product, count):
        return jax.lax.fori_loop(0, count, lambda _, x: x @ matrix * 0.5, product)

    def run(count: int) -> None:
        jax.block_until_ready(multiply(matrix, count))

    return run


def update_flops() -> float:
    """Of the matrix products in one update: an in-sample learner's with twin critics, or cloning's.

    Layers are 256 wide. A forward pass is 2 * rows * weights; a backward pass twice that, less the gradient
    of the first input.
    """

    def network(inputs: int, outputs: int) -> tuple[int, int]:
        weights = inputs * 256 + 256 * 256 + 256 * outputs
        forward = 2 * BATCH_SIZE * weights
        return forward, 3 * forward - 2 * BATCH_SIZE * inputs * 256

    v_forward, v_step = network(OBSERVATION_DIM, 1)
    q_forward, q_step = network(OBSERVATION_DIM + ACTION_DIM, 1)
    _, actor_step = network(OBSERVATION_DIM, ACTION_DIM)
    if FLAGS.algorithm == "bc":
        return actor_step
    return 2 * q_forward + v_step + 2 * v_forward + actor_step + 2 * q_step


def seconds(run, count: int) -> float:
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


def print_row(name: str, values: np.ndarray, form: str) -> None:
    print(
        f"{name:24}"
        + "".join(f"{value:>10{form}}" for value in (np.median(values), values.min(), values.max()))
    )


if __name__ == "__main__":
    command_line.run(main)
