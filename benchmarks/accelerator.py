"""How fast training is on this machine's accelerator: one JSON file, in about --minutes at most.

Measured, the most important first:

  products  float32 matrix products in the default precision; the best of all is taken for the device's peak
  training  updates/s of a `Population`, all members together, on random data of hopper's size. Resident: the
            data is on the device. Streamed: minibatches are gathered on the host.
  online    steps/s of X-SAC and X-TD3 on cheetah-run, and on a stand-in of its size that needs no simulator

What the time does not allow, or lacks a package, is listed as skipped; what raises as failed, and the exit
code is then 1. The file is rewritten after each measurement, so that it is there if the program is killed.

Example:
  python benchmarks/accelerator.py --quick
"""

import functools
import gc
import importlib
import json
import math
import os
import platform
import subprocess
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
sys.path.insert(0, str(ROOT))  # it need not be installed; nor need simulators and ml_collections

from xql_jax.data.dataset import Dataset  # noqa: E402
from xql_jax.envs import make_environment  # noqa: E402
from xql_jax.errors import UserError  # noqa: E402
from xql_jax.learners.registry import make_learner  # noqa: E402
from xql_jax.outputs import check_output, writing_output  # noqa: E402
from xql_jax.tasks import get_task  # noqa: E402
from xql_jax.training.members import make_members  # noqa: E402
from xql_jax.training.population import Population  # noqa: E402
from xql_jax.types import Batch  # noqa: E402

OFFLINE, ONLINE = ("xql", "iql", "bc"), ("xsac", "xtd3")
OBSERVATION_DIM, ACTION_DIM, WIDTH = 11, 3, 256  # hopper's, and of two hidden layers of all offline networks
PAPER_SIZES = {"xsac": (1024, 1024), "xtd3": (256, 256)}  # Table 5: width of two hidden layers, batch size
SMALL_SIZE = (256, 256)  # with --quick, or on a CPU
TASKS, SEEDS, UPDATES = 18, 6, 1_000_000  # of Table 1
QUICK = {"minutes": 2.5, "members": ["1", "8"], "batch_sizes": ["256"], "transitions": 100_000, "repeats": 3}

flags.DEFINE_string("output", "accelerator.json", "The file to write.")
flags.DEFINE_boolean("quick", False, f"For two cores of a CPU; unless they are given: {QUICK}.")
flags.DEFINE_float("minutes", 8.0, "After these nothing new is begun.", lower_bound=0.0)
flags.DEFINE_list("algorithms", [*OFFLINE], "Offline learners.")
flags.DEFINE_list("members", ["1", "8", "64", "256"], "Sizes of populations.")
flags.DEFINE_list("batch_sizes", ["256", "1024"], "Transitions per update.")
flags.DEFINE_list("online", [*ONLINE], "Online learners.")
flags.DEFINE_integer("transitions", 1_000_000, "Of the data, and room for as many online.", lower_bound=1)
flags.DEFINE_integer("repeats", 5, "Timings of each measurement, after it is warm.", lower_bound=1)
flags.DEFINE_float("seconds", 0.7, "Roughly, of one timing.", lower_bound=0.0)
FLAGS = flags.FLAGS


def main(_: Sequence[str]) -> int:
    try:
        return measure()
    except UserError as error:  # the file cannot be written any more
        return fail(error)


def measure() -> int:
    started = time.perf_counter()
    prepare_jax()
    results = describe() | {name: [] for name in ("products", "training", "online", "skipped", "failed")}
    longest: dict[str, float] = {}
    plan = sorted(make_plan(), key=lambda measurement: measurement[0])
    for number, (_, section, what, like, run) in enumerate(plan):
        begun = time.perf_counter()
        gone, expected = begun - started, longest.get(like, max(longest.values(), default=0.0))
        if gone + expected > 60 * FLAGS.minutes:
            reason = f"{gone:.0f} of {60 * FLAGS.minutes:.0f} s were gone, it may take {expected:.0f} s"
            results["skipped"].append({"what": what, "reason": reason})
            continue
        print(f"{gone:4.0f} s: {what}", file=sys.stderr, flush=True)
        try:
            results[section].append(run())
        except Exception as error:  # no memory, say: the others may well work
            lacking = isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("xql_jax")
            reason = f"no {error.name}" if lacking else f"{type(error).__name__}: {error}".partition("\n")[0]
            results["skipped" if lacking else "failed"].append({"what": what, "reason": reason})
        gc.collect()  # arrays on the device
        longest[like] = max(longest.get(like, 0.0), time.perf_counter() - begun)
        rest = [{"what": other[2], "reason": "the program ended before"} for other in plan[number + 1 :]]
        save(results | {"skipped": results["skipped"] + rest})
    show(save(results | {"total_seconds": time.perf_counter() - started}))
    return 1 if results["failed"] else 0


