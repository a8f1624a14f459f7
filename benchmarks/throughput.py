"""Measures updates per second of offline training, next to other common loops and the machine's limit.

The data has hopper's size (1,000,000 transitions, 11 observations, 3 actions); the batch size is 256, the
hidden layers are 256, 256. All loops are timed alternately in several turns, so that a drift of the machine's
speed affects them equally:

  loop        one jitted update per Python step, with batches drawn by NumPy, as in the authors' code
  unrolled    eight updates unrolled in one jitted call, with batches drawn on the device, as in JAX-CORL
  M members   a `Population` of M members (seeds), with the data on the device; updates summed over members
  peak        matrix products of 1024 x 1024 x 1024 in float32

With --action_chunk=h the data are seen in chunks of h actions, whose updates have more arithmetic.

A ratio is the median of the ratios in each turn.

Example:
  python benchmarks/throughput.py --algorithm=xql --members=1,4,16,64 --turns=5
"""

import json
import os
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags
from hopper_size import ACTION_DIM, random_data, update_flops

from xql_jax.data.sampling import sample
from xql_jax.data.views import view_for
from xql_jax.learners.registry import make_learner
from xql_jax.training.members import make_members
from xql_jax.training.population import Population
from xql_jax.training.trainer import OfflineTrainer, resident
from xql_jax.types import Batch, Horizon, Learner

flags.DEFINE_enum("algorithm", "xql", ("xql", "iql", "bc"), "The learner.")
flags.DEFINE_list("members", ["1", "2", "4", "8", "16", "32", "64"], "Sizes of populations.")
flags.DEFINE_integer("turns", 5, "How often everything is timed; one more turn warms up.", lower_bound=1)
flags.DEFINE_integer("updates", 1000, "Updates per timing, of all members together.", lower_bound=1)
flags.DEFINE_integer("action_chunk", 1, "Actions of a chunk; 1: single actions.", lower_bound=1)
flags.DEFINE_integer("transitions", 1_000_000, "Size of the dataset.", lower_bound=1)
FLAGS = flags.FLAGS

BATCH_SIZE = 256
UNROLLED = 8
Run = Callable[[int], int]  # makes about that number of updates, and returns the exact number


def main() -> int:
    sizes = sorted(set(map(int, FLAGS.members)))
    learner = make_learner(FLAGS.algorithm, {})
    horizon = Horizon(FLAGS.action_chunk, is_chunk=FLAGS.action_chunk > 1)
    on_host = view_for(learner, random_data(FLAGS.transitions), horizon)
    on_device = jax.device_put(on_host.batch)
    runs: dict[str, Run] = {
        "loop": python_loop(learner, on_host.batch),
        "unrolled": unrolled_loop(learner, on_device),
    }
    compile_seconds = {}
    for size in sizes:
        trainer = OfflineTrainer(
            Population(learner, make_members(range(size), {}), resident(on_device, BATCH_SIZE))
        )
        trainer.population.compile()
        compile_seconds[f"{size} members"] = trainer.population.compile_seconds
        runs[f"{size} members"] = advance(trainer)
    peak = matrix_products()

    turns = []
    for _ in range(1 + FLAGS.turns):
        turn = {name: updates_per_second(run) for name, run in runs.items()}
        turns.append(turn | {"peak": 40 * 2 * 1024**3 / seconds(peak, 40)})
    measured = {name: np.array([turn[name] for turn in turns[1:]]) for name in turns[0]}

    print(f"{jax.devices()[0].device_kind}, {os.cpu_count()} cores, jax {jax.__version__}; {FLAGS.algorithm}")
    print(f"{'':22}{'updates/s':>10}{'min':>8}{'max':>8}{'/ loop':>8}{'/ unrolled':>11}")
    results = {}
    for name in runs:
        ratios = {
            "loop": np.median(measured[name] / measured["loop"]),
            "unrolled": np.median(measured[name] / measured["unrolled"]),
        }
        results[name] = {"updates_per_second": float(np.median(measured[name]))}
        results[name] |= {f"over_{other}": float(ratio) for other, ratio in ratios.items()}
        low, middle, high = measured[name].min(), np.median(measured[name]), measured[name].max()
        print(
            f"{name:22}{middle:>10.0f}{low:>8.0f}{high:>8.0f}{ratios['loop']:>8.2f}{ratios['unrolled']:>11.2f}"
        )
    flops = update_flops(FLAGS.algorithm, BATCH_SIZE, FLAGS.action_chunk * ACTION_DIM)
    share = np.median(measured[f"{sizes[0]} members"] * flops / measured["peak"])
    print(
        f"matrix products: {np.median(measured['peak']) / 1e9:.0f} GFLOP/s; an update: {flops / 1e6:.0f} "
        f"MFLOP; {sizes[0]} members is at {share:.2f} of that peak"
    )
    print("compiled in " + ", ".join(f"{value:.1f} s ({name})" for name, value in compile_seconds.items()))
    held, size = bytes_on_device(on_host.size), sum(array.nbytes for array in on_device)
    print(f"data on the device: {held / 2**20:.1f} MiB for all of these; the dataset: {size / 2**20:.1f} MiB")
    print(json.dumps(results | {"share_of_peak": float(share)}))
    return 0


