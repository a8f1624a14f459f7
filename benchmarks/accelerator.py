"""Measures the speed of training on this machine's accelerator, in at most about --minutes; writes JSON.

It measures, the most important first:

  products  float32 matrix products in the default precision; the best result counts as the device's peak
  training  updates/s of a `Population` (members, which are seeds and settings trained in one program), summed
            over members, on random data of hopper's size
  peers     updates/s of other projects' compiled loops (--unifloral, --jaxcorl: files you fetch), and the
            ratio of ours to each with as many members
  online    steps/s of X-SAC and X-TD3 on cheetah-run, and on a stand-in of its size that needs no simulator

A measurement is listed as skipped if there is no time left or a package is missing, and as failed if it
raises an error; then the exit code is 1. The file is written again after each measurement, so that it is kept
if the program is killed.

Examples:
  python benchmarks/accelerator.py --quick
  python benchmarks/accelerator.py --unifloral=iql.py --jaxcorl=xql.py --members=1,8,64,256
"""

import functools
import gc
import importlib
import json
import os
import platform
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import flax
import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
import optax
import psutil
from absl import app, flags, logging

ROOT = Path(__file__).resolve().parents[1]
# The project, simulators and ml_collections need not be installed.
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from hopper_size import WIDTH, random_data, update_flops  # noqa: E402
from peer_loops import PEERS  # noqa: E402

from xql_jax.envs import environment_maker  # noqa: E402
from xql_jax.files import write_atomically  # noqa: E402
from xql_jax.learners.registry import make_learner  # noqa: E402
from xql_jax.runs.machine import commit  # noqa: E402
from xql_jax.suites.tasks import get_task  # noqa: E402
from xql_jax.training.members import make_members  # noqa: E402
from xql_jax.training.population import Population  # noqa: E402
from xql_jax.training.trainer import OfflineTrainer, resident  # noqa: E402
from xql_jax.workshop.tools.compile import kernels_in  # noqa: E402

OFFLINE, ONLINE = ("xql", "iql", "bc"), ("xsac", "xtd3")
PAPER_SIZES = {"xsac": (1024, 1024), "xtd3": (256, 256)}  # Table 5: width of two hidden layers, batch size
SMALL_SIZE = (256, 256)  # with --quick, or on a CPU
TASKS, SEEDS, UPDATES = 18, 6, 1_000_000  # Table 1: numbers of tasks, seeds, and updates per run
QUICK = {"minutes": 2.5, "members": ["1", "8"], "batch_sizes": ["256"], "transitions": 100_000, "repeats": 3}

flags.DEFINE_string("output", "accelerator.json", "The file to write.")
flags.DEFINE_boolean("quick", False, f"Use defaults for two cores of a CPU: {QUICK}.")
flags.DEFINE_float("minutes", 8.0, "No measurement is begun after these.", lower_bound=0.0)
flags.DEFINE_list("algorithms", [*OFFLINE], "Offline learners.")
flags.DEFINE_list("members", ["1", "8", "64", "256"], "Sizes of populations.")
flags.DEFINE_list("batch_sizes", ["256", "1024"], "Transitions per update.")
flags.DEFINE_list("online", [*ONLINE], "Online learners.")
flags.DEFINE_string("unifloral", None, "unifloral's algorithms/iql.py.")
flags.DEFINE_string("jaxcorl", None, "JAX-CORL's algos/xql.py.")
flags.DEFINE_integer("transitions", 1_000_000, "Sizes of the dataset and the replay buffer.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Timings of each measurement, after a warm-up.", lower_bound=1)
flags.DEFINE_float("seconds", 0.7, "Approximate time of one timing.", lower_bound=0.0)
FLAGS = flags.FLAGS


def main(_: Sequence[str]) -> int:
    for name in (name for name in QUICK if FLAGS.quick and not FLAGS[name].present):
        FLAGS[name].value = QUICK[name]
    started = time.perf_counter()
    prepare_jax()
    results = describe() | {
        name: [] for name in ("products", "training", "peers", "online", "skipped", "failed")
    }
    longest: dict[str, float] = {}
    plan = sorted(make_plan(), key=lambda measurement: measurement[0])
    for number, (_, section, what, like, run) in enumerate(plan):
        begun = time.perf_counter()
        gone, expected = begun - started, longest.get(like, max(longest.values(), default=0.0))
        if gone + expected > 60 * FLAGS.minutes:
            reason = f"{gone:.0f} of {60 * FLAGS.minutes:.0f} s were gone, and it may take {expected:.0f} s"
            results["skipped"].append({"what": what, "reason": reason})
            continue
        print(f"{gone:4.0f} s: {what}", file=sys.stderr, flush=True)
        try:
            results[section].append(run())
        except Exception as error:  # such as too little memory: the other measurements may still work
            lacking = isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("xql_jax")
            reason = f"no {error.name}" if lacking else f"{type(error).__name__}: {error}".partition("\n")[0]
            results["skipped" if lacking else "failed"].append({"what": what, "reason": reason})
        gc.collect()  # frees arrays on the device
        longest[like] = max(longest.get(like, 0.0), time.perf_counter() - begun)
        rest = [{"what": other[2], "reason": "the program ended before"} for other in plan[number + 1 :]]
        save(results | {"skipped": results["skipped"] + rest})
    show(save(results | {"total_seconds": time.perf_counter() - started}))
    return 1 if results["failed"] else 0


