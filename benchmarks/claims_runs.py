"""Trains and evaluates what docs/claims.md and docs/choosing-beta.md show of XQL's default losses, by name.

A name is TASK, a hyphen and what is trained, such as pen-xql or medium-betas. All that are chosen are trained
first, --workers of them at once, without an evaluation. Then each member is evaluated by a process of its
own, one for each core, because a GPU's host has more cores than one evaluation uses. What has a CSV file in
--output is left out, and a run that was stopped goes on. The files of data, made as docs/results/README.md
says, are in --data.

  python benchmarks/claims_runs.py --list
  python benchmarks/claims_runs.py --data=DATA --output=claims pen-xql kitchen-xql
  python benchmarks/claims_runs.py --data=DATA --minutes=8 $(python benchmarks/claims_runs.py --list)
"""

import argparse
import concurrent.futures
import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from xql_jax.runs.find import run_folders
from xql_jax.runs.load import Run, load_run

MAINS = Path(__file__).resolve().parents[1] / "experiments"
COMBINATIONS = [(clip, loss) for loss in ("mse", "huber") for clip in ("both", "above")]


class Task(NamedTuple):
    """A task as the pages have it."""

    env_name: str
    files: tuple[str, ...] = ()  # in --data; none: the task's own
    updates: int = 30_000
    episodes: int = 20
    seeds: tuple[int, int] = (0, 5)  # the first, and how many
    more: str = ""  # further flags


CONSTANT = "--decay_actor_lr=false"
TASKS = {
    "maze": Task("pointmaze-umaze-v0", seeds=(0, 8)),
    "kitchen": Task("kitchen-complete-v0", seeds=(0, 8)),
    "pen": Task("pen-human-v1", ("pen-mixed.hdf5",), seeds=(0, 8)),
    **{
        name: Task(f"{name}-medium-replay-v2", (f"{name}-medium-replay.hdf5",), 200_000, more=CONSTANT)
        for name in ("halfcheetah", "hopper", "walker2d")
    },
    "umaze": Task("antmaze-umaze-v2", ("umaze.hdf5",), 200_000, 100, (0, 3)),
    "medium": Task("antmaze-medium-diverse-v2", ("medium.hdf5",), 200_000, 100, (0, 3)),
    "large": Task("antmaze-large-diverse-v2", ("large.hdf5",), 200_000, 100, (0, 3)),
    "cube2": Task("cube-single-play-singletask-task2-v0", updates=100_000, episodes=25, seeds=(42, 5)),
    "cube3": Task("cube-single-play-singletask-task3-v0", updates=100_000, episodes=25, seeds=(42, 5)),
    "scene1": Task("scene-play-singletask-task1-v0", updates=100_000, episodes=25, seeds=(42, 5)),
}
# What is trained on each task, besides the default and the four losses.
ELSE = {
    "bellman": ("--method=xql_bellman", ("maze", "kitchen", "pen", "halfcheetah", "hopper", "walker2d")),
    "iql": ("--method=iql", ("umaze", "halfcheetah", "hopper", "walker2d")),
    "td3_bc": ("--method=td3_bc", ("halfcheetah", "hopper", "walker2d")),
    "betas": ("--sweep=beta=0.6,1,2", ("medium", "large")),
}


def all_runs() -> dict[str, tuple[Task, str]]:
    """Returns by name a task and the flags of what is trained on it; the quickest tasks come first."""
    runs = {f"{name}-xql": (task, "") for name, task in TASKS.items()}
    for what, (flags, names) in ELSE.items():
        runs |= {f"{name}-{what}": (TASKS[name], flags) for name in names}
    for name, task in TASKS.items():  # as in docs/results/losses
        short = task._replace(seeds=(100, 3), updates=100_000 if name == "medium" else 30_000)
        for clip, loss in COMBINATIONS if name not in ("umaze", "large", "halfcheetah", "walker2d") else ():
            flags = f"--clip_rule={clip} --critic_loss={loss}"
            runs[f"{name}-{clip}-{loss}"] = short._replace(more=""), flags
    return runs