def python_loop(learner: Learner, data: Batch) -> Run:
    """Returns the usual loop: NumPy draws the batch, and there is one jitted update per step."""
    random = np.random.default_rng(0)
    key = jax.random.key(0)
    update = jax.jit(learner.update, donate_argnums=0)
    state = jax.jit(learner.init)(key, data.observations[:1], data.actions[:1])

    def run(num_updates: int) -> int:
        nonlocal state, key
        for _ in range(num_updates):
            rows = random.integers(len(data.rewards), size=BATCH_SIZE)
            key, key_update = jax.random.split(key)
            state, _ = update(state, data._make(array[rows] for array in data), key_update)
        jax.block_until_ready(state)
        return num_updates

    return run


def unrolled_loop(learner: Learner, data: Batch) -> Run:
    """Returns a loop over a jitted function that makes eight updates, with batches drawn on the device."""
    key = jax.random.key(0)
    state = jax.jit(learner.init)(key, data.observations[:1], data.actions[:1])

    def update_eight_times(state, data, key):
        for key_batch, key_update in jax.random.split(key, (UNROLLED, 2)):
            state, metrics = learner.update(state, sample(data, key_batch, BATCH_SIZE), key_update)
        return state, metrics

    update = jax.jit(update_eight_times, donate_argnums=0)

    def run(num_updates: int) -> int:
        nonlocal state, key
        calls = -(-num_updates // UNROLLED)
        for _ in range(calls):
            key, key_update = jax.random.split(key)
            state, _ = update(state, data, key_update)
        jax.block_until_ready(state)
        return calls * UNROLLED

    return run


def advance(trainer: OfflineTrainer) -> Run:
    def run(num_updates: int) -> int:
        steps = -(-num_updates // len(trainer.population.members))
        trainer.advance(trainer.step + steps)
        jax.block_until_ready(trainer.population.states)
        return steps * len(trainer.population.members)

    return run


def matrix_products():
    matrix = jnp.eye(1024) + 1e-3

    @jax.jit
    def multiply(product, count):
        return jax.lax.fori_loop(0, count, lambda _, x: x @ matrix * 0.5, product)

    def run(count: int) -> None:
        jax.block_until_ready(multiply(matrix, count))

    return run


def bytes_on_device(rows: int) -> int:
    """Returns the bytes of all arrays that are this long. A buffer that arrays share counts once."""
    data = [array for array in jax.live_arrays() if array.shape[:1] == (rows,)]
    shards = [shard.data for array in data for shard in array.addressable_shards]
    return sum({shard.unsafe_buffer_pointer(): shard.nbytes for shard in shards}.values())


def updates_per_second(run: Run) -> float:
    started = time.perf_counter()
    updates = run(FLAGS.updates)
    return updates / (time.perf_counter() - started)


def seconds(run: Callable[[int], None], count: int) -> float:
    started = time.perf_counter()
    run(count)
    return time.perf_counter() - started


if __name__ == "__main__":
    app.run(lambda _: main())