def prepare_jax() -> None:
    """Configures JAX as experiments/train_online.py does, but without a cache of compiled programs."""
    jax.config.update("jax_enable_compilation_cache", False)
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    platforms = jax.config.jax_platforms
    if platforms and "cpu" not in platforms.split(","):  # JAX_PLATFORMS=cuda; online learners act on the CPU
        jax.config.update("jax_platforms", f"{platforms},cpu")


def make_plan() -> Iterator[tuple[int, str, str, str, Callable[[], dict[str, Any]]]]:
    """Yields all measurements: rank, section of the JSON, name, group and function.

    Measurements of a group take about equally long. The lowest rank is measured first; the rank says how far
    the measurement is from XQL with batch 256.
    """
    on_cpu = jax.default_backend() == "cpu"
    for size in (1024, 2048) if on_cpu else (1024, 2048, 4096, 8192):
        run = functools.partial(measure_products, size, chain=1 if on_cpu else 16)
        yield -1, "products", f"products of {size}", "products", run
    for algorithm in FLAGS.online:
        sizes = SMALL_SIZE if FLAGS.quick or on_cpu else PAPER_SIZES[algorithm]
        for rank, name in ((1, "stand-in"), (2, "cheetah-run")):
            run = functools.partial(measure_online, algorithm, *sizes, name)
            yield rank, "online", f"{algorithm}, {name}", "online", run
    data = jax.device_put(random_data(FLAGS.transitions).batch)
    yield from peers_plan(data)
    for rank_a, algorithm in enumerate(FLAGS.algorithms):
        for rank_b, batch_size in enumerate(map(int, FLAGS.batch_sizes)):
            for members in map(int, FLAGS.members):
                like = f"{members} members"
                run = functools.partial(measure_training, algorithm, members, batch_size, data)
                yield rank_a + rank_b, "training", f"{algorithm}, {like}, batch {batch_size}", like, run


def peers_plan(data: Any) -> Iterator[tuple[int, str, str, str, Callable[[], dict[str, Any]]]]:
    fields = {
        name: getattr(data, name) for name in ("observations", "actions", "rewards", "next_observations")
    }
    for name in (name for name in PEERS if FLAGS[name].value):
        for members in map(int, FLAGS.members if name == "unifloral" else ["1"]):
            run = functools.partial(measure_peer, name, members, fields)
            yield 0, "peers", f"{name}, {members} members", f"{members} members", run


def rates(run: Callable[[int], Any], scale: float) -> dict[str, float]:
    """Returns `scale` times the rate per second of `run(count)`, with a count that takes about --seconds.

    If `run` returns a number, it did so many instead.
    """

    def timed(count: int) -> tuple[float, int]:
        started = time.perf_counter()
        done = run(count)
        return time.perf_counter() - started, done or count

    timed(1)  # warm
    count = 1
    while (taken := timed(count)[0]) < FLAGS.seconds / 4:
        count *= 4
    count = max(1, round(count * FLAGS.seconds / taken))
    turns = [timed(count) for _ in range(FLAGS.repeats)]
    found = [scale * done / seconds for seconds, done in turns]
    spread = {"median": float(np.median(found)), "min": min(found), "max": max(found)}
    return spread | {"per_repeat": scale * turns[0][1]}


def measure_products(size: int, chain: int) -> dict[str, Any]:
    """Measures GFLOP/s of [size, size] float32 products, `chain` in a row. A reflection keeps norms equal."""
    product, v = jax.random.normal(jax.random.key(0), (size, size)), jnp.linspace(-1.0, 2.0, size)[:, None]
    reflection = jnp.eye(size) - 2.0 * v * v.T / (v * v).sum()
    multiply = jax.jit(lambda x, factor: functools.reduce(jnp.matmul, [factor] * chain, x))

    def run(count: int) -> None:
        x = product
        for _ in range(count):
            x = multiply(x, reflection)
        jax.block_until_ready(x)

    return {"size": size, "gflops": rates(run, scale=chain * 2 * size**3 / 1e9)}