def prepare_jax() -> None:
    """As experiments/train_online.py has it; and every program is compiled here and now."""
    jax.config.update("jax_enable_compilation_cache", False)
    # On a CPU alone, streaming then does not gather while the device works; throughput.py measures that.
    jax.config.update("jax_cpu_enable_async_dispatch", False)
    platforms = jax.config.jax_platforms
    if platforms and "cpu" not in platforms.split(","):  # JAX_PLATFORMS=cuda; online learners act on the CPU
        jax.config.update("jax_platforms", f"{platforms},cpu")


def make_plan() -> Iterator[tuple[int, str, str, str, Callable[[], dict[str, Any]]]]:
    """All measurements: rank, section of the JSON, name, name of those that take about as long, and its call.

    The least rank is measured first: what differs least from XQL, batch 256, data resident.
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
    on_host = random_data(FLAGS.transitions)
    feeds = {"resident": jax.device_put(on_host.batch), "streamed": on_host}
    for rank_a, algorithm in enumerate(FLAGS.algorithms):
        for rank_b, batch_size in enumerate(map(int, FLAGS.batch_sizes)):
            for rank_d, (where, data) in enumerate(feeds.items()):
                for members in map(int, FLAGS.members):
                    like = f"{members} members"
                    run = functools.partial(measure_training, algorithm, members, batch_size, where, data)
                    what = f"{algorithm}, {like}, batch {batch_size}, {where}"
                    yield rank_a + rank_b + rank_d, "training", what, like, run


def rates(run: Callable[[int], Any], scale: float) -> dict[str, float]:
    """How often a second `run(count)` does what it counts, times `scale`; the count is found by trying."""

    def elapsed(count: int) -> float:
        started = time.perf_counter()
        run(count)
        return time.perf_counter() - started

    elapsed(1)  # warm
    count = 1
    while (taken := elapsed(count)) < FLAGS.seconds / 4:
        count *= 4
    count = max(1, round(count * FLAGS.seconds / taken))
    found = [scale * count / elapsed(count) for _ in range(FLAGS.repeats)]
    spread = {"median": float(np.median(found)), "min": min(found), "max": max(found)}
    return spread | {"per_repeat": scale * count}


def measure_products(size: int, chain: int) -> dict[str, Any]:
    """GFLOP/s of [size, size] float32 products, `chain` in a row; by a reflection, which keeps norms."""
    product, v = jax.random.normal(jax.random.key(0), (size, size)), jnp.linspace(-1.0, 2.0, size)[:, None]
    reflection = jnp.eye(size) - 2.0 * v * v.T / (v * v).sum()
    multiply = jax.jit(lambda x, factor: functools.reduce(jnp.matmul, [factor] * chain, x))

    def run(count: int) -> None:
        x = product
        for _ in range(count):
            x = multiply(x, reflection)
        jax.block_until_ready(x)

    return {"size": size, "gflops": rates(run, scale=chain * 2 * size**3 / 1e9)}


def measure_training(algorithm: str, members: int, batch_size: int, where: str, data: Any) -> dict[str, Any]:
    started = time.perf_counter()
    population = Population(make_learner(algorithm, {}), make_members(range(members), {}), data, batch_size)
    set_up = time.perf_counter() - started

    def run(updates: int) -> None:
        population.advance(population.step + updates)
        jax.block_until_ready(population.states)

    measured = {"updates_per_second": rates(run, scale=members)}
    row = {"algorithm": algorithm, "members": members, "batch_size": batch_size, "data": where}
    row |= measured | {"hidden_dims": [WIDTH, WIDTH], "flops_per_update": update_flops(algorithm, batch_size)}
    return row | {"devices": len(jax.tree.leaves(population.states)[0].devices())} | costs(population, set_up)


def update_flops(algorithm: str, batch_size: int) -> int:
    """Operations of an update's matrix products: an in-sample learner's with twin critics, or cloning's."""

    # A forward pass is 2 * rows * weights; a backward pass twice that, less the gradient of the first input.
    def network(inputs: int, outputs: int) -> tuple[int, int]:
        forward = 2 * batch_size * (inputs * WIDTH + WIDTH * WIDTH + WIDTH * outputs)
        return forward, 3 * forward - 2 * batch_size * inputs * WIDTH

    v_forward, v_step = network(OBSERVATION_DIM, 1)
    q_forward, q_step = network(OBSERVATION_DIM + ACTION_DIM, 1)
    _, actor_step = network(OBSERVATION_DIM, ACTION_DIM)
    return actor_step if algorithm == "bc" else actor_step + 2 * (q_forward + q_step + v_forward) + v_step


