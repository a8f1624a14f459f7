"""Where the cases of same_numbers.py run their commands, and the numbers that a run has left."""

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

IGNORED = re.compile(r"second|per_s$|_time$|policy_lag_s")  # columns


class Workshop:
    """Where a case's commands run: a folder of its own, the root's programs."""

    def __init__(self, root, folder):
        self.root, self.folder = Path(root), Path(folder)

    def command(self, main, *arguments):
        latest = {argument.partition("=")[0]: argument for argument in arguments}  # for a flag is given once
        arguments = sorted(latest.values(), key=lambda argument: not argument.startswith("--config="))
        return [sys.executable, str(self.root / "experiments" / f"{main}.py"), *arguments]

    def run(self, main, *arguments, code=0):
        log = self.folder / "log.txt"
        with log.open("a") as file:
            print("$", main, *arguments, file=file, flush=True)
            command = self.command(main, *arguments)
            done = subprocess.run(
                command, cwd=self.root, stdout=file, stderr=subprocess.STDOUT, env=self.environment()
            )
        if done.returncode != code:
            raise RuntimeError(
                f"{main} {' '.join(arguments)} -> {done.returncode}\n{log.read_text()[-1500:]}"
            )

    def environment(self):
        places = [str(self.root), str(self.folder), str(self.root / "tests" / "envs")]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(places)}

    def stopped(self, main, *arguments, at):
        """Runs until checkpoints/AT is there, then SIGTERM, then the same with --resume."""
        with (self.folder / "log.txt").open("a") as file:
            process = subprocess.Popen(
                self.command(main, *arguments),
                cwd=self.root,
                stdout=file,
                stderr=file,
                env=self.environment(),
            )
            deadline = time.monotonic() + 300
            while process.poll() is None and not list(self.folder.rglob(f"checkpoints/{at}")):
                if time.monotonic() > deadline:
                    process.kill()
                time.sleep(0.005)
            was_running = process.poll() is None
            if was_running:
                process.send_signal(signal.SIGTERM)
            process.wait()
            print(f"stopped after checkpoint {at}: {was_running}, exit code {process.returncode}", file=file)
        self.run(main, *arguments, "--resume")

    def runs(self):
        return sorted(
            path.parent for path in self.folder.rglob("config.json") if "checkpoints" not in path.parts
        )


def table(path):
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else [])}
    return {name: np.array(column, dtype=str) for name, column in columns.items() if not IGNORED.search(name)}


def values_of_run(run, drop=""):
    """What a run has left: its tables, the last checkpoint's leaves, and its policies' actions."""
    values = {}
    for name in ("metrics", "evaluations", "bellman_errors"):
        if (run / f"{name}.csv").exists():
            values |= {
                f"value/{name}.csv/{column}": column_
                for column, column_ in table(run / f"{name}.csv").items()
            }
    steps = sorted(int(path.name) for path in run.glob("checkpoints/*") if path.name.isdigit())
    if steps:
        values |= checkpoint_leaves(run / "checkpoints" / str(steps[-1]))
    try:
        values |= actions_of(run)
    except Exception as error:
        values["value/greedy actions"] = np.array(f"{type(error).__name__}: {error}"[:300])
    return values


def actions_of(run):
    import xql_jax

    policy = xql_jax.load_policy(run)
    observations = np.random.default_rng(1).normal(size=(5, policy.observation_dim)).astype(np.float32)
    values = {}
    for number, member in enumerate(policy.members):
        one = policy
        if len(policy.members) > 1:
            one = policy.select(seed=member.seed, **dict(getattr(member, "hyperparameters", {}) or {}))
        with contextlib.suppress(AttributeError):
            one.begin()
        values[f"value/greedy actions of member {number}"] = np.asarray(one(observations))
    return values


def checkpoint_leaves(folder):
    """The arrays of a checkpoint; a note if there are none."""
    values = {}
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as arrays:
            values |= {f"leaf/{path.stem}/{name}": arrays[name] for name in arrays.files}
    return values or {"note/checkpoint": np.array("no arrays found in the last checkpoint")}


def load(path):
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}