def measure_training(algorithm: str, members: int, batch_size: int, data: Any) -> dict[str, Any]:
    started = time.perf_counter()
    source = resident(data, batch_size)
    trainer = OfflineTrainer(
        Population(make_learner(algorithm, {}), make_members(range(members), {}), source)
    )
    trainer.population.compile()
    set_up = time.perf_counter() - started

    def run(updates: int) -> None:  # it waits for the updates, and copies no states: 64 members' are 270 MB
        trainer.advance(trainer.step + updates)

    measured = {"updates_per_second": rates(run, scale=members)}
    row = {"algorithm": algorithm, "members": members, "batch_size": batch_size}
    row |= measured | {"hidden_dims": [WIDTH, WIDTH], "flops_per_update": update_flops(algorithm, batch_size)}
    [program, *_] = trainer.population._programs.values()
    row["kernels_per_update"] = sum(kernels_in(program.as_text()).values())
    return (
        row
        | {"devices": len(jax.tree.leaves(trainer.population.states)[0].devices())}
        | costs(trainer, set_up)
    )


def measure_peer(name: str, members: int, data: dict[str, jax.Array]) -> dict[str, Any]:
    run = PEERS[name](FLAGS[name].value, data, members)
    return {"peer": name, "members": members, "updates_per_second": rates(run, scale=members)}