def measure_online(algorithm: str, width: int, batch_size: int, name: str) -> dict[str, Any]:
    if name != "stand-in":
        importlib.import_module("dm_control")  # its absence is told here, not as an environment's failure
    from xql_jax.training.online import OnlinePopulation
    from xql_jax.training.rounds import OnlineSchedule

    started = time.perf_counter()
    networks = ("actor", "critic", "value") if algorithm == "xsac" else ("actor", "critic")
    learner = make_learner(algorithm, {f"{network}_hidden_dims": (width, width) for network in networks})
    make: Any = StandIn if name == "stand-in" else functools.partial(make_environment, get_task(name))
    sizes = {"buffer_size": FLAGS.transitions, "batch_size": batch_size}
    # As experiments/train_online.py has it, but for the random steps.
    schedule = OnlineSchedule(warmup_steps=0, round_steps=50, **sizes)
    with tempfile.TemporaryDirectory() as folder:
        population = OnlinePopulation(learner, make_members([0], {}), make, schedule, Path(folder))
        set_up = time.perf_counter() - started
        try:
            measured = rates(lambda count: population.advance(population.step + 50 * count), scale=50)
        finally:
            population.close()
    row = {"algorithm": algorithm, "environment": name, "hidden_dims": [width, width], **sizes}
    # Times of the thread that acts; what is missing from a step's time is the program's own.
    parts = {kind: 1e3 * spent / population.step for kind, spent in population.seconds.items()}
    return row | {"steps_per_second": measured, "milliseconds_per_step": parts} | costs(population, set_up)


def costs(population: Any, set_up: float) -> dict[str, Any]:
    """Seconds (set-up: compiling and making the networks); bytes on the first device, or of the process."""
    if population.diverged:  # it then learns less, or looks for the update that did it
        raise FloatingPointError(f"{len(population.diverged)} members diverged")
    memory = {"of": "process", "bytes": psutil.Process().memory_info().rss, "peak_bytes": None}
    if stats := jax.devices()[0].memory_stats():  # a CPU has none
        memory = {"of": "device", "bytes": stats["bytes_in_use"], "peak_bytes": stats["peak_bytes_in_use"]}
    return {"compile_seconds": population.compile_seconds, "set_up_seconds": set_up, "memory": memory}


