"""Compares a sweep trained as one population with a sweep that trains each member in its own process.

A member is one seed with one setting. The sweep trains XQL on the point maze:

  population  one command, all members in one program, divided among as many CPU devices as there are cores
  processes   one command per member, as many at a time as there are cores

Everything counts: starting Python, imports, reading data, compiling, training, evaluating. Each command has
a folder of its own, and no compiled program is kept between them. The ratio is the time of the population
divided by the time of the processes.

Example:
  python benchmarks/sweep.py --max_steps=5000
"""

import concurrent.futures
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from absl import app, flags

MAIN = Path(__file__).resolve().parents[1] / "experiments" / "train_offline.py"
flags.DEFINE_list("betas", ["0.1", "0.2", "0.5", "1", "2"], "Settings: values of beta.")
flags.DEFINE_integer("num_seeds", 6, "Seeds per setting.", lower_bound=1)
flags.DEFINE_integer("max_steps", 5_000, "Updates of each member.", lower_bound=1)
flags.DEFINE_integer("eval_episodes", 10, "Episodes per member, evaluated at the end.", lower_bound=0)
FLAGS = flags.FLAGS
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def main() -> int:
    members = list(itertools.product(FLAGS.betas, range(FLAGS.num_seeds)))
    timed(
        "data", [["--seed=0", "--max_steps=1", "--eval_episodes=0"]], 1
    )  # generates the data before the timing
    together = [
        f"--num_seeds={FLAGS.num_seeds}",
        f"--sweep=beta={','.join(FLAGS.betas)}",
        "--seed=0",
        *shared(),
    ]
    apart = [[f"--seed={seed}", f"--sweep=beta={beta}", *shared()] for beta, seed in members]
    results = {
        "members": len(members),
        "updates": FLAGS.max_steps,
        "cores": CORES,
        "population": timed("population", [together], 1, JAX_NUM_CPU_DEVICES=str(CORES)),
        "processes": timed("processes", apart, CORES),
    }
    results["ratio"] = results["population"] / results["processes"]
    print(
        f"{len(members)} members, {FLAGS.max_steps:,} updates each: {results['population']:.1f} s as one, "
        f"{results['processes']:.1f} s as {len(members)} processes, {CORES} at a time: {results['ratio']:.2f}"
    )
    print(json.dumps(results))
    return 0


def shared() -> list[str]:
    interval = f"--eval_interval={FLAGS.max_steps}"
    return [f"--max_steps={FLAGS.max_steps}", interval, f"--eval_episodes={FLAGS.eval_episodes}"]


def timed(what: str, commands: list[list[str]], parallel: int, **variables: str) -> float:
    """Returns the seconds until all commands have ended, with `parallel` of them at a time."""
    kept = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def run(index: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            ended = subprocess.run(
                [sys.executable, str(MAIN), *commands[index], f"--save_dir={folder}", "--notqdm"],
                env={**kept, "JAX_PLATFORMS": "cpu", **variables},
                capture_output=True,
                text=True,
            )
            if ended.returncode:
                raise RuntimeError(f"{what}: {ended.stderr}")

    started = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(parallel) as pool:
        list(pool.map(run, range(len(commands))))
    return time.perf_counter() - started


if __name__ == "__main__":
    app.run(lambda _: main())