def measure_online(algorithm: str, width: int, batch_size: int, name: str) -> dict[str, Any]:
    if name != "stand-in":
        importlib.import_module("dm_control")  # so that a missing package counts as skipped, not as failed
    from xql_jax.training.acting import HostTrainer
    from xql_jax.training.replay_files import ReplayFiles
    from xql_jax.training.schedule import ActingSchedule

    started = time.perf_counter()
    networks = ("actor", "critic", "value") if algorithm == "xsac" else ("actor", "critic")
    learner = make_learner(algorithm, {f"{network}_hidden_dims": (width, width) for network in networks})
    task = get_task(name) if name != "stand-in" else None
    make: Any = functools.partial(environment_maker(task).make, task) if task else StandIn
    sizes = {"buffer_size": FLAGS.transitions, "batch_size": batch_size}
    # As in experiments/train_online.py, except that there are no random steps at the start.
    schedule = ActingSchedule(warmup_steps=0, round_steps=50, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        files = ReplayFiles(Path(folder))
        trainer = HostTrainer(learner, make_members([0], {}), make, schedule, files)
        trainer.population.compile()
        set_up = time.perf_counter() - started
        try:

            def rounds(
                count: int,
            ) -> None:  # `rates` counts what a turn returns, and `advance` returns metrics
                trainer.advance(trainer.step + 50 * count)

            measured = rates(rounds, scale=50)
        finally:
            trainer.close()
    row = {"algorithm": algorithm, "environment": name, "hidden_dims": [width, width], **sizes}
    return row | {"steps_per_second": measured} | costs(trainer, set_up)


def costs(trainer: Any, set_up: float) -> dict[str, Any]:
    """Returns seconds (set-up: compiling and making networks), and bytes on a device or in the process."""
    if trainer.population.diverged:  # members that are frozen and updates that run again change the speed
        raise FloatingPointError(f"{len(trainer.population.diverged)} members diverged")
    memory = {"of": "process", "bytes": psutil.Process().memory_info().rss, "peak_bytes": None}
    if stats := jax.devices()[0].memory_stats():  # a CPU has none
        memory = {"of": "device", "bytes": stats["bytes_in_use"], "peak_bytes": stats["peak_bytes_in_use"]}
    return {"compile_seconds": trainer.population.compile_seconds, "set_up_seconds": set_up, "memory": memory}


class StandIn:
    """A stable dynamical system of cheetah-run's size that costs almost no time; episodes of 1,000 steps."""

    observation_space = types.SimpleNamespace(shape=(17,))
    action_space = types.SimpleNamespace(shape=(6,), low=-1.0, high=1.0)
    gains = np.random.default_rng(0).normal(size=(23, 17)) / 5
    steps_per_second = 100.0

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.steps, self.state = 0, np.random.default_rng(seed).normal(size=17)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.state = 0.9 * self.state + 0.1 * np.tanh(np.concatenate([self.state, action]) @ self.gains)
        return self.state.astype(np.float32), float(self.state[0]), False, self.steps == 1000, {}

    def close(self) -> None: ...


def describe() -> dict[str, Any]:
    """Returns the machine, versions of packages, the project's commit (None without git) and the settings."""
    device = jax.devices()[0]
    versions = {module.__name__: module.__version__ for module in (jax, jaxlib, flax, optax, np)}
    kind = {"kind": device.device_kind, "count": jax.device_count(), "platform": device.platform}
    settings = {name: FLAGS[name].value for name in ("quick", "seconds", *QUICK)}
    described = {"device": kind, "cpu_cores": os.cpu_count(), "commit": commit(), "settings": settings}
    return described | {"versions": {"python": platform.python_version(), **versions}}


def save(results: dict[str, Any]) -> dict[str, Any]:
    """Adds the peak, each row's share of it and the hours for Table 1; writes and returns the results."""
    peak = max((row["gflops"]["max"] for row in results["products"]), default=None)
    fastest: dict[int, dict[str, Any]] = {}  # by batch size
    for row in results["training"]:
        speed = row["updates_per_second"]["median"]
        row["share_of_peak"] = peak and row["flops_per_update"] * speed / (1e9 * peak * row["devices"])
        if row["algorithm"] == "xql":
            hours = TASKS * SEEDS * UPDATES / speed / 3600
            entry = {name: row[name] for name in ("batch_size", "members")} | {"hours": hours}
            if hours <= fastest.setdefault(row["batch_size"], entry)["hours"]:
                fastest[row["batch_size"]] = entry
    for row in results["peers"]:
        row["ours"] = {
            ours["algorithm"]: ours["updates_per_second"]["median"] / row["updates_per_second"]["median"]
            for ours in results["training"]
            if (ours["members"], ours["batch_size"]) == (row["members"], 256)
        }
    formula = f"{TASKS} tasks * {SEEDS} seeds * {UPDATES} updates / fastest population's updates/s / 3600"
    table_1 = {"hours": list(fastest.values()), "formula": f"{formula}; no evaluations, no compilation"}
    results |= {"peak_gflops": peak, "table_1": table_1}
    write_atomically(Path(FLAGS.output), (json.dumps(results, indent=1) + "\n").encode())
    return results


def show(results: dict[str, Any]) -> None:
    """Prints the results as a table, and a summary as a row of Markdown."""
    print(results["device"], results["versions"], results["commit"])
    lines = [(f"products of {row['size']}, GFLOP/s", row["gflops"], "") for row in results["products"]]
    for row in results["training"]:
        name = f"{row['algorithm']} x {row['members']}, {row['batch_size']}, {row['data']}, updates/s"
        share = f"{row['share_of_peak']:.2%} of peak, " if row["share_of_peak"] else ""
        share += f"{row['kernels_per_update']} kernels, "
        more = f"{share}compiled in {row['compile_seconds']:.1f} s, {row['memory']['bytes'] / 2**20:,.0f} MiB"
        lines.append((name, row["updates_per_second"], more))
    for row in results["peers"]:
        ratios = ", ".join(f"{name} {ratio:.2f} times" for name, ratio in row["ours"].items())
        lines.append(
            (f"{row['peer']} x {row['members']}, updates/s", row["updates_per_second"], f"ours: {ratios}")
        )
    for row in results["online"]:
        name = f"{row['algorithm']} in {row['environment']}, {row['hidden_dims'][0]} wide, steps/s"
        more = ", ".join(f"{kind} {spent:.3f}" for kind, spent in row["milliseconds_per_step"].items())
        lines.append((name, row["steps_per_second"], f"ms: {more}"))
    print(f"{'':40}{'median':>11}{'min':>11}{'max':>11}")
    for name, spread, more in lines:
        print(f"{name:40}{spread['median']:>11,.0f}{spread['min']:>11,.0f}{spread['max']:>11,.0f}  {more}")
    for row in results["skipped"] + results["failed"]:
        print(f"not measured: {row['what']}: {row['reason']}")
    table_1 = results["table_1"]
    hours = [f"{row['hours']:,.1f} h (x {row['members']}, {row['batch_size']})" for row in table_1["hours"]]
    print(f"Table 1 of XQL: {'; '.join(hours) or '?'} = {table_1['formula']}")
    brief = [line for line in lines if ", batch 1024" not in line[0]]
    medians = [f"{name.split(',')[0]}: {spread['median']:,.0f}" for name, spread, _ in brief]
    print("| device | GFLOP/s, updates/s (batch 256), steps/s | Table 1 of XQL |\n|---|---|---|")
    print(f"| {results['device']['kind']} | {'; '.join(medians)} | {'; '.join(hours)} |")


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)  # otherwise JAX logs every step
    app.run(main)