class StandIn:
    """A stable system of cheetah-run's size, cheap beside any simulator; episodes of 1,000 steps."""

    observation_space = types.SimpleNamespace(shape=(17,))
    action_space = types.SimpleNamespace(shape=(6,), low=-1.0, high=1.0)
    gains = np.random.default_rng(0).normal(size=(23, 17)) / 5

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.steps, self.state = 0, np.random.default_rng(seed).normal(size=17)
        return self.state.astype(np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.steps += 1
        self.state = 0.9 * self.state + 0.1 * np.tanh(np.concatenate([self.state, action]) @ self.gains)
        return self.state.astype(np.float32), float(self.state[0]), False, self.steps == 1000, {}

    def close(self) -> None: ...


def random_data(size: int) -> Dataset:
    random = np.random.default_rng(0)
    shapes = ((size, OBSERVATION_DIM), (size, ACTION_DIM), (size,), (size,), (size, OBSERVATION_DIM))
    observations, actions, *others = (random.standard_normal(shape, dtype=np.float32) for shape in shapes)
    batch = Batch(observations, np.tanh(actions), *others)._replace(masks=np.ones(size, np.float32))
    return Dataset(batch, np.zeros(size, bool), "random numbers")


def describe() -> dict[str, Any]:
    """The machine, the versions of what runs, the project's commit (None: no git), the settings."""
    device = jax.devices()[0]
    command = ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        commit = None
    versions = {module.__name__: module.__version__ for module in (jax, jaxlib, flax, optax, np)}
    kind = {"kind": device.device_kind, "count": jax.device_count(), "platform": device.platform}
    settings = {name: FLAGS[name].value for name in ("quick", "seconds", *QUICK)}
    described = {"device": kind, "cpu_cores": os.cpu_count(), "commit": commit, "settings": settings}
    return described | {"versions": {"python": platform.python_version(), **versions}}


def save(results: dict[str, Any]) -> dict[str, Any]:
    """Writes, and returns, the results and what follows from them: peak, shares of it, hours for Table 1."""
    peak = max((row["gflops"]["max"] for row in results["products"]), default=None)
    fastest: dict[int, dict[str, Any]] = {}  # by batch size
    for row in results["training"]:
        speed = row["updates_per_second"]["median"]
        row["share_of_peak"] = peak and row["flops_per_update"] * speed / (1e9 * peak * row["devices"])
        if row["algorithm"] == "xql":
            hours = TASKS * SEEDS * UPDATES / speed / 3600
            entry = {name: row[name] for name in ("batch_size", "members", "data")} | {"hours": hours}
            if hours <= fastest.setdefault(row["batch_size"], entry)["hours"]:
                fastest[row["batch_size"]] = entry
    formula = f"{TASKS} tasks * {SEEDS} seeds * {UPDATES} updates / fastest population's updates/s / 3600"
    table_1 = {"hours": list(fastest.values()), "formula": f"{formula}; no evaluations, no compilation"}
    results |= {"peak_gflops": peak, "table_1": table_1}
    with writing_output("output", Path(FLAGS.output)) as unfinished:
        unfinished.write_text(json.dumps(results, indent=1) + "\n")
    return results


def show(results: dict[str, Any]) -> None:
    """Prints a table, and a row of Markdown."""
    print(results["device"], results["versions"], results["commit"])
    lines = [(f"products of {row['size']}, GFLOP/s", row["gflops"], "") for row in results["products"]]
    for row in results["training"]:
        name = f"{row['algorithm']} x {row['members']}, {row['batch_size']}, {row['data']}, updates/s"
        share = f"{row['share_of_peak']:.2%} of peak, " if row["share_of_peak"] else ""
        more = f"{share}compiled in {row['compile_seconds']:.1f} s, {row['memory']['bytes'] / 2**20:,.0f} MiB"
        lines.append((name, row["updates_per_second"], more))
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
    brief = [line for line in lines if not ("streamed" in line[0] or ", 1024, " in line[0])]
    medians = [f"{name.split(',')[0]}: {spread['median']:,.0f}" for name, spread, _ in brief]
    print("| device | GFLOP/s, updates/s (batch 256, resident), steps/s | Table 1 of XQL |\n|---|---|---|")
    print(f"| {results['device']['kind']} | {'; '.join(medians)} | {'; '.join(hours)} |")


def parse(arguments: Sequence[str]) -> list[str]:
    """Returns what is no flag; what cannot be used ends the program with one line and exit code 2."""
    try:
        rest = FLAGS(arguments)
        if rest[1:]:
            raise flags.Error(f"unexpected argument {rest[1]!r}; flags are --name=value, see --help")
        if not all(size.isdecimal() and int(size) > 0 for size in FLAGS.members + FLAGS.batch_sizes):
            raise flags.Error("--members and --batch_sizes must be positive whole numbers")
        for names, known in ((FLAGS.algorithms, OFFLINE), (FLAGS.online, ONLINE)):
            if not {*names} <= {*known}:
                raise flags.Error(f"unknown learner among {','.join(names)}; known here: {', '.join(known)}")
        if not math.isfinite(FLAGS.minutes + FLAGS.seconds):
            raise flags.Error("--minutes and --seconds must be finite")
        FLAGS.output = str(check_output("output", FLAGS.output))
    except (flags.Error, UserError) as error:
        sys.exit(fail(error))
    for name in (name for name in QUICK if FLAGS.quick and not FLAGS[name].present):
        FLAGS[name].value = QUICK[name]
    return rest


def fail(error: Exception) -> int:
    print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    logging.set_verbosity(logging.WARNING)  # JAX and orbax tell of every step otherwise
    app.run(main, flags_parser=parse)