def train(name: str, options: argparse.Namespace, until: float) -> str:
    """Trains a run as far as it comes until that time; returns how it ended."""
    task, flags = all_runs()[name]
    folder, (seed, number) = options.output / name, task.seeds
    folder.mkdir(parents=True, exist_ok=True)
    command = [
        *(sys.executable, str(MAINS / "train_offline.py"), f"--env_name={task.env_name}"),
        *("--resume", "--notqdm"),
        *(f"--dataset={options.data / file}" for file in task.files),
        *(f"--save_dir={folder}", f"--max_steps={options.updates or task.updates}", "--eval_episodes=0"),
        *(f"--seed={seed}", f"--num_seeds={number}", f"--matmul_precision={options.matmul_precision}"),
        *f"{task.more} {flags}".split(),
    ]
    with (folder / "log.txt").open("a") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            return f"exit code {process.wait(max(1.0, until - time.time()))}"
        except subprocess.TimeoutExpired:
            process.terminate()  # it saves what it has
            return f"stopped with exit code {process.wait()}"


def evaluate(name: str, run: Run, index: int, options: argparse.Namespace) -> dict[str, object]:
    """Returns the row of a member's evaluation, which a process makes."""
    output = options.output / name / f"member{index}.json"
    settings = {"JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": "1"}
    settings["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    command = [
        *(sys.executable, str(MAINS / "evaluate.py"), str(run.path), f"--member={index}", "--notqdm"),
        f"--episodes={options.episodes or all_runs()[name][0].episodes}",
        *("--seed=10000", f"--output={output}"),
    ]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, **settings})
    [entry] = json.loads(output.read_text())["members"]
    member = run.members[index]
    values = {name: entry[f"{name}_mean"] for name in ("return", "score", "length")}
    return {"step": run.step, "seed": member.seed, **member.hyperparameters, **values}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="what to train")
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument("--data", type=Path, default=Path("."), help="the folder with the files of data")
    parser.add_argument(
        "--output", type=Path, default=Path("claims"), help="where runs and NAME.csv are kept"
    )
    parser.add_argument("--minutes", type=float, default=1e6, help="until training stops")
    parser.add_argument("--workers", type=int, default=2, help="runs to train at once")
    parser.add_argument("--matmul_precision", default="highest", help="of the updates")
    parser.add_argument("--updates", type=int, help="instead of each task's own, for a trial")
    parser.add_argument("--episodes", type=int, help="likewise")
    options = parser.parse_args()
    if options.list:
        print("\n".join(all_runs()))
        return 0
    if unknown := [name for name in options.names if name not in all_runs()]:
        parser.error(f"{', '.join(unknown)}: --list prints the names")
    names = [name for name in options.names if not (options.output / f"{name}.csv").exists()]
    until = time.time() + 60 * options.minutes
    with concurrent.futures.ThreadPoolExecutor(options.workers) as pool:
        ended = dict(zip(names, pool.map(lambda name: train(name, options, until), names), strict=True))
    complete = [name for name, how in ended.items() if how == "exit code 0"]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = {}
        for name in complete:
            [folder] = run_folders(options.output / name)
            run = load_run(folder)
            waiting[name] = [pool.submit(evaluate, name, run, i, options) for i in range(len(run.members))]
        for name, rows in waiting.items():
            found = [row.result() for row in rows]
            with (options.output / f"{name}.csv").open("w", newline="") as file:
                writer = csv.DictWriter(file, found[0])
                writer.writeheader()
                writer.writerows(found)
            scores = [float(str(row["score"])) for row in found]
            print(f"{name}: {', '.join(f'{score:.1f}' for score in scores)}", flush=True)
    for name, how in ended.items():
        if name not in complete:
            print(f"{name}: {how}, see {options.output / name / 'log.txt'}")
    return 0 if len(complete) == len(names) else 1


if __name__ == "__main__":
    sys.exit(main())
